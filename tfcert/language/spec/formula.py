"""Checked formulas over the outputs of one network and the label: exact, plain, and with a direct evaluator.

A formula is built from ``Atom`` (``term > 0`` or ``term >= 0``), ``ArgIs`` (``argmax(f) == y`` and its kin), ``ArgIn``
(``argmax(f) in {a, b}``), constants, ``And``, ``Or`` and ``Not``. A term is a linear combination, with exact
coefficients, of outputs, of the label, and of maxima and minima of terms. ``evaluate`` is the meaning; ``lowering``
turns formulas into clauses and is tested against it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction


@dataclass(frozen=True)
class Output:
    """One output: a fixed index, or the output at the label (``index is None``)."""

    index: int | None


@dataclass(frozen=True)
class Label:
    """The label of the sample, as a number."""


@dataclass(frozen=True)
class Extreme:
    """The largest (``max``) or smallest (``min``) of some terms, or of all outputs (``arguments is None``).

    Attributes:
        size: how many maxima and arguments it has when written out, at all depths. What is nested may be shared, so the
            size may be exponential in the number of objects.
    """

    kind: str
    arguments: tuple[Term, ...] | None
    size: int = field(init=False, compare=False, repr=False)
    _hash: int = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        inner = [v.size for a in self.arguments or () for v, _ in a.coefficients if isinstance(v, Extreme)]
        object.__setattr__(self, "size", 1 + len(self.arguments or ()) + sum(inner))
        object.__setattr__(self, "_hash", hash((self.kind, self.arguments)))

    def __hash__(self) -> int:
        return self._hash


@dataclass(frozen=True)
class Radius:
    """The radius of a measure. It stands in the radius of a ball and never in a checked formula."""


Variable = Output | Label | Extreme | Radius


@dataclass(frozen=True)
class Term:
    """``constant + sum(coefficient * variable)``, exact; no variable appears twice and no coefficient is 0."""

    coefficients: tuple[tuple[Variable, Fraction], ...] = ()
    constant: Fraction = Fraction(0)

    @property
    def is_constant(self) -> bool:
        """Tells whether no variable is left."""
        return not self.coefficients

    def plus(self, other: Term, factor: Fraction = Fraction(1)) -> Term:
        """``self + factor * other``."""
        sums = dict(self.coefficients)
        for variable, coefficient in other.coefficients:
            sums[variable] = sums.get(variable, Fraction(0)) + factor * coefficient
        kept = tuple((v, c) for v, c in sums.items() if c)
        return Term(kept, self.constant + factor * other.constant)

    def times(self, factor: Fraction) -> Term:
        """``factor * self``."""
        return Term().plus(self, factor)


def variable_term(variable: Variable) -> Term:
    """A variable as a term."""
    return Term(((variable, Fraction(1)),))


@dataclass(frozen=True)
class TruthConstant:
    """``true`` or ``false``."""

    value: bool


@dataclass(frozen=True)
class Atom:
    """``term > 0`` (strict) or ``term >= 0``."""

    term: Term
    strict: bool


@dataclass(frozen=True)
class ArgIs:
    """``argmax(f) == target`` or ``argmin(f) == target``; strictly beyond every other output.

    ``target`` is a term of the label only. A target that is no index of an output is never reached.
    """

    kind: str
    target: Term


@dataclass(frozen=True)
class ArgIn:
    """``argmax(f) in {targets}`` or ``argmin(f) in {targets}``: every largest (smallest) output is a member.

    That is, some member is strictly beyond every output that is no member; a tie between members satisfies it. Targets
    are as for ``ArgIs``: those that are no index of an output are members that are never reached.
    """

    kind: str
    targets: tuple[Term, ...]

    def members(self, num_outputs: int, label: LabelValue) -> tuple[int, ...]:
        """The outputs in the set, in order; errors as for ``evaluate``."""
        need_classes(num_outputs)
        values = {evaluate_term(t, (), label) for t in self.targets}
        return tuple(j for j in range(num_outputs) if j in values)


@dataclass(frozen=True)
class And:
    """All parts hold."""

    parts: tuple[Formula, ...]


@dataclass(frozen=True)
class Or:
    """Some part holds."""

    parts: tuple[Formula, ...]


@dataclass(frozen=True)
class Not:
    """The part does not hold."""

    part: Formula


Formula = TruthConstant | Atom | ArgIs | ArgIn | And | Or | Not


class SingleOutputError(ValueError):
    """The formula asks for a class of a network that has a single output.

    Attributes:
        problem: what is wrong; ``fix``: what to write. The error's own text has both.
    """

    problem = "a network with a single output has no classes: `argmax`, and the output at the label, say nothing of it"
    fix = "write a threshold: of a sigmoid `f(z)[0] < 50%` is class 0, of a logit `f(z)[0] < 0`"

    def __init__(self) -> None:
        super().__init__(f"{self.problem}; {self.fix}")


def negation(formula: Formula) -> Formula:
    """The formula that holds exactly where this one does not."""
    return formula.part if isinstance(formula, Not) else Not(formula)


LabelValue = int | Fraction | None


def evaluate(formula: Formula, outputs: Sequence[Fraction], label: LabelValue) -> bool:
    """Tells whether the formula holds at concrete outputs, in exact arithmetic.

    Raises:
        IndexError: an output that the formula names does not exist, or the label is no index of an output.
        ValueError: the formula needs a label and there is none, or the label is no whole number.
        SingleOutputError: it asks for a class, and there is one output.
    """
    match formula:
        case TruthConstant(value):
            return value
        case Atom(term, strict):
            number = evaluate_term(term, outputs, label)
            return number > 0 or (number == 0 and not strict)
        case ArgIs(kind, target):
            need_classes(len(outputs))
            index = evaluate_term(target, (), label)
            if index.denominator != 1 or not 0 <= index < len(outputs):
                return False
            chosen = outputs[int(index)]
            others = [value for j, value in enumerate(outputs) if j != index]
            return all(chosen > v if kind == "argmax" else chosen < v for v in others)
        case ArgIn(kind, _):
            members = set(formula.members(len(outputs), label))
            best = max(outputs) if kind == "argmax" else min(outputs)
            return all(j in members for j, value in enumerate(outputs) if value == best)
        case And(parts):
            return all(evaluate(p, outputs, label) for p in parts)
        case Or(parts):
            return any(evaluate(p, outputs, label) for p in parts)
        case Not(part):
            return not evaluate(part, outputs, label)


def evaluate_term(term: Term, outputs: Sequence[Fraction], label: LabelValue) -> Fraction:
    """The value of a term at concrete outputs; errors as for ``evaluate``."""
    total = term.constant
    for variable, coefficient in term.coefficients:
        match variable:
            case Output(index):
                value = outputs[output_index(index, label, len(outputs))]
            case Label():
                value = Fraction(need_label(label))
            case Extreme(kind, arguments):
                values = list(outputs) if arguments is None else [evaluate_term(a, outputs, label) for a in arguments]
                value = max(values) if kind == "max" else min(values)
            case Radius():
                raise ValueError("the radius of a measure has no value in a formula")
        total += coefficient * value
    return total


def need_label(label: LabelValue) -> int | Fraction:
    """The label, or a sentence that says it is missing."""
    if label is None:
        raise ValueError("the formula names the label, but the sample has none")
    return label


def need_classes(num_outputs: int) -> None:
    """Raises ``SingleOutputError`` where there is no more than one output."""
    if num_outputs < 2:
        raise SingleOutputError


def output_index(index: int | None, label: LabelValue, num_outputs: int) -> int:
    """The index of an output that a formula names, checked against the number of outputs."""
    if index is None:
        need_classes(num_outputs)
    chosen = need_label(label) if index is None else index
    if chosen != int(chosen):
        raise ValueError(f"the label {chosen} is no class: an output is chosen by a whole number")
    if not 0 <= chosen < num_outputs:
        what = "the label" if index is None else "the index"
        raise IndexError(f"{what} {chosen} names no output: there are {num_outputs}, counted from 0")
    return int(chosen)


def output_indices(formula: Formula) -> frozenset[int]:
    """All fixed output indices that a formula names, to be checked against the loaded network."""
    found: set[int] = set()
    pending: list[Formula | Term] = [formula]
    while pending:
        match pending.pop():
            case And(parts) | Or(parts):
                pending.extend(parts)
            case Not(part):
                pending.append(part)
            case Atom(term, _):
                pending.append(term)
            case ArgIs(_, target) if target.is_constant and target.constant.denominator == 1:
                found.add(int(target.constant))
            case ArgIn(kind, targets):
                pending.extend(ArgIs(kind, target) for target in targets)
            case Term(coefficients, _):
                for variable, _ in coefficients:
                    if isinstance(variable, Output) and variable.index is not None:
                        found.add(variable.index)
                    elif isinstance(variable, Extreme) and variable.arguments is not None:
                        pending.extend(variable.arguments)
    return frozenset(found)


def uses_label(formula: Formula) -> bool:
    """Tells whether the formula names the label."""
    pending: list[Formula | Term] = [formula]
    while pending:
        match pending.pop():
            case And(parts) | Or(parts):
                pending.extend(parts)
            case Not(part):
                pending.append(part)
            case Atom(term, _) | ArgIs(_, term):
                pending.append(term)
            case ArgIn(_, targets):
                pending.extend(targets)
            case Term(coefficients, _):
                for variable, _ in coefficients:
                    if isinstance(variable, Label) or variable == Output(None):
                        return True
                    if isinstance(variable, Extreme) and variable.arguments is not None:
                        pending.extend(variable.arguments)
    return False
