"""The least value of linear functions over a perturbation set."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tfcert.perturbations import Region
from tfcert.propagation import kernels
from tfcert.propagation.coefficients import Coefficients

_DUAL_STEPS = 24


def least_over_box(rows: Coefficients, lower: tf.Tensor, upper: tf.Tensor) -> tf.Tensor:
    """The least value of each row over the box ``[lower, upper]`` (``[samples, *shape]``): ``[samples, groups, rows]``.

    Written with the box's middle and radius, so that coefficients are read once.
    """
    middle = 0.5 * lower + 0.5 * upper
    radius = tf.maximum(upper - middle, middle - lower)
    return kernels.box_least(rows.values, rows.unfold(middle), rows.unfold(radius))


def least(rows: Coefficients, region: Region) -> tf.Tensor:
    """A lower bound of each row over the region: ``[samples, groups, rows]``; exact without ``clip``.

    A ball of radius eps costs ``eps ||a||_q`` with q the dual norm (CROWN, Zhang et al. 2018, eq. 9). A ball cut by a
    box costs the value of its Lagrange dual, sound for every multiplier; see :func:`_clipped_l2`, :func:`_clipped_l1`.
    """
    if region.is_box:
        return least_over_box(rows, region.lower, region.upper)
    rows = rows.masked()
    center = rows.unfold(region.center)
    if rows.owner is None:
        eps = tf.reshape(region.eps, [-1, 1, 1])
    else:
        positions = 1 if rows.patches is None else rows.patches.positions
        eps = tf.gather(region.eps, rows.owner // positions)[None, :, None]
    if region.clipped:
        down = rows.unfold(region.lower - region.center)
        up = rows.unfold(region.upper - region.center)
        cost = _clipped_l2 if region.norm == "l2" else _clipped_l1
        return kernels.weighted_sum(rows.values, center) + cost(rows.values, down, up, eps)
    return (_l2_least if region.norm == "l2" else _l1_least)(rows.values, center, eps)


@kernels.kernel()
def _l2_least(values: tf.Tensor, center: tf.Tensor, eps: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(values * center, axis=3) - eps * _length(values)


@kernels.kernel()
def _l1_least(values: tf.Tensor, center: tf.Tensor, eps: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(values * center, axis=3) - eps * tf.reduce_max(tf.abs(values), axis=3)


def _length(values: tf.Tensor) -> tf.Tensor:
    """Euclidean length along the last axis, never below it: squares that underflow are charged as if they did not."""
    lost = math.prod(values.shape[3:]) * np.finfo(values.dtype.as_numpy_dtype).tiny
    length = tf.sqrt(tf.reduce_sum(tf.square(values), axis=3) + lost)
    return tf.where(tf.reduce_max(tf.abs(values), axis=3) == 0, tf.zeros_like(length), length)


def _bisect(short: Callable[[tf.Tensor], tf.Tensor], highest: tf.Tensor) -> tf.Tensor:
    """The least multiplier in ``[0, highest]`` for which ``short`` holds, as a constant for differentiation."""

    def step(count: tf.Tensor, low: tf.Tensor, high: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        middle = 0.5 * (low + high)
        enough = short(middle)
        return count + 1, tf.where(enough, low, middle), tf.where(enough, middle, high)

    highest = tf.stop_gradient(highest)
    start = (tf.constant(0), tf.zeros_like(highest), highest)
    _, _, high = tf.while_loop(lambda count, *_: count < _DUAL_STEPS, step, start, maximum_iterations=_DUAL_STEPS)
    return tf.stop_gradient(high)


@kernels.kernel(passes=_DUAL_STEPS)
def _clipped_l2(a: tf.Tensor, down: tf.Tensor, up: tf.Tensor, eps: tf.Tensor) -> tf.Tensor:
    """``min a.z`` over ``|z|_2 <= eps, down <= z <= up`` by its dual.

    For a multiplier m > 0 the minimiser of ``a.z + m/2 (|z|^2 - eps^2)`` over the box is ``z = clip(-a/m)``, and its
    value bounds the minimum from below; the best m has ``|z| = eps`` (or m -> 0 if the whole box is in the ball) and is
    at most ``|a|/eps``.
    """
    tiny = tf.constant(1e-30, a.dtype)

    def minimiser(m: tf.Tensor) -> tf.Tensor:
        # Built so that a huge quotient (m -> 0) is the box's end and 0/0 is 0.
        quotient = -a / m[..., None]
        return tf.clip_by_value(tf.where(a == 0, tf.zeros_like(a), quotient), down, up)

    def short(m: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(tf.square(minimiser(m)), axis=3) <= tf.square(eps)

    length = _length(a)
    # Adding zeros of the result's shape: rows may be shared by samples that their boxes tell apart.
    box = tf.reduce_sum(tf.minimum(a * down, a * up), axis=3)
    m = tf.maximum(_bisect(short, length / tf.maximum(eps, tiny) + tf.zeros_like(box)), tiny)
    z = tf.stop_gradient(minimiser(m))
    dual = tf.reduce_sum((a + 0.5 * m[..., None] * z) * z, axis=3) - 0.5 * m * tf.square(eps)
    # m = |a|/eps is the unclipped ball, m = 0 the box alone.
    return tf.maximum(tf.maximum(dual, -eps * length), box)


@kernels.kernel(passes=_DUAL_STEPS)
def _clipped_l1(a: tf.Tensor, down: tf.Tensor, up: tf.Tensor, eps: tf.Tensor) -> tf.Tensor:
    """``min a.z`` over ``|z|_1 <= eps, down <= z <= up`` by its dual.

    For a multiplier m >= 0, ``min a.z + m (|z|_1 - eps)`` over the box is ``-sum (|a| - m)+ reach - m eps``, where
    reach is how far z may move against the sign of a. The best m is where the entries with ``|a| > m`` use up eps.
    """
    size = tf.abs(a)
    reach = tf.where(a > 0, -down, up)

    def short(m: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(tf.where(size > m[..., None], reach, tf.zeros_like(reach)), axis=3) <= eps

    highest = tf.reduce_max(size, axis=3)
    box = tf.reduce_sum(size * reach, axis=3)
    m = _bisect(short, highest + tf.zeros_like(box))
    cost = tf.reduce_sum(tf.nn.relu(size - m[..., None]) * reach, axis=3) + m * eps
    return -tf.minimum(tf.minimum(cost, eps * highest), box)
