"""Regions: balls and boxes, their spaces, and the exact numbers in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

from tfcert.catalog import DISTANCES
from tfcert.language.check.elaborate import Elaborator
from tfcert.language.check.scope import did_you_mean
from tfcert.language.check.setting import Ends, Setting, is_unit
from tfcert.language.check.values import MIXED, Inputs, Norm, Numeric, describe
from tfcert.language.spec.formula import Radius, Term
from tfcert.language.spec.questions import BallSpec, BoxSpec, RegionSpec
from tfcert.language.spec.spaces import Transform
from tfcert.language.text import syntax as s
from tfcert.language.text.diagnostics import AbortError
from tfcert.language.text.names import written
from tfcert.sets.rounding import float_down
from tfcert.verdict import TINY

Reader = Callable[[Elaborator, s.Expr, str, Setting, str], Term]


def read_region(e: Elaborator, node: s.RegionNode, setting: Setting) -> RegionSpec:
    """The region a quantifier ranges over; reports and leaves where it has no meaning."""
    base, home = node.base, e
    if isinstance(base, s.IntervalNode):
        raise e.scope.problem("E907", "perturbing a single number is not supported yet", base, "use `ball` or `box`")
    if isinstance(base, s.Ref):
        domain = e.scope.find(base, ("domain",))
        base, home = domain.node.region, Elaborator(domain.scope)
    space = read_space(e, node, setting)
    match base.function.name:
        case "ball":
            return _reachable(e, _ball(home, base, node, setting, space), node, setting)
        case "box":
            return _reachable(e, _box(home, base, node, setting, space), node, setting)
        case name:
            hint = did_you_mean(name, ("ball", "box")) or "use `ball(x, norm, eps)` or `box(...)`"
            raise home.scope.problem("E201", f"there is no region `{name}`", base.function, hint)


def _reachable(e: Elaborator, region: RegionSpec, node: s.RegionNode, setting: Setting) -> RegionSpec:
    """The region, if float64 holds its numbers also as the network receives them."""
    if region.space == "net":
        return region
    transform, seen = setting.transform, e.scope.session.normalisations
    key = id(transform.mean), id(transform.std)
    if key not in seen:
        # Kept with the tuples themselves: while they live, nothing else has their identity.
        seen[key] = max(map(abs, transform.mean)), min(transform.std), (transform.mean, transform.std)
    mean, std, _ = seen[key]
    written = (
        region.bounds
        if isinstance(region, BoxSpec)
        else ((max((region.eps, *region.shares)),), *filter(None, [region.within]))
    )
    largest = max(abs(end) for ends in written for end in ends) * (transform.scale if region.space == "raw" else 1)
    e.usable((largest + mean) / std, "a number of this region, as the network receives it,", node)
    return region


def read_space(e: Elaborator, node: s.RegionNode, setting: Setting) -> str:
    """The space that a region is written in; reports where none is and it matters."""
    transform, unit = setting.transform, setting.unit_range
    if node.space == "unit" and unit is not None and setting.dataset is not None and not is_unit(unit):
        scaled = "after `scale` " if transform.scales else ""
        ends = " to ".join(f"{float_down(end):g}" for end in unit)
        message = f"`in unit` is for values in [0, 1], but {scaled}those of `{setting.dataset.name}` go from {ends}"
        fix = "write `in raw`, or give the data set the `scale` that takes its range to [0, 1]"
        e.scope.report("E237", message, node, fix)
    if node.space is not None:
        return node.space
    if transform.scales or transform.normalises:
        kind = node.base.function.name if isinstance(node.base, s.Call) else "region"
        kind = "distance" if kind in DISTANCES.words() else kind
        own = setting.dataset is None or not (setting.dataset.transform.scales or setting.dataset.transform.normalises)
        owner = setting.model.name if own and setting.model else setting.dataset.name if setting.dataset else ""
        how = "normalised" if transform.normalises else "scaled"
        e.scope.report(
            "E203",
            f"this {kind} has no space, but `{owner}` is {how}",
            node.base,
            f"add {_unit_space(transform)}`in raw` (as stored) or `in net` (as the network receives it)",
        )
    # Where all spaces are one, it is called after what its values are.
    return "unit" if unit is not None and is_unit(unit) else "raw"


def _unit_space(transform: Transform) -> str:
    return f"`in unit` (after `scale: {transform.scale}`), " if transform.scales else ""


def read_length(e: Elaborator, node: s.Expr, what: str, setting: Setting, space: str) -> Term:
    """A distance in a space, pixels and shares of the range converted; nothing but the radius may vary in it."""
    value = e.numeric(node, what)
    if value.unit == "deg":
        fix = "write a plain number, in the units of the inputs"
        raise e.scope.problem("E207", f"{what} must be a distance between inputs, not an angle", node, fix)
    if value.unit == MIXED:
        fix = "write one percentage, which is a share of the range, or a plain number"
        raise e.scope.problem("E207", f"{what} must not be {describe(value)}", node, fix)
    if value.unit in ("%", "px"):
        of = "a pixel" if value.unit == "px" else "a share of the range"
        return _term(e, node, what, value, _size(e, node, setting, space, of))
    return _term(e, node, what, value)


def _read_place(e: Elaborator, node: s.Expr, what: str, setting: Setting, space: str) -> Term:
    """A value of an input in a space; pixels are converted, and percentages are numbers."""
    value, ends = e.numeric(node, what), setting.ends(space)
    size = _size(e, node, setting, space, "a pixel") if value.unit == "px" else Fraction(1)
    told = "after normalisation" if ends is None else " to ".join(f"{float_down(end):g}" for end in ends)
    if value.unit == "px" and ends is not None and ends[0] != 0:
        message = f"pixels count from 0, and the values go from {told}"
        raise e.scope.problem("E207", message, node, "write plain numbers")
    if value.unit in ("%", MIXED) and setting.range is not None and (ends is None or not is_unit(ends)):
        message = f"a percentage tells no place {told if ends is None else f'among values from {told}'}"
        raise e.scope.problem("E207", message, node, "write plain numbers, or `in unit`")
    return _term(e, node, what, value, size)


def _term(e: Elaborator, node: s.Expr, what: str, value: Numeric, size: Fraction = Fraction(1)) -> Term:
    if any(not isinstance(v, Radius) for v, _ in value.term.coefficients):
        raise e.scope.problem("E206", f"{what} must be a constant", node)
    if value.unit == "s":
        raise e.scope.problem("E207", f"{what} must be a plain number or pixels, not a time", node)
    term = value.term.times(size)
    for number in (term.constant, *(c for _, c in term.coefficients)):
        e.usable(number, what, node)
    return term


def _size(e: Elaborator, node: s.Expr, setting: Setting, space: str, what: str) -> Fraction:
    """The size of a pixel, or of the whole range, in a space."""
    if space == "net" and not (what != "a pixel" and setting.transform.uniform_std) and setting.transform.normalises:
        message = "pixels say nothing" if what == "a pixel" else "a share of the range says nothing"
        raise e.scope.problem("E207", f"{message} after normalisation", node, "write `in unit` or `in raw`")
    size = setting.pixel(space) if what == "a pixel" else setting.width(space)
    if size is None:
        owner = f"`{setting.dataset.name}` declares none" if setting.dataset else "there is no data set"
        fix = "add `range: [low, high]` of the stored values to the data set, or write a plain number"
        raise e.scope.problem("E236", f"{what} needs a known range of values, and {owner}", node, fix)
    return size


def read_interval(
    e: Elaborator, low: s.Expr, high: s.Expr, setting: Setting, space: str, read: Reader = _read_place
) -> Ends:
    """Two constants of a space."""
    ends = []
    for node in (low, high):
        term = read(e, node, "an end of the interval", setting, space)
        if not term.is_constant:
            raise e.scope.problem("E206", "an end of the interval must be a constant", node)
        ends.append(term.constant)
    if ends[0] > ends[1]:
        raise e.scope.problem(
            "E209", "this interval is empty: its low end is above its high end", low.span.to(high.span)
        )
    return ends[0], ends[1]


def _within(e: Elaborator, node: s.RegionNode, setting: Setting, space: str) -> Ends | None:
    """The interval after ``within``, if it is one."""
    if not isinstance(node.within, s.IntervalNode):
        return None
    return read_interval(e, node.within.low, node.within.high, setting, space)


def read_valid(e: Elaborator, node: s.RegionNode, setting: Setting, space: str) -> dict[str, Any]:
    """A ball's valid values: those written, or else the declared range, which is known of stored values."""
    if node.within is None and setting.range is not None:
        return {"within": setting.range, "within_space": "raw"}
    return {"within": _within(e, node, setting, space)}


def _ball(e: Elaborator, call: s.Call, node: s.RegionNode, setting: Setting, space: str) -> BallSpec:
    centre, norm_node, eps_node = _ball_arguments(e, call)
    where = e.value(centre)
    if not isinstance(where, Inputs) or where.point is not None:
        raise e.scope.problem("E206", f"a ball is around the sample; this is {describe(where)}", centre)
    norm = e.value(norm_node)
    if not isinstance(norm, Norm):
        message = f"the second argument of `ball` is a norm; this is {describe(norm)}"
        raise e.scope.problem("E206", message, norm_node, "use `linf`, `l2` or `l1`")
    if isinstance(eps_node, s.Shares):
        whole = BallSpec(norm.name, Fraction(1), Fraction(0), space=space, **read_valid(e, node, setting, space))
        return _uneven(e, call, eps_node, whole, setting)
    eps = read_length(e, eps_node, "the radius of a ball", setting, space)
    slope = dict(eps.coefficients).get(Radius(), Fraction(0))
    if slope < 0 or (slope == 0 and setting.varies):
        message = "the radius of the ball must grow with the measure's"
        raise e.scope.problem("E206", message, eps_node, "use the measure's variable as the radius")
    if eps.constant < 0:
        raise e.scope.problem("E209", "a ball with a negative radius is empty", eps_node)
    if norm.name != "linf" and space != "net" and not setting.transform.uniform_std:
        message = f"an {norm.name} ball in {space} space is an ellipsoid after normalisation with different `std`"
        raise e.scope.problem("E910", message, call, "write it `in net`")
    ball = BallSpec(norm.name, eps.constant, slope, space=space, **read_valid(e, node, setting, space))
    _covers_everything(e, eps_node, ball, setting)
    if not slope and is_tiny(eps.constant, setting, space):
        report_tiny(e, eps_node, share_of_range(eps.constant, setting, space))
    return ball


def _ball_arguments(e: Elaborator, call: s.Call) -> tuple[s.Expr, s.Expr, s.Expr]:
    """The centre, the norm and the radius, which may be written ``eps=``."""
    *others, last = call.arguments or (None,)
    if last is not None and last.name == "eps" and not isinstance(last.value, s.IntervalNode):
        call = s.Call(call.function, (*others, s.Argument(None, last.value, span=last.span)), span=call.span)
    centre, norm, eps = e.positional(call, 3)
    return centre, norm, eps


def _uneven(e: Elaborator, call: s.Call, node: s.Shares, ball: BallSpec, setting: Setting) -> BallSpec:
    """A ball with a radius for each input: constants, or of a measure multiples of its variable."""
    given: dict[str, s.Share] = {}
    for share in node.items:
        if share.name.text in given:
            raise e.scope.problem("E202", f"`{share.name.text}` has two radii", share)
        given[share.name.text] = share
    names = _all_named(e, call, given, setting, ("has no radius", ": 0` if it stays as it is"))
    factors = []
    for share in (given[name] for name in names):
        radius = read_length(e, share.value, f"the radius of `{share.name.text}`", setting, ball.space)
        slope = dict(radius.coefficients).get(Radius(), Fraction(0))
        if min(slope, radius.constant) < 0:
            raise e.scope.problem("E209", "a ball with a negative radius is empty", share.value)
        if setting.varies and radius.constant:
            message = "the radii of a measure are multiples of its variable"
            raise e.scope.problem("E206", message, share.value, "write `r`, `0.5*r` or `0`")
        factors.append(slope if setting.varies else radius.constant)
    if not any(factors):
        raise e.scope.problem("E209", "nothing changes in this ball: every radius is 0", node)
    if ball.norm != "linf" and ball.space != "net" and not setting.transform.uniform_std:
        message = f"an {ball.norm} ball in {ball.space} space is an ellipsoid after normalisation with different `std`"
        raise e.scope.problem("E910", message, call, "write it `in net`")
    ends = (Fraction(0), Fraction(1)) if setting.varies else (Fraction(1), Fraction(0))
    return replace(ball, eps=ends[0], slope=ends[1], shares=tuple(factors))


def is_tiny(eps: Fraction, setting: Setting, space: str) -> bool:
    """Tells whether a radius is so small a share of the declared range that its unit may be mistaken."""
    width = setting.width(space)
    return width is not None and 0 < eps < TINY * width


def share_of_range(eps: Fraction, setting: Setting, space: str) -> str:
    """A radius as a share of the declared range."""
    width = setting.width(space)
    assert width is not None
    return f"{float_down(100 * eps / width):.2g}%"


def report_tiny(e: Elaborator, node: s.SyntaxNode, share: str, what: str = "this radius") -> None:
    """Warns of a radius that hardly perturbs anything."""
    message = f"{what} is {share} of the declared range of the values"
    e.scope.report("W010", message, node, "is it meant in another space, in `px`, or as a share, e.g. `3%`?")


def _covers_everything(e: Elaborator, node: s.Expr, ball: BallSpec, setting: Setting) -> None:
    """Warns of an L-inf ball that holds every value in the range, whatever the sample: its unit may be mistaken."""
    ends = ball.within if ball.within_space is None else None
    if ends is None and (ball.space != "net" or not setting.transform.normalises):
        ends = setting.range if ball.space == "raw" else setting.unit_range
    if ends is None or ball.norm != "linf" or ball.slope or ball.eps < ends[1] - ends[0]:
        return
    first, last, eps = map(float_down, (*ends, ball.eps))
    message = f"this ball covers all values from {first:g} to {last:g}, whatever the sample"
    e.scope.report("W002", message, node, f"is `{eps:g}` meant in another space, or in `px`?")


def _box(e: Elaborator, call: s.Call, node: s.RegionNode, setting: Setting, space: str) -> BoxSpec:
    if setting.varies:
        message = "the region of a measure is a ball whose radius is the measure's"
        raise e.scope.problem("E206", message, call, "use `ball(x, norm, r)`")
    if not call.arguments:
        raise e.scope.problem("E208", "this box bounds nothing", call, "write `box([low, high])`")
    slots = [a for a in call.arguments if isinstance(a.value, s.IntervalNode)]
    if slots and len(slots) < len(call.arguments):
        raise e.scope.problem("E205", "a box is given by name or by position, not both", call)
    model_names = setting.model.input_names if setting.model else ()
    bounds = [_bounds(e, a, setting, space) for a in call.arguments]
    if slots:
        names = _slot_order(e, call, slots, setting)
        places = {a.name: place for place, a in enumerate(slots)}
        bounds = [bounds[places[name]] for name in names]
    else:
        names = ()
        _count_fits(e, call, len(bounds), model_names)
    within = _within(e, node, setting, space)
    if within is not None:
        bounds = [(max(low, within[0]), min(high, within[1])) for low, high in bounds]
        if any(low > high for low, high in bounds):
            raise e.scope.problem("E209", "this region is empty: `within` leaves nothing of the box", node)
    if len(bounds) > 1 and len(bounds) % setting.transform.channels:
        message = f"the box has {len(bounds)} inputs, the normalisation {setting.transform.channels} channels"
        raise e.scope.problem("E205", message, call)
    return BoxSpec(tuple(bounds), names, space)


def _bounds(e: Elaborator, argument: s.Argument, setting: Setting, space: str) -> Ends:
    value = argument.value
    if isinstance(value, s.IntervalNode):
        return read_interval(e, value.low, value.high, setting, space)
    if argument.name is not None:
        raise e.scope.problem("E205", "a bound is written `name in [low, high]`", argument)
    if not isinstance(value, s.ListExpr) or len(value.items) != 2:
        raise e.scope.problem("E208", "a box is made of intervals `[low, high]`", argument)
    return read_interval(e, value.items[0], value.items[1], setting, space)


def _slot_order(e: Elaborator, call: s.Call, slots: list[s.Argument], setting: Setting) -> tuple[str, ...]:
    """The names in the order of the model's inputs."""
    given: dict[str, s.Argument] = {}
    for argument in slots:
        name = str(argument.name)
        if name in given:
            raise e.scope.problem("E202", f"`{name}` is bounded twice", argument)
        given[name] = argument
    return _all_named(e, call, given, setting, ("unbounded", " in [low, high]`"))


def _all_named(
    e: Elaborator, call: s.Call, given: Mapping[str, s.SyntaxNode], setting: Setting, missed: tuple[str, str]
) -> tuple[str, ...]:
    """The names of the model's inputs in order, all of which must be among those given, and no others.

    ``missed`` says what is wrong with one that is left out, and how the fix goes on after its name.
    """
    if setting.model is None:
        raise AbortError("the model is not known, so neither are its inputs")
    names = setting.model.input_names
    if not names:
        message = f"the inputs of `{setting.model.name}` have no names"
        raise e.scope.problem("E201", message, call, "give the model `inputs: [...]`")
    known = set(names)
    for name, argument in given.items():
        if name not in known:
            hint = did_you_mean(name, names) or f"the inputs are {', '.join(names[:8])}"
            raise e.scope.problem("E201", f"`{setting.model.name}` has no input `{name}`", argument, hint)
    missing = [n for n in names if n not in given]
    if missing:
        listed, (wrong, fix) = ", ".join(f"`{n}`" for n in missing[:8]), missed
        message = f"this box leaves {listed} unbounded" if wrong == "unbounded" else f"{listed} {wrong} in this ball"
        raise e.scope.problem("E208", message, call, f"add `{written(missing[0])}{fix}")
    return names


def _count_fits(e: Elaborator, call: s.Call, count: int, names: tuple[str, ...]) -> None:
    if count == 1 or not names or count == len(names):
        return
    if count < len(names):
        raise e.scope.problem("E208", f"this box leaves `{names[count]}` unbounded", call)
    raise e.scope.problem("E205", f"this box has {count} intervals for {len(names)} inputs", call)


def check_domain(e: Elaborator, node: s.DomainStatement) -> None:
    """Check a domain where it is defined, as far as that is possible without a model."""
    call = node.region
    if call.function.name != "box":
        raise e.scope.problem("E206", "a domain is a `box(...)`", call)
    for argument in call.arguments:
        _bounds(e, argument, Setting(None, None), "raw")
