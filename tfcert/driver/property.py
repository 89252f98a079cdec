"""One batch of a property on its way down the stages of its strategy.

Each stage sees what earlier ones left open. A sample that is proven is still attacked by stages listed later: a
witness against the proof means that whoever gave it was wrong, and is what counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from tfcert.driver.batch import Batch, broken, make_batch, margin_at, replay_claims
from tfcert.driver.budget import StageBudget
from tfcert.driver.progress import Standing, Watch
from tfcert.driver.since import Attempt, Earlier, Tried
from tfcert.driver.stages.base import Finding
from tfcert.driver.stages.opened import OpenStages
from tfcert.driver.task import Task
from tfcert.driver.verdicts import as_asked, clean_verdict, refuted
from tfcert.language import BallSpec, StageKind, StageSpec
from tfcert.language.spec.alternatives import has_equation
from tfcert.verdict import NO_WORK, PROOFS, Because, Guarantee, Outcome, Reason, Verdict, Work, is_proof

_EXACTLY = "; a witness would have to meet the equation after `where` exactly, in numbers of the network's type"


class PropertyRun:
    """The state of one batch while it goes down the stages; ``run`` yields (place, verdict) as samples finish.

    ``watch`` is told when a stage begins with a sample by itself, and what it finds; ``spent`` are the seconds
    ``[batch]`` that samples have used before; ``earlier`` is a run whose proofs and witnesses are tried first.
    """

    def __init__(
        self,
        task: Task,
        stages: OpenStages,
        watch: Watch = lambda standing: None,
        spent: np.ndarray | None = None,
        earlier: Earlier | None = None,
    ):
        self._task, self._stages, self._watch = task, stages, watch
        self._kind: object = None  # what tells its sets apart from others for which stages are prepared
        self._clock = stages.clock
        self._specs = task.template.strategy.stages
        count = len(task.samples)
        self._open = np.arange(count)
        self._seconds = np.zeros(count) if spent is None else np.array(spent, float)
        self._work: list[Work] = [NO_WORK] * count
        self._best = np.full(count, np.nan)  # the best margin known, and what rounding may take from it
        self._rounding = np.zeros(count)
        self._doubts: dict[int, Verdict] = {}  # why a stage left a sample open, should it stay so
        self._held: dict[int, Verdict] = {}  # proofs that a later attack still looks at
        self._begun: dict[int, float] = {}  # when the stage that is at work began with a sample
        self._earlier = earlier
        self._tried: dict[StageSpec, set[int]] = {}  # what stages left open before the strategy began

    def run(self) -> Iterator[tuple[int, Verdict]]:
        """Verdicts in the order in which they become final; each sample gets exactly one."""
        for place, verdict in self._verdicts():
            timed = replace(verdict, seconds=float(self._seconds[place]), work=self._work[place])
            yield place, as_asked(self._task.template, timed)

    def _batch(self) -> Batch:
        return make_batch(self._task)

    def _verdicts(self) -> Iterator[tuple[int, Verdict]]:
        """Verdicts on the formula that is to be proven for all inputs."""
        batch = self._batch()
        yield from self._clean(batch)
        if self._earlier is not None and len(self._open):
            yield from self._transferred(batch, self._earlier)
        for number, spec in enumerate(self._specs):
            yield from self._expired(f"before stage {spec.name}")
            attacked_later = any(later.attacks for later in self._specs[number + 1 :])
            yield from self._stage(batch, spec, attacked_later)
            if not attacked_later:
                held, self._held = self._held, {}
                yield from held.items()
        for place in self._open.tolist():
            yield place, self._undecided(place)

    def _clean(self, batch: Batch) -> Iterator[tuple[int, Verdict]]:
        outputs = self._task.outputs
        if outputs is None:
            return
        wrong = broken(batch, outputs)
        if self._task.placed is not None or not isinstance(self._task.template.region, BallSpec):
            # Unlike a ball, another region need not hold the sample; one outside of it is no witness.
            held, centers = batch.regions.witness, self._task.centers
            wrong &= False if held is None or centers is None else held.contains(centers)
        margins = margin_at(batch, outputs)
        self._open = np.flatnonzero(~wrong)
        for place in np.flatnonzero(wrong):
            yield int(place), clean_verdict(self._task, int(place), float(margins[place]))

    def _transferred(self, batch: Batch, earlier: Earlier) -> Iterator[tuple[int, Verdict]]:
        """What an earlier run's proofs and witnesses settle; a proof waits for the attacks after the first stage that
        proves, as it would had that stage found it."""
        tried = earlier.tried.setdefault(self._task.name, Tried())
        proving = next((n for n, spec in enumerate(self._specs) if not spec.attacks), len(self._specs))
        attacked_later = any(spec.attacks for spec in self._specs[proving:])
        for attempt in earlier.attempts(self._task, lambda: self._open):
            began, before = self._seconds.sum(), {p for p in attempt.places.tolist() if attempt.transfers(p)}
            for place, verdict in self._decisions(batch, attempt, attacked_later):
                yield place, replace(verdict, transferred=attempt.transfers(place))
            for place in before & set(self._held):
                self._held[place] = replace(self._held[place], transferred=attempt.transfers(place))
            tried.tried += len(before)
            tried.mended += len(attempt.mended)
            tried.settled += len(before - set(self._open.tolist()))
            tried.seconds += float(self._seconds.sum() - began)
            if attempt.running is not None or attempt.spec not in self._specs:
                self._doubts.clear()
            else:
                self._tried[attempt.spec] = {*attempt.places.tolist()}

    def _expired(self, when: str) -> Iterator[tuple[int, Verdict]]:
        for place in self._open.tolist():
            reason = self._clock.reason(self._used(place))
            if reason:
                self._close(place)
                late = Verdict(Outcome.TIMEOUT, reason.more(f" {when}"), guarantee=Guarantee.ESTIMATE)
                doubt = self._doubts.get(place, late)
                yield place, self._completed(doubt if doubt.outcome is Outcome.TIMEOUT else late, place)

    def _stage(self, batch: Batch, spec: StageSpec, attacked_later: bool) -> Iterator[tuple[int, Verdict]]:
        """One stage on the samples that are open, those nearest to a proof first; what is decided is final at once."""
        places = np.array([p for p in self._open.tolist() if p not in self._tried.get(spec, ())], int)
        if spec.attacks:
            places = np.array(sorted([*self._open, *self._held]), int)
        elif len(places):
            known = np.where(np.isnan(self._best), -np.inf, self._best)[places]
            places = places[np.argsort(-known, kind="stable")]
        if len(places):
            yield from self._decisions(batch, Attempt(spec, places), attacked_later)

    def _decisions(self, batch: Batch, attempt: Attempt, attacked_later: bool) -> Iterator[tuple[int, Verdict]]:
        """What a stage, or what stands for one, decides of some samples."""
        spec, places = attempt.spec, attempt.places
        running = attempt.running or self._stages.get(spec, self._task.take(places), self._kind)
        limit = spec.option("time_limit")
        budget = self._budget(places, None if limit is None else float(limit))
        self._begun.clear()
        for finding in running.decide(batch.take(places), budget, lambda i, margin: self._tell(int(places[i]), margin)):
            place = int(places[finding.place])
            self._charge(place, finding.seconds)
            self._work[place] += finding.work
            verdict = self._judged(batch, place, spec, finding)
            if verdict is None:
                continue
            self._close(place)
            proof = self._held.pop(place, None)
            if proof is not None and verdict.outcome is Outcome.FALSIFIED:
                claim = f"{proof.method} proved with margin {proof.margin:.6g} that there is no witness"
                verdict = refuted(self._task, place, claim, proof.guarantee, verdict)
            if verdict.outcome is Outcome.VERIFIED and attacked_later:
                self._held[place] = verdict
            else:
                yield place, verdict

    def _used(self, place: int) -> float:
        """The seconds that a sample has used."""
        return float(self._seconds[place])

    def _charge(self, place: int, seconds: float) -> None:
        self._seconds[place] += seconds

    def _budget(self, places: np.ndarray, limit: float | None) -> StageBudget:
        """The time of a stage for some samples, with the most that it may use for each."""
        return self._clock.budget(self._seconds[places], limit)

    def _tell(self, place: int, margin: float) -> None:
        """Tells where a sample stands: its margin, as asked, has a proven lower end, or of some input an upper one."""
        used = self._clock.used()
        since = used - self._begun.setdefault(place, used)
        best = float(np.fmax(self._best[place], margin))
        ends = (math.nan, 0.0 - best) if self._task.template.existential else (best, math.nan)
        self._watch(Standing(int(self._task.samples[place]), *ends, self._used(place) + since))

    def _judged(self, batch: Batch, place: int, spec: StageSpec, finding: Finding) -> Verdict | None:
        """The verdict that a finding supports; without one, what it knows of the margin and its doubt are kept."""
        proven = bool(is_proof(finding.margin, finding.rounding)) and finding.guarantee in PROOFS
        if finding.witness is not None:
            point = finding.witness[None].astype(self._task.model.network.dtype.as_numpy_dtype)
            (holds,), (margin,) = replay_claims(batch.take(np.array([place])), point, np.ones(1, bool))
            if holds:
                return self._decided(Outcome.FALSIFIED, spec, Guarantee.REPLAYED, float(margin), point[0])
            reason: str = Reason.SPURIOUS.because()
        elif finding.outcome is Outcome.VERIFIED and proven:
            self._improve(place, finding)
            proof = self._decided(Outcome.VERIFIED, spec, finding.guarantee, finding.margin)
            return replace(proof, found=finding.found)
        elif finding.outcome in (Outcome.UNKNOWN, Outcome.TIMEOUT) and not proven:
            if finding.guarantee in PROOFS and math.isfinite(finding.margin):
                self._improve(place, finding)
            reason = finding.reason
            if finding.outcome is Outcome.TIMEOUT and not reason:
                late = self._clock.reason(self._used(place)) or Reason.TIME_LIMIT.because(said="its time was used up")
                reason = late.more(f" before stage {spec.name}")
        else:
            reason = Reason.STAGE_SILENT.because()
        if reason:
            outcome = Outcome.TIMEOUT if finding.outcome is Outcome.TIMEOUT else Outcome.UNKNOWN
            self._doubts[place] = Verdict(outcome, reason, spec.name, spec.method, guarantee=Guarantee.ESTIMATE)
        return None

    def _improve(self, place: int, finding: Finding) -> None:
        """Keeps the finding's margin, if it is the best that is known."""
        if not finding.margin <= self._best[place]:
            self._best[place], self._rounding[place] = finding.margin, finding.rounding

    def _decided(
        self, outcome: Outcome, spec: StageSpec, guarantee: Guarantee, margin: float, witness: np.ndarray | None = None
    ) -> Verdict:
        relaxation = relaxation_name(spec) if witness is None else ""
        return Verdict(outcome, "", spec.name, spec.method, relaxation, guarantee, margin=margin, witness=witness)

    def _close(self, place: int) -> None:
        self._open = self._open[self._open != place]

    def _undecided(self, place: int) -> Verdict:
        best = float(self._best[place])
        if place in self._doubts:
            return self._completed(self._doubts[place], place)
        if all(spec.attacks for spec in self._specs):
            said = "the attack found no witness, and no stage of the strategy can prove that there is none"
            reason = Reason.ATTACKS_ALONE.because(said=said)
        elif math.isnan(best):
            reason = Reason.NOT_FINITE.because(said="the bounds are not finite")
        else:
            known = f"at most {-best:.4g}" if self._task.template.existential else f"at least {best:.4g}"
            reason = Reason.LOOSE.because(known=known)
            if best > 0:
                taken = f"of which the rounding of the model's own arithmetic may take {self._rounding[place]:.4g}"
                reason = Reason.ROUNDING.because(said=f"the margin is {known}, {taken}")
        return self._completed(Verdict(Outcome.UNKNOWN, reason, guarantee=Guarantee.ESTIMATE), place)

    def _completed(self, verdict: Verdict, place: int) -> Verdict:
        """The verdict with the best margin known and, unless a stage left it open, who found that."""
        known = replace(verdict, margin=float(self._best[place]))
        given = self._task.template.given
        if given is not None and verdict.outcome is Outcome.UNKNOWN and has_equation(given):
            reason = known.reason if isinstance(known.reason, Because) else Because(known.reason, None)
            known = replace(known, reason=reason.more(_EXACTLY))
        if verdict.stage:
            return known
        bounds = [spec for spec in self._specs if spec.kind is StageKind.BOUND]
        if not bounds or math.isnan(self._best[place]):
            if verdict.outcome is Outcome.TIMEOUT:
                return known
            last, relaxation = self._specs[-1], ""
        else:
            last, relaxation = bounds[-1], relaxation_name(bounds[-1])
        return replace(known, stage=last.name, method=last.method, relaxation=relaxation)


def relaxation_name(spec: StageSpec) -> str:
    """The relaxation as records name it: where there is a choice, the best one by default."""
    return (spec.relaxation or "adaptive") if spec.relaxes else ""
