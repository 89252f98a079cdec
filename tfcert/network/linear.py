"""Linear maps: what a ``Linear`` node of the network does, without its bias.

A map works on tensors ``[batch, *shape]`` and has four products: ``apply`` (W x), ``transpose`` (W^T a), ``abs_apply``
(|W| r, for radii) and ``square_apply`` (W^2 v, entry by entry, for variances). Weights are read when asked
(``Source``), so the same map serves a network that is being trained, and gradients flow through it. What else there is
to know of a map it says itself (``moves``, ``mixes``, ``window``, ``diagonal``, ``convolution``), so that a new one is
a class and nothing more; the answers of the base class are right for any map.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple, Self

import numpy as np
import tensorflow as tf

from tfcert.network.sparse import Entries, convolution_entries, dense_entries, numbered, selection, sparse_identity

Source = Callable[[], tf.Tensor]
"""Reads a weight, live."""
Shape = tuple[int, ...]
Pads = tuple[tuple[int, int], ...]
"""Rows or columns added (negative: cut off) before and after, for height and width (and depth before them)."""


class Window(NamedTuple):
    """The pixels that pixel (i, j) of an output reads: ``reach`` of the input from ``(i, j) * strides - pads`` on."""

    strides: tuple[int, int]
    reach: tuple[int, int]
    pads: tuple[int, int]


PIXEL = Window((1, 1), (1, 1), (0, 0))
"""Each pixel of the output reads the pixel of the input in its place."""


def cast_source(source: Source, dtype: tf.DType) -> Source:
    """Reads the same weight in another type."""
    return lambda: tf.cast(source(), dtype)


_MANY_CHANNELS = 64
"""From so many channels on, convolutions of single channels are not written as one between all of them."""
_FEW_TERMS = 64
_UNITS = 512
"""Unit vectors that are fed to a map at a time."""


class LinearMap(ABC):
    """A linear map between tensors of fixed shapes; ``in_shape`` and ``out_shape`` leave out the batch."""

    in_shape: Shape
    out_shape: Shape
    moves = False
    """Whether it only moves or copies numbers, with zeros between them: nothing is computed, so nothing is rounded."""

    @property
    def mixes(self) -> bool:
        """Tells whether an output may read several inputs, or several outputs one input."""
        return True

    @property
    def window(self) -> Window | None:
        """The pixels that each pixel of an image reads, where they are known; None of a map between other tensors."""
        return None

    @property
    def convolution(self) -> ConvMap | None:
        """The map as a convolution; None where it is none."""
        return None

    def carry(self, patches: tf.Tensor) -> tf.Tensor:
        """The transpose of what the map does within a patch, for a map with a window that is no convolution.

        ``[n, h, w, out channels] -> [n, h', w', in channels]``, where h' by w' pixels of the input are what h by w of
        the output read. The default is right where that is the same numbers in the same places.
        """
        return patches

    def diagonal(self) -> tf.Tensor | None:
        """The factor of each value, broadcasting against the shape; None of a map that does anything else."""
        return None

    @abstractmethod
    def apply(self, x: tf.Tensor) -> tf.Tensor:
        """W x: ``[batch, *in_shape] -> [batch, *out_shape]``."""

    @abstractmethod
    def transpose(self, a: tf.Tensor) -> tf.Tensor:
        """W^T a: ``[batch, *out_shape] -> [batch, *in_shape]``."""

    def abs_apply(self, r: tf.Tensor) -> tf.Tensor:
        """|W| r. The default is right for maps with entries 0 and 1."""
        return self.apply(r)

    def square_apply(self, v: tf.Tensor) -> tf.Tensor:
        """The map with its entries squared, for variances. The default is right for maps with entries 0 and 1."""
        return self.apply(v)

    def terms(self) -> int:
        """The largest number of products that are added up for one output (for rounding-error terms)."""
        return 1

    def entries(self) -> Entries:
        """The matrix of a map of float64 as it stands, outputs by inputs, both flattened.

        The default moves numbers where the map does nothing else, and feeds unit vectors where it computes.
        """
        if self.moves:
            moved = self.apply(tf.constant(numbered(self.in_shape))).numpy()
            return selection(moved.ravel().astype(np.int64) - 1)
        size = int(np.prod(self.in_shape))
        parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for first in range(0, size, _UNITS):
            units = np.eye(min(_UNITS, size - first), size, first)
            images = self.apply(tf.constant(units.reshape(-1, *self.in_shape))).numpy().reshape(len(units), -1)
            unit, output = np.nonzero(images)
            parts.append((output, unit + first, images[unit, output]))
        return Entries(*(np.concatenate(part) for part in zip(*parts, strict=True)))

    def sources(self) -> tuple[Source, ...]:
        """The weights that the map reads."""
        return ()

    def reading(self, change: Callable[[Source], Source]) -> Self:
        """The same map with each of its weights read through what ``change`` makes of its source."""
        return self


class DenseMap(LinearMap):
    """A matrix ``[in, out]`` acting on the last axis (Keras's ``Dense``)."""

    def __init__(self, kernel: Source, in_shape: Shape, out_features: int):
        self.kernel = kernel
        self.in_shape = tuple(in_shape)
        self.out_shape = (*self.in_shape[:-1], int(out_features))

    @property
    def window(self) -> Window | None:
        return PIXEL if len(self.in_shape) == 3 else None

    def carry(self, patches: tf.Tensor) -> tf.Tensor:
        return self._product(patches, self.kernel(), (*patches.shape[1:3], self.in_shape[2]), transposed=True)

    def apply(self, x: tf.Tensor) -> tf.Tensor:
        return self._product(x, self.kernel(), self.out_shape)

    def abs_apply(self, r: tf.Tensor) -> tf.Tensor:
        return self._product(r, tf.abs(self.kernel()), self.out_shape)

    def square_apply(self, v: tf.Tensor) -> tf.Tensor:
        return self._product(v, tf.square(self.kernel()), self.out_shape)

    def transpose(self, a: tf.Tensor) -> tf.Tensor:
        return self._product(a, self.kernel(), self.in_shape, transposed=True)

    def entries(self) -> Entries:
        return dense_entries(self.kernel().numpy(), int(np.prod(self.in_shape[:-1])))

    def terms(self) -> int:
        return self.in_shape[-1]

    def sources(self) -> tuple[Source, ...]:
        return (self.kernel,)

    def reading(self, change: Callable[[Source], Source]) -> Self:
        other = copy.copy(self)
        other.kernel = change(self.kernel)
        return other

    @staticmethod
    def _product(x: tf.Tensor, matrix: tf.Tensor, shape: Shape, transposed: bool = False) -> tf.Tensor:
        if len(shape) == 1 and len(x.shape) == 2:
            return tf.matmul(x, matrix, transpose_b=transposed)
        flat = tf.reshape(x, [-1, matrix.shape[1 if transposed else 0]])
        return tf.reshape(tf.matmul(flat, matrix, transpose_b=transposed), [-1, *shape])


class Convolution(LinearMap):
    """A convolution with explicit zero padding over ``[*size, channels]``, in as many dimensions as the class says.

    ``kernel`` is ``[*window, in_channels / groups, out_channels]`` as Keras stores it.
    """

    def __init__(
        self,
        kernel: Source,
        kernel_shape: Shape,
        in_shape: Shape,
        *,
        strides: Sequence[int] = (),
        padding: Pads = (),
        dilation: Sequence[int] = (),
        groups: int = 1,
    ):
        self._kernel = kernel
        rank = len(in_shape) - 1
        self.size = tuple(int(n) for n in kernel_shape[:-2])
        self.in_shape = tuple(in_shape)
        self.strides = tuple(strides) or (1,) * rank
        self.padding = tuple(padding) or ((0, 0),) * rank
        self.dilation, self.groups = tuple(dilation) or (1,) * rank, groups
        if kernel_shape[-2] * groups != in_shape[-1]:
            raise ValueError(f"{groups} groups of {kernel_shape[-2]} channels do not make {in_shape[-1]} channels")
        self.out_shape = (*map(self._out_size, range(rank)), int(kernel_shape[-1]))

    def _out_size(self, axis: int) -> int:
        spare = self.in_shape[axis] + sum(self.padding[axis]) - (self.size[axis] - 1) * self.dilation[axis] - 1
        return spare // self.strides[axis] + 1

    def kernel(self) -> tf.Tensor:
        """The kernel with its groups written out: ``[*window, in_channels, out_channels]``."""
        kernel = self._kernel()
        if self.groups == 1:
            return kernel
        per_group, out = self.in_shape[-1] // self.groups, self.out_shape[-1]
        same_group = np.arange(self.in_shape[-1])[:, None] // per_group == np.arange(out)[None, :] // (
            out // self.groups
        )
        written_out = tf.tile(kernel, [*[1] * len(self.size), self.groups, 1])
        return written_out * tf.constant(same_group, kernel.dtype)

    def _spread_kernel(self) -> tf.Tensor:
        """The kernel with the zeros that a dilation skips: TensorFlow's dilated operations have no gradient on CPUs."""
        kernel = self.kernel()
        if max(self.dilation) == 1:
            return kernel
        channels = [int(n) for n in kernel.shape[-2:]]
        spread = insert_zeros(tf.reshape(kernel, [1, *self.size, -1]), self.dilation)
        return tf.reshape(spread, [*spread.shape[1:-1], *channels])

    def apply(self, x: tf.Tensor) -> tf.Tensor:
        return self._convolve(pad_or_crop(x, self.padding), self._spread_kernel())

    def abs_apply(self, r: tf.Tensor) -> tf.Tensor:
        return self._convolve(pad_or_crop(r, self.padding), tf.abs(self._spread_kernel()))

    def square_apply(self, v: tf.Tensor) -> tf.Tensor:
        return self._convolve(pad_or_crop(v, self.padding), tf.square(self._spread_kernel()))

    def transpose(self, a: tf.Tensor) -> tf.Tensor:
        read = [size + sum(pad) for size, pad in zip(self.in_shape, self.padding, strict=False)]
        shape = tf.stack([tf.shape(a)[0], *read, self.in_shape[-1]])
        full = tf.ensure_shape(self._back(a, self._spread_kernel(), shape), [None, *read, self.in_shape[-1]])
        return pad_or_crop(full, tuple((-before, -after) for before, after in self.padding))

    @abstractmethod
    def _convolve(self, x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """The convolution of what is padded already."""

    @abstractmethod
    def _back(self, a: tf.Tensor, kernel: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
        """The transpose of that, to a tensor of ``shape``."""

    def entries(self) -> Entries:
        before = [pad[0] for pad in self.padding]
        shapes = (self.in_shape, self.out_shape)
        return convolution_entries(self.kernel().numpy(), shapes, self.strides, before, self.dilation)

    def terms(self) -> int:
        return math.prod(self.size) * self.in_shape[-1] // self.groups

    def sources(self) -> tuple[Source, ...]:
        return (self._kernel,)

    def reading(self, change: Callable[[Source], Source]) -> Self:
        other = copy.copy(self)
        other._kernel = change(self._kernel)
        return other


class ConvMap(Convolution):
    """A two-dimensional convolution over images; one-dimensional and depthwise ones are written as this one."""

    @property
    def convolution(self) -> ConvMap:
        return self

    @property
    def window(self) -> Window:
        down, right = ((self.size[a] - 1) * self.dilation[a] + 1 for a in (0, 1))
        return Window((self.strides[0], self.strides[1]), (down, right), (self.padding[0][0], self.padding[1][0]))

    def with_kernel(self, kernel: Source, channels: int) -> ConvMap:
        """The same convolution with another kernel ``[kh, kw, channels, out_channels]`` over images of so many."""
        shape = (*self.size, channels, self.out_shape[2])
        return ConvMap(
            kernel, shape, (*self.in_shape[:2], channels),
            strides=self.strides, padding=self.padding, dilation=self.dilation,
        )  # fmt: skip

    @property
    def _by_channel(self) -> bool:
        """Tells whether each channel is convolved by itself, and kernels between all channels would cost more."""
        return self.groups == self.in_shape[2] >= _MANY_CHANNELS and self.strides[0] == self.strides[1]

    @property
    def _term_by_term(self) -> bool:
        """Tells whether few shifted images are added up: XLA has no fast convolution of single channels on CPUs."""
        few = math.prod(self.size) <= _FEW_TERMS and self.out_shape[2] == self.in_shape[2]
        return few and not tf.executing_eagerly()

    def _spread_kernel(self) -> tf.Tensor:
        """As above; ``[kh, kw, channels, outputs of each]`` where each channel is convolved by itself."""
        if not self._by_channel:
            return super()._spread_kernel()
        spread = insert_zeros(tf.reshape(self._kernel(), [1, *self.size, -1]), self.dilation)
        return tf.reshape(spread, [*spread.shape[1:3], self.in_shape[2], -1])

    def _convolve(self, x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        if not self._by_channel:
            return tf.nn.conv2d(x, kernel, self.strides, "VALID")
        if not self._term_by_term:
            return tf.nn.depthwise_conv2d(x, kernel, [1, *self.strides, 1], "VALID")
        (down, right), (height, width, _) = self.strides, self.out_shape
        return tf.add_n([
            x[:, i : i + (height - 1) * down + 1 : down, j : j + (width - 1) * right + 1 : right] * kernel[i, j, :, 0]
            for i, j in self._places()
        ])  # fmt: skip

    def _back(self, a: tf.Tensor, kernel: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
        if not self._by_channel:
            return tf.nn.conv2d_transpose(a, kernel, shape, self.strides, "VALID")
        if not self._term_by_term:
            return tf.nn.depthwise_conv2d_backprop_input(shape, kernel, a, [1, *self.strides, 1], "VALID")
        spread = insert_zeros(a, self.strides)
        height, width = (self.in_shape[axis] + sum(self.padding[axis]) - spread.shape[axis + 1] for axis in (0, 1))
        return tf.add_n([
            tf.pad(spread * kernel[i, j, :, 0], [[0, 0], [i, height - i], [j, width - j], [0, 0]])
            for i, j in self._places()
        ])  # fmt: skip

    def _places(self) -> list[tuple[int, int]]:
        """Where in the window the kernel's numbers are."""
        return [(i * self.dilation[0], j * self.dilation[1]) for i in range(self.size[0]) for j in range(self.size[1])]


class ScaleMap(LinearMap):
    """Multiplication by a tensor that broadcasts against the shape (batch-norm, rescaling, a constant)."""

    def __init__(self, scale: Source, shape: Shape):
        self.scale = scale
        self.in_shape = self.out_shape = tuple(shape)

    @property
    def mixes(self) -> bool:
        return False

    def diagonal(self) -> tf.Tensor:
        return self.scale()

    def apply(self, x: tf.Tensor) -> tf.Tensor:
        return x * self.scale()

    def abs_apply(self, r: tf.Tensor) -> tf.Tensor:
        return r * tf.abs(self.scale())

    def square_apply(self, v: tf.Tensor) -> tf.Tensor:
        return v * tf.square(self.scale())

    def transpose(self, a: tf.Tensor) -> tf.Tensor:
        return a * self.scale()

    def entries(self) -> Entries:
        scale = np.broadcast_to(self.scale().numpy(), self.in_shape).ravel()
        return sparse_identity(scale.size).scaled(scale)

    def sources(self) -> tuple[Source, ...]:
        return (self.scale,)

    def reading(self, change: Callable[[Source], Source]) -> Self:
        other = copy.copy(self)
        other.scale = change(self.scale)
        return other


def pad_or_crop(x: tf.Tensor, padding: Pads) -> tf.Tensor:
    """Zero-pads (positive) or crops (negative) the axes between batch and channels of ``[n, *size, channels]``."""
    cut = [(max(0, -before), max(0, -after)) for before, after in padding]
    if any(map(any, cut)):
        size = [x.shape[axis + 1] - sum(ends) for axis, ends in enumerate(cut)]
        x = tf.slice(x, [0, *(before for before, _ in cut), 0], [-1, *size, x.shape[-1]])
    added = [[max(0, before), max(0, after)] for before, after in padding]
    if any(map(any, added)):
        x = tf.pad(x, [[0, 0], *added, [0, 0]])
    return x


def insert_zeros(x: tf.Tensor, strides: Sequence[int]) -> tf.Tensor:
    """Spreads an image by the strides, zeros between: ``[n, h, w, c] -> [n, (h-1) s + 1, (w-1) s + 1, c]``."""
    if max(strides) == 1:
        return x
    _, *size, channels = x.shape
    beside = tf.reshape(x, [-1, *(n for length in size for n in (length, 1)), channels])
    spread = tf.pad(beside, [[0, 0], *(pad for stride in strides for pad in ([0, 0], [0, stride - 1])), [0, 0]])
    ends = [(length - 1) * stride + 1 for length, stride in zip(size, strides, strict=True)]
    spread = tf.reshape(
        spread, [-1, *(length * stride for length, stride in zip(size, strides, strict=True)), channels]
    )
    return pad_or_crop(spread, tuple((0, end - spread.shape[axis + 1]) for axis, end in enumerate(ends)))
