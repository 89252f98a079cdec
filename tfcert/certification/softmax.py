"""Bounds of probabilities from bounds of the differences of logits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tfcert.sets.rounding import round_down, round_up

LowerBounds = Callable[[np.ndarray], np.ndarray]
"""Lower bounds ``[batch, rows]`` of linear functions ``[rows, classes]`` of the logits, over each set."""

_ROWS = 1024


def softmax_bounds(classes: int, lower_bounds: LowerBounds) -> tuple[np.ndarray, np.ndarray]:
    """Bounds ``[batch, classes]`` of the softmax of logits z over each set.

    ``p_i = 1 / sum_j exp(z_j - z_i)`` falls with every difference, so bounds of the differences bound it, rounded
    outward here. With exact bounds of the differences both are attained where two classes are all there are; with
    more, the differences are taken at their ends at once.

    Args:
        classes: how many logits there are; all their ``classes * (classes - 1)`` differences are bounded.
        lower_bounds: is called with some of these at a time, always as many.
    """
    least = _differences(classes, lower_bounds)
    dtype = least.dtype
    least = least.astype(np.float64)
    with np.errstate(over="ignore"):  # an infinite sum is a probability of 0
        low, high = 1 / np.exp(-least).sum(axis=2), 1 / np.exp(least).sum(axis=1)
    rounding = (classes + 8) * np.finfo(np.float64).eps  # of the exponentials, of their sum and of its inverse
    low = round_down(np.maximum(low * (1 - rounding), 0.0), dtype)
    return low, round_up(np.minimum(high * (1 + rounding), 1.0), dtype)


def _differences(classes: int, lower_bounds: LowerBounds) -> np.ndarray:
    """Lower bounds of ``z_i - z_j``, ``[batch, i, j]``, 0 where the two are one."""
    first, second = np.nonzero(~np.eye(classes, dtype=bool)) if classes > 1 else np.zeros((2, 1), int)
    pairs = len(first)
    size = min(pairs, _ROWS)
    eye, parts = np.eye(classes), []
    for start in range(0, pairs, size):
        some = np.arange(start, start + size) % pairs  # the last call repeats some, so that all have one size
        parts.append(lower_bounds(eye[first[some]] - eye[second[some]]))
    found = np.concatenate(parts, axis=1)[:, :pairs]
    least = np.zeros((len(found), classes, classes), found.dtype)
    # An infinity of either sign, and NaN, come of an overflow: nothing is known there.
    least[:, first, second] = np.where(np.isfinite(found), found, -np.inf)
    return least
