"""Converters of operations that take tensors apart, and of casts."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfcert.network.builder import Builder, Tensor
from tfcert.network.keras.graph import converter
from tfcert.network.keras.private import core_operations
from tfcert.network.keras.private import numpy_operations as ops


def _axis(operation: Any, builder: Builder, x: Tensor) -> int:
    """The axis of an operation, the batch not counted."""
    axis = int(operation.axis) % (len(x.shape) + 1)
    if axis == 0:
        raise builder.refuse("takes the batch apart; name another axis")
    return axis - 1


@converter(ops.Split)
def split(operation: Any, builder: Builder, inputs: list[Tensor]) -> list[Tensor]:
    x, axis = inputs[0], _axis(operation, builder, inputs[0])
    places = np.arange(int(np.prod(x.shape))).reshape(x.shape)
    pieces = np.split(places, operation.indices_or_sections, axis=axis)
    return [builder.index(x, piece, part=f"piece{i}") for i, piece in enumerate(pieces)]


@converter(core_operations.Unstack)
def unstack(operation: Any, builder: Builder, inputs: list[Tensor]) -> list[Tensor]:
    x, axis = inputs[0], _axis(operation, builder, inputs[0])
    places = np.moveaxis(np.arange(int(np.prod(x.shape))).reshape(x.shape), axis, 0)
    return [builder.index(x, piece, part=f"piece{i}") for i, piece in enumerate(places)]


@converter(core_operations.Cast)
def cast(operation: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    return inputs[0]  # of an input of integers or booleans, or to the type that it has: another is refused before
