"""The network as layers of plain arrays: what a mixed-integer encoding reads.

Every run of affine nodes (dense, convolution, average pooling, batch norm, residual adds, joins, reshapes) becomes one
sparse affine map from the outputs of the nonlinear nodes before it: the product of the nodes' own matrices in float64.
"""

from __future__ import annotations

import hashlib
import math
import weakref
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf

from tfcert.activations import Activation
from tfcert.network.graph import (
    Add,
    Concatenate,
    Elementwise,
    Linear,
    MaxPool,
    Multivariate,
    Network,
    Node,
    Nonlinear,
    entering,
)
from tfcert.network.linear import Shape
from tfcert.network.sparse import Entries, numbered, product, sparse_identity, total
from tfcert.network.windows import gather_windows
from tfcert.roundoff import Rounding


@dataclass(frozen=True)
class Affine:
    """``sum of matrices @ values of earlier layers + offset``; layers by number, 0 is the input.

    ``off`` is by how much the numbers, as a program computes them, may differ from that; None: not at all.
    """

    matrices: Mapping[int, Entries]
    offset: np.ndarray
    off: np.ndarray | None = None

    @property
    def size(self) -> int:
        return len(self.offset)


@dataclass(frozen=True)
class CurvedActivation:
    """Any activation, as a function to be enclosed by lines.

    Attributes:
        shape: of the neurons, whose functions may differ.
    """

    activation: Activation
    shape: tuple[int, ...]

    def shaped(self, values: np.ndarray) -> tf.Tensor:
        """Numbers ``[..., size]`` as the activation takes them, ``[n, *shape]``."""
        return tf.reshape(tf.constant(values), [-1, *self.shape])


@dataclass(frozen=True)
class PiecewiseLinear:
    """A continuous function of straight pieces, the same or another for each neuron.

    Attributes:
        kinks: ``[k]``, in order.
        slopes: ``[k + 1, size]``.
        at_kink: ``[size]``, the value at the first kink.
        curve: the function, as one that is enclosed.
    """

    kinks: np.ndarray
    slopes: np.ndarray
    at_kink: np.ndarray
    curve: CurvedActivation

    @property
    def is_ramp(self) -> bool:
        """Tells whether it is ReLU, which programs compute exactly."""
        straight = (self.slopes[0] == 0).all() and (self.slopes[-1] == 1).all() and (self.at_kink == 0).all()
        return self.kinks.tolist() == [0.0] and bool(straight)


@dataclass(frozen=True)
class Steps:
    """A staircase, the same or another for each number: the middle of the cell that it lies in.

    Attributes:
        edges: ``[1 or size, cells + 1]``: a cell is from its edge on to below the next; the outermost ones go on.
            Infinite at the end of rows with fewer cells.
        below: ``[1 or size, cells + 1]``: the largest input of the network below each edge that is not denormal.
    """

    edges: np.ndarray
    below: np.ndarray

    @property
    def most(self) -> int:
        """The number of cells of the row that has most."""
        return self.edges.shape[1] - 1

    def middle(self, cell: np.ndarray) -> np.ndarray:
        """The middle of a cell of each number; nothing is said of cells that a row does not have."""
        return 0.5 * self.at(cell) + 0.5 * self.at(cell + 1)

    def at(self, edge: np.ndarray | int) -> np.ndarray:
        """The edge of that number in each row, ``[size]``."""
        return self._of(self.edges, edge)

    def under(self, edge: np.ndarray | int) -> np.ndarray:
        """The largest input below the edge of that number in each row, ``[size]``."""
        return self._of(self.below, edge)

    def _of(self, table: np.ndarray, edge: np.ndarray | int) -> np.ndarray:
        edge = np.asarray(edge)
        return table[0, edge] if len(table) == 1 else table[np.arange(len(table)), np.broadcast_to(edge, len(table))]

    def cell(self, x: np.ndarray) -> np.ndarray:
        """The number of each cell, ``[size]``."""
        if len(self.edges) == 1:
            return np.searchsorted(self.edges[0, 1:-1], x, side="right")
        reached = (x[:, None] >= self.edges[:, 1:]).sum(axis=1)
        return np.minimum(reached, np.isfinite(self.edges).sum(axis=1) - 2)


@dataclass(frozen=True)
class Windows:
    """Maxima: ``[size, entries]`` numbers of the values that each one reads, -1 for none."""

    table: np.ndarray


@dataclass(frozen=True)
class Enclosed:
    """A function of several numbers: enclosed by its planes.

    Attributes:
        node: the node.
        shapes: of its inputs.
    """

    node: Multivariate
    shapes: tuple[Shape, ...]

    @property
    def wanted(self) -> np.ndarray:
        """Marks the numbers that enter and that the node's values are a function of."""
        sizes = [math.prod(shape) for shape in self.shapes]
        return np.arange(sum(sizes)) < sum(sizes[: len(self.node.sources)])

    def apart(self, entering: np.ndarray) -> list[np.ndarray]:
        """The numbers that enter, ``[size]``, as the inputs that they are."""
        ends = np.cumsum([math.prod(shape) for shape in self.shapes])[:-1]
        return [part.reshape(shape) for part, shape in zip(np.split(entering, ends), self.shapes, strict=True)]


LayerKind = PiecewiseLinear | Steps | CurvedActivation | Windows | Enclosed


@dataclass(frozen=True)
class Layer:
    """One nonlinear node of the network.

    Attributes:
        name, index: of the node.
        sources: the nodes (by index) whose values it reads.
        before: these values, one after another, as an affine function of earlier layers.
        kind: what it does to them.
    """

    name: str
    index: int
    sources: tuple[int, ...]
    before: Affine
    kind: LayerKind


@dataclass(frozen=True)
class PiecewiseNetwork:
    """A network as layers: layer 0 is the input, layer i is ``layers[i - 1]``.

    Attributes:
        network: the same network in float64.
        deployed: the network as it is, whose rounding counts.
        layers: its nonlinear nodes, in order.
        output: the output.
        targets: the nodes whose values the output is, one after another.
    """

    network: Network = field(repr=False)
    deployed: Network = field(repr=False)
    layers: tuple[Layer, ...]
    output: Affine
    targets: tuple[int, ...]

    @property
    def exact(self) -> bool:
        """Tells whether an encoding says exactly what the network computes: nothing curved, nothing rounded."""
        return self.straight and self.network.rounding is None

    @property
    def straight(self) -> bool:
        """Tells whether nothing is curved: but for rounding, an encoding says exactly what the network computes."""
        bent = [layer.kind for layer in self.layers]
        enclosed = (kind for kind in bent if isinstance(kind, Enclosed))
        return not any(isinstance(kind, CurvedActivation) for kind in bent) and all(k.node.exact for k in enclosed)

    def before(self, x: np.ndarray) -> list[np.ndarray]:
        """The values that enter each layer at inputs ``x`` ``[batch, *input]``: ``[batch, size]`` each."""
        values = [value.numpy().reshape(len(x), -1) for value in self.network.values(tf.constant(x, tf.float64))]
        return [np.concatenate([values[i] for i in layer.sources], axis=1) for layer in self.layers]

    def entering(self, known: Mapping[int, tuple[np.ndarray, np.ndarray]]) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        """Bounds of what enters each layer ``[size]``, given bounds of one sample's nodes, of any shape."""

        def end(layer: Layer, which: int) -> np.ndarray:
            return np.concatenate([known[i][which].reshape(-1) for i in layer.sources])

        return tuple((end(layer, 0), end(layer, 1)) for layer in self.layers)

    def by_node(self, layers: Sequence[tuple[np.ndarray, np.ndarray]]) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """Bounds of the nodes that enter layers ``[1, *shape]``, given bounds of what enters each layer."""
        found = dict[int, tuple[np.ndarray, np.ndarray]]()
        for layer, (low, high) in zip(self.layers, layers, strict=True):
            shapes = [self.network.nodes[i].shape for i in layer.sources]
            cuts = np.cumsum([math.prod(shape) for shape in shapes])[:-1]
            for i, shape, *pair in zip(layer.sources, shapes, np.split(low, cuts), np.split(high, cuts), strict=True):
                ends = pair[0].reshape(1, *shape), pair[1].reshape(1, *shape)
                known = found.get(i, ends)
                found[i] = np.maximum(known[0], ends[0]), np.minimum(known[1], ends[1])
        return found


def flatten(network: Network, rounding: Rounding | None = None) -> PiecewiseNetwork:
    """Reads a network, weights and all, as it stands now.

    Its matrices are kept with the network, and read anew where a weight has changed since. With ``rounding`` what is
    said of it is about its values as computed.

    Raises:
        ValueError: a weight is NaN or infinite.
    """
    if not bool(network.finite()):
        raise ValueError("a weight of the model is NaN or infinite: nothing can be encoded")
    wide, digest = network.astype(tf.float64).rounded(rounding), _digest(network)
    known = _MATRICES.get(network)
    if known is None or known[0] != digest:
        known = _MATRICES[network] = digest, _matrices(wide)
    maps, output = known[1]
    layers = tuple(
        Layer(node.name, index, entering(node), before, _kind(wide, index))
        for (index, node), before in zip(_bent(wide), maps, strict=True)
    )
    return PiecewiseNetwork(wide, network, layers, output, (wide.output,))


_MATRICES: weakref.WeakKeyDictionary[Network, tuple[bytes, tuple[list[Affine], Affine]]] = weakref.WeakKeyDictionary()
"""Of each network a digest of its weights, and what :func:`_matrices` made of them."""


def _digest(network: Network) -> bytes:
    """Equal as long as no weight changes."""
    found = hashlib.blake2b()
    for read in network.weights:
        found.update(read().numpy().tobytes())
    return found.digest()


def _bent(network: Network) -> list[tuple[int, Node]]:
    """The nonlinear nodes with their numbers, in order."""
    return [(index, node) for index, node in enumerate(network.nodes) if isinstance(node, Nonlinear)]


def _matrices(network: Network) -> tuple[list[Affine], Affine]:
    """The inputs of each nonlinear node, and the output, as affine functions of the nonlinear nodes before."""
    number, widths = {0: 0}, {0: math.prod(network.input_shape)}
    found: list[Affine] = []
    for index, node in _bent(network):
        parts = [_affine(network, source, number) for source in entering(node)]
        found.append(parts[0] if len(parts) == 1 else _beside(parts, widths))
        number[index] = len(found)
        widths[len(found)] = math.prod(node.shape)
    return found, _affine(network, network.output, number)


def _affine(network: Network, target: int, number: Mapping[int, int]) -> Affine:
    """The value of a node as an affine function of those in ``number``: matrices multiplied node by node."""
    values: dict[int, Affine] = {}
    widths = {place: math.prod(network.nodes[index].shape) for index, place in number.items()}
    for index in between(network, target, number):
        node = network.nodes[index]
        if index in number:
            values[index] = Affine(
                {number[index]: sparse_identity(widths[number[index]])}, np.zeros(widths[number[index]])
            )
        else:
            values[index] = _node(node, [values[i] for i in node.inputs], widths)
    return values[target]


def _node(node: Node, inputs: Sequence[Affine], widths: Mapping[int, int]) -> Affine:
    """The value of an affine node, given those of its inputs; ``widths`` are the sizes of the layers."""
    size = math.prod(node.shape)
    match node:
        case Linear():
            (source,), outer = inputs, node.map.entries()
            matrices = {k: product(outer, m, source.size, widths[k]) for k, m in source.matrices.items()}
            bias = 0.0 if node.bias is None else np.broadcast_to(node.bias().numpy(), node.shape).ravel()
            return Affine(matrices, outer.apply(source.offset, size) + bias)
        case Add():
            places = [np.arange(size)] * len(inputs)
        case Concatenate():
            lengths = [i.size * node.shape[node.axis] // size for i in inputs]
            parts = np.split(np.arange(size).reshape(node.shape), np.cumsum(lengths)[:-1], axis=node.axis)
            places = [part.ravel() for part in parts]
        case _:
            raise TypeError(f"no rule to flatten a {type(node).__name__} node")
    return _joined(inputs, places, size, widths)


def _beside(parts: Sequence[Affine], widths: Mapping[int, int]) -> Affine:
    """Affine functions one after another."""
    starts = np.cumsum([0, *(part.size for part in parts)])
    places = [np.arange(start, start + part.size) for part, start in zip(parts, starts[:-1], strict=True)]
    return _joined(parts, places, int(starts[-1]), widths)


def _joined(inputs: Sequence[Affine], places: Sequence[np.ndarray], size: int, widths: Mapping[int, int]) -> Affine:
    """Affine functions at their places among ``size`` numbers; those at one place are added up."""
    layers = sorted({k for source in inputs for k in source.matrices})
    matrices = {
        k: total([s.matrices[k].moved(p) for s, p in zip(inputs, places, strict=True) if k in s.matrices], widths[k])
        for k in layers
    }
    offset = np.zeros(size)
    for source, place in zip(inputs, places, strict=True):
        offset[place] += source.offset
    return Affine(matrices, offset)


def between(network: Network, target: int, stops: Collection[int]) -> list[int]:
    """The nodes from ``stops`` (included) to the target, in order."""
    found, stack = set(), [target]
    while stack:
        node = stack.pop()
        if node not in found:
            found.add(node)
            if node not in stops:
                stack.extend(network.nodes[node].inputs)
    return sorted(found)


def _kind(network: Network, index: int) -> LayerKind:
    node = network.nodes[index]
    if isinstance(node, Multivariate):
        return Enclosed(node, tuple(network.nodes[i].shape for i in node.asked))
    if isinstance(node, MaxPool):
        source = network.nodes[node.inputs[0]]
        windows = gather_windows(tf.constant(numbered(source.shape)), node, fill=0.0).numpy()[0]
        table = np.moveaxis(windows, 2, 3).reshape(int(np.prod(node.shape)), -1)
        return Windows(table.astype(np.int64) - 1)
    assert isinstance(node, Elementwise)
    kinks = node.activation.kinks
    if node.activation.edges is not None:
        edges = node.activation.edges().numpy()  # in the type of the inputs, which are compared with them
        edges = edges.reshape(-1, edges.shape[-1])
        edges = edges[:, : np.isfinite(edges).sum(axis=1).max()]
        below = np.nextafter(edges, -edges.dtype.type(np.inf))
        least = np.finfo(edges.dtype).tiny  # what is smaller may be taken for 0, and is in no cell that this is not in
        below = np.where(np.abs(below) < least, -least, below)
        return Steps(edges.astype(np.float64), below.astype(np.float64))
    if kinks is None:
        return CurvedActivation(node.activation, node.shape)
    points = np.array([kinks[0] - 1.0, *kinks, kinks[-1] + 1.0])
    grid = np.broadcast_to(points.reshape(-1, *[1] * len(node.shape)), (len(points), *node.shape))
    values = node.activation.function(tf.constant(grid)).numpy().reshape(len(points), -1)
    slopes = np.diff(values, axis=0) / np.diff(points)[:, None]
    return PiecewiseLinear(np.array(kinks), slopes, values[1], CurvedActivation(node.activation, node.shape))
