"""The sense in which a formula moves with a measure's variable: whether it holds the sooner the larger that is.

What is told is told of the text alone, whatever networks compute: each place where the variable stands is looked at,
and what several of them say must agree.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from tfcert.language.spec.formula import And, Atom, Extreme, Formula, Not, Or, Radius, Term


class Sense(Enum):
    """What happens as the variable grows.

    ``RISES``: what holds goes on to hold; ``FALLS``: what does not hold goes on not to; ``FIXED``: it does not matter;
    ``MIXED``: nothing of this can be told.
    """

    FIXED = 0
    RISES = 1
    FALLS = -1
    MIXED = 2

    def opposite(self) -> Sense:
        """The sense of the negation."""
        return {Sense.RISES: Sense.FALLS, Sense.FALLS: Sense.RISES}.get(self, self)


def sense_in_all(senses: Iterable[Sense]) -> Sense:
    """The sense of something that is monotone in each of its parts."""
    found = set(senses) - {Sense.FIXED}
    return found.pop() if len(found) == 1 else Sense.MIXED if found else Sense.FIXED


def sense_of(formula: Formula) -> Sense:
    """The sense in which a formula moves with the variable of its measure."""
    match formula:
        case And(parts) | Or(parts):
            return sense_in_all(sense_of(part) for part in parts)
        case Not(part):
            return sense_of(part).opposite()
        case Atom(term, _):
            return _of_term(term)
        case _:  # classes are compared with what a sample gives
            return Sense.FIXED


def _of_term(term: Term) -> Sense:
    """``RISES`` where the term grows with the variable."""
    found = []
    for variable, coefficient in term.coefficients:
        part = Sense.FIXED
        if isinstance(variable, Radius):
            part = Sense.RISES
        elif isinstance(variable, Extreme):
            part = sense_in_all(_of_term(argument) for argument in variable.arguments or ())
        found.append(part if coefficient > 0 else part.opposite())
    return sense_in_all(found)
