"""Differences of related networks as nodes: what they compute, which networks have them, and rows over them."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L
from related_networks import AGREEING, APART, BUILDS, SAME, dense, near, pooled, together

from tfcert.network import from_keras
from tfcert.network.difference import Difference
from tfcert.network.graph import Add
from tfcert.network.joint import Applied, joint
from tfcert.network.related import related
from tfcert.propagation.interval import intervals
from tfcert.sets.balls import Box
from tfcert.sets.region import region_of


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("places", [SAME, APART, AGREEING], ids=["same", "apart", "agreeing"])
@pytest.mark.parametrize("perturbed", [True, False])
def test_the_differences_are_those_of_the_outputs_and_the_nodes_stay(build, places, perturbed, seed, rng):
    one = BUILDS[build]()
    whole = together(one, near(one) if perturbed else one, places, [0])
    pairs = related(whole)
    if places is SAME and not perturbed:
        assert pairs is None  # one node: there is no difference
        return
    x = tf.constant(rng.normal(size=(20, *whole.input_shape)), tf.float64)
    wide = related(whole.astype(tf.float64)).network
    assert pairs.network.nodes[: len(whole.nodes)] == whole.nodes
    values, outputs = wide(x).numpy(), whole.astype(tf.float64)(x).numpy()
    size = (outputs.shape[1] - 1) // 2
    np.testing.assert_allclose(values[:, : 2 * size + 1], outputs, atol=1e-12)
    np.testing.assert_allclose(values[:, 2 * size + 1 :], outputs[:, :size] - outputs[:, size : 2 * size], atol=1e-12)
    # Node by node: what a difference is told of its arguments' distance is that.
    nodes = wide.values(x)
    for node in wide.nodes:
        if isinstance(node, Difference):
            d, *_, a, b = (nodes[i].numpy() for i in node.inputs)
            np.testing.assert_allclose(d, a - b, atol=1e-12)
    count = sum(isinstance(node, Difference) for node in wide.nodes)
    assert count == sum("lu" in str(a) or "tanh" in str(a) for a in activations(one))


def activations(model):
    found = [getattr(layer, "activation", None) for layer in model.layers]
    return [a.__name__ for a in found if a is not None]


def test_weights_stay_live(seed, rng):
    one, other = dense(), dense()
    whole = together(one, other)
    wide = related(whole).network
    other.set_weights(near(one, seed=3).get_weights())
    x = tf.constant(rng.normal(size=(5, 3)).astype(np.float32))
    np.testing.assert_allclose(wide(x)[:, 4:], one(x) - other(x), atol=1e-6)
    assert float(tf.reduce_max(tf.abs(wide(x)[:, 4:]))) < 0.1


def test_equal_weights_in_two_models_differ_by_exactly_nothing(seed, rng):
    one = dense()
    wide = related(together(one, near(one, 0.0))).network
    assert (wide(tf.constant(rng.normal(size=(9, 3)).astype(np.float32)))[:, 4:].numpy() == 0).all()


@pytest.mark.parametrize(
    "other",
    [
        lambda: dense((7, 4)),
        lambda: dense((6,)),
        lambda: dense(activation="tanh"),
        lambda: keras.Sequential([keras.Input((3,)), L.Dense(2)]),
        lambda: dense(outputs=3),
    ],
    ids=["widths", "depths", "functions", "linear", "outputs"],
)
def test_networks_that_do_not_correspond_have_no_differences(seed, other):
    assert related(together(dense(), other())) is None


def test_one_network_has_none_and_neither_have_linear_ones(seed):
    linear = keras.Sequential([keras.Input((3,)), L.Dense(2)])
    assert related(from_keras(dense())) is None
    assert related(together(linear, linear, APART)) is None


def test_layers_that_correspond_to_none_begin_their_differences_anew(seed, rng):
    """Behind a maximum nothing is known of a difference but both values: rows there are stacked."""
    one = pooled()
    assert related(together(one, near(one))) is None


def test_an_activation_with_weights_of_its_own_differs(seed):
    def model():
        return keras.Sequential([keras.Input((3,)), L.Dense(4), L.PReLU(alpha_initializer="random_normal"), L.Dense(1)])

    one = model()
    assert related(together(one, near(one))) is None
    assert related(together(one, one, APART)) is not None


def test_images_of_two_points_differ_by_those_of_the_points(seed, rng):
    x = keras.Input((4, 4, 1))
    model = keras.Model(x, L.Dense(2)(L.Flatten()(L.Conv2D(2, 3, activation="relu")(x))))
    network, place = from_keras(model), np.arange(16).reshape(4, 4, 1)
    other = np.where(place == 5, 16, place)  # one pixel apart
    whole = joint([Applied(network, place), Applied(network, other)], 17)
    z = tf.constant(rng.normal(size=(6, 17)).astype(np.float32))
    wide = related(whole).network
    np.testing.assert_allclose(wide(z)[:, 4:], whole(z)[:, :2] - whole(z)[:, 2:], atol=1e-6)
    assert sum(isinstance(node, Difference) for node in wide.nodes) == 1


def test_of_three_networks_each_two_differ(seed, rng):
    models = [dense(outputs=1)]
    models += [near(models[0], seed=k) for k in (1, 2)]
    whole = joint([Applied(from_keras(m), np.arange(3)) for m in models], 3)
    pairs = related(whole)
    assert [pair[:2] for pair in pairs.pairs] == [(0, 1), (0, 2), (1, 2)]
    x = tf.constant(rng.normal(size=(6, 3)).astype(np.float32))
    y = whole(x).numpy()
    np.testing.assert_allclose(pairs.network(x)[:, 3:], y[:, [0, 0, 1]] - y[:, [1, 2, 2]], atol=1e-6)


def test_rows_are_the_same_over_differences(seed, rng):
    models = [dense(), near(dense()), near(dense(), seed=2)]
    whole = joint([Applied(from_keras(m), np.arange(3)) for m in models], 3, [1]).astype(tf.float64)
    pairs = related(whole)
    rows = np.concatenate([rng.normal(size=(2, 20, 7)), rng.choice([-2.0, -1, 0, 1, 2], (2, 30, 7))], axis=1)
    x = tf.constant(rng.normal(size=(9, 3)))
    for form in (pairs.plain, pairs.matched):
        wide = form(tf.constant(rows)).numpy()
        assert wide.shape == (2, 50, 7 + 6)
        np.testing.assert_allclose(wide @ pairs.network(x).numpy().T, rows @ whole(x).numpy().T, atol=1e-10)
    difference = np.array([[1.0, 0, -1, 0, 0, 0, 0], [0, 2, 0, -3, 0, 0, 0.5], [1, 0, 1, 0, 0, 0, 0]])
    matched = pairs.matched(tf.constant(difference)).numpy()
    np.testing.assert_array_equal(matched[0], [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(matched[1], [0, 0, 0, -1, 0, 0, 0.5, 0, 2, 0, 0, 0, 0])
    np.testing.assert_array_equal(matched[2, :7], difference[2])
    assert [pairs.concerns(row[None]) for row in difference] == [True, True, False]


def test_numbers_that_points_share_are_left_out_of_their_distance(seed):
    """Subtracted, an interval is not zero: bounds must see that a shared number differs by nothing."""
    one = dense()
    wide = related(together(one, one, AGREEING)).network
    box = Box(np.full((1, 4), -1, np.float32), np.ones((1, 4), np.float32))
    ranges = intervals(wide, region_of(box), {})
    (distance,) = (i for i, node in enumerate(wide.nodes) if isinstance(node, Add) and node.shape == (3,))
    np.testing.assert_array_equal(ranges[distance][0], [[0, -2, 0]])
    np.testing.assert_array_equal(ranges[distance][1], [[0, 2, 0]])
