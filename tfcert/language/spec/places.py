"""Movable of an input: which of its numbers may change, and the ways in which one of several places is chosen."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

Rows = tuple[int, int]
"""The first and the last, both of them included; counted from 0."""


class NoPlaceError(ValueError):
    """Movable that an input of its shape does not have."""


@dataclass(frozen=True)
class Movable:
    """Some numbers of an input.

    Attributes:
        rows, columns: of an image, whose first two axes they are (of a grey one, its only two); None for all.
        numbers: counted from 0 in the order of a flattened input; None for all.
        mask: a file that says which; "" for none. It is read when the question is bound.
        folder: where the file must lie.
    """

    rows: Rows | None = None
    columns: Rows | None = None
    numbers: tuple[int, ...] | None = None
    mask: str = ""
    folder: str = ""

    def on(self, shape: tuple[int, ...]) -> np.ndarray:
        """The places as a mask of one input's shape.

        Raises:
            NoPlaceError: there are no such rows, columns or numbers.
        """
        found = np.ones(shape, bool)
        if self.rows is not None or self.columns is not None:
            if len(shape) not in (2, 3):
                raise NoPlaceError(f"rows and columns are those of an image, and inputs have shape {shape}")
            for axis, (what, chosen) in enumerate((("row", self.rows), ("column", self.columns))):
                if chosen is None:
                    continue
                if chosen[1] >= shape[axis]:
                    raise NoPlaceError(f"there is no {what} {chosen[1]}: inputs have {shape[axis]}, from 0")
                inside = np.zeros(shape[axis], bool)
                inside[chosen[0] : chosen[1] + 1] = True
                found &= inside.reshape([-1 if i == axis else 1 for i in range(len(shape))])
        if self.numbers is not None:
            if max(self.numbers, default=0) >= found.size:
                raise NoPlaceError(f"there is no input {max(self.numbers)}: there are {found.size}, from 0")
            listed = np.zeros(found.size, bool)
            listed[list(self.numbers)] = True
            found &= listed.reshape(shape)
        return found


@dataclass(frozen=True)
class AnyPatch:
    """All patches of some height and width that lie in an image whole, each a step apart from the next.

    The last row and column of patches touch the image's edge, also where the step does not lead there.
    """

    height: int
    width: int
    step: int = 1

    def places(self, within: Movable | None, shape: tuple[int, ...]) -> Iterator[Movable]:
        """Each patch, cut by other places.

        Raises:
            NoPlaceError: the input is no image, or a smaller one.
        """
        if len(shape) not in (2, 3) or self.height > shape[0] or self.width > shape[1]:
            raise NoPlaceError(
                f"a patch of {self.height} x {self.width} lies in images at least as large, and inputs have "
                f"shape {shape}"
            )
        starts = (self._starts(size, whole) for size, whole in ((self.height, shape[0]), (self.width, shape[1])))
        for row, column in itertools.product(*starts):
            rows, columns = (row, row + self.height - 1), (column, column + self.width - 1)
            yield replace(within or Movable(), rows=rows, columns=columns)

    def count(self, shape: tuple[int, ...]) -> int:
        """The number of patches."""
        return math.prod(
            len(self._starts(size, whole)) for size, whole in ((self.height, shape[0]), (self.width, shape[1]))
        )

    def _starts(self, size: int, whole: int) -> list[int]:
        last = whole - size
        return [*range(0, last, self.step), last]

    @property
    def told(self) -> str:
        """What is chosen among, in words."""
        apart = f", {self.step} apart" if self.step != 1 else ""
        return f"one patch of {self.height} x {self.width}{apart}, wherever it is"


@dataclass(frozen=True)
class AnyFew:
    """Any few numbers of an input, so many of them."""

    number: int

    def places(self, within: Movable | None, shape: tuple[int, ...]) -> Iterator[Movable]:
        """Each choice of so many of the numbers that may change at all, or of all where these are fewer.

        Raises:
            NoPlaceError: as for :meth:`Movable.on`.
        """
        free = np.flatnonzero((within or Movable()).on(shape)).tolist()
        for chosen in itertools.combinations(free, min(self.number, len(free))):
            yield Movable(numbers=chosen)

    def count(self, shape: tuple[int, ...]) -> int:
        """The number of choices, if every number may change."""
        size = math.prod(shape)
        return math.comb(size, min(self.number, size))

    @property
    def told(self) -> str:
        """What is chosen among, in words."""
        return f"at most {self.number} numbers, whichever they are"
