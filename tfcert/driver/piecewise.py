"""Properties of regions of several pieces: a sample is verified when each piece is, and falsified by any witness.

Stages see the pieces of all samples of a batch, cheap stages first, so that those are taken far that are hard. The time
of a sample is that of its pieces together; what is left of it is shared among those that are open.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tfcert.driver.batch import Batch
from tfcert.driver.budget import Clock, Seconds, StageBudget
from tfcert.driver.pieces import batch_kind
from tfcert.driver.points import build_joint, conditions_of, empty_joint
from tfcert.driver.progress import Watch
from tfcert.driver.property import PropertyRun
from tfcert.driver.regions import empty_of
from tfcert.driver.stages.opened import OpenStages
from tfcert.driver.task import Task
from tfcert.driver.verdicts import as_asked
from tfcert.language import AnyTemplate
from tfcert.language.spec.questions import exact_facts
from tfcert.sets.conditions import surely_empty
from tfcert.showing import counted
from tfcert.verdict import NO_WORK, Outcome, Verdict, Work, weakest

ROWS = 128
"""Pieces that are taken together."""


class PiecewiseRun:
    """The state of one batch of samples while their pieces go down the stages; as :class:`PropertyRun`."""

    def __init__(
        self,
        task: Task,
        stages: OpenStages,
        watch: Watch = lambda standing: None,
        spent: np.ndarray | None = None,
    ):
        self._task, self._stages, self._watch = task, stages, watch
        self._spent = np.zeros(len(task.samples)) if spent is None else spent

    def run(self) -> Iterator[tuple[int, Verdict]]:
        """Verdicts in the order in which they become final; each sample gets exactly one."""
        together = max(1, ROWS // len(self._task.pieces))
        for first in range(0, len(self._task.samples), together):
            places = np.arange(first, min(first + together, len(self._task.samples)))
            for place, verdict in _Some(self._task.take(places), self._stages, self._watch, self._spent[places]).run():
                yield int(places[place]), as_asked(self._task.template, verdict)


class _Shared:
    """The time of some samples, and how many of their pieces a stage has not come to."""

    def __init__(self, clock: Clock, spent: np.ndarray):
        count = len(spent)
        self.clock, self.seconds, self.stage = clock, np.array(spent, float), np.zeros(count)
        self.waiting, self.closed = np.zeros(count, int), np.zeros(count, bool)

    def begin(self, owners: np.ndarray) -> None:
        """A stage begins, with pieces of these samples."""
        self.stage[:] = 0
        self.waiting = np.bincount(owners, minlength=len(self.seconds))

    def charge(self, owner: int, seconds: float) -> None:
        """A piece of a sample has taken so long in a stage, which is done with it."""
        self.seconds[owner] += seconds
        self.stage[owner] += seconds
        self.waiting[owner] -= 1

    def left(self, owners: np.ndarray, limit: float | None) -> np.ndarray:
        """The seconds for one piece of each of these samples."""
        left = np.full(len(owners), math.inf)
        if self.clock.per_sample is not None:
            left = float(self.clock.per_sample) - self.seconds[owners]
        if limit is not None:
            left = np.minimum(left, limit - self.stage[owners])
        shared = np.maximum(left, 0.0) / np.maximum(self.waiting[owners], 1)
        return np.asarray(np.where(self.closed[owners], 0.0, shared))


@dataclass(frozen=True, eq=False)
class _SharedBudget(StageBudget):
    """The time of a stage for pieces, which grows for one as others of its sample take less.

    Attributes:
        shared: whose time it is.
        owners: ``[batch]``, the sample of each piece.
        limit: the most that the stage may use for a sample; None for no limit.
    """

    shared: _Shared
    owners: np.ndarray
    limit: float | None

    @property
    def limited(self) -> bool:
        # That nothing is left to a sample that is settled is no limit of the others.
        return self.limit is not None or self.shared.clock.per_sample is not None or math.isfinite(self.total())

    def begin(self, places: np.ndarray) -> Seconds:
        began, seconds = self.used(), float(self.shared.left(self.owners[places], self.limit).sum())
        return lambda: min(seconds - (self.used() - began), self.total())


class _Rows(PropertyRun):
    """Pieces of one kind while they go down the stages, one at a time; ``owners`` are their samples."""

    def __init__(self, task: Task, owners: np.ndarray, shared: _Shared, others: tuple[OpenStages, Watch, Any]):
        super().__init__(task, others[0], others[1])
        self._kind, self._owners, self._shared = others[2], owners, shared
        self._known: dict[Any, Any] = {}

    def owner(self, row: int) -> int:
        """The sample that a piece is of."""
        return int(self._owners[row])

    def open(self) -> np.ndarray:
        """The samples of what is open, again for each piece."""
        return np.asarray(self._owners[self._open])

    def work(self, row: int) -> Work:
        """What was done for a piece."""
        return self._work[row]

    def clean(self) -> Iterator[tuple[int, Verdict]]:
        """Samples that break the formula as they are and lie in their piece."""
        yield from self._clean(self._batch())
        # What is not broken here may be of a sample that another piece has settled.
        self._open = self._open[~self._shared.closed[self._owners[self._open]]]

    def stage(self, number: int) -> Iterator[tuple[int, Verdict]]:
        """What the stage of that number finds of what is open, and what it leaves no time for."""
        spec = self._specs[number]
        yield from self._expired(f"before stage {spec.name}")
        later = any(other.attacks for other in self._specs[number + 1 :])
        if len(self._open) or (spec.attacks and self._held):
            yield from self._stage(self._batch(), spec, later)
        if not later:
            held, self._held = self._held, {}
            yield from held.items()

    def rest(self) -> Iterator[tuple[int, Verdict]]:
        """What stays open."""
        for row in self._open.tolist():
            yield row, self._undecided(row)

    def close(self, owner: int) -> None:
        """Nothing more is asked about a sample."""
        self._open = self._open[self._owners[self._open] != owner]
        self._held = {row: verdict for row, verdict in self._held.items() if self._owners[row] != owner}

    def _batch(self) -> Batch:
        return replace(super()._batch(), known=self._known)

    def _used(self, place: int) -> float:
        return float(self._shared.seconds[self._owners[place]])

    def _charge(self, place: int, seconds: float) -> None:
        self._shared.charge(self.owner(place), seconds)

    def _budget(self, places: np.ndarray, limit: float | None) -> StageBudget:
        plain = self._clock.budget(np.zeros(len(places)), limit)
        owners = self._owners[places]
        each = self._shared.left(owners, limit)
        return _SharedBudget(each, plain.total, plain.used, plain.paused, self._shared, owners, limit)


class _Some:
    """A few samples, and all their pieces."""

    def __init__(self, task: Task, stages: OpenStages, watch: Watch, spent: np.ndarray):
        count = len(task.samples)
        self._task, self._shared = task, _Shared(stages.clock, spent)
        self._runs = [_Rows(part, owners, self._shared, (stages, watch, kind)) for part, owners, kind in _rows(task)]
        self._pieces = np.bincount(np.concatenate([run.open() for run in self._runs]), minlength=count)
        self._verdicts: list[list[Verdict]] = [[] for _ in range(count)]
        self._work: list[Work] = [NO_WORK] * count

    def run(self) -> Iterator[tuple[int, Verdict]]:
        """Verdicts of the samples as they become final."""
        for run in self._runs:
            yield from self._taken(run, run.clean())
        for number in range(len(self._task.template.strategy.stages)):
            self._shared.begin(np.concatenate([run.open() for run in self._runs]))
            for run in self._runs:
                yield from self._taken(run, run.stage(number))
        for run in self._runs:
            yield from self._taken(run, run.rest())

    def _taken(self, run: _Rows, found: Iterator[tuple[int, Verdict]]) -> Iterator[tuple[int, Verdict]]:
        """The verdicts of samples that those of some pieces settle."""
        for row, verdict in found:
            owner = run.owner(row)
            if self._shared.closed[owner]:
                continue
            self._work[owner] += run.work(row)
            self._verdicts[owner].append(verdict)
            if verdict.outcome is Outcome.FALSIFIED or len(self._verdicts[owner]) == self._pieces[owner]:
                self._shared.closed[owner] = True
                for other in self._runs:
                    other.close(owner)
                together = on_all(self._verdicts[owner])
                seconds = float(self._shared.seconds[owner])
                yield owner, replace(together, seconds=seconds, work=self._work[owner])


def on_all(verdicts: list[Verdict]) -> Verdict:
    """The verdict on a union from those on its pieces: the last one, if that has a witness, else on all of them.

    What is open tells of the piece of which least is known: margin, reason and stage are its own.
    """
    last = verdicts[-1]
    if last.outcome is Outcome.FALSIFIED:
        return last
    open_ = [v for v in verdicts if v.outcome is not Outcome.VERIFIED]
    if open_:
        least = min(open_, key=lambda v: (not math.isnan(v.margin), v.margin, v.outcome is not Outcome.TIMEOUT))
        told = f" ({counted(len(open_), 'piece')} of {len(verdicts)} open)" if len(verdicts) > 1 else ""
        more = getattr(least.reason, "more", None)
        return least if more is None or not least.reason else replace(least, reason=more(told))
    narrowest = min(verdicts, key=lambda v: v.margin)
    return replace(narrowest, guarantee=weakest(v.guarantee for v in verdicts))


def holds(task: Task, piece: AnyTemplate) -> np.ndarray:
    """Marks the samples ``[batch]`` of which something lies in a piece."""
    network = task.model.network
    dtype = network.dtype.as_numpy_dtype
    if task.placed is not None:
        held = ~empty_joint(piece, task.placed, dtype)
        some = np.flatnonzero(held)
        if len(some) and piece.given is not None:
            part = task.take(some)
            assert part.placed is not None
            conditions = conditions_of(
                piece, part.placed.vector, task.lowered.layout, list(map(exact_facts, part.given))
            )
            held[some] = ~surely_empty(build_joint(piece, part.placed, dtype).proof, conditions)
        return held
    return ~empty_of(piece, task.centers, tuple(network.input_shape), dtype)


def _rows(task: Task) -> Iterator[tuple[Task, np.ndarray, Any]]:
    """The pieces of each sample that hold something, some of one kind at a time, and their samples."""
    kinds: dict[Any, list[tuple[int, int]]] = {}
    for number, piece in enumerate(task.pieces):
        held = np.flatnonzero(holds(task, piece))
        kinds.setdefault(batch_kind(piece), []).extend((int(place), number) for place in held)
    for kind, pairs in kinds.items():
        pairs.sort()
        for first in range(0, len(pairs), ROWS):
            owners, rows = (np.array(part, int) for part in zip(*pairs[first : first + ROWS], strict=True))
            lowered = task.lowered.about(task.pieces[rows[0]])
            yield replace(task.take(owners), rows=rows, lowered=lowered), owners, kind
