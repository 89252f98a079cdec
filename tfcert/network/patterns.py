"""What an index of numbers does axis by axis: slices, orders of axes and copies have cheaper maps than any index."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from tfcert.network.linear import Shape


@dataclass(frozen=True)
class AxisMoves:
    """``y = broadcast(reshape(transpose(take(x))))``, which is what an index does.

    Attributes:
        takes: for each axis of the input the slices that are read, -1 for zeros.
        order: the axes after that in the order in which they stand in the output; those of length one come last.
        spread: the output's shape with an axis of length one where copies stand.
    """

    takes: tuple[np.ndarray, ...]
    order: tuple[int, ...]
    spread: Shape

    @property
    def copies(self) -> bool:
        """Whether an input is read more than once."""
        return any(len(np.unique(read := take[take >= 0])) < read.size for take in self.takes)

    def changed(self, shape: Shape) -> list[int]:
        """The axes that are not read as they are."""
        return [axis for axis, take in enumerate(self.takes) if not np.array_equal(take, np.arange(shape[axis]))]


def axis_moves(index: np.ndarray, shape: Shape) -> AxisMoves | None:
    """What ``y[i] = x[index[i]]`` does axis by axis, with -1 for zero; None where it mixes axes.

    Args:
        index: flat positions in the input, of the output's shape.
        shape: the input's shape.
    """
    inside = index >= 0
    full = [inside.any(axis=tuple(a for a in range(index.ndim) if a != axis)) for axis in range(index.ndim)]
    if not inside.any() or not index.ndim or not np.array_equal(inside, functools.reduce(np.logical_and.outer, full)):
        return None
    where = np.unravel_index(index[np.ix_(*map(np.flatnonzero, full))], shape)
    takes: list[np.ndarray] = []
    reads: dict[int, int] = {}
    for axis, place in enumerate(where):
        varying = [a for a in range(index.ndim) if (place != place.take([0], axis=a)).any()]
        if len(varying) > 1 or any(a in reads for a in varying):
            return None
        if not varying:
            takes.append(place.ravel()[:1])
            continue
        (out,) = varying
        reads[out] = axis
        take = np.full(index.shape[out], -1)
        take[full[out]] = place[tuple(slice(None) if a == out else 0 for a in range(index.ndim))]
        takes.append(take)
    if any(not full[a].all() for a in range(index.ndim) if a not in reads):
        return None
    rest = [axis for axis in range(len(shape)) if axis not in reads.values()]
    spread = tuple(size if a in reads else 1 for a, size in enumerate(index.shape))
    return AxisMoves(tuple(takes), (*(reads[a] for a in sorted(reads)), *rest), spread)
