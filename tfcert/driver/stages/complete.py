"""What a stage that asks a solver is: it decides one sample at a time, within a time of its own.

``SOLVERS`` has one entry for each such stage of the language.
"""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from tfcert.complete.encoding.piecewise import flatten
from tfcert.complete.prepare import solver_processes
from tfcert.complete.search.builder import QueryBuilder
from tfcert.complete.search.decide import TellMargin, decide
from tfcert.complete.search.minimum import NearestSearch, minimum, plain_minimum
from tfcert.complete.search.query import Solvers
from tfcert.complete.search.witness import Judge
from tfcert.complete.solver.process import SolverProcess, SolverSettings
from tfcert.driver.batch import Batch, broken
from tfcert.driver.bind import Task
from tfcert.language import Stage
from tfcert.options import BoundOptions
from tfcert.sets.balls import LpBall, Perturbation
from tfcert.verdict import Guarantee, Outcome


class SolverDecision(Protocol):
    """What a solver came to on one sample.

    Attributes:
        outcome, reason: verified: no witness exists; falsified: ``witness`` is one; else why it is open.
        margin: the proven lower bound of the margin; NaN where there is none.
        rounding: what the rounding of the model's own arithmetic may take from it.
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
    def rounding(self) -> float: ...
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


@dataclass(frozen=True)
class NearestStart:
    """What a search for the nearest witness begins with, in network space.

    Attributes:
        witness: a first one, if any is known.
        proven: the distance up to which bounds prove that there is none.
        tell: is told both distances whenever one of them moves (infinite: no witness).
    """

    witness: np.ndarray | None
    proven: float
    tell: Callable[[float, float], None] = lambda lower, upper: None


class Solver(Protocol):
    """Answers about batches of one sample; ``seconds`` is the most that an answer may take, None for no limit."""

    def decide(self, sample: Batch, seconds: float | None, tell: TellMargin) -> SolverDecision:
        """Whether there is a witness in the sample's region; ``tell`` is told lower bounds of the margin."""

    def nearest(self, sample: Batch, start: NearestStart, seconds: float | None) -> Nearest:
        """The nearest witness in the sample's ball."""


class Complete:
    """Branch and bound or integer programs (``tfcert.complete``) about the samples of one task.

    ``ways`` are those of :func:`~tfcert.complete.search.decide.decide`; none stands for one plain program.
    """

    def __init__(
        self, builder: QueryBuilder, processes: tuple[SolverProcess, tuple[SolverProcess, ...]], ways: tuple[str, ...]
    ):
        self._builder, self._processes, self._ways = builder, processes, ways

    def decide(self, sample: Batch, seconds: float | None, tell: TellMargin) -> SolverDecision:
        """Whether there is a witness in the sample's region."""
        solvers = self._solvers(seconds)
        regions = sample.regions
        judge = _judge(self._builder.model, regions.witness or regions.proof, sample)
        query = self._builder.query(regions.proof.astype(np.float64), judge, solvers)
        return decide(query, solvers, ways=self._ways or ("milp",), tell=tell)

    def nearest(self, sample: Batch, start: NearestStart, seconds: float | None) -> Nearest:
        """The nearest witness in the sample's ball."""
        solvers, ball = self._solvers(seconds), sample.regions.proof
        assert isinstance(ball, LpBall)
        judge = _judge(self._builder.model, ball, sample)
        search = NearestSearch(
            lambda some: self._builder.query(some, judge, solvers),
            judge,
            ball.astype(np.float64),
            start.witness,
            start.proven,
            self._ways,
            tell=start.tell,
        )
        return (minimum if self._ways else plain_minimum)(search, solvers)

    def _solvers(self, seconds: float | None) -> Solvers:
        return Solvers(*self._processes, time.monotonic() + (math.inf if seconds is None else seconds))


def _judge(model: Any, region: Perturbation, sample: Batch) -> Judge:
    """Judges by the formula itself: on its boundary, too, whether it is strict there."""
    return Judge(model, region, sample.clauses, functools.partial(broken, sample))


@contextlib.contextmanager
def open_complete(task: Task, stage: Stage, options: BoundOptions) -> Iterator[Complete]:
    """The stages ``split`` and ``milp`` with their options, its processes ended when the context is left."""
    settings = SolverSettings(
        solver=str(stage.option("solver", "cbc")),
        gap=float(stage.option("gap", SolverSettings.gap)),
        threads=int(stage.option("threads", 1)),
        confirm=None if stage.option("confirm") is None else str(stage.option("confirm")).replace("_", "-"),
    )
    tighten = str(stage.option("tighten", "none"))
    bounds = "crown" if tighten == "none" else tighten
    builder = QueryBuilder(flatten(task.model.network), task.model.model, bounds, options)
    with solver_processes(settings) as processes:
        yield Complete(builder, processes, (stage.name,) if stage.option("guided", True) else ())


SOLVERS: dict[str, Callable[[Task, Stage, BoundOptions], AbstractContextManager[Solver]]] = {
    "split": open_complete,
    "milp": open_complete,
}
"""By the stage's name; the context holds the solver's processes."""


def most_seconds(stage: Stage, remaining: float | None) -> float | None:
    """What an answer may take: the stage's ``time_limit``, or what is left of the budget if that is less."""
    limits = [float(limit) for limit in (stage.option("time_limit"), remaining) if limit is not None]
    return min(limits, default=None)
