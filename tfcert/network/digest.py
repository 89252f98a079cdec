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
                if isinstance(value, Activation):
                    _add_activation(digest, value, node.shape, network.dtype)
                else:
                    _add(digest, value, network.dtype)


def _add(digest: Any, value: Any, dtype: Any) -> None:
    """A part of a node: numbers as they are, a weight as it reads now."""
    if isinstance(value, LinearMap):
        digest.update(type(value).__name__.encode())
        for key, part in sorted(vars(value).items()):
            if not isinstance(getattr(type(value), key, None), cached_property):
                digest.update(f" {key} ".encode())
                _add(digest, part, dtype)
    elif callable(value):
        add_array(digest, value())
    elif isinstance(value, np.ndarray | tf.Tensor):
        add_array(digest, value)
    else:
        digest.update(repr(value).encode())


def _add_activation(digest: Any, value: Activation, shape: tuple[int, ...], dtype: Any) -> None:
    """An activation by its values, for each neuron where it has weights of its own; a staircase by its edges."""
    digest.update(f"{value.name} {value.kinks}".encode())
    if value.edges is not None:
        add_array(digest, value.edges())
        return
    found = value.function(tf.constant(_PROBES.reshape(-1, *[1] * len(shape)), dtype)).numpy()
    add_array(digest, found.ravel() if found.size == len(_PROBES) else found)
