"""What separates the methods: which is tighter where, gradients, and the ball taken before its hull."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from gradients import check_gradients
from methods import GENERAL
from soundness import networks

from tfcert.activations import activation
from tfcert.network import Elementwise, Network, from_keras
from tfcert.propagation.ascent import Ascent
from tfcert.propagation.bounds import output_bounds
from tfcert.propagation.interval import tidy
from tfcert.sets.balls import LpBall
from tfcert.sets.region import region_of

METHODS = GENERAL


def lower(network: Network, region, method: str = "crown", relaxation: str | None = None) -> tf.Tensor:
    eye = np.eye(network.output_shape[0])
    rows = tf.constant(np.concatenate([eye, -eye])[None], network.dtype)
    asked = (rows, tf.zeros([1, len(eye) * 2], rows.dtype))
    return output_bounds(network, region, asked, method, relaxation, ascent=Ascent(iterations=2))


@pytest.mark.parametrize(("norm", "order"), [("l2", 2), ("l1", np.inf)])
def test_intervals_take_the_ball_itself_and_not_its_hull(norm, order):
    s = networks.Sketch(np.random.default_rng(0))
    s.dense(s.activate(s.dense(s.dense(s.input((9,)), 5), 4)), 3)
    network, x = s.network(), s.rng.normal(size=(1, 9))
    ball = LpBall(x, 0.1, norm)
    first, second = (network.nodes[i].map.kernel().numpy() for i in (1, 2))
    center = network.values(tf.constant(x))[2].numpy()[0]
    reach = 0.1 * np.linalg.norm(first @ second, order, axis=0)
    low, high = np.maximum(center - reach, 0), np.maximum(center + reach, 0)
    kernel, bias = network.nodes[4].map.kernel().numpy(), network.nodes[4].bias().numpy()
    exact = np.minimum(kernel * low[:, None], kernel * high[:, None]).sum(axis=0) + bias
    np.testing.assert_allclose(lower(network, region_of(ball), "ibp").numpy()[0, :3], exact, atol=1e-12)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_a_clip_that_cuts_the_ball_tightens_every_method(norm):
    s = networks.block_sketch(networks.conv_block, 3)
    network, x = s.network(), s.rng.uniform(0, 0.1, (1, 4, 4, 2))
    for method in METHODS:
        whole, cut = (lower(network, region_of(LpBall(x, 0.5, norm, clip)), method) for clip in (None, (0, 1)))
        assert np.sum(cut) > np.sum(whole) + 1e-6


def test_a_residual_sum_of_a_value_and_its_negative_is_zero_backward_and_not_by_intervals():
    s = networks.Sketch(np.random.default_rng(0))
    x = s.activate(s.dense(s.input((3,)), 4))
    s.dense(s.activate(s.sum(x, s.scale(x, np.full(1, -1, np.float32), None))), 3, bias=False)
    network, region = s.network(), region_of(LpBall(np.zeros((1, 3)), 1.0))
    np.testing.assert_allclose(lower(network, region, "crown"), 0, atol=1e-12)
    assert np.all(lower(network, region, "ibp").numpy() < -0.01)


def test_crown_bounds_enclose_less_than_interval_bounds_on_deep_networks():
    for seed in (2, 5, 11):
        s = networks.seeded_sketch(seed)
        region = region_of(LpBall(s.rng.uniform(0, 1, (2, *s.shapes[0])), 0.02))
        network = s.network()
        assert np.sum(lower(network, region, "crown")) >= np.sum(lower(network, region, "ibp")) - 1e-9


HEADS = {"sigmoid": (0, 1), "tanh": (-1, 1), "clip": (-1, 1), None: (-np.inf, np.inf)}


def bend(s: networks.Sketch, source: int, name: str) -> None:
    act, shape = activation(name), s.shapes[source]
    s.add(name, shape, lambda _: Elementwise(name=name, inputs=(source,), shape=shape, activation=act))


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_nothing_is_looser_than_intervals_or_leaves_the_range_of_the_last_function(head, norm):
    s = networks.Sketch(np.random.default_rng(3))
    last = s.dense(s.activate(s.dense(s.activate(s.dense(s.input((5,)), 8)), 8)), 3)
    if head:
        bend(s, last, head)
    network, x = s.network(), s.rng.normal(size=(3, 5))
    eye = np.eye(3)
    rows = tf.constant(np.concatenate([eye, -eye, eye - np.roll(eye, 1, axis=1)])[None])
    low, high = HEADS[head]
    region, asked = region_of(LpBall(x, [0.3, 1.0, 3.0], norm)), (rows, tf.zeros([1, 9], rows.dtype))
    found = {method: output_bounds(network, region, asked, method, ascent=Ascent(2)).numpy() for method in METHODS}
    for method, bounds in found.items():
        assert np.all(bounds >= found["ibp"] - 1e-12), method
        assert np.all(bounds[:, :3] >= low - 1e-12) and np.all(-bounds[:, 3:6] <= high + 1e-12), method


@pytest.mark.parametrize("method", ["ibp", "crown", "forward"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_gradients_in_the_weights_agree_with_finite_differences(method, norm):
    layers, options = keras.layers, {"dtype": "float64"}
    inputs = keras.Input((4, 4, 1), **options)
    x = layers.Conv2D(2, 3, activation="relu", padding="same", **options)(inputs)
    x = layers.BatchNormalization(**options)(x)
    x = layers.ReLU(**options)(layers.Add(**options)([x, layers.Conv2D(2, 1, **options)(x)]))
    x = layers.MaxPooling2D(2, **options)(x)
    model = keras.Model(inputs, layers.Dense(2, **options)(layers.Flatten(**options)(x)))
    rng = np.random.default_rng(0)
    networks.randomize(model, rng)
    network = from_keras(model)
    region = region_of(LpBall(rng.uniform(0, 1, (2, 4, 4, 1)), 0.05, norm, (0, 1)))
    weights = tf.constant(rng.normal(size=(2, 4)))

    def objective() -> tf.Tensor:
        return tf.reduce_sum(weights * lower(network, region, method))

    check_gradients(model, objective, rng)


def test_unknown_bounds_become_infinite_and_crossed_ones_their_hull():
    low, high = tidy(tf.constant([np.nan, 2.0, 1.0]), tf.constant([1.0, 1.0, np.nan]))
    np.testing.assert_array_equal(low, [-np.inf, 1, 1])
    np.testing.assert_array_equal(high, [1, 2, np.inf])
