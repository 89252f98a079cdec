"""Distances to another class, by the ways of ``tfcert.catalog.DISTANCES``, as verdicts and measured values.

Where a way proves a distance the sample is verified; a witness alone, and an estimate, leave it unknown.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tfcert.catalog import DISTANCES
from tfcert.misfit import unsaid
from tfcert.report import Measured
from tfcert.verdict import Guarantee, Outcome, Reason, Verdict, reason_of

if TYPE_CHECKING:
    from tfcert.estimates.question import DistanceAnswer, DistanceQuestion

_LATE = {Reason.TIME_LIMIT, Reason.SAMPLE_BUDGET, Reason.TOTAL_BUDGET}


def measured_distances(question: DistanceQuestion, network: Any) -> Iterator[tuple[Verdict, Measured]]:
    """The verdict and the distances of each sample, in their order, each as soon as it is known; witnesses included.

    Args:
        network: the model as a ``tfcert.Network``.

    Raises:
        UsageError, ValueError: the way cannot be asked about such a model or with such options.
    """
    from tfcert.driver.verdicts import marked_down

    answers = DISTANCES.load(question.name)
    with unsaid():  # the whole run has a note
        began, found = time.monotonic(), iter(answers(question))
        for first in found:
            some = [first] if first.seconds is not None else [first, *found]
            even = (time.monotonic() - began) / len(some)
            for answer in some:
                verdict = _verdict(question.name, answer, even)
                yield marked_down(network, question.options.get("rounding", "ignore"), verdict), _measured(answer)
            began = time.monotonic()


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
