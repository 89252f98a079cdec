"""The network: a small directed acyclic graph of a few node kinds, in topological order.

Bound propagation sees nothing but these nodes. Shapes leave out the batch; images are ``[height, width, channels]``.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from tfcert.activations import Activation
from tfcert.network.linear import LinearMap, Pads, ScaleMap, Shape, Source, cast_source
from tfcert.network.windows import gather_windows
from tfcert.parts import NamedParts
from tfcert.roundoff import Rounding
from tfcert.tracing import kept


@dataclass(frozen=True, eq=False, kw_only=True)
class Node:
    """A node: its name (of the Keras layer), the indices of its inputs, and the shape of its output.

    ``rounding`` is what bounds of it are charged for rounding; None where rounding is left out of account.
    ``uncharged`` says why that does not cover what the model computes for it, in words; "" where it does. A node that
    is ``formal`` is computed by no program: its value is said to be that of its formula in exact arithmetic.
    """

    name: str
    inputs: tuple[int, ...] = ()
    shape: Shape
    rounding: Rounding | None = None
    formal: bool = False
    uncharged: str = ""


@dataclass(frozen=True, eq=False, kw_only=True)
class Input(Node):
    """The network's single input."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Linear(Node):
    """``map(x) + bias``; ``bias`` reads a tensor that broadcasts against ``shape``, or is None.

    ``size_of_bias`` reads the sum of the sizes of the numbers that the bias is computed from, where these may cancel
    (what batch normalisation adds); None: the bias's own. ``computed`` is how many roundings there are in its weights,
    where these are computed from those of the model, by the program and again where they are read. ``folded`` is of a
    rounded network: how many terms the sum has that the program may fold the node into; 0: none. ``scales`` reads the
    scales that follow, which it may fold into the node's weights; they broadcast against ``shape``.
    """

    map: LinearMap
    bias: Source | None = None
    size_of_bias: Source | None = None
    computed: int = 0
    folded: int = 0
    scales: tuple[Source, ...] = ()

    def reading(self, change: Callable[[Source], Source]) -> Linear:
        """The same node with its weights read through what ``change`` makes of their sources."""
        bias, size = (None if part is None else change(part) for part in (self.bias, self.size_of_bias))
        scales = tuple(map(change, self.scales))
        return replace(self, map=self.map.reading(change), bias=bias, size_of_bias=size, scales=scales)


@dataclass(frozen=True, eq=False, kw_only=True)
class Elementwise(Node):
    """An activation, applied to each number."""

    activation: Activation


@dataclass(frozen=True, eq=False, kw_only=True)
class MaxPool(Node):
    """The largest entry of each window; padding never wins."""

    window: tuple[int, int]
    strides: tuple[int, int]
    padding: Pads = ((0, 0), (0, 0))


@dataclass(frozen=True, eq=False, kw_only=True)
class Add(Node):
    """The sum of its inputs, all of one shape."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Concatenate(Node):
    """Its inputs side by side along ``axis`` (an axis of ``shape``, the batch not counted)."""

    axis: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Multivariate(Node, ABC):
    """A nonlinear function each value of which depends on several numbers, of one input or of several.

    The node says what the function computes; how it is bounded is an entry of ``propagation/kinds.py``.

    Attributes:
        exact: whether it is an affine function of its :attr:`sources`, so that its facets say all of it.
    """

    exact: ClassVar[bool] = False

    @property
    def sources(self) -> tuple[int, ...]:
        """The inputs, first among them, that it is a function of; of others the bounds alone are asked for."""
        return self.inputs

    @property
    def asked(self) -> tuple[int, ...]:
        """The inputs, first among them, whose bounds are asked for."""
        return self.inputs

    @property
    def sized(self) -> tuple[int, ...]:
        """The inputs of which only the size matters."""
        return ()

    def reading(self, change: Callable[[Source], Source]) -> Multivariate:
        """The same node with what it reads, if anything, read through what ``change`` makes of it."""
        return self

    @abstractmethod
    def evaluate(self, inputs: Sequence[tf.Tensor]) -> tf.Tensor:
        """The function of its inputs, ``[batch, *shape]`` each."""

    @abstractmethod
    def deviation(self, inputs: Sequence[tf.Tensor], value: tf.Tensor) -> tf.Tensor:
        """The standard deviation of the rounding error that computing ``value`` makes, in units of the roundoff."""

    @abstractmethod
    def carried(self, inputs: Sequence[tf.Tensor], variances: Sequence[tf.Tensor]) -> tf.Tensor:
        """The variance of the value where the inputs have independent small errors of these variances."""

    @abstractmethod
    def lipschitz(self, norm: str) -> float | None:
        """By how much the value changes at most, relative to a change of all inputs, in a norm; None: by any amount."""


Nonlinear = Elementwise | MaxPool | Multivariate
"""The kinds that are relaxed, on bounds of their inputs."""


def entering(node: Node) -> tuple[int, ...]:
    """The inputs of a nonlinear node whose bounds are asked for."""
    return node.asked if isinstance(node, Multivariate) else node.inputs


@dataclass(frozen=True, eq=False)
class Network:
    """Nodes in topological order; the first is the only ``Input``, the last is the output.

    Attributes:
        nodes: the nodes.
        dtype: ``float32`` or ``float64``: the type that the model computes in and that its bounds are computed in.
        notes: what a reader of a report should know (a softmax head that was peeled off, say).
        weights: reads every weight tensor, for checks that they are finite.
        peeled: whether the model's outputs are the softmax of the network's.
        parts: of a model with several inputs, which numbers of the network's input, a vector, are which; None for one.
        applied: of a joint network the number of outputs of each application: its first outputs, one after the other.
        precomputed: what stands in it that the model computes when it runs (of constants, of copies), in words: its
            rounding is not that of any node; "" where nothing does.
        cast_from: of a copy in another type the type that the model computes in; None where that is ``dtype``.
    """

    nodes: tuple[Node, ...]
    dtype: tf.DType = tf.float32
    notes: tuple[str, ...] = ()
    weights: tuple[Source, ...] = field(default=(), repr=False)
    peeled: bool = False
    parts: NamedParts | None = None
    applied: tuple[int, ...] = ()
    precomputed: str = ""
    cast_from: tf.DType | None = None

    @property
    def deployed(self) -> tf.DType:
        """The type that the model computes in."""
        return self.cast_from or self.dtype

    @property
    def input_shape(self) -> Shape:
        return self.nodes[0].shape

    @property
    def output_shape(self) -> Shape:
        return self.nodes[-1].shape

    @property
    def output(self) -> int:
        """The index of the output node."""
        return len(self.nodes) - 1

    def bounded(self) -> tuple[int, ...]:
        """The nodes whose values enter a nonlinearity, in order: those that need pre-activation bounds."""
        return tuple(sorted({i for node in self.nodes if isinstance(node, Nonlinear) for i in entering(node)}))

    def sized(self) -> frozenset[int]:
        """Those of the :meth:`bounded` nodes of which bounds of any width do: only their size matters, for rounding."""
        loose, others = set[int](), set[int]()
        for node in self.nodes:
            if isinstance(node, Nonlinear):
                sized = node.sized if isinstance(node, Multivariate) else ()
                loose.update(sized)
                others.update(i for i in entering(node) if i not in sized)
        return frozenset(loose - others)

    def neurons(self) -> int:
        """The number of values that enter an activation, with the outputs (the papers' "hidden nodes")."""
        bent = [n for n in self.nodes if isinstance(n, Elementwise) and n.activation.edges is None]
        sizes = [int(np.prod(node.shape)) for node in bent]
        return sum(sizes) + int(np.prod(self.output_shape))

    @functools.cached_property
    def readers(self) -> tuple[tuple[int, ...], ...]:
        """Of each node the nodes that read it, as often as they do."""
        found: list[list[int]] = [[] for _ in self.nodes]
        for index, node in enumerate(self.nodes):
            for source in node.inputs:
                found[source].append(index)
        return tuple(map(tuple, found))

    def ancestors(self, index: int) -> frozenset[int]:
        """The nodes that node ``index`` depends on, itself included."""
        found, stack = set(), [index]
        while stack:
            node = stack.pop()
            if node not in found:
                found.add(node)
                stack.extend(self.nodes[node].inputs)
        return frozenset(found)

    def finite(self) -> tf.Tensor:
        """Tells whether every weight is finite, read now."""
        return tf.reduce_all([tf.reduce_all(tf.math.is_finite(read())) for read in self.weights])

    def astype(self, dtype: tf.DType) -> Network:
        """The same network, reading the same live weights, computed in another type; one object for each type."""
        if dtype == self.dtype:
            return self

        def cast() -> Network:
            copied = self._reading(lambda source: cast_source(source, dtype))
            return replace(copied, dtype=dtype, cast_from=self.deployed)

        return kept(self, ("cast", dtype), cast)

    @property
    def rounding(self) -> Rounding | None:
        """What bounds of the network's values are charged for rounding; None: nothing."""
        return self.nodes[0].rounding

    def rounded(self, rounding: Rounding | None) -> Network:
        """The same network, whose bounds are of its values as computed with this rounding; one object for each.

        Bounds of such a network hold although they are computed in floating point themselves. None leaves rounding out
        of account.
        """
        if rounding == self.rounding:
            return self

        def charged() -> Network:
            scales = self.scales()
            rounded = (
                replace(node, **self.rounds(node, rounding, scales[index])) for index, node in enumerate(self.nodes)
            )
            return replace(self, nodes=tuple(rounded))

        return kept(self, ("rounded", rounding), charged)

    def scales(self) -> list[list[Source]]:
        """By node the scales right behind it, one after another, of every node that reads it."""
        found: list[list[Source]] = [[] for _ in self.nodes]
        for node in self.nodes:
            if not isinstance(node, Linear) or not isinstance(node.map, ScaleMap) or node.formal:
                continue
            index = node.inputs[0]
            while isinstance(before := self.nodes[index], Linear):
                found[index].append(node.map.scale)
                if not isinstance(before.map, ScaleMap):
                    break
                index = before.inputs[0]
        return found

    def rounds(self, node: Node, rounding: Rounding | None, scales: Sequence[Source]) -> dict[str, Any]:
        """What is said of a node's rounding: see :class:`Node` and :class:`Linear`."""
        if node.formal and rounding is not None:
            rounding = replace(rounding, deployed=0.0)
        found: dict[str, Any] = {"rounding": rounding}
        if isinstance(node, Linear):
            found |= {"folded": 0, "scales": tuple(scales)}
            before: Node = node
            while isinstance(before, Linear) and not (before.map.mixes or before.map.moves):  # it scales
                before = self.nodes[before.inputs[0]]
            if before is not node and isinstance(before, Linear) and not before.map.moves:
                found["folded"] = before.map.terms() + 1
        return found

    def with_weights_read(self) -> Network:
        """The same network, with every weight read once, now: for one pass, which reads each many times.

        Batch normalisation computes its scale from four variables wherever it is read, and a graph keeps each of these
        reads. What is read belongs to the graph that is being traced, so the network that this returns must not outlive
        the pass.
        """
        known: dict[Source, Source] = {}

        def once(source: Source) -> Source:
            if source not in known:
                value = source()
                known[source] = lambda: value
            return known[source]

        whole = self._reading(once)
        return replace(whole, weights=tuple(map(once, self.weights)))

    def _reading(self, change: Callable[[Source], Source]) -> Network:
        """The same network with its maps' weights and biases read through what ``change`` makes of their sources."""

        def read(node: Node) -> Node:
            if isinstance(node, Multivariate):
                return node.reading(change)
            return node.reading(change) if isinstance(node, Linear) else node

        return replace(self, nodes=tuple(map(read, self.nodes)))

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """The network's output ``[batch, *output_shape]``, computed from the nodes."""
        return self.values(x)[-1]

    def values(self, x: tf.Tensor) -> list[tf.Tensor]:
        """The value of every node, ``[batch, *shape]`` each."""
        found: list[tf.Tensor] = []
        for node in self.nodes:
            found.append(evaluate_node(node, [found[i] for i in node.inputs], x))
        return found


@tf.autograph.experimental.do_not_convert
def evaluate_node(node: Node, inputs: Sequence[tf.Tensor], x: tf.Tensor) -> tf.Tensor:
    """The value of one node, given the values of its inputs (and the network's input ``x``)."""
    match node:
        case Input():
            return tf.convert_to_tensor(x)
        case Linear():
            value = node.map.apply(inputs[0])
            return value if node.bias is None else value + node.bias()
        case Elementwise():
            return node.activation.function(inputs[0])
        case MaxPool():
            return tf.reduce_max(gather_windows(inputs[0], node, fill=-np.inf), axis=3)
        case Add():
            return tf.add_n(list(inputs))
        case Concatenate():
            return tf.concat(list(inputs), axis=node.axis + 1)
        case Multivariate():
            return node.evaluate(inputs)
    raise TypeError(f"no rule to evaluate a {type(node).__name__} node")
