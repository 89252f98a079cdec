"""Bounds whose relaxations are found by gradient: alpha-CROWN and FROWN.

Any slopes, and any levels of pooling planes, give sound lines, so they may be chosen to make the rows' bounds as large
as possible: projected gradient ascent on all of them at once, differentiating through every backward pass (alpha-CROWN,
Xu et al. 2021, "Fast and complete", section 3.1; S-shaped activations and pooling by the same means). FROWN (Lyu et al.
2020, "Fastened CROWN", section 4) is the restriction to one pair of lines a neuron, whatever the pass.

A choice is a number in [0, 1]: where a slope lies between the least and greatest worth taking
(:meth:`~tfcert.activations.Activation.slope_ranges`). For the last pass the bound is concave in the slopes, which it is
not in points of tangency.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import tensorflow as tf

from tfcert.activations import lines
from tfcert.activations.registry import Activation, Ranges, Slopes
from tfcert.network.graph import Elementwise, Linear, MaxPool, Multivariate, Network
from tfcert.propagation import kernels
from tfcert.propagation.adam import adam
from tfcert.propagation.affine import AffinePart, affine_nodes, affine_part
from tfcert.propagation.backward import (
    NodeLines,
    Relaxed,
    Step,
    before_linear,
    linear_lower_bounds,
    selected,
)
from tfcert.propagation.coefficients import Coefficients
from tfcert.propagation.combined import Together, WeightedRows, best_combination, combined_rows
from tfcert.propagation.concretize import middle
from tfcert.propagation.enclosures import TensorInterval
from tfcert.propagation.errors import Errors, no_errors, share_of_sum, summed
from tfcert.propagation.folding import only_reader
from tfcert.propagation.interval import exact_intervals, hull
from tfcert.propagation.kinds import multivariate_kind
from tfcert.propagation.multivariate import ChosenStep, OpenPlanes
from tfcert.propagation.plan import entries_per_row
from tfcert.propagation.pooling import default_height, pool_lines
from tfcert.propagation.preactivation import (
    Passes,
    Relaxer,
    backward_bounds,
    by_name,
    floor,
    greater,
    matters,
    nonlinear,
    relax,
    relax_before,
    stable_is_exact,
)
from tfcert.propagation.ranges import step
from tfcert.roundoff import Rounding
from tfcert.sets.region import Region

_CURVED = 0.1
"""Steps of an activation that is no hinge, relative to those of one: its lines turn as the slopes move (measured on
sigmoids: a tenth ends 6% higher after 20 steps, on ReLU it ends lower)."""
_WEIGHT = 0.1
"""The same of the weights of rows, which are best for the named relaxation to begin with."""
_PIECE, _PIECE_OF_ALL = 1 << 20, 1 << 23
"""How many coefficients climb together at most: as many as stay in a CPU's caches, or where XLA compiles a whole pass,
for a device."""
_SAMPLES, _SAMPLES_OF_FEW = 25, 2
"""As many neurons climb together at most as so many samples have, all of them or where only unstable ones climb."""
_DECAY = 0.98
_ADAM = (0.9, 0.999, 1e-8)
"""Shares kept of the mean and of the mean square, and what is added to its root."""
Choices = dict[int, tuple[tf.Tensor, ...]]
"""By node: of an ``Elementwise`` its lower and upper slope, those that are free; of a ``MaxPool`` its height; of others
what :meth:`Kind.choices <tfcert.propagation.multivariate.Kind.choices>` has."""


@dataclass(frozen=True)
class Ascent:
    """Options of the ascent to better relaxations; each is sound, and the best bound of each row is kept.

    Attributes:
        iterations: gradient steps, a number or a scalar tensor.
        learning_rate: of Adam, in units of each choice's range; a tenth of it for activations that are no hinges.
        shared: one pair of lines a neuron, for all rows of all passes (FROWN).
    """

    iterations: int | tf.Tensor = 20
    learning_rate: float = 0.5
    shared: bool = False


def optimised_bounds(
    network: Network,
    region: Region,
    rows: Coefficients,
    relaxation: str | None,
    passes: Passes,
    ascent: Ascent,
    together: Together | None = None,
) -> Optimised:
    """Lower bounds of rows over the output, never below those of the named relaxation that the search starts from.

    Args as for :func:`~tfcert.propagation.bounds.output_bounds`; ``together``: the clauses that the rows make up.

    Returns:
        Guarantee: ``numeric``.
    """
    start = by_name(network, relaxation)
    affine = affine_part(network, region)
    errors = no_errors(network, region)
    bounds = backward_bounds(network, region, start, passes, affine, errors)
    relaxed = relax_before(network, network.output, start, bounds, affine, errors)
    best = _last_pass(network, region, rows, relaxed)
    best = greater(best, floor(network, region, rows, bounds, errors))
    if ascent.shared:
        combined = None if together is None else combined_rows(network, region, rows, together, relaxed)
        return Optimised(_shared(network, region, rows, relaxation, bounds, best, passes, ascent), bounds, combined)
    search = _Search(network, region, relaxation, ascent, affine, {}, errors)
    bounds = _tightened(search, bounds, passes)
    pools = {i: (n, bounds[n.inputs[0]]) for i, n in enumerate(network.nodes) if isinstance(n, MaxPool)}
    found = _climbed(search, network.output, rows, pools)
    best = best if found is None else tf.maximum(best, found)
    if together is None:
        return Optimised(best, bounds)
    relaxed = relax_before(network, network.output, by_name(network, relaxation), bounds, affine, errors)
    combined, weighted = best_combination(network, region, rows, together, relaxed)
    found = _climbed(search, network.output, rows, pools, weighted)
    return Optimised(best, bounds, combined if found is None else tf.maximum(combined, found))


class Optimised(NamedTuple):
    """Results of the search.

    Attributes:
        lower: of the rows, ``[samples, rows]``.
        pre_activation: bounds of neurons of the last pass (of FROWN, those that the search starts from).
        combined: of the clauses' combinations of rows, ``[samples, clauses]``, where rows make up clauses.
    """

    lower: tf.Tensor
    pre_activation: dict[int, TensorInterval]
    combined: tf.Tensor | None = None


class _Open(NamedTuple):
    """What an activation's lines are chosen from on its neurons' bounds, or (:meth:`over`) for each entry of rows.

    Pairs are of the lower and the upper line.

    Attributes:
        activation: the function.
        slopes: those that the named relaxation has.
        ranges: the least slope worth taking, and how far the greatest lies above it; None where there is no choice.
        intercepts: of a hinge, whose lines all have those of the named ones; None for other functions.
        ends: the bounds; None for hinges.
        bias: of the linear node before, or None if its own step adds it; of an affine node, its value in the middle.
        biased: that node.
        rounding: of a rounded network: sums of intercepts and biases with rows are charged.
    """

    activation: Activation
    slopes: Slopes
    ranges: Ranges
    intercepts: Slopes | None
    ends: TensorInterval | None
    bias: tf.Tensor | None
    biased: int | None
    rounding: Rounding | None = None

    @property
    def pace(self) -> float:
        return 1.0 if self.ends is None else _CURVED

    def over(self, rows: Coefficients) -> _Open:
        """The same for each entry of coefficients, 0 outside the image."""

        def pair(ends: Any) -> Any:
            return None if ends is None else tuple(map(rows.unfold, ends))

        found = self._replace(
            slopes=pair(self.slopes),
            ranges=(pair(self.ranges[0]), pair(self.ranges[1])),
            intercepts=pair(self.intercepts),
            ends=pair(self.ends),
            bias=None if self.bias is None else rows.unfold(self.bias),
        )
        if found.intercepts is None or self.rounding is None:
            return found
        steepest = [
            tf.abs(slope) if between is None else tf.maximum(tf.abs(between[0]), tf.abs(between[0] + between[1]))
            for slope, between in zip(found.slopes, found.ranges, strict=True)
        ]
        return found._replace(intercepts=found._charged(rows, found.intercepts, (steepest[0], steepest[1])))

    def _charged(self, rows: Coefficients, intercepts: Slopes, slopes: Slopes) -> Slopes:
        """Intercepts that may be summed with rows over the activation, and a bias with rows before it."""
        if self.rounding is None:
            return intercepts
        share, bias = share_of_sum(2 * rows.values.shape[3], self.rounding, 16), self.bias
        below, above = (
            share * (tf.abs(part) + (0.0 if bias is None else tf.abs(slope * bias)))
            for part, slope in zip(intercepts, slopes, strict=True)
        )
        return intercepts[0] - below, intercepts[1] + above

    def first(self, shape: Sequence[int | tf.Tensor]) -> list[tf.Tensor]:
        """The choices that give the named relaxation to coefficients of a shape."""
        found = []
        for slope, between in zip(self.slopes, self.ranges, strict=True):
            if between is not None:
                place = tf.math.divide_no_nan(slope - between[0], between[1])
                place = tf.clip_by_value(tf.where(tf.math.is_finite(place), place, tf.zeros_like(place)), 0, 1)
                found.append(tf.broadcast_to(place, shape))
        return found

    def back(self, rows: Coefficients, choices: Sequence[tf.Tensor]) -> tuple[Coefficients, tf.Tensor]:
        """A step through the activation by the lines chosen for each entry of the rows."""
        if self.ends is not None:
            rows = rows.masked()  # their intercepts are not 0 outside the image

        @tf.custom_gradient
        def step(values: tf.Tensor, *choices: tf.Tensor):  # type: ignore[no-untyped-def]
            parts = iter(choices)
            free = [None if between is None else next(parts) for between in self.ranges]
            # Of each line: its least slope, and a range and the place in it, or None.
            sides = [
                (slope, None, None) if between is None else (*between, place)
                for slope, between, place in zip(self.slopes, self.ranges, free, strict=True)
            ]
            turns, intercepts = (None, None), self.intercepts
            if self.ends is not None:
                slopes, intercepts, turns = _chosen(self.activation, self.rounding)(
                    *(*choices, None)[:2], *sides[0][:2], *sides[1][:2], *self.ends
                )
                intercepts = self._charged(rows, intercepts, slopes)
                sides = [(slope, None, None) for slope in slopes]
            assert intercepts is not None

            def gradient(d_values: tf.Tensor, d_constant: tf.Tensor, variables: Any = None) -> Any:
                first, *others = _bent_gradients(
                    values, d_values, d_constant, *sides[0], *sides[1], *intercepts, *turns, self.bias
                )
                pairs = zip(others, self.ranges, strict=True)
                found = [first, *(d * between[1] for d, between in pairs if between is not None)]
                # An activation may read a weight, which is not what is searched.
                return found if variables is None else (found, [None for _ in variables])

            return _bent(values, *sides[0], *sides[1], *intercepts, self.bias), gradient

        values, constant = step(rows.values, *choices)
        return replace(rows, values=values, zero_outside=True), constant


def _slope(least: tf.Tensor, width: tf.Tensor | None, place: tf.Tensor | None) -> tf.Tensor:
    return least if width is None or place is None else least + place * width


@kernels.kernel(passes=2)
def _bent(values: tf.Tensor, *parts: tf.Tensor | None) -> tuple[tf.Tensor, tf.Tensor]:
    """Rows through lines, and their constant: see :meth:`_Open.back`."""
    below, above, bias = parts[6:]
    positive, negative = tf.nn.relu(values), tf.minimum(values, 0)
    bent = positive * _slope(*parts[:3]) + negative * _slope(*parts[3:6])
    constant = positive * below + negative * above
    return bent, tf.reduce_sum(constant if bias is None else constant + bent * bias, axis=-1)


@kernels.kernel(passes=4)
def _bent_gradients(
    values: tf.Tensor, d_bent: tf.Tensor, d_constant: tf.Tensor, *parts: tf.Tensor | None
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Gradients of :func:`_bent` by the values and by the slopes; an intercept turns with its slope."""
    below, above, turn_below, turn_above, bias = parts[6:]
    d_constant = d_constant[..., None]
    d_bent = d_bent if bias is None else d_bent + d_constant * bias
    d_low, d_high = (d_bent if turn is None else d_bent + d_constant * turn for turn in (turn_below, turn_above))
    d_values = tf.where(
        values > 0,
        d_bent * _slope(*parts[:3]) + d_constant * below,
        d_bent * _slope(*parts[3:6]) + d_constant * above,
    )
    return d_values, tf.nn.relu(values) * d_low, tf.minimum(values, 0) * d_high


@functools.lru_cache(maxsize=32)
def _chosen(activation: Activation, rounding: Rounding | None) -> Callable[..., tuple[tuple[tf.Tensor, ...], ...]]:
    """The kernel of an activation that is no hinge: from places in ranges to lines.

    It takes the places of those lines that have a range, each line's least slope and range, and the bounds; it returns
    pairs: slopes, intercepts, and derivatives of these by those.
    """

    @kernels.kernel(passes=16)
    def chosen(first, second, least, width, upper_least, upper_width, *ends):  # type: ignore[no-untyped-def]
        high = first if width is None else second
        slopes = (_slope(least, width, first), _slope(upper_least, upper_width, high))
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(slopes)
            _, below, _, above = lines(activation, slopes, ends[0], ends[1], rounding)
        turns = tape.gradient((below, above), slopes, unconnected_gradients="zero")
        return slopes, (below, above), tuple(turns)

    return chosen


Opened = _Open | OpenPlanes


def _step(what: Opened, back: Callable[[Coefficients], Any]) -> Step | ChosenStep:
    """A step through a node by lines that are chosen for each entry of rows."""
    return Step(back, what.biased) if isinstance(what, _Open) else ChosenStep(back)


def _opened(
    network: Network, index: int, bounds: Mapping[int, TensorInterval], relaxation: str | None, affine: AffinePart
) -> Opened | NodeLines:
    """What the lines of a nonlinear node are chosen from, or its lines if there is no choice."""
    node = network.nodes[index]
    if isinstance(node, Multivariate):
        kind, here = multivariate_kind(node), [bounds[source] for source in node.inputs]
        return kind.opened(node, here, relaxation) or kind.relax(node, here, relaxation)
    ends = bounds[node.inputs[0]]
    if isinstance(node, MaxPool):
        return pool_lines(node, *ends, relaxation)
    assert isinstance(node, Elementwise)
    slopes, between = node.activation.slopes(relaxation, *ends), node.activation.slope_ranges(*ends)
    named = lines(node.activation, slopes, *ends, node.rounding)
    if between == (None, None):
        return named
    ranges = [None if pair is None else (pair[0], pair[1] - pair[0]) for pair in between]
    source = node.inputs[0]
    before, bias = network.nodes[source], None
    if source in affine_nodes(network):
        bias = affine.values[source]
    elif isinstance(before, Linear) and source in only_reader(network) and before.map.diagonal() is None:
        bias = None if before.bias is None else tf.broadcast_to(before.bias(), node.shape)[None]
    is_hinge = node.activation.piecewise_linear
    return _Open(
        node.activation,
        slopes,
        (ranges[0], ranges[1]),
        (named.lower_intercept, named.upper_intercept) if is_hinge else None,
        None if is_hinge else ends,
        bias,
        None if bias is None else source,
        node.rounding,
    )


@dataclass(frozen=True)
class _Search:
    """A search for the bounds of rows, node after node.

    Attributes:
        opened: of each nonlinear node whose input's bounds are final, what its lines are chosen from.
        errors: of a rounded network, with the bounds of nodes as they are known by now.
    """

    network: Network
    region: Region
    relaxation: str | None
    ascent: Ascent
    affine: AffinePart
    opened: dict[int, Opened | NodeLines]
    errors: Errors | None


def _tightened(search: _Search, bounds: Mapping[int, TensorInterval], passes: Passes) -> dict[int, TensorInterval]:
    """Bounds of what enters each nonlinear node, by the best slopes that each neuron finds for itself.

    Narrower bounds before a row never make its best bound worse, so each node's bounds are as good as the steps make
    them before those of the next are looked for, and no gradient goes through them.
    """
    network = search.network
    exact = exact_intervals(network, search.region.is_box)
    found: dict[int, TensorInterval] = {}
    for index in network.bounded():
        node, here = network.nodes[index], bounds[index]
        if isinstance(node, Elementwise):
            low, high = step(node, [found[node.inputs[0]]])
            here = hull(tf.maximum(here[0], low), tf.minimum(here[1], high))
        elif index not in exact:
            here = _narrowed(search, index, here, passes)
        found[index] = here
        if search.errors is not None:
            search.errors.narrow(index, here)
        for reader in nonlinear(network):
            inputs = network.nodes[reader].inputs
            if index in inputs and all(source in found for source in inputs):
                search.opened[reader] = _opened(network, reader, found, search.relaxation, search.affine)
    return found


def _narrowed(search: _Search, index: int, here: TensorInterval, passes: Passes) -> TensorInterval:
    """Bounds of a node's neurons, those that need any: two rows each, which climb a piece after another."""
    network = search.network
    if not any(isinstance(search.opened.get(i), Opened) for i in network.ancestors(index)):
        return here
    shape, size = network.nodes[index].shape, math.prod(network.nodes[index].shape)
    flat = [tf.reshape(end, [-1]) for end in here]
    if passes.select and stable_is_exact(network, index):
        number, samples = tf.where(tf.reshape(matters(network, index, here), [-1]))[:, 0], _SAMPLES_OF_FEW
    else:
        number, samples = tf.range(tf.size(flat[0], tf.int64)), _SAMPLES
    most = _PIECE if passes.select else _PIECE_OF_ALL
    piece = max(1, min(most // (2 * entries_per_row(network, index)), samples * size))
    pieces = (tf.size(number) + piece - 1) // piece
    # Filled up with neuron 0, whose bound is as good as any.
    numbers = tf.reshape(tf.pad(number, [[0, pieces * piece - tf.size(number)]]), [-1, piece])

    def step(count: tf.Tensor, lower: tf.Tensor, upper: tf.Tensor) -> tuple[tf.Tensor, ...]:
        some = numbers[count]
        rows = selected(shape, network.dtype, some // size, tf.math.floormod(some, size))
        found = _climbed(search, index, rows)
        assert found is not None
        low, high = tf.unstack(tf.reshape(found, [piece, 2]), axis=1)
        lower = tf.tensor_scatter_nd_max(lower, some[:, None], low)
        return count + 1, lower, tf.tensor_scatter_nd_min(upper, some[:, None], -high)

    _, *flat = tf.while_loop(lambda count, *_: count < pieces, step, (0, *flat), parallel_iterations=1)
    lower, upper = (tf.reshape(end, [-1, *shape]) for end in flat)
    return hull(lower, upper)


def _climbed(
    search: _Search,
    target: int,
    rows: Coefficients,
    pools: Mapping[int, tuple[MaxPool, TensorInterval]] | None = None,
    weighted: WeightedRows | None = None,
) -> tf.Tensor | None:
    """Lower bounds of rows over a node by lines that each row chooses for itself, given bounds of the nodes before it.

    Args:
        search: what is known of these nodes.
        target: the node.
        rows: over its output.
        pools: those pooling nodes whose levels are to be chosen, for all rows of a sample, with bounds of their input.
        weighted: where combinations of rows are bounded, one a clause, the weights to begin with, which climb too.

    Returns:
        ``[samples, groups * rows]`` (selected groups: ``[1, groups * rows]``), or ``[samples, clauses]``; None where
        there is nothing to choose.
    """
    network, region, pools = search.network, search.region, pools or {}
    known = {i: search.opened[i] for i in nonlinear(network) if i in network.ancestors(target)}
    free = {i: what for i, what in known.items() if isinstance(what, Opened)}
    named = {i: what for i, what in known.items() if not isinstance(what, Opened)}
    if not (free or pools):
        return None
    lead = [1, rows.values.shape[1] * rows.values.shape[2]]
    if rows.owner is None:
        lead = [tf.shape(region.center)[0], rows.values.shape[2] if weighted is None else weighted.together.clauses]
    nothing = tf.fill(lead, tf.constant(-float("inf"), network.dtype))
    errors, given = search.errors, rows
    gained = tf.zeros([1, rows.values.shape[2]], network.dtype)
    if (
        weighted is None or errors is None
    ):  # what rounding takes from a combination is found from rows as they are given
        target, rows, gained = before_linear(network, target, rows, errors)  # once for all steps

    def asked(weights: Sequence[tf.Tensor]) -> tuple[Coefficients, tf.Tensor]:
        """The rows, or their combinations by these weights, and what they gain before the target."""
        if weighted is None:
            return rows, gained
        by_now = replace(weighted, weights=weights[0])
        mixed, offsets = by_now.mixture(rows)
        return mixed, by_now.mixed(gained) + offsets

    first_weights = [] if weighted is None else [weighted.weights]
    arranged: dict[int, Opened] = {}  # for the entries that rows have at a node, which the first pass finds out
    places: list[tf.Tensor] = []
    sizes: list[int] = []
    box: list[tf.Tensor] = []

    def arrange(index: int, here: Coefficients) -> Any:
        arranged[index] = free[index].over(here)
        one = here.owner is not None
        groups = here.values.shape[1] if here.patches is None else here.patches.positions
        lead = [1, here.values.shape[1]] if one else [tf.shape(region.center)[0], groups]
        first = arranged[index].first([*lead, *here.values.shape[2:]])
        sizes.append(len(first))
        places.extend(first)
        return arranged[index].back(here, first)

    def over_box(here: Coefficients) -> tuple[None, tf.Tensor]:
        if not box:
            center = middle(region)
            box.append(here.unfold(tf.maximum(region.upper - center, center - region.lower)))
        size = kernels.size_by_fixed_weights(here.values, box[0])
        if network.rounding is not None:
            size *= 1.0 + share_of_sum(here.values.shape[3], network.rounding, 16)
        return None, -size

    def bound(
        steps: Mapping[int, Step | ChosenStep], heights: Sequence[tf.Tensor], weights: Sequence[tf.Tensor]
    ) -> tf.Tensor:
        some, constant = asked(weights)
        levels = {
            i: pool_lines(pool, *ends, search.relaxation, height)
            for (i, (pool, ends)), height in zip(pools.items(), heights, strict=True)
        }
        stops = {0: over_box} if region.is_box else {}
        relaxed = Relaxed({**named, **levels, **steps}, stops, {}, search.affine, errors)
        found = linear_lower_bounds(network, target, some, relaxed, region)
        if errors is None:
            return found + constant
        if weighted is None:
            return summed([found, constant], errors)
        return replace(weighted, weights=weights[0]).charged(found + constant, given, errors)

    heights = [default_height(pool, *ends) for pool, ends in pools.values()]
    bound({i: _step(what, functools.partial(arrange, i)) for i, what in free.items()}, heights, first_weights)

    def evaluate(flat: list[tf.Tensor]) -> tf.Tensor:
        parts, steps = iter(flat), {}
        for index, size in zip(arranged, sizes, strict=True):
            chosen = [next(parts) for _ in range(size)]
            steps[index] = _step(arranged[index], functools.partial(arranged[index].back, choices=chosen))
        rest = list(parts)
        found = bound(steps, rest[: len(heights)], rest[len(heights) :])
        return tf.ensure_shape(greater(found, nothing), nothing.shape)

    paces = [what.pace for what, size in zip(arranged.values(), sizes, strict=True) for _ in range(size)]
    paces += [1.0] * len(heights) + [_WEIGHT] * len(first_weights)
    return _ascend(evaluate, places + heights + first_weights, nothing, search.ascent, paces)


def _shared(
    network: Network,
    region: Region,
    rows: Coefficients,
    relaxation: str | None,
    bounds: dict[int, TensorInterval],
    best: tf.Tensor,
    passes: Passes,
    ascent: Ascent,
) -> tf.Tensor:
    """Lower bounds of rows over the output by one pair of lines a neuron, the same for all rows of all passes."""
    first = {i: c for i in nonlinear(network) if (c := named_choices(network, i, relaxation, bounds))}
    if not first:
        return best
    every = Passes(passes.parts)  # a gradient goes through each pass, so all neurons have one

    def evaluate(flat: list[tf.Tensor]) -> tf.Tensor:
        parts = iter(flat)
        relaxer = chosen_lines(network, relaxation, {i: tuple(next(parts) for _ in c) for i, c in first.items()})
        errors = no_errors(network, region)
        bounds = backward_bounds(network, region, relaxer, every, errors=errors)
        return _last_pass(network, region, rows, relax_before(network, network.output, relaxer, bounds, errors=errors))

    flat = [choice for choices in first.values() for choice in choices]
    return _ascend(evaluate, flat, best, ascent, _paces(network, first))


def _last_pass(network: Network, region: Region, rows: Coefficients, relaxed: Relaxed) -> tf.Tensor:
    found = linear_lower_bounds(network, network.output, rows, relaxed, region)
    found = tf.broadcast_to(found, [tf.shape(region.center)[0], rows.values.shape[2]])
    return tf.where(tf.math.is_nan(found), tf.constant(-float("inf"), found.dtype), found)


def _paces(network: Network, first: Choices) -> list[float]:
    """For each choice, node by node, how long its steps are."""
    found = []
    for index, choices in first.items():
        node = network.nodes[index]
        curved = isinstance(node, Elementwise) and not node.activation.piecewise_linear
        found += [_CURVED if curved else 1.0] * len(choices)
    return found


def _ascend(
    evaluate: Callable[[list[tf.Tensor]], tf.Tensor],
    flat: list[tf.Tensor],
    best: tf.Tensor,
    ascent: Ascent,
    paces: list[float],
) -> tf.Tensor:
    """The best value of each row seen while all choices climb."""

    def step(count: tf.Tensor, best: tf.Tensor, flat, mean, square):  # type: ignore[no-untyped-def]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(flat)
            found = evaluate(flat)
            total = tf.reduce_sum(tf.where(tf.math.is_finite(found), found, tf.zeros_like(found)))
        slopes = tape.gradient(total, flat, unconnected_gradients="zero")
        time = tf.cast(count + 1, best.dtype)
        rate = ascent.learning_rate * _DECAY ** (time - 1)
        moved = [_moved(*parts, rate, time) for parts in zip(flat, slopes, mean, square, paces, strict=True)]
        return count + 1, tf.maximum(best, found), *([part[k] for part in moved] for k in range(3))

    zeros = [tf.zeros_like(choice) for choice in flat]
    state = (tf.constant(0), best, flat, zeros, zeros)
    _, best, flat, _, _ = tf.while_loop(
        lambda count, *_: count < ascent.iterations,
        step,
        state,
        maximum_iterations=ascent.iterations,
        parallel_iterations=1,
    )
    return tf.maximum(best, evaluate(flat))


@kernels.kernel(passes=4)
def _moved(
    choice: tf.Tensor,
    gradient: tf.Tensor,
    mean: tf.Tensor,
    square: tf.Tensor,
    pace: float,
    rate: tf.Tensor,
    time: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """A choice after a step of Adam, with its moments."""
    (move,), (mean,), (square,) = adam([gradient], [mean], [square], time, _ADAM)
    return tf.clip_by_value(choice + pace * rate * move, 0, 1), mean, square


def named_choices(
    network: Network, index: int, relaxation: str | None, bounds: Mapping[int, TensorInterval]
) -> tuple[tf.Tensor, ...]:
    """The choices of a node that give the named relaxation to all rows: of an activation ``[samples, 1, *shape]``."""
    node = network.nodes[index]
    if isinstance(node, Multivariate):
        return multivariate_kind(node).choices(node, [bounds[source] for source in node.inputs], relaxation)
    here = bounds[node.inputs[0]]
    if isinstance(node, MaxPool):
        return (tf.stop_gradient(default_height(node, *here)),)
    assert isinstance(node, Elementwise)
    slopes = node.activation.slopes(relaxation, *here)
    found = []
    for slope, ends in zip(slopes, node.activation.slope_ranges(*here), strict=True):
        if ends is not None:
            place = tf.math.divide_no_nan(slope - ends[0], ends[1] - ends[0])
            place = tf.clip_by_value(tf.where(tf.math.is_finite(place), place, tf.zeros_like(place)), 0, 1)
            found.append(tf.stop_gradient(place)[:, None])
    return tuple(found)


def chosen_lines(
    network: Network,
    relaxation: str | None,
    choices: Choices,
    known: Mapping[int, tuple[Slopes, Ranges]] | None = None,
) -> Relaxer:
    """Relaxes by the choices made for a node; ``known`` has :func:`open_slopes` where bounds are fixed."""

    def relaxer(index: int, _: int, bounds: Mapping[int, TensorInterval]) -> NodeLines:
        node = network.nodes[index]
        chosen = choices.get(index, ())
        if not chosen:
            return relax(network, index, bounds, relaxation)
        if isinstance(node, Multivariate):
            return multivariate_kind(node).relax(node, [bounds[source] for source in node.inputs], relaxation, chosen)
        here = bounds[node.inputs[0]]
        if isinstance(node, MaxPool):
            return pool_lines(node, *here, relaxation, *chosen)
        assert isinstance(node, Elementwise)
        named, ranges = open_slopes(node, here, relaxation) if known is None else known[index]
        rest, slopes = iter(chosen), []
        for slope, ends in zip(named, ranges, strict=True):
            if ends is None:
                slopes.append(slope)
            else:
                least, most = (tf.stop_gradient(end) for end in ends)
                slopes.append(least + next(rest) * (most - least))
        lower, upper = (end[:, None] for end in here)
        return lines(node.activation, (slopes[0], slopes[1]), lower, upper, node.rounding)

    return relaxer


def open_slopes(node: Elementwise, bounds: TensorInterval, relaxation: str | None) -> tuple[Slopes, Ranges]:
    """The slopes of a named relaxation, and between which slopes there is a choice, ``[samples, 1, *shape]`` each."""
    lower, upper = (end[:, None] for end in bounds)
    return node.activation.slopes(relaxation, lower, upper), node.activation.slope_ranges(lower, upper)
