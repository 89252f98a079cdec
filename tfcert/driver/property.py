"""One batch of a property on its way down the stages of its strategy.

Each stage sees what earlier ones left open. A sample that is proven is still attacked by stages listed later: a
witness against the proof means that whoever gave it was wrong, and is what counts.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np

from tfcert.driver.batch import (
    Batch,
    attack_batch,
    broken,
    certified_margins,
    make_batch,
    margin_at,
    relaxation_name,
    replay_claims,
)
from tfcert.driver.bind import Task
from tfcert.driver.progress import Standing, Watch
from tfcert.driver.stages.complete import SOLVERS, SolverDecision, most_seconds
from tfcert.driver.verdicts import as_asked, clean_verdict, refuted
from tfcert.language import BoxSpec, Stage, StageKind
from tfcert.options import BoundOptions
from tfcert.verdict import Guarantee, Outcome, Verdict, is_proof

PROOFS = (Guarantee.NUMERIC, Guarantee.SOLVER)
"""What a solver's proof may promise."""
SPURIOUS = "spurious witness: what was found does not replay on the original model"


@dataclass
class Clock:
    """The time that a strategy has used, against its budget (seconds; None for no limit).

    It is looked at between stages: a stage that has begun on a batch runs to its end, and its time is shared out
    evenly among the samples. Only a solver, which takes one sample at a time, is told what remains.
    """

    per_sample: Fraction | None = None
    total: Fraction | None = None
    started: float = field(default_factory=time.monotonic)

    def out_of_total(self) -> bool:
        return self.total is not None and time.monotonic() - self.started >= self.total

    def reason(self, spent: float) -> str:
        """Why a sample that has used ``spent`` seconds must stop; "" if it may go on."""
        if self.out_of_total() and self.total is not None:
            return f"the total budget of {float(self.total):g} s is used up"
        if self.per_sample is not None and spent >= self.per_sample:
            return f"the budget of {float(self.per_sample):g} s a sample is used up"
        return ""

    def remaining(self, spent: float) -> float | None:
        """What is left to a sample that has used ``spent`` seconds, at least 0; None for no limit."""
        left = [] if self.per_sample is None else [float(self.per_sample) - spent]
        left += [] if self.total is None else [float(self.total) - (time.monotonic() - self.started)]
        return max(0.0, min(left)) if left else None


class PropertyRun:
    """The state of one batch while it goes down the stages; ``run`` yields (place, verdict) as samples finish.

    ``watch`` is told when a solver begins with a sample.
    """

    def __init__(self, task: Task, clock: Clock, options: BoundOptions, watch: Watch = lambda standing: None):
        self._task, self._clock, self._options, self._watch = task, clock, options, watch
        self._stages = task.template.strategy.stages
        count = len(task.samples)
        self._open = np.arange(count)
        self._seconds = np.zeros(count)
        self._best = np.full(count, np.nan)  # the best margin known, and what rounding may take from it
        self._rounding = np.zeros(count)
        self._doubts: dict[int, Verdict] = {}  # why a stage left a sample open, should it stay so
        self._held: dict[int, Verdict] = {}

    def run(self) -> Iterator[tuple[int, Verdict]]:
        """Verdicts in the order in which they become final; each sample gets exactly one."""
        for place, verdict in self._verdicts():
            yield place, as_asked(self._task.template, verdict)

    def _verdicts(self) -> Iterator[tuple[int, Verdict]]:
        """Verdicts on the formula that is to be proven for all inputs."""
        batch = make_batch(self._task)
        yield from self._clean(batch)
        for number, stage in enumerate(self._stages):
            yield from self._expired(f"before stage {stage.name}")
            match stage.kind:
                case StageKind.ATTACK:
                    yield from self._attack(batch, stage)
                case StageKind.BOUND:
                    self._bound(batch, stage)
                case StageKind.SOLVER:
                    yield from self._solve(batch, stage, self._attacked_after(number))
            if not self._attacked_after(number):
                yield from self._release()
        for place in self._open.tolist():
            yield place, self._undecided(place)

    def _attacked_after(self, number: int) -> bool:
        return any(stage.attacks for stage in self._stages[number + 1 :])

    def _clean(self, batch: Batch) -> Iterator[tuple[int, Verdict]]:
        outputs = self._task.outputs
        if outputs is None:
            return
        wrong = broken(batch, outputs)
        if isinstance(self._task.template.region, BoxSpec):
            # Unlike a ball, a box need not hold the sample; one outside of it is no witness.
            held, centers = batch.regions.witness, self._task.centers
            wrong &= False if held is None or centers is None else held.contains(centers)
        margins = margin_at(batch, outputs)
        self._open = np.flatnonzero(~wrong)
        for place in np.flatnonzero(wrong):
            yield int(place), clean_verdict(self._task, int(place), float(margins[place]))

    def _expired(self, when: str) -> Iterator[tuple[int, Verdict]]:
        for place in self._open.tolist():
            reason = self._clock.reason(self._seconds[place])
            if reason:
                self._close(place)
                yield place, self._timeout(place, f"{reason} {when}")

    def _timeout(self, place: int, reason: str) -> Verdict:
        verdict = Verdict(Outcome.TIMEOUT, reason, guarantee=Guarantee.ESTIMATE)
        if math.isnan(self._best[place]):
            return replace(verdict, seconds=float(self._seconds[place]))
        return self._completed(verdict, place)

    def _attack(self, batch: Batch, stage: Stage) -> Iterator[tuple[int, Verdict]]:
        places = np.array(sorted([*self._open, *self._held]), int)
        if not len(places):
            return
        began = time.monotonic()
        found = attack_batch(batch.take(places), stage)
        self._charge(places, began)
        for i, place in enumerate(places.tolist()):
            witness = found.witnesses[i]
            if witness is not None:
                verdict = self._refuted(place, stage, witness, float(found.margins[i]))
                if place in self._held:
                    proof = self._held.pop(place)
                    claim = f"{proof.method} proved with margin {proof.margin:.6g} that there is no witness"
                    verdict = refuted(self._task, place, claim, proof.guarantee, verdict)
                self._close(place)
                yield place, verdict
            elif found.spurious[i]:
                self._doubts[place] = Verdict(Outcome.UNKNOWN, SPURIOUS, guarantee=Guarantee.ESTIMATE)

    def _bound(self, batch: Batch, stage: Stage) -> None:
        if not len(self._open):
            return
        began = time.monotonic()
        margins, rounding = certified_margins(batch.take(self._open), stage, self._options)
        self._charge(self._open, began)
        before = self._best[self._open]
        best = np.fmax(before, margins)
        self._best[self._open] = best
        self._rounding[self._open] = np.where(best == before, self._rounding[self._open], rounding)
        proven = is_proof(margins, rounding)
        for place, margin in zip(self._open[proven].tolist(), margins[proven].tolist(), strict=True):
            self._held[place] = self._proven(place, stage, margin, Guarantee.NUMERIC)
        self._open = self._open[~proven]

    def _solve(self, batch: Batch, stage: Stage, attacked_later: bool) -> Iterator[tuple[int, Verdict]]:
        """One sample after the other, those nearest to a proof first; what is decided is final at once."""
        if not len(self._open):
            return
        known = np.where(np.isnan(self._best), -np.inf, self._best)[self._open]
        with SOLVERS[stage.name](self._task, stage, self._options) as solver:
            for place in self._open[np.argsort(-known, kind="stable")].tolist():
                late = self._clock.reason(self._seconds[place])
                if late:
                    self._close(place)
                    yield place, self._timeout(place, f"{late} before stage {stage.name}")
                    continue
                self._tell(place)
                began, sample = time.monotonic(), batch.take(np.array([place]))
                limit = most_seconds(stage, self._clock.remaining(self._seconds[place]))
                decision = solver.decide(sample, limit, functools.partial(self._tell, place, began))
                self._seconds[place] += time.monotonic() - began
                verdict = self._judged(sample, place, stage, decision)
                if verdict is not None and verdict.outcome is Outcome.VERIFIED and attacked_later:
                    self._held[place] = verdict
                elif verdict is not None:
                    yield place, verdict

    def _tell(self, place: int, began: float | None = None, margin: float = math.nan) -> None:
        """Tells where a sample stands: its margin, as asked, has a proven lower end, or of some input an upper one.

        ``began`` and ``margin`` are of a solver that is at work on it.
        """
        since = 0.0 if began is None else time.monotonic() - began
        best = float(np.fmax(self._best[place], margin))
        ends = (math.nan, 0.0 - best) if self._task.template.existential else (best, math.nan)
        self._watch(Standing(int(self._task.samples[place]), *ends, float(self._seconds[place]) + since))

    def _judged(self, sample: Batch, place: int, stage: Stage, decision: SolverDecision) -> Verdict | None:
        """The verdict that a solver's answer supports; without one, its doubt is remembered."""
        if decision.witness is not None:
            point = decision.witness[None].astype(self._task.model.network.dtype.as_numpy_dtype)
            replayed = replay_claims(sample, point, np.ones(1, bool))
            if replayed.witnesses[0] is not None:
                self._close(place)
                return self._refuted(place, stage, replayed.witnesses[0], float(replayed.margins[0]))
            reason = SPURIOUS
        elif (
            decision.outcome is Outcome.VERIFIED
            and is_proof(decision.margin, decision.rounding)
            and decision.guarantee in PROOFS
        ):
            self._close(place)
            return self._proven(place, stage, decision.margin, decision.guarantee)
        else:
            reason = decision.reason or "the solver's answer proves nothing"
        outcome = Outcome.TIMEOUT if decision.outcome is Outcome.TIMEOUT else Outcome.UNKNOWN
        self._doubts[place] = Verdict(outcome, reason, stage.name, stage.method, guarantee=Guarantee.ESTIMATE)
        return None

    def _refuted(self, place: int, stage: Stage, witness: np.ndarray, margin: float) -> Verdict:
        return Verdict(
            Outcome.FALSIFIED,
            stage=stage.name,
            method=stage.method,
            guarantee=Guarantee.REPLAYED,
            margin=margin,
            seconds=float(self._seconds[place]),
            witness=witness,
        )

    def _proven(self, place: int, stage: Stage, margin: float, guarantee: Guarantee) -> Verdict:
        return Verdict(
            Outcome.VERIFIED,
            stage=stage.name,
            method=stage.method,
            relaxation=relaxation_name(stage),
            guarantee=guarantee,
            margin=margin,
            seconds=float(self._seconds[place]),
        )

    def _close(self, place: int) -> None:
        self._open = self._open[self._open != place]

    def _release(self) -> Iterator[tuple[int, Verdict]]:
        held, self._held = self._held, {}
        yield from held.items()

    def _charge(self, places: np.ndarray, began: float) -> None:
        self._seconds[places] += (time.monotonic() - began) / max(1, len(places))

    def _undecided(self, place: int) -> Verdict:
        best = float(self._best[place])
        if place in self._doubts:
            return self._completed(self._doubts[place], place)
        if all(stage.attacks for stage in self._stages):
            reason = "the attack found no witness, and no stage of the strategy can prove that there is none"
        elif math.isnan(best):
            reason = "the bounds are not finite"
        else:
            known = f"at most {-best:.4g}" if self._task.template.existential else f"at least {best:.4g}"
            reason = f"the margin is only known to be {known}"
            if best > 0:
                taken = f"of which the rounding of the model's own arithmetic may take {self._rounding[place]:.4g}"
                reason = f"within rounding: the margin is {known}, {taken}"
        return self._completed(Verdict(Outcome.UNKNOWN, reason, guarantee=Guarantee.ESTIMATE), place)

    def _completed(self, verdict: Verdict, place: int) -> Verdict:
        """The verdict with the best margin known and, unless a solver left it open, who found that."""
        timed = replace(verdict, margin=float(self._best[place]), seconds=float(self._seconds[place]))
        if verdict.stage:
            return timed
        bounds = [stage for stage in self._stages if stage.kind is StageKind.BOUND]
        known = bounds and not math.isnan(self._best[place])
        last = bounds[-1] if known else self._stages[-1]
        return replace(timed, stage=last.name, method=last.method, relaxation=relaxation_name(last) if known else "")
