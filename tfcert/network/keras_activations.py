"""Activations in Keras's many spellings: layers, functions, ``activation=`` arguments and ``keras.ops`` calls.

A Keras function is recognised by identity and looked up in tfcert's registry under its own name, so an activation
added to ``tfcert.activations`` under Keras's name needs no line here. That the two mean the same is checked against
the model like everything else.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from keras.src.activations import activations as keras_activations
from keras.src.ops import nn as ops_nn
from keras.src.ops import numpy as ops_numpy

from tfcert.network.builder import Builder, Tensor
from tfcert.network.keras_graph import converter, find_converter

PARAMETERS: dict[str, dict[str, float]] = {"leaky_relu": {"negative_slope": float(np.float32(0.2))}}
"""What Keras's functions default to, where the registry wants to be told."""


def apply_activation(function: Any, builder: Builder, x: Tensor) -> Tensor:
    """The ``activation=`` of a layer, applied to its output."""
    if isinstance(function, layers.Layer):
        with builder.scope(function.name, type(function).__name__):
            return find_converter(function, builder)(function, builder, [x])
    name = function_name(function)
    if name is None:
        shown = getattr(function, "__name__", repr(function))
        raise builder.refuse(
            f"applies {shown!r}, which is not one of Keras's own functions, so what it computes cannot be read; use "
            "keras.activations, keras.ops, or a layer of yours with tfcert.register_layer"
        )
    if name == "linear":
        return x
    if name == "softmax":
        return builder.softmax(x, -1)
    return builder.activation(x, name, part=name, **PARAMETERS.get(name, {}))


def function_name(function: Any) -> str | None:
    """Keras's name of one of its own elementwise functions (or softmax), found by identity."""
    name = getattr(function, "__name__", None)
    if name is None:
        return None
    for module in (keras.activations, keras.ops, tf.nn):
        if getattr(module, name, None) is function:
            return str(name)
    return None


@converter(layers.Activation)
def activation(layer: layers.Activation, builder: Builder, inputs: list[Tensor]) -> Tensor:
    return apply_activation(layer.activation, builder, inputs[0])


@converter(layers.ReLU, keras_activations.ReLU)
def relu(layer: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    if layer.max_value is not None or layer.threshold != 0:
        raise builder.refuse(
            f"has max_value={layer.max_value} and threshold={layer.threshold}; "
            "only max_value=None and threshold=0 are supported"
        )
    if layer.negative_slope == 0:
        return builder.activation(inputs[0], "relu")
    return leaky_relu(layer, builder, inputs)


@converter(layers.LeakyReLU, ops_nn.LeakyRelu)
def leaky_relu(layer: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    return builder.activation(inputs[0], "leaky_relu", negative_slope=single(layer.negative_slope))


def single(slope: float) -> float:
    """A slope as TensorFlow keeps it: in single precision, whatever the type of the tensors."""
    return float(np.float32(slope))


@converter(layers.Softmax, ops_nn.Softmax)
def softmax(layer: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    axis = layer.axis
    if isinstance(axis, list | tuple) and len(axis) == 1:
        axis = axis[0]
    if not isinstance(axis, int):
        raise builder.refuse(f"is a softmax over the axes {axis!r}; one over the last axis can be peeled off")
    return builder.softmax(inputs[0], axis)


@converter(ops_nn.Relu, ops_nn.Sigmoid, ops_nn.Softplus, ops_nn.Softsign, ops_numpy.Tanh, ops_numpy.Arctan)
def elementwise_operation(operation: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    return builder.activation(inputs[0], type(operation).__name__.lower())
