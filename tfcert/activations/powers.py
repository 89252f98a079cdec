"""Powers of a number: square, roots, reciprocals, and any other constant exponent."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import tensorflow as tf

from tfcert.activations.accuracy import Accuracy
from tfcert.activations.convex import Arc
from tfcert.activations.curves import Function, sloped, smallest, steepest
from tfcert.activations.general import Bends, general
from tfcert.activations.registry import WHOLE, Activation, Declaration, DomainEnds, Ranges, Slopes, enter

FROM_ZERO: DomainEnds = (0.0, math.inf)


def square() -> Activation:
    """``x^2``; the chord's slope is the sum of the ends."""
    square_of = sloped(tf.square, _derivative(2.0))
    return Arc(square_of, _derivative(2.0), lambda slope: 0.5 * slope, chord=tf.add, overflows=True).activation(
        "square"
    )


def sqrt() -> Activation:
    """The square root, from zero on; the chord's slope is one by the sum of the ends' roots."""

    def chord(lower: tf.Tensor, upper: tf.Tensor) -> tf.Tensor:
        return 1.0 / tf.maximum(root(lower) + root(upper), smallest(lower) ** 0.25)

    derivative = _derivative(0.5)
    root = sloped(tf.sqrt, derivative)
    arc = Arc(root, derivative, lambda slope: tf.square(0.5 / _positive(slope)), False, chord, steep=True)
    return arc.activation("sqrt", FROM_ZERO)


def rsqrt() -> Activation:
    """One by the square root: from zero on, where it is infinite."""
    derivative = _derivative(-0.5)
    return Arc(sloped(tf.math.rsqrt, derivative), derivative, _inverse(-0.5), steep=True).activation("rsqrt", FROM_ZERO)


def reciprocal() -> Activation:
    """``1 / x``: convex right of zero and concave left of it; unbounded on intervals that hold zero."""
    return _hyperbola("reciprocal", -1)


def power(exponent: float) -> Activation:
    """``x`` to a constant power.

    A program in single precision has the exponent in it, too: where that is another number, the value is off by
    ``log(x)`` times as much, which is 44 ulps for each unit of the exponent at most.

    Args:
        exponent: an integer, for numbers of either sign; or any other number, for numbers from zero on. Neither 0 nor
            1, which bend nothing.

    Raises:
        ValueError: an exponent that is 0, 1, or not finite.
    """
    p = float(exponent)
    act = _power(p, exponent)
    if act.name != "power":
        return act
    return replace(act, accuracy=Accuracy(4.0 + (0.0 if float(np.float32(p)) == p else 64.0 * abs(p))))


def _power(p: float, exponent: float) -> Activation:
    if not math.isfinite(p) or p in (0.0, 1.0):
        raise ValueError(f"an exponent must be a finite number other than 0 and 1, not {exponent}")
    known = {-1.0: reciprocal, -0.5: rsqrt, 0.5: sqrt, 2.0: square}
    if p in known:
        return known[p]()
    function, derivative = sloped(lambda x: tf.pow(x, tf.constant(p, x.dtype)), _derivative(p)), _derivative(p)
    if not p.is_integer():
        arc = Arc(function, derivative, _inverse(p), not 0 < p < 1, steep=p < 1, overflows=p > 1)
        return arc.activation("power", FROM_ZERO)
    if p < 0:
        return _hyperbola("power", int(p))
    if p % 2 == 0:
        return Arc(function, derivative, _inverse(p), overflows=True).activation("power")

    def solve(slope: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        point = _inverse(p)(slope)
        return point, -point

    bends = Bends(function, derivative, (0.0,), solve=solve, domain=WHOLE)
    return replace(general("power", bends), overflows=True)


def _positive(slope: tf.Tensor) -> tf.Tensor:
    return tf.maximum(slope, smallest(slope) ** 0.5)


def _derivative(p: float) -> Function:
    """``p x^(p - 1)``, levelled off near zero where it, or its own derivative, would be no number there."""

    def derivative(x: tf.Tensor) -> tf.Tensor:
        if p < 2:
            least = max(steepest(x) ** (1.5 / (p - 2.0)), smallest(x) ** 0.5)
            size = tf.maximum(tf.abs(x), tf.constant(least, x.dtype))
            x = tf.where(x < 0, -size, size)
        return 2.0 * x if p == 2.0 else p * tf.pow(x, tf.constant(p - 1.0, x.dtype))

    return derivative


def _inverse(p: float) -> Function:
    """``s -> x`` with ``p x^(p - 1) = s``: of the sign of ``s / p`` where the power is even, not negative elsewhere."""

    def inverse(slope: tf.Tensor) -> tf.Tensor:
        ratio = slope / p
        size = tf.pow(tf.maximum(tf.abs(ratio), smallest(ratio)), tf.constant(1.0 / (p - 1.0), ratio.dtype))
        return tf.where(ratio < 0, -size, size) if p % 2 == 0 else size

    return inverse


def _hyperbola(name: str, p: int) -> Activation:
    """A power with a negative integer exponent, which has no value at zero.

    ``crown`` and ``adaptive`` are the tangent at the middle and the chord, as of any function that bends one way on the
    interval: it is on either side of zero.
    """
    derivative = _derivative(p)
    power_of = tf.math.reciprocal if p == -1 else lambda x: tf.pow(x, tf.constant(p, x.dtype))
    function = sloped(power_of, derivative)

    def exact(lower: tf.Tensor, upper: tf.Tensor) -> tf.Tensor:
        return -function(lower) * function(upper)

    arc = Arc(function, derivative, _inverse(p), chord=exact if p == -1 else None, steep=True)

    def convex(lower: tf.Tensor) -> tf.Tensor:
        return lower > 0 if p % 2 else tf.ones_like(lower, tf.bool)

    def crown(lower: tf.Tensor, upper: tf.Tensor) -> Slopes:
        tangent, chord = arc.slopes(lower, upper)
        below = convex(lower)
        return tf.where(below, tangent, chord), tf.where(below, chord, tangent)

    def ranges(lower: tf.Tensor, upper: tf.Tensor) -> Ranges:
        chord, below = arc.between(lower, upper), convex(lower)
        ends = arc.ranges(lower, upper)[0]
        assert ends is not None
        least, most = tf.minimum(*ends), tf.maximum(*ends)
        sides = ((tf.where(side, end, chord) for end in (least, most)) for side in (below, ~below))
        first, second = (tuple(side) for side in sides)
        return first, second

    def critical_points(slope: tf.Tensor, lower: tf.Tensor, upper: tf.Tensor) -> tuple[tf.Tensor, ...]:
        point = arc.solve(slope)
        return (point, -point)

    return Activation(
        name=name,
        function=function,
        critical_points=critical_points,
        relaxations={"crown": crown, "adaptive": crown},
        ranges=ranges,
        poles=(0.0,),
        declaration=Declaration(derivative, (0.0,), (p % 2 == 0, True), (0.0,)),
    )


enter("square", square)
enter("sqrt", sqrt)
enter("rsqrt", rsqrt)
enter("reciprocal", reciprocal)
enter("power", power)
