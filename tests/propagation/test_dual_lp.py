"""Wong and Kolter's dual network, against their algorithm 1 in NumPy; what it refuses; gradients."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from gradients import check_gradients
from soundness import networks

import tfcert
from tfcert.activations import activation
from tfcert.network import densify, from_keras
from tfcert.network.graph import Elementwise, Network
from tfcert.network.linear import DenseMap
from tfcert.network.moves import ReshapeMap
from tfcert.propagation import stepping
from tfcert.propagation.bounds import output_bounds, pre_activation_bounds
from tfcert.propagation.preactivation import Passes
from tfcert.sets.balls import Box, LpBall
from tfcert.sets.region import region_of

DUAL = {"linf": 1, "l2": 2, "l1": np.inf}
NORMS = tuple(DUAL)


def algorithm_1(weights, x, eps, order):
    """The paper's algorithm 1, and the objective of its theorem 1 at ``alpha = u / (u - l)`` for each row ``c``.

    Args:
        weights: ``(W, b)`` of each layer, ``W`` of ``[outputs, inputs]``.
        order: of the dual norm.

    Returns:
        The pairs of ``l`` and ``u`` of each hidden layer, and a function of ``c`` that bounds ``c @ f`` from below.
    """
    (first, bias), *others = weights
    hat, gammas, nus, unstable = first.T, [bias], [], []
    psi, reach = x @ hat + bias, eps * np.linalg.norm(hat, order, axis=0)
    layers = [(psi - reach, psi + reach)]
    slopes = []
    for weight, bias in others[:-1]:
        low, high = layers[-1]
        between = (low < 0) & (high > 0)
        slope = np.where(low >= 0, 1.0, np.where(between, high / np.where(between, high - low, 1.0), 0.0))
        slopes.append(slope)
        step = slope[:, None] * weight.T
        unstable.append(np.where(between, low, 0.0))
        nus = [nu @ step for nu in nus] + [step]
        gammas = [gamma @ step for gamma in gammas] + [bias]
        hat = hat @ step
        psi, reach = x @ hat + sum(gammas), eps * np.linalg.norm(hat, order, axis=0)
        pairs = list(zip(unstable, nus, strict=True))
        down = sum((low @ np.maximum(-nu, 0) for low, nu in pairs), np.zeros(len(bias)))
        up = sum((low @ np.maximum(nu, 0) for low, nu in pairs), np.zeros(len(bias)))
        layers.append((psi - reach + down, psi + reach - up))

    def least(c):
        nu, total = -c, 0.0
        for (weight, bias), (low, high) in zip(others[::-1], layers[::-1], strict=True):
            total -= nu @ bias
            hat = weight.T @ nu
            between = (low < 0) & (high > 0)
            slope = np.where(low >= 0, 1.0, np.where(between, high / np.where(between, high - low, 1.0), 0.0))
            nu = slope * hat  # u / (u - l) [nu]+ - alpha [nu]-, with alpha the same
            total += np.sum(np.where(between, low * np.maximum(nu, 0), 0.0))
        weight, bias = weights[0]
        hat = weight.T @ nu
        return total - nu @ bias - x @ hat - eps * np.linalg.norm(hat, order)

    return layers, least


def dense_weights(network: Network):
    """``(W, b)`` of a network of dense maps and ReLUs in turn."""
    found = []
    for node in network.nodes:
        kind = getattr(node, "map", None)
        if isinstance(kind, DenseMap):
            kernel = kind.kernel().numpy()
            found.append((kernel.T, np.zeros(kernel.shape[1]) if node.bias is None else node.bias().numpy()))
        else:
            assert kind is None or isinstance(kind, ReshapeMap)
    return found


def mlp(sizes, seed=0):
    s = networks.Sketch(np.random.default_rng(seed))
    node = s.input((sizes[0],))
    for size in sizes[1:-1]:
        node = s.activate(s.dense(node, size))
    s.dense(node, sizes[-1])
    return s


def small_cnn(seed=0):
    s = networks.Sketch(np.random.default_rng(seed))
    first = s.activate(s.conv(s.input((5, 4, 2)), 3, (3, 2), strides=(2, 1), padding=((1, 1), (0, 1))))
    s.dense(s.activate(s.dense(networks.flatten(s, first), 6)), 3)
    return s


def bounds(network, region, rows, passes=None):
    asked = (tf.constant(rows[None], network.dtype), tf.zeros([1, len(rows)], network.dtype))
    return output_bounds(network, region_of(region), asked, "dual-lp", passes=passes or Passes()).numpy()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("make", [lambda: mlp((5, 8, 3)), lambda: mlp((4, 7, 9, 6, 3), 2), small_cnn])
def test_bounds_are_those_of_the_paper_s_algorithm(make, norm):
    """A wrong sign, slope or norm in any layer would be seen: the other side shares no code and goes another way."""
    s = make()
    network = densify(s.network())
    x, eps = s.rng.normal(size=(3, *s.shapes[0])), np.array([0.02, 0.3, 1.5])
    region = LpBall(x, list(eps), norm)
    rows = np.concatenate([np.eye(3), -np.eye(3), s.rng.normal(size=(2, 3))])
    found = bounds(network, region, rows)
    between = pre_activation_bounds(s.network(), region_of(region), "dual-lp")
    for i in range(3):
        layers, least = algorithm_1(dense_weights(network), x[i].reshape(-1), eps[i], DUAL[norm])
        np.testing.assert_allclose(found[i], [least(row) for row in rows], rtol=1e-9, atol=1e-9)
        for (low, high), pair in zip(layers, between.values(), strict=True):
            np.testing.assert_allclose([end[i].numpy().reshape(-1) for end in pair], [low, high], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(bounds(s.network(), region, rows), found, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("norm", NORMS)
def test_given_the_layers_bounds_a_row_s_bound_is_fast_lin_s(norm):
    """Where no interval is tighter, CROWN with Fast-Lin's lines is the same; with them it can only be higher."""
    for seed in range(6):
        s = mlp((4, 7, 6, 3), seed)
        network, x = s.network(), s.rng.normal(size=(2, 4))
        rows = tf.constant(np.eye(3)[None])
        asked = rows, tf.zeros([1, 3], tf.float64)
        small, large = (region_of(LpBall(x, eps, norm)) for eps in (1e-3, 0.3))
        np.testing.assert_allclose(
            output_bounds(network, small, asked, "dual-lp"),
            output_bounds(network, small, asked, "crown", "fastlin"),
            atol=1e-9,
        )
        dual, lines = (output_bounds(network, large, asked, *how) for how in (("dual-lp",), ("crown", "fastlin")))
        assert np.all(lines.numpy() >= dual.numpy() - 1e-9)


def skip_block(s, x, pick):
    """Two branches of ReLUs that join, and a third of patches that begin elsewhere."""
    branch = s.activate(s.conv(s.activate(s.conv(x, 3, (3, 3), padding=((1, 1), (1, 1)))), 2, (1, 1)))
    return s.sum(x, branch, s.conv(x, 2, (3, 3), padding=((0, 2), (2, 0))))


_OTHERS = (networks.max_pool_block, networks.activation_block, networks.residual_block)
RELU_BLOCKS = [skip_block, *(block for block in networks.IMAGE_BLOCKS if block not in _OTHERS)]


@pytest.mark.parametrize("number", range(len(RELU_BLOCKS)), ids=lambda number: RELU_BLOCKS[number].__name__)
def test_no_point_leaves_the_bounds_and_patches_are_the_dense_network(number, monkeypatch):
    block, norm = RELU_BLOCKS[number], NORMS[number % 3]
    monkeypatch.setattr(stepping, "patches_pay", lambda *_: True)
    s = networks.block_sketch(block, 3)
    network = s.network()
    region = LpBall(s.rng.uniform(0, 1, (3, 4, 4, 2)), [0.02, 0.2, 0.6], norm, (0, 1))
    rows = np.concatenate([np.eye(3), -np.eye(3), s.rng.normal(size=(2, 3))])
    found = bounds(network, region, rows)
    points = region.sample(200, 0)
    values = network(tf.constant(points.reshape(-1, 4, 4, 2))).numpy().reshape(*points.shape[:2], 3) @ rows.T
    assert np.all(found <= values.min(axis=0) + 1e-9)
    assert np.all(found[0] >= values[:, 0].min(axis=0) - 10)  # and is no -inf
    np.testing.assert_allclose(bounds(densify(network), region, rows), found, rtol=1e-9, atol=1e-9)
    parts = {i: (slice(0, 1), slice(1, network.nodes[i].shape[0])) for i in network.bounded() if i > 2}
    np.testing.assert_allclose(bounds(network, region, rows, Passes(parts)), found, rtol=1e-9, atol=1e-9)
    alone = np.concatenate([bounds(network, region.take([i]), rows) for i in range(3)])
    np.testing.assert_allclose(alone, found, rtol=1e-9, atol=1e-9)


def test_a_point_has_its_own_values_and_a_relu_of_the_input_is_bounded():
    s = networks.Sketch(np.random.default_rng(4))
    s.dense(s.activate(s.activate(s.dense(s.activate(s.input((4,))), 5))), 3)
    network, x = s.network(), s.rng.normal(size=(2, 4))
    np.testing.assert_allclose(bounds(network, Box(x, x), np.eye(3)), network(tf.constant(x)), atol=1e-10)
    found = bounds(network, Box(x - 0.5, x + 0.5), np.eye(3))
    points = x + s.rng.uniform(-0.5, 0.5, (500, 2, 4))
    assert np.all(found <= network(tf.constant(points.reshape(-1, 4))).numpy().reshape(500, 2, 3).min(axis=0) + 1e-9)


@pytest.mark.parametrize("norm", NORMS)
def test_a_network_that_overflows_is_never_verified(norm):
    layers = keras.layers
    model = keras.Sequential([keras.Input((3,)), *(layers.Dense(4, "relu") for _ in range(3)), layers.Dense(2)])
    network, x = from_keras(model), np.ones((2, 3), np.float32)
    for scale in (1e9, 1e19):
        for layer in model.layers:
            layer.kernel.assign(scale * layer.kernel)
        for y in ([0, 0], [1, 1]):
            assert not tfcert.certify(network, x, y, eps=1e3, norm=norm, method="dual-lp").verified.any()


@pytest.mark.parametrize("kind", ["sigmoid", "leaky_relu", "maximum"])
def test_what_the_paper_does_not_define_is_refused_with_what_to_use(kind):
    s = networks.Sketch(np.random.default_rng(0))
    x = s.input((4, 4, 1))
    if kind == "maximum":
        x = s.max_pool(x, (2, 2), (2, 2), ((0, 0), (0, 0)))
    else:
        options = {"negative_slope": 0.1} if kind == "leaky_relu" else {}
        act, shape, source = activation(kind, **options), (4, 4, 1), x
        x = s.add(kind, shape, lambda _: Elementwise(name="bend", inputs=(source,), shape=shape, activation=act))
    s.dense(networks.flatten(s, s.activate(x)), 2)
    named = "a maximum" if kind == "maximum" else kind
    ball = LpBall(np.zeros((1, 4, 4, 1)), 0.1)
    said = f"dual-lp is for networks of relu alone, .* is {named}: use the method crown"
    with pytest.raises(ValueError, match=said):
        tfcert.margins(s.network(), ball, [0], method="dual-lp")
    with pytest.raises(ValueError, match="dual-lp takes no relaxation"):
        how = {"method": "dual-lp", "relaxation": "crown"}
        tfcert.margins(mlp((4, 5, 2)).network(), LpBall(np.zeros((1, 4)), 0.1), [0], **how)


def test_gradients_go_through_the_layers_bounds():
    """Held fixed while weights move, the bounds of layers would give other slopes than differences do."""
    layers, options = keras.layers, {"dtype": "float64"}
    inputs = keras.Input((5, 4, 1), **options)
    x = layers.Conv2D(2, 3, activation="relu", padding="same", **options)(inputs)
    x = layers.BatchNormalization(**options)(x)
    x = layers.ReLU(**options)(layers.Add(**options)([x, layers.Conv2D(2, 1, **options)(x)]))
    x = layers.Dense(5, activation="relu", **options)(layers.Flatten(**options)(x))
    model = keras.Model(inputs, layers.Dense(2, **options)(x))
    rng = np.random.default_rng(0)
    networks.randomize(model, rng)
    network = from_keras(model)
    for norm in NORMS:
        region = region_of(LpBall(rng.uniform(0, 1, (2, 5, 4, 1)), 0.05, norm, (0, 1)))
        weights = tf.constant(rng.normal(size=(2, 2)))

        def objective(region=region, weights=weights) -> tf.Tensor:
            asked = tf.constant(np.eye(2)[None]), tf.zeros([1, 2], tf.float64)
            return tf.reduce_sum(weights * output_bounds(network, region, asked, "dual-lp"))

        check_gradients(model, objective, rng)


@pytest.mark.parametrize("norm", ["linf", "l1"])
def test_the_linear_program_s_optimum_is_above_its_dual_network(norm):
    """Above CROWN's lines, too, which are another feasible point; strictly somewhere, or nothing would be compared."""
    network, x = mlp((5, 8, 8, 3), 1).network(tf.float32), np.random.default_rng(0).normal(size=(2, 5))
    ball = LpBall(x.astype(np.float32), 0.5, norm)
    found = {
        method: tfcert.margins(network, ball, [0, 0], method=method)[:, 1:] for method in ("dual-lp", "crown", "lp")
    }
    assert np.all(found["lp"] >= np.maximum(found["dual-lp"], found["crown"]) - 1e-5)
    assert np.any(found["lp"] > np.maximum(found["dual-lp"], found["crown"]) + 1e-2)
