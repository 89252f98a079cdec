"""Operators of ONNX that compute: of single numbers, of two tensors, products of matrices, and softmax."""

from __future__ import annotations

import math
import string
from collections.abc import Callable
from typing import Any

import numpy as np

from tfcert.network.builder import Tensor
from tfcert.network.linear import DenseMap
from tfcert.network.onnx.values import Known, OnnxNode, Varying, operator

FUNCTIONS = {
    "Abs": "abs",
    "Asinh": "arcsinh",
    "Atan": "arctan",
    "Cos": "cos",
    "Cosh": "cosh",
    "Erf": "erf",
    "Exp": "exp",
    "HardSwish": "hard_silu",
    "Log": "log",
    "Mish": "mish",
    "Reciprocal": "reciprocal",
    "Relu": "relu",
    "Sigmoid": "sigmoid",
    "Sign": "sign",
    "Sin": "sin",
    "Sinh": "sinh",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "Sqrt": "sqrt",
    "Tanh": "tanh",
}
"""Operators of single numbers without options, and the activations that they are."""
_SELU = (1.67326319217681884765625, 1.05070102214813232421875)


@operator(*FUNCTIONS)
def _function(call: OnnxNode) -> Varying:
    return _each(call, FUNCTIONS[call.kind])


def _each(call: OnnxNode, name: str, **parameters: Any) -> Varying:
    x = call.value()
    return Varying(call.builder.activation(x.tensor, name, **parameters), x.shape)


@operator("LeakyRelu")
def _leaky_relu(call: OnnxNode) -> Varying:
    return _each(call, "leaky_relu", negative_slope=float(np.float32(call.get("alpha", 0.01))))


@operator("Elu", "Celu")
def _elu(call: OnnxNode) -> Varying:
    return _each(call, call.kind.lower(), alpha=float(np.float32(call.get("alpha", 1.0))))


@operator("Selu")
def _selu(call: OnnxNode) -> Varying:
    given = (call.get("alpha", _SELU[0]), call.get("gamma", _SELU[1]))
    if not np.allclose(given, _SELU, rtol=1e-6, atol=0):
        raise call.refuse(f"has alpha and gamma {given}; SELU's own are supported")
    return _each(call, "selu")


@operator("Gelu")
def _gelu(call: OnnxNode) -> Varying:
    return _each(call, "gelu", approximate=call.get("approximate", "none") == "tanh")


@operator("HardSigmoid")
def _hard_sigmoid(call: OnnxNode) -> Varying:
    x = call.value()
    slope, middle = (call.constant(np.array(call.get(*part))) for part in (("alpha", 0.2), ("beta", 0.5)))
    straight = call.builder.scale(x.tensor, slope, middle, part="straight")
    return Varying(call.builder.activation(straight, "clip", lower=0.0, upper=1.0), x.shape)


@operator("PRelu")
def _prelu(call: OnnxNode) -> Varying:
    x, slope = call.value(), call.numbers(1)
    if np.broadcast_shapes(slope.shape, x.shape) != x.shape:
        raise call.refuse(f"has slopes of shape {slope.shape} for a tensor of shape {x.shape}")
    alpha = np.broadcast_to(call.aligned(slope, x.shape), x.tensor.shape)
    return Varying(call.builder.activation(x.tensor, "prelu", alpha=call.constant(alpha)), x.shape)  # type: ignore[arg-type]


@operator("Clip")
def _clip(call: OnnxNode) -> Varying:
    ends = []
    for place, (name, default) in enumerate((("min", -math.inf), ("max", math.inf)), start=1):
        given = call.given(place)
        found = np.array(call.get(name, default)) if given is None else call.numbers(place)
        ends.append(call.builder.number(float(found.item())))
    x, (low, high) = call.value(), ends
    if low == -math.inf and high == math.inf:
        return x
    if (low, high) == (0.0, math.inf):
        return _each(call, "relu")
    return _each(call, "clip", lower=low, upper=high)


@operator("Neg")
def _negative(call: OnnxNode) -> Varying:
    x = call.value()
    return Varying(call.builder.scale(x.tensor, call.constant(np.array(-1.0))), x.shape)


# --- two tensors ---


@operator("Add", "Sub", "Mul", "Div")
def _two(call: OnnxNode) -> Varying:
    left, right = call.known(0), call.known(1)
    if isinstance(right, np.ndarray):
        return _with_numbers(call, _room(call, call.value(0), right.shape), right)
    if isinstance(left, np.ndarray) and call.kind in ("Add", "Mul"):
        return _with_numbers(call, _room(call, right, left.shape), left)
    builder = call.builder
    kinds = {"Sub": builder.subtract, "Mul": builder.product, "Div": builder.divide}
    return _both(call, kinds.get(call.kind, lambda x, y: builder.add([x, y])))


def _room(call: OnnxNode, x: Varying, other: tuple[int, ...]) -> Varying:
    """A value repeated to what it and numbers of another shape make together."""
    try:
        return call.broadcast(x, np.broadcast_shapes(x.shape, other))
    except ValueError:
        raise call.refuse(f"takes tensors of shapes {x.shape} and {other}, which do not fit") from None


def _with_numbers(call: OnnxNode, x: Varying, numbers: np.ndarray) -> Varying:
    """``x`` plus, minus, times or over numbers."""
    aligned = call.aligned(numbers, x.shape)
    if call.kind in ("Add", "Sub"):
        added = aligned if call.kind == "Add" else -aligned
        return call.plus(x, added)
    if call.kind == "Div":
        if not np.all(aligned):
            raise call.refuse("divides by zero")
        aligned = 1.0 / aligned.astype(np.float64)
    return Varying(call.builder.scale(x.tensor, call.constant(aligned)), x.shape)


def _both(call: OnnxNode, compute: Callable[[Tensor, Tensor], Tensor]) -> Varying:
    """A function of two tensors, repeated to one shape."""
    x, y = call.value(0), call.value(1)
    x, y = _room(call, x, y.shape), _room(call, y, x.shape)
    return Varying(compute(x.tensor, y.tensor), x.shape)


@operator("Max", "Min")
def _extreme(call: OnnxNode) -> Varying:
    compute = call.builder.maximum if call.kind == "Max" else call.builder.minimum
    values = [call.value(place) for place in range(len(call.inputs))]
    found = values[0]
    for other in values[1:]:
        first, second = _room(call, found, other.shape), _room(call, other, found.shape)
        found = Varying(compute(first.tensor, second.tensor), first.shape)
    return found


@operator("Sum", "Mean")
def _several(call: OnnxNode) -> Varying:
    values = [call.value(place) for place in range(len(call.inputs))]
    shape = np.broadcast_shapes(*(value.shape for value in values))
    total = call.builder.add([call.broadcast(value, shape).tensor for value in values])
    if call.kind == "Mean":
        total = call.builder.scale(total, call.constant(np.array(1.0 / len(values))))
    return Varying(total, shape)


@operator("Pow")
def _power(call: OnnxNode) -> Varying:
    exponent = call.numbers(1)
    if exponent.size != 1:
        raise call.refuse("has several exponents; one number is supported")
    x = call.value()
    return Varying(call.builder.power(x.tensor, call.builder.number(float(exponent.item()))), x.shape)


# --- products of matrices ---


@operator("MatMul")
def _matmul(call: OnnxNode) -> Varying:
    return _product(call, call.known(0), call.known(1))


@operator("Gemm")
def _gemm(call: OnnxNode) -> Varying:
    left, right = (
        _turned(call, call.known(place)) if call.get(name, 0) else call.known(place)
        for place, name in enumerate(("transA", "transB"))
    )
    alpha, beta = float(call.get("alpha", 1.0)), float(call.get("beta", 1.0))
    if isinstance(right, np.ndarray) and alpha != 1:
        right, alpha = right * np.asarray(alpha, right.dtype), 1.0
    found = _product(call, left, right)
    if alpha != 1:
        found = Varying(call.builder.scale(found.tensor, call.constant(np.array(alpha)), part="alpha"), found.shape)
    added = call.given(2)
    if added is None or beta == 0:
        return found
    if isinstance(added, Varying):
        share = call.builder.scale(added.tensor, call.constant(np.array(beta)), part="beta")
        other = call.broadcast(Varying(share, added.shape), found.shape)
        return Varying(call.builder.add([found.tensor, other.tensor], part="sum"), found.shape)
    return call.plus(found, call.aligned(added * np.asarray(beta, added.dtype), found.shape))


def _turned(call: OnnxNode, x: Known) -> Known:
    """A matrix transposed."""
    if isinstance(x, np.ndarray):
        return x.T
    return call.held(call.builder.transpose(call.whole(x), (1, 0)), x.shape[::-1])


def _product(call: OnnxNode, left: Known, right: Known) -> Varying:
    """A product of matrices, or of stacks of these, of which one at least depends on the input."""
    if not left.shape or not right.shape:
        raise call.refuse("multiplies a single number as a matrix")
    if left.shape[-1] != right.shape[-2 if len(right.shape) > 1 else 0]:
        raise call.refuse(f"multiplies matrices of shapes {left.shape} and {right.shape}")
    if isinstance(left, Varying) and isinstance(right, np.ndarray) and right.ndim <= 2:
        matrix = right.reshape(right.shape[0], -1)
        x, _, lead = call.along(left, [-1])
        found = call.builder.linear(x, DenseMap(call.constant(matrix), x.shape, matrix.shape[1]))
        return call.held(found, (*left.shape[:-1], *right.shape[1:]) if right.ndim == 2 else left.shape[:-1] or (1,))
    if isinstance(right, Varying) and isinstance(left, np.ndarray) and left.ndim <= 2:
        x, (axis,), lead = call.along(right, [-2 if len(right.shape) > 1 else 0])
        matrix = left.reshape(-1, left.shape[-1])
        found = call.builder.along(x, call.constant(matrix.T), len(matrix), axis)
        shape = [*lead, *found.shape]
        return call.held(found, shape if left.ndim == 2 else shape[: axis + len(lead)] + shape[axis + len(lead) + 1 :])
    return _stacked(call, *(x if isinstance(x, Varying) else call.fixed(x) for x in (left, right)))


def _stacked(call: OnnxNode, left: Varying, right: Varying) -> Varying:
    """Products of two stacks of matrices of one length."""
    if len(left.shape) != len(right.shape) or left.shape[:-2] != right.shape[:-2] or len(left.shape) < 2:
        raise call.refuse(f"multiplies stacks of matrices of shapes {left.shape} and {right.shape}")
    before = string.ascii_lowercase[: len(left.shape) - 2]
    found = call.builder.contract(f"{before}xy,{before}yz->{before}xz", call.whole(left), call.whole(right))
    return call.held(found, found.shape)


# --- normalisation ---


@operator("BatchNormalization")
def _batch_normalization(call: OnnxNode) -> Varying:
    if call.get("training_mode", 0) or call.get("spatial", 1) != 1 or call.outputs > 1:
        raise call.refuse(
            "normalises by the statistics of its batch, or of each number; only those of training are read"
        )
    call.get("momentum")
    x = call.value()
    scale, offset, mean, variance = (call.numbers(place).astype(np.float64) for place in range(1, 5))
    factor = scale / np.sqrt(variance + float(call.get("epsilon", 1e-5)))
    shape = (-1, *[1] * (len(x.shape) - 2))
    factor, bias = factor.reshape(shape), (offset - mean * factor).reshape(shape)
    return Varying(call.builder.scale(x.tensor, call.constant(factor), call.constant(bias)), x.shape)


@operator("Softmax", "LogSoftmax")
def _softmax(call: OnnxNode) -> Varying:
    x = call.value()
    if call.opset >= 13:
        axis = call.axis(int(call.get("axis", -1)), len(x.shape))
    else:  # all axes from this one on together
        axis = call.axis(int(call.get("axis", 1)), len(x.shape))
        if any(size != 1 for size in x.shape[axis + 1 :]) or axis != len(x.shape) - 1:
            raise call.refuse(
                f"is taken over all axes from {axis} on of a tensor of shape {x.shape}; the last is supported"
            )
    tensor, (place,), lead = call.along(x, [axis])
    compute = call.builder.softmax if call.kind == "Softmax" else call.builder.log_softmax
    found = compute(tensor, place)
    return Varying(found, x.shape) if lead or x.shape == found.shape else call.held(found, x.shape)
