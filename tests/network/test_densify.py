"""A densified network computes the same function, from matrices that follow the kernels."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L

from tfcert.network import ConvMap, IndexMap, Linear, PadMap, densify
from tfcert.network.densify import matrix


def convolutional(dtype="float32"):
    options = {"dtype": dtype}
    inputs = keras.Input((6, 5, 2), dtype=dtype)
    x = L.Conv2D(3, 3, padding="same", activation="relu", **options)(inputs)
    y = L.ZeroPadding2D(1, **options)(x)
    y = L.Cropping2D(((1, 1), (1, 1)), **options)(y)
    y = L.Permute((2, 1, 3), **options)(y)
    y = L.Permute((2, 1, 3), **options)(L.DepthwiseConv2D(3, padding="same", **options)(y))
    x = L.ReLU(**options)(L.Add(**options)([x, y]))
    x = L.MaxPooling2D(2, **options)(x)
    x = L.AveragePooling2D(2, strides=1, padding="same", **options)(x)
    return keras.Model(inputs, L.Dense(3, **options)(L.Flatten(**options)(x)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_function_is_the_same(check, rng, dtype):
    network = check(convolutional(dtype))
    dense = densify(network)
    assert not any(isinstance(n, Linear) and isinstance(n.map, ConvMap | PadMap | IndexMap) for n in dense.nodes)
    assert dense.input_shape == network.input_shape
    assert dense.neurons() == network.neurons()
    assert len({node.name for node in dense.nodes}) == len(dense.nodes)
    x = tf.constant(rng.normal(size=(3, 6, 5, 2)), network.dtype)
    tolerance = 1e-5 if dtype == "float32" else 1e-13
    scale = float(np.abs(network(x)).max())
    np.testing.assert_allclose(dense(x), network(x), rtol=0, atol=tolerance * scale)


def test_the_matrix_is_the_map(check, rng):
    network = check(keras.Sequential([keras.Input((4, 3, 2)), L.Conv2D(2, 2, strides=2)]))
    linear_map = network.nodes[1].map
    x = rng.normal(size=(5, 4, 3, 2)).astype("float32")
    product = x.reshape(5, -1) @ matrix(linear_map, tf.float32).numpy()
    np.testing.assert_allclose(product, linear_map.apply(tf.constant(x)).numpy().reshape(5, -1), atol=1e-5)


def test_training_reaches_the_kernels_through_the_matrices(check, rng):
    model = keras.Sequential([keras.Input((4, 4, 1)), L.Conv2D(2, 3, activation="relu"), L.Flatten(), L.Dense(2)])
    network = check(model)
    dense = densify(network)
    x = tf.constant(rng.normal(size=(3, 4, 4, 1)), tf.float32)
    variables = [weight.value for weight in model.trainable_weights]
    gradients = []
    for call in (network, dense):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(call(x)))
        gradients.append(tape.gradient(loss, variables))
    for plain, through in zip(*gradients, strict=True):
        np.testing.assert_allclose(plain, through, rtol=1e-4, atol=1e-4)
    model.layers[0].kernel.assign(model.layers[0].kernel * 3.0)
    np.testing.assert_allclose(dense(x), model(x), rtol=1e-4, atol=1e-4)


def test_a_dense_network_stays_as_it_is(check):
    network = check(keras.Sequential([keras.Input((4,)), L.Dense(3, activation="relu"), L.Dense(2)]))
    assert [node.map for node in densify(network).nodes if isinstance(node, Linear)] == [
        node.map for node in network.nodes if isinstance(node, Linear)
    ]
