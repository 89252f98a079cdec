"""An objective of a specification with its model and samples loaded, in the space in which training takes place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from tfcert.datasets import Samples
from tfcert.datasets.lazy import LazyInputs, some_of
from tfcert.driver.arrivals import normalization
from tfcert.driver.bind import bind, placed
from tfcert.driver.doubts import require_unit
from tfcert.driver.joining import network_inputs
from tfcert.driver.regions import clip_of, require_inside
from tfcert.driver.sources import load_samples
from tfcert.driver.task import LoadedModel
from tfcert.errors import UsageError
from tfcert.given import no_classes
from tfcert.language import BallSpec, ModelDeclaration, Named, ObjectiveTemplate, PropertyTemplate, Spec, Transform

if TYPE_CHECKING:
    from tfcert.training.augmentation import Augmentation


@dataclass(frozen=True, eq=False)
class Trainable:
    """A model, samples and an objective, ready for training.

    Where the property's ball is one number of the network's inputs, training takes place in network space. Where
    normalisation makes it one number a channel, the model is trained behind that normalisation (which is no part of
    what is saved), on inputs before it: there the ball is one number again.

    Attributes:
        model: the model as it was loaded.
        normalization: mean and std put before the model for training; None where training is in network space.
        transform: from stored values of the property's samples to the inputs of training.
        train, held_out: inputs ``[samples, *input]`` and labels ``[samples]``.
        clip: the valid range of an input of training, two numbers or two lists of one number a channel; or None.
        selected: what of its data set the property asks about, as indices.
        changes: random changes of the images of training, or None.
        doubts: sentences about units that the samples make unlikely.
    """

    objective: ObjectiveTemplate
    asked: PropertyTemplate
    model: LoadedModel
    normalization: tuple[np.ndarray, np.ndarray] | None
    transform: Transform
    train: Samples
    held_out: Samples
    clip: tuple[Any, Any] | None
    selected: np.ndarray
    changes: Augmentation | None = None
    doubts: tuple[str, ...] = ()

    @property
    def labels(self) -> np.ndarray:
        """The labels to train on."""
        assert self.train.y is not None  # bind_objective refuses samples without labels
        return self.train.y

    @property
    def space(self) -> str:
        """The name of the space of training."""
        return "net" if self.normalization is None else "unit"

    def eps(self, written: Fraction) -> float:
        """A radius as the specification writes it, in the space of training."""
        (eps,) = self.transform.net_eps(self.asked.region.space, written)
        return float(eps)


def bind_objective(
    spec: Spec, name: str, bindings: Mapping[str, Any], data: Mapping[str, Samples] | None = None
) -> Trainable:
    """Loads the model that an objective names, and the samples unless they are given; nothing else is loaded.

    Raises:
        UsageError: there is no such objective, or something does not fit, said in a sentence.
        ValueError: the frontend or a data source refused what was given (their messages are sentences too).
    """
    objective = find_objective(spec, name)
    asked = spec.properties[objective.property]
    bound = bind(about(spec, objective), bindings, data)
    (task,) = bound.tasks
    if not len(task.samples):
        raise UsageError(f"{asked.name} asks about no sample: there is nothing to hold out")
    space = _space(asked)
    assert asked.dataset is not None and task.centers is not None
    moved = replace(asked, transform=space)
    dtype, shape = task.centers.dtype, task.centers.shape[1:]
    before = None if space == asked.transform else normalization(asked.transform, shape)
    with placed(spec, asked.name, asked.span):
        centers = bound.data[asked.dataset].x[task.samples]
        held_out = network_inputs(asked.name, task.model, centers, space)
        clip = clip_of(moved, shape, dtype)
        require_inside(asked.name, held_out, clip)
    with placed(spec, name, objective.span):
        stored = _samples(objective, bindings, data, spec.models[objective.model])
        require_unit(asked, objective.train, some_of(stored.x, np.arange(min(64, len(stored.x)))))
        train = _train(objective, task.model, stored, space)
        lazy = isinstance(train.x, LazyInputs)
        changes = _changes(objective, train.x.sample_shape if lazy else train.x.shape[1:])
        if isinstance(train.x, LazyInputs):
            train.x.check = lambda x, _: require_inside(f"{name}, in what it trains on", x, clip)
        else:
            require_inside(f"{name}, in what it trains on", train.x, clip)
    return Trainable(
        objective=objective,
        asked=asked,
        model=task.model,
        normalization=before,
        transform=space,
        train=train,
        held_out=Samples(held_out, np.array(task.labels)),
        clip=None if clip is None else (_end(clip[0]), _end(clip[1])),
        selected=task.samples,
        changes=changes,
        doubts=bound.doubts,
    )


def _end(values: np.ndarray) -> Any:
    """An end of the valid range as objectives of training take it."""
    return values.item() if values.size == 1 else values.tolist()


def about(spec: Spec, objective: ObjectiveTemplate) -> Spec:
    """The specification with the question of an objective alone."""
    asked = spec.properties[objective.property]
    return replace(spec, properties={asked.name: asked}, measures={}, assertions=(), reports=())


def find_objective(spec: Spec, name: str) -> ObjectiveTemplate:
    """The objective of that name.

    Raises:
        UsageError: there is none.
    """
    if name in spec.objectives:
        return spec.objectives[name]
    known = f"it has {', '.join(spec.objectives)}" if spec.objectives else "it has none"
    raise UsageError(f"{spec.filename} has no objective {name}; {known}")


def _space(asked: PropertyTemplate) -> Transform:
    """The way from stored values to the inputs of training."""
    assert isinstance(asked.region, BallSpec)
    if asked.region.space == "net" or asked.transform.channels == 1:
        return asked.transform
    return Transform(asked.transform.scale)


def _samples(
    objective: ObjectiveTemplate,
    bindings: Mapping[str, Any],
    data: Mapping[str, Samples] | None,
    model: ModelDeclaration,
) -> Samples:
    """The samples to train on, as they are stored."""
    if objective.train is None:
        raise UsageError(
            f"{objective.name} does not say what to train on, and the data set that it holds out was bound by you: "
            "write `train: NAME` and bind that name as well"
        )
    return load_samples(objective.train, bindings, [model]) if data is None else data[objective.train.name]


def _changes(objective: ObjectiveTemplate, shape: tuple[int, ...]) -> Augmentation | None:
    """How samples of training, of this shape, are changed at random; None where the objective says nothing of it."""
    if not objective.augment:
        return None
    from tfcert.training.augmentation import Augmentation

    named = {term.name: term for term in objective.augment}
    shift = named.get("shift", Named("shift"))
    found = Augmentation("flip" in named, shift.option("pixels", 0), shift.option("fill", "edge"))
    complaint = found.refuses(shape)
    if complaint:
        raise UsageError(f"{objective.name}: `augment` {complaint}")
    return found


def _train(objective: ObjectiveTemplate, model: LoadedModel, samples: Samples, space: Transform) -> Samples:
    """The inputs and labels to train on, checked against the model."""
    name = objective.name
    assert objective.train is not None
    if samples.y is None:
        raise UsageError(f"{name} trains on {objective.train.name}, which has no labels")
    if not len(samples.y):
        raise UsageError(f"{name} trains on {objective.train.name}, which has no samples")
    labels = np.asarray(samples.y)
    wrong = no_classes(labels, model.num_outputs)
    if len(wrong):
        raise UsageError(
            f"{name}: sample {wrong[0]} of {objective.train.name} has label {labels[wrong[0]]}, but "
            f"{model.name} has {model.num_outputs} outputs, counted from 0"
        )
    labels = labels.astype(np.int64)
    own = replace(space, scale=objective.train_transform.scale)
    return Samples(network_inputs(name, model, samples.x, own), labels)
