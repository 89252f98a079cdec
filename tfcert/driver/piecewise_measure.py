"""Measures over regions of several pieces: the least of what each piece says."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from tfcert.driver.bracket import BracketRun
from tfcert.driver.measure import MeasureAnswer, MeasureRun
from tfcert.driver.piecewise import holds
from tfcert.driver.progress import Watch
from tfcert.driver.stages.opened import OpenStages
from tfcert.driver.task import Task
from tfcert.driver.verdicts import CLEAN
from tfcert.language import ValueTemplate
from tfcert.language.spec.regions import balls_of
from tfcert.report.records import Measured
from tfcert.verdict import Outcome, weakest


def measured_pieces(task: Task, stages: OpenStages, watch: Watch) -> Iterator[MeasureAnswer]:
    """One answer a sample, as :class:`MeasureRun` gives them; pieces share the sample's time."""
    began, left = stages.clock.used(), np.arange(len(task.samples))
    found: dict[int, list[MeasureAnswer]] = {int(place): [] for place in left}
    for piece in task.pieces:
        grows = any(ball.slope for point in piece.points for ball in balls_of(point.region))
        held = left if grows else left[holds(task.take(left), piece)]
        if not len(held):
            continue
        part = replace(task.take(held), template=piece, pieces=(), lowered=task.lowered.about(piece))
        run = BracketRun if isinstance(piece, ValueTemplate) else MeasureRun
        for answer in run(part, stages, watch, began).run():
            found[int(held[answer.place])].append(answer)
        done = [place for place in held.tolist() if found[place][-1].verdict.stage == CLEAN]
        for place in done:
            yield replace(found[place][-1], place=place)
        left = np.array([place for place in left.tolist() if place not in done], int)
        if not len(left):
            return
    above = isinstance(task.template, ValueTemplate) and task.template.proof_above
    for place in left.tolist():
        # What proofs bound from above is the opposite of the least of the opposites.
        answers = [opposite(a) for a in found[place]] if above else found[place]
        yield opposite(of_union(place, answers)) if above else of_union(place, answers)


def opposite(answer: MeasureAnswer) -> MeasureAnswer:
    """The answer about the opposite of what is measured."""
    measured = answer.measured
    return replace(answer, measured=replace(measured, lower=0.0 - measured.upper, upper=0.0 - measured.lower))


def of_union(place: int, answers: list[MeasureAnswer]) -> MeasureAnswer:
    """The answer about a union from those about its pieces."""
    lower, upper = zip(*((a.measured.lower, a.measured.upper) for a in answers), strict=True)
    proven = math.nan if any(map(math.isnan, lower)) else min(lower)
    refuted = min((end for end in upper if not math.isnan(end)), default=math.nan)
    nearest = min(answers, key=lambda a: math.inf if math.isnan(a.measured.upper) else a.measured.upper)
    open_ = [a for a in answers if math.isnan(a.measured.lower)]
    late = next((a for a in open_ if a.verdict.outcome is Outcome.TIMEOUT), open_[0] if open_ else None)
    chosen = late or min(answers, key=lambda a: a.measured.lower)
    guarantee = chosen.verdict.guarantee if open_ else weakest(a.verdict.guarantee for a in answers)
    work = sum((a.verdict.work for a in answers[1:]), answers[0].verdict.work)
    verdict = replace(
        chosen.verdict,
        guarantee=guarantee,
        witness=nearest.verdict.witness,
        seconds=max(a.verdict.seconds for a in answers),
        work=work,
    )
    return MeasureAnswer(place, verdict, Measured(proven, refuted))
