"""Chords and middles of intervals, as the families of activations share them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

Function = Callable[[tf.Tensor], tf.Tensor]


def midpoint(lower: tf.Tensor, upper: tf.Tensor) -> tf.Tensor:
    """The middle of an interval, without overflow."""
    return 0.5 * lower + 0.5 * upper


def secant(function: Function, lower: tf.Tensor, upper: tf.Tensor) -> tf.Tensor:
    """Slope of the chord from ``(l, f(l))`` to ``(u, f(u))``; 0 where the two are one point."""
    wide = upper > lower
    width = tf.where(wide, upper - lower, tf.ones_like(lower))
    return tf.where(wide, (function(upper) - function(lower)) / width, tf.zeros_like(lower))


def roundoff(like: tf.Tensor) -> float:
    """The distance from 1 to the next number of a tensor's type."""
    return float(np.finfo(like.dtype.as_numpy_dtype).eps)


def smallest(like: tf.Tensor) -> float:
    """The least positive normal number of a tensor's type."""
    return float(np.finfo(like.dtype.as_numpy_dtype).tiny)
