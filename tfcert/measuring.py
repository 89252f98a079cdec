"""One batch of a measure: the largest value with a proof, and the smallest value with a replayed witness."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from tfcert.binding import Task
from tfcert.certification import first_guess, largest_radius
from tfcert.errors import ContradictionError
from tfcert.language import Ball, MeasureTemplate, Stage
from tfcert.options import BoundOptions
from tfcert.perturbations import ORDER
from tfcert.query import Guarantee, Outcome, Verdict
from tfcert.report.records import Measured
from tfcert.stages import (
    Batch,
    Clock,
    attack_batch,
    broken,
    certified_margins,
    clean_verdict,
    make_batch,
    margin_at,
    proves,
    relaxation_name,
    slopes,
)

BISECTIONS = 4
"""How often the gap between what is proven and what is refuted is halved by another attack."""
FIRST_STEP = 4
"""The first attack looks this many times beyond what is proven."""


@dataclass(frozen=True)
class Finding:
    """What a measure came to on one sample."""

    place: int
    verdict: Verdict
    measured: Measured


@dataclass
class _Refutation:
    """The smallest refuted values so far (NaN: none) and their witnesses."""

    value: np.ndarray
    witness: list[np.ndarray | None]


class Search:
    """Measures one batch; ``run`` yields one finding a sample."""

    def __init__(self, task: Task, clock: Clock, options: BoundOptions):
        assert isinstance(task.template, MeasureTemplate) and isinstance(task.template.region, Ball)
        self._task, self._clock, self._options = task, clock, options
        self._template, self._region = task.template, task.template.region
        self._low, self._high = float(task.template.lower), float(task.template.upper)
        stages = task.template.strategy.stages
        bounds = [stage for stage in stages if not stage.attacks]
        self._bound: Stage | None = bounds[-1] if bounds else None
        self._attack: Stage | None = next((stage for stage in stages if stage.attacks), None)
        self._began = time.monotonic()

    def run(self) -> Iterator[Finding]:
        """The findings; samples that are wrong unperturbed come first."""
        task, count = self._task, len(self._task.samples)
        assert task.outputs is not None
        batch = self._batch(np.arange(count), np.full(count, self._low))
        wrong, margins = broken(batch, task.outputs), margin_at(batch, task.outputs)
        for place in np.flatnonzero(wrong).tolist():
            yield Finding(place, clean_verdict(task, place, float(margins[place])), Measured(0.0, self._low))
        places = np.flatnonzero(~wrong)
        if not len(places):
            return
        radius, margin = self._prove(places)
        refuted = self._refute(places, radius)
        seconds = (time.monotonic() - self._began) / len(places)
        for i, place in enumerate(places.tolist()):
            verdict = self._verdict(float(radius[i]), float(margin[i]), seconds)
            measured = Measured(float(radius[i]), float(refuted.value[i]))
            yield Finding(place, replace(verdict, witness=refuted.witness[i]), measured)

    def _prove(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The largest certified values (NaN: none) and their margins."""
        nothing = np.full(len(places), np.nan)
        stage = self._bound
        if stage is None or self._clock.out_of_total():
            return nothing, nothing.copy()

        def margins(indices: np.ndarray, eps: np.ndarray) -> np.ndarray:
            if self._expired():
                return np.full(len(indices), -np.inf)
            return certified_margins(self._batch(places[indices], eps), stage, self._options)

        at_zero = self._batch(places, np.zeros(len(places)))
        # Around a point the cheapest bounds are as good as any.
        start = certified_margins(at_zero, stage if self._region.eps else Stage("ibp"), self._options)
        slope = slopes(at_zero, self._region.norm) * self._net_size()
        guesses = first_guess(start, slope, self._region.norm)
        tolerance = float(self._template.tolerance)
        found = largest_radius(
            margins,
            start,
            guesses=guesses,
            slope=slope,
            upper=self._high,
            tolerance=tolerance if self._template.relative else 0.0,
            absolute=0.0 if self._template.relative else tolerance,
        )
        proven = proves(found.margin) & (found.radius > 0) & (found.radius >= self._low)
        return np.where(proven, found.radius, np.nan), np.where(proven, found.margin, np.nan)

    def _net_size(self) -> float:
        """What one unit of the measure's value is in network space, on average over the channels."""
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
        self._require_consistent(places, proven, found)
        return found

    def _try(
        self, places: np.ndarray, some: np.ndarray, eps: np.ndarray, found: _Refutation, below: np.ndarray
    ) -> None:
        """Attacks ``places[some]`` at ``eps``: lowers what is refuted, or raises from where to look."""
        if not len(some) or self._attack is None or self._expired():
            return
        replayed = attack_batch(self._batch(places[some], eps), self._attack)
        for i, witness in enumerate(replayed.witnesses):
            if witness is None:
                below[some[i]] = max(below[some[i]], eps[i])
            else:
                found.value[some[i]] = self._smallest(int(places[some[i]]), witness, float(eps[i]))
                found.witness[some[i]] = witness
        below[some] = np.fmin(below[some], np.where(np.isnan(found.value[some]), np.inf, found.value[some]))

    def _smallest(self, place: int, witness: np.ndarray, eps: float) -> float:
        """A value at most ``eps`` whose region still holds the witness: its distance, rounded up."""
        assert self._task.centers is not None
        step = witness.astype(np.float64) - self._task.centers[place].astype(np.float64)
        unit = self._task.template.transform.net_eps(self._region.space, Fraction(1))
        scaled = (np.abs(step) / np.array([float(u) for u in unit])).ravel()
        order = ORDER[self._region.norm]
        distance = float(np.linalg.norm(scaled, order)) * (1 + 1e-9)
        value = (distance - float(self._region.eps)) / float(self._region.slope)
        if not self._low <= value < eps:
            return eps
        region = self._batch(np.array([place]), np.array([value])).regions.witness
        return value if region is not None and bool(region.contains(witness[None])[0]) else eps

    def _require_consistent(self, places: np.ndarray, proven: np.ndarray, found: _Refutation) -> None:
        for i in np.flatnonzero(found.value < proven).tolist():
            raise ContradictionError(
                f"{self._task.name}, sample {self._task.samples[places[i]]}: certified up to {proven[i]:.6g}, yet a "
                f"witness that replays on the original model lies at {found.value[i]:.6g}. This is a bug in tfcert: "
                "no verdict of this run can be relied on. Please report it."
            )

    def _batch(self, places: np.ndarray, values: np.ndarray) -> Batch:
        return make_batch(self._task.take(places), [Fraction(float(v)) for v in values])

    def _expired(self) -> bool:
        spent = (time.monotonic() - self._began) / max(1, len(self._task.samples))
        return bool(self._clock.reason(spent))

    def _verdict(self, radius: float, margin: float, seconds: float) -> Verdict:
        stage = self._bound or self._attack
        name, method = (stage.name, stage.method) if stage is not None else ("", "")
        relaxation = relaxation_name(self._bound) if self._bound is not None else ""
        spent = (time.monotonic() - self._began) / max(1, len(self._task.samples))
        late = self._clock.reason(spent)
        if not math.isnan(radius):
            reason = f"{late}: the search stopped early" if late else ""
            return Verdict(Outcome.VERIFIED, reason, name, method, relaxation, Guarantee.NUMERIC, margin, seconds)
        if late:
            return Verdict(Outcome.TIMEOUT, late, name, method, relaxation, Guarantee.ESTIMATE, margin, seconds)
        reason = "no value of the interval could be proven" if self._bound else "no stage of the strategy can prove"
        return Verdict(Outcome.UNKNOWN, reason, name, method, relaxation, Guarantee.ESTIMATE, margin, seconds)
