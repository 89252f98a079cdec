"""A number over the root of a mean square that it is part of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import tensorflow as tf

from tfcert.network.graph import Multivariate
from tfcert.network.linear import Source


@dataclass(frozen=True, eq=False, kw_only=True)
class Normalized(Multivariate):
    """``c / sqrt(max(share * c^2 + rest, floor))`` for two inputs of one shape, c and rest.

    Of a group of n numbers c with the squares' mean taken, the share is 1/n and the rest has the other squares and what
    is added to the mean; with a share of 0 the rest is the whole mean.

    A third input is x, of the same shape, where c is x without its mean, but the model multiplies both with the inverse
    root before it subtracts them: on rounded networks its bounds are asked for.

    Attributes:
        share: at least 0.
        least: what the rest is never below (or makes no difference below), more than 0, whatever its bounds say.
        floor: at least 0.
        terms: n, how many squares the model adds up.
        smallest: reads the least size above 0 of the factors that the model multiplies the inverse root with first (1
            if there are none); None where it does not.
    """

    share: float
    least: float
    floor: float = 0.0
    terms: int = 1
    smallest: Source | None = None

    @property
    def sources(self) -> tuple[int, ...]:
        return self.inputs[:2]

    @property
    def asked(self) -> tuple[int, ...]:
        return self.sources if self.rounding is None else self.inputs

    @property
    def sized(self) -> tuple[int, ...]:
        return self.asked[2:]

    def reading(self, change: Callable[[Source], Source]) -> Normalized:
        return self if self.smallest is None else replace(self, smallest=change(self.smallest))

    def evaluate(self, inputs: Sequence[tf.Tensor]) -> tf.Tensor:
        c, rest = inputs[:2]
        return c * tf.math.rsqrt(self._mean(c, rest))

    def deviation(self, inputs: Sequence[tf.Tensor], value: tf.Tensor) -> tf.Tensor:
        return 3 * tf.abs(value)

    def carried(self, inputs: Sequence[tf.Tensor], variances: Sequence[tf.Tensor]) -> tf.Tensor:
        c, rest = inputs[:2]
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
