"""A specification's measure of distances to another class, in the space that it is asked in."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from tfcert.driver.arrivals import normalization, to_unit
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
from tfcert.verdict import Guarantee, Reason, Verdict


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
    network, measured_on = task.model.network, _where_balls_are(task)
    clip = clip_of(
        replace(template, transform=template.space), tuple(network.input_shape), network.dtype.as_numpy_dtype
    )
    question = DistanceQuestion(
        template.info.name,
        measured_on,
        _before(task, task.centers[right]),
        np.array([task.labels[i] for i in right], int),
        task.samples[right].tolist(),
        template.region.norm,
        clip,
        template.settled(),
    )
    try:
        for place, (verdict, measured) in zip(right.tolist(), measured_distances(question, network), strict=True):
            yield place, *_after(task, place, verdict, _scaled(measured, template.unit))
    except ValueError as error:
        raise UsageError(f"{task.name}: {error}") from error


def _where_balls_are(task: Task) -> Any:
    """The model of inputs in the space in which the distance is one number: behind its normalisation if need be.

    Raises:
        UsageError: it cannot be put behind one.
    """
    template = task.template
    assert isinstance(template, DistanceTemplate)
    if template.space == template.transform:
        return task.model.model
    from tfcert.network.keras.preprocessing import with_preprocessing

    mean, std = normalization(template.transform, tuple(task.model.network.input_shape))
    try:
        return with_preprocessing(task.model.model, mean=mean, std=std)
    except (ValueError, AttributeError) as error:
        raise UsageError(f"{task.name}: {error}; write the distance `in net`") from error


def _before(task: Task, centers: np.ndarray) -> np.ndarray:
    """Samples of the network in the space of the distance."""
    template = task.template
    assert isinstance(template, DistanceTemplate)
    if template.space == template.transform:
        return centers
    return to_unit(template.transform, np.asarray(centers)).astype(centers.dtype)


def _after(task: Task, place: int, verdict: Verdict, measured: Measured) -> tuple[Verdict, Measured]:
    """The answer with a witness of the network itself; one that does not reproduce there counts for nothing."""
    template = task.template
    assert isinstance(template, DistanceTemplate) and task.centers is not None
    if template.space == template.transform or verdict.witness is None:
        return verdict, measured
    mean, std = normalization(template.transform, tuple(task.model.network.input_shape))
    point = ((verdict.witness.astype(np.float64) - mean) / std).astype(task.centers.dtype)
    sample = make_batch(task.take(np.array([place])))
    if broken(sample, task.model.outputs(point[None]))[0]:
        return replace(verdict, witness=point), measured
    guarantee = Guarantee.ESTIMATE if verdict.guarantee is Guarantee.REPLAYED else verdict.guarantee
    lost = replace(verdict, witness=None, reason=Reason.SPURIOUS.because(), guarantee=guarantee)
    return lost, replace(measured, upper=math.nan, optimal=None)


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
