"""Any elementwise function whose derivative is known, and the points between which it bends one way.

Nothing else is asked of the function: where a line touches it is searched for, and the tightest lines follow from its
envelopes (the least concave function above it on the interval, and the greatest convex one below).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tfcert.activations.curves import Function, midpoint, roundoff, secant, smallest
from tfcert.activations.registry import Activation, Declaration, DomainEnds, Ranges, Slopes

_FINE = {tf.float32: 32, tf.float64: 60}
"""Halvings until a touching point is exact: its error counts squared, and both ends of the numbers are reached."""
_COARSE = 12
"""Halvings where only a slope is chosen: any slope is sound."""
_APART = 1e-3
"""Touching points that are no farther apart than this share of the interval are one."""
_ROUNDS = 6
"""Steps of the search for the line that touches twice (it converges quadratically, if not always at once)."""


@dataclass(frozen=True)
class Bends:
    """A function in pieces that are convex, concave or straight.

    Attributes:
        function: the function.
        derivative: its derivative; at the ends of a piece it may have the value of either side.
        ends: where one piece ends and the next begins, in order: inflection points and kinks.
        jumps: those of the ends right of which the function jumps (at the end it has the value from the left).
        solve: ``slope -> points`` with ``f'(x) = slope`` in closed form, or None to have them searched for.
        domain: between which numbers the ends are all that there are; None for from the first of them to the last.
            ``(-inf, inf)`` says that there are none beyond. On intervals that leave the domain bounds are infinite.

    Raises:
        ValueError: ends out of order or beyond the domain, or no domain and fewer than two ends to take one from.
    """

    function: Function
    derivative: Function
    ends: tuple[float, ...] = ()
    jumps: tuple[float, ...] = ()
    solve: Callable[[tf.Tensor], tuple[tf.Tensor, ...]] | None = None
    domain: DomainEnds | None = None

    def __post_init__(self) -> None:
        if self.domain is None and len(self.ends) < 2:
            raise ValueError(
                "say with domain=(least, greatest) between which numbers the ends of the pieces are all that there "
                "are; (-math.inf, math.inf) where that is so everywhere"
            )
        ordered = all(left < right for left, right in itertools.pairwise(self.ends))
        if not ordered or any(not self.reach[0] <= end <= self.reach[1] for end in self.ends):
            raise ValueError(f"ends {self.ends} must rise and lie in the domain {self.reach}")

    @property
    def reach(self) -> DomainEnds:
        """The domain, worked out."""
        return self.domain or (self.ends[0], self.ends[-1])

    @functools.cached_property
    def rising(self) -> tuple[bool | None, ...]:
        """Of each piece, whether the derivative rises in it; None where it does not change, or beyond the domain."""
        low, high = self.reach
        first, last = (self.ends[0], self.ends[-1]) if self.ends else (min(max(0.0, low), high),) * 2
        outer = (max(low, first - 1.0), *self.ends, min(high, last + 1.0))
        found: list[bool | None] = []
        with tf.init_scope():
            for left, right in itertools.pairwise(outer):
                inside = tf.constant([0.75 * left + 0.25 * right, 0.25 * left + 0.75 * right], tf.float64)
                first, second = self.derivative(inside).numpy()
                found.append(None if first == second else bool(first < second))
        return tuple(found)

    def critical_points(self, slope: tf.Tensor, lower: tf.Tensor, upper: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """The ends of the pieces, and the point of each at which the derivative is ``slope``."""
        return tuple(tf.unstack(self._critical(slope, lower, upper, _FINE[slope.dtype])))

    def _critical(self, slope: tf.Tensor, lower: tf.Tensor, upper: tf.Tensor, halvings: int) -> tf.Tensor:
        """The critical points, stacked along a new first axis."""
        kind = slope.dtype.as_numpy_dtype
        # Next to zero is the least number that is not flushed to it.
        beyond = [float(np.nextafter(kind(jump), kind(np.inf)) if jump else np.finfo(kind).tiny) for jump in self.jumps]
        found = [tf.fill(tf.shape(slope), tf.constant(end, slope.dtype)) for end in (*self.ends, *beyond)]
        if self.solve is not None or set(self.rising) == {None}:
            return tf.stack([*found, *(self.solve(slope) if self.solve is not None else ())])
        roots = self._roots(tf.stop_gradient(slope), tf.stop_gradient(lower), tf.stop_gradient(upper), halvings)
        return tf.concat([tf.stack(found), roots], axis=0) if found else roots

    def _roots(self, slope: tf.Tensor, lower: tf.Tensor, upper: tf.Tensor, halvings: int) -> tf.Tensor:
        """The points where the derivative crosses ``slope``, one a bent piece; near an end of one where it does not."""
        pieces = list(zip((-np.inf, *self.ends), (*self.ends, np.inf), self.rising, strict=True))
        lead = [-1] + [1] * slope.shape.rank
        left, right, rising = (
            tf.reshape(tf.constant(list(column)), lead)
            for column in zip(*[piece for piece in pieces if piece[2] is not None], strict=True)
        )
        left = tf.maximum(tf.minimum(tf.cast(left, slope.dtype), upper), lower)
        right = tf.maximum(tf.minimum(tf.cast(right, slope.dtype), upper), lower)

        # Bisected in x / (1 + |x|): fine near zero and still relatively fine far out.
        def stretch(t: tf.Tensor) -> tf.Tensor:
            return tf.clip_by_value(t / tf.maximum(1.0 - tf.abs(t), 0.5 * roundoff(t)), left, right)

        def halve(low: tf.Tensor, high: tf.Tensor) -> Slopes:
            middle = 0.5 * (low + high)
            before = (self.derivative(stretch(middle)) < slope) == rising
            return tf.where(before, middle, low), tf.where(before, high, middle)

        low, high = tf.while_loop(
            lambda low, high: True,
            halve,
            (left / (1.0 + tf.abs(left)), right / (1.0 + tf.abs(right))),
            maximum_iterations=halvings,
        )
        return stretch(0.5 * (low + high))

    def touching(
        self, slope: tf.Tensor, lower: tf.Tensor, upper: tf.Tensor, points: tf.Tensor, sign: float
    ) -> tf.Tensor:
        """The point of the interval at which a line of this slope, coming from above (``sign`` 1), first touches."""
        ends = tf.stack([lower, upper])
        points = tf.concat([ends, tf.clip_by_value(points, lower, upper)], axis=0)
        gap = sign * (self.function(points) - slope * points)
        first = tf.one_hot(tf.argmax(gap, axis=0), points.shape[0], on_value=True, off_value=False, axis=0)
        return tf.reduce_max(tf.where(first, points, points.dtype.min), axis=0)

    def chord(self, slope: tf.Tensor, first: tf.Tensor, second: tf.Tensor, sign: float) -> tuple[tf.Tensor, tf.Tensor]:
        """The chord's slope where it differs from ``slope`` by more than rounding, and by how much the ends differ."""
        ends = self.function(first), self.function(second)
        size = tf.abs(ends[0]) + tf.abs(ends[1]) + tf.abs(slope) * (tf.abs(first) + tf.abs(second))
        gap = sign * (ends[1] - ends[0] - slope * (second - first))
        gap = tf.where(tf.abs(gap) > 8 * roundoff(gap) * size, gap, tf.zeros_like(gap))
        between = tf.minimum(first, second), tf.maximum(first, second)
        return tf.where(gap != 0, secant(self.function, *between), slope), gap

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
            points = self._critical(slope, lower, upper, _COARSE)
            first = self.touching(slope, lower, middle, points, sign)
            second = self.touching(slope, middle, upper, points, sign)
            step, gap = self.chord(slope, first, second, sign)
            rises = sign * gap > 0
            least = tf.where(rises, slope, least)
            most = tf.where(sign * gap < 0, slope, most)
            # A step back to a slope that was tried already (the middle ties with a farther point) is halved instead.
            again = (gap != 0) & ((step <= least) | (step >= most))
            slope = tf.where(again, 0.5 * least + 0.5 * most, step)
        return self._differentiable(slope, first, second, lower, upper)

    def _differentiable(
        self, slope: tf.Tensor, first: tf.Tensor, second: tf.Tensor, lower: tf.Tensor, upper: tf.Tensor
    ) -> tf.Tensor:
        """The same slope, with its gradient with respect to the ends (touching points inside add nothing to it)."""
        middle = midpoint(lower, upper)
        # Not clipped: where a point is an end of the interval, the gradient is the end's.
        first, second = tf.stop_gradient(first), tf.stop_gradient(second)
        first = tf.where(first <= lower, lower, tf.where(first >= middle, middle, first))
        second = tf.where(second >= upper, upper, tf.where(second <= middle, middle, second))
        # Points that differ by rounding are the middle: a chord between them would have a gradient out of all measure.
        # Over less than ``smallest ** 0.25`` a jump's would overflow.
        twice = second - first > tf.maximum(_APART * (upper - lower), smallest(slope) ** 0.25)
        first, second = tf.where(twice, first, middle), tf.where(twice, second, middle)
        live = tf.where(twice, secant(self.function, first, second), self.derivative(middle))
        return tf.stop_gradient(slope - live) + live

    def end_slopes(self, lower: tf.Tensor, upper: tf.Tensor, sign: float) -> Slopes:
        """The slopes of the envelope at ``l`` and at ``u``, by the same steps from the ends of the interval."""
        found = []
        for end in (lower, upper):
            slope = self.derivative(end)
            for _ in range(_ROUNDS):
                points = self._critical(slope, lower, upper, _COARSE)
                other = self.touching(slope, lower, upper, points, sign)
                step, gap = self.chord(slope, end, other, sign)
                slope = tf.where(gap > 0, step, slope)
            found.append(tf.stop_gradient(slope))
        return tf.minimum(*found), tf.maximum(*found)


def general(name: str, bends: Bends) -> Activation:
    """The activation with these pieces; its only relaxation is ``adaptive``.

    ``adaptive`` takes, on each side, the slope of the function's envelope at the middle of the interval, which leaves
    the least area between the line and the function.
    """

    def adaptive(lower: tf.Tensor, upper: tf.Tensor) -> Slopes:
        return bends.supporting(lower, upper, -1.0), bends.supporting(lower, upper, 1.0)

    def ranges(lower: tf.Tensor, upper: tf.Tensor) -> Ranges:
        return bends.end_slopes(lower, upper, -1.0), bends.end_slopes(lower, upper, 1.0)

    return Activation(
        name,
        bends.function,
        bends.critical_points,
        {"adaptive": adaptive},
        ranges,
        domain=bends.reach,
        declaration=Declaration(bends.derivative, bends.ends, bends.rising, bends.jumps),
        exact=len(bends.ends) + len(bends.jumps),
    )
