"""Activations are found in every spelling of Keras's, with their parameters."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L
from keras import ops

from tfcert.activations import Bends, general, register_activation
from tfcert.network import Elementwise, UnsupportedLayerError, from_keras

BY_NAME = [
    "celu", "elu", "exponential", "gelu", "hard_sigmoid", "hard_silu", "hard_tanh", "leaky_relu", "log_sigmoid", "mish",
    "relu", "relu6", "selu", "sigmoid", "silu", "soft_shrink", "softplus", "softsign", "sparse_plus", "sparse_sigmoid",
    "squareplus", "swish", "tanh",
]  # fmt: skip
FUNCTIONS = [
    keras.activations.gelu, ops.gelu, tf.nn.gelu, ops.abs, ops.absolute, ops.arctan, ops.exp, ops.tanh, ops.elu,
    ops.leaky_relu, tf.nn.relu6, tf.nn.softplus, tf.nn.elu,
]  # fmt: skip
LAYERS = [
    L.ELU(), L.ELU(0.3), L.ELU(2.0), L.ReLU(max_value=6.0), L.ReLU(threshold=0.5), L.LeakyReLU(1.5),
    L.ReLU(max_value=2.0, negative_slope=0.3, threshold=0.25), L.PReLU(), L.PReLU(shared_axes=[1]),
]  # fmt: skip
OPERATIONS = [
    ops.abs, ops.absolute, ops.arctan, ops.celu, ops.elu, ops.exp, ops.gelu, ops.hard_sigmoid, ops.hard_silu,
    ops.hard_tanh, ops.log_sigmoid, ops.relu, ops.relu6, ops.selu, ops.sigmoid, ops.silu, ops.soft_shrink,
    ops.softplus, ops.softsign, ops.sparse_plus, ops.sparse_sigmoid, ops.squareplus, ops.tanh,
    lambda x: ops.gelu(x, approximate=False), lambda x: ops.elu(x, 1.5), lambda x: ops.celu(x, 0.5),
    lambda x: ops.soft_shrink(x, 0.1), lambda x: ops.squareplus(x, 1),
    lambda x: keras.activations.relu(x, max_value=1.5),
]  # fmt: skip


def assert_same(model: keras.Model) -> None:
    network = from_keras(model)
    x = np.random.default_rng(1).normal(size=(50, 5)).astype(np.float32) * 3
    expected = model(x).numpy()
    np.testing.assert_allclose(network(tf.constant(x)), expected, atol=2e-6 * np.abs(expected).max())
    assert sum(isinstance(node, Elementwise) for node in network.nodes) == 1


@pytest.mark.parametrize("name", BY_NAME)
def test_activations_by_name(name):
    assert_same(keras.Sequential([keras.Input((5,)), L.Activation(name)]))


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f"{f.__module__}.{f.__name__}")
def test_functions_by_identity(function):
    assert_same(keras.Sequential([keras.Input((5,)), L.Activation(function)]))


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_activation_layers_with_their_options(layer):
    model = keras.Sequential([keras.Input((5,)), layer])
    for weight in model.weights:
        weight.assign(np.random.default_rng(0).normal(size=weight.shape))
    assert_same(model)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_operations_in_functional_models(operation):
    x = keras.Input((5,))
    assert_same(keras.Model(x, operation(x)))


def test_both_forms_of_gelu_differ_by_more_than_rounding():
    x = tf.linspace(-3.0, 3.0, 50)
    assert np.abs(ops.gelu(x) - keras.activations.gelu(x)).max() > 1e-4


def test_prelu_is_read_live():
    model = keras.Sequential([keras.Input((2,)), L.PReLU()])
    network = from_keras(model)
    model.layers[0].alpha.assign([0.5, -3.0])
    np.testing.assert_allclose(network(tf.constant([[-1.0, -1.0]])), [[-0.5, 3.0]])


def test_a_function_of_the_users_own_is_refused_until_it_is_registered():
    def bent(x):
        return x + 0.5 * (ops.sqrt(ops.square(x) + 1.0) - 1.0)

    def build():
        def function(x):
            return x + 0.5 * (tf.sqrt(x * x + 1) - 1)

        bends = Bends(function, lambda x: 1 + 0.5 * x / tf.sqrt(x * x + 1), domain=(-np.inf, np.inf))
        return general("bent", bends)

    model = keras.Sequential([keras.Input((5,)), L.Activation(bent)])
    with pytest.raises(UnsupportedLayerError, match="register_activation"):
        from_keras(model)
    register_activation("bent", build, spellings=[bent])
    assert_same(model)
