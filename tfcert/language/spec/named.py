"""What formulas name: outputs, features, applications and constants; and formulas rewritten."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from tfcert.language.spec.formula import (
    And,
    ArgIn,
    ArgIs,
    Atom,
    Extreme,
    Feature,
    Formula,
    InTop,
    Label,
    Not,
    Or,
    Output,
    SameClass,
    SampleFeature,
    SampleOutput,
    SampleProduct,
    Term,
    TruthConstant,
    Variable,
    variable_term,
)


def statements(formula: Formula) -> Iterator[Formula]:
    """The atoms and statements about classes that a formula is made of."""
    pending = [formula]
    while pending:
        match pending.pop():
            case And(parts) | Or(parts):
                pending.extend(reversed(parts))
            case Not(part):
                pending.append(part)
            case part:
                yield part


def variables(formula: Formula) -> Iterator[Variable]:
    """The variables of all terms of a formula, also inside maxima, in the order in which they are written."""
    for part in statements(formula):
        pending: list[Term] = []
        match part:
            case Atom(term, _) | ArgIs(_, term, _):
                pending = [term]
            case ArgIn(_, targets, _) | InTop(targets):
                pending = list(reversed(targets))
        while pending:
            for variable, _ in pending.pop().coefficients:
                yield variable
                if isinstance(variable, Extreme) and variable.arguments is not None:
                    pending.extend(reversed(variable.arguments))
                elif isinstance(variable, SampleProduct):
                    pending += [variable_term(variable.variable), variable.factor]


def output_indices(formula: Formula, of: int | None = None) -> frozenset[int]:
    """The fixed output indices that a formula names, of one application or of all, to be checked when it is loaded."""
    found = {
        v.index
        for v in variables(formula)
        if isinstance(v, Output | SampleOutput) and v.index is not None and of in (None, v.of)
    }
    for part in statements(formula):
        if isinstance(part, ArgIs | ArgIn | InTop) and of in (None, part.of):
            targets = (part.target,) if isinstance(part, ArgIs) else part.targets
            found |= {int(t.constant) for t in targets if t.is_constant and t.constant.denominator == 1}
    return frozenset(found)


def largest_asked(formula: Formula) -> dict[int, int]:
    """How many of an application's largest outputs a formula asks for at most, by the application's number."""
    found: dict[int, int] = {}
    for part in statements(formula):
        if isinstance(part, InTop):
            found[part.of] = max(part.count, found.get(part.of, 0))
    return found


def taken_for_numbers(formula: Formula) -> frozenset[int]:
    """The applications whose outputs are taken for a number, so that there must be a single one."""
    return frozenset(v.of for v in variables(formula) if isinstance(v, Output | SampleOutput) and v.only)


def uses_label(formula: Formula) -> bool:
    """Tells whether the formula names the label."""
    return any(
        isinstance(v, Label) or (isinstance(v, Output | SampleOutput) and v.index is None) for v in variables(formula)
    )


def features(formula: Formula) -> tuple[Feature, ...]:
    """The numbers of quantified points that a formula names, each once, in the order in which they are written."""
    return tuple(dict.fromkeys(v for v in variables(formula) if isinstance(v, Feature)))


def sample_features(formula: Formula) -> tuple[int, ...]:
    """The numbers of the sample that a formula names, each once, in order."""
    return tuple(sorted({v.index for v in variables(formula) if isinstance(v, SampleFeature)}))


def applications(formula: Formula) -> frozenset[int]:
    """The numbers of the applications that a formula speaks of."""
    found = {v.of for v in variables(formula) if isinstance(v, Output | SampleOutput)}
    found |= {v.of for v in variables(formula) if isinstance(v, Extreme) and v.arguments is None}
    for part in statements(formula):
        if isinstance(part, ArgIs | ArgIn | InTop):
            found.add(part.of)
        elif isinstance(part, SameClass):
            found.update(part.of)
    return frozenset(found)


def rewritten(formula: Formula, variable: Callable[[Variable], Variable], of: Callable[[int], int]) -> Formula:
    """The formula with other variables, and with other numbers of applications where it speaks of classes.

    ``variable`` is given every variable but maxima and minima with arguments, which are written anew.
    """
    match formula:
        case TruthConstant():
            return formula
        case Not(part):
            return Not(rewritten(part, variable, of))
        case And(parts):
            return And(tuple(rewritten(p, variable, of) for p in parts))
        case Or(parts):
            return Or(tuple(rewritten(p, variable, of) for p in parts))
        case Atom(term, _):
            return replace(formula, term=_term(term, variable))
        case ArgIs(_, target, number):
            return replace(formula, target=_term(target, variable), of=of(number))
        case ArgIn(_, targets, number) | InTop(targets, _, number):
            return replace(formula, targets=tuple(_term(t, variable) for t in targets), of=of(number))
        case SameClass(_, (one, other)):
            return replace(formula, of=(of(one), of(other)))


def _term(term: Term, variable: Callable[[Variable], Variable]) -> Term:
    whole = Term((), term.constant)
    for given, coefficient in term.coefficients:
        whole = whole.plus(Term(((_variable(given, variable), coefficient),)))
    return whole


def _variable(given: Variable, variable: Callable[[Variable], Variable]) -> Variable:
    match given:
        case Extreme(arguments=arguments) if arguments is not None:
            return replace(given, arguments=tuple(_term(a, variable) for a in arguments))
        case SampleProduct(factor, part):
            return SampleProduct(_term(factor, variable), _variable(part, variable))
        case _:
            return variable(given)
