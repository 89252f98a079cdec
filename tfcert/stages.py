"""One batch of a property on its way down the stages of its strategy: attacks refute, bounds prove.

Only ``isfinite(margin) & (margin > 0)`` verifies, and only a witness that lies in the region (exactly) and breaks the
formula on the original model falsifies. A sample that is proven is still attacked by stages listed later: a witness
against it means that tfcert is wrong, and the run stops.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np
import tensorflow as tf

from tfcert.attacks import Clauses, falsify
from tfcert.binding import Task
from tfcert.certification import first_order, lower_bounds
from tfcert.errors import ContradictionError
from tfcert.language import Stage
from tfcert.language.templates import Value
from tfcert.options import BoundOptions
from tfcert.query import Clause, Guarantee, Outcome, Verdict
from tfcert.regions import Regions, build_regions

CLEAN = "clean"
"""The stage that runs the model on the unperturbed samples."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Samples of one task with their regions and what must hold of the outputs.

    Attributes:
        coefficients: ``[batch, clauses, rows, outputs]``; short clauses and lists repeat their first entry.
        offsets: ``[batch, clauses, rows]``.
    """

    task: Task
    regions: Regions
    coefficients: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.task.samples)

    def take(self, places: np.ndarray) -> Batch:
        return Batch(self.task.take(places), self.regions.take(places), self.coefficients[places], self.offsets[places])


def make_batch(task: Task, radii: list[Fraction] | None = None) -> Batch:
    """Regions and clauses of a task's samples; ``radii`` are the values of a measure's variable."""
    network = task.model.network
    dtype = network.dtype.as_numpy_dtype
    regions = build_regions(task.template, task.centers, tuple(network.input_shape), dtype, radii)
    known = {v: task.template.clauses(task.model.num_outputs, v) for v in dict.fromkeys(task.labels)}
    coefficients, offsets = _stack([known[v] for v in task.labels])
    return Batch(task, regions, coefficients, offsets)


def _stack(queries: list[tuple[Clause, ...]]) -> tuple[np.ndarray, np.ndarray]:
    clauses = max(len(q) for q in queries)
    rows = max(len(c.offsets) for q in queries for c in q)
    places = [[q[i] if i < len(q) else q[0] for i in range(clauses)] for q in queries]
    index = [[np.where(np.arange(rows) < len(c.offsets), np.arange(rows), 0) for c in q] for q in places]
    coefficients = [[c.coefficients[i] for c, i in zip(q, p, strict=True)] for q, p in zip(places, index, strict=True)]
    offsets = [[c.offsets[i] for c, i in zip(q, p, strict=True)] for q, p in zip(places, index, strict=True)]
    return np.array(coefficients), np.array(offsets)


def certified_margins(batch: Batch, stage: Stage, options: BoundOptions) -> np.ndarray:
    """Lower bounds of the margins ``[batch]``: the least over the clauses of the best of their rows; NaN if unknown.

    Raises:
        ValueError: a method or relaxation that this network does not allow.
    """
    count, clauses, rows, outputs = batch.coefficients.shape
    bounds = lower_bounds(
        batch.task.model.network,
        batch.regions.proof,
        batch.coefficients.reshape(count, clauses * rows, outputs),
        batch.offsets.reshape(count, clauses * rows),
        method=stage.method,
        relaxation=_relaxation(stage),
        options=bound_options(stage, options),
    )
    found = np.asarray(bounds, np.float64).reshape(count, clauses, rows)
    best = np.where(np.isfinite(found), found, -np.inf).max(axis=2).min(axis=1)
    return np.where(np.isfinite(best), best, np.nan)


def bound_options(stage: Stage, options: BoundOptions) -> BoundOptions:
    """The options with what the stage says of iterations and learning rate."""
    given = dict(stage.options)
    return replace(
        options,
        iterations=int(given.get("iterations", options.iterations)),
        learning_rate=float(given.get("learning_rate", options.learning_rate)),
    )


def slopes(batch: Batch, norm: str) -> np.ndarray:
    """How fast the linear approximations of the margins at the centres fall with the radius in network space."""
    network, centers = batch.task.model.network, batch.task.centers
    assert centers is not None
    coefficients, offsets = (tf.constant(part, network.dtype) for part in (batch.coefficients, batch.offsets))

    def margin(outputs: tf.Tensor) -> tf.Tensor:
        rows = tf.einsum("bcro,bo->bcr", coefficients, outputs) + offsets
        return tf.reduce_min(tf.reduce_max(rows, axis=2), axis=1)

    return first_order(network, centers, margin, norm)[1].astype(np.float64)


def proves(margins: np.ndarray) -> np.ndarray:
    """Which certified margins are proofs."""
    return np.isfinite(margins) & (margins > 0)


def margin_at(batch: Batch, outputs: np.ndarray) -> np.ndarray:
    """The margins ``[batch]`` at concrete outputs ``[batch, outputs]``, in float64."""
    values = np.einsum("bcro,bo->bcr", batch.coefficients, outputs.astype(np.float64)) + batch.offsets
    return values.max(axis=2).min(axis=1)


def broken(batch: Batch, outputs: np.ndarray) -> np.ndarray:
    """Where the formula is false at the original model's outputs ``[batch, outputs]``, in exact arithmetic.

    NaN and infinity break nothing and prove nothing. Of probabilities a tie does not count: they may tie where the
    logits, which the formula is about, do not.
    """
    template, labels = batch.task.template, batch.task.labels
    finite = np.isfinite(outputs).all(axis=1)
    found = [bool(ok) and not template.holds(o, y) for ok, o, y in zip(finite, outputs, labels, strict=True)]
    false = np.array(found, bool)
    return false & (margin_at(batch, outputs) < 0) if batch.task.model.peeled else false


@dataclass(frozen=True)
class Replayed:
    """What an attack came to: for each sample a witness that holds up (or None) and its margin."""

    witnesses: list[np.ndarray | None]
    margins: np.ndarray
    spurious: np.ndarray


def attack_batch(batch: Batch, stage: Stage) -> Replayed:
    """Attacks the original model inside the regions and keeps only what replays on it."""
    count = len(batch)
    nothing = Replayed([None] * count, np.full(count, np.nan), np.zeros(count, bool))
    region = batch.regions.witness
    if region is None or not count:
        return nothing
    loaded = batch.task.model
    attacks = falsify(
        loaded.model,
        region,
        Clauses(batch.coefficients, batch.offsets),
        network=loaded.network if loaded.peeled else None,
        holds=lambda outputs, places: ~broken(batch.take(places), outputs.reshape(len(outputs), -1)),
        method=stage.method,
        **{name: _plain(value) for name, value in stage.options},
    )
    claimed, center = np.asarray(attacks.success, bool), region.center
    points = np.where(claimed.reshape(-1, *[1] * (center.ndim - 1)), attacks.witness, center).astype(center.dtype)
    outputs = loaded.outputs(points)
    kept = claimed & region.contains(points) & broken(batch, outputs)
    return Replayed(
        [points[i] if kept[i] else None for i in range(count)],
        np.where(kept, margin_at(batch, outputs), np.nan),
        claimed & ~kept,
    )


def _plain(value: Value) -> bool | int | float | str:
    return float(value) if isinstance(value, Fraction) else value


def _relaxation(stage: Stage) -> str | None:
    value = dict(stage.options).get("relaxation")
    return None if value is None else str(value)


def relaxation_name(stage: Stage) -> str:
    """The relaxation as records name it: interval bounds use none, the others choose the best one by default."""
    return "" if stage.method == "ibp" else _relaxation(stage) or "adaptive"


@dataclass
class Clock:
    """The time that a task has used, against its strategy's budget (seconds; None for no limit).

    It is looked at between stages: a stage that has begun on a batch runs to its end, and its time is shared out
    evenly among the samples.
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


class Descent:
    """The state of one batch while it goes down the stages; ``run`` yields (place, verdict) as samples finish."""

    def __init__(self, task: Task, clock: Clock, options: BoundOptions):
        self._task, self._clock, self._options = task, clock, options
        self._stages = task.template.strategy.stages
        count = len(task.samples)
        self._open = np.arange(count)
        self._seconds = np.zeros(count)
        self._best = np.full(count, np.nan)
        self._spurious = np.zeros(count, bool)
        self._held: dict[int, Verdict] = {}

    def run(self) -> Iterator[tuple[int, Verdict]]:
        """Verdicts in the order in which they become final; each sample gets exactly one."""
        batch = make_batch(self._task)
        yield from self._clean(batch)
        for number, stage in enumerate(self._stages):
            yield from self._expired(f"before stage {stage.name}")
            attacked_later = any(s.attacks for s in self._stages[number + 1 :])
            if stage.attacks:
                yield from self._attack(batch, stage)
            elif len(self._open):
                yield from self._prove(batch, stage, attacked_later)
            if not attacked_later:
                yield from self._release()
        for place in self._open:
            yield int(place), self._undecided(int(place))

    def _clean(self, batch: Batch) -> Iterator[tuple[int, Verdict]]:
        outputs = self._task.outputs
        if outputs is None:
            return
        wrong = broken(batch, outputs)
        margins = margin_at(batch, outputs)
        self._open = np.flatnonzero(~wrong)
        for place in np.flatnonzero(wrong):
            yield int(place), clean_verdict(self._task, int(place), float(margins[place]))

    def _expired(self, when: str) -> Iterator[tuple[int, Verdict]]:
        reasons = {int(p): self._clock.reason(self._seconds[p]) for p in self._open}
        self._open = np.array([p for p in self._open if not reasons[int(p)]], int)
        for place, reason in reasons.items():
            if reason:
                verdict = Verdict(Outcome.TIMEOUT, f"{reason} {when}", guarantee=Guarantee.ESTIMATE)
                timed = replace(verdict, seconds=float(self._seconds[place]))
                yield place, timed if math.isnan(self._best[place]) else self._completed(verdict, place)

    def _attack(self, batch: Batch, stage: Stage) -> Iterator[tuple[int, Verdict]]:
        places = np.array(sorted([*self._open, *self._held]), int)
        if not len(places):
            return
        began = time.monotonic()
        found = attack_batch(batch.take(places), stage)
        self._charge(places, began)
        self._spurious[places] |= found.spurious
        for i, place in enumerate(places.tolist()):
            if found.witnesses[i] is None:
                continue
            verdict = Verdict(
                Outcome.FALSIFIED,
                stage=stage.name,
                method=stage.method,
                guarantee=Guarantee.REPLAYED,
                margin=float(found.margins[i]),
                seconds=float(self._seconds[place]),
                witness=found.witnesses[i],
            )
            if place in self._held:
                raise _contradiction(self._task, place, self._held[place], verdict)
            self._open = self._open[self._open != place]
            yield place, verdict

    def _prove(self, batch: Batch, stage: Stage, attacked_later: bool) -> Iterator[tuple[int, Verdict]]:
        began = time.monotonic()
        margins = certified_margins(batch.take(self._open), stage, self._options)
        self._charge(self._open, began)
        self._best[self._open] = np.fmax(self._best[self._open], margins)
        proven = proves(margins)
        for place, margin in zip(self._open[proven].tolist(), margins[proven].tolist(), strict=True):
            verdict = Verdict(
                Outcome.VERIFIED,
                stage=stage.name,
                method=stage.method,
                relaxation=relaxation_name(stage),
                guarantee=Guarantee.NUMERIC,
                margin=margin,
                seconds=float(self._seconds[place]),
            )
            if attacked_later:
                self._held[place] = verdict
            else:
                yield place, verdict
        self._open = self._open[~proven]

    def _release(self) -> Iterator[tuple[int, Verdict]]:
        held, self._held = self._held, {}
        yield from held.items()

    def _charge(self, places: np.ndarray, began: float) -> None:
        self._seconds[places] += (time.monotonic() - began) / max(1, len(places))

    def _undecided(self, place: int) -> Verdict:
        if self._spurious[place]:
            reason = "spurious witness: what the attack found does not replay on the original model"
        elif all(stage.attacks for stage in self._stages):
            reason = "the attack found no witness, and no stage of the strategy can prove"
        elif math.isnan(self._best[place]):
            reason = "the bounds are not finite"
        else:
            reason = f"the margin is only known to be at least {self._best[place]:.4g}"
        return self._completed(Verdict(Outcome.UNKNOWN, reason, guarantee=Guarantee.ESTIMATE), place)

    def _completed(self, verdict: Verdict, place: int) -> Verdict:
        bounds = [stage for stage in self._stages if not stage.attacks]
        known = bounds and not math.isnan(self._best[place])
        last = bounds[-1] if known else self._stages[-1]
        return replace(
            verdict,
            stage=last.name,
            method=last.method,
            relaxation=relaxation_name(last) if known else "",
            margin=float(self._best[place]),
            seconds=float(self._seconds[place]),
        )


def clean_verdict(task: Task, place: int, margin: float) -> Verdict:
    """An unperturbed sample that already breaks the formula is its own witness."""
    assert task.centers is not None
    return Verdict(
        Outcome.FALSIFIED,
        "the unperturbed input already breaks the property",
        stage=CLEAN,
        guarantee=Guarantee.REPLAYED,
        margin=margin,
        witness=task.centers[place],
    )


def _contradiction(task: Task, place: int, proof: Verdict, refutation: Verdict) -> ContradictionError:
    return ContradictionError(
        f"{task.name}, sample {task.samples[place]}: verified by {proof.method} with margin {proof.margin:.6g}, yet "
        f"{refutation.method} found a witness that replays on the original model with margin {refutation.margin:.6g}. "
        "This is a bug in tfcert: no verdict of this run can be relied on. Please report it."
    )
