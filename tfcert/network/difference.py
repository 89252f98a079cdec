"""The difference of an activation at two places that are close: a node that knows how far they are apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import tensorflow as tf

from tfcert.activations import Activation
from tfcert.network.graph import Multivariate


@dataclass(frozen=True, eq=False, kw_only=True)
class Difference(Multivariate):
    """``f(a) - f(b)`` for an activation ``f``, all of one shape.

    Its inputs are ``a - b``, ``f(a)``, ``f(b)``, ``a`` and ``b``, in this order, each computed by nodes of their own:
    its planes are over the first three, of which ``a - b`` may be known far better than ``a`` and ``b`` are.

    Attributes:
        activation: f.
    """

    activation: Activation

    exact = True

    @property
    def sources(self) -> tuple[int, ...]:
        return self.inputs[:3]

    def evaluate(self, inputs: Sequence[tf.Tensor]) -> tf.Tensor:
        return inputs[1] - inputs[2]

    def deviation(self, inputs: Sequence[tf.Tensor], value: tf.Tensor) -> tf.Tensor:
        return tf.abs(value)

    def carried(self, inputs: Sequence[tf.Tensor], variances: Sequence[tf.Tensor]) -> tf.Tensor:
        return variances[1] + variances[2]

    def lipschitz(self, norm: str) -> None:
        return None
