"""Related networks: the same one at two points, or two of one architecture, with their differences as nodes.

Bounds of ``f(a) - g(b)`` from bounds of ``f(a)`` and of ``g(b)`` are as wide as both together, however close the two
are. Where layers of both correspond, the difference of two neurons follows from the differences before it:
``W x - V y = W (x - y) + (W - V) y``, and an activation's difference lies between two multiples of its argument's
(ReluDiff, Paulsen et al. 2020; NeuroDiff, Paulsen et al. 2020; VeryDiff, Teuber et al. 2024; for two points of one
network ITNE, Wang et al. 2022). Here each such difference is a node, so that every pass, program and search takes it.
The nodes of the network itself stay as they are, with their numbers.

Of a rounded network a difference is that of what the program computes. The affine nodes of differences are formulas
then, which nothing computes, and what rounding adds to either side is a node of its own, beside them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfcert.activations import Activation
from tfcert.network.contractions import EinsumMap
from tfcert.network.difference import Difference, Residuals
from tfcert.network.graph import Add, Concatenate, Elementwise, Input, Linear, Network, Node
from tfcert.network.linear import Convolution, DenseMap, LinearMap, ScaleMap, Shape, Source
from tfcert.network.moves import IndexMap
from tfcert.network.simplify import WrittenNumbers, same
from tfcert.tracing import kept

_LINEAR_IN_WEIGHTS = (DenseMap, Convolution, ScaleMap, EinsumMap)
"""Maps that, with the difference of two weights, are the difference of the maps."""


class Pair(NamedTuple):
    """Two applications whose outputs are subtracted: where those of each begin, and how many there are."""

    first: int
    second: int
    size: int


@dataclass(frozen=True, eq=False)
class Related:
    """A network of several applications, and the differences of related ones.

    Attributes:
        network: computes the outputs of the network itself, then those of each pair's difference. Its first nodes are
            those of the network itself.
        outputs: how many outputs the network itself has.
        pairs: whose outputs are subtracted.
    """

    network: Network
    outputs: int
    pairs: tuple[Pair, ...]

    def plain(self, rows: tf.Tensor) -> tf.Tensor:
        """Rows ``[..., outputs]`` over the network itself, as rows over this one."""
        extra = sum(pair.size for pair in self.pairs)
        return tf.concat([rows, tf.zeros([*tf.unstack(tf.shape(rows)[:-1]), extra], rows.dtype)], axis=-1)

    def matched(self, rows: tf.Tensor) -> tf.Tensor:
        """The same rows, in which as much as possible of ``c f(a) - e g(b)`` stands over the difference."""
        left, found = rows, list[tf.Tensor]()
        for first, second, size in self.pairs:
            ours, theirs = left[..., first : first + size], left[..., second : second + size]
            # What is left of the larger is one rounded sum, so that both subtractions after it are exact (Dekker 1971).
            mine, some = tf.abs(ours) >= tf.abs(theirs), ours * theirs < 0
            rest = ours + theirs
            share = tf.where(mine, ours - rest, rest - theirs)
            share = tf.where(some, share, tf.zeros_like(share))
            parts = list(tf.split(left, [first, size, second - first - size, size, -1], axis=-1))
            parts[1] = tf.where(mine & some, rest, ours - share)
            parts[3] = tf.where(some & ~mine, rest, theirs + share)
            left, found = tf.concat(parts, axis=-1), [*found, share]
        return tf.concat([left, *found], axis=-1)

    def concerns(self, rows: np.ndarray) -> bool:
        """Tells whether any of the rows ``[..., outputs]`` is about a difference."""
        return any(
            bool((rows[..., first : first + size] * rows[..., second : second + size] < 0).any())
            for first, second, size in self.pairs
        )


def related(network: Network) -> Related | None:
    """The network with the differences of its related applications; None where there are none.

    Made once for a network. Applications are related where an activation of one corresponds to one of the other.
    """
    if len(network.applied) < 2:
        return None
    rounded = network.rounding is not None
    found: Related | None = kept(network, "related", lambda: _Differences(network.rounded(None), rounded).related())
    if found is None or not rounded:
        return found
    return replace(found, network=found.network.rounded(network.rounding))


class _Gap(NamedTuple):
    """A difference of two nodes.

    Attributes:
        node: where it is computed; None where it is zero.
        bare: whether it is the two nodes' own values, subtracted: no more is known of it than of these.
    """

    node: int | None
    bare: bool = False


_ZERO = _Gap(None)


class _Differences:
    """The nodes of a network, and after them the differences of some: where it is ``rounded``, of computed values."""

    def __init__(self, network: Network, rounded: bool):
        self._network, self._rounded = network, rounded
        self._nodes = list(network.nodes)
        self._known: dict[tuple[int, int], _Gap] = {}
        self._minus = WrittenNumbers(np.array(-1, network.dtype.as_numpy_dtype))
        self._number = {id(node): number for number, node in enumerate(network.nodes)}

    def related(self) -> Related | None:
        network, pairs, parts = self._network, [], [self._network.output]
        for (a, first), (b, second) in itertools.combinations(self._applications(), 2):
            shape = network.nodes[a].shape
            if shape != network.nodes[b].shape:
                continue
            gap = self._gap(a, b)
            if gap.node is not None and not gap.bare:
                pairs.append(Pair(first, second, math.prod(shape)))
                parts.append(gap.node)
        if not any(isinstance(node, Difference) for node in self._nodes):
            return None
        size = network.output_shape[0]
        total = size + sum(pair.size for pair in pairs)
        self._nodes.append(Concatenate(name="with differences", inputs=tuple(parts), shape=(total,), axis=0))
        whole = replace(network, nodes=tuple(self._nodes), applied=())
        return Related(whole, size, tuple(pairs))

    def _applications(self) -> list[tuple[int, int]]:
        """The node of each application's outputs, and where they begin; none where they are not side by side."""
        output, found, start = self._network.nodes[self._network.output], [], 0
        if not isinstance(output, Concatenate):
            return []
        for source, size in zip(output.inputs, self._network.applied, strict=False):
            if self._network.nodes[source].shape != (size,):
                return []
            found.append((source, start))
            start += size
        return found

    def _gap(self, a: int, b: int) -> _Gap:
        """The difference of two nodes of one shape."""
        if a == b:
            return _ZERO
        if (a, b) not in self._known:
            self._known[a, b] = self._found(self._nodes[a], self._nodes[b]) or self._bare(a, b)
        return self._known[a, b]

    def _found(self, a: Node, b: Node) -> _Gap | None:
        """The difference by those of the nodes' inputs; None where these do not correspond."""
        ours, theirs = _places(a), _places(b)
        if ours is not None and theirs is not None:
            return self._of_inputs(ours, theirs)
        if type(a) is not type(b) or a.shape != b.shape or len(a.inputs) != len(b.inputs):
            return None
        shapes = [[self._nodes[i].shape for i in node.inputs] for node in (a, b)]
        if shapes[0] != shapes[1]:
            return None
        match a, b:
            case Linear(), Linear():
                return self._linear(a, b)
            case Elementwise(), Elementwise():
                return self._activation(a, b)
            case (Add(), Add()) | (Concatenate(), Concatenate()):
                return self._joined(a, b)
        return None

    def _of_inputs(self, a: np.ndarray, b: np.ndarray) -> _Gap:
        """The difference of numbers of the input; those that are one number differ by nothing."""
        if np.array_equal(a, b):
            return _ZERO
        sides = []
        for places in (a, b):
            index = IndexMap(self._network.input_shape, np.where(a == b, -1, places))
            sides.append(self._append(Linear(name="point", inputs=(0,), shape=places.shape, map=index)))
        return _Gap(self._minus_of(*sides))

    def _linear(self, a: Linear, b: Linear) -> _Gap | None:
        inner = self._gap(a.inputs[0], b.inputs[0])
        if inner.bare:
            return None
        alike = _described(a.map) == _described(b.map)
        if not alike and not _differ_by_weights(a.map, b.map):
            return None
        bias = None if same(a.bias) == same(b.bias) else _bias_change(a, b)
        name, terms = f"{a.name} - {b.name}", []
        if inner.node is not None:
            own = bias if alike else None
            terms.append(self._formula(name, (inner.node,), a.shape, a.map, own))
        if not alike:
            terms.append(self._formula(name, b.inputs, a.shape, _change(a.map, b.map), bias))
        elif inner.node is None and bias is not None:
            nothing = IndexMap(self._network.input_shape, np.full(a.shape, -1, np.int64))
            terms.append(self._formula(name, (0,), a.shape, nothing, bias))
        moved = a.map.moves and b.map.moves and a.bias is None and b.bias is None
        terms += [] if moved else self._residuals(a, b)
        return self._total(name, terms, a.shape)

    def _formula(self, name: str, inputs: tuple[int, ...], shape: Shape, linear: LinearMap, bias: Source | None) -> int:
        """A linear node that no program computes."""
        return self._append(Linear(name=name, inputs=inputs, shape=shape, map=linear, bias=bias, formal=True))

    def _total(self, name: str, terms: Sequence[int], shape: Shape) -> _Gap:
        """The difference that is a sum of these nodes."""
        if len(terms) < 2:
            return _Gap(terms[0]) if terms else _ZERO
        return _Gap(self._append(Add(name=name, inputs=tuple(terms), shape=shape, formal=True)))

    def _residuals(self, a: Linear | Add, b: Linear | Add) -> list[int]:
        """What rounding adds to the difference of two nodes, if it is asked for."""
        if not self._rounded:
            return []
        name = f"rounding of {a.name} - {b.name}"
        behind = self._network.scales()
        ours, theirs = (
            replace(node, **self._network.rounds(node, None, behind[self._number[id(node)]])) for node in (a, b)
        )
        inputs = (*a.inputs, *b.inputs)
        return [self._append(Residuals(name=name, inputs=inputs, shape=a.shape, pair=(ours, theirs)))]

    def _activation(self, a: Elementwise, b: Elementwise) -> _Gap | None:
        act = a.activation
        if act is not b.activation and _function(act) != _function(b.activation):
            return None
        if act.edges is not None:
            return None
        inner = self._gap(a.inputs[0], b.inputs[0])
        if inner.bare:
            return None
        if inner.node is None:
            exact = act.accuracy is not None and not act.accuracy.ulps
            return _ZERO if exact or not self._rounded else None
        inputs = (inner.node, self._number[id(a)], self._number[id(b)], a.inputs[0], b.inputs[0])
        name = f"{a.name} - {b.name}"
        return _Gap(self._append(Difference(name=name, inputs=inputs, shape=a.shape, activation=act)))

    def _joined(self, a: Node, b: Node) -> _Gap | None:
        if isinstance(a, Concatenate) and isinstance(b, Concatenate) and a.axis != b.axis:
            return None
        gaps = [self._gap(*pair) for pair in zip(a.inputs, b.inputs, strict=True)]
        nothing = all(gap.node is None for gap in gaps)
        if not nothing and all(gap.bare or gap.node is None for gap in gaps):
            return None
        name = f"{a.name} - {b.name}"
        if isinstance(a, Add) and isinstance(b, Add):
            terms = [gap.node for gap in gaps if gap.node is not None]
            return self._total(name, [*terms, *self._residuals(a, b)], a.shape)
        if nothing:
            return _ZERO
        beside = tuple(self._placed(gap, self._nodes[i].shape) for gap, i in zip(gaps, a.inputs, strict=True))
        return _Gap(beside[0] if len(beside) == 1 else self._append(replace(a, name=name, inputs=beside)))

    def _placed(self, gap: _Gap, shape: Shape) -> int:
        """Where a difference is computed, zeros included."""
        if gap.node is not None:
            return gap.node
        nothing = IndexMap(self._network.input_shape, np.full(shape, -1, np.int64))
        return self._append(Linear(name="no difference", inputs=(0,), shape=shape, map=nothing))

    def _bare(self, a: int, b: int) -> _Gap:
        return _Gap(self._minus_of(a, b), bare=True)

    def _minus_of(self, a: int, b: int) -> int:
        """``a - b``, as a node."""
        shape, name = self._nodes[a].shape, f"{self._nodes[a].name} - {self._nodes[b].name}"
        minus = ScaleMap(self._minus, shape)
        negative = self._formula(name, (b,), shape, minus, None)
        return self._append(Add(name=name, inputs=(a, negative), shape=shape, formal=True))

    def _append(self, node: Node) -> int:
        self._nodes.append(node)
        return len(self._nodes) - 1


def _places(node: Node) -> np.ndarray | None:
    """Which numbers of the input a node has; None of one that has anything else."""
    if isinstance(node, Input):
        return np.arange(math.prod(node.shape)).reshape(node.shape)
    reads = isinstance(node, Linear) and node.inputs == (0,) and node.bias is None
    if not reads or not isinstance(node, Linear) or not node.map.moves or len(node.map.in_shape) != 1:
        return None
    places = np.arange(1, node.map.in_shape[0] + 1)
    with tf.init_scope():
        moved = node.map.apply(tf.constant(places[None], tf.float64)).numpy()[0].astype(np.int64)
    return np.asarray(moved - 1)


def _described(linear: LinearMap) -> Hashable:
    """Equal for maps that are the same; what a map has only worked out is left aside."""
    known = {k: v for k, v in vars(linear).items() if not isinstance(getattr(type(linear), k, None), cached_property)}
    return type(linear), same(known)


def _nothing() -> tf.Tensor:
    raise AssertionError("the weights of a map that is only described are never read")


def _differ_by_weights(a: LinearMap, b: LinearMap) -> bool:
    """Tells whether two maps are one but for the weights that they read, in which they are linear."""
    if not (isinstance(a, _LINEAR_IN_WEIGHTS) and len(a.sources()) == len(b.sources()) == 1):
        return False
    return _described(a.reading(lambda _: _nothing)) == _described(b.reading(lambda _: _nothing))


def _change(a: LinearMap, b: LinearMap) -> LinearMap:
    """The map ``a - b`` of two that differ by their weights, which are read live."""
    (theirs,) = b.sources()

    def minus(ours: Source) -> Source:
        return lambda: ours() - theirs()

    return a.reading(minus)


def _bias_change(a: Linear, b: Linear) -> Source:
    ours, theirs = a.bias, b.bias

    def read() -> tf.Tensor:
        if ours is None:
            assert theirs is not None
            return -theirs()
        return ours() if theirs is None else ours() - theirs()

    return read


def _function(act: Activation) -> Hashable:
    """Equal for activations that are the same function."""
    return act.name, same(act.function), act.kinks, act.domain, act.poles
