"""From records to judgements: what assertions say, and what the run exits with."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from tfcert.language import Assertion, DistanceTemplate, Judgement, MeasureValues, PropertyCounts, Results, Spec
from tfcert.language.spec.assertions import judge_condition, quantities
from tfcert.report import ExitCode, Judged, Record, summarize_measure, summarize_property
from tfcert.report.table import figure, percent
from tfcert.verdict import Outcome

NOTHING = "no sample is selected"

Accuracy = Callable[[str, str], tuple[int, int]]


def gather_results(spec: Spec, records: Sequence[Record], accuracy: Accuracy) -> Results:
    """Counts, radii and clean accuracies, as assertions and reports need them."""
    properties, measures = {}, {}
    for name in spec.properties:
        s = summarize_property(name, records)
        outcomes = s.outcomes
        properties[name] = PropertyCounts(s.total, s.correct, outcomes[Outcome.VERIFIED], outcomes[Outcome.FALSIFIED])
    for name in spec.measures:
        m = summarize_measure(name, records)
        estimated = [] if m.estimated is None else m.estimated.tolist()
        measures[name] = MeasureValues(m.proven.tolist(), m.refuted.tolist(), estimated)
    pairs = {pair for a in spec.assertions for pair in a.accuracies}
    pairs |= {(item.names[0], item.names[1]) for item in spec.reports if item.kind == "accuracy"}
    return Results(properties, measures, {pair: accuracy(*pair) for pair in sorted(pairs)})


def judge(spec: Spec, results: Results) -> tuple[Judged, ...]:
    """Every assertion, every property that is judged by none, and every question of which nothing is decided."""
    judged = [Judged(f"assert {a.text}{_why(a, results)}", str(a.judge(results))) for a in spec.assertions]
    for name, counts in results.properties.items():
        if name not in spec.judged_by_assertions or not counts.total:
            abstraction = spec.properties[name].abstraction
            about = name if abstraction is None else f"{name} (behind {abstraction.name})"
            judged.append(Judged(f"property {about}: {_counted(counts)}", str(_property_judgement(counts))))
    estimates = _estimates(spec)
    for name, values in results.measures.items():
        if not values.decided and name not in estimates:
            why = f"of none of {len(values.proven)} a value is proven or refuted" if len(values.proven) else NOTHING
            judged.append(Judged(f"measure {name}: {why}", str(Judgement.INCONCLUSIVE)))
    if estimates and not judged and len(estimates) == len(results.measures):
        judged.append(Judged(f"{', '.join(estimates)}: estimates alone, which decide nothing", "inconclusive"))
    return tuple(judged)


def _estimates(spec: Spec) -> list[str]:
    """The measures that are estimates: nothing is judged by them."""
    return [name for name, m in spec.measures.items() if isinstance(m, DistanceTemplate) and m.info.estimates]


def _why(assertion: Assertion, results: Results) -> str:
    """The reason why an assertion that holds does not pass; "" for any other."""
    undecided = assertion.undecided(results)
    holds = undecided and judge_condition(assertion.condition, lambda quantity: quantity.interval(results))
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
    asked = [(q.text, q) for assertion in spec.assertions for q in quantities(assertion.condition)]
    asked += [(item.text, item.quantity) for item in spec.reports if item.quantity is not None]
    said = {}
    for text, quantity in asked:
        interval, measure = quantity.interval(results), spec.measures.get(quantity.names[0])
        if interval is None:
            said[text] = f"{text}: no samples"
        elif interval[0] == interval[1]:
            said[text] = f"{text} = {figure(float(interval[0]))}"
        elif isinstance(measure, DistanceTemplate) and not measure.info.proves and not math.isinf(interval[1]):
            said[text] = f"{text} at most {figure(float(interval[1]))}"
        elif math.isinf(interval[1]):
            said[text] = f"{text} at least {figure(float(interval[0]))}"
        else:
            said[text] = f"{text} between {figure(float(interval[0]))} and {figure(float(interval[1]))}"
        width = spec.measures[quantity.names[0]].width if quantity.names[0] in spec.measures else None
        if width is not None and interval is not None:
            shares = " to ".join(dict.fromkeys(percent(float(end / width)) for end in interval if not math.isinf(end)))
            said[text] += f" ({shares} of the range)"
        if isinstance(measure, DistanceTemplate):
            said[text] += f", {measure.info.title}: {measure.info.promise}"
    return list(said.values())


def _property_judgement(counts: PropertyCounts) -> Judgement:
    if counts.falsified:
        return Judgement.FAIL
    return Judgement.PASS if 0 < counts.verified == counts.total else Judgement.INCONCLUSIVE


def _counted(counts: PropertyCounts) -> str:
    if not counts.total:
        return NOTHING
    undecided = counts.total - counts.verified - counts.falsified
    return f"{counts.verified} of {counts.total} verified, {counts.falsified} falsified, {undecided} undecided"
