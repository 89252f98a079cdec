"""CIFAR-10 as it was published: a folder of Python's pickles, or the archive that holds it."""

from __future__ import annotations

import contextlib
import importlib
import io
import pickle
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tfcert.datasets.base import DatasetError, Samples, checked_samples

FOLDER = "cifar-10-batches-py"
_BATCHES = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}


class _ArraysOnly(pickle.Unpickler):
    """Reads the pickles of CIFAR-10 and nothing else: a pickle that calls anything but NumPy's arrays is refused."""

    def find_class(self, module: str, name: str) -> Any:
        if module.replace("_core", "core") == "numpy.core.multiarray" and name == "_reconstruct":
            return importlib.import_module("numpy._core.multiarray")._reconstruct
        if (module, name) in (("numpy", "ndarray"), ("numpy", "dtype")):
            return getattr(np, name)
        raise DatasetError(f"the files of CIFAR-10 call {module}.{name}, which is refused; fetch them again")


def cifar_batches(folder: Path, split: str) -> Samples | None:
    """Images ``[samples, 32, 32, 3]`` of the folder ``cifar-10-batches-py`` or of ``cifar-10-python.tar.gz`` within a
    folder; None where neither is there.

    Raises:
        DatasetError: batches that are missing, damaged, or hold anything but arrays.
    """
    batches = folder / FOLDER
    if (batches / _BATCHES[split][0]).is_file():
        files: Iterator[BinaryIO] = (open(batches / name, "rb") for name in _BATCHES[split])  # noqa: SIM115
        where = batches
    elif (archive := folder / "cifar-10-python.tar.gz").is_file():
        files, where = _unpacked(archive, split), archive
    else:
        return None
    pixels, labels = [], []
    try:
        for file in files:
            with file:
                content = _ArraysOnly(file, encoding="bytes").load()
            pixels.append(content[b"data"].reshape(-1, 3, 32, 32))
            labels.extend(content[b"labels"])
    except DatasetError:
        raise
    except (OSError, EOFError, KeyError, TypeError, ValueError, AttributeError, tarfile.TarError, zlib.error,
            pickle.UnpicklingError) as error:  # fmt: skip
        raise DatasetError(f"{where} is incomplete or damaged ({error}); fetch it again") from error
    return checked_samples(np.concatenate(pixels).transpose(0, 2, 3, 1), np.array(labels), str(where))


def _unpacked(archive: Path, split: str) -> Iterator[BinaryIO]:
    """The batches of a split, in their order, which may be another one in the archive."""
    wanted = {f"{FOLDER}/{name}": name for name in _BATCHES[split]}
    found = {}
    with contextlib.ExitStack() as stack:
        tar = stack.enter_context(tarfile.open(archive, "r|gz"))
        for member in tar:
            if member.name in wanted and (file := tar.extractfile(member)) is not None:
                found[wanted[member.name]] = file.read()
                if len(found) == len(wanted):
                    break
    for name in _BATCHES[split]:
        if name not in found:
            raise DatasetError(f"{archive} has no {FOLDER}/{name}; fetch it again")
        yield io.BytesIO(found[name])
