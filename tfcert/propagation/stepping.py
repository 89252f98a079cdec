"""One step of a backward pass: rows over a node's output to rows over its inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfcert.activations import Lines
from tfcert.network.graph import Add, Concatenate, Elementwise, Linear, MaxPool, Multivariate, Node
from tfcert.network.linear import ConvMap, LinearMap, Shape, Window, insert_zeros, pad_or_crop
from tfcert.propagation import kernels
from tfcert.propagation.coefficients import Coefficients, Patches, carried
from tfcert.propagation.errors import dotted
from tfcert.propagation.multivariate import ChosenStep, MultivariatePlanes
from tfcert.propagation.pooling import PoolLines

NodeLines = Lines | PoolLines | MultivariatePlanes
"""What relaxes a nonlinear node."""


class Step(NamedTuple):
    """A step through an activation whose lines differ by row and entry.

    Attributes:
        back: rows over the activation's output to rows over its input, and the constant ``[samples, groups, rows]``.
        biased: the node whose bias the constant has in it, or None; of an affine node it has the value in the middle.
    """

    back: Callable[[Coefficients], tuple[Coefficients, tf.Tensor]]
    biased: int | None


_CONV_COST = 8.0
"""How much more a multiplication costs in a dense transposed convolution than in a matrix product, memory included
(measured on a CPU: at 4 the ResNet-2 of the DeepCert paper takes three times as long, above 8 nothing changes)."""
_LARGEST_TOEPLITZ = 1 << 25


def step_back(
    node: Node,
    rows: Coefficients,
    lines: NodeLines | Step | ChosenStep | None,
    shapes: list[Shape],
    with_bias: bool,
) -> tuple[list[Coefficients], tf.Tensor | None]:
    """One step: rows over a node's output to rows over its inputs, and the constant that the step adds."""
    match node:
        case Linear():
            return _back_linear(node, rows.masked(), shapes[0], with_bias)
        case Elementwise() if isinstance(lines, Step):
            bent, constant = lines.back(rows)
            return [bent], constant
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
        case Multivariate():
            assert isinstance(lines, MultivariatePlanes | ChosenStep)
            return lines.back(rows)
    raise TypeError(f"no rule to propagate backward through a {type(node).__name__} node")


def _back_elementwise(rows: Coefficients, lines: Lines) -> tuple[list[Coefficients], tf.Tensor]:
    lanes = max(line.shape[1] if line.shape.rank > len(rows.shape) + 1 else 1 for line in lines)
    groups = 1 if rows.patches is None else rows.patches.positions
    few = tf.executing_eagerly() or (rows.owner is None and kernels.are_few(rows.values, groups))
    if few and lanes in (1, rows.values.shape[2]):
        values, constant = kernels.by_sign_both(rows.values, *(rows.unfold(part) for part in lines))
    else:
        values, constant = _by_sign_in_lanes(rows, lines)
    return [replace(rows, values=values, zero_outside=True)], constant


def _by_sign_in_lanes(rows: Coefficients, lines: Lines) -> tuple[tf.Tensor, tf.Tensor]:
    @tf.custom_gradient
    def step(values: tf.Tensor, *parts: tf.Tensor):  # type: ignore[no-untyped-def]
        slopes = [rows.unfold(part) for part in parts[::2]]
        split = _by_lane(slopes, rows.values.shape[2])
        bent = split(kernels.by_sign(split(values), *map(split, slopes)), back=True)
        if rows.alike and all(part.shape.rank == len(rows.shape) + 1 for part in parts):
            by_sign = (replace(rows, values=tf.nn.relu(values)), replace(rows, values=tf.minimum(values, 0)))
            constant = by_sign[0].dot(parts[1]) + by_sign[1].dot(parts[3])
        else:
            intercepts = [split(rows.unfold(part)) for part in parts[1::2]]
            constant = split(kernels.by_sign_sum(split(values), *intercepts)[..., None], back=True)[..., 0]

        def gradient(d_values: tf.Tensor, d_constant: tf.Tensor) -> tuple[tf.Tensor, ...]:
            # The arranged lines are as large as the coefficients: arranged again rather than kept, and not before.
            with tf.control_dependencies([d_values]):
                again = [tf.identity(part) for part in parts]
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(again)
                weights = [split(rows.unfold(part)) for part in again]
            given = (split(d_values), split(d_constant[..., None])[..., 0])
            first, *others = kernels.by_sign_gradients(split(values), *given, *weights)
            return split(first, back=True), *tape.gradient(weights, again, output_gradients=others)

        return (bent, constant), gradient

    values, constant = step(rows.values, *lines)
    return values, constant


def _by_lane(weights: list[tf.Tensor], rows: int) -> Callable[..., tf.Tensor]:
    """Splits the rows' axis of ``[samples, groups, rows, entries]`` into lanes, if each weight has several rows.

    What it returns also takes weights, with one row for all rows or one a lane, and with ``back`` undoes the split.
    """
    lanes = max(weight.shape[2] for weight in weights)

    def split(x: tf.Tensor, back: bool = False) -> tf.Tensor:
        if lanes in (1, rows):
            return x
        lead = [-1 if n is None else n for n in x.shape[:2]]
        if back:
            return tf.reshape(x, [*lead, rows, x.shape[4]])
        if x.shape[2] < rows:
            return x[:, :, :, None, :]
        return tf.reshape(x, [*lead, lanes, rows // lanes, x.shape[3]])

    return split


def _back_linear(
    node: Linear, rows: Coefficients, shape: Shape, with_bias: bool
) -> tuple[list[Coefficients], tf.Tensor | None]:
    constant = None
    if node.bias is not None and with_bias:
        constant = dotted(rows, tf.broadcast_to(node.bias(), node.shape)[None], node.rounding)
    linear = node.map
    scale = linear.diagonal()
    if scale is not None:
        return [rows.scaled(tf.broadcast_to(scale, shape)[None])], constant
    if rows.patches is not None and patches_before(linear, rows.patches) is not None:
        return [carried(rows, linear)], constant
    rows = rows.dense()
    lead = [-1 if n is None else n for n in rows.values.shape[:3]]
    values = linear.transpose(tf.reshape(rows.values, [-1, *node.shape]))
    return [replace(rows, values=tf.reshape(values, [*lead, int(np.prod(shape))]), shape=shape)], constant


def patches_before(linear: LinearMap, patches: Patches) -> Patches | None:
    """The patches of a map's input that rows over these patches of its output read; None if dense rows are better."""
    if linear.window is None:
        return None
    conv = linear.convolution
    pays = patches_pay(conv, patches) if conv is not None else linear.moves or _inside(patches, linear.in_shape)
    return patches.before(linear.window) if pays else None


def _inside(patches: Patches, shape: Shape) -> bool:
    """Tells whether patches have no more pixels than the image."""
    return patches.area <= shape[0] * shape[1]


def patches_pay(conv: ConvMap, patches: Patches) -> bool:
    """Tells whether a product of patches with a Toeplitz matrix costs less than a dense transposed convolution."""
    larger = patches.before(conv.window)
    matrix = patches.area * conv.out_shape[2] * larger.area * conv.in_shape[2]
    taps = conv.size[0] * conv.size[1]
    image = int(np.prod(conv.out_shape)) * taps * conv.in_shape[2] * conv.strides[0] * conv.strides[1]
    return matrix <= _LARGEST_TOEPLITZ and matrix <= _CONV_COST * image


def _back_pool(
    node: MaxPool, rows: Coefficients, lines: PoolLines, shape: Shape
) -> tuple[list[Coefficients], tf.Tensor]:
    intercepts = (rows.unfold(part) for part in (lines.lower_intercept, lines.upper_intercept))
    constant = kernels.by_sign_sum(rows.values, *intercepts)
    total = (_apart if node.window == node.strides else _overlapping)(node, rows, lines)
    if rows.patches is not None:
        pads = (node.padding[0][0], node.padding[1][0])
        patches: Patches | None = rows.patches.before(Window(node.strides, node.window, pads))
    else:
        patches = None
        (top, _), (left, _) = node.padding
        unread = [shape[axis] - total.shape[axis + 1] + (top, left)[axis] for axis in (0, 1)]
        total = pad_or_crop(total, ((-top, unread[0]), (-left, unread[1])))
    groups = group_count(rows) if rows.patches is not None or rows.owner is not None else rows.values.shape[1]
    samples = -1 if rows.owner is None else 1
    values = tf.reshape(total, [samples, groups, rows.values.shape[2], int(np.prod(total.shape[1:]))])
    return [replace(rows, values=values, shape=shape, patches=patches, zero_outside=True)], constant


def _apart(node: MaxPool, rows: Coefficients, lines: PoolLines) -> tf.Tensor:
    """Rows over pooled values as rows over the entries of windows that neither overlap nor leave gaps.

    Returns:
        ``[rows of all samples and groups, height, width, channels]``, of the pixels that the windows read.
    """
    (height, width), channels = node.window, node.shape[2]
    size = node.shape[:2] if rows.patches is None else rows.patches.window
    read = (node.shape[0] * height, node.shape[1] * width, channels)
    larger = None if rows.patches is None else rows.patches.before(Window(node.strides, node.window, (0, 0)))
    entries = replace(rows, shape=read, patches=larger)

    def arranged(weights: tf.Tensor) -> tf.Tensor:
        image = tf.reshape(weights, [-1, *node.shape[:2], height, width, channels])
        found = entries.unfold(tf.reshape(tf.transpose(image, [0, 1, 3, 2, 4, 5]), [-1, *read]))
        lead = [-1 if n is None else n for n in found.shape[:3]]
        return tf.reshape(found, [*lead, size[0], height, size[1], width, channels])

    lead = [-1 if n is None else n for n in rows.values.shape[:3]]
    values = tf.reshape(rows.values, [*lead, size[0], 1, size[1], 1, channels])
    found = kernels.by_sign_windows(values, arranged(lines.lower_weights), arranged(lines.upper_weights))
    return tf.reshape(found, [-1, size[0] * height, size[1] * width, channels])


def _overlapping(node: MaxPool, rows: Coefficients, lines: PoolLines) -> tf.Tensor:
    """The same of any windows, entry by entry."""
    size = node.shape[:2] if rows.patches is None else rows.patches.window
    total = None
    for entry in range(node.window[0] * node.window[1]):
        below, above = (rows.unfold(part[:, :, :, entry, :]) for part in (lines.lower_weights, lines.upper_weights))
        image = tf.reshape(kernels.by_sign(rows.values, below, above), [-1, *size, node.shape[2]])
        image = insert_zeros(image, node.strides)
        row, column = divmod(entry, node.window[1])
        rest = (node.window[0] - 1 - row, node.window[1] - 1 - column)
        placed = pad_or_crop(image, ((row, rest[0]), (column, rest[1])))
        total = placed if total is None else total + placed
    return total


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


def group_count(rows: Coefficients) -> int | tf.Tensor:
    if rows.owner is not None:
        return rows.owner.shape[0] if rows.owner.shape[0] is not None else tf.shape(rows.owner)[0]
    return 1 if rows.patches is None else rows.patches.positions
