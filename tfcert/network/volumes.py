"""Convolutions beyond those of images: of volumes, and transposed ones."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Self

import tensorflow as tf

from tfcert.network.linear import Convolution, LinearMap, Source
from tfcert.network.sparse import Entries


class VolumeMap(Convolution):
    """A three-dimensional convolution over ``[depth, height, width, channels]``."""

    def _convolve(self, x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        return tf.nn.conv3d(x, kernel, [1, *self.strides, 1], "VALID")

    def _back(self, a: tf.Tensor, kernel: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
        return tf.nn.conv3d_transpose(a, kernel, shape, [1, *self.strides, 1], "VALID")


class TransposedMap(LinearMap):
    """The transpose of a map whose entries are its weights, each times 0 or 1: a transposed convolution, say.

    Args:
        of: the map that is transposed.
        terms: the largest number of outputs of that map that read one of its inputs.
    """

    def __init__(self, of: LinearMap, terms: int):
        self.of, self._terms = of, terms
        self.in_shape, self.out_shape = of.out_shape, of.in_shape

    def apply(self, x: tf.Tensor) -> tf.Tensor:
        return self.of.transpose(x)

    def abs_apply(self, r: tf.Tensor) -> tf.Tensor:
        return self.of.reading(lambda source: lambda: tf.abs(source())).transpose(r)

    def square_apply(self, v: tf.Tensor) -> tf.Tensor:
        return self.of.reading(lambda source: lambda: tf.square(source())).transpose(v)

    def transpose(self, a: tf.Tensor) -> tf.Tensor:
        return self.of.apply(a)

    def entries(self) -> Entries:
        found = self.of.entries()
        return Entries(found.column, found.row, found.value)

    def terms(self) -> int:
        return self._terms

    def sources(self) -> tuple[Source, ...]:
        return self.of.sources()

    def reading(self, change: Callable[[Source], Source]) -> Self:
        other = copy.copy(self)
        other.of = self.of.reading(change)
        return other
