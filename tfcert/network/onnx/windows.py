"""Operators of ONNX whose windows move over sequences, images and volumes; channels come first there."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from tfcert.network.builder import Tensor
from tfcert.network.keras.pools import average, box_filter, largest
from tfcert.network.keras.windows import kernel_map
from tfcert.network.linear import Pads
from tfcert.network.onnx.values import OnnxNode, Varying, operator
from tfcert.network.volumes import TransposedMap


def _on_images(call: OnnxNode, x: Varying, compute: Callable[[Tensor], Tensor]) -> Varying:
    """What ``compute`` makes of the tensor with its channels last, sequences as images of one row."""
    if len(x.shape) not in (3, 4, 5) or x.shape[0] != 1:
        raise call.refuse(
            f"moves over a tensor of shape {x.shape}; [batch, channels, ..] of one to three dimensions fit"
        )
    rank, builder = len(x.shape) - 1, call.builder
    last = builder.transpose(x.tensor, (*range(1, rank), 0), part="channels_last")
    if rank == 2:
        last = builder.reshape(last, (1, *last.shape), part="lift")
    found = compute(last)
    if rank == 2:
        found = builder.reshape(found, found.shape[1:], part="lower")
    found = builder.transpose(found, (rank - 1, *range(rank - 1)), part="channels_first")
    return Varying(found, (1, *found.shape))


def _lifted(numbers: Sequence[int], fill: int) -> tuple[int, ...]:
    """A setting of one number a dimension; of a sequence that of an image of one row."""
    return (fill, *numbers) if len(numbers) == 1 else tuple(numbers)


class _Window:
    """Window, strides, dilation and padding of a node, one number a dimension of the image."""

    def __init__(
        self, call: OnnxNode, size: Sequence[int], window: Sequence[int], transposed: Sequence[int] | None = None
    ):
        """``transposed`` is what a transposed convolution adds to its output behind; None of anything else."""
        rank = len(size)
        given = call.get("kernel_shape")
        if given is not None and list(given) != list(window):
            raise call.refuse(f"says the window {given}, but its kernel is {list(window)}")
        self.window = _lifted(window, 1)
        self.strides = _lifted(call.get("strides") or [1] * rank, 1)
        self.dilation = _lifted(call.get("dilations") or [1] * rank, 1)
        self.pads = (
            self._padding(call, size, rank) if transposed is None else self._padding_of_output(call, size, transposed)
        )
        if rank == 1:
            self.pads = ((0, 0), *self.pads)

    def _padding(self, call: OnnxNode, size: Sequence[int], rank: int) -> Pads:
        auto, given = call.get("auto_pad", "NOTSET"), call.get("pads")
        if auto == "NOTSET":
            flat = given or [0] * (2 * rank)
            return tuple((int(flat[i]), int(flat[rank + i])) for i in range(rank))
        if given is not None and any(given):
            raise call.refuse(f"has auto_pad={auto!r} and pads, of which one is wrong")
        if auto == "VALID":
            return ((0, 0),) * rank
        if auto not in ("SAME_UPPER", "SAME_LOWER"):
            raise call.refuse(f"has auto_pad={auto!r}, which is not ONNX's")
        found = []
        own = (self.window[-rank:], self.strides[-rank:], self.dilation[-rank:])
        for length, window, stride, apart in zip(size, *own, strict=True):
            spare = max((-(-length // stride) - 1) * stride + (window - 1) * apart + 1 - length, 0)
            less, more = spare // 2, -(-spare // 2)
            found.append((less, more) if auto == "SAME_UPPER" else (more, less))
        return tuple(found)

    def _padding_of_output(self, call: OnnxNode, size: Sequence[int], more: Sequence[int]) -> Pads:
        """What a transposed convolution cuts off, said outright or by the size of what is left."""
        rank, auto, wanted = len(size), call.get("auto_pad", "NOTSET"), call.get("output_shape")
        if wanted is None and auto in ("NOTSET", "VALID"):
            return self._padding(call, size, rank)
        if auto not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER") or any(call.get("pads") or []):
            raise call.refuse(f"has auto_pad={auto!r}, output_shape or pads of which one is wrong")
        own = (self.window[-rank:], self.strides[-rank:], self.dilation[-rank:], more)
        found = []
        for place, (length, window, stride, apart, extra) in enumerate(zip(size, *own, strict=True)):
            left = length * stride if wanted is None else int(wanted[len(wanted) - rank + place])
            spare = stride * (length - 1) + extra + (window - 1) * apart + 1 - left
            if spare < 0:
                raise call.refuse(f"makes {left} numbers of {length}, more than its kernel reaches")
            less, rest = spare // 2, -(-spare // 2)
            found.append((less, rest) if auto == "SAME_UPPER" else (rest, less))
        return tuple(found)


@operator("Conv")
def _conv(call: OnnxNode) -> Varying:
    x, weights = call.value(), call.numbers(1)
    groups = int(call.get("group", 1))
    seen = _Window(call, x.shape[2:], weights.shape[2:])
    kernel = _kernel(weights, (*range(2, weights.ndim), 1, 0))
    bias = None if call.given(2) is None else call.constant(call.numbers(2))

    def compute(image: Tensor) -> Tensor:
        made = kernel_map(
            call.constant(kernel), kernel.shape, image.shape,
            strides=seen.strides, padding=seen.pads, dilation=seen.dilation, groups=groups,
        )  # fmt: skip
        return call.builder.linear(image, made, bias)

    if weights.shape[1] * groups != x.shape[1]:
        raise call.refuse(f"has {groups} groups of {weights.shape[1]} channels for {x.shape[1]}")
    return _on_images(call, x, compute)


def _kernel(weights: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """A kernel ``[*window, in, out]``, of a sequence as of an image of one row."""
    kernel = np.ascontiguousarray(weights.transpose(order))
    return kernel[None] if kernel.ndim == 3 else kernel


@operator("ConvTranspose")
def _conv_transpose(call: OnnxNode) -> Varying:
    x, weights = call.value(), call.numbers(1)
    rank, groups = weights.ndim - 2, int(call.get("group", 1))
    more = _lifted(call.get("output_padding") or [0] * rank, 0)
    seen = _Window(call, x.shape[2:], weights.shape[2:], transposed=more[-rank:])
    kernel = _kernel(weights, (*range(2, weights.ndim), 1, 0))
    bias = None if call.given(2) is None else call.constant(call.numbers(2))
    if weights.shape[0] != x.shape[1] or x.shape[1] % groups:
        raise call.refuse(f"has {groups} groups, and a kernel of {weights.shape[0]} channels for {x.shape[1]}")

    def compute(image: Tensor) -> Tensor:
        size = [
            stride * (length - 1) + extra + (window - 1) * apart + 1 - sum(pads)
            for length, stride, extra, window, apart, pads in zip(
                image.shape, seen.strides, more, seen.window, seen.dilation, seen.pads, strict=False
            )
        ]
        read = kernel_map(
            call.constant(kernel), kernel.shape, (*size, weights.shape[1] * groups),
            strides=seen.strides, padding=seen.pads, dilation=seen.dilation, groups=groups,
        )  # fmt: skip
        each = zip(seen.window, seen.strides, seen.dilation, strict=True)
        overlap = math.prod(-(-((n - 1) * d + 1) // (s * d)) for n, s, d in each)
        return call.builder.linear(image, TransposedMap(read, overlap * image.shape[-1] // groups), bias)

    return _on_images(call, x, compute)


@operator("MaxPool", "AveragePool")
def _pool(call: OnnxNode) -> Varying:
    x, window = call.value(), call.get("kernel_shape")
    call.get("storage_order")
    counts, ceil = bool(call.get("count_include_pad", 0)), bool(call.get("ceil_mode", 0))
    seen = _Window(call, x.shape[2:], window)
    if set(seen.dilation) != {1}:
        raise call.refuse(f"has dilations {seen.dilation}; windows without holes are supported")
    size = _lifted(x.shape[2:], 1)
    pads = tuple(
        _rounded_up(*part) if ceil else part[3] for part in zip(size, seen.window, seen.strides, seen.pads, strict=True)
    )
    if call.kind == "AveragePool" and counts and pads != seen.pads:
        raise call.refuse("rounds its size up and counts what it pads; one of both is supported")

    def compute(image: Tensor) -> Tensor:
        if call.kind == "MaxPool":
            return largest(call.builder, image, seen.window, seen.strides, pads)
        if counts:
            options = {"strides": seen.strides, "padding": pads}
            summing = box_filter(call.builder, image.shape, seen.window, 1 / math.prod(seen.window), **options)
            return call.builder.linear(image, summing)
        return average(call.builder, image, seen.window, seen.strides, pads)

    return _on_images(call, x, compute)


def _rounded_up(length: int, window: int, stride: int, pads: tuple[int, int]) -> tuple[int, int]:
    """The padding with which the last window is whole; one that would begin in the padding behind is left out."""
    count = -(-(length + sum(pads) - window) // stride) + 1
    if (count - 1) * stride >= length + pads[0]:
        count -= 1
    return pads[0], max(pads[1], (count - 1) * stride + window - length - pads[0])


@operator("GlobalAveragePool", "GlobalMaxPool")
def _global_pool(call: OnnxNode) -> Varying:
    x = call.value()
    tensor, axes, _ = call.along(x, list(range(2, len(x.shape))))
    reduce = call.builder.mean if call.kind == "GlobalAveragePool" else call.builder.reduce_max
    return call.held(reduce(tensor, axes, True), (*x.shape[:2], *[1] * (len(x.shape) - 2)))
