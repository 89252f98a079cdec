"""Samples of a specification's data sets: read or taken from Python, put in a model's order, and checked."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfcert.catalog import SOURCES, SourceInfo, of_file
from tfcert.datasets import Samples, confine, load_dataset
from tfcert.datasets.base import DatasetError, joined_inputs
from tfcert.datasets.lazy import JoinedInputs, LazyInputs, some_of
from tfcert.datasets.npz import npz_keys
from tfcert.errors import UsageError
from tfcert.language import AnyTemplate, Dataset
from tfcert.language import ModelDeclaration as ModelTemplate
from tfcert.language.spec.choice import chosen, needs_end, only_take
from tfcert.language.spec.layout import SampleFacts
from tfcert.language.spec.named import applications, sample_features


def load_samples(template: Dataset, bindings: Mapping[str, Any], models: Sequence[ModelTemplate] = ()) -> Samples:
    """Samples as they are stored, checked: finite, and within the range that the specification gives.

    Args:
        models: those that receive them; named columns of a csv are put in the order of a model's named inputs.

    Raises:
        UsageError: they are not.
        DatasetError: they cannot be read.
    """
    if template.parts:
        return _joined(template, [load_samples(part, bindings, models) for part in template.parts])
    options: dict[str, Any] = dict(template.options)
    if template.bound:
        samples = _bound_data(template, bindings, options, models)
    else:
        arguments = [template.path] if template.path else []
        source = SOURCES.find(template.source)
        if source.columns:
            path = confine(template.path, template.folder or None)
            options |= _by_name(template, source, path, options, models)
        if template.source == "npz" and "x" not in options:
            path = confine(template.path, template.folder or None)
            options |= _arrays_by_name(template, npz_keys(path), models)
        samples = load_dataset(template.source, *arguments, root=template.folder or None, **options)
    samples = _named(template, samples, models)
    samples = _chosen(template, samples)
    if isinstance(samples.x, LazyInputs):
        samples.x.check = functools.partial(_check_values, template)
    else:
        _check_values(template, samples.x, np.arange(len(samples.x)))
    return samples


def _joined(template: Dataset, parts: Sequence[Samples]) -> Samples:
    """Samples of data sets one after another.

    Raises:
        UsageError: their shapes differ, or some have labels and others none.
    """
    shapes = {tuple(part.x.shape[1:]): name.name for part, name in zip(parts, template.parts, strict=True)}
    if len(shapes) > 1:
        (one, first), (other, second), *_ = shapes.items()
        raise UsageError(f"data set {template.name}: samples of {first} have shape {one}, of {second} {other}")
    bare = [name.name for part, name in zip(parts, template.parts, strict=True) if part.y is None]
    if bare and len(bare) < len(parts):
        raise UsageError(f"data set {template.name}: {bare[0]} has no labels, and others of its data sets have some")
    y = None if bare else np.concatenate([np.asarray(part.y) for part in parts])
    if any(isinstance(part.x, LazyInputs) for part in parts):
        x: Any = JoinedInputs([part.x for part in parts], y)
    else:
        x = np.concatenate([part.x for part in parts])
    return _chosen(template, Samples(x, y))


def _chosen(template: Dataset, samples: Samples) -> Samples:
    """The samples that a data set's choice leaves; inputs that can be read one by one are read no further for it.

    Raises:
        UsageError: it leaves none, or asks for one that there is not.
    """
    if not template.choice:
        return samples
    count = only_take(template.choice)
    if isinstance(samples.x, LazyInputs) and count is not None:
        samples.x.limit_to(count)
        return Samples(samples.x, samples.y[:count] if isinstance(samples.y, np.ndarray) else samples.y)
    if isinstance(samples.x, LazyInputs) and needs_end(template.choice):
        samples.x.require_end()
    try:
        places = np.array([place for place, _ in chosen(template.choice, enumerate(each_label(samples)))], int)
    except (IndexError, ValueError) as error:
        raise UsageError(f"data set {template.name}: {error}") from error
    if not len(places):
        raise UsageError(f"data set {template.name}: the choice of samples leaves none")
    if isinstance(samples.x, LazyInputs):
        x = samples.x.mapped(np.asarray, places)
        return Samples(x, None if samples.y is None else np.array(list(x.labels())))
    return Samples(samples.x[places], None if samples.y is None else samples.y[places])


def _check_values(template: Dataset, x: np.ndarray, numbers: np.ndarray) -> None:
    """Checks samples ``[n, ...]`` that have these numbers in the data set."""
    if x.size and not np.isfinite(x).all():
        raise UsageError(
            f"data set {template.name}: sample {numbers[_first(~np.isfinite(x))]} holds a NaN or an infinity"
        )
    if template.range is not None:
        low, high = (float(end) for end in template.range)
        outside = (x < low) | (x > high)
        if outside.any():
            raise UsageError(
                f"data set {template.name}: sample {numbers[_first(outside)]} leaves the range [{low:g}, {high:g}] "
                f"that the specification gives; its values go from {x.min():g} to {x.max():g}"
            )


def _named(template: Dataset, samples: Samples, models: Sequence[ModelTemplate]) -> Samples:
    """Samples whose classes have names, with labels in the order of a model's outputs that have the same names.

    Raises:
        UsageError: two models have the names in different orders.
    """
    classes = getattr(samples.x, "classes", ())
    orders = {model.output_names: model for model in models if classes and set(classes) <= set(model.output_names)}
    if len(orders) > 1:
        one, other, *_ = orders.values()
        raise UsageError(
            f"data set {template.name}: {one.name} and {other.name} name its classes in different orders; define it "
            "twice, once for each"
        )
    for names in orders:
        return Samples(samples.x, np.array([names.index(name) for name in classes])[samples.y])
    return samples


def each_label(samples: Samples) -> Iterator[float | None]:
    """The labels of samples, None each where there are none; of a stream they are read as they are asked for."""
    if isinstance(samples.y, np.ndarray):
        return iter(samples.y.tolist())
    if isinstance(samples.x, LazyInputs):
        return samples.x.labels()
    return iter([None] * len(samples.x))


FactsOf = Callable[[Any, Sequence[Any]], Sequence[SampleFacts]]
"""``(x [n, ...] as stored, labels) -> facts``: what samples give to a formula."""
_AT_ONCE = 256
"""Of so many samples at a time is found out what networks say of them."""


def asked_samples(
    template: AnyTemplate, samples: Samples, facts: FactsOf | None = None
) -> list[tuple[int, float | None]]:
    """The samples that a question is about, as indices and labels; of a stream no more is read than that takes.

    Args:
        facts: what samples give to ``where``, which may name more than their labels. Without it all are chosen then.

    Raises:
        UsageError: the question asks for labels, and there are none.
    """
    if template.needs_label and samples.y is None:
        raise UsageError(f"{template.name} asks for labels, but data set {template.dataset} has none")
    if needs_end(template.choice) and isinstance(samples.x, LazyInputs):
        samples.x.require_end()
    each = enumerate(each_label(samples))
    selected: Iterator[tuple[int, float | None]]
    if not chooses_by_facts(template):
        selected = ((i, label) for i, label in each if template.sample_selected(label))
    elif facts is None:
        return list(each)
    else:
        selected = _told(template, samples, each, facts)
    try:
        return list(chosen(template.choice, selected))
    except (IndexError, ValueError) as error:
        raise (
            error if isinstance(error, UsageError | DatasetError) else UsageError(f"{template.name}: {error}")
        ) from error


def chooses_by_facts(template: AnyTemplate) -> bool:
    """Tells whether samples are chosen by more than their labels: by their numbers, or by what networks say of them."""
    return template.where is not None and bool(sample_features(template.where) or applications(template.where))


def _told(
    template: AnyTemplate, samples: Samples, each: Iterator[tuple[int, float | None]], facts: FactsOf
) -> Iterator[tuple[int, float | None]]:
    while some := list(itertools.islice(each, _AT_ONCE)):
        known = facts(samples.x[np.array([i for i, _ in some], int)], [label for _, label in some])
        yield from (pair for pair, fact in zip(some, known, strict=True) if template.sample_selected(fact))


def seen(template: AnyTemplate, samples: Samples) -> np.ndarray:
    """The samples by which doubts about a question are raised: all, or, where they are read one by one, some of its."""
    if not isinstance(samples.x, LazyInputs):
        return np.asarray(samples.x)
    return some_of(samples.x, [i for i, _ in asked_samples(template, samples)])


def _by_name(
    template: Dataset,
    source: SourceInfo,
    path: str | Path,
    options: Mapping[str, Any],
    models: Sequence[ModelTemplate],
) -> dict[str, Any]:
    """The option that takes a table's columns by the names of a model's inputs, where both have names.

    Raises:
        UsageError: the names contradict each other.
    """
    chosen_columns = options.get("x", ())
    chosen_columns = (chosen_columns,) if isinstance(chosen_columns, str | int) else tuple(chosen_columns)
    if any(isinstance(column, int) for column in chosen_columns):
        return {}
    names = _order(template, chosen_columns or source.names_of(path, options.get("label")), models)
    return {"x": names} if names else {}


def _arrays_by_name(
    template: Dataset, keys: Sequence[str], models: Sequence[ModelTemplate]
) -> dict[str, tuple[str, ...]]:
    """The option that takes the arrays of a file by the names of a model's inputs, where it has them and no ``x``.

    Raises:
        UsageError: models name them in different orders.
    """
    orders = {model.input_names: model for model in models if model.input_names}
    if "x" in keys or not any(set(names) <= set(keys) for names in orders):
        return {}
    if len(orders) > 1:
        one, other, *_ = orders.values()
        raise UsageError(
            f"data set {template.name}: {one.name} and {other.name} name its arrays differently; define it twice, once "
            "for each"
        )
    return {"x": next(iter(orders))}


def _order(template: Dataset, columns: Sequence[str], models: Sequence[ModelTemplate]) -> tuple[str, ...]:
    """The columns of a table in the order of a model's inputs, where both have names.

    Raises:
        UsageError: the names contradict each other.
    """
    named = [model for model in models if model.input_names]
    if not columns or not named:
        return ()
    for model in named:
        if sorted(columns) != sorted(model.input_names):
            raise UsageError(
                f"data set {template.name}: its columns are {', '.join(columns)}, but the inputs of {model.name} are "
                f"{', '.join(model.input_names)}; name the inputs as the columns are"
            )
    if len({model.input_names for model in named}) > 1:
        raise UsageError(
            f"data set {template.name}: {named[0].name} and {named[1].name} want its columns in different orders; "
            "define it twice, once for each"
        )
    return named[0].input_names


def _bound_data(
    template: Dataset, bindings: Mapping[str, Any], options: dict[str, Any], models: Sequence[ModelTemplate]
) -> Samples:
    value = bindings[template.name]
    if not isinstance(value, str | Path):
        return load_dataset(_in_order(template, value, models))
    source = SOURCES["images"] if Path(value).is_dir() else of_file(SOURCES, str(value)) or SOURCES.find("npz")
    given = options if template.source == source.name else {}
    if source.name == "npz" and "x" not in given:
        given |= _arrays_by_name(template, npz_keys(str(value)), models)
    given |= _by_name(template, source, str(value), given, models) if source.columns else {}
    return load_dataset(source.name, str(value), **given)


def _in_order(template: Dataset, value: Any, models: Sequence[ModelTemplate]) -> Any:
    """Samples that Python gave, the columns of a DataFrame in the order of a model's named inputs."""
    pair = isinstance(value, tuple | list) and len(value) == 2
    x: Any = value.get("x") if isinstance(value, dict) else value[0] if pair else value
    if isinstance(x, Mapping):
        arrays = _arrays_by_name(template, list(map(str, x)), models).get("x")
        if arrays is None:
            raise UsageError(
                f"data set {template.name} has the arrays {', '.join(map(str, x))}: name the model's inputs so, in its "
                "order, by `inputs: [...]`"
            )
        joined = joined_inputs({name: x[name] for name in arrays}, f"data set {template.name}")
        return {**value, "x": joined} if isinstance(value, dict) else (joined, value[1]) if pair else joined
    columns = list(getattr(x, "columns", ()))
    names = _order(template, columns, models) if all(isinstance(c, str) for c in columns) else ()
    if not names:
        return value
    x = x[list(names)]
    return {**value, "x": x} if isinstance(value, dict) else (x, value[1]) if pair else x


def _first(mask: np.ndarray) -> int:
    return int(np.argwhere(mask)[0][0])
