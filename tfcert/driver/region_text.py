"""Regions in words, as ``explain`` tells them."""

from __future__ import annotations

from fractions import Fraction

from tfcert.language import BallSpec, BoxSpec, Transform
from tfcert.language.spec.pieces import EmptyRegionError, TooManyPiecesError, count_pieces, is_single
from tfcert.language.spec.places import Movable
from tfcert.language.spec.regions import (
    INTEGERS,
    BothSpec,
    LimitsSpec,
    RegionSpec,
    SomewhereSpec,
    UnionSpec,
)
from tfcert.showing import counted


def region_text(region: RegionSpec, transform: Transform, width: Fraction | None) -> str:
    """A region, its space and its valid values; ``width`` is that of the declared range, to tell shares of it."""
    return f"{_whole(region, transform, width)}{_pieces(region)}"


def _whole(region: RegionSpec, transform: Transform, width: Fraction | None) -> str:
    match region:
        case BallSpec():
            return _ball(region, transform, width)
        case BoxSpec():
            kinds = _kinds(region.kinds, region.groups)
            return f"a box of {counted(len(region.bounds), 'interval')} in {region.space} space{kinds}"
        case BothSpec(balls, limits):
            return " and ".join([*(_whole(ball, transform, width) for ball in balls), *map(_limits, limits)])
        case SomewhereSpec(ball=ball, at=at, limits=limits):
            parts = [f"{at.told}: {_whole(ball, transform, width)}", *map(_limits, limits)]
            return " and ".join(parts)
        case UnionSpec(parts):
            return " or ".join(_whole(part, transform, width) for part in parts)


def _pieces(region: RegionSpec) -> str:
    """The number of pieces, if there are several or may be."""
    if is_single(region):
        return ""
    try:
        count = count_pieces(region)
    except (TooManyPiecesError, EmptyRegionError) as error:
        return f" ({error})"
    told = counted(count, "piece") if count is not None else "a piece for each place"
    return f" ({told}, all of which a proof covers; they share a sample's time)"


def _ball(ball: BallSpec, transform: Transform, width: Fraction | None) -> str:
    where = f"{_places(ball.places)} in {ball.space} space, {valid_text(ball)}"
    if ball.free:
        return f"any values{where}"
    if ball.shares:
        radii = ", ".join(
            f"{share * (1 if ball.slope else ball.eps)}{' r' * bool(ball.slope)}" for share in ball.shares
        )
        return f"{ball.norm} ball of radii {radii} (input by input){where}"
    radius = f"{ball.eps}" if not ball.slope else "r"
    told = "" if ball.slope else share_text(ball.eps, width)
    share = f" ({told.lstrip()})" if told else ""
    text = f"{ball.norm} ball of radius {radius}{share}{where}"
    if ball.slope or ball.space == "net":
        return text
    sizes = sorted({float(e) for e in ball.net_eps(transform)})
    return f"{text} ({', '.join(f'{s:.6g}' for s in sizes)} as the network sees it)"


def _places(places: Movable | None) -> str:
    if places is None:
        return ""
    parts = [
        f"{what} {ends[0]} to {ends[1]}" for what, ends in (("rows", places.rows), ("columns", places.columns)) if ends
    ]
    parts += [counted(len(places.numbers), "input")] if places.numbers is not None else []
    parts += [f"the mask {places.mask}"] if places.mask else []
    return f" in {', '.join(parts)} alone"


def _limits(limits: LimitsSpec) -> str:
    bounded = sum(ends is not None for ends in limits.bounds)
    return f"{counted(bounded, 'interval')} in {limits.space} space{_kinds(limits.kinds, limits.groups)}"


def _kinds(kinds: tuple[object, ...], groups: tuple[tuple[int, ...], ...]) -> str:
    whole, listed = sum(kind == INTEGERS for kind in kinds), sum(isinstance(kind, tuple) for kind in kinds)
    parts = [f"{whole} of them whole numbers"] if whole else []
    parts += [f"{listed} of them listed values"] if listed else []
    parts += [f"exactly one 1 in {counted(len(groups), 'group')}"] if groups else []
    return f", {', '.join(parts)}" if parts else ""


def share_text(radius: Fraction, width: Fraction | None) -> str:
    """A radius as a share of the declared range; "" where none is declared."""
    return "" if width is None else f" {100 * float(radius / width):.3g}% of the range"


def valid_text(region: BallSpec) -> str:
    """The values that inputs may take."""
    if region.within is None:
        return "within anything"
    ends = f"within [{region.within[0]}, {region.within[1]}]"
    return ends if region.within_space is None else f"{ends} of the stored values, the declared range"
