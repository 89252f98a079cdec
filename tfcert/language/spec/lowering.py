"""From checked formulas to the clauses of a query.

The formula is brought to negation normal form, maxima and minima are split into conjunctions and disjunctions of
linear atoms (exact: ``max(a, b) >= c`` iff ``a >= c or b >= c``), and conjunctions are distributed outwards. A row
``C y + d > 0`` that is proven implies its atom, strict or not.

**Rounding.** The coefficients C are exact: an atom whose coefficients are no float64 numbers is multiplied by the
positive number that makes them whole, brought back by a power of two so that margins change by less than a factor
of two. The offset d is rounded down. So a row proven for the float64 matrix proves the row as written.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from itertools import product

import numpy as np

from tfcert.clauses import Clause
from tfcert.language.spec.formula import (
    And,
    ArgIn,
    ArgIs,
    Atom,
    Extreme,
    Formula,
    Label,
    LabelValue,
    Not,
    Or,
    Output,
    Radius,
    Term,
    TruthConstant,
    Variable,
    evaluate_term,
    need_classes,
    need_label,
    output_index,
    variable_term,
)
from tfcert.sets.rounding import float_down

MAX_CLAUSES = 4096
MAX_ROWS = 1 << 16
MAX_PIECES = 1 << 14
MAX_WORK = 1 << 18
_MAX_COMMON_BITS = 8192


class TooManyClausesError(ValueError):
    """The formula expands beyond ``MAX_CLAUSES`` clauses."""


class InexactRowError(ValueError):
    """A row's coefficients cannot be made exact float64 numbers."""


def lower(formula: Formula, num_outputs: int, label: LabelValue) -> tuple[Clause, ...]:
    """The formula as a conjunction of clauses over ``num_outputs`` outputs, for one label.

    Proving every clause proves the formula. There is always at least one clause; a formula that is false whatever
    the outputs becomes a clause that cannot be proven, one that is true a clause that is proven by any bounds.

    Raises:
        TooManyClausesError: more than ``MAX_CLAUSES`` clauses.
        InexactRowError: a row has no exact coefficients.
        IndexError, ValueError: as for ``formula.evaluate``.
    """
    normal = normalise(formula, num_outputs, label)
    _refuse_too_many(normal)
    return tuple(_clause(atoms, num_outputs) for atoms in _conjuncts(normal)) or (
        Clause(np.zeros((1, num_outputs)), np.ones(1)),
    )


Literals = tuple[Atom, ...]


def check_lowering(formula: Formula, num_outputs: int, label: LabelValue) -> Formula:
    """Raise what ``lower`` would raise, without building the clauses; the formula in negation normal form."""
    normal = normalise(formula, num_outputs, label)
    _refuse_too_many(normal)
    for leaf in leaves(normal):
        if isinstance(leaf, Atom):
            exact_row(leaf.term)
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


def only_orders(formula: Formula, num_outputs: int, label: LabelValue) -> bool:
    """Tells whether the formula only says which of two outputs is larger.

    Then it holds of outputs exactly where it holds of any function of them that increases and is the same for all:
    probabilities may be replaced by logits. Differences of logits are no differences of probabilities, so each row
    must compare two outputs, weighed alike, with nothing added. Raises what ``lower`` would raise.
    """
    for leaf in leaves(normalise(formula, num_outputs, label)):
        if isinstance(leaf, Atom):
            numbers = [c for _, c in leaf.term.coefficients]
            if leaf.term.constant != 0 or len(numbers) != 2 or sum(numbers) != 0:
                return False
    return True


def _refuse_too_many(normal: Formula) -> None:
    clauses, rows = count(normal)
    if clauses > MAX_CLAUSES or rows > MAX_ROWS:
        many = f"{clauses} clauses with {rows} rows" if clauses < 10**9 else "more than 10^9 clauses"
        raise TooManyClausesError(
            f"the formula expands to {many}; the limit is {MAX_CLAUSES} clauses and {MAX_ROWS} rows"
        )


def normalise(formula: Formula, num_outputs: int, label: LabelValue) -> Formula:
    """Negation normal form of constants, atoms without maxima or label, ``And`` and ``Or``; constants folded."""
    budget = _Budget()
    return _normalise(formula, True, num_outputs, label, budget)


class _Budget:
    """Counts atoms made while splitting maxima, and coefficients visited, so that hostile formulas stop early."""

    def __init__(self) -> None:
        self.left = MAX_PIECES
        self.work = MAX_WORK

    def visit(self, term: Term) -> None:
        self.work -= 1 + len(term.coefficients)
        if self.work < 0:
            raise TooManyClausesError("the formula takes too long to be split into linear pieces")

    def spend(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise TooManyClausesError(f"the formula splits into more than {MAX_PIECES} linear pieces")


def _normalise(f: Formula, positive: bool, num: int, label: LabelValue, budget: _Budget) -> Formula:
    match f:
        case TruthConstant(value):
            return TruthConstant(value == positive)
        case Not(part):
            return _normalise(part, not positive, num, label, budget)
        case And(parts) | Or(parts):
            normal = [_normalise(p, positive, num, label, budget) for p in parts]
            return _join(isinstance(f, And) == positive, normal)
        case ArgIs():
            return _arg_is(f, positive, num, label, budget)
        case ArgIn():
            return _arg_in(f, positive, num, label, budget)
        case Atom(term, strict):
            # not (t > 0) is -t >= 0, and not (t >= 0) is -t > 0.
            bound = _bind(term, num, label, budget)
            return _split(bound if positive else bound.times(Fraction(-1)), strict == positive, budget)


def _join(conjunction: bool, parts: list[Formula]) -> Formula:
    """``And`` or ``Or`` of parts, flattened, with constants folded."""
    kept: list[Formula] = []
    for part in parts:
        if isinstance(part, TruthConstant):
            if part.value != conjunction:
                return part
        elif isinstance(part, And if conjunction else Or):
            kept.extend(part.parts)
        else:
            kept.append(part)
    if not kept:
        return TruthConstant(conjunction)
    if len(kept) == 1:
        return kept[0]
    return And(tuple(kept)) if conjunction else Or(tuple(kept))


def _arg_is(f: ArgIs, positive: bool, num: int, label: LabelValue, budget: _Budget) -> Formula:
    """``argmax(f) == c`` is a conjunction of num - 1 strict rows, its negation a disjunction of weak ones."""
    need_classes(num)
    index = evaluate_term(f.target, (), label)
    if index.denominator != 1 or not 0 <= index < num:
        return TruthConstant(not positive)
    sign = Fraction(1 if (f.kind == "argmax") == positive else -1)
    chosen = variable_term(Output(int(index)))
    rows: list[Formula] = []
    for j in range(num):
        if j != index:
            budget.spend()
            rows.append(Atom(chosen.plus(variable_term(Output(j)), Fraction(-1)).times(sign), positive))
    return _join(positive, rows)


def _arg_in(f: ArgIn, positive: bool, num: int, label: LabelValue, budget: _Budget) -> Formula:
    """``argmax(f) in S``: for every output outside of S, one of S is strictly larger.

    The negation, that the largest outside is at least the largest of S: for every one of S, one outside is as large.
    Both are as many clauses as there are outputs on the one side, with a row for each on the other.
    """
    inside = f.members(num, label)
    members = set(inside)
    outside = tuple(j for j in range(num) if j not in members)
    larger, smaller = (inside, outside) if positive else (outside, inside)
    sign = Fraction(1 if f.kind == "argmax" else -1)
    clauses: list[Formula] = []
    for j in smaller:
        rows: list[Formula] = []
        for i in larger:
            budget.spend()
            difference = variable_term(Output(i)).plus(variable_term(Output(j)), Fraction(-1))
            rows.append(Atom(difference.times(sign), positive))
        clauses.append(_join(False, rows))
    return _join(True, clauses)


def _bind(term: Term, num: int, label: LabelValue, budget: _Budget) -> Term:
    """The term with the label put in and ``max(f)`` over all outputs written out."""
    budget.visit(term)
    sums: dict[Variable, Fraction] = {}
    constant = term.constant
    for variable, coefficient in term.coefficients:
        match variable:
            case Output(index):
                bound: Variable = Output(output_index(index, label, num))
            case Label():
                constant += coefficient * Fraction(need_label(label))
                continue
            case Extreme(kind, arguments):
                written = (
                    tuple(variable_term(Output(j)) for j in range(num))
                    if arguments is None
                    else tuple(_bind(a, num, label, budget) for a in arguments)
                )
                bound = Extreme(kind, written)
            case Radius():
                raise ValueError("the radius of a measure has no value in a formula")
        sums[bound] = sums.get(bound, Fraction(0)) + coefficient
    return Term(tuple((v, c) for v, c in sums.items() if c), constant)


def _split(term: Term, strict: bool, budget: _Budget) -> Formula:
    """An atom without maxima, or the exact combination of such atoms."""
    budget.visit(term)
    branching = sum(isinstance(v, Extreme) and len(v.arguments or ()) > 1 for v, _ in term.coefficients)
    if 1 << branching > MAX_PIECES:
        raise TooManyClausesError(f"the formula splits into more than {MAX_PIECES} linear pieces")
    for variable, coefficient in term.coefficients:
        if isinstance(variable, Extreme):
            rest = term.plus(variable_term(variable), -coefficient)
            choices = [_split(rest.plus(a, coefficient), strict, budget) for a in variable.arguments or ()]
            # A sum with +max or -min is the largest of its choices: one of them suffices.
            return _join((variable.kind == "max") != (coefficient > 0), choices)
    budget.spend()
    if term.is_constant:
        return TruthConstant(term.constant > 0 or (term.constant == 0 and not strict))
    return Atom(term, strict)


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


def _clause(atoms: Literals, num_outputs: int) -> Clause:
    if not atoms:
        return Clause(np.zeros((1, num_outputs)), np.full(1, -1.0))
    coefficients = np.zeros((len(atoms), num_outputs))
    offsets = np.zeros(len(atoms))
    for i, atom in enumerate(atoms):
        term = exact_row(atom.term)
        for variable, coefficient in term.coefficients:
            assert isinstance(variable, Output) and variable.index is not None
            coefficients[i, variable.index] = float(coefficient)
        offsets[i] = float_down(term.constant)
    return Clause(coefficients, offsets)


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
