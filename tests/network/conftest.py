"""Checks that the tests of the frontend share."""

from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf
from adjoint import assert_adjoint

from tfcert.network import Linear, Network, from_keras

Check = Callable[..., Network]


def randomize(model: keras.Model, rng: np.random.Generator) -> None:
    """Gives every weight, biases and statistics included, values that a mix-up would show."""
    for weight in model.weights:
        if not weight.dtype.startswith("float"):
            continue
        values = rng.normal(size=weight.shape)
        weight.assign(np.abs(values) + 0.1 if "variance" in weight.name else values)


@pytest.fixture
def check(seed: int, rng: np.random.Generator) -> Check:
    """``check(model, x=None)``: converts a randomised model and compares network and model on noise."""

    def check(model: keras.Model, x: np.ndarray | None = None, randomized: bool = True) -> Network:
        if randomized:
            randomize(model, rng)
        network = from_keras(model, x)
        inputs = rng.normal(size=(3, *network.input_shape)).astype(network.dtype.as_numpy_dtype)
        expected = keras.tree.flatten(model(inputs, training=False))[0].numpy()
        tolerance = (1e-5 if network.dtype == tf.float32 else 1e-13) * max(1.0, float(np.abs(expected).max()))
        found = network(tf.constant(inputs)).numpy()
        assert found.shape == (3, *network.output_shape) == expected.shape
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
        for node in network.nodes:
            if isinstance(node, Linear):
                assert node.map.out_shape == node.shape
                assert_adjoint(node.map, network.dtype, rng)
        assert len({node.name for node in network.nodes}) == len(network.nodes)
        return network

    return check
