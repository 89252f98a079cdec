"""Gradients in a model's weights, compared with finite differences."""

from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf


def check_gradients(model: keras.Model, objective: Callable[[], tf.Tensor], rng: np.random.Generator) -> None:
    """Asserts that an objective of a float64 model's weights has, by each, the gradient that differences show."""
    with tf.GradientTape() as tape:
        value = objective()
    variables = model.trainable_variables
    gradients = tape.gradient(value, [v.value for v in variables])
    for variable, gradient in zip(variables, gradients, strict=True):
        assert gradient is not None, variable.path
        before = variable.numpy().copy()
        direction = rng.normal(size=before.shape)
        ends = []
        for sign in (1, -1):
            variable.assign(before + sign * 1e-6 * direction)
            ends.append(float(objective()))
        variable.assign(before)
        slope = (ends[0] - ends[1]) / 2e-6
        assert np.sum(gradient.numpy() * direction) == pytest.approx(slope, rel=1e-4, abs=1e-6), variable.path
