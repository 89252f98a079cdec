"""Binding a checked specification to its networks and data, with every check that needs them loaded."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from tfcert.clauses import strictly_right
from tfcert.datasets import Samples, confine
from tfcert.datasets.lazy import LazyInputs, each_part, some_of
from tfcert.driver.abstracted import deployed, granularity_of, require_behind
from tfcert.driver.doubts import doubts, one_class, require_unit
from tfcert.driver.fingerprint import weights_hash
from tfcert.driver.heads import asks_for_class, check_declared, label_is_class, with_heads
from tfcert.driver.joining import (
    facts_of,
    joined_task,
    layout_of,
    network_inputs,
    refuse_loose_steps,
    where_facts,
)
from tfcert.driver.pieces import pieces_of, require_pieces, some_pieces
from tfcert.driver.regions import build_regions, by_number, empty_of
from tfcert.driver.sources import asked_samples, load_samples, seen
from tfcert.driver.task import LoadedModel, Lowered, Task
from tfcert.errors import UsageError
from tfcert.given import no_classes
from tfcert.language import (
    AnyTemplate,
    ModelDeclaration,
    Span,
    Spec,
    ValueTemplate,
    load,
    load_file,
)
from tfcert.language.check.setting import Setting
from tfcert.language.spec.formula import SingleOutputError
from tfcert.language.spec.named import applications, output_indices
from tfcert.misfit import misfit
from tfcert.showing import counted


@dataclass(frozen=True)
class BoundSpec:
    """A specification with everything it names loaded.

    ``models`` has a model behind an abstraction under the name of :func:`classifier_name`. ``doubts`` are sentences
    about units that the samples make unlikely.
    """

    spec: Spec
    models: Mapping[str, LoadedModel]
    data: Mapping[str, Samples]
    tasks: tuple[Task, ...]
    doubts: tuple[str, ...] = ()

    def right(self, model: str, dataset: str) -> tuple[np.ndarray, np.ndarray]:
        """Marks the samples that a model classifies right, with their labels; a tie is not right."""
        samples, loaded = self.data[dataset], self.classifier(model)
        if samples.y is None:
            raise UsageError(f"accuracy({model}, {dataset}): the data set has no labels")
        labels = np.asarray(samples.y)
        wrong = no_classes(labels, loaded.num_outputs)
        if len(wrong):
            raise UsageError(
                f"accuracy({model}, {dataset}): sample {wrong[0]} has label {labels[wrong[0]]}, but {model} has "
                f"{loaded.num_outputs} outputs, counted from 0"
            )
        transform = Setting(self.spec.datasets[dataset], self.spec.models[model]).transform
        outputs = loaded.outputs(network_inputs(f"accuracy({model}, {dataset})", loaded, samples.x, transform))
        return strictly_right(outputs, labels.astype(np.int64)), labels

    def classifier(self, model: str) -> LoadedModel:
        """The model by itself, or behind the abstraction that the questions about it name.

        Raises:
            UsageError: they name several.
        """
        if model in self.models:
            return self.models[model]
        names = [classifier_name(task.template, model) for task in self.tasks if model in models_of(task.template)]
        behind = {name: self.models[name] for name in names}
        if len(behind) > 1:
            raise UsageError(f"accuracy({model}, ...) could be that of {' or '.join(behind)}: ask about one of them")
        return next(iter(behind.values()))


def load_spec(
    spec: str | Path,
    params: Mapping[str, Any] | None,
    bindings: Mapping[str, Any] | None,
    *,
    root: str | Path | None = None,
    shared: bool = False,
) -> Spec:
    """A specification from a path or from its text (which has a line break or begins with ``prop``).

    Raises:
        SpecError: it cannot be used.
        UsageError: there is no such file, or none to bind a name to.
    """
    bound = tuple(bindings or ())
    for name, value in (bindings or {}).items():
        if isinstance(value, str | Path) and not (Path(value).is_file() or Path(value).is_dir()):
            raise UsageError(f"there is no file {value} to bind {name} to")
    if isinstance(spec, str) and ("\n" in spec or spec.lstrip().startswith("prop ")):
        return load(spec, params=params, bound=bound)
    if not Path(spec).is_file():
        raise UsageError(f"there is no specification {spec}")
    if root is not None and not Path(spec).resolve().is_relative_to(Path(root).resolve()):
        raise UsageError(f"{spec} is not in the folder {root}, which its paths may not leave")
    return load_file(spec, params=params, bound=bound, confines=root, shared=shared)


def load_text(
    text: str,
    filename: str,
    params: Mapping[str, Any] | None,
    bindings: Mapping[str, Any] | None,
    *,
    root: str | Path | None = None,
) -> Spec:
    """A specification from the text that a file has, or will have: its paths are relative to that file's folder.

    Raises:
        SpecError: it cannot be used.
    """
    folder = Path(filename).resolve().parent
    return load(text, filename=filename, params=params, bound=tuple(bindings or ()), root=folder, confines=root)


def spec_name(spec: Spec) -> str:
    """The name of a run's folder."""
    return Path(spec.filename).stem if spec.root else "spec"


def _templates(spec: Spec) -> list[AnyTemplate]:
    return [*spec.properties.values(), *spec.measures.values()]


def _accuracies(spec: Spec) -> set[tuple[str, str]]:
    """The models and data sets whose clean accuracy is asked for."""
    pairs = {pair for a in spec.assertions for pair in a.accuracies}
    return pairs | {(item.names[0], item.names[1]) for item in spec.reports if item.kind == "accuracy"}


def needed_models(spec: Spec) -> list[str]:
    """The models that the properties, measures, assertions and reports name."""
    names = {name for t in _templates(spec) for name in models_of(t)} | {model for model, _ in _accuracies(spec)}
    return [name for name in spec.models if name in names]


def load_data(spec: Spec, bindings: Mapping[str, Any]) -> dict[str, Samples]:
    """Loads the data sets that the properties, measures, assertions and reports name.

    Raises:
        UsageError, DatasetError: as for :func:`tfcert.driver.sources.load_samples`.
    """
    names = {t.dataset for t in _templates(spec)} | {dataset for _, dataset in _accuracies(spec)}
    data: dict[str, Samples] = {}
    for name, dataset in spec.datasets.items():
        if name in names:
            asking = {model for t in _templates(spec) if t.dataset == name for model in models_of(t)}
            asking |= {model for model, asked in _accuracies(spec) if asked == name}
            with placed(spec, name, dataset.span):
                data[name] = load_samples(dataset, bindings, [m for n, m in spec.models.items() if n in asking])
    for t in _templates(spec):
        if t.dataset is not None:
            with placed(spec, t.name, t.span):
                require_unit(t, spec.datasets[t.dataset], seen(t, data[t.dataset]))
                _ask(data[t.dataset], t)
    for _, measured in _accuracies(spec):
        _ask(data[measured], None)
    return data


def _ask(samples: Samples, template: AnyTemplate | None) -> None:
    """Tells samples that are read as they are needed which of them a question needs; all without a question."""
    if isinstance(samples.x, LazyInputs):
        samples.x.ask(None if template is None else np.array([i for i, _ in asked_samples(template, samples)], int))


def bind(spec: Spec, bindings: Mapping[str, Any], data: Mapping[str, Samples] | None = None) -> BoundSpec:
    """Loads the models that are named, and the data sets unless they are given.

    Raises:
        UsageError: something does not fit, said in a sentence.
        ValueError: the frontend or a data source refused what was given (their messages are sentences too).
    """
    templates = _templates(spec)
    data = load_data(spec, bindings) if data is None else data
    models: dict[str, LoadedModel] = {}
    opened: dict[str, Any] = {}
    for name in needed_models(spec):
        model = spec.models[name]
        with placed(spec, name, model.span):
            models |= _classifiers(model, [t for t in templates if name in models_of(t)], bindings, data, opened)
    tasks: list[Task] = []
    doubted: dict[str, None] = {}
    for t in templates:
        with placed(spec, t.name, t.span):
            task = _task(t, [models[classifier_name(t, a.model)] for a in t.applications], data.get(t.dataset or ""))
            tasks.append(task)
            if t.dataset is not None:
                asked = spec.datasets[t.dataset]
                doubted |= dict.fromkeys(doubts(t, asked, seen(t, data[t.dataset])) + one_class(t, asked, task.labels))
            doubted |= dict.fromkeys(_misfit(task) + _settled(task))
    bound = BoundSpec(spec, models, data, tuple(tasks), tuple(doubted))
    for name, asked_of in sorted(_accuracies(spec)):
        # An accuracy that could be that of several, or of no classifier, is refused before anything runs.
        if bound.classifier(name).num_outputs < 2:
            raise UsageError(
                f"accuracy({name}, {asked_of}): {name} has a single output, so there are no classes to be right about; "
                "ask for the share of samples that keep to a threshold, `nominal_accuracy` of a property"
            )
    return bound


def _misfit(task: Task) -> list[str]:
    """Sentences that speak against samples being what the model expects, where a question is about their classes."""
    if not task.template.is_robustness or task.outputs is None or task.centers is None:
        return []
    right = task.outputs.argmax(axis=1) == np.array([-1 if label is None else label for label in task.labels])
    said = misfit(right, task.model.num_outputs, some_of(task.centers, np.arange(len(right))))
    return [] if said is None else [f"{task.template.dataset} as {task.model.name} receives it: {said}"]


def _settled(task: Task) -> list[str]:
    """Samples that a question says nothing about, because their labels settle the formula.

    Raises:
        UsageError: all of them: the answer would say nothing about the model.
    """
    number, layout = task.model.num_outputs, task.lowered.layout
    settled = {given for given in dict.fromkeys(task.given) if task.template.is_settled(layout, given)}
    labels = list(dict.fromkeys(y for y, given in zip(task.labels, task.given, strict=True) if given in settled))
    count = sum(given in settled for given in task.given)
    if not count:
        return []
    said = f"true or false whatever {task.model.name} computes"
    if count == len(task.labels):
        raise UsageError(
            f"{task.name}: of {counted(number, 'output')} the formula is {said}, so there is nothing to verify; "
            "say something about the outputs that may fail"
        )
    listed = ", ".join(map(str, labels[:8])) + (", ..." if len(labels) > 8 else "")
    return [
        f"{task.name}: for {count} of {len(task.labels)} samples the formula is {said} "
        f"(label{'s' * (len(labels) > 1)} {listed}); they count, unless `where` leaves them out"
    ]


@contextlib.contextmanager
def placed(spec: Spec, name: str, span: Span) -> Iterator[None]:
    """Notes on an error where in the text the name is defined that it is about.

    A name with a dot is defined in an imported text, and one that the caller alone knows nowhere.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        if "." not in name and span != Span():
            error.add_note(f"  --> {spec.filename}:{span.line}:{span.column}")
        raise


def models_of(template: AnyTemplate) -> list[str]:
    """The names of the models that a question applies, each once; the first is ``template.model``."""
    return list(dict.fromkeys([template.model, *(application.model for application in template.applications)]))


def classifier_name(template: AnyTemplate, model: str = "") -> str:
    """The name of a question's classifier: ``clf``, or ``clf behind grid``; of another ``model`` that it applies."""
    model = model or template.model
    return model if template.abstraction is None else f"{model} behind {template.abstraction.name}"


def _classifiers(
    template: ModelDeclaration,
    asked: list[AnyTemplate],
    bindings: Mapping[str, Any],
    data: Mapping[str, Samples],
    opened: dict[str, Any],
) -> dict[str, LoadedModel]:
    """A model by itself and behind each abstraction, as far as questions need it so; checked, by name."""
    from tfcert.network.cache import network_of

    model = _load_model(template, bindings, opened)
    found: dict[str, LoadedModel] = {}
    for question in asked:
        name, abstraction = classifier_name(question, template.name), question.abstraction
        samples = data.get(question.dataset or "")
        if abstraction is None or name in found:
            continue
        shape = None if samples is None else tuple(samples.x.shape[1:])
        whole = deployed(abstraction, template.name, model, shape)
        network = network_of(whole)
        require_behind(template.name, network)
        found[name] = LoadedModel(name, whole, network, weights_hash(whole), granularity_of(whole))
    if not found or any(question.abstraction is None for question in asked):
        found[template.name] = LoadedModel(template.name, model, network_of(model), weights_hash(model))
    said = any(_speaks_of(question, template.name) for question in asked)
    for loaded in found.values():
        _check_model(template, loaded, said=said or not asked)
    return found


def _speaks_of(question: AnyTemplate, model: str) -> bool:
    """Tells whether a question speaks of a model's outputs, which otherwise another model reads."""
    if question.is_single:
        return True
    formulas = [f for f in (question.formula, question.given, question.where) if f is not None]
    return any(question.applications[n].model == model for f in formulas for n in applications(f))


def _load_model(template: ModelDeclaration, bindings: Mapping[str, Any], opened: dict[str, Any]) -> Any:
    """The model, or the part of one; ``opened`` keeps whole models, so that parts share their weights."""
    from tfcert.loading import load_model
    from tfcert.network import with_layer, with_output

    name = template.whole
    if name not in opened:
        value = bindings[name] if template.bound else confine(template.path, template.folder or None)
        opened[name] = load_model(value) if isinstance(value, str | Path) else value
    if template.layer:
        return with_layer(opened[name], template.layer)
    return with_output(opened[name], template.output) if template.output else opened[name]


def _check_model(template: ModelDeclaration, loaded: LoadedModel, *, said: bool) -> None:
    name, network = f"model {loaded.name}", loaded.network
    check_declared(name, template.outputs, network)
    parts = network.parts
    if parts is not None and template.input_names and list(template.input_names) != parts.names:
        raise UsageError(
            f"{name} has the inputs {parts}; name them in this order, `inputs: [{', '.join(parts.names)}]`, not "
            f"{', '.join(template.input_names)}"
        )
    for what, names, shape in (
        ("outputs", template.output_names, network.output_shape),
        ("inputs", template.input_names if parts is None else (), network.input_shape),
    ):
        if names and len(names) != int(np.prod(shape)):
            raise UsageError(f"{name} has {int(np.prod(shape))} {what}, but {len(names)} are named")
    if said and len(network.output_shape) != 1:
        raise UsageError(f"{name} answers with shape {network.output_shape}; properties need one axis of outputs")
    if not bool(network.finite()):
        raise UsageError(f"{name} has a NaN or an infinity among its weights")


def _task(template: AnyTemplate, loaded: Sequence[LoadedModel], data: Samples | None) -> Task:
    _check_outputs(template, loaded)
    dtype = loaded[0].network.dtype.as_numpy_dtype
    if template.strategy.dtype == "float64" and np.dtype(dtype) != np.float64:
        raise UsageError(
            f"{template.name}: the strategy asks for float64, but {template.model} computes in {np.dtype(dtype)}; "
            "bounds are computed in the model's own type, so save the model as float64"
        )
    chosen = None
    if template.dataset is not None and data is not None:
        chosen = asked_samples(template, data, functools.partial(where_facts, template, loaded))
        _check_labels(template, loaded, chosen)
    some = None if data is None or chosen is None else _stored(data.x, np.array([i for i, _ in chosen], int))
    task = (_plain if template.is_single else joined_task)(template, loaded, chosen, some)
    if isinstance(template, ValueTemplate):
        task = task.at([template.usual] * len(task.samples))
    from tfcert.driver.stages.base import require_stages

    _check_lowering(task)
    task = with_heads(task)
    require_stages(task)
    return task


def _check_outputs(template: AnyTemplate, loaded: Sequence[LoadedModel]) -> None:
    """Checks the outputs that a formula names of each application."""
    for number, model in enumerate(loaded):
        if model.num_outputs < 2 and asks_for_class(template.formula, number):
            raise UsageError(f"{template.name}: {SingleOutputError()}")
        unknown = [i for i in output_indices(template.formula, number) if not 0 <= i < model.num_outputs]
        if unknown:
            raise UsageError(
                f"{template.name}: there is no output {min(unknown)}: {model.name} has {model.num_outputs}, from 0"
            )


def _check_labels(
    template: AnyTemplate, loaded: Sequence[LoadedModel], chosen: Sequence[tuple[int, float | None]]
) -> None:
    """Checks that labels are classes of the applications that the formula compares them with."""
    for number, model in enumerate(loaded):
        if not label_is_class(template.formula, number):
            continue
        wrong = no_classes(np.array([label or 0 for _, label in chosen]), model.num_outputs)
        if len(wrong):
            sample, label = chosen[wrong[0]]
            raise UsageError(
                f"{template.name}: sample {sample} of {template.dataset} has label {label}, but "
                f"{model.name} has {model.num_outputs} outputs, counted from 0"
            )


def _stored(x: Any, places: np.ndarray) -> Any:
    """Some samples as they are stored, read as they are needed where all are."""
    return x.mapped(np.asarray, places) if isinstance(x, LazyInputs) else x[places]


def _plain(
    template: AnyTemplate, loaded: Sequence[LoadedModel], chosen: Sequence[tuple[int, float | None]] | None, x: Any
) -> Task:
    """A question about one network at one point."""
    (model,) = (m for a, m in zip(template.applications, loaded, strict=True) if not a.fixed)
    template = replace(
        template, region=by_number(template.region, tuple(model.network.input_shape), model.network.parts)
    )
    lowered = Lowered(template, layout_of(template, loaded))
    pieces = pieces_of(template, [tuple(model.network.input_shape)])
    if chosen is None:
        return Task(template, model, np.zeros(1, int), None, (None,), None, lowered, pieces=pieces)
    centers = network_inputs(template.name, model, x, template.transform)
    labels = tuple(label for _, label in chosen)
    facts = facts_of(template, loaded, x, labels, centers)
    samples = np.array([i for i, _ in chosen], int)
    outputs = model.outputs(centers)
    return Task(template, model, samples, centers, labels, outputs, lowered, pieces=pieces, facts=facts)


def _check_lowering(task: Task) -> None:
    """Everything that can be refused is refused before anything runs: clauses for all samples, and their regions."""
    for given in dict.fromkeys(task.given):
        try:
            task.lowered.stacked([given])
        except (ValueError, IndexError) as error:
            raise UsageError(f"{task.name}: {error}") from error
    if task.placed is not None:
        return  # its regions were built before
    dtype = task.model.network.dtype.as_numpy_dtype
    for part in [None] if task.centers is None else each_part(task.centers):
        shape = tuple(task.model.network.input_shape)
        require_pieces(task.template, task.pieces, part, shape, dtype)
        for piece in some_pieces(task.template, task.pieces, every=task.model.network.parts is not None):
            held = None if part is None else part[~empty_of(piece, part, shape, dtype)] if task.pieces else part
            radii = [Fraction(0)] * (0 if held is None else len(held))
            if held is None or len(held):
                moving = build_regions(piece, held, shape, dtype, radii).proof.moving()
                refuse_loose_steps(task.name, task.model.network, moving)
