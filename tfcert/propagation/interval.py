"""Interval propagation: the range of every node, one node at a time."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import tensorflow as tf

from tfcert.network.graph import Elementwise, Input, Linear, Network
from tfcert.propagation.affine import leaving_nodes
from tfcert.propagation.backward import Relaxed, identity_rows, linear_lower_bounds
from tfcert.propagation.enclosures import TensorInterval
from tfcert.propagation.errors import Errors, moves, no_errors
from tfcert.propagation.ranges import hull, step, taken_up, through_linear, tidy
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
    network: Network,
    region: Region,
    known: Mapping[int, TensorInterval],
    parts: Parts = MappingProxyType({}),
    errors: Errors | None = None,
) -> list[TensorInterval]:
    """The range of each node, ``[samples, *shape]`` pairs, taking and using the ranges ``known`` where given.

    ``errors``: of a rounded network, of no node yet: those of all nodes are taken up there.
    """
    ball = needs_ball(network, region) - known.keys()
    errors = no_errors(network, region) if ball and errors is None else errors
    found: list[TensorInterval] = []
    for index, node in enumerate(network.nodes):
        if index in known or isinstance(node, Input):
            found.append(known.get(index, (region.lower, region.upper)))
            if errors is not None:
                errors.add(index, found[index])
            continue
        found.append(taken_up(index, node, [found[i] for i in node.inputs], errors))
        if index in ball:
            found[index] = all_sides(network, index, Relaxed({}, errors=errors), region, parts)
            if errors is not None:
                errors.narrow(index, found[index])
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


__all__ = [
    "all_sides", "both_sides", "exact_intervals", "exact_over_boxes", "hull", "intervals", "moved_inputs", "moves",
    "needs_ball", "step", "through_linear", "tidy",
]  # fmt: skip
