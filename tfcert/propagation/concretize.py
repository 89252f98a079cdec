"""The least value of linear functions over a perturbation set."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfcert.propagation import kernels
from tfcert.propagation.coefficients import Coefficients
from tfcert.propagation.errors import share_of_sum
from tfcert.roundoff import Rounding
from tfcert.sets.region import BlockNorms, Region, entries_at

_DUAL_STEPS = 24
"""Most steps towards the best multiplier of a dual; any multiplier gives a bound."""
_USUAL_STEPS = 4
"""How many of them are usual, for whether a kernel is worth its compilation."""
_GAP = 1e-6
"""How far a dual's bound may be from the minimum, relative to it."""
_LEAST_T = 1e-18
"""Multipliers of L2 are kept between this and its inverse."""


def least_over_box(
    rows: Coefficients, lower: tf.Tensor, upper: tf.Tensor, rounding: Rounding | None = None
) -> tf.Tensor:
    """The least value of each row over the box ``[lower, upper]`` (``[samples, *shape]``): ``[samples, groups, rows]``.

    Written with the box's middle and radius, so that coefficients are read once. With ``rounding`` never above it: the
    sum of n products ``a x - |a| r`` is off by at most ``gamma_(n+2)`` times the sum of their sizes, which is what a
    radius larger by that share of ``|x| + r`` takes away.
    """
    middle = 0.5 * lower + 0.5 * upper
    radius = tf.maximum(upper - middle, middle - lower)
    if rounding is not None:
        radius += share_of_sum(rows.values.shape[3], rounding, 16) * (tf.abs(middle) + radius)
        radius += 4.0 * rounding.tiny  # the box's ends may be flushed
    return kernels.box_least(rows.values, rows.unfold(middle), rows.unfold(radius))


def middle(region: Region) -> tf.Tensor:
    """The point of the region from which :func:`least_change` measures, ``[samples, *input]``."""
    return 0.5 * region.lower + 0.5 * region.upper if region.is_box else region.center


def least(rows: Coefficients, region: Region) -> tf.Tensor:
    """A lower bound of each row over the region: ``[samples, groups, rows]``; exact without ``clip``."""
    if region.is_box:
        return least_over_box(rows, region.lower, region.upper)
    return rows.dot(region.center) + least_change(rows, region)


def least_change(rows: Coefficients, region: Region, rounding: Rounding | None = None) -> tf.Tensor:
    """A lower bound of how far each row can change from the region's middle: ``[samples, groups, rows]``.

    A ball of radius eps costs ``eps ||a||_q`` with q the dual norm (CROWN, Zhang et al. 2018, eq. 9); an uneven one
    ``||eps a||_q``, multiplied number by number. A ball cut by a box costs the value of its Lagrange dual, sound for
    every multiplier; see :func:`_clipped_l2`, :func:`_clipped_l1`.

    With ``rounding`` never above it. All terms that are summed are at most 0, so that a sum of n of them is off by a
    share ``gamma_n`` of itself, and each by a few roundings more: of the ends' distance from the middle, of a radius
    for each number, of a product. (A dual is evaluated at a multiplier and at a point that is off by a few roundings
    from its minimiser; what that misses is quadratic in them, and at most a few roundings of the term, too.)
    """
    found = _least_change(rows, region)
    return found if rounding is None else found * (1.0 + share_of_sum(2 * rows.values.shape[3], rounding, 64))


def _least_change(rows: Coefficients, region: Region) -> tf.Tensor:
    """The same as it is computed."""
    if region.is_box:
        radius = tf.maximum(region.upper - middle(region), middle(region) - region.lower)
        return -kernels.weighted_size(rows.values, rows.unfold(radius))
    if region.blocks():
        return _least_side_by_side(rows.dense(), region)
    rows = rows.masked()
    if region.uneven:
        return _least_uneven(rows, region)
    if rows.owner is None:
        eps = tf.reshape(region.eps, [-1, 1, 1])
    else:
        positions = 1 if rows.patches is None else rows.patches.positions
        eps = tf.gather(region.eps, rows.owner // positions)[None, :, None]
    if region.clipped:
        down = rows.unfold(region.lower - region.center)
        up = rows.unfold(region.upper - region.center)
        cost = _clipped_l2 if region.norm == "l2" else _clipped_l1
        return cost(rows.values, down, up, eps)
    return -eps * dual_norm(region.norm)(rows.values)


def _least_side_by_side(rows: Coefficients, region: Region) -> tf.Tensor:
    """The same of sets side by side, from their centre: the sum of what each of them allows."""
    total: tf.Tensor = 0.0
    for places, block in region.blocks():
        part = Coefficients(entries_at(rows.values, places), (len(places),), owner=rows.owner)
        if block.is_box:
            down, up = (part.unfold(end - block.center) for end in (block.lower, block.upper))
            total += kernels.row_sums(tf.minimum(part.values * down, part.values * up))
        else:
            total += _least_change(part, block)
    return total


def _least_uneven(rows: Coefficients, region: Region) -> tf.Tensor:
    """The same of a ball with a radius for each number, in units of these: the unit ball."""
    values = rows.values * rows.unfold(region.eps)
    if not region.clipped:
        return -dual_norm(region.norm)(values)
    unit = region.in_units()
    cost = _clipped_l2 if region.norm == "l2" else _clipped_l1
    return cost(values, rows.unfold(unit.lower), rows.unfold(unit.upper), tf.ones([1, 1, 1], values.dtype))


def dual_norm(norm: str | BlockNorms) -> Callable[[tf.Tensor], tf.Tensor]:
    """The norm along the last of four axes that is dual to ``l2`` or ``l1``: never below the exact one."""
    return _length if norm == "l2" else _largest


@kernels.kernel()
def _largest(values: tf.Tensor) -> tf.Tensor:
    return tf.reduce_max(tf.abs(values), axis=3)


@kernels.kernel()
def _length(values: tf.Tensor) -> tf.Tensor:
    """Euclidean length along the last axis, never below it: squares that underflow are charged as if they did not."""
    lost = math.prod(values.shape[3:]) * np.finfo(values.dtype.as_numpy_dtype).tiny
    length = tf.sqrt(tf.reduce_sum(tf.square(values), axis=3) + lost)
    return tf.where(tf.reduce_max(tf.abs(values), axis=3) == 0, tf.zeros_like(length), length)


@kernels.kernel(passes=_USUAL_STEPS)
def _clipped_l2(a: tf.Tensor, down: tf.Tensor, up: tf.Tensor, eps: tf.Tensor) -> tf.Tensor:
    """``min a.z`` over ``|z|_2 <= eps, down <= z <= up`` by its dual.

    For a multiplier m > 0 the minimiser of ``a.z + m/2 (|z|^2 - eps^2)`` over the box is ``z = clip(-a/m)``, and its
    value bounds the minimum from below; the best m has ``|z| = eps`` (or m -> 0 if the whole box is in the ball). In
    ``u = 1/m^2``, ``|z|^2 = sum min(u a^2, end^2)`` is concave with straight pieces: Newton's steps from u = 0 rise to
    the root, never beyond it, and end on it. So each z lies in the ball, and ``a.z``, at least ``m |z|^2`` in size, is
    ``m/2 (eps^2 - |z|^2)`` above the bound: this is how near it is known to be.
    """
    tiny = tf.constant(np.finfo(a.dtype.as_numpy_dtype).tiny, a.dtype)
    # A square that underflows is charged as if it did not.
    budget = tf.where(eps > 0, tf.square(eps) + tiny, tf.zeros_like(eps))

    def step(count: tf.Tensor, u: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        square, end = tf.square(a), tf.square(tf.where(a > 0, down, up))
        free = u[..., None] * square < end
        slope = kernels.row_sums(tf.where(free, square, tf.zeros_like(square)))
        spent = kernels.row_sums(tf.where(free | (a == 0), tf.zeros_like(end), end))
        root = tf.where(slope > 0, tf.maximum(u, (budget - spent) / tf.maximum(slope, tiny)), u)
        return count + 1, root, tf.reduce_any((root - u) * slope > _GAP * budget)

    # Rows may be shared by samples that their boxes tell apart: this has the result's shape.
    box = kernels.row_sums(tf.minimum(a * down, a * up))
    start = (tf.constant(0), tf.stop_gradient(tf.zeros_like(box)), tf.constant(True))
    _, u, _ = tf.while_loop(lambda count, _, far: far & (count < _DUAL_STEPS), step, start)
    # Between these ends no quotient overflows; the box's own bound, m = 0, takes over from where they matter.
    t = tf.stop_gradient(tf.clip_by_value(tf.sqrt(u), _LEAST_T, 1 / _LEAST_T))
    z = tf.stop_gradient(tf.clip_by_value(-a * t[..., None], down, up))
    m = 1 / t
    dual = kernels.row_sums((a + 0.5 * m[..., None] * z) * z) - 0.5 * m * budget
    return tf.maximum(dual, box)


class _Tangents(NamedTuple):
    """Tangents at a convex function's minimum: a point on either side of it with value and slope, and the best."""

    low: tf.Tensor
    low_value: tf.Tensor
    low_slope: tf.Tensor
    high: tf.Tensor
    high_value: tf.Tensor
    high_slope: tf.Tensor
    best: tf.Tensor
    best_value: tf.Tensor

    def with_point(self, m: tf.Tensor, value: tf.Tensor, slope: tf.Tensor) -> _Tangents:
        right, better = slope >= 0, value < self.best_value
        old_low, old_high, new = self[:3], self[3:6], (m, value, slope)
        low = (tf.where(right, old, fresh) for old, fresh in zip(old_low, new, strict=True))
        high = (tf.where(right, fresh, old) for old, fresh in zip(old_high, new, strict=True))
        best = tf.where(better, m, self.best), tf.where(better, value, self.best_value)
        return _Tangents._make([*low, *high, *best])

    def crossing(self) -> tuple[tf.Tensor, tf.Tensor]:
        """The point where the two tangents cross; their value there bounds the minimum; 0 without a left tangent."""
        known = self.low_slope < 0
        rise = self.high_value - self.high_slope * self.high - self.low_value + self.low_slope * self.low
        bend = tf.where(known, self.low_slope - self.high_slope, -tf.ones_like(rise))
        m = tf.where(known, tf.clip_by_value(rise / bend, self.low, self.high), tf.zeros_like(rise))
        return m, tf.where(known, self.low_value + self.low_slope * (m - self.low), tf.zeros_like(rise))


@kernels.kernel(passes=_USUAL_STEPS)
def _clipped_l1(a: tf.Tensor, down: tf.Tensor, up: tf.Tensor, eps: tf.Tensor) -> tf.Tensor:
    """``min a.z`` over ``|z|_1 <= eps, down <= z <= up`` by its dual.

    For a multiplier m >= 0, ``min a.z + m (|z|_1 - eps)`` over the box is ``-cost(m)``, ``cost(m) = sum (|a| - m)+
    reach + m eps``, where reach is how far z may move against the sign of a. The cost is convex with straight pieces:
    the crossing of two tangents is tried next, bounds the least cost from below, and in the end is its minimum.
    """

    def reach() -> tf.Tensor:
        return tf.where(a > 0, -down, up)

    def step(
        count: tf.Tensor, m: tf.Tensor, known: _Tangents, _: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, _Tangents, tf.Tensor]:
        over = tf.abs(a) - m[..., None]
        moved = tf.where(over > 0, reach(), tf.zeros_like(over))
        known = known.with_point(m, kernels.row_sums(over * moved) + m * eps, eps - kernels.row_sums(moved))
        m, bound = known.crossing()
        far = (known.high > 0) & (known.best_value - bound > _GAP * known.best_value)
        return count + 1, m, known, tf.reduce_any(far)

    highest = tf.stop_gradient(
        tf.reduce_max(tf.where(reach() > 0, tf.abs(a) + tf.zeros_like(down), tf.zeros_like(a * down)), axis=3)
    )
    zero = tf.zeros_like(highest)
    right = (highest, highest * eps, eps + zero)
    start = (tf.constant(0), 0.5 * highest, _Tangents(zero, zero, zero, *right, *right[:2]), tf.constant(True))
    found = tf.while_loop(lambda count, m, known, far: far & (count < _DUAL_STEPS), step, start)[2]
    m = tf.stop_gradient(found.best)
    # The minimum is at one of the |a|, and its derivative by that one is what z has left to move there.
    at_entry = tf.reduce_max(tf.where(tf.abs(a) <= m[..., None] * (1 + _GAP), tf.abs(a), tf.zeros_like(a)), axis=3)
    costs = [kernels.row_sums(tf.nn.relu(tf.abs(a) - v[..., None]) * reach()) + v * eps for v in (at_entry, m)]
    return -tf.minimum(*costs)
