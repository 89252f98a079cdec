"""Assertions and reports: from statements to conditions over results."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from tfcert.language.check.elaborate import Elaborator
from tfcert.language.check.quantities import SHOWN, QuantityReader, QuantitySum
from tfcert.language.check.reading import as_ref, read_arguments
from tfcert.language.spec.assertions import (
    AssertedCondition,
    Assertion,
    Comparison,
    Junction,
    ReportItem,
    Truth,
    judge_condition,
    open_quantities,
)
from tfcert.language.spec.quantities import JUDGING_QUANTITIES, PROPERTY_QUANTITIES, Quantity, Quotient
from tfcert.language.text import syntax as s
from tfcert.language.text.diagnostics import AbortError, Span
from tfcert.language.text.printer import print_expression
from tfcert.sets.rounding import float_down


@dataclass
class Asserter(QuantityReader):
    """Checks assertions and reports against the templates of the same text.

    Attributes:
        outside: whether an accuracy was compared with a number that is none.
    """

    outside: bool = False

    def assertion(self, node: s.AssertStatement) -> Assertion | None:
        """The checked assertion, or None with the problems reported."""
        self.properties, self.measures, self.accuracies, self.outside = set(), set(), set(), False
        self.per_class = node.per_class is not None
        try:
            condition = self._condition(node.condition)
        except AbortError:
            return None
        anyway = judge_condition(condition, Quantity.prior)
        if anyway is not None and not self.outside:
            message = f"this {'holds' if anyway else 'fails'} whatever is found"
            self.scope.report("W014", message, node.condition, "compare with a number that the results decide about")
        open_ = open_quantities(condition) if anyway is None else ()
        return Assertion(
            print_expression(node.condition) + self._origin,
            condition,
            node.condition.span,
            frozenset(self.properties),
            frozenset(self.measures),
            frozenset(self.accuracies),
            frozenset(q.names[0] for q in open_ if q.kind in JUDGING_QUANTITIES),
            node.per_class.text if node.per_class else "",
            node.expect_fail,
        )

    @property
    def _origin(self) -> str:
        """The import or the turn of a loop that an assertion or an item of a report is of, as one reads it."""
        of = f" (of {self.scope.prefix.removesuffix('.')})" if self.scope.prefix else ""
        return of + (f" ({self.scope.bound})" if self.scope.bindings else "")

    def report_item(self, node: s.Expr, per_class: bool = False) -> ReportItem | None:
        """The checked item of a report, or None with the problems reported."""
        self.per_class = per_class
        try:
            if isinstance(node, s.Call) and node.function.name in SHOWN:
                return self._shown(node, node.function.name)
            found = self.linear(node, proves=False)
            if len(found.terms) != 1 or found.terms[0][1] != 1 or found.constant or found.pixels or found.shares:
                fix = "e.g. `verified_accuracy(p)`, `median(m)` or `histogram(m)`"
                listed = ", ".join(f"`{name}(...)`" for name in SHOWN)
                raise self.scope.problem("E206", f"a report lists {listed} and quantities", node, fix)
            ((term, _),) = found.terms
            kind, names = ("quotient", ()) if isinstance(term, Quotient) else (term.kind, term.names)
            return ReportItem(kind, names, (), term, print_expression(node) + self._origin, per_class)
        except AbortError:
            return None

    def _shown(self, node: s.Call, kind: str) -> ReportItem:
        """A picture or a table of a measure."""
        first = node.arguments[0] if node.arguments else None
        ref = None if first is None or isinstance(first.value, s.IntervalNode) or first.name else as_ref(first.value)
        if not isinstance(ref, s.Ref | s.Call):
            raise self.scope.problem("E205", f"`{kind}` needs a measure first", node)
        if self.per_class:
            message = f"`{kind}` is of all samples"
            raise self.scope.problem("E206", message, node, "leave out `per class`, or use `where`")
        template = self.question(ref, "measure")
        read = read_arguments(Elaborator(self.scope), node.arguments[1:], SHOWN[kind], kind)
        return ReportItem(kind, (template.name,), read, None, print_expression(node))

    # Conditions

    def _condition(self, node: s.Expr) -> AssertedCondition:
        with self.scope.step(node):
            match node:
                case s.Boolean(value):
                    return Truth(value)
                case s.Unary("not", operand):
                    return Junction("not", (self._condition(operand),))
                case s.Chain(operands, operators) if operators[0] in ("and", "or", "=>"):
                    parts = [self._condition(o) for o in operands]
                    if operators[0] != "=>":
                        return Junction(operators[0], tuple(parts))
                    conclusion = parts.pop()
                    for premise in reversed(parts):
                        conclusion = Junction("or", (Junction("not", (premise,)), conclusion))
                    return conclusion
                case s.Chain(operands, operators) if operators[0] not in ("+", "-", "*", "/", "^"):
                    return self._comparisons(operands, operators)
                case s.Quantified():
                    raise self.scope.problem("E211", "an assertion is about results and has no quantifier", node)
                case _:
                    fix = "compare a quantity, e.g. `verified_accuracy(p) >= 0.9`"
                    raise self.scope.problem("E206", "an assertion must be a condition", node, fix)

    def _comparisons(self, operands: tuple[s.Expr, ...], operators: tuple[str, ...]) -> AssertedCondition:
        sides = [self.linear(o, proves=True) for o in operands]
        parts: list[AssertedCondition] = []
        for i, operator in enumerate(operators):
            difference = self.resolved(sides[i].plus(sides[i + 1], Fraction(-1)), operands[i + 1])
            self._fraction_is_meant(difference, operands[i].span.to(operands[i + 1].span))
            if operator in ("<", "<="):
                difference = QuantitySum().plus(difference, Fraction(-1))
            negated = operator == "!="
            operator = {"<": ">", "<=": ">=", "!=": "=="}.get(operator, operator)
            part: AssertedCondition = Comparison(difference.combined, operator)
            parts.append(Junction("not", (part,)) if negated else part)
        return parts[0] if len(parts) == 1 else Junction("and", tuple(parts))

    def _fraction_is_meant(self, difference: QuantitySum, place: Span) -> None:
        """Warns where one accuracy is compared with a number outside [0, 1], which decides nothing."""
        fractions = {"accuracy", "share", *PROPERTY_QUANTITIES}
        if len(difference.terms) != 1 or not difference.terms[0][1]:
            return
        term = difference.terms[0][0]
        if isinstance(term, Quotient) or term.kind not in fractions:
            return
        threshold = -difference.constant / difference.terms[0][1]
        if not 0 <= threshold <= 1:
            what = "a share" if term.kind == "share" else "an accuracy"
            message = f"{what} is a fraction between 0 and 1, and is compared with {float_down(threshold):g}"
            fix = f"write `{float_down(threshold):g}%`" if 1 < threshold <= 100 else ""
            self.scope.report("W003", message, place, fix)
            self.outside = True
