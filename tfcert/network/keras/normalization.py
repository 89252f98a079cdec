"""Converters of softmax and of layers that normalise each sample for itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from tfcert.network.builder import Builder, Tensor
from tfcert.network.keras.graph import Arguments, converter
from tfcert.network.keras.layers import constant_for
from tfcert.network.keras.private import nn_operations
from tfcert.network.linear import Source

_MASKED = -1e9
"""What Keras's softmax puts where its mask is false."""


def inner_axes(axis: Any, builder: Builder, x: Tensor) -> tuple[int, ...]:
    """Keras's axes of a tensor without the batch, which must not be among them.

    Raises:
        UnsupportedLayerError: it is, or there is no such axis.
    """
    rank = len(x.shape)
    given = tuple(range(rank + 1)) if axis is None else tuple(axis) if isinstance(axis, list | tuple) else (axis,)
    if not all(isinstance(a, int | np.integer) and -rank - 1 <= a <= rank for a in given):
        raise builder.refuse(f"reads the axes {given} of a tensor of shape {x.shape} (batch left out)")
    found = tuple(sorted({int(a) % (rank + 1) for a in given}))
    if 0 in found:
        raise builder.refuse("reads along the batch, which mixes samples; name the other axes")
    return tuple(a - 1 for a in found)


@converter(layers.Softmax, named=True)
def softmax_layer(layer: layers.Softmax, builder: Builder, arguments: Arguments) -> Tensor:
    x, mask = arguments["inputs"], arguments.get("mask")
    axes = inner_axes(layer.axis, builder, x)
    if mask is None:
        return builder.softmax(x, axes)
    if isinstance(mask, Tensor | keras.KerasTensor):
        raise builder.refuse("is called with a computed mask; constant masks are supported")
    kept = np.asarray(mask)
    kept = (kept if kept.dtype == bool else kept > 0.5).astype(builder.dtype.as_numpy_dtype)
    keep, hide = (constant_for(builder, part, x.shape) for part in (kept, (1 - kept) * _MASKED))
    found = builder.softmax(builder.scale(x, keep, hide, part="masked"), axes)
    return builder.scale(found, keep)


@converter(nn_operations.Softmax)
def softmax(operation: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    return builder.softmax(inputs[0], inner_axes(operation.axis, builder, inputs[0]))


@converter(layers.LayerNormalization)
def layer_normalization(layer: layers.LayerNormalization, builder: Builder, inputs: list[Tensor]) -> Tensor:
    return _layer_normalized(layer, builder, inputs[0], layer.gamma, layer.beta)


@converter(nn_operations.LayerNorm, named=True)
def layer_norm(operation: Any, builder: Builder, arguments: Arguments) -> Tensor:
    gamma, beta = (_constant(builder, arguments, name) for name in ("gamma", "beta"))
    return _layer_normalized(operation, builder, arguments["x"], gamma, beta)


def _layer_normalized(options: Any, builder: Builder, x: Tensor, gamma: Any, beta: Any) -> Tensor:
    axes = inner_axes(options.axis, builder, x)
    # With rms_scaling Keras divides by the deviation from the mean all the same.
    center = (not options.rms_scaling, True)
    shape = [n if a in axes else 1 for a, n in enumerate(x.shape)]
    beta = None if options.rms_scaling else beta
    scale, offset = (_shaped(builder, value, x, axes, shape) for value in (gamma, beta))
    factor = None if options.rms_scaling else scale
    found = builder.normalized(x, axes, _epsilon(options), center=center, factor=factor, part="normalized")
    return _affine(builder, found, scale, offset)


def _shaped(builder: Builder, value: Any, x: Tensor, axes: Sequence[int], shape: Sequence[int]) -> Source | None:
    """A scale or an offset along some axes, as it is laid on a tensor."""
    if value is None:
        return None
    read = builder.constant(value)
    if len(value.shape) == len(x.shape) + 1 or tuple(axes) == (len(x.shape) - 1,):
        return constant_for(builder, value, x.shape)
    return lambda: tf.reshape(read(), shape)


@converter(layers.RMSNormalization)
def rms_normalization(layer: layers.RMSNormalization, builder: Builder, inputs: list[Tensor]) -> Tensor:
    return _rms_normalized(layer, builder, inputs[0], layer.scale)


@converter(nn_operations.RMSNorm, named=True)
def rms_norm(operation: Any, builder: Builder, arguments: Arguments) -> Tensor:
    return _rms_normalized(operation, builder, arguments["x"], _constant(builder, arguments, "scale"))


def _rms_normalized(options: Any, builder: Builder, x: Tensor, scale: Any) -> Tensor:
    axes = inner_axes(options.axis, builder, x)
    found = builder.normalized(x, axes, _epsilon(options), center=(False, False), part="normalized")
    return _affine(builder, found, None if scale is None else constant_for(builder, scale, x.shape), None)


@converter(layers.GroupNormalization)
def group_normalization(layer: layers.GroupNormalization, builder: Builder, inputs: list[Tensor]) -> Tensor:
    x = inputs[0]
    if layer.axis < -1:
        raise builder.refuse(f"normalises the axis {layer.axis}; name it from the front, or as -1")
    (axis,) = inner_axes(layer.axis, builder, x)
    channels = x.shape[axis]
    grouped = (*x.shape[:axis], layer.groups, channels // layer.groups, *x.shape[axis + 1 :])
    apart = builder.reshape(x, grouped, part="groups")
    axes = [a for a in range(len(grouped)) if a != axis]
    shape = [channels if a == axis else 1 for a in range(len(x.shape))]
    gamma, beta = (
        None if value is None else _reshaped(builder, value, shape)
        for value in (layer.gamma if layer.scale else None, layer.beta if layer.center else None)
    )
    found = builder.normalized(apart, axes, layer.epsilon, center=(True, True), factor=gamma, part="normalized")
    whole = builder.reshape(found, x.shape, part="together")
    return _affine(builder, whole, gamma, beta)


def _reshaped(builder: Builder, value: Any, shape: Sequence[int]) -> Source:
    read = builder.constant(value)
    return lambda: tf.reshape(read(), shape)


@converter(layers.UnitNormalization)
def unit_normalization(layer: layers.UnitNormalization, builder: Builder, inputs: list[Tensor]) -> Tensor:
    return builder.divided_by_norm(inputs[0], inner_axes(layer.axis, builder, inputs[0]), 1e-12)


@converter(nn_operations.Normalize)
def normalize(operation: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    if operation.order != 2:
        raise builder.refuse(f"divides by a norm of order {operation.order}; order 2 is supported")
    return builder.divided_by_norm(inputs[0], inner_axes(operation.axis, builder, inputs[0]), _epsilon(operation))


def _epsilon(options: Any) -> float:
    return keras.config.epsilon() if options.epsilon is None else options.epsilon


def _constant(builder: Builder, arguments: Arguments, name: str) -> Any:
    """A constant that an operation is called with, or None."""
    value = arguments.get(name)
    if isinstance(value, Tensor | keras.KerasTensor):
        raise builder.refuse(f"is called with a computed {name}; constants are supported")
    return value


def _affine(builder: Builder, x: Tensor, scale: Source | None, offset: Source | None) -> Tensor:
    """``x * scale + offset``."""
    if scale is None and offset is None:
        return x
    return builder.scale(x, builder.constant(1.0) if scale is None else scale, offset)
