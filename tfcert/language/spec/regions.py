"""Regions of a specification: balls, boxes, and unions and intersections of these; frozen data with exact numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction

from tfcert.language.spec.places import AnyFew, AnyPatch, Movable
from tfcert.language.spec.spaces import Transform

Ends = tuple[Fraction, Fraction]


@dataclass(frozen=True)
class BallSpec:
    """All inputs within ``eps`` of the sample in a norm, and ``within`` an interval if one is given.

    Attributes:
        norm: ``linf``, ``l2`` or ``l1``.
        eps: the radius; of a measure, its constant part (then the radius is ``eps + slope * r``).
        slope: 0 for a property; positive for a measure.
        shares: what the radius is multiplied with, one number an input (named or not); empty where all are alike.
        within: valid interval of every input value, or None.
        space: ``raw``, ``unit`` or ``net``.
        within_space: the space of ``within``, where that is not the ball's own: ``raw`` where nothing was written
            and the data set declares a range.
        places: what may change, and nothing else; None for everything.
        free: whether what may change has any valid value; then ``eps`` is as large as that takes, and says nothing.
        around: the quantified point in the centre, by its number, in the place of the sample; None for the sample.
    """

    norm: str
    eps: Fraction
    slope: Fraction
    within: Ends | None
    space: str
    within_space: str | None = None
    shares: tuple[Fraction, ...] = ()
    places: Movable | None = None
    free: bool = False
    around: int | None = None

    @property
    def is_even(self) -> bool:
        """Tells whether every number of an input may change as far as any other."""
        return not self.shares and self.places is None

    @property
    def largest(self) -> Fraction:
        """The constant radius of the input that may change most."""
        return self.eps * self.share

    @property
    def share(self) -> Fraction:
        """The largest number that the radius is multiplied with."""
        return max(self.shares, default=Fraction(1))

    @property
    def valid_space(self) -> str:
        """The space of ``within``."""
        return self.within_space or self.space

    def radius(self, r: Fraction | int | float = 0) -> Fraction:
        """The radius in the ball's own space, exact."""
        return self.eps + self.slope * Fraction(r)

    def net_eps(self, transform: Transform, r: Fraction | int | float = 0) -> tuple[Fraction, ...]:
        """The radius in network space: one number, or one for each channel."""
        return transform.net_eps(self.space, self.radius(r))


ValueKind = tuple[Fraction, ...] | str | None
"""The values that an input may have: those listed, the whole numbers (``integers``), or any (None)."""
INTEGERS = "integers"


@dataclass(frozen=True)
class BoxSpec:
    """All inputs between bounds.

    Attributes:
        bounds: one interval for every input, or a single one that holds for each of them.
            A ``within`` is already intersected with them.
        names: the inputs' names if the bounds were given by name, in the order of the bounds.
        space: ``raw``, ``unit`` or ``net``.
        kinds: the values of each input, in the box's space, in the order of the bounds; empty where all may be any.
        groups: inputs by their places of which exactly one is 1, and the others are 0.
        rounded: whether inputs are real numbers that the program rounds to its own type when it takes them: then a
            witness is what one of them is rounded to, and may lie outside by that.
    """

    bounds: tuple[Ends, ...]
    names: tuple[str, ...]
    space: str
    kinds: tuple[ValueKind, ...] = ()
    groups: tuple[tuple[int, ...], ...] = ()
    rounded: bool = False

    @property
    def is_real(self) -> bool:
        """Tells whether inputs may have any value between their bounds."""
        return not self.groups and not any(self.kinds)

    def net_bounds(self, transform: Transform) -> tuple[tuple[Fraction, ...], tuple[Fraction, ...]]:
        """Lower and upper bounds in network space: one for each input, or for each channel, or one for all."""
        lower = transform.net_values(self.space, tuple(low for low, _ in self.bounds))
        upper = transform.net_values(self.space, tuple(high for _, high in self.bounds))
        return lower, upper


@dataclass(frozen=True)
class LimitsSpec:
    """Bounds of some inputs, as parts of an intersection have them; the others are left as they are.

    Attributes:
        bounds: one interval for each input, or None where nothing is said of it; or a single one for all of them.
        space, kinds, groups: as those of :class:`BoxSpec`.
    """

    bounds: tuple[Ends | None, ...]
    space: str
    kinds: tuple[ValueKind, ...] = ()
    groups: tuple[tuple[int, ...], ...] = ()

    @property
    def is_real(self) -> bool:
        """Tells whether inputs may have any value between their bounds."""
        return not self.groups and not any(self.kinds)


@dataclass(frozen=True)
class BothSpec:
    """All inputs that lie in every one of some balls around the sample, and keep to all limits.

    At most one of the balls has another norm than linf. Without a ball, limits bound every input.

    Attributes:
        centred: whether the sample has to keep to the limits, for these are written after ``within``.
    """

    balls: tuple[BallSpec, ...]
    limits: tuple[LimitsSpec, ...]
    centred: bool = False

    @property
    def space(self) -> str:
        """The space of the first part."""
        return self.balls[0].space if self.balls else self.limits[0].space

    @property
    def is_real(self) -> bool:
        """Tells whether inputs may have any value between their bounds."""
        return all(limits.is_real for limits in self.limits)


@dataclass(frozen=True)
class SomewhereSpec:
    """The inputs of a ball in which nothing changes but at one of some places, whichever it is.

    Attributes:
        ball: what may happen there; its ``places`` are those among which one is chosen.
        at: the places.
        limits, centred: what inputs keep to besides, as in :class:`BothSpec`.
    """

    ball: BallSpec
    at: AnyPatch | AnyFew
    limits: tuple[LimitsSpec, ...] = ()
    centred: bool = False

    @property
    def space(self) -> str:
        """The space of the ball."""
        return self.ball.space


@dataclass(frozen=True)
class UnionSpec:
    """All inputs that lie in one of several regions."""

    parts: tuple[BallSpec | BoxSpec | BothSpec | SomewhereSpec, ...]

    @property
    def space(self) -> str:
        """The space of the first part."""
        return self.parts[0].space


Convex = BallSpec | BoxSpec | BothSpec
"""A single piece, once inputs with some values only were taken apart or may have any between their bounds."""
RegionSpec = BallSpec | BoxSpec | BothSpec | SomewhereSpec | UnionSpec
BallChange = Callable[[BallSpec], BallSpec]


def net_within(region: RegionSpec, transform: Transform) -> tuple[tuple[Fraction, ...], tuple[Fraction, ...]] | None:
    """The valid interval of a ball in network space: (lows, highs), one number or one for each channel; or None."""
    if not isinstance(region, BallSpec) or region.within is None:
        return None
    low, high = region.within
    return transform.net_values(region.valid_space, (low,)), transform.net_values(region.valid_space, (high,))


def balls_of(region: RegionSpec | None) -> tuple[BallSpec, ...]:
    """The balls around the sample that a region is made of; none for boxes, which are the same for every sample."""
    match region:
        case BallSpec():
            return (region,) if region.around is None else ()
        case SomewhereSpec(ball=ball):
            return (ball,)
        case BothSpec(balls=balls):
            return tuple(ball for ball in balls if ball.around is None)
        case UnionSpec(parts):
            return tuple(ball for part in parts for ball in balls_of(part))
        case _:
            return ()


def neighbour_of(region: RegionSpec) -> BallSpec | None:
    """The ball around a quantified point that a region is or is made of; None where it has none."""
    balls = (region,) if isinstance(region, BallSpec) else region.balls if isinstance(region, BothSpec) else ()
    return next((ball for ball in balls if ball.around is not None), None)


def parts_of_union(region: RegionSpec) -> tuple[BallSpec | BoxSpec | BothSpec | SomewhereSpec, ...]:
    """The regions that a union is of; the region alone if it is none."""
    return region.parts if isinstance(region, UnionSpec) else (region,)


def with_balls(region: RegionSpec, change: BallChange) -> RegionSpec:
    """The region with something changed about each of its balls."""
    match region:
        case BallSpec():
            return change(region)
        case SomewhereSpec(ball=ball):
            return replace(region, ball=change(ball))
        case BothSpec(balls=balls):
            return replace(region, balls=tuple(map(change, balls)))
        case UnionSpec(parts):
            return UnionSpec(tuple(with_balls(part, change) for part in parts))  # type: ignore[misc]
        case _:
            return region
