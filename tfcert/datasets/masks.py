"""Masks of inputs: which numbers may change, from a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tfcert.datasets.base import DatasetError
from tfcert.datasets.load import confine
from tfcert.datasets.npz import npz_keys


def read_mask(path: str, root: str | Path | None) -> np.ndarray:
    """The mask in an ``.npz`` file: its array ``mask``, or its only one, of 0 and 1 or of truth values.

    Raises:
        DatasetError: the path leads outside ``root``, there is no such file, or no mask in it.
    """
    real = confine(path, root)
    keys = npz_keys(real)
    key = "mask" if "mask" in keys else keys[0] if len(keys) == 1 else ""
    if not key:
        told = f"it has the arrays {', '.join(keys)}" if keys else "it is no npz archive"
        raise DatasetError(f"{path} has no mask: {told}; write it with np.savez(path, mask=mask)")
    try:
        with np.load(real, allow_pickle=False) as archive:
            mask = np.asarray(archive[key])
    except (ValueError, OSError, EOFError) as error:
        raise DatasetError(f"{path} is not a readable npz archive: {error}") from error
    if mask.dtype.kind not in "biuf" or not np.isin(mask, (0, 1)).all():
        raise DatasetError(f"the mask {path} holds other values than 0 and 1")
    return mask.astype(bool)
