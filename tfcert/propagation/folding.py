"""Steps of a backward pass taken as one: what a node's lines or matrix can absorb of the nodes before it.

A step through rows reads and writes all their coefficients, while folding two steps costs only as much as the nodes
have values. Each of these is the same linear function as the steps that it stands for:

- an activation and the bias or scaling (batch normalisation) before it: its lines in terms of what is scaled;
- max pooling and the activation before it: weights of a maximum are not negative, so a row takes the lower lines of
  both or the upper lines of both;
- a scaling by channel and the convolution before it: a convolution with a scaled kernel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping

import tensorflow as tf

from tfcert.activations import Lines
from tfcert.network.graph import Linear, MaxPool, Network
from tfcert.network.windows import gather_windows
from tfcert.propagation.errors import Errors, lowered
from tfcert.propagation.pooling import PoolLines


def only_reader(network: Network) -> Mapping[int, int]:
    """The reader of each node that has a single one."""
    return {source: found[0] for source, found in enumerate(network.readers) if len(found) == 1}


def absorbed(
    network: Network,
    index: int,
    lines: Lines,
    free: Collection[int],
    middle: Callable[[int], tf.Tensor | None],
    errors: Errors | None = None,
) -> tuple[Lines, int, int | None]:
    """An activation's lines with the biases and scalings before it.

    Args:
        network: the network.
        index: the activation's node.
        lines: its lines.
        free: nodes with a single reader that need no step of their own.
        middle: the value of a node in the middle of the region if it is affine, else None; ``[samples, *shape]``.
        errors: of a rounded network: those of the nodes with a single reader are in the lines that are returned, the
            first one's even where it is no linear node.

    Returns:
        The lines, the node that they are lines over (of an affine node: over how far it is from its value in the
        middle), and that node again if its bias is in the lines.
    """
    source = network.nodes[index].inputs[0]
    value = middle(source)
    if value is not None:
        lines = _before_bias(lines, value if lines.lower_slope.shape.rank == value.shape.rank else value[:, None])
    while source in free:
        node = network.nodes[source]
        if errors is not None and source in errors.vectors:
            lines = lowered(lines, errors.vectors[source])
        if not isinstance(node, Linear):
            break
        if node.bias is not None and value is None:
            lines = _before_bias(lines, node.bias())
        scale = node.map.diagonal()
        if scale is None:
            return lines, source, source
        lines = lines._replace(lower_slope=lines.lower_slope * scale, upper_slope=lines.upper_slope * scale)
        source = node.inputs[0]
    return lines, source, None


def _before_bias(lines: Lines, bias: tf.Tensor) -> Lines:
    """Lines over z as lines over ``z - bias``."""
    return lines._replace(
        lower_intercept=lines.lower_intercept + lines.lower_slope * bias,
        upper_intercept=lines.upper_intercept + lines.upper_slope * bias,
    )


def over_activation(pool: MaxPool, outer: PoolLines, inner: Lines) -> PoolLines:
    """Lines of max pooling over an activation, as lines over what enters the activation."""
    lower_slope, lower_intercept, upper_slope, upper_intercept = (gather_windows(part, pool) for part in inner)

    def total(weights: tf.Tensor, intercepts: tf.Tensor) -> tf.Tensor:
        # An intercept may be infinite where the weight is 0.
        return tf.reduce_sum(tf.math.multiply_no_nan(intercepts, weights), axis=3)

    return PoolLines(
        outer.lower_weights * lower_slope,
        outer.lower_intercept + total(outer.lower_weights, lower_intercept),
        outer.upper_weights * upper_slope,
        outer.upper_intercept + total(outer.upper_weights, upper_intercept),
    )


def scaled_convolution(network: Network, index: int, free: Collection[int]) -> Linear:
    """A node that scales channels and the convolution before it, read by nothing else, as one node; or the node."""
    node = network.nodes[index]
    assert isinstance(node, Linear)
    source = node.inputs[0]
    before = network.nodes[source]
    if not isinstance(before, Linear) or source not in free:
        return node
    scale, conv = node.map.diagonal(), before.map.convolution
    if scale is None or conv is None:
        return node
    if math.prod(scale.shape) != (scale.shape[-1] if scale.shape.rank else 1):
        return node
    kernel = conv.kernel() * tf.reshape(scale, [-1])
    scaled = conv.with_kernel(lambda: kernel, conv.in_shape[2])
    parts = [] if before.bias is None else [before.bias() * scale]
    parts += [] if node.bias is None else [node.bias()]
    bias = sum(parts) if parts else None
    return Linear(
        name=node.name,
        inputs=before.inputs,
        shape=node.shape,
        map=scaled,
        bias=None if bias is None else lambda: bias,
        rounding=node.rounding,
    )
