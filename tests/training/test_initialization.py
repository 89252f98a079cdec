"""The initialisation for IBP keeps widths; the usual one lets them grow."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfcert
from tfcert.propagation.centered import sweep
from tfcert.training.batch import boxes


def deep_net():
    keras.utils.set_random_seed(3)
    layers = keras.layers
    hidden = [layers.Dense(300, activation="relu", bias_initializer="ones") for _ in range(3)]
    conv = layers.Conv2D(16, 3, activation="relu")
    return keras.Sequential([keras.Input((10, 10, 3)), conv, layers.Flatten(), *hidden, layers.Dense(4)])


def growth(model, rng):
    """The mean width of each ReLU layer beside the one before."""
    network = tfcert.from_keras(model)
    x = tf.constant(rng.random((8, *network.input_shape)), tf.float32)
    ranges = sweep(network, boxes(x, tf.constant(0.1), None)).ranges
    widths = [float(tf.reduce_mean(u - low)) for node, (low, u) in zip(network.nodes, ranges, strict=True)
              if "relu" in node.name]  # fmt: skip
    return np.array(widths[1:]) / widths[:-1]


def test_widths_neither_grow_nor_vanish(rng):
    model = deep_net()
    assert np.all(growth(model, rng) > 5)
    tfcert.ibp_initialize(model, seed=1)
    np.testing.assert_allclose(growth(model, rng), 1.0, atol=0.25)


def test_kernels_have_the_deviation_of_the_paper_and_biases_are_zero():
    model = deep_net()
    tfcert.ibp_initialize(model)
    for layer in model.layers:
        if layer.weights:
            fan_in = int(np.prod(layer.kernel.shape[:-1]))
            np.testing.assert_allclose(layer.kernel.numpy().std(), np.sqrt(2 * np.pi) / fan_in, rtol=0.15)
            assert not layer.bias.numpy().any()


def test_one_seed_is_one_draw():
    models = [deep_net(), deep_net(), deep_net()]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        tfcert.ibp_initialize(model, seed)
    first, again, other = (model.layers[0].kernel.numpy() for model in models)
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_kernels_of_other_layers_are_refused():
    layers = keras.layers
    model = keras.Sequential([keras.Input((3, 4)), layers.EinsumDense("abc,cd->abd", (3, 5))])
    with pytest.raises(tfcert.UnsupportedLayerError, match="ibp_initialize does not know"):
        tfcert.ibp_initialize(model)
