"""Boxes some of whose numbers have certain values only: whole numbers, as the network receives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfcert.sets.balls import Box
from tfcert.sets.rounding import enclosed


class Stepped(Box):
    """All inputs between ``lower`` and ``upper`` of which some numbers have one of the values that are listed.

    Bounds are about the whole box, which holds them. ``contains`` and ``project`` are about the values alone.

    Args:
        lower, upper: ``[batch, *input]``; a number with values has its first and last one, or a little more.
        steps: the values, in order, by the number's place in a flattened input; the same for all samples.

    Raises:
        ValueError: as for :class:`Box`.
    """

    def __init__(self, lower: Any, upper: Any, steps: Mapping[int, np.ndarray]):
        super().__init__(lower, upper)
        self.steps = dict(steps)

    def __repr__(self) -> str:
        return f"{super().__repr__()}; {len(self.steps)} of {self.lower[0].size} numbers in steps"

    def astype(self, dtype: Any) -> Stepped:
        box = super().astype(dtype)
        return Stepped(box.lower, box.upper, self.steps)

    def arranged(self, places: np.ndarray) -> Stepped:
        box, order = super().arranged(places), np.asarray(places).tolist()
        return Stepped(box.lower, box.upper, {order.index(place): values for place, values in self.steps.items()})

    @classmethod
    def joined(cls, sets: Sequence[Box]) -> Stepped:
        first = sets[0]
        assert isinstance(first, Stepped)
        for one in sets:
            steps = one.steps if isinstance(one, Stepped) else {}
            if steps.keys() != first.steps.keys() or any(not np.array_equal(steps[k], first.steps[k]) for k in steps):
                raise ValueError("boxes whose numbers have different values are no batch")
        box = Box.joined(sets)
        return Stepped(box.lower, box.upper, first.steps)

    def contains(self, z: np.ndarray) -> np.ndarray:
        inside, flat = super().contains(z), self._one_each(z).reshape(len(z), -1)
        for place, values in self.steps.items():
            inside = inside & np.isin(flat[:, place].astype(np.float64), values)
        return np.asarray(inside)

    def project(self, z: np.ndarray) -> np.ndarray:
        """The nearest point in each number by itself."""
        found = super().project(z)
        flat = found.reshape(len(found), -1)
        low, high = (end.reshape(len(flat), -1).astype(np.float64) for end in enclosed(self.lower, self.upper, z.dtype))
        for place, values in self.steps.items():
            first = np.searchsorted(values, low[:, place], "left")
            last = np.maximum(np.searchsorted(values, high[:, place], "right") - 1, first)
            at = flat[:, place].astype(np.float64)
            above = np.clip(np.searchsorted(values, at), first, last)
            below = np.clip(above - 1, first, last)
            nearer = np.abs(values[np.minimum(below, len(values) - 1)] - at) <= np.abs(
                values[np.minimum(above, len(values) - 1)] - at
            )
            chosen = np.minimum(np.where(nearer, below, above), len(values) - 1)
            flat[:, place] = values[chosen]
        return flat.reshape(found.shape)
