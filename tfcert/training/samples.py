"""Held-out samples, in the forms that callbacks and measures take."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfcert.given import class_labels, samples
from tfcert.parts import parts_of


def arrays(data: Any, limit: int | None = None, *, several: bool = False) -> tuple[Any, np.ndarray]:
    """``x`` and integer labels of the first ``limit`` samples.

    With ``several``, inputs may be a dictionary or list of arrays; then ``x`` is a dictionary, of a list by places.

    Args:
        data: ``(x, y)``, in the forms that :func:`tfcert.certify` takes, or a ``tf.data.Dataset`` of such pairs.

    Raises:
        ValueError: no samples, or labels that do not fit them.
    """
    if hasattr(data, "as_numpy_iterator"):
        first: Any = next(iter(data.take(1).as_numpy_iterator()), None) if several else None
        parts = parts_of(first[0]) if isinstance(first, tuple) else None
        if parts is not None and np.ndim(first[1]) == 0:
            raise ValueError("a tf.data.Dataset of several inputs has batches for elements here: .batch(32), say")
        x, y = samples(data, parts=parts, limit=limit)
    elif isinstance(data, tuple | list) and len(data) == 2:
        parts = parts_of(data[0]) if several else None
        x, y = samples(*data, parts=parts, limit=limit)
    else:
        raise ValueError(f"held-out data are a pair (x, y) or a tf.data.Dataset, not {type(data).__name__}")
    if len(x) == 0:
        raise ValueError("held-out data must be at least one sample, and these are none")
    labels = class_labels(y, len(x))
    return (x if parts is None else parts.split(x)), labels
