"""Exact numbers as text."""

from __future__ import annotations

from fractions import Fraction


def exact_decimal(value: Fraction) -> str:
    """A number in decimal digits that say it exactly; of one that has no such digits, 40 of them."""
    digits = decimals_of(value)
    digits = 40 if digits is None else digits
    scaled = abs(value) * 10**digits
    text = str(int(scaled)).rjust(digits + 1, "0")
    whole, part = (text[:-digits], text[-digits:]) if digits else (text, "0")
    return f"{'-' if value < 0 else ''}{whole}.{part}"


def decimals_of(value: Fraction) -> int | None:
    """How many digits behind the point say a number exactly; None where no number of them does."""
    twos = fives = 0
    rest = value.denominator
    while rest % 2 == 0:
        rest, twos = rest // 2, twos + 1
    while rest % 5 == 0:
        rest, fives = rest // 5, fives + 1
    return max(twos, fives) if rest == 1 else None


def number_text(value: Fraction) -> str:
    """A number as the language reads it: in decimal digits, or as a quotient where these would not end."""
    if value.denominator == 1:
        return str(value.numerator)
    if decimals_of(value) is None:
        return f"{value.numerator}/{value.denominator}"
    return exact_decimal(value)


def decimal_within(x: float, low: Fraction, high: Fraction) -> str:
    """A number between two ends that a program reads as ``x``, in decimal digits: ``x`` itself where it lies there."""
    shortest = repr(x)
    if low <= Fraction(shortest) <= high:
        return shortest
    return exact_decimal(min(max(Fraction(x), low), high))
