"""Abstractions: the cells that a network's inputs are replaced by. Plain frozen data, exact numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from tfcert.language.text.diagnostics import Span


@dataclass(frozen=True)
class Tuning:
    """A search for a granularity: it takes ``step`` off, again and again, to no less than ``floor``.

    Attributes:
        name: ``search``, which trains from scratch for each granularity (AbsCert, Algorithm 3), or ``descend``, which
            goes on from the weights that it has.
        selection: of a search: the samples whose figures select, ``validation`` (the last tenth of those to train on,
            which is held out) or ``test`` (those of the property, as in the paper).
        stop_on_gradient: whether it ends where the gradients of the loss ask for wider cells.
    """

    step: Fraction
    floor: Fraction
    name: str = "descend"
    selection: str = "validation"
    stop_on_gradient: bool = True


@dataclass(frozen=True)
class Abstraction:
    """Cells of width ``granularity`` on [low, high], in the space of what the network receives.

    A network behind it receives the two ends of each input's cell, first all lower, then all upper ends of the
    channels (the last axis): so it has twice the channels of the data (AbsCert, Zhang et al. 2023, section 3.2).

    Attributes:
        granularity: the width of cells; the least of them where they differ.
        tuning: how ``tfcert train`` may lower the granularity, or None.
        channels: the granularity of each channel (the last axis), where they differ; none for one of all.
    """

    name: str
    low: Fraction
    high: Fraction
    granularity: Fraction
    tuning: Tuning | None = None
    channels: tuple[Fraction, ...] = ()
    span: Span = field(default=Span(), compare=False)

    @property
    def finest(self) -> Fraction:
        """The smallest granularity that a network behind this abstraction may have."""
        return self.granularity if self.tuning is None else self.tuning.floor

    @property
    def widths(self) -> float | list[float]:
        """The granularity as a layer takes it: a number, or one for each channel."""
        return list(map(float, self.channels)) or float(self.granularity)

    def accepts(self, granularity: Any) -> bool:
        """Tells whether a network with cells of this width (a number, or an array) is one that this is about."""
        several: int = getattr(granularity, "ndim", 0)
        if self.channels or several:
            return getattr(granularity, "tolist", lambda: granularity)() == self.widths
        return float(self.finest) <= granularity <= float(self.granularity)

    def cells(self) -> int:
        """The number of cells at most, with tuning at its end."""
        return math.ceil((self.high - self.low) / self.finest)

    def cell(self, value: Fraction, channel: int = 0) -> tuple[Fraction, Fraction]:
        """The ends of the cell that a number is in: what the abstraction means on a concrete input.

        Cell k is ``[low + k d, low + (k + 1) d)``, the last one is closed, and numbers outside the range belong to the
        outermost cells.
        """
        width = self.channels[channel] if self.channels else self.granularity
        count = math.ceil((self.high - self.low) / width)
        k = min(max(math.floor((value - self.low) / width), 0), count - 1)
        return self.low + k * width, self.low + (k + 1) * width
