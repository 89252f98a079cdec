"""The protocol of a stage: prepared once for a task, outside of its samples' time, and then run on batches.

A stage claims, and whoever runs it judges: a witness counts when it replays on the original model, a proof when its
margin is one (see ``tfcert.driver.property``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from tfcert.catalog import STAGES
from tfcert.driver.batch import Batch
from tfcert.driver.budget import StageBudget
from tfcert.driver.task import Task
from tfcert.errors import UsageError
from tfcert.language import StageSpec
from tfcert.options import BoundOptions
from tfcert.verdict import NO_WORK, Guarantee, Outcome, Work

Tell = Callable[[int, float], None]
"""Is told that a stage begins with a sample of its batch (NaN), or of a lower bound of its margin; see ``Finding``."""


@dataclass(frozen=True)
class Finding:
    """The answer of a stage about one sample of its batch.

    Attributes:
        place: of the sample in the batch.
        outcome: verified: ``margin`` proves the formula by ``guarantee``; timeout: the time that the stage was given
            did not suffice; anything else leaves the sample open, unless there is a witness.
        reason: why the sample is open, in a sentence for the reader; "" where the best margin, or that the budget is
            used up, says it all.
        margin: a lower bound of the margin by ``guarantee``; NaN where nothing is known.
        rounding: what the rounding of the model's own arithmetic may take from it.
        witness: ``[*input]`` in the model's dtype, or None.
        guarantee: of ``margin``.
        seconds: that the sample took; those of a batch are shared out evenly.
        work: that was done for it.
        found: what a proof rests on, for its certificate, in the stage's own terms; None where nothing is kept.
    """

    place: int
    outcome: Outcome = Outcome.UNKNOWN
    reason: str = ""
    margin: float = float("nan")
    rounding: float = 0.0
    witness: np.ndarray | None = None
    guarantee: Guarantee = Guarantee.ESTIMATE
    seconds: float = 0.0
    work: Work = NO_WORK
    found: Any = field(default=None, repr=False, compare=False)


class Running(Protocol):
    """A stage that is prepared: nothing is traced, encoded or started any more."""

    def decide(self, batch: Batch, budget: StageBudget, tell: Tell) -> Iterator[Finding]:
        """One finding for each sample of the batch, in any order, each as soon as it is known.

        No piece of work is begun that is expected to take more time than is left.
        """


@dataclass(frozen=True)
class NearestStart:
    """The beginning of a search for the nearest witness, in network space.

    Attributes:
        witness: a first one, if any is known.
        proven: the distance up to which bounds prove that there is none.
        tell: is told both distances whenever one of them moves (infinite: no witness).
    """

    witness: np.ndarray | None
    proven: float
    tell: Callable[[float, float], None] = lambda lower, upper: None


@dataclass(frozen=True)
class Nearest:
    """The distance of one sample's nearest witness, in network space and the norm of its ball.

    Attributes:
        lower: no witness is nearer, by ``guarantee``; 0 where nothing is known.
        witness: ``[*input]`` in the model's dtype, or None.
        reason: why the two are still apart; "" where they are not.
        work: that was done.
    """

    lower: float
    witness: np.ndarray | None
    guarantee: Guarantee = Guarantee.ESTIMATE
    reason: str = ""
    work: Work = NO_WORK


class Measuring(Running, Protocol):
    """A prepared stage of the kind ``solver``, which can be asked for distances, too."""

    def nearest(self, sample: Batch, start: NearestStart, budget: StageBudget) -> Nearest:
        """The nearest witness in the ball of the one sample of a batch."""


class Stage(Protocol):
    """A stage of a strategy; the class that ``tfcert.catalog.STAGES`` names is called with its name and options."""

    def refuses(self, task: Task) -> str:
        """The reason why the stage cannot be run on a task, in a sentence; "" if it can. Nothing is run to find out."""

    def open(self, task: Task, options: BoundOptions) -> AbstractContextManager[Any]:
        """Prepares the stage: traces, compiles, encodes, starts processes.

        Args:
            task: the samples that are left to the stage when it is first needed; there may be others later.
            options: of bound computations.

        Returns:
            A context that holds a :class:`Running`, of the kind ``solver`` a :class:`Measuring` one, and what it needs.
        """


def stage_of(spec: StageSpec) -> Stage:
    """The stage that a strategy calls."""
    stage: Stage = STAGES.words()[spec.name].load()(spec)
    return stage


def require_stages(task: Task) -> None:
    """Checks that every stage of a task's strategy can be run on it.

    Raises:
        UsageError: one cannot.
    """
    for spec in task.template.strategy.stages:
        refusal = stage_of(spec).refuses(task)
        if refusal:
            raise UsageError(refusal)
