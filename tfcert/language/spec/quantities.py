"""Quantities about the results: numbers of which an interval is known."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction


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
        proven: the lower ends of what is known; NaN where nothing is (counts as the least answer there is: 0, or the
            lower end of the interval in which it is sought).
        refuted: the upper ends; NaN where there is none (counts as the measure's upper end).
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
        correct: the same of the samples that are classified right alone, for ``... of correct``.
        classes: the same of the samples of each label, for ``per class``.
    """

    properties: Mapping[str, PropertyCounts] = field(default_factory=dict)
    measures: Mapping[str, MeasureValues] = field(default_factory=dict)
    accuracies: Mapping[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    correct: Results | None = None
    classes: Mapping[float, Results] = field(default_factory=dict)


ExactEnd = Fraction | float
"""A fraction, or an infinity where nothing is known."""
ExactInterval = tuple[ExactEnd, ExactEnd]

PROPERTY_QUANTITIES = ("verified_accuracy", "verified_share", "attack_accuracy", "nominal_accuracy")
JUDGING_QUANTITIES = ("verified_accuracy", "verified_share", "attack_accuracy")
"""An assertion about one of these takes over the judgement of its property; any other leaves it as it is."""
MEASURE_QUANTITIES = ("mean", "median", "min", "max", "percentile")
SPELLINGS = {"minimum": "min", "maximum": "max"}
"""Other words for quantities."""


@dataclass(frozen=True)
class Side:
    """A condition on a measure's value of one sample: ``factor * value + constant`` is at least, or above, 0."""

    factor: Fraction
    constant: Fraction
    strict: bool

    def judge(self, value: ExactInterval) -> bool | None:
        """True or False where the interval decides, else None."""
        low, high = sorted(self.factor * end + self.constant for end in value)
        if low > 0 or (low == 0 and not self.strict):
            return True
        return False if high < 0 or (high == 0 and self.strict) else None


@dataclass(frozen=True)
class Quantity:
    """One number about the results.

    Attributes:
        kind: one of ``PROPERTY_QUANTITIES``, ``MEASURE_QUANTITIES``, ``accuracy``, ``share`` (of samples whose measure
            is on all ``sides``) or ``value`` (of a measure that has one answer, and no samples).
        names: the property, the measure, or the model and the data set.
        percent: of a percentile, in [0, 100].
        floor: of a measure, the least answer there is.
        ceiling: of a measure, the upper end of its interval; None where it has none.
        estimate: whether the measure's numbers are estimates; then the quantity is one number, and no bound.
        sides: of a ``share``; it is written as ``written``.
        correct: of the samples that are classified right alone.
    """

    kind: str
    names: tuple[str, ...]
    percent: Fraction = Fraction(50)
    floor: ExactEnd = Fraction(0)
    ceiling: ExactEnd | None = Fraction(0)
    estimate: bool = False
    sides: tuple[Side, ...] = ()
    correct: bool = False
    written: str = field(default="", compare=False)

    @property
    def text(self) -> str:
        """As a specification writes it."""
        if self.written:
            return self.written
        percent = f", {float(self.percent):g}" if self.kind == "percentile" else ""
        told = self.names[0] if self.kind == "value" else f"{self.kind}({', '.join(self.names)}{percent})"
        return f"{told} of correct" if self.correct else told

    def prior(self) -> ExactInterval:
        """The interval in which the quantity lies whatever is found."""
        return (self.floor, self._top) if self.kind in (*MEASURE_QUANTITIES, "value") else (Fraction(0), Fraction(1))

    @property
    def _top(self) -> ExactEnd:
        return math.inf if self.ceiling is None else self.ceiling

    def interval(self, results: Results) -> ExactInterval | None:
        """The interval in which the quantity lies, exact ends; None without any sample.

        Raises:
            KeyError: the results have nothing of what it names.
        """
        if self.correct:
            if results.correct is None:
                raise KeyError("the samples that are classified right")
            results = results.correct
        if self.kind == "accuracy":
            correct, total = results.accuracies[self.names[0], self.names[1]]
            return _ratio(correct, correct, total)
        if self.kind in PROPERTY_QUANTITIES:
            return self._counted(results.properties[self.names[0]])
        values = results.measures[self.names[0]]
        if self.estimate:
            found = [Fraction(v) for v in values.estimated if math.isfinite(v)]
            number = self._aggregate(list(found)) if found else Fraction(0)
            return (number, number) if found else None
        lower = [_known(v, self.floor) for v in values.proven]
        upper = [_known(v, self._top) for v in values.refuted]
        if not lower:
            return None
        if self.kind == "share":
            judged = [[side.judge(pair) for side in self.sides] for pair in zip(lower, upper, strict=True)]
            surely, not_ = sum(all(on) for on in judged), sum(False in on for on in judged)
            return _ratio(surely, len(judged) - not_, len(judged))
        return self._aggregate(lower), self._aggregate(upper)

    def _counted(self, counts: PropertyCounts) -> ExactInterval | None:
        unrefuted = counts.total - counts.falsified
        lower, upper = {
            "verified_accuracy": (counts.verified, unrefuted),
            "verified_share": (counts.verified, unrefuted),
            "attack_accuracy": (unrefuted, unrefuted),
            "nominal_accuracy": (counts.correct, counts.correct),
        }[self.kind]
        return _ratio(lower, upper, counts.total)

    def _aggregate(self, values: Sequence[ExactEnd]) -> ExactEnd:
        """The statistic of some numbers, exact; infinite where one that it depends on is."""
        if self.kind == "mean":
            infinite = next((v for v in values if math.isinf(v)), None)
            return sum(values, Fraction(0)) / len(values) if infinite is None else infinite
        ends: dict[str, Callable[[Iterable[ExactEnd]], ExactEnd]] = {"min": min, "max": max, "value": min}
        if self.kind in ends:
            return ends[self.kind](values)
        ordered = sorted(values)
        place = self.percent / 100 * (len(ordered) - 1)
        below = math.floor(place)
        if place == below or math.isinf(ordered[below]):
            return ordered[below]
        above = ordered[below + 1]
        return above if math.isinf(above) else ordered[below] + (place - below) * (above - ordered[below])


Lookup = Callable[[Quantity], ExactInterval | None]
"""Where a quantity lies; None where it is no number."""


@dataclass(frozen=True)
class Quotient:
    """One combination of quantities divided by another, as ``text`` writes it.

    The two are taken for independent of each other: the interval holds every quotient of two numbers of theirs.
    """

    numerator: Combination
    denominator: Combination
    text: str = field(default="", compare=False)

    def quantities(self) -> tuple[Quantity, ...]:
        """The quantities in it, in order."""
        return tuple(q for part in (self.numerator, self.denominator) for q, _ in part.quantities())

    def interval(self, found: Lookup) -> ExactInterval | None:
        """The interval in which it lies; None where it is no number, because it divides by 0 or nothing is known."""
        top, below = self.numerator.interval(found), self.denominator.interval(found)
        if top is None or below is None or below == (0, 0):
            return None
        (low, high), (least, most) = top, below
        if least < 0 < most:
            return -math.inf, math.inf
        # Of a denominator that may be 0, the other end's sign says on which side its reciprocal is unbounded.
        inverse = (_inverse(most, 1), _inverse(least, 1)) if least >= 0 else (_inverse(most, -1), _inverse(least, -1))
        products = [_times(a, b) for a in (low, high) for b in inverse]
        return min(products), max(products)


def _inverse(number: ExactEnd, sign: int) -> ExactEnd:
    if number == 0:
        return sign * math.inf
    return Fraction(0) if math.isinf(number) else 1 / Fraction(number)


def _times(a: ExactEnd, b: ExactEnd) -> ExactEnd:
    """The product of two ends of intervals: that of 0 and an infinity is 0."""
    return Fraction(0) if a == 0 or b == 0 else a * b


@dataclass(frozen=True)
class Combination:
    """``sum(coefficient * term) + constant``."""

    terms: tuple[tuple[Quantity | Quotient, Fraction], ...]
    constant: Fraction = Fraction(0)

    def interval(self, found: Lookup) -> ExactInterval | None:
        """The interval in which it lies; None where a part of it is no number."""
        lower: ExactEnd = self.constant
        upper: ExactEnd = self.constant
        for term, coefficient in self.terms:
            interval = term.interval(found) if isinstance(term, Quotient) else found(term)
            if interval is None:
                return None
            if not coefficient:
                continue
            ends = sorted(coefficient * end for end in interval)
            lower, upper = lower + ends[0], upper + ends[1]
        return lower, upper

    def quantities(self) -> tuple[tuple[Quantity, bool], ...]:
        """The quantities in it, in order, and whether its value hangs on each."""
        found: list[tuple[Quantity, bool]] = []
        for term, coefficient in self.terms:
            if isinstance(term, Quotient):
                inner = (*term.numerator.quantities(), *term.denominator.quantities())
                found += [(quantity, hangs and bool(coefficient)) for quantity, hangs in inner]
            else:
                found.append((term, bool(coefficient)))
        return tuple(found)


def _ratio(lower: int, upper: int, total: int) -> ExactInterval | None:
    return (Fraction(lower, total), Fraction(upper, total)) if total else None


def _known(value: float, default: ExactEnd) -> ExactEnd:
    number = float(value)
    return Fraction(number) if math.isfinite(number) else default
