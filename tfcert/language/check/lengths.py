"""Lengths, places and spaces: the numbers of a region, exact, in the units that they are written in."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from tfcert.catalog import DISTANCES
from tfcert.language.check.elaborate import Elaborator
from tfcert.language.check.setting import Setting, is_unit
from tfcert.language.check.values import MEASURED, MIXED, Numeric, describe
from tfcert.language.spec.formula import Radius, Term
from tfcert.language.spec.regions import BallSpec, Ends
from tfcert.language.spec.spaces import Transform
from tfcert.language.text import syntax as s
from tfcert.sets.rounding import float_down
from tfcert.verdict import TINY

Reader = Callable[[Elaborator, s.Expr, str, Setting, str], Term]


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
    if value.unit in ("deg", *MEASURED):
        fix = MEASURED.get(value.unit, "write a plain number, in the units of the inputs")
        raise e.scope.problem("E207", f"{what} must be a distance between inputs, not {describe(value)}", node, fix)
    if value.unit == MIXED:
        fix = "write one percentage, which is a share of the range, or a plain number"
        raise e.scope.problem("E207", f"{what} must not be {describe(value)}", node, fix)
    if value.unit in ("%", "px"):
        of = "a pixel" if value.unit == "px" else "a share of the range"
        return _term(e, node, what, value, _size(e, node, setting, space, of))
    return _term(e, node, what, value)


def read_place(e: Elaborator, node: s.Expr, what: str, setting: Setting, space: str) -> Term:
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
    if value.unit in ("s", *MEASURED):
        fix, found = MEASURED.get(value.unit, ""), describe(value)
        raise e.scope.problem("E207", f"{what} must be a plain number or pixels, not {found}", node, fix)
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
    e: Elaborator, low: s.Expr, high: s.Expr, setting: Setting, space: str, read: Reader = read_place
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


def report_everything(e: Elaborator, node: s.Expr, ball: BallSpec, setting: Setting) -> None:
    """Warns of an L-inf ball that holds every value in the range, whatever the sample: its unit may be mistaken."""
    ends = ball.within if ball.within_space is None else None
    if ends is None and (ball.space != "net" or not setting.transform.normalises):
        ends = setting.range if ball.space == "raw" else setting.unit_range
    if ends is None or ball.norm != "linf" or ball.slope or ball.eps < ends[1] - ends[0]:
        return
    first, last, eps = map(float_down, (*ends, ball.eps))
    message = f"this ball covers all values from {first:g} to {last:g}, whatever the sample"
    e.scope.report("W002", message, node, f"is `{eps:g}` meant in another space, or in `px`?")
