"""Slices of L2 and L1 balls: where some numbers of an input have one value each, what is left is a ball of the others.

Of ``sum(|u_i|^p) <= 1``, u the change by the radius, numbers with a value take their share, and the others have the
rest: a ball around the same centre, whose radius is multiplied by ``(1 - sum)^(1/p)``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from tfcert.driver.overlaps import Frame, fixed_values, mask_of
from tfcert.language import BallSpec
from tfcert.language.spec.regions import BothSpec

_BITS = 96
"""Roots are exact to so many binary places."""


@dataclass(frozen=True)
class Slices:
    """What values of some numbers leave of one ball a sample.

    Attributes:
        centers: ``[batch, *shape]``, the samples with these values.
        moving: ``[1, *shape]``, marks the other numbers.
        proof, witness: what the radius is multiplied with, at least and at most; None where nothing is left.
    """

    centers: np.ndarray
    moving: np.ndarray
    proof: list[Fraction | None]
    witness: list[Fraction | None]

    @property
    def empty(self) -> np.ndarray:
        """Marks the samples ``[batch]`` whose ball has no such values."""
        return np.array([share is None for share in self.proof])


def slices_of(
    both: BothSpec, ball: BallSpec, frame: Frame, centers: np.ndarray, radii: Sequence[Fraction]
) -> Slices | None:
    """The slices of a ball in which limits leave some numbers one value each; None where they leave none.

    A value is known up to where it arrives in the network, and a centre up to its own rounding, as for intervals
    (:mod:`tfcert.driver.overlaps`).
    """
    values = fixed_values(both, frame)
    if not values:
        return None
    moved = centers.copy().reshape(len(centers), -1)
    mask, moving = mask_of(ball, frame), np.ones(frame.size, bool)
    proof: list[Fraction | None] = []
    witness: list[Fraction | None] = []
    shares = frame.each(ball.shares) if ball.shares else (Fraction(1),) * frame.size
    inexact = frame.transform.scales or frame.transform.normalises
    for sample, r in enumerate(radii):
        eps = frame.each(ball.net_eps(frame.transform, r))
        spent: tuple[list[Fraction], list[Fraction]] = ([], [])
        for place, (exact, arrived) in values.items():
            center = Fraction(float(moved[sample, place]))
            near = min(abs(exact - center), abs(Fraction(arrived) - center))
            near = max(Fraction(0), near - Fraction(float(np.spacing(np.abs(moved[sample, place])))))
            reach = eps[place] * shares[place] if mask is None or mask.reshape(-1)[place] else Fraction(0)
            for part, step in zip(spent, (near, near if inexact else abs(Fraction(arrived) - center)), strict=True):
                part.append(step / reach if reach else Fraction(2 if step else 0))
            moved[sample, place], moving[place] = arrived, False
        for found, part, up in ((proof, spent[0], True), (witness, spent[1], False)):
            found.append(_rest(part, ball.norm, up))
    return Slices(moved.reshape(centers.shape), moving.reshape(1, *frame.shape), proof, witness)


def _rest(spent: Sequence[Fraction], norm: str, up: bool) -> Fraction | None:
    """The share of the radius that is left, rounded; None where nothing is."""
    left = 1 - sum((step if norm == "l1" else step * step for step in spent), Fraction(0))
    if left < 0:
        return None
    if norm == "l1":
        return left
    root = Fraction(math.isqrt((left.numerator << 2 * _BITS) // left.denominator), 1 << _BITS)
    return root if not up or root * root == left else root + Fraction(1, 1 << _BITS)
