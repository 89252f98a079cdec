"""Converters of merging layers and of ``keras.ops`` calls in functional graphs (``a + b``, ``2 * x``, reshapes)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers

from tfcert.network.builder import Builder, Tensor
from tfcert.network.keras.graph import converter
from tfcert.network.keras.layers import constant_for, resolve_shape
from tfcert.network.keras.private import numpy_operations as ops
from tfcert.network.linear import Shape, Source


@dataclass(frozen=True)
class Operands:
    """Operands of an elementwise operation: tensors brought to one shape, and constants."""

    tensors: list[Tensor]
    constants: list[Source]


def operands(operation: Any, builder: Builder, inputs: list[Any]) -> Operands:
    """Sorts the inputs and broadcasts the tensors; batches may not line up with anything but batches."""
    tensors = [x for x in inputs if isinstance(x, Tensor)]
    values = [x for x in inputs if not isinstance(x, Tensor)]
    rank = max(len(x.shape) for x in tensors)
    if not isinstance(operation, layers.Layer) and any(len(x.shape) != rank for x in tensors):
        raise builder.refuse(
            f"combines tensors of shapes {[x.shape for x in tensors]} (batch left out), "
            "which lines up a batch with another axis; reshape them to one rank"
        )
    if isinstance(operation, layers.Layer) and any(np.ndim(value) != rank + 1 for value in values):
        raise builder.refuse(f"merges a constant of another rank than its tensors; give it the shape [1, {rank} axes]")
    shapes = [np.shape(value)[-rank:] if rank else () for value in values]
    shape = np.broadcast_shapes(*(x.shape for x in tensors), *shapes)
    constants = [constant_for(builder, value, shape) for value in values]
    spread = [builder.broadcast(x, shape, part="broadcast") for x in tensors]
    return Operands(spread, constants)


def one(builder: Builder) -> Source:
    return builder.constant(1.0)


@converter(layers.Add, ops.Add, constants=True)
def add(operation: Any, builder: Builder, inputs: list[Any]) -> Tensor:
    refuse_mistaken_bias(builder, inputs)
    given = operands(operation, builder, inputs)
    constants = given.constants
    if not constants:
        return builder.add(given.tensors)
    if len(constants) > 1:  # in any order: they may cancel, and absorb what they are added to
        shape = given.tensors[0].shape
        fixed = [builder.fixed(read, shape, part="constant") for read in constants]
        return builder.add([*given.tensors, *fixed])
    total = builder.add(given.tensors, part="sum")
    return builder.scale(total, one(builder), constants[0])


def refuse_mistaken_bias(builder: Builder, inputs: list[Any]) -> None:
    """Refuses sums that Keras computes wrongly for some batch sizes.

    ``keras.ops.add`` on TensorFlow takes a second operand with one long axis for a bias along the last axis, or the
    first after the batch. Run eagerly with that many samples, a column ``[batch, 1]`` is taken for one, and added
    across samples.
    """
    total: Shape = ()
    for position, x in enumerate(inputs):
        if not isinstance(x, Tensor):
            continue
        long = [axis for axis, size in enumerate(x.shape) if size > 1]
        if position > 0 and x.shape != total and len(x.shape) == len(total):
            column = not long and max(total[0], total[-1]) > 1
            taken_for = -1 if long and total[-1] == x.shape[long[0]] else 0
            astray = len(long) == 1 and total[taken_for] == x.shape[long[0]] and taken_for % len(total) != long[0]
            if column or astray:
                raise builder.refuse(
                    f"adds {x.shape} to {total} (batch left out), which Keras takes for a bias at some batch sizes "
                    "and then adds across the wrong axis; put the smaller operand first, or repeat it to the full shape"
                )
        total = tuple(np.broadcast_shapes(total, x.shape))


@converter(layers.Subtract, ops.Subtract, constants=True)
def subtract(operation: Any, builder: Builder, inputs: list[Any]) -> Tensor:
    given = operands(operation, builder, inputs)
    minus = builder.constant(-1.0)
    if not given.constants:
        first, second = given.tensors
        return builder.add([first, builder.scale(second, minus, part="negative")])
    (constant,) = given.constants
    if isinstance(inputs[0], Tensor):
        return builder.scale(given.tensors[0], one(builder), lambda: -constant())
    return builder.scale(given.tensors[0], minus, constant)


@converter(layers.Average)
def average(layer: layers.Average, builder: Builder, inputs: list[Any]) -> Tensor:
    refuse_mistaken_bias(builder, inputs)
    total = builder.add(operands(layer, builder, inputs).tensors, part="sum")
    return builder.scale(total, builder.constant(1.0 / len(inputs)))


@converter(layers.Multiply, ops.Multiply, constants=True)
def multiply(operation: Any, builder: Builder, inputs: list[Any]) -> Tensor:
    given = operands(operation, builder, inputs)
    constants, (product, *others) = given.constants, given.tensors
    for number, other in enumerate(others):
        product = builder.product(product, other, part="" if number == len(others) - 1 and not constants else "product")
    for number, read in enumerate(constants):
        product = builder.scale(product, read, part="" if number == len(constants) - 1 else "scaled")
    return product


@converter(ops.Divide, ops.TrueDivide, constants=True)
def divide(operation: Any, builder: Builder, inputs: list[Any]) -> Tensor:
    given = operands(operation, builder, inputs)
    if not given.constants:
        return builder.divide(*given.tensors)
    (constant,), (x,) = given.constants, given.tensors
    if isinstance(inputs[0], Tensor):
        return builder.scale(x, lambda: 1.0 / constant(), computed=1)
    return builder.scale(builder.activation(x, "reciprocal", part="reciprocal"), constant)


@converter(layers.Maximum, ops.Maximum, ops.Fmax, constants=True)
def maximum(operation: Any, builder: Builder, inputs: list[Any]) -> Tensor:
    return extreme(operation, builder, inputs, 1.0)


@converter(layers.Minimum, ops.Minimum, ops.Fmin, constants=True)
def minimum(operation: Any, builder: Builder, inputs: list[Any]) -> Tensor:
    return extreme(operation, builder, inputs, -1.0)


def extreme(operation: Any, builder: Builder, inputs: list[Any], sign: float) -> Tensor:
    """The largest (sign 1) or smallest (sign -1) of tensors and constants."""
    given = operands(operation, builder, inputs)
    values = [value for value in inputs if not isinstance(value, Tensor)]
    found, *others = given.tensors
    for other in others:
        found = builder.maximum(found, other) if sign > 0 else builder.minimum(found, other)
    for value, constant in zip(values, given.constants, strict=True):
        found = limited(builder, found, value, constant, sign)
    return found


def limited(builder: Builder, x: Tensor, value: Any, constant: Source, sign: float) -> Tensor:
    """``x`` where it is above (sign 1) or below (-1) a constant, and the constant elsewhere."""
    if np.ndim(value) == 0 and not hasattr(value, "assign"):
        limit = builder.number(value)
        low, high = (limit, math.inf) if sign > 0 else (-math.inf, limit)
        return builder.activation(x, "clip", lower=low, upper=high)
    turned = builder.constant(sign)
    apart = builder.scale(x, one(builder), negated(constant), part="difference")
    return builder.scale(hinge(builder, apart, turned), one(builder), constant)


def negated(read: Source) -> Source:
    return lambda: -read()


def hinge(builder: Builder, x: Tensor, turned: Source) -> Tensor:
    """``relu(x)``, or ``-relu(-x)`` where ``turned`` is -1."""
    return builder.scale(builder.activation(builder.scale(x, turned, part="turned"), "relu", part="relu"), turned)


@converter(ops.Clip)
def clip(operation: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    x, limits = inputs[0], (operation.x_min, operation.x_max)
    if any(isinstance(limit, keras.KerasTensor) for limit in limits):
        raise builder.refuse("clips to tensors, which Keras does not carry along in a model; write maximum and minimum")
    if any(np.ndim(limit) or hasattr(limit, "assign") for limit in limits):
        for limit, sign in zip(limits, (1.0, -1.0), strict=True):
            x = limited(builder, x, limit, constant_for(builder, limit, x.shape), sign)
        return x
    return builder.activation(x, "clip", lower=builder.number(limits[0]), upper=builder.number(limits[1]))


@converter(ops.Negative)
def negative(operation: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    return builder.scale(inputs[0], builder.constant(-1.0))


@converter(layers.Concatenate, ops.Concatenate, constants=True)
def concatenate(operation: Any, builder: Builder, inputs: list[Any]) -> Tensor:
    rank = max(len(x.shape) for x in inputs if isinstance(x, Tensor)) + 1
    axis = operation.axis % rank
    if axis == 0:
        raise builder.refuse("concatenates along the batch, which mixes samples")
    return builder.concatenate([as_tensor(builder, x, rank) for x in inputs], axis - 1)


def as_tensor(builder: Builder, x: Any, rank: int) -> Tensor:
    """An operand that is put beside others of so many axes, batch included: a constant is the same for each sample."""
    if isinstance(x, Tensor):
        return x
    shape = tuple(np.shape(x))
    if len(shape) != rank or shape[0] != 1:
        raise builder.refuse(
            f"puts a constant of shape {shape} beside tensors of {rank} axes; give it the shape [1, ...], one for all "
            "samples"
        )
    read = builder.constant(x)
    return builder.fixed(lambda: read()[0], shape[1:], part="constant")


@converter(ops.Reshape)
def reshape(operation: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    batch, *target = operation.newshape if isinstance(operation.newshape, list | tuple) else (operation.newshape,)
    if batch not in (-1, None) or not all(isinstance(n, int | np.integer) and n > 0 for n in target):
        raise builder.refuse(
            f"reshapes to {operation.newshape}; write the batch as -1 and every other dimension as a number"
        )
    return builder.reshape(inputs[0], resolve_shape(tuple(target), inputs[0].shape, builder))
