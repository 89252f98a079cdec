"""Arrays in MATLAB files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from tfcert.datasets.base import DatasetError, Samples, checked_samples, optional_module

_HDF5 = b"\x89HDF\r\n\x1a\n"
_CROPPED = (32, 32, 3)
"""The shape of an image of SVHN's cropped digits."""


def mat(path: str | Path, *, x: str = "X", y: str = "y", zero: int | None = None) -> Samples:
    """Arrays ``x`` and ``y`` of a MATLAB file (``.mat``, of versions 4 to 7.3), by their names.

    Samples lie along the last axis of ``x``, as MATLAB's images do (SVHN: ``[32, 32, 3, samples]``), or along its first
    axis where only that one has as many entries as there are labels. The answer has them along the first. Labels of
    SVHN's files (images of 32 x 32 x 3, labels 1 to 10) are read as its authors mean them: 10 is the digit 0.

    Args:
        path: the file.
        x, y: the names of its arrays; without an array ``y`` there are no labels, unless its name is given.
        zero: the label that stands for class 0; None for 10 in files of SVHN, else for none.

    Raises:
        DatasetError: no MATLAB file, an array that it does not have, or a package that is not installed.
    """
    arrays = _arrays(Path(path), (x, y))
    if x not in arrays or (y not in arrays and y != "y"):
        wanted, held = (x if x not in arrays else y), [key for key in arrays if not key.startswith("__")]
        raise DatasetError(f"{path} has no array {wanted!r}; it has {', '.join(held) or 'none'}")
    inputs = np.asarray(arrays[x])
    if y not in arrays:
        return checked_samples(np.moveaxis(inputs, -1, 0) if inputs.ndim == 4 else inputs, None, str(path))
    labels = np.asarray(arrays[y]).reshape(-1)
    first = inputs.ndim < 2 or (inputs.shape[0] == len(labels) and inputs.shape[-1] != len(labels))
    inputs = np.ascontiguousarray(inputs if first else np.moveaxis(inputs, -1, 0))
    if zero is None and inputs.shape[1:] == _CROPPED and labels.size and labels.min() >= 1 and labels.max() == 10:
        zero = 10
    return checked_samples(inputs, labels if zero is None else np.where(labels == zero, 0, labels), str(path))


def _arrays(path: Path, names: Iterable[str]) -> dict[str, Any]:
    """The arrays of these names; of any other names something."""
    with open(path, "rb") as file:
        head = file.read(520)
    if _HDF5 in (head[:8], head[512:520]):
        return _of_hdf5(path, set(names))
    scipy = optional_module("scipy.io", "data")
    try:
        found: dict[str, Any] = dict.fromkeys(name for name, *_ in scipy.whosmat(path))
        found |= scipy.loadmat(path, variable_names=list(names))
    except Exception as error:  # scipy raises many kinds, of a damaged file even of NumPy and zlib
        raise DatasetError(f"{path} is not a readable MATLAB file: {error}") from error
    return found


def _of_hdf5(path: Path, names: set[str]) -> dict[str, Any]:
    """Arrays of version 7.3, where axes stand the other way round."""
    h5py = optional_module("h5py", "data")
    try:
        with h5py.File(path, "r") as file:
            return {key: np.asarray(value).T if key in names else None for key, value in file.items()}
    except (OSError, TypeError, KeyError) as error:
        raise DatasetError(f"{path} is not a readable MATLAB file: {error}") from error
