"""Copies that a matrix reads are added up where that is the same function, and left alone where it is not."""

import keras
import numpy as np
import pytest

import tfcert
from tfcert.layers import IntervalAbstraction
from tfcert.network import CopiesMap, Linear

L = keras.layers
FOLDED = {
    "padded": [L.ZeroPadding2D(1), L.Conv2D(3, 3, strides=2), L.Flatten()],
    "scaled twice": [L.Rescaling(2.0, -1.0), L.ZeroPadding2D(1), L.Rescaling(3.0, 1.0), L.Conv2D(3, 3), L.Flatten()],
    "normalised in whole blocks": [L.Reshape((2, 16)), L.BatchNormalization(), L.Flatten()],
}  # fmt: skip
LEFT = {
    "normalised across rows": [L.Reshape((2, 16)), L.BatchNormalization(), L.Reshape((8, 4)), L.Dense(3), L.Flatten()],
    "torn apart": [L.Reshape((32, 1)), L.Dense(2), L.Flatten()],
    "bent first": [L.ReLU(), L.Flatten()],
}


@pytest.mark.parametrize("kind", [*FOLDED, *LEFT])
def test_the_network_is_the_model_whether_copies_are_added_up_or_not(kind, rng):
    between = (FOLDED | LEFT)[kind]
    model = keras.Sequential([keras.Input((4, 4, 1)), IntervalAbstraction(0.25), *between, L.Dense(2)])
    for layer in model.layers[1:]:
        for weight in layer.weights:
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
    network = tfcert.from_keras(model)
    copies = any(isinstance(node, Linear) and isinstance(node.map, CopiesMap) for node in network.nodes)
    assert copies == (kind in LEFT)
    x = rng.random((5, 4, 4, 1)).astype(np.float32)
    np.testing.assert_allclose(network(x), model(x), rtol=1e-5)
