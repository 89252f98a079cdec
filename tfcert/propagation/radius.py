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
"""Slightly larger radii that are tried, in the end in one batch: the margin may rise again with eps."""
_NEAR = 2.5
"""A radius up to so many times nearer to the one that is certified, or farther from it, stands for a probe."""
_BELOW, _ACROSS = 0.2, 0.94
"""In widths of a narrow bracket: how far below the root a radius is tried that is to be certified, and how far beyond
an end that is near the root another is tried that is to be the other end."""
_POWERS = 2.3, 2.0
"""The power of eps with which a margin falls beyond the first order, below the root and above it: about what CROWN's do
on networks of ReLU and sigmoid, convolutional and dense, in all norms (1.9 to 2.7)."""

_SHARE = {"linf": 0.35, "l2": 0.15, "l1": 0.08}


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
    probe = np.tile(_PROBES, len(found))
    eps = np.minimum(state.low[index] * probe, state.upper)
    # What is nearer than the bracket's end was narrowed down as far as was asked.
    new = (eps > state.high[index]) & ~_stands_for(state.seen[index], state.low[index], probe)
    index, eps = index[new], eps[new]
    if not len(index):
        return
    margins, rounding = margin_at(index, eps)
    state.evaluations += len(index)
    for i, e, m, proven in zip(index, eps, margins, is_proof(margins, rounding), strict=True):
        if proven and e > state.low[i]:
            state.low[i], state.certified[i] = e, m
            state.high[i] = np.min(state.seen[i], initial=np.inf, where=state.seen[i] > e)
        elif e > state.low[i]:
            state.high[i] = min(state.high[i], e)


def _stands_for(seen: np.ndarray, radius: np.ndarray, probe: np.ndarray) -> np.ndarray:
    """Tells whether one of the radii ``seen`` (``[count, any]``) is about as far beyond ``radius`` as a probe."""
    distance = (seen / radius[:, None] - 1) / (probe[:, None] - 1)
    return np.asarray(((distance >= 1 / _NEAR) & (distance <= _NEAR)).any(axis=1))


class _State:
    """Brackets ``low`` (certified) < ``high`` (not certified), and what was seen: radii and margins, a sample in a row.

    Margins are less what rounding may take, so that they are zero where certification ends; ``certified`` are those at
    ``low`` as they were. Rows are filled up with NaN.
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
        self.slope = np.zeros(count) if slope is None else np.nan_to_num(np.asarray(slope, np.float64), posinf=0.0)
        self.low, self.high = np.zeros(count), np.full(count, np.inf)
        self.seen, self.margins = np.zeros((count, 0)), np.zeros((count, 0))
        self.evaluations = 0
        # How often in a row ``low`` (positive) or ``high`` (negative) moved by no more than a step beyond it.
        self.creeping = np.zeros(count, int)

    def open(self) -> np.ndarray:
        """The samples whose bracket is still too wide."""
        wide = self.high - self.low > self._width(self.low)
        tiny = (self.low == 0) & (self.high < 1e-12)
        return (self.start > 0) & (self.low < self.upper) & wide & ~tiny

    def _width(self, radius: np.ndarray) -> np.ndarray:
        """The width at which a bracket is narrow enough."""
        return np.maximum(self.widths[0] * radius, self.widths[1])

    def record(self, active: np.ndarray, eps: np.ndarray, found: np.ndarray, rounding: np.ndarray) -> None:
        """Narrows the brackets by what was seen at ``eps``."""
        self.evaluations += len(active)
        found = np.asarray(found, np.float64)
        good, fresh = is_proof(found, rounding), np.full((2, len(self.low), 1), np.nan)
        fresh[:, active, 0] = eps, found - rounding
        self.seen, self.margins = np.hstack([self.seen, fresh[0]]), np.hstack([self.margins, fresh[1]])
        up, down = active[good], active[~good]
        self.certified[up] = found[good]
        self.low[up], self.high[down] = eps[good], eps[~good]

    def propose(self) -> np.ndarray:
        """The radius to try next: near the margin's root, where it narrows the bracket or spares a probe."""
        with np.errstate(all="ignore"):
            root, error = self._root()
            known, bracketed = np.isfinite(root), np.isfinite(self.high)
            middle = np.where(self.low > 0, np.sqrt(self.low * self.high), 0.2 * self.high)
            middle = np.where(self.high > 4 * self.low, middle, 0.5 * (self.low + self.high))
            root = np.where(known, root, np.where(bracketed, middle, 2 * np.maximum(self.low, 1e-6)))
            width = self._width(root)
            point = root - _BELOW * width
            for probe in _PROBES:  # a radius that may miss the root by that much is put where it spares a probe
                spares = known & (error * root > width) & (probe * root < self.high)
                spares &= ~_stands_for(self.seen, root, np.full(len(root), probe))
                point = np.where(spares, probe * root, point)
            # A point a width beyond an end closes the bracket. While the same end creeps so, its steps grow fourfold.
            ahead, back = (_ACROSS * width * 4.0 ** np.maximum(sign * self.creeping, 0) for sign in (1, -1))
            up, down = root - self.low < ahead, self.high - root < back
            point = np.where(up, self.low + ahead, np.where(down, self.high - back, point))
            falling = np.where(down, np.minimum(self.creeping, 0) - 1, 0)
            self.creeping = np.where(up, np.maximum(self.creeping, 0) + 1, falling)
            point = np.where((point > self.low) & (point < self.high), point, middle)
            grown = np.clip(point, 1.02 * self.low, np.where(self.low > 0, 4 * self.low, point))
            return np.minimum(np.where(bracketed, point, grown), self.upper)

    def _root(self) -> tuple[np.ndarray, np.ndarray]:
        """Where the margin is 0 by interpolation, held within the bracket, and a guess of that's relative error.

        What the margin falls beyond the first order goes with a power of eps that changes slowly: the logarithm of it
        is a polynomial in the logarithm of eps, through the (up to) three margins nearest to 0.
        """
        drop = self.start[:, None] - self.margins
        best = np.argsort(np.abs(np.log(drop / self.start[:, None])), axis=1)[:, :3]
        eps, drop = (np.take_along_axis(known, best, axis=1) for known in (self.seen, drop))
        eps, drop = (np.pad(known, ((0, 0), (0, 3 - best.shape[1])), constant_values=np.nan) for known in (eps, drop))
        # A slope that leaves nothing to the rest (a linear margin, or a box that cuts a ball) is no help.
        rest = np.where(np.isfinite(drop), drop - self.slope[:, None] * eps, np.inf)
        slope = np.where((rest < 1e-3 * drop).any(axis=1), 0.0, self.slope)
        x, y = np.log(eps).T, np.log(drop - slope[:, None] * eps).T
        usual = np.where(slope == 0, 1.0, np.where(self.low >= eps[:, 0], *_POWERS))
        power, other = (y[1] - y[0]) / (x[1] - x[0]), (y[2] - y[1]) / (x[2] - x[1])
        bend = (other - power) / (x[2] - x[0])
        # Two points alone say little of the power far from them.
        power = np.where(np.isfinite(bend), power, np.maximum(np.where(np.isfinite(power), power, usual), 0.75 * usual))
        bend, second = np.nan_to_num(bend), np.where(np.isfinite(x[1]), x[1], x[0])
        at = x[0]
        for _ in range(12):  # Newton's steps, of what is nearly a line in log eps
            first, more = slope * np.exp(at), np.exp(y[0] + (at - x[0]) * (power + bend * (at - second)))
            steep = (first + more * (power + bend * (2 * at - x[0] - second))) / (first + more)
            at = at - np.clip(np.log((first + more) / self.start) / np.maximum(steep, 0.3), -1.5, 1.5)
        # Each more point makes it better by its distance; 0.4 is what the changes of the power come to.
        error = 0.4 * np.nanprod(np.abs(at - x), axis=0)
        return np.clip(np.exp(at), self.low, self.high), error
