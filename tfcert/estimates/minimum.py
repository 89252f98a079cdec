"""Least perturbations (:func:`tfcert.minimum_perturbation`) as answers to a question about distances."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import fields

from tfcert.complete.api import MinimumOptions, each_minimum
from tfcert.complete.search.minimum import OPTIMAL
from tfcert.complete.solver.process import SolverSettings
from tfcert.estimates.question import DistanceAnswer, DistanceQuestion
from tfcert.options import options_of


def minimum_answers(question: DistanceQuestion) -> Iterator[DistanceAnswer]:
    """The least perturbation of each sample: a proven lower bound, and the distance of a witness."""
    options = dict(question.options)
    settings = {f.name: options.pop(f.name) for f in fields(SolverSettings) if f.name in options}
    upper, _ = options.pop("upper", None), options.pop("targets")
    how = MinimumOptions(solver=SolverSettings(**settings), options=options_of(options.pop("rounding")), **options)
    found = each_minimum(
        question.model, question.x, question.y,
        norm=question.norm, targets=question.targets, upper=upper, clip=question.clip, how=how,
    )  # fmt: skip
    for one in found:
        least = one.least
        yield DistanceAnswer(
            least.lower,
            least.upper if math.isfinite(least.upper) else math.nan,
            guarantee=least.guarantee,
            witness=least.witness,
            optimal=least.optimal(OPTIMAL),
            reason=least.reason,
            seconds=one.seconds,
            work=least.work,
        )
