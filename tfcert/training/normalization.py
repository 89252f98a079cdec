"""Modes of layers: the statistics of batch normalisation, and which layers differ in training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras

from tfcert.network import IntervalAbstraction
from tfcert.network.keras.private import layers_within, takes_training, wrapped_moments


def same_in_training(model: keras.Model) -> bool:
    """Tells whether the model computes in training what it computes at inference, and adds no loss when it is called.

    Then the network's own pass can stand for a call of the model. Layers of other authors are called, to be sure.
    """
    return all(
        (type(layer).__module__.split(".")[0] == "keras" or type(layer) is IntervalAbstraction)
        and (isinstance(layer, keras.Model) or not takes_training(layer))
        and getattr(layer, "activity_regularizer", None) is None
        and not isinstance(layer, keras.layers.ActivityRegularization)
        for layer in layers_within(model, itself=True)
    )


def normalising_layers(model: keras.Model) -> list[Any]:
    """The batch-normalisation layers that use the batch's statistics in training (frozen ones do not)."""
    return [
        layer
        for layer in layers_within(model)
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    ]


@contextmanager
def recorded_statistics(model: keras.Model) -> Iterator[dict[int, tuple[Any, Any]]]:
    """Records the mean and variance of each batch-normalisation layer of the model called inside, by layer identity.

    They are taken where the layer computes them, so that they are the very ones that it normalises with
    (``synchronized`` over replicas, say).

    Raises:
        ValueError: a layer is called twice, so that it has two pairs of statistics, or renormalises.
    """
    statistics: dict[int, tuple[Any, Any]] = {}

    def recorder(layer: Any, moments: Any) -> Any:
        def record(inputs: Any, mask: Any) -> tuple[Any, Any]:
            if layer.renorm or id(layer) in statistics:
                reason = "renormalises" if layer.renorm else "is called twice"
                raise ValueError(
                    f"batch normalisation {layer.name!r} {reason}, so it has no single statistics of the batch for "
                    'bounds to use; give the objective batch_norm="moving"'
                )
            statistics[id(layer)] = moments(inputs, mask)
            return statistics[id(layer)]

        return record

    with wrapped_moments(normalising_layers(model), recorder):
        yield statistics
