"""Stages that prove by a solver's bounds of the margin, one sample after the other: ``lp``."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from tfcert.complete.bounds import row_bounds
from tfcert.complete.prepare import Prepared
from tfcert.complete.search.query import Solvers
from tfcert.driver.batch import Batch
from tfcert.driver.budget import StageBudget
from tfcert.driver.stages.base import Finding, Tell
from tfcert.language import StageSpec
from tfcert.propagation.supported import level_of
from tfcert.rigour.margins import rounding
from tfcert.rigour.radius import lost_in_ties
from tfcert.tracing import timed
from tfcert.verdict import NO_REASON, Guarantee, Outcome, Reason, Work, is_proof

_LATE = "{} was cut short: some rows have no bound but CROWN's"


class RunningSolved:
    """Bounds samples one after the other, each in its own time: what is known by its end counts."""

    def __init__(self, spec: StageSpec, ready: Prepared):
        self._ready, self._name, self._guarantee = ready, spec.name, level_of(ready.builder.net.network.rounding)
        self._builder = replace(ready.builder, rounded=False)  # rounding is taken from the margins

    def decide(self, batch: Batch, budget: StageBudget, tell: Tell) -> Iterator[Finding]:
        """The margins of all samples; one without time left is not begun."""
        for place in range(len(batch)):
            with budget.paused():
                self._ready.ready()
            began, left = budget.used(), budget.begin(np.array([place]))()
            if left <= 0:
                yield Finding(place, Outcome.TIMEOUT)
                continue
            tell(place, math.nan)
            sample, solvers = batch.take(np.array([place])), self._solvers(left)
            spent = solvers.spent()
            try:
                with timed():
                    proof, how = sample.regions.proof, (math.inf, False)
                    lower, combined = row_bounds(self._builder, proof, sample.clauses, solvers, how)
            except TimeoutError:
                yield Finding(place, Outcome.TIMEOUT, seconds=budget.used() - began)
                continue
            rows, _ = sample.clauses.rows()
            network = sample.task.model.network
            charged = self._guarantee is not Guarantee.NUMERIC
            lost = lost_in_ties(network, sample.clauses) if charged else rounding(network, sample.regions.proof, rows)
            together = None if combined is None else combined[None]
            (margin,), (taken,) = sample.clauses.certified(lower[None], lost, together)
            late = solvers.left() <= 0
            reason = Reason.TIME_LIMIT.because(said=_LATE.format(self._name)) if late else NO_REASON
            outcome = Outcome.VERIFIED if is_proof(margin, taken) else Outcome.TIMEOUT if late else Outcome.UNKNOWN
            work = Work(evaluations=1, solver_seconds=solvers.spent() - spent)
            yield Finding(
                place,
                outcome,
                reason,
                margin=float(margin),
                rounding=float(taken),
                guarantee=self._guarantee,
                seconds=budget.used() - began,
                work=work,
            )

    def _solvers(self, seconds: float) -> Solvers:
        return Solvers(self._ready.first, (), time.monotonic() + seconds)
