"""No verdict and no radius rests on a margin that the rounding of the model's own arithmetic may undo."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from unrounded import IGNORED

import tfcert
from tfcert.activations import activation, names
from tfcert.network.cache import network_of
from tfcert.network.graph import Elementwise, Input, Network
from tfcert.propagation.question import target_clauses
from tfcert.rigour.estimate import output_deviations
from tfcert.rigour.margins import MULTIPLE, label_rounding, rounding
from tfcert.sets.region import region_of
from tfcert.verdict import is_proof

L = keras.layers


@pytest.mark.parametrize("as_what", [np.array, tf.constant])
def test_a_margin_proves_where_it_is_finite_and_above_what_rounding_may_take(as_what):
    margins = as_what([1.0, 1.0, 1.0, 0.0, -1.0, math.inf, math.nan, 1.0, 1.0])
    taken = as_what([0.5, 1.0, 2.0, 0.0, 0.0, 0.0, 0.0, math.nan, math.inf])
    assert np.asarray(is_proof(margins, taken)).tolist() == [True] + [False] * 8


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_rounding_of_one_sum_is_that_of_a_random_walk(dtype, rng):
    """``u sqrt(n)`` times the root of the sum of squares of what is added up, of its last value and of the bias."""
    first = keras.Input((5,), dtype=dtype)
    model = keras.Model(first, L.Dense(3, dtype=dtype)(first))
    model.layers[-1].bias.assign(rng.normal(size=3))
    x, kernel, bias = rng.normal(size=(1, 5)).astype(dtype), *model.get_weights()
    squares = (x[0, :, None] * kernel) ** 2
    value = x[0] @ kernel + bias
    deviation = np.finfo(dtype).eps / 2 * np.sqrt(6 * (squares.sum(axis=0) + value**2 + bias**2))
    rows = np.array([[[1.0, -1.0, 0.0], [0.0, 0.0, 3.0]]])
    found = rounding(network_of(model), tfcert.LpBall(x, 0.0), rows)[0]
    expected = MULTIPLE * np.array([np.hypot(deviation[0], deviation[1]), 3 * deviation[2]])
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def dense() -> keras.Model:
    return keras.Sequential(
        [keras.Input((40,)), L.Dense(60, activation="relu"), L.Dense(30, activation="tanh"), L.Dense(4)]
    )


def convolutional() -> keras.Model:
    layers = [L.Conv2D(8, 3, activation="elu"), L.MaxPooling2D(), L.BatchNormalization(), L.Conv2D(6, 3, strides=2)]
    return keras.Sequential([keras.Input((14, 14, 2)), *layers, L.ReLU(), L.Flatten(), L.Dense(4)])


def residual() -> keras.Model:
    first = keras.Input((40,))
    x = L.Dense(40, activation="relu")(first)
    x = L.Concatenate()([L.Add()([x, L.Dense(40, activation="gelu")(x)]), first])
    return keras.Model(first, L.Dense(4)(x))


@pytest.mark.parametrize("build", [dense, convolutional, residual])
@pytest.mark.parametrize("shift", [0.0, 1000.0])
def test_what_float32_loses_is_below_the_estimate_and_not_far_below(build, shift, rng):
    """Against the same network in float64, at random points of balls; large biases that cancel lose more."""
    keras.utils.set_random_seed(3)
    model = build()
    model.layers[-1].bias.assign([shift, -shift, 0.5 * shift, 0.0])
    network = network_of(model)
    x = rng.random((6, *network.input_shape)).astype(np.float32)
    lost = {}
    for norm, eps in (("linf", 0.1), ("l2", 0.5), ("l1", 2.0)):
        ball = tfcert.LpBall(x, eps, norm)
        rows = target_clauses(network, ball, np.zeros(6, int), "all").rows()[0]
        allowed = rounding(network, ball, rows)
        points = ball.sample(20)
        exact, rounded = (
            np.stack([net(tf.constant(p, net.dtype)).numpy().astype(float) for p in points])
            for net in (network.astype(tf.float64), network)
        )
        errors = np.abs(np.einsum("bro,pbo->pbr", rows, rounded - exact)).max(axis=0)
        assert (errors <= allowed).all()
        lost[norm] = float((errors / allowed).max())
    assert min(lost.values()) > 0.01, lost


def test_every_activation_has_an_estimate_far_out_too():
    """A derivative that is not a number there (of a branch that is not taken) would leave every margin unproven."""
    points = np.array([[-80.0, -30.0, -1.0, 0.0, 0.5, 1.0, 30.0, 80.0]], np.float32)
    failed = []
    for name in names():
        try:
            found = activation(name)
        except TypeError:
            continue  # needs parameters of its own
        nodes = (Input(name="input", shape=(8,)), Elementwise(name=name, inputs=(0,), shape=(8,), activation=found))
        network = Network(nodes)
        values, region = network(tf.constant(points)).numpy(), region_of(tfcert.LpBall(points, 0.0))
        deviations = output_deviations(network, region).numpy()
        failed += [name] if (np.isfinite(values) & (np.abs(values) < 1e18) & ~np.isfinite(deviations)).any() else []
    assert not failed


def absorbing(dtype: str) -> tuple[keras.Model, np.ndarray]:
    """``2^24 + 0.5`` and ``2^24`` at x = 0: float32 has no number within 1 above either."""
    first = keras.Input((2,), dtype=dtype)
    model = keras.Model(first, L.Dense(2, dtype=dtype)(L.Dense(2, dtype=dtype)(first)))
    model.set_weights([np.eye(2), np.full(2, 2.0**24), np.array([[1.0, 1.0], [0.0, 0.0]]), np.array([0.5, 0.0])])
    return model, np.zeros((1, 2), dtype)


@pytest.mark.parametrize("method", ["ibp", "crown", "milp"])
def test_a_margin_that_the_deployed_type_cannot_tell_is_not_verified(method):
    for dtype, verified in (("float32", False), ("float64", True)):
        model, x = absorbing(dtype)
        rows = np.array([[[1.0, -1.0]]])
        found = tfcert.certify(model, x, [0], eps=1e-3, method=method, options=IGNORED)
        assert found.verified.tolist() == [verified]
        expected = rounding(network_of(model), tfcert.LpBall(x, 1e-3), rows)[0, 0]
        assert found.rounding[0] == pytest.approx(expected, rel=1e-4)
        assert (found.margin[0] > found.rounding[0]) == verified


def in_its_linear_regime(bias: float) -> keras.Model:
    """Two hidden layers of active ReLUs with values about ``bias``, outputs about 1: bounds are tight."""
    rng = np.random.default_rng(0)
    model = keras.Sequential([keras.Input((32,)), *[L.Dense(48, activation="relu") for _ in range(2)], L.Dense(2)])
    kernels = [(rng.normal(size=s) / np.sqrt(s[0])).astype(np.float32) for s in ((32, 48), (48, 48), (48, 2))]
    value, weights = np.full(32, 0.5), []
    for kernel, level in zip(kernels, (bias + 6, bias + 6, 0.0), strict=True):
        offset = (level - value @ kernel.astype(float)).astype(np.float32)
        value, weights = value @ kernel.astype(float) + offset, [*weights, kernel, offset]
    model.set_weights(weights)
    return model


@pytest.mark.parametrize("bias", [1.0, 1e4])
def test_no_point_of_a_certified_radius_is_misclassified_by_rounding(bias):
    """The worst corner and random points around it, in float32: without room for rounding a third was misclassified."""
    model, rng = in_its_linear_regime(bias), np.random.default_rng(1)
    x = rng.random((32, 32)).astype(np.float32)
    outputs = model(x).numpy()
    y = outputs.argmax(axis=1)
    found = tfcert.certified_radius(model, x, y, options=IGNORED)
    some = np.flatnonzero(found.radius > 0)
    assert len(some) >= 24
    again = tfcert.certify(model, x[some], y[some], eps=found.radius[some], options=IGNORED)
    assert (found.margin[some] > again.rounding * (1 - 1e-4)).all()
    ball = tfcert.LpBall(x[some], list(found.radius[some]))
    kernels = model.get_weights()[::2]
    slope = (kernels[0].astype(float) @ kernels[1] @ kernels[2]) @ [1.0, -1.0]
    corner = x[some] - np.where(y[some] == 0, 1, -1)[:, None] * found.radius[some, None] * np.sign(slope)
    for scale in (0.0, 1e-6, 1e-4, 1e-2):
        for _ in range(5):
            noise = scale * found.radius[some, None] * (rng.random(corner.shape) - 0.5)
            inside = ball.project((corner + noise).astype(np.float32))
            assert (model(inside).numpy().argmax(axis=1) == y[some]).all()


@pytest.mark.parametrize("factor", [1e16, 1e22])
def test_a_model_near_overflow_is_not_verified_and_has_no_nan_verdict(factor):
    model = keras.Sequential([keras.Input((2,)), L.Dense(2), L.Dense(2)])
    model.set_weights([factor * np.eye(2), np.zeros(2), np.eye(2), np.zeros(2)])
    x = np.array([[1.0, 0.2]], np.float32)
    found = tfcert.certify(model, x, [0], eps=0.1, options=IGNORED)
    assert found.verified.dtype == bool and found.verified.tolist() == [factor < 1e18]
    assert (tfcert.certified_radius(model, x, [0], options=IGNORED).radius > 0).tolist() == [factor < 1e18]


def narrow_model():
    """Margins of about 1e-7, which the float32 sums of numbers near one may lose."""
    model = keras.Sequential([keras.Input((1,)), L.Dense(2)])
    model.layers[-1].set_weights([np.array([[1.0, 1.0]], "float32"), np.array([1.0 + 2.0**-23, 1.0], "float32")])
    return model


def test_a_lipschitz_radius_and_the_figure_of_training_leave_room_for_rounding():
    """At x = 0 the margin is 1.2e-7, above zero for every input, and within rounding; a bias of 1e-3 is not."""
    model, x, y = narrow_model(), np.zeros((1, 1), "float32"), np.zeros(1, int)
    region, labels = region_of(tfcert.LpBall(x, 1e-6)), tf.one_hot(y, 2)
    assert tfcert.global_lipschitz_radius(model, x, y).radius[0] == 0
    assert label_rounding(network_of(model), region, labels).numpy()[0] > 2.0**-23
    model.layers[-1].bias.assign([1.001, 1.0])
    assert tfcert.global_lipschitz_radius(model, x, y).radius[0] > 0
    assert label_rounding(network_of(model), region, labels).numpy()[0] < 1e-3
