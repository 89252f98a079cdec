"""Where data, reference networks and recorded numbers are: the folder that ``TFCERT_DATA`` names, else ``../shared``.

Every benchmark finds its files through :func:`find`. ``benchmarks/README.md`` describes the layout of the folder.
"""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import numpy as np

VARIABLE = "TFCERT_DATA"
RESULTS = "TFCERT_RESULTS"
REPOSITORY = Path(__file__).resolve().parents[2]


def results() -> Path:
    """The folder of results: the one that ``TFCERT_RESULTS`` names, else ``benchmarks/``, where the stored ones are."""
    return Path(os.environ.get(RESULTS) or REPOSITORY / "benchmarks").resolve()


TRAINED = results() / "trained"
"""Where networks go that benchmarks train; not under version control."""
_SUBFOLDERS = ("", "data")


class MissingDataError(SystemExit):
    """A file of the data is not there; the message says which, and where it is looked for."""


def root() -> Path:
    """The folder of the data, whether it exists or not."""
    return Path(os.environ.get(VARIABLE) or REPOSITORY.parent / "shared")


def find(name: str) -> Path:
    """The file ``name`` of the data, such as ``mnist.npz`` or ``reference/models/NAME.keras``.

    Raises:
        MissingDataError: it is not there.
    """
    for folder in _SUBFOLDERS:
        if (path := root() / folder / name).exists():
            return path
    where = f"the folder that {VARIABLE} names" if os.environ.get(VARIABLE) else f"../shared; {VARIABLE} names another"
    raise MissingDataError(f"{name} is not in {where} (benchmarks/README.md says what belongs there)")


def has(name: str) -> bool:
    """Whether :func:`find` finds the file ``name``."""
    return any((root() / folder / name).exists() for folder in _SUBFOLDERS)


def pixels(name: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images of ``mnist``, ``fashion_mnist`` or ``cifar10``, uint8 as stored, and their labels ``[samples]``.

    Read from ``NAME.npz`` with ``x_train``, ``y_train``, ``x_test`` and ``y_test``, as Keras names them. CIFAR-10 may
    also be ``cifar10_jpeg.npz``, which holds JPEG files.

    Args:
        name: the data set.
        split: ``train`` or ``test``.

    Raises:
        MissingDataError: the file is not there.
    """
    if name == "cifar10" and not has("cifar10.npz") and has("cifar10_jpeg.npz"):
        with np.load(find("cifar10_jpeg.npz")) as stored:
            return _decoded(stored[f"jpeg_{split}"], stored[f"offset_{split}"]), stored[f"y_{split}"]
    with np.load(find(f"{name}.npz")) as stored:
        return stored[f"x_{split}"], stored[f"y_{split}"].reshape(-1)


def _decoded(stream: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """JPEG files that lie one after the other, to pixels."""
    import tensorflow as tf

    files = (stream[begin:end].tobytes() for begin, end in pairwise(offsets))
    return np.stack([tf.io.decode_jpeg(file, channels=3).numpy() for file in files])
