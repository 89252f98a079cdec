"""Everything that tfcert takes from inside Keras: modules below ``keras.src``, and attributes with an underscore.

Keras promises none of it, so it is all here, and nowhere else (a test sees to that). It was checked with the versions
that ``CHECKED`` names; where another version lacks something, the error says what is missing and what to install.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

import keras

from tfcert.network.errors import KerasVersionError

CHECKED = ">=3.15,<3.16"
"""The versions of Keras that what follows was checked with, as pip writes them."""


class _Module:
    """A module inside Keras, whose names are looked up when they are used."""

    def __init__(self, name: str):
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return _read(_imported(self._name), name)


def _imported(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ImportError as error:
        raise _missing(name) from error


def _read(owner: Any, name: str) -> Any:
    """An attribute of something of Keras's.

    Raises:
        KerasVersionError: this version has none of that name.
    """
    try:
        return getattr(owner, name)
    except AttributeError as error:
        kind = owner if isinstance(owner, ModuleType | type) else type(owner)
        raise _missing(f"{kind.__name__}.{name}") from error


def _missing(what: str) -> KerasVersionError:
    return KerasVersionError(
        f"Keras {keras.__version__} has no {what}, which tfcert reads; tfcert was checked with Keras {CHECKED}: "
        f"pip install 'keras{CHECKED}'"
    )


# Classes of operations in functional graphs.

activation_operations = _Module("keras.src.activations.activations")
core_operations = _Module("keras.src.ops.core")
math_operations = _Module("keras.src.ops.math")
image_operations = _Module("keras.src.ops.image")
nn_operations = _Module("keras.src.ops.nn")
numpy_operations = _Module("keras.src.ops.numpy")

# Layers that keras.applications has for itself.

convnext = _Module("keras.src.applications.convnext")
rearranging = _Module("keras.src.ops.einops")

# Models and graphs.

Functional: Any = _Module("keras.src.models.functional").Functional
"""The class of functional models and of the graph behind a Sequential."""


def functional_graph(model: keras.Model) -> Any:
    """The functional graph of a model: its own, or that behind a Sequential; None for other models, and unbuilt."""
    if isinstance(model, Functional):
        return model
    return _read(model, "_functional") if isinstance(model, keras.Sequential) else None


def calls(graph: Any) -> list[Any]:
    """The calls of layers and operations of a functional graph, each after those that it depends on."""
    by_depth = _read(graph, "_nodes_by_depth")
    return [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth] if not node.is_input]


def operation_of(tensor: Any) -> Any:
    """The layer or operation that a symbolic tensor comes from."""
    return _read(tensor, "_keras_history").operation


def input_structure(model: keras.Model) -> Any:
    """The structure that the inputs of a functional model are wrapped in; None for other models."""
    graph = functional_graph(model)
    return None if graph is None else _read(graph, "_inputs_struct")


def output_structure(model: keras.Model) -> Any:
    """The structure that the outputs of a functional model are wrapped in; None for other models."""
    graph = functional_graph(model)
    return None if graph is None else _read(graph, "_outputs_struct")


def layers_within(model: keras.Model, *, itself: bool = False) -> list[Any]:
    """The layers of a model, nested ones included, and the model itself if asked for."""
    return list(_read(model, "_flatten_layers")(include_self=itself))


# Layers.


def takes_training(layer: keras.layers.Layer) -> bool:
    """True for a layer whose call has an argument ``training``, unless only quantised weights make use of it."""
    if type(layer) in (keras.layers.Dense, keras.layers.EinsumDense) and layer.quantization_mode is None:
        return False
    return bool(_read(layer, "_call_has_training_arg"))


def kernel_of(layer: keras.layers.Layer) -> Any:
    """The kernel that a layer holds itself; None for a layer without one."""
    kernel = layer.__dict__.get("kernel", None)
    return layer.__dict__.get("_kernel", None) if kernel is None else kernel


@contextmanager
def wrapped_moments(layers: list[Any], wrap: Callable[[Any, Any], Any]) -> Iterator[None]:
    """Puts ``wrap(layer, moments)`` in the place of how each batch normalisation finds its batch's moments."""
    try:
        for layer in layers:
            object.__setattr__(layer, "_moments", wrap(layer, _read(layer, "_moments")))
        yield
    finally:
        for layer in layers:
            layer.__dict__.pop("_moments", None)


# Training.

MetricsList: Any = _Module("keras.src.trainers.compile_utils").MetricsList
"""The class of metrics in which callbacks look for the direction of what they monitor."""
unscale_loss: Any = _Module("keras.src.losses.loss").unscale_loss_for_distribution
"""Undoes the scaling of a loss over replicas."""


def loss_tracker(model: keras.Model) -> keras.metrics.Metric:
    """The metric of a compiled model that its steps update with the loss."""
    return _read(model, "_loss_tracker")


def compiled_loss(model: keras.Model, y: Any, outputs: Any, sample_weight: Any) -> Any:
    """The loss that a model was compiled with, of labels and outputs."""
    return _read(model, "_compile_loss")(y, outputs, sample_weight)


def aggregated(model: keras.Model, loss: Any) -> Any:
    """A loss that a layer adds, as it enters the sum."""
    return _read(model, "_aggregate_additional_loss")(loss)


def step_function(model: keras.Model, step: Callable[..., Any]) -> Callable[..., Any]:
    """The function that ``fit`` calls for so many steps of a model as one execution takes."""
    made: Callable[..., Any] = _read(model, "_make_function")(step)
    return made


def validates(arguments: dict[str, Any]) -> bool:
    """True if ``evaluate`` was called, with these arguments by name, by ``fit``."""
    return bool(arguments.get("_use_cached_eval_dataset", False))


def larger_is_better(metric: keras.metrics.Metric) -> None:
    """Lets callbacks know that a metric is the better the larger it is."""
    metric._direction = "up"


# Files.

SafeModeScope: Any = _Module("keras.src.saving.serialization_lib").SafeModeScope
"""A scope in which files are loaded without running code in them, whatever Keras's global switch says."""
