"""The network of a model, built once for a model as it stands."""

from __future__ import annotations

import json
import weakref
from dataclasses import dataclass
from typing import Any, TypeAlias

import keras
import numpy as np

from tfcert.network.graph import Network
from tfcert.network.keras.graph import from_keras, require_one_input
from tfcert.network.keras.private import layers_within

ModelOrNetwork: TypeAlias = "keras.Model | Network"
_NETWORKS: weakref.WeakKeyDictionary[Any, _Known] = weakref.WeakKeyDictionary()


def network_of(model: ModelOrNetwork, x: Any = None) -> Network:
    """The network of a model, built once for a model as it stands (its weights stay live).

    ``x`` fixes dimensions that the model leaves open.
    """
    if isinstance(model, Network):
        return model
    if not isinstance(model, keras.Model):
        raise TypeError(f"expected a Keras model, got {type(model).__name__}; tfcert.load_model reads one from a file")
    require_one_input(model)
    shape = None if x is None else tuple(np.shape(x)[1:])
    declared = tuple(getattr(model, "input_shape", None) or (None,))  # a Sequential that was never built has none
    # What a network is built from: the layers' options, and the objects (kept alive here) that hold its numbers.
    held = _held(model)
    key = (_options(model), tuple(map(id, held)), shape if None in declared[1:] else None)
    known = _NETWORKS.get(model)
    if known is None or known.key != key:
        known = _NETWORKS[model] = _Known(key, held, from_keras(model, x))
    return known.network


@dataclass(frozen=True)
class _Known:
    key: tuple[Any, ...]
    held: list[Any]
    network: Network


def _options(model: keras.Model) -> str:
    """Every option of every layer, nested models included, as text."""
    return json.dumps(model.get_config(), default=repr, sort_keys=True)


def _held(model: keras.Model) -> list[Any]:
    """Variables, and the statistics that a Normalization layer replaces when it is adapted again."""
    statistics = [
        tensor
        for layer in layers_within(model)
        if isinstance(layer, keras.layers.Normalization)
        for tensor in (layer.mean, layer.variance)
    ]
    return [*model.variables, *statistics]
