"""Settings of regions: data, model, and the range of the values."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from tfcert.language.spec.declarations import Dataset, ModelDeclaration
from tfcert.language.spec.regions import Ends
from tfcert.language.spec.spaces import IDENTITY, Transform

SLACK = Fraction(1, 10)
"""How far an end of the unit space may lie from 0 and 1: bytes may be divided by 256, or begin at 1."""


@dataclass(frozen=True)
class Setting:
    """Everything but its own text that a region depends on: data set, model, whether a radius varies (a measure)."""

    dataset: Dataset | None
    model: ModelDeclaration | None
    varies: bool = False

    @property
    def transform(self) -> Transform:
        """From stored values to network inputs; the model's normalisation counts if the data set has none."""
        data = self.dataset.transform if self.dataset else IDENTITY
        if self.model is None or not (self.model.mean or self.model.std) or data.normalises:
            return data
        return Transform(data.scale, self.model.mean or IDENTITY.mean, self.model.std or IDENTITY.std)

    @property
    def normalises_twice(self) -> bool:
        """Tells whether both the data set and the model normalise, so that one of them would be left out."""
        model, dataset = self.model, self.dataset
        return bool(model and dataset and (model.mean or model.std) and dataset.transform.normalises)

    def ends(self, space: str) -> Ends | None:
        """The declared range in a space; None without one, and in network space after normalisation."""
        if space == "net" and self.transform.normalises:
            return None
        return self.range if space == "raw" else self.unit_range

    @property
    def range(self) -> Ends | None:
        """The range that the data set declares for its stored values, or that its source has."""
        return self.dataset.range if self.dataset else None

    @property
    def unit_range(self) -> Ends | None:
        """The declared range after ``scale``."""
        if self.range is None:
            return None
        return self.range[0] * self.transform.scale, self.range[1] * self.transform.scale

    def width(self, space: str) -> Fraction | None:
        """The width of the declared range in a space, of the narrowest channel; None where no range is declared."""
        return None if self.range is None else self.transform.width(space, self.range)

    def pixel(self, space: str) -> Fraction | None:
        """The size of a pixel step in a space; None without a range, and in network space after normalisation."""
        return self.transform.pixel(space, self.range)


def is_unit(ends: Ends) -> bool:
    """Tells whether an interval is about [0, 1]."""
    return abs(ends[0]) <= SLACK and abs(ends[1] - 1) <= SLACK
