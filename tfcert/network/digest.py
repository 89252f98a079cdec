"""Hashes of networks: every node with its inputs, and every number that it reads."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

from tfcert.activations import Activation
from tfcert.digest import add_array
from tfcert.network.graph import Network
from tfcert.network.linear import LinearMap

_PROBES = np.concatenate([np.linspace(-8, 8, 65), np.geomspace(10, 1e4, 13), -np.geomspace(10, 1e4, 13)])


def add_network(digest: Any, network: Network) -> None:
    """Adds the nodes with their inputs, and every number that they read; names are left out."""
    digest.update(repr(network.dtype).encode())
    for node in network.nodes:
        digest.update(type(node).__name__.encode())
        for key, value in sorted(vars(node).items()):
            if key != "name":
                digest.update(f" {key} ".encode())
                _add(digest, value, network.dtype)


def _add(digest: Any, value: Any, dtype: Any) -> None:
    """A part of a node: numbers as they are, a weight as it reads now, an activation by its values."""
    if isinstance(value, LinearMap):
        digest.update(type(value).__name__.encode())
        for key, part in sorted(vars(value).items()):
            if not isinstance(getattr(type(value), key, None), cached_property):
                digest.update(f" {key} ".encode())
                _add(digest, part, dtype)
    elif isinstance(value, Activation):
        digest.update(f"{value.name} {value.kinks}".encode())
        if value.edges is not None:
            add_array(digest, value.edges())
        add_array(digest, value.function(tf.constant(_PROBES, dtype)))
    elif callable(value):
        add_array(digest, value())
    elif isinstance(value, np.ndarray | tf.Tensor):
        add_array(digest, value)
    else:
        digest.update(repr(value).encode())
