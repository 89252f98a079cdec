"""Radii that differ between the numbers of a sample: by input, by feature, or 0 where nothing may change."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from tfcert.given import inputs, radii, radius, valid_range
from tfcert.parts import NamedParts
from tfcert.sets.rounding import float_down, float_up


class Scale(NamedTuple):
    """How far each number of an input may change for each unit of the radius: float64 ``[batch, *input]``.

    The true number lies between the two, which differ where it is no float64 (``8/255``): sets that proofs are about
    take ``high``, witnesses have to lie within ``low``. It is 0 where nothing may change.
    """

    low: np.ndarray
    high: np.ndarray

    def take(self, index: Any) -> Scale:
        return Scale(self.low[index], self.high[index])

    def within(self, moving: np.ndarray) -> Scale:
        """The same, and 0 where ``moving`` is False."""
        return Scale(np.where(moving, self.low, 0.0), np.where(moving, self.high, 0.0))


def read_radii(
    eps: Any, shape: tuple[int, ...], parts: NamedParts | None = None
) -> tuple[list[Fraction], Scale | None]:
    """The radius of each sample ``[n, *input]`` (their ``shape``), and how it is shared out; None where evenly.

    Args:
        eps: one number, one a sample, an array of the inputs' shape (with or without the samples), or a dictionary of
            such by the names of inputs.

    Raises:
        ValueError: a negative, NaN or infinite radius, or one that fits nothing.
    """
    eps = radius(eps)
    if isinstance(eps, Mapping) or _by_feature(eps, shape):
        return [Fraction(1)] * shape[0], read_scale(eps, shape, parts, "eps")
    values = radii(eps, shape)
    if not all(isinstance(v, Fraction) or np.isfinite(v) for v in values) or any(v < 0 for v in values):
        raise ValueError("eps must be finite and not negative")
    return [Fraction(v) for v in values], None


def read_scale(value: Any, shape: tuple[int, ...], parts: NamedParts | None, what: str = "scale") -> Scale:
    """What an array of the inputs' shape says, or a dictionary of numbers, texts and arrays by the names of inputs.

    Raises:
        ValueError: a negative, NaN or infinite number, or a shape that does not fit.
    """
    if isinstance(value, Mapping):
        leaves = _leaves(value, parts, what)
        assert parts is not None
        named = zip(parts, leaves, strict=True)
        ends = [_ends(leaf, (shape[0], *part.shape), f"{what}[{part.name!r}]") for part, leaf in named]
        low, high = (np.concatenate([end[side].reshape(shape[0], -1) for end in ends], axis=1) for side in (0, 1))
        return Scale(low, high)
    return Scale(*_ends(value, shape, what))


def read_free(value: Any, shape: tuple[int, ...], parts: NamedParts | None) -> np.ndarray:
    """The mask of what may change, bool ``[n, *input]``: an array of the inputs' shape, names, or a dictionary.

    Raises:
        ValueError: a shape that does not fit, or values that are no booleans (0 and 1 are).
    """
    if parts is not None and (isinstance(value, str) or _are_names(value)):
        names = [value] if isinstance(value, str) else list(value)
        for name in names:
            parts.find(name)
        value = {part.name: part.name in names or part.layer in names for part in parts}
    found = read_scale(value, shape, parts, "free").high
    if not ((found == 0) | (found == 1)).all():
        raise ValueError("free is a mask: True (or 1) where a number may change, False (or 0) where it may not")
    return found > 0


def read_clip(clip: Any, parts: NamedParts | None) -> tuple[np.ndarray, np.ndarray]:
    """The valid range as a pair of numbers or arrays; of a dictionary, by input, everything where it names none.

    Raises:
        ValueError: no such pair, or an empty range.
    """
    if not isinstance(clip, Mapping):
        return valid_range(clip)
    ends = [valid_range(leaf) for leaf in _leaves(clip, parts, "clip", (-np.inf, np.inf))]
    assert parts is not None
    spread = [[_flat(end, part) for end in pair] for pair, part in zip(ends, parts, strict=True)]
    rows = max(len(end) for pair in spread for end in pair)
    low, high = (
        np.concatenate([np.broadcast_to(pair[side], (rows, pair[side].shape[1])) for pair in spread], axis=1)
        for side in (0, 1)
    )
    return (low, high) if rows > 1 else (low[0], high[0])


def _flat(end: np.ndarray, part: Any) -> np.ndarray:
    """An end of an input's range, ``[1 or n, size]``."""
    whole = end.ndim > len(part.shape)
    try:
        return np.broadcast_to(end, (len(end), *part.shape) if whole else (1, *part.shape)).reshape(-1, part.size)
    except ValueError as error:
        raise ValueError(f"clip[{part.name!r}] has an end of shape {end.shape}; the input's is {part.shape}") from error


def _leaves(value: Mapping[Any, Any], parts: NamedParts | None, what: str, default: Any = None) -> list[Any]:
    if parts is None:
        raise ValueError(
            f"{what} is a dictionary by names of inputs ({', '.join(map(str, value))}), but x is one array"
        )
    return parts.leaves(value, what, default)


def _are_names(value: Any) -> bool:
    return isinstance(value, list | tuple | set) and bool(value) and all(isinstance(v, str) for v in value)


def _by_feature(eps: Any, shape: tuple[int, ...]) -> bool:
    """Tells whether radii are one a number of the inputs; where they could be one a sample, they are that."""
    if isinstance(eps, str | Fraction | int | float) or not hasattr(eps, "__len__"):
        return False
    try:
        found = np.shape(eps)
    except ValueError:
        return False
    each = found in ((shape[0],), (shape[0], 1))
    return not each and len(found) > 0 and found in (shape[1:], (1, *shape[1:]), shape)


def _ends(value: Any, shape: tuple[int, ...], what: str) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of ``shape`` and their rounding, down and up."""
    value = radius(value, what)
    if isinstance(value, Fraction):
        low, high = np.array(float_down(value)), np.array(float_up(value))
    else:
        try:
            low = high = np.asarray(inputs(value), np.float64)
        except ValueError as error:
            raise ValueError(f"{what} is a number, or an array of numbers, not {value!r}") from error
    if not (np.isfinite(high).all() and (low >= 0).all()):
        raise ValueError(f"{what} must be finite and not negative")
    if low.ndim and low.shape not in (shape[1:], (1, *shape[1:]), shape):
        raise ValueError(f"{what} has shape {low.shape}; the inputs' is {shape[1:]}, of {shape[0]} samples")
    return np.broadcast_to(low, shape), np.broadcast_to(high, shape)


def divided(step: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Steps in units of their scale; infinite where a number moves that may not."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return np.where(step == 0, 0.0, step / scale)


def onto_ball(step: np.ndarray, eps: np.ndarray, norm: str) -> np.ndarray:
    """The Euclidean projection of each row onto the L2 or L1 ball of radius eps."""
    if norm == "l2":
        length = np.linalg.norm(step, axis=1)
        return step * np.minimum(1.0, eps / np.maximum(length, np.finfo(np.float64).tiny))[:, None]
    size = np.abs(step)
    ordered = -np.sort(-size, axis=1)
    excess = (np.cumsum(ordered, axis=1) - eps[:, None]) / np.arange(1, size.shape[1] + 1)
    last = np.maximum((ordered > excess).sum(axis=1) - 1, 0)
    threshold = np.where(size.sum(axis=1) > eps, np.take_along_axis(excess, last[:, None], axis=1)[:, 0], 0.0)
    return np.sign(step) * np.maximum(size - np.maximum(threshold, 0.0)[:, None], 0.0)
