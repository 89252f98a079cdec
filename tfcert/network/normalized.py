"""A number over the root of a mean square that it is part of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import tensorflow as tf

from tfcert.network.graph import Multivariate


@dataclass(frozen=True, eq=False, kw_only=True)
class Normalized(Multivariate):
    """``c / sqrt(max(share * c^2 + rest, floor))`` for two inputs of one shape, c and rest.

    Of a group of n numbers c with the squares' mean taken, the share is 1/n and the rest has the other squares and what
    is added to the mean; with a share of 0 the rest is the whole mean.

    Attributes:
        share: at least 0.
        least: what the rest is never below (or makes no difference below), more than 0, whatever its bounds say.
        floor: at least 0.
    """

    share: float
    least: float
    floor: float = 0.0

    def evaluate(self, inputs: Sequence[tf.Tensor]) -> tf.Tensor:
        c, rest = inputs
        return c * tf.math.rsqrt(self._mean(c, rest))

    def deviation(self, inputs: Sequence[tf.Tensor], value: tf.Tensor) -> tf.Tensor:
        return 3 * tf.abs(value)

    def carried(self, inputs: Sequence[tf.Tensor], variances: Sequence[tf.Tensor]) -> tf.Tensor:
        c, rest = inputs
        root = tf.math.rsqrt(self._mean(c, rest))
        by_c, by_rest = rest * root**3, 0.5 * c * root**3
        return tf.square(by_c) * variances[0] + tf.square(by_rest) * variances[1]

    def lipschitz(self, norm: str) -> None:
        return None

    def _mean(self, c: tf.Tensor, rest: tf.Tensor) -> tf.Tensor:
        return tf.maximum(self.share * tf.square(c) + rest, max(self.least, self.floor))


def normalized(c: tf.Tensor, rest: tf.Tensor, share: float) -> tf.Tensor:
    """``c / sqrt(share * c^2 + rest)`` for a rest above 0, however small."""
    root = tf.math.rsqrt(rest)
    inside = c * root
    return inside * tf.math.rsqrt(1 + share * tf.square(inside))
