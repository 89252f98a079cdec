"""Hashes of arrays."""

from __future__ import annotations

from typing import Any

import numpy as np


def add_array(digest: Any, array: Any) -> None:
    """Adds an array's shape, type and numbers to a hash of ``hashlib``."""
    array = np.asarray(array)
    digest.update(f"{array.shape} {array.dtype} ".encode())
    digest.update(np.ascontiguousarray(array).tobytes())
