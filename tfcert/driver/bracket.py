"""One batch of a measure whose variable stands in the formula: the best value with a proof, and with a witness.

``largest v such that exists z in R: f(z) >= v`` and its like. What is to be proven of all inputs holds of all values on
one side of the answer, so each value with a proof and each with a witness bounds it. Values are searched as numbers
``u``, which are ``v`` or, where proofs bound from above, ``-v``: a proof at one u is a proof at all smaller ones, and a
witness at one u a witness at all larger ones.

A row's margin falls with u by its own factor of v, so that a bound at one u tells where to look next: where a formula
is one comparison, the second bound is at the last value that the bounds prove, up to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from tfcert.driver.batch import Batch, broken, make_batch, margin_at, replay_claims, revalued
from tfcert.driver.budget import SharedTime, StageBudget
from tfcert.driver.explain import DECISIONS, ROUNDS
from tfcert.driver.measure import MeasureAnswer
from tfcert.driver.progress import Standing, Watch
from tfcert.driver.property import relaxation_name
from tfcert.driver.stages.base import Finding
from tfcert.driver.stages.opened import OpenStages
from tfcert.driver.task import Task
from tfcert.driver.verdicts import refuted
from tfcert.language import MeasureTemplate, StageKind, StageSpec, ValueTemplate
from tfcert.report.records import Measured
from tfcert.verdict import NO_WORK, PROOFS, Guarantee, Outcome, Reason, Verdict, Work, is_proof

ATTACKS = 6
"""Values at most at which a sample is attacked."""
_FIRST, _STEPS = 0.1, 200
_SLACK = 1e-6
_LEAST = 1e-3
"""A relative tolerance is one of the answer, or of this where it is smaller."""


@dataclass
class _Known:
    """What is known of one sample; NaN where there is none. ``level`` is the guarantee of the last bound."""

    proven: float = math.nan
    margin: float = math.nan
    failed: float = math.inf
    missed: int = 0
    refuted: float = math.nan
    witness: np.ndarray | None = None
    stage: StageSpec | None = None
    guarantee: Guarantee = Guarantee.NUMERIC
    level: Guarantee = Guarantee.NUMERIC
    reason: str = ""
    contradicted: Guarantee | None = None
    work: Work = NO_WORK


class BracketRun:
    """Measures one batch; ``run`` yields one answer a sample. ``watch`` is told how far a solver is with one."""

    def __init__(
        self, task: Task, stages: OpenStages, watch: Watch = lambda standing: None, began: float | None = None
    ):
        assert isinstance(task.template, MeasureTemplate | ValueTemplate)
        self._task, self._stages, self._watch, self._clock = task, stages, watch, stages.clock
        self._template = task.template
        self._sign = -1 if task.template.proof_above else 1
        ends = [-math.inf if self._template.lower is None else float(self._template.lower)]
        ends.append(math.inf if self._template.upper is None else float(self._template.upper))
        self._low, self._high = sorted(self._sign * end for end in ends)
        specs = task.template.strategy.stages
        self._bound = next((spec for spec in reversed(specs) if spec.kind is StageKind.BOUND), None)
        self._attack = next((spec for spec in specs if spec.attacks), None)
        self._solver = next((spec for spec in reversed(specs) if spec.solves), None)
        self._time = SharedTime(self._clock, self._clock.used() if began is None else began, len(task.samples))
        self._known = [_Known() for _ in task.samples]

    def run(self) -> Iterator[MeasureAnswer]:
        """The answers, in the samples' order."""
        self._look()
        self._prove()
        self._attacked()
        shared = self._time.spent()
        for place in range(len(self._known)):
            began = self._clock.used()
            self._consistent(place)
            self._solve(place, shared)
            yield self._answer(place, shared + self._clock.used() - began)

    # Values

    def _value(self, u: float) -> float:
        return u if self._sign > 0 else 0.0 - u

    def _batch(self, places: np.ndarray, u: np.ndarray) -> Batch:
        return make_batch(self._task.take(places), [Fraction(self._value(float(number))) for number in u])

    def _tolerance(self, known: _Known) -> float:
        given = float(self._template.tolerance)
        if not self._template.relative:
            return given
        ends = [abs(end) for end in (known.proven, known.refuted) if math.isfinite(end)]
        return given * max([_LEAST, *ends])

    def _closed(self, known: _Known) -> bool:
        """Tells whether the two ends are as near each other as the measure asks, or no further value is asked for."""
        if known.proven >= self._high or known.refuted <= self._low:
            return True
        return known.refuted - known.proven <= self._tolerance(known)

    # Witnesses

    def _look(self) -> None:
        """Takes the middle of each region for a first witness."""
        if self._clock.left() <= 0:
            return
        every = np.arange(len(self._known))
        batch = self._batch(every, np.full(len(every), self._start()))
        if batch.regions.witness is None:
            return
        points = batch.regions.witness.center
        outputs = self._task.model.outputs(points)
        for place in every.tolist():
            self._witness(place, points[place], outputs[place : place + 1])

    def _start(self) -> float:
        """Some value of the interval."""
        ends = [end for end in (self._low, self._high) if math.isfinite(end)]
        return sum(ends) / len(ends) if ends else 0.0

    def _witness(self, place: int, point: np.ndarray, outputs: np.ndarray | None = None) -> bool:
        """Keeps a point if it is a witness at a smaller value than the last one; the smallest there is."""
        known = self._known[place]
        point = point.astype(self._task.model.network.dtype.as_numpy_dtype)
        outputs = self._task.model.outputs(point[None]) if outputs is None else outputs
        value = self._smallest(place, point, outputs)
        if math.isnan(value) or value >= known.refuted:
            return False
        # The last word on a witness is the replay that every other one takes.
        (holds,), _ = replay_claims(self._batch(np.array([place]), np.array([value])), point[None], np.ones(1, bool))
        if holds:
            known.refuted, known.witness = value, point
        return bool(holds)

    def _smallest(self, place: int, point: np.ndarray, outputs: np.ndarray) -> float:
        """The smallest u of the interval, up to float64, at which a point is a witness; NaN where there is none."""
        batch = self._batch(np.array([place]), np.array([self._start()]))

        def breaks(u: float) -> bool:
            at = revalued(batch, [Fraction(self._value(u))])
            inside = at.regions.witness is not None and bool(at.regions.witness.contains(point[None])[0])
            return inside and bool(broken(at, outputs)[0])

        def margin(u: float) -> float:
            return float(margin_at(revalued(batch, [Fraction(self._value(u))]), outputs)[0])

        if math.isfinite(self._low) and breaks(self._low):
            return self._low
        ends = self._around(breaks, margin)
        if ends is None:
            return math.nan
        fails, holds = ends
        for _ in range(_STEPS):
            middle = fails + (holds - fails) / 2
            if not fails < middle < holds or holds - fails <= 1e-13 * max(abs(holds), _LEAST):
                break
            fails, holds = (fails, middle) if breaks(middle) else (middle, holds)
        return holds

    def _around(self, breaks: object, margin: object) -> tuple[float, float] | None:
        """Two values between which a point becomes a witness: not one at the first, and one at the second."""
        assert callable(breaks) and callable(margin)
        start = self._start()
        here, there = margin(start), margin(start + 1.0)
        if math.isfinite(here) and math.isfinite(there) and there < here:
            root = start + here / (here - there)
            near = 1e-9 * (1.0 + abs(root))
            ends = max(root - near, self._low), min(root + near, self._high)
            if ends[0] < ends[1] and not breaks(ends[0]) and breaks(ends[1]):
                return ends
        if math.isfinite(self._high) and not breaks(self._high):
            return None
        holds, step = self._high if math.isfinite(self._high) else start, 1.0
        while not breaks(holds):
            holds, step = holds + step, 4 * step
            if step > 1e18:
                return None
        fails, step = self._low if math.isfinite(self._low) else holds - 1.0, 1.0
        while breaks(fails):
            fails, step = fails - step, 4 * step
            if step > 1e18:
                return None
        return fails, holds

    # Bounds

    def _prove(self) -> None:
        """Raises what is proven as far as the last bounding stage proves it."""
        if self._bound is None or not self._known:
            return
        every = np.arange(len(self._known))
        at = np.array([k.refuted if math.isfinite(k.refuted) else self._start() for k in self._known])
        slopes = self._slopes(every, at)
        for _ in range(ROUNDS):
            if self._time.late():
                return
            margins, rounding = self._certified(self._bound, every, at)
            following = at.copy()
            for place in every.tolist():
                numbers = float(at[place]), float(margins[place]), float(rounding[place])
                following[place] = self._next(place, numbers, slopes[place])
            # All samples go along, so that passes are of one size; those that are done are bounded where they were.
            if (following == at).all():
                return
            at = following

    def _slopes(self, places: np.ndarray, at: np.ndarray) -> list[tuple[float, float]]:
        """By how much rows fall with u, the least and the most of each sample; (0, 0) where they do not tell."""
        first, second = (self._batch(places, values).clauses for values in (at, at + 1.0))
        found = []
        for place in places.tolist():
            counts = first.counts[place] & second.counts[place]
            falls = first.offsets[place][counts] - second.offsets[place][counts]
            falls = falls[falls > 0]
            alike = np.array_equal(first.coefficients[place], second.coefficients[place])
            found.append((float(falls.min()), float(falls.max())) if falls.size and alike else (0.0, 0.0))
        return found

    def _next(self, place: int, found: tuple[float, float, float], slope: tuple[float, float]) -> float:
        """Takes in what a bound says, and tells at which value to bound next; the same where there is no use."""
        (at, margin, lost), known = found, self._known[place]
        proven = bool(is_proof(margin, lost))
        if proven and not at <= known.proven:
            known.proven, known.margin, known.missed = at, margin, 0
            known.stage, known.guarantee = self._bound, known.level
        elif not proven:
            known.failed, known.missed = min(known.failed, at), known.missed + 1
        step = math.nan
        if math.isfinite(margin) and min(slope) > 0:
            step = (margin - lost) / slope[1 if proven else 0]
            # Bounds may be blind to steps below their type's precision: each miss in a row makes the next step longer.
            short = 1e-12 * 16.0 ** (known.missed - 1) * (1 + abs(at))
            step = step * (1 - _SLACK) if proven else step * (1 + _SLACK) - short
        low, high = known.proven, min(known.failed, known.refuted if math.isfinite(known.refuted) else math.inf)
        if math.isnan(low):
            if at <= self._low:
                return at  # nothing of the interval is proven
            further = (at + self._low) / 2 if math.isfinite(self._low) else at - 2 * abs(at) - 1
            return max(at + step if step < 0 else further, self._low)
        tolerance = self._tolerance(known)
        if low >= self._high or high - low <= tolerance or (proven and step <= tolerance / 20):
            return at
        if proven and step > 0 and low + step < high:
            return min(low + step, self._high)
        if not proven and low < at + step < high:
            return at + step
        return min((low + high) / 2 if math.isfinite(high) else low + 2 * abs(low) + 1, self._high)

    def _certified(self, stage: StageSpec, places: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lower bounds of the margins at some values, and what rounding may take from each; NaN where none is known."""
        margins, rounding = np.full(len(places), np.nan), np.zeros(len(places))
        for place, finding in self._findings(stage, places, at):
            if finding.guarantee in PROOFS and math.isfinite(finding.margin):
                margins[place], rounding[place] = finding.margin, finding.rounding
                self._known[int(places[place])].level = finding.guarantee
        return margins, rounding

    def _findings(self, stage: StageSpec, places: np.ndarray, at: np.ndarray) -> Iterator[tuple[int, Finding]]:
        """What a stage finds about samples at values, with the sample's place among those given."""
        running = self._stages.get(stage, self._task.take(places))
        batch = self._batch(places, at)
        for finding in running.decide(batch, self._budget(stage, places), lambda place, margin: None):
            self._known[int(places[finding.place])].work += finding.work
            yield finding.place, finding

    # Attacks

    def _attacked(self) -> None:
        """Lowers what is refuted by an attack, near what is proven first."""
        if self._attack is None:
            return
        below = np.array([k.proven if math.isfinite(k.proven) else self._lowest(k) for k in self._known])
        share = _FIRST
        for _ in range(ATTACKS):
            above = np.array([k.refuted if math.isfinite(k.refuted) else self._highest(k) for k in self._known])
            open_ = [not self._closed(k) and b < a for k, b, a in zip(self._known, below, above, strict=True)]
            places = np.flatnonzero(open_)
            if not len(places) or self._time.late():
                return
            at = below[places] + share * (above[places] - below[places])
            for i, finding in self._findings(self._attack, places, at):
                place = int(places[i])
                found = finding.witness is not None and self._witness(place, finding.witness)
                if not found and finding.outcome is not Outcome.TIMEOUT:
                    below[place] = max(below[place], at[i])
            share = 0.5

    def _lowest(self, known: _Known) -> float:
        if math.isfinite(self._low):
            return self._low
        return known.refuted - 1.0 - abs(known.refuted) if math.isfinite(known.refuted) else -1.0

    def _highest(self, known: _Known) -> float:
        if math.isfinite(self._high):
            return self._high
        return known.proven + 1.0 + abs(known.proven) if math.isfinite(known.proven) else 1.0

    # Solvers

    def _solve(self, place: int, spent: float) -> None:
        """Closes in on the answer by decisions of a solver: beside the witness first, then between the two ends."""
        known, stage = self._known[place], self._solver
        if stage is None:
            return
        began = self._clock.used()
        for number in range(DECISIONS):
            if self._closed(known) or self._clock.reason(spent + self._clock.used() - began):
                return
            low, high = self._ends(known)
            gap = self._tolerance(known)
            at = high - 0.9 * gap if number < 3 and math.isfinite(known.refuted) else low + (high - low) / 2
            if not low < at < high:
                at = low + (high - low) / 2
            if not self._decided(stage, place, at):
                return
            proven, witness = (self._value(end) for end in (known.proven, known.refuted))
            ends = (proven, witness) if self._sign > 0 else (witness, proven)
            self._watch(Standing(int(self._task.samples[place]), *ends, spent + self._clock.used() - began))

    def _ends(self, known: _Known) -> tuple[float, float]:
        """Two values between which the answer lies, or beyond which it is looked for."""
        low = known.proven if math.isfinite(known.proven) else self._lowest(known)
        high = known.refuted if math.isfinite(known.refuted) else self._highest(known)
        return low, high

    def _decided(self, stage: StageSpec, place: int, at: float) -> bool:
        """Takes in what a solver says at a value; False if it decides nothing."""
        known = self._known[place]
        ((_, finding),) = list(self._findings(stage, np.array([place]), np.array([at])))
        if finding.witness is not None and self._witness(place, finding.witness):
            self._consistent(place)
            return True
        proven = bool(is_proof(finding.margin, finding.rounding)) and finding.guarantee in PROOFS
        if finding.outcome is Outcome.VERIFIED and proven and not known.contradicted:
            known.proven, known.margin, known.stage, known.guarantee = at, finding.margin, stage, finding.guarantee
            self._consistent(place)
            return True
        known.reason = finding.reason
        return False

    # Answers

    def _consistent(self, place: int) -> None:
        """Drops a proof that a witness refutes."""
        known = self._known[place]
        if not known.refuted <= known.proven or known.stage is None:
            return
        claim = f"{known.stage.name} proved it at {self._value(known.proven):.6g}"
        said = refuted(self._task, place, claim, known.guarantee, Verdict(Outcome.UNKNOWN))
        known.proven, known.margin, known.stage = math.nan, math.nan, None
        known.reason, known.contradicted = said.reason, said.contradicted

    def _answer(self, place: int, seconds: float) -> MeasureAnswer:
        known = self._known[place]
        settled = known.refuted <= self._low
        if settled and self._template.existential:
            known.proven, known.guarantee, known.margin = self._low, Guarantee.REPLAYED, math.nan
        ends = self._value(known.proven), self._value(known.refuted)
        lower, upper = ends if self._sign > 0 else ends[::-1]
        verdict = replace(self._verdict(known, settled, seconds), work=known.work)
        return MeasureAnswer(place, verdict, Measured(lower, upper))

    def _verdict(self, known: _Known, settled: bool, seconds: float) -> Verdict:
        stage = known.stage or self._solver or self._attack
        name, method = (stage.name, stage.method) if stage is not None else ("", "")
        relaxation = relaxation_name(known.stage) if known.stage is not None else ""
        late = self._clock.reason(seconds)
        proven, said = not math.isnan(known.proven), known.reason
        guarantee = known.guarantee if proven else Guarantee.ESTIMATE
        if settled and not proven:
            outcome, guarantee = Outcome.FALSIFIED, Guarantee.REPLAYED
            said = Reason.NOTHING_PROVEN.because(said="a witness refutes every value of the interval")
        elif proven:
            outcome = Outcome.VERIFIED
            early = late.more(": the search stopped early") if late else said
            said = "" if self._closed(known) and not known.contradicted else early
        elif late:
            outcome, said = Outcome.TIMEOUT, late
        else:
            outcome = Outcome.UNKNOWN
            if not said and all(spec.attacks for spec in self._template.strategy.stages):
                said = Reason.ATTACKS_ALONE.because(said="no stage of the strategy can prove")
            said = said or Reason.NOTHING_PROVEN.because(said="no value could be proven")
        return Verdict(
            outcome, said, name, method, relaxation, guarantee, known.margin, seconds, known.witness,
            contradicted=known.contradicted,
        )  # fmt: skip

    # Time

    def _budget(self, stage: StageSpec, places: np.ndarray) -> StageBudget:
        """The time for some samples: what is left to the whole batch, which is charged for it evenly."""
        return self._time.budget(len(places), float(stage.option("time_limit", math.inf)))
