"""Converters of Keras layers with kernels that move over sequences, images and volumes, and of padding.

Sequences ``[length, channels]`` are lifted to images ``[1, length, channels]``, so that one kind of convolution
serves both; channels that come first are moved to the end and back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
from keras import layers

from tfcert.network.builder import Builder, Tensor
from tfcert.network.keras.activations import apply_activation
from tfcert.network.keras.graph import converter
from tfcert.network.keras.layers import bias_of, refuse_lora
from tfcert.network.linear import ConvMap, Convolution, Pads, Shape, Source
from tfcert.network.moves import PadMap
from tfcert.network.volumes import TransposedMap, VolumeMap

Sides = tuple[int, ...]


def sides(value: Any, fill: int = 1) -> Sides:
    """A setting of one number a dimension; of a sequence it is that of an image of one row."""
    found = tuple(int(n) for n in value)
    return (fill, *found) if len(found) == 1 else found


def channels_last(layer: Any, builder: Builder, x: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
    """What ``compute`` makes of a tensor with its channels moved to the end, moved back where the layer has them first.

    What is left of a global pooling has channels alone, which stay.
    """
    if getattr(layer, "data_format", "channels_last") != "channels_first":
        return compute(x)
    rank = len(x.shape)
    y = compute(builder.transpose(x, (*range(1, rank), 0), part="channels_last"))
    if len(y.shape) < rank:
        return y
    return builder.transpose(y, (rank - 1, *range(rank - 1)), part="channels_first")


def on_images(layer: Any, builder: Builder, x: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
    """The same, with sequences as images of one row."""

    def lifted(x: Tensor) -> Tensor:
        if len(x.shape) > 2:
            return compute(x)
        y = compute(builder.reshape(x, (1, *x.shape), part="lift"))
        return builder.reshape(y, y.shape[1:], part="lower")

    return channels_last(layer, builder, x, lifted)


def pads_of(
    padding: str, size: Sequence[int], window: Sides, strides: Sides, dilation: Sides, builder: Builder
) -> Pads:
    """The explicit padding that Keras's ``padding`` stands for (TensorFlow puts the odd one after)."""
    reach = [(length - 1) * apart + 1 for length, apart in zip(window, dilation, strict=True)]
    match padding:
        case "valid":
            return ((0, 0),) * len(window)
        case "causal":
            return (*[(0, 0)] * (len(window) - 1), (reach[-1] - 1, 0))
        case "same":
            total = [
                max((-(-length // stride) - 1) * stride + read - length, 0)
                for length, stride, read in zip(size, strides, reach, strict=True)
            ]
            return tuple((spare // 2, -(-spare // 2)) for spare in total)
    raise builder.refuse(f"has padding={padding!r}; valid, same and (in one dimension) causal are supported")


def kernel_map(kernel: Source, kernel_shape: Shape, shape: Shape, **options: Any) -> Convolution:
    """The convolution of an image, or of a volume, with a kernel."""
    kind = ConvMap if len(shape) == 3 else VolumeMap
    return kind(kernel, kernel_shape, shape, **options)


def conv_map(
    layer: Any, builder: Builder, shape: Shape, kernel: Source, kernel_shape: Shape, groups: int
) -> Convolution:
    """The convolution of a layer's strides, padding and dilation, with the given kernel."""
    window, strides, dilation = sides(layer.kernel_size), sides(layer.strides), sides(layer.dilation_rate)
    padding = pads_of(layer.padding, shape[:-1], window, strides, dilation, builder)
    options = {"strides": strides, "padding": padding, "dilation": dilation, "groups": groups}
    return kernel_map(kernel, kernel_shape, shape, **options)


def reader(layer: Any, variable: str, shape: Shape) -> Source:
    """Reads a kernel in another shape."""
    return lambda: tf.reshape(tf.convert_to_tensor(getattr(layer, variable)), shape)


@converter(layers.Conv1D, layers.Conv2D, layers.Conv3D)
def convolution(layer: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    refuse_lora(layer, builder)

    def compute(image: Tensor) -> Tensor:
        shape = (*sides(layer.kernel_size), image.shape[-1] // layer.groups, layer.filters)
        linear = conv_map(layer, builder, image.shape, reader(layer, "kernel", shape), shape, layer.groups)
        return builder.linear(image, linear, bias_of(layer))

    return apply_activation(layer.activation, builder, on_images(layer, builder, inputs[0], compute))


@converter(layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
def transposed_convolution(layer: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    refuse_lora(layer, builder)
    if getattr(layer, "groups", 1) != 1:
        raise builder.refuse(f"has groups={layer.groups}; transposed convolutions of one group are supported")
    output = layer.compute_output_shape((1, *inputs[0].shape))[1:]

    def compute(image: Tensor) -> Tensor:
        shape = (*sides(layer.kernel_size), layer.filters, image.shape[-1])
        linear = transposed_map(layer, image.shape, reader(layer, "kernel", shape), shape, output)
        return builder.linear(image, linear, bias_of(layer))

    return apply_activation(layer.activation, builder, on_images(layer, builder, inputs[0], compute))


def transposed_map(layer: Any, shape: Shape, kernel: Source, kernel_shape: Shape, output: Shape) -> TransposedMap:
    """The transpose of the convolution that makes the input's shape of the output's (as TensorFlow defines it).

    Args:
        layer: what holds strides, padding, dilation and the place of the channels.
        shape: the input's, channels last, lifted.
        kernel: ``[*window, out channels, in channels]``.
        kernel_shape: its shape, lifted.
        output: the output's shape as Keras has it.
    """
    window, strides, dilation = kernel_shape[:-2], sides(layer.strides), sides(layer.dilation_rate)
    size = output[1:] if layer.data_format == "channels_first" else output[:-1]
    written = (*sides(size), kernel_shape[-2])
    padding = _transposed_pads(layer.padding, shape, written, (window, strides, dilation))
    read = kernel_map(kernel, kernel_shape, written, strides=strides, padding=padding, dilation=dilation)
    overlap = (-(-((n - 1) * d + 1) // (s * d)) for n, s, d in zip(window, strides, dilation, strict=True))
    return TransposedMap(read, math.prod(overlap) * shape[-1])


def _transposed_pads(padding: str, shape: Shape, written: Shape, steps: tuple[Sides, Sides, Sides]) -> Pads:
    """The padding of the convolution that a transposed one belongs to: of its output, so that its grid is the input."""
    total = [
        max((grid - 1) * stride + (length - 1) * apart + 1 - size, 0) if padding == "same" else 0
        for grid, size, length, stride, apart in zip(shape[:-1], written[:-1], *steps, strict=True)
    ]
    return tuple((spare // 2, -(-spare // 2)) for spare in total)


def depthwise_map(layer: Any, builder: Builder, shape: Shape, variable: str) -> Convolution:
    """The depthwise convolution of a layer, each channel a group of its own."""
    channels = shape[-1]
    kernel_shape = (*sides(layer.kernel_size), 1, channels * layer.depth_multiplier)
    return conv_map(layer, builder, shape, reader(layer, variable, kernel_shape), kernel_shape, channels)


@converter(layers.DepthwiseConv1D, layers.DepthwiseConv2D)
def depthwise(layer: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    def compute(image: Tensor) -> Tensor:
        return builder.linear(image, depthwise_map(layer, builder, image.shape, "kernel"), bias_of(layer))

    return apply_activation(layer.activation, builder, on_images(layer, builder, inputs[0], compute))


@converter(layers.SeparableConv1D, layers.SeparableConv2D)
def separable(layer: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    def compute(image: Tensor) -> Tensor:
        first = depthwise_map(layer, builder, image.shape, "depthwise_kernel")
        middle = builder.linear(image, first, part="depthwise")
        shape = (1, 1, middle.shape[2], layer.filters)
        pointwise = ConvMap(reader(layer, "pointwise_kernel", shape), shape, middle.shape)
        return builder.linear(middle, pointwise, bias_of(layer))

    return apply_activation(layer.activation, builder, on_images(layer, builder, inputs[0], compute))


@converter(layers.ZeroPadding1D, layers.ZeroPadding2D, layers.ZeroPadding3D)
def zero_padding(layer: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    return channels_last(layer, builder, inputs[0], lambda x: pad(builder, x, _each_end(layer.padding), 1))


@converter(layers.Cropping1D, layers.Cropping2D, layers.Cropping3D)
def cropping(layer: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    return channels_last(layer, builder, inputs[0], lambda x: pad(builder, x, _each_end(layer.cropping), -1))


def _each_end(amounts: Any) -> Any:
    """Amounts before and after for each dimension: those of sequences are one pair."""
    return amounts if isinstance(amounts[0], Sequence) else (amounts,)


def pad(builder: Builder, x: Tensor, amounts: Any, sign: int) -> Tensor:
    """Pads (sign 1) or crops (sign -1) by the amounts before and after, for each dimension but the channels."""
    padding = tuple((sign * int(before), sign * int(after)) for before, after in amounts)
    if not any(map(any, padding)):
        return x
    return builder.linear(x, PadMap(x.shape, padding))
