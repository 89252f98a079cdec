"""Products of two tensors: number by number, and summed as matrix products are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import tensorflow as tf

from tfcert.network.graph import Multivariate
from tfcert.network.linear import Shape

_BATCH = "Z"
"""The letter of the batch in an einsum."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Product(Multivariate):
    """``x * y`` for two inputs of one shape, which is the output's."""

    def evaluate(self, inputs: Sequence[tf.Tensor]) -> tf.Tensor:
        return inputs[0] * inputs[1]

    def deviation(self, inputs: Sequence[tf.Tensor], value: tf.Tensor) -> tf.Tensor:
        return tf.abs(value)

    def carried(self, inputs: Sequence[tf.Tensor], variances: Sequence[tf.Tensor]) -> tf.Tensor:
        return tf.square(inputs[1]) * variances[0] + tf.square(inputs[0]) * variances[1]

    def lipschitz(self, norm: str) -> None:
        return None


@dataclass(frozen=True, eq=False, kw_only=True)
class Contraction(Multivariate):
    """``einsum(equation, x, y)``, the batch left out: ``"ij,jk->ik"`` for a matrix product.

    Every letter stands in two or three of the operands and the result, in none twice, and in lower case.

    Attributes:
        equation: the contraction.
        sizes: how long each letter's axis is.
    """

    equation: str
    sizes: tuple[tuple[str, int], ...]

    @property
    def words(self) -> tuple[str, str, str]:
        """The letters of both inputs, and of the output."""
        operands, result = self.equation.split("->")
        first, second = operands.split(",")
        return first, second, result

    @property
    def summed(self) -> str:
        """The letters of the axes that are summed over."""
        first, _, result = self.words
        return "".join(letter for letter in first if letter not in result)

    @property
    def terms(self) -> int:
        """The number of products that are added up for one value."""
        return math.prod(dict(self.sizes)[letter] for letter in self.summed)

    @property
    def shapes(self) -> tuple[Shape, Shape]:
        """The shapes of the inputs."""
        first, second = (tuple(dict(self.sizes)[letter] for letter in word) for word in self.words[:2])
        return first, second

    def contract(self, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        """The contraction of ``[batch, *shape]`` tensors."""
        first, second, result = self.words
        return tf.einsum(f"{_BATCH}{first},{_BATCH}{second}->{_BATCH}{result}", x, y)

    def evaluate(self, inputs: Sequence[tf.Tensor]) -> tf.Tensor:
        return self.contract(*inputs)

    def deviation(self, inputs: Sequence[tf.Tensor], value: tf.Tensor) -> tf.Tensor:
        return math.sqrt(self.terms) * self.contract(*map(tf.abs, inputs))

    def carried(self, inputs: Sequence[tf.Tensor], variances: Sequence[tf.Tensor]) -> tf.Tensor:
        x, y = map(tf.square, inputs)
        return self.contract(x, variances[1]) + self.contract(variances[0], y)

    def lipschitz(self, norm: str) -> None:
        return None
