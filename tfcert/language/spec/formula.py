"""Checked formulas over what networks say of points: exact, plain, and with a direct evaluator.

A formula is built from ``Atom`` (``term > 0`` or ``term >= 0``), ``ArgIs`` (``argmax(f) == y`` and its kin), ``ArgIn``
(``argmax(f) in {a, b}``), ``SameClass`` (``argmax(f) == argmax(g)``), constants, ``And``, ``Or`` and ``Not``. A term is
a linear combination, with exact coefficients, of outputs, of numbers of the points, of what a sample gives, and of
maxima and minima of terms. ``evaluate`` is the meaning; ``lowering`` turns formulas into clauses and is tested against
it. Where several networks or points are spoken of, ``of`` is the number of the application or of the point.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from tfcert.language.spec.layout import Concrete, LabelValue, SampleFacts


@dataclass(frozen=True)
class Output:
    """One output of an application: a fixed index, or the output at the label (``index is None``).

    ``only`` says that it must be the only one there is: ``f(z)`` taken for a number.
    """

    index: int | None
    of: int = 0
    only: bool = False


@dataclass(frozen=True)
class Feature:
    """One stored number of a quantified point, before it is scaled and normalised."""

    index: int
    of: int = 0


@dataclass(frozen=True)
class SampleFeature:
    """One stored number of the sample: a constant."""

    index: int


@dataclass(frozen=True)
class SampleOutput:
    """One output of an application to the sample alone, or that at the label (``index is None``): a constant.

    ``only`` is as for an :class:`Output`.
    """

    index: int | None
    of: int
    only: bool = False


@dataclass(frozen=True)
class Label:
    """The label of the sample, as a number."""


@dataclass(frozen=True)
class Extreme:
    """The largest (``max``) or smallest (``min``) of some terms, or of all outputs (``arguments is None``).

    Without arguments also their sum (``sum``).

    Attributes:
        of: the application whose outputs are meant, without arguments.
        size: how many maxima and arguments it has when written out, at all depths. What is nested may be shared, so the
            size may be exponential in the number of objects.
    """

    kind: str
    arguments: tuple[Term, ...] | None
    of: int = 0
    size: int = field(init=False, compare=False, repr=False)
    _hash: int = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        inner = [v.size for a in self.arguments or () for v, _ in a.coefficients if isinstance(v, Nested)]
        object.__setattr__(self, "size", 1 + len(self.arguments or ()) + sum(inner))
        object.__setattr__(self, "_hash", hash((self.kind, self.arguments, self.of)))

    def __hash__(self) -> int:
        return self._hash


@dataclass(frozen=True)
class Radius:
    """The variable of a measure: in the radius of a ball, or in the formula, where each value has its own."""


@dataclass(frozen=True)
class SampleProduct:
    """A variable times what a sample gives: ``y * f(z)[0]``, ``x[0] * x[1]``.

    Attributes:
        factor: a term of what a sample gives alone, see :func:`is_given`.
        variable: not a measure's variable.
        size: how many variables it has when written out.
    """

    factor: Term
    variable: Variable
    size: int = field(init=False, compare=False, repr=False)
    _hash: int = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        inner = [v.size if isinstance(v, Nested) else 1 for v, _ in (*self.factor.coefficients, (self.variable, 1))]
        object.__setattr__(self, "size", sum(inner))
        object.__setattr__(self, "_hash", hash((self.factor, self.variable)))

    def __hash__(self) -> int:
        return self._hash


Nested = Extreme | SampleProduct
Variable = Output | Feature | SampleFeature | SampleOutput | Label | Extreme | Radius | SampleProduct


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


def product_of_given(known: Term, other: Term) -> Term:
    """The product of a number of the sample and another term."""
    return Term(tuple((SampleProduct(known, v), c) for v, c in other.coefficients)).plus(known, other.constant)


def is_given(term: Term) -> bool:
    """Tells whether a term is a number of each sample: its label, its own numbers, what networks say of it."""
    pending = [v for v, _ in term.coefficients]
    while pending:
        match pending.pop():
            case SampleProduct(factor, variable):
                pending += [variable, *(v for v, _ in factor.coefficients)]
            case Label() | SampleFeature() | SampleOutput():
                pass
            case _:
                return False
    return True


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

    ``target`` is a term of what a sample gives. A target that is no index of an output is never reached.
    """

    kind: str
    target: Term
    of: int = 0


@dataclass(frozen=True)
class ArgIn:
    """``argmax(f) in {targets}`` or ``argmin(f) in {targets}``: every largest (smallest) output is a member.

    That is, some member is strictly beyond every output that is no member; a tie between members satisfies it. Targets
    are as for ``ArgIs``: those that are no index of an output are members that are never reached.
    """

    kind: str
    targets: tuple[Term, ...]
    of: int = 0

    def members(self, num_outputs: int, given: SampleFacts | LabelValue) -> tuple[int, ...]:
        """The outputs in the set, in order; errors as for ``evaluate``."""
        need_classes(num_outputs)
        values = {evaluate_term(t, (), given) for t in self.targets}
        return tuple(j for j in range(num_outputs) if j in values)


@dataclass(frozen=True)
class InTop:
    """``a in top(f, 2)`` and ``top(f, 2) == {a, b}``: each target is one of the ``count`` largest outputs.

    That is, less than ``count`` others are as large: a tie counts against it. Targets are as for ``ArgIs``.

    Attributes:
        exactly: whether there must be ``count`` different targets, too.
    """

    targets: tuple[Term, ...]
    count: int
    of: int = 0
    exactly: bool = False

    def places(self, num_outputs: int, given: SampleFacts | LabelValue) -> tuple[int, ...] | None:
        """The targets, each once; None where one is no output, or there are too few or too many."""
        need_classes(num_outputs)
        values = {evaluate_term(t, (), given) for t in self.targets}
        if any(v.denominator != 1 or not 0 <= v < num_outputs for v in values) or len(values) > self.count:
            return None
        return None if self.exactly and len(values) < self.count else tuple(sorted(map(int, values)))


@dataclass(frozen=True)
class SameClass:
    """``argmax(f) == argmax(g)``, or ``argmin`` of either: one class is strictly beyond every other one in both.

    Attributes:
        kinds, of: ``argmax`` or ``argmin``, and the number of the application, of each side.
    """

    kinds: tuple[str, str]
    of: tuple[int, int]


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


Formula = TruthConstant | Atom | ArgIs | ArgIn | InTop | SameClass | And | Or | Not


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


def evaluate(formula: Formula, values: Concrete | Sequence[Fraction], given: SampleFacts | LabelValue = None) -> bool:
    """Tells whether the formula holds at concrete values, in exact arithmetic.

    Args:
        values: outputs and features; a list of numbers where there are but the outputs of one application.
        given: what the sample gives; a number, or None, where that is the label alone.

    Raises:
        IndexError: an output that the formula names does not exist, or the label is no index of an output.
        ValueError: the formula needs a label, or another constant, and there is none, or the label is no whole number.
        SingleOutputError: it asks for a class, and there is one output.
    """
    values, given = Concrete.of(values), SampleFacts.of(given)
    match formula:
        case TruthConstant(value):
            return value
        case Atom(term, strict):
            number = evaluate_term(term, values, given)
            return number > 0 or (number == 0 and not strict)
        case ArgIs(kind, target, of):
            return strict_class(kind, answers_of(of, values, given)) == evaluate_term(target, (), given)
        case ArgIn(kind, _, of):
            outputs = answers_of(of, values, given)
            members = set(formula.members(len(outputs), given))
            best = max(outputs) if kind == "argmax" else min(outputs)
            return all(j in members for j, value in enumerate(outputs) if value == best)
        case InTop(_, count, of):
            outputs = answers_of(of, values, given)
            places = formula.places(len(outputs), given)
            return places is not None and all(sum(o >= outputs[i] for o in outputs) <= count for i in places)
        case SameClass(kinds, of):
            one, other = (strict_class(k, answers_of(o, values, given)) for k, o in zip(kinds, of, strict=True))
            return one is not None and one == other
        case And(parts):
            return all(evaluate(p, values, given) for p in parts)
        case Or(parts):
            return any(evaluate(p, values, given) for p in parts)
        case Not(part):
            return not evaluate(part, values, given)


def answers_of(of: int, values: Concrete, given: SampleFacts) -> Sequence[Fraction]:
    """The outputs of an application, at the points or, where it is fixed, at the sample."""
    known = values.outputs[of] if of < len(values.outputs) else ()
    return known or given.answers(of)


def strict_class(kind: str, outputs: Sequence[Fraction]) -> int | None:
    """The output strictly beyond every other one, the largest (``argmax``) or smallest; None where two tie.

    Raises:
        SingleOutputError: there is one output.
    """
    need_classes(len(outputs))
    best = max(outputs) if kind == "argmax" else min(outputs)
    reached = [j for j, value in enumerate(outputs) if value == best]
    return reached[0] if len(reached) == 1 else None


_FOLDS: dict[str, Callable[[Sequence[Fraction]], Fraction]] = {
    "max": max, "min": min, "sum": lambda numbers: sum(numbers, Fraction(0)),
}  # fmt: skip


def evaluate_term(
    term: Term, values: Concrete | Sequence[Fraction], given: SampleFacts | LabelValue = None
) -> Fraction:
    """The value of a term at concrete values; arguments and errors as for ``evaluate``."""
    values, given = Concrete.of(values), SampleFacts.of(given)
    total = term.constant
    for variable, coefficient in term.coefficients:
        match variable:
            case Output(index, of, only):
                outputs = answers_of(of, values, given)
                value = outputs[output_index(index, given.label, len(outputs), only)]
            case Feature(index, of):
                value = values.features[of, index]
            case Extreme(kind, arguments, of):
                numbers = (
                    list(answers_of(of, values, given))
                    if arguments is None
                    else [evaluate_term(a, values, given) for a in arguments]
                )
                value = _FOLDS[kind](numbers)
            case SampleProduct(factor, part):
                value = evaluate_term(factor, values, given) * evaluate_term(variable_term(part), values, given)
            case _:
                value = constant_value(variable, given)
        total += coefficient * value
    return total


def constant_value(variable: Label | SampleFeature | SampleOutput | Radius, given: SampleFacts) -> Fraction:
    """The value of what a sample gives; errors as for ``evaluate``."""
    match variable:
        case Label():
            return Fraction(need_label(given.label))
        case SampleFeature(index):
            if index >= len(given.features):
                raise IndexError(f"the formula names number {index} of the sample, which has {len(given.features)}")
            return given.features[index]
        case SampleOutput(index, of, only):
            outputs = given.answers(of)
            return outputs[output_index(index, given.label, len(outputs), only)]
        case Radius():
            if given.value is None:
                raise ValueError("the formula names a measure's variable, of which no value is given")
            return given.value


def need_label(label: LabelValue) -> int | Fraction:
    """The label, or a sentence that says it is missing."""
    if label is None:
        raise ValueError("the formula names the label, but the sample has none")
    return label


def need_classes(num_outputs: int) -> None:
    """Raises ``SingleOutputError`` where there is no more than one output."""
    if num_outputs < 2:
        raise SingleOutputError


class SeveralOutputsError(ValueError):
    """The outputs of a network are taken for a number, and there are several."""

    fix = "write which, `f(z)[0]`, `max(f(z))` or `min(f(z))` for all of them, or `argmax(f(z))` for the class"

    def __init__(self, num_outputs: int) -> None:
        super().__init__(f"the network has {num_outputs} outputs and is taken for a number: {self.fix}")


def output_index(index: int | None, label: LabelValue, num_outputs: int, only: bool = False) -> int:
    """The index of an output that a formula names, checked against the number of outputs.

    Raises:
        SeveralOutputsError: it is said to be the ``only`` one.
    """
    if only and num_outputs != 1:
        raise SeveralOutputsError(num_outputs)
    if index is None:
        need_classes(num_outputs)
    chosen = need_label(label) if index is None else index
    if chosen != int(chosen):
        raise ValueError(f"the label {chosen} is no class: an output is chosen by a whole number")
    if not 0 <= chosen < num_outputs:
        what = "the label" if index is None else "the index"
        raise IndexError(f"{what} {chosen} names no output: there are {num_outputs}, counted from 0")
    return int(chosen)
