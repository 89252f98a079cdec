"""S-shaped activations (sigmoid, tanh, arctan, arsinh, erf, softsign): convex left of zero, concave right, symmetric.

Minus the value at zero they are odd functions ``f``, so the lower line on ``[l, u]`` is the upper line on
``[-u, -l]`` turned about the origin, and only upper lines are written down here.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

from tfcert.activations.curves import Function, midpoint, roundoff, secant, smallest
from tfcert.activations.either import either
from tfcert.activations.registry import Activation, Declaration, Ranges, Slopes, enter


@dataclass(frozen=True)
class SCurve:
    """An odd function, convex on ``x < 0`` and concave on ``x > 0``.

    Attributes:
        value: ``f(x)``, to full relative precision near zero.
        derivative: ``f'(x)``, the same far from zero.
        inverse: ``s -> x >= 0`` with ``f'(x) = s``, for ``0 < s``; zero for ``s >= f'(0)``.
    """

    value: Function
    derivative: Function
    inverse: Function

    def chord(self, lower: tf.Tensor, upper: tf.Tensor) -> tf.Tensor:
        """The chord's slope; on intervals so narrow that it would be mostly rounding, the middle's."""
        # The quotient errs by eps / width, the derivative in the middle by about width^2 / 24.
        narrow = upper - lower < (24 * roundoff(lower)) ** (1 / 3)
        return either(narrow, self.derivative(midpoint(lower, upper)), secant(self.value, lower, upper))

    def tangent(self, lower: tf.Tensor) -> tf.Tensor:
        """Slope of the tangent from ``(l, f(l))`` to the right-hand branch; ``f'(l)`` where ``l >= 0``.

        It is the greatest slope ``q(d)`` of a chord from ``l`` to ``d > 0``. As ``q' = 0`` there, replacing ``d`` by
        the point where ``f' = q(d)`` converges quadratically, from above after the first step whatever the start;
        from this start the error of the slope is 4e-4, then 1e-8, then rounding, for every ``l`` and all four
        functions.
        """
        left = lower < 0
        # Nearer to zero the slope is f'(0) to working precision.
        start = tf.maximum(either(left, -lower, 1.0), 0.25 * roundoff(lower) ** 0.5)
        reach = self.value(start)

        def slope(d: tf.Tensor) -> tf.Tensor:
            return (self.value(d) + reach) / (d + start)

        d = tf.minimum(0.5 * start, 2.0)
        for _ in range(2 if lower.dtype == tf.float32 else 3):
            d = self.inverse(slope(d))
        # The slope's derivative with respect to d is zero: its gradient needs none of the search's.
        return either(left, slope(tf.stop_gradient(d)), self.derivative(lower))

    def critical_points(self, slope: tf.Tensor, lower: tf.Tensor, upper: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """The two points where the derivative is ``slope``; something on the far side, or zero, for lack of any."""
        point = self.inverse(tf.maximum(slope, smallest(slope)))
        return -point, point


@dataclass(frozen=True)
class _Interval:
    """An interval, and what the upper line on it is chosen from."""

    curve: SCurve
    lower: tf.Tensor
    upper: tf.Tensor
    chord: tf.Tensor

    @functools.cached_property
    def first(self) -> tf.Tensor:
        """The slope at ``l`` of the concave envelope, were it not cut off at ``u``."""
        return self.curve.tangent(self.lower)

    @functools.cached_property
    def last(self) -> tf.Tensor:
        """The slope at ``u`` of the function."""
        return self.curve.derivative(self.upper)

    @functools.cached_property
    def cut(self) -> tf.Tensor:
        """Marks where the concave envelope is the chord: the tangent from ``l`` would touch beyond ``u``."""
        return (self.lower < 0) & ((self.upper <= 0) | (self.last >= self.chord))

    @property
    def middle(self) -> tf.Tensor:
        """The slope at the interval's middle, or at zero where that lies left of zero."""
        return self.curve.derivative(tf.nn.relu(midpoint(self.lower, self.upper)))


def _crown(interval: _Interval) -> tf.Tensor:
    mixed = either(interval.upper <= 0, interval.chord, interval.first)
    return either(interval.lower >= 0, interval.middle, mixed)


def _cnncert(interval: _Interval) -> tf.Tensor:
    return either(interval.cut, interval.chord, either(interval.lower >= 0, interval.middle, interval.first))


def _deepcert(interval: _Interval) -> tf.Tensor:
    left, right, chord = interval.curve.derivative(interval.lower), interval.last, interval.chord
    parallel = ((left < chord) & (right > chord)) | ((left > chord) & (right < chord))
    crossing = (left < chord) & (right < chord)
    return either(parallel, chord, either(crossing, interval.first, 0.0))


def _adaptive(interval: _Interval) -> tf.Tensor:
    return either(interval.cut, interval.chord, tf.minimum(interval.middle, interval.first))


def s_shaped(name: str, function: Function, curve: SCurve) -> Activation:
    """The S-shaped activation ``function``, which is ``curve`` up to a constant.

    Relaxations; ``k`` is the chord's slope, and for lower lines everything is turned about zero:

    * ``crown`` (Zhang et al. 2018, section 3.2 and table 3): above, the tangent at the middle where ``l >= 0``, the
      chord where ``u <= 0``, and else the tangent through ``(l, f(l))``, though it may touch beyond ``u``.
    * ``cnncert`` (Boopathy et al. 2019, section 4): the same, but the chord where that tangent touches beyond ``u``.
    * ``deepcert`` (Wu & Zhang 2021, cases 1 to 3): both lines take the chord's slope where ``f'(l) < k < f'(u)`` or
      ``f'(l) > k > f'(u)``, the tangents through the ends where ``f'(l) < k`` and ``f'(u) < k``, and the constants
      ``f(l)``, ``f(u)`` where none of this holds (ties, as in saturated tails).
    * ``adaptive``: the line that leaves the least area between itself and the function: the tangent at the middle,
      or at the nearest point where a tangent lies above the function, or the chord.

    ``fastlin`` is defined for functions of two linear pieces only.
    """

    def rule(choose: Callable[[_Interval], tf.Tensor]) -> Callable[[tf.Tensor, tf.Tensor], Slopes]:
        def slopes(lower: tf.Tensor, upper: tf.Tensor) -> Slopes:
            chord = curve.chord(lower, upper)
            return choose(_Interval(curve, -upper, -lower, chord)), choose(_Interval(curve, lower, upper, chord))

        return slopes

    def ranges(lower: tf.Tensor, upper: tf.Tensor) -> Ranges:
        def side(interval: _Interval) -> Slopes:
            return (
                either(interval.cut, interval.chord, interval.last),
                either(interval.cut, interval.chord, tf.maximum(interval.first, interval.last)),
            )

        chord = curve.chord(lower, upper)
        return side(_Interval(curve, -upper, -lower, chord)), side(_Interval(curve, lower, upper, chord))

    return Activation(
        name=name,
        function=function,
        critical_points=curve.critical_points,
        relaxations={
            "crown": rule(_crown),
            "cnncert": rule(_cnncert),
            "deepcert": rule(_deepcert),
            "adaptive": rule(_adaptive),
        },
        ranges=ranges,
        declaration=Declaration(curve.derivative, (0.0,), (True, False)),
    )


def _tanh_slope(x: tf.Tensor) -> tf.Tensor:
    tail = tf.exp(-2.0 * tf.abs(x))
    return 4.0 * tail / tf.square(1.0 + tail)


def _tanh_inverse(slope: tf.Tensor) -> tf.Tensor:
    # 1 - tanh^2 = s: artanh(t) for t = sqrt(1 - s), written for small s.
    return tf.math.log((1.0 + tf.sqrt(tf.nn.relu(1.0 - slope))) / tf.sqrt(tf.minimum(slope, 1.0)))


def tanh() -> Activation:
    """The hyperbolic tangent."""
    return s_shaped("tanh", tf.tanh, SCurve(tf.tanh, _tanh_slope, _tanh_inverse))


def sigmoid() -> Activation:
    """``1 / (1 + exp(-x)) = 1/2 + tanh(x / 2) / 2``."""
    curve = SCurve(
        lambda x: 0.5 * tf.tanh(0.5 * x),
        lambda x: 0.25 * _tanh_slope(0.5 * x),
        lambda slope: 2.0 * _tanh_inverse(4.0 * slope),
    )
    return s_shaped("sigmoid", tf.sigmoid, curve)


def arctan() -> Activation:
    """The inverse tangent."""
    curve = SCurve(
        tf.atan,
        lambda x: 1.0 / (1.0 + tf.square(x)),
        lambda slope: tf.sqrt(tf.nn.relu(1.0 / slope - 1.0)),
    )
    return s_shaped("arctan", tf.atan, curve)


def softsign() -> Activation:
    """``x / (1 + |x|)``."""
    curve = SCurve(
        tf.nn.softsign,
        lambda x: 1.0 / tf.square(1.0 + tf.abs(x)),
        lambda slope: tf.nn.relu(tf.math.rsqrt(slope) - 1.0),
    )
    return s_shaped("softsign", tf.nn.softsign, curve)


def arcsinh() -> Activation:
    """The inverse hyperbolic sine."""
    curve = SCurve(
        tf.asinh,
        lambda x: tf.math.rsqrt(1.0 + tf.square(x)),
        lambda slope: tf.sqrt(tf.nn.relu(tf.square(1.0 / slope) - 1.0)),
    )
    return s_shaped("arcsinh", tf.asinh, curve)


def erf() -> Activation:
    """The error function: the integral of the normal density, scaled."""
    steepest = 2.0 / math.sqrt(math.pi)
    curve = SCurve(
        tf.math.erf,
        lambda x: steepest * tf.exp(-tf.square(x)),
        lambda slope: tf.sqrt(tf.nn.relu(-tf.math.log(slope / steepest))),
    )
    return s_shaped("erf", tf.math.erf, curve)


for _build in (arcsinh, arctan, erf, sigmoid, softsign, tanh):
    enter(_build.__name__, _build)
