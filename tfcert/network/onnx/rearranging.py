"""Operators of ONNX that move numbers, add them up, or leave them as they are."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from tfcert.network.builder import Tensor
from tfcert.network.onnx.model import TYPES
from tfcert.network.onnx.values import Known, OnnxNode, Varying, operator

_REPEATS = (("asymmetric", "floor"), ("half_pixel", "round_prefer_floor"), ("half_pixel", "round_prefer_ceil"))
"""Where a resized image takes its numbers from, and how that is rounded, so that whole factors repeat each number."""


@operator("Identity")
def _identity(call: OnnxNode) -> Varying:
    return call.value()


@operator("Dropout")
def _dropout(call: OnnxNode) -> Varying:
    for name in ("ratio", "seed"):
        call.get(name)
    training = call.given(2)
    if training is not None and bool(call.numbers(2).any()):
        raise call.refuse("drops numbers at random in training mode")
    return call.value()


@operator("Cast")
def _cast(call: OnnxNode) -> Varying:
    call.get("saturate")
    to = TYPES.get(int(call.get("to", 0)))
    if to is None or np.dtype(to) != call.builder.dtype.as_numpy_dtype:
        raise call.refuse(
            f"changes the type of numbers (to ONNX's {call.get('to')}); networks of one type are supported"
        )
    return call.value()


@operator("Shape")
def _shape(call: OnnxNode) -> np.ndarray:
    shape = call.value().shape
    return np.array(shape[call.get("start", 0) : call.get("end")], np.int64)


@operator("Flatten")
def _flatten(call: OnnxNode) -> Varying:
    x = call.value()
    axis = int(call.get("axis", 1))
    axis = len(x.shape) if axis == len(x.shape) else call.axis(axis, len(x.shape))
    return call.held(x.tensor, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))


@operator("Reshape")
def _reshape(call: OnnxNode) -> Varying:
    x, wanted = call.value(), [int(n) for n in call.numbers(1).ravel()]
    if not call.get("allowzero", 0):
        if any(n == 0 and place >= len(x.shape) for place, n in enumerate(wanted)):
            raise call.refuse(f"keeps an axis that a tensor of shape {x.shape} does not have")
        wanted = [x.shape[place] if n == 0 else n for place, n in enumerate(wanted)]
    if wanted.count(-1) == 1:
        known = math.prod(n for n in wanted if n != -1)
        wanted[wanted.index(-1)] = math.prod(x.shape) // known if known else 0
    if math.prod(wanted) != math.prod(x.shape) or min(wanted, default=1) < 1:
        raise call.refuse(f"reshapes {x.shape} to {wanted}, which does not fit (a batch of one)")
    return call.held(x.tensor, wanted)


@operator("Squeeze")
def _squeeze(call: OnnxNode) -> Varying:
    x, axes = call.value(), call.setting("axes", 1)
    gone = [i for i, n in enumerate(x.shape) if n == 1] if axes is None else [call.axis(a, len(x.shape)) for a in axes]
    if any(x.shape[axis] != 1 for axis in gone):
        raise call.refuse(f"drops the axes {gone} of a tensor of shape {x.shape}")
    return call.held(x.tensor, [n for i, n in enumerate(x.shape) if i not in gone])


@operator("Unsqueeze")
def _unsqueeze(call: OnnxNode) -> Varying:
    x, axes = call.value(), call.setting("axes", 1, [])
    rank = len(x.shape) + len(axes)
    new = {call.axis(axis, rank) for axis in axes}
    sizes = iter(x.shape)
    return call.held(x.tensor, [1 if axis in new else next(sizes) for axis in range(rank)])


@operator("Transpose")
def _transpose(call: OnnxNode) -> Varying:
    x = call.value()
    order = [call.axis(axis, len(x.shape)) for axis in call.get("perm", list(range(len(x.shape)))[::-1])]
    shape = [x.shape[axis] for axis in order]
    if order[:1] == [0] and len(x.shape) > 1 and x.shape[0] == 1:
        return Varying(call.builder.transpose(x.tensor, [axis - 1 for axis in order[1:]]), tuple(shape))
    return call.held(call.builder.transpose(call.whole(x), order), shape)


@operator("Expand")
def _expand(call: OnnxNode) -> Varying:
    x = call.value()
    return call.broadcast(x, np.broadcast_shapes(x.shape, tuple(int(n) for n in call.numbers(1).ravel())))


@operator("Slice")
def _slice(call: OnnxNode) -> Varying:
    x = call.value()
    starts, ends = call.setting("starts", 1), call.setting("ends", 2)
    axes, steps = call.setting("axes", 3), call.setting("steps", 4)
    axes = list(range(len(starts))) if axes is None else axes
    for start, end, axis, step in zip(starts, ends, axes, steps or [1] * len(starts), strict=True):
        x = _taken(call, x, axis, _span(start, end, step, x.shape[axis]))
    return x


def _span(start: int, end: int, step: int, size: int) -> np.ndarray:
    """The places that a slice reads: NumPy's, where an end before the first is none."""
    if step < 0 and end < -size:
        return np.arange(size)[start::step]
    return np.arange(size)[start:end:step]


def _taken(call: OnnxNode, x: Varying, axis: int, index: np.ndarray) -> Varying:
    """Slices along an axis: the indices' axes stand in its place."""
    tensor, (place,), _ = call.along(x, [axis])
    axis = call.axis(axis, len(x.shape))
    found = call.builder.take(tensor, np.atleast_1d(index).ravel(), place)
    return call.held(found, (*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]))


@operator("Gather")
def _gather(call: OnnxNode) -> Varying:
    index = call.numbers(1)
    if not np.issubdtype(index.dtype, np.integer):
        raise call.refuse("gathers by numbers that are not whole")
    return _taken(call, call.value(), int(call.get("axis", 0)), index)


@operator("Split")
def _split(call: OnnxNode) -> list[Known]:
    x, axis = call.value(), int(call.get("axis", 0))
    size, sizes, count = x.shape[axis], call.setting("split", 1), int(call.get("num_outputs", call.outputs))
    if sizes is None:
        each = -(-size // count)
        sizes = [min(each, size - first) for first in range(0, size, each)]
    if sum(sizes) != size or len(sizes) != call.outputs or min(sizes) < 1:
        raise call.refuse(f"splits an axis of {size} into {sizes} for {call.outputs} outputs")
    ends = np.cumsum([0, *sizes])
    return [_taken(call, x, axis, np.arange(*pair)) for pair in itertools.pairwise(ends)]


@operator("Concat")
def _concat(call: OnnxNode) -> Varying:
    values = [call.value(place) for place in range(len(call.inputs))]
    rank = len(values[0].shape)
    axis = call.axis(int(call.get("axis", 1)), rank)
    if any(len(v.shape) != rank or v.shape[:axis] != values[0].shape[:axis] for v in values):
        raise call.refuse(f"joins tensors of shapes {[v.shape for v in values]}")
    if any(v.shape[axis + 1 :] != values[0].shape[axis + 1 :] for v in values):
        raise call.refuse(f"joins tensors of shapes {[v.shape for v in values]}")
    parts = [call.along(v, [axis]) for v in values]
    tensors, lead = _one_rank(call, parts, values)
    place = parts[0][1][0] if lead else axis
    found = call.builder.concatenate(tensors, place)
    return call.held(found, (*lead, *found.shape))


def _one_rank(
    call: OnnxNode, parts: Sequence[tuple[Tensor, list[int], tuple[int, ...]]], values: Sequence[Varying]
) -> tuple[list[Tensor], tuple[int, ...]]:
    """The tensors that are joined, all with their first axis or all without."""
    if all(lead for _, _, lead in parts):
        return [tensor for tensor, _, _ in parts], (1,)
    return [call.whole(value) for value in values], ()


@operator("Pad")
def _pad(call: OnnxNode) -> Varying:
    x = call.value()
    amounts = call.setting("pads", 1)
    value = call.given(2)
    filled = float(call.numbers(2).item()) if value is not None else float(call.get("value", 0.0))
    mode = call.get("mode", "constant")
    axes = call.setting("axes", 3) or list(range(len(x.shape)))
    if mode != "constant" or filled != 0:
        raise call.refuse(f"pads by {mode!r} with {filled}; padding by zeros is supported")
    for axis, before, after in zip(axes, amounts[: len(axes)], amounts[len(axes) :], strict=True):
        if before or after:
            size = x.shape[axis]
            places = np.arange(-before, size + after)
            tensor, (place,), lead = call.along(x, [axis])
            found = call.builder.spread(tensor, np.where((places < 0) | (places >= size), -1, places), place)
            x = call.held(found, (*lead, *found.shape))
    return x


@operator("Tile")
def _tile(call: OnnxNode) -> Varying:
    x = call.value()
    repeats = [int(n) for n in call.numbers(1).ravel()]
    if len(repeats) != len(x.shape) or min(repeats, default=1) < 1:
        raise call.refuse(f"repeats a tensor of shape {x.shape} {repeats} times")
    for axis, times in enumerate(repeats):
        if times > 1:
            x = _taken(call, x, axis, np.tile(np.arange(x.shape[axis]), times))
    return x


@operator("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin")
def _reduce(call: OnnxNode) -> Varying:
    x, axes = call.value(), call.setting("axes", 1)
    keep, nothing = bool(call.get("keepdims", 1)), bool(call.get("noop_with_empty_axes", 0))
    if not axes:
        if nothing:
            return x
        axes = list(range(len(x.shape)))
    tensor, places, _ = call.along(x, axes)
    builder = call.builder
    reduce = {"ReduceSum": builder.sum, "ReduceMean": builder.mean, "ReduceMax": builder.reduce_max}
    if call.kind == "ReduceMin":
        minus = call.constant(np.array(-1.0))
        largest = builder.reduce_max(builder.scale(tensor, minus, part="negative"), places, True)
        found = builder.scale(largest, minus, part="back")
    else:
        found = reduce[call.kind](tensor, places, True)
    gone = [call.axis(axis, len(x.shape)) for axis in axes]
    shape = [1 if i in gone else n for i, n in enumerate(x.shape) if keep or i not in gone]
    return call.held(found, shape)


@operator("Upsample", "Resize")
def _resize(call: OnnxNode) -> Varying:
    """Nearest neighbours by whole factors, rounded so that each number stands so many times side by side."""
    x = call.value()
    mode = call.get("coordinate_transformation_mode", "half_pixel" if call.opset >= 11 else "asymmetric")
    rounds = call.get("nearest_mode", "round_prefer_floor" if call.opset >= 11 else "floor")
    if (mode, rounds) not in _REPEATS:
        raise call.refuse(f"resizes by the places {mode!r} rounded by {rounds!r}; {_REPEATS} are supported")
    for name in ("cubic_coeff_a", "exclude_outside", "extrapolation_value", "antialias"):
        call.get(name)
    if call.get("mode", "nearest") != "nearest" or call.get("axes") is not None:
        raise call.refuse(f"resizes by {call.get('mode')!r}; `nearest` along all axes is supported")
    call.get("keep_aspect_ratio_policy")
    scales = call.get("scales")
    if scales is None:
        sized = call.kind == "Resize" and call.opset >= 11 and call.given(3) is not None
        given = call.numbers(1 if call.kind == "Upsample" or call.opset < 11 else 3 if sized else 2)
        scales = given / np.array(x.shape) if sized else given
    if any(scale != int(scale) or scale < 1 for scale in scales) or len(scales) != len(x.shape):
        raise call.refuse(f"resizes by the factors {list(scales)}; whole factors are supported")
    for axis, scale in enumerate(scales):
        if scale != 1:
            x = _taken(call, x, axis, np.arange(x.shape[axis]).repeat(int(scale)))
    return x
