"""Pieces of questions: the same question about a part of the region, which stages take as it is."""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from tfcert.driver.arrivals import InputShape
from tfcert.driver.regions import build_regions, empty_of
from tfcert.errors import UsageError
from tfcert.language import AnyTemplate, BallSpec, BoxSpec
from tfcert.language.spec.pieces import MAX_PIECES, EmptyRegionError, TooManyPiecesError, is_single, pieces
from tfcert.language.spec.places import NoPlaceError
from tfcert.language.spec.regions import INTEGERS, BothSpec, Convex, RegionSpec, SomewhereSpec, parts_of_union

MAX_CHOICES = 1 << 18
"""So many combinations of pieces of several points are looked through for those in which the points agree."""
Limited = BothSpec | SomewhereSpec
"""Regions that a domain after ``within`` may limit."""


def pieces_of(template: AnyTemplate, shapes: Sequence[InputShape]) -> tuple[AnyTemplate, ...]:
    """The pieces of a question whose points have inputs of these shapes; none where it is a single one.

    A piece is one of each point's region, under one of the alternatives of the conditions on the points.

    Raises:
        UsageError: there are too many, or places that the inputs do not have.
    """
    points, under = template.points, template.alternatives
    if all(is_single(point.region) for point in points) and len(under) < 2:
        return ()
    try:
        each = [pieces(point.region, shape) for point, shape in zip(points, shapes, strict=True)]
        count = math.prod(map(len, each)) * max(1, len(under))
        if count > MAX_CHOICES or (count > MAX_PIECES and not template.agreements):
            raise TooManyPiecesError(count)
        chosen = [parts for parts in itertools.product(*each) if _agree(template, parts, shapes)]
        if len(chosen) * max(1, len(under)) > MAX_PIECES:
            raise TooManyPiecesError(len(chosen) * len(under))
        if not chosen:
            raise EmptyRegionError("the points have no values in common where they agree")
    except TooManyPiecesError as error:
        raise UsageError(f"{template.name}: {error}; {error.fix}") from error
    except (NoPlaceError, EmptyRegionError) as error:
        raise UsageError(f"{template.name}: {error}") from error
    return tuple(
        question.with_points([replace(point, region=part) for point, part in zip(points, parts, strict=True)])
        for question in ([template.under(one) for one in under] if len(under) > 1 else [template])
        for parts in chosen
    )


def _agree(template: AnyTemplate, parts: Sequence[Convex], shapes: Sequence[InputShape]) -> bool:
    """Tells whether pieces of several points may have the same values where these agree."""
    for agreement in template.agreements:
        if agreement.other is None:
            continue
        one, other = _listed(parts[agreement.one]), _listed(parts[agreement.other])
        shared = agreement.shared(math.prod(shapes[agreement.one])) if one and other else ()
        if any(one.get(place, other.get(place)) != other.get(place, one.get(place)) for place in shared):
            return False
    return True


def _listed(part: Convex) -> dict[int, tuple[str, Fraction]]:
    """The only value of each number that has one, with its space."""
    limits = part.limits if isinstance(part, BothSpec) else ()
    each = ((i, one.space, kind) for one in limits for i, kind in enumerate(one.kinds))
    return {i: (space, kind[0]) for i, space, kind in each if isinstance(kind, tuple) and len(kind) == 1}


def require_pieces(
    template: AnyTemplate, parts: Sequence[AnyTemplate], centers: np.ndarray | None, shape: InputShape, dtype: Any
) -> None:
    """Requires that something lies in some piece around each centre ``[batch, *shape]``, if need be the centre itself.

    Raises:
        UsageError: in no piece does it.
    """
    centred = any(region.centred for region in parts_of_union(template.region) if isinstance(region, Limited))
    if not parts and not centred:
        return  # what is built of a single piece is refused where it is empty
    left = np.arange(1 if centers is None else len(centers))
    for part in parts or (template,):
        around = None if centers is None else centers[left]
        held = ~empty_of(part, around, shape, dtype)
        if centred and around is not None and held.any():
            inside = build_regions(part, around[held], shape, dtype).witness
            held[held] = False if inside is None else inside.contains(around[held])
        left = left[~held]
        if not len(left):
            return
    said = "a region without its centre would prove nothing" if centred else "an empty region would prove nothing"
    what = "lies outside of the domain" if centred else "has no input in its region"
    whose = f"the sample at place {left[0]} of those selected" if centers is not None else "the question"
    raise UsageError(f"{template.name}: {whose} {what}; {said}")


def some_pieces(template: AnyTemplate, parts: Sequence[AnyTemplate], *, every: bool) -> list[AnyTemplate]:
    """The pieces of a question by which sets are tried out: ``every`` one, or one of each kind."""
    if every or not parts:
        return list(parts) or [template]
    return list({batch_kind(part): part for part in parts}.values())


def batch_kind(piece: AnyTemplate) -> Hashable:
    """What the sets of a piece have in common with those that they can be in one batch with."""
    return piece.given, tuple(_kind(point.region) for point in piece.points)


def _kind(region: RegionSpec) -> Hashable:
    match region:
        case BallSpec():
            return "ball", region.norm, region.within is None, bool(region.shares), region.places is None, region.space
        case BothSpec(balls, limits):
            whole = [(i, limit.bounds[i]) for limit in limits for i, kind in enumerate(limit.kinds) if kind == INTEGERS]
            if whole:
                others = [(i, limit.bounds[0 if len(limit.bounds) == 1 else i]) for limit in limits for i, _ in whole]
                return "steps", balls, tuple(whole), tuple(others)
            apart = [ball for ball in balls if ball.norm != "linf"]
            held = tuple(i for limit in limits for i, kind in enumerate(limit.kinds) if kind is not None)
            return (*map(_kind, apart), held) if apart else "box"
        case _:
            # A point may be no number of the network's type: then there are no witnesses in the whole batch.
            return "box", any(low == high for low, high in region.bounds) if isinstance(region, BoxSpec) else False
