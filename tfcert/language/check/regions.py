"""Regions: balls and boxes, unions and intersections of these, and domains, from what is written to exact numbers."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction

from tfcert.language.check.balls import Around, read_ball, read_patch
from tfcert.language.check.boxes import read_box, require_bounded
from tfcert.language.check.elaborate import Elaborator
from tfcert.language.check.lengths import read_interval, read_space
from tfcert.language.check.scope import did_you_mean
from tfcert.language.check.setting import Setting
from tfcert.language.spec.pieces import MAX_LISTED, EmptyRegionError, TooManyPiecesError, count_pieces, pieces
from tfcert.language.spec.places import AnyFew, AnyPatch
from tfcert.language.spec.regions import (
    INTEGERS,
    BallSpec,
    BothSpec,
    BoxSpec,
    Ends,
    LimitsSpec,
    RegionSpec,
    SomewhereSpec,
    UnionSpec,
)
from tfcert.language.text import syntax as s

MAX_ALTERNATIVES = 256
"""Parts of a union, once intersections with unions are written out."""
_REGIONS = ("ball", "box", "patch")


@dataclass(frozen=True)
class _Overlap:
    """Some regions whose intersection is meant.

    Attributes:
        limits: with the names that inputs have in them, or none.
        at: the places among which one is chosen, of the only ball.
        centred: whether the sample has to keep to the limits.
    """

    balls: tuple[BallSpec, ...] = ()
    limits: tuple[tuple[LimitsSpec, tuple[str, ...]], ...] = ()
    at: AnyPatch | AnyFew | None = None
    centred: bool = False


def read_region(e: Elaborator, node: s.RegionNode, setting: Setting, name: str = "") -> RegionSpec:
    """The region a quantifier ranges over; reports and leaves where it has no meaning.

    Args:
        name: of the variable, which an interval alone is that of.
    """
    if isinstance(node.base, s.IntervalNode):
        return _reachable(e, _number(e, node, node.base, setting, name), node, setting)
    parts = [_region_of(e, node, overlap) for overlap in _alternatives(e, e, node.base, node, setting)]
    _require_measurable(e, node, parts, setting)
    for part in parts:
        _reachable(e, part, node, setting)
    region = parts[0] if len(parts) == 1 else UnionSpec(tuple(dict.fromkeys(parts)))
    try:
        count_pieces(region)
    except TooManyPiecesError as error:
        raise e.scope.problem("E251", str(error), node.base, error.fix) from error
    except EmptyRegionError as error:
        raise e.scope.problem("E209", str(error), node.base) from error
    return region


def _number(e: Elaborator, node: s.RegionNode, base: s.IntervalNode, setting: Setting, name: str) -> BoxSpec:
    """A single number of a network with one input."""
    names = setting.model.input_names if setting.model else ()
    if len(names) > 1:
        message = f"an interval is of a single number, and `{setting.model.name}` has {len(names)} inputs"  # type: ignore[union-attr]
        raise e.scope.problem("E205", message, base, "write `box([low, high], ...)`, or name the inputs in it")
    if setting.varies:
        message = "the region of a measure is a ball whose radius is the measure's"
        raise e.scope.problem("E206", message, base, "use `ball(x, norm, r)`")
    space = read_space(e, node, setting)
    ends = read_interval(e, base.low, base.high, setting, space)
    return BoxSpec((_cut(e, node, ends, setting, space),), (name,), space)


def _cut(e: Elaborator, node: s.RegionNode, ends: Ends, setting: Setting, space: str) -> Ends:
    """An interval, as far as it lies within the one that is written behind it."""
    if not isinstance(node.within, s.IntervalNode):
        return ends
    low, high = read_interval(e, node.within.low, node.within.high, setting, space)
    ends = max(low, ends[0]), min(high, ends[1])
    if ends[0] > ends[1]:
        raise e.scope.problem("E209", "this region is empty: `within` leaves nothing of the box", node)
    return ends


def _alternatives(
    e: Elaborator, home: Elaborator, base: s.RegionBase, suffix: s.RegionNode, setting: Setting
) -> list[_Overlap]:
    """The parts of the union that a region is; ``home`` is where it is written, ``suffix`` says space and limits."""
    match base:
        case s.RegionNode():
            inner = replace(base, within=base.within or suffix.within, space=base.space or suffix.space)
            return _alternatives(e, home, base.base, inner, setting)
        case s.RegionChain("or", operands):
            return [part for one in operands for part in _alternatives(e, home, one, suffix, setting)]
        case s.RegionChain(_, operands):
            each = [_alternatives(e, home, one, suffix, setting) for one in operands]
            count = 1
            for parts in each:
                count *= len(parts)
            if count > MAX_ALTERNATIVES:
                message = f"written out, this is a union of {count} regions, more than {MAX_ALTERNATIVES}"
                raise e.scope.problem("E251", message, base, "join fewer alternatives by `and`")
            return [_joined(e, base, chosen) for chosen in itertools.product(*each)]
        case s.IntervalNode():
            message = "an interval is of a single number, and stands alone"
            raise e.scope.problem("E205", message, base, "write `box([low, high], ...)`")
        case s.Ref():
            domain = home.scope.find(base, ("domain",))
            with home.scope.step(base):
                return _alternatives(e, Elaborator(domain.scope), domain.node.region, suffix, setting)
        case s.Call():
            return [_leaf(e, home, base, suffix, setting)]


def _leaf(e: Elaborator, home: Elaborator, call: s.Call, suffix: s.RegionNode, setting: Setting) -> _Overlap:
    node = replace(suffix, base=call)
    space = read_space(e, node, setting)
    domain = _domain(e, node, setting)
    if call.function.name == "box":
        limits, names = read_box(home, call, setting, space)
        bounds = tuple(None if ends is None else _cut(e, node, ends, setting, space) for ends in limits.bounds)
        kept = (replace(limits, bounds=bounds), names)
        return _Overlap(limits=(kept, *domain))
    around = Around(node, setting, space, domain[0][0] if domain else None)
    match call.function.name:
        case "ball":
            ball, at = read_ball(home, call, around)
            return _Overlap((ball,), domain, at, bool(domain))
        case "patch":
            patch, where = read_patch(home, call, around)
            return _Overlap((patch,), domain, where, bool(domain))
        case name:
            fix = "use `ball(x, norm, eps)`, `patch(x, height, width)` or `box(...)`"
            hint = did_you_mean(name, _REGIONS) or fix
            raise home.scope.problem("E201", f"there is no region `{name}`", call.function, hint)


def _domain(e: Elaborator, node: s.RegionNode, setting: Setting) -> tuple[tuple[LimitsSpec, tuple[str, ...]], ...]:
    """The limits that a domain after ``within`` sets; none without one."""
    if not isinstance(node.within, s.Ref):
        return ()
    domain = e.scope.find(node.within, ("domain",))
    alone = replace(node, base=domain.node.region, within=None)
    parts = _alternatives(e, Elaborator(domain.scope), domain.node.region, alone, setting)
    if len(parts) != 1 or parts[0].balls:
        message = f"`{node.within.name}` is no single box, so it tells no valid inputs"
        raise e.scope.problem("E252", message, node.within, "take a domain that is one box, or join it by `and`")
    for limits, names in parts[0].limits:
        require_bounded(e, node.within, limits, names)
    return parts[0].limits


def _joined(e: Elaborator, node: s.SyntaxNode, parts: tuple[_Overlap, ...]) -> _Overlap:
    """The intersection of some regions."""
    balls = tuple(dict.fromkeys(ball for part in parts for ball in part.balls))
    limits = tuple(dict.fromkeys(one for part in parts for one in part.limits))
    places = [part.at for part in parts if part.at is not None]
    if places and len(balls) > 1:
        message = "a patch, or a few numbers, and another ball have no intersection that can be taken apart"
        fix = "write `ball(x, linf, eps)` with `rows=` and `columns=`, or leave one of the two out"
        raise e.scope.problem("E252", message, node, fix)
    return _Overlap(balls, limits, places[0] if places else None, any(part.centred for part in parts))


def _region_of(e: Elaborator, node: s.RegionNode, overlap: _Overlap) -> BallSpec | BoxSpec | BothSpec | SomewhereSpec:
    """The region that an intersection is."""
    limits = tuple(limits for limits, _ in overlap.limits)
    if not overlap.balls and len(limits) == 1:
        ((only, names),) = overlap.limits
        require_bounded(e, node.base, only, names)
        bounds = tuple(ends for ends in only.bounds if ends is not None)
        return BoxSpec(bounds, names, only.space, only.kinds, only.groups)
    if not overlap.balls:
        _require_all_bounded(e, node, overlap)
    if overlap.at is not None:
        return SomewhereSpec(overlap.balls[0], overlap.at, limits, overlap.centred)
    if len(overlap.balls) == 1 and not limits:
        return overlap.balls[0]
    round_ = [ball for ball in overlap.balls if ball.norm != "linf"]
    if len(round_) > 1:
        message = "no stage bounds the intersection of two balls that are no boxes"
        fix = "leave one of them out: what holds in a ball holds in a part of it"
        raise e.scope.problem("E252", message, node.base, fix)
    both = BothSpec(overlap.balls, limits, overlap.centred)
    if round_ and not both.is_real:
        _require_one_by_one(e, node, both, round_[0].norm)
    return both


def _require_one_by_one(e: Elaborator, node: s.RegionNode, both: BothSpec, norm: str) -> None:
    """Requires that whole numbers in a ball that is no box are few enough to be taken one by one."""
    with suppress(TooManyPiecesError, EmptyRegionError):  # reported with the whole region
        for piece in pieces(both, ()):
            limits = piece.limits if isinstance(piece, BothSpec) else ()
            if any(kind == INTEGERS for one in limits for kind in one.kinds):
                message = f"in an {norm} ball whole numbers are taken one by one, and these are more than {MAX_LISTED}"
                raise e.scope.problem("E252", message, node.base, "narrow their intervals, or write the ball in linf")


def _require_all_bounded(e: Elaborator, node: s.RegionNode, overlap: _Overlap) -> None:
    """Requires that some part bounds each input."""
    names = next((names for _, names in overlap.limits if names), ())
    if any(len(limits.bounds) == 1 for limits, _ in overlap.limits):
        return
    sizes = {len(limits.bounds) for limits, _ in overlap.limits}
    if len(sizes) > 1:
        message = f"these boxes are of {' and '.join(map(str, sorted(sizes)))} inputs"
        raise e.scope.problem("E205", message, node.base)
    for place in range(sizes.pop()):
        if all(limits.bounds[place] is None for limits, _ in overlap.limits):
            raise e.scope.problem("E208", f"this leaves `{names[place]}` unbounded", node.base)


def _require_measurable(e: Elaborator, node: s.RegionNode, parts: Sequence[RegionSpec], setting: Setting) -> None:
    """Requires that the region of a measure grows with its radius, in every part."""
    if not setting.varies:
        return
    for part in parts:
        match part:
            case BoxSpec():
                message = "the region of a measure is a ball whose radius is the measure's"
                raise e.scope.problem("E206", message, node.base, "use `ball(x, norm, r)`")
            case BothSpec(balls, limits):
                if len(balls) != 1 or not all(one.is_real for one in limits):
                    message = "the region of a measure is one ball, within intervals"
                    raise e.scope.problem("E252", message, node.base, "whole numbers and listed values have no radius")
            case SomewhereSpec(limits=limits):
                if not all(one.is_real for one in limits):
                    message = "the region of a measure is one ball, within intervals"
                    raise e.scope.problem("E252", message, node.base, "whole numbers and listed values have no radius")


def _reachable(e: Elaborator, region: RegionSpec, node: s.RegionNode, setting: Setting) -> RegionSpec:
    """The region, if float64 holds its numbers also as the network receives them."""
    transform, seen = setting.transform, e.scope.session.normalisations
    key = id(transform.mean), id(transform.std)
    if key not in seen:
        # Kept with the tuples themselves: while they live, nothing else has their identity.
        seen[key] = max(map(abs, transform.mean)), min(transform.std), (transform.mean, transform.std)
    mean, std, _ = seen[key]
    for space, ends in _numbers(region):
        if space != "net":
            largest = max(map(abs, ends)) * (transform.scale if space == "raw" else 1)
            e.usable((largest + mean) / std, "a number of this region, as the network receives it,", node)
    return region


def _numbers(region: RegionSpec) -> Iterator[tuple[str, tuple[Fraction, ...]]]:
    """The spaces and the numbers of a region's parts."""
    match region:
        case BallSpec():
            yield region.space, (max((region.eps, *region.shares)), *(region.within or ()))
        case BoxSpec() | LimitsSpec():
            yield region.space, tuple(end for ends in region.bounds if ends is not None for end in ends)
        case BothSpec(balls, limits):
            for part in (*balls, *limits):
                yield from _numbers(part)  # type: ignore[arg-type]
        case SomewhereSpec(ball=ball, limits=limits):
            for part in (ball, *limits):
                yield from _numbers(part)  # type: ignore[arg-type]
        case UnionSpec(parts):
            for one in parts:
                yield from _numbers(one)


def check_domain(e: Elaborator, node: s.DomainStatement) -> None:
    """Check a domain where it is defined, as far as that is possible without a model."""
    pending: list[s.RegionBase] = [node.region]
    while pending:
        base = pending.pop()
        match base:
            case s.RegionChain(_, operands):
                pending.extend(operands)
            case s.RegionNode():
                pending.append(base.base)
            case s.Ref():
                e.scope.find(base, ("domain",))
            case s.Call() if base.function.name == "box":
                named = any(isinstance(a.value, s.IntervalNode | s.Member | s.Call) for a in base.arguments)
                for argument in base.arguments:
                    if isinstance(argument.value, s.IntervalNode):
                        read_interval(e, argument.value.low, argument.value.high, Setting(None, None), "raw")
                if not named:
                    read_box(e, base, Setting(None, None), "raw")
            case _:
                raise e.scope.problem("E206", "a domain is a `box(...)`, or several joined by `or` and `and`", base)
