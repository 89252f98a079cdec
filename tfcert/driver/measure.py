"""One batch of a measure: the largest value with a proof, and the smallest value with a replayed witness.

Both kinds of measures are this search: the largest radius at which a formula holds for all inputs, and the smallest at
which some input breaks it, lie between the two. Bounds and attacks narrow a batch's values, a solver one sample's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from tfcert.driver.batch import Batch, broken, make_batch, margin_at, replay_claims, slopes
from tfcert.driver.budget import SharedTime, StageBudget
from tfcert.driver.explain import DECISIONS
from tfcert.driver.progress import Standing, Watch
from tfcert.driver.property import relaxation_name
from tfcert.driver.regions import ball_unit
from tfcert.driver.stages.base import NearestStart
from tfcert.driver.stages.opened import OpenStages
from tfcert.driver.task import Task
from tfcert.driver.verdicts import clean_verdict, refuted
from tfcert.language import MeasureTemplate, StageKind, StageSpec
from tfcert.language.spec.regions import balls_of
from tfcert.propagation.radius import first_guess, largest_radius
from tfcert.report.records import Measured
from tfcert.sets.balls import ORDER, LpBall
from tfcert.sets.rounding import float_down
from tfcert.sets.uneven import divided
from tfcert.verdict import NO_WORK, PROOFS, Guarantee, Outcome, Reason, Verdict, is_proof, weakest

BISECTIONS = 4
"""How often the gap between what is proven and what is refuted is halved by another attack."""
FIRST_STEP = 4
"""The first attack looks this many times beyond what is proven."""


@dataclass(frozen=True)
class MeasureAnswer:
    """The answer of a measure about one sample."""

    place: int
    verdict: Verdict
    measured: Measured


@dataclass(frozen=True)
class _Known:
    """The state of one sample: the values that are proven and refuted (NaN: none), and what that rests on."""

    proven: float
    margin: float
    refuted: float
    witness: np.ndarray | None
    stage: StageSpec | None
    guarantee: Guarantee = Guarantee.NUMERIC
    reason: str = ""
    contradicted: Guarantee | None = None


@dataclass
class _Refutation:
    """The smallest refuted values so far (NaN: none) and their witnesses."""

    value: np.ndarray
    witness: list[np.ndarray | None]


class MeasureRun:
    """Measures one batch; ``run`` yields one answer a sample.

    ``watch`` is told how far a solver is with one; ``began`` is when, by the clock, the samples' time began;
    ``earlier`` are values that the search looks at first, ``[n]``, NaN for none.
    """

    def __init__(
        self,
        task: Task,
        stages: OpenStages,
        watch: Watch = lambda standing: None,
        began: float | None = None,
        earlier: np.ndarray | None = None,
    ):
        assert isinstance(task.template, MeasureTemplate)
        self._task, self._stages, self._watch = task, stages, watch
        self._clock, self._earlier = stages.clock, earlier
        balls = [ball for point in task.template.points for ball in balls_of(point.region)]
        region = next((ball for ball in balls if ball.slope), balls[0])
        self._template, self._region, self._unit = task.template, region, ball_unit(region, task.template.transform)
        self._low, self._high = float(task.template.lower), float(task.template.upper)
        specs = task.template.strategy.stages
        self._bound = next((spec for spec in reversed(specs) if spec.kind is StageKind.BOUND), None)
        self._attack = next((spec for spec in specs if spec.attacks), None)
        self._solver = next((spec for spec in reversed(specs) if spec.solves), None)
        self._time = SharedTime(self._clock, self._clock.used() if began is None else began, len(task.samples))
        self._work = [NO_WORK] * len(task.samples)
        self._levels: list[set[Guarantee]] = [set() for _ in task.samples]  # of the bounds that were of use

    def run(self) -> Iterator[MeasureAnswer]:
        """The answers; samples that are wrong unperturbed come first."""
        task, count = self._task, len(self._task.samples)
        assert task.outputs is not None
        batch = self._batch(np.arange(count), np.full(count, self._low))
        wrong, margins = broken(batch, task.outputs), margin_at(batch, task.outputs)
        for place in np.flatnonzero(wrong).tolist():
            yield self._clean(place, float(margins[place]))
        places = np.flatnonzero(~wrong)
        if not len(places):
            return
        radius, margin = self._prove(places)
        refutation = self._refute(places, radius)
        shared = self._time.used() / len(places)
        for i, place in enumerate(places.tolist()):
            values = float(radius[i]), float(margin[i]), float(refutation.value[i])
            level = weakest(self._levels[place]) or Guarantee.NUMERIC
            known = self._consistent(_Known(*values, refutation.witness[i], self._bound, level), place)
            began = self._clock.used()
            known = self._narrowed(known, place, shared)
            verdict = self._verdict(known, shared + self._clock.used() - began)
            verdict = replace(verdict, work=self._work[place])
            yield MeasureAnswer(place, verdict, Measured(known.proven, known.refuted))

    def _clean(self, place: int, margin: float) -> MeasureAnswer:
        """An unperturbed sample that breaks the formula: no radius is proven, and the smallest one is the first."""
        verdict = clean_verdict(self._task, place, margin)
        if self._template.existential:
            settled = replace(verdict, outcome=Outcome.VERIFIED, margin=math.nan)
            return MeasureAnswer(place, settled, Measured(self._low, self._low))
        return MeasureAnswer(place, verdict, Measured(0.0, self._low))

    def _prove(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The largest certified values (NaN: none) and their margins."""
        nothing = np.full(len(places), np.nan)
        stage = self._bound
        if stage is None or self._clock.left() <= 0:
            return nothing, nothing.copy()

        def margins(indices: np.ndarray, eps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return self._certified(stage, places[indices], eps)

        at_zero = self._batch(places, np.zeros(len(places)))
        start, slope = slopes(at_zero, self._region.norm)
        rounding: np.ndarray | float = 0.0
        if self._region.eps or self._task.placed is not None:  # not a point, so its margin takes a proof
            start, rounding = self._certified(stage, places, np.zeros(len(places)))
        slope = slope * self._net_size()
        guesses = first_guess(start, slope, self._region.norm)
        if self._earlier is not None:
            known = self._earlier[places]
            guesses = np.where(np.isfinite(known) & (known > 0), known, guesses)
        tolerance = float(self._template.tolerance)
        found = largest_radius(
            margins,
            start,
            start_rounding=rounding,
            guesses=guesses,
            slope=slope,
            upper=self._high,
            tolerance=tolerance if self._template.relative else 0.0,
            absolute=0.0 if self._template.relative else tolerance,
        )
        proven = (found.radius > 0) & (found.radius >= self._low)
        return np.where(proven, found.radius, np.nan), np.where(proven, found.margin, np.nan)

    def _certified(self, stage: StageSpec, places: np.ndarray, eps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lower bounds of the margins at some values, and what rounding may take from each; what there is no time for,
        or proves nothing, is NaN."""
        margins, rounding = np.full(len(places), np.nan), np.zeros(len(places))
        if not self._time.late():
            running, batch = self._stages.get(stage, self._task.take(places)), self._batch(places, eps)
            for finding in running.decide(batch, self._budget(stage, places), lambda place, margin: None):
                self._work[int(places[finding.place])] += finding.work
                if finding.guarantee in PROOFS and math.isfinite(finding.margin):
                    margins[finding.place], rounding[finding.place] = finding.margin, finding.rounding
                    self._levels[int(places[finding.place])].add(finding.guarantee)
        return margins, rounding

    def _net_size(self) -> float:
        """The size of one unit of the measure's value in network space, on average over the channels."""
        sizes = self._task.template.transform.net_eps(self._region.space, self._region.slope)
        return float(sum(sizes)) / len(sizes)

    def _refute(self, places: np.ndarray, proven: np.ndarray) -> _Refutation:
        """Attacks a little beyond what is proven, then at the upper end, then bisects."""
        found = _Refutation(np.full(len(places), np.nan), [None] * len(places))
        if self._attack is None:
            return found
        known = np.where(np.isfinite(proven), proven, self._low)
        below = known.copy()
        first = np.where(known > 0, FIRST_STEP * known, self._low + (self._high - self._low) / FIRST_STEP**2)
        first = np.minimum(first, self._high)
        self._try(places, np.arange(len(places)), first, found, below)
        open_ = np.flatnonzero(np.isnan(found.value) & (first < self._high))
        self._try(places, open_, np.full(len(open_), self._high), found, below)
        for _ in range(BISECTIONS):
            some = np.flatnonzero(np.isfinite(found.value) & (found.value > below * (1 + 1e-3)))
            self._try(places, some, (below[some] + found.value[some]) / 2, found, below)
        return found

    def _try(
        self, places: np.ndarray, some: np.ndarray, eps: np.ndarray, found: _Refutation, below: np.ndarray
    ) -> None:
        """Attacks ``places[some]`` at ``eps``: lowers what is refuted, or raises from where to look."""
        if not len(some) or self._attack is None or self._time.late():
            return
        running, batch = self._stages.get(self._attack, self._task.take(places[some])), self._batch(places[some], eps)
        for finding in running.decide(batch, self._budget(self._attack, places[some]), lambda place, margin: None):
            i = some[finding.place]
            self._work[int(places[i])] += finding.work
            witness = None if finding.witness is None else self._replayed(batch, finding.place, finding.witness)
            if witness is not None:
                found.value[i] = self._smallest(int(places[i]), witness, float(eps[finding.place]))
                found.witness[i] = witness
            elif finding.outcome is not Outcome.TIMEOUT:
                below[i] = max(below[i], eps[finding.place])
        below[some] = np.fmin(below[some], np.where(np.isnan(found.value[some]), np.inf, found.value[some]))

    def _replayed(self, batch: Batch, place: int, point: np.ndarray) -> np.ndarray | None:
        """A point that is claimed to be a witness in the model's type, if it is one."""
        points = point[None].astype(self._task.model.network.dtype.as_numpy_dtype)
        (holds,), _ = replay_claims(batch.take(np.array([place])), points, np.ones(1, bool))
        return points[0] if holds else None

    def _smallest(self, place: int, witness: np.ndarray, eps: float) -> float:
        """A value at most ``eps`` whose region still holds the witness: its distance, rounded up."""
        center = self._ball_center(place)
        if center is None:
            return eps
        step = witness.reshape(center.shape).astype(np.float64) - center.astype(np.float64)
        unit = self._task.template.transform.net_eps(self._region.space, Fraction(1))
        scaled = (np.abs(step) / np.array([float(u) for u in unit])).ravel()
        if self._region.shares:
            scaled = divided(scaled, np.array([float(share) for share in self._region.shares]))
        order = ORDER[self._region.norm]
        distance = float(np.linalg.norm(scaled, order)) * (1 + 1e-9)
        value = (distance - float(self._region.eps)) / float(self._region.slope)
        if not self._low <= value < eps:
            return eps
        region = self._batch(np.array([place]), np.array([value])).regions.witness
        return value if region is not None and bool(region.contains(witness[None])[0]) else eps

    def _ball_center(self, place: int) -> np.ndarray | None:
        """The centre of the ball that a sample's region is, as networks receive it; None where there are several."""
        placed = self._task.placed
        if placed is None:
            assert self._task.centers is not None
            return np.asarray(self._task.centers[place])
        alone = len(placed.vector.places) == 1 and placed.around is not None
        return placed.around[0][place] if alone and placed.around is not None else None

    def _consistent(self, known: _Known, place: int) -> _Known:
        """The state without a proof that a nearer witness refutes."""
        if not known.refuted < known.proven or known.stage is None:
            return known
        claim = f"{known.stage.name} certified up to {known.proven:.6g}"
        said = refuted(self._task, place, claim, known.guarantee, Verdict(Outcome.UNKNOWN))
        return replace(
            known, proven=math.nan, margin=math.nan, stage=None, reason=said.reason, contradicted=said.contradicted
        )

    # Solvers

    def _narrowed(self, known: _Known, place: int, spent: float) -> _Known:
        """The state after a solver looked between what is proven and what is refuted."""
        if self._solver is None or self._clock.reason(spent) or self._closed(known):
            return known
        high = self._high if math.isnan(known.refuted) else known.refuted
        sample = self._batch(np.array([place]), np.array([high]))
        ball = sample.regions.proof
        self._tell(place, known.proven, known.refuted, spent)
        if not isinstance(ball, LpBall):
            return self._decided(known, place, spent)
        running, budget = self._running(self._solver, place, spent)
        start = NearestStart(known.witness, self._distance(known.proven), self._teller(place, spent))
        nearest = running.nearest(sample, start, budget)
        self._work[place] += nearest.work
        known = known if known.contradicted else replace(known, reason=nearest.reason)
        if nearest.witness is not None:
            known = self._with_witness(known, place, sample, nearest.witness)
        lower = float(nearest.lower) if math.isfinite(nearest.lower) and nearest.guarantee in PROOFS else 0.0
        value = self._high if lower >= ball.eps[0] and high == self._high else self._below(lower)
        if value <= 0 or value < self._low or value <= known.proven:
            return known
        known = replace(known, proven=value, margin=math.nan, stage=self._solver, guarantee=nearest.guarantee)
        return self._consistent(known, place)

    def _running(self, solver: StageSpec, place: int, spent: float) -> tuple[Any, StageBudget]:
        """The solver's stage, and its time for a sample."""
        limit = solver.option("time_limit")
        budget = self._clock.budget(np.array([spent]), None if limit is None else float(limit))
        return self._stages.get(solver, self._task.take(np.array([place]))), budget

    def _decided(self, known: _Known, place: int, spent: float) -> _Known:
        """The state after a solver decided at values between what is proven and what is refuted, one after another.

        So are measures whose region is no single ball, in which it could look for the nearest witness.
        """
        solver, began = self._solver, self._clock.used()
        assert solver is not None
        for _ in range(DECISIONS):
            used = spent + self._clock.used() - began
            if known.contradicted or self._closed(known) or self._clock.reason(used):
                break
            low = self._low if math.isnan(known.proven) else known.proven
            high = self._high if math.isnan(known.refuted) else known.refuted
            at = high if math.isnan(known.refuted) else low + (high - low) / 2
            running, budget = self._running(solver, place, used)
            sample = self._batch(np.array([place]), np.array([at]))
            (finding,) = running.decide(sample, budget, lambda place, margin: None)
            self._work[place] += finding.work
            witness = None if finding.witness is None else self._replayed(sample, 0, finding.witness)
            proven = bool(is_proof(finding.margin, finding.rounding)) and finding.guarantee in PROOFS
            if witness is not None:
                value = self._smallest(place, witness, at)
                known = replace(known, refuted=value, witness=witness)
            elif finding.outcome is Outcome.VERIFIED and proven and at > 0:
                known = replace(known, proven=at, margin=finding.margin, stage=solver, guarantee=finding.guarantee)
            else:
                return replace(known, reason=finding.reason)
            known = self._consistent(known, place)
            self._tell(place, known.proven, known.refuted, spent + self._clock.used() - began)
        return known

    def _closed(self, known: _Known) -> bool:
        """Tells whether what is proven and what is refuted are as near each other as the measure asks."""
        low = self._low if math.isnan(known.proven) else known.proven
        high = self._high if math.isnan(known.refuted) else known.refuted
        return high - low <= float(self._template.tolerance) * (low if self._template.relative else 1.0)

    def _tell(self, place: int, proven: float, refuted: float, seconds: float) -> None:
        self._watch(Standing(int(self._task.samples[place]), proven, refuted, seconds))

    def _teller(self, place: int, spent: float) -> Callable[[float, float], None]:
        """Tells of distances in network space as values of the measure, for the eye only: rounded as they come."""
        unit, began = self._unit, self._clock.used()
        shift, slope = float(self._region.eps), float(self._region.slope)

        def tell(lower: float, upper: float) -> None:
            proven, refuted = ((distance / float(unit) - shift) / slope for distance in (lower, upper))
            self._tell(place, proven, refuted, spent + self._clock.used() - began)

        return tell

    def _with_witness(self, known: _Known, place: int, sample: Batch, point: np.ndarray) -> _Known:
        """The state with a point that a solver claims to be a witness, if it is one and nearer than the last."""
        witness = self._replayed(sample, 0, point)
        if witness is None:
            return known
        value = self._smallest(place, witness, self._high if math.isnan(known.refuted) else known.refuted)
        if value >= known.refuted:
            return known
        return self._consistent(replace(known, refuted=value, witness=witness), place)

    def _distance(self, proven: float) -> float:
        """The radius of a value that is proven, as its ball counts it, rounded down; 0 without one."""
        if math.isnan(proven):
            return 0.0
        return float_down(self._region.radius(Fraction(proven)) * self._unit)

    def _below(self, distance: float) -> float:
        """The largest value whose ball's radius is at most ``distance``, short of the end."""
        value = float_down((Fraction(distance) / self._unit - self._region.eps) / self._region.slope)
        return math.nextafter(value, -math.inf)

    def _batch(self, places: np.ndarray, values: np.ndarray) -> Batch:
        return make_batch(self._task.take(places), [Fraction(float(v)) for v in values])

    def _budget(self, stage: StageSpec, places: np.ndarray) -> StageBudget:
        """The time for some samples: what is left to the whole batch, which is charged for it evenly."""
        return self._time.budget(len(places), float(stage.option("time_limit", math.inf)))

    def _verdict(self, known: _Known, seconds: float) -> Verdict:
        stage = known.stage or self._solver or self._attack
        name, method = (stage.name, stage.method) if stage is not None else ("", "")
        relaxation = relaxation_name(known.stage) if known.stage is not None else ""
        late = self._clock.reason(seconds)
        guarantee = Guarantee.ESTIMATE if math.isnan(known.proven) else known.guarantee
        if not math.isnan(known.proven):
            early = late.more(": the search stopped early") if late else known.reason
            closed = self._closed(known) and not known.contradicted
            outcome, reason = Outcome.VERIFIED, "" if closed else early
        elif late:
            outcome, reason = Outcome.TIMEOUT, late
        else:
            outcome, reason = Outcome.UNKNOWN, known.reason or self._why_nothing()
        return Verdict(
            outcome, reason, name, method, relaxation, guarantee, known.margin, seconds, known.witness,
            contradicted=known.contradicted,
        )  # fmt: skip

    def _why_nothing(self) -> str:
        if all(stage.attacks for stage in self._template.strategy.stages):
            return Reason.ATTACKS_ALONE.because(said="no stage of the strategy can prove")
        end = " a lower bound" if self._template.existential else ""
        return Reason.NOTHING_PROVEN.because(said=f"no value of the interval could be proven{end}")
