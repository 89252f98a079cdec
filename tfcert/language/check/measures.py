"""Measures: their variable, where it is sought and how exactly; and shares of volume."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from typing import Any

from tfcert.language.check.elaborate import Elaborator
from tfcert.language.check.lengths import is_tiny, read_interval, read_length, report_tiny, share_of_range
from tfcert.language.check.quantified import grows, nodes
from tfcert.language.check.scope import Scope
from tfcert.language.check.setting import Setting
from tfcert.language.check.values import NUMBERS, Meaning, Numeric, describe
from tfcert.language.spec.declarations import Strategy
from tfcert.language.spec.formula import Atom, Formula, Radius, variable_term
from tfcert.language.spec.questions import MeasureTemplate, Point, ShareTemplate, ValueTemplate
from tfcert.language.spec.regions import BallSpec, BoxSpec, RegionSpec, balls_of
from tfcert.language.spec.sense import Sense, sense_in_all, sense_of
from tfcert.language.text import syntax as s
from tfcert.language.text.diagnostics import AbortError

VARIABLE = Numeric(variable_term(Radius()))
"""What the variable of a measure stands for."""
Asking = s.PropertyStatement | s.MeasureStatement | s.ShareStatement


def variable_of(node: Asking) -> str:
    """The name of a measure's variable; "" where none is written."""
    return node.radius.text if isinstance(node, s.MeasureStatement) and node.radius is not None else ""


def mentions(root: Any, name: str) -> bool:
    """Tells whether a name stands anywhere in a piece of syntax."""
    return bool(name) and any(isinstance(node, s.Ref) and node.name == name for node in nodes(root))


def check_variable(scope: Scope, node: Asking, taken: Mapping[str, Meaning]) -> None:
    """Report a name that a measure's variable cannot have."""
    if not isinstance(node, s.MeasureStatement) or node.radius is None:
        return
    scope.refuse_word(node.radius)
    scope.refuse_clash(node.radius.text, node.radius)
    if node.radius.text in taken:
        message = f"`{node.radius.text}` is already the sample or the variable"
        scope.report("E202", message, node.radius, "choose another name")


def asked_formula(e: Elaborator, node: Asking, body: s.Expr) -> Formula:
    """The condition that is asked about: what is written, or of an expression that it is beyond the variable."""
    if not isinstance(node, s.MeasureStatement) or node.radius is not None:
        return e.formula(body, "what follows `:`")
    value = e.numeric(body, "what a measure is of")
    if value.unit not in NUMBERS:
        raise e.scope.problem("E207", f"a measure is of plain numbers, not of {describe(value)}", body)
    if value.term.is_constant:
        raise e.scope.problem("E206", "this is a constant, whatever the network computes", body, "name an output")
    difference = value.term.plus(variable_term(Radius()), Fraction(-1))
    return Atom(difference if node.extremum == "largest" else difference.times(Fraction(-1)), False)


def named(node: s.ShareStatement, scope: Scope) -> s.ShareStatement:
    """The statement with a name for its inputs: where none is written, the only one that the formula applies to."""
    ((binder,), formula) = node.formula.binders, node.formula
    if binder.names:
        return node
    calls = [n for n in nodes(formula.body) if isinstance(n, s.Call)]
    given = [a.value for call in calls for a in call.arguments if isinstance(a.value, s.Ref)]
    local = set(node.samples.names if node.samples else ())
    found = {ref.name: ref for ref in given if scope.look_up(ref) is None and ref.name not in local}
    if len(found) != 1:
        many = f"both {' and '.join(f'`{name}`' for name in found)}" if found else "no name"
        message = f"networks are applied to {many} here: which stands for the inputs is not said"
        raise scope.problem("E206", message, formula.body, "write `share of z in ...`")
    (ref,) = found.values()
    binder = s.Binder((s.Name(ref.name, span=ref.span),), binder.region, span=binder.span)
    asked = s.Quantified(formula.quantifier, (binder,), formula.where, formula.body, span=formula.span)
    return replace(node, formula=asked)


def read_measure(
    scope: Scope,
    node: s.MeasureStatement,
    setting: Setting,
    points: tuple[Point, ...],
    asked: tuple[Formula, dict[str, Any]],
) -> MeasureTemplate | ValueTemplate | None:
    """The template of a measure; None where problems were reported.

    Args:
        setting: that of the first point's region.
        asked: the formula as it is written, and what the template has in common with others.
    """
    written, common = asked
    in_region = any(map(grows, points))
    with suppress(AbortError):
        _monotone(scope, node, written, in_region)
        e, space = Elaborator(scope), next((p.region.space for p in points if grows(p)), points[0].region.space)
        low, high = _interval(e, node, setting, space, in_region)
        tolerance, relative = _tolerance(e, node.tolerance, setting, space if in_region else "")
        even = next((ball for ball in balls_of(points[0].region) if ball.is_even), None)
        if in_region and even is not None and high is not None:
            _tiny(e, node, even, setting, high)
        found: dict[str, Any] = common | {"lower": low, "upper": high, "tolerance": tolerance, "relative": relative}
        if sense_of(written) is Sense.FIXED:
            return MeasureTemplate(**found)
        found["width"] = None  # of inputs, and not of what is measured
        sense = sense_in_all((sense_of(common["formula"]), *([Sense.FALLS] if in_region else [])))
        return ValueTemplate(**found, sense=sense, in_region=in_region)
    return None


def _monotone(scope: Scope, node: s.MeasureStatement, written: Formula, in_region: bool) -> None:
    """Requires that the places of the variable agree, and that the answer is not one end whatever happens."""
    assert isinstance(node.formula, s.Quantified)
    forall, place = node.formula.quantifier == "forall", node.radius or node.name
    name, fixed = variable_of(node) or "the value", sense_of(written) is Sense.FIXED
    region = Sense.FIXED if not in_region else Sense.FALLS if forall else Sense.RISES
    sense = sense_in_all((region, sense_of(written)))
    if sense is Sense.FIXED:
        message = f"`{name}` stands neither in the formula nor in the radius of a ball"
        raise scope.problem("E206", message, place, f"use it, e.g. `ball(x, linf, {name})` or `... >= {name}`")
    if sense is Sense.MIXED:
        message = f"a larger `{name}` makes this easier in one place, and harder in another"
        fix = "a measure is found where all places agree: turn a comparison round, or ask for one at a time"
        raise scope.problem("E270", message, place, fix)
    if sense is Sense.RISES and node.extremum == "largest":
        message = f"the larger `{name}`, the more inputs there are: the largest is the interval's high end"
        fix = "write `smallest`, or `forall`"
        if not fixed:
            message = f"the larger `{name}`, the easier this is: the largest is the interval's high end"
            fix = "write `smallest`, or turn the comparison round"
        raise scope.problem("E228", message, place, fix)
    if sense is Sense.FALLS and node.extremum == "smallest":
        message = f"the smaller `{name}`, the fewer inputs there are: the smallest is the interval's low end"
        fix = "write `largest`, or `exists`"
        if not fixed:
            message = f"the smaller `{name}`, the easier this is: the smallest is the interval's low end"
            fix = "write `largest`, or turn the comparison round"
        raise scope.problem("E228", message, place, fix)


def _interval(
    e: Elaborator, node: s.MeasureStatement, setting: Setting, space: str, in_region: bool
) -> tuple[Fraction | None, Fraction | None]:
    """The interval in which the variable is sought."""
    if node.interval is None:
        if in_region:
            message = "how far a radius is sought is not bounded"
            raise e.scope.problem("E208", message, node.radius or node.name, "write `in [a, b]` after it")
        return None, None
    if not in_region:
        low, high = (_plain(e, end, "an end of the interval") for end in (node.interval.low, node.interval.high))
        if low >= high:
            raise e.scope.problem("E209", "a measure needs an interval `[a, b]` with a < b", node.interval)
        return low, high
    low, high = read_interval(e, node.interval.low, node.interval.high, setting, space, read_length)
    if low < 0 or low == high:
        raise e.scope.problem("E209", "a measure needs an interval `[a, b]` with 0 <= a < b", node.interval)
    return low, high


def _plain(e: Elaborator, node: s.Expr, what: str) -> Fraction:
    """A plain number of what networks compute; a percentage is one."""
    return e.number(node, what)


def _tolerance(e: Elaborator, node: s.Tolerance | None, setting: Setting, space: str) -> tuple[Fraction, bool]:
    """The tolerance, and whether it is relative: a percentage is one of the answer unless `absolute` follows.

    ``space`` is that of a radius, "" for plain numbers.
    """
    if node is None:
        return Fraction(1, 10_000), True
    value = e.numeric(node.value, "a tolerance")
    relative = node.relation == "relative" or (not node.relation and value.unit == "%")
    if relative and value.unit not in ("", "%"):
        message = f"a relative tolerance is a number or a percentage, not {describe(value)}"
        raise e.scope.problem("E207", message, node.value, "write `absolute`, or e.g. `1%`")
    if relative or not space:
        tolerance = e.number(node.value, "a tolerance")
    else:
        # An interval from the tolerance to itself: the same units as the ends of the measure's interval.
        tolerance, _ = read_interval(e, node.value, node.value, setting, space, read_length)
    if tolerance <= 0:
        raise e.scope.problem("E220", "a tolerance must be positive", node.value)
    return tolerance, relative


def _tiny(e: Elaborator, node: s.MeasureStatement, region: BallSpec, setting: Setting, high: Fraction) -> None:
    """Warns of an interval of radii that hardly perturb anything."""
    if node.interval is not None and is_tiny(region.radius(high), setting, region.space):
        share = share_of_range(region.radius(high), setting, region.space)
        report_tiny(e, node.interval, share, "the largest radius of this interval")


def read_share(
    scope: Scope, node: s.ShareStatement, points: tuple[Point, ...], common: dict[str, Any]
) -> ShareTemplate | None:
    """The template of a share of volume; None where problems were reported."""
    with suppress(AbortError):
        _divisible(scope, node, points[0].region)
        if len(points) > 1 or common["given"] is not None:
            message = "a share of volume is that of one region, without conditions"
            raise scope.problem("E271", message, node.formula.where or node.formula, "write the region as a box")
        if common["premise"] is not None:
            message = "a share of volume is that of a region, and this depends on what a network answers"
            fix = "measure the shares of `... and ...` and of the condition alone, and divide one by the other"
            raise scope.problem("E271", message, node.formula.where or node.formula, fix)
        strategy: Strategy = common["strategy"]
        if all(stage.attacks or stage.solves for stage in strategy.stages):
            message = (
                f"the strategy `{strategy.name}` has no stage that bounds, and pieces of a region are decided by bounds"
            )
            raise scope.problem("E215", message, node.strategy or node.name, "add one, e.g. `-> crown`")
        tolerance, relative = Fraction(1, 100), False
        if node.tolerance is not None:
            given = s.Tolerance(node.tolerance.value, node.tolerance.relation or "absolute", span=node.tolerance.span)
            tolerance, relative = _tolerance(Elaborator(scope), given, Setting(None, None), "")
        return ShareTemplate(**common | {"width": None}, tolerance=tolerance, relative=relative)
    return None


def _divisible(scope: Scope, node: s.ShareStatement, region: RegionSpec) -> None:
    """Refuses regions that are no boxes of real numbers."""
    if isinstance(region, BoxSpec) and region.is_real:
        return
    if not isinstance(region, BallSpec) or region.norm != "linf":
        what = f"an {region.norm} ball" if isinstance(region, BallSpec) else "a union, or whole numbers and lists,"
        message = f"shares of volume are counted of boxes, and {what} is none"
        raise scope.problem("E271", message, node.formula.binders[0].region, "write a `box` or an `linf` ball")


def local_variable(node: Asking) -> dict[str, Meaning]:
    """The measure's variable, as names of a formula and of regions stand for it."""
    name = variable_of(node)
    return {name: VARIABLE} if name else {}
