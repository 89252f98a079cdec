"""Balls around quantified points: an interval that holds all of them, and conditions that tie the two points together.

``b in ball(a, linf, r)`` says ``|b[i] - a[i]| <= r`` of each number: two linear conditions, like any that stand after
``where``. A number whose radius is 0 is one that the two points share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from tfcert.driver.arrivals import InputShape
from tfcert.driver.overlaps import Frame, mask_of
from tfcert.errors import UsageError
from tfcert.language import AnyTemplate, BallSpec, BoxSpec
from tfcert.language.spec.formula import And, Atom, Feature, Formula, Term
from tfcert.language.spec.points import Agreement
from tfcert.language.spec.questions import Point
from tfcert.language.spec.regions import BothSpec, Ends, LimitsSpec, RegionSpec, balls_of, neighbour_of

Reaches = tuple[Fraction, ...]


def tied(template: AnyTemplate, shapes: Sequence[InputShape], dtype: type) -> AnyTemplate:
    """The question without balls around quantified points, of points with inputs of these shapes.

    Raises:
        UsageError: points of different sizes, or an empty region.
    """
    points, ties, agreements = list(template.points), list[Formula](), list(template.agreements)
    for number, point in enumerate(points):
        ball = neighbour_of(point.region)
        if ball is None or ball.around is None:
            continue
        frame, other = Frame(point.transform, shapes[number], dtype), ball.around
        if shapes[other] != shapes[number]:
            raise UsageError(f"{template.name}: `{point.name}` lies around `{points[other].name}`, of another shape")
        radii = _radii(ball, frame)
        region = _hull(points[other], radii, frame)
        points[number] = replace(point, region=_within(template.name, region, point.region, frame))
        still = tuple(i for i, radius in enumerate(radii) if not radius)
        agreements += [Agreement(other, number, still)] if still else []
        for i, radius in enumerate(radii):
            if radius:
                ties += _near(i, (other, number), radius * abs(point.transform.stored(i)[0]))
    if not ties and len(agreements) == len(template.agreements):
        return template
    given = tuple(part for part in (template.given, *ties) if part is not None)
    changed = template.under(And(given)) if ties else template
    return replace(changed, agreements=tuple(agreements)).with_points(points)


def _radii(ball: BallSpec, frame: Frame) -> Reaches:
    """How far each number may change, in network space."""
    eps, shares = frame.each(ball.net_eps(frame.transform)), frame.each(ball.shares or (Fraction(1),))
    mask = mask_of(ball, frame)
    moving = [True] * frame.size if mask is None else mask.reshape(-1).tolist()
    return tuple(e * s if may else Fraction(0) for e, s, may in zip(eps, shares, moving, strict=True))


def _near(place: int, points: tuple[int, int], radius: Fraction) -> list[Formula]:
    """``|b[i] - a[i]| <= radius``, of stored numbers."""
    one, other = (Feature(place, number) for number in points)
    ways = (((one, Fraction(1)), (other, Fraction(-1))), ((one, Fraction(-1)), (other, Fraction(1))))
    return [Atom(Term(way, radius), False) for way in ways]


def _hull(point: Point, radii: Reaches, frame: Frame) -> RegionSpec:
    """A region that holds every ball of these radii around every input of a point's region, in network space."""
    region = point.region
    balls = balls_of(region)
    if balls:
        reach = _radii(replace(balls[0], norm="linf"), frame)
        wide = tuple(a + b for a, b in zip(reach, radii, strict=True))
        return BallSpec("linf", Fraction(1), Fraction(0), None, "net", shares=wide)
    assert isinstance(region, BoxSpec | BothSpec)
    parts = region.limits if isinstance(region, BothSpec) else (LimitsSpec(region.bounds, region.space),)
    bounds = _bounds(parts, frame)
    ends = [(low - r, high + r) for (low, high), r in zip(bounds, radii, strict=True)]
    return BoxSpec(tuple(ends), (), "net")


def _bounds(parts: Sequence[LimitsSpec], frame: Frame) -> list[Ends]:
    """What limits leave of each number together, in network space; every number has some."""
    found = []
    for place in range(frame.size):
        ends = [limits.bounds[0 if len(limits.bounds) == 1 else place] for limits in parts]
        known = [
            tuple(frame.net(limits.space, end, place) for end in interval)
            for limits, interval in zip(parts, ends, strict=True)
            if interval is not None
        ]
        found.append((max(low for low, _ in known), min(high for _, high in known)))
    return found


def _within(name: str, region: RegionSpec, written: RegionSpec, frame: Frame) -> RegionSpec:
    """The region, and what is written beside the ball: its valid values, and boxes."""
    ball = neighbour_of(written)
    assert ball is not None
    limits = written.limits if isinstance(written, BothSpec) else ()
    if isinstance(region, BallSpec):
        kept = replace(region, within=ball.within, within_space=ball.valid_space)
        return BothSpec((kept,), limits) if limits else kept
    assert isinstance(region, BoxSpec)
    own = (LimitsSpec((ball.within,), ball.valid_space),) if ball.within is not None else ()
    ends = _bounds((LimitsSpec(region.bounds, region.space), *own, *limits), frame)
    if any(low > high for low, high in ends):
        raise UsageError(f"{name}: a region around a variable is empty: `within` leaves nothing of it")
    return BoxSpec(tuple(ends), (), "net")
