"""VNN-LIB 2: typed networks and what is asserted of their tensors, read by the standard's own parser.

The package ``vnnlib`` parses and type-checks; here its tree becomes plain data with exact numbers. See
https://www.vnnlib.org.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from tfcert.language.spec.formula import And, Atom, Formula, Or, Term, TruthConstant, variable_term
from tfcert.language.vnnlib.expressions import MAX_DEPTH, VnnlibError

ELEMENT_TYPES = {"F32": "float32", "F64": "float64", "Real": "real"}
"""The element types that are read, by the parser's names."""
_VERSION = re.compile(r"^(?:\s|;[^\n]*\n)*\(\s*vnnlib-version\s*<(\d+)\.(\d+)>")
_NAMED = re.compile(r'(\(\s*declare-(?:input|output)\s+(\w+)\s+\w+\s+\[[\d\s,]*\]\s*)"([^"\n]*)"(?=\s*\))')
"""An input or output that says which of the model's it is: the grammar has it, and the parser's 1.0 does not."""
_LONGEST = 400
"""So many digits a number may have."""


@dataclass(frozen=True)
class DeclaredTensor:
    """A tensor of a network.

    Attributes:
        kind: ``input``, ``hidden`` or ``output``.
        element: ``float32``, ``float64`` or ``real``.
        shape: as declared; empty for a single number.
        node: its name in the ONNX file; "" where it goes by its place.
    """

    name: str
    kind: str
    element: str
    shape: tuple[int, ...]
    node: str

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class DeclaredNetwork:
    """A network of a query.

    Attributes:
        same: the network whose model this one is (``equal-to``); "" for a model of its own.
        alike: the network that it has the structure of (``isomorphic-to``), or "".
    """

    name: str
    tensors: tuple[DeclaredTensor, ...]
    same: str
    alike: str

    def of_kind(self, kind: str) -> tuple[DeclaredTensor, ...]:
        """Its tensors of a kind, in order."""
        return tuple(tensor for tensor in self.tensors if tensor.kind == kind)


@dataclass(frozen=True)
class Element:
    """A number of a tensor, as a variable of terms: ``X[0,2]`` is that of index 2 in a tensor ``[1,10]``."""

    tensor: str
    index: int


@dataclass(frozen=True)
class TypedQuery:
    """Networks, and a formula over numbers of their tensors: is there an assignment that satisfies it?"""

    networks: tuple[DeclaredNetwork, ...]
    formula: Formula

    def tensors(self) -> dict[str, tuple[DeclaredNetwork, DeclaredTensor]]:
        """The tensors by name, each with its network."""
        return {tensor.name: (network, tensor) for network in self.networks for tensor in network.tensors}


def version_of(text: str) -> tuple[int, int]:
    """The version that a text says it has; 1.0 where it says none."""
    found = _VERSION.match(text)
    return (int(found.group(1)), int(found.group(2))) if found else (1, 0)


def parse_typed(text: str) -> TypedQuery:
    """The query in a text of version 2.

    Raises:
        VnnlibError: it is no such text, says something that is not supported, or the parser is not installed.
    """
    try:
        import vnnlib
    except ImportError as error:
        raise VnnlibError("VNN-LIB 2 is read by the package vnnlib: pip install tfcert[onnx]") from error
    text = _without_remarks(text)
    nodes = {found.group(2): found.group(3) for found in _NAMED.finditer(text)}
    try:
        query = vnnlib.parse_query_string(_NAMED.sub(r"\1", text))
    except vnnlib.VNNLibException as error:
        raise VnnlibError(_told(str(error))) from error
    networks = tuple(_network(network, nodes) for network in query.networks)
    reader = _Reader({tensor.name: tensor for network in networks for tensor in network.tensors})
    return TypedQuery(networks, conjunction([reader.formula(a.expr) for a in query.assertions]))


def _without_remarks(text: str) -> str:
    """A text without its remarks, line for line.

    Raises:
        VnnlibError: it nests so deep that the parser, which is recursive, would not come back.
    """
    depth, quoted, remark = 0, False, False
    kept: list[str] = []
    for sign in text:
        remark = (remark or (sign == ";" and not quoted)) and sign != "\n"
        if remark:
            continue
        kept.append(sign)
        quoted = (quoted != (sign == '"')) and sign != "\n"
        if not quoted:
            depth += (sign == "(") - (sign == ")")
        if depth > MAX_DEPTH:
            raise VnnlibError(f"brackets are nested more than {MAX_DEPTH} deep")
    return "".join(kept)


def _told(message: str) -> str:
    """What the parser says, in a sentence."""
    try:
        first = json.loads(message)["errors"][0]
        return f"line {first['line']}: {first['message']}: {first['offendingSymbol']!r}; {first['hint']}"
    except (ValueError, KeyError, IndexError, TypeError):
        return message


def _network(network: Any, nodes: Mapping[str, str]) -> DeclaredNetwork:
    kinds = (("input", network.inputs), ("hidden", network.hidden), ("output", network.outputs))
    tensors = tuple(_tensor(definition, kind, nodes) for kind, found in kinds for definition in found)
    for kind in ("input", "output"):
        named = [bool(tensor.node) for tensor in tensors if tensor.kind == kind]
        if any(named) != all(named):
            raise VnnlibError(f"network {network.name} names some of its {kind}s as the model does, and not all")
    return DeclaredNetwork(network.name, tensors, network.equal_to or "", network.isometric_to or "")


def _tensor(definition: Any, kind: str, nodes: Mapping[str, str]) -> DeclaredTensor:
    written = str(definition).split()[2].strip()
    element = ELEMENT_TYPES.get(definition.dtype.name) or ("real" if written == "Real" else None)
    if element is None:
        known = ", ".join(ELEMENT_TYPES.values())
        raise VnnlibError(f"{definition.name} has numbers of type {written}; {known} are supported")
    node = nodes.get(definition.name) or (definition.onnx_name or "").strip('"')
    return DeclaredTensor(definition.name, kind, element, tuple(int(n) for n in definition.shape), node)


class _Reader:
    """Formulas over declared tensors."""

    def __init__(self, tensors: dict[str, DeclaredTensor]):
        self._tensors = tensors

    def formula(self, said: Any) -> Formula:
        """A formula in negation normal form."""
        kind = type(said).__name__
        if kind in ("And", "Or"):
            parts = [self.formula(part) for part in said.args]
            return conjunction(parts) if kind == "And" else disjunction(parts)
        left, right = (self._rounded(side, said) for side in (said.lhs, said.rhs))
        more, less = left.plus(right, Fraction(-1)), right.plus(left, Fraction(-1))
        match kind:
            case "GreaterThan" | "GreaterEqual":
                return atom(more, kind == "GreaterThan")
            case "LessThan" | "LessEqual":
                return atom(less, kind == "LessThan")
            case "Equal":
                return conjunction([atom(more, False), atom(less, False)])
            case "NotEqual":
                return disjunction([atom(more, True), atom(less, True)])
        raise VnnlibError(f"{str(said)[:60]!r} is not understood")

    def _term(self, said: Any) -> Term:
        match type(said).__name__:
            case "Var":
                return variable_term(self._element(said))  # type: ignore[arg-type]
            case "Float" | "Int" | "IntExpr":
                return Term((), self._number(said))
            case "Negate":
                return self._term(said.expr).times(Fraction(-1))
            case "Plus":
                return _sum(self._term(part) for part in said.args)
            case "Minus":
                head, *rest = self._term(said.head), *(self._term(part).times(Fraction(-1)) for part in said.rest)
                return _sum(iter([head, *rest]))
            case "Multiply":
                found = Term((), Fraction(1))
                for part in map(self._term, said.args):
                    if not (found.is_constant or part.is_constant):
                        raise VnnlibError(f"{str(said)[:60]!r} is no linear term")
                    found = part.times(found.constant) if found.is_constant else found.times(part.constant)
                return found
        raise VnnlibError(f"{str(said)[:60]!r} is no term that is understood")

    def _element(self, said: Any) -> Element:
        tensor = self._tensors[said.name]
        places = [int(i) for i in said.indices]
        if not tensor.shape and places in ([], [0]):
            return Element(tensor.name, 0)
        if len(places) != len(tensor.shape) or any(not 0 <= i < n for i, n in zip(places, tensor.shape, strict=False)):
            raise VnnlibError(f"line {said.line}: {said.name}{places} is no number of {list(tensor.shape)}")
        index = 0
        for place, size in zip(places, tensor.shape, strict=True):
            index = index * size + place
        return Element(tensor.name, index)

    def _number(self, said: Any) -> Fraction:
        digits = str(said).strip()
        if len(digits) > _LONGEST:
            raise VnnlibError(f"{digits[:20]}.. has more than {_LONGEST} digits")
        return Fraction(digits)

    def _rounded(self, side: Any, said: Any) -> Term:
        """A side of a comparison: of real numbers exact, of others a number as its type holds it.

        Raises:
            VnnlibError: sums and products of numbers that are no real ones, which their type would round.
        """
        elements = {self._tensors[v.name].element for v in _variables(said)} - {"real"}
        term = self._term(side)
        if not elements:
            return term
        if len(elements) > 1 or not (_is_plain(said.lhs) and _is_plain(said.rhs)):
            raise VnnlibError(
                f"{str(said)[:60]!r} computes with numbers of type {', '.join(sorted(elements))}, which are rounded; "
                "declare them `real`, which is computed exactly"
            )
        if not term.is_constant:
            return term
        number = float(np.dtype(elements.pop()).type(float(term.constant)))
        if not math.isfinite(number):
            raise VnnlibError(f"{str(said)[:60]!r}: the number is beyond the range of its type")
        return Term((), Fraction(number))


def _variables(said: Any) -> Iterator[Any]:
    if type(said).__name__ == "Var":
        yield said
    for part in said.children():
        yield from _variables(part)


def _is_plain(said: Any) -> bool:
    """Whether a side of a comparison is a number of a tensor or a constant, or the negative of one."""
    kind = type(said).__name__
    return kind in ("Var", "Float", "Int", "IntExpr") or (kind == "Negate" and _is_plain(said.expr))


def _sum(terms: Iterator[Term]) -> Term:
    found = Term()
    for term in terms:
        found = found.plus(term)
    return found


def atom(term: Term, strict: bool) -> Formula:
    """``term > 0`` or ``term >= 0``; what it is where it is a constant."""
    if term.is_constant:
        return TruthConstant(term.constant > 0 or (term.constant == 0 and not strict))
    return Atom(term, strict)


def conjunction(parts: list[Formula]) -> Formula:
    """All of some formulas, flattened."""
    return _joined(And, parts)


def disjunction(parts: list[Formula]) -> Formula:
    """Any of some formulas, flattened."""
    return _joined(Or, parts)


def _joined(kind: type[And] | type[Or], parts: list[Formula]) -> Formula:
    neutral = kind is And
    flat = [inner for part in parts for inner in (part.parts if isinstance(part, kind) else (part,))]
    if any(isinstance(part, TruthConstant) and part.value != neutral for part in flat):
        return TruthConstant(not neutral)
    kept = tuple(part for part in flat if not isinstance(part, TruthConstant))
    if not kept:
        return TruthConstant(neutral)
    return kept[0] if len(kept) == 1 else kind(kept)


def paired(parts: Sequence[Formula]) -> list[tuple[Formula, bool]]:
    """Formulas that all hold, in order; two that say ``a >= b`` and ``b >= a`` are one, marked as an equation."""
    found: list[tuple[Formula, bool]] = []
    places: dict[object, int] = {}
    for part in parts:
        if isinstance(part, Atom) and not part.strict:
            there, back = (_key(part.term.times(Fraction(sign))) for sign in (1, -1))
            if back in places:
                found[places[back]] = (found[places[back]][0], True)
                continue
            places[there] = len(found)
        found.append((part, False))
    return found


def _key(term: Term) -> object:
    return frozenset(term.coefficients), term.constant


def satisfied(formula: Formula, values: Mapping[Element, Fraction]) -> bool:
    """Tells whether a formula in negation normal form holds of numbers of tensors, in exact arithmetic."""
    match formula:
        case TruthConstant(value):
            return value
        case And(parts):
            return all(satisfied(part, values) for part in parts)
        case Or(parts):
            return any(satisfied(part, values) for part in parts)
        case Atom(term, strict):
            terms = (factor * values[v] for v, factor in term.coefficients)  # type: ignore[index]
            number = sum(terms, term.constant)
            return number > 0 or (number == 0 and not strict)
    raise AssertionError(f"{formula} is not in negation normal form")
