"""Interval propagation for training: middles pass the linear maps in one call together with the inputs themselves.

The same ranges as :mod:`tfcert.propagation.interval` gives, at the price of fewer passes: the bounds' middles and the
nominal values go through each linear map as one batch, and only the radii take a second product, with ``|W|``.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import tensorflow as tf

from tfcert.network.graph import Elementwise, Input, Linear, Network, evaluate_node
from tfcert.propagation.enclosures import TensorInterval
from tfcert.propagation.interval import step, through_linear
from tfcert.sets.region import Region


class Sweep(NamedTuple):
    """Results of one pass.

    Attributes:
        ranges: of each node, ``[batch, *shape]`` pairs.
        values: of each node at the inputs themselves, ``[batch, *shape]``; empty if these were not asked for.
        known: bool ``[batch]``: no range became NaN or infinite. Operations may drop a NaN (a maximum with zero, say),
            so what follows from the ranges of another sample proves nothing, however it looks.
    """

    ranges: list[TensorInterval]
    values: list[tf.Tensor]
    known: tf.Tensor


def sweep(network: Network, region: Region, x: tf.Tensor | None = None) -> Sweep:
    """The range of each node over boxes and, with ``x``, its value there.

    Args:
        network: the network.
        region: boxes ``[batch, *input]``.
        x: inputs ``[batch, *input]``.

    Raises:
        ValueError: the region is not a box.
    """
    if not region.is_box:
        raise ValueError(f"training bounds are over boxes (norm linf), not over {region.norm} balls")
    ranges: list[TensorInterval] = []
    values: list[tf.Tensor] = []
    known = tf.ones([tf.shape(region.lower)[0]], tf.bool)
    for node in network.nodes:
        inputs = [ranges[i] for i in node.inputs]
        nominal = [] if x is None else [values[i] for i in node.inputs]
        if isinstance(node, Input):
            ranges.append((region.lower, region.upper))
            values += [] if x is None else [x]
        elif isinstance(node, Linear):
            found, value = through_linear(node, inputs[0], nominal)
            ranges.append(found)
            values += value
            # A finite upper end is the sum of a finite middle and radius, so the lower end is no NaN either.
            finite = tf.math.is_finite(tf.stop_gradient(found[1]))
            known &= tf.reduce_all(tf.reshape(finite, [-1, math.prod(node.shape)]), axis=1)
        else:
            ranges.append(_bend(node, inputs[0]) if isinstance(node, Elementwise) else step(node, inputs))
            values += [] if x is None else [evaluate_node(node, nominal, x)]
    return Sweep(ranges, values, known)


def _bend(node: Elementwise, pair: TensorInterval) -> TensorInterval:
    """An activation's range: the values at both ends where it never falls."""
    if node.activation.increasing:
        return node.activation.function(pair[0]), node.activation.function(pair[1])
    return step(node, [pair])
