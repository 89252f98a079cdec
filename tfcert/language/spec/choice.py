"""Which of a data set's samples are meant: steps that are taken one after another, as they are written."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

Numbered = tuple[int, float | None]
"""A sample: its number in the data set, and its label."""


@dataclass(frozen=True)
class ChoiceStep:
    """One step of a choice.

    Attributes:
        kind: ``take`` (the first ``number``), ``per class`` (the first ``number`` of each label), ``skip`` (all but the
            first ``number``), ``shuffle`` (an order that follows from the seed ``number``), or ``indices``.
        indices: counted from 0 in what earlier steps left, in the order in which they are wanted.
    """

    kind: str
    number: int = 0
    indices: tuple[int, ...] = ()

    def apply(self, samples: Iterator[Numbered]) -> Iterator[Numbered]:
        """The samples that the step leaves, read no further than it has to.

        Raises:
            IndexError: an index beyond the samples.
            ValueError: samples without labels are asked for by class.
        """
        match self.kind:
            case "take":
                return islice(samples, self.number)
            case "skip":
                return islice(samples, self.number, None)
            case "per class":
                return self._of_each(samples)
            case "shuffle":
                every = list(samples)
                random.Random(self.number).shuffle(every)
                return iter(every)
            case _:
                some = list(islice(samples, max(self.indices) + 1))
                if len(some) <= max(self.indices):
                    raise IndexError(f"there is no sample {max(self.indices)}: there are {len(some)}, counted from 0")
                return iter([some[index] for index in self.indices])

    def _of_each(self, samples: Iterator[Numbered]) -> Iterator[Numbered]:
        met: dict[float, int] = {}
        for number, label in samples:
            if label is None:
                raise ValueError("samples without labels cannot be taken per class")
            if label != int(label):
                raise ValueError(f"samples cannot be taken per class: the label {label} is none")
            met[label] = met.get(label, 0) + 1
            if met[label] <= self.number:
                yield number, label


Choice = tuple[ChoiceStep, ...]


def chosen(steps: Choice, samples: Iterable[Numbered]) -> Iterator[Numbered]:
    """The samples that all steps leave, in their order; errors as for :meth:`ChoiceStep.apply`."""
    left = iter(samples)
    for step in steps:
        left = step.apply(left)
    return left


def needs_end(steps: Choice) -> bool:
    """Tells whether samples that never end would be read for ever."""
    for step in steps:
        if step.kind in ("take", "indices"):
            return False
        if step.kind in ("shuffle", "per class"):
            return True
    return True


def at_most(steps: Choice, count: int | None) -> int | None:
    """How many of so many samples are left at most; None where nothing is known."""
    for step in steps:
        match step.kind:
            case "take":
                count = step.number if count is None else min(count, step.number)
            case "indices":
                count = len(step.indices)
            case "skip" if count is not None:
                count = max(0, count - step.number)
            case _:
                pass
    return count


def nothing_shared(one: Choice, other: Choice) -> bool:
    """Tells whether two choices of one data set's samples are seen to have none in common: ``take 10``, ``skip 10``."""
    for first, second in zip(one, other, strict=False):
        if first != second:
            taken = {step.kind: step.number for step in (first, second)}
            return set(taken) == {"take", "skip"} and taken["take"] <= taken["skip"]
    return False


def only_take(steps: Choice) -> int | None:
    """The number of a choice that is just the first so many; None for others."""
    return steps[0].number if [step.kind for step in steps] == ["take"] else None
