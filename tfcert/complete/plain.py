"""The network as layers of plain arrays: what a mixed-integer encoding reads.

Every run of affine nodes (dense, convolution, average pooling, batch norm, residual adds, joins, reshapes) becomes one
sparse affine map from the outputs of the nonlinear nodes before it, found by feeding unit vectors: exact to float64.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf

from tfcert.activations import Activation
from tfcert.network.graph import Elementwise, Linear, MaxPool, Network, evaluate
from tfcert.network.windows import gather_windows

_CHUNK = 512
"""Unit vectors that are fed at a time."""


@dataclass(frozen=True)
class Entries:
    """A sparse matrix: ``value`` at ``(row, column)``; rows are outputs, columns the flattened values of a layer."""

    row: np.ndarray
    column: np.ndarray
    value: np.ndarray


@dataclass(frozen=True)
class Affine:
    """``sum of matrices @ values of earlier layers + offset``; layers by number, 0 is the input."""

    matrices: Mapping[int, Entries]
    offset: np.ndarray

    @property
    def size(self) -> int:
        return len(self.offset)


@dataclass(frozen=True)
class Pieces:
    """A continuous function of straight pieces, the same or another for each neuron.

    Attributes:
        kinks: ``[k]``, in order.
        slopes: ``[k + 1, size]``.
        at_kink: ``[size]``, the value at the first kink.
    """

    kinks: np.ndarray
    slopes: np.ndarray
    at_kink: np.ndarray


@dataclass(frozen=True)
class Steps:
    """A staircase, the same for each number: the middle of the cell that it lies in.

    Attributes:
        edges: ``[cells + 1]``: a cell is from its edge on to below the next; the outermost ones go on.
        below: ``[cells + 1]``: the largest input of the network below each edge that is not denormal.
    """

    edges: np.ndarray
    below: np.ndarray

    @property
    def middles(self) -> np.ndarray:
        return 0.5 * self.edges[:-1] + 0.5 * self.edges[1:]

    def cell(self, x: np.ndarray) -> np.ndarray:
        """The number of each cell."""
        return np.searchsorted(self.edges[1:-1], x, side="right")


@dataclass(frozen=True)
class Curve:
    """Any other activation: encoded by pieces that enclose it."""

    activation: Activation


@dataclass(frozen=True)
class Windows:
    """Maxima: ``[size, entries]`` numbers of the values that each one reads, -1 for none."""

    table: np.ndarray


@dataclass(frozen=True)
class Layer:
    """One nonlinear node of the network.

    Attributes:
        name: of the node.
        source: the node (by index) whose value it reads.
        before: that value, as an affine function of earlier layers.
        kind: what it does to it.
    """

    name: str
    source: int
    before: Affine
    kind: Pieces | Steps | Curve | Windows


@dataclass(frozen=True)
class Plain:
    """A network as layers: layer 0 is the input, layer i is ``layers[i - 1]``.

    Attributes:
        network: the same network in float64.
        deployed: the network as it is, whose rounding counts.
        layers: its nonlinear nodes, in order.
        output: the output.
    """

    network: Network = field(repr=False)
    deployed: Network = field(repr=False)
    layers: tuple[Layer, ...]
    output: Affine

    @property
    def exact(self) -> bool:
        """Whether an encoding says exactly what the network computes: no curved activation."""
        return not any(isinstance(layer.kind, Curve) for layer in self.layers)

    def before(self, x: np.ndarray) -> list[np.ndarray]:
        """What enters each layer at inputs ``x`` ``[batch, *input]``: ``[batch, size]`` each."""
        values = self.network.values(tf.constant(x, tf.float64))
        return [values[layer.source].numpy().reshape(len(x), -1) for layer in self.layers]


def plain(network: Network) -> Plain:
    """Reads a network, weights and all, as it stands now.

    Raises:
        ValueError: a weight is NaN or infinite.
    """
    if not bool(network.finite()):
        raise ValueError("a weight of the model is NaN or infinite: nothing can be encoded")
    wide = network.astype(tf.float64)
    number = {0: 0}
    layers: list[Layer] = []
    for index, node in enumerate(wide.nodes):
        if isinstance(node, Elementwise | MaxPool):
            (source,) = node.inputs
            layers.append(Layer(node.name, source, _affine(wide, source, number), _kind(wide, index)))
            number[index] = len(layers)
    return Plain(wide, network, tuple(layers), _affine(wide, wide.output, number))


def _affine(network: Network, target: int, number: Mapping[int, int]) -> Affine:
    """The value of a node as an affine function of those in ``number``."""
    needed = _between(network, target, number)
    sources = [i for i in needed if i in number]
    zeros = {i: tf.zeros([1, *network.nodes[i].shape], tf.float64) for i in sources}
    offset = _run(network, needed, target, zeros, bias=True).numpy().reshape(-1)
    matrices: dict[int, Entries] = {}
    for source in sources:
        size = int(np.prod(network.nodes[source].shape))
        rows, columns, values = [], [], []
        for first in range(0, size, _CHUNK):
            count = min(_CHUNK, size - first)
            units = np.zeros((count, size))
            units[np.arange(count), np.arange(first, first + count)] = 1.0
            given = {i: tf.repeat(z, count, axis=0) for i, z in zeros.items()}
            given[source] = tf.constant(units.reshape(count, *network.nodes[source].shape))
            images = _run(network, needed, target, given, bias=False).numpy().reshape(count, -1)
            unit, output = np.nonzero(images)
            rows.append(output)
            columns.append(unit + first)
            values.append(images[unit, output])
        matrices[number[source]] = Entries(np.concatenate(rows), np.concatenate(columns), np.concatenate(values))
    return Affine(matrices, offset)


def _between(network: Network, target: int, stops: Mapping[int, int]) -> list[int]:
    """The nodes from ``stops`` (included) to the target, in order."""
    found, stack = set(), [target]
    while stack:
        node = stack.pop()
        if node not in found:
            found.add(node)
            if node not in stops:
                stack.extend(network.nodes[node].inputs)
    return sorted(found)


def _run(network: Network, needed: list[int], target: int, given: Mapping[int, tf.Tensor], bias: bool) -> tf.Tensor:
    """The value of an affine node where those it depends on have the ``given`` values."""
    values = dict(given)
    for index in needed:
        if index in values:
            continue
        node = network.nodes[index]
        inputs = [values[i] for i in node.inputs]
        if isinstance(node, Linear) and not bias:
            values[index] = node.map.apply(inputs[0])
        else:
            value = evaluate(node, inputs, inputs[0])
            values[index] = tf.broadcast_to(value, [value.shape[0], *node.shape])
    return values[target]


def _kind(network: Network, index: int) -> Pieces | Steps | Curve | Windows:
    node = network.nodes[index]
    if isinstance(node, MaxPool):
        source = network.nodes[node.inputs[0]]
        numbers = np.arange(1, int(np.prod(source.shape)) + 1, dtype=np.float64).reshape(1, *source.shape)
        windows = gather_windows(tf.constant(numbers), node, fill=0.0).numpy()[0]
        table = np.moveaxis(windows, 2, 3).reshape(int(np.prod(node.shape)), -1)
        return Windows(table.astype(np.int64) - 1)
    assert isinstance(node, Elementwise)
    kinks = node.activation.kinks
    if node.activation.edges is not None:
        edges = node.activation.edges().numpy()  # in the type of the inputs, which are compared with them
        edges = edges[np.isfinite(edges)]
        below = np.nextafter(edges, -edges.dtype.type(np.inf))
        least = np.finfo(edges.dtype).tiny  # what is smaller may be taken for 0, and is in no cell that this is not in
        below = np.where(np.abs(below) < least, -least, below)
        return Steps(edges.astype(np.float64), below.astype(np.float64))
    if kinks is None:
        return Curve(node.activation)
    points = np.array([kinks[0] - 1.0, *kinks, kinks[-1] + 1.0])
    grid = np.broadcast_to(points.reshape(-1, *[1] * len(node.shape)), (len(points), *node.shape))
    values = node.activation.function(tf.constant(grid)).numpy().reshape(len(points), -1)
    slopes = np.diff(values, axis=0) / np.diff(points)[:, None]
    return Pieces(np.array(kinks), slopes, values[1])
