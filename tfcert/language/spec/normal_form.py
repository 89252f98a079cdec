"""Negation normal form of formulas: constants of a sample put in, classes and maxima written out.

Maxima and minima are split into conjunctions and disjunctions of linear atoms, which is exact: ``max(a, b) >= c`` iff
``a >= c or b >= c``. What is left are atoms over outputs and features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations

from tfcert.language.spec.formula import (
    And,
    ArgIn,
    ArgIs,
    Atom,
    Extreme,
    Feature,
    Formula,
    InTop,
    Not,
    Or,
    Output,
    SameClass,
    SampleProduct,
    Term,
    TruthConstant,
    Variable,
    constant_value,
    evaluate_term,
    need_classes,
    output_index,
    strict_class,
    variable_term,
)
from tfcert.language.spec.layout import LabelValue, Layout, SampleFacts

MAX_PIECES = 1 << 14
MAX_WORK = 1 << 18


class TooManyClausesError(ValueError):
    """The formula expands beyond the limits of clauses, rows or linear pieces."""


def normalise(formula: Formula, layout: Layout | int, given: SampleFacts | LabelValue = None) -> Formula:
    """Negation normal form of constants, atoms of outputs and features, ``And`` and ``Or``; constants folded."""
    return _Lowering(Layout.of(layout), SampleFacts.of(given)).normal(formula, True)


class _Budget:
    """Counts atoms made while splitting maxima, and coefficients visited, so that hostile formulas stop early."""

    def __init__(self) -> None:
        self.left = MAX_PIECES
        self.work = MAX_WORK

    def visit(self, term: Term) -> None:
        self.work -= 1 + len(term.coefficients)
        if self.work < 0:
            raise TooManyClausesError("the formula takes too long to be split into linear pieces")

    def spend(self, pieces: int = 1) -> None:
        self.left -= pieces
        if self.left < 0:
            raise TooManyClausesError(f"the formula splits into more than {MAX_PIECES} linear pieces")


class _Lowering:
    """Formulas of one question, for one sample, in negation normal form."""

    def __init__(self, layout: Layout, given: SampleFacts):
        self._layout, self._given = layout, given
        self._budget = _Budget()

    def normal(self, f: Formula, positive: bool) -> Formula:
        """The formula, or where it is not ``positive`` its negation."""
        match f:
            case TruthConstant(value):
                return TruthConstant(value == positive)
            case Not(part):
                return self.normal(part, not positive)
            case And(parts) | Or(parts):
                return _join(isinstance(f, And) == positive, [self.normal(p, positive) for p in parts])
            case ArgIs(kind, target, of):
                return self._arg_is(kind, evaluate_term(target, (), self._given), of, positive)
            case ArgIn():
                return self._arg_in(f, positive)
            case InTop():
                return self._in_top(f, positive)
            case SameClass():
                return self._same_class(f, positive)
            case Atom(term, strict):
                # not (t > 0) is -t >= 0, and not (t >= 0) is -t > 0.
                bound = self._bind(term)
                return self._split(bound if positive else bound.times(Fraction(-1)), strict == positive)

    def _size(self, of: int) -> int:
        """The number of outputs of an application, of which there must be several."""
        size = len(self._given.answers(of)) if of in self._layout.fixed else self._layout.sizes[of]
        need_classes(size)
        return size

    def _difference(self, kind: str, of: int, one: int, other: int, strict: bool) -> Formula:
        """``f[one] > f[other]``, or ``>=``; of ``argmin`` the other way round. SampleFacts are folded."""
        self._budget.spend()
        if of in self._layout.fixed:
            outputs = self._given.answers(of)
            gap = (outputs[one] - outputs[other]) * (1 if kind == "argmax" else -1)
            return TruthConstant(gap > 0 or (gap == 0 and not strict))
        difference = variable_term(Output(one, of)).plus(variable_term(Output(other, of)), Fraction(-1))
        return Atom(difference.times(Fraction(1 if kind == "argmax" else -1)), strict)

    def _arg_is(self, kind: str, index: Fraction | int, of: int, positive: bool) -> Formula:
        """``argmax(f) == c`` is a conjunction of size - 1 strict rows, its negation a disjunction of weak ones."""
        size = self._size(of)
        if index.denominator != 1 or not 0 <= index < size:
            return TruthConstant(not positive)
        chosen, others = int(index), [j for j in range(size) if j != index]
        if positive:
            return _join(True, [self._difference(kind, of, chosen, j, True) for j in others])
        return _join(False, [self._difference(kind, of, j, chosen, False) for j in others])

    def _arg_in(self, f: ArgIn, positive: bool) -> Formula:
        """``argmax(f) in S``: for every output outside of S, one of S is strictly larger.

        The negation, that the largest outside is at least the largest of S: for every one of S, one outside is as
        large. Both are as many clauses as there are outputs on the one side, with a row for each on the other.
        """
        size = self._size(f.of)
        inside = f.members(size, self._given)
        members = set(inside)
        outside = tuple(j for j in range(size) if j not in members)
        larger, smaller = (inside, outside) if positive else (outside, inside)
        clauses = [_join(False, [self._difference(f.kind, f.of, i, j, positive) for i in larger]) for j in smaller]
        return _join(True, clauses)

    def _in_top(self, f: InTop, positive: bool) -> Formula:
        """``a in top(f, k)``: of any k others, one is below a. The negation: of any n - k others, one is not.

        Where there are k targets, they are the k largest: each is above every output that is no target.
        """
        size = self._size(f.of)
        places = f.places(size, self._given)
        if places is None:
            return TruthConstant(not positive)
        if f.count >= size:
            return TruthConstant(positive)
        if len(places) == f.count:
            rows = self._pairs(f.of, places, [j for j in range(size) if j not in places], positive)
            return _join(positive, rows)
        every = []
        for place in places:
            others = [j for j in range(size) if j != place]
            chosen = f.count if positive else size - f.count
            self._budget.spend(math.comb(len(others), chosen) * chosen)
            groups = combinations(others, chosen)
            every.append(_join(True, [_join(False, self._pairs(f.of, (place,), g, positive)) for g in groups]))
        return _join(positive, every)

    def _pairs(self, of: int, above: Sequence[int], below: Sequence[int], strictly: bool) -> list[Formula]:
        """Each of some outputs beyond each of others; or, not ``strictly``, each of the others at least as large."""
        if strictly:
            return [self._difference("argmax", of, i, j, True) for i in above for j in below]
        return [self._difference("argmax", of, j, i, False) for i in above for j in below]

    def _same_class(self, f: SameClass, positive: bool) -> Formula:
        """``argmax(f) == argmax(g)``: of no two different classes is one a largest of f and the other one of g.

        That is a clause for each two different classes i and j: some output of f is above its i-th, or some output of
        g above its j-th. Where two tie at the top of f, one of them differs from what is the largest of g. The negation
        is a clause for each class: it is not strictly the largest of both. A side that is known leaves ``argmax(g) ==
        c``.
        """
        for side in (0, 1):
            if f.of[side] in self._layout.fixed:
                known = strict_class(f.kinds[side], self._given.answers(f.of[side]))
                self._size(f.of[1 - side])
                if known is None:
                    return TruthConstant(not positive)
                return self._arg_is(f.kinds[1 - side], known, f.of[1 - side], positive)
        sizes = tuple(self._size(of) for of in f.of)
        if positive:
            wanted = [(i, j) for i in range(sizes[0]) for j in range(sizes[1]) if i != j]
        else:
            wanted = [(j, j) for j in range(min(sizes))]
        clauses = []
        for pair in wanted:
            rows = [
                self._difference(kind, of, k, place, positive)
                for kind, of, size, place in zip(f.kinds, f.of, sizes, pair, strict=True)
                for k in range(size)
                if k != place
            ]
            clauses.append(_join(False, rows))
        return _join(True, clauses)

    def _bind(self, term: Term) -> Term:
        """The term with what the sample gives put in, and ``max(f)`` over all outputs written out."""
        self._budget.visit(term)
        sums: dict[Variable, Fraction] = {}
        constant = term.constant
        for variable, coefficient in term.coefficients:
            match variable:
                case Output(index, of, only):
                    bound: Variable = Output(output_index(index, self._given.label, self._layout.sizes[of], only), of)
                case Extreme("sum", _, of):
                    for output in self._outputs(of):
                        constant += coefficient * output.constant
                        for summand, _ in output.coefficients:
                            sums[summand] = sums.get(summand, Fraction(0)) + coefficient
                    continue
                case Feature():
                    bound = variable
                case SampleProduct(factor, part):
                    scale = coefficient * evaluate_term(factor, (), self._given)
                    scaled = self._bind(variable_term(part))
                    constant += scale * scaled.constant
                    for summand, weight in scaled.coefficients:
                        sums[summand] = sums.get(summand, Fraction(0)) + scale * weight
                    continue
                case Extreme(kind, arguments, of):
                    written = self._outputs(of) if arguments is None else tuple(self._bind(a) for a in arguments)
                    if all(a.is_constant for a in written):
                        constant += coefficient * (max if kind == "max" else min)(a.constant for a in written)
                        continue
                    bound = Extreme(kind, written)
                case _:
                    constant += coefficient * constant_value(variable, self._given)
                    continue
            sums[bound] = sums.get(bound, Fraction(0)) + coefficient
        return Term(tuple((v, c) for v, c in sums.items() if c), constant)

    def _outputs(self, of: int) -> tuple[Term, ...]:
        """All outputs of an application."""
        if of in self._layout.fixed:
            return tuple(Term((), value) for value in self._given.answers(of))
        return tuple(variable_term(Output(j, of)) for j in range(self._layout.sizes[of]))

    def _split(self, term: Term, strict: bool) -> Formula:
        """An atom without maxima, or the exact combination of such atoms."""
        self._budget.visit(term)
        branching = sum(isinstance(v, Extreme) and len(v.arguments or ()) > 1 for v, _ in term.coefficients)
        if 1 << branching > MAX_PIECES:
            raise TooManyClausesError(f"the formula splits into more than {MAX_PIECES} linear pieces")
        for variable, coefficient in term.coefficients:
            if isinstance(variable, Extreme):
                rest = term.plus(variable_term(variable), -coefficient)
                choices = [self._split(rest.plus(a, coefficient), strict) for a in variable.arguments or ()]
                # A sum with +max or -min is the largest of its choices: one of them suffices.
                return _join((variable.kind == "max") != (coefficient > 0), choices)
        self._budget.spend()
        if term.is_constant:
            return TruthConstant(term.constant > 0 or (term.constant == 0 and not strict))
        return Atom(term, strict)


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
