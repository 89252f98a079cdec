"""Backward propagation of linear bounds (the CROWN family).

Rows of linear functions of one node are carried backward through the graph until they are functions of the input (or
of values whose interval is known), where their least value is computed. Only lower bounds are computed: the upper bound
of a row is minus the lower bound of its negative (Zhang et al. 2018, section 3.2, in matrix form).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfcert.activations import Lines
from tfcert.network.graph import Add, Concatenate, Elementwise, Input, Linear, MaxPool, Multivariate, Network, Node
from tfcert.network.linear import ConvMap, LinearMap, Shape, Window, insert_zeros, pad_or_crop
from tfcert.propagation import kernels
from tfcert.propagation.affine import AffinePart, Factor, affine_nodes, affine_part
from tfcert.propagation.coefficients import Coefficients, Patches, carried
from tfcert.propagation.concretize import least_change
from tfcert.propagation.enclosures import TensorInterval
from tfcert.propagation.errors import (
    Errors,
    apart,
    charged,
    dotted,
    lowered,
    readers,
    share_of_sum,
    summed,
)
from tfcert.propagation.folding import (
    absorbed,
    only_reader,
    over_activation,
    scaled_convolution,
)
from tfcert.propagation.multivariate import ChosenStep, MultivariatePlanes
from tfcert.propagation.pooling import PoolLines, pooled_apart
from tfcert.propagation.ranges import errors_of
from tfcert.roundoff import Rounding
from tfcert.sets.region import Region

NodeLines = Lines | PoolLines | MultivariatePlanes
"""What relaxes a nonlinear node."""
Stop = Callable[[Coefficients], tuple[Coefficients | None, tf.Tensor]]


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


@dataclass(frozen=True)
class Relaxed:
    """Knowledge of the nodes before its target that a backward pass may use.

    Attributes:
        lines: of each nonlinear node that the pass goes through, or the step through it.
        stops: what replaces a node, not an affine one, at which the pass ends: a function from rows over the node to
            rows over the input (or None) and the constant ``[samples, groups, rows]``, a lower bound of the rest.
        added: linear terms ``[samples, *shape]`` over nodes, which every row gains there (multipliers of constraints).
        affine: the network's affine part over the region; None for it to be computed for this pass.
        errors: of a rounded network; None for them to be computed for this pass, of nodes with these ``bounds``.
        bounds: ranges of nodes, as far as they are known.
    """

    lines: Mapping[int, NodeLines | Step | ChosenStep]
    stops: Mapping[int, Stop] = field(default_factory=dict)
    added: Mapping[int, tf.Tensor] = field(default_factory=dict)
    affine: AffinePart | None = None
    errors: Errors | None = None
    bounds: Mapping[int, TensorInterval] = field(default_factory=dict)

    @property
    def fixed(self) -> frozenset[int]:
        """The nodes that keep their own step: something happens there."""
        return frozenset(self.stops) | frozenset(self.added)


def linear_lower_bounds(
    network: Network, target: int, rows: Coefficients, relaxed: Relaxed, region: Region
) -> tf.Tensor:
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
    biased_lines: set[int | None] = set()  # nodes whose bias is in the lines of the activation after them
    paid: set[int] = set()  # nodes whose errors are in the lines of the activation after them
    rounding, errors = network.rounding, relaxed.errors
    if errors is None:
        errors = errors_of(network, region, relaxed.bounds, target)
    free = frozenset(only_reader(network)) - relaxed.fixed
    affine = affine_nodes(network)  # rows over these are functions of how far they are from their values in the middle
    part = functools.cache(lambda: relaxed.affine or affine_part(network, region))

    def middle(index: int) -> tf.Tensor | None:
        return part().values[index] if index in affine else None

    constants: list[tf.Tensor] = []  # [samples or 1, groups or 1, rows] each

    def send(source: int, coefficients: Coefficients) -> None:
        if source not in waiting:
            waiting[source] = coefficients
            return
        waiting[source] = total = waiting[source].plus(coefficients)
        if errors is not None and (source == 0 or readers(network)[source] > 2):
            # Sums on the way may be larger than the last one, which is what the node's own errors are charged for.
            constants.append(-charged(total, 2.0 * errors.rounding.own * errors.sizes[source], errors.rounding))

    if target in affine:
        constants.append(dotted(rows, part().values[target], rounding))
    for index in range(target, -1, -1):
        if index not in waiting:
            continue
        node, here = network.nodes[index], waiting.pop(index)
        if errors is not None and index in errors.vectors and index not in paid:
            constants.append(-charged(here, errors.vectors[index], errors.rounding))
        if index in relaxed.added:
            size = int(np.prod(node.shape))
            term = Coefficients(tf.reshape(relaxed.added[index], [-1, 1, 1, size]), node.shape)
            here = here.plus(term)
            if errors is not None:  # the node's errors of the term, and the rounding of the sum
                if index in errors.vectors:
                    constants.append(-charged(term, errors.vectors[index], errors.rounding))
                constants.append(-charged(here, 4.0 * errors.rounding.own * errors.sizes[index], errors.rounding))
            if index in affine:
                constants.append(dotted(term, part().values[index], rounding))
        if index in relaxed.stops:
            over_input, constant = relaxed.stops[index](here)
            constants.append(constant)
            if over_input is not None:
                constants.append(dotted(over_input, part().values[0], rounding))
                send(0, over_input)
            continue
        if isinstance(node, Input):
            constants.append(least_change(here, region, rounding))
            continue
        if index in affine and not waiting and not any(i < index for i in relaxed.fixed):
            turned = _turned(here, index, part().factor)
            if turned is not None:
                constants.append(least_change(turned, region, rounding))
                constants += lost_by_turning(here, part().factor, region, rounding)
                continue
        if isinstance(node, Linear):
            whole = scaled_convolution(network, index, free)
            if errors is not None and whole is not node:
                scale = tf.abs(node.map.diagonal())
                constants.append(-charged(here, scale * errors.vectors[node.inputs[0]], errors.rounding))
            node = whole
        sources, lines = node.inputs, None
        if index in relaxed.lines:
            lines, sources, biased = _folded(network, index, relaxed, free, middle, errors)
            biased_lines.add(biased)
            if isinstance(lines, Lines) or (isinstance(lines, PoolLines) and sources != node.inputs):
                paid.update(i for i in sources if i in free)
            if errors is not None and isinstance(lines, Lines | PoolLines):
                share = share_of_sum(here.values.shape[3], errors.rounding)
                lines = apart(lines, share) if isinstance(lines, Lines) else pooled_apart(lines, share)
        shapes = [network.nodes[i].shape for i in sources]
        sent, constant = _back(node, here, lines, shapes, with_bias=index not in biased_lines | affine)
        if constant is not None:
            constants.append(constant)
        for source, coefficients in zip(sources, sent, strict=True):
            # Lines of an activation, and steps through it, have what the middle adds in them.
            if (
                source in affine
                and source in node.inputs
                and index not in affine
                and not isinstance(lines, Lines | Step)
            ):
                constants.append(dotted(coefficients, part().values[source], rounding))
            send(source, coefficients)
    return _flat(summed(constants, errors), _group_count(rows), rows.values.shape[2])


def _turned(rows: Coefficients, index: int, factor: Factor | None) -> Coefficients | None:
    """Rows over an affine node as rows over as many inputs of a turned ball, where these are as long and fewer."""
    if factor is None or factor.node != index or rows.values.shape[2] < rows.values.shape[3]:
        return None  # few rows do not pay for the factor
    lead = [-1 if n is None else n for n in rows.values.shape[:3]]
    flat = tf.matmul(tf.reshape(rows.values, [-1, rows.values.shape[3]]), factor.matrix)
    return replace(rows, values=tf.reshape(flat, [*lead, flat.shape[1]]))


def lost_by_turning(
    rows: Coefficients, factor: Factor | None, region: Region, rounding: Rounding | None
) -> list[tf.Tensor]:
    """What rounding may take from the bound of rows that were turned."""
    if factor is None or factor.lost is None or rounding is None:
        return []
    eps = region.eps[:, None] * (1.0 + 4.0 * rounding.own)
    return [-charged(rows, eps * factor.lost, rounding), tf.reshape(-factor.flushed * tf.reduce_max(eps), [1, 1, 1])]


def before_linear(
    network: Network, target: int, rows: Coefficients, errors: Errors | None = None
) -> tuple[int, Coefficients, tf.Tensor]:
    """Rows over a node as rows over the first node before it that is not linear, and what they gain on the way.

    ``errors``: of a rounded network, of which what is gained is a lower bound.

    Returns:
        That node, the rows, and the constant ``[samples or 1, groups * rows]``.
    """
    groups, count = _group_count(rows), rows.values.shape[2]
    constants = [tf.zeros([1, 1, count], rows.values.dtype)]
    while isinstance(network.nodes[target], Linear):
        node = network.nodes[target]
        if errors is not None and target in errors.vectors:
            constants.append(-charged(rows, errors.vectors[target], errors.rounding))
        (target,) = node.inputs
        (rows,), constant = _back(node, rows, None, [network.nodes[target].shape], with_bias=True)
        constants += [] if constant is None else [constant]
    return target, rows, _flat(summed(constants, errors), groups, count)


def _folded(
    network: Network,
    index: int,
    relaxed: Relaxed,
    free: Collection[int],
    middle: Callable[[int], tf.Tensor | None],
    errors: Errors | None,
) -> tuple[NodeLines | Step | ChosenStep, tuple[int, ...], int | None]:
    """A nonlinear node's lines with what precedes it, and what :func:`absorbed` returns with them."""
    node, lines = network.nodes[index], relaxed.lines[index]
    if isinstance(lines, Step):
        return lines, node.inputs, lines.biased
    if isinstance(lines, Lines):
        lines, before, biased = absorbed(network, index, lines, free, middle, errors)
        return lines, (before,), biased
    if isinstance(node, Multivariate):
        return lines, node.sources, None
    assert isinstance(node, MaxPool) and isinstance(lines, PoolLines)
    source = node.inputs[0]
    inner = relaxed.lines.get(source)
    if not isinstance(inner, Lines) or source not in free:
        return lines, node.inputs, None
    if inner.lower_slope.shape.rank > len(node.shape) + 1:  # they differ by row
        return lines, node.inputs, None
    inner, before, biased = absorbed(network, source, inner, free, middle, errors)
    if errors is not None:
        share = share_of_sum(2 * math.prod(node.window), errors.rounding)
        # Rows over overlapping windows are summed: those of the nodes that are passed by have that in their errors.
        inner = apart(inner if before in free else lowered(inner, share * errors.sizes[before]), share)
    return over_activation(node, lines, inner), (before,), biased


def identity_rows(shape: Shape, dtype: tf.DType, part: slice | None = None) -> Coefficients:
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


def _back(
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
    groups = _group_count(rows) if rows.patches is not None or rows.owner is not None else rows.values.shape[1]
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
