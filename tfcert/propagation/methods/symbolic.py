"""Symbolic intervals: every neuron between two equations of the inputs (Wang et al. 2018, "Formal security analysis of
neural networks using symbolic intervals", ReluVal; the bounds of neurons in Agrify, Zhu et al. 2021, section III-C).

Equations pass a ReLU that keeps its sign as they are, or become 0. One that may switch makes its lower equation 0, and
its upper one the number that this reaches at most, unless the upper equation is positive everywhere: then it stays.
"""

from __future__ import annotations

from dataclasses import replace

import tensorflow as tf

from tfcert.activations import Lines
from tfcert.network.graph import Elementwise, Input, Network
from tfcert.propagation.backward import Relaxed
from tfcert.propagation.coefficients import Coefficients
from tfcert.propagation.enclosures import Planes, TensorInterval
from tfcert.propagation.forward import advance, ranges, substitute, unit_planes
from tfcert.propagation.methods.base import Bounded, How, by_rows
from tfcert.propagation.plan import Plan, planes_plan
from tfcert.propagation.preactivation import nonlinear
from tfcert.propagation.slack import slack_of
from tfcert.sets.region import Region


class _Symbolic:
    def plan(self, network: Network, rows: int, memory_mb: int, is_box: bool) -> Plan:
        return planes_plan(network, rows, memory_mb, is_box, blocks=False)

    def pre_activation(self, network: Network, region: Region, how: How) -> dict[int, TensorInterval]:
        return _run(network, region)[1]

    def lower(self, network: Network, region: Region, rows: Coefficients, how: How) -> Bounded:
        between, bounds = _run(network, region)
        ends = nonlinear(network)
        relaxed = Relaxed({}, {i: substitute(between[i], network.input_shape, len(ends)) for i in ends})
        return by_rows(network, region, rows, relaxed, bounds, how)


def _run(network: Network, region: Region) -> tuple[list[Planes], dict[int, TensorInterval]]:
    """The equations of every node, and the bounds of those that enter a ReLU."""
    found: list[Planes] = []
    bounds: dict[int, TensorInterval] = {}
    size = region.lower.shape[1:].num_elements()
    for node in network.nodes:
        if isinstance(node, Input):
            units = unit_planes(network, tf.eye(size, dtype=network.dtype))
            found.append(replace(units, slack=slack_of(region, network.rounding)))
            continue
        lines = None
        if isinstance(node, Elementwise):
            (source,) = node.inputs
            equations = found[source]
            bounds[source] = ranges(equations, network.input_shape, region)
            same = equations.lower is equations.upper
            above = Planes(equations.upper, equations.upper, equations.slack)
            least = bounds[source][0] if same else ranges(above, network.input_shape, region)[0]
            lines = concretised(*bounds[source], least)
        found.append(advance(node, [found[i] for i in node.inputs], lines))
    return found, bounds


def concretised(lower: tf.Tensor, upper: tf.Tensor, least: tf.Tensor) -> Lines:
    """The lines that a ReLU's equations are put through: ``y >= x`` or 0, ``y <= x`` or a number.

    Args:
        lower, upper: the range of what enters.
        least: the smallest value of its upper equation.
    """
    active = lower >= 0
    kept = active | (least > 0)
    zero = tf.zeros_like(lower)
    slopes = tf.cast(active, lower.dtype), tf.cast(kept, lower.dtype)
    return Lines(slopes[0], zero, slopes[1], tf.where(kept, zero, tf.nn.relu(upper)))


SYMBOLIC = _Symbolic()
