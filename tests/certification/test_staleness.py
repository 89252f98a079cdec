"""What was compiled for a model must not outlive a change of the model; what arithmetic loses must not certify."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfcert
from tfcert import BoundOptions, Box, LpBall
from tfcert.network import from_keras
from tfcert.propagation.engine import lower_bounds

METHODS = ("ibp", "crown-ibp", "crown")


def dense(units, kernel, bias=None, **options):
    layer = keras.layers.Dense(units, **options)
    layer.build((None, len(kernel)))
    layer.set_weights([np.array(kernel, np.float32), np.array(bias or [0.0] * units, np.float32)])
    return layer


def encloses(model, x, eps, **options):
    bounds = tfcert.bounds(model, LpBall(x, eps), **options)
    value = model(x).numpy()
    return bool(((bounds.lower <= value) & (value <= bounds.upper)).all())


def test_statistics_that_are_adapted_again_are_seen():
    norm = keras.layers.Normalization()
    norm.adapt(np.array([[0.0], [1.0]], np.float32))
    model = keras.Sequential([keras.Input((1,)), norm, dense(2, [[1.0, -1.0]])])
    x = np.full((1, 1), 3.0, np.float32)
    assert encloses(model, x, 0.1)
    norm.adapt(np.array([[50.0], [70.0]], np.float32))
    assert encloses(model, x, 0.1)


def test_layers_added_inside_and_activations_exchanged_are_seen():
    inner = keras.Sequential([keras.Input((2,)), dense(2, np.eye(2))])
    model = keras.Sequential([keras.Input((2,)), inner])
    x = np.array([[3.0, -4.0]], np.float32)
    assert encloses(model, x, 0.1)
    model.layers[0].layers[0].activation = keras.activations.relu
    assert encloses(model, x, 0.1)
    assert (tfcert.bounds(model, LpBall(x, 0.1), options=BoundOptions(rounding="ignore")).lower[0, 1] == 0).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("jit", [None, False, True])
def test_bounds_that_overflow_never_certify(method, jit):
    model = keras.Sequential(
        [keras.Input((1,)), dense(1, [[2.0]], activation="relu"), dense(2, [[-1.0, 0.0]], [1e3, 0.0])]
    )
    margins = tfcert.margins(model, Box([[0.0]], [[3e38]]), np.array([0]), method=method, options=BoundOptions(jit=jit))
    assert not margins[0, 1] > 0


@pytest.mark.parametrize("clip", [None, (-1e3, 1e3)])
def test_an_l2_ball_costs_something_even_where_squares_underflow(clip):
    model = keras.Sequential([keras.Input((1,)), dense(2, [[1e-20, 0.0]], [-1e-20, 0.0])])
    proof = tfcert.certify(model, np.full((1, 1), 2.0, np.float32), np.array([0]), eps=100.0, norm="l2", clip=clip)
    assert not proof.verified.any()


def test_questions_for_another_number_of_samples_are_refused():
    network = from_keras(keras.Sequential([keras.Input((2,)), dense(2, np.eye(2))]))
    ball = LpBall(np.zeros((4, 2), np.float32), 0.1)
    eye = np.broadcast_to(np.eye(2), (4, 2, 2))
    with pytest.raises(ValueError, match="shapes"):
        lower_bounds(network, ball, eye[:2], np.zeros((4, 2)))
    with pytest.raises(ValueError, match="shapes"):
        lower_bounds(network, ball, eye, np.zeros((2, 2)))
    with pytest.raises(ValueError, match="one point for each set"):
        ball.contains(np.zeros((1, 2), np.float32))


def test_a_batch_size_asked_for_is_never_padded_beyond():
    model = keras.Sequential([keras.Input((2,)), dense(2, np.eye(2))])
    seen = []
    ball = LpBall(np.zeros((100, 2), np.float32), 0.1)
    whole = tfcert.bounds(model, ball)
    concat = tf.concat
    tf_repeat, tf.repeat = tf.repeat, lambda t, n, axis: seen.append(n) or concat([t] * n, axis)
    try:
        parts = tfcert.bounds(model, ball, options=BoundOptions(batch_size=25))
    finally:
        tf.repeat = tf_repeat
    assert not seen
    np.testing.assert_array_equal(whole.lower, parts.lower)


def test_weights_that_are_not_finite_and_senseless_arguments_are_refused_by_the_radius_search():
    model = keras.Sequential([keras.Input((2,)), dense(2, np.eye(2))])
    x, y = np.array([[1.0, 0.0]], np.float32), np.array([0])
    for options in ({"tolerance": 0.0}, {"tolerance": -1.0}, {"upper": -1.0}, {"upper": np.full(4, 0.1)}):
        with pytest.raises(ValueError, match="positive"):
            tfcert.certified_radius(model, x, y, **options)
    with pytest.raises(ValueError, match="shape"):
        tfcert.certified_radius(model, x[:, :1], y)
    with pytest.raises(TypeError, match="load_model"):
        tfcert.certify("model.keras", x, y, eps=0.1)
    assert len(tfcert.certified_radius(model, x[:0], y[:0]).radius) == 0
    model.layers[0].kernel.assign([[np.nan, 0], [0, 1]])
    with pytest.raises(ValueError, match="NaN"):
        tfcert.certified_radius(model, x, y)


def test_a_set_does_not_follow_the_buffer_it_was_made_from():
    x = np.zeros((1, 2), np.float32)
    ball = LpBall(x, 0.1)
    x[:] = 5
    assert ball.contains(ball.center).all()
