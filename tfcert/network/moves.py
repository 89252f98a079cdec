"""Linear maps that only move, copy and drop numbers: nothing is computed, so nothing is rounded."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import tensorflow as tf

from tfcert.network.linear import PIXEL, LinearMap, Pads, Shape, Window, pad_or_crop


class ReshapeMap(LinearMap):
    """The same numbers in another shape (row-major, as Keras's ``Flatten`` and ``Reshape``)."""

    moves = True

    def __init__(self, in_shape: Shape, out_shape: Shape):
        self.in_shape, self.out_shape = tuple(in_shape), tuple(out_shape)

    @property
    def mixes(self) -> bool:
        return False

    def apply(self, x: tf.Tensor) -> tf.Tensor:
        return tf.reshape(x, [-1, *self.out_shape])

    def transpose(self, a: tf.Tensor) -> tf.Tensor:
        return tf.reshape(a, [-1, *self.in_shape])


class PadMap(LinearMap):
    """Zero padding (or, negative, cropping) of every axis but the last: height and width of an image."""

    moves = True

    def __init__(self, in_shape: Shape, padding: Pads):
        self.in_shape, self.padding = tuple(in_shape), tuple(padding)
        size = (length + sum(ends) for length, ends in zip(in_shape[:-1], padding, strict=True))
        self.out_shape = (*size, in_shape[-1])

    @property
    def mixes(self) -> bool:
        return False

    @property
    def window(self) -> Window | None:
        if len(self.in_shape) != 3:
            return None
        return Window((1, 1), (1, 1), (self.padding[0][0], self.padding[1][0]))

    def apply(self, x: tf.Tensor) -> tf.Tensor:
        return pad_or_crop(x, self.padding)

    def transpose(self, a: tf.Tensor) -> tf.Tensor:
        return pad_or_crop(a, tuple((-before, -after) for before, after in self.padding))


class IndexMap(LinearMap):
    """Each output is one input or zero: ``y[i] = x[index[i]]``, with -1 for zero (permutation, upsampling)."""

    moves = True

    def __init__(self, in_shape: Shape, index: np.ndarray):
        self.in_shape, self.out_shape = tuple(in_shape), tuple(index.shape)
        self.index = np.asarray(index, np.int64)

    @property
    def mixes(self) -> bool:
        read = self.index[self.index >= 0]
        return len(np.unique(read)) < read.size

    @cached_property
    def _readers(self) -> np.ndarray:
        """``[inputs, n]``: the outputs that read each input, filled up with ``outputs`` (a zero)."""
        return readers_of(self.index.ravel(), int(np.prod(self.in_shape)))

    def apply(self, x: tf.Tensor) -> tf.Tensor:
        size = int(np.prod(self.in_shape))
        index = np.where(self.index.ravel() < 0, size, self.index.ravel())
        return tf.reshape(tf.gather(_with_zero(x, size), index, axis=1), [-1, *self.out_shape])

    def transpose(self, a: tf.Tensor) -> tf.Tensor:
        gathered = tf.gather(_with_zero(a, self.index.size), self._readers, axis=1)
        return tf.reshape(tf.reduce_sum(gathered, axis=2), [-1, *self.in_shape])


class CopiesMap(LinearMap):
    """Copies of a tensor side by side along its last axis: ``[..., c] -> [..., copies * c]``."""

    moves = True

    def __init__(self, in_shape: Shape, copies: int):
        self.in_shape, self.copies = tuple(in_shape), copies
        self.out_shape = (*self.in_shape[:-1], copies * self.in_shape[-1])

    def apply(self, x: tf.Tensor) -> tf.Tensor:
        return tf.concat([x] * self.copies, axis=-1)

    def transpose(self, a: tf.Tensor) -> tf.Tensor:
        return tf.add_n(tf.split(a, self.copies, axis=-1))


class TransposeMap(LinearMap):
    """The axes of a tensor in another order: axis i of the output is axis ``order[i]`` of the input."""

    moves = True

    def __init__(self, in_shape: Shape, order: Sequence[int]):
        self.in_shape, self.order = tuple(in_shape), tuple(order)
        self.out_shape = tuple(self.in_shape[axis] for axis in self.order)

    @property
    def mixes(self) -> bool:
        return False

    def apply(self, x: tf.Tensor) -> tf.Tensor:
        return tf.transpose(x, [0, *(axis + 1 for axis in self.order)])

    def transpose(self, a: tf.Tensor) -> tf.Tensor:
        return tf.transpose(a, [0, *(int(axis) + 1 for axis in np.argsort(self.order))])


class TakeMap(LinearMap):
    """Slices of a tensor along an axis: slice i of the output is slice ``index[i]`` of the input, or zeros for -1."""

    moves = True

    def __init__(self, in_shape: Shape, index: np.ndarray, axis: int):
        self.in_shape, self.axis = tuple(in_shape), axis % len(in_shape)
        self.index = np.asarray(index, np.int64)
        self.out_shape = (*self.in_shape[: self.axis], self.index.size, *self.in_shape[self.axis + 1 :])

    @property
    def mixes(self) -> bool:
        read = self.index[self.index >= 0]
        return len(np.unique(read)) < read.size

    @property
    def window(self) -> Window | None:
        return PIXEL if len(self.in_shape) == 3 and self.axis == 2 else None

    def carry(self, patches: tf.Tensor) -> tf.Tensor:
        return self._spread(patches, axis=3)

    def apply(self, x: tf.Tensor) -> tf.Tensor:
        return _taken(x, self.index, self.axis + 1)

    def transpose(self, a: tf.Tensor) -> tf.Tensor:
        return self._spread(a, self.axis + 1)

    @cached_property
    def _readers(self) -> np.ndarray:
        """``[n, slices]``: the outputs that read each slice, filled up with -1."""
        readers = readers_of(self.index, self.in_shape[self.axis])
        return np.where(readers == self.index.size, -1, readers).T

    def _spread(self, a: tf.Tensor, axis: int) -> tf.Tensor:
        """The sum of the slices of ``a`` that read each slice."""
        first, *others = self._readers
        if not others:
            return _taken(a, first, axis)
        found = _taken(a, self._readers.T.ravel(), axis)
        shape = [-1 if n is None else n for n in (*a.shape[:axis], *self._readers.T.shape, *a.shape[axis + 1 :])]
        return tf.reduce_sum(tf.reshape(found, shape), axis=axis + 1)


class BroadcastMap(LinearMap):
    """A tensor repeated along axes of length one: ``[1, w, 1] -> [h, w, c]``."""

    moves = True

    def __init__(self, in_shape: Shape, out_shape: Shape):
        self.in_shape, self.out_shape = tuple(in_shape), tuple(out_shape)
        self._axes = [i for i, (a, b) in enumerate(zip(in_shape, out_shape, strict=True)) if a != b]

    @property
    def window(self) -> Window | None:
        return PIXEL if len(self.in_shape) == 3 and self._axes == [2] else None

    def carry(self, patches: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(patches, axis=3, keepdims=True)

    def apply(self, x: tf.Tensor) -> tf.Tensor:
        return tf.broadcast_to(x, [tf.shape(x)[0] if x.shape[0] is None else x.shape[0], *self.out_shape])

    def transpose(self, a: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(a, axis=[axis + 1 for axis in self._axes], keepdims=True)


def readers_of(index: np.ndarray, size: int) -> np.ndarray:
    """``[size, n]``: the places of a flat index that name each of so many numbers, filled up with ``len(index)``."""
    readers: list[list[int]] = [[] for _ in range(size)]
    for output in np.flatnonzero(index >= 0):
        readers[index[output]].append(int(output))
    most = max(1, *(len(r) for r in readers)) if size else 1
    return np.array([r + [index.size] * (most - len(r)) for r in readers], np.int64)


def _taken(x: tf.Tensor, index: np.ndarray, axis: int) -> tf.Tensor:
    """Slices of ``x`` along an axis, zeros for -1."""
    first, size = int(index[0]), int(x.shape[axis])
    if first >= 0 and np.array_equal(index, np.arange(first, first + index.size)):
        begin = [0] * x.shape.rank
        begin[axis] = first
        length = [-1] * x.shape.rank
        length[axis] = index.size
        return tf.slice(x, begin, length)
    if (index < 0).any():
        (inside,) = np.nonzero(index >= 0)
        if inside.size and np.array_equal(index[inside], np.arange(size)) and np.ptp(inside) + 1 == size:
            return _padded(x, axis, int(inside[0]), index.size - int(inside[-1]) - 1)
        x = _padded(x, axis, 0, 1)
        index = np.where(index < 0, size, index)
    return tf.gather(x, index, axis=axis)


def _padded(x: tf.Tensor, axis: int, before: int, after: int) -> tf.Tensor:
    pads = [[0, 0]] * x.shape.rank
    pads[axis] = [before, after]
    return tf.pad(x, pads)


def _with_zero(x: tf.Tensor, size: int) -> tf.Tensor:
    return tf.pad(tf.reshape(x, [-1, size]), [[0, 0], [0, 1]])
