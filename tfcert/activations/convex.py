"""Activations that bend one way: convex (softplus, exp, cosh, squareplus, sparse plus) and concave (the logarithms).

Powers and roots, which are made of the same, are in ``powers.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import tensorflow as tf

from tfcert.activations.accuracy import Accuracy
from tfcert.activations.curves import Function, midpoint, sloped, smallest
from tfcert.activations.registry import WHOLE, Activation, Declaration, DomainEnds, Ranges, Slopes, enter

_NEAR = 1 / 64
"""The share of an interval before the steepest tangent worth taking, where a function ends in an infinite slope."""


@dataclass(frozen=True)
class Arc:
    """A function that bends one way on its domain.

    Attributes:
        function: the function.
        derivative: its derivative.
        solve: ``slope -> x`` with ``f'(x) = slope``; anything where there is none.
        convex: whether the derivative rises; it falls otherwise.
        chord: ``(lower, upper) -> slope`` of the chord; None to take the quotient of differences.
        steep: whether the slope has no limit at an end of the domain. Slopes worth taking end a little before then.
        overflows: whether a finite number may have an infinite value.
    """

    function: Function
    derivative: Function
    solve: Function
    convex: bool = True
    chord: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | None = None
    steep: bool = False
    overflows: bool = False

    def between(self, lower: tf.Tensor, upper: tf.Tensor) -> tf.Tensor:
        """The chord's slope; a tangent's where the interval is no wider than rounding, or the function infinite."""
        if self.chord is not None:
            return self.chord(lower, upper)
        left, right, width = self.function(lower), self.function(upper), upper - lower
        known = tf.math.is_finite(left) & tf.math.is_finite(right) & (width > smallest(lower) ** 0.25)
        rise = tf.where(known, right - left, tf.zeros_like(left)) / tf.where(known, width, tf.ones_like(left))
        # The mean value lies between the ends' slopes; on narrow intervals rounding would take it out of there.
        first, last = self.derivative(lower), self.derivative(upper)
        chord = tf.clip_by_value(rise, tf.minimum(first, last), tf.maximum(first, last))
        return tf.where(known, chord, self.derivative(midpoint(lower, upper)))

    def slopes(self, lower: tf.Tensor, upper: tf.Tensor) -> Slopes:
        """The tangent at the middle on the side that the function bends away from, the chord on the other."""
        tangent, chord = self.derivative(midpoint(lower, upper)), self.between(lower, upper)
        return (tangent, chord) if self.convex else (chord, tangent)

    def ranges(self, lower: tf.Tensor, upper: tf.Tensor) -> Ranges:
        """The slopes of tangents at the two ends; the chord is always best on the other side."""
        first, last = lower, upper
        if self.steep:
            first, last = lower + _NEAR * (upper - lower), upper - _NEAR * (upper - lower)
        ends = self.derivative(first), self.derivative(last)
        return (ends, None) if self.convex else (None, ends[::-1])

    def activation(self, name: str, domain: DomainEnds = WHOLE) -> Activation:
        """The activation; see :func:`convex`."""
        return Activation(
            name=name,
            function=self.function,
            critical_points=lambda slope, lower, upper: (self.solve(slope),),
            relaxations={"crown": self.slopes, "adaptive": self.slopes},
            ranges=self.ranges,
            domain=domain,
            overflows=self.overflows,
            declaration=Declaration(self.derivative, (), (self.convex,)),
        )


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
    return Arc(function, derivative, solve).activation(name, domain)


def _positive(slope: tf.Tensor) -> tf.Tensor:
    return tf.maximum(slope, smallest(slope))


def exponential() -> Activation:
    """``exp(x)``."""
    arc = Arc(sloped(tf.exp, tf.exp), tf.exp, lambda slope: tf.math.log(_positive(slope)), overflows=True)
    return arc.activation("exp")


def expm1() -> Activation:
    """``exp(x) - 1``."""
    arc = Arc(sloped(tf.math.expm1, tf.exp), tf.exp, lambda slope: tf.math.log(_positive(slope)), overflows=True)
    return arc.activation("expm1")


def cosh() -> Activation:
    """``(exp(x) + exp(-x)) / 2``."""
    return Arc(sloped(tf.cosh, tf.sinh), tf.sinh, tf.asinh, overflows=True).activation("cosh")


def logarithm() -> Activation:
    """``log(x)`` from zero on, where it is minus infinity."""

    def derivative(x: tf.Tensor) -> tf.Tensor:
        return 1.0 / tf.maximum(x, smallest(x) ** 0.25)

    arc = Arc(sloped(tf.math.log, derivative), derivative, lambda slope: 1.0 / _positive(slope), False, steep=True)
    return arc.activation("log", (0.0, math.inf))


def log1p() -> Activation:
    """``log(1 + x)`` from -1 on, where it is minus infinity."""

    def derivative(x: tf.Tensor) -> tf.Tensor:
        return 1.0 / tf.maximum(1.0 + x, smallest(x) ** 0.25)

    def solve(slope: tf.Tensor) -> tf.Tensor:
        return 1.0 / _positive(slope) - 1.0

    arc = Arc(sloped(tf.math.log1p, derivative), derivative, solve, False, steep=True)
    return arc.activation("log1p", (-1.0, math.inf))


def softplus() -> Activation:
    """``log(1 + exp(x))``."""

    def solve(slope: tf.Tensor) -> tf.Tensor:
        return tf.math.log(_positive(slope)) - tf.math.log(_positive(1.0 - slope))

    return convex("softplus", tf.math.softplus, tf.sigmoid, solve)


def log_sigmoid() -> Activation:
    """``-log(1 + exp(-x))``: softplus, turned about the origin."""
    solve = softplus().critical_points

    def turned(slope: tf.Tensor) -> tf.Tensor:
        return -solve(slope, slope, slope)[0]

    return Arc(tf.math.log_sigmoid, lambda x: tf.sigmoid(-x), turned, False).activation("log_sigmoid")


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

    found = convex(
        "squareplus",
        function,
        lambda x: 0.5 * (1.0 + x * tf.math.rsqrt(tf.square(x) + b)),
        solve,
    )
    return replace(found, accuracy=Accuracy(2.0, base=root, reach=1.0))


def sparse_plus() -> Activation:
    """``(x + 1)^2 / 4`` between -1 and 1, ``max(x, 0)`` outside."""

    def derivative(x: tf.Tensor) -> tf.Tensor:
        return 0.5 * (tf.clip_by_value(x, -1.0, 1.0) + 1.0)

    def function(x: tf.Tensor) -> tf.Tensor:
        return tf.square(derivative(x)) + tf.nn.relu(x - 1.0)

    return convex("sparse_plus", function, derivative, lambda slope: 2.0 * slope - 1.0)


enter("exp", exponential)
enter("exponential", exponential)
enter("expm1", expm1)
enter("cosh", cosh)
enter("log", logarithm)
enter("log1p", log1p)
enter("softplus", softplus)
enter("log_sigmoid", log_sigmoid)
enter("squareplus", squareplus)
enter("sparse_plus", sparse_plus)
