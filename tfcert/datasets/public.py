"""Public data sets in the forms in which they are published, wherever these lie on this machine already."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tfcert.datasets.base import DatasetError, Samples
from tfcert.datasets.cifar import cifar_batches
from tfcert.datasets.idx import idx_pair, labels_beside
from tfcert.datasets.mat import mat
from tfcert.datasets.npz import npz

VARIABLE = "TFCERT_DATA"
"""The environment variable that names the folder of the data."""
SplitReader = Callable[[Path, str], Samples | None]
"""Reads a split of a data set from a folder; None where the folder does not have it."""


@dataclass(frozen=True)
class PublicData:
    """A data set that anyone can get.

    Attributes:
        files: what to put into the folder, in words.
        readers: its forms beside ``NAME.npz``.
        splits: its parts.
        keras: whether Keras fetches it.
    """

    files: str
    readers: tuple[SplitReader, ...]
    splits: tuple[str, ...] = ("train", "test")
    keras: bool = True


def _idx_in(*folders: str) -> SplitReader:
    """Reads the four idx files (gzipped or not) from one of these sub-folders."""

    def read(folder: Path, split: str) -> Samples | None:
        stem = "train" if split == "train" else "t10k"
        for place in folders:
            for name in (f"{stem}-images-idx3-ubyte", f"{stem}-images.idx3-ubyte"):
                for images in (folder / place / name, folder / place / f"{name}.gz"):
                    if images.is_file() and (labels := labels_beside(images)) is not None:
                        return idx_pair(images, labels)
        return None

    return read


def _cifar(folder: Path, split: str) -> Samples | None:
    kept_by_keras = folder / "cifar-10-batches-py-target"
    return cifar_batches(folder, split) or cifar_batches(kept_by_keras, split)


def _svhn(folder: Path, split: str) -> Samples | None:
    for file in (folder / f"{split}_32x32.mat", folder / "svhn" / f"{split}_32x32.mat"):
        if file.is_file():
            return mat(file)
    return None


PUBLIC = {
    "mnist": PublicData(
        "mnist.npz, or the four idx files of MNIST in a folder mnist/,", (_idx_in("mnist", "MNIST/raw"),)
    ),
    "fashion_mnist": PublicData(
        "fashion_mnist.npz, or the four idx files of Fashion-MNIST in a folder fashion-mnist/,",
        (_idx_in("fashion-mnist", "fashion_mnist", "FashionMNIST/raw"),),
    ),
    "cifar10": PublicData("cifar10.npz, cifar-10-python.tar.gz or its folder cifar-10-batches-py/", (_cifar,)),
    "svhn": PublicData("train_32x32.mat and test_32x32.mat", (_svhn,), ("train", "test", "extra"), keras=False),
}
"""Every data set by its name."""


def data_folders() -> Iterator[Path]:
    """Where data is looked for: the folder that ``TFCERT_DATA`` names and its ``data``, then Keras's cache."""
    if os.environ.get(VARIABLE):
        yield from (Path(os.environ[VARIABLE]), Path(os.environ[VARIABLE]) / "data")
    yield Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "datasets"


def read_public(name: str, split: str, folders: Iterable[Path] | None = None) -> Samples:
    """A split of a public data set: images ``[samples, height, width, channels]`` as stored, and labels.

    Args:
        name: one of :data:`PUBLIC`.
        folders: where to look, in this order; None for :func:`data_folders`.

    Raises:
        DatasetError: no such split, files that cannot be read, or none: the message says what to put where.
    """
    public = PUBLIC[name]
    if split not in public.splits:
        raise DatasetError(f"split must be {' or '.join(public.splits)}, not {split!r}")
    for folder in data_folders() if folders is None else folders:
        if (archive := folder / f"{name}.npz").is_file():
            return _with_channel(npz(archive, x=f"x_{split}", y=f"y_{split}"))
        for read in public.readers:
            if (found := read(folder, split)) is not None:
                return found
    raise DatasetError(missing(name))


def missing(name: str) -> str:
    """The sentence that says what to put where so that a data set is found."""
    named = os.environ.get(VARIABLE)
    where = f"the folder that {VARIABLE} names" + (f" ({named})" if named else f" ({VARIABLE} is not set)")
    fetch = f", or fetch it once with `python -c 'import keras; keras.datasets.{name}.load_data()'`"
    return f"{name} is not here: put {PUBLIC[name].files} in {where}" + fetch * PUBLIC[name].keras


def _with_channel(samples: Samples) -> Samples:
    return samples if samples.x.ndim == 4 else Samples(samples.x[..., None], samples.y)


def svhn(*, split: str = "test") -> Samples:
    """SVHN's cropped digits: uint8 ``[73257, 26032 or 531131, 32, 32, 3]``, labels 0 to 9, from its ``.mat`` files."""
    return read_public("svhn", split)
