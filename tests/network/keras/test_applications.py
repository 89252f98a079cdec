"""Layers that keras.applications has for itself, wrappers of layers, and a whole network of it."""

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcert
from tfcert.network import Product, from_keras
from tfcert.network.keras.private import convnext


def functional(shape, function):
    inputs = keras.Input(shape)
    return keras.Model(inputs, function(inputs))


def test_the_layers_of_convnext(check):
    network = check(functional((4, 4, 3), lambda x: convnext.StochasticDepth(0.5)(convnext.LayerScale(0.1, 3)(x))))
    assert len(network.nodes) == 2


def test_wrappers_are_the_layers_within(check):
    check(functional((6, 6, 2), lambda x: L.SpectralNormalization(L.Conv2D(3, 2, activation="relu"))(x)))
    check(functional((4,), lambda x: L.Pipeline([L.Dense(3, activation="relu"), L.Dropout(0.5), L.Dense(2)])(x)))


@pytest.mark.sweep
def test_a_network_with_squeeze_and_excitation_is_bounded(eager):
    model = keras.applications.MobileNetV3Small(
        weights=None, input_shape=(32, 32, 3), classes=3, classifier_activation=None, minimalistic=False
    )
    network = from_keras(model)
    assert any(isinstance(node, Product) for node in network.nodes)
    x = np.full((1, 32, 32, 3), 0.5, np.float32)
    found = tfcert.bounds(network, tfcert.LpBall(x, 1e-5), method="ibp")
    values = np.asarray(model(x, training=False))
    assert np.all(found.lower <= values + 1e-4)
    assert np.all(values <= found.upper + 1e-4)
