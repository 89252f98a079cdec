"""Passes that are cut to fit the memory: what cuts leave as it is, what fits, and what is refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from methods import GENERAL
from soundness import networks

import tfcert
from tfcert import BoundOptions
from tfcert.catalog import METHODS, propagated
from tfcert.network import from_keras
from tfcert.propagation.ascent import Ascent
from tfcert.propagation.bounds import output_bounds
from tfcert.propagation.preactivation import WHOLE, Passes
from tfcert.sets.balls import LpBall
from tfcert.sets.region import region_of


def residual(pooled=True):
    """Convolutions, a sum and, where ``pooled``, a maximum, over 4 x 4 x 2 inputs, in float64."""
    s = networks.Sketch(np.random.default_rng(0))
    x = s.activate(s.conv(s.input((4, 4, 2)), 3, (3, 3), padding=((1, 1), (1, 1))))
    x = s.activate(s.sum(x, s.conv(x, 3, (1, 1))))
    x = s.max_pool(x, (2, 2), (2, 2), ((0, 0), (0, 0))) if pooled else s.conv(x, 3, (2, 2), strides=(2, 2))
    s.dense(s.activate(s.dense(s.reshape(x, (12,)), 5)), 3)
    return s


def found(network, region, method, passes=WHOLE):
    rows = np.concatenate([np.eye(3), -np.eye(3)])[None]
    asked = tf.constant(rows), tf.zeros([1, 6], tf.float64)
    return output_bounds(network, region, asked, method, None, passes, Ascent(2)).numpy()


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("inputs", [1, 5, 32])
@pytest.mark.parametrize("method", ["forward", "forward+backward"])
def test_planes_over_blocks_of_inputs_bound_as_those_over_all(norm, inputs, method):
    """Catches blocks that are added up wrongly, a last block beyond the inputs, and nodes let go too early."""
    s = residual()
    network, x = s.network(), s.rng.uniform(0, 1, (2, 4, 4, 2))
    region = region_of(LpBall(x, [0.05, 0.3], norm))
    whole, cut = found(network, region, method), found(network, region, method, Passes(inputs=inputs))
    np.testing.assert_allclose(cut, whole, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_blocks_over_a_clipped_ball_take_the_better_of_ball_and_box(norm):
    """They lie between what the ball alone gives and what one block finds by a multiplier, and below all values."""
    s = residual()
    network, x = s.network(), s.rng.uniform(0, 0.1, (2, 4, 4, 2))
    clipped, ball = (region_of(LpBall(x, 0.3, norm, clip)) for clip in ((0, 1), None))
    cut, whole = found(network, clipped, "forward", Passes(inputs=7)), found(network, clipped, "forward")
    assert found(network, ball, "forward", Passes(inputs=7)).sum() + 0.1 < cut.sum() < whole.sum()
    steps = s.rng.normal(size=(500, 1, 4, 4, 2)) * s.rng.integers(0, 2, (500, 1, 4, 4, 2))
    length = np.sum(np.abs(steps) ** (2 if norm == "l2" else 1), axis=(2, 3, 4), keepdims=True)
    points = np.clip(x + 0.3 * steps / np.maximum(length ** (0.5 if norm == "l2" else 1), 1e-9), 0, 1)
    values = network(tf.constant(points.reshape(-1, 4, 4, 2))).numpy().reshape(500, 2, 3)
    assert np.all(np.concatenate([values, -values], axis=2) >= cut)


@pytest.mark.parametrize("method", [m for m in propagated() if m != "alpha-crown"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_rows_and_layers_that_are_cut_keep_their_bounds(method, norm):
    s = residual(pooled=method in GENERAL)
    network, x = s.network(), s.rng.uniform(0, 1, (2, 4, 4, 2))
    region = region_of(LpBall(x, 0.1, norm))
    parts = {i: (slice(0, 1), slice(1, 3), slice(3, None)) for i in network.bounded()}
    cut = found(network, region, method, Passes(parts, rows=4))
    np.testing.assert_allclose(cut, found(network, region, method), rtol=1e-10, atol=1e-10)


def test_alpha_crown_climbs_for_some_rows_at_a_time():
    s = residual()
    network, region = s.network(), region_of(LpBall(s.rng.uniform(0, 1, (2, 4, 4, 2)), 0.1))
    cut, start = found(network, region, "alpha-crown", Passes(rows=2)), found(network, region, "crown")
    assert cut.shape == (2, 6) and np.all(cut >= start - 1e-9) and np.any(cut > start + 1e-6)


@pytest.mark.parametrize("method", propagated())
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_what_cannot_be_cut_to_fit_is_refused_with_the_number(method, norm):
    """Every method that propagates keeps ``memory_mb`` or says how much it needs; half of that is refused too."""
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(5, activation="relu"), keras.layers.Dense(3)])
    network, x = from_keras(model), np.zeros((1, 6), np.float32)
    tight, message = BoundOptions(memory_mb=1e-5), r"may take [\d.e,-]+ MiB, and memory_mb is 1e-05: give BoundOptions"
    with pytest.raises(ValueError, match=message) as refused:
        tfcert.bounds(model, LpBall(x, 0.1, norm), method=method, options=tight)
    needed = float(str(refused.value).partition("may take ")[2].partition(" MiB")[0].replace(",", ""))
    plan = METHODS.load(method).plan
    with pytest.raises(ValueError):
        plan(network, 3, needed / 2, norm == "linf")
    assert plan(network, 3, 1024, norm == "linf").samples > 1


def test_the_planes_of_a_large_network_are_cut():
    """332,248 neurons over 12,288 inputs: 15.5 GiB where all inputs are taken at once (CNN-Cert's Tiny ImageNet)."""
    s = networks.Sketch(np.random.default_rng(0))
    x = s.activate(s.conv(s.activate(s.conv(s.input((64, 64, 3)), 32, (3, 3))), 32, (3, 3)))
    s.dense(s.reshape(x, (60 * 60 * 32,)), 2)
    plan = METHODS.load("forward").plan(s.network(), 2, 1024, True)
    assert plan.samples == 1 and plan.inputs is not None
    assert 2 * plan.inputs * 62 * 62 * 32 * 8 * 8 <= 1024 * 2**20 < 2 * (plan.inputs + 1) * 62 * 62 * 32 * 8 * 8
