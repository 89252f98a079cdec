"""Peers' records, the networks they were computed for, and the images."""

import json
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import keras
import numpy as np
import pytest

import tfcert

NORMS = {"inf": "linf", "2": "l2", "1": "l1"}
"""The records' names of the norms."""


@pytest.fixture(scope="session")
def model(shared: Path) -> Callable[[str], keras.Model]:
    """Loads a reference network by its name, once."""
    return cache(lambda name: tfcert.load_model(shared / "reference" / "models" / f"{name}_s0.keras"))


@pytest.fixture(scope="session")
def images(shared: Path, mnist: tuple[np.ndarray, np.ndarray]) -> Callable[[str, Iterable[int]], np.ndarray]:
    """The numbered test images for a network, as it takes them: ``x / 255 - 0.5``."""
    cifar = cache(lambda: np.load(shared / "reference" / "cifar10_test200.npz")["x"])

    def take(name: str, numbers: Iterable[int]) -> np.ndarray:
        pixels = cifar() if name.startswith("cifar") else mnist[0]
        chosen = pixels[list(numbers)].astype(np.float32) / 255 - 0.5
        return chosen if chosen.ndim == 4 else chosen[..., None]

    return take


@pytest.fixture(scope="session")
def records(shared: Path) -> Callable[..., list[dict]]:
    """The records of a file that have the given values, e.g. ``records("radii", model=..., norm="linf")``."""
    read = cache(lambda name: json.loads((shared / "reference" / f"{name}.json").read_text()))

    def find(file: str, **wanted: str) -> list[dict]:
        named = ({**record, "norm": NORMS[record["norm"]]} for record in read(file))
        return [record for record in named if all(record[key] == value for key, value in wanted.items())]

    return find
