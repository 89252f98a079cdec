"""A dask.distributed cluster: its scheduler gives shards to workers, and gives them again when a worker dies.

Models and samples come to each worker once, as a plugin of the campaign.
"""

from __future__ import annotations

import contextlib
import pickle
import time
import uuid
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import Any

from tfcert.driver.executor.base import Shard, Sink
from tfcert.driver.executor.job import Contents, Job
from tfcert.errors import ExecutorGoneError, UsageError

_AHEAD = 32
"""Shards at least that the scheduler knows of, so that a cluster that grows by need sees some; else two a thread."""
_LOOK = 2.0
"""Seconds between two looks at the cluster."""
_PATIENCE = 30.0
"""Seconds for which a scheduler may be out of reach."""


@dataclass
class Cluster:
    """A cluster that there is.

    Attributes:
        scheduler: its address (``tcp://host:8786``), or a ``distributed.Client``.
        threads: of each worker's bench.
    """

    scheduler: Any
    threads: int = 1

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing ends: the cluster is whose it was."""

    @contextlib.contextmanager
    def open(self, job: Job, contents: Contents) -> Iterator[ClusterExecutor]:
        """As :meth:`tfcert.driver.executor.pool.Pool.open`; the cluster itself stays as it is."""
        try:
            from tfcert.driver.executor.guest import CampaignGuest
        except ModuleNotFoundError as error:
            raise UsageError(f"a cluster needs {error.name}: pip install 'tfcert[cluster]'") from error
        client = self.scheduler
        with contextlib.ExitStack() as stack:
            if isinstance(client, str):
                client = stack.enter_context(_client(client))
            name = f"tfcert-{uuid.uuid4().hex[:12]}"
            client.register_plugin(CampaignGuest(name, pickle.dumps(job), contents.files, self.threads), name=name)
            stack.callback(_forget, client, name)
            yield ClusterExecutor(client, name)


class ClusterExecutor:
    """Submits shards, a few ahead of the workers, and takes answers in one thread."""

    def __init__(self, client: Any, campaign: str):
        self._client, self._campaign = client, campaign
        self._threads, self._looked, self._missed = 0, 0.0, 0.0

    def run(self, shards: Iterable[Shard], sink: Sink) -> None:
        """As :meth:`tfcert.driver.executor.base.Executor.run`."""
        from distributed import wait

        rest, again, flying = iter(shards), deque[Shard](), dict[Any, Shard]()
        try:
            while True:
                self._look(sink)
                while len(flying) < max(_AHEAD, 2 * self._threads):
                    shard = again.popleft() if again else next(rest, None)
                    if shard is None:
                        break
                    flying[self._submitted(shard)] = shard
                if not flying:
                    return
                try:
                    with contextlib.suppress(TimeoutError), self._client.as_current():
                        wait(list(flying), timeout=_LOOK, return_when="FIRST_COMPLETED")
                except CancelledError as error:
                    raise ExecutorGoneError("the cluster's scheduler is out of reach") from error
                for future in [future for future in flying if future.done()]:
                    again.extend(self._taken(future, flying.pop(future), sink))
        finally:
            with contextlib.suppress(Exception):  # of a scheduler that is gone nothing is left to cancel
                self._client.cancel(list(flying), force=True)

    def _submitted(self, shard: Shard) -> Any:
        from tfcert.driver.executor.guest import answer_shard

        return self._client.submit(answer_shard, self._campaign, shard, pure=False)

    def _taken(self, future: Any, shard: Shard, sink: Sink) -> list[Shard]:
        """Takes what became of a shard; returns what is to be tried again."""
        from distributed import KilledWorker

        if future.status == "finished":
            answers, spent = future.result()
            sink.take(shard, *answers)
            sink.done(shard, spent)
            return []
        if future.status != "error":
            raise ExecutorGoneError(f"the cluster's scheduler forgot what it was given ({future.status})")
        error = future.exception()
        if not isinstance(error, KilledWorker):
            raise error
        if len(shard.places) > 1:
            return shard.each(but=())
        sink.lost(shard, f"{error.allowed_failures + 1} workers of the cluster died at it; their logs say of what")
        return []

    def _look(self, sink: Sink) -> None:
        """Counts the workers, now and then.

        Raises:
            ExecutorGoneError: the scheduler has been out of reach for long.
        """
        now = time.monotonic()
        if now - self._looked < _LOOK:
            return
        self._looked = now
        if self._client.status != "running":
            self._missed = self._missed or now
            if now - self._missed > _PATIENCE or self._client.status == "closed":
                raise ExecutorGoneError("the cluster's scheduler is out of reach")
            return
        self._missed = 0.0
        with contextlib.suppress(OSError, TimeoutError):
            threads = self._client.nthreads()
            self._threads = sum(threads.values())
            sink.workers(len(threads))


@contextlib.contextmanager
def _client(address: str) -> Iterator[Any]:
    """A client of a scheduler, of this run alone."""
    from distributed import Client

    try:
        client = Client(address, set_as_default=False)
    except (OSError, ValueError) as error:
        raise UsageError(f"there is no scheduler at {address}: {error}") from error
    try:
        yield client
    finally:
        client.close()


def _forget(client: Any, name: str) -> None:
    """Takes a campaign from the workers."""
    with contextlib.suppress(Exception):  # a cluster that is gone has forgotten it
        client.unregister_worker_plugin(name)
