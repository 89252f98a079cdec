"""Recurrent networks: no sequence leaves the bounds, what is affine is exact, and gradients reach every weight."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from gradients import check_gradients
from keras import layers as L
from methods import GENERAL
from sweeps import sweep_but

from soundness import networks, regions
from soundness.test_products import assert_sound
from soundness.test_sampling import bounds_of
from tfcert.network import from_keras
from tfcert.propagation.bounds import output_bounds
from tfcert.sets.balls import LpBall
from tfcert.sets.region import region_of

CELLS = {
    "simple": lambda: L.SimpleRNN(3, dtype="float64"),
    "lstm": lambda: L.LSTM(2, dtype="float64"),
    "gru": lambda: L.GRU(2, dtype="float64"),
    "gru reset before": lambda: L.GRU(2, reset_after=False, dtype="float64"),
    "both ways, multiplied": lambda: L.Bidirectional(L.SimpleRNN(2, dtype="float64"), "mul", dtype="float64"),
}


ONE_EACH = [
    *(("gru", method) for method in GENERAL),
    ("simple", "crown"), ("lstm", "crown"), ("lstm", "forward"), ("gru reset before", "crown-ibp"),
    ("both ways, multiplied", "crown"),
]  # fmt: skip


def sequence_model(*made, shape=(2, 2), seed=0):
    """A float64 model with weights that leave no gate saturated and none idle."""
    inputs = keras.Input(shape, dtype="float64")
    output = inputs
    for layer in made:
        output = layer(output)
    model, rng = keras.Model(inputs, output), np.random.default_rng(seed)
    for weight in model.weights:
        weight.assign(rng.normal(size=weight.shape) * 0.8)
    return model


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize(("cell", "method"), sweep_but(ONE_EACH, [(c, m) for c in CELLS for m in GENERAL]))
def test_no_sequence_leaves_the_bounds(cell, method):
    network = from_keras(sequence_model(CELLS[cell](), L.Dense(2, dtype="float64")))
    pick, rng = networks.seeded(GENERAL.index(method))
    region = regions.perturbation(pick, rng, network.input_shape).astype(np.float64)
    assert_sound(network, region, method, rng)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_a_recurrence_without_an_activation_is_affine_and_bounded_exactly(norm, rng):
    model = sequence_model(
        L.SimpleRNN(3, activation=None, return_sequences=True, dtype="float64"),
        L.SimpleRNN(2, activation=None, go_backwards=True, dtype="float64"),
        shape=(4, 2),
    )
    network = from_keras(model)
    x, rows = rng.normal(size=(2, 4, 2)), np.broadcast_to(rng.normal(size=(1, 3, 2)), (2, 3, 2))
    with tf.GradientTape() as tape:
        given = tf.constant(x)
        tape.watch(given)
        value = tf.einsum("sro,so->sr", rows, model(given))
    slopes = tape.jacobian(value, given).numpy()[np.arange(2), :, np.arange(2)].reshape(2, 3, 8)
    order = {"linf": 1, "l2": 2, "l1": np.inf}[norm]
    exact = value.numpy() - 0.3 * np.linalg.norm(slopes, ord=order, axis=2)
    for method in ("crown", "crown-ibp", "forward"):
        asked = (tf.constant(rows), tf.zeros([2, 3], tf.float64))
        found = output_bounds(network, region_of(LpBall(x, 0.3, norm)), asked, method).numpy()
        np.testing.assert_allclose(found, exact, rtol=0, atol=1e-12)


@pytest.mark.usefixtures("eager")
def test_one_step_is_bounded_as_the_dense_layers_that_it_is(rng):
    step = L.SimpleRNN(4, dtype="float64")
    recurrent = sequence_model(step, L.Dense(3, dtype="float64"), shape=(1, 5))
    inputs = keras.Input((1, 5), dtype="float64")
    hidden = L.Dense(4, "tanh", dtype="float64")
    last = L.Dense(3, dtype="float64")
    dense = keras.Model(inputs, last(hidden(L.Flatten(dtype="float64")(inputs))))
    hidden.set_weights([step.get_weights()[0], step.get_weights()[2]])
    last.set_weights(recurrent.layers[-1].get_weights())
    region = LpBall(rng.normal(size=(2, 1, 5)), 0.2)
    rows = np.broadcast_to(np.eye(3), (2, 3, 3))
    for method in ("ibp", "crown", "forward"):
        found = [bounds_of(from_keras(model), region, rows, method, "crown") for model in (recurrent, dense)]
        np.testing.assert_allclose(*found, rtol=0, atol=1e-12)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("method", ["ibp", "crown-ibp"])
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_a_gradient_reaches_every_weight_of_a_cell(cell, method, rng):
    model = sequence_model(CELLS[cell](), L.Dense(2, dtype="float64"))
    network, region = from_keras(model), region_of(LpBall(rng.normal(size=(2, 2, 2)), 0.1))
    asked = (tf.constant([[[1.0, -1.0]]], tf.float64), tf.zeros([1, 1], tf.float64))
    check_gradients(model, lambda: tf.reduce_sum(output_bounds(network, region, asked, method)), rng)


@pytest.mark.usefixtures("eager")
def test_the_gradient_at_a_sequence_that_is_not_perturbed_is_finite(rng):
    model = sequence_model(CELLS["gru"](), L.Dense(2, dtype="float64"))
    network, region = from_keras(model), region_of(LpBall(rng.normal(size=(1, 2, 2)), 0.0))
    asked = (tf.constant([[[1.0, -1.0]]], tf.float64), tf.zeros([1, 1], tf.float64))
    with tf.GradientTape() as tape:
        bound = tf.reduce_sum(output_bounds(network, region, asked, "crown-ibp"))
    for gradient in tape.gradient(bound, [v.value for v in model.trainable_variables]):
        assert np.isfinite(gradient).all()
