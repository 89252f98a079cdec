"""The same network with its convolutions written out as matrices: what the papers compare patches with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import tensorflow as tf

from tfcert.network.graph import Linear, Network, Node
from tfcert.network.linear import DenseMap, LinearMap, ScaleMap, Shape
from tfcert.network.moves import CopiesMap, ReshapeMap

CHUNK = 1024
"""Rows of the identity that a map is applied to at a time."""


def densify(network: Network) -> Network:
    """The same function with every convolution, padding, cropping, permutation and map of a user as one dense matrix.

    Each such node becomes a flattening, a ``DenseMap`` and a reshaping back (where the shapes are not flat already).
    Matrices are computed from the kernels whenever they are read, so gradients and training still reach them.
    """
    nodes: list[Node] = []
    place: list[int] = []
    for node in network.nodes:
        moved = replace(node, inputs=tuple(place[i] for i in node.inputs))
        if isinstance(moved, Linear) and not isinstance(moved.map, DenseMap | ScaleMap | ReshapeMap | CopiesMap):
            nodes += _dense_nodes(moved, len(nodes), network.dtype)
        else:
            nodes.append(moved)
        place.append(len(nodes) - 1)
    return replace(network, nodes=tuple(nodes))


def matrix(linear_map: LinearMap, dtype: tf.DType) -> tf.Tensor:
    """The matrix ``[inputs, outputs]`` of a map: ``apply(x) = x @ matrix`` on flattened tensors."""
    inputs, outputs = int(np.prod(linear_map.in_shape)), int(np.prod(linear_map.out_shape))
    if inputs <= outputs:
        return _images(linear_map.apply, linear_map.in_shape, outputs, dtype)
    return tf.transpose(_images(linear_map.transpose, linear_map.out_shape, inputs, dtype))


def _images(function: Callable[[tf.Tensor], tf.Tensor], shape: Shape, size: int, dtype: tf.DType) -> tf.Tensor:
    """The flattened images of all unit tensors of ``shape``."""
    units = np.eye(int(np.prod(shape)), dtype=dtype.as_numpy_dtype)
    rows = []
    for start in range(0, len(units), CHUNK):
        chunk = units[start : start + CHUNK]
        rows.append(tf.reshape(function(tf.constant(chunk.reshape(-1, *shape))), [len(chunk), size]))
    return tf.concat(rows, axis=0)


def _dense_nodes(node: Linear, position: int, dtype: tf.DType) -> list[Node]:
    """The nodes that replace ``node``, the first of them to stand at ``position``."""
    linear_map, bias, shape = node.map, node.bias, node.shape
    inputs, outputs = int(np.prod(linear_map.in_shape)), int(np.prod(shape))
    made: list[Node] = []
    source = node.inputs
    if linear_map.in_shape != (inputs,):
        flatten = ReshapeMap(linear_map.in_shape, (inputs,))
        made.append(Linear(name=f"{node.name}/flat", inputs=source, shape=(inputs,), map=flatten))
        source = (position,)

    def flat_bias() -> tf.Tensor:
        assert bias is not None
        return tf.reshape(tf.broadcast_to(bias(), shape), [outputs])

    dense = DenseMap(lambda: matrix(linear_map, dtype), (inputs,), outputs)
    made.append(
        Linear(name=node.name, inputs=source, shape=(outputs,), map=dense, bias=None if bias is None else flat_bias)
    )
    if shape != (outputs,):
        back = ReshapeMap((outputs,), shape)
        made.append(Linear(name=f"{node.name}/shaped", inputs=(position + len(made) - 1,), shape=shape, map=back))
    return made
