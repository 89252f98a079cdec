"""Samples of one task with their regions and what must hold of the outputs, and the last word on witnesses.

A witness lies in the region (exactly) and breaks the formula on the original model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import numpy as np

from tfcert.clauses import Clauses
from tfcert.driver.points import build_joint, build_joint_pieces
from tfcert.driver.regions import Regions, build_pieces, build_regions
from tfcert.driver.task import LoadedModel, Task
from tfcert.language import MeasureTemplate, ValueTemplate
from tfcert.propagation.question import first_order
from tfcert.verdict import ModelRun, Replayed

REPLAYS = (1, 8)
"""How many copies of a witness the model is run on: alone, and inside a batch."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Samples of one task with their regions and what must hold of the outputs.

    Attributes:
        clauses: of the outputs.
        known: what one stage found out about a sample and another need not find out again, by its :attr:`key`.
    """

    task: Task
    regions: Regions
    clauses: Clauses
    known: dict[Any, Any] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.task.samples)

    @property
    def key(self) -> tuple[int, int]:
        """The only sample's index, and the number of the piece of its region."""
        return int(self.task.samples[0]), 0 if self.task.rows is None else int(self.task.rows[0])

    def take(self, places: np.ndarray) -> Batch:
        return Batch(self.task.take(places), self.regions.take(places), self.clauses.take(places), self.known)


def make_batch(task: Task, radii: list[Fraction] | None = None) -> Batch:
    """Regions and clauses of a task's samples; ``radii`` are the values of a measure's variable, by default the most.

    Nothing is lowered that was before.
    """
    template = task.template
    if isinstance(template, MeasureTemplate | ValueTemplate):
        values = [template.usual] * len(task.samples) if radii is None else radii
        radii = values if template.in_region else None
        task = task.at(values) if isinstance(template, ValueTemplate) else task
    network = task.model.network
    dtype = network.dtype.as_numpy_dtype
    shape = tuple(network.input_shape)
    if task.placed is not None and task.rows is not None:
        regions = build_joint_pieces(task.pieces, task.rows, task.placed, dtype)
    elif task.placed is not None:
        regions = build_joint(template, task.placed, dtype, radii)
    elif task.rows is not None:
        regions = build_pieces(task.pieces, task.rows, task.centers, shape, dtype)
    else:
        regions = build_regions(template, task.centers, shape, dtype, radii)
    if len(regions.proof) < len(task.samples):  # one region, asked about several times
        regions = regions.take(np.zeros(len(task.samples), int))
    return Batch(task, regions, task.lowered.stacked(task.given))


def revalued(batch: Batch, values: list[Fraction]) -> Batch:
    """The same samples at other values of their measure's variable."""
    template = batch.task.template
    if isinstance(template, ValueTemplate) and not template.in_region:
        task = batch.task.at(values)
        return replace(batch, task=task, clauses=task.lowered.stacked(task.given))
    return make_batch(batch.task, values)


def slopes(batch: Batch, norm: str) -> tuple[np.ndarray, np.ndarray]:
    """The margins at the centres, and how fast their linear approximations fall with the radius in network space."""
    assert batch.task.centers is not None
    at_center, slope = first_order(batch.task.model.network, batch.task.centers, batch.clauses, norm)
    return at_center.astype(np.float64), slope.astype(np.float64)


def margin_at(batch: Batch, outputs: np.ndarray) -> np.ndarray:
    """The margins ``[batch]`` at the model's answers ``[batch, outputs]``, in float64 and the unit of the bounds."""
    return _margins(batch.task, batch.clauses, outputs)


def _margins(task: Task, clauses: Clauses, outputs: np.ndarray) -> np.ndarray:
    return clauses.margin(outputs if clauses.reads is not None else task.model.scores(outputs))


def broken(batch: Batch, outputs: np.ndarray) -> np.ndarray:
    """Marks where the formula is false at the original model's outputs; see :func:`breaks`."""
    return breaks(batch.task, batch.clauses, outputs)


def breaks(task: Task, clauses: Clauses, outputs: np.ndarray) -> np.ndarray:
    """Marks where the formula is false at the original model's outputs ``[batch, outputs]``, in exact arithmetic.

    NaN and infinity break nothing and prove nothing. Of probabilities a tie does not count: they may tie where the
    logits, which the formula is about, do not.
    """
    finite = np.isfinite(outputs).all(axis=1)
    found = [bool(ok) and not task.holds(i, o) for i, (ok, o) in enumerate(zip(finite, outputs, strict=True))]
    false = np.array(found, bool)
    return false & (_margins(task, clauses, outputs) < 0) if task.model.peeled else false


def replayed(task: Task, point: np.ndarray) -> Replayed:
    """What the original model says of a witness ``[*input]`` of the task's one sample."""
    clauses = task.lowered.stacked(task.given)
    return runs_on(task.model, point, lambda outputs: bool(breaks(task, clauses, outputs)[0]))


def runs_on(model: LoadedModel, point: np.ndarray, broken: Callable[[np.ndarray], bool]) -> Replayed:
    """Runs the original model on a witness: alone and among copies, eagerly and by ``predict``, and alone by XLA.

    Models that are not Keras's own have no ``predict``. XLA compiles another program for each size of a batch, which
    takes up to seconds: it is asked about one point, of models that are not large.

    Args:
        point: ``[*input]`` in the model's dtype.
        broken: whether answers ``[1, outputs]`` make the formula false.
    """
    runs = []
    for runtime, outputs in (("eager", model.outputs), ("predict", model.predicted), ("xla", model.compiled)):
        for count in REPLAYS:
            found = outputs(np.repeat(point[None], count, axis=0))
            if found is not None:
                runs.append(ModelRun(runtime, count, broken(found[-1:])))
    return Replayed(tuple(runs))


def _replays(task: Task, points: np.ndarray) -> list[np.ndarray]:
    """The model's answers ``[batch, outputs]`` to each point, in runs of so many copies of it."""
    alone = [task.model.outputs(point[None]) for point in points]
    copies = [task.model.outputs(np.repeat(point[None], REPLAYS[1], axis=0))[-1:] for point in points]
    return [np.concatenate(run) if run else np.zeros((0, task.model.num_outputs)) for run in (alone, copies)]


def replay_claims(batch: Batch, points: np.ndarray, claimed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The claims that hold up: points in their region that break the formula on the original model.

    Each is run alone and inside a batch, since a product's rounding depends on the batch: one run that breaks the
    formula shows that the deployed program may. :func:`replayed` says where the two runs differ.

    Args:
        points: ``[batch, *input]`` in the model's dtype.
        claimed: bool ``[batch]``: which of them are said to be witnesses.

    Returns:
        bool ``[batch]``, and the margins that the model reaches there; NaN elsewhere.
    """
    region = batch.regions.witness
    inside = np.zeros(len(batch), bool) if region is None else region.contains(points)
    kept, margins = np.zeros(len(batch), bool), np.full(len(batch), np.nan)
    for outputs in _replays(batch.task, points):
        some = claimed & inside & broken(batch, outputs)
        margins = np.where(some, np.fmin(margins, margin_at(batch, outputs)), margins)
        kept |= some
    return kept, margins
