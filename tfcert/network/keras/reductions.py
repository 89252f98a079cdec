"""Converters of operations that add up, compare or accumulate along axes, and of those that put tensors together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tfcert.network.builder import Builder, Tensor
from tfcert.network.keras.graph import converter
from tfcert.network.keras.ops import as_tensor
from tfcert.network.keras.private import numpy_operations as ops


def axes_of(operation: Any, builder: Builder, x: Tensor) -> tuple[int, ...]:
    """The axes that an operation reduces, the batch not counted."""
    given = operation.axis
    if given is None:
        given = range(len(x.shape) + 1)
    found = [int(axis) % (len(x.shape) + 1) for axis in (given if isinstance(given, list | tuple | range) else [given])]
    if 0 in found:
        raise builder.refuse("reduces the batch, which mixes samples; name axes from 1 on")
    return tuple(axis - 1 for axis in found)


@converter(ops.Sum)
def total(operation: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    return builder.sum(inputs[0], axes_of(operation, builder, inputs[0]), operation.keepdims)


@converter(ops.Mean)
def mean(operation: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    return builder.mean(inputs[0], axes_of(operation, builder, inputs[0]), operation.keepdims)


@converter(ops.Max, ops.Amax)
def largest(operation: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    found = builder.reduce_max(inputs[0], axes_of(operation, builder, inputs[0]), operation.keepdims)
    return _at_least(operation, builder, found, 1.0)


@converter(ops.Min, ops.Amin)
def smallest(operation: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    found = _least(builder, inputs[0], axes_of(operation, builder, inputs[0]), operation.keepdims)
    return _at_least(operation, builder, found, -1.0)


def _least(builder: Builder, x: Tensor, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    minus = builder.constant(-1.0)
    largest = builder.reduce_max(builder.scale(x, minus, part="turned"), axes, keepdims, part="largest")
    return builder.scale(largest, minus)


def _at_least(operation: Any, builder: Builder, x: Tensor, sign: float) -> Tensor:
    """The result of a maximum (minimum, for sign -1) with the number that it begins with."""
    initial = getattr(operation, "initial", None)
    if initial is None:
        return x
    limit = builder.number(initial)
    low, high = (limit, np.inf) if sign > 0 else (-np.inf, limit)
    return builder.activation(x, "clip", lower=low, upper=high, part="initial")


@converter(ops.Ptp)
def spread(operation: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    x, axes = inputs[0], axes_of(operation, builder, inputs[0])
    least = _least(builder, x, axes, operation.keepdims)
    turned = builder.scale(least, builder.constant(-1.0), part="negative")
    return builder.add([builder.reduce_max(x, axes, operation.keepdims, part="largest"), turned])


@converter(ops.Var)
def variance(operation: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    return _variance(operation, builder, inputs[0])


@converter(ops.Std)
def deviation(operation: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    return builder.activation(_variance(operation, builder, inputs[0]), "sqrt", part="root")


def _variance(operation: Any, builder: Builder, x: Tensor) -> Tensor:
    """The mean of the squares of what is left without the mean."""
    axes = axes_of(operation, builder, x)
    means = builder.broadcast(builder.mean(x, axes, keepdims=True, part="mean"), x.shape, part="means")
    apart = builder.add([x, builder.scale(means, builder.constant(-1.0), part="negative")], part="apart")
    return builder.mean(builder.activation(apart, "square", part="square"), axes, operation.keepdims)


def along_axis(operation: Any, builder: Builder, x: Tensor, matrix: Callable[[int], np.ndarray]) -> Tensor:
    """A matrix ``[length, size]``, made for the length of the operation's axis, applied along that."""
    if operation.axis is None and len(x.shape) != 1:
        raise builder.refuse("works on all numbers in a row, those of other samples too; name an axis from 1 on")
    axis = (1 if operation.axis is None else int(operation.axis)) % (len(x.shape) + 1)
    if axis == 0:
        raise builder.refuse("works along the batch, which mixes samples; name an axis from 1 on")
    weights = matrix(x.shape[axis - 1])
    return builder.along(x, builder.constant(weights), weights.shape[1], axis - 1)


@converter(ops.Cumsum)
def cumulated(operation: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    return along_axis(operation, builder, inputs[0], lambda n: np.triu(np.ones((n, n))))


@converter(ops.Diff)
def differences(operation: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    return along_axis(operation, builder, inputs[0], lambda n: np.diff(np.eye(n), n=operation.n, axis=1))


@converter(ops.Stack)
def stacked(operation: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    rank = len(inputs[0].shape) + 2
    axis = operation.axis % rank
    if axis == 0:
        raise builder.refuse("stacks along a new first axis, where the batch must be; stack along axis 1 or later")
    slices = [
        builder.reshape(x, (*x.shape[: axis - 1], 1, *x.shape[axis - 1 :]), part=f"slice{i}")
        for i, x in enumerate(inputs)
    ]
    return builder.concatenate(slices, axis - 1)


@converter(ops.Hstack, ops.Append, constants=True)
def beside(operation: Any, builder: Builder, inputs: list[Any]) -> Tensor:
    rank = max(len(x.shape) for x in inputs if isinstance(x, Tensor)) + 1
    axis = 1 if isinstance(operation, ops.Hstack) else operation.axis
    if axis is None or axis % rank == 0:
        raise builder.refuse("puts samples one after the other; name an axis from 1 on")
    return builder.concatenate([as_tensor(builder, x, rank) for x in inputs], axis % rank - 1)
