"""Rounding: what sums may lose, of the deployed program and of this one.

Both are IEEE 754 to nearest, gradual underflow or flushing to zero. A sum of n products computed in any order, with
fused products or without, is off by at most ``growth(n, u)`` times the sum of the products' sizes: each product takes
part in at most n operations, each of which multiplies it by a number between 1 - u and 1 + u, and a product of k such
numbers is within ``k u / (1 - k u)`` of 1 (Higham 2002, "Accuracy and Stability of Numerical Algorithms", lemma 3.1).

Underflow is kept apart from that. Every number that bounds are computed with is at most ``LARGEST`` in size, or the
bound is given up. An operation of this program that underflows loses at most 2**-1022, which what follows may multiply
by no more than 2**400 until it reaches a bound; with fewer than 2**60 operations that is less than ``LEAST``, which
every bound is lowered by.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from .errors import ProofError

UNIT = 2.0**-53
"""Unit roundoff of this program."""
LARGEST = 2.0**100
"""No value of a network, and no coefficient, may be larger; float32 overflows at 2**128, so that no sum does."""
LEAST = 2.0**-400


def growth(terms: float, unit: float = UNIT) -> float:
    """What so many roundings in a row may add to a number, relative to it: never below ``k u / (1 - k u)``.

    Raises:
        ProofError: a quarter or more: nothing could be proven.
    """
    size = terms * unit
    if size >= 0.25:
        raise ProofError(f"sums of {terms:g} terms are too long for the model's type")
    return size / (1.0 - size) * (1.0 + 2.0**-40)


def weighed(rows: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """``|rows| . vector``, never below it, for rows ``[count, *shape]`` and a vector ``[*shape]`` without negatives.

    A sum of n numbers that are not negative is computed to at least ``1 - growth(n)`` of it.
    """
    flat = np.abs(rows).reshape(len(rows), -1)
    return np.asarray(flat @ vector.reshape(-1)) * (1.0 + 4.0 * growth(flat.shape[1] + 4))


def below(number: Fraction) -> float:
    """The largest float64 that is not above a number."""
    near = float(number)
    return near if Fraction(near) <= number else math.nextafter(near, -math.inf)


def above(number: Fraction) -> float:
    """The smallest float64 that is not below a number."""
    return -below(-number)
