"""From VNN-LIB 1.0 to questions: boxes of inputs, and what is sought of the outputs there.

A file asks whether some input in its boxes has outputs that satisfy its conditions: ``sat`` where there is one. It
declares real numbers ``X_0, X_1, ..`` and ``Y_0, Y_1, ..``, the model's inputs and outputs in the order of their
tensors, and asserts comparisons of them, joined by ``and`` and ``or``. See https://www.vnnlib.org.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from tfcert.language.spec.formula import And, Atom, Formula, Or, Output, Term, TruthConstant, variable_term
from tfcert.language.vnnlib.expressions import Expression, VnnlibError, exact_number, read_expressions

MAX_CASES = 4096
"""So many boxes a file may have, once its disjunctions are written out."""
MAX_BYTES = 1 << 28
_NAME = re.compile(r"([XY])_(\d+)")
_COMPARISONS = ("<=", ">=", "<", ">", "=", "==")


@dataclass(frozen=True)
class Case:
    """A box, and what is sought of the outputs in it.

    Attributes:
        bounds: lower and upper end of each input, exactly as written.
        formula: what an input that is sought makes of the outputs.
    """

    bounds: tuple[tuple[Fraction, Fraction], ...]
    formula: Formula


@dataclass(frozen=True)
class VnnlibQuestion:
    """A question: is there an input in one of the cases?

    Attributes:
        inputs, outputs: how many are declared.
        cases: none where no box holds any number: then there is no such input.
    """

    inputs: int
    outputs: int
    cases: tuple[Case, ...]


@dataclass(frozen=True)
class _Bound:
    """An end of one input."""

    index: int
    value: Fraction
    upper: bool


_Choice = tuple[tuple[_Bound, ...], tuple[Formula, ...]]
"""Ends of inputs, and formulas of outputs, that hold together."""


def read_vnnlib(path: Path) -> VnnlibQuestion:
    """The question in a ``.vnnlib`` file, or in one that is compressed (``.vnnlib.gz``).

    Raises:
        VnnlibError: it cannot be read, or says something that is not supported; names the line.
    """
    text = read_text(path)
    try:
        return parse_vnnlib(text)
    except VnnlibError as error:
        raise VnnlibError(f"{path}: {error}") from error


def read_text(path: Path) -> str:
    """The text in a file, or in one that is compressed (``.gz``).

    Raises:
        VnnlibError: it cannot be read, or is longer than ``MAX_BYTES``.
    """
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise VnnlibError(f"{path}: longer than {MAX_BYTES} bytes")
        return content.decode("utf-8")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise VnnlibError(f"{path} cannot be read: {error}") from error


def parse_vnnlib(text: str) -> VnnlibQuestion:
    """The question in a text.

    Raises:
        VnnlibError: as for :func:`read_vnnlib`.
    """
    reader = _Reader()
    for expression in read_expressions(text):
        reader.command(expression)
    return reader.question()


class _Reader:
    """What was declared and asserted so far."""

    def __init__(self) -> None:
        self._declared: dict[str, set[int]] = {"X": set(), "Y": set()}
        self._bounds: list[_Bound] = []
        self._formulas: list[Formula] = []
        self._choices: list[list[_Choice]] = []

    def command(self, command: Expression) -> None:
        """A declaration or an assertion."""
        match command.head, len(command.parts):
            case "declare-const", 3:
                self._declare(command)
            case "declare-fun", 4 if not command.parts[2].word and not command.parts[2].parts:
                self._declare(command)
            case "assert", 2:
                self._assert(command.parts[1])
            case "vnnlib-version", _:
                raise VnnlibError(f"line {command.line}: VNN-LIB {command.parts[-1]} is not read yet, only 1.0")
            case _:
                said = str(command)
                raise VnnlibError(f"line {command.line}: {said[:60]!r} is not understood; declare-const and assert are")

    def _declare(self, command: Expression) -> None:
        name, kind = command.parts[1], command.parts[-1]
        found = _NAME.fullmatch(name.word)
        if found is None or kind.word != "Real":
            raise VnnlibError(f"line {command.line}: {name} of type {kind}: real numbers X_0, .. and Y_0, .. are read")
        numbers, place = self._declared[found.group(1)], int(found.group(2))
        if place in numbers:
            raise VnnlibError(f"line {command.line}: {name} is declared twice")
        numbers.add(place)

    def _assert(self, said: Expression) -> None:
        choices = self._choices_of(said)
        if len(choices) == 1:
            self._bounds += choices[0][0]
            self._formulas += choices[0][1]
        else:
            self._choices.append(choices)

    def _choices_of(self, said: Expression) -> list[_Choice]:
        """An expression as alternatives, none of which chooses between inputs any more; outputs stay formulas."""
        if said.head not in ("and", "or"):
            return [self._comparison(said)]
        parts = [self._choices_of(part) for part in said.parts[1:]]
        if not parts:
            raise VnnlibError(f"line {said.line}: `{said.head}` of nothing")
        if all(len(part) == 1 and not part[0][0] for part in parts):  # of outputs alone
            formulas = [formula for part in parts for formula in [_all(part[0][1])]]
            return [((), (_all(formulas) if said.head == "and" else _any(formulas),))]
        if said.head == "or":
            found = [choice for part in parts for choice in part]
        else:
            found = [((), ())]
            for part in parts:
                self._count(len(found) * len(part), said.line)
                found = [_together(one, other) for one in found for other in part]
        self._count(len(found), said.line)
        return found

    def _count(self, cases: int, line: int) -> None:
        if cases > MAX_CASES:
            raise VnnlibError(f"line {line}: the disjunctions have more than {MAX_CASES} boxes")

    def _comparison(self, said: Expression) -> _Choice:
        if said.head not in _COMPARISONS or len(said.parts) != 3:
            raise VnnlibError(
                f"line {said.line}: {str(said)[:60]!r} is not understood; comparisons of two terms, `and` and `or` are"
            )
        left, right = (self._term(part) for part in said.parts[1:])
        if said.head in ("=", "=="):
            one, other = self._at_least(left, right, said), self._at_least(right, left, said)
            return _together(one, other)
        larger, smaller = (left, right) if said.head[0] == ">" else (right, left)
        return self._at_least(larger, smaller, said)

    def _at_least(self, larger: Term, smaller: Term, said: Expression) -> _Choice:
        term, strict = larger.plus(smaller, Fraction(-1)), said.head in ("<", ">")
        inputs = [(v.index, c) for v, c in term.coefficients if isinstance(v, _Input)]
        if not inputs:
            if term.is_constant:
                holds = term.constant > 0 or (term.constant == 0 and not strict)
                return ((), (TruthConstant(holds),))
            return ((), (Atom(term, strict),))
        if len(term.coefficients) > 1:
            raise VnnlibError(f"line {said.line}: {str(said)[:60]!r} compares an input with more than a number")
        if strict:
            raise VnnlibError(
                f"line {said.line}: {str(said)[:60]!r}: a strict bound of an input is not supported; write <="
            )
        ((index, factor),) = inputs
        return ((_Bound(index, -term.constant / factor, factor < 0),), ())

    def _term(self, said: Expression) -> Term:
        """A linear term over what is declared."""
        if said.word:
            value = exact_number(said)
            return Term((), value) if value is not None else variable_term(self._variable(said))  # type: ignore[arg-type]
        terms = [self._term(part) for part in said.parts[1:]]
        match said.head, terms:
            case "+", [first, *others]:
                return _sum(first, others, Fraction(1))
            case "-", [only]:
                return only.times(Fraction(-1))
            case "-", [first, *others]:
                return _sum(first, others, Fraction(-1))
            case "*", [_, *_]:
                return self._product(said, terms)
            case "/", [first, other] if other.is_constant and other.constant:
                return first.times(1 / other.constant)
        raise VnnlibError(f"line {said.line}: {str(said)[:60]!r} is no linear term")

    def _product(self, said: Expression, terms: Sequence[Term]) -> Term:
        found = Term((), Fraction(1))
        for term in terms:
            if not (found.is_constant or term.is_constant):
                raise VnnlibError(f"line {said.line}: {str(said)[:60]!r} is no linear term")
            found = term.times(found.constant) if found.is_constant else found.times(term.constant)
        return found

    def _variable(self, said: Expression) -> Output | _Input:
        found = _NAME.fullmatch(said.word)
        if found is None or int(found.group(2)) not in self._declared[found.group(1)]:
            raise VnnlibError(f"line {said.line}: {said.word} is not declared")
        index = int(found.group(2))
        return Output(index) if found.group(1) == "Y" else _Input(index)

    def question(self) -> VnnlibQuestion:
        """The question that the whole text asks."""
        counts = {kind: len(places) for kind, places in self._declared.items()}
        for kind, places in self._declared.items():
            if places != set(range(len(places))) or not places:
                raise VnnlibError(
                    f"the {'inputs' if kind == 'X' else 'outputs'} {kind}_0, {kind}_1, .. are not all declared"
                )
        choices: list[_Choice] = [(tuple(self._bounds), tuple(self._formulas))]
        for one in self._choices:
            self._count(len(choices) * len(one), 1)
            choices = [_together(known, more) for known in choices for more in one]
        cases = [self._case(bounds, formulas, counts["X"]) for bounds, formulas in choices]
        return VnnlibQuestion(counts["X"], counts["Y"], tuple(case for case in cases if case is not None))

    def _case(self, bounds: Sequence[_Bound], formulas: Sequence[Formula], inputs: int) -> Case | None:
        low: list[Fraction | None] = [None] * inputs
        high: list[Fraction | None] = [None] * inputs
        for bound in bounds:
            ends, tighter = (high, min) if bound.upper else (low, max)
            known = ends[bound.index]
            ends[bound.index] = bound.value if known is None else tighter(known, bound.value)
        found = []
        for index, (least, most) in enumerate(zip(low, high, strict=True)):
            if least is None or most is None:
                raise VnnlibError(f"the input X_{index} has no {'lower' if least is None else 'upper'} end")
            found.append((least, most))
        if any(least > most for least, most in found):
            return None
        return Case(tuple(found), _all(formulas))


@dataclass(frozen=True)
class _Input:
    """An input, as a variable of terms."""

    index: int


def _together(one: _Choice, other: _Choice) -> _Choice:
    return (one[0] + other[0], one[1] + other[1])


def _sum(first: Term, others: Sequence[Term], factor: Fraction) -> Term:
    for other in others:
        first = first.plus(other, factor)
    return first


def _all(formulas: Sequence[Formula]) -> Formula:
    if not formulas:
        return TruthConstant(True)
    return formulas[0] if len(formulas) == 1 else And(tuple(formulas))


def _any(formulas: Sequence[Formula]) -> Formula:
    return formulas[0] if len(formulas) == 1 else Or(tuple(formulas))
