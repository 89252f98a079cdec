"""Stages that find a witness or prove that there is none: branch and bound, and integer programs."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tfcert.attacks.gradient import Left
from tfcert.catalog import BOUNDS
from tfcert.clauses import Clauses
from tfcert.complete.prepare import Prepared, Setup, prepared
from tfcert.complete.search.decide import Decision
from tfcert.complete.search.query import Query
from tfcert.complete.search.witness import Judge
from tfcert.complete.solver.process import SolverSettings
from tfcert.driver.batch import Batch, broken, make_batch
from tfcert.driver.budget import StageBudget
from tfcert.driver.stages.base import Finding, Nearest, NearestStart, Tell
from tfcert.driver.stages.bound import refusal
from tfcert.driver.task import Task
from tfcert.errors import UsageError
from tfcert.language import BallSpec, StageSpec
from tfcert.options import BoundOptions
from tfcert.sets.balls import LpBall
from tfcert.verdict import NO_WORK, Because, Guarantee, Outcome, Reason, Work, reason_of


@dataclass(frozen=True)
class CompleteStage:
    """The stages ``split`` and ``milp``; they decide one sample after the other."""

    spec: StageSpec

    def refuses(self, task: Task) -> str:
        """Bounds that a network does not have, a guide without a ball, and one class of a formula that asks about none.

        Beyond that nothing: whatever can be loaded is encoded, if need be by an enclosure.
        """
        refused = refusal(task.model, BOUNDS.find(_bounds(self.spec)).method, None)
        if refused:
            return refused
        several = task.placed is not None
        if several and _one_class(self.spec):
            return f"{self.spec.name}(targets=runner_up) is for `argmax(...) == y` of one network at one point"
        if self.spec.option("guide") is not None and (several or not isinstance(task.template.region, BallSpec)):
            return f"{self.spec.name}(guide=...) looks around a sample: it needs a `ball`, not a box or several regions"
        if _one_class(self.spec) and len(task.samples) and runner_up(make_batch(task.take(np.arange(1)))) is None:
            return f"{self.spec.name}(targets=runner_up) is for `argmax(...) == y`, where each class has its own margin"
        return ""

    @contextlib.contextmanager
    def open(self, task: Task, options: BoundOptions) -> Iterator[RunningComplete]:
        """Flattens the network, traces bounds and pieces, starts the solvers; their processes end with the context."""
        example, loaded = make_batch(task.take(np.arange(1))), task.model
        setup = _setup(self.spec, options)
        with prepared(loaded.network, loaded.model, example.regions.proof, example.clauses, setup) as ready:
            yield RunningComplete(ready, _one_class(self.spec))


def _bounds(spec: StageSpec) -> str:
    """The way in which the stage bounds neurons; ``tighten`` is an older word for two of them."""
    tighten = str(spec.option("tighten", "none"))
    return str(spec.option("bounds", "crown" if tighten == "none" else tighten))


def _one_class(spec: StageSpec) -> bool:
    return bool(spec.option("targets", "all") == "runner_up")


@dataclass(frozen=True)
class OneClass:
    """The clause against the runner-up class, and that class."""

    clause: int
    label: int


def runner_up(sample: Batch) -> OneClass | None:
    """The clause of one sample that is nearest to being broken at its centre, and the class that it is about.

    None where the clauses are not one for each other class: that one output is larger.
    """
    coefficients, counts = sample.clauses.coefficients[0], sample.clauses.counts[0].sum(axis=1)
    real = np.flatnonzero(counts > 0)
    rows = coefficients[real, 0]
    pairs = (np.sort(rows, axis=1)[:, [0, -1]] == [-1, 1]).all(axis=1) & (np.count_nonzero(rows, axis=1) == 2)
    alike = len(real) and (counts[real] == 1).all() and pairs.all() and len(set(rows.argmax(axis=1))) == 1
    if not alike or (sample.clauses.offsets[0, real, 0] != 0).any() or sample.task.outputs is None:
        return None
    margins = rows @ sample.task.model.scores(sample.task.outputs)[0]
    nearest = int(margins.argmin())
    return OneClass(int(real[nearest]), int(rows[nearest].argmin()))


def _setup(spec: StageSpec, options: BoundOptions) -> Setup:
    """The setup of the stage's decisions, by its options; not guided, a measure is one plain program."""
    confirm = spec.option("confirm")
    settings = SolverSettings(
        solver=str(spec.option("solver", SolverSettings.solver)),
        gap=float(spec.option("gap", SolverSettings.gap)),
        threads=int(spec.option("threads", SolverSettings.threads)),
        confirm=None if confirm is None else str(confirm).replace("_", "-"),
    )
    cut = str(spec.option("cut", "auto"))
    ways = (spec.name if cut == "auto" else cut,) if spec.option("guided", True) else ()
    prove = bool(spec.option("prove", False))
    return Setup(ways, _bounds(spec), str(spec.option("guide", "")), options, settings, prove)


class RunningComplete:
    """Decides samples one after the other, each in its own time."""

    def __init__(self, ready: Prepared, one_class: bool = False):
        self._ready, self._one_class = ready, one_class

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
            region, query = sample.regions, sample.known.get(sample.key)
            witness, work = self._guided(sample, _until(budget, began + left))
            if witness is not None:
                seconds = budget.used() - began
                yield Finding(place, Outcome.FALSIFIED, witness=witness, seconds=seconds, work=work)
                continue
            one, left = runner_up(sample) if self._one_class else None, left - (budget.used() - began)
            decision = self._ready.decide(
                region.proof,
                Judge(self._ready.builder.model, region.witness or region.proof, sample.clauses, _breaks(sample)),
                None if math.isinf(left) else left,
                tell=functools.partial(tell, place),
                known=query if isinstance(query, Query) else None,
                only=None if one is None else one.clause,
            )
            sample.known[sample.key] = decision.left
            yield Finding(
                place,
                decision.outcome,
                decision.reason if one is None else _about(one, decision),
                decision.margin,
                decision.rounding,
                decision.witness,
                decision.guarantee,
                budget.used() - began,
                decision.work + work,
                decision.parts,
            )

    def nearest(self, sample: Batch, start: NearestStart, budget: StageBudget) -> Nearest:
        """The nearest witness in the ball of one sample."""
        ball = sample.regions.proof
        assert isinstance(ball, LpBall)
        with budget.paused():
            self._ready.ready()
        began, left = budget.used(), budget.begin(np.array([0]))()
        one = runner_up(sample) if self._one_class else None
        judge = Judge(self._ready.builder.model, ball, sample.clauses, _breaks(sample))
        if one is not None:
            row = sample.clauses.coefficients[:, [one.clause]], sample.clauses.offsets[:, [one.clause]]
            judge = Judge(self._ready.builder.model, ball, Clauses(*row, sample.clauses.reads))
        witness, work = self._guided(sample, _until(budget, began + left))
        left -= budget.used() - began
        known = [point for point in (start.witness, witness) if point is not None and judge.confirm(point) is not None]
        least = self._ready.nearest(
            ball,
            judge,
            (min(known, key=judge.distance, default=None), start.proven),
            None if math.isinf(left) else left,
            tell=start.tell if one is None else lambda lower, upper: None,
        )
        if one is None:
            return Nearest(least.lower, least.witness, least.guarantee, least.reason, least.work + work)
        # Not a word about other classes, so nothing is proven of the measure; a witness is one whatever its class.
        reached = f"reached at {least.upper:.6g}" if least.witness is not None else "not reached"
        said = f"class {one.label}, the runner-up, is no nearer than {least.lower:.6g} ({least.guarantee}), {reached}"
        said += f" ({least.reason})" if least.reason else ""
        reason = Reason.ONE_CLASS.because(said=said)
        return Nearest(start.proven, least.witness, Guarantee.ESTIMATE, reason, least.work + work)

    def _guided(self, sample: Batch, left: Left) -> tuple[np.ndarray | None, Work]:
        """The witness of the guide around one sample, if there is a guide and it finds one.

        Raises:
            UsageError: the set is no ball in network space.
        """
        region = sample.regions.witness
        if not self._ready.setup.guide or region is None or left() <= 0:
            return None, NO_WORK
        if not isinstance(region, LpBall):
            raise UsageError(
                f"guide={self._ready.setup.guide} looks in balls that are alike in all channels: ask in `net` space, "
                "or normalise all channels by the same number"
            )
        found, gradients = self._ready.guided(region, sample.clauses, left)
        return None if np.isnan(found[0]).any() else found[0], Work(gradients=int(gradients[0]))


def _until(budget: StageBudget, end: float) -> Left:
    """The seconds that are left until so many have been used."""
    return lambda: end - budget.used()


def _about(one: OneClass, decision: Decision) -> Because:
    """The reason of a decision about one class, which says so."""
    if decision.outcome in (Outcome.VERIFIED, Outcome.FALSIFIED):
        return Because(decision.reason, reason_of(decision.reason))
    told = f"class {one.label}, the runner-up, is "
    if one.clause in decision.proven and not decision.reason:
        word = Guarantee.SOLVER if decision.believed else decision.level
        return Reason.ONE_CLASS.because(said=f"{told}not reached ({word}); other classes are open")
    return Because(f"{told}open: {decision.reason}", reason_of(decision.reason))


def _breaks(sample: Batch) -> functools.partial[np.ndarray]:
    """Judges by the formula itself: on its boundary, too, whether it is strict there."""
    return functools.partial(broken, sample)
