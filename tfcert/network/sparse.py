"""Sparse matrices of linear maps, by index arithmetic: what encodings of a network read. NumPy only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_AT_ONCE = 1 << 22
"""Products of two entries that are held at a time."""
_DENSE = 1 << 25
"""Entries of the largest matrix that is written out in full."""
_OVERLAP = 8
"""Matrices are multiplied in full where sparse products would add up so many terms for each entry."""


@dataclass(frozen=True)
class Entries:
    """A sparse matrix: ``value`` at ``(row, column)``; rows are outputs, columns the flattened values of a layer."""

    row: np.ndarray
    column: np.ndarray
    value: np.ndarray

    def __len__(self) -> int:
        return len(self.value)

    def moved(self, rows: np.ndarray) -> Entries:
        """The matrix whose row i stands in row ``rows[i]`` of a larger one."""
        return Entries(rows[self.row], self.column, self.value)

    def scaled(self, factors: np.ndarray) -> Entries:
        """The matrix with row i times ``factors[i]``."""
        return Entries(self.row, self.column, self.value * factors[self.row])

    def apply(self, x: np.ndarray, rows: int) -> np.ndarray:
        """The product with a vector, ``[rows]``."""
        return np.bincount(self.row, weights=self.value * x[self.column], minlength=rows)


def sparse_identity(size: int) -> Entries:
    """The matrix that changes nothing."""
    return Entries(np.arange(size), np.arange(size), np.ones(size))


def selection(index: np.ndarray) -> Entries:
    """The matrix of ``y[i] = x[index[i]]``, with -1 for zero."""
    (row,) = np.nonzero(index.ravel() >= 0)
    return Entries(row, index.ravel()[row], np.ones(len(row)))


def dense_entries(kernel: np.ndarray, positions: int) -> Entries:
    """The matrix of ``x @ kernel`` with a kernel ``[in, out]``, at so many positions side by side."""
    column, row = np.nonzero(kernel)
    place = np.arange(positions)[:, None]
    value = np.broadcast_to(kernel[column, row], (positions, len(row)))
    return Entries(
        (place * kernel.shape[1] + row).ravel(),
        (place * kernel.shape[0] + column).ravel(),
        value.astype(np.float64).ravel(),
    )


def convolution_entries(
    kernel: np.ndarray,
    shapes: tuple[Sequence[int], Sequence[int]],
    strides: Sequence[int],
    before: Sequence[int],
    dilation: Sequence[int],
) -> Entries:
    """The matrix of a convolution of ``[*size, channels]``, in any number of dimensions.

    Args:
        kernel: ``[*window, in channels, out channels]``, groups written out.
        shapes: of input and output.
        strides: how far windows are apart.
        before: rows and columns of zeros added before the first (negative: cut off).
        dilation: how far the entries of a window are apart.
    """
    (*size, channels), (*grid, outputs) = shapes
    parts = []
    for tap in np.ndindex(*kernel.shape[:-2]):
        places = [
            _inside(grid[axis], strides[axis], step * dilation[axis] - before[axis], size[axis])
            for axis, step in enumerate(tap)
        ]
        channel, output = np.nonzero(kernel[tap])
        window = np.ravel_multi_index(np.ix_(*(windows for windows, _ in places)), grid).reshape(-1, 1)
        pixel = np.ravel_multi_index(np.ix_(*(pixels for _, pixels in places)), size).reshape(-1, 1)
        value = np.broadcast_to(kernel[tap][channel, output].astype(np.float64), (len(window), len(output)))
        parts.append(((window * outputs + output).ravel(), (pixel * channels + channel).ravel(), value.ravel()))
    return Entries(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def _inside(count: int, stride: int, shift: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """The windows whose entry at ``shift`` lies inside of the image, and where that is."""
    place = np.arange(count) * stride + shift
    (windows,) = np.nonzero((place >= 0) & (place < length))
    return windows, place[windows]


def total(parts: Sequence[Entries], width: int) -> Entries:
    """The sum of matrices of ``width`` columns, each place named once, without zeros."""
    row, column, value = (np.concatenate([getattr(p, k) for p in parts]) for k in ("row", "column", "value"))
    key = row * width + column
    if not (key[1:] > key[:-1]).all():
        order = np.argsort(key, kind="stable")
        key, value = key[order], value[order]
        (first,) = np.nonzero(np.concatenate([np.ones(min(1, len(key)), bool), key[1:] != key[:-1]]))
        key, value = key[first], np.add.reduceat(value, first) if len(first) else value
    some = value != 0
    return Entries(key[some] // width, key[some] % width, value[some])


def product(outer: Entries, inner: Entries, middle: int, width: int) -> Entries:
    """The matrix product of a matrix of ``middle`` columns with one of so many rows and ``width`` columns."""
    inner = total([inner], width)
    counts = np.bincount(inner.row, minlength=middle)
    if (counts == 1).all() and len(np.unique(inner.column)) == middle:  # nothing is added up
        return Entries(outer.row, inner.column[outer.column], outer.value * inner.value[outer.column])
    outer = total([outer], middle)
    work = counts[outer.column]
    ends = np.searchsorted(outer.row, np.arange(outer.row[-1] + 2)) if len(outer) else np.zeros(1, int)
    if middle * width <= _DENSE and work.sum() > _OVERLAP * (len(ends) - 1) * width:
        return _full_product(outer, inner, middle, width)
    starts, spent = np.cumsum(counts) - counts, np.concatenate([[0], np.cumsum(work)])
    parts, first = [], 0
    while first < len(outer):
        most = int(np.searchsorted(spent, spent[first] + _AT_ONCE, side="right")) - 1
        # Whole rows at a time, at least one.
        last = max(int(ends[np.searchsorted(ends, most, side="right") - 1]), int(ends[ends > first][0]))
        each = work[first:last]
        place = np.arange(each.sum()) + np.repeat(starts[outer.column[first:last]] - (np.cumsum(each) - each), each)
        row, value = np.repeat(outer.row[first:last], each), np.repeat(outer.value[first:last], each)
        parts.append(total([Entries(row, inner.column[place], value * inner.value[place])], width))
        first = last
    return parts[0] if len(parts) == 1 else _side_by_side(parts)


def _side_by_side(parts: Sequence[Entries]) -> Entries:
    empty = Entries(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    return Entries(*(np.concatenate([getattr(p, k) for p in (empty, *parts)]) for k in ("row", "column", "value")))


def _full_product(outer: Entries, inner: Entries, middle: int, width: int) -> Entries:
    """The same through a matrix that is written out in full."""
    full = np.zeros((middle, width))
    full[inner.row, inner.column] = inner.value
    rows, parts = int(outer.row[-1]) + 1, []
    size = max(1, _AT_ONCE // max(middle, width))
    for first in range(0, rows, size):
        begin, end = np.searchsorted(outer.row, [first, first + size])
        part = np.zeros((min(size, rows - first), middle))
        part[outer.row[begin:end] - first, outer.column[begin:end]] = outer.value[begin:end]
        found = part @ full
        row, column = np.nonzero(found)
        parts.append(Entries(row + first, column, found[row, column]))
    return _side_by_side(parts)


def numbered(shape: Sequence[int]) -> np.ndarray:
    """``[1, *shape]``: the numbers from 1 on, which a map that only moves numbers carries to where it moves them."""
    return np.arange(1, math.prod(shape) + 1, dtype=np.float64).reshape(1, *shape)
