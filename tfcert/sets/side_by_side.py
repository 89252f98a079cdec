"""Sets of several points side by side: one set of the vectors that hold the numbers of all of them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tfcert.sets.balls import Box, LpBall, Perturbation
from tfcert.sets.rounding import enclosed
from tfcert.sets.stepped import Stepped
from tfcert.sets.uneven import Scale

_ROUNDS = 32
"""How often sets that share numbers are projected onto in turn, and how many steps lead back to the centre."""


class SideSet(NamedTuple):
    """A set, and the places of its numbers in the vector (in the order in which they lie in the set, flat)."""

    sets: Perturbation
    places: np.ndarray


class SideBySide(Perturbation):
    """The vectors whose numbers at the places of each side lie in that side's set.

    Sides may share numbers: these then lie in the sets of both. What no side holds does not exist: together the sides
    hold every number of the vector.

    Args:
        sides: sets ``[batch, *input]`` of one type, and where their numbers stand.

    Raises:
        ValueError: sets of different types or batches, a place that no side holds, or sets that share numbers and have
            no point in common that could be found.
    """

    norm = "product"

    def __init__(self, sides: Sequence[tuple[Perturbation, np.ndarray]]):
        self.sides = tuple(SideSet(sets, np.asarray(places, np.int64).ravel()) for sets, places in sides)
        sizes = {len(side.sets) for side in self.sides}
        dtypes = {side.sets.lower.dtype for side in self.sides}
        if len(sizes) != 1 or len(dtypes) != 1:
            raise ValueError("sets side by side are of one number of samples and of one type")
        held = np.unique(np.concatenate([side.places for side in self.sides]))
        if not np.array_equal(held, np.arange(len(held))):
            raise ValueError("sets side by side hold every number of the vector")
        self.shared = len(held) < sum(len(side.places) for side in self.sides)
        (count,), (dtype,) = sizes, dtypes
        low, high = np.full((count, len(held)), -np.inf), np.full((count, len(held)), np.inf)
        for sets, places in self.sides:
            ends = [end.reshape(count, -1).astype(np.float64) for end in sets.interval()]
            low[:, places], high[:, places] = np.maximum(low[:, places], ends[0]), np.minimum(high[:, places], ends[1])
        if (low > high).any():
            sample = int(np.argwhere(low > high)[0][0])
            raise ValueError(f"the set of sample {sample} is empty: points that share a number have no value for it")
        self.lower, self.upper = low.astype(dtype), high.astype(dtype)
        self._center = self._common()

    def _common(self) -> np.ndarray:
        """A point of all sets: the sides' own centres where they agree."""
        center = np.zeros_like(self.lower)
        for sets, places in reversed(self.sides):
            center[:, places] = sets.center.reshape(len(center), -1)
        center = self._in_turn(np.clip(center, self.lower, self.upper))
        if not self.contains(center).all():
            sample = int(np.argmin(self.contains(center)))
            raise ValueError(f"no point of the set of sample {sample} was found: its points share numbers")
        return center

    def __repr__(self) -> str:
        return f"{len(self.sides)} sets side by side: {'; '.join(repr(side.sets) for side in self.sides)}"

    @property
    def center(self) -> np.ndarray:
        return self._center

    def astype(self, dtype: Any) -> SideBySide:
        return SideBySide([(sets.astype(dtype), places) for sets, places in self.sides])

    def take(self, index: Any) -> SideBySide:
        # What was found right for all samples is right for some: nothing is looked for again.
        part, index = copy.copy(self), np.arange(len(self))[index]
        part.sides = tuple(SideSet(sets.take(index), places) for sets, places in self.sides)
        part.lower, part.upper, part._center = self.lower[index], self.upper[index], self._center[index]
        return part

    def arranged(self, places: np.ndarray) -> SideBySide:
        here = np.argsort(places)
        return SideBySide([(sets, here[own]) for sets, own in self.sides])

    @classmethod
    def joined(cls, sets: Sequence[Any]) -> SideBySide:
        columns = zip(*(one.sides for one in sets), strict=True)
        return SideBySide(
            [(type(parts[0].sets).joined([part.sets for part in parts]), parts[0].places) for parts in columns]
        )

    def lengths(self, points: np.ndarray) -> np.ndarray:
        """The distance of each point from the centre, by the side where that is largest: ``[batch]``."""
        flat = points.reshape(len(points), -1)
        return np.max([s.sets.lengths(self._of(s, flat)) for s in self.sides], axis=0)

    def moving(self) -> np.ndarray:
        found = np.ones(self.lower.shape, bool)
        for sets, places in self.sides:
            found[:, places] &= sets.moving().reshape(len(found), -1)
        return found

    def contains(self, z: np.ndarray) -> np.ndarray:
        z = self._one_each(z)
        return np.all([side.sets.contains(self._of(side, z)) for side in self.sides], axis=0)

    def project(self, z: np.ndarray) -> np.ndarray:
        point = self._in_turn(self._one_each(z).astype(self.lower.dtype))
        share, outside = 1.0, ~self.contains(point)
        for step in range(_ROUNDS + 1):  # sets that share numbers: back towards the centre, which is in all of them
            if not outside.any():
                return point
            share = 0.0 if step == _ROUNDS else share * 0.75
            wide = self._center.astype(np.float64)
            moved = (wide + share * (point - wide)).astype(point.dtype)
            tried = np.where(outside[:, None], np.clip(moved, self.lower, self.upper), point)
            tried = np.where(share > 0, tried, np.where(outside[:, None], self._center, point))
            inside = self.contains(tried)
            point, outside = np.where(inside[:, None], tried, point), outside & ~inside
        return point

    def _in_turn(self, z: np.ndarray) -> np.ndarray:
        """Points projected onto one side after the other: once, or where they share numbers until all agree."""
        point = z.copy()
        if self.shared:
            point = np.clip(point, *enclosed(self.lower, self.upper, point.dtype))
        for _ in range(_ROUNDS if self.shared else 1):
            for side in self.sides:
                own = side.sets.project(self._of(side, point))
                point[:, side.places] = own.reshape(len(point), -1)
            if not self.shared or self.contains(point).all():
                break
        return point

    @staticmethod
    def _of(side: SideSet, flat: np.ndarray) -> np.ndarray:
        """What a side's set sees of vectors ``[batch, size]``."""
        return np.asarray(flat[:, side.places].reshape(len(flat), *side.sets.input_shape))


def side_by_side(sides: Sequence[tuple[Perturbation, np.ndarray]]) -> Perturbation:
    """Sets side by side: a single ball in order is itself, laid out flat, and boxes alone are one box.

    The numbers of that box keep the values that they have on some side.

    Raises:
        ValueError: as for :class:`SideBySide`.
    """
    ball, places = sides[0]
    if len(sides) == 1 and isinstance(ball, LpBall) and np.array_equal(places, np.arange(ball.lower[0].size)):
        return _flat(ball)
    whole = SideBySide(sides)
    if not all(isinstance(side.sets, Box) for side in whole.sides):
        return whole
    steps: dict[int, np.ndarray] = {}
    for sets, places in whole.sides:
        for place, values in sets.steps.items() if isinstance(sets, Stepped) else ():
            number = int(places[place])
            steps[number] = np.intersect1d(steps.get(number, values), values)
    return Stepped(whole.lower, whole.upper, steps) if steps else Box(whole.lower, whole.upper)


def _flat(ball: LpBall) -> LpBall:
    """A ball of inputs of any shape as one of vectors."""
    shape, rows = ball.x.shape, (len(ball), -1)
    ends = None if ball.clip is None else tuple(np.broadcast_to(end, shape).reshape(rows) for end in ball.clip)
    scale = None if ball.scale is None else Scale(*(end.reshape(rows) for end in ball.scale))
    return LpBall(ball.x.reshape(rows), ball.exact_eps, ball.norm, ends, scale=scale)


def boxed(sets: Perturbation) -> Perturbation:
    """The smallest box that encloses sets, where all of them are boxes up to rounding; the sets themselves otherwise.

    For proofs: it is rounded outward.
    """
    sides = sets.sides if isinstance(sets, SideBySide) else ()
    boxes = bool(sides) and all(side.sets.norm == "linf" for side in sides)
    return Box(*sets.interval()) if boxes else sets
