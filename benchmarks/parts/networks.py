"""The papers' networks and their images: the reference's where it has them, else those that ``models.py`` trained."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import tfcert
from parts import architectures
from parts.reference import HERE, SHARED

TRAINED = HERE / "trained"
"""Where ``models.py`` puts what it trains; not under version control."""


@dataclass(frozen=True)
class Images:
    """Images as the networks take them (``x / 255 - 0.5``, channels last) and their labels."""

    x: np.ndarray
    y: np.ndarray


def path(name: str) -> Path:
    """Where a network's file is, or would be once trained."""
    reference = SHARED / "reference" / "models" / f"{name}_s0.keras"
    return reference if reference.exists() else TRAINED / f"{name}.keras"


def load(name: str) -> keras.Model:
    """A trained network by its name.

    Raises:
        SystemExit: it is not there, with the command that trains it.
    """
    architectures.split(name)  # an unknown name; and arctan is registered by then
    if not path(name).exists():
        raise SystemExit(f"there is no trained {name} yet: python benchmarks/models.py {name}")
    return tfcert.load_model(path(name))


def test_images(name: str) -> Images:
    """The test images of a network's data set; for CIFAR the 200 that the reference decoded."""
    if name.startswith("cifar"):
        with np.load(SHARED / "reference" / "cifar10_test200.npz") as data:
            return _scaled(data["x"], data["y"])
    with np.load(SHARED / "data" / "mnist.npz") as data:
        return _scaled(data["x_test"], data["y_test"])


def train_and_test(name: str) -> tuple[Images, Images]:
    """Every image of a network's data set."""
    if name.startswith("cifar"):
        with np.load(SHARED / "data" / "cifar10_jpeg.npz") as data:
            parts = [(_decode(data[f"jpeg_{p}"], data[f"offset_{p}"]), data[f"y_{p}"]) for p in ("train", "test")]
    else:
        with np.load(SHARED / "data" / "mnist.npz") as data:
            parts = [(data[f"x_{p}"], data[f"y_{p}"]) for p in ("train", "test")]
    train, test = (_scaled(*part) for part in parts)
    return train, test


def _scaled(pixels: np.ndarray, labels: np.ndarray) -> Images:
    x = pixels.astype(np.float32) / np.float32(255) - np.float32(0.5)
    return Images(x if x.ndim == 4 else x[..., None], labels.astype(np.int64))


def _decode(stream: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """JPEG files that lie one after the other, to pixels."""
    files = (stream[begin:end].tobytes() for begin, end in pairwise(offsets))
    return np.stack([tf.io.decode_jpeg(file, channels=3).numpy() for file in files])
