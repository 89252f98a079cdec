"""One question about every sample, asked in batches and recorded; without a specification."""

from __future__ import annotations

import contextlib
import itertools
import math
import pickle
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tfcert.clauses import strictly_right
from tfcert.driver.direct.request import Loaded, Request
from tfcert.driver.executor.base import Executor, InProcess, Shard, ShardAnswer, Spent
from tfcert.driver.executor.job import Contents, Seat, load_tensorflow, model_file
from tfcert.driver.executor.pool import SHARD, Pool
from tfcert.driver.fingerprint import weights_hash
from tfcert.driver.interrupts import Interrupts
from tfcert.driver.journal import Journal
from tfcert.driver.keeper import Keeper, lost_verdict, parts
from tfcert.driver.progress import Narrator
from tfcert.driver.task import LoadedModel
from tfcert.errors import ExecutorGoneError, UsageError
from tfcert.misfit import misfit, tiny_radius
from tfcert.report import Asked, ExitCode, Measured, Record
from tfcert.verdict import Verdict

Answers = list[tuple[Verdict, Measured | None]]
Decide = Callable[[Loaded, np.ndarray], Answers | Iterable[tuple[Verdict, Measured | None]]]
"""``(samples, which are classified right) -> a verdict and a measured value a sample``: a list where the batch is asked
as a whole, whose time is then shared out evenly; else each as it falls, with its own seconds."""


@dataclass(frozen=True)
class DirectQuestion:
    """A question that is asked of every sample, ``batch`` of them at a time, by a function that can be pickled.

    ``model`` is the file; ``measures`` tells whether answers are measured values.
    """

    name: str
    asked: Asked
    batch: int
    decide: Decide
    model: str
    out: Path | None = None
    measures: bool = True

    def run(
        self, loaded: Loaded, journal: Journal | None = None, pool: Pool | None = None
    ) -> tuple[tuple[Record, ...], bool]:
        """Records in the order of the samples, and whether they are all there: Ctrl-C keeps those that are.

        Args:
            journal: takes each record as it falls, and holds those of an earlier run, whose samples are left out.
            pool: who answers; None for this process.
        """
        with Narrator() as narrator:
            if journal is not None:
                narrator.follow(journal.tally)
            keeper, interrupts = _Keeper(self, loaded, narrator, journal), Interrupts(narrator.say)
            try:
                with interrupts.heard(), contextlib.ExitStack() as stack:
                    executor: Executor = InProcess(DirectBench(self, loaded))
                    if pool is not None:
                        executor = stack.enter_context(pool.open(*_packed(self, loaded)))
                    shards = keeper.shards(grid=pool is not None)
                    executor.run(itertools.takewhile(lambda shard: not interrupts.asked, shards), keeper)
                    if len(keeper.records) < len(loaded.x):
                        interrupts.between()
            except KeyboardInterrupt:
                narrator.say("interrupted: what was found is kept")
            except ExecutorGoneError as error:
                narrator.say(f"{error}; what was found is kept")
        records = tuple(keeper.records[key] for key in sorted(keeper.records))
        return records, len(records) == len(loaded.x)

    def answers(self, loaded: Loaded, places: np.ndarray) -> Iterator[Record]:
        """Records of one batch."""
        began, part = time.monotonic(), loaded.take(places)
        outputs = loaded.model.outputs(part.x)
        found, predictions = self.decide(part, strictly_right(outputs, part.y)), outputs.argmax(axis=1)
        even = (time.monotonic() - began) / len(places) if isinstance(found, list) else None
        for i, (verdict, measured) in enumerate(found):
            timed = verdict if even is None else replace(verdict, seconds=even)
            label, place = int(part.y[i]), int(part.places[i])
            witness = self._save(f"{self.name}-{place}", verdict.witness, part.x[i], label)
            yield Record(self.name, place, timed, self.asked, measured, label, int(predictions[i]), witness)

    def _save(self, name: str, witness: np.ndarray | None, original: np.ndarray, label: int) -> str | None:
        """Writes a witness, as the model receives it, beside its original; returns the path within ``out``."""
        if self.out is None or witness is None:
            return None
        relative = Path("witnesses") / f"{name}.npz"
        (self.out / relative).parent.mkdir(parents=True, exist_ok=True)
        np.savez(self.out / relative, allow_pickle=False, witness=witness, original=original, label=label)
        return relative.as_posix()


class _Keeper(Keeper):
    """The records of one question."""

    def __init__(self, question: DirectQuestion, loaded: Loaded, narrator: Narrator, journal: Journal | None):
        super().__init__(narrator, question.out, journal)
        self._question, self._loaded = question, loaded

    def shards(self, *, grid: bool) -> Iterator[Shard]:
        """What is left to do; see :func:`parts`."""
        name, count = self._question.name, len(self._loaded.x)
        todo = [i for i, place in enumerate(self._loaded.places.tolist()) if (name, place) not in self.records]
        self.narrator.begin(name, count, count - len(todo))
        size = min(self._question.batch, SHARD) if grid else self._question.batch
        for places in parts(count, todo, size, grid=grid):
            yield Shard(name, places)

    def lost_record(self, shard: Shard, place: int, why: str) -> Record:
        """As :meth:`Keeper.lost_record`."""
        sample, label = int(self._loaded.places[place]), int(self._loaded.y[place])
        measured = Measured(math.nan) if self._question.measures else None
        return Record(self._question.name, sample, lost_verdict(why), self._question.asked, measured, label)


class DirectBench:
    """Answers shards of one question about samples of a loaded model."""

    def __init__(self, question: DirectQuestion, loaded: Loaded):
        self._question, self._loaded, self._seconds = question, loaded, 0.0

    def answers(self, shard: Shard) -> Iterator[ShardAnswer]:
        """As :meth:`tfcert.driver.executor.base.Bench.answers`."""
        began = time.monotonic()
        found = self._question.answers(self._loaded, np.array(shard.places, int))
        for place, record in zip(shard.places, found, strict=True):
            yield ShardAnswer(place, record)
        self._seconds = time.monotonic() - began

    def spent(self) -> Spent:
        """The seconds of the last shard."""
        return Spent(self._seconds)


@dataclass(frozen=True)
class DirectJob:
    """One question as workers get it; model and samples are the names of contents."""

    question: DirectQuestion
    name: str
    model: str
    samples: str
    sha256: str

    @contextlib.contextmanager
    def open(self, seat: Seat) -> Iterator[DirectBench]:
        """As :meth:`tfcert.driver.executor.job.Job.open`."""
        load_tensorflow(seat.threads)
        from tfcert.loading import load_model
        from tfcert.network.cache import network_of

        model = load_model(seat.contents / self.model)
        loaded = LoadedModel(self.name, model, network_of(model), weights_hash(model))
        if loaded.sha256 != self.sha256:
            raise UsageError(f"a worker has another model {self.name} than this process")
        x, y, places = pickle.loads((seat.contents / self.samples).read_bytes())
        question = self.question if self.question.out is None else replace(self.question, out=seat.folder)
        yield DirectBench(question, Loaded(loaded, x, y, places))


def _packed(question: DirectQuestion, loaded: Loaded) -> tuple[DirectJob, Contents]:
    """A question as workers get it, with the contents that they need."""
    contents = Contents()
    model = contents.add(*model_file(loaded.model.name, question.model))
    samples = contents.add(pickle.dumps((loaded.x, loaded.y, loaded.places)))
    return DirectJob(question, loaded.model.name, model, samples, loaded.model.sha256), contents


def remarks(data: Request, loaded: Loaded, records: Sequence[Record]) -> list[str]:
    """Remarks on the samples for the reader: how many there are, and what makes them look out of place."""
    said = []
    if data.correct:
        passed = int(loaded.places[-1]) + 1 - len(loaded.x) if len(loaded.x) else data.total
        said.append(
            f"the first {len(loaded.x)} samples of {data.data} that the model classifies correctly ({passed} before "
            "them are not); --limit takes more"
        )
    elif len(loaded.x) < data.total:
        said.append(f"the first {len(loaded.x)} of {data.total} samples of {data.data}; --limit takes more")
    right = np.array([record.prediction == record.label for record in records], bool)
    doubts = [misfit(right, loaded.model.num_outputs, loaded.x)]
    doubts += [tiny_radius(records[0].asked.eps, loaded.x)] if records else []
    found = [record.verdict.witness for record in records if record.verdict.witness is not None]
    if data.clip is None and found:
        low, high = float(loaded.x.min()), float(loaded.x.max())
        outside = sum(bool(w.min() < low or w.max() > high) for w in found)
        if outside:
            said.append(
                f"{outside} of {len(found)} witnesses leave the range of the samples, {low:g} to {high:g}: give the "
                f"valid range of an input to keep to it, --clip {low:g} {high:g}, say"
            )
    return [*(f"warning: {doubt}" for doubt in doubts if doubt is not None), *said]


def asked_exit_code(records: Sequence[Record], complete: bool) -> ExitCode:
    """Neither radii nor attacks judge: they are done, were interrupted, or had nothing to do."""
    if not complete:
        return ExitCode.INTERRUPTED
    return ExitCode.PASS if records else ExitCode.NOTHING_TO_CHECK
