"""The frontend of Keras models."""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfcert.digest import add_array
from tfcert.network.digest import add_network
from tfcert.network.errors import ModelLoadError
from tfcert.network.frontend import Frontend, ModelState
from tfcert.network.graph import Network
from tfcert.network.keras.graph import from_keras
from tfcert.network.keras.inputs import arguments, keras_inputs, keras_layer, keras_output, outputs_at
from tfcert.network.keras.private import SafeModeScope, layers_within
from tfcert.parts import NamedParts

_WITHOUT_MEANING = ("name", "build_config", "shared_object_id")
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


class KerasFrontend(Frontend):
    """Keras 3 models: Sequential, functional, and wrappers of them, in memory or in ``.keras`` files."""

    def accepts(self, model: Any) -> bool:
        """Tells whether it is a Keras model."""
        return isinstance(model, keras.Model)

    def load(self, path: Path, *, compile: bool = False) -> keras.Model:
        """The model in a ``.keras`` file; code stored in it (lambdas, pickles) is never run.

        Raises:
            ModelLoadError: a damaged file, a Lambda layer, or a class that is not registered.
        """
        try:
            with SafeModeScope(True):  # Keras's global switch would overrule the argument.
                return keras.saving.load_model(path, compile=compile, safe_mode=True)
        except (ValueError, TypeError, KeyError, AttributeError, ImportError, OSError, zipfile.BadZipFile) as error:
            raise ModelLoadError(_explanation(path, str(error))) from error

    def network(self, model: keras.Model, x: np.ndarray | None = None) -> Network:
        """The network; arguments and errors as :func:`~tfcert.network.keras.graph.from_keras`."""
        return from_keras(model, x)

    def state(self, model: keras.Model, x: np.ndarray | None = None) -> ModelState:
        """Every option of every layer, and which objects hold the numbers."""
        given = getattr(model, "inputs", None) or [None]
        declared = (None,) if len(given) > 1 or given[0] is None else tuple(given[0].shape)  # of several they are known
        shape = None if x is None or None not in declared[1:] else tuple(np.shape(x)[1:])
        options = json.dumps(model.get_config(), default=repr, sort_keys=True)
        held = _held(model)
        return ModelState((options, tuple(map(id, held)), shape), held)

    def run(self, model: keras.Model, x: np.ndarray) -> np.ndarray:
        """The model at inference, called in its own structure: dropout and batch statistics are switched off."""
        (output,) = outputs_at(model, arguments(model, tf.constant(x)))
        return np.asarray(output)

    def digest(self, model: keras.Model, network: Network) -> str:
        """SHA-256 of the model's graph, the options and weights of its layers, and of its network.

        The network is part of it, so that a registered layer counts with what its converter makes of it, and a shared
        layer or a nested model wherever it stands. Names are left out, since they differ from one run to the next: a
        layer is known by its place in the graph.
        """
        wiring = json.dumps(_wiring(model.get_config(), {}), default=_shown, sort_keys=True)
        digest = hashlib.sha256(wiring.encode())
        for weight in model.get_weights():
            add_array(digest, weight)
        add_network(digest, network)
        return digest.hexdigest()

    def parts(self, model: Any) -> NamedParts | None:
        """The inputs of a model that takes several arrays a sample; None where it takes one."""
        return keras_inputs(model)

    def with_output(self, model: keras.Model, output: str | int) -> keras.Model:
        """A model with one of several outputs."""
        return keras_output(model, output)

    def with_layer(self, model: keras.Model, layer: str) -> keras.Model:
        """A model whose outputs are the values of one of its layers, flat."""
        return keras_layer(model, layer)


KERAS = KerasFrontend()


def _explanation(path: Path, message: str) -> str:
    cause = message.rpartition("Exception encountered:")[2].strip()  # Keras nests the cause in layers of configuration
    if "lambda" in cause.lower():
        return (
            f"{str(path)!r} holds a Lambda layer: code of the file's author, which is never run; "
            "write it with keras.ops in a functional model, or as a registered layer, and save it again"
        )
    first = cause.partition(". ")[0].partition("\n")[0].rstrip(".")
    return (
        f"Keras cannot load {str(path)!r}: {first}. If the model uses functions or layers of your own, register them "
        "first with keras.saving.register_keras_serializable"
    )


def _held(model: keras.Model) -> list[Any]:
    """Variables, and the statistics that a Normalization layer replaces when it is adapted again."""
    statistics = [
        tensor
        for layer in layers_within(model)
        if isinstance(layer, keras.layers.Normalization)
        for tensor in (layer.mean, layer.variance)
    ]
    return [*model.variables, *statistics]


def _wiring(config: Any, places: Mapping[str, int]) -> Any:
    """A configuration without names: a layer that another one reads (``[name, node, tensor]``) is said by its place."""
    if isinstance(config, Mapping):
        layers = config.get("layers")
        if isinstance(layers, list):
            places = {_name(layer): place for place, layer in enumerate(layers)}
        return {key: _wiring(value, places) for key, value in config.items() if key not in _WITHOUT_MEANING}
    if isinstance(config, list | tuple):
        if len(config) == 3 and isinstance(config[0], str) and config[0] in places:
            return [places[config[0]], *config[1:]]
        return [_wiring(value, places) for value in config]
    return config


def _name(layer: Mapping[str, Any]) -> str:
    return str(layer.get("name") or layer.get("config", {}).get("name"))


def _shown(value: Any) -> str:
    """Anything that JSON cannot hold, without the place in memory where it happens to be."""
    return _ADDRESS.sub("", repr(value))
