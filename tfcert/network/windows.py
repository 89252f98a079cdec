"""Windows of an image: which pixels a pooling window or a patch of coefficients covers."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import tensorflow as tf

from tfcert.network.linear import Pads, Shape


class Pooling(Protocol):
    """Parameters of a window's node."""

    @property
    def window(self) -> tuple[int, int]: ...
    @property
    def strides(self) -> tuple[int, int]: ...
    @property
    def padding(self) -> Pads: ...
    @property
    def shape(self) -> Shape: ...


def window_table(
    size: tuple[int, int],
    grid: tuple[int, int],
    window: tuple[int, int],
    strides: tuple[int, int],
    offset: tuple[int, int],
) -> np.ndarray:
    """The pixel that each entry of each window reads.

    The window of grid position (i, j) begins at row ``i * strides[0] - offset[0]`` of an image of ``size`` pixels.

    Returns:
        ``[grid positions, window entries]`` pixel numbers (row-major), ``height * width`` where outside the image.
    """
    height, width = size
    rows = np.arange(grid[0])[:, None] * strides[0] - offset[0] + np.arange(window[0])[None, :]
    columns = np.arange(grid[1])[:, None] * strides[1] - offset[1] + np.arange(window[1])[None, :]
    row_inside = (rows >= 0) & (rows < height)
    column_inside = (columns >= 0) & (columns < width)
    pixel = rows[:, None, :, None] * width + columns[None, :, None, :]
    inside = row_inside[:, None, :, None] & column_inside[None, :, None, :]
    return np.where(inside, pixel, height * width).reshape(grid[0] * grid[1], window[0] * window[1])


def gather_pixels(x: tf.Tensor, table: np.ndarray, fill: float = 0.0) -> tf.Tensor:
    """Reads ``x`` ``[batch, height, width, channels]`` by a window table: ``[batch, positions, entries, channels]``."""
    _, height, width, channels = x.shape
    flat = tf.reshape(x, [-1, height * width, channels])
    if (table == height * width).any():
        flat = tf.pad(flat, [[0, 0], [0, 1], [0, 0]], constant_values=fill)
    return tf.gather(flat, table, axis=1)


def gather_patches(
    x: tf.Tensor,
    grid: tuple[int, int],
    window: tuple[int, int],
    strides: tuple[int, int],
    offset: tuple[int, int],
) -> tf.Tensor:
    """Reads windows as :func:`window_table` places them, zeros outside: ``[batch, positions, entries, channels]``.

    Each line of pixels is first spread into the pieces of all columns of the grid, so that a window is a few long
    pieces of memory and not one for each pixel.
    """
    height, width, channels = x.shape[1:]
    rows, columns = (
        window_table((size, 1), (grid[axis], 1), (window[axis], 1), (strides[axis], 1), (offset[axis], 0))
        for axis, size in ((0, height), (1, width))
    )
    outside = [int((table == size).any()) for table, size in ((rows, height), (columns, width))]
    if any(outside):
        x = tf.pad(x, [[0, 0], [0, outside[0]], [0, outside[1]], [0, 0]])
    across = tf.reshape(tf.gather(x, columns, axis=2), [-1, x.shape[1] * grid[1], window[1] * channels])
    piece = rows[:, None, :] * grid[1] + np.arange(grid[1])[None, :, None]
    found = tf.gather(across, piece.reshape(-1, window[0]), axis=1)
    return tf.reshape(found, [-1, grid[0] * grid[1], window[0] * window[1], channels])


def gather_windows(x: tf.Tensor, node: Pooling, fill: float = 0.0) -> tf.Tensor:
    """The windows of a pooling node: ``[batch, height, width, channels] -> [batch, h, w, entries, channels]``."""
    grid = (node.shape[0], node.shape[1])
    offset = (node.padding[0][0], node.padding[1][0])
    table = window_table((x.shape[1], x.shape[2]), grid, node.window, node.strides, offset)
    windows = gather_pixels(x, table, fill)
    return tf.reshape(windows, [-1, *grid, node.window[0] * node.window[1], x.shape[3]])
