"""Bounds over the pieces of a region that arise where neurons are split: beta-CROWN.

A piece of the region is where some neurons are at least, and others at most, some number: zero of hinges (ReLU and its
kin), which are straight on either side, and any number of curves, whose lines are closer on either side (Shi et al.
2024, "Neural network verification with branch-and-bound for general nonlinearities", section 3). Each condition enters
the bound with a multiplier (Wang et al. 2021, "Beta-CROWN", section 3.1). Any multipliers of at least 0 and any slopes
are sound, so both climb together, by gradient, each piece for itself. The same gradients tell where the relaxation
loses: the derivative by a linear term on a neuron is the value that the neuron has where the bound is attained, and the
derivative by an intercept is how much that line weighs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfcert.activations import Activation, Lines
from tfcert.activations import lines as lines_of
from tfcert.network.graph import Elementwise, Network
from tfcert.propagation.adam import adam
from tfcert.propagation.backward import Relaxed, linear_lower_bounds
from tfcert.propagation.chosen import Choices, chosen_lines, named_choices, open_slopes
from tfcert.propagation.coefficients import Coefficients
from tfcert.propagation.combined import Together, WeightedRows
from tfcert.propagation.enclosures import TensorInterval
from tfcert.propagation.errors import Errors, share_of_sum
from tfcert.propagation.interval import both_sides, step
from tfcert.propagation.preactivation import by_name, nonlinear, relax_before, worth_a_pass
from tfcert.propagation.ranges import errors_of
from tfcert.sets.region import Region

_ADAM = (0.8, 0.99, 1e-12)
_LAST = 0.05
"""How long the last step is, relative to the first."""
_FLOOR = 0.05
"""The least step of a multiplier, relative to the mean weight of the neurons of its layer."""
_NARROW = 1e-7
"""Curves on intervals that are no wider than this, relative to their ends, are split no further."""
_LEAST_SHARE = 1e-6
"""The least weight of a row."""
_EMPTY = 1e-9
"""By how much bounds must cross (relative to their size) to show that a piece is empty."""


class Pieces(NamedTuple):
    """A batch of pieces.

    Attributes:
        bounds: of what enters each nonlinear node: a lower and an upper ``[pieces, *shape]`` for each of
            ``network.bounded()``.
        signs: for each of :func:`split_nodes`: 1 where a neuron is at least some number (zero of a hinge, else that of
            ``cuts``), -1 where it is at most that, 0 where nothing is said ``[pieces, *shape]``.
        choices: of the relaxations, node by node, as :func:`named_choices` lists them.
        multipliers: of the conditions, at least 0, for each of :func:`split_nodes`.
        cuts: for each of :func:`curved_nodes`: between which numbers conditions place the neurons; infinite for none.
        weights: of the clause's rows, at least 0, in their scale: ``[pieces, rows]``; 1 where it is one row.
    """

    bounds: list[TensorInterval]
    signs: list[tf.Tensor]
    choices: list[tf.Tensor]
    multipliers: list[tf.Tensor]
    cuts: list[TensorInterval]
    weights: tf.Tensor


class AskedRows(NamedTuple):
    """The rows of a clause, of which one, or a combination, is bounded on each piece; of one row the first two say all.

    Attributes:
        coefficients, offsets: ``[pieces or 1, rows, outputs]`` and ``[pieces or 1, rows]``.
        weighs: 1 for a row among whose weights 1 is shared out, 0 for a condition on inputs, ``[pieces or 1, rows]``.
        scale: with which weights are multiplied, ``[pieces or 1, rows]``.
    """

    coefficients: tf.Tensor
    offsets: tf.Tensor
    weighs: tf.Tensor
    scale: tf.Tensor

    @property
    def several(self) -> bool:
        """Tells whether there is anything to combine."""
        return int(self.offsets.shape[1]) > 1

    def mixed(self, weights: tf.Tensor, shape: tuple[int, ...]) -> tuple[Coefficients, tf.Tensor]:
        """The row that is bounded, over outputs of this shape, and its offset ``[pieces]``."""
        rows = Coefficients(self.coefficients[:, None], shape)
        if not self.several:
            return rows, self.offsets[:, 0]
        row, offset = self._weighted(weights).mixture(rows)
        return row, offset[:, 0]

    def lost(self, weights: tf.Tensor, shape: tuple[int, ...], errors: Errors) -> tf.Tensor:
        """What rounding may take from the row that is bounded, and from its sum with the offset, ``[pieces]``."""
        if not self.several:
            return 2.0 * errors.rounding.own * tf.abs(self.offsets[:, 0])
        rows = Coefficients(self.coefficients[:, None], shape)
        return self._weighted(weights).lost(rows, errors)[:, 0]

    def _weighted(self, weights: tf.Tensor) -> WeightedRows:
        together = Together(int(self.offsets.shape[1]), self.offsets, tf.ones_like(self.offsets), self.weighs)
        return WeightedRows(together, self.scale[:, None], weights[:, None])


class Climbed(NamedTuple):
    """Results of climbing.

    Attributes:
        bound: ``[pieces]`` of the row, or the combination; infinite where the piece is empty.
        pieces: with the choices, multipliers and weights of that bound, and the bounds of its neurons.
        gaps: for each of :func:`split_nodes`: what the relaxation of a neuron costs where the bound is attained; 0 for
            those that are straight.
        point: ``[pieces, *input]``: an input of the region where it is about attained.
        steps: how many steps were taken.
    """

    bound: tf.Tensor
    pieces: Pieces
    gaps: list[tf.Tensor]
    point: tf.Tensor
    steps: tf.Tensor


@dataclass(frozen=True)
class Climb:
    """Options of climbing.

    Attributes:
        steps: at most so many; climbing ends where all pieces are proven.
        rate: how long the first is: of a choice's range, or relative to a neuron's weight in the bound.
        refresh: whether bounds of neurons are computed anew on the pieces.
    """

    steps: int | tf.Tensor
    rate: float
    refresh: bool


def hinges(network: Network) -> list[int]:
    """The nodes whose neurons can be split by sign."""
    found = []
    for index in nonlinear(network):
        node = network.nodes[index]
        if isinstance(node, Elementwise) and node.activation.piecewise_linear:
            found.append(index)
    return found


def curves(network: Network) -> list[int]:
    """The other nodes whose neurons can be split, anywhere."""
    found = []
    for index in nonlinear(network):
        node = network.nodes[index]
        if isinstance(node, Elementwise) and node.activation.edges is None and not node.activation.piecewise_linear:
            found.append(index)
    return found


def splittable(network: Network) -> list[int]:
    """The nodes whose neurons can be split."""
    return sorted([*hinges(network), *curves(network)])


def split_nodes(network: Network) -> list[int]:
    """The nodes whose values enter the nodes that can be split, in order."""
    return sorted({network.nodes[i].inputs[0] for i in splittable(network)})


def curved_nodes(network: Network) -> list[int]:
    """Those of :func:`split_nodes` that enter a curve."""
    return sorted({network.nodes[i].inputs[0] for i in curves(network)})


def activation_of(network: Network, index: int) -> Activation:
    """The activation of an elementwise node."""
    node = network.nodes[index]
    assert isinstance(node, Elementwise)
    return node.activation


def first_pieces(network: Network, bounds: Mapping[int, TensorInterval]) -> Pieces:
    """Each sample's whole region as one piece, given bounds of what enters its nonlinear nodes."""
    first = [choice for i in nonlinear(network) for choice in named_choices(network, i, None, bounds)]
    signs = [tf.zeros_like(bounds[i][0]) for i in split_nodes(network)]
    infinity = [tf.fill(tf.shape(bounds[i][0]), tf.constant(np.inf, network.dtype)) for i in curved_nodes(network)]
    cuts = [(-end, end) for end in infinity]
    one = tf.ones([tf.shape(signs[0])[0], 1], network.dtype)
    return Pieces([bounds[i] for i in network.bounded()], signs, first, signs, cuts, one)


def climb(network: Network, region: Region, row: AskedRows, pieces: Pieces, how: Climb) -> Climbed:
    """A lower bound of a linear function of the output over each piece, or of a combination of several, as good as the
    steps allow.

    Args:
        network: the network.
        region: one set for each piece.
        row: the linear functions.
        pieces: where to begin.
        how: how long to climb.

    Returns:
        See :class:`Climbed`. Guarantee: ``numeric``; of a rounded network, whose conditions are about values as
        computed, that of its rounding.
    """
    bounds, empty = _restricted(network, region, pieces, how.refresh)
    evaluate = _function(network, region, row, bounds)
    split, bent, dtype, count = split_nodes(network), splittable(network), network.dtype, len(pieces.choices)
    ends = count + len(pieces.multipliers)
    places = _places(network, pieces)
    # Terms and intercepts of zero, each a tensor of its own: the bound is derived by them.
    nothing = tf.zeros_like(region.center)
    probes = [tf.zeros_like(bounds[network.nodes[i].inputs[0]][0]) for i in bent for _ in range(2)]

    def step(number, best, kept, free, mean, square, total, _):  # type: ignore[no-untyped-def]
        added = [nothing, *(-s * m for s, m in zip(pieces.signs, free[count:ends], strict=True))]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([free[:count], added, probes, free[ends:]])
            found = evaluate(free[:count], added, probes, free[-1] if row.several else pieces.weights)
            moved = _shift(network, pieces, places, free[count:ends])
            found += moved
            if network.rounding is not None:
                found -= 8.0 * network.rounding.own * (tf.abs(found) + abs(moved))
            summed = tf.reduce_sum(tf.where(tf.math.is_finite(found), found, tf.zeros_like(found)))
        d_choices, values, weights, d_shares = tape.gradient(
            summed, [free[:count], added, probes, free[ends:]], unconnected_gradients="zero"
        )
        better = found > best
        best = tf.where(better, found, best)
        kept = [tf.where(_as_column(better, new), new, old) for new, old in zip(free, kept, strict=True)]
        time = tf.cast(number + 1, dtype)
        beyond = [z - places[i] if i in places else z for i, z in zip(split, values[1:], strict=True)]
        gradients = [*d_choices, *(-s * z for s, z in zip(pieces.signs, beyond, strict=True)), *d_shares]
        moves, mean, square = adam(gradients, mean, square, time, _ADAM)
        rate = how.rate * _LAST ** (time / tf.cast(how.steps, dtype))
        scales = _weights(network, split, bent, weights)
        choices = [tf.clip_by_value(c + rate * move, 0, 1) for c, move in zip(free[:count], moves[:count], strict=True)]
        multipliers = [
            tf.nn.relu(m + scale * rate * move)
            for m, scale, move in zip(free[count:ends], scales, moves[count:ends], strict=True)
        ]
        shares = [_shared_out(s + rate * move) for s, move in zip(free[ends:], moves[ends:], strict=True)]
        total = [t + time * z for t, z in zip(total, values, strict=True)]
        return number + 1, best, kept, choices + multipliers + shares, mean, square, total, list(weights)

    free = [*pieces.choices, *pieces.multipliers, *([pieces.weights] if row.several else [])]
    none = [tf.zeros_like(f) for f in free]
    start = tf.where(empty, tf.constant(np.inf, dtype), tf.constant(-np.inf, dtype))
    totals = [nothing, *(tf.zeros_like(s) for s in pieces.signs)]
    state = (tf.constant(0), start, free, free, none, none, totals, probes)
    done, best, kept, _, _, _, totals, weights = tf.while_loop(
        lambda number, best, *_: (number < how.steps) & tf.reduce_any(best <= 0), step, state
    )
    steps = tf.cast(done, dtype)
    middle = [t / tf.maximum(0.5 * steps * (steps + 1), 1) for t in totals]
    values = dict(zip(split, middle[1:], strict=True))
    layers, shares = [bounds[i] for i in network.bounded()], kept[ends] if row.several else pieces.weights
    found = Pieces(layers, pieces.signs, kept[:count], kept[count:ends], pieces.cuts, shares)
    return Climbed(best, found, _gaps(network, bounds, values, weights), middle[0], done)


def _shared_out(weights: tf.Tensor) -> tf.Tensor:
    """Weights of at least 0 whose sum is 1."""
    weights = tf.nn.relu(weights) + tf.constant(_LEAST_SHARE, weights.dtype)
    return weights / tf.reduce_sum(weights, axis=1, keepdims=True)


def _places(network: Network, pieces: Pieces) -> dict[int, tf.Tensor]:
    """The numbers that the conditions on the neurons of curves compare with; 0 where there is none."""
    signs = dict(zip(split_nodes(network), pieces.signs, strict=True))
    found = {}
    for index, (low, high) in zip(curved_nodes(network), pieces.cuts, strict=True):
        place = tf.where(signs[index] > 0, low, high)
        found[index] = tf.where(signs[index] == 0, tf.zeros_like(place), place)
    return found


def _shift(
    network: Network, pieces: Pieces, places: Mapping[int, tf.Tensor], multipliers: list[tf.Tensor]
) -> tf.Tensor | float:
    """What conditions at other numbers than zero add to a bound: ``f - m (z - p) <= f`` where ``z >= p``."""
    total: tf.Tensor | float = 0.0
    for index, sign, multiplier in zip(split_nodes(network), pieces.signs, multipliers, strict=True):
        if index in places:
            axes = list(range(1, sign.shape.rank))
            total += tf.reduce_sum(sign * multiplier * places[index], axis=axes)
            if network.rounding is not None:
                share = share_of_sum(sign.shape[1:].num_elements(), network.rounding)
                total -= share * tf.reduce_sum(multiplier * tf.abs(places[index]), axis=axes)
    return total


def _function(
    network: Network, region: Region, row: AskedRows, bounds: Mapping[int, TensorInterval]
) -> Callable[..., tf.Tensor]:
    """The row's bound as a function of the choices, of linear terms over the input and the split nodes, of what is
    added to the intercepts of each hinge's lower and upper line, and of the weights of rows."""
    at = [0, *split_nodes(network)]
    # Computed once for all steps: the bounds stay.
    known = {
        i: open_slopes(node, bounds[node.inputs[0]], None)
        for i, node in enumerate(network.nodes)
        if isinstance(node, Elementwise)
    }
    free = {
        i: sum(ends is not None for ends in known[i][1]) if i in known else len(named_choices(network, i, None, bounds))
        for i in nonlinear(network)
    }
    order, sizes = [i for i in free if free[i]], [size for size in free.values() if size]
    errors = errors_of(network, region, bounds)

    def evaluate(
        choices: list[tf.Tensor], added: list[tf.Tensor], probes: list[tf.Tensor], weights: tf.Tensor
    ) -> tf.Tensor:
        rows, offset = row.mixed(weights, network.output_shape)
        relaxer = chosen_lines(network, None, _by_node(order, sizes, choices), known)
        lines = dict(relax_before(network, network.output, relaxer, bounds).lines)
        for i, below, above in zip(splittable(network), probes[::2], probes[1::2], strict=True):
            line = lines[i]
            assert isinstance(line, Lines)
            lower, upper = line.lower_intercept, line.upper_intercept  # with an axis for rows where slopes are chosen
            lines[i] = line._replace(
                lower_intercept=lower + tf.reshape(below, tf.shape(lower)),
                upper_intercept=upper + tf.reshape(above, tf.shape(upper)),
            )
        relaxed = Relaxed(lines, {}, dict(zip(at, added, strict=True)), errors=errors)
        found = linear_lower_bounds(network, network.output, rows, relaxed, region)[:, 0] + offset
        if errors is not None:
            found -= row.lost(weights, network.output_shape, errors) + 4.0 * errors.rounding.own * tf.abs(found)
        return tf.where(tf.math.is_nan(found), tf.constant(-np.inf, found.dtype), found)

    return evaluate


def _by_node(order: list[int], sizes: list[int], flat: list[tf.Tensor]) -> Choices:
    parts = iter(flat)
    return {node: tuple(next(parts) for _ in range(size)) for node, size in zip(order, sizes, strict=True)}


def _as_column(which: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    return tf.reshape(which, [-1] + [1] * (like.shape.rank - 1))


def _weights(network: Network, split: list[int], nodes: list[int], weights: list[tf.Tensor]) -> list[tf.Tensor]:
    """For each split node how much its neurons weigh in the bound, at least a share of the mean."""
    found: dict[int, tf.Tensor] = {}
    for node, below, above in zip(nodes, weights[::2], weights[1::2], strict=True):
        source = network.nodes[node].inputs[0]
        size = tf.abs(below) + tf.abs(above)
        found[source] = found[source] + size if source in found else size
    sizes = []
    for i in split:
        axes = list(range(1, found[i].shape.rank))
        floor = _FLOOR * tf.reduce_mean(found[i], axis=axes, keepdims=True)
        sizes.append(tf.maximum(found[i], floor))
    return sizes


def _restricted(
    network: Network, region: Region, pieces: Pieces, refresh: bool
) -> tuple[dict[int, TensorInterval], tf.Tensor]:
    """Bounds of the neurons on the pieces, and which pieces are shown to be empty."""
    given = dict(zip(network.bounded(), pieces.bounds, strict=True))
    signs = dict(zip(split_nodes(network), pieces.signs, strict=True))
    cuts = dict(zip(curved_nodes(network), pieces.cuts, strict=True))
    bounds: dict[int, TensorInterval] = {}
    empty = tf.zeros(tf.shape(region.eps)[:1], tf.bool)
    bent = nonlinear(network)
    relaxer = by_name(network, None)
    for target in network.bounded():
        lower, upper = given[target]
        passes = refresh and not isinstance(network.nodes[target], Elementwise) and target in worth_a_pass(network)
        if passes and any(i in network.ancestors(target) for i in bent):
            low, high = both_sides(network, target, relax_before(network, target, relaxer, bounds), region)
            lower, upper = tf.maximum(lower, low), tf.minimum(upper, high)
        node = network.nodes[target]
        if isinstance(node, Elementwise):
            low, high = step(node, [bounds[node.inputs[0]]])
            lower, upper = tf.maximum(lower, low), tf.minimum(upper, high)
        if target in cuts:
            lower, upper = tf.maximum(lower, cuts[target][0]), tf.minimum(upper, cuts[target][1])
        elif target in signs:
            lower = tf.where(signs[target] > 0, tf.maximum(lower, 0), lower)
            upper = tf.where(signs[target] < 0, tf.minimum(upper, 0), upper)
        slack = _EMPTY * tf.maximum(tf.abs(lower), tf.abs(upper))
        crossed = lower > upper + slack
        empty |= tf.reduce_any(crossed, axis=list(range(1, lower.shape.rank)))
        bounds[target] = tf.minimum(lower, upper), tf.maximum(lower, upper)
    return bounds, empty


def _gaps(
    network: Network, bounds: Mapping[int, TensorInterval], values: Mapping[int, tf.Tensor], weights: list[tf.Tensor]
) -> list[tf.Tensor]:
    """The cost of each neuron's relaxation at the values given, by the weights of its lines."""
    found: dict[int, tf.Tensor] = {}
    for node, below, above in zip(splittable(network), weights[::2], weights[1::2], strict=True):
        act, source = activation_of(network, node), network.nodes[node].inputs[0]
        lower, upper = bounds[source]
        z = tf.clip_by_value(values[source], lower, upper)
        measure = _hinge_gap if act.piecewise_linear else _curve_gap
        gap = measure(act, (lower, upper), z, (tf.abs(below), tf.abs(above)))
        found[source] = found[source] + gap if source in found else gap
    return [found[i] for i in split_nodes(network)]


def _hinge_gap(act: Activation, bounds: TensorInterval, z: tf.Tensor, weights: TensorInterval) -> tf.Tensor:
    lower, upper = bounds
    left, right = act.function(lower), act.function(upper)
    width = tf.where(upper > lower, upper - lower, tf.ones_like(upper))
    chord = left + (right - left) * (z - lower) / width
    cost = tf.abs(chord - act.function(z))
    open_ = (lower < 0) & (upper > 0)
    # Lines on the side of the chord lose what lies between it and the function; tangents can follow the function.
    one = tf.ones_like(z)
    convex = act.function(one) + act.function(-one) >= 0
    side = tf.where(convex, weights[1], weights[0])
    return tf.where(open_, side * cost, tf.zeros_like(cost))


def _curve_gap(act: Activation, bounds: TensorInterval, z: tf.Tensor, weights: TensorInterval) -> tf.Tensor:
    """The same of a curve, by its named lines; a side whose lines can follow the function counts only if both can."""
    lower, upper = bounds
    placed = lines_of(act, act.slopes(None, lower, upper), lower, upper)
    value = act.function(z)
    apart = (
        value - (placed.lower_slope * z + placed.lower_intercept),
        placed.upper_slope * z + placed.upper_intercept - value,
    )
    fixed = [between is None for between in act.slope_ranges(lower, upper)]
    sides = [n for n in (0, 1) if fixed[n]] or [0, 1]
    cost = tf.add_n([weights[n] * tf.nn.relu(apart[n]) for n in sides])
    known = wide_enough(lower, upper) & tf.math.is_finite(cost)
    return tf.where(known, cost, tf.zeros_like(cost))


def wide_enough(lower: tf.Tensor, upper: tf.Tensor) -> tf.Tensor:
    """Marks intervals on which a curve is worth splitting."""
    return upper - lower > _NARROW * (1 + tf.abs(lower) + tf.abs(upper))
