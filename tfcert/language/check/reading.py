"""Reading the options of blocks and calls, checked against the types that they have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from fractions import Fraction
from typing import TypeVar

from tfcert.catalog import Option
from tfcert.language.check.elaborate import Elaborator
from tfcert.language.check.scope import did_you_mean
from tfcert.language.check.values import NUMBERS, Condition, Items, Numeric, Words, describe
from tfcert.language.spec.declarations import Columns, Value
from tfcert.language.spec.formula import TruthConstant
from tfcert.language.text import syntax as s
from tfcert.language.text.diagnostics import AbortError
from tfcert.language.text.names import is_plain

Given = TypeVar("Given", bound=s.BlockValue)


def as_ref(node: Given) -> Given | s.Ref:
    """A name in quotes as the name that it is; anything else as it is."""
    return s.Ref((node.value,), quoted=not is_plain(node.value), span=node.span) if isinstance(node, s.Text) else node


def hyphenated(node: s.BlockValue) -> s.BlockValue:
    """``crown-ibp`` or ``mtl-ibp(...)``, as Python and the command line write them, with underscores; others as is."""
    if not isinstance(node, s.Chain) or not set(node.operators) <= {"+", "-"}:
        return node
    *first, last = node.operands
    call = last if isinstance(last, s.Call) else None
    words = [o.name for o in (*first, call.function if call else last) if isinstance(o, s.Ref)]
    if len(words) < len(node.operands):
        return node
    name = s.Ref(("_".join(words),), span=node.span)
    return s.Call(name, call.arguments, span=node.span) if call else name


def read_option(e: Elaborator, expression: s.Expr, option: Option, what: str) -> Value:
    """The value of an option; reports and leaves if it is of another type."""
    match option.kind:
        case "whole":
            return e.whole(expression, what, option.least)
        case "positive":
            number = e.number(expression, what)
            if number <= 0:
                raise e.scope.problem("E220", f"{what} must be positive", expression)
            return number
        case "amount":
            number = e.number(expression, what)
            if number < 0:
                raise e.scope.problem("E220", f"{what} must not be negative", expression)
            return number
        case "share":
            number = e.number(expression, what)
            if not 0 < number < 1:
                raise e.scope.problem("E220", f"{what} must lie between 0 and 1", expression)
            return number
        case "time":
            number = e.number(expression, what, "s")
            if number <= 0:
                raise e.scope.problem("E220", f"{what} must be a positive time", expression)
            return number
        case "choice":
            return _choice(e, expression, option.allowed, what)
        case "flag":
            value = e.value(expression)
            if not isinstance(value, Condition) or not isinstance(value.formula, TruthConstant):
                raise e.scope.problem(
                    "E206", f"{what} must be `true` or `false`; this is {describe(value)}", expression
                )
            return value.formula.value
        case _:
            if option.kind == "column":
                return _column(e, expression, what)
            value = e.value(expression)
            if not isinstance(value, Words):
                raise e.scope.problem("E206", f"{what} must be a text in quotes; this is {describe(value)}", expression)
            return value.text


def read_columns(e: Elaborator, node: s.Expr, what: str) -> str | int | Columns:
    """One column, or a list of such."""
    if not isinstance(node, s.ListExpr):
        return _column(e, node, what)
    if not node.items:
        raise e.scope.problem("E205", f"{what} names no column", node)
    return tuple(_column(e, item, f"a column of {what}") for item in node.items)


def _column(e: Elaborator, node: s.Expr, what: str) -> str | int:
    """A column by its name, in quotes or not, or by its number."""
    if isinstance(node, s.Ref) and len(node.parts) == 1:
        return node.name
    return node.value if isinstance(node, s.Text) else e.whole(node, what)


def _choice(e: Elaborator, expression: s.Expr, choices: tuple[str, ...], what: str) -> str:
    given = expression.name if isinstance(expression, s.Ref) else None
    given = expression.value if isinstance(expression, s.Text) else given
    if given in choices:
        return given
    listed = ", ".join(f"`{c}`" for c in choices)
    hint = did_you_mean(given, choices) if given else ""
    raise e.scope.problem("E220", f"{what} must be one of {listed}", expression, hint)


def named_arguments(
    e: Elaborator, arguments: Iterable[s.Argument], names: Iterable[str], owner: str
) -> dict[str, s.Expr]:
    """The arguments of a stage or a source by name; unknown and repeated ones are reported."""
    known, found = tuple(names), dict[str, s.Expr]()
    for argument in arguments:
        name = argument.name
        if name is None or isinstance(argument.value, s.IntervalNode):
            e.scope.report("E205", f"`{owner}` takes only options written `name=value`", argument)
        elif name not in known:
            hint = did_you_mean(name, known) or _listing(known)
            e.scope.report("E219", f"`{owner}` has no option `{name}`", argument, hint)
        elif name in found:
            e.scope.report("E202", f"the option `{name}` is given twice", argument)
        else:
            found[name] = argument.value
    return found


def read_arguments(
    e: Elaborator, arguments: Iterable[s.Argument], options: Mapping[str, Option], owner: str
) -> tuple[tuple[str, Value], ...]:
    """Named arguments of a stage or a source, checked; problems are reported and the argument left out."""
    found: dict[str, Value] = {}
    for name, value in named_arguments(e, arguments, options, owner).items():
        with suppress(AbortError):
            found[name] = read_option(e, value, options[name], f"`{name}`")
    return tuple(found.items())


def read_numbers(e: Elaborator, node: s.BlockValue, what: str) -> tuple[Fraction, ...]:
    """One plain number, or a list of such."""
    if isinstance(node, s.Block | s.ScheduleNode | s.Budget):
        raise e.scope.problem("E206", f"{what} must be a number or a list of numbers", node)
    value = e.value(node)
    found: list[Fraction] = []
    for item in value.values if isinstance(value, Items) else (value,):
        if not isinstance(item, Numeric) or item.unit not in NUMBERS or not item.term.is_constant:
            raise e.scope.problem("E206", f"{what} holds plain numbers; this is {describe(item)}", node)
        found.append(e.usable(item.term.constant, f"a number of {what}", node))
    if not found:
        raise e.scope.problem("E205", f"{what} holds no number", node)
    return tuple(found)


def read_entries(e: Elaborator, block: s.Block | None, names: Iterable[str], owner: str) -> dict[str, s.EntryNode]:
    """The entries of a block by name; unknown and repeated ones are reported."""
    known, found = tuple(names), dict[str, s.EntryNode]()
    for entry in block.entries if block else ():
        name = entry.name.text
        if name not in known:
            hint = did_you_mean(name, known) or _listing(known)
            e.scope.report("E219", f"{owner} has no option `{name}`", entry.name, hint)
        elif name in found:
            e.scope.report("E202", f"the option `{name}` is given twice", entry.name)
        else:
            found[name] = entry
    return found


def _listing(names: Iterable[str]) -> str:
    listed = ", ".join(f"`{n}`" for n in names)
    return f"it has {listed}" if listed else "it has no options"
