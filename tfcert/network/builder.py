"""The builder: converters of layers append nodes with it, and it keeps names, shapes and weights in order."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf

from tfcert.activations import Activation, activation, names
from tfcert.network.composed import Composed, Tensor
from tfcert.network.contractions import LETTERS, EinsumMap, SumMap
from tfcert.network.errors import NonFiniteWeightError, UnsupportedLayerError
from tfcert.network.graph import Add, Concatenate, Elementwise, Input, Linear, MaxPool, Network, Node
from tfcert.network.keras.advice import nearest
from tfcert.network.linear import DenseMap, LinearMap, Pads, ScaleMap, Shape, Source
from tfcert.network.moves import BroadcastMap, CopiesMap, IndexMap, PadMap, ReshapeMap, TakeMap, TransposeMap
from tfcert.network.patterns import axis_moves
from tfcert.network.product import Contraction, Product
from tfcert.network.simplify import SimpleNodes, WrittenNumbers, same
from tfcert.network.softmax import size_of_log_sum


class Builder(Composed):
    """Appends nodes to a network; every method takes and returns :class:`Tensor` values.

    Nodes are named after the layer that is being converted; ``part`` tells its further nodes apart.

    Attributes:
        dtype: what the network computes in, ``tf.float32`` or ``tf.float64``.
        layer: the name of the layer that is being converted, and ``kind`` its class.
    """

    def __init__(self, dtype: tf.DType):
        self.dtype = dtype
        self.layer = ""
        self.kind = ""
        self._nodes = SimpleNodes(dtype)
        self._functions: dict[Hashable, Activation] = {}
        self._names: set[str] = set()
        self._weights: dict[Source, str] = {}
        self._softmaxes: dict[Tensor, int] = {}
        self._formal = False

    @contextmanager
    def scope(self, layer: str, kind: str) -> Iterator[None]:
        """Nodes made inside are named after ``layer`` (and, nested, after the models around it)."""
        outer = self.layer, self.kind
        self.layer, self.kind = f"{self.layer}/{layer}" if self.layer else layer, kind
        try:
            yield
        finally:
            self.layer, self.kind = outer

    @property
    def where(self) -> str:
        """The layer that is being converted, for messages."""
        return f"layer {self.layer!r} ({self.kind})"

    def refuse(self, reason: str) -> UnsupportedLayerError:
        """The error that says why the layer being converted is refused (to be raised by the caller)."""
        return UnsupportedLayerError(f"{self.where} {reason}")

    def input(self, shape: Shape, name: str) -> Tensor:
        """The network's input."""
        return self._append(Input(name=self._unique(name), shape=tuple(shape)))

    def linear(
        self,
        x: Tensor,
        linear_map: LinearMap,
        bias: Source | None = None,
        *,
        size: Source | None = None,
        computed: int = 0,
        part: str = "",
    ) -> Tensor:
        """``linear_map(x) + bias``; ``bias`` reads a tensor that broadcasts against the map's output.

        ``size`` reads the sum of the sizes of the bias's terms, where these may cancel; ``computed`` is how many
        roundings there are in weights and bias where the model computes them.

        Raises:
            UnsupportedLayerError: the map or the bias does not fit the shape of ``x``.
        """
        if tuple(linear_map.in_shape) != x.shape:
            raise self.refuse(f"expects the shape {linear_map.in_shape}, got {x.shape}")
        if bias is not None:
            self._check_bias(bias, linear_map.out_shape)
        shape, inputs = tuple(linear_map.out_shape), (self.plain(x),)
        node = Linear(
            name=self._name(part),
            inputs=inputs,
            shape=shape,
            map=linear_map,
            bias=bias,
            size_of_bias=size,
            computed=computed,
        )
        self._note_weights(node)
        return self._append(node)

    def reshape(self, x: Tensor, shape: Sequence[int], *, part: str = "") -> Tensor:
        """The same numbers, row-major, in another shape; no node where the shape is the same already."""
        if tuple(shape) == x.shape:
            return x
        return self.linear(x, ReshapeMap(x.shape, tuple(shape)), part=part)

    def index(self, x: Tensor, index: np.ndarray, *, part: str = "") -> Tensor:
        """``y[i] = x[index[i]]`` over the flat entries of ``x``, -1 for zero; by the cheapest nodes that do it."""
        if np.array_equal(index.ravel(), np.arange(math.prod(x.shape))):
            return self.reshape(x, index.shape, part=part)
        moves = axis_moves(index, x.shape)
        changed = [] if moves is None else moves.changed(x.shape)
        if moves is None or (moves.copies and len(changed) > 1):
            return self.linear(x, IndexMap(x.shape, index), part=part)
        for axis in changed:
            x = self.spread(x, moves.takes[axis], axis, part=part)
        x = self.reshape(self.transpose(x, moves.order, part=part), moves.spread, part=part)
        return self.broadcast(x, index.shape, part=part)

    def transpose(self, x: Tensor, order: Sequence[int], *, part: str = "") -> Tensor:
        """The axes of ``x`` in another order; a reshape where only axes of length one move."""
        shape = tuple(x.shape[axis] for axis in order)
        long = [axis for axis in order if x.shape[axis] > 1]
        if long == sorted(long):
            return self.reshape(x, shape, part=part)
        return self.linear(x, TransposeMap(x.shape, order), part=part)

    def broadcast(self, x: Tensor, shape: Sequence[int], *, part: str = "") -> Tensor:
        """``x`` repeated along new axes and axes of length one, by NumPy's rules."""
        shape = tuple(shape)
        aligned = self.reshape(x, (*[1] * (len(shape) - len(x.shape)), *x.shape), part=part)
        if aligned.shape == shape:
            return aligned
        return self.linear(aligned, BroadcastMap(aligned.shape, shape), part=part)

    def take(self, x: Tensor, which: int | slice | Sequence[int] | np.ndarray, axis: int, *, part: str = "") -> Tensor:
        """Slices of ``x`` along an axis, by NumPy's rules: one number removes the axis, several and slices keep it.

        Raises:
            UnsupportedLayerError: an index lies outside, or nothing is left.
        """
        size = x.shape[axis]
        try:
            index = np.arange(size)[which if isinstance(which, slice) else np.asarray(which)]
        except IndexError as error:
            raise self.refuse(f"reads {which} of an axis of length {size}") from error
        if index.size == 0:
            raise self.refuse(f"takes nothing of an axis of length {size}")
        found = self.spread(x, index.ravel(), axis, part=part)
        axis %= len(x.shape)
        return self.reshape(found, (*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]), part=part)

    def spread(self, x: Tensor, index: np.ndarray, axis: int, *, part: str = "") -> Tensor:
        """Slices of ``x`` along an axis: slice i of the result is slice ``index[i]``, or zeros for -1."""
        axis %= len(x.shape)
        before, after, known = _run(index, x.shape[axis])
        if known and not before and not after:
            return x
        if known and len(x.shape) == 3 and axis < 2:
            padding = [(0, 0), (0, 0)]
            padding[axis] = (before, after)
            return self.linear(x, PadMap(x.shape, (padding[0], padding[1])), part=part)
        return self.linear(x, TakeMap(x.shape, index, axis), part=part)

    def repeat(self, x: Tensor, times: int | Sequence[int], axis: int, *, part: str = "") -> Tensor:
        """Each slice of ``x`` along an axis so many times in a row (NumPy's ``repeat``)."""
        return self.spread(x, np.arange(x.shape[axis]).repeat(times), axis, part=part)

    def tile(self, x: Tensor, times: Sequence[int], *, part: str = "") -> Tensor:
        """``x`` so many times side by side along each of the last axes (NumPy's ``tile``)."""
        times = (*[1] * (len(x.shape) - len(times)), *times)
        x = self.reshape(x, (*[1] * (len(times) - len(x.shape)), *x.shape), part=part)
        for axis, copies in enumerate(times):
            if copies > 1 and axis == len(times) - 1:
                x = self.linear(x, CopiesMap(x.shape, copies), part=part)
            elif copies != 1:
                x = self.take(x, np.tile(np.arange(x.shape[axis]), copies), axis, part=part)
        return x

    def sum(self, x: Tensor, axes: int | Sequence[int], keepdims: bool = False, *, part: str = "") -> Tensor:
        """The sum over some axes, which stay as axes of length one with ``keepdims``."""
        return self._sum(x, self.axes(x, axes), keepdims, 1.0, part)

    def mean(self, x: Tensor, axes: int | Sequence[int], keepdims: bool = False, *, part: str = "") -> Tensor:
        """The mean over some axes, which stay as axes of length one with ``keepdims``."""
        found = self.axes(x, axes)
        return self._sum(x, found, keepdims, 1.0 / math.prod(x.shape[axis] for axis in found), part)

    def _sum(self, x: Tensor, axes: tuple[int, ...], keepdims: bool, weight: float, part: str) -> Tensor:
        if weight == 1.0 and all(x.shape[axis] == 1 for axis in axes):
            return self.reshape(x, _reduced(x.shape, axes, keepdims), part=part)
        return self.linear(x, SumMap(x.shape, axes, keepdims=keepdims, weight=weight), part=part)

    def along(self, x: Tensor, matrix: Source, size: int, axis: int, *, part: str = "") -> Tensor:
        """A matrix ``[length, size]`` applied along an axis of that length."""
        axis %= len(x.shape)
        if axis == len(x.shape) - 1:
            return self.linear(x, DenseMap(matrix, x.shape, size), part=part)
        letters = LETTERS[: len(x.shape)]
        result = letters.replace(letters[axis], LETTERS[-1])
        equation = f"{letters},{letters[axis]}{LETTERS[-1]}->{result}"
        return self.linear(x, EinsumMap(equation, matrix, x.shape, (x.shape[axis], size)), part=part)

    def reduce_max(self, x: Tensor, axes: int | Sequence[int], keepdims: bool = False, *, part: str = "") -> Tensor:
        """The largest number along some axes, which stay as axes of length one with ``keepdims``."""
        found = self.axes(x, axes)
        shape = _reduced(x.shape, found, keepdims)
        if all(x.shape[axis] == 1 for axis in found):
            return self.reshape(x, shape, part=part)
        if len(x.shape) == 3 and found[-1] < 2:
            image, window = x, (x.shape[0] if 0 in found else 1, x.shape[1] if 1 in found else 1)
        else:
            if found[-1] - found[0] != len(found) - 1:
                x = self.transpose(x, (*found, *(i for i in range(len(x.shape)) if i not in found)), part=part)
                found = tuple(range(len(found)))
            sides = [math.prod(x.shape[part]) for part in (slice(found[0]), slice(found[-1] + 1, None))]
            window = (1, math.prod(x.shape[axis] for axis in found))
            image = self.reshape(x, (sides[0], window[1], sides[1]), part=part)
        pooled = self.max_pool(image, window, window, ((0, 0), (0, 0)), part=part)
        return self.reshape(pooled, shape, part=part)

    def axes(self, x: Tensor, axes: int | Sequence[int]) -> tuple[int, ...]:
        """Axes of a tensor in order, none of them negative.

        Raises:
            UnsupportedLayerError: there is no such axis, or one is named twice.
        """
        rank = len(x.shape)
        given = (axes,) if isinstance(axes, int | np.integer) else tuple(axes)
        found = tuple(sorted({int(axis) % rank for axis in given})) if rank else ()
        if len(found) != len(given) or not found or not all(-rank <= axis < rank for axis in given):
            raise self.refuse(f"reads the axes {given} of a tensor of shape {x.shape} (batch left out)")
        return found

    def scale(
        self,
        x: Tensor,
        scale: Source,
        bias: Source | None = None,
        *,
        size: Source | None = None,
        computed: int = 0,
        part: str = "",
    ) -> Tensor:
        """``x * scale + bias``; both broadcast against the shape of ``x``; the rest as of :meth:`linear`."""
        return self.linear(x, ScaleMap(scale, x.shape), bias, size=size, computed=computed, part=part)

    def activation(self, x: Tensor, name: str, *, part: str = "", **parameters: float | None) -> Tensor:
        """The registered activation ``name``, elementwise.

        Raises:
            UnsupportedLayerError: there is no such activation, or it refuses the parameters.
        """
        if name not in names():
            near = nearest(name, names())
            raise self.refuse(
                f"applies {name!r}, which tfcert cannot bound yet{'; ' if near else ''}{near}; "
                "tfcert.register_activation adds an activation"
            )
        key = (name, same(parameters))
        try:
            function = self._functions.get(key) or activation(name, **parameters)
        except ValueError as error:
            raise self.refuse(f"is refused: {error}") from error
        self._functions[key] = function
        return self.elementwise(x, function, part=part)

    def elementwise(self, x: Tensor, function: Activation, *, part: str = "") -> Tensor:
        """An activation of any kind, registered or not."""
        node = Elementwise(name=self._name(part), inputs=(self.plain(x),), shape=x.shape, activation=function)
        return self._append(node)

    def moves_only(self, x: Tensor) -> bool:
        """Tells whether the numbers of ``x`` are the network's inputs themselves, moved but not computed with."""
        node = self._nodes[self.plain(x)]
        while isinstance(node, Linear):
            if node.bias is not None or not node.map.moves:
                return False
            node = self._nodes[node.inputs[0]]
        return isinstance(node, Input)

    def node(self, x: Tensor | int) -> Node:
        """The node that a tensor is the value of."""
        return self._nodes[x if isinstance(x, int) else x.index]

    def sketch(self) -> Builder:
        """A builder of a network of its own, in this one's type, for the same layer."""
        other = Builder(self.dtype)
        other.layer, other.kind = self.layer, self.kind
        return other

    def adopt(self, node: Node, inputs: Sequence[Tensor]) -> Tensor:
        """A node of another builder's, with these inputs."""
        if isinstance(node, Linear):
            self._note_weights(node)
        named = replace(node, name=self._unique(node.name), inputs=tuple(self.plain(x) for x in inputs))
        return self._append(named)

    def max_pool(
        self, x: Tensor, window: tuple[int, int], strides: tuple[int, int], padding: Pads, *, part: str = ""
    ) -> Tensor:
        """The largest entry of each window of an image ``[height, width, channels]``; padding never wins."""
        height, width = ((x.shape[axis] + sum(padding[axis]) - window[axis]) // strides[axis] + 1 for axis in (0, 1))
        node = MaxPool(
            name=self._name(part),
            inputs=(self.plain(x),),
            shape=(height, width, x.shape[2]),
            window=window,
            strides=strides,
            padding=padding,
        )
        return self._append(node)

    def add(self, terms: Sequence[Tensor], *, part: str = "") -> Tensor:
        """The sum of tensors of one shape (see :meth:`broadcast`)."""
        if len({term.shape for term in terms}) != 1:
            shapes = [term.shape for term in terms]
            raise self.refuse(f"adds different shapes: {shapes}")
        if len(terms) == 1:
            return terms[0]
        inputs = tuple(self.plain(term) for term in terms)
        return self._append(Add(name=self._name(part), inputs=inputs, shape=terms[0].shape))

    def product(self, x: Tensor, y: Tensor, *, part: str = "") -> Tensor:
        """``x * y``, number by number, of two tensors of one shape (see :meth:`broadcast`)."""
        if x.shape != y.shape:
            raise self.refuse(f"multiplies different shapes: {[x.shape, y.shape]}")
        if self.plain(x) == self.plain(y) and "square" in names():
            return self.activation(x, "square", part=part)
        inputs = (self.plain(x), self.plain(y))
        return self._append(Product(name=self._name(part), inputs=inputs, shape=x.shape))

    def contract(self, equation: str, x: Tensor, y: Tensor, *, part: str = "") -> Tensor:
        """Sums of products of two tensors, as ``einsum`` writes them without the batch: ``"ij,jk->ik"``.

        Raises:
            UnsupportedLayerError: the equation does not fit the shapes.
        """
        letters, result = equation.replace(" ", "").split("->")
        words, tensors, sizes = letters.split(","), [x, y], dict[str, int]()
        for word, tensor in zip(words, tensors, strict=True):
            fits = len(word) == len(tensor.shape) and all(
                sizes.setdefault(letter, size) == size for letter, size in zip(word, tensor.shape, strict=True)
            )
            if not fits:
                raise self.refuse(f"contracts shapes {[x.shape, y.shape]} by {equation!r}, which does not fit them")
        for side, name in enumerate(("left", "right")):
            words[side], tensors[side] = self._alone(words[side], tensors[side], words[1 - side] + result, name)
        if set(words[0] + words[1]) <= set(result):
            whole = [sizes[letter] for letter in result]
            factors = [self._along(*pair, result, whole) for pair in zip(tensors, words, strict=True)]
            return self.product(*factors, part=part)
        node = Contraction(
            name=self._name(part),
            inputs=(self.plain(tensors[0]), self.plain(tensors[1])),
            shape=tuple(sizes[letter] for letter in result),
            equation=f"{words[0]},{words[1]}->{result}",
            sizes=tuple(sorted((letter, sizes[letter]) for letter in set(words[0] + words[1]))),
        )
        return self._append(node)

    def _alone(self, word: str, x: Tensor, others: str, part: str) -> tuple[str, Tensor]:
        """A factor of a contraction with each of its letters once, and none that stands in it alone."""
        own = "".join(dict.fromkeys(word))
        if own != word:
            diagonal = np.einsum(f"{word}->{own}", np.arange(math.prod(x.shape)).reshape(x.shape))
            x = self.index(x, diagonal, part=f"{part}/diagonal")
        alone = [axis for axis, letter in enumerate(own) if letter not in others]
        if alone:
            x = self.sum(x, alone, part=f"{part}/sum")
        return "".join(letter for letter in own if letter in others), x

    def _along(self, x: Tensor, word: str, letters: str, whole: Sequence[int]) -> Tensor:
        """A factor repeated along the axes of all letters."""
        x = self.transpose(x, sorted(range(len(word)), key=lambda axis: letters.index(word[axis])))
        apart = self.reshape(x, [size if k in word else 1 for k, size in zip(letters, whole, strict=True)])
        return self.broadcast(apart, whole)

    def subtract(self, x: Tensor, y: Tensor, *, part: str = "") -> Tensor:
        """``x - y`` of two tensors of one shape."""
        return self.add([x, self.scale(y, self.constant(-1.0), part=_under(part, "negative"))], part=part)

    def divide(self, x: Tensor, y: Tensor, *, part: str = "") -> Tensor:
        """``x / y`` of two tensors of one shape; unbounded where ``y`` may be zero."""
        return self.product(x, self.activation(y, "reciprocal", part=_under(part, "reciprocal")), part=part)

    def maximum(self, x: Tensor, y: Tensor, *, part: str = "") -> Tensor:
        """The larger of two numbers, of tensors of one shape: ``y + relu(x - y)``."""
        apart = self.subtract(x, y, part=_under(part, "difference"))
        return self.add([y, self.activation(apart, "relu", part=_under(part, "relu"))], part=part)

    def minimum(self, x: Tensor, y: Tensor, *, part: str = "") -> Tensor:
        """The smaller of two numbers, of tensors of one shape: ``y - relu(y - x)``."""
        apart = self.subtract(y, x, part=_under(part, "difference"))
        return self.subtract(y, self.activation(apart, "relu", part=_under(part, "relu")), part=part)

    def logaddexp(self, x: Tensor, y: Tensor, *, part: str = "") -> Tensor:
        """``log(exp(x) + exp(y))`` of tensors of one shape: ``y + softplus(x - y)``, which does not overflow."""
        apart = self.subtract(x, y, part=_under(part, "difference"))
        return self.add([y, self.activation(apart, "softplus", part=_under(part, "softplus"))], part=part)

    def logsumexp(self, x: Tensor, axes: int | Sequence[int], keepdims: bool = False, *, part: str = "") -> Tensor:
        """The logarithm of the sum of exponentials along some axes, which stay with ``keepdims``; it does not overflow.

        Halves are added to halves (:meth:`logaddexp`), so that each of the ``log2(n)`` curves is a softplus, and lines
        of what it is added to pass by. No program computes these: what it computes is charged at their end
        (:func:`~tfcert.network.softmax.size_of_log_sum`).
        """
        found = self.axes(x, axes)
        shape, entries = _reduced(x.shape, found, keepdims), math.prod(x.shape[axis] for axis in found)
        with self._as_formula():
            total = self._halved(x, found, part)
        if entries > 1:
            size = self.constant(size_of_log_sum(entries, self.dtype))
            total = self.scale(total, WrittenNumbers(self._ones(), 1), size=size, part=_under(part, "rounded"))
        return self.reshape(total, shape, part=part)

    def _ones(self) -> np.ndarray:
        return np.ones([], self.dtype.as_numpy_dtype)

    @contextmanager
    def _as_formula(self) -> Iterator[None]:
        """Nodes made inside are :attr:`~tfcert.network.graph.Node.formal`."""
        outer, self._formal = self._formal, True
        try:
            yield
        finally:
            self._formal = outer

    def _halved(self, x: Tensor, axes: Sequence[int], part: str) -> Tensor:
        """The logarithm of the sum of exponentials along some axes, which stay, by halves."""
        for axis in axes:
            while (size := x.shape[axis]) > 1:
                half = size // 2
                first, second = (
                    self.take(x, slice(start, start + half), axis, part=_under(part, "half")) for start in (0, half)
                )
                total = self.logaddexp(first, second, part=_under(part, "added"))
                if size % 2:
                    last = self.take(x, slice(size - 1, size), axis, part=_under(part, "last"))
                    total = self.concatenate([total, last], axis, part=_under(part, "parts"))
                x = total
        return x

    def log_softmax(self, x: Tensor, axis: int, *, part: str = "") -> Tensor:
        """The logarithm of a softmax along an axis: what is left of ``x`` without its :meth:`logsumexp`."""
        total = self.logsumexp(x, axis, True, part=_under(part, "logsumexp"))
        return self.subtract(x, self.broadcast(total, x.shape, part=_under(part, "broadcast")), part=part)

    def power(self, x: Tensor, exponent: float, *, part: str = "") -> Tensor:
        """``x`` to a constant power."""
        if exponent == 0:
            return self.scale(x, self.constant(0.0), self.constant(1.0), part=part)
        return x if exponent == 1 else self.activation(x, "power", exponent=exponent, part=part)

    def concatenate(self, parts: Sequence[Tensor], axis: int, *, part: str = "") -> Tensor:
        """Tensors side by side along ``axis``, the batch not counted."""
        if len(parts) == 1:
            return parts[0]
        shape = list(parts[0].shape)
        shape[axis] = sum(tensor.shape[axis] for tensor in parts)
        inputs = tuple(self.plain(tensor) for tensor in parts)
        return self._append(
            Concatenate(name=self._name(part), inputs=inputs, shape=tuple(shape), axis=axis % len(shape))
        )

    def append(self, kind: type[Node], inputs: Sequence[Tensor], part: str, **fields: Any) -> Tensor:
        """A node of the shape of its inputs."""
        sources = tuple(self.plain(x) for x in inputs)
        return self._append(kind(name=self._name(part), inputs=sources, shape=inputs[0].shape, **fields))

    def fixed(self, value: Source, shape: Shape, *, part: str = "") -> Tensor:
        """A tensor that is ``value`` whatever the input is; ``value`` broadcasts against ``shape``."""
        self._check_bias(value, shape)
        self._weights.setdefault(value, self.layer)
        return self._append(self._nodes.constant(self._name(part), tuple(shape), value))

    def not_charged(self, x: Tensor, reason: str) -> Tensor:
        """The same tensor, of which bounds do not cover how the model rounds, for a reason in words."""
        self._nodes.mark(self.plain(x), reason)
        return x

    def joins_networks(self) -> None:
        """Notes that nodes are those of several networks: what two of them compute alike counts as computed once."""
        self._nodes.joint = True

    def has_precomputed(self, what: str) -> None:
        """Notes that numbers were computed that the model computes when it runs; ``what`` says so in words."""
        self._nodes.precomputed = what

    def constant(self, value: Any) -> Source:
        """Reads a constant, in the network's type: an array, or what is live: a ``keras.Variable``, a function."""
        if callable(value):
            return lambda: tf.cast(value(), self.dtype)
        if hasattr(value, "assign"):
            return lambda: tf.cast(tf.convert_to_tensor(value), self.dtype)
        return WrittenNumbers(np.asarray(value, self.dtype.as_numpy_dtype))

    def number(self, value: float) -> float:
        """A number as a model of this type keeps it."""
        return float(self.dtype.as_numpy_dtype(value))

    def network(self, output: Tensor) -> tuple[Network, dict[int, int]]:
        """The finished network, without nodes that the output does not depend on, and where each node went.

        Raises:
            NonFiniteWeightError: a weight is NaN or infinite.
        """
        for read, layer in self._weights.items():
            if not bool(tf.reduce_all(tf.math.is_finite(read()))):
                raise NonFiniteWeightError(f"layer {layer!r} has weights that are NaN or infinite")
        whole = Network(tuple(self._nodes))
        kept = sorted(whole.ancestors(output.index) | {0})
        place = {old: new for new, old in enumerate(kept)}
        nodes = tuple(
            replace(self._nodes[old], inputs=tuple(place[i] for i in self._nodes[old].inputs)) for old in kept
        )
        if output.softmax is not None and output.shape[-1] < 2:
            raise self.refuse(f"has the softmax of a single number in {output.softmax!r}, which is always 1")
        notes: tuple[str, ...] = ()
        if output.softmax is not None:
            notes = (
                f"the softmax of {output.softmax!r} was peeled off: which output is larger is decided by the logits, "
                "and margins are differences of logits",
            )
        weights, peeled = tuple(self._weights), output.softmax is not None
        return Network(nodes, self.dtype, notes, weights, peeled, precomputed=self._nodes.precomputed), place

    def plain(self, x: Tensor) -> int:
        """The node that has the values of ``x``, its softmax written."""
        if x.softmax is None:
            return x.index
        if x not in self._softmaxes:
            outer, self.layer = self.layer, x.softmax
            self._softmaxes[x] = self.written_softmax(replace(x, softmax=None)).index
            self.layer = outer
        return self._softmaxes[x]

    def _note_weights(self, node: Linear) -> None:
        """Keeps what a node reads, once, with the first layer that reads it."""
        for source in (*node.map.sources(), *(() if node.bias is None else (node.bias,))):
            self._weights.setdefault(source, self.layer)

    def _check_bias(self, bias: Source, shape: Shape) -> None:
        found = tuple(bias().shape)
        if np.broadcast_shapes(found, shape) != tuple(shape):
            raise self.refuse(f"adds a {found} to a tensor of shape {tuple(shape)}")

    def _append(self, node: Node) -> Tensor:
        node = replace(node, formal=True) if self._formal else node
        return Tensor(self._nodes.append(node), node.shape)

    def _name(self, part: str) -> str:
        return self._unique(f"{self.layer}/{part}" if part else self.layer)

    def _unique(self, name: str) -> str:
        unique, number = name, 1
        while unique in self._names:
            unique, number = f"{name}_{number}", number + 1
        self._names.add(unique)
        return unique


def _under(part: str, name: str) -> str:
    """The name of a part of a part."""
    return f"{part}/{name}" if part else name


def _reduced(shape: Shape, axes: Sequence[int], keepdims: bool) -> Shape:
    """The shape that a reduction over some axes leaves."""
    if keepdims:
        return tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    return tuple(size for axis, size in enumerate(shape) if axis not in axes)


def _run(index: np.ndarray, size: int) -> tuple[int, int, bool]:
    """The zeros before and after (negative: slices cut off) that an index stands for; whether that is all it does."""
    (inside,) = np.nonzero(index >= 0)
    if not inside.size:
        return 0, 0, False
    first, last = int(inside[0]), int(inside[-1])
    before, after = first - int(index[first]), index.size - 1 - last - (size - 1 - int(index[last]))
    padded = np.arange(index.size) - before
    known = np.array_equal(index, np.where((padded < 0) | (padded >= size), -1, padded))
    return before, after, known
