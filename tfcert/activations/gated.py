"""Gates (SiLU or swish, GELU in both forms, Mish): concave far left, convex around zero, concave far right."""

from __future__ import annotations

import math

import tensorflow as tf

from tfcert.activations.general import Bends, general
from tfcert.activations.registry import WHOLE, Activation, enter


def silu() -> Activation:
    """``x / (1 + exp(-x))``, also called swish; it inflects where ``x tanh(x / 2) = 2``."""

    def derivative(x: tf.Tensor) -> tf.Tensor:
        gate = tf.sigmoid(x)
        return gate * (1.0 + x * tf.sigmoid(-x))

    return general("silu", Bends(tf.nn.silu, derivative, (-2.3993572805154677, 2.3993572805154677), domain=WHOLE))


def gelu(approximate: bool = False) -> Activation:
    """``x`` times the normal distribution function, or (``approximate``) its form with a hyperbolic tangent."""

    def derivative(x: tf.Tensor) -> tf.Tensor:
        density = tf.exp(-0.5 * tf.square(x)) / math.sqrt(2.0 * math.pi)
        return 0.5 * tf.math.erfc(-x / math.sqrt(2.0)) + x * density

    scale = math.sqrt(2.0 / math.pi)

    def inner(x: tf.Tensor) -> tf.Tensor:
        return scale * (x + 0.044715 * x * tf.square(x))

    def with_tanh(x: tf.Tensor) -> tf.Tensor:
        turn = scale * (1.0 + 3 * 0.044715 * tf.square(x))
        z = 2.0 * inner(x)
        return tf.sigmoid(z) * (1.0 + 2.0 * x * tf.sigmoid(-z) * turn)

    # Both written without the cancellation of 1 + tanh(..) and 1 + erf(..) far left.
    if approximate:
        function, slope, end = lambda x: x * tf.sigmoid(2.0 * inner(x)), with_tanh, 1.4185040087908284
    else:
        function, slope, end = lambda x: 0.5 * x * tf.math.erfc(-x / math.sqrt(2.0)), derivative, math.sqrt(2.0)
    return general("gelu", Bends(function, slope, (-end, end), domain=WHOLE))


def mish() -> Activation:
    """``x tanh(log(1 + exp(x)))``; the hyperbolic tangent is ``n / (n + 2)`` with ``n = e (e + 2)``, ``e = exp(x)``."""

    def parts(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        power = tf.exp(tf.minimum(x, 30.0))  # beyond, the quotient is 1
        return power, power * (power + 2.0)

    def function(x: tf.Tensor) -> tf.Tensor:
        _, n = parts(x)
        return x * (n / (n + 2.0))

    def derivative(x: tf.Tensor) -> tf.Tensor:
        power, n = parts(x)
        return n / (n + 2.0) + x * (4.0 * power / (n + 2.0)) * ((power + 1.0) / (n + 2.0))

    return general("mish", Bends(function, derivative, (-2.2563763963607931, 1.4905711794854284), domain=WHOLE))


enter("silu", silu)
enter("gelu", gelu)
enter("mish", mish)
