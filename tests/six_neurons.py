"""A network of six ReLUs and two outputs, small enough to be sampled densely."""

from __future__ import annotations

import keras
import numpy as np


def network(inputs: int, seed: int = 1, head: str | None = None) -> keras.Model:
    """Six ReLUs and two outputs."""
    keras.utils.set_random_seed(seed)
    layers = [keras.Input((inputs,)), keras.layers.Dense(6, activation="relu"), keras.layers.Dense(2, activation=head)]
    model = keras.Sequential(layers)
    model.layers[0].bias.assign(np.random.default_rng(seed).uniform(-0.5, 0.5, 6))
    return model
