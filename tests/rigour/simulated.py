"""A network as some program may run it: sums in any order and shape, fused or not, scales folded or not.

Every dot product is a binary tree over its products and its bias, drawn at random; each node of the tree rounds once.
Where products are fused, a leaf is added to its sibling with one rounding for both. The trees' leaves are permuted for
each output apart, which is also what a permutation of the units before does. Networks of float64 are not fused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import tensorflow as tf

from tfcert.network.graph import Add, Concatenate, Elementwise, Input, Linear, MaxPool, Network, evaluate_node
from tfcert.network.linear import DenseMap, ScaleMap
from tfcert.network.product import Contraction, Product
from tfcert.network.softmax import LogOdds

SHAPES = ("chain", "halves", "lanes", "random")
ORDERS = ("given", "reversed", "random", "rising", "falling")


@dataclass(frozen=True)
class Program:
    """One way to run a network.

    Attributes:
        shape: of the sums' trees: one after the other, halves, four lanes that are added up, or drawn at random.
        order: of the products in a sum, for each output: as given, drawn, or by their size.
        fused: whether a product and a sum are rounded once.
        bias_first: whether a sum begins with its bias; else the bias is added last.
        folded: whether a scale that follows a linear node is folded into its weights.
        flushed: whether results and operands below the smallest normal number become zero.
        seed: of what is drawn.
    """

    shape: str = "chain"
    order: str = "given"
    fused: bool = False
    bias_first: bool = False
    folded: bool = False
    flushed: bool = False
    seed: int = 0


def drawn(seed: int) -> Program:
    """A program drawn at random."""
    rng = np.random.default_rng(seed)
    coins = [bool(coin) for coin in rng.integers(0, 2, 4)]
    return Program(str(rng.choice(SHAPES)), str(rng.choice(ORDERS)), *coins, seed=seed)


def fused(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """``a b + c`` of float32 numbers, rounded once.

    The product is exact in float64; the sum is rounded to odd there (Boldo and Melquiond 2008, "Emulation of FMA and
    correctly rounded sums: proved algorithms using rounding to odd"), after which rounding to float32 is right.
    """
    product, c = a.astype(np.float64) * b.astype(np.float64), c.astype(np.float64)
    total = product + c
    part = total - product
    error = (product - (total - part)) + (c - part)
    bits = np.atleast_1d(total).view(np.int64).copy()
    even = np.isfinite(total) & (error != 0) & (bits.reshape(total.shape) % 2 == 0)
    step = np.where((error > 0) == (total > 0), 1, -1)
    return (bits.reshape(total.shape) + np.where(even, step, 0)).view(np.float64).astype(np.float32)


class _Run:
    """One run of a program, with its random choices."""

    def __init__(self, program: Program, dtype: np.dtype):
        self.program, self.rng, self.dtype = program, np.random.default_rng(program.seed), dtype

    def flush(self, x: np.ndarray) -> np.ndarray:
        if not self.program.flushed:
            return x
        return np.where(np.abs(x) < np.finfo(self.dtype).tiny, self.dtype.type(0), x)

    def add(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return self.flush(self.flush(a) + self.flush(b))

    def times(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return self.flush(self.flush(a) * self.flush(b))

    def linear(self, x: np.ndarray, kernel: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
        """``x [batch, n]`` times ``kernel [n, outputs]`` with a bias ``[outputs]``."""
        used = np.flatnonzero((kernel != 0).any(axis=1))
        x, kernel = x[:, used], kernel[used]
        order = self._order(np.abs(kernel * np.abs(x).max(axis=0)[:, None]) if len(x) else kernel)
        weights, values = np.take_along_axis(kernel, order, axis=0), x[:, order]
        offset = None if bias is None else np.broadcast_to(bias, (len(x), kernel.shape[1])).astype(self.dtype)
        if not len(used):
            return np.zeros((len(x), kernel.shape[1]), self.dtype) if offset is None else offset
        first = self.program.bias_first and offset is not None
        total = self._sum(weights, values, 0, len(used), offset if first else None)
        return total if first or offset is None else self.add(total, offset)

    def contracted(self, node: Contraction, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """A product of two tensors: each sum by the same tree, its products in a drawn order."""
        sizes, (first, second, result) = dict(node.sizes), node.words
        parts = []
        for letters, value in ((first, x), (second, y)):
            lacking = "".join(letter for letter in result + node.summed if letter not in letters)
            whole = np.ones([sizes[letter] for letter in lacking], self.dtype)
            form = f"Z{letters},{lacking}->Z{result}{node.summed}"
            parts.append(np.einsum(form, value, whole).reshape(len(x), -1, node.terms))
        order = self.rng.permutation(node.terms)
        left, right = np.moveaxis(parts[0], 2, 0)[order], np.moveaxis(parts[1], 2, 1)[:, order]
        return self._sum(left, right, 0, node.terms, None)

    def _order(self, sizes: np.ndarray) -> np.ndarray:
        count, outputs = sizes.shape
        match self.program.order:
            case "reversed":
                return np.broadcast_to(np.arange(count)[::-1, None], sizes.shape)
            case "random":
                return np.argsort(self.rng.random(sizes.shape), axis=0)
            case "rising":
                return np.argsort(sizes, axis=0, kind="stable")
            case "falling":
                return np.argsort(-sizes, axis=0, kind="stable")
        return np.broadcast_to(np.arange(count)[:, None], (count, outputs))

    def _sum(self, w: np.ndarray, x: np.ndarray, low: int, high: int, start: np.ndarray | None) -> np.ndarray:
        """The sum of products low to high, and of ``start``: by a tree."""
        if high - low == 1 or self.program.shape == "chain":
            total = start
            for i in range(low, high):
                total = self._with(total, w[i], x[:, i])
            assert total is not None
            return total
        if self.program.shape == "lanes" and high - low > 4:
            lanes = [self._chain(w[low + k : high : 4], x[:, low + k : high : 4]) for k in range(4)]
            if start is not None:
                lanes[0] = self.add(start, lanes[0])
            return self.add(self.add(lanes[0], lanes[1]), self.add(lanes[2], lanes[3]))
        at = (low + high) // 2 if self.program.shape != "random" else int(self.rng.integers(low + 1, high))
        left = self._sum(w, x, low, at, start)
        if high - at == 1:
            return self._with(left, w[at], x[:, at])
        return self.add(left, self._sum(w, x, at, high, None))

    def _chain(self, w: np.ndarray, x: np.ndarray) -> np.ndarray:
        total = None
        for i in range(len(w)):
            total = self._with(total, w[i], x[:, i])
        assert total is not None
        return total

    def _with(self, total: np.ndarray | None, w: np.ndarray, x: np.ndarray) -> np.ndarray:
        """A sum with one more product."""
        if total is None:
            return self.times(w, x)
        if self.program.fused and self.dtype == np.float32:
            return self.flush(fused(self.flush(np.broadcast_to(w, x.shape)), self.flush(x), self.flush(total)))
        return self.add(total, self.times(w, x))


def values(network: Network, x: np.ndarray, program: Program) -> list[np.ndarray]:
    """Every node's values ``[batch, *shape]`` at ``x [batch, *input]``, as the program computes them.

    A node whose scale was folded away has the values of the node that it is folded into.
    """
    dtype = np.dtype(network.dtype.as_numpy_dtype)
    run, found = _Run(program, dtype), []
    folds = _folds(network) if program.folded else {}
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        for index, node in enumerate(network.nodes):
            inputs = [found[i] for i in node.inputs]
            match node:
                case Input():
                    value = run.flush(x.astype(dtype))
                case Linear() if index in folds:
                    before = network.nodes[folds[index]]
                    kernel, bias = _folded(run, _dense(before), _dense(node))
                    source = found[before.inputs[0]]
                    value = run.linear(source.reshape(len(x), -1), kernel, bias)
                case Linear() if node.bias is not None or not node.map.moves:
                    value = run.linear(inputs[0].reshape(len(x), -1), *_dense(node))
                case Elementwise() if node.activation.name == "relu":
                    value = np.maximum(run.flush(inputs[0]), dtype.type(0))  # TensorFlow's flushes
                case LogOdds():
                    value = inputs[0]  # what reads it has the softmax
                case Elementwise() if isinstance(network.nodes[node.inputs[0]], LogOdds):
                    groups = inputs[0].reshape(-1, inputs[0].shape[-1])
                    value = _softmax(groups, replace(program, seed=int(run.rng.integers(2**31))))
                case Contraction():
                    value = run.contracted(node, *inputs)
                case Elementwise() if node.activation.name != "leaky_relu":
                    value = node.activation.function(tf.constant(inputs[0])).numpy()
                    step = run.rng.integers(-1, 2, value.shape).astype(dtype)  # another kernel's last place
                    value = np.where(step == 0, value, np.nextafter(value, step * dtype.type(np.inf)))
                case Add():
                    order = run.rng.permutation(len(inputs))
                    value = inputs[order[0]]
                    for i in order[1:]:
                        value = run.add(value, inputs[i])
                case Product():
                    value = run.times(*inputs)
                case Linear() | Elementwise() | MaxPool() | Concatenate():
                    value = evaluate_node(node, [tf.constant(v) for v in inputs], tf.constant(x)).numpy()
                case _:
                    raise NotImplementedError(type(node).__name__)
            found.append(np.asarray(value, dtype).reshape(len(x), *node.shape))
    return found


def simulated(network: Network, program: Program) -> Callable[[np.ndarray], np.ndarray]:
    """The network as a function of ``x [batch, *input]``, with the softmax that it leaves out."""
    if network.peeled:
        return lambda x: _softmax(values(network, x, program)[-1], program)
    return lambda x: values(network, x, program)[-1]


def _softmax(logits: np.ndarray, program: Program) -> np.ndarray:
    """A softmax whose exponentials are off by up to two last places, divided or multiplied by an inverse."""
    run = _Run(program, logits.dtype)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    powers *= 1 + run.rng.integers(-2, 3, powers.shape).astype(logits.dtype) * np.finfo(logits.dtype).eps
    total = powers[:, 0]
    for i in range(1, powers.shape[1]):
        total = run.add(total, powers[:, i])
    return powers * (1 / total)[:, None] if program.fused else powers / total[:, None]


def _dense(node: Linear) -> tuple[np.ndarray, np.ndarray | None]:
    """A linear node's weights ``[inputs, outputs]`` and bias ``[outputs]``: products with units and zeros are exact.

    A matrix is read as it is, because TensorFlow's products flush small numbers.
    """
    size = int(np.prod(node.map.in_shape))
    if isinstance(node.map, DenseMap) and len(node.map.in_shape) == 1:
        kernel = node.map.kernel().numpy()
    else:
        kernel = node.map.apply(tf.reshape(tf.eye(size), [size, *node.map.in_shape])).numpy().reshape(size, -1)
    if node.bias is None:
        return kernel, None
    return kernel, np.broadcast_to(node.bias().numpy(), node.shape).reshape(-1)


def _folds(network: Network) -> dict[int, int]:
    """The scales that alone read a linear node, with that node."""
    readers = [sum(i in node.inputs for node in network.nodes) for i in range(len(network.nodes))]
    return {
        index: node.inputs[0]
        for index, node in enumerate(network.nodes)
        if isinstance(node, Linear) and isinstance(node.map, ScaleMap)
        if isinstance(network.nodes[node.inputs[0]], Linear) and readers[node.inputs[0]] == 1
    }


def _folded(
    run: _Run, before: tuple[np.ndarray, np.ndarray | None], scale: tuple[np.ndarray, np.ndarray | None]
) -> tuple[np.ndarray, np.ndarray | None]:
    by = np.diagonal(scale[0])
    bias = None if before[1] is None else run.times(before[1], by)
    if scale[1] is not None:
        bias = scale[1] if bias is None else run.add(bias, scale[1])
    return run.times(before[0], by), bias
