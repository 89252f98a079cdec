"""Bounds over the pieces of a region that arise where hinges (ReLU and its kin) are split by sign: beta-CROWN.

A piece of the region is where some neurons are not negative and others not positive. Those neurons are straight there,
and each condition enters the bound with a multiplier (Wang et al. 2021, "Beta-CROWN", section 3.1). Any multipliers of
at least 0 and any slopes are sound, so both climb together, by gradient, each piece for itself. The same gradients tell
where the relaxation loses: the derivative by a linear term on a neuron is the value that the neuron has where the bound
is attained, and the derivative by an intercept is how much that line weighs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfcert.activations import Lines
from tfcert.network.graph import Elementwise, Network
from tfcert.propagation.backward import Relaxed, linear_lower_bounds
from tfcert.propagation.coefficients import Coefficients
from tfcert.propagation.enclosures import TensorInterval
from tfcert.propagation.interval import both_sides
from tfcert.propagation.optimised import Choices, adam, chosen_lines, named_choices, open_slopes
from tfcert.propagation.preactivation import by_name, nonlinear, relax_before
from tfcert.sets.region import Region

_ADAM = (0.8, 0.99, 1e-12)
_LAST = 0.05
"""How long the last step is, relative to the first."""
_FLOOR = 0.05
"""The least step of a multiplier, relative to the mean weight of the neurons of its layer."""
_EMPTY = 1e-9
"""By how much bounds must cross (relative to their size) to show that a piece is empty."""


class Pieces(NamedTuple):
    """A batch of pieces.

    Attributes:
        bounds: of what enters each nonlinear node: a lower and an upper ``[pieces, *shape]`` for each of
            ``network.bounded()``.
        signs: for each of :func:`split_nodes`: 1 where a neuron is not negative, -1 where it is not positive, 0 where
            nothing is said ``[pieces, *shape]``.
        choices: of the relaxations, node by node, as :func:`named_choices` lists them.
        multipliers: of the conditions, at least 0, for each of :func:`split_nodes`.
    """

    bounds: list[TensorInterval]
    signs: list[tf.Tensor]
    choices: list[tf.Tensor]
    multipliers: list[tf.Tensor]


class Climbed(NamedTuple):
    """Results of climbing.

    Attributes:
        bound: ``[pieces]`` of the row; infinite where the piece is empty.
        pieces: with the choices and multipliers of that bound, and the bounds of its neurons.
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


def split_nodes(network: Network) -> list[int]:
    """The nodes whose values enter the hinges, in order."""
    return sorted({network.nodes[i].inputs[0] for i in hinges(network)})


def first_pieces(network: Network, bounds: Mapping[int, TensorInterval]) -> Pieces:
    """Each sample's whole region as one piece, given bounds of what enters its nonlinear nodes."""
    first = [choice for i in nonlinear(network) for choice in named_choices(network, i, None, bounds)]
    signs = [tf.zeros_like(bounds[i][0]) for i in split_nodes(network)]
    return Pieces([bounds[i] for i in network.bounded()], signs, first, signs)


def climb(network: Network, region: Region, row: tuple[tf.Tensor, tf.Tensor], pieces: Pieces, how: Climb) -> Climbed:
    """A lower bound of a linear function of the output over each piece, as good as the steps allow.

    Args:
        network: the network.
        region: one set for each piece.
        row: coefficients ``[pieces or 1, outputs]`` and offsets ``[pieces or 1]``.
        pieces: where to begin.
        how: how long to climb.

    Returns:
        See :class:`Climbed`. Guarantee: ``numeric``.
    """
    bounds, empty = _restricted(network, region, pieces, how.refresh)
    evaluate = _function(network, region, row, bounds)
    split, bent, dtype, count = split_nodes(network), hinges(network), network.dtype, len(pieces.choices)
    # Terms and intercepts of zero, each a tensor of its own: the bound is derived by them.
    nothing = tf.zeros_like(region.center)
    probes = [tf.zeros_like(bounds[network.nodes[i].inputs[0]][0]) for i in bent for _ in range(2)]

    def step(number, best, kept, free, mean, square, total, _):  # type: ignore[no-untyped-def]
        added = [nothing, *(-s * m for s, m in zip(pieces.signs, free[count:], strict=True))]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([free[:count], added, probes])
            found = evaluate(free[:count], added, probes)
            summed = tf.reduce_sum(tf.where(tf.math.is_finite(found), found, tf.zeros_like(found)))
        d_choices, values, weights = tape.gradient(summed, [free[:count], added, probes], unconnected_gradients="zero")
        better = found > best
        best = tf.where(better, found, best)
        kept = [tf.where(_as_column(better, new), new, old) for new, old in zip(free, kept, strict=True)]
        time = tf.cast(number + 1, dtype)
        gradients = [*d_choices, *(-s * z for s, z in zip(pieces.signs, values[1:], strict=True))]
        moves, mean, square = adam(gradients, mean, square, time, _ADAM)
        rate = how.rate * _LAST ** (time / tf.cast(how.steps, dtype))
        scales = _weights(network, split, bent, weights)
        choices = [tf.clip_by_value(c + rate * move, 0, 1) for c, move in zip(free[:count], moves[:count], strict=True)]
        multipliers = [
            tf.nn.relu(m + scale * rate * move)
            for m, scale, move in zip(free[count:], scales, moves[count:], strict=True)
        ]
        total = [t + time * z for t, z in zip(total, values, strict=True)]
        return number + 1, best, kept, choices + multipliers, mean, square, total, list(weights)

    free = [*pieces.choices, *pieces.multipliers]
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
    found = Pieces([bounds[i] for i in network.bounded()], pieces.signs, kept[:count], kept[count:])
    return Climbed(best, found, _gaps(network, bounds, values, weights), middle[0], done)


def _function(
    network: Network, region: Region, row: tuple[tf.Tensor, tf.Tensor], bounds: Mapping[int, TensorInterval]
) -> Callable[..., tf.Tensor]:
    """The row's bound as a function of the choices, of linear terms over the input and the split nodes, and of what is
    added to the intercepts of each hinge's lower and upper line."""
    rows = Coefficients(row[0][:, None, None, :], network.output_shape)
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

    def evaluate(choices: list[tf.Tensor], added: list[tf.Tensor], probes: list[tf.Tensor]) -> tf.Tensor:
        relaxer = chosen_lines(network, None, _by_node(order, sizes, choices), known)
        lines = dict(relax_before(network, network.output, relaxer, bounds).lines)
        for i, below, above in zip(hinges(network), probes[::2], probes[1::2], strict=True):
            line = lines[i]
            assert isinstance(line, Lines)
            lower, upper = line.lower_intercept, line.upper_intercept  # with an axis for rows where slopes are chosen
            lines[i] = line._replace(
                lower_intercept=lower + tf.reshape(below, tf.shape(lower)),
                upper_intercept=upper + tf.reshape(above, tf.shape(upper)),
            )
        relaxed = Relaxed(lines, {}, dict(zip(at, added, strict=True)))
        found = linear_lower_bounds(network, network.output, rows, relaxed, region)[:, 0] + row[1]
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
    bounds: dict[int, TensorInterval] = {}
    empty = tf.zeros_like(region.eps, tf.bool)
    bent = nonlinear(network)
    relaxer = by_name(network, None)
    for target in network.bounded():
        lower, upper = given[target]
        if refresh and any(i in network.ancestors(target) for i in bent):
            low, high = both_sides(network, target, relax_before(network, target, relaxer, bounds), region)
            lower, upper = tf.maximum(lower, low), tf.minimum(upper, high)
        if target in signs:
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
    for node, below, above in zip(hinges(network), weights[::2], weights[1::2], strict=True):
        hinge, source = network.nodes[node], network.nodes[node].inputs[0]
        assert isinstance(hinge, Elementwise)
        lower, upper = bounds[source]
        z = tf.clip_by_value(values[source], lower, upper)
        left, right = hinge.activation.function(lower), hinge.activation.function(upper)
        width = tf.where(upper > lower, upper - lower, tf.ones_like(upper))
        chord = left + (right - left) * (z - lower) / width
        cost = tf.abs(chord - hinge.activation.function(z))
        open_ = (lower < 0) & (upper > 0)
        # Lines on the side of the chord lose what lies between it and the function; tangents can follow the function.
        one = tf.ones_like(z)
        convex = hinge.activation.function(one) + hinge.activation.function(-one) >= 0
        side = tf.where(convex, tf.abs(above), tf.abs(below))
        gap = tf.where(open_, side * cost, tf.zeros_like(cost))
        found[source] = found[source] + gap if source in found else gap
    return [found[i] for i in split_nodes(network)]
