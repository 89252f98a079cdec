"""The difference of an activation at two places that are close: a node that knows how far they are apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import tensorflow as tf

from tfcert.activations import Activation
from tfcert.network.graph import Add, Linear, Multivariate
from tfcert.network.linear import Source


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


@dataclass(frozen=True, eq=False, kw_only=True)
class Residuals(Multivariate):
    """What rounding adds to the difference of two affine nodes: ``(y - (W x + b)) - (z - (V x' + c))``.

    ``y`` and ``z`` are what the program computes of them; in exact arithmetic it is zero. Its inputs are those of the
    first node and then those of the second, of which the sizes alone matter.

    Attributes:
        pair: the two nodes.
    """

    pair: tuple[Linear | Add, Linear | Add]

    exact = True

    @property
    def sources(self) -> tuple[int, ...]:
        return ()

    def reading(self, change: Callable[[Source], Source]) -> Residuals:
        ours, theirs = self.pair
        if isinstance(ours, Linear) and isinstance(theirs, Linear):
            return replace(self, pair=(ours.reading(change), theirs.reading(change)))
        return self

    def evaluate(self, inputs: Sequence[tf.Tensor]) -> tf.Tensor:
        return tf.zeros([tf.shape(inputs[0])[0], *self.shape], inputs[0].dtype)

    def deviation(self, inputs: Sequence[tf.Tensor], value: tf.Tensor) -> tf.Tensor:
        return tf.zeros_like(value)

    def carried(self, inputs: Sequence[tf.Tensor], variances: Sequence[tf.Tensor]) -> tf.Tensor:
        return self.evaluate(inputs)

    def lipschitz(self, norm: str) -> float:
        return 0.0
