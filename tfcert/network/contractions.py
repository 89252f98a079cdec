"""Linear maps that add up along axes: sums, and contractions with a tensor of weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Self

import numpy as np
import tensorflow as tf

from tfcert.network.linear import PIXEL, LinearMap, Shape, Source, Window
from tfcert.network.sparse import Entries

LETTERS = "abcdefghijklmnopqrstuvwxyz"
"""The axes of an einsum."""
_BATCH = "Z"


class SumMap(LinearMap):
    """``weight`` times the sum over some axes, which stay as axes of length one with ``keepdims``."""

    def __init__(self, in_shape: Shape, axes: Sequence[int], *, keepdims: bool = False, weight: float = 1.0):
        self.in_shape, self.axes, self.weight = tuple(in_shape), tuple(sorted(axes)), float(weight)
        self._kept = tuple(1 if axis in self.axes else size for axis, size in enumerate(self.in_shape))
        short = tuple(size for axis, size in enumerate(self.in_shape) if axis not in self.axes)
        self.out_shape = self._kept if keepdims else short

    @property
    def window(self) -> Window | None:
        return PIXEL if len(self.in_shape) == len(self.out_shape) == 3 and self.axes == (2,) else None

    def carry(self, patches: tf.Tensor) -> tf.Tensor:
        return self._scaled(tf.repeat(patches, self.in_shape[2], axis=3), self.weight)

    def apply(self, x: tf.Tensor) -> tf.Tensor:
        return self._sum(x, self.weight)

    def abs_apply(self, r: tf.Tensor) -> tf.Tensor:
        return self._sum(r, abs(self.weight))

    def square_apply(self, v: tf.Tensor) -> tf.Tensor:
        return self._sum(v, self.weight**2)

    def transpose(self, a: tf.Tensor) -> tf.Tensor:
        spread = tf.reshape(self._scaled(a, self.weight), [-1, *self._kept])
        return tf.broadcast_to(spread, [tf.shape(a)[0] if a.shape[0] is None else a.shape[0], *self.in_shape])

    def entries(self) -> Entries:
        size = math.prod(self.in_shape)
        row = np.broadcast_to(np.arange(math.prod(self._kept)).reshape(self._kept), self.in_shape)
        return Entries(row.ravel(), np.arange(size), np.full(size, self.weight))

    def terms(self) -> int:
        return math.prod(self.in_shape[axis] for axis in self.axes)

    def _sum(self, x: tf.Tensor, weight: float) -> tf.Tensor:
        total = tf.reduce_sum(x, axis=[axis + 1 for axis in self.axes])
        return self._scaled(tf.reshape(total, [-1, *self.out_shape]), weight)

    @staticmethod
    def _scaled(x: tf.Tensor, weight: float) -> tf.Tensor:
        return x if weight == 1.0 else x * weight


class EinsumMap(LinearMap):
    """A contraction with weights, ``einsum("abc,cd->abd", x, kernel)``, the batch left out.

    Every letter of the input stands in the kernel or the output, every letter of the kernel in the input or the
    output, and none twice in one of them: so the transposed map is an einsum as well, and ``|W|`` reads ``|kernel|``.
    """

    def __init__(self, equation: str, kernel: Source, in_shape: Shape, kernel_shape: Shape):
        operands, _, result = equation.partition("->")
        given, _, weights = operands.partition(",")
        sets = [set(part) for part in (given, weights, result)]
        repeated = any(len(letters) < len(part) for letters, part in zip(sets, (given, weights, result), strict=True))
        if repeated or not all(sets[i] <= sets[i - 1] | sets[i - 2] for i in range(3)):
            raise ValueError(f"{equation!r} has a letter twice in one operand, or one that stands in one operand alone")
        if len(given) != len(in_shape) or len(weights) != len(kernel_shape):
            raise ValueError(f"{equation!r} does not fit the shapes {tuple(in_shape)} and {tuple(kernel_shape)}")
        self.kernel, self.in_shape = kernel, tuple(in_shape)
        size = dict(zip(weights, kernel_shape, strict=True)) | dict(zip(given, in_shape, strict=True))
        self.out_shape = tuple(int(size[letter]) for letter in result)
        self._terms = math.prod(size[letter] for letter in sets[0] - sets[2])
        self._forward = f"{_BATCH}{given},{weights}->{_BATCH}{result}"
        self._backward = f"{_BATCH}{result},{weights}->{_BATCH}{given}"

    def apply(self, x: tf.Tensor) -> tf.Tensor:
        return tf.einsum(self._forward, x, self.kernel())

    def abs_apply(self, r: tf.Tensor) -> tf.Tensor:
        return tf.einsum(self._forward, r, tf.abs(self.kernel()))

    def square_apply(self, v: tf.Tensor) -> tf.Tensor:
        return tf.einsum(self._forward, v, tf.square(self.kernel()))

    def transpose(self, a: tf.Tensor) -> tf.Tensor:
        return tf.einsum(self._backward, a, self.kernel())

    def terms(self) -> int:
        return self._terms

    def sources(self) -> tuple[Source, ...]:
        return (self.kernel,)

    def reading(self, change: Callable[[Source], Source]) -> Self:
        other = copy.copy(self)
        other.kernel = change(self.kernel)
        return other
