"""Converters of ``keras.ops`` calls that bend numbers: powers, logarithms of any base, choices by a mask."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tfcert.network.builder import Builder, Tensor
from tfcert.network.keras.graph import Arguments, converter
from tfcert.network.keras.layers import constant_for
from tfcert.network.keras.ops import operands
from tfcert.network.keras.private import math_operations, nn_operations
from tfcert.network.keras.private import numpy_operations as ops


@converter(ops.Power, constants=True)
def power(operation: Any, builder: Builder, inputs: list[Any]) -> Tensor:
    base, exponent = inputs
    if isinstance(exponent, Tensor):
        if isinstance(base, Tensor):
            raise builder.refuse(
                "takes a tensor to the power of a tensor; a constant exponent, or a constant base, is supported: "
                "write exp(y * log(x)) for numbers above zero"
            )
        if np.ndim(base) or hasattr(base, "assign") or not base > 0:
            raise builder.refuse(f"takes {base!r} to the power of a tensor; one number above zero is supported")
        turned = builder.scale(exponent, builder.constant(math.log(base)), part="logarithm")
        return builder.activation(turned, "exp")
    if np.ndim(exponent) or hasattr(exponent, "assign"):
        raise builder.refuse("has an exponent that is no plain number; one number for all is supported")
    return builder.power(base, builder.number(exponent))


BASES = {ops.Exp2: 2.0, ops.Log2: 2.0, ops.Log10: 10.0}


@converter(ops.Exp2)
def exp2(operation: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    turned = builder.scale(inputs[0], builder.constant(math.log(2.0)), part="logarithm")
    return builder.activation(turned, "exp")


@converter(ops.Log2, ops.Log10)
def logarithm(operation: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    natural = builder.activation(inputs[0], "log", part="log")
    return builder.scale(natural, builder.constant(1.0 / math.log(BASES[type(operation)])))


@converter(ops.Deg2rad, ops.Rad2deg)
def angle(operation: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    degree = math.pi / 180.0
    return builder.scale(inputs[0], builder.constant(degree if isinstance(operation, ops.Deg2rad) else 1.0 / degree))


@converter(math_operations.Erfc)
def complement(operation: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    value = builder.activation(inputs[0], "erf", part="erf")
    return builder.scale(value, builder.constant(-1.0), builder.constant(1.0))


@converter(nn_operations.TanhShrink)
def tanh_shrink(operation: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    return builder.subtract(inputs[0], builder.activation(inputs[0], "tanh", part="tanh"))


@converter(nn_operations.HardShrink)
def hard_shrink(operation: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    """What is above the threshold, less what is of the negative."""
    turned = builder.scale(inputs[0], builder.constant(-1.0), part="turned")
    limit = builder.number(operation.threshold)
    right, left = (
        builder.activation(x, "threshold", threshold=limit, default_value=0.0, part=part)
        for x, part in ((inputs[0], "right"), (turned, "left"))
    )
    return builder.subtract(right, left)


@converter(nn_operations.Glu)
def gated(operation: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    (axis,) = builder.axes(inputs[0], axis_of(operation.axis, inputs[0], builder))
    half = inputs[0].shape[axis] // 2
    value, gate = (
        builder.take(inputs[0], slice(start, start + half), axis, part=part)
        for start, part in ((0, "value"), (half, "gate"))
    )
    return builder.product(value, builder.activation(gate, "sigmoid", part="sigmoid"))


@converter(ops.Logaddexp, constants=True)
def logaddexp(operation: Any, builder: Builder, inputs: list[Any]) -> Tensor:
    given = operands(operation, builder, inputs)
    if not given.constants:
        return builder.logaddexp(*given.tensors)
    (constant,), (x,) = given.constants, given.tensors
    apart = builder.scale(x, builder.constant(1.0), lambda: -constant(), part="difference")
    return builder.scale(builder.activation(apart, "softplus", part="softplus"), builder.constant(1.0), constant)


@converter(math_operations.Logsumexp)
def logsumexp(operation: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    x, axes = inputs[0], operation.axis
    given = list(axes) if isinstance(axes, list | tuple) else [axes]
    return builder.logsumexp(x, [axis_of(axis, x, builder) for axis in given], operation.keepdims)


@converter(nn_operations.LogSoftmax)
def log_softmax(operation: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    return builder.log_softmax(inputs[0], axis_of(operation.axis, inputs[0], builder))


def axis_of(axis: int | None, x: Tensor, builder: Builder) -> int:
    """An axis of a Keras tensor, as the builder counts them."""
    rank = len(x.shape) + 1
    if axis is None or not -rank <= axis < rank or axis % rank == 0:
        raise builder.refuse(f"works along axis {axis}, which takes in the batch; name axes from 1 on, or from the end")
    return axis % rank - 1


@converter(ops.Where, named=True)
def where(operation: Any, builder: Builder, given: Arguments) -> Tensor:
    """A choice by a constant mask, which is a sum of what is left of each."""
    mask, choices = given["condition"], [given.get("x1"), given.get("x2")]
    if isinstance(mask, Tensor) or any(choice is None for choice in choices):
        raise builder.refuse(
            "chooses by a tensor, or nothing; a constant mask and two operands are supported. Write choices between "
            "numbers with maximum, minimum, relu or clip"
        )
    tensors = [choice for choice in choices if isinstance(choice, Tensor)]
    chosen = np.asarray(mask).astype(bool)
    values = [np.asarray(c) for c in choices if not isinstance(c, Tensor)]
    rank = max(len(x.shape) for x in tensors)
    if any(len(x.shape) != rank for x in tensors):
        raise builder.refuse(f"combines tensors of shapes {[x.shape for x in tensors]}; reshape them to one rank")
    shape = np.broadcast_shapes(
        *(x.shape for x in tensors), *(np.shape(c)[-rank:] if np.ndim(c) else () for c in (chosen, *values))
    )
    terms, constants = [], []
    for choice, share in zip(choices, (chosen, ~chosen), strict=True):
        weight = constant_for(builder, share.astype(float), shape)
        if isinstance(choice, Tensor):
            spread = builder.broadcast(choice, shape, part="broadcast")
            terms.append(builder.scale(spread, weight, part="chosen"))
        else:
            constants.append((weight, constant_for(builder, choice, shape)))
    if len(terms) == 2:
        return builder.add(terms)
    ((weight, value),) = constants
    return builder.scale(terms[0], builder.constant(1.0), lambda: weight() * value())


@converter(ops.Hypot)
def hypotenuse(operation: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    given = operands(operation, builder, inputs)
    squares = [builder.activation(x, "square", part="square") for x in given.tensors]
    return builder.activation(builder.add(squares, part="sum"), "sqrt")
