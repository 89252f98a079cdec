"""What of a formula is known to be beyond proof before a network is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction

from tfcert.language.check.scope import Scope
from tfcert.language.spec.alternatives import TooManyAlternativesError, alternatives
from tfcert.language.spec.declarations import ModelDeclaration
from tfcert.language.spec.formula import And, Atom, Formula, Not, Or, Output, SingleOutputError, Term, TruthConstant
from tfcert.language.spec.layout import Layout, SampleFacts, Shown
from tfcert.language.spec.lowering import InexactRowError, check_lowering, leaves
from tfcert.language.spec.named import (
    applications,
    features,
    largest_asked,
    output_indices,
    sample_features,
    taken_for_numbers,
    uses_label,
)
from tfcert.language.spec.normal_form import MAX_PIECES, TooManyClausesError, normalise
from tfcert.language.spec.points import Application
from tfcert.language.spec.questions import Point
from tfcert.language.text import syntax as s

MAX_LEAVES = 30_000
"""Once so many atoms of formulas were looked at, those of further formulas are left to when the network is loaded."""


@dataclass(frozen=True)
class Unloaded:
    """What a formula speaks of, as far as it is known before anything is loaded.

    Attributes:
        formula: with the conditions on what networks answer as its premise.
        whole: the formula with the conditions on the points.
        models: that of each application.
    """

    formula: Formula
    whole: Formula
    applications: tuple[Application, ...]
    models: Sequence[ModelDeclaration]
    points: Sequence[Point]

    def layout(self, more: int = 1, most: int | None = None) -> Layout:
        """The least columns there can be, where networks have ``more - 1`` outputs that are not named.

        ``most`` outputs of each are counted.
        """
        single = taken_for_numbers(self.formula)
        ranked = {n: count + more for n, count in largest_asked(self.formula).items()}
        sizes = [
            len(m.output_names)
            or (1 if n in single else max(2, *(i + more for i in output_indices(self.formula, n)), ranked.get(n, 0)))
            for n, m in enumerate(self.models)
        ]
        fixed = frozenset(n for n, a in enumerate(self.applications) if a.fixed)
        shown = [Shown(f.of, f.index, *self.points[f.of].transform.stored(f.index)) for f in features(self.whole)]
        return Layout(tuple(sizes if most is None else (min(most, size) for size in sizes)), fixed, tuple(shown))

    def facts(self, layout: Layout, label: int = 0) -> SampleFacts:
        """A sample as good as any to count clauses with."""
        outputs = [tuple(map(Fraction, range(n))) if i in layout.fixed else () for i, n in enumerate(layout.sizes)]
        most = max(sample_features(self.whole), default=-1)
        return SampleFacts(label, (Fraction(0),) * (most + 1), tuple(outputs), Fraction(144, 233))

    @property
    def asks_of_samples(self) -> bool:
        """Tells whether it depends on what a sample gives."""
        fixed = any(self.applications[n].fixed for n in applications(self.whole))
        return fixed or uses_label(self.whole) or bool(sample_features(self.whole))


def check_provable(scope: Scope, quantified: s.Quantified, asked: Unloaded) -> None:
    """Report formulas that cannot become clauses, as far as that is known before the network is loaded."""
    node, session, layout = quantified.body, scope.session, asked.layout(most=MAX_PIECES)
    try:
        # With fewer outputs than the network has, the count is a lower bound; the rest is found when it is loaded.
        if session.leaves <= MAX_LEAVES:
            session.leaves += layout.width
            normal = check_lowering(asked.whole, layout, asked.facts(layout))
            session.leaves += sum(1 for _ in leaves(normal))
            if isinstance(normal, TruthConstant):
                _decided(scope, quantified, asked)
    except TooManyClausesError as error:
        scope.report("E214", str(error), node, "use fewer alternatives")
    except InexactRowError as error:
        scope.report("E227", str(error), node)
    except SingleOutputError as error:
        scope.report("E232", error.problem, node, error.fix)
    except (IndexError, ValueError) as error:
        scope.report("E224", str(error), node)


def warn_of_equality(scope: Scope, quantified: s.Quantified, formula: Formula) -> None:
    """Warn of a formula, to be proven of all inputs, that no proof can show since outputs would have to be equal."""
    node = quantified.body
    if _demands_equality(formula) and quantified.quantifier == "forall":
        scope.report("W001", "an equality between outputs can be refuted but never proven", node, "use `<=` or `>=`")
    elif _demands_equality(formula):
        message = "that outputs differ somewhere can be verified but never refuted: an equality is never proven"
        scope.report("W001", message, node, "use `<` or `>`")


def check_conditions(scope: Scope, node: s.Expr, given: Formula, asked: Unloaded) -> None:
    """Report conditions on points that nothing can meet, or that are too many alternatives."""
    layout = asked.layout(most=MAX_PIECES)
    with suppress(ValueError, IndexError):  # reported with the whole formula
        normalise(given, layout, asked.facts(layout))
        try:
            if not alternatives(given):
                scope.report("E209", "no input meets these conditions, whatever the sample", node)
        except TooManyAlternativesError as error:
            scope.report("E251", str(error), node, error.fix)


def _decided(scope: Scope, quantified: s.Quantified, asked: Unloaded) -> None:
    """Report a formula that is true or false whatever the network and the sample, as far as that is known here."""
    # Where the number of outputs is not known, there may be one that the formula does not name.
    layout = asked.layout(2)
    if asked.asks_of_samples or layout.width > MAX_PIECES:
        return
    normal = normalise(asked.whole, layout, asked.facts(layout))
    if isinstance(normal, TruthConstant):
        holds = normal.value != (quantified.quantifier == "exists")
        says = "always true" if holds else "never true"
        message = f"this is {says}, whatever the network computes"
        scope.report("E233", message, quantified.body, "say something about the outputs that may fail")


def _demands_equality(formula: Formula) -> bool:
    """Tells whether proving the formula takes proving that outputs are equal."""
    pending = [(formula, True)]
    while pending:
        part, positive = pending.pop()
        match part:
            case Not(inner):
                pending.append((inner, not positive))
            case And((Atom(a, False), Atom(b, False))) if positive and _opposite(a, b):
                return True
            case Or((Atom(a, True), Atom(b, True))) if not positive and _opposite(a, b):
                return True
            case And(parts) | Or(parts):
                pending.extend((p, positive) for p in parts)
    return False


def _opposite(a: Term, b: Term) -> bool:
    """Tells whether the two are one combination of outputs and its negative."""
    return a == b.times(Fraction(-1)) and any(isinstance(v, Output) for v, _ in a.coefficients)
