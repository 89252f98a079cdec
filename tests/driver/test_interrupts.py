"""Ctrl-C: once, twice, and where a process minds signals itself."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Iterator

import pytest

from tfcert.driver.interrupts import SENTENCE, Interrupts
from tfcert.driver.progress import Standing


@pytest.fixture(autouse=True)
def usual() -> Iterator[None]:
    """The handlers that a process in the foreground begins with: one in the background ignores Ctrl-C."""
    handlers = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = [(number, signal.signal(number, handler)) for number, handler in handlers.items()]
    yield
    for number, handler in before:
        signal.signal(number, handler)


def at(sample: int) -> Standing:
    return Standing(sample, math.nan, math.nan, 0.0)


def test_once_lets_what_is_in_flight_end_and_begins_nothing_more():
    """Catches a search that is thrown away, and one that begins after Ctrl-C and keeps the run for its time limit."""
    said: list[str] = []
    interrupts = Interrupts(said.append)
    with interrupts.heard():
        interrupts.begins(at(4))
        interrupts.between()
        signal.raise_signal(signal.SIGINT)
        assert said == [SENTENCE] and interrupts.asked
        interrupts.begins(at(4))
        with pytest.raises(KeyboardInterrupt):
            interrupts.begins(at(5))
        with pytest.raises(KeyboardInterrupt):
            interrupts.between()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_end_of_a_job_stops_at_once():
    interrupts = Interrupts()
    with interrupts.heard(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)
    assert not interrupts.asked and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_signals_that_a_process_minds_itself_and_other_threads_are_left_alone():
    """Catches a run under nohup that Ctrl-C ends after all, and a run in a thread that cannot begin."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interrupts().heard():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    wrong: list[BaseException] = []

    def run() -> None:
        try:
            with Interrupts().heard():
                pass
        except BaseException as error:
            wrong.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert not wrong
