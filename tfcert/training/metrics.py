"""Metrics of certified models. They are fed with bounds, not with predictions."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfcert.network.keras.private import MetricsList, larger_is_better
from tfcert.verdict import is_proof

_NOT_PREDICTIONS = (
    "{name} is fed with {what}, not with labels and predictions, so compile() cannot use it; a CertifiedModel has a "
    "verified_accuracy of its own, and tfcert.callbacks.CertifiedEvaluation computes others"
)


class _Fed(keras.metrics.Mean):
    """A mean, the larger the better, of something that Keras's own steps do not compute."""

    fed_with = ""

    def __init__(self, name: str, dtype: Any = None):
        super().__init__(name=name, dtype=dtype)
        larger_is_better(self)

    def _refuse(self, others: tuple[Any, ...]) -> None:
        if others:
            raise ValueError(_NOT_PREDICTIONS.format(name=type(self).__name__, what=self.fed_with))


@keras.saving.register_keras_serializable("tfcert")
class VerifiedAccuracy(_Fed):
    """The fraction of samples whose margin is proven: a lower bound that is finite and above ``rounding``, strictly.

    ``update_state(margins, rounding=0.0, sample_weight=None)`` takes the least certified margin of each sample,
    ``[batch]`` or ``[batch, 1]``, and what the rounding of the model's arithmetic may take from it (``margin`` and
    ``rounding`` of :func:`tfcert.certify`). NaN never verifies. A row of margins a sample, as :func:`tfcert.margins`
    returns it, is refused: its least is what counts.

    Example:
        >>> metric = VerifiedAccuracy()
        >>> metric.update_state([0.5, 0.0, -1.0, float("nan")])
        >>> float(metric.result())
        0.25
    """

    fed_with = "certified margins"

    def __init__(self, name: str = "verified_accuracy", dtype: Any = None):
        super().__init__(name, dtype)

    def update_state(self, margins: Any, *others: Any, rounding: Any = 0.0, sample_weight: Any = None) -> None:
        self._refuse(others)
        margins = ops.convert_to_tensor(margins)
        if len(margins.shape) > 2 or (len(margins.shape) == 2 and margins.shape[1] != 1):
            raise ValueError(
                f"VerifiedAccuracy takes one margin a sample, [batch], not shape {tuple(margins.shape)}: of margins by "
                "class, as tfcert.margins returns them, pass the least, margins.min(axis=1)"
            )
        margins = ops.reshape(margins, [-1])
        verified = is_proof(margins, ops.cast(rounding, margins.dtype))
        super().update_state(ops.cast(verified, self.dtype), sample_weight=sample_weight)


@keras.saving.register_keras_serializable("tfcert")
class MeanCertifiedRadius(_Fed):
    """The mean certified radius; a sample that has none (misclassified, NaN) counts as 0.

    ``update_state(radii, sample_weight=None)`` takes the ``radius`` of :func:`tfcert.certified_radius`, ``[batch]``.
    The unit is that of the input.
    """

    fed_with = "certified radii"

    def __init__(self, name: str = "mean_certified_radius", dtype: Any = None):
        super().__init__(name, dtype)

    def update_state(self, radii: Any, *others: Any, sample_weight: Any = None) -> None:
        self._refuse(others)
        radii = ops.convert_to_tensor(radii)
        certified = ops.where(ops.isnan(radii), ops.zeros_like(radii), ops.maximum(radii, 0.0))
        super().update_state(ops.cast(certified, self.dtype), sample_weight=sample_weight)


class Owned(MetricsList):
    """The metrics that a model owns, where Keras's callbacks look for the direction of what they monitor.

    Args:
        metrics: the first is the one that is fed; others stand for the names that it has elsewhere.
    """

    def result(self) -> dict[str, Any]:
        fed = self.metrics[0]
        return {fed.name: fed.result()}
