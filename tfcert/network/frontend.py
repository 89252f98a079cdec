"""Frontends: how the models of a format are loaded, run, told apart, and translated to networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tfcert import catalog
from tfcert.network.graph import Network
from tfcert.parts import NamedParts


@dataclass(frozen=True)
class ModelState:
    """The parts of a model that its network is built from; a model whose state differs needs a new network.

    Attributes:
        key: compares equal as long as the network stays right.
        held: objects whose identity is part of the key, kept alive so that no other takes their place.
    """

    key: tuple[Any, ...]
    held: Sequence[Any] = field(default=(), compare=False)


class Frontend(Protocol):
    """One format of models: an entry of ``catalog.FORMATS`` names it.

    A frontend fails closed: it reads every option that changes what a model computes, refuses the rest with a sentence
    that names the layer and what to do, and compares the network with the model before it returns it.
    """

    def accepts(self, model: Any) -> bool:
        """Tells whether a loaded model is one of this format."""

    def load(self, path: Path, *, compile: bool = False) -> Any:
        """The model in an existing file; no code that the file holds is run.

        Raises:
            ModelLoadError: it cannot be read; says why.
        """

    def network(self, model: Any, x: np.ndarray | None = None) -> Network:
        """The network that the model computes at inference; ``x`` fixes dimensions that the model leaves open.

        Raises:
            UnsupportedLayerError: a part of the model has no exact translation.
        """

    def state(self, model: Any, x: np.ndarray | None = None) -> ModelState:
        """The state that :meth:`network` depends on; weights that the network reads live are not part of it."""

    def run(self, model: Any, x: np.ndarray) -> np.ndarray:
        """The deployed program's answers ``[batch, ...]`` to inputs ``[batch, *input]``; witnesses replay on it."""

    def digest(self, model: Any, network: Network) -> str:
        """SHA-256 of what the model computes: models of one digest give the same answers."""

    def parts(self, model: Any) -> NamedParts | None:
        """The inputs of a model that takes several arrays a sample; None where it takes one."""
        return None

    def with_output(self, model: Any, output: str | int) -> Any:
        """A model with one of several outputs, by name or place, or with ``"all"`` of them as one vector.

        Raises:
            ValueError: there is no such output.
        """
        raise ValueError(f"a {type(model).__name__} has one output alone")

    def with_layer(self, model: Any, layer: str) -> Any:
        """A model whose outputs are the values of one of its layers, flat, by the layer's name.

        Raises:
            ValueError: there is no such layer, or it has several values.
        """
        raise ValueError(f"the layers of a {type(model).__name__} have no names")


def find_frontend(model: Any) -> Frontend | None:
    """The frontend of a loaded model; None where no format has such models."""
    for info in catalog.FORMATS.values():
        if info.supported:
            frontend: Frontend = info.load()
            if frontend.accepts(model):
                return frontend
    return None


def frontend_of(model: Any) -> Frontend:
    """The frontend of a loaded model.

    Raises:
        TypeError: no format has such models.
    """
    frontend = find_frontend(model)
    if frontend is None:
        known = " or ".join(info.title for info in catalog.FORMATS.values() if info.supported)
        raise TypeError(f"expected {known}, got {type(model).__name__}; tfcert.load_model reads one from a file")
    return frontend


def inputs_of(model: Any) -> NamedParts | None:
    """The inputs of a model that takes several arrays a sample; None where it takes one.

    Raises:
        UnsupportedLayerError: one of several has a dimension that is not known.
    """
    frontend = find_frontend(model)
    return None if frontend is None else frontend.parts(model)


def with_output(model: Any, output: str | int) -> Any:
    """A model of the same layers with one output: to be asked about and attacked as any other.

    Args:
        model: a model with several outputs; of Keras a functional one.
        output: the name of an output; of Keras a key of its dictionary of outputs or the name of the layer that an
            output comes from; its place, counted from 0; or ``"all"`` for all of them as one vector
            ``[batch, sum of their sizes]``, in order.

    Raises:
        ValueError: there is no such output.

    Example:
        >>> import keras
        >>> x = keras.Input((2,))
        >>> two = keras.Model(x, {"grade": keras.layers.Dense(3)(x), "size": keras.layers.Dense(1)(x)})
        >>> with_output(two, "grade").output_shape, with_output(two, "all").output_shape
        ((None, 3), (None, 4))
    """
    return frontend_of(model).with_output(model, output)


def with_layer(model: Any, layer: str) -> Any:
    """A model whose outputs are the values of one of its layers, flat, by the layer's name.

    Raises:
        ValueError: there is no such layer, it is called several times, or has several outputs.
    """
    return frontend_of(model).with_layer(model, layer)
