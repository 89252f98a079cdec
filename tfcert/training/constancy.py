"""Tells whether a network has become constant: one class for every input, whatever the label."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

KEY = "constant"
"""The log's key: 1 after an epoch without two predictions that differ, 0 after others, NaN where labels hardly do."""
_STEPS = 50
"""The steps without a differing prediction after which a network counts as constant: a new one may begin so."""
_MIXED = 0.05
"""The least share of labels that differ from the first of their batch; below it one answer for all is no surprise."""


class ConstantNetworkWarning(UserWarning):
    """A network that is being trained gives every input the same class."""


class Differing(keras.metrics.Metric):
    """Counts the predictions and the labels that are another class than the first sample of their batch.

    Within a batch the weights stand still, so a network whose outputs no longer depend on the input has none of the
    former, while a bias that goes on changing may move its one class from batch to batch.
    """

    def __init__(self, name: str = "differing"):
        super().__init__(name=name)
        self.counts = self.add_weight(shape=(3,), initializer="zeros", name="counts")

    def update_state(self, labels: Any, logits: Any, sample_weight: Any = None) -> None:
        """Takes the classes ``[batch]`` and the logits ``[batch, classes]`` of a batch."""
        found = tf.argmax(logits, axis=1)
        counted = [tf.math.count_nonzero(classes != classes[:1]) for classes in (found, labels)]
        counted.append(tf.shape(found, tf.int64)[0])
        self.counts.assign_add(tf.cast(tf.stack(counted), self.counts.dtype))

    def result(self) -> tf.Tensor:
        """Predictions that differ, labels that differ, and samples: ``[3]``."""
        return tf.convert_to_tensor(self.counts)


def is_constant(predictions: float, labels: float, samples: float) -> float:
    """1 where no prediction differed, though labels did; 0 where one did; NaN where labels hardly differ."""
    if predictions:
        return 0.0
    return 1.0 if samples and labels >= _MIXED * samples else math.nan


class ConstancyWatch:
    """Follows the epochs of a training, and says once that the network has become constant."""

    def __init__(self) -> None:
        self.since: int | None = None
        self.steps, self.said = 0, False

    def epoch(self, number: int, steps: int, constant: float) -> str | None:
        """A sentence after the epoch of this number (from 0), if it is time for one.

        Args:
            number: of the epoch.
            steps: steps that it took.
            constant: what :func:`is_constant` found.
        """
        if constant != 1.0:
            self.since, self.steps = None, 0
            return None
        self.since = number if self.since is None else self.since
        self.steps += steps
        if self.said or self.steps < _STEPS:
            return None
        self.said = True
        return (
            f"the network has become constant: since epoch {self.since + 1} it has given every sample of a batch the "
            "same class, whatever the label. Training seldom leaves that state: begin again with a longer ramp of eps, "
            "a smaller weight of regularizers, a lower learning rate, or weights drawn by tfcert.ibp_initialize"
        )


def constant_since(column: Sequence[float]) -> int | None:
    """The epoch (from 1) since which a log's column ``constant`` is 1 to its end; None where it does not end so."""
    count = next((i for i, value in enumerate(reversed(column)) if value != 1.0), len(column))
    return len(column) - count + 1 if count else None
