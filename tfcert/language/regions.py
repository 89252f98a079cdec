"""Regions: balls and boxes, their spaces, and the exact numbers in them."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from tfcert.language import syntax as s
from tfcert.language.diagnostics import AbortError
from tfcert.language.elaborate import Elaborator
from tfcert.language.formula import Radius, Term
from tfcert.language.lowering import round_down
from tfcert.language.scope import did_you_mean
from tfcert.language.spaces import IDENTITY, Transform
from tfcert.language.templates import Ball, Box, Dataset, Model, Region, net_within
from tfcert.language.values import Inputs, Norm, describe

Ends = tuple[Fraction, Fraction]


@dataclass(frozen=True)
class Setting:
    """What a region depends on: the data set, the model, and whether a radius varies (a measure)."""

    dataset: Dataset | None
    model: Model | None
    varies: bool = False

    @property
    def transform(self) -> Transform:
        """From stored values to network inputs; the model's normalisation counts if the data set has none."""
        data = self.dataset.transform if self.dataset else IDENTITY
        if self.model is None or not (self.model.mean or self.model.std) or data.normalises:
            return data
        return Transform(data.scale, self.model.mean or IDENTITY.mean, self.model.std or IDENTITY.std)

    def pixel(self, space: str) -> Fraction | None:
        """The size of a pixel step in a space; None in network space after normalisation."""
        return self.transform.pixel(space, self.dataset.range if self.dataset else None)


def read_region(e: Elaborator, node: s.Region, setting: Setting) -> Region:
    """The region a quantifier ranges over; reports and leaves where it has no meaning."""
    base, home = node.base, e
    if isinstance(base, s.Interval):
        raise e.scope.problem("E907", "perturbing a single number is not supported yet", base, "use `ball` or `box`")
    if isinstance(base, s.Ref):
        domain = e.scope.find(base, ("domain",))
        base, home = domain.node.region, Elaborator(domain.scope)
    space = _space(e, node, setting)
    match base.function.name:
        case "ball":
            return _reachable(e, _ball(home, base, node, setting, space), node, setting)
        case "box":
            return _reachable(e, _box(home, base, node, setting, space), node, setting)
        case name:
            hint = did_you_mean(name, ("ball", "box")) or "use `ball(x, norm, eps)` or `box(...)`"
            raise home.scope.problem("E201", f"there is no region `{name}`", base.function, hint)


def _reachable(e: Elaborator, region: Region, node: s.Region, setting: Setting) -> Region:
    """The region, if float64 holds its numbers also as the network receives them."""
    transform = setting.transform
    if isinstance(region, Box):
        numbers = sum(region.net_bounds(transform), ())
    else:
        numbers = region.net_eps(transform) + sum(net_within(region, transform) or (), ())
    for number in numbers:
        e.usable(number, "a number of this region, as the network receives it,", node)
    return region


def _space(e: Elaborator, node: s.Region, setting: Setting) -> str:
    if node.space is not None:
        return node.space
    transform = setting.transform
    if transform.scales or transform.normalises:
        kind = node.base.function.name if isinstance(node.base, s.Call) else "region"
        own = setting.dataset is None or not (setting.dataset.transform.scales or setting.dataset.transform.normalises)
        owner = setting.model.name if own and setting.model else setting.dataset.name if setting.dataset else ""
        how = "normalised" if transform.normalises else "scaled"
        e.scope.report(
            "E203",
            f"this {kind} has no space, but `{owner}` is {how}",
            node.base,
            "add `in unit` (pixels/255), `in raw` or `in net`",
        )
    return "unit"


def read_length(e: Elaborator, node: s.Expr, what: str, setting: Setting, space: str) -> Term:
    """A number of a space; pixels are converted. It may name the radius, nothing else that varies."""
    value = e.numeric(node, what)
    if any(not isinstance(v, Radius) for v, _ in value.term.coefficients):
        raise e.scope.problem("E206", f"{what} must be a constant", node)
    if value.unit == "s":
        raise e.scope.problem("E207", f"{what} must be a plain number or pixels, not a time", node)
    if value.unit == "px":
        pixel = setting.pixel(space)
        if pixel is None:
            raise e.scope.problem("E207", "pixels say nothing after normalisation", node, "write `in unit` or `in raw`")
        term = Term(value.term.coefficients, value.term.constant).times(pixel)
    else:
        term = value.term
    for number in (term.constant, *(c for _, c in term.coefficients)):
        e.usable(number, what, node)
    return term


def read_interval(e: Elaborator, low: s.Expr, high: s.Expr, setting: Setting, space: str) -> Ends:
    """Two constants of a space."""
    ends = []
    for node in (low, high):
        term = read_length(e, node, "an end of the interval", setting, space)
        if not term.is_constant:
            raise e.scope.problem("E206", "an end of the interval must be a constant", node)
        ends.append(term.constant)
    if ends[0] > ends[1]:
        raise e.scope.problem(
            "E209", "this interval is empty: its low end is above its high end", low.span.to(high.span)
        )
    return ends[0], ends[1]


def _within(e: Elaborator, node: s.Region, setting: Setting, space: str) -> Ends | None:
    if node.within is None:
        return None
    return read_interval(e, node.within.low, node.within.high, setting, space)


def _ball(e: Elaborator, call: s.Call, node: s.Region, setting: Setting, space: str) -> Ball:
    centre, norm_node, eps_node = e.positional(call, 3)
    where = e.value(centre)
    if not isinstance(where, Inputs) or where.quantified:
        raise e.scope.problem("E206", f"a ball is around the sample; this is {describe(where)}", centre)
    norm = e.value(norm_node)
    if not isinstance(norm, Norm):
        message = f"the second argument of `ball` is a norm; this is {describe(norm)}"
        raise e.scope.problem("E206", message, norm_node, "use `linf`, `l2` or `l1`")
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
    ball = Ball(norm.name, eps.constant, slope, _within(e, node, setting, space), space)
    _covers_everything(e, eps_node, ball, setting)
    return ball


def _covers_everything(e: Elaborator, node: s.Expr, ball: Ball, setting: Setting) -> None:
    """Warns of an L-inf ball that holds every value in the range, whatever the sample: its unit may be mistaken."""
    ends = ball.within
    if ends is None and setting.dataset is not None and setting.dataset.range is not None:
        low, high = setting.dataset.range
        scale = Fraction(1) if ball.space == "raw" else setting.transform.scale
        known = ball.space in ("raw", "unit") or not setting.transform.normalises
        ends = (low * scale, high * scale) if known else None
    if ends is None or ball.norm != "linf" or ball.slope or ball.eps < ends[1] - ends[0]:
        return
    first, last, eps = map(round_down, (*ends, ball.eps))
    message = f"this ball covers all values from {first:g} to {last:g}, whatever the sample"
    e.scope.report("W002", message, node, f"is `{eps:g}` meant in another space, or in `px`?")


def _box(e: Elaborator, call: s.Call, node: s.Region, setting: Setting, space: str) -> Box:
    if setting.varies:
        message = "the region of a measure is a ball whose radius is the measure's"
        raise e.scope.problem("E206", message, call, "use `ball(x, norm, r)`")
    if not call.arguments:
        raise e.scope.problem("E208", "this box bounds nothing", call, "write `box([low, high])`")
    slots = [a for a in call.arguments if isinstance(a.value, s.Interval)]
    if slots and len(slots) < len(call.arguments):
        raise e.scope.problem("E205", "a box is given by name or by position, not both", call)
    model_names = setting.model.input_names if setting.model else ()
    bounds = [_bounds(e, a, setting, space) for a in call.arguments]
    if slots:
        names = _slot_order(e, call, slots, setting)
        given = [a.name for a in slots]
        bounds = [bounds[given.index(name)] for name in names]
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
    return Box(tuple(bounds), names, space)


def _bounds(e: Elaborator, argument: s.Argument, setting: Setting, space: str) -> Ends:
    value = argument.value
    if isinstance(value, s.Interval):
        return read_interval(e, value.low, value.high, setting, space)
    if argument.name is not None:
        raise e.scope.problem("E205", "a bound is written `name in [low, high]`", argument)
    if not isinstance(value, s.ListExpr) or len(value.items) != 2:
        raise e.scope.problem("E208", "a box is made of intervals `[low, high]`", argument)
    return read_interval(e, value.items[0], value.items[1], setting, space)


def _slot_order(e: Elaborator, call: s.Call, slots: list[s.Argument], setting: Setting) -> tuple[str, ...]:
    """The names in the order of the model's inputs."""
    given = [str(a.name) for a in slots]
    for i, argument in enumerate(slots):
        if given[i] in given[:i]:
            raise e.scope.problem("E202", f"`{given[i]}` is bounded twice", argument)
    if setting.model is None:
        raise AbortError("the model is not known, so neither are its inputs")
    names = setting.model.input_names
    if not names:
        message = f"the inputs of `{setting.model.name}` have no names"
        raise e.scope.problem("E201", message, call, "give the model `inputs: [...]`")
    for name, argument in zip(given, slots, strict=True):
        if name not in names:
            hint = did_you_mean(name, names) or f"the inputs are {', '.join(names[:8])}"
            raise e.scope.problem("E201", f"`{setting.model.name}` has no input `{name}`", argument, hint)
    missing = [n for n in names if n not in given]
    if missing:
        listed = ", ".join(f"`{n}`" for n in missing[:8])
        raise e.scope.problem("E208", f"this box leaves {listed} unbounded", call, f"add `{missing[0]} in [low, high]`")
    return names


def _count_fits(e: Elaborator, call: s.Call, count: int, names: tuple[str, ...]) -> None:
    if count == 1 or not names or count == len(names):
        return
    if count < len(names):
        raise e.scope.problem("E208", f"this box leaves `{names[count]}` unbounded", call)
    raise e.scope.problem("E205", f"this box has {count} intervals for {len(names)} inputs", call)


def check_domain(e: Elaborator, node: s.Domain) -> None:
    """Check a domain where it is defined, as far as that is possible without a model."""
    call = node.region
    if call.function.name != "box":
        raise e.scope.problem("E206", "a domain is a `box(...)`", call)
    for argument in call.arguments:
        _bounds(e, argument, Setting(None, None), "raw")
