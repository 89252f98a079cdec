"""Arrays in ``.npz`` files."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfcert.datasets.base import DatasetError, Samples, checked_samples, joined_inputs


def npz(path: str | Path, *, x: str | Sequence[str] = "x", y: str | None = "y") -> Samples:
    """Arrays ``x`` and ``y`` of an ``.npz`` file, by their keys. Without ``y="..."`` a missing ``y`` means no labels.

    Several keys for ``x`` are the inputs of a model, one array each: they become one vector a sample, in this order.

    Raises:
        DatasetError: not an npz file, a key is missing, or an array holds pickled objects.
    """
    try:
        loaded = np.load(path, allow_pickle=False)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            raise DatasetError(f"{path} holds a single array, not an npz archive; write it with np.savez")
        with loaded as archive:
            keys = list(archive)
            inputs = [x] if isinstance(x, str) else list(x)
            wanted = [key for key in (*inputs, y) if key is not None and not (key == y == "y" and key not in keys)]
            missing = [key for key in wanted if key not in keys]
            if missing:
                raise DatasetError(f"{path} has no array {missing[0]!r}; it has {', '.join(keys) or 'none'}")
            arrays = {key: archive[key] for key in wanted}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, DatasetError):
            raise
        if Path(path).is_file() and not (zipfile.is_zipfile(path) or Path(path).read_bytes()[:6] == b"\x93NUMPY"):
            raise DatasetError(f"{path} is not an npz archive; write it with np.savez(path, x=x, y=y)") from error
        if "Object arrays" in str(error):
            raise DatasetError(f"{path} holds pickled objects, which are never loaded; save plain numbers") from error
        raise DatasetError(f"{path} is not a readable npz archive: {error}") from error
    joined = arrays[x] if isinstance(x, str) else joined_inputs({key: arrays[key] for key in x}, str(path))
    return checked_samples(joined, arrays.get(y) if y else None, str(path))


def npz_keys(path: str | Path, label: Any = None) -> tuple[str, ...]:
    """The keys of the arrays in an ``.npz`` file; none where it is none."""
    try:
        with zipfile.ZipFile(path) as archive:
            return tuple(name.removesuffix(".npy") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return ()
