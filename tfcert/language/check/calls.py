"""The functions of the language."""

from __future__ import annotations

from fractions import Fraction

from tfcert.language.check.arithmetic import number_of
from tfcert.language.check.evaluator import Evaluator
from tfcert.language.check.values import (
    Agreed,
    Inputs,
    Items,
    Meaning,
    Numeric,
    Outputs,
    TopOutputs,
    Winner,
    describe,
    sum_unit,
)
from tfcert.language.spec.formula import Extreme, Term, variable_term
from tfcert.language.spec.normal_form import MAX_PIECES
from tfcert.language.text import syntax as s

BUILTINS = ("argmax", "argmin", "abs", "min", "max", "clip", "agree")
ORDINARY = ("sum", "top")
"""Functions whose names are no words of the language: where a model or a definition has the name, that is meant."""
_MANY = 1000


def call_builtin(e: Evaluator, call: s.Call) -> Meaning:
    """Evaluates a call of one of ``BUILTINS``."""
    match call.function.name:
        case "argmax" | "argmin":
            return _winner(e, call)
        case "abs":
            return _absolute(e, call)
        case "min" | "max":
            return _extreme(e, call)
        case "sum":
            return _sum(e, call)
        case "top":
            return _top(e, call)
        case "clip":
            fix = "clip within the model, or quantify over inputs by `ball(...) within [0, 1]`"
            raise e.scope.problem("E253", "inputs are not transformed by `clip` in a formula", call, fix)
        case _:
            return _agreed(e, call)


def _winner(e: Evaluator, call: s.Call) -> Meaning:
    (argument,) = e.positional(call, 1)
    value = e.value(argument)
    if not isinstance(value, Outputs):
        name = call.function.name
        raise e.scope.problem("E206", f"`{name}` takes all outputs of a network; this is {describe(value)}", argument)
    return Winner(call.function.name, value.model, value.of)


def _agreed(e: Evaluator, call: s.Call) -> Meaning:
    """``agree(a, b)``, perhaps with ``except=[...]``."""
    *others, last = call.arguments or (None,)
    excepted: tuple[s.Expr, ...] = ()
    if last is not None and last.name == "except":
        if not isinstance(last.value, s.ListExpr):
            raise e.scope.problem("E206", "`except` takes a list of inputs", last, "write `except=[age, sex]`")
        excepted = last.value.items
        call = s.Call(call.function, tuple(others), span=call.span)
    one, other = (e.value(a) for a in e.positional(call, 2))
    if not isinstance(one, Inputs) or not isinstance(other, Inputs) or one == other:
        fix = "write `agree(a, b)` of two variables, or of a variable and the sample"
        raise e.scope.problem("E206", "`agree` is about two different inputs", call, fix)
    about = one if one.point is not None else other
    return Agreed(one, other, tuple(e.place(about, item) for item in excepted))


def _top(e: Evaluator, call: s.Call) -> Meaning:
    outputs, count = e.positional(call, 2)
    value = e.value(outputs)
    if not isinstance(value, Outputs):
        raise e.scope.problem("E206", f"`top` takes all outputs of a network; this is {describe(value)}", outputs)
    return TopOutputs(value.model, e.whole(count, "how many of the largest outputs", 1), value.of)


def _sum(e: Evaluator, call: s.Call) -> Meaning:
    """The sum of some numbers, or of all outputs of a network."""
    numbers = _numbers(e, call)
    if isinstance(numbers, Outputs):
        return Numeric(variable_term(Extreme("sum", None, numbers.of)))
    unit = _common_unit(e, call, numbers)
    total = Term()
    for number in numbers:
        total = total.plus(number.term)
    return Numeric(total, unit)


def _numbers(e: Evaluator, call: s.Call) -> Outputs | list[Numeric]:
    """The numbers that a function is called with, in a list or not; or all outputs of a network."""
    name, arguments = call.function.name, e.positional(call, 1, _MANY)
    values = [e.value(a) for a in arguments]
    if len(values) == 1 and isinstance(values[0], Outputs):
        return values[0]
    if len(values) == 1 and isinstance(values[0], Items):
        values = list(values[0].values)
    else:
        values = [number_of(e, v, a) for v, a in zip(values, arguments, strict=True)]
    numbers = [v for v in values if isinstance(v, Numeric)]
    if len(numbers) != len(values) or not numbers:
        raise e.scope.problem("E206", f"`{name}` takes numbers, or all outputs of a network", call)
    return numbers


def _common_unit(e: Evaluator, call: s.Call, numbers: list[Numeric]) -> str:
    unit: str | None = numbers[0].unit
    for other in numbers[1:]:
        unit = None if unit is None else sum_unit(unit, other.unit)
    if unit is None:
        how = "add" if call.function.name == "sum" else "compare"
        raise e.scope.problem("E207", f"`{call.function.name}` cannot {how} numbers of different units", call)
    return unit


def _absolute(e: Evaluator, call: s.Call) -> Meaning:
    (argument,) = e.positional(call, 1)
    value = e.numeric(argument, "the argument of `abs`")
    if value.term.is_constant:
        return Numeric(Term((), abs(value.term.constant)), value.unit)
    return Numeric(_largest(e, "max", [value.term, value.term.times(Fraction(-1))], call), value.unit)


def _extreme(e: Evaluator, call: s.Call) -> Meaning:
    kind, numbers = call.function.name, _numbers(e, call)
    if isinstance(numbers, Outputs):
        return Numeric(variable_term(Extreme(kind, None, numbers.of)))
    unit = _common_unit(e, call, numbers)
    if all(n.term.is_constant for n in numbers):
        pick = max if kind == "max" else min
        return Numeric(Term((), pick(n.term.constant for n in numbers)), unit)
    return Numeric(_largest(e, kind, [n.term for n in numbers], call), unit)


def _largest(e: Evaluator, kind: str, terms: list[Term], call: s.Call) -> Term:
    """The largest or smallest of some terms."""
    distinct = tuple(dict.fromkeys(terms))
    if len(distinct) == 1:
        return distinct[0]
    extreme = Extreme(kind, distinct)
    if extreme.size > MAX_PIECES:
        message = f"these maxima, nested in each other, are more than {MAX_PIECES} when written out"
        raise e.scope.problem("E214", message, call, "nest them less deeply")
    return variable_term(extreme)
