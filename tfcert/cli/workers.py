"""Workers as the command line names them."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from tfcert.errors import UsageError

if TYPE_CHECKING:
    from tfcert.driver.executor.pool import Pool


def workers_given(options: argparse.Namespace) -> Pool | None:
    """The workers that a command asks for; None for this process alone.

    Raises:
        UsageError: what each may use is said of no workers, or of those that somebody else started.
    """
    from tfcert.driver.executor.local import device_workers
    from tfcert.driver.executor.pool import pool_of

    if options.devices is not None:
        return device_workers(options.devices, options.worker_threads or 1, options.worker_memory)
    if options.worker_memory is not None and options.workers is None:
        raise UsageError(
            "--worker-memory is of each worker that this command starts: say how many there are, --workers N"
        )
    if options.scheduler is not None:
        return pool_of(options.scheduler, options.worker_threads or 1)
    if options.worker_threads is not None and options.workers is None:
        raise UsageError("--worker-threads are those of each worker: say how many there are, --workers N")
    return pool_of(options.workers, options.worker_threads or 1, options.worker_memory)
