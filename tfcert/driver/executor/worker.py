"""A worker of this machine: a process that answers what comes by a socket.

It ends with the driver, however that ended: a thread waits for the socket to close.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import sys
import tempfile
import threading
import traceback
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tfcert.driver.executor.base import Shard, ShardAnswer, Spent
from tfcert.driver.executor.job import Collecting, Seat, job_of


def _path() -> tuple[str, ...]:
    return tuple(entry or os.getcwd() for entry in sys.path)


@dataclass(frozen=True)
class Begin:
    """The first message of a run to a worker.

    Attributes:
        job: pickled, since what it imports is found by the path that comes with it.
        contents: the folder of the job's contents.
        threads: of TensorFlow and of whatever else counts.
        pass_mb: see :class:`Seat`.
        worker: its name.
        path: where modules are found, as in the driver.
    """

    job: bytes
    contents: Path
    threads: int
    pass_mb: int | None = None
    worker: str = ""
    path: tuple[str, ...] = field(default_factory=_path)


@dataclass(frozen=True)
class Ready:
    """The worker has loaded the models and waits for a shard."""


@dataclass(frozen=True)
class Failed:
    """An exception that answering raised: where it cannot be pickled, its words alone."""

    error: BaseException

    @classmethod
    def of(cls, error: BaseException) -> Failed:
        """The exception as it was, with the traceback as a note."""
        where = "".join(traceback.format_exception(error))
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:  # whatever a class does when it is pickled: the words are told anyway
            return cls(RuntimeError(where))
        if not isinstance(error, ValueError | OSError):
            error.add_note(f"in a worker:\n{where}")
        return cls(error)


Message = Ready | ShardAnswer | Spent | Failed
"""The answers of a worker: ready, then for each shard its answers and what it spent."""


def main(descriptor: int) -> None:
    """Answers until the socket closes."""
    connection = Connection(descriptor)
    inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(connection, inbox), daemon=True).start()
    while True:
        try:
            _run(connection, inbox)
        except Exception as error:
            connection.send(Failed.of(error))


def _run(connection: Connection, inbox: queue.SimpleQueue[Any]) -> None:
    """Answers the shards of one run after the other."""
    message: Begin | Shard = inbox.get()
    while isinstance(message, Begin):
        sys.path[:] = [*message.path]
        job = job_of(message.job)
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tfcert-worker-")))
            bench = stack.enter_context(job.open(Seat(message.contents, folder, message.threads, message.pass_mb)))
            collecting = Collecting(bench, folder, message.worker)
            connection.send(Ready())
            while isinstance(message := inbox.get(), Shard):
                for answer in collecting.answers(message):
                    connection.send(answer)
                connection.send(collecting.spent())


def environment(threads: int) -> dict[str, str]:
    """What a worker's environment says of its threads, before anything is loaded."""
    counted = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")
    return {name: str(threads) for name in (*counted, "TF_NUM_INTEROP_THREADS")}


def _receive(connection: Connection, inbox: queue.SimpleQueue[Any]) -> None:
    try:
        while True:
            inbox.put(connection.recv())
    except (EOFError, OSError):
        os._exit(0)
