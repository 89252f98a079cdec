"""Balls and patches around the sample: norm, radii by input, and what may change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from tfcert.language.check.boxes import all_named
from tfcert.language.check.elaborate import Elaborator
from tfcert.language.check.lengths import (
    is_tiny,
    read_interval,
    read_length,
    report_everything,
    report_tiny,
    share_of_range,
)
from tfcert.language.check.resources import check_path
from tfcert.language.check.scope import did_you_mean
from tfcert.language.check.setting import Setting
from tfcert.language.check.values import Inputs, Norm, describe
from tfcert.language.spec.formula import Radius
from tfcert.language.spec.places import AnyFew, AnyPatch, Movable
from tfcert.language.spec.regions import BallSpec, Ends, LimitsSpec
from tfcert.language.text import syntax as s
from tfcert.language.text.diagnostics import AbortError
from tfcert.language.text.names import written

OPTIONS = ("eps", "fixed", "free", "rows", "columns", "mask")
"""What is written by name after a ball's centre and norm."""
PATCH_OPTIONS = ("stride", "rows", "columns", "mask")
ONE, ZERO = Fraction(1), Fraction(0)


@dataclass(frozen=True)
class Around:
    """Where a ball stands in the text, and what limits it.

    Attributes:
        node: the call with the ``within`` and the space that hold for it.
        setting: data, model, and whether the radius varies.
        space: the ball's.
        domain: the limits that are written after ``within``, or None.
    """

    node: s.RegionNode
    setting: Setting
    space: str
    domain: LimitsSpec | None = None


def read_valid(e: Elaborator, node: s.RegionNode, setting: Setting, space: str) -> dict[str, Any]:
    """A ball's valid values: those written, or else the declared range, which is known of stored values."""
    if node.within is None and setting.range is not None:
        return {"within": setting.range, "within_space": "raw"}
    if not isinstance(node.within, s.IntervalNode):
        return {"within": None}
    return {"within": read_interval(e, node.within.low, node.within.high, setting, space)}


def read_ball(e: Elaborator, call: s.Call, around: Around) -> tuple[BallSpec, AnyFew | None]:
    """A ball, and for ``l0`` how many numbers may change; reports and leaves where it has no meaning."""
    setting, space = around.setting, around.space
    places, options = _arguments(e, call, OPTIONS)
    given = [*places, options["eps"]] if "eps" in options else places
    if len(given) != 3:
        written_so = "`ball(x, norm, eps)`, or `ball(x, norm, eps=[...])`"
        raise e.scope.problem("E205", f"`ball` takes 3 arguments, not {len(given)}", call, f"write {written_so}")
    centre, norm_node, eps_node = given
    point = _centre(e, centre, "a ball")
    if isinstance(norm_node, s.Ref) and norm_node.name == "l0" and e.scope.look_up(norm_node) is None:
        if point is not None:
            raise _refused(e, norm_node, centre)
        few = AnyFew(e.whole(eps_node, "how many numbers change", 1))
        return _anything(e, call, around, options), few
    norm = e.value(norm_node)
    if not isinstance(norm, Norm):
        message = f"the second argument of `ball` is a norm; this is {describe(norm)}"
        raise e.scope.problem("E206", message, norm_node, "use `linf`, `l2`, `l1` or `l0`")
    if point is not None and norm.name != "linf":
        raise _refused(e, norm_node, centre)
    if point is not None:
        setting = replace(setting, varies=False)
        around = replace(around, setting=setting)
    whole = BallSpec(norm.name, ONE, ZERO, space=space, around=point, **read_valid(e, around.node, setting, space))
    if isinstance(eps_node, s.Shares | s.ListExpr):
        ball = _uneven(e, call, eps_node, whole, around)
    elif around.domain is not None and e.numeric(eps_node, "the radius of a ball").unit == "%":
        ball = _share_of_domain(e, eps_node, whole, around)
    else:
        ball = _even(e, eps_node, whole, setting)
    if point is not None and (ball.slope or "mask" in options):
        message = f"a ball around `{written_of(centre)}` has a radius that is a number, and no mask"
        raise e.scope.problem("E252", message, call, "tie the two points by conditions after `where`")
    return _placed(e, call, ball, options, setting), None


def read_patch(e: Elaborator, call: s.Call, around: Around) -> tuple[BallSpec, AnyPatch | None]:
    """A patch at a place, or one of a size wherever it lies: its numbers have any valid values."""
    places, options = _arguments(e, call, PATCH_OPTIONS)
    if not places:
        raise e.scope.problem("E205", "`patch` is of the sample", call, "write `patch(x, height, width)`")
    if _centre(e, places[0], "a patch") is not None:
        raise _refused(e, call, places[0])
    if len(places) == 1:
        if "rows" not in options or "columns" not in options or "stride" in options:
            fix = "write `patch(x, height, width)`, or `patch(x, rows=[0, 4], columns=[0, 4])`"
            raise e.scope.problem("E205", "this patch has neither a size nor a place", call, fix)
        return _anything(e, call, around, options), None
    if len(places) != 3 or "rows" in options or "columns" in options:
        message = "a patch has a height and a width, or rows and columns"
        raise e.scope.problem("E205", message, call, "write `patch(x, height, width)`")
    height, width = (e.whole(node, "the size of a patch", 1) for node in places[1:])
    step = e.whole(options.pop("stride"), "`stride`", 1) if "stride" in options else 1
    return _anything(e, call, around, options), AnyPatch(height, width, step)


def _arguments(e: Elaborator, call: s.Call, names: tuple[str, ...]) -> tuple[list[s.Expr], dict[str, s.Expr]]:
    """The arguments by position, and the others by name."""
    places: list[s.Expr] = []
    options: dict[str, s.Expr] = {}
    for argument in call.arguments:
        if isinstance(argument.value, s.IntervalNode):
            fix = "write `eps=[name: radius, ...]`, or take what a `box` has in common with it by `and box(...)`"
            raise e.scope.problem("E205", f"`{call.function.name}` takes no intervals", argument, fix)
        if argument.name is None:
            if options:
                raise e.scope.problem("E205", "what has no name stands before what has one", argument)
            places.append(argument.value)
        elif argument.name not in names:
            hint = did_you_mean(argument.name, names) or f"it has {', '.join(f'`{name}`' for name in names)}"
            raise e.scope.problem("E205", f"`{call.function.name}` takes no `{argument.name}=`", argument, hint)
        elif argument.name in options:
            raise e.scope.problem("E202", f"`{argument.name}` is given twice", argument)
        else:
            options[argument.name] = argument.value
    return places, options


def _centre(e: Elaborator, node: s.Expr, what: str) -> int | None:
    """What a ball is around: a quantified point by its number, or the sample (None)."""
    where = e.value(node)
    if not isinstance(where, Inputs):
        raise e.scope.problem("E206", f"{what} is around the sample; this is {describe(where)}", node)
    return where.point


def _refused(e: Elaborator, node: s.SyntaxNode, centre: s.Expr) -> AbortError:
    message = f"what lies around `{written_of(centre)}`, a variable, is an linf ball: its ends are linear conditions"
    return e.scope.problem("E252", message, node, "write `ball(a, linf, r)`, or a radius for each input")


def written_of(node: s.Expr) -> str:
    """A name as it is written."""
    return node.name if isinstance(node, s.Ref) else "it"


def _even(e: Elaborator, node: s.Expr, ball: BallSpec, setting: Setting) -> BallSpec:
    eps = read_length(e, node, "the radius of a ball", setting, ball.space)
    slope = dict(eps.coefficients).get(Radius(), ZERO)
    if slope < 0 or (slope == 0 and setting.varies):
        message = "the radius of the ball must grow with the measure's"
        raise e.scope.problem("E206", message, node, "use the measure's variable as the radius")
    if eps.constant < 0:
        raise e.scope.problem("E209", "a ball with a negative radius is empty", node)
    found = replace(ball, eps=eps.constant, slope=slope)
    report_everything(e, node, found, setting)
    if not slope and is_tiny(eps.constant, setting, ball.space):
        report_tiny(e, node, share_of_range(eps.constant, setting, ball.space))
    return found


def _uneven(e: Elaborator, call: s.Call, node: s.Shares | s.ListExpr, ball: BallSpec, around: Around) -> BallSpec:
    """A ball with a radius for each input: constants, or of a measure multiples of its variable."""
    setting = around.setting
    if isinstance(node, s.Shares):
        given: dict[str, s.Share] = {}
        for share in node.items:
            if share.name.text in given:
                raise e.scope.problem("E202", f"`{share.name.text}` has two radii", share)
            given[share.name.text] = share
        names = all_named(e, call, given, setting, ("has no radius", ": 0` if it stays as it is"))
        radii = [(f"the radius of `{name}`", given[name].value) for name in names]
    else:
        radii = [(f"radius {i} of the list", item) for i, item in enumerate(node.items)]
        names = setting.model.input_names if setting.model else ()
        if names and len(names) != len(radii):
            message = f"this list has {len(radii)} radii for {len(names)} inputs, in their order"
            raise e.scope.problem("E205", message, node, "write `0` for an input that stays as it is")
    factors = []
    for i, (what, item) in enumerate(radii):
        factor, growing = _factor(e, item, what, around, i)
        if setting.varies and factor and not growing:
            message = "the radii of a measure are multiples of its variable"
            raise e.scope.problem("E206", message, item, "write `r`, `0.5*r` or `0`")
        factors.append(factor)
    if not any(factors):
        raise e.scope.problem("E209", "nothing changes in this ball: every radius is 0", node)
    ends = (ZERO, ONE) if setting.varies else (ONE, ZERO)
    return replace(ball, eps=ends[0], slope=ends[1], shares=tuple(factors))


def _factor(e: Elaborator, node: s.Expr, what: str, around: Around, place: int) -> tuple[Fraction, bool]:
    """A radius, and whether it is one of the measure's variable."""
    interval = _limit(around.domain, place)
    if interval is not None and e.numeric(node, what).unit == "%":
        share = e.number(node, what, "%")
        if share < 0:
            raise e.scope.problem("E209", "a ball with a negative radius is empty", node)
        return share * (interval[1] - interval[0]), False
    radius = read_length(e, node, what, around.setting, around.space)
    slope = dict(radius.coefficients).get(Radius(), ZERO)
    if min(slope, radius.constant) < 0:
        raise e.scope.problem("E209", "a ball with a negative radius is empty", node)
    return (slope, True) if slope and not radius.constant else (radius.constant, False)


def _limit(domain: LimitsSpec | None, place: int) -> Ends | None:
    """The interval of an input in a domain."""
    if domain is None:
        return None
    if len(domain.bounds) == 1:
        return domain.bounds[0]
    return domain.bounds[place] if place < len(domain.bounds) else None


def _share_of_domain(e: Elaborator, node: s.Expr, ball: BallSpec, around: Around) -> BallSpec:
    """A ball whose radius is a share of each input's own interval."""
    assert around.domain is not None
    share = e.number(node, "the radius of a ball", "%")
    if around.setting.varies:
        message = "the radius of the ball must grow with the measure's"
        raise e.scope.problem("E206", message, node, "use the measure's variable as the radius")
    if share < 0:
        raise e.scope.problem("E209", "a ball with a negative radius is empty", node)
    widths = tuple(high - low for low, high in filter(None, around.domain.bounds))
    return replace(ball, eps=share, shares=widths if len(widths) > 1 else ()) if any(widths) else ball


def _anything(e: Elaborator, call: s.Call, around: Around, options: dict[str, s.Expr]) -> BallSpec:
    """The ball of all valid values of what may change."""
    if around.setting.varies:
        message = f"nothing varies in `{call.function.name}` with the measure's radius"
        raise e.scope.problem("E206", message, call, "use `ball(x, linf, r)`, with `rows=`, `columns=` or `free=`")
    valid = read_valid(e, around.node, around.setting, around.space)
    ends: list[Ends] = [valid["within"]] if valid["within"] is not None else []
    ends += [end for end in (around.domain.bounds if around.domain else ()) if end is not None]
    if not ends:
        message = "the values of what changes have no bounds"
        raise e.scope.problem("E208", message, call, "write `within [low, high]` behind it, or give the data a `range`")
    if valid["within"] is not None:
        low, high = ends[0]
        space = valid.get("within_space") or around.space
        scale = around.setting.transform.scale if space == "raw" and around.space != "raw" else ONE
        if around.space == "net" and space != "net":
            scale /= min(around.setting.transform.std)
        radius = (high - low) * scale
    else:
        radius = max(high - low for low, high in ends)
    # Twice as far as any valid value is, so that nothing but those bounds, rounded as they are, ends it.
    ball = BallSpec("linf", 2 * radius, ZERO, space=around.space, free=True, **valid)
    return _placed(e, call, ball, {k: v for k, v in options.items() if k != "eps"}, around.setting)


def _placed(e: Elaborator, call: s.Call, ball: BallSpec, options: Mapping[str, s.Expr], setting: Setting) -> BallSpec:
    """The ball, as far as its options let anything change."""
    if "fixed" in options and "free" in options:
        raise e.scope.problem("E205", "`fixed` and `free` say the same thing: write one", options["free"])
    for name in ("fixed", "free"):
        if name in options:
            ball = _free(e, call, ball, (options[name], name == "free"), setting)
    rows, columns = (_range(e, options[name], name) if name in options else None for name in ("rows", "columns"))
    mask = check_path(e.scope, options["mask"]) if "mask" in options else ""
    if rows is None and columns is None and not mask:
        return ball
    places = ball.places or Movable()
    return replace(ball, places=replace(places, rows=rows, columns=columns, mask=mask, folder=e.scope.folder))


def _free(e: Elaborator, call: s.Call, ball: BallSpec, listed: tuple[s.Expr, bool], setting: Setting) -> BallSpec:
    """The ball in which inputs that are listed are free, or all others are."""
    node, free = listed
    items = node.items if isinstance(node, s.ListExpr) else (node,)
    names = setting.model.input_names if setting.model else ()
    places = [_place(e, call, item, names, setting) for item in items]
    if not names:
        if not free:
            message = "the inputs have no names, and how many there are is not known"
            raise e.scope.problem("E201", message, node, "give the model `inputs: [...]`, or write `free=[...]`")
        return replace(ball, places=replace(ball.places or Movable(), numbers=tuple(sorted(set(places)))))
    shares = ball.shares or (ONE,) * len(names)
    moving = tuple(share if (i in places) == free else ZERO for i, share in enumerate(shares))
    if not any(moving):
        raise e.scope.problem("E209", "nothing changes in this ball: every input is fixed", node)
    return replace(ball, shares=moving)


def _place(e: Elaborator, call: s.Call, node: s.Expr, names: tuple[str, ...], setting: Setting) -> int:
    """The place of an input that is named or numbered."""
    name = node.value if isinstance(node, s.Text) else node.name if isinstance(node, s.Ref) else None
    if name is not None and names:
        if name not in names:
            assert setting.model is not None
            hint = did_you_mean(name, names) or f"the inputs are {', '.join(map(written, names[:8]))}"
            raise e.scope.problem("E201", f"`{setting.model.name}` has no input `{name}`", node, hint)
        return names.index(name)
    if name is not None and setting.model is not None and e.scope.look_up(s.Ref((name,))) is None:
        message = f"the inputs of `{setting.model.name}` have no names"
        raise e.scope.problem("E201", message, node, "give the model `inputs: [...]`, or count from 0")
    place = e.whole(node, "an input that is listed")
    if names and place >= len(names):
        raise e.scope.problem("E224", f"there are {len(names)} inputs, counted from 0", node)
    return place


def _range(e: Elaborator, node: s.Expr, name: str) -> tuple[int, int]:
    """The first and the last row or column."""
    if not isinstance(node, s.ListExpr) or len(node.items) != 2:
        raise e.scope.problem("E206", f"`{name}` are a first and a last one, both included", node, f"`{name}=[3, 7]`")
    first, last = (e.whole(item, f"the number of one of the {name}") for item in node.items)
    if first > last:
        raise e.scope.problem("E209", f"there are no {name} from {first} to {last}", node)
    return first, last
