"""What a stage does to a batch: bounds prove, attacks and solvers refute.

Only a margin that ``is_proof`` proves, and only a witness that lies in the region (exactly) and breaks the
formula on the original model refutes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from tfcert.attacks import falsify
from tfcert.clauses import Clauses
from tfcert.driver.bind import Task
from tfcert.driver.regions import Regions, build_regions
from tfcert.language import Stage
from tfcert.language.spec.declarations import Value
from tfcert.options import BoundOptions
from tfcert.propagation.engine import lower_bounds
from tfcert.propagation.question import first_order
from tfcert.rigour.margins import rounding


@dataclass(frozen=True, eq=False)
class Batch:
    """Samples of one task with their regions and what must hold of the outputs.

    Attributes:
        clauses: of the outputs.
    """

    task: Task
    regions: Regions
    clauses: Clauses

    def __len__(self) -> int:
        return len(self.task.samples)

    def take(self, places: np.ndarray) -> Batch:
        return Batch(self.task.take(places), self.regions.take(places), self.clauses.take(places))


def make_batch(task: Task, radii: list[Fraction] | None = None) -> Batch:
    """Regions and clauses of a task's samples; ``radii`` are the values of a measure's variable."""
    network = task.model.network
    dtype = network.dtype.as_numpy_dtype
    regions = build_regions(task.template, task.centers, tuple(network.input_shape), dtype, radii)
    known = {v: task.template.clauses(task.model.num_outputs, v) for v in dict.fromkeys(task.labels)}
    return Batch(task, regions, Clauses.stack([known[v] for v in task.labels]))


def certified_margins(batch: Batch, stage: Stage, options: BoundOptions) -> tuple[np.ndarray, np.ndarray]:
    """Lower bounds of the margins ``[batch]``, NaN where nothing is known, and what rounding may take from each: a
    margin that is not above it proves nothing.

    Raises:
        ValueError: a method or relaxation that this network does not allow.
    """
    coefficients, offsets = batch.clauses.rows()
    network, proof = batch.task.model.network, batch.regions.proof
    bounds = lower_bounds(
        network,
        proof,
        coefficients,
        offsets,
        method=stage.method,
        relaxation=stage.option("relaxation"),
        options=bound_options(stage, options),
    )
    return batch.clauses.certified(bounds, rounding(network, proof, coefficients))


def bound_options(stage: Stage, options: BoundOptions) -> BoundOptions:
    """The options with what the stage says of iterations and learning rate, or of its solver."""
    limit = stage.option("time_limit")
    return replace(
        options,
        iterations=int(stage.option("iterations", options.iterations)),
        learning_rate=float(stage.option("learning_rate", options.learning_rate)),
        solver=str(stage.option("solver", options.solver)),
        solver_seconds=options.solver_seconds if limit is None else float(limit),
    )


def slopes(batch: Batch, norm: str) -> tuple[np.ndarray, np.ndarray]:
    """The margins at the centres, and how fast their linear approximations fall with the radius in network space."""
    assert batch.task.centers is not None
    at_center, slope = first_order(batch.task.model.network, batch.task.centers, batch.clauses, norm)
    return at_center.astype(np.float64), slope.astype(np.float64)


def margin_at(batch: Batch, outputs: np.ndarray) -> np.ndarray:
    """The margins ``[batch]`` at the model's answers ``[batch, outputs]``, in float64 and the unit of the bounds."""
    return batch.clauses.margin(batch.task.model.scores(outputs))


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
    """What claims came to: for each sample a witness that holds up (or None) and its margin."""

    witnesses: list[np.ndarray | None]
    margins: np.ndarray
    spurious: np.ndarray


def replay_claims(batch: Batch, points: np.ndarray, claimed: np.ndarray) -> Replayed:
    """Which points ``[batch, *input]`` are witnesses: claimed, in their region, and breaking the original model."""
    region, outputs = batch.regions.witness, batch.task.model.outputs(points)
    inside = np.zeros(len(batch), bool) if region is None else region.contains(points)
    kept = claimed & inside & broken(batch, outputs)
    return Replayed(
        [points[i] if kept[i] else None for i in range(len(batch))],
        np.where(kept, margin_at(batch, outputs), np.nan),
        claimed & ~kept,
    )


def attack_batch(batch: Batch, stage: Stage) -> Replayed:
    """Attacks the original model inside the regions and keeps only what replays on it."""
    count = len(batch)
    nothing = Replayed([None] * count, np.full(count, np.nan), np.zeros(count, bool))
    region = batch.regions.witness
    if region is None or not count:
        return nothing
    loaded = batch.task.model
    options: dict[str, Any] = {name: _plain(value) for name, value in stage.options}
    attacks = falsify(
        loaded.model,
        region,
        batch.clauses,
        network=loaded.network if loaded.peeled else None,
        holds=lambda outputs, places: ~broken(batch.take(places), outputs.reshape(len(outputs), -1)),
        method=stage.method,
        **options,
    )
    claimed, center = np.asarray(attacks.success, bool), region.center
    points = np.where(claimed.reshape(-1, *[1] * (center.ndim - 1)), attacks.witness, center).astype(center.dtype)
    return replay_claims(batch, points, claimed)


def _plain(value: Value) -> bool | int | float | str:
    return float(value) if isinstance(value, Fraction) else value


def relaxation_name(stage: Stage) -> str:
    """The relaxation as records name it: where there is a choice, the best one by default."""
    return str(stage.option("relaxation", "adaptive")) if stage.relaxes else ""
