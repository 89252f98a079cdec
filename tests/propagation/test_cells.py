"""Bounds over reachable cells hold every combination of cells, lose nothing to copies, and are exact in one cell."""

import functools
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L

import tfcert
from tfcert.layers import IntervalAbstraction
from tfcert.network.cache import network_of
from tfcert.options import BoundOptions
from tfcert.propagation.centered import sweep
from tfcert.sets.balls import ORDER, Box, LpBall
from tfcert.sets.region import region_of

pytestmark = pytest.mark.usefixtures("eager")
METHODS = ("ibp", "forward", "forward+backward", "crown-ibp", "crown", "alpha-crown")
FEW = BoundOptions(iterations=3)
WIDTH, CELLS = 0.25, 4
KINDS = ("dense", "conv", "rescaled", "normalised", "reshaped", "two readers")


@functools.cache
def model(kind):
    """Two by two pixels (or four numbers) in cells of [0, 1], read in different ways, and a layer with ReLU."""
    keras.utils.set_random_seed(7)
    image = kind not in ("dense", "rescaled")
    inputs = keras.Input((2, 2, 1) if image else (4,))
    x = IntervalAbstraction(WIDTH, (0, 1), name="cells")(inputs)
    match kind:
        case "conv":
            x = L.Conv2D(3, 2, padding="same", activation="relu")(x)
        case "rescaled":
            x = L.Dense(5, activation="relu")(L.Rescaling(2.0, -1.0)(x))
        case "normalised":
            x = L.Conv2D(2, 2, activation="relu")(L.BatchNormalization()(x))
        case "reshaped":
            x = L.Dense(5, activation="relu")(L.Flatten()(L.Reshape((4, 2))(x)))
        case "two readers":
            x = L.Add()([L.Conv2D(3, 1, activation="relu")(x), L.Conv2D(3, 2, padding="same")(x)])
        case _:
            x = L.Dense(5, activation="relu")(x)
    built = keras.Model(inputs, L.Dense(3)(L.Flatten()(x)))
    rng = np.random.default_rng(2)
    for weight in built.weights:
        if "cells" not in weight.path:
            weight.assign(rng.normal(size=weight.shape) ** (2 if "variance" in weight.name else 1))
    return built


@functools.cache
def tail(kind):
    """What follows the cells, of their ends as inputs."""
    whole = model(kind)
    return keras.Model(whole.get_layer("cells").output, whole.output)


def samples(kind, count=4):
    return np.random.default_rng(3).random((count, *model(kind).input_shape[1:])).astype(np.float32)


def ball(x, eps, norm="linf"):
    return LpBall(x, eps, norm, (0.0, 1.0))


def cell(x):
    return np.minimum(np.floor(np.asarray(x, np.float64) / WIDTH), CELLS - 1).astype(int)


def combinations(region, index=0):
    """The middles of every combination of cells that a sample's box reaches."""
    first, last = (cell(end[index].astype(np.float64)).ravel() for end in region.interval())
    choices = [range(a, b + 1) for a, b in zip(first, last, strict=True)]
    return (np.array(list(itertools.product(*choices)), np.float32) + 0.5) * WIDTH


def outputs(kind, middles):
    return model(kind)(middles.reshape(-1, *model(kind).input_shape[1:])).numpy()


@pytest.mark.parametrize(
    ("kind", "method"),
    [(kind, method) for kind in KINDS for method in (METHODS if kind == "conv" else ("ibp", "crown"))],
)
def test_bounds_hold_every_combination_of_reachable_cells(kind, method):
    region = ball(samples(kind), 0.15)
    found = tfcert.bounds(model(kind), region, method=method, options=FEW)
    straddling = 0
    for i in range(len(region)):
        values = outputs(kind, combinations(region, i))
        assert (found.lower[i] <= values.min(axis=0) + 1e-5).all()
        assert (values.max(axis=0) - 1e-5 <= found.upper[i]).all()
        straddling += len(values) > 1
    assert straddling == len(region)


@pytest.mark.parametrize("kind", KINDS)
def test_bounds_are_never_looser_than_with_the_two_ends_in_boxes_of_their_own(kind):
    region = ball(samples(kind), 0.15)
    ends = [model(kind).get_layer("cells")(end).numpy() for end in region.interval()]
    boxed = tfcert.bounds(tail(kind), Box(*ends), method="ibp")
    found = tfcert.bounds(model(kind), region, method="ibp")
    assert (found.lower >= boxed.lower - 1e-5).all() and (found.upper <= boxed.upper + 1e-5).all()
    gained = (boxed.upper - boxed.lower) - (found.upper - found.lower)
    assert gained.max() > 0.01


@pytest.mark.parametrize(
    ("kind", "method"), [("conv", "ibp"), ("conv", "alpha-crown"), ("two readers", "ibp"), ("two readers", "crown")]
)
def test_bounds_are_the_outputs_where_one_cell_is_reachable(kind, method):
    x = (cell(samples(kind)) + 0.5).astype(np.float32) * WIDTH
    found = tfcert.bounds(model(kind), ball(x, 0.124), method=method, options=FEW)
    exact = model(kind)(x).numpy()
    np.testing.assert_allclose(found.lower, exact, atol=2e-5)
    np.testing.assert_allclose(found.upper, exact, atol=2e-5)
    wider = tfcert.bounds(model(kind), ball(x, 0.126), method=method, options=FEW)
    assert (wider.upper - wider.lower).min() > 1e-3


@pytest.mark.parametrize("method", METHODS)
def test_a_linear_classifier_of_the_ends_is_bounded_exactly(method):
    keras.utils.set_random_seed(0)
    linear = keras.Sequential([keras.Input((3,)), IntervalAbstraction(WIDTH, (0, 1)), L.Dense(3)])
    x = np.random.default_rng(1).random((5, 3)).astype(np.float32)
    region = ball(x, 0.3)
    found = tfcert.bounds(linear, region, method=method, options=FEW)
    for i in range(5):
        values = linear(combinations(region, i)).numpy()
        np.testing.assert_allclose(found.lower[i], values.min(axis=0), atol=1e-5)
        np.testing.assert_allclose(found.upper[i], values.max(axis=0), atol=1e-5)


def test_a_border_of_the_ball_that_is_an_edge_reaches_the_cell_above_and_just_below_it_does_not():
    keras.utils.set_random_seed(0)
    linear = keras.Sequential([keras.Input((1,)), IntervalAbstraction(WIDTH, (0, 1)), L.Dense(1, use_bias=False)])
    linear.layers[1].kernel.assign([[1.0], [0.0]])  # the lower end
    for lower, upper, expected in (
        (0.3, 0.5, (0.25, 0.5)),
        (0.3, np.nextafter(np.float32(0.5), np.float32(0)), (0.25, 0.25)),
        (0.25, 0.3, (0.25, 0.25)),
        (np.nextafter(np.float32(0.25), np.float32(0)), 0.3, (0.0, 0.25)),
        (-7.0, 9.0, (0.0, 0.75)),
    ):
        box = Box(np.float32([[lower]]), np.float32([[upper]]))
        found = tfcert.bounds(linear, box, method="ibp")
        assert (found.lower[0, 0], found.upper[0, 0]) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("norm", ["l2", "l1"])
@pytest.mark.parametrize("method", ["ibp", "crown"])
def test_bounds_over_other_balls_hold_what_is_sampled_from_them(norm, method):
    kind = "dense"
    region = LpBall(samples(kind), 0.3, norm, (0.0, 1.0))
    found = tfcert.bounds(model(kind), region, method=method)
    for seed in range(30):
        x = region.sample(1, seed)[0]
        distance = np.linalg.norm((x - region.x).reshape(len(x), -1), ORDER[norm], axis=1)
        assert (distance <= 0.3 * (1 + 1e-5)).all()
        values = model(kind)(x).numpy()
        assert (found.lower - 1e-5 <= values).all() and (values <= found.upper + 1e-5).all()


@pytest.mark.parametrize("kind", ["dense", "normalised"])
def test_the_sweep_of_training_has_the_bounds_of_the_engine(kind):
    """Where multiplying rows into the last layer, as certification does, gains nothing."""
    network, region = network_of(model(kind)), ball(samples(kind), 0.15)
    low, high = sweep(network, region_of(region)).ranges[-1]
    found = tfcert.bounds(model(kind), region, method="ibp")
    np.testing.assert_allclose(low, found.lower, atol=1e-4)
    np.testing.assert_allclose(high, found.upper, atol=1e-4)


def test_gradients_of_bounds_reach_the_weights_behind_the_cells():
    network, region = network_of(model("conv")), region_of(ball(samples("conv"), 0.15))
    with tf.GradientTape() as tape:
        low, high = sweep(network, region).ranges[-1]
        width = tf.reduce_sum(high - low)
    for weight, gradient in zip(
        model("conv").trainable_weights, tape.gradient(width, model("conv").trainable_weights), strict=True
    ):
        if "bias" not in weight.name:
            assert tf.reduce_max(tf.abs(gradient)) > 0
