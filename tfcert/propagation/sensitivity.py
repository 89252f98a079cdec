"""How much of what relaxed neurons take from a row's bound goes with each input, if that is cut.

A neuron takes about ``|c| g`` from a bound: c is what the row has there, g how far its lines are apart in the middle of
its bounds. Cutting an input narrows what enters it by as much as the input moves it over the box; of a difference it is
the two arguments, whose signs decide whether it is exact. Of each neuron that share of its bounds' width counts. These
are estimates to choose cuts by (as the smears of ReluVal, Wang et al. 2018, and of NeuroDiff, Paulsen et al. 2020,
section 5, are, which take gradients): nothing is proven by them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import tensorflow as tf

from tfcert.activations import Lines
from tfcert.network.graph import Network
from tfcert.propagation.backward import Relaxed
from tfcert.propagation.difference import DifferencePlanes
from tfcert.propagation.enclosures import TensorInterval
from tfcert.propagation.residuals import Room


class _Gap(NamedTuple):
    """A node's lines.

    Attributes:
        arguments: the nodes whose signs, or ranges, make it narrower.
        intercepts: of the lower and of the upper line ``[samples, *shape]``.
        apart: how far they are apart in the middle ``[samples, *shape]``.
    """

    arguments: tuple[int, ...]
    intercepts: tuple[tf.Tensor, tf.Tensor]
    apart: tf.Tensor


def is_counted(relaxed: Relaxed) -> bool:
    """Tells whether all that is relaxed has lines that are looked at; what rounding adds goes with no input."""
    return all(isinstance(lines, Lines | DifferencePlanes | Room) for lines in relaxed.lines.values())


def taken_by_input(
    network: Network, lower: tf.Tensor, upper: tf.Tensor, relaxed: Relaxed, bound: Callable[[], tf.Tensor]
) -> tuple[tf.Tensor, tf.Tensor]:
    """A bound, and an estimate of how much of what is taken from it goes with each input.

    Args:
        network: the network.
        lower, upper: boxes ``[samples, inputs]``.
        relaxed: what the bound is found with, and ``bounds`` of the nodes.
        bound: finds it ``[samples]``.

    Returns:
        The bound, and the estimate ``[samples, inputs]``, for each unit of an input's width; 0 where that is 0.
    """
    gaps = _gaps(network, relaxed)
    intercepts = [gap.intercepts for gap in gaps]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(intercepts)
        found = bound()
    weights = tape.gradient(found, intercepts, unconnected_gradients="zero")
    moved = _moved(network, lower, upper, relaxed.bounds, {i for gap in gaps for i in gap.arguments})
    moving = _moving(lower, upper)
    total = tf.zeros([tf.size(moving), tf.shape(lower)[0]], lower.dtype)
    for gap, (low, high) in zip(gaps, weights, strict=True):
        taken = _flat((tf.abs(low) + tf.abs(high)) * gap.apart)
        for argument in gap.arguments:
            total += tf.einsum("kbn,bn->kb", moved[argument], taken) / len(gap.arguments)
    whole = tf.stack([tf.constant(lower.shape[1], moving.dtype), tf.shape(lower, moving.dtype)[0]])
    total = tf.transpose(tf.scatter_nd(moving[:, None], total, whole))
    width = upper - lower
    known = (width > 0) & tf.math.is_finite(total)
    return found, tf.where(known, total / tf.where(known, width, tf.ones_like(width)), tf.zeros_like(total))


def _gaps(network: Network, relaxed: Relaxed) -> list[_Gap]:
    found = []
    for index, lines in relaxed.lines.items():
        inputs = network.nodes[index].inputs
        if isinstance(lines, DifferencePlanes):
            arguments, parts = inputs[3:], lines.lines
        elif isinstance(lines, Lines):
            arguments, parts = inputs, lines
        else:
            continue
        low_slope, low, high_slope, high = parts
        ends = relaxed.bounds[inputs[0]]
        apart = tf.nn.relu((high_slope - low_slope) * (0.5 * ends[0] + 0.5 * ends[1]) + high - low)
        apart = tf.where(tf.math.is_finite(apart), apart, tf.zeros_like(apart))
        found.append(_Gap(arguments, (low, high), apart))
    return found


def _moved(
    network: Network, lower: tf.Tensor, upper: tf.Tensor, bounds: Mapping[int, TensorInterval], wanted: set[int]
) -> dict[int, tf.Tensor]:
    """By what share of its bounds' width each moving input, from end to end, moves a node: ``[moving, samples,
    values]``."""
    moving, middle = _moving(lower, upper), 0.5 * lower + 0.5 * upper
    one = tf.gather(tf.eye(lower.shape[1], dtype=lower.dtype), moving)[:, None]
    ends = [middle[None] + one * (end - middle)[None] for end in (lower, upper)]
    points = tf.reshape(tf.stack(ends), [-1, *network.input_shape])
    values, found = network.values(points), dict[int, tf.Tensor]()
    for index in wanted:
        at = tf.reshape(values[index], [2, tf.size(moving), tf.shape(lower)[0], math.prod(network.nodes[index].shape)])
        width = _flat(bounds[index][1] - bounds[index][0])
        share = tf.abs(at[1] - at[0]) / tf.where(width > 0, width, tf.ones_like(width))
        found[index] = tf.where(width > 0, tf.minimum(share, 1.0), tf.zeros_like(share))
    return found


def _moving(lower: tf.Tensor, upper: tf.Tensor) -> tf.Tensor:
    """The inputs that may move in some of the boxes."""
    return tf.where(tf.reduce_any(upper > lower, axis=0))[:, 0]


def _flat(part: tf.Tensor) -> tf.Tensor:
    return tf.reshape(part, [tf.shape(part)[0], -1])
