"""Intersections of balls and boxes, and inputs that have some values only, as sets in network space.

An end of an interval is where a stored value at that end arrives in the network, or further out; a listed value and a
whole number is where it arrives, and nothing else is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from tfcert.driver.arrivals import InputShape, arrival, laid_out
from tfcert.errors import UsageError
from tfcert.language import BallSpec, Transform
from tfcert.language.spec.places import NoPlaceError
from tfcert.language.spec.regions import INTEGERS, BothSpec, LimitsSpec, ValueKind
from tfcert.sets.balls import Box
from tfcert.sets.rounding import enclosed, enclosing, float_down, float_up, inward, outward
from tfcert.sets.stepped import Stepped

BoxSides = tuple[np.ndarray, np.ndarray]
"""Lower and upper ends ``[batch, *shape]`` in float64."""


@dataclass(frozen=True)
class Frame:
    """What exact numbers become sets in: the way to network space, the inputs' shape and their type."""

    transform: Transform
    shape: InputShape
    dtype: Any

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    def each(self, values: Sequence[Fraction]) -> tuple[Fraction, ...]:
        """One number for each of an input's: those of channels (the last axis) again and again.

        Raises:
            UsageError: so many fit neither.
        """
        if self.size % len(values) or len(values) not in (1, self.size, self.shape[-1]):
            raise UsageError(f"{len(values)} bounds were given for an input of shape {self.shape}")
        return tuple(values) * (self.size // len(values))

    def net(self, space: str, value: Fraction, place: int) -> Fraction:
        """A value of one number of an input in network space."""
        factor, offset = self.transform.stored(place)
        raw = value if space == "raw" else value / self.transform.scale
        return value if space == "net" else (raw - offset) / factor

    def arrives(self, space: str, value: Fraction, place: int) -> float:
        """Where a value of one number of an input arrives."""
        found = arrival(self.transform, space, value, self.dtype)
        return float(found[place % found.size])


@dataclass(frozen=True)
class Overlap:
    """The intersection of some intervals for each number of each sample.

    Attributes:
        proof, witness: intervals that hold those that are meant, and that are held by them.
        steps: values of some numbers, by place, in order: witnesses have one of these.
    """

    proof: BoxSides
    witness: BoxSides
    steps: dict[int, np.ndarray]

    @property
    def empty(self) -> np.ndarray:
        """Marks the samples for which nothing is left."""
        low, high = self.proof
        return np.asarray((low > high).any(axis=tuple(range(1, low.ndim))))

    def take(self, index: Any) -> Overlap:
        """Those of some samples."""
        proof, witness = ((low[index], high[index]) for low, high in (self.proof, self.witness))
        return Overlap(proof, witness, self.steps)

    def boxes(self, dtype: Any) -> tuple[Box, Box | None]:
        """The boxes of proofs and of witnesses; None where no number of the type lies in some sample's."""
        proof, witness = enclosing(*self.proof, dtype), enclosed(*self.witness, dtype)
        none = bool((witness[0] > witness[1]).any())
        if not self.steps:
            return Box(*proof), None if none else Box(*witness)
        return Stepped(*proof, self.steps), None if none else Stepped(*witness, self.steps)


def reach_of(
    ball: BallSpec, frame: Frame, radii: Sequence[Fraction], masks: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """How far a ball lets each number move, rounded down and up: ``[batch, *shape]``."""
    units = frame.each(ball.net_eps(frame.transform, 0) if not ball.slope else (Fraction(0),))
    found = []
    for rounding in (float_down, float_up):
        rows = []
        for r in radii:
            eps = frame.each(ball.net_eps(frame.transform, r)) if ball.slope else units
            shared = (e * s for e, s in zip(eps, frame.each(ball.shares), strict=True)) if ball.shares else eps
            rows.append(np.array([rounding(e) for e in shared]).reshape(frame.shape))
            if not ball.slope:
                break
        found.append(np.broadcast_to(np.stack(rows), (len(radii), *frame.shape)))
    moving = mask_of(ball, frame) if masks is None else masks
    low, high = (side if moving is None else np.where(moving, side, 0.0) for side in found)
    return low, high


def mask_of(ball: BallSpec, frame: Frame) -> np.ndarray | None:
    """Which numbers may change, ``[*shape]``; None for all.

    Raises:
        UsageError: places that the inputs do not have.
    """
    if ball.places is None:
        return None
    try:
        return ball.places.on(frame.shape)
    except NoPlaceError as error:
        raise UsageError(str(error)) from error


def overlap_of(
    both: BothSpec,
    frame: Frame,
    centers: np.ndarray | None,
    radii: Sequence[Fraction],
    apart: BallSpec | None = None,
) -> Overlap:
    """The intervals that all linf balls and all limits have in common, one set a sample.

    Args:
        centers: ``[batch, *shape]``; None without balls.
        radii: the value of a measure's variable for each sample; zeros for a property.
        apart: a ball that counts with its valid values alone.
    """
    shape = (len(radii), *frame.shape)
    sides = [np.full(shape, side) for side in (-np.inf, np.inf, -np.inf, np.inf)]
    for ball in both.balls:
        assert centers is not None
        clip = clip_ends(ball, frame)
        if ball is not apart:
            down, up = reach_of(ball, frame, radii)
            _meet(sides, (*outward(centers, up), *inward(centers, down)))
        if clip is not None:
            _meet(sides, (*clip, *clip))
    for limits in both.limits:
        ends = _interval_ends(limits, frame)
        _meet(sides, (*ends, *ends))
    low, high, inner_low, inner_high = sides
    steps: dict[int, np.ndarray] = {}
    for place, kinds in _stepped(both, frame):
        allowed, values = _common(both, frame, place, kinds, (centers, radii))
        for side, end in zip(sides, allowed, strict=True):
            side.reshape(len(radii), frame.size)[:, place] = end
        if len(values) > 1:
            steps[place] = values
    return Overlap((low, high), (inner_low, inner_high), steps)


def _meet(sides: list[np.ndarray], others: Sequence[np.ndarray]) -> None:
    """Takes away from intervals what others leave out, in place."""
    for i, (side, other) in enumerate(zip(sides, others, strict=True)):
        (np.minimum if i % 2 else np.maximum)(side, other, out=side)


def clip_ends(ball: BallSpec, frame: Frame) -> BoxSides | None:
    """A ball's valid interval: each end where a stored value at that end arrives, or further out."""
    if ball.within is None:
        return None
    limits = LimitsSpec((ball.within,), ball.valid_space)
    return _interval_ends(limits, frame)


def _interval_ends(limits: LimitsSpec, frame: Frame) -> BoxSides:
    """The ends of intervals ``[*shape]``, each where it arrives or further out; infinite where there are none."""
    ends = []
    for side, rounding, further in ((0, float_down, np.minimum), (1, float_up, np.maximum)):
        if len(limits.bounds) == 1 and limits.bounds[0] is not None:
            value = limits.bounds[0][side]
            exact = [rounding(v) for v in frame.transform.net_values(limits.space, (value,))]
            arrived = arrival(frame.transform, limits.space, value, frame.dtype)
            found = further(laid_out(exact, frame.shape), laid_out(arrived, frame.shape))
            ends.append(np.broadcast_to(found, frame.shape))
            continue
        if len(limits.bounds) != frame.size:
            raise UsageError(f"{len(limits.bounds)} bounds were given for an input of shape {frame.shape}")
        row = np.full(frame.size, np.inf if side else -np.inf)
        for place, interval in enumerate(limits.bounds):
            if interval is not None:
                value = interval[side]
                exact_end = rounding(frame.net(limits.space, value, place))
                row[place] = further(exact_end, frame.arrives(limits.space, value, place))
        ends.append(row.reshape(frame.shape))
    return ends[0], ends[1]


def _stepped(both: BothSpec, frame: Frame) -> Iterator[tuple[int, list[LimitsSpec]]]:
    """The numbers that have some values only, and the limits that say so."""
    for place in range(frame.size) if not both.is_real else ():
        found = [limits for limits in both.limits if limits.kinds and limits.kinds[place] is not None]
        if found:
            yield place, found


def fixed_values(both: BothSpec, frame: Frame) -> dict[int, tuple[Fraction, float]]:
    """The numbers that have one value each, by place: that value in network space, and where it arrives."""
    found = {}
    for place, kinds in _stepped(both, frame):
        values = _values(kinds[0].kinds[place], kinds[0].bounds[place])
        if len(values) == 1:
            space = kinds[0].space
            found[place] = frame.net(space, values[0], place), frame.arrives(space, values[0], place)
    return found


def _common(
    both: BothSpec,
    frame: Frame,
    place: int,
    kinds: list[LimitsSpec],
    around: tuple[np.ndarray | None, Sequence[Fraction]],
) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """Of a number that has some values only, those that all parts allow: ends for each sample, and all values.

    A stored value is known up to where it arrives: one that lies at a ball's edge counts as within it.
    """
    centers, radii = around
    values = _values(kinds[0].kinds[place], kinds[0].bounds[place])
    exact = [frame.net(kinds[0].space, value, place) for value in values]
    arrived = np.array([frame.arrives(kinds[0].space, value, place) for value in values])
    valid = [LimitsSpec((ball.within,), ball.valid_space) for ball in both.balls if ball.within is not None]
    kept = [i for i, e in enumerate(exact) if all(_allows(one, frame, place, e) for one in (*both.limits, *valid))]
    sides = [np.full(len(radii), end) for end in (np.inf, -np.inf, np.inf, -np.inf)]
    for sample in range(len(radii)):
        at = [(exact[i], Fraction(float(arrived[i]))) for i in kept]
        held, reached = _within_balls(both, frame, place, at, (centers, radii, sample))
        if held:
            low, high = kept[held[0]], kept[held[-1]]
            sides[0][sample] = min(float_down(exact[low]), arrived[low])
            sides[1][sample] = max(float_up(exact[high]), arrived[high])
        if reached:
            sides[2][sample], sides[3][sample] = arrived[kept[reached[0]]], arrived[kept[reached[-1]]]
    return tuple(sides), arrived[kept]


def _values(kind: ValueKind, ends: tuple[Fraction, Fraction] | None) -> list[Fraction]:
    if kind == INTEGERS:
        assert ends is not None
        return [Fraction(v) for v in range(math.ceil(ends[0]), math.floor(ends[1]) + 1)]
    assert isinstance(kind, tuple)
    return list(kind)


def _allows(limits: LimitsSpec, frame: Frame, place: int, value: Fraction) -> bool:
    """Tells whether limits allow a value of a number, in network space."""
    interval = limits.bounds[0] if len(limits.bounds) == 1 else limits.bounds[place]
    if interval is not None and not all(
        sign * (value - frame.net(limits.space, end, place)) >= 0 for sign, end in zip((1, -1), interval, strict=True)
    ):
        return False
    kind = limits.kinds[place] if limits.kinds else None
    if isinstance(kind, tuple):
        return any(frame.net(limits.space, v, place) == value for v in kind)
    if kind == INTEGERS:
        factor, offset = frame.transform.stored(place)
        raw = value if limits.space == "net" else (value * factor + offset)
        return (raw * (frame.transform.scale if limits.space == "unit" else 1)).denominator == 1
    return True


def _within_balls(
    both: BothSpec,
    frame: Frame,
    place: int,
    values: Sequence[tuple[Fraction, Fraction]],
    around: tuple[np.ndarray | None, Sequence[Fraction], int],
) -> tuple[list[int], list[int]]:
    """Which of some values, each with where it arrives, all balls around one sample hold: those that proofs are about,
    and those that witnesses may have.

    A centre is known up to its own rounding, which proofs allow for. So do witnesses where values are scaled or
    normalised on their way; else it is what is stored, and what arrives must lie in the ball as it is.
    """
    centers, radii, sample = around
    held, reached = list(range(len(values))), list(range(len(values)))
    for ball in both.balls:
        assert centers is not None
        center = centers[sample].reshape(-1)[place]
        moved = frame.transform.scales or frame.transform.normalises
        slack, middle = Fraction(float(np.spacing(np.abs(center)))), Fraction(float(center))
        eps = frame.each(ball.net_eps(frame.transform, radii[sample]))[place]
        eps *= frame.each(ball.shares)[place] if ball.shares else 1
        mask = mask_of(ball, frame)
        reach = eps if mask is None or mask.reshape(-1)[place] else Fraction(0)
        held = [i for i in held if abs(values[i][0] - middle) <= reach + slack]
        reached = [i for i in reached if i in held and (moved or min(abs(v - middle) for v in values[i]) <= reach)]
    return held, reached
