"""Held-out samples, in the forms that callbacks and measures take."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf


def arrays(data: Any, limit: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """``x`` and integer labels of the first ``limit`` samples.

    Args:
        data: ``(x, y)`` arrays, labels as classes or one-hot, or a ``tf.data.Dataset`` of batches of such pairs.

    Raises:
        ValueError: no samples, or not as many samples as labels.
    """
    if isinstance(data, tf.data.Dataset):
        parts: list[tuple[np.ndarray, np.ndarray]] = []
        for batch in data.as_numpy_iterator():
            parts.append((batch[0], batch[1]))
            if limit is not None and sum(len(part[0]) for part in parts) >= limit:
                break
        data = tuple(np.concatenate(column) for column in zip(*parts, strict=True)) or ((), ())
    x, y = (np.asarray(column)[:limit] for column in data[:2])
    if len(x) == 0 or len(x) != len(y):
        raise ValueError(f"held-out data must be as many samples as labels, at least one, not {len(x)} and {len(y)}")
    return x, classes(y)


def classes(y: np.ndarray) -> np.ndarray:
    """Labels as integers ``[batch]``, from those, from a column of them, or from one-hot rows."""
    y = y.argmax(axis=1) if y.ndim == 2 and y.shape[1] > 1 else y.reshape(len(y))
    return y.astype(np.int64)
