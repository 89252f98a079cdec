"""Lists: what ``[a, b]``, ``[low .. high by step]`` and ``[item for name in values where condition]`` hold."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from math import floor

from tfcert.language.check.evaluator import Evaluator
from tfcert.language.check.values import Condition, Items, Meaning, Numeric, describe, sum_unit
from tfcert.language.spec.formula import And, Atom, Formula, Not, Or, Term, TruthConstant
from tfcert.language.text import syntax as s

MAX_ITEMS = 10_000
"""What one list may hold."""


def list_of(e: Evaluator, node: s.ListExpr | s.Comprehension) -> Items:
    """The values of a list, in order; reports and leaves where there are too many."""
    found: list[Meaning] = []
    for value in _comprehended(e, node, node.clauses) if isinstance(node, s.Comprehension) else _listed(e, node):
        found.append(value)
        if len(found) > MAX_ITEMS:
            message = f"this list holds more than {MAX_ITEMS} items"
            raise e.scope.problem("E006", message, node, "make it shorter")
    return Items(tuple(found))


def _listed(e: Evaluator, node: s.ListExpr) -> Iterator[Meaning]:
    for item in node.items:
        if isinstance(item, s.RangeNode):
            yield from range_of(e, item)
        else:
            yield e.value(item)


def range_of(e: Evaluator, node: s.RangeNode) -> Iterator[Numeric]:
    """The numbers from one end to the other, both of them where the step leads there."""
    low, high = (_constant(e, end, "an end of a range") for end in (node.low, node.high))
    step = Numeric(Term((), Fraction(1)), low.unit) if node.step is None else _constant(e, node.step, "a step")
    unit = sum_unit(low.unit, high.unit)
    if unit is None or sum_unit(unit, step.unit) is None:
        raise e.scope.problem("E207", "the ends of a range and its step must have one unit", node)
    if step.term.constant <= 0:
        raise e.scope.problem("E220", "the step of a range must be positive", node.step or node)
    if low.term.constant > high.term.constant:
        raise e.scope.problem("E209", "this range is empty", node, "write the low end first")
    most = floor((high.term.constant - low.term.constant) / step.term.constant)
    for place in range(min(most, MAX_ITEMS) + 1):
        yield Numeric(Term((), low.term.constant + place * step.term.constant), unit)


def _constant(e: Evaluator, node: s.Expr, what: str) -> Numeric:
    value = e.numeric(node, what)
    if not value.term.is_constant:
        raise e.scope.problem("E206", f"{what} must be a constant", node)
    return value


def _comprehended(e: Evaluator, node: s.Comprehension, clauses: tuple[s.ForClause, ...]) -> Iterator[Meaning]:
    if not clauses:
        if node.where is None or _holds(e, node.where):
            yield e.value(node.item)
        return
    clause, *rest = clauses
    e.scope.refuse_word(clause.name)
    e.scope.refuse_clash(clause.name.text, clause.name)
    if clause.name.text in e.local:
        message = f"`{clause.name.text}` already stands for something here"
        raise e.scope.problem("E202", message, clause.name, "choose another name")
    values = e.value(clause.values)
    if not isinstance(values, Items):
        raise e.scope.problem("E206", f"`for` goes through a list; this is {describe(values)}", clause.values)
    for value in values.values:
        with e.scope.step(clause):
            yield from _comprehended(e.also(clause.name.text, value), node, tuple(rest))


def _holds(e: Evaluator, node: s.Expr) -> bool:
    value = e.value(node)
    truth = settled(value.formula) if isinstance(value, Condition) else None
    if truth is None:
        what = describe(value) if not isinstance(value, Condition) else "one that a network or a sample decides"
        message = f"what follows `where` in a list must be a condition on numbers; this is {what}"
        raise e.scope.problem("E206", message, node)
    return truth


def settled(formula: Formula) -> bool | None:
    """Whether a formula holds, as far as constants tell; None where outputs, labels or classes matter."""
    match formula:
        case TruthConstant(value):
            return value
        case Atom(Term((), number), strict):
            return number > 0 or (number == 0 and not strict)
        case Not(part):
            inner = settled(part)
            return None if inner is None else not inner
        case And(parts) | Or(parts):
            decisive = isinstance(formula, Or)
            judged = [settled(part) for part in parts]
            if decisive in judged:
                return decisive
            return None if None in judged else not decisive
    return None
