"""Hashes of what a result depends on: what a model computes, and the samples it is asked about.

Two models have one hash only if they compute the same thing in the same way. Names are left out, since they differ from
one run to the next: a layer is known by its place in the graph.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from tfcert.datasets import Samples

if TYPE_CHECKING:
    from tfcert.network import Network

SCHEME = 2
"""Which rules the hashes follow. Those before 2 left out how layers are wired."""
_WITHOUT_MEANING = ("name", "build_config", "shared_object_id")
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_PROBES = np.concatenate([np.linspace(-8, 8, 65), np.geomspace(10, 1e4, 13), -np.geomspace(10, 1e4, 13)])


def weights_hash(model: Any) -> str:
    """SHA-256 of what a Keras model computes: its graph, the options and weights of its layers.

    The network that tfcert reads from the model is part of it, so that a registered layer counts with what its
    converter makes of it, and a shared layer or a nested model wherever it stands.
    """
    from tfcert.network.cache import network_of

    digest = hashlib.sha256(json.dumps(_wiring(model.get_config(), {}), default=_shown, sort_keys=True).encode())
    for weight in model.get_weights():
        _add_array(digest, weight)
    _add_network(digest, network_of(model))
    return digest.hexdigest()


def data_hash(samples: Samples) -> str:
    """SHA-256 of a data set's numbers and labels, in their order."""
    digest = hashlib.sha256()
    for array in samples:
        if array is not None:
            _add_array(digest, array)
    return digest.hexdigest()


def _add_array(digest: Any, array: Any) -> None:
    array = np.asarray(array)
    digest.update(f"{array.shape} {array.dtype} ".encode())
    digest.update(np.ascontiguousarray(array).tobytes())


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


def _add_network(digest: Any, network: Network) -> None:
    """The nodes with their inputs, and every number that they read."""
    digest.update(repr(network.dtype).encode())
    for node in network.nodes:
        digest.update(type(node).__name__.encode())
        for key, value in sorted(vars(node).items()):
            if key != "name":
                digest.update(f" {key} ".encode())
                _add(digest, value, network.dtype)


def _add(digest: Any, value: Any, dtype: Any) -> None:
    """A part of a node: numbers as they are, a weight as it reads now, an activation by its values."""
    import tensorflow as tf

    from tfcert.activations import Activation
    from tfcert.network.linear import LinearMap

    if isinstance(value, LinearMap):
        digest.update(type(value).__name__.encode())
        for key, part in sorted(vars(value).items()):
            if not isinstance(getattr(type(value), key, None), cached_property):
                digest.update(f" {key} ".encode())
                _add(digest, part, dtype)
    elif isinstance(value, Activation):
        digest.update(f"{value.name} {value.kinks}".encode())
        if value.edges is not None:
            _add_array(digest, value.edges())
        _add_array(digest, value.function(tf.constant(_PROBES, dtype)))
    elif callable(value):
        _add_array(digest, value())
    elif isinstance(value, np.ndarray | tf.Tensor):
        _add_array(digest, value)
    else:
        digest.update(repr(value).encode())
