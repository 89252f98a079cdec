"""What a region means: whether a stored input lies in it, by exact arithmetic. Tests hold the sets of proofs and of
witnesses against this."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from fractions import Fraction

from tfcert.language.spec.places import AnyFew
from tfcert.language.spec.regions import (
    INTEGERS,
    BallSpec,
    BothSpec,
    BoxSpec,
    LimitsSpec,
    RegionSpec,
    SomewhereSpec,
    UnionSpec,
)
from tfcert.language.spec.spaces import Transform

Stored = Sequence[Fraction]
"""One input as it is stored, laid out flat."""


def lies_in(
    region: RegionSpec, transform: Transform, shape: tuple[int, ...], point: Stored, sample: Stored | None = None
) -> bool:
    """Tells whether a stored point lies in a region of inputs of a shape, around a stored sample.

    ``within`` holds the point only: a sample outside of it is refused elsewhere.
    """
    match region:
        case UnionSpec(parts):
            return any(lies_in(part, transform, shape, point, sample) for part in parts)
        case BothSpec(balls, limits):
            return all(lies_in(ball, transform, shape, point, sample) for ball in balls) and all(
                _keeps(one, transform, point) for one in limits
            )
        case SomewhereSpec(ball, at, limits):
            assert sample is not None
            return (
                _somewhere(ball, at, shape, (point, sample))
                and all(_keeps(one, transform, point) for one in limits)
                and (ball.within is None or _keeps(_valid(ball), transform, point))
            )
        case BoxSpec():
            return _keeps(LimitsSpec(region.bounds, region.space, region.kinds, region.groups), transform, point)
        case BallSpec():
            assert sample is not None
            return _near(region, transform, shape, (point, sample))


def _near(ball: BallSpec, transform: Transform, shape: tuple[int, ...], pair: tuple[Stored, Stored]) -> bool:
    point, sample = pair
    if ball.within is not None and not _keeps(_valid(ball), transform, point):
        return False
    moving = [True] * len(point) if ball.places is None else ball.places.on(shape).reshape(-1).tolist()
    if any(a != b and not may for a, b, may in zip(point, sample, moving, strict=True)):
        return False
    if ball.free:
        return True
    ways = (_in(transform, ball.space, values) for values in (point, sample))
    steps = [abs(a - b) for a, b in zip(*ways, strict=True)]
    if ball.shares:
        if any(step and not share for step, share in zip(steps, ball.shares, strict=True)):
            return False
        steps = [step / share for step, share in zip(steps, ball.shares, strict=True) if share]
    match ball.norm:
        case "linf":
            return max(steps, default=Fraction(0)) <= ball.eps
        case "l1":
            return sum(steps) <= ball.eps
        case _:
            return sum(step * step for step in steps) <= ball.eps * ball.eps


def _somewhere(ball: BallSpec, at: object, shape: tuple[int, ...], pair: tuple[Stored, Stored]) -> bool:
    """Tells whether nothing changes but at one of the places, where any valid values are free."""
    point, sample = pair
    changed = [i for i, (a, b) in enumerate(zip(point, sample, strict=True)) if a != b]
    if isinstance(at, AnyFew):
        allowed = range(len(point)) if ball.places is None else ball.places.on(shape).reshape(-1).nonzero()[0].tolist()
        return len(changed) <= at.number and set(changed) <= set(allowed)
    assert hasattr(at, "places")
    masks = (places.on(shape).reshape(-1) for places in at.places(ball.places, shape))
    return any(all(mask[i] for i in changed) for mask in masks)


def _valid(ball: BallSpec) -> LimitsSpec:
    assert ball.within is not None
    return LimitsSpec((ball.within,), ball.valid_space)


def _keeps(limits: LimitsSpec, transform: Transform, point: Stored) -> bool:
    values = _in(transform, limits.space, point)
    bounds = limits.bounds * len(values) if len(limits.bounds) == 1 else limits.bounds
    kinds = limits.kinds or (None,) * len(values)
    for value, ends, kind in zip(values, bounds, kinds, strict=True):
        if ends is not None and not ends[0] <= value <= ends[1]:
            return False
        if (kind == INTEGERS and value.denominator != 1) or (isinstance(kind, tuple) and value not in kind):
            return False
    return all(sorted(values[i] for i in group) == [0] * (len(group) - 1) + [1] for group in limits.groups)


def _in(transform: Transform, space: str, stored: Stored) -> tuple[Fraction, ...]:
    """A stored input in a space."""
    if space == "raw":
        return tuple(stored)
    if space == "unit":
        return tuple(value * transform.scale for value in stored)
    moves = itertools.cycle(zip(_each(transform, 0), _each(transform, 1), strict=True))
    return tuple((value * transform.scale - mean) / std for value, (mean, std) in zip(stored, moves, strict=False))


def _each(transform: Transform, which: int) -> tuple[Fraction, ...]:
    values = (transform.mean, transform.std)[which]
    return values * (transform.channels if len(values) == 1 else 1)
