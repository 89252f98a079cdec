"""From records to judgements: what assertions say, and what the run exits with."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np

from tfcert.errors import UsageError
from tfcert.language import (
    Assertion,
    DistanceTemplate,
    Judgement,
    MeasureValues,
    PropertyCounts,
    Results,
    ShareTemplate,
    Spec,
)
from tfcert.language.spec.assertions import compared, judge_condition
from tfcert.language.spec.quantities import MEASURE_QUANTITIES, Quantity, Quotient
from tfcert.report import ExitCode, Judged, Record, summarize_measure, summarize_property
from tfcert.report.summary import by_question
from tfcert.report.table import figure, percent
from tfcert.showing import counted
from tfcert.verdict import Outcome

NOTHING = "no sample is selected"

Right = Callable[[str, str], tuple[np.ndarray, np.ndarray]]
"""Which samples of a data set a model classifies right, and their labels."""
Accuracies = dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]


def gather_results(spec: Spec, records: Sequence[Record], right: Right) -> Results:
    """Counts, radii and clean accuracies, as assertions and reports need them: of all samples, and of each class.

    Raises:
        UsageError: the samples that are classified right are asked about, and nothing says which these are.
    """
    pairs = {pair for a in spec.assertions for pair in a.accuracies}
    pairs |= {(item.names[0], item.names[1]) for item in spec.reports if item.kind == "accuracy"}
    accuracies = {pair: right(*pair) for pair in sorted(pairs)}
    for quantity in _asked(spec):
        mine = [r for r in records if r.property == quantity.names[0]]
        if quantity.correct and mine and all(r.correct is None for r in mine):
            raise UsageError(
                f"{quantity.text}: nothing says which samples are classified right: that takes labels that are classes "
                "of the model"
            )
    return replace(_results(spec, records, accuracies), classes=_by_class(spec, records, accuracies))


def _by_class(spec: Spec, records: Sequence[Record], accuracies: Accuracies) -> dict[float, Results]:
    """The results of the samples of each class, where the specification asks for them."""
    if not any(a.per_class for a in spec.assertions) and not any(item.per_class for item in spec.reports):
        return {}
    classes: dict[float, list[Record]] = {float(y): [] for _, ys in accuracies.values() for y in np.unique(ys)}
    for record in records:
        if record.label is not None:
            classes.setdefault(float(record.label), []).append(record)
    return {
        label: _results(
            spec,
            classes[label],
            {pair: (good[y == label], y[y == label]) for pair, (good, y) in accuracies.items()},
        )
        for label in sorted(classes)
    }


def _asked(spec: Spec) -> list[Quantity]:
    """All quantities that assertions and reports name."""
    terms = [term for a in spec.assertions for term in compared(a.condition)]
    terms += [item.quantity for item in spec.reports if item.quantity is not None]
    return [q for term in terms for q in (term.quantities() if isinstance(term, Quotient) else (term,))]


def _results(spec: Spec, records: Sequence[Record], accuracies: Accuracies) -> Results:
    """The results of some samples, and of those of them that are classified right."""
    correct = _counted_results(spec, [r for r in records if r.correct], {})
    return replace(_counted_results(spec, records, accuracies), correct=correct)


def _counted_results(spec: Spec, records: Sequence[Record], accuracies: Accuracies) -> Results:
    properties, measures = {}, {}
    mine = by_question(records)
    for name in spec.properties:
        s = summarize_property(name, mine.get(name, ()))
        outcomes = s.outcomes
        properties[name] = PropertyCounts(s.total, s.correct, outcomes[Outcome.VERIFIED], outcomes[Outcome.FALSIFIED])
    for name in spec.measures:
        m = summarize_measure(name, mine.get(name, ()))
        estimated = [] if m.estimated is None else m.estimated.tolist()
        measures[name] = MeasureValues(m.proven.tolist(), m.refuted.tolist(), estimated)
    counts = {pair: (int(good.sum()), len(good)) for pair, (good, _) in accuracies.items()}
    return Results(properties, measures, counts)


def judge(spec: Spec, results: Results) -> tuple[Judged, ...]:
    """Every assertion, every property that is judged by none, and every question of which nothing is decided."""
    judged = [
        Judged(f"assert {_said(a)}{_why(a, results)}", str(a.judge(results)), a.span.line) for a in spec.assertions
    ]
    for name, counts in results.properties.items():
        if name not in spec.judged_by_assertions or not counts.total:
            abstraction = spec.properties[name].abstraction
            about = name if abstraction is None else f"{name} (behind {abstraction.name})"
            expected = spec.properties[name].expect_fail
            text = f"property {about}{', expected to fail' if expected else ''}: {_counted(counts)}"
            judged.append(Judged(text, str(_property_judgement(counts, expected)), spec.properties[name].line))
    estimates = _estimates(spec)
    for name, values in results.measures.items():
        if not values.decided and name not in estimates:
            why = f"of none of {len(values.proven)} a value is proven or refuted" if len(values.proven) else NOTHING
            judged.append(Judged(f"measure {name}: {why}", str(Judgement.INCONCLUSIVE), spec.measures[name].line))
    if estimates and not judged and len(estimates) == len(results.measures):
        judged.append(Judged(f"{', '.join(estimates)}: estimates alone, which decide nothing", "inconclusive"))
    return tuple(judged)


def _estimates(spec: Spec) -> list[str]:
    """The measures that are estimates: nothing is judged by them."""
    return [name for name, m in spec.measures.items() if isinstance(m, DistanceTemplate) and m.info.estimates]


def _said(assertion: Assertion) -> str:
    """An assertion as it is written."""
    text = f"per class {assertion.per_class}: {assertion.text}" if assertion.per_class else assertion.text
    return f"{text}, expected to fail" if assertion.expect_fail else text


def _why(assertion: Assertion, results: Results) -> str:
    """The reason why an assertion that holds does not pass, or the classes in which one does not; "" for any other."""
    if assertion.per_class:
        found = assertion.by_class(results)
        listed = {j: [f"{label:g}" for label, judged in found.items() if judged is j] for j in Judgement}
        words = ((Judgement.FAIL, "fails"), (Judgement.INCONCLUSIVE, "is open"))
        said = [f"{word} in class {', '.join(listed[j])}" for j, word in words if listed[j]]
        return f" ({'; '.join(said) or f'in all {len(found)} classes'})" if found else f" ({NOTHING})"
    undecided = assertion.undecided(results)
    holds = undecided and judge_condition(assertion.condition, lambda quantity: quantity.interval(results))
    holds = holds is False if undecided and assertion.expect_fail else holds
    return f" (no sample of {', '.join(undecided)} is proven or refuted)" if holds else ""


def exit_code(spec: Spec, records: Sequence[Record], results: Results) -> ExitCode:
    """0 pass, 1 fail, 5 nothing to check, 6 inconclusive."""
    if not records and not results.accuracies:
        return ExitCode.NOTHING_TO_CHECK
    found = {j.judgement for j in judge(spec, results)}
    if Judgement.FAIL in found:
        return ExitCode.FAIL
    return ExitCode.INCONCLUSIVE if Judgement.INCONCLUSIVE in found else ExitCode.PASS


def reported(spec: Spec, results: Results) -> list[str]:
    """The quantities that assertions compare and that the specification's ``report`` asks for, as sentences."""
    asked = [(q.text, q, bool(a.per_class)) for a in spec.assertions for q in compared(a.condition)]
    asked += [(item.text, item.quantity, item.per_class) for item in spec.reports if item.quantity is not None]
    said = {}
    for text, quantity, per_class in asked:
        said[text] = _told(text, quantity, results, spec)
        for label, part in results.classes.items() if per_class else ():
            if _interval(quantity, part) is not None:
                said[f"{label}: {text}"] = f"class {label:g}: {_told(text, quantity, part, spec)}"
    return list(said.values())


def _interval(quantity: Quantity | Quotient, results: Results) -> tuple[Fraction | float, Fraction | float] | None:
    if isinstance(quantity, Quotient):
        return quantity.interval(lambda q: q.interval(results))
    return quantity.interval(results)


def _told(text: str, quantity: Quantity | Quotient, results: Results, spec: Spec) -> str:
    """A quantity in a sentence: where it lies, what share of the range that is, and what it promises."""
    interval = _interval(quantity, results)
    measure = None if isinstance(quantity, Quotient) else spec.measures.get(quantity.names[0])
    if interval is None:
        return f"{text}: {'no number' if isinstance(quantity, Quotient) else 'no samples'}"
    low, high = interval
    if low == high:
        said = f"{text} = {figure(float(low))}"
    elif math.isinf(low) and math.isinf(high):
        said = f"{text}: nothing is known"
    elif math.isinf(low) or (isinstance(measure, DistanceTemplate) and not measure.info.proves and high < math.inf):
        said = f"{text} at most {figure(float(high))}"
    elif math.isinf(high):
        said = f"{text} at least {figure(float(low))}"
    else:
        said = f"{text} between {figure(float(low))} and {figure(float(high))}"
    width = None if measure is None or (isinstance(quantity, Quantity) and quantity.kind == "share") else measure.width
    if width is not None:
        shares = " to ".join(dict.fromkeys(percent(float(end / width)) for end in interval if not math.isinf(end)))
        said += f" ({shares} of the range)"
    if isinstance(measure, ShareTemplate):
        said += ", a share of the region's volume: of inputs that are uniformly distributed in it"
    if isinstance(quantity, Quantity) and quantity.kind in MEASURE_QUANTITIES and not quantity.correct:
        said += _mixed(quantity, results)
    if isinstance(measure, DistanceTemplate):
        said += f", {measure.info.title}: {measure.info.promise}"
    return said


def _mixed(quantity: Quantity, results: Results) -> str:
    """Says that a statistic of all samples mixes accuracy and robustness, where some are misclassified as they are."""
    right = results.correct.measures[quantity.names[0]].proven if results.correct is not None else ()
    wrong = len(results.measures[quantity.names[0]].proven) - len(right)
    if not len(right) or not wrong:
        return ""
    return (
        f"; {counted(wrong, 'sample')} misclassified as they are included (`{quantity.text} of correct` is of the rest)"
    )


def _property_judgement(counts: PropertyCounts, expect_fail: bool = False) -> Judgement:
    """A falsified sample fails a property, and passes one that is expected to fail; open samples decide nothing."""
    if counts.falsified:
        return Judgement.PASS if expect_fail else Judgement.FAIL
    if not 0 < counts.verified == counts.total:
        return Judgement.INCONCLUSIVE
    return Judgement.FAIL if expect_fail else Judgement.PASS


def _counted(counts: PropertyCounts) -> str:
    if not counts.total:
        return NOTHING
    undecided = counts.total - counts.verified - counts.falsified
    return f"{counts.verified} of {counts.total} verified, {counts.falsified} falsified, {undecided} undecided"
