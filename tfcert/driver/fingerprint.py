"""Hashes of what a result depends on: what a model computes, and the samples it is asked about.

Two models have one hash only if they compute the same thing in the same way; what their format makes of that is its
frontend's ``digest``.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from tfcert.datasets import Samples
from tfcert.datasets.lazy import LazyInputs
from tfcert.digest import add_array

SCHEME = 2
"""Which rules the hashes follow. Those before 2 left out how layers are wired."""


def weights_hash(model: Any) -> str:
    """SHA-256 of what a loaded model computes: how it is wired, its options and weights, and its network."""
    from tfcert.network.cache import network_of
    from tfcert.network.frontend import frontend_of

    return frontend_of(model).digest(model, network_of(model))


def data_hash(samples: Samples) -> str:
    """SHA-256 of a data set's numbers and labels, in their order; of samples that are read as they are needed, what
    these say of themselves (:meth:`tfcert.datasets.lazy.LazyInputs.digest`)."""
    digest = hashlib.sha256()
    for array in samples:
        if isinstance(array, LazyInputs):
            digest.update(array.digest().encode())
        elif isinstance(array, np.ndarray):
            add_array(digest, array)
    return digest.hexdigest()
