"""To what a question applies networks, and which numbers its points share; frozen data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class AtPoint:
    """An argument: the quantified point of that number."""

    number: int


@dataclass(frozen=True)
class AtSample:
    """An argument: the sample."""


@dataclass(frozen=True)
class AtAnswer:
    """An argument: what the application of that number answers."""

    number: int


AppliedTo = AtPoint | AtSample | AtAnswer


@dataclass(frozen=True)
class Application:
    """A network applied to its arguments: ``clf(z)``, ``clf(x)``, ``decode(encode(z))``.

    Attributes:
        model: a name in ``Spec.models``.
        arguments: one, or one for each input of a network with several.
        fixed: whether it is applied to nothing but the sample, perhaps through others: then its outputs are constants.
    """

    model: str
    arguments: tuple[AppliedTo, ...]
    fixed: bool = False


@dataclass(frozen=True)
class Agreement:
    """Numbers that two points share, or that a point shares with the sample: one number in the input vector.

    Attributes:
        one, other: quantified points, the first the lesser; ``other`` is None for the sample.
        features: those shared, or with ``others`` all but those.
    """

    one: int
    other: int | None
    features: tuple[int, ...]
    others: bool = False

    def shared(self, size: int) -> tuple[int, ...]:
        """The numbers that are shared, of points with so many."""
        return tuple(i for i in range(size) if (i in self.features) != self.others)
