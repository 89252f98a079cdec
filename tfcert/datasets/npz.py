"""Arrays in ``.npz`` files."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from tfcert.datasets.base import DatasetError, Samples, checked_samples


def npz(path: str | Path, *, x: str = "x", y: str | None = "y") -> Samples:
    """Arrays ``x`` and ``y`` of an ``.npz`` file, by their keys. Without ``y="..."`` a missing ``y`` means no labels.

    Raises:
        DatasetError: not an npz file, a key is missing, or an array holds pickled objects.
    """
    try:
        loaded = np.load(path, allow_pickle=False)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            raise DatasetError(f"{path} holds a single array, not an npz archive; write it with np.savez")
        with loaded as archive:
            keys = list(archive)
            wanted = [key for key in (x, y) if key is not None and not (key == y == "y" and key not in keys)]
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
    return checked_samples(arrays[x], arrays.get(y) if y else None, str(path))
