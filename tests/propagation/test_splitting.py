"""Bounds over pieces of a region: sound where the signs hold, no worse for splitting, and what they say of a split."""

import functools
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from soundness.networks import randomize
from sweeps import sweep_but

from tfcert.network.cache import network_of
from tfcert.propagation.bounds import output_bounds, pre_activation_bounds
from tfcert.propagation.splitting import AskedRows, Climb, climb, curved_nodes, first_pieces, hinges, split_nodes
from tfcert.sets.balls import LpBall
from tfcert.sets.region import Region, region_of


def small(kind: str, seed: int = 0) -> keras.Model:
    layers = keras.layers
    inputs = keras.Input((4, 4, 2) if kind != "dense" else (5,), dtype="float64")
    if kind == "dense":
        x = layers.Dense(6, activation="relu", dtype="float64")(inputs)
        x = layers.Dense(5, activation=keras.ops.abs, dtype="float64")(x)
    else:
        x = layers.Conv2D(3, 3, padding="same", activation="relu", dtype="float64")(inputs)
        if kind == "residual":
            y = layers.BatchNormalization(dtype="float64")(layers.Conv2D(3, 3, padding="same", dtype="float64")(x))
            x = layers.LeakyReLU(0.1, dtype="float64")(layers.Add(dtype="float64")([x, y]))
        if kind == "pooled":
            x = layers.MaxPooling2D(2, dtype="float64")(x)
        x = layers.Dense(4, activation="relu", dtype="float64")(layers.Flatten(dtype="float64")(x))
    model = keras.Model(inputs, layers.Dense(3, dtype="float64")(x))
    randomize(model, np.random.default_rng(seed))
    return model


KINDS = ("dense", "residual", "pooled")


def setting(kind, norm="linf", eps=0.3, seed=0):
    model = small(kind, seed)
    x = np.random.default_rng(seed).normal(size=(1, *model.input_shape[1:]))
    network, ball = network_of(model, x), LpBall(x, eps, norm)
    bounds = pre_activation_bounds(network, region_of(ball), "crown")
    row = np.random.default_rng(seed + 1).normal(size=(1, 3))
    return network, ball, bounds, (tf.constant(row), tf.constant([0.0], tf.float64))


def bounded(network, ball, row, pieces, steps=20, refresh=False):
    count = pieces.signs[0].shape[0]
    region = region_of(ball)
    sets = region._replace(**{k: tf.repeat(getattr(region, k), count, 0) for k in ("center", "lower", "upper", "eps")})
    low = tf.constant([-1e3], tf.float64)  # never proven, so that all steps are taken
    found = compiled(network, norm(region), refresh)(sets[2:], row[0], row[1] + low, pieces, tf.constant(steps))
    return found._replace(bound=found.bound + 1e3)


def one_row(coefficients, offsets):
    """A row ``[1, outputs]`` with its offset ``[1]``, as a clause."""
    one = tf.ones_like(offsets)[:, None]
    return AskedRows(coefficients[:, None], offsets[:, None], one, one)


def norm(region):
    return region.norm, region.clipped


@functools.cache
def compiled(network, kind, refresh):
    @tf.function(autograph=False, reduce_retracing=True)
    def run(sets, coefficients, offsets, pieces, steps):
        return climb(network, Region(*kind, *sets), one_row(coefficients, offsets), pieces, Climb(steps, 0.05, refresh))

    return run


def dense(*widths):
    """A float64 network of ReLU layers."""
    inputs = x = keras.Input((widths[0],), dtype="float64")
    for width in widths[1:-1]:
        x = keras.layers.Dense(width, "relu", dtype="float64")(x)
    return keras.Model(inputs, keras.layers.Dense(widths[-1], dtype="float64")(x))


def halves(network, pieces, node, neuron):
    """The two pieces on either side of a neuron's kink, as one batch."""
    twice = tf.nest.map_structure(lambda t: tf.repeat(t, 2, 0), pieces)
    signs = [s.numpy() for s in twice.signs]
    for i, sign in enumerate((1.0, -1.0)):
        signs[node][i].flat[neuron] = sign
    return twice._replace(signs=[tf.constant(s) for s in signs])


def open_neurons(network, bounds):
    found = []
    for number, node in enumerate(split_nodes(network)):
        lower, upper = (end.numpy().ravel() for end in bounds[node])
        found += [(number, int(n)) for n in np.flatnonzero((lower < 0) & (upper > 0))]
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_on_the_whole_region_climbing_is_never_below_crown(kind, norm):
    network, ball, bounds, row = setting(kind, norm)
    crown = output_bounds(network, region_of(ball), (row[0][:, None], row[1][:, None]), "crown")[0, 0]
    found = bounded(network, ball, row, first_pieces(network, bounds))
    assert found.bound[0] >= crown - 1e-9
    values = network(tf.constant(ball.sample(500)[:, 0])).numpy() @ row[0].numpy()[0]
    assert values.min() >= found.bound[0] - 1e-9
    assert ball.contains(ball.project(found.point.numpy()))[0]


@pytest.mark.parametrize("refresh", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_no_input_of_a_piece_is_below_its_bound(kind, refresh):
    network, ball, bounds, row = setting(kind)
    points = tf.constant(ball.sample(3000)[:, 0])
    nodes, outputs = network.values(points), network(points).numpy() @ row[0].numpy()[0]
    looked_at = 0
    for node, neuron in open_neurons(network, bounds)[:6]:
        found = bounded(
            network, ball, row, halves(network, first_pieces(network, bounds), node, neuron), refresh=refresh
        )
        z = nodes[split_nodes(network)[node]].numpy().reshape(len(outputs), -1)[:, neuron]
        for bound, inside in zip(found.bound.numpy(), (z >= 0, z <= 0), strict=True):
            if inside.any():
                assert outputs[inside].min() >= bound - 1e-9
                looked_at += 1
    assert looked_at >= 4


def test_splitting_helps_and_costs_no_more_than_climbing_leaves_open():
    """At the top both halves are at least as good as the whole; a hundred steps come within 1e-4 of it."""
    network, ball, bounds, row = setting("dense", eps=0.6)
    whole = bounded(network, ball, row, first_pieces(network, bounds), steps=200)
    gains = []
    for node, neuron in open_neurons(network, bounds):
        parts = bounded(network, ball, row, halves(network, whole.pieces, node, neuron), steps=100)
        assert parts.bound.numpy().min() >= whole.bound[0] - 1e-4
        gains.append(parts.bound.numpy().min() - whole.bound[0])
    assert max(gains) > 1e-3


def test_gaps_are_what_the_relaxation_costs_where_the_bound_is_attained():
    """One hidden layer: the bound plus all gaps is the function's value at the point, once climbing has converged."""
    model = dense(3, 4, 2)
    randomize(model, np.random.default_rng(0))
    x = np.random.default_rng(0).normal(size=(1, 3))
    network, ball = network_of(model, x), LpBall(x, 1.5)
    bounds = pre_activation_bounds(network, region_of(ball), "crown")
    row = (tf.constant([[1.0, -1.0]], tf.float64), tf.constant([0.0], tf.float64))
    found = bounded(network, ball, row, first_pieces(network, bounds), steps=1500)
    value = network(found.point).numpy()[0] @ row[0].numpy()[0]
    assert sum(g.numpy().sum() for g in found.gaps) > 0.05
    assert float(found.bound[0]) + sum(g.numpy().sum() for g in found.gaps) == pytest.approx(value, abs=2e-3)


def test_a_piece_that_is_empty_is_proven():
    """The second layer's neuron is positive wherever the first one's is not, so its negative side is empty there."""
    model = dense(1, 1, 1, 1)
    model.set_weights([np.eye(1), np.zeros(1), np.eye(1), np.array([0.5]), np.eye(1), np.array([-9.0])])
    x = np.zeros((1, 1))
    network, ball = network_of(model, x), LpBall(x, 1.0)
    bounds = {i: (tf.fill([1, 1], tf.constant(-2.0, tf.float64)), tf.fill([1, 1], tf.constant(2.0, tf.float64)))
              for i in network.bounded()}  # fmt: skip
    row = (tf.constant([[1.0]], tf.float64), tf.constant([0.0], tf.float64))
    pieces = halves(network, first_pieces(network, bounds), 1, 0)
    pieces = pieces._replace(signs=[-tf.ones_like(pieces.signs[0]), pieces.signs[1]])
    found = climb(
        network, region_of(ball), one_row(*row), tf.nest.map_structure(lambda t: t[1:], pieces), Climb(5, 0.05, True)
    )
    assert np.isposinf(found.bound.numpy()[0])


def test_hinges_are_split_at_zero_and_every_other_curve_where_it_is_asked_for():
    inputs = keras.Input((3,))
    x = keras.layers.Dense(3, activation="hard_tanh")(inputs)
    x = keras.layers.Dense(3, activation="tanh")(x)
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.ReLU()(keras.layers.Dense(3)(x))))
    network = network_of(model, np.zeros((1, 3), np.float32))
    assert len(hinges(network)) == 1 and len(split_nodes(network)) == 3
    assert curved_nodes(network) == split_nodes(network)[:2]


CURVED = {"sigmoid": "sigmoid", "square": keras.ops.square, "exp": "exponential", "sin": keras.ops.sin}
REFRESHED = [("sigmoid", False), ("sigmoid", True), ("square", True), ("exp", False)]


@pytest.mark.parametrize(("name", "refresh"), sweep_but(REFRESHED, itertools.product(CURVED, [False, True])))
def test_halves_of_a_curve_are_bounded_from_below_and_better_than_the_whole(name, refresh):
    """On either side of a cut, no sample of that side is below its bound; both together are above the whole's."""
    function = CURVED[name]
    inputs = keras.Input((2,), dtype="float64")
    x = keras.layers.Dense(3, function, dtype="float64")(inputs)
    model = keras.Model(
        inputs, keras.layers.Dense(3, dtype="float64")(keras.layers.Dense(2, function, dtype="float64")(x))
    )
    randomize(model, np.random.default_rng(4))
    model.set_weights([0.5 * w for w in model.get_weights()])
    network, ball = network_of(model, np.zeros((1, 2))), LpBall(np.full((1, 2), 0.2), 1.0)
    bounds = pre_activation_bounds(network, region_of(ball), "crown")
    row = (tf.constant([[1.0, -1.0, 0.5]], tf.float64), tf.constant([0.3], tf.float64))
    whole = bounded(network, ball, row, first_pieces(network, bounds), steps=60)
    ticks = np.linspace(-0.8, 1.2, 201)
    points = np.stack(np.meshgrid(ticks, ticks), -1).reshape(-1, 2)
    nodes = network.values(tf.constant(points))
    values = nodes[-1].numpy() @ row[0].numpy()[0] + 0.3
    assert float(whole.bound[0]) <= values.min() + 1e-9
    gained = []
    for number, node in enumerate(split_nodes(network)):
        for neuron in range(network.nodes[node].shape[0]):
            low, high = (float(end.numpy().ravel()[neuron]) for end in bounds[node])
            place = 0.4 * low + 0.6 * high
            pieces = halves(network, first_pieces(network, bounds), number, neuron)
            cuts = [[end.numpy() for end in pair] for pair in pieces.cuts]
            cuts[number][0][0, neuron] = cuts[number][1][1, neuron] = place
            pieces = pieces._replace(cuts=[tuple(map(tf.constant, pair)) for pair in cuts])
            found = bounded(network, ball, row, pieces, steps=60, refresh=refresh)
            z = nodes[node].numpy()[:, neuron]
            for bound, inside in zip(found.bound.numpy(), (z >= place, z <= place), strict=True):
                assert not inside.any() or bound <= values[inside].min() + 1e-9
            gained.append(found.bound.numpy().min() - float(whole.bound[0]))
    assert max(gained) > 0.01 * (values.min() - float(whole.bound[0]))


def test_multipliers_reach_the_least_value_on_a_piece():
    """One hidden layer, every neuron's sign fixed: a linear program over the piece."""
    optimize = pytest.importorskip("scipy.optimize")
    model = dense(3, 4, 2)
    randomize(model, np.random.default_rng(10))
    x = np.random.default_rng(10).normal(size=(1, 3))
    network, ball = network_of(model, x), LpBall(x, 1.5)
    bounds = pre_activation_bounds(network, region_of(ball), "crown")
    weights, bias, last, _ = (np.asarray(w) for w in model.get_weights())
    signs = np.where(x[0] @ weights + bias >= 0, 1.0, -1.0)
    row, offset = np.array([[1.0, -1.0]]), model.get_weights()[3] @ [1.0, -1.0]
    cost = weights @ (np.where(signs > 0, 1.0, 0.0) * (last @ row[0]))
    constant = bias @ (np.where(signs > 0, 1.0, 0.0) * (last @ row[0])) + offset
    sides = list(zip(x[0] - 1.5, x[0] + 1.5, strict=True))
    exact = optimize.linprog(cost, -(signs * weights).T, signs * bias, bounds=sides).fun + constant
    over_the_box = optimize.linprog(cost, bounds=sides).fun + constant
    pieces = first_pieces(network, bounds)._replace(signs=[tf.constant(signs[None])])
    found = bounded(network, ball, (tf.constant(row), tf.constant([0.0], tf.float64)), pieces, steps=3000)
    assert exact > over_the_box + 0.5
    assert exact - 5e-3 <= float(found.bound[0]) <= exact + 1e-9
