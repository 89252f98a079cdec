"""Boxes: intervals by place or by name, whole numbers, listed values, and groups of which exactly one is 1."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from tfcert.language.check.elaborate import Elaborator
from tfcert.language.check.lengths import read_interval, read_place
from tfcert.language.check.scope import did_you_mean
from tfcert.language.check.setting import Setting
from tfcert.language.spec.regions import INTEGERS, Ends, LimitsSpec, ValueKind
from tfcert.language.text import syntax as s
from tfcert.language.text.diagnostics import AbortError
from tfcert.language.text.names import written

_WRITTEN = "write `name in [low, high]`, `name in {0, 1}`, `name in integers [low, high]` or `one_hot(a, b, c)`"
MOST_WHOLE = 2**20
"""Whole numbers between two bounds are at most so many."""


def read_box(e: Elaborator, call: s.Call, setting: Setting, space: str) -> tuple[LimitsSpec, tuple[str, ...]]:
    """The limits of a box, and the names that it gives them, if it does; inputs may be left out of those by name."""
    if not call.arguments:
        raise e.scope.problem("E208", "this box bounds nothing", call, "write `box([low, high])`")
    named = [a for a in call.arguments if _names_of(a)]
    if named and len(named) < len(call.arguments):
        raise e.scope.problem("E205", "a box is given by name or by position, not both", call)
    if not named:
        bounds = tuple(_bounds(e, a, setting, space) for a in call.arguments)
        names = setting.model.input_names if setting.model else ()
        _count_fits(e, call, len(bounds), names)
        found = LimitsSpec(bounds, space)
    else:
        found, names = _by_name(e, call, setting, space)
    channels = setting.transform.channels
    if len(found.bounds) > 1 and len(found.bounds) % channels:
        message = f"the box has {len(found.bounds)} inputs, the normalisation {channels} channels"
        raise e.scope.problem("E205", message, call)
    return found, names if named else ()


def require_bounded(e: Elaborator, call: s.SyntaxNode, limits: LimitsSpec, names: tuple[str, ...]) -> None:
    """Requires that every input has bounds."""
    missing = [names[i] for i, ends in enumerate(limits.bounds) if ends is None]
    if missing:
        listed = ", ".join(f"`{n}`" for n in missing[:8])
        fix = f"add `{written(missing[0])} in [low, high]`"
        raise e.scope.problem("E208", f"this box leaves {listed} unbounded", call, fix)


def _names_of(argument: s.Argument) -> list[str]:
    """The inputs that an argument of a box says something of; none for an interval by position."""
    match argument.value:
        case s.IntervalNode():
            return [str(argument.name)]
        case s.Member(s.Ref() as ref, _, _):
            return [ref.name]
        case s.Member(s.Text(text), _, _):
            return [text]
        case s.Call(function, arguments) if function.name == "one_hot":
            return [_name_of(a.value) for a in arguments] or ["one_hot"]
        case _:
            return []


def _name_of(node: s.Expr | s.IntervalNode) -> str:
    return node.name if isinstance(node, s.Ref) else node.value if isinstance(node, s.Text) else ""


def _by_name(e: Elaborator, call: s.Call, setting: Setting, space: str) -> tuple[LimitsSpec, tuple[str, ...]]:
    """The limits in the order of the model's inputs."""
    given: dict[str, s.Argument] = {}
    for argument in call.arguments:
        for name in _names_of(argument):
            if name in given:
                raise e.scope.problem("E202", f"`{name}` is bounded twice", argument)
            given[name] = argument
    names = known_names(e, call, given, setting)
    bounds: list[Ends | None] = [None] * len(names)
    kinds: list[ValueKind] = [None] * len(names)
    groups: list[tuple[int, ...]] = []
    for argument in call.arguments:
        places = [names.index(name) for name in _names_of(argument)]
        match argument.value:
            case s.WholeNode() as interval:
                bounds[places[0]], kinds[places[0]] = _whole(e, interval, setting, space), INTEGERS
            case s.IntervalNode(low, high):
                bounds[places[0]] = read_interval(e, low, high, setting, space)
            case s.Member() as member:
                values = _listed(e, member, setting, space)
                bounds[places[0]], kinds[places[0]] = (values[0], values[-1]), values
            case _:
                if len(places) < 2:
                    message = "`one_hot` names the inputs of which exactly one is 1"
                    raise e.scope.problem("E205", message, argument, "write `one_hot(red, green, blue)`")
                groups.append(tuple(places))
                for place in places:
                    bounds[place] = Fraction(0), Fraction(1)
    kept = tuple(kinds) if any(kinds) or groups else ()
    return LimitsSpec(tuple(bounds), space, kept, tuple(groups)), names


def _whole(e: Elaborator, interval: s.IntervalNode, setting: Setting, space: str) -> Ends:
    """The first and the last whole number of an interval."""
    low, high = read_interval(e, interval.low, interval.high, setting, space)
    first, last = Fraction(-(-low // 1)), Fraction(high // 1)
    if first > last:
        raise e.scope.problem("E209", "there is no whole number in this interval", interval)
    if last - first >= MOST_WHOLE:
        message = f"this interval has more than {MOST_WHOLE} whole numbers"
        raise e.scope.problem("E251", message, interval, "write `[low, high]`, for all numbers between")
    return first, last


def _listed(e: Elaborator, member: s.Member, setting: Setting, space: str) -> tuple[Fraction, ...]:
    """The values of an input that has some only, in order."""
    if member.negated:
        raise e.scope.problem("E206", "an input has the values that are listed", member, "write `in {...}`")
    values = set()
    for node in member.members:
        term = read_place(e, node, "a value of an input", setting, space)
        if not term.is_constant:
            raise e.scope.problem("E206", "a value of an input must be a constant", node)
        values.add(term.constant)
    return tuple(sorted(values))


def _bounds(e: Elaborator, argument: s.Argument, setting: Setting, space: str) -> Ends:
    value = argument.value
    if argument.name is not None:
        raise e.scope.problem("E205", "a bound is written `name in [low, high]`", argument)
    if not isinstance(value, s.ListExpr) or len(value.items) != 2:
        raise e.scope.problem("E208", "a box is made of intervals `[low, high]`", argument, _WRITTEN)
    return read_interval(e, value.items[0], value.items[1], setting, space)


def known_names(
    e: Elaborator, call: s.SyntaxNode, given: Mapping[str, s.SyntaxNode], setting: Setting
) -> tuple[str, ...]:
    """The names of the model's inputs in order, which have all that are given."""
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
    return names


def all_named(
    e: Elaborator, call: s.Call, given: Mapping[str, s.SyntaxNode], setting: Setting, missed: tuple[str, str]
) -> tuple[str, ...]:
    """The names of the model's inputs in order, all of which must be among those given, and no others.

    ``missed`` says what is wrong with one that is left out, and how the fix goes on after its name.
    """
    names = known_names(e, call, given, setting)
    missing = [n for n in names if n not in given]
    if missing:
        listed, (wrong, fix) = ", ".join(f"`{n}`" for n in missing[:8]), missed
        raise e.scope.problem("E208", f"{listed} {wrong} in this ball", call, f"add `{written(missing[0])}{fix}")
    return names


def _count_fits(e: Elaborator, call: s.Call, count: int, names: tuple[str, ...]) -> None:
    if count == 1 or not names or count == len(names):
        return
    if count < len(names):
        raise e.scope.problem("E208", f"this box leaves `{names[count]}` unbounded", call)
    raise e.scope.problem("E205", f"this box has {count} intervals for {len(names)} inputs", call)
