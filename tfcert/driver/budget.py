"""The time that strategies have: what is used, and what is left to the next stage."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from tfcert.verdict import NO_REASON, Because, Reason

Seconds = Callable[[], float]
"""A clock: the seconds that were used; or that are left: infinite for no limit, negative once more were used."""


class Clock:
    """The time that a strategy has used, against its budget.

    It stands still while stages are prepared, which is on nobody's time.

    Args:
        per_sample, total: the budget in seconds; None for no limit.
        used: seconds of the total that are used already.
        now: the time, in seconds.
    """

    def __init__(
        self,
        per_sample: Fraction | None = None,
        total: Fraction | None = None,
        used: float = 0.0,
        now: Seconds = time.monotonic,
    ):
        self.per_sample, self.total = per_sample, total
        self._now, self._idle, self._stopped = now, 0.0, math.nan
        self._began = now() - used

    def used(self) -> float:
        """Seconds that were used, from which others are told apart: it only grows, and not while it is paused."""
        now = self._now() if math.isnan(self._stopped) else self._stopped
        return now - self._began - self._idle

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Stands still in this context."""
        self._stopped = began = self._now()
        try:
            yield
        finally:
            self._stopped, self._idle = math.nan, self._idle + self._now() - began

    def left(self) -> float:
        """The seconds left of the total."""
        return math.inf if self.total is None else float(self.total) - self.used()

    def reason(self, spent: float) -> Because:
        """The reason why a sample that has used ``spent`` seconds must stop; "" if it may go on."""
        if self.total is not None and self.left() <= 0:
            return Reason.TOTAL_BUDGET.because(seconds=float(self.total))
        if self.per_sample is not None and spent >= self.per_sample:
            return Reason.SAMPLE_BUDGET.because(seconds=float(self.per_sample))
        return NO_REASON

    def budget(self, spent: np.ndarray, limit: float | None = None) -> StageBudget:
        """The budget of a stage for samples that have used ``spent`` seconds.

        Args:
            limit: the most that it may use for one of them.
        """
        each = np.full(len(spent), math.inf if limit is None else limit)
        if self.per_sample is not None:
            each = np.minimum(each, float(self.per_sample) - spent)
        return StageBudget(np.maximum(each, 0.0), self.left, self.used, self.paused)


@dataclass(frozen=True, eq=False)
class StageBudget:
    """The time that one stage has for one batch.

    Attributes:
        each: ``[batch]``: seconds for each sample; infinite for no limit.
        total: what is left to all of them together.
        used: a clock, in seconds.
        paused: a context in which it stands still, for preparation that cannot be made before.
    """

    each: np.ndarray
    total: Seconds
    used: Seconds
    paused: Callable[[], AbstractContextManager[None]]

    @property
    def limited(self) -> bool:
        """Tells whether there is any limit."""
        return bool(np.isfinite(self.each).any()) or math.isfinite(self.total())

    def begin(self, places: np.ndarray) -> Seconds:
        """The seconds left to some samples, which are worked on together from now on."""
        began, seconds = self.used(), float(self.each[places].sum())
        return lambda: min(seconds - (self.used() - began), self.total())


@dataclass(frozen=True, eq=False)
class SharedTime:
    """The time of samples that are worked on together, of which each is charged its share.

    Attributes:
        began: what the clock had used when they were begun.
        count: how many they are, those that are done with included.
    """

    clock: Clock
    began: float
    count: int

    def used(self) -> float:
        """The seconds of all of them so far."""
        return self.clock.used() - self.began

    def spent(self) -> float:
        """The seconds of a sample so far, on average."""
        return self.used() / max(1, self.count)

    def late(self) -> bool:
        """Tells whether the samples must stop."""
        return bool(self.clock.reason(self.spent()))

    def budget(self, size: int, limit: float = math.inf) -> StageBudget:
        """The time for ``size`` of them: what is left to all, and no more than ``limit`` for each."""
        budget = self.clock.budget(np.full(size, self.spent()))
        return replace(budget, each=np.minimum(budget.each * self.count / max(1, size), limit))
