"""Bounds whose relaxations are found by gradient: alpha-CROWN and FROWN.

Any slopes, and any levels of pooling planes, give sound lines, so they may be chosen to make the rows' bounds as large
as possible: projected gradient ascent on all of them at once, differentiating through every backward pass (alpha-CROWN,
Xu et al. 2021, "Fast and complete", section 3.1; S-shaped activations and pooling by the same means). FROWN (Lyu et al.
2020, "Fastened CROWN", section 4) is the restriction to one pair of lines a neuron, whatever the pass.

For the last pass the bound is concave in the slopes, which it is not in points of tangency. Of a rounded network the
choices are searched in arithmetic that charges nothing, and the best of each row are evaluated once by the network:
a bound that only the search saw proves nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import tensorflow as tf

from tfcert.network.graph import Elementwise, MaxPool, Network, entering
from tfcert.propagation.affine import affine_part
from tfcert.propagation.ascent import CURVED, Ascent, Choosing, best_choices, owned
from tfcert.propagation.backward import Relaxed, selected
from tfcert.propagation.chosen import Choices, chosen_lines, named_choices
from tfcert.propagation.climbing import NodeSearch, climbed
from tfcert.propagation.coefficients import Coefficients
from tfcert.propagation.combined import Together, best_combination, combined_rows
from tfcert.propagation.enclosures import TensorInterval
from tfcert.propagation.errors import no_errors
from tfcert.propagation.interval import exact_intervals, hull
from tfcert.propagation.open_lines import Opened, opened
from tfcert.propagation.plan import entries_per_row
from tfcert.propagation.preactivation import (
    Passes,
    backward_bounds,
    by_name,
    floor,
    greater,
    matters,
    nonlinear,
    relax_before,
    stable_is_exact,
)
from tfcert.propagation.ranges import step
from tfcert.propagation.widening import last_pass
from tfcert.sets.region import Region

_PIECE, _PIECE_OF_ALL = 1 << 20, 1 << 23
"""How many coefficients climb together at most: as many as stay in a CPU's caches, or where XLA compiles a whole pass,
for a device."""
_SAMPLES, _SAMPLES_OF_FEW = 25, 2
"""As many neurons climb together at most as so many samples have, all of them or where only unstable ones climb."""


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
        Guarantee: ``numeric``; of a rounded network, for the values that it is rounded for.
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
    search = NodeSearch(network, region, relaxation, ascent, affine, {}, errors)
    bounds = _tightened(search, bounds, passes)
    pools = {i: (n, bounds[n.inputs[0]]) for i, n in enumerate(network.nodes) if isinstance(n, MaxPool)}
    found = climbed(search, network.output, rows, pools)
    best = best if found is None else tf.maximum(best, found)
    if together is None:
        return Optimised(best, bounds)
    relaxed = relax_before(network, network.output, by_name(network, relaxation), bounds, affine, errors)
    combined, weighted = best_combination(network, region, rows, together, relaxed)
    found = climbed(search, network.output, rows, pools, weighted)
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


def _tightened(search: NodeSearch, bounds: Mapping[int, TensorInterval], passes: Passes) -> dict[int, TensorInterval]:
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
            here = _narrowed(search, index, here, found, passes)
        found[index] = here
        if search.errors is not None:
            search.errors.narrow(index, here)
        for reader in nonlinear(network):
            inputs = entering(network.nodes[reader])
            if index in inputs and all(source in found for source in inputs):
                search.opened[reader] = opened(network, reader, found, search.relaxation, search.affine)
    return found


def _narrowed(
    search: NodeSearch, index: int, here: TensorInterval, bounds: Mapping[int, TensorInterval], passes: Passes
) -> TensorInterval:
    """Bounds of a node's neurons, those that need any: two rows each, which climb a piece after another.

    ``bounds``: of the nodes before it.
    """
    network = search.network
    if not any(isinstance(search.opened.get(i), Opened) for i in network.ancestors(index)):
        return here
    shape, size = network.nodes[index].shape, math.prod(network.nodes[index].shape)
    flat = [tf.reshape(end, [-1]) for end in here]
    if passes.select and stable_is_exact(network, index):
        wanted = matters(network, index, here, bounds)
        number, samples = tf.where(tf.reshape(wanted, [-1]))[:, 0], _SAMPLES_OF_FEW
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
        found = climbed(search, index, rows)
        assert found is not None
        low, high = tf.unstack(tf.reshape(found, [piece, 2]), axis=1)
        lower = tf.tensor_scatter_nd_max(lower, some[:, None], low)
        return count + 1, lower, tf.tensor_scatter_nd_min(upper, some[:, None], -high)

    _, *flat = tf.while_loop(lambda count, *_: count < pieces, step, (0, *flat), parallel_iterations=1)
    lower, upper = (tf.reshape(end, [-1, *shape]) for end in flat)
    return hull(lower, upper)


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

    def evaluate(flat: list[tf.Tensor], net: Network) -> tf.Tensor:
        parts = iter(flat)
        relaxer = chosen_lines(net, relaxation, {i: tuple(next(parts) for _ in c) for i, c in first.items()})
        errors = no_errors(net, region)
        bounds = backward_bounds(net, region, relaxer, every, errors=errors)
        return _last_pass(net, region, rows, relax_before(net, net.output, relaxer, bounds, errors=errors))

    flat = [choice for choices in first.values() for choice in choices]
    samples = tf.shape(region.center)[0]
    flat = [tf.broadcast_to(c, tf.concat([[samples], tf.shape(c)[1:]], axis=0)) for c in flat]
    fast = network.rounded(None)
    climb = Choosing(
        lambda flat: evaluate(flat, fast),
        flat,
        _paces(network, first),
        None if fast is network else lambda flat: evaluate(flat, network),
        lambda mark: [owned(mark, choice, 1) for choice in flat],
        together=True,
    )
    return best_choices(climb, best, ascent)


def _last_pass(network: Network, region: Region, rows: Coefficients, relaxed: Relaxed) -> tf.Tensor:
    found = last_pass(network, network.output, rows, relaxed, region)
    found = tf.broadcast_to(found, [tf.shape(region.center)[0], rows.values.shape[2]])
    return tf.where(tf.math.is_nan(found), tf.constant(-float("inf"), found.dtype), found)


def _paces(network: Network, first: Choices) -> list[float]:
    """For each choice, node by node, how long its steps are."""
    found = []
    for index, choices in first.items():
        node = network.nodes[index]
        curved = isinstance(node, Elementwise) and not node.activation.piecewise_linear
        found += [CURVED if curved else 1.0] * len(choices)
    return found
