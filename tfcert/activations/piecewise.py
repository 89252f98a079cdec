"""Functions of several linear pieces (hard tanh, hard sigmoid, ReLU6, ReLU with bounds), the sign, and hard SiLU."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import tensorflow as tf

from tfcert.activations.accuracy import EXACT, Accuracy
from tfcert.activations.curves import Function, smallest
from tfcert.activations.general import Bends, general
from tfcert.activations.registry import WHOLE, Activation, Ranges, Slopes, enter


def piecewise(
    name: str,
    function: Function,
    kinks: tuple[float, ...],
    slopes: tuple[float, ...],
    jumps: tuple[float, ...] = (),
    accuracy: Accuracy | None = None,
) -> Activation:
    """The activation with these slopes left of, between and right of its kinks; ``accuracy`` of computed values."""

    def derivative(x: tf.Tensor) -> tf.Tensor:
        steps = zip(kinks, itertools.pairwise(slopes), strict=True)
        first = tf.fill(tf.shape(x), tf.constant(slopes[0], x.dtype))
        return first + tf.add_n(
            [tf.where(x > kink, tf.constant(right - left, x.dtype), tf.zeros_like(x)) for kink, (left, right) in steps]
        )

    straight = general(name, Bends(function, derivative, kinks, jumps, lambda slope: (), WHOLE))
    return replace(straight, kinks=None if jumps else kinks, accuracy=accuracy)


def _single(*places: float) -> bool:
    """Tells whether numbers are the same in single precision: a program that runs in it compares with the same."""
    return all(float(np.float32(place)) == place for place in places)


def hard_tanh() -> Activation:
    """``x`` clipped to [-1, 1]."""
    return piecewise(
        "hard_tanh",
        lambda x: tf.clip_by_value(x, -1.0, 1.0),
        (-1.0, 1.0),
        (0.0, 1.0, 0.0),
        (),
        replace(EXACT, stays=(-1.0, 1.0)),
    )


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
    accuracy = replace(EXACT, stays=ends) if _single(*kinks) else Accuracy(2.0)
    return piecewise("clip", lambda x: tf.clip_by_value(x, *ends), kinks, slopes, (), accuracy)


def hard_sigmoid() -> Activation:
    """``x / 6 + 1/2`` clipped to [0, 1]."""
    return piecewise(
        "hard_sigmoid",
        lambda x: tf.nn.relu6(x + 3.0) / 6.0,
        (-3.0, 3.0),
        (0.0, 1 / 6, 0.0),
        accuracy=Accuracy(2.0, base=1.0),
    )


def sparse_sigmoid() -> Activation:
    """``(x + 1) / 2`` clipped to [0, 1]."""
    return piecewise(
        "sparse_sigmoid",
        lambda x: tf.clip_by_value(0.5 * (x + 1.0), 0.0, 1.0),
        (-1.0, 1.0),
        (0.0, 0.5, 0.0),
        accuracy=Accuracy(2.0, base=1.0),
    )


def relu6() -> Activation:
    """``x`` clipped to [0, 6]."""
    return piecewise("relu6", tf.nn.relu6, (0.0, 6.0), (0.0, 1.0, 0.0), (), replace(EXACT, stays=(0.0, 6.0)))


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
    jumps = kinks[:1] if threshold > 0 else ()
    accuracy = Accuracy(3.0, base=kinks[0], steep=max(1.0, slopes[0])) if _single(*jumps) else None
    return piecewise("bounded_relu", function, kinks, slopes, jumps, accuracy)


def soft_shrink(threshold: float = 0.5) -> Activation:
    """``x`` moved towards zero by ``threshold``.

    Raises:
        ValueError: a threshold below zero.
    """
    if threshold < 0:
        raise ValueError(f"threshold must not be negative, but is {threshold}")
    if threshold == 0:
        return piecewise("soft_shrink", tf.identity, (0.0,), (1.0, 1.0), (), EXACT)
    return piecewise(
        "soft_shrink",
        lambda x: x - tf.clip_by_value(x, -threshold, threshold),
        (-float(threshold), float(threshold)),
        (1.0, 0.0, 1.0),
        accuracy=Accuracy(2.0, base=float(threshold)),
    )


def threshold(threshold: float, default_value: float) -> Activation:
    """``x`` above the threshold, ``default_value`` up to it."""
    limit, other = float(threshold), float(default_value)
    if not (math.isfinite(limit) and math.isfinite(other)):
        raise ValueError(f"a threshold and a value that are finite are needed, not {threshold} and {default_value}")

    def function(x: tf.Tensor) -> tf.Tensor:
        return tf.where(x > limit, x, tf.constant(other, x.dtype))

    jumps = () if limit == other else (limit,)
    accuracy = Accuracy(2.0, base=abs(limit) + abs(other), sharp=True) if _single(*jumps) else None
    return piecewise("threshold", function, (limit,), (0.0, 1.0), jumps, accuracy)


def sign() -> Activation:
    """-1 left of zero, 0 at zero, 1 right of it.

    ``adaptive``, where zero is inside, is below the constant -1 or the line from there, at zero, to the upper end at 1,
    whichever is higher in the middle (the least area); above the same, turned.
    """

    def rising(lower: tf.Tensor, upper: tf.Tensor) -> tf.Tensor:
        """The slope of the line from -1 at zero to 1 at the upper end; 0 where zero is not inside."""
        inside = (lower < 0) & (upper > 0)
        steep = 2.0 / tf.maximum(tf.where(inside, upper, tf.ones_like(upper)), smallest(upper) ** 0.5)
        return tf.where(inside, steep, tf.zeros_like(upper))

    def adaptive(lower: tf.Tensor, upper: tf.Tensor) -> Slopes:
        flat, right = tf.zeros_like(lower), upper > -lower
        return (
            tf.where(right, rising(lower, upper), flat),
            tf.where(right, flat, rising(-upper, -lower)),
        )

    def ranges(lower: tf.Tensor, upper: tf.Tensor) -> Ranges:
        flat = tf.zeros_like(lower)
        return (flat, rising(lower, upper)), (flat, rising(-upper, -lower))

    def critical_points(slope: tf.Tensor, lower: tf.Tensor, upper: tf.Tensor) -> tuple[tf.Tensor, ...]:
        near = tf.fill(tf.shape(slope), tf.constant(smallest(slope), slope.dtype))
        return tf.zeros_like(slope), near, -near

    return Activation(
        "sign",
        tf.sign,
        critical_points,
        {"adaptive": adaptive},
        ranges,
        increasing=True,
        accuracy=Accuracy(0.0, sharp=True),
    )


def hard_silu() -> Activation:
    """``x`` times the hard sigmoid: straight outside [-3, 3], a parabola inside."""

    def derivative(x: tf.Tensor) -> tf.Tensor:
        return tf.where(tf.abs(x) < 3.0, x / 3.0 + 0.5, tf.where(x > 0, tf.ones_like(x), tf.zeros_like(x)))

    def solve(slope: tf.Tensor) -> tuple[tf.Tensor]:
        return (3.0 * slope - 1.5,)

    bends = Bends(lambda x: x * (tf.nn.relu6(x + 3.0) / 6.0), derivative, (-3.0, 3.0), solve=solve, domain=WHOLE)
    return general("hard_silu", bends)


for _build in (
    clip,
    hard_tanh,
    hard_sigmoid,
    sparse_sigmoid,
    relu6,
    bounded_relu,
    soft_shrink,
    threshold,
    sign,
    hard_silu,
):
    enter(_build.__name__, _build)
