"""Where a run's shards are answered, as its caller names it: so many processes, or a dask cluster."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol

from tfcert.driver.executor.base import Executor
from tfcert.driver.executor.cluster import Cluster
from tfcert.driver.executor.job import Contents, Job
from tfcert.driver.executor.local import LocalWorkers
from tfcert.errors import UsageError

SHARD, HARD_SHARD = 25, 4
"""Samples of a shard at most: what one pass of bounds takes anyway; fewer where a solver may take long for each. They
do not depend on the number of workers, since the last digits of bounds depend on what is bounded together."""


class Pool(Protocol):
    """Workers for runs, one after another; in a ``with`` those that were started stay for the next run."""

    def __enter__(self) -> Pool:
        """Keeps workers."""

    def __exit__(self, *error: object) -> None:
        """Ends those that were kept."""

    def open(self, job: Job, contents: Contents) -> AbstractContextManager[Executor]:
        """The workers with a job, in a context that ends them.

        Raises:
            UsageError: they cannot be had; says why.
        """


def pool_of(workers: Any, threads: int = 1, memory_mb: int | None = None) -> Pool | None:
    """The workers that a caller asks for; None for this process alone.

    Args:
        workers: a number of processes, :class:`LocalWorkers`, the address of a dask scheduler, a
            ``distributed.Client``, or None.
        threads, memory_mb: of each worker, where a number or an address is given.

    Raises:
        UsageError: it is none of these.
    """
    if workers is None:
        return None
    if isinstance(workers, int) and not isinstance(workers, bool) and workers > 0:
        return LocalWorkers(workers, threads, memory_mb)
    if isinstance(workers, str) or hasattr(workers, "register_plugin"):
        return Cluster(workers, threads)
    if hasattr(workers, "open"):
        found: Pool = workers
        return found
    raise UsageError(f"workers is a number of processes above 0, or the address of a scheduler, not {workers!r}")
