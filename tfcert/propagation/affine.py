"""The part of a network that is affine in its input, seen from the middle of a region.

Backward passes carry rows over affine nodes as functions of how far the input is from the region's middle: what biases
and the middle itself add is the rows' value at the affine nodes' own values there, which a relaxation takes up in its
intercepts. So the coefficients over the input, the most numerous of a pass, are read for the region's extent alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfcert.network.graph import Add, Concatenate, Input, Linear, Network, evaluate_node
from tfcert.propagation.concretize import middle
from tfcert.sets.region import Region

_NARROWER = 4
"""How many times as many inputs as values a layer has whose matrix is replaced by its factor: forming that is then no
dearer than the products of a single sample that it replaces."""


class Factor(NamedTuple):
    """A matrix ``F`` with ``|a W|_2 <= |a F|_2`` for rows ``a`` over a node ``W x + b``, equal up to rounding.

    Attributes:
        node: the node, of one axis, which everything else reads the input through.
        matrix: ``[values, values]``.
    """

    node: int
    matrix: tf.Tensor


class AffinePart(NamedTuple):
    """The affine nodes over a region.

    Attributes:
        values: of each affine node in the region's middle, ``[samples, *shape]``.
        factor: where the region is an L2 ball, not clipped, and rows are shorter over a layer than over the input.
    """

    values: Mapping[int, tf.Tensor]
    factor: Factor | None


def affine_nodes(network: Network) -> frozenset[int]:
    """The nodes that are affine functions of the input."""
    found: set[int] = set()
    for index, node in enumerate(network.nodes):
        if isinstance(node, Input | Linear | Add | Concatenate) and all(i in found for i in node.inputs):
            found.add(index)
    return frozenset(found)


def leaving_nodes(network: Network) -> frozenset[int]:
    """The affine nodes that other nodes read, or that are the output."""
    affine = affine_nodes(network)
    read = {i for n, node in enumerate(network.nodes) if n not in affine for i in node.inputs}
    return frozenset(i for i in affine if i in read or i == network.output)


def affine_part(network: Network, region: Region) -> AffinePart:
    """The affine part of a network, to be shared by all passes over a region."""
    x = middle(region)
    values: dict[int, tf.Tensor] = {}
    for index in sorted(affine_nodes(network)):
        node = network.nodes[index]
        values[index] = evaluate_node(node, [values[i] for i in node.inputs], x)
    # The factor is right up to rounding alone.
    return AffinePart(values, _factor(network, region) if network.rounding is None else None)


def _factor(network: Network, region: Region) -> Factor | None:
    """The factor of the layer through which the input is read, if there is one and rows get shorter by it."""
    if region.norm != "l2" or region.clipped or region.uneven or len(leaving_nodes(network)) != 1:
        return None
    (gate,) = leaving_nodes(network)
    shape, inputs = network.nodes[gate].shape, math.prod(network.input_shape)
    if len(shape) != 1 or _NARROWER * shape[0] > inputs:
        return None
    rows, index = tf.eye(shape[0], dtype=network.dtype), gate
    while index:
        node = network.nodes[index]
        if not isinstance(node, Linear):
            return None
        rows, index = node.map.transpose(tf.reshape(rows, [shape[0], *node.shape])), node.inputs[0]
    return Factor(gate, _root(tf.reshape(rows, [shape[0], inputs])))


def _root(matrix: tf.Tensor) -> tf.Tensor:
    """A triangular ``F``, ``F F^T = W W^T`` up to rounding and never less, whatever the rank of ``W``.

    Computed in float64: the sums of ``W W^T`` are wrong by at most ``gamma_inputs`` times its trace (in the spectral
    norm), Cholesky's factors by ``gamma_(values + 1)`` times that (Higham 2002, "Accuracy and Stability of Numerical
    Algorithms", section 3.1 and theorem 10.3). Twice both is added to the diagonal, so the factorisation exists.
    """
    values, inputs = matrix.shape
    wide = tf.cast(matrix, tf.float64)
    gram = tf.matmul(wide, wide, transpose_b=True)
    known = tf.reduce_all(tf.math.is_finite(gram))
    gram = tf.where(known, gram, tf.eye(values, dtype=gram.dtype))  # TensorFlow's Cholesky raises an error otherwise
    limits = np.finfo(np.float64)
    slack = (inputs + values + 2) * limits.eps * tf.linalg.trace(gram) + limits.tiny
    root = tf.linalg.cholesky(gram + slack * tf.eye(values, dtype=gram.dtype))
    return tf.cast(tf.where(known, root, tf.constant(np.nan, root.dtype)), matrix.dtype)
