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
from tfcert.roundoff import gamma
from tfcert.sets.region import Region

_NARROWER = 4
"""How many times as many inputs as values a layer has whose matrix is replaced by its factor: forming that is then no
dearer than the products of a single sample that it replaces."""


class Factor(NamedTuple):
    """A matrix ``F`` with ``|a W|_2 <= |a F|_2`` for rows ``a`` over a node ``W x + b``, equal up to rounding.

    Attributes:
        node: the node, of one axis, which everything else reads the input through.
        matrix: ``[values, values]``.
        lost: of a rounded network: ``|a F|_2`` as it is computed may lack ``|a| . lost`` and, for what is flushed to
            zero, ``flushed``; of another None and 0.
    """

    node: int
    matrix: tf.Tensor
    lost: tf.Tensor | None = None
    flushed: float = 0.0


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
    """The affine part of a network, to be shared by all passes over a region.

    Values of a rounded network are computed in float64: what that costs, bounds gain (see
    :mod:`tfcert.propagation.errors`).
    """
    wide = network if network.rounding is None else network.astype(tf.float64)
    values = values_in_middle(wide, region)
    found = {index: tf.cast(value, network.dtype) for index, value in values.items()}
    return AffinePart(found, _factor(network, region))


def values_in_middle(network: Network, region: Region) -> dict[int, tf.Tensor]:
    """The affine nodes' values in the region's middle, in the network's type."""
    x = tf.cast(middle(region), network.dtype)
    values: dict[int, tf.Tensor] = {}
    for index in sorted(affine_nodes(network)):
        node = network.nodes[index]
        values[index] = evaluate_node(node, [values[i] for i in node.inputs], x)
    return values


def _factor(network: Network, region: Region) -> Factor | None:
    """The factor of the layer through which the input is read, if there is one and rows get shorter by it."""
    if region.norm != "l2" or region.clipped or region.uneven or len(leaving_nodes(network)) != 1:
        return None
    (gate,) = leaving_nodes(network)
    shape, inputs = network.nodes[gate].shape, math.prod(network.input_shape)
    if len(shape) != 1 or _NARROWER * shape[0] > inputs:
        return None
    rows, index, computed = tf.eye(shape[0], dtype=network.dtype), gate, 0
    while index:
        node = network.nodes[index]
        if not isinstance(node, Linear):
            return None
        computed += not node.map.moves
        rows, index = node.map.transpose(tf.reshape(rows, [shape[0], *node.shape])), node.inputs[0]
    root = _root(tf.reshape(rows, [shape[0], inputs]))
    if network.rounding is None:
        return Factor(gate, tf.cast(root, network.dtype))
    # One node's weights are read as they are; products of several would be rounded.
    return _rounded(gate, root, inputs, network) if computed == 1 else None


def _rounded(gate: int, root: tf.Tensor, inputs: int, network: Network) -> Factor:
    """The factor of a rounded network: ``a F`` is a sum of as many terms as there are values, of rounded entries.

    So it is off by at most ``gamma |a| |F|``, no longer than ``gamma sum |a_i| |F_i|_2`` by F's rows; what is flushed
    of the weights is no longer than the smallest normal number for each of a row's entries.
    """
    rounding, values = network.rounding, int(root.shape[0])
    assert rounding is not None
    share = gamma(values + 8, rounding.own)
    lost = tf.norm(root, axis=1) * share + 2.0 * inputs * rounding.tiny
    lost = tf.cast(lost, network.dtype) * (1.0 + 4.0 * rounding.own) + rounding.tiny
    return Factor(gate, tf.cast(root, network.dtype), lost, 4.0 * values**2 * rounding.tiny)


def _root(matrix: tf.Tensor) -> tf.Tensor:
    """A triangular ``F`` of float64, ``F F^T = W W^T`` up to rounding and never less, whatever the rank of ``W``.

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
    return tf.where(known, root, tf.constant(np.nan, root.dtype))
