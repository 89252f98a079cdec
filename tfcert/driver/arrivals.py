"""Values as a network receives them: stored samples on their way there, and exact numbers laid out by its inputs."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from tfcert.errors import UsageError
from tfcert.language import Transform

InputShape = tuple[int, ...]


def fits(given: InputShape, shape: InputShape) -> bool:
    """Tells whether a network of one shape takes samples of another: axes of length 1 apart, or laid out flat."""
    same_but_ones = [d for d in given if d != 1] == [d for d in shape if d != 1]
    return same_but_ones or (len(shape) == 1 and int(np.prod(given)) == shape[0])


def to_net(transform: Transform, x: np.ndarray, dtype: Any) -> np.ndarray:
    """Stored values ``[samples, ..., channels]`` as the network receives them, computed in float64 and rounded once.

    Each step is monotone, so a value inside a range stays inside the range taken through the same steps.

    Raises:
        UsageError: ``normalize`` has neither one number, nor one a channel, nor one an input.
    """
    return _moved(transform, np.asarray(x, np.float64), normalization(transform, tuple(np.shape(x)[1:]))).astype(dtype)


def _moved(transform: Transform, raw: np.ndarray, moves: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    unit = raw * float(transform.scale) if transform.scales else raw
    return (unit - moves[0]) / moves[1] if transform.normalises else unit


def to_unit(transform: Transform, z: np.ndarray) -> np.ndarray:
    """Network inputs ``[..., *input]`` in unit space, for pictures (rounded)."""
    size = max(len(transform.mean), len(transform.std))
    shape = z.shape if size == z.size else z.shape[1:]
    mean, std = normalization(transform, shape)
    return np.asarray(z, np.float64) * std + mean


def normalization(transform: Transform, shape: InputShape) -> tuple[np.ndarray, np.ndarray]:
    """Mean and std, in float64, ready to broadcast against inputs of ``shape``.

    Raises:
        UsageError: there is neither one number, nor one a channel (the last axis), nor one an input.
    """
    whole = int(np.prod(shape))
    for values in (transform.mean, transform.std):
        if len(values) not in (1, whole, *shape[-1:]):
            channels = f"one a channel ({shape[-1]}) or " if len(shape) > 1 else ""
            raise UsageError(
                f"`normalize` has {len(values)} numbers, and inputs have shape {shape}: it takes one number, {channels}"
                f"one an input ({whole})"
            )
    mean, std = (laid_out([float(v) for v in values], shape) for values in (transform.mean, transform.std))
    return mean, std


def arrival(transform: Transform, space: str, value: Fraction, dtype: Any) -> np.ndarray:
    """The values that ``to_net`` takes a stored value to: one number, or one for each channel or input."""
    if space == "net":
        return np.array([float(value)]).astype(dtype).astype(np.float64)
    raw = value / transform.scale if space == "unit" else value
    mean, std = (np.array([float(v) for v in values]) for values in (transform.mean, transform.std))
    return _moved(transform, np.array([float(raw)]), (mean, std)).astype(dtype).astype(np.float64)


def laid_out(values: Sequence[float] | np.ndarray, shape: InputShape) -> np.ndarray:
    """One value for all inputs, one for each input, or one for each channel (the last axis), ready to broadcast."""
    array = np.array(values, np.float64)
    if array.size == 1:
        return array
    if array.size == int(np.prod(shape)):
        return array.reshape(shape)
    if array.size == shape[-1]:
        return array
    raise UsageError(f"{array.size} bounds were given for an input of shape {shape}")
