"""Linear bounds of max pooling.

Every upper line is ``g + sum max(0, u_i - g) / (u_i - l_i) (x_i - l_i)`` for a level g of at least max l: each term is
at least ``max(0, x_i - g)``, because that is convex in x_i and met at both ends of its interval (l_i <= g). A level
above both max l and the second-largest u only raises the line, so levels end there. The relaxations differ in g.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfcert.network.graph import MaxPool
from tfcert.network.windows import gather_windows


class PoolLines(NamedTuple):
    """``lower_weights . x <= max(x) <= upper_weights . x + upper_intercept`` over each window's entries.

    Weights are ``[batch, h, w, entries, channels]``, the intercept ``[batch, h, w, channels]``.
    """

    lower_weights: tf.Tensor
    upper_weights: tf.Tensor
    upper_intercept: tf.Tensor


class _Windows(NamedTuple):
    """Bounds of the entries of each window, ``[batch, h, w, entries, channels]``; -inf outside the image."""

    low: tf.Tensor
    high: tf.Tensor

    def floor(self) -> tf.Tensor:
        """The least level, max l: ``[batch, h, w, channels]``."""
        return tf.reduce_max(self.low, axis=3)

    def ceiling(self) -> tf.Tensor:
        """The greatest level of use: the second-largest u, at least max l (one entry: max l)."""
        return tf.maximum(self.floor(), self.ranked(1))

    def ranked(self, rank: int) -> tf.Tensor:
        """The u of a rank (0: the largest); -inf where there are not so many entries."""
        if rank >= self.high.shape[3]:
            return tf.fill(tf.shape(self.floor()), tf.constant(-np.inf, self.high.dtype))
        return tf.math.top_k(tf.einsum("bhwec->bhwce", self.high), rank + 1).values[..., rank]


def pool_lines(
    node: MaxPool,
    lower: tf.Tensor,
    upper: tf.Tensor,
    relaxation: str | None = None,
    height: tf.Tensor | None = None,
) -> PoolLines:
    """Bounds of a max-pooling node from bounds of its input.

    Below: the entry with the largest ``l + u``. Above: the line of the level that the relaxation names (``cnncert``
    has its own, every other name the default), or of ``height``. Where one entry dominates (``l_i >= u_j`` for all
    others) both are that entry, whatever the height. Differentiable in the bounds and the height.

    Args:
        node: the node.
        lower: lower bounds ``[batch, height, width, channels]`` of its input.
        upper: upper bounds.
        relaxation: a relaxation's name, None for the default.
        height: levels of the upper lines as :func:`default_height` counts them, ``[batch, h, w, channels]`` in [0, 1]
            (any such tensor gives sound lines); in place of the relaxation's.
    """
    windows = _windows(node, lower, upper)
    if height is None and relaxation == "cnncert":
        level = _cnncert_level(windows)
    else:
        level = _level(windows, _default_height(windows) if height is None else height)
    score = windows.low + windows.high
    lower_weights = tf.one_hot(tf.argmax(score, axis=3), score.shape[3], axis=3, dtype=lower.dtype)
    return PoolLines(lower_weights, *_upper_line(windows, level))


def default_height(node: MaxPool, lower: tf.Tensor, upper: tf.Tensor) -> tf.Tensor:
    """The height at which :func:`pool_lines` puts each window's upper line by default.

    A height is a level's place between the least level (0), which is max l, and the greatest that is of use (1), the
    second-largest u: a level in between is neither always above nor always below its neighbours.

    Returns:
        ``[batch, h, w, channels]``, in [0, 1].
    """
    return _default_height(_windows(node, lower, upper))


def _windows(node: MaxPool, lower: tf.Tensor, upper: tf.Tensor) -> _Windows:
    return _Windows(*(gather_windows(end, node, fill=-np.inf) for end in (lower, upper)))


def _default_height(windows: _Windows) -> tf.Tensor:
    return tf.zeros_like(windows.floor())


def _level(windows: _Windows, height: tf.Tensor) -> tf.Tensor:
    floor, ceiling = windows.floor(), windows.ceiling()
    # Rounding must not take the level below max l, where the line is unsound.
    return tf.maximum(floor, floor + height * (ceiling - floor))


def _cnncert_level(windows: _Windows) -> tf.Tensor:
    """g of CNN-Cert (Boopathy et al. 2019, table 2), where the weights sum to 1, among the entries that can win.

    As printed, g is at most the least u of all entries, which lies below max l where an entry cannot win; with those
    entries dropped the clipping leaves it at least max l.
    """
    floor = windows.floor()
    wins = windows.high >= floor[:, :, :, None]
    width = windows.high - windows.low
    per_width = tf.math.divide_no_nan(tf.cast(wins, width.dtype), tf.where(wins, width, 1))
    total = tf.reduce_sum(per_width * tf.where(wins, windows.high, 0), axis=3) - 1
    middle = tf.math.divide_no_nan(total, tf.reduce_sum(per_width, axis=3))
    least = tf.reduce_min(tf.where(wins, windows.high, np.inf), axis=3)
    return tf.minimum(tf.maximum(middle, floor), least)


def _upper_line(windows: _Windows, level: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Weights and intercept of the upper line at a level of at least max l."""
    low, high = windows
    above = level[:, :, :, None]
    reaches = high > above
    safe_low = tf.where(reaches, low, 0)
    width = tf.where(reaches, high - safe_low, 1)
    # All entries equal to g to the last bit: no weight is needed, the constant g is exact.
    weights = tf.where(reaches, (high - above) / width, 0)
    return weights, level - tf.reduce_sum(weights * safe_low, axis=3)
