"""Converters of Keras layers with windows: convolutions, pooling and padding.

Sequences ``[length, channels]`` are lifted to images ``[1, length, channels]``, so that one kind of convolution
serves both.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from keras import layers

from tfcert.network.builder import Builder, Tensor
from tfcert.network.keras.activations import apply_activation
from tfcert.network.keras.graph import converter
from tfcert.network.keras.layers import bias_of, refuse_lora
from tfcert.network.linear import ConvMap, Pads, Shape, Source
from tfcert.network.moves import PadMap

Pair = tuple[int, int]


def pair(value: Any, fill: int = 1) -> Pair:
    """A setting of one or two dimensions as two: a sequence is an image of one row."""
    numbers = tuple(int(n) for n in value)
    return (fill, numbers[0]) if len(numbers) == 1 else (numbers[0], numbers[1])


def refuse_channels_first(layer: Any, builder: Builder) -> None:
    if layer.data_format != "channels_last":
        raise builder.refuse(
            f'has data_format={layer.data_format!r}; only "channels_last" is supported: '
            "rebuild the layer so (the weights fit) behind keras.layers.Permute((2, 3, 1))"
        )


def lift(builder: Builder, x: Tensor) -> Tensor:
    """A sequence as an image of one row; an image as it is."""
    return builder.reshape(x, (1, *x.shape), part="lift") if len(x.shape) == 2 else x


def unlift(builder: Builder, y: Tensor, like: Tensor) -> Tensor:
    """Undoes :func:`lift` where ``like`` was a sequence."""
    return builder.reshape(y, y.shape[1:], part="lower") if len(like.shape) == 2 else y


def pads_of(padding: str, size: Pair, window: Pair, strides: Pair, dilation: Pair, builder: Builder) -> Pads:
    """The explicit padding that Keras's ``padding`` stands for (TensorFlow puts the odd one after)."""
    reach = [(window[axis] - 1) * dilation[axis] + 1 for axis in (0, 1)]
    match padding:
        case "valid":
            return ((0, 0), (0, 0))
        case "causal":
            return ((0, 0), (reach[1] - 1, 0))
        case "same":
            total = [
                max((-(-size[axis] // strides[axis]) - 1) * strides[axis] + reach[axis] - size[axis], 0)
                for axis in (0, 1)
            ]
            return ((total[0] // 2, -(-total[0] // 2)), (total[1] // 2, -(-total[1] // 2)))
    raise builder.refuse(f"has padding={padding!r}; valid, same and (in one dimension) causal are supported")


def conv_map(layer: Any, builder: Builder, shape: Shape, kernel: Source, kernel_shape: Shape, groups: int) -> ConvMap:
    """The convolution of a layer's strides, padding and dilation, with the given kernel."""
    window, strides, dilation = pair(layer.kernel_size), pair(layer.strides), pair(layer.dilation_rate)
    padding = pads_of(layer.padding, (shape[0], shape[1]), window, strides, dilation, builder)
    return ConvMap(kernel, kernel_shape, shape, strides=strides, padding=padding, dilation=dilation, groups=groups)


@converter(layers.Conv1D, layers.Conv2D)
def convolution(layer: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    refuse_channels_first(layer, builder)
    refuse_lora(layer, builder)
    image = lift(builder, inputs[0])
    shape = (*pair(layer.kernel_size), image.shape[2] // layer.groups, layer.filters)

    def kernel() -> tf.Tensor:
        return tf.reshape(tf.convert_to_tensor(layer.kernel), shape)

    linear_map = conv_map(layer, builder, image.shape, kernel, shape, layer.groups)
    y = unlift(builder, builder.linear(image, linear_map, bias_of(layer)), inputs[0])
    return apply_activation(layer.activation, builder, y)


def depthwise_map(layer: Any, builder: Builder, shape: Shape, variable: str) -> ConvMap:
    """The depthwise convolution of a layer, each channel a group of its own."""
    channels, multiplier = shape[2], layer.depth_multiplier
    kernel_shape = (*pair(layer.kernel_size), 1, channels * multiplier)

    def kernel() -> tf.Tensor:
        return tf.reshape(tf.convert_to_tensor(getattr(layer, variable)), kernel_shape)

    return conv_map(layer, builder, shape, kernel, kernel_shape, channels)


@converter(layers.DepthwiseConv1D, layers.DepthwiseConv2D)
def depthwise(layer: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    refuse_channels_first(layer, builder)
    image = lift(builder, inputs[0])
    linear_map = depthwise_map(layer, builder, image.shape, "kernel")
    y = unlift(builder, builder.linear(image, linear_map, bias_of(layer)), inputs[0])
    return apply_activation(layer.activation, builder, y)


@converter(layers.SeparableConv1D, layers.SeparableConv2D)
def separable(layer: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    refuse_channels_first(layer, builder)
    image = lift(builder, inputs[0])
    middle = builder.linear(image, depthwise_map(layer, builder, image.shape, "depthwise_kernel"), part="depthwise")
    shape = (1, 1, middle.shape[2], layer.filters)

    def kernel() -> tf.Tensor:
        return tf.reshape(tf.convert_to_tensor(layer.pointwise_kernel), shape)

    y = builder.linear(middle, ConvMap(kernel, shape, middle.shape), bias_of(layer))
    return apply_activation(layer.activation, builder, unlift(builder, y, inputs[0]))


def pooling_window(layer: Any, builder: Builder, shape: Shape) -> tuple[Pair, Pair, Pads]:
    """Window, strides and padding of a pooling layer."""
    refuse_channels_first(layer, builder)
    window, strides = pair(layer.pool_size), pair(layer.strides)
    if min(strides) < 1:
        raise builder.refuse(f"has strides {strides}; they must be at least 1")
    return window, strides, pads_of(layer.padding, (shape[0], shape[1]), window, strides, (1, 1), builder)


@converter(layers.MaxPooling1D, layers.MaxPooling2D)
def max_pooling(layer: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    image = lift(builder, inputs[0])
    window, strides, padding = pooling_window(layer, builder, image.shape)
    return unlift(builder, builder.max_pool(image, window, strides, padding), inputs[0])


def box_filter(builder: Builder, shape: Shape, window: Pair, weight: float, **options: Any) -> ConvMap:
    """Sums each channel over a window, times ``weight``."""
    kernel_shape = (*window, 1, shape[2])
    kernel = builder.constant(np.full(kernel_shape, weight))
    return ConvMap(kernel, kernel_shape, shape, groups=shape[2], **options)


@converter(layers.AveragePooling1D, layers.AveragePooling2D)
def average_pooling(layer: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    image = lift(builder, inputs[0])
    window, strides, padding = pooling_window(layer, builder, image.shape)
    if not any(any(pad) for pad in padding):
        mean = box_filter(builder, image.shape, window, 1 / (window[0] * window[1]), strides=strides)
        return unlift(builder, builder.linear(image, mean), inputs[0])
    total = builder.linear(
        image, box_filter(builder, image.shape, window, 1.0, strides=strides, padding=padding), part="sum"
    )
    rows, columns = (
        _valid_cells(image.shape[axis], total.shape[axis], window[axis], strides[axis], padding[axis][0])
        for axis in (0, 1)
    )
    counts = (rows[:, None] * columns[None, :])[:, :, None]
    return unlift(builder, builder.scale(total, builder.constant(1.0 / counts)), inputs[0])


def _valid_cells(size: int, grid: int, window: int, stride: int, before: int) -> np.ndarray:
    """The number of cells inside the image that each window covers: Keras's average divides by it."""
    start = np.arange(grid) * stride - before
    return np.minimum(start + window, size) - np.maximum(start, 0)


@converter(layers.GlobalMaxPooling1D, layers.GlobalMaxPooling2D)
def global_max_pooling(layer: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    refuse_channels_first(layer, builder)
    image = lift(builder, inputs[0])
    window = (image.shape[0], image.shape[1])
    return flat(layer, builder, builder.max_pool(image, window, window, ((0, 0), (0, 0))), inputs[0])


def flat(layer: Any, builder: Builder, pooled: Tensor, like: Tensor) -> Tensor:
    """The shape that a global pooling of ``like`` leaves: channels, behind axes of length one with ``keepdims``."""
    ones = (1,) * (len(like.shape) - 1) if layer.keepdims else ()
    return builder.reshape(pooled, (*ones, pooled.shape[-1]), part="flat")


@converter(layers.GlobalAveragePooling1D, layers.GlobalAveragePooling2D)
def global_average_pooling(layer: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    refuse_channels_first(layer, builder)
    image = lift(builder, inputs[0])
    height, width, _ = image.shape
    mean = builder.linear(image, box_filter(builder, image.shape, (height, width), 1 / (height * width)))
    return flat(layer, builder, mean, inputs[0])


@converter(layers.ZeroPadding2D)
def zero_padding(layer: layers.ZeroPadding2D, builder: Builder, inputs: list[Tensor]) -> Tensor:
    refuse_channels_first(layer, builder)
    return pad(builder, inputs[0], layer.padding, 1)


@converter(layers.Cropping2D)
def cropping(layer: layers.Cropping2D, builder: Builder, inputs: list[Tensor]) -> Tensor:
    refuse_channels_first(layer, builder)
    return pad(builder, inputs[0], layer.cropping, -1)


def pad(builder: Builder, x: Tensor, amounts: Any, sign: int) -> Tensor:
    """Pads (sign 1) or crops (sign -1) an image by the amounts before and after, for height and width."""
    (top, bottom), (left, right) = [[sign * int(n) for n in amount] for amount in amounts]
    if not any((top, bottom, left, right)):
        return x
    return builder.linear(x, PadMap(x.shape, ((top, bottom), (left, right))))
