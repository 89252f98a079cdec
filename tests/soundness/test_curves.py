"""Powers, roots, quotients, waves and logarithms in networks: every method holds, and gradients are the differences."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from gradients import check_gradients
from keras import ops

from soundness.networks import randomize
from tfcert.network import from_keras
from tfcert.options import BoundOptions
from tfcert.propagation.ascent import Ascent
from tfcert.propagation.bounds import output_bounds
from tfcert.propagation.supported import with_charges
from tfcert.sets.balls import LpBall
from tfcert.sets.region import region_of

pytestmark = pytest.mark.usefixtures("eager")

CURVES = {
    "square": ops.square,
    "cube": lambda x: x**3,
    "root of a square": lambda x: ops.sqrt(ops.square(x) + 0.1),
    "one by a root": lambda x: ops.rsqrt(ops.square(x) + 0.3),
    "quotient": lambda x: x / (ops.square(x) + 1.0),
    "logarithm": lambda x: ops.log(ops.square(x) + 0.5),
    "waves": lambda x: ops.sin(x) + ops.cos(2.0 * x),
    "maximum": lambda x: ops.maximum(x, ops.sin(x)),
    "log softmax": ops.log_softmax,
}
METHODS = ("ibp", "forward", "crown-ibp", "crown", "alpha-crown")


def setting(function, norm):
    """A float64 model of two curved layers, small weights, and a ball around two samples."""
    inputs = keras.Input((3,), dtype="float64")
    x = function(keras.layers.Dense(3, dtype="float64")(inputs))
    x = function(keras.layers.Dense(2, dtype="float64")(x))
    model = keras.Model(inputs, keras.layers.Dense(2, dtype="float64")(x))
    rng = np.random.default_rng(5)
    randomize(model, rng)
    model.set_weights([0.5 * w for w in model.get_weights()])
    return model, LpBall(rng.uniform(-1, 1, (2, 3)), 0.1 if norm == "linf" else 0.2, norm), rng


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("function", CURVES.values(), ids=CURVES)
def test_no_sample_leaves_the_bounds_of_any_method(function, norm):
    model, ball, rng = setting(function, norm)
    network, rows = from_keras(model), np.array([[1.0, -1.0], [-1.0, 0.5]])
    points = np.stack([ball.project(ball.x + rng.uniform(-0.25, 0.25, ball.x.shape)) for _ in range(400)])
    exact = rows.astype(np.longdouble)  # more digits than bounds are charged for
    values = np.einsum("ro,pso->psr", exact, model(points.reshape(-1, 3)).numpy().reshape(400, 2, 2)).min(axis=0)
    given = tf.constant(np.broadcast_to(rows, (2, 2, 2))), tf.zeros([2, 2], tf.float64)
    found = {}
    for method in METHODS:
        ascent = Ascent(iterations=2)
        charged = with_charges(network, method, None, BoundOptions())
        slack = 0.0 if charged.rounding is not None else 1e-9
        found[method] = output_bounds(charged, region_of(ball), given, method, None, ascent=ascent).numpy()
        assert np.isfinite(found[method]).all() and (found[method] <= values + slack).all(), method
    assert (found["alpha-crown"] >= found["crown"] - 1e-9).all() and (found["crown"] >= found["ibp"] - 1e-9).all()


@pytest.mark.parametrize("method", ["ibp", "crown"])
@pytest.mark.parametrize("function", CURVES.values(), ids=CURVES)
def test_gradients_in_the_weights_agree_with_finite_differences(function, method):
    model, ball, rng = setting(function, "linf")
    network, region = from_keras(model), region_of(ball)
    given = tf.constant(np.broadcast_to(np.array([[1.0, -1.0]]), (2, 1, 2))), tf.zeros([2, 1], tf.float64)
    check_gradients(model, lambda: tf.reduce_sum(output_bounds(network, region, given, method, None)), rng)
