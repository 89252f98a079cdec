"""Of exponentials: ELU, SELU and CELU, straight right of zero; and the hyperbolic sine."""

from __future__ import annotations

from dataclasses import dataclass, replace

import tensorflow as tf

from tfcert.activations.accuracy import Accuracy
from tfcert.activations.convex import convex
from tfcert.activations.curves import sloped, smallest
from tfcert.activations.general import Bends, general
from tfcert.activations.registry import WHOLE, Activation, Declaration, enter

SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805
"""The constants of Klambauer et al. 2017, which Keras and TensorFlow use."""


@dataclass(frozen=True)
class _Unit:
    """``right * x`` right of zero and ``height * (exp(x / width) - 1)`` left of it."""

    right: float
    height: float
    width: float = 1.0

    def value(self, x: tf.Tensor) -> tf.Tensor:
        return self.right * tf.nn.relu(x) + self.height * tf.math.expm1(tf.minimum(x, 0.0) / self.width)

    def derivative(self, x: tf.Tensor) -> tf.Tensor:
        left = (self.height / self.width) * tf.exp(tf.minimum(x, 0.0) / self.width)
        return tf.where(x > 0, tf.fill(tf.shape(x), tf.constant(self.right, x.dtype)), left)

    def solve(self, slope: tf.Tensor) -> tf.Tensor:
        """The point at which the left piece has this slope; zero, the kink, for steeper ones."""
        ratio = tf.maximum(slope * (self.width / self.height), smallest(slope))
        return tf.minimum(self.width * tf.math.log(ratio), 0.0)

    def activation(self, name: str) -> Activation:
        if 0 < self.height / self.width <= self.right:
            bent = convex(name, self.value, self.derivative, self.solve)
            return replace(bent, declaration=Declaration(self.derivative, (0.0,), (True, None)))
        bends = Bends(self.value, self.derivative, (0.0,), solve=lambda slope: (self.solve(slope),), domain=WHOLE)
        return general(name, bends)


def elu(alpha: float = 1.0) -> Activation:
    """``x`` right of zero, ``alpha (exp(x) - 1)`` left of it; convex for ``alpha <= 1``.

    Raises:
        ValueError: ``alpha`` is not positive.
    """
    if not alpha > 0:
        raise ValueError(f"alpha must be positive, not {alpha}")
    accuracy = Accuracy(4.0, base=float(alpha), steep=max(1.0, float(alpha)))
    return replace(_Unit(1.0, float(alpha)).activation("elu"), accuracy=accuracy)


def celu(alpha: float = 1.0) -> Activation:
    """``x`` right of zero, ``alpha (exp(x / alpha) - 1)`` left of it: convex and smooth.

    Raises:
        ValueError: ``alpha`` is not positive.
    """
    if not alpha > 0:
        raise ValueError(f"alpha must be positive, not {alpha}")
    return replace(_Unit(1.0, float(alpha), float(alpha)).activation("celu"), accuracy=Accuracy(8.0))


def selu() -> Activation:
    """ELU with ``alpha = 1.6733``, times 1.0507: steeper left of the kink than right of it, so not convex."""
    return _Unit(SELU_SCALE, SELU_SCALE * SELU_ALPHA).activation("selu")


def sinh() -> Activation:
    """``(exp(x) - exp(-x)) / 2``: concave left of zero, convex right of it."""

    def solve(slope: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        point = tf.acosh(tf.maximum(slope, tf.ones_like(slope)))
        return point, -point

    bends = Bends(sloped(tf.sinh, tf.cosh), tf.cosh, (0.0,), solve=solve, domain=WHOLE)
    return replace(general("sinh", bends), overflows=True)


enter("sinh", sinh)
enter("elu", elu)
enter("celu", celu)
enter("selu", selu)
