"""Where the numbers of a formula lie: outputs of applications, features of points, and what a sample gives.

A question applies networks to quantified points, to the sample, or to what another application answers. Outputs of the
applications to the sample alone are constants of each sample. All others lie side by side in one vector, in the order
of the applications; behind them stand the features that the formula names, as the networks receive them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

LabelValue = int | Fraction | None


@dataclass(frozen=True)
class Shown:
    """A feature behind the outputs: what is stored is ``factor * number + offset``, exactly.

    Attributes:
        of, index: the quantified point, and the place among its numbers.
    """

    of: int
    index: int
    factor: Fraction = Fraction(1)
    offset: Fraction = Fraction(0)


@dataclass(frozen=True)
class Layout:
    """The columns of a question's rows.

    Attributes:
        sizes: the number of outputs of each application.
        fixed: the applications to the sample alone, which have no columns.
        shown: the features, in the order of the columns behind the outputs.
    """

    sizes: tuple[int, ...]
    fixed: frozenset[int] = frozenset()
    shown: tuple[Shown, ...] = ()

    @classmethod
    def of(cls, given: Layout | int) -> Layout:
        """A layout as it is; a number stands for one application with so many outputs."""
        return given if isinstance(given, Layout) else cls((given,))

    @property
    def outputs(self) -> int:
        """The number of columns that are outputs."""
        return sum(size for number, size in enumerate(self.sizes) if number not in self.fixed)

    @property
    def width(self) -> int:
        """The number of columns."""
        return self.outputs + len(self.shown)

    def start(self, of: int) -> int:
        """The column of an application's first output."""
        return sum(size for number, size in enumerate(self.sizes[:of]) if number not in self.fixed)

    def place(self, of: int, index: int) -> tuple[int, Shown]:
        """The column of a feature, and what it shows.

        Raises:
            IndexError: it is not shown.
        """
        for place, shown in enumerate(self.shown):
            if (shown.of, shown.index) == (of, index):
                return self.outputs + place, shown
        raise IndexError(f"feature {index} of point {of} is not among those shown")

    def values(self, columns: Sequence[Fraction]) -> Concrete:
        """What the columns say of the applications and features, exactly.

        Raises:
            ValueError: there are too few or too many.
        """
        if len(columns) != self.width:
            raise ValueError(f"expected {self.width} numbers, got {len(columns)}")
        starts = [self.start(number) for number in range(len(self.sizes))]
        outputs = tuple(
            () if number in self.fixed else tuple(columns[start : start + size])
            for number, (start, size) in enumerate(zip(starts, self.sizes, strict=True))
        )
        features = {
            (s.of, s.index): s.factor * number + s.offset
            for s, number in zip(self.shown, columns[self.outputs :], strict=True)
        }
        return Concrete(outputs, features)


@dataclass(frozen=True)
class Concrete:
    """Concrete outputs and features, exact.

    Attributes:
        outputs: of each application that is not fixed, by its number; empty where it is.
        features: stored numbers of the quantified points, by point and place.
    """

    outputs: tuple[Sequence[Fraction], ...] = ()
    features: Mapping[tuple[int, int], Fraction] = field(default_factory=dict)

    @classmethod
    def of(cls, given: Concrete | Sequence[Fraction]) -> Concrete:
        """Values as they are; a list of numbers are the outputs of the only application."""
        return given if isinstance(given, Concrete) else cls((given,))


@dataclass(frozen=True)
class SampleFacts:
    """What a sample gives to a formula.

    Attributes:
        label: its label, or None.
        features: its stored numbers, where the formula names any.
        outputs: the answers of the applications to the sample alone, by number; empty for the others.
        value: what a measure's variable is taken to be; None where there is none.
    """

    label: LabelValue = None
    features: tuple[Fraction, ...] = ()
    outputs: tuple[tuple[Fraction, ...], ...] = ()
    value: Fraction | None = None

    @classmethod
    def of(cls, given: SampleFacts | LabelValue) -> SampleFacts:
        """Facts as they are; a number, or None, is the label of a sample of which nothing else is asked."""
        return given if isinstance(given, SampleFacts) else cls(given)

    def answers(self, of: int) -> tuple[Fraction, ...]:
        """The outputs of a fixed application.

        Raises:
            ValueError: they are not known.
        """
        if of >= len(self.outputs) or not self.outputs[of]:
            raise ValueError(f"the formula names what application {of} says of the sample, and that is not known")
        return self.outputs[of]
