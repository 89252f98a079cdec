"""Stages that find a witness or prove that there is none: branch and bound, and integer programs."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tfcert.complete.prepare import Prepared, Setup, prepared
from tfcert.complete.search.query import Query
from tfcert.complete.search.witness import Judge
from tfcert.complete.solver.process import SolverSettings
from tfcert.driver.batch import Batch, broken, make_batch
from tfcert.driver.budget import StageBudget
from tfcert.driver.stages.base import Finding, Nearest, NearestStart, Tell
from tfcert.driver.task import Task
from tfcert.language import StageSpec
from tfcert.options import BoundOptions
from tfcert.sets.balls import LpBall
from tfcert.verdict import Outcome


@dataclass(frozen=True)
class CompleteStage:
    """The stages ``split`` and ``milp``; they decide one sample after the other."""

    spec: StageSpec

    def refuses(self, task: Task) -> str:
        """Nothing: whatever can be loaded is encoded, if need be by an enclosure."""
        return ""

    @contextlib.contextmanager
    def open(self, task: Task, options: BoundOptions) -> Iterator[RunningComplete]:
        """Flattens the network, traces bounds and pieces, starts the solvers; their processes end with the context."""
        example, loaded = make_batch(task.take(np.arange(1))), task.model
        setup = _setup(self.spec, options)
        with prepared(loaded.network, loaded.model, example.regions.proof, example.clauses, setup) as ready:
            yield RunningComplete(ready)


def _setup(spec: StageSpec, options: BoundOptions) -> Setup:
    """The setup of the stage's decisions, by its options; not guided, a measure is one plain program."""
    confirm, tighten = spec.option("confirm"), str(spec.option("tighten", "none"))
    settings = SolverSettings(
        solver=str(spec.option("solver", SolverSettings.solver)),
        gap=float(spec.option("gap", SolverSettings.gap)),
        threads=int(spec.option("threads", SolverSettings.threads)),
        confirm=None if confirm is None else str(confirm).replace("_", "-"),
    )
    ways = (spec.name,) if spec.option("guided", True) else ()
    return Setup(ways, "crown" if tighten == "none" else tighten, options, settings)


class RunningComplete:
    """Decides samples one after the other, each in its own time."""

    def __init__(self, ready: Prepared):
        self._ready = ready

    def decide(self, batch: Batch, budget: StageBudget, tell: Tell) -> Iterator[Finding]:
        """Proofs and witnesses; a sample without time left is not begun."""
        for place in range(len(batch)):
            sample = batch.take(np.array([place]))
            with budget.paused():
                self._ready.ready()
            began, left = budget.used(), budget.begin(np.array([place]))()
            if left <= 0:
                yield Finding(place, Outcome.TIMEOUT)
                continue
            tell(place, math.nan)
            region, query = sample.regions, sample.known.get(int(sample.task.samples[0]))
            decision = self._ready.decide(
                region.proof,
                Judge(self._ready.builder.model, region.witness or region.proof, sample.clauses, _breaks(sample)),
                None if math.isinf(left) else left,
                tell=functools.partial(tell, place),
                known=query if isinstance(query, Query) else None,
            )
            sample.known[int(sample.task.samples[0])] = decision.left
            yield Finding(
                place,
                decision.outcome,
                decision.reason,
                decision.margin,
                decision.rounding,
                decision.witness,
                decision.guarantee,
                budget.used() - began,
                decision.work,
            )

    def nearest(self, sample: Batch, start: NearestStart, budget: StageBudget) -> Nearest:
        """The nearest witness in the ball of one sample."""
        ball = sample.regions.proof
        assert isinstance(ball, LpBall)
        with budget.paused():
            self._ready.ready()
        left = budget.begin(np.array([0]))()
        least = self._ready.nearest(
            ball,
            Judge(self._ready.builder.model, ball, sample.clauses, _breaks(sample)),
            (start.witness, start.proven),
            None if math.isinf(left) else left,
            tell=start.tell,
        )
        return Nearest(least.lower, least.witness, least.guarantee, least.reason, least.work)


def _breaks(sample: Batch) -> functools.partial[np.ndarray]:
    """Judges by the formula itself: on its boundary, too, whether it is strict there."""
    return functools.partial(broken, sample)
