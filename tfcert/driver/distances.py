"""Distances to another class, by the ways of ``tfcert.catalog.DISTANCES``, as verdicts and measured values.

Where a way proves a distance the sample is verified; a witness alone, and an estimate, leave it unknown.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from tfcert.catalog import DISTANCES
from tfcert.driver.batch import broken, make_batch, margin_at
from tfcert.driver.regions import clip_of
from tfcert.driver.task import Task
from tfcert.driver.verdicts import clean_verdict
from tfcert.errors import UsageError
from tfcert.language import DistanceTemplate
from tfcert.misfit import unsaid
from tfcert.report import Measured
from tfcert.sets.rounding import float_down, float_up
from tfcert.verdict import Guarantee, Outcome, Reason, Verdict, reason_of

if TYPE_CHECKING:
    from tfcert.estimates.question import DistanceAnswer, DistanceQuestion

_LATE = {Reason.TIME_LIMIT, Reason.SAMPLE_BUDGET, Reason.TOTAL_BUDGET}


def measured_distances(question: DistanceQuestion) -> Iterator[tuple[Verdict, Measured]]:
    """The verdict and the distances of each sample, in their order, each as soon as it is known; witnesses included.

    Raises:
        UsageError, ValueError: the way cannot be asked about such a model or with such options.
    """
    answers = DISTANCES.load(question.name)
    with unsaid():  # the whole run has a note
        began, found = time.monotonic(), iter(answers(question))
        for first in found:
            some = [first] if first.seconds is not None else [first, *found]
            even = (time.monotonic() - began) / len(some)
            for answer in some:
                yield _verdict(question.name, answer, even), _measured(answer)
            began = time.monotonic()


def distances(task: Task) -> Iterator[tuple[int, Verdict, Measured]]:
    """The answers of a specification's measure of distances, in its space; samples that are wrong as they are first.

    A proven distance is rounded down, that of a witness up.
    """
    from tfcert.estimates.question import DistanceQuestion

    template, batch = task.template, make_batch(task)
    assert isinstance(template, DistanceTemplate) and task.outputs is not None and task.centers is not None
    wrong, margins = broken(batch, task.outputs), margin_at(batch, task.outputs)
    for place in np.flatnonzero(wrong).tolist():
        yield place, clean_verdict(task, place, float(margins[place])), unperturbed(template.info.name)
    right = np.flatnonzero(~wrong)
    if not len(right):
        return
    network = task.model.network
    clip = clip_of(template, tuple(network.input_shape), network.dtype.as_numpy_dtype)
    question = DistanceQuestion(
        template.info.name,
        task.model.model,
        task.centers[right],
        np.array([task.labels[i] for i in right], int),
        task.samples[right].tolist(),
        template.region.norm,
        clip,
        template.settled(),
    )
    try:
        for place, (verdict, measured) in zip(right.tolist(), measured_distances(question), strict=True):
            yield place, verdict, _scaled(measured, template.unit)
    except ValueError as error:
        raise UsageError(f"{task.name}: {error}") from error


def _scaled(measured: Measured, unit: Fraction) -> Measured:
    """Distances in network space as those of a space whose unit has that size there."""

    def each(value: float, rounding: Callable[[Fraction], float]) -> float:
        return rounding(Fraction(value) / unit) if math.isfinite(value) else value

    return replace(
        measured,
        lower=each(measured.lower, float_down),
        upper=each(measured.upper, float_up),
        estimate=each(measured.estimate, float),
    )


def unperturbed(name: str) -> Measured:
    """The distances of a sample that is misclassified as it is: 0, by whichever way."""
    info = DISTANCES[name]
    estimate, optimal = 0.0 if info.estimates else math.nan, True if info.proves and info.refutes else None
    return Measured(0.0, 0.0, estimate=estimate, optimal=optimal)


def _verdict(name: str, answer: DistanceAnswer, seconds: float) -> Verdict:
    late = reason_of(answer.reason) in _LATE
    outcome = Outcome.VERIFIED if answer.lower > 0 else Outcome.TIMEOUT if late else Outcome.UNKNOWN
    guarantee = answer.guarantee
    if outcome is not Outcome.VERIFIED:
        guarantee = Guarantee.ESTIMATE if answer.witness is None else Guarantee.REPLAYED
    spent = seconds if answer.seconds is None else answer.seconds
    return Verdict(
        outcome, answer.reason, name, name, "", guarantee, math.nan, spent, answer.witness, work=answer.work
    )  # fmt: skip


def _measured(answer: DistanceAnswer) -> Measured:
    lower = answer.lower if answer.lower > 0 else math.nan
    return Measured(lower, answer.upper, estimate=answer.estimate, optimal=answer.optimal)
