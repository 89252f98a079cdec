"""Coefficients of linear bounds over the output of one node: dense, or patches of an image.

A row of a backward pass is a linear function of a node's values. For a neuron of a convolutional network it touches
only a patch of the image, so it is kept as that patch: ``values[sample, group, row, entry]``, where the group is the
neuron's position and the row its channel (CNN-Cert, Boopathy et al. 2019, keeps the same coefficients as a
convolution). Any of the first two axes may be 1 where the coefficients do not depend on it. Dense coefficients are the
same thing with patches that are the whole tensor (one group where the rows began dense).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import tensorflow as tf

from tfcert.network.linear import ConvMap, LinearMap, Shape, Window, pad_or_crop
from tfcert.network.windows import gather_patches, window_table
from tfcert.propagation import kernels

_BANDED = 2.4
"""A Toeplitz matrix is multiplied block by block, leaving out the blocks that are zero, where it has this many times
as many blocks as are not (measured on a CPU: 1.5 to 3 times faster above, half as fast at 1.7)."""


@dataclass(frozen=True)
class Patches:
    """The layout of patches: the one of grid position (i, j) begins at pixel ``(i, j) * strides - offset``."""

    grid: tuple[int, int]
    window: tuple[int, int] = (1, 1)
    strides: tuple[int, int] = (1, 1)
    offset: tuple[int, int] = (0, 0)

    @property
    def positions(self) -> int:
        return self.grid[0] * self.grid[1]

    @property
    def area(self) -> int:
        return self.window[0] * self.window[1]

    def table(self, shape: Shape) -> np.ndarray:
        """``[positions, area]`` pixel numbers of an image of ``shape``; ``height * width`` outside it."""
        return window_table((shape[0], shape[1]), self.grid, self.window, self.strides, self.offset)

    def exceeds(self, shape: Shape) -> bool:
        """Tells whether a patch reaches outside an image of ``shape``."""
        last = [(self.grid[a] - 1) * self.strides[a] - self.offset[a] + self.window[a] for a in (0, 1)]
        return max(self.offset) > 0 or last[0] > shape[0] or last[1] > shape[1]

    def before(self, read: Window) -> Patches:
        """The patches of a map's input that these patches of its output read."""
        (h, w), ((sh, sw), reach, pads) = self.window, read
        return Patches(
            grid=self.grid,
            window=((h - 1) * sh + reach[0], (w - 1) * sw + reach[1]),
            strides=(self.strides[0] * sh, self.strides[1] * sw),
            offset=(self.offset[0] * sh + pads[0], self.offset[1] * sw + pads[1]),
        )


@dataclass(frozen=True, eq=False)
class Coefficients:
    """Rows of linear functions of one node's output.

    Attributes:
        values: ``[samples or 1, groups or 1, rows, entries]``.
        shape: the node's shape.
        patches: where the patches lie, or None for dense coefficients.
        owner: None, or ``[groups]`` numbers ``sample * positions + position`` (dense: the sample): coefficients of
            selected neurons only, with ``values`` ``[1, groups, rows, entries]``.
        zero_outside: whether the entries outside the image are known to be zero.
    """

    values: tf.Tensor
    shape: Shape
    patches: Patches | None = None
    owner: tf.Tensor | None = None
    zero_outside: bool = False

    @property
    def alike(self) -> bool:
        """Whether the rows are patches that are the same at every position of every sample: a convolution's kernel."""
        return self.patches is not None and self.owner is None and self.values.shape[:2] == [1, 1]

    def unfold(self, x: tf.Tensor) -> tf.Tensor:
        """Arranges per-value data ``[samples or 1, *shape]`` like ``values``, with zeros outside the image.

        Data that differ by row have one more axis: ``[samples or 1, lanes, *shape]``, where each lane stands for as
        many consecutive rows as the others.

        Returns:
            ``[samples or 1, groups or 1, lanes or 1, entries]``.
        """
        if x.shape.rank == len(self.shape) + 2:
            return self._unfold_lanes(x)
        x = self._whole(x)
        if self.patches is None:
            flat = tf.reshape(x, [-1, 1, 1, int(np.prod(self.shape))])
        else:
            layout = self.patches
            pixels = gather_patches(x, layout.grid, layout.window, layout.strides, layout.offset)
            flat = tf.reshape(pixels, [-1, self.patches.positions, 1, self.patches.area * self.shape[2]])
        if self.owner is None:
            return flat
        one = x.shape[0] == 1
        return tf.gather(tf.reshape(flat, [-1, 1, flat.shape[3]]), self._place() if one else self.owner)[None]

    def _whole(self, x: tf.Tensor) -> tf.Tensor:
        """Data that broadcast against the node's values, for each of these."""
        return x if x.shape[1:] == self.shape else tf.broadcast_to(x, [x.shape[0] or tf.shape(x)[0], *self.shape])

    def _unfold_lanes(self, x: tf.Tensor) -> tf.Tensor:
        lanes, size = x.shape[1], int(np.prod(self.shape))
        if self.patches is None:
            return tf.reshape(x, [-1, 1, lanes, size])
        assert self.owner is None
        height, width, channels = self.shape
        patches = self.patches
        table = tf.constant(patches.table(self.shape)[:, None, :], tf.int32)

        @tf.custom_gradient
        def gathered(x: tf.Tensor):  # type: ignore[no-untyped-def]
            flat = tf.pad(tf.reshape(x, [-1, height * width, channels]), [[0, 0], [0, 1], [0, 0]])
            flat = tf.reshape(flat, [-1, channels])
            first = tf.range(tf.shape(flat)[0], delta=height * width + 1)
            index = tf.reshape(first, [-1, 1, lanes, 1]) + table
            found = tf.gather(flat, index)
            return tf.reshape(found, [-1, patches.positions, lanes, patches.area * channels]), folded

        def folded(d: tf.Tensor) -> tf.Tensor:
            # TensorFlow's own gradient adds entry by entry on one thread.
            images = tf.transpose(tf.reshape(d, [-1, patches.positions, lanes, patches.area * channels]), [0, 2, 1, 3])
            images = tf.reshape(images, [-1, *patches.grid, *patches.window, channels])
            whole = kernels.fold(images, patches.strides)
            (top, left), (high, wide) = patches.offset, whole.shape[1:3]
            whole = pad_or_crop(whole, ((-top, height - high + top), (-left, width - wide + left)))
            return tf.reshape(whole, [-1, lanes, height, width, channels])

        return gathered(x)

    def _place(self) -> tf.Tensor:
        """The position of each selected group, forgetting the sample."""
        assert self.owner is not None
        return tf.math.floormod(self.owner, 1 if self.patches is None else self.patches.positions)

    def dot(self, x: tf.Tensor) -> tf.Tensor:
        """The rows' values at ``x`` ``[samples or 1, *shape]``: ``[samples or 1, groups or 1, rows]``."""
        if not self.alike or x.shape.rank > len(self.shape) + 1:
            return kernels.weighted_sum(self.values, self.unfold(x))
        assert self.patches is not None
        layout, rows = self.patches, self.values.shape[2]
        last = [layout.strides[a] * (layout.grid[a] - 1) + layout.window[a] - layout.offset[a] for a in (0, 1)]
        pads = [(layout.offset[a], last[a] - self.shape[a]) for a in (0, 1)]
        kernel = tf.transpose(tf.reshape(self.values, [rows, *layout.window, self.shape[2]]), [1, 2, 3, 0])
        found = tf.nn.conv2d(pad_or_crop(self._whole(x), (pads[0], pads[1])), kernel, layout.strides, "VALID")
        return tf.reshape(found, [-1 if x.shape[0] is None else x.shape[0], layout.positions, rows])

    def scaled(self, x: tf.Tensor) -> Coefficients:
        """The rows with each entry multiplied by the data ``x`` of the value it stands for."""
        return replace(self, values=self.values * self.unfold(x), zero_outside=True)

    def masked(self) -> Coefficients:
        """The same rows with zeros for entries outside the image: what stands there multiplies padding, which is 0."""
        if self.patches is None or self.zero_outside or not self.patches.exceeds(self.shape):
            return self
        return self.scaled(tf.ones([1, *self.shape], self.values.dtype))

    def dense(self) -> Coefficients:
        """The same rows as dense coefficients: the groups stay, each with a patch that is the whole tensor."""
        if self.patches is None:
            return self
        height, width, channels = self.shape
        table = self.patches.table(self.shape)
        area = self.patches.area
        # place[position, pixel]: the patch entry that stands for the pixel, or ``area`` (a zero) if none does.
        place = np.full((len(table), height * width + 1), area)
        np.put_along_axis(place, table, np.arange(area)[None, :], axis=1)
        place = place[:, : height * width]
        samples, groups, rows, _ = self.values.shape
        values = tf.reshape(self.values, [-1 if samples is None else samples, groups or -1, rows, area, channels])
        values = tf.pad(values, [[0, 0], [0, 0], [0, 0], [0, 1], [0, 0]])
        if self.owner is not None:
            picked = tf.gather(values[0], tf.gather(place, self._place()), axis=2, batch_dims=1)
            flat = tf.reshape(picked, [1, -1, rows, height * width * channels])
            return Coefficients(flat, self.shape, None, self.owner // self.patches.positions)
        if values.shape[1] == 1:
            picked = tf.transpose(tf.gather(values[:, 0], place, axis=2), [0, 2, 1, 3, 4])
        else:
            by_position = tf.transpose(values, [1, 0, 2, 3, 4])
            picked = tf.transpose(tf.gather(by_position, place, axis=3, batch_dims=1), [1, 0, 2, 3, 4])
        return Coefficients(tf.reshape(picked, [-1, len(table), rows, height * width * channels]), self.shape)

    def plus(self, other: Coefficients) -> Coefficients:
        """The sum of two sets of rows over the same node (where branches of the graph meet)."""
        mine, theirs = self.patches, other.patches
        if mine is not None and theirs is not None and mine.strides == theirs.strides:
            union = _union(mine, theirs)
            zero = self.zero_outside and other.zero_outside
            return replace(self, values=self._grown(union) + other._grown(union), patches=union, zero_outside=zero)
        left, right = self.dense(), other.dense()
        return replace(left, values=left.values + right.values)

    def _grown(self, patches: Patches) -> tf.Tensor:
        """The values in larger patches around the same positions."""
        mine = self.patches
        assert mine is not None
        if mine == patches:
            return self.values
        before = [patches.offset[a] - mine.offset[a] for a in (0, 1)]
        after = [patches.window[a] - mine.window[a] - before[a] for a in (0, 1)]
        samples, groups, rows, _ = self.values.shape
        channels = self.shape[2]
        # Pixels and channels as one axis: TensorFlow pads long ones faster.
        image = tf.reshape(self.values, [-1, mine.window[0], mine.window[1] * channels])
        image = tf.pad(image, [[0, 0], [before[0], after[0]], [before[1] * channels, after[1] * channels]])
        lead = [-1 if samples is None else samples, -1 if groups is None else groups]
        return tf.reshape(image, [*lead, rows, patches.area * channels])


def _union(a: Patches, b: Patches) -> Patches:
    """The smallest patches that cover both; equal grids and strides are given."""
    offset = (max(a.offset[0], b.offset[0]), max(a.offset[1], b.offset[1]))
    ends = [max(p.window[axis] - p.offset[axis] for p in (a, b)) for axis in (0, 1)]
    return replace(a, window=(ends[0] + offset[0], ends[1] + offset[1]), offset=offset)


def carried(rows: Coefficients, linear: LinearMap) -> Coefficients:
    """Patches of a map's output as patches of its input: of a convolution by products with Toeplitz matrices."""
    assert rows.patches is not None and linear.window is not None
    window, larger, conv = rows.patches.window, rows.patches.before(linear.window), linear.convolution
    lead = [-1 if n is None else n for n in rows.values.shape[:3]]
    if conv is None:
        images = linear.carry(tf.reshape(rows.values, [-1, *window, linear.out_shape[2]]))
        values = tf.reshape(images, [*lead, larger.area * linear.in_shape[2]])
        return replace(rows, values=values, shape=linear.in_shape, patches=larger, zero_outside=False)
    entries = larger.area * conv.in_shape[2]
    if conv.dilation[0] == 1 and larger.window[0] >= _BANDED * _taps_per_block(conv) * conv.strides[0]:
        values = _banded_product(rows.values, window[0], banded_toeplitz(conv, window[1]), entries)
    else:
        matrix = toeplitz(conv, window)
        values = tf.matmul(tf.reshape(rows.values, [-1, matrix.shape[0]]), matrix)
    values = tf.reshape(values, [*lead, entries])
    return replace(rows, values=values, shape=conv.in_shape, patches=larger, zero_outside=False)


def _banded_product(values: tf.Tensor, lines: int, matrix: tf.Tensor, entries: int) -> tf.Tensor:
    """Rows ``[samples, groups, rows, lines * length]`` times the Toeplitz matrix that has these blocks.

    Where kernels are compiled, one product with all blocks side by side, and a kernel that lays them over each other
    (measured: 0.65 to 0.8 of the time of the transposed convolution, which is faster op by op).

    Args:
        values: the rows.
        lines: how many lines of a patch each has.
        matrix: see :func:`banded_toeplitz`.
        entries: those of the result that are kept.

    Returns:
        ``[samples * groups * rows, entries]`` numbers in some shape.
    """
    taps, _, block, length = (int(n) for n in matrix.shape)
    if kernels.worth_fusing(values, taps * block * lines):
        beside = tf.reshape(tf.transpose(matrix, [3, 0, 1, 2]), [length, taps * block])
        parts = tf.matmul(tf.reshape(values, [-1, length]), beside)
        lead = [-1 if n is None else n for n in values.shape[:3]]
        return kernels.overlaid(tf.reshape(parts, [*lead, lines, taps, block]), entries)
    images = tf.reshape(values, [-1, lines, 1, length])
    blocks = lines + taps - 1
    spread = tf.nn.conv2d_transpose(images, matrix, [tf.shape(images)[0], blocks, 1, block], 1, "VALID")
    return tf.reshape(spread, [-1, blocks * block])[:, :entries]


def toeplitz(conv: ConvMap, window: tuple[int, int]) -> tf.Tensor:
    """The matrix that carries patches of a convolution's output to patches of its input.

    Returns:
        ``[window area * out_channels, larger window area * in_channels]``; see :meth:`Patches.before`.
    """
    tap = [_taps(conv, axis, window[axis]) for axis in (0, 1)]
    both = (tap[0][:, None, :, None] >= 0) & (tap[1][None, :, None, :] >= 0)
    taps = conv.size[0] * conv.size[1]
    index = np.where(both, tap[0][:, None, :, None] * conv.size[1] + tap[1][None, :, None, :], taps)
    kernel = conv.kernel()
    channels = (int(kernel.shape[2]), int(kernel.shape[3]))
    kernel = tf.pad(tf.reshape(kernel, [taps, *channels]), [[0, 1], [0, 0], [0, 0]])
    spread = tf.gather(kernel, index)  # [h, w, h', w', in, out]
    matrix = tf.transpose(spread, [0, 1, 5, 2, 3, 4])
    area, larger = (tap[0].shape[end] * tap[1].shape[end] for end in (0, 1))
    return tf.reshape(matrix, [area * channels[1], larger * channels[0]])


def banded_toeplitz(conv: ConvMap, width: int) -> tf.Tensor:
    """The blocks of :func:`toeplitz` that are not zero, as the kernel of a transposed convolution along the height.

    Its output has as many of the input's rows side by side as the convolution's stride, and some zeros at the end.

    Returns:
        ``[taps, 1, stride * larger width * in_channels, width * out_channels]``.
    """
    tap, taps, stride = _taps(conv, 1, width), _taps_per_block(conv), conv.strides[0]
    kernel = tf.pad(conv.kernel(), [[0, taps * stride - conv.size[0]], [0, 1], [0, 0], [0, 0]])
    spread = tf.gather(kernel, np.where(tap >= 0, tap, conv.size[1]), axis=1)  # [taps * stride, w, w', in, out]
    spread = tf.transpose(spread, [0, 2, 3, 1, 4])
    return tf.reshape(spread, [taps, 1, stride * tap.shape[1] * conv.in_shape[2], width * conv.out_shape[2]])


def _taps_per_block(conv: ConvMap) -> int:
    """The number of blocks of ``strides`` rows of the input that an output reads along the height."""
    return -(-conv.size[0] // conv.strides[0])


def _taps(conv: ConvMap, axis: int, length: int) -> np.ndarray:
    """``[length, larger length]``: the tap by which an output reads an input along an axis, -1 where it does not."""
    window = (length, 1) if axis == 0 else (1, length)
    before = Patches((1, 1), window).before(conv.window).window[axis]
    step = np.arange(before)[None, :] - np.arange(length)[:, None] * conv.strides[axis]
    hit = (step >= 0) & (step % conv.dilation[axis] == 0) & (step // conv.dilation[axis] < conv.size[axis])
    return np.where(hit, step // conv.dilation[axis], -1)
