"""Abstractions: from statements to plain declarations, and whether one suits a question."""

from __future__ import annotations

from decimal import MAX_EMAX, MIN_EMIN, ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from fractions import Fraction

from tfcert.catalog import Option, Options
from tfcert.language.check.elaborate import Elaborator
from tfcert.language.check.reading import named_arguments, read_entries, read_numbers, read_option
from tfcert.language.check.scope import Definition, Scope, did_you_mean
from tfcert.language.check.setting import Setting
from tfcert.language.spec.cells import Abstraction, Tuning
from tfcert.language.spec.regions import BoxSpec, RegionSpec, balls_of
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
    "search": "`search(step=d, floor=d)`",
}
_TUNING: dict[str, Options] = {
    "descend": {"stop_on_gradient": Option("flag", default=True)},
    "search": {
        "stop_on_gradient": Option("flag", default=True),
        "selection": Option("choice", ("validation", "test"), default="validation"),
    },
}
"""What a way of tuning takes beside `step` and `floor`."""


def read_abstraction(definition: Definition) -> Abstraction:
    """The declaration of an abstraction; reports and leaves where it has no meaning."""
    e, node = Elaborator(definition.scope), definition.node
    entries = read_entries(e, node.block, ("tune",), "an abstraction")
    given = _call(e, node.source, "intervals", ("range", "granularity"), "an abstraction is made by")
    ends = read_numbers(e, given["range"], "`range`")
    if len(ends) != 2 or ends[0] >= ends[1]:
        message = "`range` must be `[low, high]` with low < high, as the network receives its inputs"
        raise e.scope.problem("E209", message, given["range"])
    channels = _granularities(e, given["granularity"])
    granularity = min(channels)
    for name, number in (("range", max(map(abs, ends))), ("granularity", max(channels))):
        if number > MAX_SIZE:
            raise e.scope.problem("E220", f"no network computes with a `{name}` above 1e30", given[name])
    if "tune" in entries and len(channels) > 1:
        message = "`tune` takes steps off one granularity, and each channel has its own here"
        raise e.scope.problem("E220", message, entries["tune"], "write one number, or leave `tune` out")
    tuning = _tuning(e, entries["tune"], granularity) if "tune" in entries else None
    several = channels if len(channels) > 1 else ()
    found = Abstraction(definition.full_name, ends[0], ends[1], granularity, tuning, several, node.name.span)
    if found.cells() > MAX_CELLS:
        message = f"these are {found.cells()} cells, and at most {MAX_CELLS} can be told apart"
        place = given["granularity"] if tuning is None else entries["tune"]
        raise e.scope.problem(
            "E220", message, place, f"take cells of at least {_advised((ends[1] - ends[0]) / MAX_CELLS)}"
        )
    return found


def _granularities(e: Elaborator, node: s.Expr) -> tuple[Fraction, ...]:
    """One positive number, or one for each channel."""
    if not isinstance(node, s.ListExpr):
        return (Fraction(read_option(e, node, Option("positive"), "`granularity`")),)
    found = read_numbers(e, node, "`granularity`")
    if min(found) <= 0:
        raise e.scope.problem("E220", "`granularity` must be positive, in every channel", node)
    return found


def _tuning(e: Elaborator, entry: s.EntryNode, granularity: Fraction) -> Tuning:
    node = entry.value
    function = node.function if isinstance(node, s.Call) else node
    name = "search" if isinstance(function, s.Ref) and function.name == "search" else "descend"
    other = _TUNING[name]
    given = _call(e, node, name, ("step", "floor"), f"`tune` must be {_WRITTEN['search']} or", tuple(other))
    chosen = {key: read_option(e, given[key], option, f"`{key}`") for key, option in other.items() if key in given}
    tuning = Tuning(_positive(e, given, "step"), _positive(e, given, "floor"), name, **chosen)  # type: ignore[arg-type]
    if tuning.floor > granularity:
        message = f"`floor` is above the granularity, {_short(granularity)}, that the tuning begins with"
        raise e.scope.problem("E220", message, given["floor"])
    return tuning


def _call(
    e: Elaborator, node: s.BlockValue, name: str, options: tuple[str, ...], what: str, others: tuple[str, ...] = ()
) -> dict[str, s.Expr]:
    """The arguments of a call of that name; all of ``options`` are needed, and ``others`` may be there."""
    function = node.function if isinstance(node, s.Call) else node
    if not isinstance(node, s.Call) or node.function.name != name:
        hint = did_you_mean(function.name, (name,)) if isinstance(function, s.Ref) else ""
        raise e.scope.problem("E220", f"{what} {_WRITTEN[name]}", function, hint)
    given = named_arguments(e, node.arguments, (*options, *others), name)
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
    are compared where the cells are, in network space; the largest eps counts, of a channel and of inputs
    that have their own. The values are those of the data set around whose samples balls are, or of the box.
    """
    for ball in balls_of(region):
        if not ball.free:
            _not_finer(scope, ref, found, tuple(eps * ball.share for eps in ball.net_eps(setting.transform)))
    of, values = _values(region, setting)
    low, high = min(values, default=found.low), max(values, default=found.high)
    if low < found.low or high > found.high:
        message = f"values of {of} from {_short(low)} to {_short(high)} leave the range of `{ref.name}`"
        fix = f"write `range=[{_advised(low, ROUND_FLOOR)}, {_advised(high)}]`, or they share the outermost cells"
        scope.report("W007", message, ref, fix)


def _not_finer(scope: Scope, ref: s.Ref, found: Abstraction, eps: tuple[Fraction, ...]) -> None:
    """Reports cells that are narrower than two eps, the radius in network space or one for each channel."""
    channels = found.channels or (found.granularity,)
    if 1 < len(eps) != len(channels) > 1:
        message = f"`{ref.name}` has {len(channels)} granularities, and samples have {len(eps)} channels"
        raise scope.problem("E205", message, ref)
    pairs = list(zip(channels, eps if len(eps) == len(channels) else [max(eps)] * len(channels), strict=True))
    narrow = [i for i, (width, radius) in enumerate(pairs) if width < 2 * radius]
    if found.channels and narrow:
        width, least = pairs[narrow[0]][0], 2 * pairs[narrow[0]][1]
        message = (
            f"the granularity of `{ref.name}` in channel {narrow[0]}, {_short(width)}, is below two eps, "
            f"{_short(least)} in net space"
        )
        scope.report("E212", message, ref, f"choose a granularity of at least {_advised(least)} there")
    least = 2 * max(eps)
    for what, width in () if found.channels else (("granularity", found.granularity), ("floor", found.finest)):
        if width < least:
            message = f"the {what} of `{ref.name}`, {_short(width)}, is below two eps, {_short(least)} in net space"
            scope.report("E212", message, ref, f"choose a {what} of at least {_advised(least)}")
            break


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
    named = {node.name for node in s.walk(scope.statements) if isinstance(node, s.Ref)}
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
