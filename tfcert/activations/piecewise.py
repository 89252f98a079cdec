"""Functions of several linear pieces (hard tanh, hard sigmoid, ReLU6, ReLU with bounds), and hard SiLU."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import tensorflow as tf

from tfcert.activations.curves import Function
from tfcert.activations.general import Bends, general
from tfcert.activations.registry import WHOLE, Activation, enter


def piecewise(
    name: str, function: Function, kinks: tuple[float, ...], slopes: tuple[float, ...], jumps: tuple[float, ...] = ()
) -> Activation:
    """The activation with these slopes left of, between and right of its kinks."""

    def derivative(x: tf.Tensor) -> tf.Tensor:
        steps = zip(kinks, itertools.pairwise(slopes), strict=True)
        first = tf.fill(tf.shape(x), tf.constant(slopes[0], x.dtype))
        return first + tf.add_n(
            [tf.where(x > kink, tf.constant(right - left, x.dtype), tf.zeros_like(x)) for kink, (left, right) in steps]
        )

    straight = general(name, Bends(function, derivative, kinks, jumps, lambda slope: (), WHOLE))
    return straight if jumps else replace(straight, kinks=kinks)


def hard_tanh() -> Activation:
    """``x`` clipped to [-1, 1]."""
    return piecewise("hard_tanh", lambda x: tf.clip_by_value(x, -1.0, 1.0), (-1.0, 1.0), (0.0, 1.0, 0.0))


def clip(lower: float = -1.0, upper: float = 1.0) -> Activation:
    """``x`` clipped to [lower, upper], of which one may be infinite.

    Raises:
        ValueError: limits that are no interval, or none at all.
    """
    ends = (float(lower), float(upper))
    kinks = tuple(end for end in ends if math.isfinite(end))
    if not ends[0] < ends[1] or not kinks:
        raise ValueError(f"limits that rise, one of them finite, are needed, not {lower} and {upper}")
    slopes = (*(() if ends[0] == -math.inf else (0.0,)), 1.0, *(() if ends[1] == math.inf else (0.0,)))
    return piecewise("clip", lambda x: tf.clip_by_value(x, *ends), kinks, slopes)


def hard_sigmoid() -> Activation:
    """``x / 6 + 1/2`` clipped to [0, 1]."""
    return piecewise("hard_sigmoid", lambda x: tf.nn.relu6(x + 3.0) / 6.0, (-3.0, 3.0), (0.0, 1 / 6, 0.0))


def sparse_sigmoid() -> Activation:
    """``(x + 1) / 2`` clipped to [0, 1]."""
    return piecewise(
        "sparse_sigmoid", lambda x: tf.clip_by_value(0.5 * (x + 1.0), 0.0, 1.0), (-1.0, 1.0), (0.0, 0.5, 0.0)
    )


def relu6() -> Activation:
    """``x`` clipped to [0, 6]."""
    return piecewise("relu6", tf.nn.relu6, (0.0, 6.0), (0.0, 1.0, 0.0))


def bounded_relu(negative_slope: float = 0.0, max_value: float | None = None, threshold: float = 0.0) -> Activation:
    """``x`` above ``threshold``, at most ``max_value``, and ``negative_slope (x - threshold)`` below.

    With a threshold above zero the function jumps there.

    Raises:
        ValueError: a negative parameter, or a ``max_value`` below the threshold.
    """
    cap = float("inf") if max_value is None else float(max_value)
    if negative_slope < 0 or threshold < 0 or cap <= threshold:
        raise ValueError(
            f"0 <= negative_slope, 0 <= threshold < max_value is needed, not {negative_slope}, {threshold}, {max_value}"
        )

    def function(x: tf.Tensor) -> tf.Tensor:
        right = tf.minimum(tf.where(x > threshold, x, tf.zeros_like(x)), cap)
        return right - negative_slope * tf.nn.relu(threshold - x)

    kinks = (float(threshold), *(() if max_value is None else (cap,)))
    slopes = (float(negative_slope), 1.0, *(() if max_value is None else (0.0,)))
    return piecewise("bounded_relu", function, kinks, slopes, kinks[:1] if threshold > 0 else ())


def soft_shrink(threshold: float = 0.5) -> Activation:
    """``x`` moved towards zero by ``threshold``.

    Raises:
        ValueError: a threshold below zero.
    """
    if threshold < 0:
        raise ValueError(f"threshold must not be negative, but is {threshold}")
    if threshold == 0:
        return piecewise("soft_shrink", tf.identity, (0.0,), (1.0, 1.0))
    return piecewise(
        "soft_shrink",
        lambda x: x - tf.clip_by_value(x, -threshold, threshold),
        (-float(threshold), float(threshold)),
        (1.0, 0.0, 1.0),
    )


def hard_silu() -> Activation:
    """``x`` times the hard sigmoid: straight outside [-3, 3], a parabola inside."""

    def derivative(x: tf.Tensor) -> tf.Tensor:
        return tf.where(tf.abs(x) < 3.0, x / 3.0 + 0.5, tf.where(x > 0, tf.ones_like(x), tf.zeros_like(x)))

    def solve(slope: tf.Tensor) -> tuple[tf.Tensor]:
        return (3.0 * slope - 1.5,)

    bends = Bends(lambda x: x * (tf.nn.relu6(x + 3.0) / 6.0), derivative, (-3.0, 3.0), solve=solve, domain=WHOLE)
    return general("hard_silu", bends)


for _build in (clip, hard_tanh, hard_sigmoid, sparse_sigmoid, relu6, bounded_relu, soft_shrink, hard_silu):
    enter(_build.__name__, _build)
