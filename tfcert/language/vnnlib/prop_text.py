"""VNN-LIB's queries as specifications: the text of a ``.prop`` file that asks the same of the same models.

A query asks for an assignment, and so does ``exists``: each case becomes a property that is verified where there is one
(``sat``) and falsified where it is proven that there is none (``unsat``).
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from tfcert.language.spec.formula import And, Atom, Formula, Or, Output, Term, TruthConstant
from tfcert.language.vnnlib.expressions import VnnlibError
from tfcert.language.vnnlib.numbers import number_text
from tfcert.language.vnnlib.reader import MAX_CASES, VnnlibQuestion
from tfcert.language.vnnlib.typed import DeclaredNetwork, DeclaredTensor, Element, TypedQuery, conjunction, paired

PLAN = "pgd -> crown -> split"
"""How files are decided that come without a strategy."""
_FORMAT = {".onnx": "onnx", ".keras": "keras"}


@dataclass(frozen=True)
class Interface:
    """What of a model a query is held against.

    Attributes:
        path: of the file, as the specification names it.
        element: ``float32`` or ``float64``.
        inputs, outputs: names and sizes, in the model's order.
    """

    path: str
    element: str
    inputs: tuple[tuple[str, int], ...]
    outputs: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class AskedPoint:
    """A point of a question: its name, and a box or several, with the numbers' ends in the network's order."""

    name: str
    boxes: tuple[tuple[tuple[Fraction, Fraction], ...], ...]


@dataclass(frozen=True)
class TextQuestion:
    """A property, before it is written.

    Attributes:
        points: where inputs are sought.
        where: conditions on the points, as text; "" for none.
        formula: what is sought, as text.
    """

    points: tuple[AskedPoint, ...]
    where: str
    formula: str

    def text(self, name: str) -> str:
        """The property, in the language's words."""
        regions = ",\n    ".join(f"{p.name} in {' or '.join(map(_box, p.boxes))} in net" for p in self.points)
        where = f"\n    where {self.where}" if self.where else ""
        return f"property {name} using vnnlib {{\n  exists {regions}{where}:\n    {self.formula}\n}}"


def _box(ends: Sequence[tuple[Fraction, Fraction]]) -> str:
    return f"box({', '.join(f'[{number_text(low)}, {number_text(high)}]' for low, high in ends)})"


def specification(models: Mapping[str, str], questions: Sequence[TextQuestion], about: str, plan: str = PLAN) -> str:
    """The text of a specification.

    Args:
        models: the path of each model, by the name that the questions call it.
        about: a remark for its first line.
    """
    declared = [f"model {name} = {_format(path)}({json.dumps(path)})" for name, path in models.items()]
    asked = [question.text(f"case_{number}") for number, question in enumerate(questions)]
    return "\n".join(["prop 1", f"# {about}", *declared, f"strategy vnnlib = {plan}", *asked, ""])


def _format(path: str) -> str:
    return next((word for suffix, word in _FORMAT.items() if path.endswith(suffix)), "keras")


# Version 1


def untyped_questions(question: VnnlibQuestion, element: str) -> list[TextQuestion]:
    """The questions of a file of version 1.0, of a network ``clf`` that takes numbers of a type.

    Ends of boxes are written as the numbers that a program reads them as: those are the inputs that it can be given.
    """
    grouped: dict[Formula, list[tuple[tuple[Fraction, Fraction], ...]]] = {}
    for case in question.cases:
        ends = tuple((read_as(low, element), read_as(high, element)) for low, high in case.bounds)
        grouped.setdefault(case.formula, []).append(ends)
    return [
        TextQuestion((AskedPoint("z", tuple(boxes)),), "", formula_text(formula, _untyped))
        for formula, boxes in grouped.items()
    ]


def _untyped(variable: object) -> str:
    assert isinstance(variable, Output)
    return f"clf(z)[{variable.index}]"


def read_as(number: Fraction, element: str) -> Fraction:
    """The number of a type that a program reads a number as."""
    return Fraction(float(np.dtype(element).type(float(number))))


# Version 2


class TypedTranslation:
    """A query of version 2 about models whose interfaces are known.

    Attributes:
        query: what is asked.
        interfaces: of each network that has a model of its own.

    Raises:
        VnnlibError: they do not fit together.
    """

    def __init__(self, query: TypedQuery, interfaces: Mapping[str, Interface]):
        self.query = query
        own = [network for network in query.networks if not network.same]
        missing = [network.name for network in own if network.name not in interfaces]
        more = [name for name in interfaces if name not in {network.name for network in own}]
        if missing or more:
            said = f"no model is given for {missing[0]}" if missing else f"{more[0]} is no network with its own model"
            raise VnnlibError(f"{said}; the query's networks are {', '.join(n.name for n in query.networks)}")
        self.interfaces = {n.name: interfaces[n.same or n.name] for n in query.networks}
        self._models = {network.name: f"net_{network.same or network.name}" for network in query.networks}
        self._where: dict[str, tuple[str, int]] = {}
        self._tensors = query.tensors()
        for network in query.networks:
            self._place(network)

    @property
    def models(self) -> dict[str, str]:
        """The path of each model, by the name that the questions call it."""
        return {self._models[name]: interface.path for name, interface in self.interfaces.items()}

    def name_of(self, network: str) -> str:
        """What the questions call the model of a network."""
        return self._models[network]

    def inputs_of(self, network: DeclaredNetwork) -> list[DeclaredTensor]:
        """The input tensors of a network in its model's order."""
        tensors, names = network.of_kind("input"), [name for name, _ in self.interfaces[network.name].inputs]
        return sorted(tensors, key=lambda tensor: names.index(tensor.node)) if tensors[0].node else list(tensors)

    def _place(self, network: DeclaredNetwork) -> None:
        """Says how the numbers of a network's tensors are written, and holds them against the model's."""
        interface, point, model = self.interfaces[network.name], point_of(network), self._models[network.name]
        for tensor in network.tensors:
            if tensor.element not in ("real", interface.element):
                raise VnnlibError(
                    f"{tensor.name} is declared {tensor.element}, and {interface.path} computes in {interface.element}"
                )
        for kind, has in (("input", interface.inputs), ("output", interface.outputs)):
            self._require(network, kind, has)
        start = 0
        for tensor in self.inputs_of(network):
            self._where[tensor.name] = (point, start)
            start += tensor.size
        outputs = network.of_kind("output")
        for tensor, (name, _) in zip(outputs, interface.outputs, strict=True):
            named = tensor.node or name
            part = model if len(outputs) == 1 else f"{model}.head({json.dumps(named)})"
            self._where[tensor.name] = (f"{part}({point})", 0)
        for tensor in network.of_kind("hidden"):
            self._where[tensor.name] = (f"{model}.layer({json.dumps(tensor.node)})({point})", 0)

    def _require(self, network: DeclaredNetwork, kind: str, has: Sequence[tuple[str, int]]) -> None:
        tensors, sizes = network.of_kind(kind), dict(has)
        if len(tensors) != len(has):
            raise VnnlibError(f"{network.name} declares {len(tensors)} {kind}s, and its model has {len(has)}")
        if len({tensor.node for tensor in tensors}) < len(tensors) and tensors[0].node:
            raise VnnlibError(f"{network.name} names one {kind} of its model twice")
        for tensor, (name, _) in zip(tensors, has, strict=True):
            named = tensor.node or name
            if named not in sizes:
                raise VnnlibError(f"{network.name}: its model has no {kind} {named!r}; it has {', '.join(sizes)}")
            if sizes[named] != tensor.size:
                raise VnnlibError(
                    f"{tensor.name} is declared with {tensor.size} numbers, and the {kind} {named!r} has {sizes[named]}"
                )

    def written(self, variable: object) -> str:
        """A number of a tensor, in the language's words.

        Raises:
            VnnlibError: it is one of several of an input among several, which the language takes as a whole.
        """
        assert isinstance(variable, Element)
        network, tensor = self._tensors[variable.tensor]
        what, start = self._where[variable.tensor]
        inputs = self.inputs_of(network)
        if tensor.kind != "input" or len(inputs) == 1:
            return f"{what}[{start + variable.index}]"
        if tensor.size > 1:
            raise VnnlibError(
                f"{tensor.name} is one of several inputs of {network.name}: beside its ends, conditions on its numbers "
                "are not supported"
            )
        return f"{what}[{inputs.index(tensor)}]"

    def questions(self) -> list[TextQuestion]:
        """A question for each alternative that the inputs have; none where no input is left."""
        found = []
        kinds = {name: tensor.kind for name, (_, tensor) in self._tensors.items()}
        for parts in input_alternatives(self.query.formula, kinds):
            question = self._question(parts, kinds)
            if question is not None and question not in found:
                found.append(question)
        return found

    def _question(self, parts: Sequence[Formula], kinds: Mapping[str, str]) -> TextQuestion | None:
        ends = _ends(parts)
        points = []
        for network in self.query.networks:
            box = []
            for tensor in self.inputs_of(network):
                for index in range(tensor.size):
                    low, high = ends.get(Element(tensor.name, index), _Ends()).of(tensor, index)
                    if low > high:
                        return None
                    box.append((low, high))
            points.append(AskedPoint(point_of(network), (tuple(box),)))
        about_inputs = [p for p in parts if _of_inputs(p, kinds)]
        where = [p for p in about_inputs if not self._is_end(p)]
        said = self._conditions(where)
        sought = conjunction([p for p in parts if p not in about_inputs])
        if isinstance(sought, TruthConstant):
            if not sought.value:
                return None
            raise VnnlibError("the query asks nothing of what networks compute: any input that it describes will do")
        return TextQuestion(tuple(points), said, formula_text(sought, self.written))

    def _conditions(self, parts: Sequence[Formula]) -> str:
        """Conditions on inputs as text; two that make numbers equal as one equation."""
        said = []
        for part, equation in paired(parts):
            text = _bracketed(part, Or, self.written)
            said.append(text.replace(" >= ", " == ") if equation else text)
        return " and ".join(said)

    def _is_end(self, part: Formula) -> bool:
        """Whether a condition is an end of the box alone; a strict one of real numbers is more."""
        if not isinstance(part, Atom) or len(part.term.coefficients) > 1:
            return False
        ((variable, _),) = part.term.coefficients
        assert isinstance(variable, Element)
        return not part.strict or self._tensors[variable.tensor][1].element != "real"


def point_of(network: DeclaredNetwork) -> str:
    """What the questions call the point that a network is applied to."""
    return f"z_{network.name}"


def input_alternatives(formula: Formula, kinds: Mapping[str, str]) -> list[tuple[Formula, ...]]:
    """The ways to satisfy a formula that differ in conditions on inputs alone, as conjunctions.

    Raises:
        VnnlibError: there are more than ``MAX_CASES``.
    """
    match formula:
        case And(parts):
            found: list[tuple[Formula, ...]] = [()]
            for part in parts:
                more = input_alternatives(part, kinds)
                _refuse_many(len(found) * len(more))
                found = [one + other for one in found for other in more]
            return found
        case Or(parts) if not _of_inputs(formula, kinds) and any(_of_inputs(leaf, kinds) for leaf in _leaves(formula)):
            found = list(itertools.chain.from_iterable(input_alternatives(part, kinds) for part in parts))
            _refuse_many(len(found))
            return found
        case Or(parts) if all(isinstance(part, And | Atom) for part in parts) and _of_inputs(formula, kinds):
            found = list(itertools.chain.from_iterable(input_alternatives(part, kinds) for part in parts))
            _refuse_many(len(found))
            return found
        case TruthConstant(False):
            return []
        case TruthConstant(True):
            return [()]
    return [(formula,)]


def _refuse_many(count: int) -> None:
    if count > MAX_CASES:
        raise VnnlibError(f"the disjunctions have more than {MAX_CASES} cases")


def _leaves(formula: Formula) -> Iterator[Formula]:
    if isinstance(formula, And | Or):
        for part in formula.parts:
            yield from _leaves(part)
    else:
        yield formula


def _of_inputs(formula: Formula, kinds: Mapping[str, str]) -> bool:
    """Tells whether a formula is about inputs alone."""
    return all(
        isinstance(variable, Element) and kinds[variable.tensor] == "input"
        for leaf in _leaves(formula)
        if isinstance(leaf, Atom)
        for variable, _ in leaf.term.coefficients
    )


@dataclass(frozen=True)
class _Ends:
    """The ends of an input, each with whether it is left out itself; None where there is none."""

    low: tuple[Fraction, bool] | None = None
    high: tuple[Fraction, bool] | None = None

    def met(self, value: Fraction, upper: bool, strict: bool) -> _Ends:
        if upper:
            tighter = self.high is None or value < self.high[0] or (value == self.high[0] and strict)
            return _Ends(self.low, (value, strict)) if tighter else self
        tighter = self.low is None or value > self.low[0] or (value == self.low[0] and strict)
        return _Ends((value, strict), self.high) if tighter else self

    def of(self, tensor: DeclaredTensor, index: int) -> tuple[Fraction, Fraction]:
        """The interval of numbers of the tensor's type."""
        if self.low is None or self.high is None:
            end = "lower" if self.low is None else "upper"
            raise VnnlibError(f"the input {tensor.name}[..] of index {index} in flat order has no {end} end")
        if tensor.element == "real":
            return self.low[0], self.high[0]
        low, high = _least(*self.low, tensor.element), -_least(-self.high[0], self.high[1], tensor.element)
        return low, high


def _least(value: Fraction, strict: bool, element: str) -> Fraction:
    """The smallest number of a type that is not below (``strict``: that is above) a number."""
    near = np.dtype(element).type(float(value))
    while Fraction(float(near)) < value:
        near = np.nextafter(near, near.dtype.type(np.inf))
    while (below := np.nextafter(near, near.dtype.type(-np.inf))) >= value:
        near = below
    if strict and Fraction(float(near)) == value:
        near = np.nextafter(near, near.dtype.type(np.inf))
    return Fraction(float(near))


def _ends(parts: Sequence[Formula]) -> dict[Element, _Ends]:
    """The ends of inputs that some conditions make together."""
    found: dict[Element, _Ends] = {}
    for part in parts:
        if isinstance(part, Atom) and len(part.term.coefficients) == 1:
            ((variable, factor),) = part.term.coefficients
            assert isinstance(variable, Element)
            value = -part.term.constant / factor
            found[variable] = found.get(variable, _Ends()).met(value, factor < 0, part.strict)
    return found


# Formulas as text


def formula_text(formula: Formula, written: Mapping[object, str] | object) -> str:
    """A formula in negation normal form, in the language's words; ``written`` says a variable."""
    match formula:
        case TruthConstant(value):
            return "0 <= 1" if value else "1 <= 0"
        case And(parts):
            return " and ".join(_bracketed(part, Or, written) for part in parts)
        case Or(parts):
            return " or ".join(_bracketed(part, And, written) for part in parts)
        case Atom(term, strict):
            return _atom_text(term, strict, written)
    raise AssertionError(f"{formula} is not in negation normal form")


def _bracketed(part: Formula, kind: type, written: object) -> str:
    text = formula_text(part, written)
    return f"({text})" if isinstance(part, kind) else text


def _atom_text(term: Term, strict: bool, written: object) -> str:
    """``a >= b`` with positive factors on either side."""
    sides: tuple[list[str], list[str]] = ([], [])
    for variable, factor in term.coefficients:
        name = written(variable)  # type: ignore[operator]
        said = name if abs(factor) == 1 else f"{number_text(abs(factor))} * {name}"
        sides[factor < 0].append(said)
    if term.constant:
        sides[term.constant < 0].append(number_text(abs(term.constant)))
    left, right = (" + ".join(side) or "0" for side in sides)
    return f"{left} {'>' if strict else '>='} {right}"
