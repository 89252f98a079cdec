"""Assertions over results: quantities are intervals, and the verdict is pass, fail or inconclusive."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

from tfcert.language.spec.quantities import Combination, Lookup, Quantity, Quotient, Results
from tfcert.language.text.diagnostics import Span


class Judgement(StrEnum):
    """Judgements of an assertion about the results."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class Comparison:
    """A combination of quantities compared with 0 by ``operator`` (>, >=, ==)."""

    sum: Combination
    operator: str

    def judge(self, found: Lookup) -> bool | None:
        """True or False where the intervals decide, else None."""
        interval = self.sum.interval(found)
        if interval is None:
            return None
        lower, upper = interval
        match self.operator:
            case ">=":
                return True if lower >= 0 else False if upper < 0 else None
            case ">":
                return True if lower > 0 else False if upper <= 0 else None
            case _:
                return False if lower > 0 or upper < 0 else True if lower == upper == 0 else None


@dataclass(frozen=True)
class Truth:
    """``true`` or ``false``, for constant parts of an assertion."""

    value: bool


@dataclass(frozen=True)
class Junction:
    """``and``, ``or`` or ``not`` of conditions, three-valued."""

    operator: str
    parts: tuple[AssertedCondition, ...]


AssertedCondition = Comparison | Truth | Junction


def judge_condition(condition: AssertedCondition, found: Lookup) -> bool | None:
    """Kleene's three-valued logic over comparisons of intervals; ``found`` says where a quantity lies."""
    match condition:
        case Comparison():
            return condition.judge(found)
        case Truth(value):
            return value
        case Junction("not", parts):
            inner = judge_condition(parts[0], found)
            return None if inner is None else not inner
        case Junction(operator, parts):
            decisive = operator == "or"
            judged = [judge_condition(p, found) for p in parts]
            if decisive in judged:
                return decisive
            return None if None in judged else not decisive


def quantities(condition: AssertedCondition) -> tuple[Quantity, ...]:
    """The quantities that a condition compares, in the order in which they are written."""
    match condition:
        case Comparison(combined):
            return tuple(quantity for quantity, _ in combined.quantities())
        case Junction(_, parts):
            return tuple(quantity for part in parts for quantity in quantities(part))
    return ()


def compared(condition: AssertedCondition) -> tuple[Quantity | Quotient, ...]:
    """What a condition compares: its quantities, and of a quotient itself first."""
    match condition:
        case Comparison(combined):
            found: list[Quantity | Quotient] = []
            for term, _ in combined.terms:
                found += [term, *(term.quantities() if isinstance(term, Quotient) else ())]
            return tuple(found)
        case Junction(_, parts):
            return tuple(term for part in parts for term in compared(part))
    return ()


def open_quantities(condition: AssertedCondition) -> tuple[Quantity, ...]:
    """The quantities that results decide about: of comparisons that neither hold nor fail whatever is found."""
    match condition:
        case Comparison(combined) if condition.judge(Quantity.prior) is None:
            return tuple(quantity for quantity, hangs in combined.quantities() if hangs)
        case Junction(_, parts):
            return tuple(quantity for part in parts for quantity in open_quantities(part))
    return ()


@dataclass(frozen=True)
class Assertion:
    """One ``assert``.

    Attributes:
        text: the condition as written, pretty-printed.
        condition: the checked condition.
        span: where it stands.
        properties, measures: names it is about.
        accuracies: (model, data set) pairs whose clean accuracy it needs.
        judged: the properties of whose verified or attack accuracy it speaks, if results decide about it at all: these
            are judged by their assertions alone.
        per_class: the name of the label where the condition must hold in each class by itself; "" for all together.
        expect_fail: whether it passes where it fails as it is written.
    """

    text: str
    condition: AssertedCondition
    span: Span
    properties: frozenset[str] = frozenset()
    measures: frozenset[str] = frozenset()
    accuracies: frozenset[tuple[str, str]] = frozenset()
    judged: frozenset[str] = frozenset()
    per_class: str = ""
    expect_fail: bool = False

    def judge(self, results: Results) -> Judgement:
        """Pass, fail, or inconclusive; a pass needs a proven or refuted sample of each question it is about.

        Per class it passes where it passes in every class, and fails where it fails in one. What is expected to fail
        passes where it would fail, and fails where it would pass.

        Raises:
            KeyError: a property, measure or accuracy it names is missing from the results.
        """
        written = self._as_written(results)
        if not self.expect_fail or written is Judgement.INCONCLUSIVE:
            return written
        if written is Judgement.PASS:
            return Judgement.FAIL
        return Judgement.INCONCLUSIVE if self.undecided(results) else Judgement.PASS

    def _as_written(self, results: Results) -> Judgement:
        if self.per_class:
            found = set(self.by_class(results).values())
            worst = (Judgement.FAIL, Judgement.INCONCLUSIVE)
            return next((j for j in worst if j in found), Judgement.PASS if found else Judgement.INCONCLUSIVE)
        return self._judge(results)

    def by_class(self, results: Results) -> dict[float, Judgement]:
        """The judgement in each class that has samples of what the condition is about."""
        return {label: self._judge(part) for label, part in results.classes.items() if self._has_samples(part)}

    def _has_samples(self, part: Results) -> bool:
        counts = [part.properties[name].total for name in self.properties]
        counts += [len(part.measures[name].proven) for name in self.measures]
        return any(counts) or any(part.accuracies[pair][1] for pair in self.accuracies)

    def _judge(self, results: Results) -> Judgement:
        verdict = judge_condition(self.condition, lambda quantity: quantity.interval(results))
        if verdict is None or (verdict and self.undecided(results)):
            return Judgement.INCONCLUSIVE
        return Judgement.PASS if verdict else Judgement.FAIL

    def undecided(self, results: Results) -> tuple[str, ...]:
        """The questions of which no sample is proven or refuted."""
        names = [name for name in sorted(self.properties) if not results.properties[name].decided]
        return (*names, *(name for name in sorted(self.measures) if not results.measures[name].decided))


@dataclass(frozen=True)
class ReportItem:
    """One item of a ``report``: a quantity, a quotient of such, a picture or a table.

    Attributes:
        kind: ``histogram``, ``curve``, ``table``, ``quotient`` or a quantity's kind.
        names: the property, the measure, or the model and the data set.
        options: e.g. ``{"bins": 20}`` as pairs.
        quantity: what to print, for everything but pictures and tables.
        text: the item as written, pretty-printed.
        per_class: whether it is told of each class by itself.
    """

    kind: str
    names: tuple[str, ...]
    options: tuple[tuple[str, int | Fraction | str | bool], ...]
    quantity: Quantity | Quotient | None
    text: str
    per_class: bool = False
