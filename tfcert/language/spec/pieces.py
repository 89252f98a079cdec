"""Pieces of a region: sets that bounds and attacks take as they are, whose union the region is.

A question holds on a region if it holds on each piece, and an input of any piece that breaks it is a witness.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction

from tfcert.language.spec.regions import (
    INTEGERS,
    BallSpec,
    BothSpec,
    BoxSpec,
    Convex,
    Ends,
    LimitsSpec,
    RegionSpec,
    SomewhereSpec,
    UnionSpec,
    ValueKind,
)

MAX_PIECES = 4096
"""A region of more pieces than this is refused."""
MAX_LISTED = 128
"""Whole numbers are taken one by one as long as that makes no more pieces of a box; beyond that, proofs are about all
numbers between, and witnesses still have to be whole."""


class TooManyPiecesError(ValueError):
    """A region of more pieces than ``MAX_PIECES``."""

    def __init__(self, count: int):
        self.fix = "use a larger `stride`, fewer values, or several questions"
        super().__init__(f"this region has {count} pieces, more than {MAX_PIECES}")


class EmptyRegionError(ValueError):
    """A region without any input."""


def is_single(region: RegionSpec) -> bool:
    """Tells whether a region is one piece, whatever the inputs' shape."""
    match region:
        case SomewhereSpec() | UnionSpec():
            return False
        case BoxSpec() | BothSpec():
            return region.is_real
        case _:
            return True


def pieces(region: RegionSpec, shape: tuple[int, ...]) -> tuple[Convex, ...]:
    """The pieces of a region of inputs of a shape. Whole numbers that are not taken one by one keep their kind.

    Raises:
        TooManyPiecesError: more than ``MAX_PIECES``.
        NoPlaceError: places that the inputs do not have.
        EmptyRegionError: nothing lies in it, whatever the sample.
    """
    if isinstance(region, UnionSpec):
        known = sum(_least(part, shape) for part in region.parts)
        if known > MAX_PIECES:
            raise TooManyPiecesError(known)
        found = tuple(piece for part in region.parts for piece in _of(part, shape))
    else:
        found = _of(region, shape)
    if not found:
        raise EmptyRegionError("nothing lies in this region")
    if len(found) > MAX_PIECES:
        raise TooManyPiecesError(len(found))
    return found


def count_pieces(region: RegionSpec) -> int | None:
    """The number of pieces, where it does not depend on the inputs' shape; else None.

    Raises:
        TooManyPiecesError, EmptyRegionError: as for :func:`pieces`.
    """
    parts = region.parts if isinstance(region, UnionSpec) else (region,)
    if any(isinstance(part, SomewhereSpec) for part in parts):
        return None
    return len(pieces(region, ()))


def _least(part: RegionSpec, shape: tuple[int, ...]) -> int:
    return part.at.count(shape) if isinstance(part, SomewhereSpec) and part.ball.places is None else 1


def _of(part: RegionSpec, shape: tuple[int, ...]) -> tuple[Convex, ...]:
    match part:
        case BallSpec():
            return (part,)
        case BoxSpec():
            if part.is_real:
                return (part,)
            taken = _taken_apart((LimitsSpec(part.bounds, part.space, part.kinds, part.groups),))
            return tuple(BothSpec((), limits) for limits in taken)
        case BothSpec(balls, limits):
            return tuple(BothSpec(balls, apart) for apart in _taken_apart(limits))
        case SomewhereSpec():
            return _somewhere(part, shape)
        case UnionSpec():
            raise TypeError("a union of unions is one union")


def _somewhere(part: SomewhereSpec, shape: tuple[int, ...]) -> tuple[Convex, ...]:
    """The ball at each of its places, in each choice of values."""
    ball, at = part.ball, part.at
    if ball.places is None and at.count(shape) > MAX_PIECES:
        raise TooManyPiecesError(at.count(shape))
    places = [place for place in itertools.islice(at.places(ball.places, shape), MAX_PIECES + 1)]
    balls = [replace(ball, places=place) for place in places if place.on(shape).any()]
    if not part.limits:
        return tuple(balls)
    choices = list(_taken_apart(part.limits))
    if len(balls) * len(choices) > MAX_PIECES:
        raise TooManyPiecesError(len(balls) * len(choices))
    return tuple(BothSpec((one,), limits) for one in balls for limits in choices)


def _taken_apart(limits: tuple[LimitsSpec, ...]) -> Iterator[tuple[LimitsSpec, ...]]:
    """The limits with each value of each input that is listed, each choice in each group, and each of few integers."""
    choices = [list(_choices(one)) for one in limits]
    total = math.prod(map(len, choices))
    if total > MAX_PIECES:
        raise TooManyPiecesError(total)
    return itertools.product(*choices)


def _choices(limits: LimitsSpec) -> Iterator[LimitsSpec]:
    if limits.is_real:
        yield limits
        return
    kinds: list[ValueKind] = list(limits.kinds or (None,) * len(limits.bounds))
    listed = {i: _values(kind, limits.bounds[i]) for i, kind in enumerate(kinds) if isinstance(kind, tuple)}
    groups = [_ones(group, limits.bounds) for group in limits.groups]
    total = math.prod([*map(len, listed.values()), *map(len, groups)])
    whole = {i: _whole(limits.bounds[i]) for i, kind in enumerate(kinds) if kind == INTEGERS}
    for i, (first, last) in sorted(whole.items(), key=lambda item: item[1][1] - item[1][0]):
        if first > last:
            return  # no whole number lies between the bounds
        if total * (last - first + 1) <= MAX_LISTED:
            total *= last - first + 1
            listed[i] = tuple(map(Fraction, range(first, last + 1)))
    if total > MAX_PIECES:
        raise TooManyPiecesError(total)
    for values in itertools.product(*listed.values()):
        for ones in itertools.product(*groups):
            chosen = dict(zip(listed, values, strict=True))
            chosen |= {i: Fraction(int(i in ones)) for group in limits.groups for i in group}
            yield _with(limits, kinds, chosen)


def _with(limits: LimitsSpec, kinds: Sequence[ValueKind], chosen: dict[int, Fraction]) -> LimitsSpec:
    """The limits where some inputs have a value."""
    bounds, kept = list(limits.bounds), list(kinds)
    for i, value in chosen.items():
        bounds[i], kept[i] = (value, value), (value,)
    for i, kind in enumerate(kept):
        if kind == INTEGERS:
            first, last = _whole(bounds[i])
            bounds[i] = Fraction(first), Fraction(last)
    return LimitsSpec(tuple(bounds), limits.space, tuple(kept))


def _ones(group: tuple[int, ...], bounds: Sequence[Ends | None]) -> list[int]:
    """The inputs of a group that may be 1 while the others are 0, between bounds that may leave out either."""
    ends = [(i, bounds[i]) for i in group]
    return [one for one in group if all(e is None or e[0] <= int(i == one) <= e[1] for i, e in ends)]


def _values(kind: tuple[Fraction, ...], ends: Ends | None) -> tuple[Fraction, ...]:
    return tuple(v for v in kind if ends is None or ends[0] <= v <= ends[1])


def _whole(ends: Ends | None) -> tuple[int, int]:
    """The first and the last whole number between two ends."""
    assert ends is not None  # integers are written with an interval
    return math.ceil(ends[0]), math.floor(ends[1])
