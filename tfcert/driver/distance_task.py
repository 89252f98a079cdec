"""A specification's measure of distances to another class, in the space that it is asked in."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction

import numpy as np

from tfcert.driver.batch import broken, make_batch, margin_at
from tfcert.driver.distances import measured_distances, unperturbed
from tfcert.driver.regions import clip_of
from tfcert.driver.task import Task
from tfcert.driver.verdicts import clean_verdict
from tfcert.errors import UsageError
from tfcert.estimates.question import DistanceQuestion
from tfcert.language import DistanceTemplate
from tfcert.report import Measured
from tfcert.sets.rounding import float_down, float_up
from tfcert.verdict import Verdict


def distances(task: Task) -> Iterator[tuple[int, Verdict, Measured]]:
    """The answers of a specification's measure of distances, in its space; samples that are wrong as they are first.

    A proven distance is rounded down, that of a witness up.
    """
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
