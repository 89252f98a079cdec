"""Keras's own data sets, where they are on this machine already."""

from __future__ import annotations

import gzip
import importlib
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tfcert.catalog import SOURCES
from tfcert.datasets.base import DatasetError, Samples, checked_samples
from tfcert.datasets.npz import npz


def keras(name: str, *, split: str = "test") -> Samples:
    """``mnist``, ``fashion_mnist`` or ``cifar10`` as Keras knows them: uint8, ``[samples, height, width, channels]``.

    Read from ``NAME.npz`` (``x_train``, ``y_train``, ``x_test``, ``y_test``) in the folder that the environment
    variable ``TFCERT_DATA`` names, else from Keras's own cache. Nothing is downloaded.
    """
    names = SOURCES["keras"].choices
    if name not in names:
        raise DatasetError(f"keras has no data set {name!r} here; there are {', '.join(names)}")
    if split not in ("train", "test"):
        raise DatasetError(f"split must be train or test, not {split!r}")
    cache = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "datasets"
    folders = [Path(os.environ["TFCERT_DATA"])] if os.environ.get("TFCERT_DATA") else []
    for archive in (folder / f"{name}.npz" for folder in [*folders, cache]):
        if archive.exists():
            return _with_channel(npz(archive, x=f"x_{split}", y=f"y_{split}"))
    samples = _CACHES[name](cache, split) if name in _CACHES else None
    if samples is None:
        raise DatasetError(
            f"{name} is on neither of its places: put {name}.npz in the folder that TFCERT_DATA names, or fetch it "
            f"once with `python -c 'import keras; keras.datasets.{name}.load_data()'`"
        )
    return _with_channel(samples)


def _with_channel(samples: Samples) -> Samples:
    return samples if samples.x.ndim == 4 else Samples(samples.x[..., None], samples.y)


def _fashion_cache(cache: Path, split: str) -> Samples | None:
    folder, prefix = cache / "fashion-mnist", "train" if split == "train" else "t10k"
    files = [folder / f"{prefix}-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1")]
    if not all(file.exists() for file in files):
        return None
    images, labels = (gzip.decompress(file.read_bytes()) for file in files)
    x = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28)
    return checked_samples(x, np.frombuffer(labels, np.uint8, offset=8), str(folder))


class _ArraysOnly(pickle.Unpickler):
    """Reads the pickles of CIFAR-10 and nothing else: a pickle that calls anything but NumPy's arrays is refused."""

    def find_class(self, module: str, name: str) -> Any:
        if module.replace("_core", "core") == "numpy.core.multiarray" and name == "_reconstruct":
            return importlib.import_module("numpy._core.multiarray")._reconstruct
        if (module, name) in (("numpy", "ndarray"), ("numpy", "dtype")):
            return getattr(np, name)
        raise DatasetError(f"the cached CIFAR-10 files call {module}.{name}, which is refused; fetch them again")


def _cifar_cache(cache: Path, split: str) -> Samples | None:
    batches = ["test_batch"] if split == "test" else [f"data_batch_{i}" for i in range(1, 6)]
    for folder in (cache / "cifar-10-batches-py-target" / "cifar-10-batches-py", cache / "cifar-10-batches-py"):
        if all((folder / batch).exists() for batch in batches):
            break
    else:
        return None
    pixels, labels = [], []
    for batch in batches:
        with open(folder / batch, "rb") as file:
            content = _ArraysOnly(file, encoding="bytes").load()
        pixels.append(content[b"data"])
        labels.extend(content[b"labels"])
    x = np.concatenate(pixels).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return checked_samples(x, np.array(labels), str(folder))


_CACHES: dict[str, Callable[[Path, str], Samples | None]] = {"fashion_mnist": _fashion_cache, "cifar10": _cifar_cache}
"""Of the data sets that Keras keeps in another form than one npz file."""
