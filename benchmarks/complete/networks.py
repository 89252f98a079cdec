"""The six networks of Agrify's Table II and the images they are asked about."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

import tfcert
from benchmarks.common import data as files
from tfcert import zoo
from tfcert.datasets import public

EPS = 15 / 255
"""The paper's radius, where pixels are x / 255."""
CLIP = (0.0, 1.0)
_BATCH, _RATE = 64, 1e-3


@dataclass(frozen=True)
class Fnn:
    """One fully connected ReLU network of the paper.

    Attributes:
        name: as the paper calls it, without the underscore.
        stem: the file's name, without its suffix.
        reference: whether the reference data has it; where that is absent it is trained here, like the others.
        epochs: of the training here.
        solver: that the rows of this network take.
    """

    name: str
    stem: str
    reference: bool = False
    epochs: int = 8
    solver: str = "cbc"

    @property
    def data(self) -> str:
        """``mnist`` or ``fashion_mnist``."""
        return zoo.describe(self.name.lower()).recipe.data

    @property
    def path(self) -> Path:
        """Where the network's file is, or would be once trained."""
        name = f"{self.stem}.keras"
        known = f"reference/agrify/{name}"
        return files.find(known) if self.reference and files.has(known) else files.TRAINED / name


NETWORKS = (
    Fnn("FNN1", "mnist_784_24_24_10", reference=True),
    Fnn("FNN2", "mnist_784_40_20_10"),
    Fnn("FNN3", "mnist_784_512_512_10", epochs=4),
    Fnn("FNN4", "mnist_784_500_10_sdp", reference=True, solver="highs"),
    Fnn("FNN5", "fashion_784_24_24_10"),
    Fnn("FNN6", "fashion_784_40_20_10"),
)


@dataclass(frozen=True)
class Digits:
    """Images ``[batch, 28, 28, 1]`` float32 in [0, 1] and their labels."""

    x: np.ndarray
    y: np.ndarray

    def take(self, samples: Any) -> Digits:
        """Some of them."""
        return Digits(self.x[samples], self.y[samples])


def images(data: str, split: str) -> Digits | None:
    """All images of a data set; None where the data set is not on this machine."""
    try:
        pixels, labels = files.pixels(data, split)
    except files.MissingDataError:
        return None
    x = pixels.astype(np.float32) / np.float32(255)
    return Digits(x.reshape(-1, 28, 28, 1), labels.astype(np.int64))


def missing(data: str) -> str:
    """Why a data set's row of a table is empty; :func:`tfcert.datasets.public.missing` says what to put where."""
    return f"{data} is not in TFCERT_DATA"


def ready(fnn: Fnn) -> tuple[keras.Model, dict[str, Any] | None]:
    """The network; trained first where it is not there yet, and then what the results say of the training."""
    if fnn.path.exists():
        return tfcert.load_model(fnn.path), None
    return _trained(fnn)


def _trained(fnn: Fnn) -> tuple[keras.Model, dict[str, Any]]:
    learned = images(fnn.data, "train")
    assert learned is not None, public.missing(fnn.data)
    keras.utils.set_random_seed(0)
    model, start = zoo.build(fnn.name.lower()), time.perf_counter()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(_RATE), loss)
    model.fit(learned.x, learned.y, batch_size=_BATCH, epochs=fnn.epochs, verbose=2)
    fnn.path.parent.mkdir(parents=True, exist_ok=True)
    model.save(fnn.path)
    return model, {"epochs": fnn.epochs, "seconds": round(time.perf_counter() - start)}


def accuracy(model: keras.Model, digits: Digits) -> float:
    """The share of images whose largest logit is their label's."""
    logits = model.predict(digits.x, batch_size=500, verbose=0)
    return round(float(np.mean(logits.argmax(axis=1) == digits.y)), 4)


def digest(model: keras.Model) -> str:
    """The first digits of the hash of all weights."""
    found = hashlib.sha256()
    for weight in model.get_weights():
        found.update(np.ascontiguousarray(weight).tobytes())
    return found.hexdigest()[:16]


def weights(model: keras.Model) -> list[tuple[np.ndarray, np.ndarray]]:
    """Kernels and biases of the dense layers, float64, first to last: the whole network but its ReLUs."""
    dense = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    return [tuple(np.asarray(w, np.float64) for w in layer.get_weights()) for layer in dense]  # type: ignore[misc]
