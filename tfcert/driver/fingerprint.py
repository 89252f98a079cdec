"""Hashes of what a result depends on: what a model computes, and the samples it is asked about.

Two models have one hash only if they compute the same thing in the same way; what their format makes of that is its
frontend's ``digest``.
"""

from __future__ import annotations

import hashlib
from typing import Any

from tfcert.datasets import Samples
from tfcert.digest import add_array

SCHEME = 2
"""Which rules the hashes follow. Those before 2 left out how layers are wired."""


def weights_hash(model: Any) -> str:
    """SHA-256 of what a loaded model computes: how it is wired, its options and weights, and its network."""
    from tfcert.network.cache import network_of
    from tfcert.network.frontend import frontend_of

    return frontend_of(model).digest(model, network_of(model))


def data_hash(samples: Samples) -> str:
    """SHA-256 of a data set's numbers and labels, in their order."""
    digest = hashlib.sha256()
    for array in samples:
        if array is not None:
            add_array(digest, array)
    return digest.hexdigest()
