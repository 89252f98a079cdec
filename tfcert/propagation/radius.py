"""The largest radius that can be certified, searched for many samples at once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tfcert.verdict import is_proof

MarginAt = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""``(sample numbers, eps) -> margins, and what rounding may take from them``; ``is_proof`` decides."""

_MOST_STEPS = 60
_PROBES = (1.003, 1.02)
"""Slightly larger radii that are tried in the end, in one batch: the margin may rise again with eps."""


_SHARE = {"linf": 0.4, "l2": 0.15, "l1": 0.06}


def first_guess(margin: np.ndarray, slope: np.ndarray, norm: str) -> np.ndarray:
    """The radius to try first, from the margin at eps = 0 and its first-order slope (infinite where that is 0).

    The certified margin falls faster than the linearised one, most so for L1: the shares of the linearised radius are
    what CROWN reaches on small convolutional networks.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return _SHARE[norm] * margin / slope


@dataclass(frozen=True)
class RadiusSearch:
    """Results of a radius search, per sample.

    Attributes:
        radius: the largest eps that was evaluated and certified; 0 if none was.
        margin: the margin certified at ``radius`` (at 0: the starting margin).
        refuted: the smallest eps above ``radius`` at which certification failed; infinite if none did.
        evaluations: bound evaluations a sample, on average, rounded up.
    """

    radius: np.ndarray
    margin: np.ndarray
    refuted: np.ndarray
    evaluations: int


def largest_radius(
    margin_at: MarginAt,
    start_margin: np.ndarray,
    *,
    start_rounding: np.ndarray | float = 0.0,
    guesses: np.ndarray | None = None,
    slope: np.ndarray | None = None,
    upper: float = np.inf,
    tolerance: float = 1e-4,
    absolute: float = 0.0,
) -> RadiusSearch:
    """Searches for the largest certified eps in ``[0, upper]`` of each sample.

    The margin falls with eps, but not always: adaptive slopes make it jump. So nothing is concluded from a root: a
    bracket is kept of radii that were evaluated, interpolation only proposes where to look next, and the result is a
    radius that was certified.

    Args:
        margin_at: certified margins of some samples, each at its own eps. It raises a TimeoutError where no time is
            left for that: what is known by then is the answer.
        start_margin: ``[count]`` margins at eps = 0.
        start_rounding: what rounding may take from them; samples where nothing is left get radius 0 unevaluated.
        guesses: ``[count]`` where to look first.
        slope: ``[count]`` how fast the margin falls at eps = 0, if known; improves the second guess.
        upper: no larger eps is of interest.
        tolerance: the bracket's final width, relative to the radius.
        absolute: a final width that is narrow enough whatever the radius.
    """
    start = np.asarray(start_margin, np.float64)
    state = _State((start, start_rounding), slope, upper, (tolerance, absolute))
    guess = np.full(len(start_margin), min(upper, 0.01)) if guesses is None else np.asarray(guesses, float)
    guess = np.where(np.isfinite(guess) & (guess > 0), np.minimum(guess, upper), min(upper, 0.01))
    with contextlib.suppress(TimeoutError):
        _narrow(state, margin_at, guess)
        _probe(state, margin_at)
    count = max(1, int((state.start > 0).sum()))
    return RadiusSearch(state.low, state.certified, state.high, int(np.ceil(state.evaluations / count)))


def _narrow(state: _State, margin_at: MarginAt, guess: np.ndarray) -> None:
    """Narrows the brackets until all of them are narrow enough."""
    for _ in range(_MOST_STEPS):
        active = np.flatnonzero(state.open())
        if not len(active):
            break
        state.record(active, guess[active], *margin_at(active, guess[active]))
        guess = state.propose()


def _probe(state: _State, margin_at: MarginAt) -> None:
    found = np.flatnonzero((state.low > 0) & (state.low < state.upper))
    if not len(found):
        return
    index = np.repeat(found, len(_PROBES))
    eps = np.minimum(state.low[index] * np.tile(_PROBES, len(found)), state.upper)
    beyond = eps > state.high[index]  # what is nearer was narrowed down as far as was asked
    index, eps = index[beyond], eps[beyond]
    if not len(index):
        return
    margins, rounding = margin_at(index, eps)
    state.evaluations += len(index)
    for i, e, m, proven in zip(index, eps, margins, is_proof(margins, rounding), strict=True):
        if proven and e > state.low[i]:
            state.low[i], state.certified[i] = e, m
            state.high[i] = np.inf if state.high[i] <= e else state.high[i]


class _State:
    """Brackets ``low`` (certified) < ``high`` (not certified), with the margins seen at both and one point more.

    Those are less what rounding may take, so that they are zero where certification ends; ``certified`` are the margins
    at ``low`` as they were.
    """

    def __init__(
        self,
        start: tuple[np.ndarray, np.ndarray | float],
        slope: np.ndarray | None,
        upper: float,
        widths: tuple[float, float],
    ):
        self.certified, self.start, count = start[0].copy(), start[0] - start[1], len(start[0])
        self.upper, self.widths = upper, widths
        self.slope = np.full(count, np.nan) if slope is None else np.asarray(slope, np.float64)
        self.low, self.low_margin = np.zeros(count), self.start.copy()
        self.high, self.high_margin = np.full(count, np.inf), np.full(count, np.nan)
        self.past, self.past_margin = np.full(count, np.nan), np.full(count, np.nan)
        self.evaluations = 0
        self.streak = np.zeros(count, int)  # how often in a row ``low`` moved (positive) or ``high`` (negative)

    def open(self) -> np.ndarray:
        """The samples whose bracket is still too wide."""
        wide = self.high - self.low > self._width()
        tiny = (self.low == 0) & (self.high < 1e-12)
        return (self.start > 0) & (self.low < self.upper) & wide & ~tiny

    def _width(self) -> np.ndarray:
        """The width at which a bracket is narrow enough."""
        return np.maximum(self.widths[0] * self.low, self.widths[1])

    def record(self, active: np.ndarray, eps: np.ndarray, found: np.ndarray, rounding: np.ndarray) -> None:
        """Narrows the brackets by what was seen at ``eps``."""
        self.evaluations += len(active)
        found = np.asarray(found, np.float64)
        good, margins = is_proof(found, rounding), found - rounding
        up, down = active[good], active[~good]
        self.certified[up] = found[good]
        self.streak[up] = np.maximum(self.streak[up], 0) + 1
        self.streak[down] = np.minimum(self.streak[down], 0) - 1
        self.past[up], self.past_margin[up] = self.low[up], self.low_margin[up]
        self.low[up], self.low_margin[up] = eps[good], margins[good]
        self.past[down], self.past_margin[down] = self.high[down], self.high_margin[down]
        self.high[down], self.high_margin[down] = eps[~good], margins[~good]

    def propose(self) -> np.ndarray:
        """The radius to try next: near the root of a parabola through what is known, just inside the bracket's ends."""
        with np.errstate(all="ignore"):
            root = self._root()
            bracketed = np.isfinite(self.high)
            middle = np.where(self.low > 0, np.sqrt(self.low * self.high), 0.2 * self.high)
            middle = np.where(self.high > 4 * self.low, middle, 0.5 * (self.low + self.high))
            root = np.where(np.isfinite(root), root, np.where(bracketed, middle, 2 * np.maximum(self.low, 1e-6)))
            # A point just below the root closes the bracket from below, one a little beyond an end from there. While
            # the same end keeps moving, the steps beyond it widen fourfold: this is what bounds the search.
            step = 0.45 * self._width()
            ahead, back = (2 * step * 4.0 ** np.maximum(sign * self.streak - 2, 0) for sign in (1, -1))
            point = np.where(self.high - root < back, self.high - back, root - step / 2)
            point = np.where(root - self.low < ahead, self.low + ahead, point)
            root = np.where((point > self.low) & (point < self.high), point, middle)
            grown = np.clip(root, 1.02 * self.low, np.where(self.low > 0, 4 * self.low, root))
            return np.minimum(np.where(bracketed, root, grown), self.upper)

    def _root(self) -> np.ndarray:
        """The root nearest the bracket of the parabola through the last three points (or two and the first slope)."""
        secant = self.low + self.low_margin * (self.high - self.low) / (self.low_margin - self.high_margin)
        # Newton form around ``low``: margin(e) = m + a (e - low) + b (e - low)(e - other).
        other = np.where(np.isfinite(self.high_margin), self.high, self.past)
        other_margin = np.where(np.isfinite(self.high_margin), self.high_margin, self.past_margin)
        third = np.where(np.isfinite(self.high_margin), self.past, np.nan)
        third_margin = np.where(np.isfinite(self.high_margin), self.past_margin, np.nan)
        at_zero = ~np.isfinite(third) & np.isfinite(self.slope)
        a = (other_margin - self.low_margin) / (other - self.low)
        b = ((third_margin - self.low_margin) / (third - self.low) - a) / (third - other)
        # With the slope at 0: margin(e) = m0 - s e - c e^2 through the one point that is not 0.
        point = np.where(self.low > 0, self.low, self.high)
        value = np.where(self.low > 0, self.low_margin, self.high_margin)
        c = (self.start - self.slope * point - value) / point**2
        from_slope = _positive_root(-c, -self.slope, self.start)
        span = _positive_root(b, a - b * (other - self.low), self.low_margin)
        root = np.where(at_zero, from_slope, self.low + span)
        inside = (root > self.low) & (root < self.high)
        return np.where(inside, root, np.where(np.isfinite(secant), secant, self.low - self.low_margin / a))


def _positive_root(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """The smallest positive root of ``a x^2 + b x + c`` with c > 0, without cancellation; NaN if there is none."""
    root = np.sqrt(np.maximum(b * b - 4 * a * c, 0))
    candidates = np.stack([2 * c / (-b + root), 2 * c / (-b - root)])
    return np.min(np.where(candidates > 0, candidates, np.inf), axis=0)
