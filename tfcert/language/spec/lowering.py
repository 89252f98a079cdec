"""From checked formulas to the clauses of a query.

The formula is brought to negation normal form (``normal_form``), and conjunctions are distributed outwards. A row
``C y + d > 0`` that is proven implies its atom, strict or not.

**Rounding.** The coefficients C are exact: an atom whose coefficients are no float64 numbers is multiplied by the
positive number that makes them whole, brought back by a power of two so that margins change by less than a factor
of two. The offset d is rounded down. So a row proven for the float64 matrix proves the row as written. A feature is a
column like an output: its stored number is a multiple of what the network receives, and something added, both exact.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from itertools import product

import numpy as np

from tfcert.clauses import Clause
from tfcert.language.spec.formula import And, Atom, Feature, Formula, Or, Output, Term, TruthConstant
from tfcert.language.spec.layout import LabelValue, Layout, SampleFacts
from tfcert.language.spec.normal_form import TooManyClausesError, normalise
from tfcert.sets.rounding import float_down

MAX_CLAUSES = 4096
MAX_ROWS = 1 << 16
_MAX_COMMON_BITS = 8192


class InexactRowError(ValueError):
    """A row's coefficients cannot be made exact float64 numbers."""


def lower(formula: Formula, layout: Layout | int, given: SampleFacts | LabelValue = None) -> tuple[Clause, ...]:
    """The formula as a conjunction of clauses over the columns of a layout, for one sample.

    Proving every clause proves the formula. There is always at least one clause; a formula that is false whatever
    the outputs becomes a clause that cannot be proven, one that is true a clause that is proven by any bounds.

    Args:
        layout: the columns; a number stands for the outputs of the only application.
        given: what the sample gives; a number, or None, where that is the label alone.

    Raises:
        TooManyClausesError: more than ``MAX_CLAUSES`` clauses.
        InexactRowError: a row has no exact coefficients.
        IndexError, ValueError: as for ``formula.evaluate``.
    """
    layout = Layout.of(layout)
    normal = normalise(formula, layout, given)
    _refuse_too_many(normal)
    return tuple(_clause(atoms, layout) for atoms in _conjuncts(normal)) or (
        Clause(np.zeros((1, layout.width)), np.ones(1)),
    )


Literals = tuple[Atom, ...]


def check_lowering(formula: Formula, layout: Layout | int, given: SampleFacts | LabelValue = None) -> Formula:
    """Raise what ``lower`` would raise, without building the clauses; the formula in negation normal form."""
    layout = Layout.of(layout)
    normal = normalise(formula, layout, given)
    _refuse_too_many(normal)
    for leaf in leaves(normal):
        if isinstance(leaf, Atom):
            exact_row(_columns(leaf.term, layout))
    return normal


def leaves(normal: Formula) -> Iterator[Formula]:
    """The atoms and constants of a formula in negation normal form."""
    pending = [normal]
    while pending:
        part = pending.pop()
        if isinstance(part, And | Or):
            pending.extend(part.parts)
        else:
            yield part


def _refuse_too_many(normal: Formula) -> None:
    clauses, rows = count(normal)
    if clauses > MAX_CLAUSES or rows > MAX_ROWS:
        many = f"{clauses} clauses with {rows} rows" if clauses < 10**9 else "more than 10^9 clauses"
        raise TooManyClausesError(
            f"the formula expands to {many}; the limit is {MAX_CLAUSES} clauses and {MAX_ROWS} rows"
        )


def count(normal: Formula) -> tuple[int, int]:
    """The number of clauses and of rows that a formula in negation normal form expands to; exact, without expanding."""
    match normal:
        case And(parts):
            counts = [count(p) for p in parts]
            return sum(c for c, _ in counts), sum(r for _, r in counts)
        case Or(parts):
            clauses, rows = 1, 0
            for part in parts:
                c, r = count(part)
                clauses, rows = clauses * c, rows * c + r * clauses
                if clauses > 10**9:
                    break
            return clauses, rows
        case _:
            return 1, 1


def _conjuncts(normal: Formula) -> Iterator[Literals]:
    """The clauses as lists of linear atoms."""
    match normal:
        case TruthConstant(True):
            return
        case TruthConstant(False):
            yield ()
        case And(parts):
            for part in parts:
                yield from _conjuncts(part)
        case Or(parts):
            for choice in product(*(tuple(_conjuncts(p)) for p in parts)):
                yield tuple(dict.fromkeys(atom for atoms in choice for atom in atoms))
        case Atom():
            yield (normal,)


def _clause(atoms: Literals, layout: Layout) -> Clause:
    if not atoms:
        return Clause(np.zeros((1, layout.width)), np.full(1, -1.0))
    coefficients = np.zeros((len(atoms), layout.width))
    offsets = np.zeros(len(atoms))
    for i, atom in enumerate(atoms):
        term = exact_row(_columns(atom.term, layout))
        for variable, coefficient in term.coefficients:
            assert isinstance(variable, Output) and variable.index is not None
            coefficients[i, variable.index] = float(coefficient)
        offsets[i] = float_down(term.constant)
    return Clause(coefficients, offsets)


def _columns(term: Term, layout: Layout) -> Term:
    """The term over the columns of a layout, as if these were the outputs of one application."""
    if len(layout.sizes) == 1 and not layout.shown:
        return term
    sums = Term((), term.constant)
    for variable, coefficient in term.coefficients:
        match variable:
            case Output(int(index), of):
                part = Term(((Output(layout.start(of) + index), coefficient),))
            case Feature(index, of):
                column, shown = layout.place(of, index)
                part = Term(((Output(column), shown.factor),), shown.offset).times(coefficient)
            case _:
                raise AssertionError(f"{variable} is left in a row")
        sums = sums.plus(part)
    return sums


def exact_row(term: Term) -> Term:
    """The term times a positive number, such that all its coefficients are float64 numbers.

    Raises:
        InexactRowError: no such multiple exists within float64's range and precision.
    """
    numbers = [c for _, c in term.coefficients]
    if not all(_representable(c) for c in numbers):
        common = _common_denominator(numbers)
        shared = math.gcd(*(abs(int(c * common)) for c in numbers))
        factor = Fraction(common, shared)
        exponent = factor.numerator.bit_length() - factor.denominator.bit_length()
        term = term.times(factor * Fraction(2) ** -exponent)
        if not all(_representable(c) for _, c in term.coefficients):
            raise InexactRowError(
                "the coefficients of a row have no common multiple that float64 holds exactly: use fewer digits"
            )
    if not math.isfinite(float_down(term.constant)):
        raise InexactRowError("the constant of a row is beyond the range of float64")
    return term


def _common_denominator(numbers: list[Fraction]) -> int:
    common = 1
    for number in numbers:
        common = math.lcm(common, number.denominator)
        if common.bit_length() > _MAX_COMMON_BITS:
            raise InexactRowError("the coefficients of a row have no common multiple within reach: use fewer digits")
    return common


def _representable(number: Fraction) -> bool:
    try:
        return Fraction(float(number)) == number
    except OverflowError:
        return False
