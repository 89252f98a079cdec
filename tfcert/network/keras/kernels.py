"""Converters of the operations behind layers with kernels and windows: ``ops.conv``, ``ops.max_pool``, and so on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfcert.network.builder import Builder, Tensor
from tfcert.network.keras.graph import converter
from tfcert.network.keras.pools import average_pooling, max_pooling
from tfcert.network.keras.private import nn_operations
from tfcert.network.keras.windows import conv_map, on_images, sides
from tfcert.network.linear import Source


def settings(operation: Any, x: Tensor, names: tuple[str, ...]) -> SimpleNamespace:
    """The options of an operation as a layer has them: one number a dimension, nothing left to a default."""
    rank = len(x.shape) - 1
    found = {"data_format": operation.data_format or keras.config.image_data_format()}
    for name in names:
        value = getattr(operation, name)
        found[name] = (value,) * rank if isinstance(value, int | np.integer) else value
    return SimpleNamespace(padding=getattr(operation, "padding", "valid"), **found)


def split(builder: Builder, inputs: list[Any]) -> tuple[Tensor, Source, tuple[int, ...]]:
    """The tensor, and the kernel ``[*window, n, m]`` with sequences lifted to images."""
    x, kernel = inputs
    if not isinstance(x, Tensor) or isinstance(kernel, Tensor):
        raise builder.refuse("convolves with a tensor; the kernel must be a constant")
    read, shape = builder.constant(kernel), tuple(np.shape(kernel))
    lifted = (*sides(shape[:-2]), *shape[-2:])
    return x, lambda: tf.reshape(read(), lifted), lifted


@converter(nn_operations.Conv, constants=True)
def convolution(operation: Any, builder: Builder, inputs: list[Any]) -> Tensor:
    x, kernel, shape = split(builder, inputs)
    options = settings(operation, x, ("strides", "dilation_rate"))
    options.kernel_size = shape[:-2]

    def compute(image: Tensor) -> Tensor:
        return builder.linear(image, conv_map(options, builder, image.shape, kernel, shape, 1))

    return on_images(options, builder, x, compute)


@converter(nn_operations.DepthwiseConv, constants=True)
def depthwise(operation: Any, builder: Builder, inputs: list[Any]) -> Tensor:
    x, kernel, shape = split(builder, inputs)
    options = settings(operation, x, ("strides", "dilation_rate"))
    options.kernel_size = shape[:-2]
    grouped = (*shape[:-2], 1, shape[-2] * shape[-1])

    def compute(image: Tensor) -> Tensor:
        apart = lambda: tf.reshape(kernel(), grouped)  # noqa: E731
        return builder.linear(image, conv_map(options, builder, image.shape, apart, grouped, shape[-2]))

    return on_images(options, builder, x, compute)


@converter(nn_operations.MaxPool, nn_operations.AveragePool)
def pooling(operation: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    options = settings(operation, inputs[0], ("pool_size", "strides"))
    options.strides = options.strides or options.pool_size
    pool = max_pooling if isinstance(operation, nn_operations.MaxPool) else average_pooling
    return pool(options, builder, inputs)
