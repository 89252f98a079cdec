"""The network of a model, built once for a model as it stands."""

from __future__ import annotations

import weakref
from typing import Any, TypeAlias

import keras

from tfcert.network.frontend import ModelState, frontend_of
from tfcert.network.graph import Network

ModelOrNetwork: TypeAlias = "keras.Model | Network"
_NETWORKS: weakref.WeakKeyDictionary[Any, tuple[ModelState, Network]] = weakref.WeakKeyDictionary()


def network_of(model: ModelOrNetwork, x: Any = None) -> Network:
    """The network of a model, built once for a model as it stands (its weights stay live).

    ``x`` fixes dimensions that the model leaves open.

    Raises:
        TypeError: no format that is supported has such models.
    """
    if isinstance(model, Network):
        return model
    frontend = frontend_of(model)
    state = frontend.state(model, x)
    known = _NETWORKS.get(model)
    if known is None or known[0] != state:
        known = _NETWORKS[model] = (state, frontend.network(model, x))
    return known[1]
