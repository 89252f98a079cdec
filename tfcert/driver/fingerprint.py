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
from tfcert.datasets.masks import read_mask
from tfcert.digest import add_array
from tfcert.language import Spec
from tfcert.language.spec.regions import balls_of

SCHEME = 2
"""Which rules the hashes follow. Those before 2 left out how layers are wired."""


def weights_hash(model: Any) -> str:
    """SHA-256 of what a loaded model computes: how it is wired, its options and weights, and its network."""
    from tfcert.network.cache import network_of
    from tfcert.network.frontend import frontend_of

    return frontend_of(model).digest(model, network_of(model))


def masks_header(spec: Spec) -> dict[str, dict[str, str]]:
    """SHA-256 of each mask that a region is cut by, by its path; nothing where there are none.

    Raises:
        DatasetError: as for :func:`tfcert.datasets.masks.read_mask`.
    """
    found: dict[str, str] = {}
    for template in (*spec.properties.values(), *spec.measures.values()):
        for places in (ball.places for point in template.points for ball in balls_of(point.region)):
            if places is not None and places.mask:
                digest = hashlib.sha256()
                add_array(digest, read_mask(places.mask, places.folder or None))
                found[places.mask] = digest.hexdigest()
    return {"masks_sha256": found} if found else {}


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
