"""Forward propagation of linear bounds: every node between two linear functions of the input."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import tensorflow as tf

from tfcert.activations import Lines
from tfcert.network.graph import (
    Add,
    Concatenate,
    Elementwise,
    Input,
    Linear,
    MaxPool,
    Multivariate,
    Network,
    Node,
    Nonlinear,
)
from tfcert.network.linear import LinearMap, ScaleMap
from tfcert.network.windows import gather_windows
from tfcert.propagation.backward import Stop
from tfcert.propagation.coefficients import Coefficients
from tfcert.propagation.concretize import least
from tfcert.propagation.enclosures import Plane, Planes, Slack, TensorInterval, scaled_plane
from tfcert.propagation.errors import linear_size
from tfcert.propagation.interval import moves, tidy
from tfcert.propagation.multivariate import MultivariatePlanes
from tfcert.propagation.pooling import PoolLines
from tfcert.propagation.slack import charged_slack, lost_by_ranges, lost_by_rows, plane_sizes, slack_of
from tfcert.propagation.stepping import NodeLines
from tfcert.sets.region import Region

RelaxNode = Callable[[int, Callable[[int], TensorInterval]], NodeLines]
"""The relaxation of a nonlinear node, given a function that finds the range of a node before it by planes."""


def planes(network: Network, region: Region, relax: RelaxNode) -> list[Planes]:
    """The planes of every node."""
    found: list[Planes] = []

    def range_of(index: int) -> TensorInterval:
        return ranges(found[index], network.input_shape, region)

    whole = unit_planes(network, tf.eye(int(np.prod(network.input_shape)), dtype=network.dtype))
    itself = replace(whole, slack=slack_of(region, network.rounding))
    for index, node in enumerate(network.nodes):
        lines = relax(index, range_of) if isinstance(node, Nonlinear) else None
        found.append(itself if isinstance(node, Input) else advance(node, [found[i] for i in node.inputs], lines))
    return found


def unit_planes(network: Network, units: tf.Tensor) -> Planes:
    """The planes of the input over some of its entries: rows of the unit matrix, ``[entries, inputs]``."""
    slopes = tf.reshape(units, [1, -1 if units.shape[0] is None else units.shape[0], *network.input_shape])
    same = Plane(slopes, tf.zeros([1, *network.input_shape], network.dtype))
    return Planes(same, same)


def advance(node: Node, inputs: list[Planes], lines: NodeLines | None) -> Planes:
    """The planes of a node, given those of its inputs and, where it is nonlinear, its relaxation."""
    match node:
        case Linear():
            return _linear(node, inputs[0])
        case Elementwise():
            assert isinstance(lines, Lines)
            return _bend(inputs[0], lines)
        case MaxPool():
            assert isinstance(lines, PoolLines)
            return _pool(node, inputs[0], lines)
        case Add():
            return _join(inputs, tf.add_n, tf.add_n, len(inputs), node.formal)
        case Concatenate():
            axis = node.axis
            return _join(inputs, lambda p: tf.concat(p, axis + 2), lambda p: tf.concat(p, axis + 1))
        case Multivariate():
            assert isinstance(lines, MultivariatePlanes)
            return lines.advance(inputs)
    raise TypeError(f"no rule to propagate forward through a {type(node).__name__} node")


def ranges(node: Planes, input_shape: tuple[int, ...], region: Region) -> TensorInterval:
    """The range over the region of a node that lies between two planes: a pair ``[samples, *shape]``."""
    lower = _least(node.lower.slopes, input_shape, region) + node.lower.intercept
    upper = node.upper.intercept - _least(-node.upper.slopes, input_shape, region)
    lost = lost_by_ranges(node)
    return tidy(lower, upper) if lost is None else tidy(lower - lost, upper + lost)


def substitute(node: Planes, input_shape: tuple[int, ...], stops: int = 1) -> Stop:
    """A stop, one of so many, for backward passes: rows over the node become rows over the input, by the planes."""

    def stop(rows: Coefficients) -> tuple[Coefficients, tf.Tensor]:
        values = rows.dense().values
        slopes, constant = below(values, node)
        lost = lost_by_rows(values, node, stops)
        return Coefficients(slopes, input_shape), constant if lost is None else constant - lost

    return stop


def below(rows: tf.Tensor, node: Planes) -> tuple[tf.Tensor, tf.Tensor]:
    """Functions of the input below rows ``[samples or 1, 1, rows, values]`` of a node that lies between two planes.

    Returns:
        Their slopes ``[samples or 1, 1, rows, inputs]`` and constants ``[samples or 1, 1, rows]``.
    """
    size = rows.shape[3]
    slopes, constants = [], []
    for part, plane in ((tf.nn.relu(rows), node.lower), (tf.minimum(rows, 0), node.upper)):
        flat = tf.reshape(plane.slopes, [plane.slopes.shape[0] or -1, 1, plane.slopes.shape[1], size])
        slopes.append(tf.matmul(part, flat, transpose_b=True))
        constants.append(tf.reduce_sum(part * tf.reshape(plane.intercept, [-1, 1, 1, size]), axis=3))
    return slopes[0] + slopes[1], constants[0] + constants[1]


def _least(slopes: tf.Tensor, input_shape: tuple[int, ...], region: Region) -> tf.Tensor:
    shape = slopes.shape[2:]
    flat = tf.reshape(slopes, [slopes.shape[0] or -1, slopes.shape[1], int(np.prod(shape))])
    rows = Coefficients(tf.linalg.matrix_transpose(flat)[:, None], input_shape)
    return tf.reshape(least(rows, region), [-1, *shape])


def _join(inputs: list[Planes], slopes: Callable, intercepts: Callable, terms: int = 0, formal: bool = False) -> Planes:
    """Sums of so many terms, which the program computes or (``formal``) does not, or numbers side by side (0 terms)."""
    sides = []
    for side in ("lower", "upper"):
        plane = [getattr(p, side) for p in inputs]
        lead = functools.reduce(tf.maximum, [tf.shape(p.slopes)[0] for p in plane])
        lead = next((p.slopes.shape[0] for p in plane if p.slopes.shape[0] not in (1, None)), lead)
        wide = [tf.broadcast_to(p.slopes, [lead, *p.slopes.shape[1:]]) for p in plane]
        flat = [tf.broadcast_to(p.intercept, [lead, *p.intercept.shape[1:]]) for p in plane]
        sides.append(Plane(slopes(wide), intercepts(flat)))
    exact = all(p.lower is p.upper for p in inputs)
    return Planes(sides[0], sides[0] if exact else sides[1], _joined_slack(inputs, intercepts, terms, formal))


def _joined_slack(inputs: list[Planes], join: Callable, terms: int, formal: bool) -> Slack | None:
    slack = inputs[0].slack
    if slack is None:
        return None
    lead = tf.shape(slack.reach)[0]

    def joined(parts: list[tf.Tensor]) -> tf.Tensor:
        found = join([tf.broadcast_to(part, [lead, *part.shape[1:]]) for part in parts])
        return tf.ensure_shape(found, [slack.reach.shape[0], *found.shape[1:]])

    amount = joined([p.slack.amount for p in inputs if p.slack is not None])
    return (
        slack._replace(amount=amount, units=all(p.slack is not None and p.slack.units for p in inputs))
        if terms == 0
        else charged_slack(slack, amount, joined(list(map(plane_sizes, inputs))), terms, formal)
    )


def _linear(node: Linear, source: Planes) -> Planes:
    bias = 0.0 if node.bias is None else node.bias()

    def over(function: Callable[[tf.Tensor], tf.Tensor], slopes: tf.Tensor) -> tf.Tensor:
        lead = [-1 if n is None else n for n in slopes.shape[:2]]
        return tf.reshape(function(tf.reshape(slopes, [-1, *slopes.shape[2:]])), [*lead, *node.shape])

    apply, reach = node.map.apply, node.map.abs_apply
    low, high = source.lower, source.upper
    if low is high:
        same = Plane(over(apply, low.slopes), apply(low.intercept) + bias)
        return _with_slack(node, source, Planes(same, same))
    # W+ L + W- U = W (L + U) / 2 - |W| (U - L) / 2, entry by entry.
    middle, half = over(apply, 0.5 * (low.slopes + high.slopes)), over(reach, 0.5 * (high.slopes - low.slopes))
    at = apply(0.5 * (low.intercept + high.intercept)) + bias
    gap = reach(0.5 * (high.intercept - low.intercept))
    return _with_slack(node, source, Planes(Plane(middle - half, at - gap), Plane(middle + half, at + gap)))


def _with_slack(node: Linear, source: Planes, found: Planes) -> Planes:
    """Of ``W x + b``: the slack's own image by ``|W|``, and roundings relative to ``|W| s + |b|``."""
    slack = source.slack
    if slack is None:
        return found
    if moves(node):
        return replace(found, slack=slack._replace(amount=node.map.apply(slack.amount)))
    # Values that are no larger than the planes' sizes are off by so much, and middles and halves by little more.
    size, flushed = linear_size(node, plane_sizes(source))
    # A bias that is folded into a sum before may be rounded with all of that.
    amount, terms = node.map.abs_apply(slack.amount) + flushed, _terms(node.map) + node.folded + 2 * node.computed
    sums = None if node.folded or node.computed or isinstance(node.map, ScaleMap) else found
    return replace(found, slack=charged_slack(slack, amount, size, terms, node.formal, sums))


def _terms(linear: LinearMap) -> int:
    """How many roundings a deployed value may have seen: a few more where its factor is itself computed."""
    return linear.terms() + (16 if isinstance(linear, ScaleMap) else 0)


def _bend(source: Planes, lines: Lines) -> Planes:
    def through(slope: tf.Tensor, intercept: tf.Tensor, near: Plane, far: Plane) -> Plane:
        plane = scaled_plane(slope, near, far)
        return Plane(plane.slopes, plane.intercept + intercept)

    lower = through(lines.lower_slope, lines.lower_intercept, source.lower, source.upper)
    upper = through(lines.upper_slope, lines.upper_intercept, source.upper, source.lower)
    slack = source.slack
    if slack is None:
        return Planes(lower, upper)
    # What the activation's own value errs by is in its lines.
    steepest = tf.maximum(tf.abs(lines.lower_slope), tf.abs(lines.upper_slope))
    level = tf.maximum(tf.abs(lines.lower_intercept), tf.abs(lines.upper_intercept))
    amount = tf.math.multiply_no_nan(slack.amount, steepest)
    size = tf.math.multiply_no_nan(plane_sizes(source), steepest) + level
    return Planes(lower, upper, charged_slack(slack, amount, size, 2, exact=True))


def _pool(node: MaxPool, source: Planes, lines: PoolLines) -> Planes:
    def through(weights: tf.Tensor, plane: Plane) -> tuple[tf.Tensor, tf.Tensor]:
        lead = [-1 if n is None else n for n in plane.slopes.shape[:2]]
        windows = gather_windows(tf.reshape(plane.slopes, [-1, *plane.slopes.shape[2:]]), node)
        windows = tf.reshape(windows, [*lead, *windows.shape[1:]])
        slopes = tf.reduce_sum(windows * weights[:, None], axis=4)
        return slopes, tf.reduce_sum(gather_windows(plane.intercept, node) * weights, axis=3)

    low, high = through(lines.lower_weights, source.lower), through(lines.upper_weights, source.upper)
    lower, upper = Plane(low[0], low[1] + lines.lower_intercept), Plane(high[0], high[1] + lines.upper_intercept)
    return Planes(lower, upper, _pool_slack(node, source, lines))


def _pool_slack(node: MaxPool, source: Planes, lines: PoolLines) -> Slack | None:
    """Of weighted sums over windows; maxima are exact where they are deployed."""
    slack = source.slack
    if slack is None:
        return None
    weights = tf.maximum(tf.abs(lines.lower_weights), tf.abs(lines.upper_weights))
    level = tf.maximum(tf.abs(lines.lower_intercept), tf.abs(lines.upper_intercept))
    amount, size = (
        tf.reduce_sum(gather_windows(part, node) * weights, axis=3) for part in (slack.amount, plane_sizes(source))
    )
    return charged_slack(slack, amount, size + level, node.window[0] * node.window[1], exact=True)
