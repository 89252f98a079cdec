"""The papers' networks and their images: the reference's where it has them, else those that are trained here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

import tfcert
from benchmarks.common import architectures, data


@dataclass(frozen=True)
class Images:
    """Images as the networks take them (``x / 255 - 0.5``, channels last) and their labels."""

    x: np.ndarray
    y: np.ndarray


def path(name: str) -> Path:
    """Where a network's file is, or would be once trained."""
    reference = f"reference/models/{name}_s0.keras"
    return data.find(reference) if data.has(reference) else data.TRAINED / f"{name}.keras"


def load(name: str) -> keras.Model:
    """A trained network by its name.

    Raises:
        SystemExit: it is not there, with the command that trains it.
    """
    architectures.split(name)  # an unknown name; and arctan is registered by then
    if not path(name).exists():
        raise SystemExit(f"there is no trained {name} yet: python -m benchmarks.radius.models {name}")
    return tfcert.load_model(path(name))


def test_images(name: str) -> Images:
    """The test images of a network's data set; for CIFAR-10 the 200 that the reference decoded, where they are."""
    decoded = "reference/cifar10_test200.npz"
    if name.startswith("cifar") and data.has(decoded):
        with np.load(data.find(decoded)) as stored:
            return _scaled(stored["x"], stored["y"])
    return _scaled(*data.pixels(_data_set(name), "test"))


def train_and_test(name: str) -> tuple[Images, Images]:
    """Every image of a network's data set."""
    train, test = (_scaled(*data.pixels(_data_set(name), split)) for split in ("train", "test"))
    return train, test


def _data_set(name: str) -> str:
    return "cifar10" if name.startswith("cifar") else "mnist"


def _scaled(pixels: np.ndarray, labels: np.ndarray) -> Images:
    x = pixels.astype(np.float32) / np.float32(255) - np.float32(0.5)
    return Images(x, labels.astype(np.int64))
