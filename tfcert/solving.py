"""What a stage that asks a solver is: it decides one sample at a time, within a time of its own.

``SOLVERS`` has one entry for each such stage of the language.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

import numpy as np

from tfcert.binding import Task
from tfcert.language import Stage
from tfcert.options import BoundOptions
from tfcert.query import Guarantee, Outcome
from tfcert.stages import Batch


class Decision(Protocol):
    """What a solver came to on one sample.

    Attributes:
        outcome, reason: verified: no witness exists; falsified: ``witness`` is one; else why it is open.
        margin: the proven lower bound of the margin; NaN where there is none.
        witness: ``[*input]`` in the model's dtype, or None.
        guarantee: of a proof: ``numeric`` or ``solver``.
    """

    @property
    def outcome(self) -> Outcome: ...
    @property
    def reason(self) -> str: ...
    @property
    def margin(self) -> float: ...
    @property
    def witness(self) -> np.ndarray | None: ...
    @property
    def guarantee(self) -> Guarantee: ...


class Nearest(Protocol):
    """How near the nearest witness of one sample is, in network space and the norm of its ball.

    Attributes:
        lower: no witness is nearer, by ``guarantee``; 0 where nothing is known.
        witness: ``[*input]`` in the model's dtype, or None.
        reason: why the two are still apart; "" where they are not.
    """

    @property
    def lower(self) -> float: ...
    @property
    def witness(self) -> np.ndarray | None: ...
    @property
    def guarantee(self) -> Guarantee: ...
    @property
    def reason(self) -> str: ...


class Solver(Protocol):
    """Answers about batches of one sample; ``seconds`` is the most that an answer may take, None for no limit."""

    def decide(self, sample: Batch, seconds: float | None) -> Decision:
        """Whether there is a witness in the sample's region."""

    def nearest(self, sample: Batch, witness: np.ndarray | None, proven: float, seconds: float | None) -> Nearest:
        """The nearest witness in the sample's ball.

        ``witness`` is a first one, if any is known; up to the distance ``proven`` bounds prove that there is none.
        """


SOLVERS: dict[str, Callable[[Task, Stage, BoundOptions], AbstractContextManager[Solver]]] = {}
"""By the stage's name; the context holds the solver's processes."""


def most_seconds(stage: Stage, remaining: float | None) -> float | None:
    """What an answer may take: the stage's ``time_limit``, or what is left of the budget if that is less."""
    limits = [float(limit) for limit in (stage.option("time_limit"), remaining) if limit is not None]
    return min(limits, default=None)
