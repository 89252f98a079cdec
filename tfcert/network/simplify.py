"""Networks made simple as they are built: what is computed twice, or of no input, costs nodes and bounds.

Bounds do not see that two nodes have one value: ``f - f`` is a wide interval unless both ``f`` are one node and their
difference is no node at all. A rule looks at a new node and says what stands for it. Each leaves the computed numbers
as they are, up to rounding errors no larger than the model's own; so differences that a model computes with an error,
``(f + g) - f``, stay. Weights stay live: two are one where the same code reads them from the same objects, and only
numbers that a model was written with are computed with beforehand.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import fields, replace
from functools import cache, partial
from types import CellType, FunctionType, MethodType
from typing import Any

import numpy as np
import tensorflow as tf

from tfcert.activations import Activation, activation
from tfcert.network.contractions import EinsumMap
from tfcert.network.graph import (
    Add,
    Concatenate,
    Elementwise,
    Input,
    Linear,
    MaxPool,
    Multivariate,
    Node,
    evaluate_node,
)
from tfcert.network.linear import LinearMap, ScaleMap, Shape, Source
from tfcert.network.moves import IndexMap, ReshapeMap, TakeMap, TransposeMap
from tfcert.network.product import Contraction, Product


class WrittenNumbers:
    """Reads numbers that the model was written with: they do not change.

    Attributes:
        value: the numbers.
        steps: how many roundings the model makes that multiplies by these numbers, one after the other where they are
            a product; None: one, or none where all are powers of two.
    """

    def __init__(self, value: np.ndarray, steps: int | None = None):
        self.value = value
        self.steps = int(not _powers_of_two(value)) if steps is None else steps

    def __call__(self) -> tf.Tensor:
        return tf.constant(self.value)


def _powers_of_two(value: np.ndarray) -> bool:
    """Tells whether multiplying by numbers is exact, but for what is flushed to zero."""
    return value.dtype.kind == "f" and bool((np.abs(np.frexp(value)[0]) % 0.5 == 0).all())


class SimpleNodes:
    """The nodes of a network under construction, in topological order, each value once; the first is its input."""

    def __init__(self, dtype: tf.DType):
        self.dtype = dtype
        self.precomputed = ""
        """What was worked out beforehand that the model computes when it runs, in words; "" where nothing was."""
        self.joint = False
        """Whether several networks are put together: what two of them compute alike counts as computed once."""
        self._nodes: list[Node] = []
        self._places: dict[Hashable, int] = {}

    def __getitem__(self, index: int) -> Node:
        return self._nodes[index]

    def __iter__(self) -> Iterator[Node]:
        return iter(self._nodes)

    def append(self, node: Node) -> int:
        """The index of a node with this one's value, appended if there is none yet."""
        found: Node | int | None = node
        while isinstance(found, Node):
            node, found = found, None
            for rule in RULES:
                found = rule(node, self) if found is None else found
            reason = _reason(node, self)
            if isinstance(found, int) and reason:  # a rule may leave out what it is about
                self.mark(found, reason)
            elif isinstance(found, Node) and reason:
                found = replace(found, uncharged=reason)
        if found is not None:
            return found
        key = _key(node)
        if key not in self._places:
            self._places[key] = len(self._nodes)
            self._nodes.append(node)
        elif not (self.joint or computes_exactly(node)):
            self.mark(self._places[key], TWICE)
        return self._places[key]

    def mark(self, index: int, reason: str) -> None:
        """Notes why bounds of a node do not cover how the model rounds."""
        self._nodes[index] = replace(self._nodes[index], uncharged=reason)

    def constant(self, name: str, shape: Shape, value: Source | None) -> Linear:
        """A node that does not depend on the input: zeros of a shape, and ``value`` added."""
        nothing = IndexMap(self[0].shape, np.full(shape, -1, np.int64))
        return Linear(name=name, inputs=(0,), shape=tuple(shape), map=nothing, bias=value)

    def value(self, index: int) -> tf.Tensor:
        """The value ``[1, *shape]`` of a constant node, read now."""
        node = self[index]
        assert isinstance(node, Linear)
        zeros = tf.zeros([1, *node.shape], self.dtype)
        return zeros if node.bias is None else zeros + node.bias()


TWICE = "the model computes it more than once, and may round differently each time"
FUSED = "the model subtracts a multiple of what it multiplies, which it may round once or twice"


def computes_exactly(node: Node) -> bool:
    """Tells whether every program computes a node without rounding, so that whoever computes it has the same value."""
    match node:
        case Linear():
            plain = node.map.moves or (isinstance(node.map, ScaleMap) and not _steps(node))
            return depends_on_nothing(node) or (node.bias is None and plain)
        case Elementwise():
            return node.activation.accuracy is not None and node.activation.accuracy.ulps == 0
    return isinstance(node, Input | Concatenate | MaxPool)


def depends_on_nothing(node: Node) -> bool:
    """Tells whether a node has the same value for every input."""
    return isinstance(node, Linear) and type(node.map) is IndexMap and bool((node.map.index < 0).all())


# --- rules: (new node, those before it) -> what stands for it: a node, or the index of one; None where nothing does ---


def of_constants(node: Node, nodes: SimpleNodes) -> Node | int | None:
    """What constants alone enter is a constant, read live."""
    if isinstance(node, Input) or not all(depends_on_nothing(nodes[i]) for i in node.inputs):
        return None
    zeros = all(isinstance(n, Linear) and n.bias is None for n in (nodes[i] for i in node.inputs))
    plain = not isinstance(node, Linear) or node.bias is None
    if zeros and plain and not isinstance(node, Elementwise | Multivariate):
        return nodes.constant(node.name, node.shape, None)
    if not computes_exactly(node):
        nodes.precomputed = f"what the model computes of constants was computed beforehand ({node.name})"

    def value() -> tf.Tensor:
        known = [nodes.value(i) for i in node.inputs]
        return evaluate_node(node, known, known[0])[0]

    return nodes.constant(node.name, node.shape, value)


def multiplied_by_a_constant(node: Node, nodes: SimpleNodes) -> Node | int | None:
    """A product with a constant scales, a contraction with one is a linear map; the constant is read live."""
    if not isinstance(node, Product | Contraction):
        return None
    sides = [side for side, source in enumerate(node.inputs) if depends_on_nothing(nodes[source])]
    if len(sides) != 1:
        return None
    (side,) = sides
    constant, x = node.inputs[side], node.inputs[1 - side]

    def read() -> tf.Tensor:
        return nodes.value(constant)[0]

    if isinstance(node, Product):
        linear: LinearMap = ScaleMap(read, node.shape)
    else:
        words, shapes = node.words, node.shapes
        linear = EinsumMap(f"{words[1 - side]},{words[side]}->{words[2]}", read, shapes[1 - side], shapes[side])
    return Linear(name=node.name, inputs=(x,), shape=node.shape, map=linear)


def moved_twice(node: Node, nodes: SimpleNodes) -> Node | int | None:
    """Numbers that are moved twice are moved once, or not at all."""
    if not (isinstance(node, Linear) and node.bias is None and node.map.moves):
        return None
    if type(node.map) is ReshapeMap and node.map.in_shape == node.shape:
        return node.inputs[0]
    if type(node.map) is TransposeMap and node.map.order == tuple(range(len(node.shape))):
        return node.inputs[0]
    before = nodes[node.inputs[0]]
    if not (isinstance(before, Linear) and before.bias is None):
        return None
    once = _moved(before.map, node.map)
    return None if once is None else replace(node, inputs=before.inputs, map=once)


def _moved(first: LinearMap, second: LinearMap) -> LinearMap | None:
    """Two moves in a row as one of the same kind, or of an index; None where neither is a gain."""
    kinds = (_kind(first), _kind(second))
    if kinds == (ReshapeMap, ReshapeMap):
        return ReshapeMap(first.in_shape, second.out_shape)
    if kinds == (TransposeMap, TransposeMap):
        assert isinstance(first, TransposeMap) and isinstance(second, TransposeMap)
        return TransposeMap(first.in_shape, [first.order[axis] for axis in second.order])
    if isinstance(first, TakeMap) and isinstance(second, TakeMap):
        if first.axis != second.axis:
            return None
        return TakeMap(first.in_shape, np.where(second.index < 0, -1, first.index[second.index]), first.axis)
    if IndexMap not in kinds or not {*kinds} <= {IndexMap, ReshapeMap}:
        return None
    last = _index(second)
    index = np.where(last < 0, -1, _index(first).ravel()[last])
    if np.array_equal(index.ravel(), np.arange(int(np.prod(first.in_shape)))):
        return ReshapeMap(first.in_shape, second.out_shape)
    return IndexMap(first.in_shape, index)


def _kind(linear: LinearMap) -> type:
    """The kind of a map; slices of a vector are an index."""
    return IndexMap if type(linear) is TakeMap and len(linear.in_shape) == 1 else type(linear)


def scaled_by_numbers(node: Node, nodes: SimpleNodes) -> Node | int | None:
    """A factor of one is no factor, and two in a row are one."""
    factor = _factor(node, with_bias=True)
    if factor is None or not isinstance(node, Linear):
        return None
    steps = _steps(node)
    if node.bias is None and (factor == 1).all() and not steps:
        return node.inputs[0]
    before = nodes[node.inputs[0]]
    first, steps = _factor(before), steps + _steps(before)
    if first is None or steps > _MOST_STEPS:
        return None
    # What is flushed to zero, or overflows, between the two must not be lost on who sees the product alone.
    with np.errstate(over="ignore", under="ignore", divide="ignore"):
        product, large = np.asarray(first * factor, factor.dtype), np.abs(factor)
        kept = ((np.abs(first) >= 0.25) | (large <= 8)) & ((np.abs(first) <= 1) | (large >= 0.5))
    if not (np.isfinite(product) & (((product != 0) & kept) | (factor == 0) | (first == 0))).all():
        return None
    return replace(node, inputs=before.inputs, map=ScaleMap(WrittenNumbers(product, steps), node.shape))


def added_twice(node: Node, nodes: SimpleNodes) -> Node | int | None:
    """``f - f`` is zero, ``f + f`` is ``2 f``, zeros add nothing, and a constant is a bias."""
    if not isinstance(node, Add):
        return None
    kept = tuple(i for i in node.inputs if not (depends_on_nothing(nodes[i]) and _biasless(nodes[i])))
    if kept != node.inputs:
        return replace(node, inputs=kept) if len(kept) > 1 else kept[0] if kept else node.inputs[0]
    one = np.ones([], nodes.dtype.as_numpy_dtype)
    constants = [i for i in node.inputs if depends_on_nothing(nodes[i])]
    if len(node.inputs) == 2 and constants:
        (x,) = (i for i in node.inputs if i not in constants)
        scale = ScaleMap(WrittenNumbers(one), node.shape)
        return Linear(name=node.name, inputs=(x,), shape=node.shape, map=scale, bias=lambda: nodes.value(*constants)[0])
    terms = [(i, one) if (f := _factor(nodes[i])) is None else (nodes[i].inputs[0], f) for i in node.inputs]
    base = terms[0][0]
    if any(source != base for source, _ in terms):
        return None
    factors = [factor for _, factor in terms]
    if len(factors) == 2 and bool((factors[0] == -factors[1]).all()):
        zero = nodes.constant(node.name, node.shape, None)
        return zero if all(map(_powers_of_two, factors)) else replace(zero, uncharged=FUSED)
    if len(factors) > _MOST_STEPS or any(_steps(nodes[i]) > 1 for i in node.inputs):
        return None
    if not (all((f >= 0).all() for f in factors) or all((f <= 0).all() for f in factors)):
        return None  # what nearly cancels carries a rounding error of the terms' size
    twice = len(factors) == 2 and _powers_of_two(factors[0]) and bool((factors[0] == factors[1]).all())
    steps = 0 if twice else len(factors)
    total = WrittenNumbers(np.asarray(sum(factors), nodes.dtype.as_numpy_dtype), steps)
    return Linear(name=node.name, inputs=(base,), shape=node.shape, map=ScaleMap(total, node.shape))


def multiplied_by_itself(node: Node, nodes: SimpleNodes) -> Node | int | None:
    """``x * x`` is a square, and so is ``x`` times a multiple of it that is written in the model."""
    if not isinstance(node, Product):
        return None
    if node.inputs[0] == node.inputs[1]:
        return Elementwise(name=node.name, inputs=node.inputs[:1], shape=node.shape, activation=_square())
    factors = [_factor(nodes[i]) for i in node.inputs]
    if all(factor is None for factor in factors):
        return None
    bases = tuple(i if f is None else nodes[i].inputs[0] for i, f in zip(node.inputs, factors, strict=True))
    if any(f is not None and (np.abs(f) > 4).any() for f in factors):
        return None  # the squares would not tell what is flushed to zero before
    if bases[0] != bases[1]:  # planes of products are as tight with the factors inside
        return None
    scaled = [f for f in factors if f is not None]
    total = WrittenNumbers(np.asarray(np.prod(scaled, axis=0), nodes.dtype.as_numpy_dtype), len(scaled))
    square = nodes.append(replace(node, name=f"{node.name}/square", inputs=bases))
    scale = ScaleMap(total, node.shape)
    return Linear(name=node.name, inputs=(square,), shape=node.shape, map=scale)


@cache
def _square() -> Activation:
    return activation("square")


def permuted_last(node: Node, nodes: SimpleNodes) -> Node | int | None:
    """What acts on each number acts before its axes are put in another order: two orders in a row then cancel."""
    if not isinstance(node, Elementwise | Add | Linear) or not node.inputs:
        return None
    order = _order(nodes[node.inputs[0]])
    if order is None or any(_order(nodes[i]) != order for i in node.inputs):
        return None
    before = tuple(nodes[i].inputs[0] for i in node.inputs)
    shape, back = nodes[before[0]].shape, tuple(int(axis) for axis in np.argsort(order))
    if isinstance(node, Linear):
        if type(node.map) is not ScaleMap:
            return None
        scale = ScaleMap(_turned(node.map.scale, back), shape)
        bias, size = (None if part is None else _turned(part, back) for part in (node.bias, node.size_of_bias))
        inner: Node = replace(node, inputs=before, shape=shape, map=scale, bias=bias, size_of_bias=size)
    elif isinstance(node, Elementwise) and (node.activation.edges is not None or not node.activation.alike):
        return None  # it has steps or slopes of its own at each place
    else:
        inner = replace(node, inputs=before, shape=shape)
    index = nodes.append(inner)
    return Linear(name=f"{node.name}/turned", inputs=(index,), shape=node.shape, map=TransposeMap(shape, order))


def _order(node: Node) -> tuple[int, ...] | None:
    """The order that a node puts axes in, where it does nothing else."""
    turns = isinstance(node, Linear) and node.bias is None and type(node.map) is TransposeMap
    return node.map.order if turns and isinstance(node, Linear) and isinstance(node.map, TransposeMap) else None


def _turned(read: Source, order: tuple[int, ...]) -> Source:
    """Reads what broadcasts against a tensor, for the tensor with its axes in another order."""

    def value() -> tf.Tensor:
        found = read()
        return tf.transpose(tf.reshape(found, [*[1] * (len(order) - found.shape.rank), *found.shape]), order)

    return value


_MOST_STEPS = 6
"""So many factors are merged into one: a node that scales is charged for twice as many roundings."""

RULES: tuple[Callable[[Node, SimpleNodes], Node | int | None], ...] = (
    of_constants,
    multiplied_by_a_constant,
    moved_twice,
    scaled_by_numbers,
    added_twice,
    multiplied_by_itself,
    permuted_last,
)


def _index(linear: LinearMap) -> np.ndarray:
    if isinstance(linear, IndexMap | TakeMap):
        return linear.index
    return np.arange(int(np.prod(linear.in_shape))).reshape(linear.out_shape)


def _biasless(node: Node) -> bool:
    return isinstance(node, Linear) and node.bias is None


def _factor(node: Node, with_bias: bool = False) -> np.ndarray | None:
    """The numbers that a node multiplies by; None of one that does anything else, or by what may change."""
    plain = isinstance(node, Linear) and (with_bias or (node.bias is None and node.size_of_bias is None))
    scales = plain and isinstance(node, Linear) and type(node.map) is ScaleMap
    read = node.map.scale if scales and isinstance(node, Linear) and isinstance(node.map, ScaleMap) else None
    return read.value if isinstance(read, WrittenNumbers) else None


def _reason(node: Node, nodes: SimpleNodes) -> str:
    """Why bounds of a node, or of one that it reads, do not cover how the model rounds."""
    return next((n.uncharged for n in (node, *(nodes[i] for i in node.inputs)) if n.uncharged), "")


def _steps(node: Node) -> int:
    """The roundings of a program that multiplies by a node's numbers."""
    read = node.map.scale if isinstance(node, Linear) and isinstance(node.map, ScaleMap) else None
    return read.steps if isinstance(read, WrittenNumbers) else 1


# --- what is the same ------------------------------------------------------------------------------------------------


def _key(node: Node) -> Hashable:
    """Equal for nodes that compute the same; what it names by identity lives as long as the node."""
    if isinstance(node, Input):
        return ("input", id(node))
    parts = [(f.name, same(getattr(node, f.name))) for f in fields(node) if f.name != "name"]
    return (type(node), *parts)


def same(value: Any, within: tuple[int, ...] = ()) -> Hashable:
    """Equal for values that say the same: numbers by what they are, code by what it reads, objects by identity.

    What is known by identity must live as long as what is made of it is compared.
    """
    if id(value) in within:
        return ("object", id(value))
    inside = (*within, id(value))
    match value:
        case None | bool() | int() | float() | str() | bytes() | np.generic():
            return (type(value), repr(value))
        case np.ndarray() if value.dtype != object:
            return (str(value.dtype), value.shape, hashlib.sha256(value.tobytes()).digest())
        case tuple() | list():
            return (type(value), tuple(same(part, inside) for part in value))
        case Mapping():
            return (type(value), tuple((same(k, inside), same(v, inside)) for k, v in value.items()))
        case partial():
            return (same(value.func, inside), same(value.args, inside), same(value.keywords, inside))
        case MethodType():
            return (same(value.__func__, inside), same(value.__self__, inside))
        case FunctionType():
            cells = tuple(same(_content(cell), inside) for cell in value.__closure__ or ())
            defaults = same((value.__defaults__, value.__kwdefaults__), inside)
            return (value.__code__, id(value.__globals__), cells, defaults)
        case LinearMap() | WrittenNumbers():
            return (type(value), same(vars(value), inside))
    return ("object", id(value))


def _content(cell: CellType) -> Any:
    """What a function's free variable holds, or the variable where it holds nothing yet."""
    try:
        return cell.cell_contents
    except ValueError:
        return cell
