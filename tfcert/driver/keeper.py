"""What becomes of the answers to a run's shards: each sample's first one is kept, its files first, then the journal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from tfcert.driver.artifacts import save_files
from tfcert.driver.executor.base import Shard, ShardAnswer, Spent
from tfcert.driver.journal import Journal
from tfcert.driver.progress import Narrator
from tfcert.report import Record
from tfcert.verdict import Guarantee, Outcome, Reason, Verdict


class Keeper:
    """A run's records. It is the sink of executors; a kind of run says what is recorded of a sample that is lost.

    Args:
        folder: of the run; None where it has none, and no files come.
        journal: takes each record as it falls, and holds those of an earlier run; None where nothing is kept.

    Attributes:
        records: by question and sample.
    """

    def __init__(self, narrator: Narrator, folder: Path | None = None, journal: Journal | None = None):
        self.narrator, self.folder, self.journal = narrator, folder, journal
        known = () if journal is None else journal.known
        self.records: dict[tuple[str, int], Record] = {(r.property, r.sample): r for r in known}

    def take(self, shard: Shard, *answers: ShardAnswer) -> None:
        """Keeps records, unless their samples have one: shards that are begun again answer some twice. The journal
        waits for the disk once."""
        new: list[Record] = []
        for answer in answers:
            record = answer.record
            if (record.property, record.sample) not in self.records:
                if self.folder is not None:
                    save_files(self.folder, answer.files)
                self.records[record.property, record.sample] = record
                new.append(record)
        if self.journal is not None and new:
            self.journal.extend(new, answers[0].worker)
        for record in new:
            self.narrator.advance(record)

    def done(self, shard: Shard, spent: Spent) -> None:
        """Nothing is counted here."""

    def lost(self, shard: Shard, why: str) -> None:
        """Samples that take their workers down stay unknown."""
        self.take(shard, *(ShardAnswer(place, self.lost_record(shard, place, why)) for place in shard.places))

    def lost_record(self, shard: Shard, place: int, why: str) -> Record:
        """The record of a sample that is lost."""
        raise NotImplementedError

    def workers(self, alive: int) -> None:
        """Notes it in the journal, where progress and status read it."""
        if self.journal is not None:
            self.journal.workers(alive)


def lost_verdict(why: str) -> Verdict:
    """Nothing is known of a sample that takes whoever answers down, for the reason ``why``."""
    return Verdict(Outcome.UNKNOWN, Reason.WORKER_LOST.because(said=why), guarantee=Guarantee.ESTIMATE)


def parts(count: int, todo: Sequence[int], size: int, *, grid: bool) -> Iterator[tuple[int, ...]]:
    """The places of each shard of a question about so many samples.

    Args:
        todo: places that have no record yet.
        size: of a shard.
        grid: shards are the same whatever is known, so that a run that was resumed gives the same answers; what is
            known of one that is begun again stays as it is.
    """
    places, left = range(count) if grid else todo, set(todo)
    for first in range(0, len(places), size):
        part = tuple(places[first : first + size])
        if not left.isdisjoint(part):
            yield part
