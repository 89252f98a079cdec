"""The share of a region's volume whose inputs satisfy a formula: pieces of the region, each decided by bounds.

A piece is proven where the formula is proven of all its inputs, refuted where its negation is, and otherwise halved
across its longest side, the largest pieces first. What is neither at the end is open: the share lies between that of
proven pieces and all but that of refuted ones. Volumes are relative to the region; sides without width do not count.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from tfcert.catalog import METHODS
from tfcert.driver.batch import Batch, broken, make_batch
from tfcert.driver.budget import SharedTime
from tfcert.driver.measure import MeasureAnswer
from tfcert.driver.progress import Standing, Watch
from tfcert.driver.property import relaxation_name
from tfcert.driver.regions import Regions
from tfcert.driver.stages.opened import OpenStages
from tfcert.driver.task import Lowered, Task
from tfcert.errors import UsageError
from tfcert.language import ShareTemplate, StageKind
from tfcert.language.spec.formula import negation
from tfcert.report.records import Cells, Measured
from tfcert.sets.balls import Box, Perturbation
from tfcert.verdict import NO_WORK, PROOFS, Guarantee, Outcome, Reason, Verdict, Work, is_proof, weakest

SIZES = (16, 64, 256)
"""So many pieces are bounded at once: the least that holds those at hand."""
MOST = 1 << 16
"""Pieces of one region at most."""
_FLAT = 4
"""Sides of so many roundoffs are none: a fixed number between two floating-point ones."""


@dataclass
class _Pieces:
    """Pieces of one region: ends ``[pieces, numbers]`` in the network's type, and their shares of the volume."""

    low: np.ndarray
    high: np.ndarray
    share: np.ndarray

    def take(self, index: np.ndarray) -> _Pieces:
        return _Pieces(self.low[index], self.high[index], self.share[index])

    def with_more(self, other: _Pieces) -> _Pieces:
        pairs = ((self.low, other.low), (self.high, other.high), (self.share, other.share))
        return _Pieces(*(np.concatenate(pair) for pair in pairs))


class ShareRun:
    """Counts the volumes of one batch of regions; ``run`` yields one answer a sample."""

    def __init__(self, task: Task, stages: OpenStages, watch: Watch = lambda standing: None):
        assert isinstance(task.template, ShareTemplate)
        self._task, self._stages, self._watch, self._clock = task, stages, watch, stages.clock
        self._template = task.template
        opposite = replace(task.template, formula=negation(task.template.formula))
        # What the rows of a formula need of a softmax, those of its negation need: they are their opposites.
        lowered = Lowered(opposite, task.lowered.layout, task.model.heads)
        self._sides = {True: task, False: replace(task, template=opposite, lowered=lowered)}
        self._specs = [
            spec
            for spec in task.template.strategy.stages
            if spec.kind is StageKind.BOUND and not METHODS.find(spec.method).asks_solver
        ]

    def run(self) -> Iterator[MeasureAnswer]:
        """The answers, in the samples' order."""
        for place in range(len(self._task.samples)):
            yield _Region(self, place).answer()


class _Region:
    """The count of one sample's region."""

    def __init__(self, run: ShareRun, place: int):
        self._run, self._place = run, place
        self._time, self._work = SharedTime(run._clock, run._clock.used(), 1), NO_WORK
        proof = make_batch(run._task.take(np.array([place]))).regions.proof
        low, high = (end.reshape(1, -1) for end in self._box(proof))
        self._shape = proof.input_shape
        size = np.maximum(np.abs(low), np.abs(high))[0].astype(np.float64)
        width = high[0].astype(np.float64) - low[0]
        flat = _FLAT * np.finfo(low.dtype).eps * size
        self._width = np.where(width > flat, width, np.inf)  # sides without width are never the longest
        # The box that is divided may be larger than the region by a roundoff at each end.
        self._doubt = float(np.sum(np.where(width > flat, flat / np.where(width > 0, width, 1.0), 0.0)))
        self._open = _Pieces(low, high, np.ones(1))
        self._stuck = self._open.take(np.zeros(0, int))
        self._found: dict[bool, list[_Pieces]] = {True: [], False: []}
        self._counted = {True: 0.0, False: 0.0}
        self._levels: set[Guarantee] = set()
        self._pieces = 1

    def _box(self, proof: Perturbation) -> tuple[np.ndarray, np.ndarray]:
        if proof.norm != "linf":
            raise UsageError(f"{self._run._task.name}: shares of volume are counted of boxes and of linf balls")
        return proof.interval()

    def answer(self) -> MeasureAnswer:
        """Divides until little enough is open, or no time or no piece is left."""
        run = self._run
        while (
            len(self._open.share) and self._left() > self._tolerance() and self._pieces < MOST and not self._time.late()
        ):
            first = np.argsort(-self._open.share, kind="stable")[: SIZES[-1]]
            chosen, rest = self._open.take(first), np.ones(len(self._open.share), bool)
            rest[first] = False
            self._open = self._open.take(np.flatnonzero(rest))
            self._decide(chosen)
            ends = self._ends()
            run._watch(Standing(int(run._task.samples[self._place]), *ends, self._time.used()))
        return MeasureAnswer(self._place, self._verdict(), Measured(*self._ends(), cells=self._cells()))

    def _left(self) -> float:
        return max(0.0, 1.0 - self._counted[True] - self._counted[False])

    def _tolerance(self) -> float:
        tolerance = float(self._run._template.tolerance)
        return tolerance * (self._counted[True] if self._run._template.relative else 1.0)

    def _ends(self) -> tuple[float, float]:
        doubt = self._doubt + 1e-12
        return max(0.0, self._counted[True] - doubt), min(1.0, 1.0 - self._counted[False] + doubt)

    # Pieces

    def _decide(self, pieces: _Pieces) -> None:
        """Proves or refutes pieces, by what the model says of their middle, and halves the rest."""
        task = self._run._task
        middle = (pieces.low + (pieces.high - pieces.low) / 2).reshape(-1, *self._shape)
        repeated = task.take(np.full(len(middle), self._place))
        points = Regions(Box(middle, middle), Box(middle, middle))
        batch = Batch(repeated, points, repeated.lowered.stacked(repeated.given))
        fails = broken(batch, task.model.outputs(middle))
        for side in (True, False):
            mine = np.flatnonzero(fails != side)
            proven = self._proven(side, pieces.take(mine)) if len(mine) else np.zeros(0, bool)
            decided = pieces.take(mine[proven])
            self._found[side].append(decided)
            self._counted[side] += math.fsum(decided.share)
            self._halve(pieces.take(mine[~proven]))

    def _proven(self, side: bool, pieces: _Pieces) -> np.ndarray:
        """Marks the pieces of whose inputs all satisfy the formula, or all do not."""
        count = len(pieces.share)
        size = next(size for size in SIZES if size >= count)
        filled = np.minimum(np.arange(size), count - 1)
        low, high = (end[filled].reshape(-1, *self._shape) for end in (pieces.low, pieces.high))
        box = Box(low, high)
        task = self._run._sides[side].take(np.full(size, self._place))
        batch = Batch(task, Regions(box, box), task.lowered.stacked(task.given))
        proven = np.zeros(count, bool)
        for spec in self._run._specs:
            if proven.all() or self._time.late():
                break
            running = self._run._stages.get(spec, task)
            for finding in running.decide(batch, self._time.budget(size), lambda place, margin: None):
                if finding.place < count and finding.guarantee in PROOFS and not proven[finding.place]:
                    proven[finding.place] = bool(is_proof(finding.margin, finding.rounding))
                    self._levels |= {finding.guarantee} if proven[finding.place] else set()
        self._work += Work(pieces=count)
        return proven

    def _halve(self, pieces: _Pieces) -> None:
        """Puts the halves of pieces with those that are open; what has no middle between its ends stays as it is."""
        if not len(pieces.share):
            return
        each = np.arange(len(pieces.share))
        side = ((pieces.high.astype(np.float64) - pieces.low) / self._width).argmax(axis=1)
        low, high = pieces.low[each, side], pieces.high[each, side]
        middle = (low + (high - low) / 2).astype(low.dtype)
        fine = (low < middle) & (middle < high) & np.isfinite(self._width[side])
        self._stuck = self._stuck.with_more(pieces.take(np.flatnonzero(~fine)))
        whole, side, middle = pieces.take(np.flatnonzero(fine)), side[fine], middle[fine]
        each = np.arange(len(side))
        # Shares by the sides as they are, so that those of two halves add up to that of the whole.
        part = (middle.astype(np.float64) - low[fine]) / (high[fine].astype(np.float64) - low[fine])
        first = _Pieces(whole.low, whole.high.copy(), whole.share * part)
        second = _Pieces(whole.low.copy(), whole.high, whole.share * (1 - part))
        first.high[each, side], second.low[each, side] = middle, middle
        self._open = self._open.with_more(first).with_more(second)
        self._pieces += len(each)

    # What is said

    def _verdict(self) -> Verdict:
        run = self._run
        seconds = self._time.used()
        late = run._clock.reason(seconds)
        said = ""
        if self._left() > self._tolerance():
            known = f"{100 * self._left():.3g}% of the volume is open after {self._pieces} pieces"
            said = late.more(f": {known}") if late else Reason.OPEN_VOLUME.because(said=known)
        something = self._counted[True] > 0 or self._counted[False] > 0
        outcome = Outcome.VERIFIED if something else Outcome.TIMEOUT if late else Outcome.UNKNOWN
        spec = run._specs[-1]
        guarantee = (weakest(self._levels) if something else None) or Guarantee.ESTIMATE
        return Verdict(
            outcome, said, spec.name, spec.method, relaxation_name(spec), guarantee, math.nan, seconds, work=self._work
        )  # fmt: skip

    def _cells(self) -> Cells | None:
        """The pieces of a region with two sides, for a picture."""
        (sides,) = np.nonzero(np.isfinite(self._width))
        if len(sides) != 2:
            return None
        parts = [*((p, 1) for p in self._found[True]), *((p, -1) for p in self._found[False])]
        parts += [(self._open, 0), (self._stuck, 0)]
        low, high = (np.concatenate([getattr(p, end)[:, sides] for p, _ in parts]) for end in ("low", "high"))
        return Cells(low, high, np.concatenate([np.full(len(p.share), known) for p, known in parts]), sides)
