"""Convex activations (softplus, exp, squareplus, sparse plus) and their concave twin, the logarithm of the sigmoid."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from tfcert.activations.curves import Function, midpoint, secant, smallest
from tfcert.activations.registry import WHOLE, Activation, Declaration, DomainEnds, Ranges, Slopes, enter


def convex(
    name: str,
    function: Function,
    derivative: Function,
    solve: Callable[[tf.Tensor], tf.Tensor],
    domain: DomainEnds = WHOLE,
) -> Activation:
    """The activation ``function``, convex on its domain; ``solve`` gives the point where its derivative is a slope.

    ``crown`` is the tangent at the middle below and the chord above (Zhang et al. 2018, section 3.2: the rule for
    neurons on whose interval the function is convex). It leaves the least area, so ``adaptive`` is the same.
    """

    def chord(lower: tf.Tensor, upper: tf.Tensor) -> tf.Tensor:
        # The mean value lies between the ends' slopes; on narrow intervals rounding would take it out of there.
        return tf.clip_by_value(secant(function, lower, upper), derivative(lower), derivative(upper))

    def crown(lower: tf.Tensor, upper: tf.Tensor) -> Slopes:
        return derivative(midpoint(lower, upper)), chord(lower, upper)

    def ranges(lower: tf.Tensor, upper: tf.Tensor) -> Ranges:
        return (derivative(lower), derivative(upper)), None

    return Activation(
        name=name,
        function=function,
        critical_points=lambda slope, lower, upper: (solve(slope),),
        relaxations={"crown": crown, "adaptive": crown},
        ranges=ranges,
        domain=domain,
        declaration=Declaration(derivative, (), (True,)),
    )


def _positive(slope: tf.Tensor) -> tf.Tensor:
    return tf.maximum(slope, smallest(slope))


def exponential() -> Activation:
    """``exp(x)``."""
    return convex("exp", tf.exp, tf.exp, lambda slope: tf.math.log(_positive(slope)))


def softplus() -> Activation:
    """``log(1 + exp(x))``."""

    def solve(slope: tf.Tensor) -> tf.Tensor:
        return tf.math.log(_positive(slope)) - tf.math.log(_positive(1.0 - slope))

    return convex("softplus", tf.math.softplus, tf.sigmoid, solve)


def log_sigmoid() -> Activation:
    """``-log(1 + exp(-x))``: softplus, turned about the origin; above and below change places."""
    twin = softplus()

    def crown(lower: tf.Tensor, upper: tf.Tensor) -> Slopes:
        return twin.relaxations["crown"](-upper, -lower)[::-1]

    def ranges(lower: tf.Tensor, upper: tf.Tensor) -> Ranges:
        return twin.ranges(-upper, -lower)[::-1]

    return Activation(
        name="log_sigmoid",
        function=tf.math.log_sigmoid,
        critical_points=lambda slope, lower, upper: tuple(
            -point for point in twin.critical_points(slope, lower, upper)
        ),
        relaxations={"crown": crown, "adaptive": crown},
        ranges=ranges,
        declaration=Declaration(lambda x: tf.sigmoid(-x), (), (False,)),
    )


def squareplus(b: float = 4.0) -> Activation:
    """``(x + sqrt(x^2 + b)) / 2``.

    Raises:
        ValueError: ``b`` is not positive.
    """
    if not b > 0:
        raise ValueError(f"b must be positive, not {b}")
    root = float(b) ** 0.5

    def solve(slope: tf.Tensor) -> tf.Tensor:
        tilt = 2.0 * slope - 1.0
        return root * tilt * tf.math.rsqrt(_positive(1.0 - tf.square(tilt)))

    def function(x: tf.Tensor) -> tf.Tensor:
        size = tf.abs(x) + tf.sqrt(tf.square(x) + b)  # without cancellation on the left
        return tf.where(x > 0, 0.5 * size, 0.5 * b / size)

    return convex(
        "squareplus",
        function,
        lambda x: 0.5 * (1.0 + x * tf.math.rsqrt(tf.square(x) + b)),
        solve,
    )


def sparse_plus() -> Activation:
    """``(x + 1)^2 / 4`` between -1 and 1, ``max(x, 0)`` outside."""

    def derivative(x: tf.Tensor) -> tf.Tensor:
        return 0.5 * (tf.clip_by_value(x, -1.0, 1.0) + 1.0)

    def function(x: tf.Tensor) -> tf.Tensor:
        return tf.square(derivative(x)) + tf.nn.relu(x - 1.0)

    return convex("sparse_plus", function, derivative, lambda slope: 2.0 * slope - 1.0)


enter("exp", exponential)
enter("exponential", exponential)
enter("softplus", softplus)
enter("log_sigmoid", log_sigmoid)
enter("squareplus", squareplus)
enter("sparse_plus", sparse_plus)
