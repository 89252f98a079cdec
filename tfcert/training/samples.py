"""Held-out samples, in the forms that callbacks and measures take."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfcert.given import class_labels, samples


def arrays(data: Any, limit: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """``x`` and integer labels of the first ``limit`` samples.

    Args:
        data: ``(x, y)``, in the forms that :func:`tfcert.certify` takes, or a ``tf.data.Dataset`` of such pairs.

    Raises:
        ValueError: no samples, or labels that do not fit them.
    """
    if hasattr(data, "as_numpy_iterator"):
        x, y = samples(data, limit=limit)
    elif isinstance(data, tuple | list) and len(data) == 2:
        x, y = samples(*data, limit=limit)
    else:
        raise ValueError(f"held-out data are a pair (x, y) or a tf.data.Dataset, not {type(data).__name__}")
    if len(x) == 0:
        raise ValueError("held-out data must be at least one sample, and these are none")
    return x, class_labels(y, len(x))
