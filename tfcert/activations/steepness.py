"""How steep activations are: between which numbers lies ``(f(x) - f(y)) / (x - y)``."""

from __future__ import annotations

import itertools

import numpy as np
import tensorflow as tf

from tfcert.activations.registry import Activation, Slopes


def steepness(act: Activation, lower: tf.Tensor, upper: tf.Tensor) -> Slopes:
    """The least and the greatest slope of the function within ``[lower, upper]``: a pair shaped like the ends.

    Every difference quotient of two points of the interval lies between them, since the function is continuous.
    Infinite where nothing is known: a function that jumps or is not declared, an interval that leaves its domain.
    """
    if act.kinks is not None:
        return _of_pieces(act, act.kinks, lower, upper)
    declared = act.declaration
    if declared is None or declared.jumps or act.edges is not None:
        return tf.fill(tf.shape(lower), _infinite(lower, -1)), tf.fill(tf.shape(lower), _infinite(lower, 1))
    known = tf.math.is_finite(lower) & tf.math.is_finite(upper)
    if act.limited:
        known &= act.declared(lower, upper)
    low, high = act.within(known, lower, upper)
    # The derivative rises or falls between two ends of pieces, so its extremes are at these, seen from either side.
    points = [low, high]
    kind = lower.dtype.as_numpy_dtype
    for end, side in itertools.product(declared.ends, (-np.inf, np.inf)):
        near = np.nextafter(kind(end), kind(side)) if end else np.copysign(np.finfo(kind).tiny, side)
        points.append(tf.minimum(tf.maximum(low, tf.constant(near, lower.dtype)), high))
    slopes = [declared.derivative(point) for point in points]
    for slope in slopes:
        known &= tf.math.is_finite(slope)
    least, most = tf.reduce_min(tf.stack(slopes), axis=0), tf.reduce_max(tf.stack(slopes), axis=0)
    return tf.where(known, least, _infinite(lower, -1)), tf.where(known, most, _infinite(lower, 1))


def bends(act: Activation, like: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Whether a function of straight pieces is convex, and whether it is concave; of any other neither is said.

    Marks that broadcast against ``like``.
    """
    if act.kinks is None:
        return tf.constant(False), tf.constant(False)
    turns = [after - before for before, after in itertools.pairwise(_piece_slopes(act, act.kinks, like))]
    return tf.reduce_all(tf.stack(turns) >= 0, axis=0), tf.reduce_all(tf.stack(turns) <= 0, axis=0)


def _of_pieces(act: Activation, kinks: tuple[float, ...], lower: tf.Tensor, upper: tf.Tensor) -> Slopes:
    """The same of a function of straight pieces: the slopes of those that the interval has a part of."""
    slopes = _piece_slopes(act, kinks, lower)
    least, most = _infinite(lower, 1), _infinite(lower, -1)
    for slope, (start, end) in zip(slopes, itertools.pairwise((-np.inf, *kinks, np.inf)), strict=True):
        # Of a single point on a kink one side is as good as the other: its difference to itself is zero.
        inside = ((lower < end) & (upper > start)) | ((lower == end) & (upper == end))
        least = tf.where(inside, tf.minimum(least, slope), least)
        most = tf.where(inside, tf.maximum(most, slope), most)
    return least, most


def _piece_slopes(act: Activation, kinks: tuple[float, ...], like: tf.Tensor) -> list[tf.Tensor]:
    """The slope of each piece, which broadcasts against ``like``; of functions with weights of their own, by neuron."""
    places = [kinks[0] - 1.0, *kinks, kinks[-1] + 1.0]
    shape = [1] * like.shape.rank if act.alike else [1, *like.shape[1:]]
    values = [act.function(tf.fill(shape, tf.constant(place, like.dtype))) for place in places]
    pairs = zip(itertools.pairwise(values), itertools.pairwise(places), strict=True)
    return [(right - left) / (end - start) for (left, right), (start, end) in pairs]


def _infinite(like: tf.Tensor, sign: int) -> tf.Tensor:
    return tf.constant(sign * np.inf, like.dtype)
