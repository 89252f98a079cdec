"""Conditions on inputs as a union: conjunctions, one of which holds wherever the conditions do.

A question on the inputs of a region that meet ``A or B`` is one on those that meet A, and one on those that meet B.
Which alternatives there are does not depend on the sample: what a sample gives stays in them by name.
"""

from __future__ import annotations

import functools
import itertools
from fractions import Fraction

from tfcert.language.spec.formula import (
    And,
    Atom,
    Extreme,
    Formula,
    Not,
    Or,
    SampleProduct,
    Term,
    TruthConstant,
    Variable,
    product_of_given,
    variable_term,
)
from tfcert.language.spec.named import features

MAX_ALTERNATIVES = 256
"""Conditions of more alternatives, written out, are refused."""


class TooManyAlternativesError(ValueError):
    """Conditions with more than ``MAX_ALTERNATIVES`` alternatives."""

    fix = "join fewer alternatives by `and`, or write some of them as a premise after the colon: `... => ...`"

    def __init__(self, count: int):
        super().__init__(f"written out, these are {count} alternatives, more than {MAX_ALTERNATIVES}")


def alternatives(given: Formula) -> tuple[Formula, ...]:
    """The conjunctions whose union is what ``given`` holds of; none where nothing can meet it.

    ``min``, ``max`` and ``abs`` of inputs are taken apart, and ``a != b`` is less or more. A statement about the sample
    alone is a part of the conjunction that it stands in.

    Raises:
        TooManyAlternativesError: more than ``MAX_ALTERNATIVES``.
    """
    return tuple(And(parts) if len(parts) != 1 else parts[0] for parts in _either(given, True))


def has_equation(given: Formula) -> bool:
    """Tells whether some alternative of conditions says that two numbers are equal."""
    for parts in _either(given, True):
        terms = {part.term for part in parts if isinstance(part, Atom) and not part.strict and features(part)}
        if any(term.times(Fraction(-1)) in terms for term in terms):
            return True
    return False


Conjunction = tuple[Formula, ...]


def _either(f: Formula, positive: bool) -> tuple[Conjunction, ...]:
    """The alternatives of a formula, or where it is not ``positive`` of its negation."""
    match f:
        case TruthConstant(value):
            return ((),) if value == positive else ()
        case Not(part):
            return _either(part, not positive)
        case And(parts) | Or(parts):
            every = [_either(part, positive) for part in parts]
            return _all_of(every) if isinstance(f, And) == positive else _any_of(every)
        case Atom(term, strict) if features(f):
            return _split(term if positive else term.times(Fraction(-1)), strict == positive)
        case _:
            return ((f if positive else Not(f),),)


def _split(term: Term, strict: bool) -> tuple[Conjunction, ...]:
    """The alternatives of an atom about inputs, which has maxima and minima of these no more."""
    for variable, coefficient in term.coefficients:
        factors, inner = _factors(variable)
        if isinstance(inner, Extreme) and inner.arguments and features(Atom(variable_term(inner), False)):
            rest = term.plus(variable_term(variable), -coefficient)
            arguments = [
                functools.reduce(lambda a, known: product_of_given(known, a), factors, a) for a in inner.arguments
            ]
            every = [_split(rest.plus(argument, coefficient), strict) for argument in arguments]
            # A sum with +max or -min is the largest of its choices: one of them suffices.
            largest = (inner.kind == "max") == (coefficient > 0)
            found = []
            for signs in itertools.product((True, False), repeat=len(factors)):
                turned = signs.count(False) % 2 == 1
                chosen = _any_of(every) if largest != turned else _all_of(every)
                found.append(_all_of([*map(_signed, factors, signs), chosen]))
            return _any_of(found)
    return ((Atom(term, strict),),)


def _factors(variable: Variable) -> tuple[list[Term], Variable]:
    """The numbers of the sample that something is multiplied with, and what that is."""
    factors = []
    while isinstance(variable, SampleProduct):
        factors.append(variable.factor)
        variable = variable.variable
    return factors, variable


def _signed(known: Term, positive: bool) -> tuple[Conjunction, ...]:
    """That a number of the sample is not negative, or that it is."""
    return ((Atom(known, False) if positive else Atom(known.times(Fraction(-1)), True),),)


def _any_of(every: list[tuple[Conjunction, ...]]) -> tuple[Conjunction, ...]:
    return _few(dict.fromkeys(itertools.chain.from_iterable(every)))


def _all_of(every: list[tuple[Conjunction, ...]]) -> tuple[Conjunction, ...]:
    found: tuple[Conjunction, ...] = ((),)
    for parts in every:
        if len(found) * len(parts) > MAX_ALTERNATIVES:
            raise TooManyAlternativesError(len(found) * len(parts))
        joined = (tuple(dict.fromkeys((*one, *other))) for one in found for other in parts)
        found = tuple(dict.fromkeys(joined))
    return found


def _few(found: dict[Conjunction, None]) -> tuple[Conjunction, ...]:
    if len(found) > MAX_ALTERNATIVES:
        raise TooManyAlternativesError(len(found))
    return tuple(found)
