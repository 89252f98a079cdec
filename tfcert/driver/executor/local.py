"""Workers of this machine: a process each, with its own threads and memory, fed one shard after the other.

A worker that dies is replaced, and its shard is answered again. The second time the samples that have no answer yet are
tried one by one, and one that takes its worker down by itself is lost: it is told why, and not tried again.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path

from tfcert.driver.executor.base import Shard, ShardAnswer, Sink, Spent
from tfcert.driver.executor.job import Contents, Job
from tfcert.driver.executor.worker import Begin, Failed, Message, Ready, environment
from tfcert.errors import ExecutorGoneError, UsageError

_LOOK = 0.2
"""Seconds between two looks at the memory of workers."""
_STARTS = 3
"""So many workers in a row may die while they load, before the run is given up."""
_DEATHS = 2
"""So many workers may die of a shard before its samples are tried one by one."""
_PARTS = 4
"""A pass of bounds gets this part of a device's memory for coefficients: there are temporaries, too, and the model."""
_COMMAND = "import sys; from tfcert.driver.executor.worker import main; main(int(sys.argv[1]))"
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass
class LocalWorkers:
    """How many workers there are, and what each may use. In a ``with`` they stay for several runs, one after another.

    Attributes:
        count: of the workers.
        threads: of each. Bounds may differ in their last digits with it, and do not with the number of workers.
        memory_mb: that each may use, in MiB; None for no limit.
        environment: what the environment of each says beside, one after the other, as many as there are workers.
        pass_mb: of a device's memory, what one pass of bounds may use for coefficients; None for the usual.
    """

    count: int
    threads: int = 1
    memory_mb: int | None = None
    environment: tuple[Mapping[str, str], ...] = ()
    pass_mb: int | None = None
    _idle: list[_Worker] = field(default_factory=list, init=False, repr=False)
    _stay: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.memory_mb is not None and not Path("/proc/self/statm").exists():
            raise UsageError("the memory of a worker is known on Linux alone: leave its limit out")

    def __enter__(self) -> LocalWorkers:
        self._stay = True
        return self

    def __exit__(self, *error: object) -> None:
        self._stay = False
        self._end(self._idle)
        self._idle = []

    @contextlib.contextmanager
    def open(self, job: Job, contents: Contents) -> Iterator[LocalExecutor]:
        """As :meth:`tfcert.driver.executor.pool.Pool.open`; workers that are at work when it ends are ended at once."""
        with tempfile.TemporaryDirectory(prefix="tfcert-") as name:
            contents.write(Path(name))
            mine, others = self._idle[: self.count], self._idle[self.count :]
            executor = LocalExecutor(self, Begin(pickle.dumps(job), Path(name), self.threads, self.pass_mb), mine)
            try:
                yield executor
            finally:
                idle = [worker for worker in executor.workers if worker.ready and worker.task is None]
                self._idle = [*idle, *others] if self._stay else []
                self._end([worker for worker in executor.workers if worker not in self._idle])

    def _end(self, workers: list[_Worker]) -> None:
        for worker in workers:
            _end(worker)


def device_workers(devices: str, threads: int = 1, memory_mb: int | None = None) -> LocalWorkers:
    """One worker a device: ``0,1`` for two GPUs, ``0=40000,1=40000`` with the memory of each in MiB, ``cpu`` for none.

    The size of passes follows from the least memory, so that an answer does not depend on who gave it.

    Raises:
        UsageError: something else is written.
    """
    each, memory = list[dict[str, str]](), list[int]()
    for name, sign, size in (part.strip().partition("=") for part in devices.split(",")):
        if not (name == "cpu" or name.isdecimal()) or (sign and not (size.isdecimal() and int(size) >= _PARTS)):
            raise UsageError(
                f"--devices {devices}: a device is the number of a GPU or `cpu`, with its memory in MiB if need be: "
                "0=40000,1=40000"
            )
        each.append({"CUDA_VISIBLE_DEVICES": "-1" if name == "cpu" else name})
        memory += [int(size)] if size else []
    return LocalWorkers(len(each), threads, memory_mb, tuple(each), min(memory) // _PARTS if memory else None)


@dataclass
class _Task:
    """A shard on its way: how many workers it has cost, and the places that have an answer."""

    shard: Shard
    deaths: int = 0
    answered: set[int] = field(default_factory=set)


@dataclass(eq=False)
class _Worker:
    """A worker's process, and what it is at."""

    name: str
    number: int
    process: subprocess.Popen[bytes]
    connection: Connection
    ready: bool = False
    task: _Task | None = None
    too_large: int = 0

    def why(self) -> str:
        """The reason of its death, in words."""
        if self.too_large:
            return f"used {self.too_large} MiB, more than a worker may (--worker-memory)"
        code = self.process.wait()
        if code < 0:
            name = signal.Signals(-code).name
            memory = ", as the system does when memory runs out" if code == -signal.SIGKILL else ""
            return f"was ended by {name}{memory}"
        return f"ended with exit code {code}"


class LocalExecutor:
    """Gives shards to workers as they become free, and takes their answers in one thread.

    Attributes:
        workers: that there are.
    """

    def __init__(self, how: LocalWorkers, begin: Begin, idle: list[_Worker]):
        self._how, self._begin, self.workers = how, begin, idle
        self._failed_starts = 0

    def run(self, shards: Iterable[Shard], sink: Sink) -> None:
        """As :meth:`tfcert.driver.executor.base.Executor.run`; workers start with the first shard that there is."""
        rest, over = iter(shards), False
        again = deque(_Task(shard) for shard in itertools.islice(rest, 1))
        if not again:
            return
        there = {worker.number for worker in self.workers}
        self.workers += [self._started(n) for n in range(self._how.count) if n not in there]
        for worker in self.workers:
            worker.ready = False
            self._send(worker, replace(self._begin, worker=worker.name))
        sink.workers(len(self.workers))
        while True:
            for worker in (w for w in self.workers if w.ready and w.task is None):
                if not again and not over:
                    again.extend(_Task(shard) for shard in itertools.islice(rest, 1))
                    over = not again
                if again:
                    worker.task = again.popleft()
                    self._send(worker, worker.task.shard)
            if over and not again and all(worker.task is None for worker in self.workers):
                return
            for worker in self._told():
                message = _received(worker.connection)
                if message is None:
                    again.extend(self._after_death(worker, sink))
                else:
                    self._hear(worker, message, sink)

    def _send(self, worker: _Worker, message: Begin | Shard) -> None:
        with contextlib.suppress(OSError):  # of a worker that is gone hears who waits for it
            worker.connection.send(message)

    def _started(self, number: int) -> _Worker:
        """A worker's process."""
        ours, theirs = socket.socketpair()
        given = self._how.environment[number] if self._how.environment else {}
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-c", _COMMAND, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env={**os.environ, **environment(self._how.threads), **given},
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the driver alone
            )
        return _Worker(f"worker-{number + 1}", number, process, Connection(ours.detach()))

    def _told(self) -> list[_Worker]:
        """The workers that have something to say, or have ended; ends those that use too much memory."""
        by_connection = {worker.connection: worker for worker in self.workers}
        limit = self._how.memory_mb
        ready = wait(list(by_connection), timeout=None if limit is None else _LOOK)
        for worker in self.workers if limit is not None else ():
            used = _resident(worker.process.pid)
            if limit is not None and used > limit:
                worker.too_large = used
                _end(worker, close=False)
        return [by_connection[one] for one in ready if isinstance(one, Connection)]

    def _hear(self, worker: _Worker, message: Message, sink: Sink) -> None:
        match message:
            case Ready():
                worker.ready, self._failed_starts = True, 0
            case ShardAnswer() if worker.task is not None:
                worker.task.answered.add(message.place)
                sink.take(worker.task.shard, message)
            case Spent() if worker.task is not None:
                task, worker.task = worker.task, None
                sink.done(task.shard, message)
            case Failed(error):
                raise error

    def _after_death(self, worker: _Worker, sink: Sink) -> list[_Task]:
        """Replaces a worker that died; returns what is to be tried again.

        Raises:
            ExecutorGoneError: workers die before they are ready.
        """
        _end(worker)
        why, task = worker.why(), worker.task
        self._failed_starts += not worker.ready
        if self._failed_starts >= _STARTS:
            raise ExecutorGoneError(f"workers die while they load the models: the last one {why}")
        other = self._started(worker.number)
        self.workers[self.workers.index(worker)] = other
        self._send(other, replace(self._begin, worker=other.name))
        if task is None:
            return []
        task.deaths += 1
        if task.deaths < _DEATHS:
            return [task]
        if len(task.shard.places) > 1:
            return [_Task(one, _DEATHS - 1) for one in task.shard.each(but=task.answered)]
        sink.lost(task.shard, f"the worker that was at it {why}, and so did another one before")
        return []


def _received(connection: Connection) -> Message | None:
    """What a worker said; None where it has ended, be it in the middle of a word."""
    try:
        message: Message = connection.recv()
    except (EOFError, OSError):
        return None
    return message


def _end(worker: _Worker, close: bool = True) -> None:
    """Ends a worker with what it started (solvers), and waits for it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(worker.process.pid, signal.SIGKILL)
    worker.process.wait()
    if close:
        worker.connection.close()


def _resident(pid: int) -> int:
    """The memory that a process holds, in MiB; 0 of one that has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * _PAGE >> 20
    except (OSError, IndexError):
        return 0
