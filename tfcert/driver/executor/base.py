"""The protocol of an executor: shards of a run go in, answers come out, in whatever order they fall.

A shard is a description, a question's name and places of samples, that any process can answer which holds the run's
models and samples: its bench. The driver alone writes the journal; it takes each answer through its :class:`Sink`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from tfcert.report import Record


@dataclass(frozen=True)
class Shard:
    """Samples of one question that are answered together.

    Attributes:
        question: its name.
        places: of the samples, among those that the question asks about.
        used: the seconds of the strategy's total that were used when it was begun.
    """

    question: str
    places: tuple[int, ...]
    used: float = 0.0

    def each(self, but: Collection[int]) -> list[Shard]:
        """Its samples one by one, but some."""
        return [replace(self, places=(place,)) for place in self.places if place not in but]


@dataclass(frozen=True)
class ShardAnswer:
    """The answer about one sample.

    Attributes:
        place: of the sample, among those that the question asks about.
        record: the answer.
        files: that go with it, by their paths in the run's folder, where they are not there yet.
        worker: the name of who found it, where there are several.
    """

    place: int
    record: Record
    files: Mapping[str, bytes] = field(default_factory=dict)
    worker: str = ""


@dataclass(frozen=True)
class Spent:
    """The seconds that a shard took of its strategy's total, and those of each stage's preparation, which it is not
    charged for."""

    seconds: float
    setup: Mapping[str, float] = field(default_factory=dict)


class Bench(Protocol):
    """The models and samples of a run, loaded, with whatever is prepared for its questions."""

    def answers(self, shard: Shard) -> Iterator[ShardAnswer]:
        """The answer to each sample of a shard, as it falls."""

    def spent(self) -> Spent:
        """The seconds of the last shard."""


class Sink(Protocol):
    """The driver's side: takes what executors hand over, from one thread."""

    def take(self, shard: Shard, *answers: ShardAnswer) -> None:
        """Answers of one worker that come together. A shard that was begun twice gives some twice: the first one
        counts."""

    def done(self, shard: Shard, spent: Spent) -> None:
        """All answers to a shard were taken."""

    def lost(self, shard: Shard, why: str) -> None:
        """What is not answered yet of a shard will not be: it took its workers down, as a sentence says."""

    def workers(self, alive: int) -> None:
        """So many workers there are from now on."""


class Executor(Protocol):
    """Answers shards somewhere."""

    def run(self, shards: Iterable[Shard], sink: Sink) -> None:
        """Answers all shards; they are asked for one after another, each when somebody is free for it.

        Raises:
            KeyboardInterrupt: as it came; no answer is handed over any more.
            ExecutorGoneError: those who answer are out of reach.
            Exception: whatever answering a shard raised.
        """


class InProcess:
    """Answers here, one shard after the other."""

    def __init__(self, bench: Bench):
        self._bench = bench

    def run(self, shards: Iterable[Shard], sink: Sink) -> None:
        """As :meth:`Executor.run`; nothing is ever lost but with the process."""
        for shard in shards:
            for answer in self._bench.answers(shard):
                sink.take(shard, answer)
            sink.done(shard, self._bench.spent())
