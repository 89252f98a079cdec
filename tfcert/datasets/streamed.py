"""Samples of a ``tf.data.Dataset``, read as far as they are needed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from tfcert.datasets.base import DatasetError
from tfcert.datasets.lazy import LazyInputs
from tfcert.digest import add_array
from tfcert.given import elements, label_numbers

KEPT = 2**28
"""Bytes of the first samples that are kept once they are read; what follows is read again when it is needed again."""
MOST = 1_000_000
"""So many samples of an endless data set are read at most in search of those that a question is about."""


class StreamedInputs(LazyInputs):
    """The inputs of a data set that can be read forward alone, from its beginning each time.

    Labels and a digest of each sample are kept, so that a second reading is known to give the same samples.
    """

    random_access = False

    def __init__(self, data: Any, what: str):
        self._data, self._what = data, what
        self._limit: int | None = None
        self._labels: list[float | None] = []
        self._digests: list[bytes] = []
        self._kept: list[np.ndarray] = []
        self._kept_bytes = 0
        self._ended = False
        self._endless = int(data.cardinality()) == -1
        self._reading = self._samples()
        self._position = 0
        if not self._reach(0):
            raise DatasetError(f"{what} has no elements")
        self.sample_shape, self.dtype = self._kept[0].shape, self._kept[0].dtype

    @property
    def labelled(self) -> bool:
        """Tells whether samples come with labels."""
        return self._labels[0] is not None

    def limit_to(self, count: int) -> None:
        self._limit, self._endless = count if self._limit is None else min(count, self._limit), False
        for known in (self._labels, self._digests, self._kept):
            del known[count:]

    def ask(self, indices: np.ndarray | None) -> None:
        if indices is None:
            len(self)

    def __len__(self) -> int:
        self.require_end()
        while not self._ended:
            self._reach(len(self._labels))
        return len(self._labels)

    def require_end(self) -> None:
        if self._endless:
            raise DatasetError(
                f"{self._what} repeats for ever, and all of its samples are asked about: say how many, `take N`"
            )

    def _at_most(self, count: int) -> int:
        self._reach(count - 1)
        return min(count, len(self._labels))

    def labels(self) -> Iterator[float | None]:
        place = 0
        while self._reach(place):
            yield self._labels[place]
            place += 1
            if self._endless and place > MOST:
                raise DatasetError(
                    f"{self._what} repeats for ever, and {MOST:,} samples were not enough: does `where` select any?"
                )

    def digest(self) -> str:
        digest = hashlib.sha256(f"{self.sample_shape} {self.dtype} {len(self._digests)} ".encode())
        for one in self._digests:
            digest.update(one)
        return digest.hexdigest()

    def _restart(self) -> None:
        self._reading, self._position = self._samples(), 0

    def _samples(self) -> Iterator[tuple[np.ndarray, int | None]]:
        for x, y in elements(self._data):
            try:
                labels = [None] * len(x) if y is None else label_numbers(y, len(x)).tolist()
            except ValueError as error:
                raise DatasetError(f"{self._what}: {error}") from error
            yield from zip(x, labels, strict=True)

    def _reach(self, place: int) -> bool:
        """Reads on until the sample at a place is known; tells whether there is one."""
        while len(self._labels) <= place and not self._ended:
            if self._position < len(self._labels):
                self._skip_to(len(self._labels))
            if len(self._labels) == self._limit or self._next() is None:
                self._ended = True
        return place < len(self._labels)

    def _skip_to(self, place: int) -> None:
        while self._position < place:
            self._next()

    def _next(self) -> np.ndarray | None:
        """The next input of this reading; None after the last."""
        try:
            x, label = next(self._reading)
        except StopIteration:
            if self._position < len(self._labels):
                self._changed()
            return None
        except ValueError as error:
            raise error if isinstance(error, DatasetError) else DatasetError(f"{self._what}: {error}") from error
        digest = hashlib.sha256(str(label).encode())
        add_array(digest, x)
        if self._position < len(self._labels):
            if self._digests[self._position] != digest.digest():
                self._changed()
        else:
            self._note(x, label, digest.digest())
        self._position += 1
        return x

    def _note(self, x: np.ndarray, label: float | None, digest: bytes) -> None:
        if self._kept and x.shape != self._kept[0].shape:
            shapes = f"shape {x.shape}, others {self._kept[0].shape}"
            raise DatasetError(f"{self._what}: sample {self._position} has {shapes}")
        if len(self._kept) == len(self._labels) and (self._kept_bytes < KEPT or not self._kept):
            self._kept.append(np.array(x))
            self._kept_bytes += x.nbytes
        self._labels.append(label)
        self._digests.append(digest)

    def _changed(self) -> None:
        raise DatasetError(
            f"{self._what} gives other samples when it is read again (sample {self._position}): shuffle with "
            "reshuffle_each_iteration=False, or put .cache() behind what is random"
        )

    def _read(self, indices: np.ndarray) -> np.ndarray:
        self._reach(int(indices.max()))
        found: dict[int, np.ndarray] = {}
        for place in sorted({int(i) for i in indices}):
            found[place] = self._kept[place] if place < len(self._kept) else self._at(place)
        return np.stack([found[int(i)] for i in indices])

    def _at(self, place: int) -> np.ndarray:
        if place >= len(self._labels):
            raise IndexError(f"{self._what} has {len(self._labels)} samples, and no number {place}")
        if self._position > place:
            self._restart()
        self._skip_to(place)
        x = self._next()
        assert x is not None
        return x


class StreamedLabels:
    """The labels of streamed inputs ``[n]``, read as far as they are asked for."""

    def __init__(self, inputs: StreamedInputs):
        self._inputs = inputs

    def __iter__(self) -> Iterator[float]:
        return (label for label in self._inputs.labels() if label is not None)

    def __len__(self) -> int:
        return len(self._inputs)

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        self._inputs.require_end()
        found = list(self)
        return np.array(found, dtype if found or dtype is not None else np.int64)
