"""The set of inputs of a claim, and the least value of rows over it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from .errors import ProofError
from .rounding import LARGEST, above, growth, weighed

_NUMBER = re.compile(r"[0-9]{1,400}(/0*[1-9][0-9]{0,399})?")


@dataclass(frozen=True)
class Inputs:
    """A set of inputs, enclosed by a box and, in the norms l2 and l1, by a ball as well.

    The ball is ``||(x - center) / scale|| <= radius``, number by number; where the scale is 0 a number does not move.

    Attributes:
        low, high: ends of the box ``[*shape]``, rounded outward from exact arithmetic.
        norm: "linf", "l2" or "l1".
        center: of the ball, or any point of the box.
        radius: rounded up; infinite where there is no ball beside the box.
        scale: None for 1.
        said: the set in words.
    """

    low: np.ndarray
    high: np.ndarray
    norm: str
    center: np.ndarray
    radius: float
    scale: np.ndarray | None
    said: str

    @property
    def ball(self) -> bool:
        """Tells whether there is a ball beside the box."""
        return not math.isinf(self.radius)

    def cut(self, number: int, at: float, above: bool) -> Inputs:
        """The part of the set at which a number is at most or at least ``at``; where there is none, ends cross."""
        low, high = self.low.copy(), self.high.copy()
        (low if above else high).flat[number] = (max if above else min)(at, (low if above else high).flat[number])
        return replace(self, low=low, high=high)

    def least(self, rows: np.ndarray) -> np.ndarray:
        """A lower bound of each of the rows ``[count, *shape]`` over the set.

        Rows are split into ``g + p``, ``g`` between 0 and the row; the first part is bounded over the ball, ``g . c -
        radius ||scale g||`` in the dual norm, and the second over the box, number by number; any split will do. All
        sums are of n terms, each no larger than ``|row|`` times the sizes ``m`` of the ends and of the centre, and
        radius; they lose ``growth(n + 8)`` of that, as often as they are made.
        """
        flat = rows.reshape(len(rows), -1)
        some = np.flatnonzero((flat != 0).any(axis=0))  # the others add 0
        flat = flat[:, some]
        low, high, center = (part.reshape(-1)[some] for part in (self.low, self.high, self.center))
        size = np.maximum(np.maximum(np.abs(low), np.abs(high)), np.abs(center))
        lost = 8.0 * growth(flat.shape[1] + 8) * weighed(flat, size)
        boxed = np.minimum(flat, 0.0) @ high + np.maximum(flat, 0.0) @ low
        if not self.ball:
            return np.asarray(boxed - lost)
        found = boxed
        scale = np.ones_like(center) if self.scale is None else self.scale.reshape(-1)[some]
        room = np.where(flat > 0, center - low, high - center)
        cut = self.scale is None and bool((room < self.radius).any())
        for part in (flat, *([self._split(flat, np.maximum(room, 0.0))] if cut else [])):
            rest = flat - part
            slack = np.abs(part * scale)
            norm = slack.max(axis=1, initial=0.0) if self.norm == "l1" else np.sqrt(np.square(slack).sum(axis=1))
            # Squares below 2**-1022 may have been lost, of at most 2**24 numbers.
            norm = (norm * (1.0 + 4.0 * growth(flat.shape[1] + 8)) + 2.0**-480) * self.radius
            over = part @ center + np.minimum(rest, 0.0) @ high + np.maximum(rest, 0.0) @ low
            found = np.maximum(found, over - norm * (1.0 + 2.0**-48))
        return np.asarray(found - lost)

    def _split(self, flat: np.ndarray, room: np.ndarray) -> np.ndarray:
        """The part of rows that is bounded over the ball: where the ball's best point leaves the box, which has so much
        room on each side, less of it."""
        size = np.abs(flat)
        if self.norm == "l1":
            order = np.argsort(-size, axis=1)
            used = np.cumsum(np.take_along_axis(room, order, axis=1), axis=1)
            place = np.minimum((used < self.radius).sum(axis=1), flat.shape[1] - 1)
            level = np.take_along_axis(np.take_along_axis(size, order, axis=1), place[:, None], axis=1)
            level = np.where(used[:, -1:] <= self.radius, 0.0, level)
            return np.asarray(np.sign(flat) * np.minimum(size, level))
        # The best point moves by min(room, t |row|), for the t at which that is as long as the radius. Numbers are cut
        # off by the box in the order of room / |row|: after k of them, t^2 is what they leave of the radius's square,
        # over the squares of the other rows.
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(size > 0, room / size, np.inf)
            order = np.argsort(ratio, axis=1)
            ratio, moved, free = (np.take_along_axis(part, order, axis=1) for part in (ratio, room**2, size**2))
            left = np.maximum(self.radius**2 - (np.cumsum(moved, axis=1) - moved), 0.0)
            squares = left / np.cumsum(free[:, ::-1], axis=1)[:, ::-1]
            place = np.argmax(np.sqrt(squares) <= ratio, axis=1)[:, None]
            t = np.sqrt(np.take_along_axis(squares, place, axis=1))
            return np.asarray(np.sign(flat) * np.where(t > 0, np.minimum(size, room / t), size))


def box_of(low: np.ndarray, high: np.ndarray) -> Inputs:
    """A box by itself."""
    return Inputs(low, high, "linf", 0.5 * low + 0.5 * high, math.inf, None, "a box")


def read_inputs(said: Mapping[str, Any], arrays: Mapping[str, np.ndarray], shape: tuple[int, ...]) -> Inputs:
    """The set that a certificate describes: see ``docs/certificates.md``, "Regions".

    Raises:
        ProofError: it is empty, reaches beyond what is computed with, or is not described as it should be.
    """
    kind = said.get("kind")
    wanted = {"box": ("low", "high"), "ball": ("center",)}.get(str(kind))
    if wanted is None:
        raise ProofError(f"a region of kind {kind!r} is not known")
    known = {name: _ends(arrays, name, shape, exact=name in wanted) for name in ("low", "high", "center", "scale")
             if f"region/{name}" in arrays}  # fmt: skip
    missing = [name for name in wanted if name not in known]
    if missing:
        raise ProofError(f"the region has no {missing[0]!r}")
    if kind == "box":
        if (known["low"] > known["high"]).any():
            raise ProofError("the region is empty: a lower end exceeds its upper end")
        return box_of(known["low"], known["high"])
    norm, radius = said.get("norm"), _fraction(said.get("eps"))
    if norm not in ("linf", "l2", "l1"):
        raise ProofError(f"a ball in the norm {norm!r} is not known")
    if ("low" in known) != ("high" in known):
        raise ProofError("the region has one end of its limits")
    center, scale = known["center"], known.get("scale")
    if scale is not None and (scale < 0).any():
        raise ProofError("the region has a negative scale")
    low, high = _box(center, radius, scale, known.get("low"), known.get("high"))
    ball = math.inf if norm == "linf" else above(radius)
    words = f"{norm} ball of radius {radius}" + (" (scaled)" if scale is not None else "")
    return Inputs(low, high, str(norm), center, ball, scale, words + (" within limits" if "low" in known else ""))


def _ends(arrays: Mapping[str, np.ndarray], name: str, shape: tuple[int, ...], exact: bool) -> np.ndarray:
    found = arrays[f"region/{name}"]
    try:
        whole = np.broadcast_to(found, shape)
    except ValueError:
        raise ProofError(f"region/{name} has shape {found.shape}, and inputs {shape}") from None
    if found.dtype.kind != "f" or (exact and found.shape != shape):
        raise ProofError(f"region/{name} has type {found.dtype} and shape {found.shape}, and inputs {shape}")
    whole = whole.astype(np.float64)
    if not (np.abs(whole) <= LARGEST).all():
        raise ProofError(f"region/{name} holds a NaN, or a number larger than 2**100")
    return whole


def _fraction(said: Any) -> Fraction:
    if not isinstance(said, str) or not _NUMBER.fullmatch(said):
        raise ProofError(f"the radius {str(said)[:80]!r} is no fraction of whole numbers, as in '3/100'")
    found = Fraction(said)
    if found > LARGEST:
        raise ProofError("the radius is larger than 2**100")
    return found


def _box(
    center: np.ndarray, radius: Fraction, scale: np.ndarray | None, low: np.ndarray | None, high: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """The ends of the box around a ball that limits cut; sums and products to nearest, moved on by one number each."""
    reach = np.full(center.shape, above(radius))
    if scale is not None:
        reach = np.where(scale > 0, np.nextafter(reach * scale, np.inf), 0.0)
    lower, upper = (
        np.where(reach > 0, np.nextafter(center + side * reach, side * np.inf), center) for side in (-1.0, 1.0)
    )
    if low is not None and high is not None:
        if not ((low <= center) & (center <= high)).all():
            raise ProofError("the centre of the region lies outside of its limits")
        lower, upper = np.maximum(lower, low), np.minimum(upper, high)
    return lower, upper
