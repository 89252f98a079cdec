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

from tfcert.network.graph import Linear, Network, Node, evaluate_node
from tfcert.network.linear import ConvMap, DenseMap, LinearMap, ScaleMap, Shape
from tfcert.network.moves import CopiesMap, PadMap, ReshapeMap

_ADDED_UP = "weights of copies of a number are added up beforehand, which the model does not"


def without_copies(network: Network) -> Network:
    """The same function, in which dense layers and convolutions read values instead of copies of them.

    The network itself if there is nothing to do.
    """
    chains = {index: chain for index in range(len(network.nodes)) if (chain := _chain(network, index))}
    if not chains:
        return network
    nodes: list[Node] = []
    place: list[int] = []
    for index, node in enumerate(network.nodes):
        chain = chains.get(index, [])
        if chain:
            source = network.nodes[chain[0]].inputs[0]
            nodes += _added_up(network, chain, place[source], len(nodes))
        else:
            nodes.append(replace(node, inputs=tuple(place[i] for i in node.inputs)))
        place.append(len(nodes) - 1)
    whole = replace(network, nodes=tuple(nodes))
    kept = sorted(whole.ancestors(len(nodes) - 1) | {0})
    new = {old: number for number, old in enumerate(kept)}
    nodes = [replace(nodes[i], inputs=tuple(new[j] for j in nodes[i].inputs)) for i in kept]
    return replace(network, nodes=tuple(nodes), precomputed=_ADDED_UP)


def _chain(network: Network, index: int) -> list[int]:
    """The nodes from copies to the matrix ``index`` that reads them, in order; empty if they cannot be added up."""
    node = network.nodes[index]
    if not (isinstance(node, Linear) and isinstance(node.map, DenseMap | ConvMap)):
        return []
    chain, features = [index], node.map.in_shape[-1]
    while not isinstance(node.map, CopiesMap):
        source = network.nodes[node.inputs[0]]
        if not (isinstance(source, Linear) and _carries(source.map, features)):
            return []
        chain.insert(0, node.inputs[0])
        node = source
    block = node.map.out_shape[-1]
    shapes = [n.map.in_shape for n in (network.nodes[i] for i in chain[1:]) if isinstance(n, Linear)]
    return chain if all(shape[-1] % block == 0 for shape in shapes) else []


def _carries(linear: LinearMap, features: int) -> bool:
    """Tells whether what copies become by a map is copies again, given how many features the matrix reads."""
    if not isinstance(linear, ScaleMap):
        return isinstance(linear, CopiesMap | ReshapeMap | PadMap)
    # A scale that is the same but for the last axis, and whole times in what the matrix reads.
    shape = linear.scale().shape
    return math.prod(shape[:-1]) == 1 and features % (shape[-1] if len(shape) else 1) == 0


def _added_up(network: Network, chain: list[int], source: int, here: int) -> list[Node]:
    """The nodes that stand for a chain over node ``source``, the first at ``here``: what moves, and the matrix."""
    copies, last = network.nodes[chain[0]], network.nodes[chain[-1]]
    assert isinstance(copies, Linear) and isinstance(copies.map, CopiesMap) and isinstance(last, Linear)
    times = copies.map.copies
    made: list[Node] = []
    for index in chain[1:-1]:
        node = network.nodes[index]
        assert isinstance(node, Linear)
        if isinstance(node.map, ScaleMap):
            continue
        read, written = ((*shape[:-1], shape[-1] // times) for shape in (node.map.in_shape, node.map.out_shape))
        moved = PadMap(read, node.map.padding) if isinstance(node.map, PadMap) else ReshapeMap(read, written)
        made.append(replace(node, inputs=(source,), shape=written, map=moved, bias=None))
        source = here + len(made) - 1
    read = (*last.map.in_shape[:-1], last.map.in_shape[-1] // times)
    matrix = _matrix(last.map, _kernel(network, chain, copies.map), read)
    constant = _constant(network, chain, copies.map.in_shape)
    return [*made, replace(last, inputs=(source,), map=matrix, bias=constant)]


def _matrix(old: LinearMap, kernel: Callable[[], tf.Tensor], read: Shape) -> LinearMap:
    if isinstance(old, DenseMap):
        return DenseMap(kernel, read, old.out_shape[-1])
    assert isinstance(old, ConvMap)
    return old.with_kernel(kernel, read[-1])


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
            value = evaluate_node(network.nodes[index], [value], value)
        return value[0]

    return read
