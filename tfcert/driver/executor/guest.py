"""What a worker of a dask cluster keeps for a campaign: its contents as files, and the bench once it is asked for."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distributed import WorkerPlugin

from tfcert.driver.executor.base import Shard, ShardAnswer, Spent
from tfcert.driver.executor.job import Collecting, Contents, Seat, job_of

_ALONE = threading.Lock()
"""A bench answers one shard at a time, however many threads a worker has."""
_GUESTS: dict[str, CampaignGuest] = {}


class CampaignGuest(WorkerPlugin):
    """A campaign on a worker: dask hands it to each once, to those that join later, too.

    Args:
        name: of the campaign.
        job: pickled; read when the first shard comes.
        files: the contents by their names.
        threads: that a bench may use.
    """

    def __init__(self, name: str, job: bytes, files: Mapping[str, bytes], threads: int):
        self.name, self._job, self._files, self._threads = name, job, files, threads
        self._stack = contextlib.ExitStack()
        self._bench: Collecting | None = None

    def setup(self, worker: Any) -> None:
        """Keeps the campaign under its name, in this process."""
        self._worker = str(worker.name)
        _GUESTS[self.name] = self

    def teardown(self, worker: Any) -> None:
        """Forgets it."""
        _GUESTS.pop(self.name, None)
        self._stack.close()

    def answers(self, shard: Shard) -> tuple[list[ShardAnswer], Spent]:
        """All answers to a shard."""
        if self._bench is None:
            self._bench = self._opened()
        return list(self._bench.answers(shard)), self._bench.spent()

    def _opened(self) -> Collecting:
        job = job_of(self._job)
        contents, folder = (
            Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="tfcert-"))) for _ in range(2)
        )
        Contents(dict(self._files)).write(contents)
        bench = self._stack.enter_context(job.open(Seat(contents, folder, self._threads)))
        return Collecting(bench, folder, self._worker)


def answer_shard(campaign: str, shard: Shard) -> tuple[list[ShardAnswer], Spent]:
    """Answers a shard of a campaign that the worker keeps; the task that a cluster gets."""
    with _ALONE:
        return _GUESTS[campaign].answers(shard)
