"""Queries of VNN-LIB 2 as tasks: the specification that asks the same is written, checked and bound."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from tfcert.driver.bind import bind
from tfcert.driver.task import Task
from tfcert.language import BoxSpec, PropertyTemplate, Spec, Strategy, load
from tfcert.language.spec.named import features
from tfcert.language.vnnlib.numbers import decimal_within, exact_decimal
from tfcert.language.vnnlib.prop_text import Interface, TypedTranslation, point_of, specification
from tfcert.language.vnnlib.typed import DeclaredNetwork, DeclaredTensor, Element, TypedQuery, satisfied
from tfcert.verdict import Verdict


@dataclass(frozen=True)
class AssignedTensor:
    """A tensor of a query, with its numbers in flat order, as decimals."""

    name: str
    element: str
    shape: tuple[int, ...]
    values: tuple[str, ...]

    def text(self) -> str:
        """As the standard's interface has it: a line that says what it is, and one for each number."""
        return "\n".join([f"{self.name} {self.element} [{','.join(map(str, self.shape))}]", *self.values])


def interface_of(path: str, model: Any) -> Interface:
    """What of a model a query is held against.

    Raises:
        UnsupportedLayerError: the model cannot be used.
    """
    from tfcert.network.onnx.model import OnnxModel

    if isinstance(model, OnnxModel):
        inputs = tuple((given.name, math.prod(given.of_sample)) for given in model.given)
        return Interface(path, model.dtype.name, inputs, model.output_sizes)
    from tfcert.network.cache import network_of

    network = network_of(model)
    parts = [("input", math.prod(network.input_shape))]
    if network.parts is not None:
        parts = [(part.name, part.size) for part in network.parts]
    outputs = (("output", math.prod(network.output_shape)),)
    return Interface(path, np.dtype(network.dtype.as_numpy_dtype).name, tuple(parts), outputs)


class TypedTasks:
    """What a query of version 2 asks of its networks' models.

    Attributes:
        tasks: one for each alternative.
        floats: the type of numbers that a proof must be about; "" where the query is of real numbers.

    Raises:
        VnnlibError: query and models do not fit together.
        SpecError, UsageError: it asks what cannot be asked.
    """

    def __init__(self, query: TypedQuery, models: Mapping[str, tuple[str, Any]], strategy: Strategy):
        interfaces = {name: interface_of(path, model) for name, (path, model) in models.items()}
        self._translated = TypedTranslation(query, interfaces)
        self._models = {self._translated.name_of(name): model for name, (_, model) in models.items()}
        elements = {tensor.element for _, tensor in query.tensors().values()} - {"real"}
        self.floats = " and ".join(sorted(elements))
        self._questions = self._translated.questions()
        self.tasks: tuple[Task, ...] = ()
        if self._questions:
            text = specification(self._translated.models, self._questions, "VNN-LIB 2")
            spec = load(text, filename="<vnnlib>", bound=tuple(self._models))
            self.tasks = bind(self._timed(spec, strategy), self._models, {}).tasks

    def _timed(self, spec: Spec, strategy: Strategy) -> Spec:
        """The specification with a strategy, and boxes of real numbers that programs round."""
        changed = {}
        for name, template in spec.properties.items():
            asked = replace(template, strategy=strategy)
            if self._rounds(template):
                points = [replace(point, region=_rounded(point.region)) for point in asked.points]
                asked = asked.with_points(points)
            changed[name] = asked
        properties: dict[str, PropertyTemplate] = changed
        return replace(spec, properties=properties)

    def _rounds(self, template: PropertyTemplate) -> bool:
        """Whether inputs are real numbers that the program rounds: where nothing but ends is said of them."""
        said = template.given is not None or template.agreements or features(template.formula)
        return not (self.floats or said)

    def assignment(self, task: Task, verdict: Verdict) -> tuple[AssignedTensor, ...]:
        """The numbers of every tensor at a witness, of which the assertions hold in exact arithmetic."""
        assert verdict.witness is not None
        question = self._questions[int(task.name.removeprefix("case_"))]
        query, found, values = self._translated.query, list[AssignedTensor](), dict[Element, Fraction]()
        assert isinstance(task.template, PropertyTemplate)
        for network, asked in zip(query.networks, question.points, strict=True):
            point = self._point(task, network, verdict.witness)
            inputs = [self._input(task.template, float(x), ends) for x, ends in zip(point, asked.boxes[0], strict=True)]
            for tensor, texts, exact in self._tensors(network, inputs, point):
                found.append(AssignedTensor(tensor.name, tensor.element, tensor.shape, tuple(texts)))
                values |= {Element(tensor.name, i): number for i, number in enumerate(exact)}
        if not satisfied(query.formula, values):
            raise AssertionError("a witness does not satisfy the query that it was found for")
        order = [tensor.name for network in query.networks for tensor in network.tensors]
        return tuple(sorted(found, key=lambda tensor: order.index(tensor.name)))

    def _point(self, task: Task, network: DeclaredNetwork, witness: np.ndarray) -> np.ndarray:
        if task.placed is None:
            return witness.ravel()
        return task.placed.vector.split(witness)[point_of(network)].ravel()

    def _input(self, template: PropertyTemplate, x: float, ends: tuple[Fraction, Fraction]) -> tuple[str, Fraction]:
        """A number of the witness as text, and what the assertions are held against."""
        if self._rounds(template):
            text = decimal_within(x, *ends)
            return text, Fraction(text)
        return (repr(x) if self.floats else exact_decimal(Fraction(x))), Fraction(x)

    def _tensors(
        self, network: DeclaredNetwork, inputs: Sequence[tuple[str, Fraction]], point: np.ndarray
    ) -> Iterator[tuple[DeclaredTensor, list[str], list[Fraction]]]:
        """The tensors of a network at a point, in decimal numbers and exactly."""
        from tfcert.network import with_layer, with_output

        start = 0
        for tensor in self._translated.inputs_of(network):
            part = inputs[start : start + tensor.size]
            yield tensor, [text for text, _ in part], [number for _, number in part]
            start += tensor.size
        model = self._models[self._translated.name_of(network.name)]
        names = [name for name, _ in self._translated.interfaces[network.name].outputs]
        for place, tensor in enumerate(network.of_kind("output")):
            y = self._answers(model if len(names) == 1 else with_output(model, tensor.node or names[place]), point)
            yield tensor, list(map(repr, y)), list(map(Fraction, y))
        for tensor in network.of_kind("hidden"):
            y = self._answers(with_layer(model, tensor.node), point)
            yield tensor, list(map(repr, y)), list(map(Fraction, y))

    @staticmethod
    def _answers(model: Any, point: np.ndarray) -> list[float]:
        from tfcert.network.cache import network_of
        from tfcert.network.frontend import frontend_of

        given = point.reshape(1, *network_of(model).input_shape)
        return [float(y) for y in np.asarray(frontend_of(model).run(model, given)).ravel()]


def _rounded(region: Any) -> Any:
    return replace(region, rounded=True) if isinstance(region, BoxSpec) else region
