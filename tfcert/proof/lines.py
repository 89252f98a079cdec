"""Lines and intervals of nonlinear places: below and above functions of one number, and below and above maxima.

A function lies, between two neighbouring points of an interval with no kink between them, within ``b w^2 / 8`` of the
chord: w is their distance, b a bound of ``|f''|`` there. So over the whole interval ``f(x) - s x`` is at least the
least of its values at the points, less that; for a function of straight pieces ends and kinks are points enough. This
holds for any slope s, so that any choice of slopes is sound.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .functions import OWN
from .graph import Bent, Graph, Largest
from .rounding import LEAST, growth

Interval = tuple[np.ndarray, np.ndarray]
_POINTS, _MANY, _FEW = 33, 1 << 17, 5
"""Points of a curve; of more numbers than that it has few."""


class Lines(NamedTuple):
    """``lower x + below <= f(x) <= upper x + above`` on an interval, and what rows over it lose: ``|A| lost``."""

    lower: np.ndarray
    below: np.ndarray
    upper: np.ndarray
    above: np.ndarray
    lost: np.ndarray


class Shape:
    """A function on the interval of each number of a place: its values at points of it.

    Attributes:
        x, values: points of each interval in order, from end to end, and the function there, ``[points, *shape]``.
        error: what the program's value, and ours, may differ by from the function's, anywhere on the interval.
    """

    def __init__(self, place: Bent, interval: Interval, graph: Graph):
        low, high = interval
        function = self.function = place.function
        points = [np.clip(kink, low, high) for kink in function.kinks]
        if function.bend is not None:
            shares = np.linspace(0.0, 1.0, _POINTS if place.count <= _MANY else _FEW)[1:-1]
            points += [np.minimum(low + (high - low) * share, high) for share in shares]
        self.x = np.sort(np.stack([low, *points, high]), axis=0) if points else np.stack([low, high])
        self.values = function.of(self.x)
        self._apart = np.zeros((len(self.x) - 1, *[1] * low.ndim))
        if function.bend is not None:
            ends = self.x[:-1], self.x[1:]
            self._apart = function.bend(*ends) * np.square(ends[1] - ends[0]) * (0.125 * (1.0 + 2.0**-20))
        self._size = np.maximum(np.abs(low), np.abs(high))
        exact = function.units == 0 and function.kinks == (0.0,)
        base = np.abs(self.values).max(axis=0) + self._apart.max(axis=0) + function.base + function.reach * self._size
        share = 0.0 if exact else growth(function.units + 1, graph.unit) + growth(2 * OWN)
        error = share * base + 8.0 * function.steepest * graph.tiny + LEAST
        self.error = error if exact else np.where(self._size <= 2.0**60, error, np.inf)

    def interval(self) -> Interval:
        """Of the values."""
        if self.function.slopes[0] >= 0:
            return self.values[0] - self.error, self.values[-1] + self.error
        flat = np.zeros(())
        return self._least(flat, 1.0), -self._least(flat, -1.0)

    def lines(self, lower: np.ndarray | None = None, upper: np.ndarray | None = None) -> Lines:
        """Lines of slopes within the function's, or those that lie nearest to it in the middle of the interval."""
        lower = self._nearest(1.0) if lower is None else lower
        upper = self._nearest(-1.0) if upper is None else upper
        lost = 4.0 * growth(4) * self.function.steepest * self._size + LEAST
        return Lines(lower, self._least(lower, 1.0), upper, -self._least(upper, -1.0), lost)

    def _least(self, slope: np.ndarray, sign: float) -> np.ndarray:
        """The least of ``sign (f(x) - slope x)``, moved down by errors; slopes ``[*shape]`` or ``[rows, *shape]``."""
        least = before = np.asarray(sign * (self.values[0] - slope * self.x[0]))
        for x, value, apart in zip(self.x[1:], self.values[1:], self._apart, strict=True):
            here = sign * (value - slope * x)
            least, before = np.minimum(least, np.minimum(before, here) - apart), here
        return np.asarray(least - self.error - growth(OWN) * 2.0 * self.function.steepest * self._size - LEAST)

    def _nearest(self, sign: float) -> np.ndarray:
        """The slope of the line below ``sign f``, times the sign, that is largest in the middle: an edge of the points'
        convex hull, found from the chord by going to the point that lies farthest below."""
        values, middle = sign * self.values, 0.5 * self.x[0] + 0.5 * self.x[-1]
        first, last = np.zeros(middle.shape, np.intp), np.full(middle.shape, len(values) - 1)
        for _ in range(min(12, len(values) - 1)):  # each step takes one of the points in between
            (a, fa), (b, fb) = (
                [np.take_along_axis(part, at[None], axis=0)[0] for part in (self.x, values)] for at in (first, last)
            )
            slope = np.divide(fb - fa, b - a, out=np.zeros(middle.shape), where=b > a)
            at = np.argmin(values - slope * self.x, axis=0)
            left = np.take_along_axis(self.x, at[None], axis=0)[0] <= middle
            first, last = np.where(left, at, first), np.where(left, last, at)
        return np.asarray(np.clip(sign * slope, *self.function.slopes))


class Planes(NamedTuple):
    """Of maxima: weights of each entry of a window in the lower and the upper plane, ``[entries, 1, *shape]``, the
    upper plane's intercept, and what rows lose. Where levels are chosen ``above`` is ``[entries, rows, *shape]``."""

    below: np.ndarray
    above: np.ndarray
    intercept: np.ndarray
    lost: np.ndarray


def entries(place: Largest, interval: Interval) -> Interval:
    """The intervals of what each maximum is taken of, ``[entries, *shape]``; NaN outside of the image."""
    windows = place.windows
    low, high = (windows.pad(end[None], np.nan) for end in interval)
    return tuple(np.stack([image[windows.at(where)][0] for where in windows.places]) for image in (low, high))  # type: ignore[return-value]


def planes(place: Largest, interval: Interval, tiny: float, chosen: np.ndarray | None = None) -> Planes:
    """Planes of maxima. Chosen are levels of upper planes, of each row: 0 for the least and 1 for the rule's.

    Below lies the number with the largest sum of ends. Above, for any weights ``0 <= w <= 1``, convexity of the
    maximum puts the greatest difference to ``sum w x`` at a vertex: ``max_j ((1 - w_j) u_j + w_j l_j) - sum w l``.
    Weights are ``max(0, u - g) / (u - l)`` for the level g: by the rule the largest lower end, or the second-largest
    upper end if that is above; 0 is the largest lower end.
    """
    low, high = (end[:, None] for end in entries(place, interval))
    outside = np.isnan(low)
    low, high = np.where(outside, -np.inf, low), np.where(outside, -np.inf, high)
    best = np.argmax(low + high, axis=0)
    below = (np.arange(len(low)).reshape(-1, *[1] * best.ndim) == best).astype(np.float64)
    floor, second = low.max(axis=0), np.sort(high, axis=0)[-2] if len(high) > 1 else np.full(best.shape, -np.inf)
    flat, ceiling = np.where(outside, 0.0, low), np.where(outside, 0.0, high)
    size = np.maximum(np.abs(flat), np.abs(ceiling))
    sizes = 2.0 * size.sum(axis=0)
    level = np.maximum(floor, second if len(high) > 1 else high[0])
    if chosen is not None:
        level = floor + np.clip(chosen, 0.0, 1.0).reshape(-1, *place.shape) * (level - floor)
    with np.errstate(divide="ignore", invalid="ignore"):
        above = np.where(high > level, np.where(high > low, (high - level) / (high - low), 1.0), 0.0)
    above = np.clip(np.where(floor >= second, below, above), 0.0, 1.0)
    reach = np.where(outside, -np.inf, (1.0 - above) * ceiling + above * flat).max(axis=0)
    intercept = reach - (above * flat).sum(axis=0) + growth(4 * len(low) + 32) * sizes
    return Planes(below, above, intercept, growth(4 * len(low) + 32) * sizes + 2.0 * tiny)
