"""Preprocessing as a part of the model, so that eps and clip are in the user's space."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np


def with_preprocessing(model: keras.Model, *, scale: Any = 1.0, mean: Any = 0.0, std: Any = 1.0) -> keras.Model:
    """A model of raw inputs: ``model((x * scale - mean) / std)``, sharing the weights of ``model``.

    Certify the result and ``eps``, ``clip`` and witnesses are in the space of the raw ``x`` (pixels 0 to 255, say).

    Args:
        model: a Keras model with one input.
        scale: a number, or one per channel (last axis).
        mean: as ``scale``, subtracted after scaling.
        std: as ``scale``, positive.

    Raises:
        ValueError: the model has several inputs or none known yet, a number is not finite, ``std`` is not positive,
            or ``scale`` is zero.

    Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, kernel_initializer="ones")])
        >>> raw = with_preprocessing(model, scale=1 / 255, mean=0.5, std=0.5)
        >>> raw(np.array([[255.0, 255.0]])).numpy()
        array([[2.]], dtype=float32)
    """
    numbers = {"scale": scale, "mean": mean, "std": std}
    for name, value in numbers.items():
        if not np.isfinite(np.asarray(value, float)).all():
            raise ValueError(f"{name} must be finite, not {value}")
    if np.any(np.asarray(scale) == 0) or np.any(np.asarray(std) <= 0):
        raise ValueError(f"scale must not be zero and std must be positive; got scale={scale} and std={std}")
    inputs = getattr(model, "inputs", None)
    if not inputs or len(inputs) != 1:
        raise ValueError(f"model {model.name!r} must have exactly one input with a known shape (keras.Input)")
    raw = keras.Input(inputs[0].shape[1:], dtype=inputs[0].dtype, name="raw")
    divisor = np.asarray(std, float)
    rescale = keras.layers.Rescaling(
        (np.asarray(scale, float) / divisor).tolist(),
        offset=(-np.asarray(mean, float) / divisor).tolist(),
        dtype=inputs[0].dtype,
        name="preprocessing",
    )
    return keras.Model(raw, model(rescale(raw)), name=f"raw_{model.name}")
