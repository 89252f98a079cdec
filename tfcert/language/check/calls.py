"""The functions of the language."""

from __future__ import annotations

from fractions import Fraction

from tfcert.language.check.evaluator import Evaluator
from tfcert.language.check.values import Agreed, Inputs, Items, Meaning, Numeric, Outputs, Winner, describe, sum_unit
from tfcert.language.spec.formula import Extreme, Term, variable_term
from tfcert.language.spec.normal_form import MAX_PIECES
from tfcert.language.text import syntax as s

BUILTINS = ("argmax", "argmin", "abs", "min", "max", "clip", "agree")
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


def _absolute(e: Evaluator, call: s.Call) -> Meaning:
    (argument,) = e.positional(call, 1)
    value = e.numeric(argument, "the argument of `abs`")
    if value.term.is_constant:
        return Numeric(Term((), abs(value.term.constant)), value.unit)
    return Numeric(_largest(e, "max", [value.term, value.term.times(Fraction(-1))], call), value.unit)


def _extreme(e: Evaluator, call: s.Call) -> Meaning:
    kind = call.function.name
    values = [e.value(a) for a in e.positional(call, 1, _MANY)]
    if len(values) == 1 and isinstance(values[0], Outputs):
        return Numeric(variable_term(Extreme(kind, None, values[0].of)))
    if len(values) == 1 and isinstance(values[0], Items):
        values = list(values[0].values)
    numbers = [v for v in values if isinstance(v, Numeric)]
    if len(numbers) != len(values) or not numbers:
        raise e.scope.problem("E206", f"`{kind}` takes numbers, or all outputs of a network", call)
    unit: str | None = numbers[0].unit
    for other in numbers[1:]:
        unit = None if unit is None else sum_unit(unit, other.unit)
    if unit is None:
        raise e.scope.problem("E207", f"`{kind}` cannot compare numbers of different units", call)
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
