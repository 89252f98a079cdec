"""Samples that comparators are asked about, and the margins ``f_y - f_j`` towards their targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from tfcert.clauses import Clauses
from tfcert.network import Network
from tfcert.network.cache import ModelOrNetwork
from tfcert.propagation.question import asked, target_clauses
from tfcert.sets.balls import Clip, LpBall

_BATCH = 256


@dataclass(frozen=True)
class TargetedSamples:
    """Samples and their targets.

    Attributes:
        x: ``[batch, *input]`` in the network's type.
        clauses: ``f_y - f_j > 0``, one for each target j.
        norm: in which distances are measured.
    """

    x: np.ndarray
    clauses: Clauses
    norm: str

    def __len__(self) -> int:
        return len(self.x)

    def margins(self, network: Network) -> np.ndarray:
        """``[batch, targets]`` float64: the margins at the samples; a sample is misclassified where one is not
        positive."""
        margins = np.zeros(self.clauses.offsets.shape[:2])
        for first in range(0, len(self), _BATCH):
            part = slice(first, first + _BATCH)
            margins[part] = self.clauses.take(part).values(network(tf.constant(self.x[part])).numpy())[:, :, 0]
        return margins

    @property
    def rows(self) -> np.ndarray:
        """``[batch, targets, outputs]`` float64: ``rows @ outputs`` are the margins ``f_y - f_j``."""
        return self.clauses.rows()[0]


def read_samples(
    model: ModelOrNetwork, x: Any, y: Any, norm: str, targets: Any, clip: Clip | None = None
) -> tuple[Network, TargetedSamples]:
    """The network of a model, and the samples that a user passed, in the forms that :func:`tfcert.certify` takes.

    Raises:
        ValueError: an unknown norm, labels or targets that are no classes, inputs that do not fit or are not finite,
            or a NaN or infinite weight.
    """
    network, x, y = asked(model, x, y)
    points = LpBall(x, 0.0, norm, clip, parts=network.parts).astype(network.dtype.as_numpy_dtype)
    if points.input_shape != network.input_shape:
        raise ValueError(f"samples of shape {points.input_shape} for a model of {network.input_shape} inputs")
    if not bool(network.finite()):
        raise ValueError("a weight of the model is NaN or infinite: nothing can be said about it")
    return network, TargetedSamples(points.x, target_clauses(network, points, y, targets), norm)
