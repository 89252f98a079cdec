"""Interval propagation: the range of every node, one node at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import tensorflow as tf

from tfcert.activations import image
from tfcert.network.graph import Add, Concatenate, Elementwise, Input, Linear, MaxPool, Multivariate, Network, Node
from tfcert.network.windows import gather_windows
from tfcert.propagation.affine import leaving_nodes
from tfcert.propagation.backward import Relaxed, identity_rows, linear_lower_bounds
from tfcert.propagation.enclosures import TensorInterval
from tfcert.propagation.kinds import multivariate_kind
from tfcert.sets.region import Region


def moved_inputs(network: Network) -> frozenset[int]:
    """The nodes whose values are inputs, moved or copied but not computed with.

    Their range over any region is that of the inputs, moved: exact, and rounded outward as the region's own. Any other
    way to bound them computes, and a rounding error there would be a whole cell of a staircase that reads them.
    """
    found = {0}
    for index, node in enumerate(network.nodes):
        if isinstance(node, Linear) and moves(node) and node.inputs[0] in found:
            found.add(index)
    return frozenset(found)


def exact_over_boxes(network: Network) -> frozenset[int]:
    """The nodes whose interval over a box is as good as any: affine, along one path with at most one map that mixes.

    A staircase of the inputs counts as an input: its range is a box, and all that its lines know.
    """
    mixes: dict[int, int] = {0: 0}
    for index, node in enumerate(network.nodes):
        if isinstance(node, Elementwise) and node.activation.edges is not None and mixes.get(node.inputs[0]) == 0:
            mixes[index] = 0
        elif isinstance(node, Linear) and node.inputs[0] in mixes:
            mixes[index] = mixes[node.inputs[0]] + node.map.mixes
    return frozenset(i for i, count in mixes.items() if count <= 1) | moved_inputs(network)


def exact_intervals(network: Network, is_box: bool) -> frozenset[int]:
    """The nodes whose interval, over a box or another ball, needs no other bound beside it."""
    return exact_over_boxes(network) if is_box else moved_inputs(network)


def needs_ball(network: Network, region: Region) -> frozenset[int]:
    """The nodes whose range is computed from the ball itself and not from ranges of their inputs.

    A ball that is not a box loses a factor of up to sqrt(n) (L2) or n (L1) when it is replaced by its hull, so the
    affine nodes that feed a nonlinearity (or are the output) take their bounds from the ball.
    """
    if region.is_box:
        return frozenset()
    return leaving_nodes(network) - moved_inputs(network)


Parts = Mapping[int, tuple[slice | None, ...]]
"""For some nodes the slices of :func:`identity_rows` that a backward pass takes each; one pass for the others."""


def intervals(
    network: Network, region: Region, known: Mapping[int, TensorInterval], parts: Parts = MappingProxyType({})
) -> list[TensorInterval]:
    """The range of each node, ``[samples, *shape]`` pairs, taking and using the ranges ``known`` where given."""
    ball = needs_ball(network, region)
    found: list[TensorInterval] = []
    for index, node in enumerate(network.nodes):
        if index in known:
            found.append(known[index])
        elif index in ball:
            found.append(all_sides(network, index, Relaxed({}), region, parts))
        elif isinstance(node, Input):
            found.append((region.lower, region.upper))
        else:
            found.append(tidy(*step(node, [found[i] for i in node.inputs])))
    return found


def all_sides(network: Network, target: int, relaxed: Relaxed, region: Region, parts: Parts) -> TensorInterval:
    """Bounds of a node by as many backward passes as it is cut into: a pair ``[samples, *shape]``."""
    pieces = [both_sides(network, target, relaxed, region, part) for part in parts.get(target, (None,))]
    if len(pieces) == 1:
        return pieces[0]
    lower, upper = (tf.concat([piece[end] for piece in pieces], axis=1) for end in (0, 1))
    shape = [-1, *network.nodes[target].shape]
    return tf.reshape(lower, shape), tf.reshape(upper, shape)


def both_sides(
    network: Network, target: int, relaxed: Relaxed, region: Region, part: slice | None = None
) -> TensorInterval:
    """Bounds of a node (or of a part of it, see ``identity``) by a backward pass: a pair ``[samples, values]``."""
    node = network.nodes[target]
    rows = identity_rows(node.shape, network.dtype, part)
    entries = rows.values.shape[2] // 2
    bounds = linear_lower_bounds(network, target, rows, relaxed, region)
    groups = 1 if rows.patches is None else rows.patches.positions
    pair = tf.reshape(bounds, [-1, groups, 2, entries])
    shape = node.shape if part is None else (groups * entries,)
    lower = tf.reshape(pair[:, :, 0, :], [-1, *shape])
    upper = -tf.reshape(pair[:, :, 1, :], [-1, *shape])
    return tidy(lower, upper)


def tidy(lower: tf.Tensor, upper: tf.Tensor) -> TensorInterval:
    """Bounds that later steps can rely on: no NaN (nothing is known there: infinite), and ``lower <= upper``."""
    low = tf.where(tf.math.is_nan(lower), tf.constant(-np.inf, lower.dtype), lower)
    high = tf.where(tf.math.is_nan(upper), tf.constant(np.inf, upper.dtype), upper)
    return hull(low, high)


def hull(low: tf.Tensor, high: tf.Tensor) -> TensorInterval:
    """Bounds in order: those of a constant may cross by a rounding error, and their hull is sound to that error."""
    return tf.minimum(low, high), tf.maximum(low, high)


def step(node: Node, inputs: Sequence[TensorInterval]) -> TensorInterval:
    """The range of a node, given ranges of its inputs."""
    match node:
        case Linear():
            return through_linear(node, inputs[0])[0]
        case Elementwise():
            return image(node.activation, *inputs[0])
        case MaxPool():
            low, high = (tf.reduce_max(gather_windows(end, node, fill=-np.inf), axis=3) for end in inputs[0])
            return low, high
        case Add():
            return tf.add_n([low for low, _ in inputs]), tf.add_n([high for _, high in inputs])
        case Concatenate():
            low, high = (tf.concat([pair[end] for pair in inputs], axis=node.axis + 1) for end in (0, 1))
            return low, high
        case Multivariate():
            return multivariate_kind(node).interval(node, inputs)
    raise TypeError(f"no rule to propagate an interval through a {type(node).__name__} node")


def moves(node: Linear) -> bool:
    """Tells whether a node only moves or copies numbers, zeros between them."""
    return node.bias is None and node.map.moves


def through_linear(
    node: Linear, pair: TensorInterval, nominal: Sequence[tf.Tensor] = ()
) -> tuple[TensorInterval, list[tf.Tensor]]:
    """A linear node's range, and its values at points: at most one tensor ``nominal``, ``[batch, *shape]``.

    The range's middle and the points go through the map as one batch; the radii take a second product, with ``|W|``.
    """
    lower, upper = pair
    bias = None if node.bias is None else node.bias()
    if moves(node):
        return (node.map.apply(lower), node.map.apply(upper)), [node.map.apply(value) for value in nominal]
    middle, radius = 0.5 * lower + 0.5 * upper, 0.5 * upper - 0.5 * lower
    together = node.map.apply(tf.concat([*nominal, middle], axis=0) if nominal else middle)
    if bias is not None:
        together += bias
    reach = node.map.abs_apply(radius)
    *value, center = tf.split(together, 2, axis=0) if nominal else [together]
    return (center - reach, center + reach), value
