"""Queries as VNN-LIB: of version 1.0, of one network, or of version 2."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from tfcert.language.spec.formula import And, Atom, Formula, Or, Term, TruthConstant
from tfcert.language.vnnlib.numbers import decimals_of, exact_decimal
from tfcert.language.vnnlib.typed import Element, paired

BoxOfEnds = Sequence[tuple[Fraction, Fraction]]


@dataclass(frozen=True)
class WrittenInput:
    """A tensor that is sought within a box, or within one of several, as the case may be.

    Attributes:
        node: its name in the model's file, where that has several.
    """

    name: str
    shape: tuple[int, ...]
    node: str = ""

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class WrittenNetwork:
    """A network of a query: its inputs, and the one vector that it answers with.

    Attributes:
        same: the network whose model it has, where that stands before it; "" for its own.
    """

    name: str
    inputs: tuple[WrittenInput, ...]
    output: str
    outputs: int
    same: str = ""


@dataclass(frozen=True)
class WrittenQuery:
    """What is sought.

    Attributes:
        networks: over which elements are; of version 1.0 a single one, with one input ``X`` and the output ``Y``.
        cases: alternatives, each the ends of every input's numbers, the networks' inputs in order.
        formula: in negation normal form, over :class:`Element`.
        remark: its first lines, without their signs.
    """

    networks: tuple[WrittenNetwork, ...]
    cases: tuple[BoxOfEnds, ...]
    formula: Formula
    remark: str

    @property
    def elements(self) -> list[Element]:
        """The numbers of all inputs, in the order of a case's ends."""
        return [Element(part.name, i) for network in self.networks for part in network.inputs for i in range(part.size)]


def written_untyped(query: WrittenQuery) -> str:
    """The text of version 1.0."""
    (network,) = query.networks
    count = network.inputs[0].size
    names = [*(f"X_{i}" for i in range(count)), *(f"Y_{i}" for i in range(network.outputs))]
    declared = [f"(declare-const {name} Real)" for name in names]
    return "\n".join([*_remark(query), *declared, *_assertions(query, lambda e: f"{e.tensor}_{e.index}"), ""])


def written_typed(query: WrittenQuery, element: str) -> str:
    """The text of version 2, of numbers of the networks' type where that says the same, else of real ones."""
    kind = element if _says_the_same(query.formula, element) else "real"
    shapes = {part.name: part.shape for network in query.networks for part in network.inputs}

    def said(at: Element) -> str:
        places = np.unravel_index(at.index, shapes[at.tensor]) if at.tensor in shapes else (at.index,)
        return f"{at.tensor}[{','.join(str(int(i)) for i in places)}]"

    declared = [_declared(network, kind) for network in query.networks]
    return "\n".join(["(vnnlib-version <2.0>)", *_remark(query), *declared, *_assertions(query, said), ""])


def _declared(network: WrittenNetwork, kind: str) -> str:
    inputs = []
    for part in network.inputs:
        node = f' "{part.node}"' if part.node else ""
        inputs.append(f"  (declare-input {part.name} {kind} [{','.join(map(str, part.shape))}]{node})")
    same = [f"  (equal-to {network.same})"] * bool(network.same)
    output = f"  (declare-output {network.output} {kind} [{network.outputs}])"
    return "\n".join([f"(declare-network {network.name}", *same, *inputs, f"{output})"])


def _remark(query: WrittenQuery) -> list[str]:
    return [f"; {line}" for line in query.remark.splitlines()]


def _says_the_same(formula: Formula, element: str) -> bool:
    """Whether comparisons in a floating-point type say what they say of real numbers: no sums, and its constants."""
    match formula:
        case And(parts) | Or(parts):
            return all(_says_the_same(part, element) for part in parts)
        case Atom(term, _):
            factors = sorted(factor for _, factor in term.coefficients)
            if len(factors) == 1:
                value = -term.constant / factors[0]
                return Fraction(float(np.dtype(element).type(float(value)))) == value
            return len(factors) == 2 and factors[0] == -factors[1] and not term.constant
    return True


def _assertions(query: WrittenQuery, said: Callable[[Element], str]) -> list[str]:
    numbers = query.elements
    if len(query.cases) == 1:
        ends = [
            f"(assert (>= {said(at)} {exact_decimal(low)}))\n(assert (<= {said(at)} {exact_decimal(high)}))"
            for at, (low, high) in zip(numbers, query.cases[0], strict=True)
        ]
    else:
        boxes = [
            " ".join(
                f"(>= {said(at)} {exact_decimal(low)}) (<= {said(at)} {exact_decimal(high)})"
                for at, (low, high) in zip(numbers, case, strict=True)
            )
            for case in query.cases
        ]
        ends = ["(assert (or", *(f"  (and {box})" for box in boxes), "))"]
    return [*ends, f"(assert {_formula(query.formula, said)})"]


def _formula(formula: Formula, said: Callable[[Element], str]) -> str:
    match formula:
        case And(parts):
            written = [_equation(p, said) if equal else _formula(p, said) for p, equal in paired(parts)]
            return written[0] if len(written) == 1 else f"(and {' '.join(written)})"
        case Or(parts):
            return f"(or {' '.join(_formula(part, said) for part in parts)})"
        case Atom(term, strict):
            return _comparison(term, strict, said)
        case TruthConstant(value):
            return "(<= 0.0 1.0)" if value else "(<= 1.0 0.0)"
    raise AssertionError(f"{formula} is not in negation normal form")


def _equation(part: Formula, said: Callable[[Element], str]) -> str:
    assert isinstance(part, Atom)
    text = _comparison(part.term, False, said)
    return f"(=={text[3:]}"


def _comparison(term: Term, strict: bool, said: Callable[[Element], str]) -> str:
    """``term > 0`` or ``>= 0``: of two numbers, of one and a constant, or of a sum and a constant."""
    sign, back = (">", "<") if strict else (">=", "<=")
    names = [(said(v), factor) for v, factor in term.coefficients]  # type: ignore[arg-type]
    if len(names) == 2 and names[0][1] == -names[1][1] and not term.constant:
        (more, _), (less, _) = sorted(names, key=lambda pair: -pair[1])
        return f"({sign} {more} {less})"
    if len(names) == 1:
        ((name, factor),) = names
        value = -term.constant / factor
        if decimals_of(value) is not None:
            return f"({sign if factor > 0 else back} {name} {exact_decimal(value)})"
    numbers = [term.constant, *(factor for _, factor in names)]
    if any(decimals_of(number) is None for number in numbers):
        scale = math.lcm(*(number.denominator for number in numbers))
        names, numbers = [(name, factor * scale) for name, factor in names], [n * scale for n in numbers]
    summands = [f"(* {exact_decimal(factor)} {name})" for name, factor in names]
    total = summands[0] if len(summands) == 1 else f"(+ {' '.join(summands)})"
    return f"({sign} {total} {exact_decimal(-numbers[0])})"
