"""Linear bounds of max pooling.

Every upper line is ``g + sum max(0, u_i - g) / (u_i - l_i) (x_i - l_i)`` for a level g of at least max l: each term is
at least ``max(0, x_i - g)``, because that is convex in x_i and met at both ends of its interval (l_i <= g). A level
above both max l and the second-largest u only raises the line, so levels end there.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfcert.network.graph import MaxPool
from tfcert.network.windows import gather_windows
from tfcert.propagation.errors import share_of_sum


class PoolLines(NamedTuple):
    """``lower_weights . x + lower_intercept <= y <= upper_weights . x + upper_intercept`` over each window's entries.

    Weights are ``[batch, h, w, entries, channels]`` and not negative, where x are the entries that are pooled and y is
    their maximum; intercepts are ``[batch, h, w, channels]``.
    """

    lower_weights: tf.Tensor
    lower_intercept: tf.Tensor
    upper_weights: tf.Tensor
    upper_intercept: tf.Tensor


def pooled_apart(lines: PoolLines, share: float) -> PoolLines:
    """Lines whose intercepts may be summed with rows, losing a share of their sizes."""
    return lines._replace(
        lower_intercept=lines.lower_intercept - share * tf.abs(lines.lower_intercept),
        upper_intercept=lines.upper_intercept + share * tf.abs(lines.upper_intercept),
    )


def _outward(node: MaxPool, lines: PoolLines, windows: _Windows) -> PoolLines:
    """Lines that hold although they are computed, and rows through them, in floating point.

    With k entries a weight ``(u - g) / (u - l)`` is off by three roundings, which moves the line by at most so many
    times ``w (u - l)`` on the interval, and the intercept is a sum of k terms no larger than ``w m`` or ``w`` times the
    level; as many windows as there are entries may read a number, so that rows over it are a sum of so many products.
    """
    assert node.rounding is not None
    share = share_of_sum(2 * lines.upper_weights.shape[3], node.rounding, 32)
    size = tf.maximum(tf.abs(windows.low), tf.abs(windows.high))
    size = tf.where((windows.low == -np.inf) & (windows.high == -np.inf), tf.zeros_like(size), size)
    level = tf.reduce_max(size, axis=3)

    def lost(weights: tf.Tensor) -> tf.Tensor:
        total = tf.reduce_sum(tf.math.multiply_no_nan(size, weights), axis=3)
        return share * (total + level * (1.0 + tf.reduce_sum(weights, axis=3)))

    return lines._replace(
        lower_intercept=lines.lower_intercept - lost(lines.lower_weights),
        upper_intercept=lines.upper_intercept + lost(lines.upper_weights),
    )


class _Windows(NamedTuple):
    """Bounds of the entries of each window, ``[batch, h, w, entries, channels]``; -inf outside the image."""

    low: tf.Tensor
    high: tf.Tensor

    def floor(self) -> tf.Tensor:
        """The least level, max l: ``[batch, h, w, channels]``."""
        return tf.reduce_max(self.low, axis=3)

    def ceiling(self) -> tf.Tensor:
        """The greatest level of use: the second-largest u, at least max l."""
        largest = tf.one_hot(tf.argmax(self.high, axis=3), self.high.shape[3], True, False, axis=3)
        return tf.maximum(self.floor(), tf.reduce_max(tf.where(~largest, self.high, -np.inf), axis=3))


def pool_lines(
    node: MaxPool,
    lower: tf.Tensor,
    upper: tf.Tensor,
    relaxation: str | None = None,
    height: tf.Tensor | None = None,
) -> PoolLines:
    """Bounds of a max-pooling node from bounds of its input.

    By default, below: the entry with the largest ``l + u``; above: the line of the greatest level of use, or that of
    ``height``. The relaxation ``cnncert`` has both planes of its paper (Boopathy et al. 2019, table 2) and program.
    Where one entry dominates (``l_i >= u_j`` for all others) all of these are that entry, whatever the height. Bounds
    may be infinite: the weights are finite, and so are the intercepts unless an upper bound is infinite or a sum
    overflows. Differentiable in the bounds and the height.

    Args:
        node: the node.
        lower: lower bounds ``[batch, height, width, channels]`` of its input.
        upper: upper bounds.
        relaxation: a relaxation's name; every one but ``cnncert`` means the default.
        height: levels of the upper lines as :func:`default_height` counts them, ``[batch, h, w, channels]`` in [0, 1]
            (any such tensor gives sound lines); in place of the relaxation's.
    """
    windows = _windows(node, lower, upper)
    if height is None and (relaxation or "").partition("+")[0] == "cnncert":
        found = _cnncert_lines(windows)
        return found if node.rounding is None else _outward(node, found, windows)
    level = windows.ceiling() if height is None else _level(windows, height)
    lower_weights = _lower_weights(windows)
    found = PoolLines(lower_weights, tf.zeros_like(level), *_upper_line(windows, level))
    return found if node.rounding is None else _outward(node, found, windows)


def default_height(node: MaxPool, lower: tf.Tensor, upper: tf.Tensor) -> tf.Tensor:
    """The height at which :func:`pool_lines` puts each window's upper line by default: 1.

    A height is a level's place between max l (0) and the greatest level of use (1), the second-largest u. Every level
    from the third-largest u (if above max l) to the second-largest gives the smallest area; the last depends least on
    the input, and what neighbouring windows share of it adds up from layer to layer (measured: larger margins than
    any other choice on both pooled reference networks, in every norm). It lies below the constant max u everywhere.

    Returns:
        ``[batch, h, w, channels]``, in [0, 1].
    """
    return tf.ones_like(_windows(node, lower, upper).floor())


def _windows(node: MaxPool, lower: tf.Tensor, upper: tf.Tensor) -> _Windows:
    return _Windows(*(gather_windows(end, node, fill=-np.inf) for end in (lower, upper)))


def _level(windows: _Windows, height: tf.Tensor) -> tf.Tensor:
    floor, ceiling = windows.floor(), windows.ceiling()
    known = tf.math.is_finite(ceiling - floor)
    # Rounding is monotone: the sum is at least max l, as it must be.
    return tf.where(known, floor + height * tf.where(known, ceiling - floor, 0), np.inf)


def _cnncert_lines(windows: _Windows) -> PoolLines:
    """Both planes of CNN-Cert's program (``pool_linear_bounds``), which have the same weights.

    The level is the g of the paper's table 2, where the weights ``w_i = (u_i - g) / (u_i - l_i)`` sum to 1 (it is at
    least max l, where the entry with that l has weight 1 already), but at most the least u. As printed that is the
    least of all entries, which may be below max l, where the upper plane is unsound; here and in their program entries
    with ``u_i < max l`` are left out. An entry that only reaches max l (after ReLU often one that is always 0) thus
    puts the level there, and entries that are the constant max l share what the other weights lack to 1, if anything.

    The lower plane is ``sum w_i x_i + (1 - G) max u`` with ``G = sum w_i``, which is at least 1. It is sound because
    weights are not negative: ``sum w_i x_i <= G max(x)``, and so ``max(x) - sum w_i x_i >= (1 - G) max(x)``, where
    ``max(x) <= max u``. (Rounding may leave G below 1; then max l takes the place of max u.)
    """
    floor = windows.floor()
    above, finite = floor[:, :, :, None], tf.math.is_finite(windows.high - windows.low)
    wins = (windows.high > above) & finite
    low, high = (tf.where(wins, end, 0) for end in windows)
    per_width = tf.math.reciprocal_no_nan(high - low)
    middle = tf.math.divide_no_nan(tf.reduce_sum(per_width * high, axis=3) - 1, tf.reduce_sum(per_width, axis=3))
    least = tf.reduce_min(tf.where(windows.high >= above, windows.high, np.inf), axis=3)
    inside = tf.math.is_finite(middle) & tf.reduce_any(wins, axis=3)
    level = tf.where(inside, tf.maximum(tf.minimum(middle, least), floor), floor)
    weights, intercept = _upper_line(windows, level)

    constant = (windows.low == above) & (windows.high == above) & finite
    count = tf.reduce_sum(tf.cast(constant, low.dtype), axis=3)
    lack = tf.nn.relu(tf.math.divide_no_nan(1 - tf.reduce_sum(weights, axis=3), count))
    shares = tf.where(constant, lack[:, :, :, None], 0)
    weights += shares
    intercept -= tf.reduce_sum(shares * tf.where(constant, windows.low, 0), axis=3)

    known = tf.reduce_all(finite | (windows.high < above), axis=3)
    total = tf.reduce_sum(weights, axis=3)
    low_end, high_end = (tf.where(known, end, 0) for end in (floor, tf.reduce_max(windows.high, axis=3)))
    rest = (1 - total) * tf.where(total <= 1, low_end, high_end)
    return PoolLines(tf.where(known[:, :, :, None], weights, _lower_weights(windows)), rest, weights, intercept)


def _lower_weights(windows: _Windows) -> tf.Tensor:
    low, high = windows
    # No entry is worse than one without a lower bound but padding, which stands for no value. (Above the least number:
    # a maximum over that and -inf is found at either.)
    least = low.dtype.min / 2
    known = tf.where(tf.math.is_finite(low), tf.maximum(low + high, least), least)
    score = tf.where(high > -np.inf, known, -np.inf)
    return tf.one_hot(tf.argmax(score, axis=3), score.shape[3], axis=3, dtype=low.dtype)


def _upper_line(windows: _Windows, level: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Weights and intercept of the upper line at a level of at least max l (not finite: the constant max u)."""
    level = tf.where(tf.math.is_finite(level), level, tf.reduce_max(windows.high, axis=3))
    above = level[:, :, :, None]
    width = windows.high - windows.low
    # At u_i = g the weight is 0 and its derivative in g that of the levels below: the greatest level is left downward.
    sloped = (windows.high >= above) & (width > 0) & tf.math.is_finite(width)
    low, high, width = (tf.where(sloped, part, 1) for part in (*windows, width))
    weights = tf.where(sloped, (high - above) / width, 0)
    # A term without a slope is the constant max(0, u_i - g).
    flat = ~sloped & (windows.high > above)
    rest = tf.where(flat, tf.where(flat, windows.high, 0) - above, -weights * low)
    return weights, level + tf.reduce_sum(rest, axis=3)
