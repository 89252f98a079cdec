"""Chords and middles of intervals, as the families of activations share them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tfcert.activations.either import either

Function = Callable[[tf.Tensor], tf.Tensor]


def midpoint(lower: tf.Tensor, upper: tf.Tensor) -> tf.Tensor:
    """The middle of an interval, without overflow."""
    return 0.5 * lower + 0.5 * upper


def secant(function: Function, lower: tf.Tensor, upper: tf.Tensor) -> tf.Tensor:
    """Slope of the chord from ``(l, f(l))`` to ``(u, f(u))``; 0 where the two are one point."""
    wide = upper > lower
    width = either(wide, upper - lower, 1.0)
    return either(wide, (function(upper) - function(lower)) / width, 0.0)


def roundoff(like: tf.Tensor) -> float:
    """The distance from 1 to the next number of a tensor's type."""
    return float(np.finfo(like.dtype.as_numpy_dtype).eps)


def smallest(like: tf.Tensor) -> float:
    """The least positive normal number of a tensor's type."""
    return float(np.finfo(like.dtype.as_numpy_dtype).tiny)


def steepest(like: tf.Tensor) -> float:
    """A slope that is still a number where it is squared."""
    return float(np.finfo(like.dtype.as_numpy_dtype).max) ** 0.5


def sloped(function: Function, derivative: Function) -> Function:
    """``function`` with ``derivative`` for its gradient, no steeper than :func:`steepest`.

    The true gradient may be infinite where the function ends (a root at zero) or overflows, and zero times that, which
    is what a line on the other side asks of it, is no number.
    """

    @tf.custom_gradient
    def curve(x: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            return upstream * tf.clip_by_value(derivative(x), -steepest(x), steepest(x))

        return function(x), gradient

    def on_tensors(x: Any) -> tf.Tensor:
        return curve(tf.convert_to_tensor(x))

    return on_tensors
