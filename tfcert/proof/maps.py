"""Linear maps: forward, with absolute values, and transposed; values are ``[count, *shape]`` float64."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

Pair = tuple[int, int]
Padding = tuple[Pair, Pair]


class Map(ABC):
    """A linear map W of a layer, without its bias.

    Attributes:
        into, out: shapes of what it takes and gives.
        terms: of the sum that is one number of ``W x``, at most.
        reads: of the sum that is one number of the transposed product, at most.
        exact: whether it only moves numbers, so that no program rounds.
    """

    into: tuple[int, ...]
    out: tuple[int, ...]
    terms: int
    reads: int
    exact = False

    @abstractmethod
    def forward(self, x: np.ndarray, size: bool = False) -> np.ndarray:
        """``W x``, or ``|W| x``."""

    @abstractmethod
    def back(self, rows: np.ndarray) -> np.ndarray:
        """``rows W``."""


class Matrix(Map):
    """A matrix ``[inputs, outputs]``, applied to the last axis."""

    def __init__(self, into: tuple[int, ...], weights: np.ndarray):
        self.weights = weights.astype(np.float64)
        self.into, self.out = into, (*into[:-1], weights.shape[1])
        self.terms, self.reads = weights.shape

    def forward(self, x: np.ndarray, size: bool = False) -> np.ndarray:
        return np.asarray(x @ (np.abs(self.weights) if size else self.weights))

    def back(self, rows: np.ndarray) -> np.ndarray:
        return np.asarray(rows @ self.weights.T)


class Scale(Map):
    """Each channel times a number."""

    terms = reads = 1

    def __init__(self, into: tuple[int, ...], factors: np.ndarray):
        self.factors, self.into, self.out = factors.astype(np.float64), into, into

    def forward(self, x: np.ndarray, size: bool = False) -> np.ndarray:
        return np.asarray(x * (np.abs(self.factors) if size else self.factors))

    def back(self, rows: np.ndarray) -> np.ndarray:
        return np.asarray(rows * self.factors)


class Moved(Map):
    """The same numbers in another shape, or with zeros around an image."""

    terms = reads = 1
    exact = True

    def __init__(self, into: tuple[int, ...], out: tuple[int, ...], zeros: Padding | None = None):
        self.into, self.out, self.zeros = into, out, zeros

    def forward(self, x: np.ndarray, size: bool = False) -> np.ndarray:
        return x.reshape(-1, *self.out) if self.zeros is None else np.pad(x, ((0, 0), *self.zeros, (0, 0)))

    def back(self, rows: np.ndarray) -> np.ndarray:
        return rows.reshape(-1, *self.into) if self.zeros is None else cropped(rows, self.zeros)


def cropped(x: np.ndarray, zeros: Padding) -> np.ndarray:
    """Images ``[count, h, w, channels]`` without what was put around them."""
    (top, bottom), (left, right) = zeros
    return x[:, top : x.shape[1] - bottom, left : x.shape[2] - right]


class Windows:
    """The windows that a layer cuts an image ``[h, w, channels]`` into."""

    def __init__(self, into: tuple[int, ...], size: Pair, strides: Pair, padding: str, dilation: Pair = (1, 1)):
        reach = [d * (n - 1) + 1 for n, d in zip(size, dilation, strict=True)]
        if padding == "same":
            counts = [-(-n // s) for n, s in zip(into, strides, strict=False)]
            extra = [max((c - 1) * s + r - n, 0) for c, s, r, n in zip(counts, strides, reach, into, strict=False)]
            self.zeros: Padding = tuple((e // 2, e - e // 2) for e in extra)  # type: ignore[assignment]
        else:
            counts = [(n - r) // s + 1 for n, r, s in zip(into, reach, strides, strict=False)]
            self.zeros = ((0, 0), (0, 0))
        self.into, self.count, self.strides = into, (counts[0], counts[1]), strides
        self.places = [(i * dilation[0], j * dilation[1]) for i in range(size[0]) for j in range(size[1])]

        self.said = self.zeros, strides, self.places

    def at(self, place: Pair) -> tuple[slice, slice, slice]:
        """Where in a batch of padded images the number at one place of each window stands."""
        down, right = (
            slice(p, p + s * (n - 1) + 1, s) for p, s, n in zip(place, self.strides, self.count, strict=True)
        )
        return slice(None), down, right

    def pad(self, x: np.ndarray, fill: float = 0.0) -> np.ndarray:
        return np.pad(x, ((0, 0), *self.zeros, (0, 0)), constant_values=fill)

    def empty(self, count: int) -> np.ndarray:
        """Zeros for padded images."""
        high, wide = (n + sum(pad) for n, pad in zip(self.into, self.zeros, strict=False))
        return np.zeros((count, high, wide, self.into[2]))


class Convolution(Map):
    """A convolution with a kernel ``[h, w, inputs, outputs]``; of each channel alone with ``[h, w, inputs, 1]``."""

    def __init__(self, windows: Windows, kernel: np.ndarray, apart: bool = False):
        self._windows, self._apart = windows, apart
        self._kernel = kernel.astype(np.float64).reshape(-1, *kernel.shape[2:])
        self.into = windows.into
        self.out = (*windows.count, kernel.shape[2] if apart else kernel.shape[3])
        self.terms = len(self._kernel) * (1 if apart else kernel.shape[2])
        self.reads = len(self._kernel) * kernel.shape[3]

    def forward(self, x: np.ndarray, size: bool = False) -> np.ndarray:
        image, kernel = self._windows.pad(x), np.abs(self._kernel) if size else self._kernel
        found = np.zeros((len(x), *self.out))
        for place, weights in zip(self._windows.places, kernel, strict=True):
            part = image[self._windows.at(place)]
            each = part * weights[:, 0] if self._apart else part.reshape(-1, len(weights)) @ weights
            found += each.reshape(found.shape)
        return found

    def back(self, rows: np.ndarray) -> np.ndarray:
        box = used(rows)  # rows of a few numbers are zero in most of the image
        part, found = rows[box], self._windows.empty(len(rows))
        flat = part.reshape(-1, part.shape[-1])
        for place, weights in zip(self._windows.places, self._kernel, strict=True):
            each = part * weights[:, 0] if self._apart else (flat @ weights.T).reshape(*part.shape[:-1], -1)
            found[self._windows.at(place)][box] += each
        return cropped(found, self._windows.zeros)


def used(rows: np.ndarray) -> tuple[slice, ...]:
    """The smallest part of images ``[count, h, w, channels]`` beside which all are zero; all of other numbers."""
    if rows.ndim != 4:
        return (slice(None),) * rows.ndim
    some = (rows.reshape(len(rows), -1) != 0).any(axis=0).reshape(rows.shape[1:]).any(axis=2)
    ends = [np.flatnonzero(some.any(axis=axis)) for axis in (1, 0)]
    box = (slice(at[0], at[-1] + 1) if len(at) else slice(0, 1) for at in ends)
    return slice(None), *box, slice(None)


class Mean(Map):
    """The mean of the numbers in each window that lie in the image."""

    def __init__(self, windows: Windows):
        channels = windows.into[2]
        self._sum = Convolution(windows, np.ones((len(windows.places), 1, channels, 1)), apart=True)
        self.into, self.out, self.terms, self.reads = windows.into, self._sum.out, self._sum.terms, self._sum.reads
        self._share = 1.0 / self._sum.forward(np.ones((1, *self.into)))

    def forward(self, x: np.ndarray, size: bool = False) -> np.ndarray:
        return np.asarray(self._sum.forward(x) * self._share)

    def back(self, rows: np.ndarray) -> np.ndarray:
        return self._sum.back(rows * self._share)
