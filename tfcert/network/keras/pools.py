"""Converters of pooling layers, of sequences, images and volumes."""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any

import numpy as np
from keras import layers

from tfcert.network.builder import Builder, Tensor
from tfcert.network.keras.graph import converter
from tfcert.network.keras.windows import Sides, channels_last, kernel_map, on_images, pad, pads_of, sides
from tfcert.network.linear import Convolution, Pads, Shape


def pooling_window(layer: Any, builder: Builder, shape: Shape) -> tuple[Sides, Sides, Pads]:
    """Window, strides and padding of a pooling layer."""
    window, strides = sides(layer.pool_size), sides(layer.strides)
    if min(strides) < 1:
        raise builder.refuse(f"has strides {strides}; they must be at least 1")
    return window, strides, pads_of(layer.padding, shape[:-1], window, strides, (1,) * len(window), builder)


@converter(layers.MaxPooling1D, layers.MaxPooling2D, layers.MaxPooling3D)
def max_pooling(layer: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    def compute(image: Tensor) -> Tensor:
        return largest(builder, image, *pooling_window(layer, builder, image.shape))

    return on_images(layer, builder, inputs[0], compute)


def largest(builder: Builder, x: Tensor, window: Sides, strides: Sides, padding: Pads) -> Tensor:
    """Max pooling of an image or a volume."""
    if len(x.shape) == 3:
        return builder.max_pool(x, (window[0], window[1]), (strides[0], strides[1]), padding)
    if window == strides and not any(map(any, padding)):
        return _largest_blocks(builder, x, window)
    # Windows that overlap: the maximum of each depth first, then that along the depth.
    depth, height, width, channels = x.shape
    images = builder.transpose(x, (1, 2, 0, 3), part="depth_last")
    images = builder.reshape(images, (height, width, depth * channels), part="images")
    pooled = builder.max_pool(images, (window[1], window[2]), (strides[1], strides[2]), padding[1:], part="slices")
    height, width, _ = pooled.shape
    pooled = builder.reshape(pooled, (height, width, depth, channels), part="apart")
    pooled = builder.transpose(pooled, (2, 0, 1, 3), part="depth_first")
    line = builder.reshape(pooled, (depth, 1, height * width * channels), part="line")
    found = builder.max_pool(line, (window[0], 1), (strides[0], 1), (padding[0], (0, 0)), part="depths")
    return builder.reshape(found, (found.shape[0], height, width, channels), part="volume")


def _largest_blocks(builder: Builder, x: Tensor, window: Sides) -> Tensor:
    """Max pooling of a volume by windows side by side."""
    grid = [size // length for size, length in zip(x.shape, window, strict=False)]
    spare = [size - count * length for size, count, length in zip(x.shape, grid, window, strict=False)]
    x = pad(builder, x, [(0, rest) for rest in spare], -1)
    apart = [n for pair in zip(grid, window, strict=True) for n in pair]
    blocks = builder.reshape(x, (*apart, x.shape[3]), part="blocks")
    blocks = builder.transpose(blocks, (0, 2, 4, 1, 3, 5, 6), part="beside")
    line = builder.reshape(blocks, (math.prod(grid), math.prod(window), x.shape[3]), part="line")
    return builder.reshape(builder.reduce_max(line, 1), (*grid, x.shape[3]), part="volume")


def box_filter(builder: Builder, shape: Shape, window: Sides, weight: float, **options: Any) -> Convolution:
    """Sums each channel over a window, times ``weight``."""
    kernel_shape = (*window, 1, shape[-1])
    kernel = builder.constant(np.full(kernel_shape, weight))
    return kernel_map(kernel, kernel_shape, shape, groups=shape[-1], **options)


@converter(layers.AveragePooling1D, layers.AveragePooling2D, layers.AveragePooling3D)
def average_pooling(layer: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    def compute(image: Tensor) -> Tensor:
        return average(builder, image, *pooling_window(layer, builder, image.shape))

    return on_images(layer, builder, inputs[0], compute)


def average(builder: Builder, x: Tensor, window: Sides, strides: Sides, padding: Pads) -> Tensor:
    """Average pooling of an image or a volume; padding does not count."""
    if not any(map(any, padding)):
        return builder.linear(x, box_filter(builder, x.shape, window, 1 / math.prod(window), strides=strides))
    summing = box_filter(builder, x.shape, window, 1.0, strides=strides, padding=padding)
    total = builder.linear(x, summing, part="sum")
    cells = [
        _valid_cells(x.shape[axis], total.shape[axis], window[axis], strides[axis], padding[axis][0])
        for axis in range(len(window))
    ]
    counts = functools.reduce(np.multiply.outer, cells)
    return builder.scale(total, builder.constant(1.0 / counts[..., None]))


def _valid_cells(size: int, grid: int, window: int, stride: int, before: int) -> np.ndarray:
    """The number of cells inside the image that each window covers: Keras's average divides by it."""
    start = np.arange(grid) * stride - before
    return np.minimum(start + window, size) - np.maximum(start, 0)


@converter(layers.GlobalMaxPooling1D, layers.GlobalMaxPooling2D, layers.GlobalMaxPooling3D)
def global_max_pooling(layer: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    return builder.reduce_max(inputs[0], _spatial(layer, inputs[0]), layer.keepdims)


@converter(layers.GlobalAveragePooling1D, layers.GlobalAveragePooling2D, layers.GlobalAveragePooling3D)
def global_average_pooling(layer: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    return builder.mean(inputs[0], _spatial(layer, inputs[0]), layer.keepdims)


def _spatial(layer: Any, x: Tensor) -> range:
    """The axes that are not channels."""
    rank = len(x.shape)
    return range(1, rank) if layer.data_format == "channels_first" else range(rank - 1)


@converter(layers.AdaptiveAveragePooling1D, layers.AdaptiveAveragePooling2D, layers.AdaptiveAveragePooling3D)
def adaptive_average_pooling(layer: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    def compute(x: Tensor) -> Tensor:
        for axis, windows in enumerate(_adaptive_windows(layer, x)):
            matrix = np.zeros((x.shape[axis], len(windows)))
            for place, (first, last) in enumerate(windows):
                matrix[first:last, place] = 1 / (last - first)
            x = builder.along(x, builder.constant(matrix), len(windows), axis, part=f"axis{axis}")
            builder.not_charged(x, "in which order axes are averaged is not known")
        return x

    return channels_last(layer, builder, inputs[0], compute)


@converter(layers.AdaptiveMaxPooling1D, layers.AdaptiveMaxPooling2D, layers.AdaptiveMaxPooling3D)
def adaptive_max_pooling(layer: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    def compute(x: Tensor) -> Tensor:
        ranges = _adaptive_windows(layer, x)
        if any(-(-size // len(windows)) >= size for size, windows in zip(x.shape, ranges, strict=False)):
            raise builder.refuse(
                f"pools {x.shape} to {layer.output_size}, for which Keras asks TensorFlow for windows larger than the "
                "tensor, and that may crash the process; use a global maximum where the output size is 1"
            )
        cells = []
        for windows in itertools.product(*ranges):
            cut = [(first, size - last) for size, (first, last) in zip(x.shape, windows, strict=False)]
            part = pad(builder, x, cut, -1)
            cells.append(builder.reduce_max(part, range(len(ranges)), keepdims=True, part="cell"))
        beside = builder.concatenate(cells, 0)
        return builder.reshape(beside, (*map(len, ranges), x.shape[-1]), part="grid")

    return channels_last(layer, builder, inputs[0], compute)


def _adaptive_windows(layer: Any, x: Tensor) -> list[list[tuple[int, int]]]:
    """The first entry, and the one behind the last, of each window along each axis: they may overlap."""
    return [
        [(place * size // count, -(-(place + 1) * size // count)) for place in range(count)]
        for size, count in zip(x.shape, layer.output_size, strict=False)
    ]
