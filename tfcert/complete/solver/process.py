"""Solver processes: started when needed, asked one question at a time, killed when they overrun.

A solver that crashes, hangs, runs out of memory or answers with nonsense costs its process and gives a
:class:`SolverError`; what it says is never more than a claim.
"""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tfcert.catalog import SOLVERS
from tfcert.complete.encoding.program import Program, ProgramBuilder, pack, unpack
from tfcert.complete.solver.worker import read_message, write_message
from tfcert.errors import UsageError

GRACE, GRACE_SHARE = 0.1, 0.05
"""Seconds, and share of its time, that a process may overrun before it is killed."""
START = 60.0
"""Seconds that a process may take to start where nobody started it before its first question."""
LONGEST = 1e6
"""Seconds that stand for no limit."""
COMMAND = (sys.executable, "-m", "tfcert.complete.solver.worker")

STATUSES = ("optimal", "infeasible", "limit")


class SolverError(Exception):
    """The solver gave no usable answer; says why."""


@dataclass(frozen=True)
class SolverSettings:
    """Settings of solvers.

    Attributes:
        solver: ``cbc`` (without cuts and preprocessing), ``highs`` (the extra ``highs``), ``gurobi`` (where python-mip
            finds its library and a licence) or ``cbc-default``.
        gap, gap_abs: relative and absolute gap at which an optimum counts as found.
        threads: of the solver; seed: of its random choices.
        memory_mb: most memory (MiB of address space) of the solver's process.
        confirm: a second solver that must agree before anything is taken as proven; None for no second opinion.

    Raises:
        ValueError: an unknown solver, or a number out of range.
        UsageError: a solver that cannot be used on this machine; says what it needs.
    """

    solver: str = "cbc"
    gap: float = 1e-6
    gap_abs: float = 1e-9
    threads: int = 1
    seed: int = 0
    memory_mb: int = 8192
    confirm: str | None = None

    def __post_init__(self) -> None:
        for name in (self.solver, *([] if self.confirm is None else [self.confirm])):
            complaint = SOLVERS.find(name).complaint()
            if complaint:
                raise UsageError(complaint)
        if not (0 <= self.gap < 1 and self.gap_abs >= 0):
            raise ValueError(f"gaps must lie in [0, 1), not {self.gap} and {self.gap_abs}")
        if self.threads < 1 or self.memory_mb < 256:
            raise ValueError("a solver needs at least one thread and 256 MiB")


@dataclass(frozen=True)
class Answer:
    """A solver's claim about one program.

    Attributes:
        status: ``optimal``, ``infeasible``, ``limit`` (stopped by time) or ``error: ...``.
        bound: the claimed lower bound of the minimum; None if there is none.
        objective, v: value and point of the best solution found; None if there is none.
        prices: of the rows, tangents included (linear relaxations only).
        program: the program with the tangents that the solver saw.
        seconds: time in the solver.
    """

    status: str
    bound: float | None
    objective: float | None
    v: np.ndarray | None
    prices: np.ndarray | None
    program: Program
    seconds: float

    def proven_bound(self, objective: np.ndarray | None = None) -> float:
        """The lower bound of the linear relaxation that the prices prove, -inf without any.

        Args:
            objective: what was minimised, if not the program's own; then without its constant.
        """
        if self.prices is None or len(self.prices) != len(self.program.right):
            return -np.inf
        program = self.program
        if objective is not None:
            program = replace(program, objective=objective, constant=np.zeros(()))
        return program.dual_bound(self.prices)


class SolverProcess:
    """One process that solves programs one after the other; a context manager.

    A process that had to be stopped is replaced at once, so that the next question finds one that is loading already.

    Attributes:
        seconds: that questions took so far.
    """

    def __init__(self, settings: SolverSettings | None = None, command: Sequence[str] | None = None):
        self.settings = settings or SolverSettings()
        self._command = tuple(command or COMMAND)
        self._process: subprocess.Popen[bytes] | None = None
        self._replies: queue.Queue[Any] = queue.Queue()
        self._sending = threading.Lock()
        self._greeted, self._owed = False, 0
        self.seconds = 0.0

    def __enter__(self) -> SolverProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ready(self, seconds: float = START) -> None:
        """Starts the process, unless it runs, and waits until it answers: the time of questions is theirs alone then.

        After so many seconds it is waited for no longer, but goes on loading. What is wrong with a solver that cannot
        answer says the next question.
        """
        self.start()
        if not self._greeted:
            builder = ProgramBuilder()
            smallest = builder.program((builder.variables(np.zeros(1), np.ones(1)), np.ones(1)))
            self._greeted, self._owed = True, 1
            self._send(self._header(START, relax=False), smallest.to_bytes())
        if self._owed:
            with contextlib.suppress(queue.Empty):
                message = self._replies.get(timeout=max(0.0, min(seconds, START)))
                if isinstance(message, tuple):
                    self._owed = 0
                else:
                    self._replies.put(message)

    def solve(
        self,
        program: Program,
        seconds: float,
        *,
        relax: bool = False,
        start: np.ndarray | None = None,
        gap: float | None = None,
    ) -> Answer:
        """Solves a program, or with ``relax`` its linear relaxation, within ``seconds``.

        Args:
            start: a full point to begin with.
            gap: the relative gap, if not the settings' own.

        Raises:
            SolverError: the process crashed, hung, or did not answer as it should.
        """
        extra = {} if start is None else {"_start": np.asarray(start, np.float64)}
        return self._ask(program, seconds, relax, extra, gap)[0]

    def solve_many(self, program: Program, objectives: np.ndarray, seconds: float, *, relax: bool) -> list[Answer]:
        """Minimises each of ``objectives`` ``[n, variables]`` over the same rows, within ``seconds`` together.

        Raises:
            SolverError: as for :meth:`solve`.
        """
        return self._ask(program, seconds, relax, {"_objectives": objectives}, None)

    def _ask(
        self, program: Program, seconds: float, relax: bool, extra: dict[str, np.ndarray], gap: float | None
    ) -> list[Answer]:
        seconds = max(0.0, min(seconds, LONGEST))
        header = self._header(seconds, relax=relax, gap=gap)
        arrays = {name: getattr(program, name) for name in program.__dataclass_fields__} | extra
        count = len(extra["_objectives"]) if "_objectives" in extra else 1
        reply, body = self._exchange(header, pack(arrays), seconds)
        try:
            return _answers(program, reply, body, count)
        except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
            self._replace()
            raise SolverError(f"the solver's answer makes no sense ({type(error).__name__}: {error})") from error

    def _header(self, seconds: float, *, relax: bool, gap: float | None = None) -> dict[str, Any]:
        """The question about a program."""
        settings = self.settings
        return {
            "relax": relax,
            "seconds": seconds,
            "backend": SOLVERS.find(settings.solver).where,
            "settings": {
                "solver": settings.solver,
                "gap": settings.gap if gap is None else gap,
                "gap_abs": settings.gap_abs,
                "threads": settings.threads,
                "seed": settings.seed,
            },
        }

    def _send(self, header: dict[str, Any], body: bytes) -> None:
        """Begins to send a message. A process that hangs may not even read: sending must not wait for it."""
        assert self._process is not None
        arguments = (self._process.stdin, self._sending, header, body, self._replies)
        threading.Thread(target=_send, args=arguments, daemon=True).start()

    def _exchange(self, header: dict[str, Any], body: bytes, seconds: float) -> tuple[dict[str, Any], bytes]:
        started = self.start()
        patience = seconds + GRACE + GRACE_SHARE * seconds + (START if started else 0.0)
        began = time.monotonic()
        try:
            self._send(header, body)
            message = self._reply(began + patience)
        except queue.Empty:
            self._replace()
            raise SolverError(f"the solver did not answer within {seconds:.3g} s and was stopped") from None
        except BaseException:  # Ctrl-C: a process in the middle of an answer cannot be asked again
            self.close()
            raise
        finally:
            self.seconds += time.monotonic() - began
        if not isinstance(message, tuple):
            code = self._end()
            reason = f": {message}" if isinstance(message, Exception) else ""
            raise SolverError(f"the solver's process ended with code {code}{reason}")
        if "error" in message[0]:
            raise SolverError(f"the solver failed: {message[0]['error']}")
        return message

    def _reply(self, until: float) -> Any:
        """The next message that is no answer to the greeting, or what went wrong; raises queue.Empty if it is late."""
        while True:
            message = self._replies.get(timeout=max(0.0, until - time.monotonic()))
            if not (self._owed and isinstance(message, tuple)):
                return message
            self._owed = 0

    def start(self) -> bool:
        """Starts the process if there is none; returns whether it did."""
        if self._process is not None and self._process.poll() is None:
            return False
        environment = dict(os.environ)
        # The same package as here, wherever it was imported from.
        folders = [p for p in sys.path if p] + [environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(f for f in folders if f)
        self._process = subprocess.Popen(
            [*self._command, str(self.settings.memory_mb)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the parent, which ends it
        )
        self._replies, self._sending = queue.Queue(), threading.Lock()
        self._greeted, self._owed = False, 0
        threading.Thread(target=_listen, args=(self._process.stdout, self._replies), daemon=True).start()
        return True

    def _end(self) -> int | None:
        process = self._process
        if process is None:
            return None
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.2)
        self._replace()
        return process.returncode

    def _replace(self) -> None:
        """Ends the process and starts another."""
        self.close()
        self.start()

    def close(self) -> None:
        """Ends the process, at once."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                if stream is not None:
                    stream.close()


def _send(
    stream: Any, one_at_a_time: threading.Lock, header: dict[str, Any], body: bytes, replies: queue.Queue[Any]
) -> None:
    """Sends a message; puts into the queue what went wrong."""
    try:
        with one_at_a_time:
            write_message(stream, header, body)
    except (ValueError, OSError) as error:
        replies.put(error)


def _listen(stream: Any, replies: queue.Queue[Any]) -> None:
    """Puts messages into the queue; at the end of the stream None, or what was wrong with it."""
    while True:
        try:
            message = read_message(stream)
        except (ValueError, OSError, OverflowError, MemoryError) as error:
            replies.put(error)
            return
        replies.put(message)
        if message is None:
            return


def _answers(program: Program, reply: dict[str, Any], body: bytes, count: int) -> list[Answer]:
    arrays = unpack(body)
    tangents = arrays["tangents"]
    seen = program.with_tangents(tangents) if len(tangents) else program
    if len(reply["answers"]) != count:
        raise ValueError(f"{len(reply['answers'])} answers to {count} questions")
    found = []
    for i, answer in enumerate(reply["answers"]):
        v, prices = _vector(arrays.get(f"v{i}")), _vector(arrays.get(f"prices{i}"))
        if v is not None and (v.shape != program.lower.shape or not np.isfinite(v).all()):
            raise ValueError("a point of the wrong shape, or not finite")
        bound, objective = (None if answer[k] is None else float(answer[k]) for k in ("bound", "objective"))
        if any(n is not None and not np.isfinite(n) for n in (bound, objective)):
            raise ValueError("a bound or an objective that is not a number")
        status = str(answer["status"])
        if status not in STATUSES and not status.startswith("error"):
            raise ValueError(f"the unknown status {status!r}")
        found.append(Answer(status, bound, objective, v, prices, seen, float(reply["seconds"])))
    return found


def _vector(array: np.ndarray | None) -> np.ndarray | None:
    if array is not None and (array.ndim != 1 or array.dtype != np.float64):
        raise ValueError(f"{array.dtype} numbers of shape {array.shape} where a vector was to be")
    return array
