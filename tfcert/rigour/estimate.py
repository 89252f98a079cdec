"""Estimates, not bounds, of how far a network's own rounding may move its outputs.

A floating-point sum of n terms is off by about ``u sqrt(n)`` times the size of its partial sums, where u is half of the
distance between 1 and the next number (Higham and Mary 2019, "A new approach to probabilistic rounding error analysis":
errors of separate operations are independent and centred, so their squares add up). Partial sums wander from the first
term to the value like a random walk, so their squares are about the sum of the terms' squares, or the square of the
value where that is larger. Errors of earlier nodes are carried on by the slopes at the point in question.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfcert.network.graph import (
    Add,
    Concatenate,
    Elementwise,
    Input,
    Linear,
    MaxPool,
    Multivariate,
    Network,
    Node,
    evaluate_node,
)
from tfcert.network.windows import gather_windows
from tfcert.propagation.interval import moves
from tfcert.roundoff import unit_roundoff
from tfcert.sets.region import Region

_ULPS = 4.0
"""By how many units in the last place an activation's value may be off."""


def output_deviations(network: Network, region: Region) -> tf.Tensor:
    """Standard deviations of the outputs' rounding errors somewhere in each region, ``[batch, outputs]``.

    The largest of three points: the middle, and the two ends of the region's box, drawn to the ball. Infinite where the
    square of a value there is beyond the numbers that the network computes in.

    Args:
        network: the network in the type that it is deployed in.
        region: its sets, ``[batch, *input]``, of that type.
    """
    deviations = _deviations(network, tf.concat(_points(region), axis=0))
    return tf.reduce_max(tf.stack(tf.split(_known(deviations), 3, axis=0)), axis=0)


def _known(deviations: tf.Tensor) -> tf.Tensor:
    """With an infinity for NaN, which a maximum may drop."""
    return tf.where(tf.math.is_nan(deviations), tf.constant(np.inf, deviations.dtype), deviations)


def _points(region: Region) -> list[tf.Tensor]:
    if region.is_box:
        return [0.5 * region.lower + 0.5 * region.upper, region.lower, region.upper]
    if region.blocks():
        return [region.assembled(list(parts)) for parts in zip(*(_points(b) for _, b in region.blocks()), strict=True)]
    order = 1 if region.norm == "l1" else 2
    found = [region.center]
    for end in (region.lower, region.upper):
        step = end - region.center
        eps, size = region.eps, step
        if region.uneven:
            eps, size = tf.ones(tf.shape(step)[:1], step.dtype), tf.math.divide_no_nan(step, eps)
        length = tf.norm(tf.reshape(size, [tf.shape(step)[0], -1]), order, axis=1)
        share = tf.minimum(tf.math.divide_no_nan(eps, length), 1.0)
        found.append(region.center + step * tf.reshape(share, [-1, *[1] * (len(step.shape) - 1)]))
    return found


def _deviations(network: Network, x: tf.Tensor) -> tf.Tensor:
    """The same at points ``[batch, *input]``. Variances are counted in ``u^2``, so that they do not vanish."""
    unit = unit_roundoff(network.dtype.as_numpy_dtype)
    values: list[tf.Tensor] = []
    variances: list[tf.Tensor] = []
    for node in network.nodes:
        inputs, spread = [values[i] for i in node.inputs], [variances[i] for i in node.inputs]
        values.append(evaluate_node(node, inputs, x))
        variances.append(_variance(node, inputs, spread, values[-1]))
    return unit * tf.sqrt(variances[-1])


def _variance(node: Node, inputs: Sequence[tf.Tensor], variances: Sequence[tf.Tensor], value: tf.Tensor) -> tf.Tensor:
    """A node's variance: that of its inputs as it arrives, and that of its own rounding."""
    match node:
        case Input():
            return tf.zeros_like(value)
        case Linear():
            return _linear(node, inputs[0], variances[0], value)
        case Elementwise():
            with tf.GradientTape() as tape:
                tape.watch(inputs[0])
                total = tf.reduce_sum(node.activation.function(inputs[0]))
            slope = tape.gradient(total, inputs[0], unconnected_gradients="zero")
            return tf.square(slope) * variances[0] + tf.square(_ULPS * value)
        case MaxPool():
            return tf.reduce_max(gather_windows(_known(variances[0]), node, fill=0.0), axis=3)
        case Add():
            own = tf.add_n([tf.square(v) for v in (value, *inputs)])
            return tf.add_n(list(variances)) + len(inputs) * own
        case Concatenate():
            return tf.concat(list(variances), axis=node.axis + 1)
        case Multivariate():
            return node.carried(inputs, variances) + tf.square(node.deviation(inputs, value))
    raise TypeError(f"no rule for the rounding of a {type(node).__name__} node")


def _linear(node: Linear, x: tf.Tensor, variance: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    if moves(node):
        return node.map.apply(variance)
    squares, carried = tf.split(node.map.square_apply(tf.concat([tf.square(x), variance], axis=0)), 2, axis=0)
    squares += tf.square(value)
    terms = node.map.terms()
    if node.bias is not None:
        squares, terms = squares + tf.square(node.bias()), terms + 1
    return carried + terms * squares
