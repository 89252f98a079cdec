"""What the builder writes as several nodes: softmax and its relatives, and normalisation."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from tfcert.activations import Activation
from tfcert.network.graph import Node
from tfcert.network.linear import DenseMap, LinearMap, Shape, Source
from tfcert.network.normalized import Normalized
from tfcert.network.softmax import LogOdds, softmax_sigmoid

_WHOLE = 256
"""Groups of up to so many numbers are normalised with each number's share of its mean square in view: a square matrix
of weights then adds up the squares of the others."""


@dataclass(frozen=True)
class Tensor:
    """A value of the network under construction.

    Attributes:
        index: its node.
        shape: its shape without the batch.
        softmax: the layer whose softmax along the last axis is still to be applied to it. The builder writes it when
            something reads the tensor; of the network's output it is left out.
    """

    index: int
    shape: Shape
    softmax: str | None = None


class Composed(ABC):
    """Constructs of several nodes, by a builder's methods; axes count without the batch.

    Attributes:
        dtype: what the network computes in.
        layer: the name of the layer that is being converted.
    """

    dtype: tf.DType
    layer: str

    @abstractmethod
    def linear(
        self, x: Tensor, linear_map: LinearMap, bias: Source | None = None, *, computed: int = 0, part: str = ""
    ) -> Tensor: ...

    @abstractmethod
    def scale(self, x: Tensor, scale: Source, bias: Source | None = None, *, part: str = "") -> Tensor: ...

    @abstractmethod
    def reshape(self, x: Tensor, shape: Sequence[int], *, part: str = "") -> Tensor: ...

    @abstractmethod
    def transpose(self, x: Tensor, order: Sequence[int], *, part: str = "") -> Tensor: ...

    @abstractmethod
    def broadcast(self, x: Tensor, shape: Sequence[int], *, part: str = "") -> Tensor: ...

    @abstractmethod
    def mean(self, x: Tensor, axes: int | Sequence[int], keepdims: bool = False, *, part: str = "") -> Tensor: ...

    @abstractmethod
    def add(self, terms: Sequence[Tensor], *, part: str = "") -> Tensor: ...

    @abstractmethod
    def activation(self, x: Tensor, name: str, *, part: str = "", **parameters: float | None) -> Tensor: ...

    @abstractmethod
    def elementwise(self, x: Tensor, function: Activation, *, part: str = "") -> Tensor: ...

    @abstractmethod
    def axes(self, x: Tensor, axes: int | Sequence[int]) -> tuple[int, ...]: ...

    @abstractmethod
    def constant(self, value: Any) -> Source: ...

    @abstractmethod
    def number(self, value: float) -> float: ...

    @abstractmethod
    def plain(self, x: Tensor) -> int:
        """The node that has the values of ``x``, its softmax written."""

    @abstractmethod
    def not_charged(self, x: Tensor, reason: str) -> Tensor: ...

    @abstractmethod
    def append(self, kind: type[Node], inputs: Sequence[Tensor], part: str, **fields: Any) -> Tensor:
        """A node of the shape of its inputs."""

    def softmax(self, x: Tensor, axis: int | Sequence[int] = -1) -> Tensor:
        """The softmax along an axis, or over all entries of several; along the last at the very end it is peeled off.

        It is bounded as the sigmoid of its log odds (:mod:`tfcert.propagation.log_odds`); of two entries these are
        their difference.
        """
        if self.axes(x, axis) == (len(x.shape) - 1,):
            return Tensor(self.plain(x), x.shape, self.layer)
        found = self._along_last(x, axis, self.written_softmax)
        if len(self.axes(x, axis)) > 1:
            self.not_charged(found, "the model takes the softmax of several axes by a logarithm")
        return found

    def written_softmax(self, x: Tensor) -> Tensor:
        """The softmax along the last axis, as nodes."""
        entries = x.shape[-1]
        if entries == 1:  # always 1
            return self.scale(x, self.constant(0.0), self.constant(1.0))
        if entries > 2:
            return self.elementwise(self.append(LogOdds, [x], "log_odds"), softmax_sigmoid(entries))
        first = self.elementwise(self._difference(x, "difference"), softmax_sigmoid(2), part="first")
        both = self.constant([[1.0, -1.0]])
        return self.linear(first, DenseMap(both, first.shape, 2), self.constant([0.0, 1.0]))

    def normalized(
        self,
        x: Tensor,
        axis: int | Sequence[int],
        epsilon: float,
        *,
        center: tuple[bool, bool],
        factor: Source | None = None,
        part: str = "",
    ) -> Tensor:
        """``x / sqrt(mean(x^2) + epsilon)`` over some axes together (:mod:`tfcert.propagation.normalized`).

        Args:
            x: the tensor.
            axis: one axis or several.
            epsilon: more than 0.
            center: whether the mean over these axes is subtracted before, from the numbers that are divided and from
                those that are squared.
            factor: what the model multiplies the inverse root with first, if it does; the node does not.
        """

        def whole(flat: Tensor) -> Tensor:
            centred = self._centred(flat) if any(center) else flat
            above, squared = (centred if is_centred else flat for is_centred in center)
            weight = 1 / flat.shape[-1]
            share, rest = self._squares(squared, weight, self.constant(epsilon), above is squared)
            given = [above, rest, flat] if center[0] else [above, rest]
            more = {"terms": flat.shape[-1], "smallest": None if factor is None else _smallest(factor)}
            return self.append(Normalized, given, part, share=share, least=self.number(epsilon), **more)

        return self._along_last(x, axis, whole, part)

    def divided_by_norm(self, x: Tensor, axis: int | Sequence[int], epsilon: float, *, part: str = "") -> Tensor:
        """``x / max(|x|, epsilon)`` with the L2 norm over some axes together."""
        floor = self.number(epsilon) ** 2

        def whole(flat: Tensor) -> Tensor:
            share, rest = self._squares(flat, 1.0, None, True)
            # A number whose square is above the floor does not notice so small a rest.
            least = floor * float(np.finfo(self.dtype.as_numpy_dtype).eps)
            terms = flat.shape[-1]
            return self.append(Normalized, [flat, rest], part, share=share, least=least, floor=floor, terms=terms)

        return self._along_last(x, axis, whole, part)

    def _squares(self, x: Tensor, weight: float, bias: Source | None, apart: bool) -> tuple[float, Tensor]:
        """A number's share in the weighted sum of squares along the last axis, and the rest of it."""
        square, entries = self.activation(x, "square", part="square"), x.shape[-1]
        if apart and entries <= _WHOLE:
            matrix = self.constant(weight * (1 - np.eye(entries)))
            return weight, self.linear(square, DenseMap(matrix, x.shape, entries), bias, part="others")
        matrix = self.constant(np.full((entries, 1), weight))
        total = self.linear(square, DenseMap(matrix, x.shape, 1), bias, part="squares")
        return 0.0, self.broadcast(total, x.shape, part="spread")

    def _centred(self, x: Tensor) -> Tensor:
        """``x`` minus its mean along the last axis."""
        entries = x.shape[-1]
        if entries <= _WHOLE:
            # The program subtracts a mean, whose error is that of a sum of all entries, and does not cancel with x.
            matrix = self.constant(np.eye(entries) - 1 / entries)
            return self.linear(x, DenseMap(matrix, x.shape, entries), computed=entries, part="centred")
        minus = self.scale(self.mean(x, -1, keepdims=True, part="mean"), self.constant(-1.0), part="minus_mean")
        return self.add([x, self.broadcast(minus, x.shape, part="spread_mean")], part="centred")

    def _difference(self, x: Tensor, part: str) -> Tensor:
        """The first of two entries minus the second, along the last axis."""
        return self.linear(x, DenseMap(self.constant([[1.0], [-1.0]]), x.shape, 1), part=part)

    def _along_last(
        self, x: Tensor, axis: int | Sequence[int], write: Callable[[Tensor], Tensor], part: str = ""
    ) -> Tensor:
        """What ``write`` makes of the entries of some axes side by side, along the last; it may leave one of them."""
        axes = self.axes(x, axis)
        order = [*(i for i in range(len(x.shape)) if i not in axes), *axes]
        turned = self.transpose(x, order, part=within(part, "turned"))
        beside = (*turned.shape[: len(x.shape) - len(axes)], math.prod(x.shape[i] for i in axes))
        found = write(self.reshape(turned, beside, part=within(part, "beside")))
        shape = x.shape if found.shape == beside else tuple(1 if i in axes else n for i, n in enumerate(x.shape))
        apart = self.reshape(found, [shape[i] for i in order], part=within(part, "apart"))
        return self.transpose(apart, np.argsort(order).tolist(), part=within(part, "back"))


def _smallest(read: Source) -> Source:
    """Reads the least size of numbers that are not 0; 1 where all are."""

    def value() -> tf.Tensor:
        size = tf.abs(read())
        return tf.minimum(tf.reduce_min(tf.where(size > 0, size, tf.ones_like(size))), tf.ones([], size.dtype))

    return value


def within(part: str, name: str) -> str:
    """The name of a node of several that write a part of a layer."""
    return f"{part}/{name}" if part else name
