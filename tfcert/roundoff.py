"""Rounding as bounds take it into account: unit roundoffs of the deployed program and of the bounds' own arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

ROUNDINGS = ("deployed", "real", "ignore")
"""What bounds can be about: the network as deployed, as exact arithmetic, or with rounding left out of account."""


@dataclass(frozen=True)
class Rounding:
    """What bounds of a node are charged.

    Attributes:
        deployed: unit roundoff of the program that the bounds are about (2**-24 of float32, 2**-53 of float64); 0 for
            a network in exact arithmetic.
        own: unit roundoff of the type that the bounds are computed in.
        weights: unit roundoff of the type in which we compute the weights that the model computes itself: that of the
            network which a copy of another type reads them from.
        tiny: the smallest normal number of either type, the larger: each operation may lose so much, because results
            below it may be flushed to zero.
    """

    deployed: float
    own: float
    weights: float
    tiny: float

    @property
    def largest(self) -> float:
        """Sizes from which on the deployed program may overflow, half of its largest number."""
        single = 2.0**-24 in (self.deployed, self.own)
        return 2.0**127 if single else 2.0**1023


def unit_roundoff(dtype: Any) -> float:
    """Half the distance from 1 to the next number of a type (NumPy): what rounding changes, relative to a number."""
    return 0.5 * float(np.finfo(dtype).eps)


def rounding_of(kind: str, deployed: Any, own: Any) -> Rounding | None:
    """The rounding of a kind, for a deployed type and that of the bounds (NumPy types); None of ``"ignore"``."""
    if kind == "ignore":
        return None
    units = [unit_roundoff(dtype) for dtype in (deployed, own)]
    tiny = max(float(np.finfo(dtype).tiny) for dtype in (deployed, own))
    return Rounding(units[0] if kind == "deployed" else 0.0, units[1], max(units), tiny)


def rounding_name(rounding: Rounding | None) -> str:
    """The kind that a rounding is of, one of ``ROUNDINGS``."""
    if rounding is None:
        return "ignore"
    return "deployed" if rounding.deployed else "real"


def gamma(terms: float, unit: float) -> float:
    """``k u / (1 - k u)``, never below it: what k roundings in a row may add to a number, relative to it.

    Higham 2002, "Accuracy and Stability of Numerical Algorithms", lemma 3.1; infinite where ``k u >= 1/2``.
    """
    size = terms * unit
    return size / (1.0 - size) * (1.0 + 2.0**-48) if size < 0.5 else math.inf
