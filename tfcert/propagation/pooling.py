"""Linear bounds of max pooling."""

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


def pool_lines(node: MaxPool, lower: tf.Tensor, upper: tf.Tensor) -> PoolLines:
    """Bounds of a max-pooling node from bounds ``[batch, height, width, channels]`` of its input.

    Below: the entry with the largest ``l + u``. Above: with g = max l,
    ``g + sum max(0, u_i - g) / (u_i - l_i) (x_i - l_i)``: each term is at least ``max(0, x_i - g)`` because that is
    convex in x_i and met at both ends of its interval (l_i <= g). Where one entry dominates (``l_i >= u_j`` for all
    others) both are that entry.
    """
    low = gather_windows(lower, node, fill=-np.inf)
    high = gather_windows(upper, node, fill=-np.inf)
    entries = low.shape[3]
    lower_weights = tf.one_hot(tf.argmax(low + high, axis=3), entries, axis=3, dtype=lower.dtype)
    g = tf.reduce_max(low, axis=3, keepdims=True)
    reaches = high > g
    safe_low = tf.where(reaches, low, tf.zeros_like(low))
    width = tf.where(reaches, high - safe_low, tf.ones_like(high))
    upper_weights = tf.where(reaches, (high - g) / width, tf.zeros_like(high))
    # All entries equal to g to the last bit: no weight is needed, the constant g is exact.
    intercept = g[:, :, :, 0, :] - tf.reduce_sum(upper_weights * safe_low, axis=3)
    return PoolLines(lower_weights, upper_weights, intercept)
