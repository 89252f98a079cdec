"""A process that stays: it loads TensorFlow and models once, answers one question after another, and is stopped and
replaced where it overruns its time."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

GRACE = 5.0
"""Seconds that an answer may be late before its process is stopped: one piece of work is not broken off within."""
Answering = Callable[[str, str, float], tuple[str, str, str, int, int]]
"""``(model, query, seconds) -> (result, text, how, pieces, passes)``."""


@dataclass(frozen=True)
class Answered:
    """A result with its text, how it was found, the seconds that it took by the clock on the wall, and how many pieces
    were bounded in how many passes, which does not hang on the machine."""

    result: str
    text: str
    how: str
    seconds: float
    pieces: int = 0
    passes: int = 0


def tfcert_answers() -> Answering:
    """A function that answers files by tfcert, made in the process that calls it."""
    from tfcert.quiet import import_tensorflow

    import_tensorflow()
    from tfcert.driver.vnnlib import VnnlibVerifier

    verifier = VnnlibVerifier()

    def answer(model: str, query: str, seconds: float) -> tuple[str, str, str, int, int]:
        found = verifier.answer(Path(model), Path(query), seconds)
        how = "; ".join(f"{v.stage} {v.guarantee} {v.margin:.6g} {v.reason}".strip() for v in found.verdicts)
        pieces, passes = (sum(getattr(v.work, name) for v in found.verdicts) for name in ("pieces", "evaluations"))
        return found.result, found.text(), how, pieces, passes

    return answer


class Resident:
    """A process that answers; ``make`` is called in it, once, and must be a function of a module."""

    def __init__(self, make: Callable[[], Answering] = tfcert_answers):
        self._make = make
        self._process: Any = None
        self._pipe: Any = None

    def ask(self, model: str, query: str, seconds: float) -> Answered:
        """The answer; ``timeout`` where none came in time, and ``error`` with what was said where one was raised."""
        self._start()
        began = time.monotonic()
        self._pipe.send((model, query, seconds))
        if not self._pipe.poll(seconds + GRACE):
            self.stop()
            return Answered("timeout", "timeout", "the process was stopped", time.monotonic() - began)
        try:
            result, text, how, *work = self._pipe.recv()
        except EOFError:
            self.stop()
            return Answered("error", "error", "the process died", time.monotonic() - began)
        used = time.monotonic() - began
        if used > seconds and result in ("sat", "unsat"):
            return Answered("timeout", "timeout", f"{result}, but late: {how}", used, *work)
        return Answered(result, text, how, used, *work)

    def begin(self) -> None:
        """Starts the process, if it does not run, and waits until it is ready."""
        self._start()

    def stop(self) -> None:
        """Ends the process, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None

    def _start(self) -> None:
        """Starts a process that is ready: what that takes is on no question's time."""
        if self._process is None:
            context = multiprocessing.get_context("spawn")
            self._pipe, theirs = context.Pipe()
            self._process = context.Process(target=_serve, args=(theirs, self._make), daemon=False)
            self._process.start()
            theirs.close()
            self._pipe.recv()


def _serve(pipe: Connection, make: Callable[[], Answering]) -> None:
    answer = make()
    pipe.send("ready")
    while True:
        try:
            question = pipe.recv()
        except EOFError:
            return
        try:
            found = answer(*question)
        except ValueError as error:  # a file or a model that is refused; anything else ends the process, and is seen
            found = ("error", "error", f"{type(error).__name__}: {error}", 0, 0)
        pipe.send(found)
