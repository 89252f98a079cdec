"""The product of two tensors, number by number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import tensorflow as tf

from tfcert.network.graph import Multivariate


@dataclass(frozen=True, eq=False, kw_only=True)
class Product(Multivariate):
    """``x * y`` for two inputs of one shape, which is the output's."""

    def evaluate(self, inputs: Sequence[tf.Tensor]) -> tf.Tensor:
        return inputs[0] * inputs[1]

    def rounding(self, inputs: Sequence[tf.Tensor], value: tf.Tensor) -> tf.Tensor:
        return tf.abs(value)

    def carried(self, inputs: Sequence[tf.Tensor], variances: Sequence[tf.Tensor]) -> tf.Tensor:
        return tf.square(inputs[1]) * variances[0] + tf.square(inputs[0]) * variances[1]

    def lipschitz(self, norm: str) -> None:
        return None
