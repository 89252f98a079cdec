"""Ctrl-C: once to stop after what is in flight, twice to stop now. SIGTERM, by which schedulers end jobs: to stop now.

Either way what has an answer is in the journal, and the run can be resumed.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from tfcert.driver.progress import Standing

SENTENCE = "stopping after what is in flight; Ctrl-C again stops now"


class Interrupts:
    """Tells a run when to stop.

    Attributes:
        asked: whether it is to stop after what is in flight: no new work may begin.
    """

    def __init__(self, say: Callable[[str], None] = lambda sentence: None):
        self.asked = False
        self._say, self._sample = say, -1

    @contextlib.contextmanager
    def heard(self) -> Iterator[None]:
        """Listens to signals within the context, in the main thread, unless the process minds them itself."""
        before: dict[signal.Signals, Any] = {}
        if threading.current_thread() is threading.main_thread():
            usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
            for number, handler in usual.items():
                if signal.getsignal(number) is handler:
                    before[number] = signal.signal(number, self._hear)
        try:
            yield
        finally:
            for number, old in before.items():
                signal.signal(number, old)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.asked or number == signal.SIGTERM:
            raise KeyboardInterrupt
        self.asked = True
        self._say(SENTENCE)

    def between(self) -> None:
        """Stops a run that was asked to, between two pieces of work.

        Raises:
            KeyboardInterrupt: it was.
        """
        if self.asked:
            raise KeyboardInterrupt

    def begins(self, standing: Standing) -> None:
        """Is told of every sample that a solver is at: one that begins after Ctrl-C does not begin.

        Raises:
            KeyboardInterrupt: instead.
        """
        if standing.sample != self._sample:
            self.between()
            self._sample = standing.sample
