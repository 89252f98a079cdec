"""Where data, reference networks and recorded numbers are: the folder that ``TFCERT_DATA`` names, else ``../shared``.

Every benchmark finds its files through :func:`find`. ``benchmarks/README.md`` describes the layout of the folder.
"""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import numpy as np

from tfcert.datasets import DatasetError
from tfcert.datasets.public import VARIABLE, data_folders, read_public

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
    """Images of ``mnist``, ``fashion_mnist``, ``cifar10`` or ``svhn``, uint8 ``[samples, height, width, channels]`` as
    stored, and their labels ``[samples]``.

    Read from any form in which the data set is published, see :func:`tfcert.datasets.public.read_public`, in the
    folder of the data or Keras's cache; CIFAR-10 from ``cifar10_jpeg.npz``, which holds JPEG files, where that is all.

    Args:
        name: the data set.
        split: ``train`` or ``test``.

    Raises:
        MissingDataError: the files are not there; says which to put where.
    """
    try:
        x, y = read_public(name, split, [*(root() / folder for folder in _SUBFOLDERS), *data_folders()])
    except DatasetError as error:
        if name == "cifar10" and has("cifar10_jpeg.npz"):
            with np.load(find("cifar10_jpeg.npz")) as stored:
                return _decoded(stored[f"jpeg_{split}"], stored[f"offset_{split}"]), stored[f"y_{split}"].astype(
                    np.int64
                )
        raise MissingDataError(str(error)) from error
    assert y is not None
    return x, y


def _decoded(stream: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """JPEG files that lie one after the other, to pixels."""
    import tensorflow as tf

    files = (stream[begin:end].tobytes() for begin, end in pairwise(offsets))
    return np.stack([tf.io.decode_jpeg(file, channels=3).numpy() for file in files])
