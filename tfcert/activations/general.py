"""Any elementwise function whose derivative is known, and the points between which it bends one way.

Nothing else is asked of the function: where a line touches it is searched for, and the tightest lines follow from its
envelopes (the least concave function above it on the interval, and the greatest convex one below).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tfcert.activations.curves import Function, midpoint, roundoff, secant
from tfcert.activations.registry import Activation, Ranges, Slopes

_FINE = {tf.float32: 32, tf.float64: 60}
"""Halvings until a touching point is exact: its error counts squared, and both ends of the numbers are reached."""
_COARSE = 12
"""Halvings where only a slope is chosen: any slope is sound."""
_ROUNDS = 4
"""Steps of the search for the line that touches twice (it converges quadratically)."""


@dataclass(frozen=True)
class Bends:
    """A function in pieces that are convex, concave or straight.

    Attributes:
        function: the function.
        derivative: its derivative; at the ends of a piece it may have the value of either side.
        ends: where one piece ends and the next begins, in order: inflection points and kinks.
        jumps: those of the ends right of which the function jumps (at the end it has the value from the left).
        solve: ``slope -> points`` with ``f'(x) = slope`` in closed form, or None to have them searched for.
    """

    function: Function
    derivative: Function
    ends: tuple[float, ...] = ()
    jumps: tuple[float, ...] = ()
    solve: Callable[[tf.Tensor], tuple[tf.Tensor, ...]] | None = None

    @functools.cached_property
    def rising(self) -> tuple[bool | None, ...]:
        """Of each piece, whether the derivative rises in it; None where it does not change."""
        outer = (self.ends[0] - 1.0, *self.ends, self.ends[-1] + 1.0) if self.ends else (-1.0, 1.0)
        found: list[bool | None] = []
        with tf.init_scope():
            for left, right in itertools.pairwise(outer):
                inside = tf.constant([0.75 * left + 0.25 * right, 0.25 * left + 0.75 * right], tf.float64)
                first, second = self.derivative(inside).numpy()
                found.append(None if first == second else bool(first < second))
        return tuple(found)

    def critical_points(
        self, slope: tf.Tensor, lower: tf.Tensor, upper: tf.Tensor, halvings: int | None = None
    ) -> tuple[tf.Tensor, ...]:
        """The ends of the pieces, and the point of each at which the derivative is ``slope``."""
        kind = slope.dtype.as_numpy_dtype
        beyond = [float(np.nextafter(kind(jump), kind(np.inf))) for jump in self.jumps]
        fixed = tuple(tf.fill(tf.shape(slope), tf.constant(end, slope.dtype)) for end in (*self.ends, *beyond))
        if self.solve is not None:
            return *fixed, *self.solve(slope)
        pieces = zip((None, *self.ends), (*self.ends, None), self.rising, strict=True)
        return *fixed, *(
            self._root(slope, _clip(left, lower, upper, lower), _clip(right, lower, upper, upper), rising, halvings)
            for left, right, rising in pieces
            if rising is not None
        )

    def _root(
        self, slope: tf.Tensor, left: tf.Tensor, right: tf.Tensor, rising: bool, halvings: int | None
    ) -> tf.Tensor:
        """Where the monotone derivative crosses ``slope`` between two points; near one of them where it does not."""

        # Bisected in x / (1 + |x|): fine near zero and still relatively fine far out.
        def stretch(t: tf.Tensor) -> tf.Tensor:
            return tf.clip_by_value(t / tf.maximum(1.0 - tf.abs(t), 0.5 * roundoff(t)), left, right)

        low, high = left / (1.0 + tf.abs(left)), right / (1.0 + tf.abs(right))
        for _ in range(halvings or _FINE[slope.dtype]):
            middle = 0.5 * (low + high)
            before = (self.derivative(stretch(middle)) < slope) == rising
            low, high = tf.where(before, middle, low), tf.where(before, high, middle)
        return stretch(0.5 * (low + high))

    def touching(
        self, slope: tf.Tensor, lower: tf.Tensor, upper: tf.Tensor, points: Sequence[tf.Tensor], sign: float
    ) -> tf.Tensor:
        """The point of the interval at which a line of this slope, coming from above (``sign`` 1), first touches."""
        best = lower
        most = sign * (self.function(lower) - slope * lower)
        for point in (upper, *(tf.clip_by_value(point, lower, upper) for point in points)):
            gap = sign * (self.function(point) - slope * point)
            best, most = tf.where(gap > most, point, best), tf.maximum(gap, most)
        return best

    def chord(self, slope: tf.Tensor, first: tf.Tensor, second: tf.Tensor, sign: float) -> tuple[tf.Tensor, tf.Tensor]:
        """The chord's slope where it differs from ``slope`` by more than rounding, and by how much the ends differ."""
        ends = self.function(first), self.function(second)
        size = tf.abs(ends[0]) + tf.abs(ends[1]) + tf.abs(slope) * (tf.abs(first) + tf.abs(second))
        gap = sign * (ends[1] - ends[0] - slope * (second - first))
        gap = tf.where(tf.abs(gap) > 8 * roundoff(gap) * size, gap, tf.zeros_like(gap))
        return tf.where(gap != 0, secant(self.function, first, second), slope), gap

    def supporting(self, lower: tf.Tensor, upper: tf.Tensor, sign: float) -> tf.Tensor:
        """Slope at the interval's middle of the concave (``sign`` 1) or convex (-1) envelope.

        Of all lines on that side of the function the one with this slope is nearest to it in the middle, so it leaves
        the least area between. Either it touches in the middle, or on both sides ``a``, ``b`` of it: the slope at
        which both sides touch at once is found by Newton's method, whose step is the chord from ``a`` to ``b``.
        """
        middle = midpoint(lower, upper)
        slope = self.derivative(middle)
        least, most = tf.fill(tf.shape(slope), slope.dtype.min), tf.fill(tf.shape(slope), slope.dtype.max)
        first = second = middle
        for _ in range(_ROUNDS):
            points = self.critical_points(slope, lower, upper, _COARSE)
            first = self.touching(slope, lower, middle, points, sign)
            second = self.touching(slope, middle, upper, points, sign)
            step, gap = self.chord(slope, first, second, sign)
            rises = sign * gap > 0
            least = tf.where(rises, slope, least)
            most = tf.where(sign * gap < 0, slope, most)
            inside = (step >= least) & (step <= most)
            slope = tf.where(inside, step, 0.5 * least + 0.5 * most)
        return self._differentiable(slope, first, second, lower, upper)

    def _differentiable(
        self, slope: tf.Tensor, first: tf.Tensor, second: tf.Tensor, lower: tf.Tensor, upper: tf.Tensor
    ) -> tf.Tensor:
        """The same slope, with its gradient with respect to the ends (touching points inside add nothing to it)."""
        middle = midpoint(lower, upper)
        first = tf.clip_by_value(tf.stop_gradient(first), lower, middle)
        second = tf.clip_by_value(tf.stop_gradient(second), middle, upper)
        twice = first < second
        live = tf.where(twice, secant(self.function, first, second), self.derivative(middle))
        return tf.stop_gradient(slope - live) + live

    def end_slopes(self, lower: tf.Tensor, upper: tf.Tensor, sign: float) -> Slopes:
        """The slopes of the envelope at ``l`` and at ``u``, by the same steps from the ends of the interval."""
        found = []
        for end in (lower, upper):
            slope = self.derivative(end)
            for _ in range(_ROUNDS):
                points = self.critical_points(slope, lower, upper, _COARSE)
                other = self.touching(slope, lower, upper, points, sign)
                step, gap = self.chord(slope, end, other, sign)
                slope = tf.where(gap > 0, step, slope)
            found.append(tf.stop_gradient(slope))
        return tf.minimum(*found), tf.maximum(*found)


def _clip(end: float | None, lower: tf.Tensor, upper: tf.Tensor, otherwise: tf.Tensor) -> tf.Tensor:
    return (
        otherwise
        if end is None
        else tf.clip_by_value(tf.fill(tf.shape(lower), tf.constant(end, lower.dtype)), lower, upper)
    )


def general(name: str, bends: Bends) -> Activation:
    """The activation with these pieces; its only relaxation is ``adaptive``.

    ``adaptive`` takes, on each side, the slope of the function's envelope at the middle of the interval, which leaves
    the least area between the line and the function.
    """

    def adaptive(lower: tf.Tensor, upper: tf.Tensor) -> Slopes:
        return bends.supporting(lower, upper, -1.0), bends.supporting(lower, upper, 1.0)

    def ranges(lower: tf.Tensor, upper: tf.Tensor) -> Ranges:
        return bends.end_slopes(lower, upper, -1.0), bends.end_slopes(lower, upper, 1.0)

    return Activation(name, bends.function, bends.critical_points, {"adaptive": adaptive}, ranges)
