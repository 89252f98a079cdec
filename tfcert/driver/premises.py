"""Conditions on what networks answer: a claim about inputs that meet them is shown of some input, or proves nothing.

``forall z in R where argmax(f(z)) == 2: F`` is decided as the implication that it is. Where no input of R is of class 2
that is true and says nothing. So whether some input meets the conditions is a question of its own, asked in the same
stages of what has no witness: a proof counts where an input was found.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

import numpy as np

from tfcert.driver.measure import MeasureAnswer
from tfcert.driver.piecewise import PiecewiseRun
from tfcert.driver.property import PropertyRun
from tfcert.driver.stages.opened import OpenStages
from tfcert.driver.task import Task
from tfcert.language import AnyTemplate, MeasureTemplate, ValueTemplate
from tfcert.language.spec.regions import with_balls
from tfcert.report.records import Measured
from tfcert.verdict import Guarantee, Outcome, Reason, Verdict

Decided = tuple[int, Verdict]


def needs_input(template: AnyTemplate) -> bool:
    """Tells whether a proof of a question counts only where some input meets its premise."""
    return template.premise is not None and not template.existential


def with_inputs(task: Task, stages: OpenStages, decided: Iterator[Decided]) -> Iterator[Decided]:
    """The verdicts on a property, of which those that are verified wait for an input that meets the premise."""
    proven: dict[int, Verdict] = {}
    for place, verdict in decided:
        if verdict.outcome is Outcome.VERIFIED:
            proven[place] = verdict
        else:
            yield place, verdict
    if proven:
        places = np.array(list(proven), int)
        met = _met(task.take(places), stages, np.array([proven[place].seconds for place in places.tolist()]))
        for i, found in met:
            place = int(places[i])
            yield place, _counted(proven[place], found)


def measured_with_inputs(task: Task, stages: OpenStages, answers: Iterator[MeasureAnswer]) -> Iterator[MeasureAnswer]:
    """The answers of a measure, of which a value with a proof and no witness waits for an input that meets the premise.

    A witness meets it, so that a value with a witness, of whichever region, is about something.
    """
    template = task.template
    assert isinstance(template, MeasureTemplate | ValueTemplate)
    for answer in answers:
        lower, upper = answer.measured.lower, answer.measured.upper
        proven, refuted = (upper, lower) if template.proof_above else (lower, upper)
        if answer.verdict.outcome is not Outcome.VERIFIED or not math.isnan(refuted):
            yield answer
            continue
        one = task.take(np.array([answer.place]))
        one = replace(one, template=_at(template, proven), pieces=tuple(_at(piece, proven) for piece in task.pieces))
        ((_, found),) = _met(one, stages, np.array([answer.verdict.seconds]))
        verdict = _counted(answer.verdict, found)
        kept = verdict.outcome is Outcome.VERIFIED
        yield replace(answer, verdict=verdict, measured=answer.measured if kept else Measured(math.nan, math.nan))


def _at(template: AnyTemplate, value: float) -> AnyTemplate:
    """A measure's question with its regions at a value of the variable, where this stands in them."""
    exact = Fraction(value)
    points = [
        replace(point, region=with_balls(point.region, lambda b: replace(b, eps=b.radius(exact), slope=Fraction(0))))
        for point in template.points
    ]
    return template.with_points(points)


def _met(task: Task, stages: OpenStages, spent: np.ndarray) -> Iterator[Decided]:
    """Whether some input of each sample's region meets the premise: verified where one was found.

    Args:
        spent: ``[batch]``, the seconds that the samples have used.
    """
    asked = replace(
        task,
        template=task.template.met,
        pieces=tuple(piece.met for piece in task.pieces),
        lowered=task.lowered.of(task.template.met),
    )
    run = PiecewiseRun if asked.pieces else PropertyRun
    with stages.others() as own:
        yield from run(asked, own, spent=spent).run()


def _counted(proof: Verdict, met: Verdict) -> Verdict:
    """The verdict of a proof once it was looked for an input that meets the premise."""
    verdict = replace(proof, seconds=met.seconds, work=proof.work + met.work)
    if met.outcome is Outcome.VERIFIED:
        return verdict
    if met.outcome is Outcome.FALSIFIED:
        said = f"no input of the region meets the condition on what networks answer ({met.stage} proves it)"
    else:
        said = "nothing shows that an input of the region meets the condition on what networks answer"
    reason = Reason.NOT_MET.because(said=f"{said}, and a claim about none says nothing")
    return replace(verdict, outcome=Outcome.UNKNOWN, reason=reason, guarantee=Guarantee.ESTIMATE, margin=math.nan)
