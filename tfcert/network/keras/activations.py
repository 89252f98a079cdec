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

from tfcert.activations import spelled
from tfcert.network.builder import Builder, Tensor
from tfcert.network.keras.graph import converter, find_converter
from tfcert.network.keras.private import activation_operations, math_operations, nn_operations, numpy_operations

OPERATIONS: dict[type, tuple[str, tuple[str, ...]]] = {
    activation_operations.Mish: ("mish", ()),
    layers.ELU: ("elu", ("alpha",)),
    nn_operations.Celu: ("celu", ("alpha",)),
    nn_operations.Elu: ("elu", ("alpha",)),
    nn_operations.Gelu: ("gelu", ("approximate",)),
    nn_operations.HardSigmoid: ("hard_sigmoid", ()),
    nn_operations.HardSilu: ("hard_silu", ()),
    nn_operations.HardTanh: ("hard_tanh", ()),
    nn_operations.LogSigmoid: ("log_sigmoid", ()),
    nn_operations.Relu: ("relu", ()),
    nn_operations.Relu6: ("relu6", ()),
    nn_operations.Selu: ("selu", ()),
    nn_operations.Sigmoid: ("sigmoid", ()),
    nn_operations.Silu: ("silu", ()),
    nn_operations.SoftShrink: ("soft_shrink", ("threshold",)),
    nn_operations.Softplus: ("softplus", ()),
    nn_operations.Softsign: ("softsign", ()),
    nn_operations.SparsePlus: ("sparse_plus", ()),
    nn_operations.SparseSigmoid: ("sparse_sigmoid", ()),
    nn_operations.Squareplus: ("squareplus", ("b",)),
    nn_operations.Threshold: ("threshold", ("threshold", "default_value")),
    math_operations.Erf: ("erf", ()),
    math_operations.Rsqrt: ("rsqrt", ()),
    numpy_operations.Abs: ("abs", ()),
    numpy_operations.Absolute: ("abs", ()),
    numpy_operations.Arcsinh: ("arcsinh", ()),
    numpy_operations.Arctan: ("arctan", ()),
    numpy_operations.Cos: ("cos", ()),
    numpy_operations.Cosh: ("cosh", ()),
    numpy_operations.Exp: ("exp", ()),
    numpy_operations.Expm1: ("expm1", ()),
    numpy_operations.Fabs: ("abs", ()),
    numpy_operations.Log: ("log", ()),
    numpy_operations.Log1p: ("log1p", ()),
    numpy_operations.Reciprocal: ("reciprocal", ()),
    numpy_operations.Sign: ("sign", ()),
    numpy_operations.Sin: ("sin", ()),
    numpy_operations.Sinh: ("sinh", ()),
    numpy_operations.Sqrt: ("sqrt", ()),
    numpy_operations.Square: ("square", ()),
    numpy_operations.Tanh: ("tanh", ()),
}
"""Layers and operations that are one activation: its name in the registry, and the attributes that it takes."""

RENAMED = {"absolute": "abs", "fabs": "abs"}
"""Keras's second names."""


def default_parameters(function: Any, name: str) -> dict[str, Any]:
    """The defaults of a function of Keras's or TensorFlow's, where they differ from the registry's."""
    if name == "leaky_relu":
        return {"negative_slope": single(0.2)}
    return {"approximate": True} if function is keras.ops.gelu else {}


def apply_activation(function: Any, builder: Builder, x: Tensor) -> Tensor:
    """The ``activation=`` of a layer, applied to its output."""
    if isinstance(function, layers.Layer):
        with builder.scope(function.name, type(function).__name__):
            return find_converter(function, builder)(function, builder, [x])
    name = spelled(function)
    if name is not None:
        return builder.activation(x, name, part=name)
    name = function_name(function)
    if name is None:
        shown = getattr(function, "__name__", repr(function))
        raise builder.refuse(
            f"applies {shown!r}, which is not one of Keras's own functions, so what it computes cannot be read; use "
            "keras.activations or keras.ops, name it as a spelling in tfcert.register_activation, or write a layer for "
            "tfcert.register_layer"
        )
    if name == "linear":
        return x
    if name == "softmax":
        return builder.softmax(x)
    if name == "log_softmax":
        return builder.log_softmax(x, -1, part=name)
    return builder.activation(x, RENAMED.get(name, name), part=name, **default_parameters(function, name))


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


@converter(layers.ReLU, activation_operations.ReLU)
def relu(layer: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    if layer.max_value is not None or layer.threshold != 0:
        return builder.activation(
            inputs[0],
            "bounded_relu",
            negative_slope=builder.number(layer.negative_slope),
            max_value=None if layer.max_value is None else builder.number(layer.max_value),
            threshold=builder.number(layer.threshold),
        )
    if layer.negative_slope == 0:
        return builder.activation(inputs[0], "relu")
    return leaky_relu(layer, builder, inputs)


@converter(layers.PReLU)
def prelu(layer: layers.PReLU, builder: Builder, inputs: list[Tensor]) -> Tensor:
    alpha: Any = builder.constant(layer.alpha)
    return builder.activation(inputs[0], "prelu", alpha=alpha)


@converter(layers.LeakyReLU, nn_operations.LeakyRelu)
def leaky_relu(layer: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    return builder.activation(inputs[0], "leaky_relu", negative_slope=single(layer.negative_slope))


def single(slope: float) -> float:
    """A slope as TensorFlow keeps it: in single precision, whatever the type of the tensors."""
    return float(np.float32(slope))


@converter(*OPERATIONS)
def elementwise_operation(operation: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    name, attributes = OPERATIONS[type(operation)]
    return builder.activation(inputs[0], name, **{key: getattr(operation, key) for key in attributes})
