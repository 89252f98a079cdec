"""ReLU, LeakyReLU, PReLU and the absolute value: two linear pieces that meet at zero."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import replace

import tensorflow as tf

from tfcert.activations.accuracy import ABOVE_ZERO, EXACT, Accuracy
from tfcert.activations.curves import smallest
from tfcert.activations.either import either
from tfcert.activations.registry import Activation, Lines, Ranges, Slopes, enter

LeftSlope = Callable[[], tf.Tensor] | float
"""``a``: a number, or what reads a live tensor that broadcasts against the values."""


def _pieces(left: LeftSlope, like: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The slopes left and right of zero, which broadcast against ``like``, in its type."""
    below = tf.cast(left(), like.dtype) if callable(left) else tf.constant(left, like.dtype)
    return below, tf.constant(1.0, like.dtype)


def _stable(lower: tf.Tensor, upper: tf.Tensor) -> tf.Tensor:
    """Marks intervals without the kink inside."""
    return (lower >= 0) | (upper <= 0)


def _chord(left: LeftSlope, lower: tf.Tensor, upper: tf.Tensor, stable: tf.Tensor) -> tf.Tensor:
    """Slope of the chord where the kink is inside the interval, of the function's own piece elsewhere."""
    below, above = _pieces(left, lower)
    width = either(stable, above, upper - lower)
    return either(stable, either(lower >= 0, above, below), (upper - below * lower) / width)


def _crown(left: LeftSlope, lower: tf.Tensor, upper: tf.Tensor) -> Slopes:
    below, above = _pieces(left, lower)
    stable = _stable(lower, upper)
    chord = _chord(left, lower, upper, stable)
    longer = either(stable, chord, either(upper > -lower, above, below))
    if not callable(left):
        return (longer, chord) if left <= 1 else (chord, longer)
    convex = below <= above
    return either(convex, longer, chord), either(convex, chord, longer)


def _ranges(left: LeftSlope, lower: tf.Tensor, upper: tf.Tensor) -> Ranges:
    below, above = _pieces(left, lower)
    stable = _stable(lower, upper)
    chord = _chord(left, lower, upper, stable)
    between = (
        either(stable, chord, tf.minimum(below, above)),
        either(stable, chord, tf.maximum(below, above)),
    )
    if not callable(left):
        return (between, None) if left <= 1 else (None, between)
    convex = below <= above
    return (
        (either(convex, between[0], chord), either(convex, between[1], chord)),
        (either(convex, chord, between[0]), either(convex, chord, between[1])),
    )


def _closed_form(left: float, lower: tf.Tensor, upper: tf.Tensor) -> Lines:
    """The lines of ``crown`` for ``left <= 1``: those of ``max(x, 0)``, scaled, and ``left * x``."""
    right, down = tf.nn.relu(upper), tf.minimum(lower, 0)
    chord = right / tf.maximum(right - down, smallest(right))
    bend = 1.0 - left
    longer = tf.cast(upper > -lower, chord.dtype)
    return Lines(left + bend * longer, tf.zeros_like(chord), left + bend * chord, -bend * chord * down)


def hinge(name: str, function: Callable[[tf.Tensor], tf.Tensor], left: LeftSlope) -> Activation:
    """The activation that is ``x`` right of zero and ``left * x`` left of it.

    Relaxations, written for the convex case (``left <= 1``; otherwise above and below change places):
    ``fastlin`` takes the chord's slope for both lines (Fast-Lin, Weng et al. 2018, equation 4), and so does
    ``deepcert`` (Wu & Zhang 2021: for ``l < 0 < u`` "the lower bound line [is] kx", ``k`` the chord's slope).
    ``crown`` keeps the chord above and below takes the piece of the longer side (CROWN, Zhang et al. 2018, section
    3.3): slope 1 where ``u > -l``, ``left`` elsewhere. ``cnncert`` is the same (CNN-Cert, Boopathy et al. 2019,
    "CNN-Cert-Ada"), and so is ``adaptive``: it leaves the least area between the line and the function.
    """

    def steep() -> tf.Tensor:
        return tf.maximum(1.0, tf.reduce_max(tf.abs(tf.cast(left(), tf.float64))))  # type: ignore[operator]

    def fastlin(lower: tf.Tensor, upper: tf.Tensor) -> Slopes:
        chord = _chord(left, lower, upper, _stable(lower, upper))
        return chord, chord

    def crown(lower: tf.Tensor, upper: tf.Tensor) -> Slopes:
        return _crown(left, lower, upper)

    if callable(left):
        accuracy = Accuracy(2.0, steep=steep)
    else:
        accuracy = replace(EXACT, stays=ABOVE_ZERO) if left in (0.0, -1.0) else Accuracy(2.0, steep=max(1.0, abs(left)))
    return Activation(
        name=name,
        function=function,
        critical_points=lambda slope, lower, upper: (tf.zeros_like(slope),),
        relaxations={
            "fastlin": fastlin,
            "crown": crown,
            "cnncert": crown,
            "deepcert": fastlin,
            "adaptive": crown,
        },
        ranges=lambda lower, upper: _ranges(left, lower, upper),
        kinks=(0.0,),
        increasing=not callable(left) and left >= 0,
        accuracy=accuracy,
        closed_form=None if callable(left) or left > 1 else functools.partial(_closed_form, left),
    )


def relu() -> Activation:
    """``max(x, 0)``."""
    return hinge("relu", tf.nn.relu, 0.0)


def leaky_relu(negative_slope: float = 0.0) -> Activation:
    """``x`` right of zero, ``negative_slope * x`` left of it.

    Raises:
        ValueError: the slope is not a finite number.
    """
    left = float(negative_slope)
    if not math.isfinite(left):
        raise ValueError(f"negative_slope must be a finite number, not {left}")
    if left == 0.0:
        return relu()
    pick = tf.maximum if left <= 1 else tf.minimum
    return hinge("leaky_relu", lambda x: pick(x, left * x), left)


def prelu(alpha: Callable[[], tf.Tensor]) -> Activation:
    """``x`` right of zero and ``alpha() * x`` left of it, ``alpha`` a trained tensor that is read live."""
    function = hinge("prelu", lambda x: tf.nn.relu(x) - tf.cast(alpha(), x.dtype) * tf.nn.relu(-x), alpha)
    return replace(function, alike=False)


def absolute() -> Activation:
    """``|x|``."""
    return hinge("abs", tf.abs, -1.0)


enter("relu", relu)
enter("leaky_relu", leaky_relu)
enter("prelu", prelu)
enter("abs", absolute)
