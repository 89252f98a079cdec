"""The three spaces in which values are written, and exact conversion between them.

``raw`` is the stored values, ``unit`` is ``raw * scale``, ``net`` is what the network receives,
``(unit - mean) / std`` for each channel (the last axis of the input). Everything here is exact; whoever puts the
numbers into a tensor rounds them (``tfcert.sets.rounding``).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

SPACES = ("raw", "unit", "net")


@dataclass(frozen=True)
class Transform:
    """The way from stored values to network inputs.

    Attributes:
        scale: positive; ``unit = raw * scale``.
        mean, std: one number, or one for each channel; ``net = (unit - mean) / std`` and every std is positive.
    """

    scale: Fraction = Fraction(1)
    mean: tuple[Fraction, ...] = (Fraction(0),)
    std: tuple[Fraction, ...] = (Fraction(1),)

    @property
    def scales(self) -> bool:
        """Tells whether raw and unit differ."""
        return self.scale != 1

    @property
    def normalises(self) -> bool:
        """Tells whether unit and net differ."""
        return any(m != 0 for m in self.mean) or any(s != 1 for s in self.std)

    @property
    def channels(self) -> int:
        """The number of channels that are told apart; 1 if all are treated alike."""
        return max(len(self.mean), len(self.std))

    @property
    def uniform_std(self) -> bool:
        """Tells whether a ball stays a ball (of any norm) in network space."""
        return len(set(self.std)) == 1

    def net_values(self, space: str, values: tuple[Fraction, ...]) -> tuple[Fraction, ...]:
        """Values (one for all, or one for each channel or input) of a space in network space."""
        if space == "net":
            return values
        unit = tuple(v * self.scale for v in values) if space == "raw" else values
        size = len(unit) if len(unit) > 1 else self.channels
        mean, std = self._each(self.mean, size), self._each(self.std, size)
        return tuple((u - m) / s for u, m, s in zip(self._each(unit, size), mean, std, strict=True))

    def before_unequal(self, space: str) -> Transform:
        """The way to network space, or as far as a ball of a space keeps its shape: before channels have their own
        std."""
        return self if space == "net" or self.uniform_std else Transform(self.scale)

    def net_eps(self, space: str, eps: Fraction) -> tuple[Fraction, ...]:
        """A radius of a space in network space: one number, or one for each channel if their std differ."""
        if space == "net":
            return (eps,)
        unit = eps * self.scale if space == "raw" else eps
        if self.uniform_std:
            return (unit / self.std[0],)
        return tuple(unit / s for s in self.std)

    def stored(self, index: int) -> tuple[Fraction, Fraction]:
        """The way back for one number of an input laid out flat: factor and offset from network space to stored."""
        mean, std = (values[index % len(values)] for values in (self.mean, self.std))
        return std / self.scale, mean / self.scale

    def pixel(self, space: str, valid: tuple[Fraction, Fraction] | None) -> Fraction | None:
        """The size in a space of a pixel step, one 255th of the valid range of stored values.

        None without a valid range, and in a normalised network space.
        """
        if valid is None or (space == "net" and self.normalises):
            return None
        return self.width(space, valid) / 255

    def width(self, space: str, valid: tuple[Fraction, Fraction]) -> Fraction:
        """The width in a space of a range of stored values; in network space that of the narrowest channel."""
        raw = valid[1] - valid[0]
        if space == "raw":
            return raw
        return raw * self.scale / (max(self.std) if space == "net" else 1)

    @staticmethod
    def _each(values: tuple[Fraction, ...], size: int) -> tuple[Fraction, ...]:
        """One value for each of ``size`` places; several values repeat with the channels, the last axis."""
        if size % len(values):
            raise ValueError(f"{len(values)} channels do not divide {size} inputs")
        return values * (size // len(values))


IDENTITY = Transform()
"""All three spaces are the same."""
