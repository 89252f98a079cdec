"""Sine and cosine, on any interval: turned back by whole periods to where their pieces are known."""

from __future__ import annotations

import math

import tensorflow as tf

from tfcert.activations.curves import Function, midpoint
from tfcert.activations.general import Bends
from tfcert.activations.registry import Activation, DomainEnds, Ranges, Slopes, enter

TURN = 2.0 * math.pi
REACH: DomainEnds = (-4096.0, 4096.0)
"""Where float32 places a wave's crests well enough: its numbers are 1/4096 apart there, and a crest is flat."""


def _angle(slope: tf.Tensor) -> tf.Tensor:
    """The number in [0, pi] at which the sine has this slope, or the one that is nearest to it."""
    return tf.acos(tf.clip_by_value(slope, -1.0, 1.0))


def _solve(slope: tf.Tensor) -> tuple[tf.Tensor, ...]:
    angle = _angle(slope)
    return tuple(side + turns * TURN for side in (angle, -angle) for turns in (-1.0, 0.0, 1.0))


_PIECES = Bends(tf.sin, tf.cos, tuple(math.pi * n for n in range(-3, 4)), solve=_solve)
"""The sine on three periods. An interval of up to two, turned back so that its middle is within half a period of zero,
lies in these; a longer one holds a crest and a trough on either side of its middle, so its best lines are constants."""


def _wave(name: str, function: Function, phase: float) -> Activation:
    """The activation ``function(x) = sin(x + phase)``; beyond ``REACH`` no more is said of it than [-1, 1].

    ``adaptive`` takes, on each side, the slope of the function's envelope at the middle of the interval, which leaves
    the least area between the line and the function.
    """

    def turned(lower: tf.Tensor, upper: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Whether the interval is short, and where it lies on the pieces (some short one for others)."""
        short = upper - lower < 2.0 * TURN
        back = phase - TURN * tf.round((midpoint(lower, upper) + phase) / TURN)
        back = tf.stop_gradient(back)
        nothing = tf.zeros_like(lower)
        return short, tf.where(short, lower + back, nothing), tf.where(short, upper + back, nothing)

    def flat(short: tf.Tensor, slope: tf.Tensor) -> tf.Tensor:
        return tf.where(short, slope, tf.zeros_like(slope))

    def adaptive(lower: tf.Tensor, upper: tf.Tensor) -> Slopes:
        short, low, high = turned(lower, upper)
        return flat(short, _PIECES.supporting(low, high, -1.0)), flat(short, _PIECES.supporting(low, high, 1.0))

    def ranges(lower: tf.Tensor, upper: tf.Tensor) -> Ranges:
        short, low, high = turned(lower, upper)
        below, above = (_PIECES.end_slopes(low, high, sign) for sign in (-1.0, 1.0))
        return (flat(short, below[0]), flat(short, below[1])), (flat(short, above[0]), flat(short, above[1]))

    def critical_points(slope: tf.Tensor, lower: tf.Tensor, upper: tf.Tensor) -> tuple[tf.Tensor, ...]:
        # Crests (and troughs) of sin(x) - slope x rise or fall from one period to the next: only the first and the
        # last in the interval can be extrema.
        angle = _angle(slope)
        found = []
        for side in (angle - phase, -angle - phase):
            found.append(side + TURN * tf.math.ceil((lower - side) / TURN))
            found.append(side + TURN * tf.math.floor((upper - side) / TURN))
        return tuple(found)

    def strays(lower: tf.Tensor, upper: tf.Tensor, unit: float) -> tf.Tensor:
        """``d^2 / 2``, ``d`` an error of crests: no second derivative is above 1, and the first is zero at a crest.

        The angle errs by some 60 units, the multiple of a period and the sum by 4 units of ``|x|``. A crest that is
        taken to lie beyond an end is no farther from it than that.
        """
        astray = 16.0 * unit * (tf.maximum(tf.abs(lower), tf.abs(upper)) + 8.0)
        return 0.501 * tf.square(astray)

    return Activation(
        name=name,
        function=function,
        critical_points=critical_points,
        relaxations={"adaptive": adaptive},
        ranges=ranges,
        domain=REACH,
        values=(-1.0, 1.0),
        strays=strays,
    )


def sine() -> Activation:
    """``sin(x)``."""
    return _wave("sin", tf.sin, 0.0)


def cosine() -> Activation:
    """``cos(x)``."""
    return _wave("cos", tf.cos, 0.5 * math.pi)


enter("sin", sine)
enter("cos", cosine)
