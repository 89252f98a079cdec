"""Assertions over results: quantities are intervals, and the verdict is pass, fail or inconclusive."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction

from tfcert.language.text.diagnostics import Span


class Judgement(StrEnum):
    """Judgements of an assertion about the results."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class PropertyCounts:
    """Results of one property.

    Attributes:
        total: samples asked about (1 for a property without a data set).
        correct: samples whose unperturbed input satisfies the formula.
        verified, falsified: samples with that outcome; the rest is open.
    """

    total: int
    correct: int
    verified: int
    falsified: int

    @property
    def decided(self) -> int:
        """The number of samples that are decided: proven or refuted."""
        return self.verified + self.falsified


@dataclass(frozen=True)
class MeasureValues:
    """Results of one measure, one entry a sample.

    Attributes:
        proven: the largest certified value; NaN where nothing is certified (counts as the least answer there is: 0,
            or the lower end of the interval in which a smallest radius is sought).
        refuted: the smallest value with a witness; NaN where there is none (counts as the measure's upper end).
        estimated: numbers that bound nothing; NaN where there are none.
    """

    proven: Sequence[float]
    refuted: Sequence[float]
    estimated: Sequence[float] = ()

    @property
    def decided(self) -> int:
        """The number of samples that are decided: proven or refuted."""
        pairs = zip(self.proven, self.refuted, strict=True)
        return sum(math.isfinite(proven) or math.isfinite(refuted) for proven, refuted in pairs)


@dataclass(frozen=True)
class Results:
    """All that assertions are judged on.

    Attributes:
        properties: by the property's name.
        measures: by the measure's name.
        accuracies: (correct, total) by (model, data set), for ``accuracy(model, dataset)``.
    """

    properties: Mapping[str, PropertyCounts] = field(default_factory=dict)
    measures: Mapping[str, MeasureValues] = field(default_factory=dict)
    accuracies: Mapping[tuple[str, str], tuple[int, int]] = field(default_factory=dict)


ExactInterval = tuple[Fraction | float, Fraction | float]
"""Fractions, or an infinity where nothing is known."""

PROPERTY_QUANTITIES = ("verified_accuracy", "verified_share", "attack_accuracy", "nominal_accuracy")
JUDGING_QUANTITIES = ("verified_accuracy", "verified_share", "attack_accuracy")
"""An assertion about one of these takes over the judgement of its property; any other leaves it as it is."""
MEASURE_QUANTITIES = ("mean", "median", "min", "max", "percentile")


@dataclass(frozen=True)
class Quantity:
    """One number about the results.

    Attributes:
        kind: one of ``PROPERTY_QUANTITIES``, ``MEASURE_QUANTITIES`` or ``accuracy``.
        names: the property, the measure, or the model and the data set.
        percent: of a percentile, in [0, 100].
        floor: of a measure, the least answer there is.
        ceiling: of a measure, the upper end of its interval; None where it has none.
        estimate: whether the measure's numbers are estimates; then the quantity is one number, and no bound.
    """

    kind: str
    names: tuple[str, ...]
    percent: Fraction = Fraction(50)
    floor: Fraction = Fraction(0)
    ceiling: Fraction | None = Fraction(0)
    estimate: bool = False

    @property
    def text(self) -> str:
        """As a specification writes it."""
        percent = f", {float(self.percent):g}" if self.kind == "percentile" else ""
        return f"{self.kind}({', '.join(self.names)}{percent})"

    def prior(self) -> ExactInterval:
        """The interval in which the quantity lies whatever is found."""
        return (self.floor, self._top) if self.kind in MEASURE_QUANTITIES else (Fraction(0), Fraction(1))

    @property
    def _top(self) -> Fraction | float:
        return math.inf if self.ceiling is None else self.ceiling

    def interval(self, results: Results) -> ExactInterval | None:
        """The interval in which the quantity lies, exact ends; None without any sample."""
        if self.kind == "accuracy":
            correct, total = results.accuracies[self.names[0], self.names[1]]
            return _ratio(correct, correct, total)
        if self.kind in PROPERTY_QUANTITIES:
            counts = results.properties[self.names[0]]
            unrefuted = counts.total - counts.falsified
            lower, upper = {
                "verified_accuracy": (counts.verified, unrefuted),
                "verified_share": (counts.verified, unrefuted),
                "attack_accuracy": (unrefuted, unrefuted),
                "nominal_accuracy": (counts.correct, counts.correct),
            }[self.kind]
            return _ratio(lower, upper, counts.total)
        values = results.measures[self.names[0]]
        if not len(values.proven):
            return None
        if self.estimate:
            found = [Fraction(v) for v in values.estimated if math.isfinite(v)]
            number = self._aggregate(list(found)) if found else Fraction(0)
            return (number, number) if found else None
        lower_end = self._aggregate([_known(v, self.floor) for v in values.proven])
        upper_end = self._aggregate([_known(v, self._top) for v in values.refuted])
        return lower_end, upper_end

    def _aggregate(self, values: list[Fraction | float]) -> Fraction | float:
        """The statistic of some numbers, exact; infinite where one that it depends on is."""
        simple: dict[str, Callable[[list[Fraction | float]], Fraction | float]] = {
            "mean": lambda v: math.inf if math.inf in v else sum(v, Fraction(0)) / len(v),
            "min": min,
            "max": max,
        }
        if self.kind in simple:
            return simple[self.kind](values)
        ordered = sorted(values)
        place = self.percent / 100 * (len(ordered) - 1)
        below = math.floor(place)
        above = min(below + 1, len(ordered) - 1)
        if place == below or math.isinf(ordered[above]):
            return ordered[below] if place == below else math.inf
        return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def _ratio(lower: int, upper: int, total: int) -> ExactInterval | None:
    return (Fraction(lower, total), Fraction(upper, total)) if total else None


def _known(value: float, default: Fraction | float) -> Fraction | float:
    number = float(value)
    return Fraction(number) if math.isfinite(number) else default


@dataclass(frozen=True)
class Comparison:
    """``sum(coefficient * quantity) + constant`` compared with 0 by ``operator`` (>, >=, ==)."""

    terms: tuple[tuple[Quantity, Fraction], ...]
    constant: Fraction
    operator: str

    def judge(self, found: Lookup) -> bool | None:
        """True or False where the intervals decide, else None."""
        lower: Fraction | float = self.constant
        upper: Fraction | float = self.constant
        for quantity, coefficient in self.terms:
            interval = found(quantity)
            if interval is None:
                return None
            if not coefficient:
                continue
            ends = sorted(coefficient * end for end in interval)
            lower, upper = lower + ends[0], upper + ends[1]
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
Lookup = Callable[[Quantity], ExactInterval | None]


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
        case Comparison(terms):
            return tuple(quantity for quantity, _ in terms)
        case Junction(_, parts):
            return tuple(quantity for part in parts for quantity in quantities(part))
    return ()


def open_quantities(condition: AssertedCondition) -> tuple[Quantity, ...]:
    """The quantities that results decide about: of comparisons that neither hold nor fail whatever is found."""
    match condition:
        case Comparison(terms) if condition.judge(Quantity.prior) is None:
            return tuple(quantity for quantity, coefficient in terms if coefficient)
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
    """

    text: str
    condition: AssertedCondition
    span: Span
    properties: frozenset[str] = frozenset()
    measures: frozenset[str] = frozenset()
    accuracies: frozenset[tuple[str, str]] = frozenset()
    judged: frozenset[str] = frozenset()

    def judge(self, results: Results) -> Judgement:
        """Pass, fail, or inconclusive; a pass needs a proven or refuted sample of each question it is about.

        Raises:
            KeyError: a property, measure or accuracy it names is missing from the results.
        """
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
    """One item of a ``report``: a quantity or a picture.

    Attributes:
        kind: ``histogram`` or a quantity's kind.
        names: the property, the measure, or the model and the data set.
        options: e.g. ``{"bins": 20}`` as pairs.
        quantity: what to print, for everything but a histogram.
        text: the item as written, pretty-printed.
    """

    kind: str
    names: tuple[str, ...]
    options: tuple[tuple[str, int | Fraction | str | bool], ...]
    quantity: Quantity | None
    text: str
