"""Abstractions: the cells that a network's inputs are replaced by. Plain frozen data, exact numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction

from tfcert.language.text.diagnostics import Span


@dataclass(frozen=True)
class Tuning:
    """A search for a granularity while training: it takes ``step`` off, again and again, to no less than ``floor``."""

    step: Fraction
    floor: Fraction


@dataclass(frozen=True)
class Abstraction:
    """Cells of width ``granularity`` on [low, high], in the space of what the network receives.

    A network behind it receives the two ends of each input's cell, first all lower, then all upper ends of the
    channels (the last axis): so it has twice the channels of the data (AbsCert, Zhang et al. 2023, section 3.2).

    Attributes:
        tuning: how ``tfcert train`` may lower the granularity, or None.
    """

    name: str
    low: Fraction
    high: Fraction
    granularity: Fraction
    tuning: Tuning | None = None
    span: Span = field(default=Span(), compare=False)

    @property
    def finest(self) -> Fraction:
        """The smallest granularity that a network behind this abstraction may have."""
        return self.granularity if self.tuning is None else self.tuning.floor

    def accepts(self, granularity: float) -> bool:
        """Tells whether a network with cells of this width is one that the abstraction is about."""
        return float(self.finest) <= granularity <= float(self.granularity)

    def cells(self) -> int:
        """The number of cells at most, with tuning at its end."""
        return math.ceil((self.high - self.low) / self.finest)

    def cell(self, value: Fraction) -> tuple[Fraction, Fraction]:
        """The ends of the cell that a number is in: what the abstraction means on a concrete input.

        Cell k is ``[low + k d, low + (k + 1) d)``, the last one is closed, and numbers outside the range belong to the
        outermost cells.
        """
        count = math.ceil((self.high - self.low) / self.granularity)
        k = min(max(math.floor((value - self.low) / self.granularity), 0), count - 1)
        return self.low + k * self.granularity, self.low + (k + 1) * self.granularity
