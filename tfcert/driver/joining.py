"""Questions about several points or networks, bound: what samples give to them, and one network of one vector."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from tfcert.datasets.lazy import LazyInputs
from tfcert.driver.arrivals import InputShape, fits, to_net
from tfcert.driver.inside import AskedPoints, centers_of
from tfcert.driver.neighbours import tied
from tfcert.driver.pieces import pieces_of
from tfcert.driver.points import Placed, Vector, reads_sample, vector_of
from tfcert.driver.regions import by_number
from tfcert.driver.task import LoadedModel, Lowered, Task
from tfcert.errors import UsageError
from tfcert.language import AnyTemplate, Transform
from tfcert.language.spec.formula import Feature, Formula, SampleFeature, Variable
from tfcert.language.spec.layout import Layout, SampleFacts
from tfcert.language.spec.named import rewritten
from tfcert.language.spec.points import Application, AppliedTo, AtAnswer, AtPoint, AtSample
from tfcert.language.spec.questions import exact_facts
from tfcert.language.spec.regions import balls_of
from tfcert.parts import NamedParts


def network_inputs(
    name: str, loaded: LoadedModel, x: Any, transform: Transform, shape: InputShape | None = None
) -> Any:
    """Stored samples as the network's inputs ``[n, *input]``, which are read as they are needed where the samples are.
    ``name`` is what an error is about, ``shape`` that of the input that they are, of a network with several.

    Raises:
        UsageError: their shape is another one than the network's, or one that ``normalize`` does not fit.
    """
    shape = tuple(loaded.network.input_shape) if shape is None else shape
    given = tuple(x.shape[1:])
    if not fits(given, shape):
        raise UsageError(f"{name}: the samples have shape {given}, but {loaded.name} takes {shape}")
    if isinstance(x, LazyInputs):
        return x.mapped(functools.partial(network_inputs, name, loaded, transform=transform, shape=shape))
    try:
        return to_net(transform, x.reshape(-1, *shape), loaded.network.dtype.as_numpy_dtype)
    except UsageError as error:
        raise UsageError(f"{name}: {error}") from error


# What samples give


def facts_of(
    template: AnyTemplate, loaded: Sequence[LoadedModel], x: Any, labels: Sequence[Any], centers: np.ndarray
) -> tuple[SampleFacts, ...]:
    """What samples give to the formula of a question; none where that is their labels alone.

    Args:
        loaded: the model of each application.
        x: the samples as stored, ``[n, ...]``.
        centers: as networks receive them. The numbers of a sample are taken back from there, so that
            the centre of a ball is the sample.
    """
    if not (template.sample_features or template.fixed_applications):
        return ()
    answers = _answers(template, loaded, x, template.fixed_applications)
    numbers: list[tuple[Fraction, ...]] = [()] * len(labels)
    if template.sample_features:
        moves = [template.transform.stored(i) for i in range(math.prod(centers.shape[1:]))]
        flat = _read(centers).astype(np.float64).reshape(len(labels), -1)
        numbers = [tuple(f * Fraction(v) + o for (f, o), v in zip(moves, row, strict=True)) for row in flat.tolist()]
    return _facts(labels, numbers, answers)


def where_facts(
    template: AnyTemplate, loaded: Sequence[LoadedModel], x: np.ndarray, labels: Sequence[Any]
) -> tuple[SampleFacts, ...]:
    """What samples ``[n, ...]``, as stored, give to the choice of those that are asked about."""
    wanted = tuple(number for number, application in enumerate(template.applications) if application.fixed)
    flat = np.asarray(x, np.float64).reshape(len(labels), -1).tolist()
    numbers = [tuple(map(Fraction, row)) for row in flat]
    return _facts(labels, numbers, _answers(template, loaded, x, wanted))


def _read(x: Any) -> np.ndarray:
    """Inputs as an array, read if they are read as they are needed."""
    return np.asarray(x[np.arange(len(x))])


def _facts(
    labels: Sequence[Any], numbers: Sequence[tuple[Fraction, ...]], answers: Sequence[np.ndarray | None]
) -> tuple[SampleFacts, ...]:
    known = [None if part is None else np.asarray(part, np.float64).tolist() for part in answers]
    outputs = [
        tuple(() if part is None else tuple(map(Fraction, part[i])) for part in known) for i in range(len(labels))
    ]
    exact = [None if label is None else Fraction(label) for label in labels]
    return tuple(SampleFacts(*facts) for facts in zip(exact, numbers, outputs, strict=True))


def _answers(
    template: AnyTemplate, loaded: Sequence[LoadedModel], x: Any, wanted: Sequence[int]
) -> list[np.ndarray | None]:
    """What applications to the sample alone answer, ``[n, outputs]`` each; None for the others.

    Raises:
        UsageError: a sample does not fit, or an answer is not finite.
    """
    found: list[np.ndarray | None] = []
    for application, model in zip(template.applications, loaded, strict=True):
        if not (application.fixed and wanted):
            found.append(None)
            continue
        pieces = []
        for argument, shape in zip(
            application.arguments, argument_shapes(template.name, application, model), strict=True
        ):
            if isinstance(argument, AtAnswer):
                before = found[argument.number]
                assert before is not None
                pieces.append(before.reshape(len(before), *shape))
            else:
                pieces.append(_read(network_inputs(template.name, model, x, template.transform, shape)))
        whole = tuple(model.network.input_shape)
        given = np.concatenate([piece.reshape(len(piece), -1) for piece in pieces], axis=1).reshape(-1, *whole)
        answer = model.outputs(given.astype(model.network.dtype.as_numpy_dtype))
        if not np.isfinite(answer).all():
            raise UsageError(f"{template.name}: {model.name} answers with a NaN or an infinity to a sample")
        found.append(answer)
    return found


# Several points


def argument_shapes(name: str, application: Application, loaded: LoadedModel) -> list[InputShape]:
    """The shapes of an application's arguments.

    Raises:
        UsageError: there are more or fewer than the network has inputs.
    """
    if len(application.arguments) == 1:
        return [tuple(loaded.network.input_shape)]
    parts = loaded.network.parts
    if parts is None or len(parts) != len(application.arguments):
        takes = "one input" if parts is None else f"the inputs {parts}"
        raise UsageError(f"{name}: {loaded.name} takes {takes}, and is applied to {len(application.arguments)}")
    return [part.shape for part in parts]


@dataclass(frozen=True, eq=False)
class _Taken:
    """How the networks of a question take its points.

    Attributes:
        shapes: of each point.
        models: of which model each point is an input.
        sample: the shape of the sample, where the vector holds it.
    """

    shapes: tuple[InputShape, ...]
    models: tuple[LoadedModel, ...]
    sample: InputShape | None

    def parts(self, point: int) -> NamedParts | None:
        """The named inputs that a point is, side by side; None where it is one input."""
        network = self.models[point].network
        return network.parts if self.shapes[point] == tuple(network.input_shape) else None


def _taken(template: AnyTemplate, loaded: Sequence[LoadedModel]) -> _Taken:
    met: dict[AppliedTo, list[tuple[InputShape, LoadedModel]]] = {}
    for application, model in zip(template.applications, loaded, strict=True):
        shapes = argument_shapes(template.name, application, model)
        for argument, shape in zip(application.arguments, shapes, strict=True):
            if not application.fixed:
                met.setdefault(argument, []).append((shape, model))
    for number, point in enumerate(template.points):
        kinds = {math.prod(shape) for shape, _ in met.get(AtPoint(number), [])}
        if len(kinds) > 1:
            names = " and ".join(dict.fromkeys(model.name for _, model in met[AtPoint(number)]))
            raise UsageError(f"{template.name}: {names} take inputs of different sizes, and `{point.name}` is both's")
    default = next(iter(met.values()))[0]
    points = [met.get(AtPoint(number), [default])[0] for number in range(len(template.points))]
    sample = met.get(AtSample(), points[:1])[0][0] if reads_sample(template) else None
    return _Taken(tuple(shape for shape, _ in points), tuple(model for _, model in points), sample)


def joined_task(
    template: AnyTemplate, loaded: Sequence[LoadedModel], chosen: Sequence[tuple[int, Any]] | None, x: Any
) -> Task:
    """A question about several points or applications as a task about one network of one vector.

    Args:
        template: the question.
        loaded: the model of each application.
        chosen: indices and labels of the samples; None of a question without.
        x: these samples as stored, ``[n, ...]``.

    Raises:
        UsageError: networks, points or samples do not fit together, or a region is empty.
    """
    taken = _taken(template, loaded)
    require_one_type(template, [model.network.dtype.name for model in loaded])
    template = tied(_by_numbers(template, taken), taken.shapes, taken.models[0].network.dtype.as_numpy_dtype)
    vector = vector_of(template, taken.shapes, taken.sample)
    model = _joined_model(template, loaded, vector)
    layout = template.layout([part.num_outputs for part in loaded])
    labels = (None,) if chosen is None else tuple(label for _, label in chosen)
    around = None if chosen is None else _around(template, taken, x)
    own = taken.models[0].network.dtype.as_numpy_dtype
    received = to_net(template.transform, np.asarray(x), own) if template.sample_features else np.zeros(0)
    facts = () if chosen is None else facts_of(template, loaded, x, labels, received)
    placed = Placed(vector, around)
    dtype = model.network.dtype.as_numpy_dtype
    samples = np.array([i for i, _ in chosen or [(0, None)]], int)
    pieces = pieces_of(template, taken.shapes)
    asked = AskedPoints(pieces or (template,), placed, layout, list(map(exact_facts, facts or labels)), samples)
    found, moving = centers_of(asked, dtype)
    _refuse_loose_steps(template, loaded, vector, moving)
    centers, outputs = (None, None) if chosen is None else (found, model.outputs(found))
    lowered = Lowered(template, layout)
    return Task(
        template, model, samples, centers, labels, outputs, lowered, pieces=pieces, facts=facts, placed=placed
    )  # fmt: skip


def require_one_type(template: AnyTemplate, types: Sequence[str]) -> None:
    """Requires that all networks which take points, or what the others answer, compute in one type.

    Args:
        types: that of each application, or "" where it is not known.

    Raises:
        UsageError: they do not.
    """
    live = {kind for kind, application in zip(types, template.applications, strict=True) if not application.fixed}
    known = sorted(live - {""})
    if len(known) > 1:
        raise UsageError(
            f"{template.name}: its networks compute in {' and '.join(known)}, and a witness is numbers of one type; "
            "save them alike"
        )


def _around(template: AnyTemplate, taken: _Taken, x: Any) -> tuple[np.ndarray, ...]:
    """The samples as each point's networks receive them; NaN where the point is no such input and in no ball."""
    each = []
    for point, model, shape in zip(template.points, taken.models, taken.shapes, strict=True):
        if fits(tuple(x.shape[1:]), shape) or balls_of(point.region):
            each.append(network_inputs(template.name, model, x, point.transform, shape))
        else:
            each.append(np.full((len(x), *shape), np.nan, model.network.dtype.as_numpy_dtype))
    if taken.sample is not None:
        each.append(network_inputs(template.name, taken.models[0], x, template.transform, taken.sample))
    return tuple(map(_read, each))


def _joined_model(template: AnyTemplate, loaded: Sequence[LoadedModel], vector: Vector) -> LoadedModel:
    """The network of all applications that are not to the sample alone, and the models behind it."""
    from tfcert.network.joined import AppliedModel, JoinedModels
    from tfcert.network.joint import Applied, joint

    live = [(a, model) for a, model in zip(template.applications, loaded, strict=True) if not a.fixed]
    networks: list[Applied] = []
    models: list[AppliedModel] = []
    for application, model in live:
        sources = tuple(vector.source(argument) for argument in application.arguments)
        networks.append(Applied(model.network, sources))
        models.append(AppliedModel(model.model, tuple(model.network.input_shape), sources))
    shown = vector.shown(template.features)
    try:
        network = joint(networks, vector.size, shown)
    except ValueError as error:
        raise UsageError(f"{template.name}: {error}") from error
    name = " and ".join(dict.fromkeys(model.name for _, model in live))
    joined = JoinedModels(tuple(models), shown, network.dtype.as_numpy_dtype)
    heads = _heads(network, [model for _, model in live])
    return LoadedModel(name, joined, network, "", live[0][1].granularity, heads)


def _heads(network: Any, live: Sequence[LoadedModel]) -> Any:
    """Which of the outputs are logits of a softmax that was peeled off."""
    from tfcert.network.probabilities import Heads, Softmax

    starts = np.cumsum([0, *(model.num_outputs for model in live)]).tolist()
    peeled = [Softmax(at, model.num_outputs) for at, model in zip(starts, live, strict=False) if model.peeled]
    return Heads.of(network, peeled) if peeled else None


def refuse_loose_steps(name: str, network: Any, moving: np.ndarray) -> None:
    """Refuses to perturb integers and booleans.

    Args:
        moving: which numbers of the network's input change, bool ``[n, *input]``.

    Raises:
        UsageError: such are among them.
    """
    for part in network.parts or ():
        if part.in_steps and moving[:, part.start : part.stop].any():
            raise UsageError(
                f"{name}: input {part.name} holds {part.dtype}, which changes in steps and has no radius: hold it "
                f"fixed, `eps=[..., {part.name}: 0]`"
            )


def _refuse_loose_steps(
    template: AnyTemplate, loaded: Sequence[LoadedModel], vector: Vector, moving: np.ndarray
) -> None:
    for application, model in zip(template.applications, loaded, strict=True):
        if not application.fixed:
            sources = [vector.source(argument) for argument in application.arguments]
            given = [
                moving[:, source] if isinstance(source, np.ndarray) else np.ones((1, loaded[source].num_outputs), bool)
                for source in sources
            ]
            whole = [np.broadcast_to(part, (len(moving), part.shape[1])) for part in given]
            refuse_loose_steps(template.name, model.network, np.concatenate(whole, axis=1))


# Models with several inputs: from the places of names to those of numbers


def _by_numbers(template: AnyTemplate, taken: _Taken) -> AnyTemplate:
    """The question with regions, features and agreements by number, where a network's inputs are arrays with names.

    Raises:
        UsageError: a name stands for several numbers where one is meant.
    """
    parts = [taken.parts(place) for place in range(len(template.points))]
    points = [
        replace(point, region=by_number(point.region, shape, own))
        for point, shape, own in zip(template.points, taken.shapes, parts, strict=True)
    ]
    template = template.with_points(points)
    spans = [_spans(own) for own in parts]
    if not any(spans):
        return template

    def number(point: int, index: int) -> int:
        if not spans[point]:
            return index
        if index >= len(spans[point]):
            raise UsageError(f"{template.name}: `{points[point].name}` has {len(spans[point])} inputs, counted from 0")
        part = spans[point][index]
        if len(part) > 1:
            name = (points[point].names or [str(i) for i in range(index + 1)])[index]
            raise UsageError(
                f"{template.name}: `{name}` is an input of {len(part)} numbers; a formula takes single ones"
            )
        return part[0]

    def moved(variable: Variable) -> Variable:
        match variable:
            case Feature(index, of):
                return Feature(number(of, index), of)
            case SampleFeature(index):
                return SampleFeature(number(0, index))
        return variable

    def formula(given: Formula) -> Formula:
        return rewritten(given, moved, lambda of: of)

    agreements = tuple(
        replace(a, features=tuple(i for f in a.features for i in spans[a.one][f])) if spans[a.one] else a
        for a in template.agreements
    )
    given, premise = (None if part is None else formula(part) for part in (template.given, template.premise))
    return replace(template, formula=formula(template.formula), given=given, premise=premise, agreements=agreements)


def _spans(parts: NamedParts | None) -> list[list[int]]:
    """The numbers of each input, where there are several and some have more than one."""
    if parts is None or all(part.size == 1 for part in parts):
        return []
    return [list(range(part.start, part.stop)) for part in parts]


def layout_of(template: AnyTemplate, loaded: Sequence[LoadedModel]) -> Layout | int:
    """The columns of a plain question's rows."""
    (model,) = (m for a, m in zip(template.applications, loaded, strict=True) if not a.fixed)
    return model.num_outputs if len(loaded) == 1 else template.layout([part.num_outputs for part in loaded])
