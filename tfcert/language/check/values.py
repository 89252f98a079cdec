"""Values of expressions, and exact arithmetic within bounds."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from tfcert.language.check.scope import Definition
from tfcert.language.spec.formula import Formula, Term
from tfcert.language.text import syntax as s

MAX_BITS = 4096
"""Numerators and denominators beyond this are refused: no text may cost unbounded arithmetic."""

LARGEST = Fraction(sys.float_info.max)
LEAST_NORMAL = Fraction(sys.float_info.min)
_PI = Fraction(314159265358979323846264338327950288419716939937510582097494459, 10**62)
UNITS: dict[str, tuple[Fraction, str]] = {
    "": (Fraction(1), ""),
    "%": (Fraction(1, 100), "%"),
    "deg": (_PI / 180, "deg"),
    "rad": (Fraction(1), "deg"),
    "px": (Fraction(1), "px"),
    "mm": (Fraction(1, 1000), "m"),
    "cm": (Fraction(1, 100), "m"),
    "m": (Fraction(1), "m"),
    "km": (Fraction(1000), "m"),
    "ft": (Fraction(3048, 10_000), "m"),
    "mi": (Fraction(1_609_344, 1000), "m"),
    "nmi": (Fraction(1852), "m"),
    "kt": (Fraction(1852, 3600), "kt"),
    "ms": (Fraction(1, 1000), "s"),
    "s": (Fraction(1), "s"),
    "min": (Fraction(60), "s"),
    "h": (Fraction(3600), "s"),
    **dict.fromkeys(("day", "days"), (Fraction(86_400), "s")),
    **dict.fromkeys(("week", "weeks"), (Fraction(604_800), "s")),
    **dict.fromkeys(("month", "months"), (Fraction(1, 12), "year")),
    **dict.fromkeys(("year", "years"), (Fraction(1), "year")),
}
"""Factor and dimension of each unit. Degrees are radians to 60 digits, lengths metres, speeds metres a second. Years
and months are no times, since they are of no fixed number of days."""

MIXED = "*%"
"""The dimension of a percentage times or plus a plain number: nobody can say what it would be a share of."""
DIMENSIONS = {
    "": "a plain number",
    "%": "a percentage",
    MIXED: "a percentage that is scaled or added to a number",
    "deg": "an angle",
    "px": "a number of pixels",
    "m": "a length",
    "kt": "a speed",
    "s": "a time",
    "year": "a number of years or months",
}
MEASURED = {
    "m": "divide by the unit in which it is stored: `500m/1ft` is a plain number",
    "kt": "divide by the unit in which it is stored: `250kt/1kt` is a plain number",
    "year": "divide by the unit in which it is stored: `18months/1year` is a plain number",
}
"""Dimensions that are no values of inputs or outputs by themselves, and what to write."""
NUMBERS = ("", "%", MIXED, "deg")
"""Dimensions that stand for plain numbers where a share or an angle means nothing of its own."""


def sum_unit(a: str, b: str) -> str | None:
    """The dimension of a sum; None where the two cannot be added."""
    if a == b:
        return a
    if {a, b} == {"", "deg"}:
        return "deg"
    return MIXED if {a, b} <= {"", "%", MIXED} else None


def product_unit(a: str, b: str) -> str | None:
    """The dimension of a product; None where the two cannot be multiplied."""
    shares, others = ("%", MIXED), [u for u in (a, b) if u not in ("", "%", MIXED)]
    if len(others) > 1:
        return None
    return others[0] if others else MIXED if a in shares or b in shares else ""


@dataclass(frozen=True)
class Numeric:
    """A number, constant or linear in outputs and label, with its dimension."""

    term: Term
    unit: str = ""


@dataclass(frozen=True)
class Condition:
    """Something true or false."""

    formula: Formula


@dataclass(frozen=True)
class Outputs:
    """All outputs of an application, by its number; ``fixed`` if it is to the sample alone."""

    model: Definition
    of: int = 0
    fixed: bool = False


@dataclass(frozen=True)
class Winner:
    """``argmax`` or ``argmin`` of a model's outputs; the application by its number."""

    kind: str
    model: Definition
    of: int = 0


@dataclass(frozen=True)
class TopOutputs:
    """``top(f(z), count)``: the ``count`` largest outputs; the application by its number."""

    model: Definition
    count: int
    of: int = 0


@dataclass(frozen=True)
class ClassSet:
    """``{members}``; what they stand for is known where it is known of which network they are classes."""

    members: tuple[s.Expr, ...]
    home: Any
    """The evaluator of the text that they stand in."""


@dataclass(frozen=True)
class Inputs:
    """An input of a network: a quantified point by its number, or the sample (None)."""

    name: str
    point: int | None = None


@dataclass(frozen=True)
class Agreed:
    """``agree(a, b, except=[...])``: two inputs that share all numbers but some."""

    one: Inputs
    other: Inputs
    excepted: tuple[int, ...]


@dataclass(frozen=True)
class Words:
    """A text."""

    text: str


@dataclass(frozen=True)
class Norm:
    """``linf``, ``l2`` or ``l1``."""

    name: str


@dataclass(frozen=True)
class Items:
    """A list."""

    values: tuple[Meaning, ...]


Meaning = Numeric | Condition | Outputs | Winner | TopOutputs | ClassSet | Inputs | Agreed | Words | Norm | Items


def describe(value: Meaning) -> str:
    """The kind of thing that a value is, for error messages."""
    match value:
        case Numeric(_, unit):
            return DIMENSIONS[unit]
        case Condition():
            return "a condition"
        case Outputs():
            return "all outputs of a network"
        case Winner(kind):
            return f"an {kind}"
        case TopOutputs():
            return "the largest outputs of a network"
        case ClassSet():
            return "a set of classes"
        case Inputs():
            return "an input of the network"
        case Agreed():
            return "an agreement of two inputs"
        case Words():
            return "a text"
        case Norm():
            return "a norm"
        case Items():
            return "a list"


def is_normal(number: Fraction) -> bool:
    """Tells whether float64 holds a number up to rounding, neither as infinity nor as a number of fewer digits."""
    return number == 0 or LEAST_NORMAL <= abs(number) <= LARGEST


def within_bounds(number: Fraction) -> bool:
    """Tells whether a number is small enough to go on calculating exactly."""
    return number.numerator.bit_length() <= MAX_BITS and number.denominator.bit_length() <= MAX_BITS
