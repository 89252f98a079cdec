"""Where proofs about one sample of a specification lose, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from tfcert.catalog import METHODS
from tfcert.certification.layers import ProofLosses, losses_of
from tfcert.driver.batch import make_batch
from tfcert.driver.bind import BoundSpec
from tfcert.driver.stages.bound import refusal
from tfcert.driver.task import Task
from tfcert.language import MeasureTemplate, PropertyTemplate, StageKind, Strategy
from tfcert.options import options_of


def explain_sample(
    bound: BoundSpec, sample: int, radius: Fraction | None = None
) -> Iterator[tuple[str, ProofLosses | str]]:
    """Of each question what its proof loses at one sample, or the reason why that is not known, in a sentence.

    Args:
        bound: a specification with its models and samples.
        sample: the index in the data set; 0 of a question without samples.
        radius: that which measures of radii are asked about.
    """
    for task in bound.tasks:
        yield task.name, _explained(task, sample, radius)


def _explained(task: Task, sample: int, radius: Fraction | None) -> ProofLosses | str:
    template = task.template
    places = np.flatnonzero(np.asarray(task.samples) == sample)
    if not isinstance(template, PropertyTemplate | MeasureTemplate):
        return "values, shares of volume and distances are searched for by many proofs"
    if isinstance(template, MeasureTemplate) and radius is None:
        return "a radius is searched for by many proofs: --radius R looks at one of them"
    if not len(places):
        return f"it does not ask about sample {sample}"
    if task.pieces:
        return "its region has several pieces, with a proof for each"
    method, relaxation = _bounding(template.strategy)
    refused = refusal(task.model, method, relaxation)
    if refused:
        return refused
    batch = make_batch(task.take(places[:1]), None if radius is None else [radius])
    options = options_of(template.strategy.rounding)
    return losses_of(task.model.network, batch.regions.proof, batch.clauses, method, relaxation, options)


def _bounding(strategy: Strategy) -> tuple[str, str | None]:
    """The method and relaxation of a strategy's last stage that propagates bounds; ``crown`` without one."""
    stages = [s for s in strategy.stages if s.kind is StageKind.BOUND and not METHODS.find(s.method).asks_solver]
    return (stages[-1].method, stages[-1].relaxation) if stages else ("crown", None)
