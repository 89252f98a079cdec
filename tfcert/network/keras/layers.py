"""Converters of Keras layers: dense maps, shapes, normalisation and merging. One small function per layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from tfcert.network.builder import Builder, Tensor
from tfcert.network.contractions import LETTERS, EinsumMap
from tfcert.network.keras.activations import apply_activation
from tfcert.network.keras.graph import converter, find_converter
from tfcert.network.keras.private import convnext
from tfcert.network.linear import DenseMap, LinearMap, Shape, Source


@converter(
    layers.Dropout,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.SpatialDropout3D,
    layers.AlphaDropout,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.ActivityRegularization,
    layers.Identity,
)
def identity(layer: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    return inputs[0]


@converter(convnext.StochasticDepth)
def stochastic_depth(layer: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    return inputs[0]


@converter(convnext.LayerScale)
def layer_scale(layer: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    return builder.scale(inputs[0], builder.constant(layer.gamma))


@converter(layers.SpectralNormalization)
def spectral_normalization(layer: Any, builder: Builder, inputs: list[Tensor]) -> Any:
    """The layer within, whose kernel was divided by its norm when it was trained."""
    return _within(layer.layer, builder, inputs)


@converter(layers.Pipeline)
def pipeline(layer: Any, builder: Builder, inputs: list[Tensor]) -> Any:
    found: Any = inputs
    for part in layer.layers:
        found = _within(part, builder, found if isinstance(found, list) else [found])
    return found


def _within(layer: Any, builder: Builder, inputs: list[Tensor]) -> Any:
    with builder.scope(layer.name, type(layer).__name__):
        return find_converter(layer, builder)(layer, builder, inputs)


def bias_of(layer: Any) -> Source | None:
    return None if layer.bias is None else lambda: tf.convert_to_tensor(layer.bias)


def refuse_lora(layer: Any, builder: Builder) -> None:
    if getattr(layer, "lora_enabled", False):
        raise builder.refuse("has LoRA enabled; merge it first (save the model's weights and load them without)")


@converter(layers.Dense)
def dense(layer: layers.Dense, builder: Builder, inputs: list[Tensor]) -> Tensor:
    refuse_lora(layer, builder)
    x = inputs[0]
    kernel = DenseMap(lambda: tf.convert_to_tensor(layer.kernel), x.shape, layer.units)
    return apply_activation(layer.activation, builder, builder.linear(x, kernel, bias_of(layer)))


@converter(layers.EinsumDense)
def einsum_dense(layer: layers.EinsumDense, builder: Builder, inputs: list[Tensor]) -> Tensor:
    refuse_lora(layer, builder)
    x = inputs[0]
    operands, _, result = layer.equation.replace(" ", "").partition("->")
    left, _, weights = operands.partition(",")
    dots = LETTERS[: len(x.shape) + 1 - len(left.replace("...", ""))].upper()
    left, result = (word.replace("...", dots) for word in (left, result))
    if left[:1] != result[:1] or left[:1] in weights or "." in weights:
        raise builder.refuse(f"computes {layer.equation!r}, which does not leave the batch where it is")
    kernel, shape = (lambda: tf.convert_to_tensor(layer.kernel)), tuple(layer.kernel.shape)
    if left[-1] + result[-1] == weights and left[:-1] == result[:-1]:
        linear: LinearMap = DenseMap(kernel, x.shape, shape[1])
    else:
        try:
            linear = EinsumMap(f"{left[1:]},{weights}->{result[1:]}", kernel, x.shape, shape)
        except ValueError as error:
            raise builder.refuse(f"computes {layer.equation!r}, which cannot be written as a linear map") from error
    return apply_activation(layer.activation, builder, builder.linear(x, linear, bias_of(layer)))


@converter(layers.Flatten)
def flatten(layer: layers.Flatten, builder: Builder, inputs: list[Tensor]) -> Tensor:
    x = inputs[0]
    if layer.data_format == "channels_first" and len(x.shape) > 1:
        x = builder.transpose(x, (*range(1, len(x.shape)), 0), part="channels_last")
    return builder.reshape(x, (int(np.prod(x.shape)),))


@converter(layers.Reshape)
def reshape(layer: layers.Reshape, builder: Builder, inputs: list[Tensor]) -> Tensor:
    return builder.reshape(inputs[0], resolve_shape(layer.target_shape, inputs[0].shape, builder))


def resolve_shape(target: tuple[int, ...], shape: Shape, builder: Builder) -> Shape:
    """``target`` with its -1 worked out."""
    size, known = int(np.prod(shape)), int(np.prod([n for n in target if n != -1]))
    resolved = tuple(size // max(known, 1) if n == -1 else int(n) for n in target)
    if target.count(-1) > 1 or int(np.prod(resolved)) != size:
        raise builder.refuse(f"cannot reshape {shape} to {target}")
    return resolved


@converter(layers.RepeatVector)
def repeat_vector(layer: layers.RepeatVector, builder: Builder, inputs: list[Tensor]) -> Tensor:
    return builder.broadcast(inputs[0], (layer.n, *inputs[0].shape))


@converter(layers.Permute)
def permute(layer: layers.Permute, builder: Builder, inputs: list[Tensor]) -> Tensor:
    return builder.transpose(inputs[0], tuple(axis - 1 for axis in layer.dims))


_STATISTICS: ContextVar[Mapping[int, tuple[Any, Any]]] = ContextVar("statistics", default={})  # noqa: B039


@contextmanager
def batch_statistics(found: Mapping[int, tuple[Any, Any]]) -> Iterator[None]:
    """Within this context batch normalisation uses these means and variances, by the identity of the layer.

    For bounds of a network as it is trained; layers that are not named use their moving statistics, as all do outside.
    """
    token = _STATISTICS.set(found)
    try:
        yield
    finally:
        _STATISTICS.reset(token)


def statistics(layer: layers.BatchNormalization) -> tuple[Any, Any]:
    """The mean and the variance that a layer normalises with."""
    return _STATISTICS.get().get(id(layer), (layer.moving_mean, layer.moving_variance))


@converter(layers.BatchNormalization)
def batch_normalization(layer: layers.BatchNormalization, builder: Builder, inputs: list[Tensor]) -> Tensor:
    x = inputs[0]
    axis = layer.axis[0] if isinstance(layer.axis, list | tuple) and len(layer.axis) == 1 else layer.axis
    if not isinstance(axis, int):
        raise builder.refuse(f"normalises the axes {axis!r}; one axis is supported")
    axis %= len(x.shape) + 1
    if axis == 0:
        raise builder.refuse("normalises along the batch, which mixes samples")
    shape = [x.shape[axis - 1] if i == axis - 1 else 1 for i in range(len(x.shape))]

    def read(variable: Any) -> tf.Tensor:
        return tf.reshape(tf.convert_to_tensor(variable), shape)

    def scale() -> tf.Tensor:
        inverse = tf.math.rsqrt(read(statistics(layer)[1]) + layer.epsilon)
        return inverse * read(layer.gamma) if layer.scale else inverse

    def bias() -> tf.Tensor:
        shift = -read(statistics(layer)[0]) * scale()
        return shift + read(layer.beta) if layer.center else shift

    def size() -> tf.Tensor:
        shift = tf.abs(read(statistics(layer)[0]) * scale())
        return 2.0 * (shift + tf.abs(read(layer.beta)) if layer.center else shift)

    return builder.scale(x, scale, bias, size=size, computed=10)  # of rsqrt 8, of the sum, and of gamma


@converter(layers.Normalization)
def normalization(layer: layers.Normalization, builder: Builder, inputs: list[Tensor]) -> Tensor:
    x = inputs[0]
    if layer.mean is None or layer.mean.shape[0] != 1 or len(layer.mean.shape) != len(x.shape) + 1:
        raise builder.refuse(
            "has statistics that differ along the batch, or none; adapt() it or give mean and variance"
        )

    def deviation() -> tf.Tensor:
        return tf.maximum(tf.sqrt(tf.convert_to_tensor(layer.variance)[0]), keras.config.epsilon())

    def mean() -> tf.Tensor:
        return tf.convert_to_tensor(layer.mean)[0]

    if layer.invert:
        return builder.scale(x, deviation, mean, computed=4)  # of the root
    return builder.scale(x, lambda: 1.0 / deviation(), lambda: -mean() / deviation(), computed=6)


@converter(layers.Rescaling)
def rescaling(layer: layers.Rescaling, builder: Builder, inputs: list[Tensor]) -> Tensor:
    if np.ndim(layer.scale) and keras.config.image_data_format() == "channels_first":
        raise builder.refuse("has a scale per channel while Keras is set to channels_first; set it to channels_last")
    x = inputs[0]
    # Keras casts these through float32, in float64 models too; so does this.
    scale, offset = (keras.ops.cast(value, layer.compute_dtype).numpy() for value in (layer.scale, layer.offset))
    return builder.scale(x, constant_for(builder, scale, x.shape), constant_for(builder, offset, x.shape))


def constant_for(builder: Builder, value: Any, shape: Shape) -> Source:
    """A constant that is combined with ``[batch, *shape]``; it must not tell samples apart."""
    found = tuple(np.shape(value))
    read = builder.constant(value)
    if len(found) > len(shape) + 1 or (len(found) == len(shape) + 1 and found[0] != 1):
        raise builder.refuse(f"combines a constant of shape {found} with a tensor [batch, {shape}]")
    if len(found) == len(shape) + 1:
        return lambda: read()[0]
    return read
