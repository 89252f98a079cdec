"""Values that no input enters: constants that operations make, positions, and layers over them, whose weights live."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L
from keras import ops as K
from unrounded import IGNORED

import tfcert
from tfcert.network import Elementwise, Linear, UnsupportedLayerError, from_keras


def functional(shape, function, **options):
    inputs = keras.Input(shape, **options)
    return keras.Model(inputs, function(inputs))


def positions(x):
    """0, 1, 2, ... along the first axis, as a model may count them."""
    return K.cumsum(K.ones_like(x[..., 0], dtype="int32"), axis=1) - 1


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x + K.ones_like(x),
        lambda x: K.full_like(x, 2.5) * x,
        lambda x: x - 3.0 * K.exp(K.ones_like(x)),
        lambda x: L.Concatenate()([K.zeros_like(x), L.Dense(2)(x)]),
        lambda x: L.Dense(3)(x) + K.matmul(K.ones_like(x)[:, :1], np.ones((1, 3), "float32")),
        lambda x: L.Add()([L.Dense(2)(K.ones_like(x)), L.Dense(2)(x)]),
        lambda x: L.Dense(2)(K.ones_like(x)),
    ],
)
def test_constants_are_what_keras_makes_of_them(check, function):
    check(functional((4,), function))


def test_positions_are_embedded_and_added_and_their_weights_stay_live(check):
    table = L.Embedding(5, 3)
    model = functional((5, 3), lambda x: L.Dense(2, activation="relu")(L.Flatten()(x + table(positions(x)))))
    network = check(model)
    assert sum(isinstance(node, Linear | Elementwise) for node in network.nodes) == 4  # offset, flatten, dense, relu
    x = tf.ones([1, 5, 3])
    table.embeddings.assign(table.embeddings + 1.0)
    assert np.allclose(network(x), model(x), atol=1e-5)
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(network.nodes[1].bias())
    assert tf.reduce_all(tf.convert_to_tensor(tape.gradient(value, table.embeddings.value)) == 1)


def test_bounds_know_that_a_constant_does_not_move(seed):
    model = functional((3,), lambda x: L.Concatenate()([x, K.ones_like(x)]))
    found = tfcert.bounds(model, tfcert.LpBall(np.zeros((1, 3), "float32"), 0.5), options=IGNORED)
    assert found.lower[0, 3:].tolist() == found.upper[0, 3:].tolist() == [1, 1, 1]
    assert np.allclose(found.upper[0, :3], 0.5)


def test_dropout_over_a_constant_is_off(check):
    check(functional((3,), lambda x: x + L.Dropout(0.5)(K.ones_like(x))))


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda x: x + K.sum(K.ones_like(x), axis=0), "how many samples"),
        (lambda x: L.Concatenate()([L.Lambda(lambda y: y)(x), x]), "Lambda"),
        (lambda x: L.Add()([x, L.Dropout(0.5)(K.ones_like(x), training=True)]), "training=True"),
    ],
)
def test_what_is_no_constant_is_refused(function, said):
    with pytest.raises(UnsupportedLayerError, match=said):
        from_keras(functional((3,), function))
