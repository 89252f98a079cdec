"""Both roundings, once: outward for sets that proofs are about, inward for sets that witnesses must lie in."""

from __future__ import annotations

import math
import sys
from fractions import Fraction
from typing import Any

import numpy as np

BoxEnds = tuple[np.ndarray, np.ndarray]
"""Lower and upper ends of boxes."""


def round_down(x: np.ndarray, dtype: Any) -> np.ndarray:
    """The largest numbers of ``dtype`` that are not above ``x``."""
    near = np.asarray(x).astype(dtype)
    return np.where(near > x, np.nextafter(near, np.array(-np.inf, dtype)), near)


def round_up(x: np.ndarray, dtype: Any) -> np.ndarray:
    """The smallest numbers of ``dtype`` that are not below ``x``."""
    near = np.asarray(x).astype(dtype)
    return np.where(near < x, np.nextafter(near, np.array(np.inf, dtype)), near)


def float_down(number: Fraction) -> float:
    """The largest finite float64 that is not above the number; minus infinity where there is none."""
    try:
        nearest = float(number)
    except OverflowError:
        return sys.float_info.max if number > 0 else -math.inf
    return nearest if Fraction(nearest) <= number else math.nextafter(nearest, -math.inf)


def float_up(number: Fraction) -> float:
    """The smallest finite float64 that is not below the number; infinity where there is none."""
    return -float_down(-number)


def enclosing(low: np.ndarray, high: np.ndarray, dtype: Any) -> BoxEnds:
    """The smallest boxes with ends of ``dtype`` that hold those given: rounded outward."""
    return round_down(low, dtype), round_up(high, dtype)


def enclosed(low: np.ndarray, high: np.ndarray, dtype: Any) -> BoxEnds:
    """The largest boxes with ends of ``dtype`` that those given hold: rounded inward; the lower end may exceed the
    upper one, where no number of ``dtype`` lies between."""
    return round_up(low, dtype), round_down(high, dtype)


def outward(center: np.ndarray, eps: np.ndarray) -> BoxEnds:
    """Boxes in float64 that hold every point within ``eps`` of ``center``, each side the centre itself where eps is 0.

    A sum is rounded once in float64; one more step covers that.
    """
    wide = center.astype(np.float64)
    low = np.where(eps > 0, np.nextafter(wide - eps, -np.inf), wide)
    return low, np.where(eps > 0, np.nextafter(wide + eps, np.inf), wide)


def inward(center: np.ndarray, eps: np.ndarray) -> BoxEnds:
    """Boxes in float64 that hold ``center`` and nothing farther from it than ``eps`` in any entry."""
    wide = center.astype(np.float64)
    # The centre lies in every ball: rounding inward must not lose it.
    low = np.where(eps > 0, np.minimum(np.nextafter(wide - eps, np.inf), wide), wide)
    return low, np.where(eps > 0, np.maximum(np.nextafter(wide + eps, -np.inf), wide), wide)
