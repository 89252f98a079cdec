"""Backward propagation of linear bounds (the CROWN family).

Rows of linear functions of one node are carried backward through the graph until they are functions of the input (or
of values whose interval is known), where their least value is computed. Only lower bounds are computed: the upper bound
of a row is minus the lower bound of its negative (Zhang et al. 2018, section 3.2, in matrix form).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import tensorflow as tf

from tfcert.activations import Lines
from tfcert.network.graph import Add, Concatenate, Elementwise, Input, Linear, MaxPool, Network, Node
from tfcert.network.linear import ConvMap, PadMap, ScaleMap, Shape, insert_zeros, pad_or_crop
from tfcert.perturbations import Region
from tfcert.propagation import kernels
from tfcert.propagation.coefficients import Coefficients, Patches, toeplitz
from tfcert.propagation.concretize import least
from tfcert.propagation.pooling import PoolLines

Interval = tuple[tf.Tensor, tf.Tensor]
Stop = Callable[[Coefficients], tuple[Coefficients | None, tf.Tensor]]
_CONV_COST = 8.0
"""How much more a multiplication costs in a dense transposed convolution than in a matrix product, memory included
(measured on a CPU: at 4 the ResNet-2 of the DeepCert paper takes three times as long, above 8 nothing changes)."""
_LARGEST_TOEPLITZ = 1 << 25


@dataclass(frozen=True)
class Relaxed:
    """What a backward pass may use of the nodes before its target.

    Attributes:
        lines: of each ``Elementwise`` and ``MaxPool`` node that the pass goes through.
        stops: what replaces a node at which the pass ends: a function from rows over the node to rows over the
            input (or None) and the constant ``[samples, groups, rows]`` that is a lower bound of the rest.
    """

    lines: Mapping[int, Lines | PoolLines]
    stops: Mapping[int, Stop] = field(default_factory=dict)


def lower_bounds(network: Network, target: int, rows: Coefficients, relaxed: Relaxed, region: Region) -> tf.Tensor:
    """Lower bounds of linear functions of a node's output over a region.

    Args:
        network: the network.
        target: the node whose output the rows are functions of.
        rows: the linear functions.
        relaxed: relaxations of the nonlinear nodes among the target's ancestors, and where to stop.
        region: the inputs.

    Returns:
        ``[samples, groups * rows]`` (selected groups: ``[1, groups * rows]``).
    """
    waiting: dict[int, Coefficients] = {target: rows}
    shifted = _only_activated(network)
    groups = _group_count(rows)
    count = rows.values.shape[2]
    total: tf.Tensor = tf.zeros([1, 1], rows.values.dtype)
    for index in range(target, -1, -1):
        if index not in waiting:
            continue
        node, here = network.nodes[index], waiting.pop(index)
        if index in relaxed.stops:
            over_input, constant = relaxed.stops[index](here)
            total += _flat(constant, groups, count)
            if over_input is not None:
                waiting[0] = waiting[0].plus(over_input) if 0 in waiting else over_input
            continue
        if isinstance(node, Input):
            total += _flat(least(here, region), groups, count)
            continue
        lines = relaxed.lines.get(index)
        if isinstance(lines, Lines) and node.inputs[0] in shifted:
            lines = _before_bias(lines, network.nodes[node.inputs[0]])
        shapes = [network.nodes[i].shape for i in node.inputs]
        sent, constant = _back(node, here, lines, shapes, with_bias=index == target or index not in shifted)
        if constant is not None:
            total += _flat(constant, groups, count)
        for source, coefficients in zip(node.inputs, sent, strict=True):
            waiting[source] = waiting[source].plus(coefficients) if source in waiting else coefficients
    return total


def identity(shape: Shape, dtype: tf.DType, part: slice | None = None) -> Coefficients:
    """Each value of a node, and minus each value, as rows: ``+`` rows of a group first, then ``-`` rows.

    ``part`` restricts an image to some of its pixel rows, other tensors to some of their values.
    """
    if len(shape) == 3:
        first, last, _ = (part or slice(None)).indices(shape[0])
        patches = Patches((last - first, shape[1]), offset=(-first, 0))
        eye = np.eye(shape[2])
    else:
        patches, eye = None, np.eye(int(np.prod(shape)))[part or slice(None)]
    return Coefficients(tf.constant(np.concatenate([eye, -eye])[None, None], dtype), shape, patches)


def selected(shape: Shape, dtype: tf.DType, sample: tf.Tensor, neuron: tf.Tensor) -> Coefficients:
    """One value of a node (and minus it) for each pair of a sample and a neuron number: two rows a group."""
    if len(shape) == 3:
        patches, entries = Patches((shape[0], shape[1])), shape[2]
        owner = sample * patches.positions + neuron // entries
    else:
        patches, entries, owner = None, int(np.prod(shape)), sample
    one = tf.one_hot(tf.math.floormod(neuron, entries), entries, dtype=dtype)
    return Coefficients(tf.stack([one, -one], axis=1)[None], shape, patches, owner)


def _group_count(rows: Coefficients) -> int | tf.Tensor:
    if rows.owner is not None:
        return rows.owner.shape[0] if rows.owner.shape[0] is not None else tf.shape(rows.owner)[0]
    return 1 if rows.patches is None else rows.patches.positions


def _flat(part: tf.Tensor, groups: int | tf.Tensor, rows: int | None) -> tf.Tensor:
    """``[samples or 1, groups or 1, rows]`` to ``[samples, groups * rows]``."""
    if part.shape[1] != groups:
        part = tf.broadcast_to(part, [tf.shape(part)[0], groups, rows])
    samples = part.shape[0] if part.shape[0] is not None else tf.shape(part)[0]
    return tf.reshape(part, [samples, -1])


def _only_activated(network: Network) -> frozenset[int]:
    """The linear nodes with a bias that feed one activation and nothing else."""
    readers: dict[int, list[Node]] = {}
    for node in network.nodes:
        for source in node.inputs:
            readers.setdefault(source, []).append(node)
    return frozenset(
        source
        for source, nodes in readers.items()
        if len(nodes) == 1 and isinstance(nodes[0], Elementwise) and getattr(network.nodes[source], "bias", None)
    )


def _before_bias(lines: Lines, source: Node) -> Lines:
    """The same lines as functions of ``z - bias``: the bias is charged here, in a sum that is made anyway."""
    assert isinstance(source, Linear) and source.bias is not None
    bias = source.bias()
    return lines._replace(
        lower_intercept=lines.lower_intercept + lines.lower_slope * bias,
        upper_intercept=lines.upper_intercept + lines.upper_slope * bias,
    )


def _back(
    node: Node, rows: Coefficients, lines: Lines | PoolLines | None, shapes: list[Shape], with_bias: bool
) -> tuple[list[Coefficients], tf.Tensor | None]:
    """One step: rows over a node's output to rows over its inputs, and the constant that the step adds."""
    match node:
        case Linear():
            return _back_linear(node, rows.masked(), shapes[0], with_bias)
        case Elementwise():
            assert isinstance(lines, Lines)
            return _back_elementwise(rows, lines)
        case MaxPool():
            assert isinstance(lines, PoolLines)
            return _back_pool(node, rows, lines, shapes[0])
        case Add():
            return [rows] * len(node.inputs), None
        case Concatenate():
            return _back_concatenate(node, rows.masked(), shapes), None
    raise TypeError(f"no rule to propagate backward through a {type(node).__name__} node")


def _back_elementwise(rows: Coefficients, lines: Lines) -> tuple[list[Coefficients], tf.Tensor]:
    lower_slope, lower_intercept, upper_slope, upper_intercept = (rows.unfold(part) for part in lines)
    constant = _by_lane(kernels.by_sign_sum, rows.values, lower_intercept, upper_intercept)
    return [replace(rows, values=_by_lane(kernels.by_sign, rows.values, lower_slope, upper_slope))], constant


def _by_lane(run: kernels.Kernel, values: tf.Tensor, *others: tf.Tensor) -> tf.Tensor:
    """Runs a kernel on ``[samples, groups, rows, entries]`` with data that have one row for all, each, or each lane."""
    lanes, rows = others[0].shape[2], values.shape[2]
    if lanes in (1, rows):
        return run(values, *others)
    lead = [-1 if n is None else n for n in values.shape[:2]]
    split = tf.reshape(values, [*lead, lanes, rows // lanes, values.shape[3]])
    found = run(split, *[other[:, :, :, None, :] for other in others])
    return tf.reshape(found, [-1, *found.shape[1:2], rows, *found.shape[4:]])


def _back_linear(
    node: Linear, rows: Coefficients, shape: Shape, with_bias: bool
) -> tuple[list[Coefficients], tf.Tensor | None]:
    constant = None
    if node.bias is not None and with_bias:
        constant = rows.dot(tf.broadcast_to(node.bias(), node.shape)[None])
    linear = node.map
    if isinstance(linear, ScaleMap):
        return [rows.scaled(tf.broadcast_to(linear.scale(), shape)[None])], constant
    if rows.patches is not None:
        if isinstance(linear, PadMap):
            (top, _), (left, _) = linear.padding
            offset = (rows.patches.offset[0] + top, rows.patches.offset[1] + left)
            return [replace(rows, shape=shape, patches=replace(rows.patches, offset=offset))], constant
        if isinstance(linear, ConvMap) and patches_pay(linear, rows.patches):
            matrix = toeplitz(linear, rows.patches.window)
            values = _times(rows.values, matrix)
            return [replace(rows, values=values, shape=shape, patches=rows.patches.before(linear))], constant
    rows = rows.dense()
    lead = [-1 if n is None else n for n in rows.values.shape[:3]]
    values = linear.transpose(tf.reshape(rows.values, [-1, *node.shape]))
    return [replace(rows, values=tf.reshape(values, [*lead, int(np.prod(shape))]), shape=shape)], constant


def _times(values: tf.Tensor, matrix: tf.Tensor) -> tf.Tensor:
    lead = [-1 if n is None else n for n in values.shape[:3]]
    return tf.reshape(tf.matmul(tf.reshape(values, [-1, matrix.shape[0]]), matrix), [*lead, matrix.shape[1]])


def patches_pay(conv: ConvMap, patches: Patches) -> bool:
    """Whether a product of patches with a Toeplitz matrix costs less than a dense transposed convolution."""
    larger = patches.before(conv)
    matrix = patches.area * conv.out_shape[2] * larger.area * conv.in_shape[2]
    taps = conv.size[0] * conv.size[1]
    image = int(np.prod(conv.out_shape)) * taps * conv.in_shape[2] * conv.strides[0] * conv.strides[1]
    return matrix <= _LARGEST_TOEPLITZ and matrix <= _CONV_COST * image


def _back_pool(
    node: MaxPool, rows: Coefficients, lines: PoolLines, shape: Shape
) -> tuple[list[Coefficients], tf.Tensor]:
    intercept = rows.unfold(lines.upper_intercept)
    constant = kernels.by_sign_sum(rows.values, tf.zeros_like(intercept), intercept)
    size = node.shape[:2] if rows.patches is None else rows.patches.window
    total = None
    for entry in range(node.window[0] * node.window[1]):
        below, above = (rows.unfold(part[:, :, :, entry, :]) for part in (lines.lower_weights, lines.upper_weights))
        image = tf.reshape(kernels.by_sign(rows.values, below, above), [-1, *size, shape[2]])
        image = insert_zeros(image, node.strides)
        row, column = divmod(entry, node.window[1])
        rest = (node.window[0] - 1 - row, node.window[1] - 1 - column)
        placed = pad_or_crop(image, ((row, rest[0]), (column, rest[1])))
        total = placed if total is None else total + placed
    assert total is not None
    if rows.patches is not None:
        pads = (node.padding[0][0], node.padding[1][0])
        patches: Patches | None = rows.patches.spread(node.strides, list(node.window), pads)
    else:
        patches = None
        (top, _), (left, _) = node.padding
        unread = [shape[axis] - total.shape[axis + 1] + (top, left)[axis] for axis in (0, 1)]
        total = pad_or_crop(total, ((-top, unread[0]), (-left, unread[1])))
    groups = _group_count(rows) if rows.patches is not None or rows.owner is not None else rows.values.shape[1]
    samples = -1 if rows.owner is None else 1
    values = tf.reshape(total, [samples, groups, rows.values.shape[2], int(np.prod(total.shape[1:]))])
    return [replace(rows, values=values, shape=shape, patches=patches)], constant


def _back_concatenate(node: Concatenate, rows: Coefficients, shapes: list[Shape]) -> list[Coefficients]:
    last = len(node.shape) - 1
    if rows.patches is not None and node.axis != last:
        rows = rows.dense()
    inner: tuple[int, ...] = node.shape if rows.patches is None else (*rows.patches.window, node.shape[2])
    lead = [-1 if n is None else n for n in rows.values.shape[:3]]
    full = tf.reshape(rows.values, [*lead, *inner])
    parts = tf.split(full, [shape[node.axis] for shape in shapes], axis=3 + node.axis)
    return [
        replace(rows, values=tf.reshape(part, [*lead, int(np.prod(part.shape[3:]))]), shape=shape)
        for part, shape in zip(parts, shapes, strict=True)
    ]
