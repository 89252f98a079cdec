"""Lines and planes that replace ReLU, LeakyReLU and maxima lie on the right side of them."""

import numpy as np
import pytest
import tensorflow as tf
from soundness import networks

from tfcert.activations import activation, image, lines
from tfcert.propagation.interval import tidy
from tfcert.propagation.pooling import pool_lines


@pytest.mark.parametrize("relaxation", ["fastlin", "crown", "cnncert", "deepcert", "adaptive"])
@pytest.mark.parametrize("slope", [0.0, 0.01, 0.9])
def test_lines_enclose_the_activation_and_touch_it(relaxation, slope):
    act = activation("leaky_relu", negative_slope=slope)
    rng = np.random.default_rng(0)
    ends = np.sort(np.concatenate([rng.normal(size=(40, 2)), [[0, 0], [0, 1], [-1, 0], [-1, 1], [2, 2]]]), axis=1)
    low, high = tf.constant(ends[:, 0]), tf.constant(ends[:, 1])
    found = lines(act, act.slopes(relaxation, low, high), low, high)
    x = ends[:, :1] + (ends[:, 1:] - ends[:, :1]) * np.linspace(0, 1, 201)
    x = np.concatenate([x, np.clip(0.0, ends[:, :1], ends[:, 1:])], axis=1)
    value = np.maximum(x, slope * x)
    below = found.lower_slope.numpy()[:, None] * x + found.lower_intercept.numpy()[:, None]
    above = found.upper_slope.numpy()[:, None] * x + found.upper_intercept.numpy()[:, None]
    assert np.all(below <= value + 1e-12)
    assert np.all(above >= value - 1e-12)
    assert np.allclose((value - below).min(axis=1), 0)
    assert np.allclose((above - value).min(axis=1), 0)
    flat = image(act, low, high)
    assert np.allclose(flat[0], value.min(axis=1))
    assert np.allclose(flat[1], value.max(axis=1))


def test_crown_takes_the_longer_side_below_and_the_chord_above():
    act = activation("relu")
    low, high = tf.constant([-1.0, -3.0, 1.0, -2.0]), tf.constant([3.0, 1.0, 2.0, -1.0])
    found = lines(act, act.slopes("crown", low, high), low, high)
    np.testing.assert_allclose(found.lower_slope, [1, 0, 1, 0])
    np.testing.assert_allclose(found.upper_slope, [0.75, 0.25, 1, 0])
    np.testing.assert_allclose(found.upper_intercept, [0.75, 0.75, 0, 0])
    np.testing.assert_allclose(act.slopes("fastlin", low, high)[0], [0.75, 0.25, 1, 0])


@pytest.mark.parametrize("seed", range(6))
def test_planes_enclose_a_maximum_over_its_box(seed):
    pick, rng = networks.seeded(seed)
    s = networks.Sketch(rng)
    s.input((4, 5, 2))
    networks.max_pool_block(s, 0, pick)
    node = s.network().nodes[1]
    low = rng.normal(size=(3, 4, 5, 2))
    width = rng.uniform(0, 1, low.shape) * rng.choice([0, 1e-9, 1], size=low.shape)
    high = low + width
    found = pool_lines(node, tf.constant(low), tf.constant(high))
    corners = [low + width * rng.choice([0, 1], low.shape) for _ in range(40)] + [low, high]
    network = s.network()
    for x in corners + [low + width * rng.random(low.shape) for _ in range(20)]:
        value = network(tf.constant(x)).numpy()
        entries = gathered(node, x)
        below = np.sum(found.lower_weights.numpy() * entries, axis=3)
        above = np.sum(found.upper_weights.numpy() * entries, axis=3) + found.upper_intercept.numpy()
        assert np.all(below <= value + 1e-9)
        assert np.all(above >= value - 1e-9)


def gathered(node, x: np.ndarray) -> np.ndarray:
    """The entries of each window, read by plain loops; 0 outside the image."""
    (height, width, channels), (top, left) = node.shape, (node.padding[0][0], node.padding[1][0])
    out = np.zeros((len(x), height, width, node.window[0] * node.window[1], channels))
    for i, j, a, b in np.ndindex(height, width, *node.window):
        row, column = i * node.strides[0] - top + a, j * node.strides[1] - left + b
        if 0 <= row < x.shape[1] and 0 <= column < x.shape[2]:
            out[:, i, j, a * node.window[1] + b] = x[:, row, column]
    return out


def test_a_maximum_with_one_dominating_entry_is_that_entry():
    s = networks.Sketch(np.random.default_rng(0))
    s.input((2, 2, 1))
    s.max_pool(0, (2, 2), (1, 1), ((0, 0), (0, 0)))
    low = np.array([0.0, 1.0, 5.0, 0.5]).reshape(1, 2, 2, 1)
    found = pool_lines(s.network().nodes[1], tf.constant(low), tf.constant(low + 2))
    for weights in (found.lower_weights, found.upper_weights):
        np.testing.assert_allclose(weights[0, 0, 0, :, 0], [0, 0, 1, 0])
    np.testing.assert_allclose(found.upper_intercept, 0)


def test_unknown_bounds_become_infinite_and_crossed_ones_their_hull():
    low, high = tidy(tf.constant([np.nan, 2.0, 1.0]), tf.constant([1.0, 1.0, np.nan]))
    np.testing.assert_array_equal(low, [-np.inf, 1, 1])
    np.testing.assert_array_equal(high, [1, 2, np.inf])
