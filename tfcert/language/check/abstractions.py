"""Abstractions: from statements to plain declarations, and whether one suits a question."""

from __future__ import annotations

from decimal import MAX_EMAX, MIN_EMIN, ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from fractions import Fraction

from tfcert.catalog import Option
from tfcert.language.check.elaborate import Elaborator
from tfcert.language.check.reading import named_arguments, read_entries, read_numbers, read_option
from tfcert.language.check.scope import Definition, Scope, did_you_mean
from tfcert.language.check.setting import Setting
from tfcert.language.spec.cells import Abstraction, Tuning
from tfcert.language.spec.questions import BallSpec, BoxSpec, RegionSpec
from tfcert.language.text import syntax as s
from tfcert.language.text.diagnostics import AbortError
from tfcert.sets.rounding import float_down

MAX_CELLS = 1 << 16
MAX_SIZE = Fraction(10) ** 30
"""Well within what float32 can hold."""
_SHORT = 10**4
"""Fractions of numbers below this are advised as they are."""
_WRITTEN = {
    "intervals": "`intervals(range=[low, high], granularity=d)`",
    "descend": "`descend(step=d, floor=d)`",
}


def read_abstraction(definition: Definition) -> Abstraction:
    """The declaration of an abstraction; reports and leaves where it has no meaning."""
    e, node = Elaborator(definition.scope), definition.node
    entries = read_entries(e, node.block, ("tune",), "an abstraction")
    given = _call(e, node.source, "intervals", ("range", "granularity"), "an abstraction is made by")
    ends = read_numbers(e, given["range"], "`range`")
    if len(ends) != 2 or ends[0] >= ends[1]:
        message = "`range` must be `[low, high]` with low < high, as the network receives its inputs"
        raise e.scope.problem("E209", message, given["range"])
    granularity = _positive(e, given, "granularity")
    for name, number in (("range", max(map(abs, ends))), ("granularity", granularity)):
        if number > MAX_SIZE:
            raise e.scope.problem("E220", f"no network computes with a `{name}` above 1e30", given[name])
    tuning = _tuning(e, entries["tune"], granularity) if "tune" in entries else None
    found = Abstraction(definition.full_name, ends[0], ends[1], granularity, tuning, node.name.span)
    if found.cells() > MAX_CELLS:
        message = f"these are {found.cells()} cells, and at most {MAX_CELLS} can be told apart"
        place = given["granularity"] if tuning is None else entries["tune"]
        raise e.scope.problem(
            "E220", message, place, f"take cells of at least {_advised((ends[1] - ends[0]) / MAX_CELLS)}"
        )
    return found


def _tuning(e: Elaborator, entry: s.EntryNode, granularity: Fraction) -> Tuning:
    given = _call(e, entry.value, "descend", ("step", "floor"), "`tune` must be")
    tuning = Tuning(_positive(e, given, "step"), _positive(e, given, "floor"))
    if tuning.floor > granularity:
        message = f"`floor` is above the granularity, {_short(granularity)}, that the descent begins with"
        raise e.scope.problem("E220", message, given["floor"])
    return tuning


def _call(e: Elaborator, node: s.BlockValue, name: str, options: tuple[str, ...], what: str) -> dict[str, s.Expr]:
    """The arguments of a call of that name, all of which are needed."""
    function = node.function if isinstance(node, s.Call) else node
    if not isinstance(node, s.Call) or node.function.name != name:
        hint = did_you_mean(function.name, (name,)) if isinstance(function, s.Ref) else ""
        raise e.scope.problem("E220", f"{what} {_WRITTEN[name]}", function, hint)
    given = named_arguments(e, node.arguments, options, name)
    missing = [option for option in options if option not in given]
    if missing and len(given) < len(node.arguments):
        raise AbortError("what was written in its place is already reported")
    if missing:
        raise e.scope.problem("E205", f"`{name}` needs `{missing[0]}`", node, f"write {_WRITTEN[name]}")
    return given


def _positive(e: Elaborator, given: dict[str, s.Expr], name: str) -> Fraction:
    return Fraction(read_option(e, given[name], Option("positive"), f"`{name}`"))


def check_abstracted(scope: Scope, ref: s.Ref, found: Abstraction, region: RegionSpec | None, setting: Setting) -> None:
    """Reports a granularity that is finer than AbsCert's abstraction of the ball, and a range that leaves out values.

    The abstraction of a ball is defined for a granularity of at least two eps (Zhang et al. 2023, section 3.2). Both
    are compared where the cells are, in network space; the largest eps of a channel counts. The values are those of the
    data set around whose samples balls are, or of the box.
    """
    if isinstance(region, BallSpec):
        least = 2 * max(region.net_eps(setting.transform))
        for what, width in (("granularity", found.granularity), ("floor", found.finest)):
            if width < least:
                message = f"the {what} of `{ref.name}`, {_short(width)}, is below two eps, {_short(least)} in net space"
                scope.report("E212", message, ref, f"choose a {what} of at least {_advised(least)}")
                break
    of, values = _values(region, setting)
    low, high = min(values, default=found.low), max(values, default=found.high)
    if low < found.low or high > found.high:
        message = f"values of {of} from {_short(low)} to {_short(high)} leave the range of `{ref.name}`"
        fix = f"write `range=[{_advised(low, ROUND_FLOOR)}, {_advised(high)}]`, or they share the outermost cells"
        scope.report("W007", message, ref, fix)


def _values(region: RegionSpec | None, setting: Setting) -> tuple[str, list[Fraction]]:
    """Whose values inputs have, and the ends of these in network space, as far as they are known."""
    if isinstance(region, BoxSpec):
        return "the box", [v for ends in region.net_bounds(setting.transform) for v in ends]
    data = setting.dataset
    if data is None or data.range is None:
        return "the samples", []
    return f"`{data.name}`", [v for end in data.range for v in setting.transform.net_values("raw", (end,))]


def report_unused(scope: Scope) -> None:
    """Warns of abstractions of a text that none of its questions names: without `abstracted by` they change nothing."""
    nodes = [d.node for d in scope.definitions.values()]
    questions = [node for node in nodes if isinstance(node, s.PropertyStatement | s.MeasureStatement)]
    named = {node.abstraction.name for node in questions if node.abstraction is not None}
    for name, definition in scope.definitions.items():
        if definition.kind == "abstraction" and definition.state == "done" and name not in named:
            fix = f"write `property NAME(x, y in DATA) abstracted by {name} {{...}}`"
            scope.report("W006", f"nothing is abstracted by `{name}`", definition.node.name, fix)


def _short(number: Fraction) -> str:
    """Six digits, to be read."""
    return f"{float_down(number):g}"


def _advised(number: Fraction, rounding: str = ROUND_CEILING) -> str:
    """To be written into a specification: the number itself where that is short, otherwise six digits, rounded up."""
    context = Context(prec=6, rounding=rounding, Emax=MAX_EMAX, Emin=MIN_EMIN)
    rounded = context.divide(Decimal(number.numerator), Decimal(number.denominator))
    if Fraction(rounded) != number and max(abs(number.numerator), number.denominator) < _SHORT:
        return str(number)
    return f"{rounded:g}"
