"""Inputs that are read when they are asked for, so that a data set need not fit into memory."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tfcert.digest import add_array

PART = 2**23
"""Numbers of a part that is read at a time, about."""


class LazyInputs(ABC):
    """Inputs ``[n, *input]`` that are read when they are asked for: an index, a slice or an array of indices gives an
    array, and nothing else is read. What is read is not kept, so memory holds parts alone.

    Attributes:
        sample_shape, dtype: of one input.
        random_access: whether any input is read as fast as the next one.
        check: called with each array that is read and the indices of its inputs; None for nothing.
    """

    sample_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    random_access = True
    check: Callable[[np.ndarray, np.ndarray], None] | None = None

    @abstractmethod
    def __len__(self) -> int:
        """The number of inputs; where it is not known all of them are read once. ValueError if they have no end."""

    @abstractmethod
    def _read(self, indices: np.ndarray) -> np.ndarray:
        """The inputs at these indices, which are in range."""

    @abstractmethod
    def limit_to(self, count: int) -> None:
        """Leaves out all but the first ``count``."""

    @abstractmethod
    def labels(self) -> Iterator[float | None]:
        """The labels, read as they are asked for; None each where there are none."""

    @abstractmethod
    def digest(self) -> str:
        """A hash of the inputs, in full of those that :meth:`ask` was told of."""

    @abstractmethod
    def ask(self, indices: np.ndarray | None) -> None:
        """Notes which inputs a run depends on, None for all of them, for :meth:`digest`."""

    @abstractmethod
    def require_end(self) -> None:
        """Requires that the inputs come to an end, as far as that is known. ValueError otherwise."""

    @property
    def shape(self) -> tuple[int | None, ...]:
        """As of an array; None where the number of inputs is not looked up here: that is ``len``."""
        return (None, *self.sample_shape)

    @property
    def ndim(self) -> int:
        return 1 + len(self.sample_shape)

    @property
    def part(self) -> int:
        """How many inputs are worth reading at a time."""
        return max(1, min(256, PART // max(1, math.prod(self.sample_shape))))

    def __getitem__(self, index: Any) -> np.ndarray:
        if isinstance(index, slice):
            needs_end = index.stop is None or index.stop < 0 or (index.start or 0) < 0
            indices = np.arange(*index.indices(len(self) if needs_end else self._at_most(index.stop)))
        else:
            indices = np.asarray(index)
        flat = self._read(indices.reshape(-1).astype(np.int64)) if indices.size else self._none()
        if self.check is not None and len(flat):
            self.check(flat, indices.reshape(-1))
        return flat[0] if indices.ndim == 0 else flat

    def _at_most(self, count: int) -> int:
        """As many of ``count`` inputs as there are."""
        return min(count, len(self))

    def _none(self) -> np.ndarray:
        return np.zeros((0, *self.sample_shape), self.dtype)

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        whole = np.concatenate([self._none(), *self.parts()])
        return whole if dtype is None else whole.astype(dtype)

    def parts(self) -> Iterator[np.ndarray]:
        """All inputs, a part at a time."""
        for start in range(0, len(self), self.part):
            yield self[start : start + self.part]

    def mapped(self, function: Callable[[np.ndarray], np.ndarray], places: np.ndarray | None = None) -> MappedInputs:
        """What ``function`` makes of the inputs, ``[k, *input]`` to ``[k, *other]``, or of those at some places."""
        return MappedInputs(self, function, places)


class MappedInputs(LazyInputs):
    """What a function makes of other inputs, see :meth:`LazyInputs.mapped`."""

    def __init__(
        self, base: LazyInputs, function: Callable[[np.ndarray], np.ndarray], places: np.ndarray | None = None
    ):
        self._base, self._function, self._places = base, function, places
        self.random_access = base.random_access
        made = function(base._none())
        self.sample_shape, self.dtype = made.shape[1:], made.dtype

    def __len__(self) -> int:
        return len(self._base) if self._places is None else len(self._places)

    def _read(self, indices: np.ndarray) -> np.ndarray:
        return self._function(self._base[indices if self._places is None else self._places[indices]])

    def limit_to(self, count: int) -> None:
        self._places = (np.arange(len(self)) if self._places is None else self._places)[:count]

    def labels(self) -> Iterator[float | None]:
        if self._places is None:
            return self._base.labels()
        every = list(self._base.labels())
        return iter([every[place] for place in self._places])

    def digest(self) -> str:
        return self._base.digest()

    def ask(self, indices: np.ndarray | None) -> None:
        if self._places is not None:
            indices = self._places if indices is None else self._places[indices]
        self._base.ask(indices)

    def require_end(self) -> None:
        if self._places is None:
            self._base.require_end()


class JoinedInputs(LazyInputs):
    """Inputs of one shape, arrays or read as they are needed, one part after another; ``y`` are the labels of all."""

    def __init__(self, parts: Sequence[Any], y: np.ndarray | None):
        self._inputs, self._labels = list(parts), y
        self.sample_shape = tuple(parts[0].shape[1:])
        self.dtype = np.result_type(*(part.dtype for part in parts))
        self.random_access = all(getattr(part, "random_access", True) for part in parts)

    def __len__(self) -> int:
        return sum(map(len, self._inputs))

    def _read(self, indices: np.ndarray) -> np.ndarray:
        found = np.empty((len(indices), *self.sample_shape), self.dtype)
        for part, first in self._places():
            here = (indices >= first) & (indices < first + len(part))
            if here.any():
                found[here] = part[indices[here] - first]
        return found

    def _places(self) -> Iterator[tuple[Any, int]]:
        """The parts, each with the index of its first input."""
        first = 0
        for part in self._inputs:
            yield part, first
            first += len(part)

    def limit_to(self, count: int) -> None:
        kept: list[Any] = []
        for part, first in self._places():
            if first >= count:
                break
            if isinstance(part, LazyInputs):
                part.limit_to(count - first)
                kept.append(part)
            else:
                kept.append(part[: count - first])
        self._inputs = kept
        self._labels = None if self._labels is None else self._labels[:count]

    def labels(self) -> Iterator[int | None]:
        return iter([None] * len(self) if self._labels is None else self._labels.tolist())

    def digest(self) -> str:
        digest = hashlib.sha256()
        for part in self._inputs:
            if isinstance(part, LazyInputs):
                digest.update(part.digest().encode())
            else:
                add_array(digest, part)
        return digest.hexdigest()

    def ask(self, indices: np.ndarray | None) -> None:
        for part, first in self._places():
            if isinstance(part, LazyInputs):
                here = indices
                if indices is not None:
                    here = indices[(indices >= first) & (indices < first + len(part))] - first
                part.ask(here)

    def require_end(self) -> None:
        for part in self._inputs:
            if isinstance(part, LazyInputs):
                part.require_end()


def some_of(x: Any, indices: Any, count: int = 64) -> np.ndarray:
    """An array as it is; of inputs that are read when they are asked for the first ones of those at ``indices``."""
    return x[np.asarray(indices[:count], int)] if isinstance(x, LazyInputs) else x


def each_part(x: Any) -> Iterator[np.ndarray]:
    """An array as it is; inputs that are read when they are asked for a part at a time."""
    return x.parts() if isinstance(x, LazyInputs) else iter([x])
