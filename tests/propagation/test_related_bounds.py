"""Bounds of related networks by their differences: sound, never looser than stacked ones, and tight."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import tensorflow as tf
from methods import GENERAL
from related_networks import APART, BUILDS, SAME, dense, near, pooled, together
from sweeps import sweep_but
from unrounded import IGNORED

from tfcert.network import from_keras
from tfcert.network.joint import Applied, joint
from tfcert.propagation import engine, preactivation
from tfcert.sets.balls import Box, LpBall

pytestmark = pytest.mark.usefixtures("eager")
QUICK = replace(IGNORED, iterations=3)
joint_bounds, lower_bounds = (partial(bounds, options=IGNORED) for bounds in (engine.joint_bounds, engine.lower_bounds))
CASES = {
    "perturbed": lambda: together(one := dense(), near(one), shown=[0]),
    "apart": lambda: together(one := dense(), one, APART),
    "agreeing": lambda: together(one := dense(), one, ([0, 1, 2], [0, 3, 2])),
    "perturbed and apart": lambda: together(one := dense(activation="tanh"), near(one), APART),
    "residual": lambda: together(one := BUILDS["residual"](), near(one)),
    "convolutional": lambda: together(one := BUILDS["convolutional"](), near(one)),
    "one neuron": lambda: together(one := BUILDS["one neuron"](), near(one)),
    "other widths": lambda: together(dense(), dense((7, 4))),
    "pooled": lambda: together(one := pooled(), near(one)),
}


def rows_of(network, size):
    """Rows over both outputs: their differences, one of them alone, both added, and a difference with other factors."""
    eye, none = np.eye(size), np.zeros((size, size))
    parts = [(eye, -eye), (-eye, eye), (eye, none), (none, -eye), (eye, eye), (2 * eye, -0.5 * eye)]
    rows = np.concatenate([np.concatenate(part, axis=1) for part in parts])
    extra = network.output_shape[0] - 2 * size
    return np.concatenate([rows, np.full((len(rows), extra), 0.1)], axis=1)[None]


def boxes(network, rng, radius=0.3):
    center = rng.normal(size=(2, *network.input_shape)).astype(np.float32)
    return Box(center - np.float32(radius), center + np.float32(radius))


def repeated(rows, sets):
    return np.repeat(rows, len(sets), axis=0), np.zeros((len(sets), rows.shape[1]))


EVERY = [(case, method) for case in CASES for method in GENERAL]
KEPT = [
    *(("perturbed", method) for method in GENERAL), ("apart", "alpha-crown"), ("agreeing", "crown"),
    ("perturbed and apart", "crown"), ("residual", "crown"), ("convolutional", "crown"), ("convolutional", "ibp"),
    ("other widths", "crown"), ("pooled", "crown"), ("one neuron", "alpha-crown"),
]  # fmt: skip


@pytest.mark.parametrize(("case", "method"), sweep_but(KEPT, EVERY))
def test_bounds_hold_and_are_never_looser_than_stacked(case, method, seed, rng):
    network = CASES[case]()
    size = network.applied[0]
    sets, rows = boxes(network, rng), rows_of(network, size)
    asked = repeated(rows, sets)
    found = lower_bounds(network, sets, *asked, method=method, options=QUICK)
    stacked = lower_bounds(replace(network, applied=()), sets, *asked, method=method, options=QUICK)
    scale = 1 + np.abs(stacked)
    assert (found >= stacked - 2e-6 * scale).all()
    for points in sets.sample(200):
        values = np.einsum("ro,so->sr", rows[0], network.astype(tf.float64)(tf.constant(points, tf.float64)).numpy())
        assert (found <= values + 2e-5 * scale).all()


CLOSE = [(build, m) for build in ("dense", "tanh", "residual", "convolutional") for m in GENERAL if m != "alpha-crown"]


@pytest.mark.parametrize(("build", "method"), sweep_but([("dense", "ibp"), ("tanh", "crown")], CLOSE))
def test_networks_that_are_close_are_bounded_closely(build, method, seed, rng):
    network = together(one := BUILDS[build](), near(one, 1e-4))
    sets, rows = boxes(network, rng, 0.1), rows_of(network, 2)[:, :4]
    found = lower_bounds(network, sets, *repeated(rows, sets), method=method)
    stacked = lower_bounds(replace(network, applied=()), sets, *repeated(rows, sets), method=method)
    widths = [-(bounds[:, :2] + bounds[:, 2:]) for bounds in (found, stacked)]
    assert (widths[0] < 0.1 * widths[1]).all()


def test_a_search_for_planes_only_helps(seed, rng):
    network = together(one := dense((6, 6, 6)), near(one, 0.03))
    sets, rows = boxes(network, rng), rows_of(network, 2)[:, :4]
    asked = repeated(rows, sets)
    named = lower_bounds(network, sets, *asked)
    searched = lower_bounds(network, sets, *asked, method="alpha-crown", options=replace(IGNORED, iterations=10))
    assert (searched >= named - 1e-6).all() and searched.mean() > named.mean() + 0.01 * np.abs(named.mean())


@pytest.mark.parametrize("norm", ["l2", "l1"])
@pytest.mark.parametrize("method", ["ibp", "crown", "forward"])
def test_balls_of_other_norms(norm, method, seed, rng):
    network = together(one := dense(), near(one))
    sets, rows = LpBall(rng.normal(size=(2, 3)).astype(np.float32), 0.2, norm), rows_of(network, 2)
    asked = repeated(rows, sets)
    found, stacked = (lower_bounds(n, sets, *asked, method=method) for n in (network, replace(network, applied=())))
    assert (found >= stacked - 1e-5).all() and np.abs(found[:, :4]).max() < 0.1 * np.abs(stacked[:, :4]).max()
    for points in sets.sample(200):
        assert (found <= np.einsum("ro,so->sr", rows[0], network(tf.constant(points)).numpy()) + 1e-5).all()


def test_the_neurons_bounds_are_those_of_the_network_itself(seed, rng):
    network = together(one := dense((6, 6, 6)), near(one))
    sets, rows = boxes(network, rng), rows_of(network, 2)
    asked = repeated(rows, sets)
    found, stacked = (joint_bounds(n, sets, *asked)[1] for n in (network, replace(network, applied=())))
    assert list(found) == list(stacked) == list(network.bounded())
    for node, ends in stacked.items():
        for end, ours in zip(ends, found[node], strict=True):
            np.testing.assert_allclose(ours, end, atol=1e-5)


def test_signs_of_a_second_network_follow_from_the_first(seed, rng, monkeypatch):
    """Catches passes for neurons whose sign is known, and bounds by the difference taken with the wrong sign."""
    network = together(one := dense((8, 8, 8, 8)), near(one))
    sets, asked, rows_for = boxes(network, rng, 0.2), rows_of(network, 2), []
    matters = preactivation.matters

    def counted(net, index, *rest):
        found = matters(net, index, *rest)
        rows_for.append((index, int(tf.math.count_nonzero(found))))
        return found

    monkeypatch.setattr(preactivation, "matters", counted)
    layers = joint_bounds(network, sets, *repeated(asked, sets), options=replace(IGNORED, jit=False))[1]
    half = len(network.bounded()) // 2
    first, second = (dict(rows_for).keys() & set(part) for part in (network.bounded()[:half], network.bounded()[half:]))
    passes = dict(rows_for)
    assert sum(passes[i] for i in second) < 0.8 * sum(passes[i] for i in first)
    values = network.values(tf.constant(sets.sample(200).reshape(-1, *network.input_shape)))
    for index, (low, high) in layers.items():
        seen = values[index].numpy().reshape(200, len(sets), -1)
        assert (seen >= low - 1e-5).all() and (seen <= high + 1e-5).all()


def test_rows_without_a_difference_take_the_network_as_it_is(seed, rng, monkeypatch):
    """No node is added for questions about each network by itself."""
    from tfcert.propagation import engine

    network = together(one := dense(), near(one))
    sets = boxes(network, rng)
    seen = []
    bounded = engine.bounded_outputs
    monkeypatch.setattr(
        engine, "bounded_outputs", lambda net, *rest: seen.append(len(net.nodes)) or bounded(net, *rest)
    )
    for row in ([1.0, -1, 0, 0], [1.0, 0, -1, 0]):
        lower_bounds(network, sets, *repeated(np.array([[row]]), sets))
    assert seen[0] == len(network.nodes) < seen[1]


def test_a_compiled_pass_bounds_as_the_others_do(seed, rng):
    network = together(one := dense((4,)), near(one))
    sets, asked = boxes(network, rng), repeated(np.array([[[1.0, 0, -1, 0]]]), boxes(network, rng))
    eager = lower_bounds(network, sets, *asked)
    tf.config.run_functions_eagerly(False)
    compiled = lower_bounds(network, sets, *asked, options=replace(IGNORED, jit=False))
    np.testing.assert_allclose(compiled, eager, atol=1e-6)


def test_a_pass_that_is_cut_to_fit_bounds_as_a_whole_one(seed, rng, monkeypatch):
    from tfcert.propagation import plan

    network = together(one := dense(), near(one))
    sets, rows = boxes(network, rng), rows_of(network, 2)
    asked = repeated(rows, sets)
    whole = lower_bounds(network, sets, *asked)
    monkeypatch.setattr(plan, "COPIES", 500_000)
    cut = lower_bounds(replace(network), sets, *asked, options=replace(IGNORED, memory_mb=256))
    np.testing.assert_allclose(cut, whole, atol=1e-6)


def test_outputs_of_one_after_another_differ_by_what_enters(seed, rng):
    """``g(f(a)) - g(f(b))`` for points that agree in two of three numbers."""
    f, g = from_keras(dense(outputs=3)), from_keras(dense())
    places = [np.array([0, 1, 2]), np.array([0, 1, 3])]
    network = joint([Applied(f, places[0]), Applied(f, places[1]), Applied(g, 0), Applied(g, 1)], 4)
    center = rng.normal(size=(1, 4)).astype(np.float32)
    center[:, 3] = center[:, 2]
    radius = np.array([0.3, 0.3, 1e-3, 1e-3], np.float32)
    sets, row = Box(center - radius, center + radius), np.zeros((1, 1, 10))
    row[0, 0, [6, 8]] = 1, -1
    found, stacked = (lower_bounds(n, sets, row, np.zeros((1, 1))) for n in (network, replace(network, applied=())))
    assert abs(float(found[0, 0])) < 0.1 * abs(float(stacked[0, 0]))
    values = network(tf.constant(sets.sample(500)[:, 0])).numpy() @ row[0, 0]
    assert float(found[0, 0]) <= values.min() + 1e-6


def test_same_place_needs_no_difference(seed, rng):
    network = together(one := dense(), one, SAME)
    sets = boxes(network, rng)
    asked = repeated(np.array([[[1.0, 0, -1, 0]]]), sets)
    np.testing.assert_allclose(lower_bounds(network, sets, *asked, method="ibp"), 0, atol=1e-6)
