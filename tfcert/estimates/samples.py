"""What every comparator is asked about: samples, and the margins ``f_y - f_j`` towards their targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from tfcert.certification.api import Model, asked, target_rows
from tfcert.network import Network
from tfcert.sets.balls import Clip, LpBall

_BATCH = 256


@dataclass(frozen=True)
class Samples:
    """Samples and their targets.

    Attributes:
        x: ``[batch, *input]`` in the network's type.
        rows: ``[batch, targets, outputs]`` float64: ``rows @ outputs`` are the margins ``f_y - f_j``.
        norm: in which distances are measured.
    """

    x: np.ndarray
    rows: np.ndarray
    norm: str

    def __len__(self) -> int:
        return len(self.x)

    def margins(self, network: Network) -> np.ndarray:
        """``[batch, targets]`` float64: the margins at the samples; a sample is misclassified where one is not
        positive."""
        found = np.zeros(self.rows.shape[:2])
        for first in range(0, len(self), _BATCH):
            part = slice(first, first + _BATCH)
            outputs = network(tf.constant(self.x[part])).numpy().astype(np.float64)
            found[part] = np.einsum("bto,bo->bt", self.rows[part], outputs)
        return found


def read_samples(
    model: Model, x: Any, y: Any, norm: str, targets: Any, clip: Clip | None = None
) -> tuple[Network, Samples]:
    """The network of a model, and the samples that a user passed, in the forms that :func:`tfcert.certify` takes.

    Raises:
        ValueError: an unknown norm, labels or targets that are no classes, inputs that do not fit or are not finite,
            or a NaN or infinite weight.
    """
    network, x, y = asked(model, x, y)
    points = LpBall(x, 0.0, norm, clip).astype(network.dtype.as_numpy_dtype)
    if points.input_shape != network.input_shape:
        raise ValueError(f"samples of shape {points.input_shape} for a model of {network.input_shape} inputs")
    if not bool(network.finite()):
        raise ValueError("a weight of the model is NaN or infinite: nothing can be said about it")
    return network, Samples(points.x, target_rows(network, points, y, targets), norm)
