"""ParamRamp: a ReLU that bends once more, at a number that is trained (Lyu et al. 2021)."""

from __future__ import annotations

import math
from collections.abc import Callable

import tensorflow as tf

from tfcert.activations.registry import Activation, Ranges, Slopes, enter

Place = float | Callable[[], tf.Tensor]


def param_ramp(right: Place = 1.0, slope: Place = 0.01) -> Activation:
    """``x`` between 0 and ``right``, ``slope x`` before, and ``right + slope (x - right)`` after.

    The activation of Lyu et al. 2021, "Towards evaluating and training verifiably robust neural networks", section 5,
    which trains ``right`` for each neuron: neurons may be dead on either side, and fewer of them are with intervals.
    ``adaptive`` and ``crown`` are that paper's bounding lines: of the two tangents that the function's envelope has at
    the bend, that of the longer side; elsewhere the chord. This is the least area, too.

    Args:
        right: where the second bend is, at least ``LEAST``: a number, or a function that reads a tensor which
            broadcasts against the neurons.
        slope: outside of the two bends, from 0 to below 1; a number, or a function that reads a scalar.

    Raises:
        ValueError: numbers that are not so.
    """
    if not callable(right) and not (math.isfinite(right) and right >= LEAST):
        raise ValueError(f"right must be a number of at least {LEAST}, not {right}")
    if not callable(slope) and not 0 <= slope < 1:
        raise ValueError(f"slope must be at least 0 and below 1, not {slope}")

    def bend(like: tf.Tensor) -> tf.Tensor:
        read = right() if callable(right) else right
        return tf.zeros_like(like) + tf.maximum(tf.cast(read, like.dtype), LEAST)

    def outer(like: tf.Tensor) -> tf.Tensor:
        read = slope() if callable(slope) else slope
        return tf.zeros_like(like) + tf.cast(read, like.dtype)

    def middle(x: tf.Tensor) -> tf.Tensor:
        """The part of the function that is not a line of slope ``slope``."""
        return tf.minimum(tf.nn.relu(x), bend(x))

    def function(x: tf.Tensor) -> tf.Tensor:
        return outer(x) * x + (1.0 - outer(x)) * middle(x)

    def secant(lower: tf.Tensor, upper: tf.Tensor) -> tf.Tensor:
        return outer(lower) + (1.0 - outer(lower)) * _divided(middle(upper) - middle(lower), upper - lower)

    def tangents(lower: tf.Tensor, upper: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        """Whether the interval bends at 0 and at ``right``, and the slopes from these to the far end."""
        at = bend(lower)
        first, second = (lower < 0) & (upper > 0), (lower < at) & (upper > at)
        return first, secant(tf.zeros_like(upper), upper), second, secant(lower, at)

    def adaptive(lower: tf.Tensor, upper: tf.Tensor) -> Slopes:
        first, below, second, above = tangents(lower, upper)
        line, flat, at = secant(lower, upper), outer(lower), bend(lower)
        return (
            tf.where(first, tf.where(upper > -lower, below, flat), line),
            tf.where(second, tf.where(upper - at > at - lower, flat, above), line),
        )

    def ranges(lower: tf.Tensor, upper: tf.Tensor) -> Ranges:
        first, below, second, above = tangents(lower, upper)
        line, flat = secant(lower, upper), outer(lower)
        return (
            (tf.where(first, flat, line), tf.where(first, below, line)),
            (tf.where(second, flat, line), tf.where(second, above, line)),
        )

    return Activation(
        name="param_ramp",
        function=function,
        critical_points=lambda slopes, lower, upper: (tf.zeros_like(slopes), bend(slopes)),
        relaxations={"adaptive": adaptive, "crown": adaptive},
        ranges=ranges,
        kinks=None if callable(right) else (0.0, float(right)),
        increasing=True,
    )


LEAST = 1e-4
"""The least number that the second bend may be at."""


def _divided(rise: tf.Tensor, run: tf.Tensor) -> tf.Tensor:
    """A slope; 1 where there is no run to speak of."""
    some = tf.abs(run) > tf.constant(1e-30, run.dtype)
    return tf.where(some, rise / tf.where(some, run, tf.ones_like(run)), tf.ones_like(run))


enter("param_ramp", param_ramp)
