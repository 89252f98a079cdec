"""Copies of values, read by a matrix: the same matrix with the columns of the copies added up.

Interval arithmetic takes the entries of a tensor for independent. Two copies of a value are not: ``|v + w|`` times a
radius is less than ``|v| + |w|`` times it. Where a dense layer or a convolution reads copies (the two ends of a cell,
say), possibly scaled and reshaped, its weights are added up before bounds are taken; nothing is lost then.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import tensorflow as tf

from tfcert.network.graph import Linear, Network, Node, evaluate
from tfcert.network.linear import ConvMap, CopiesMap, DenseMap, LinearMap, ReshapeMap, ScaleMap, Shape


def without_copies(network: Network) -> Network:
    """The same function, in which dense layers and convolutions read values instead of copies of them."""
    nodes: list[Node] = []
    place: list[int] = []
    for index, node in enumerate(network.nodes):
        chain = _chain(network, index)
        if chain:
            source = network.nodes[chain[0]].inputs[0]
            nodes += _added_up(network, chain, (place[source], len(nodes)))
        else:
            nodes.append(replace(node, inputs=tuple(place[i] for i in node.inputs)))
        place.append(len(nodes) - 1)
    whole = replace(network, nodes=tuple(nodes))
    kept = sorted(whole.ancestors(len(nodes) - 1) | {0})
    new = {old: number for number, old in enumerate(kept)}
    return replace(network, nodes=tuple(replace(nodes[i], inputs=tuple(new[j] for j in nodes[i].inputs)) for i in kept))


def _chain(network: Network, index: int) -> list[int]:
    """The nodes from copies to the matrix ``index`` that reads them, in order; empty if there are none."""
    node = network.nodes[index]
    if not (isinstance(node, Linear) and isinstance(node.map, DenseMap | ConvMap)):
        return []
    chain, features = [index], node.map.in_shape[-1]
    while True:
        index = network.nodes[chain[0]].inputs[0]
        node = network.nodes[index]
        if not isinstance(node, Linear):
            return []
        chain.insert(0, index)
        if isinstance(node.map, CopiesMap):
            return chain if features % node.map.out_shape[-1] == 0 else []
        if not (isinstance(node.map, ReshapeMap) or (isinstance(node.map, ScaleMap) and _by_feature(node.map))):
            return []


def _by_feature(scaling: ScaleMap) -> bool:
    """Whether a scale is the same but for the last axis."""
    shape = scaling.scale().shape
    return math.prod(shape[:-1]) == 1


def _added_up(network: Network, chain: list[int], position: tuple[int, int]) -> list[Node]:
    """The nodes that stand for a chain: a reshaping where needed, and the matrix; ``position``: source, and own."""
    copies, last = network.nodes[chain[0]], network.nodes[chain[-1]]
    assert isinstance(copies, Linear) and isinstance(copies.map, CopiesMap) and isinstance(last, Linear)
    source, here = position
    read = (*last.map.in_shape[:-1], last.map.in_shape[-1] // copies.map.copies)
    made: list[Node] = []
    if read != copies.map.in_shape:
        reshape = ReshapeMap(copies.map.in_shape, read)
        made.append(Linear(name=f"{last.name}/reshape", inputs=(source,), shape=read, map=reshape))
        source = here
    kernel = _kernel(network, chain, copies.map)
    matrix = _matrix(last.map, kernel, read)
    constant = _constant(network, chain, copies.map.in_shape)
    return [*made, replace(last, inputs=(source,), map=matrix, bias=constant)]


def _matrix(old: LinearMap, kernel: Callable[[], tf.Tensor], read: Shape) -> LinearMap:
    if isinstance(old, DenseMap):
        return DenseMap(kernel, read, old.out_shape[-1])
    assert isinstance(old, ConvMap)
    shape = (*old.size, read[-1], old.out_shape[-1])
    return ConvMap(kernel, shape, read, strides=old.strides, padding=old.padding, dilation=old.dilation)


def _kernel(network: Network, chain: list[int], copies: CopiesMap) -> Callable[[], tf.Tensor]:
    """Reads the weights ``[..., features, out]``, scaled, copies added up."""
    last = network.nodes[chain[-1]]
    assert isinstance(last, Linear) and isinstance(last.map, DenseMap | ConvMap)
    matrix, features = last.map, last.map.in_shape[-1]
    maps = [node.map for node in (network.nodes[i] for i in chain) if isinstance(node, Linear)]
    scalings = [m for m in maps if isinstance(m, ScaleMap)]

    def read() -> tf.Tensor:
        kernel = matrix.kernel()
        for scaling in scalings:
            scale = tf.reshape(scaling.scale(), [-1])
            factor = tf.tile(scale, [features // scale.shape[0]])
            kernel *= factor[:, None]
        lead, out = kernel.shape[:-2], kernel.shape[-1]
        apart = tf.reshape(kernel, [*lead, -1, copies.copies, copies.in_shape[-1], out])
        return tf.reshape(tf.reduce_sum(apart, axis=-3), [*lead, features // copies.copies, out])

    return read


def _constant(network: Network, chain: list[int], shape: Shape) -> Callable[[], tf.Tensor]:
    """Reads what the chain makes of zeros: all its biases, through all its maps."""

    def read() -> tf.Tensor:
        value = tf.zeros([1, *shape], network.dtype)
        for index in chain:
            value = evaluate(network.nodes[index], [value], value)
        return value[0]

    return read
