"""No point of a region leaves the bounds of random Keras graphs that mix every kind of node; products exactly."""

import itertools
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L
from keras import ops as K
from methods import GENERAL
from sweeps import sweep_but

from soundness import networks
from soundness.test_products import assert_sound
from tfcert.network import Builder, DenseMap, Elementwise, MaxPool, Network, Product, from_keras
from tfcert.options import BoundOptions
from tfcert.propagation.ascent import Ascent
from tfcert.propagation.bounds import output_bounds
from tfcert.propagation.supported import with_charges
from tfcert.sets.balls import Box, LpBall
from tfcert.sets.region import region_of

WIDTH = 4
Piece = Callable[..., Any]

ONE: dict[str, Piece] = {
    "dense": lambda x: L.Dense(WIDTH, activation="relu")(x),
    "bent": lambda x: L.Dense(WIDTH, activation="silu")(x),
    "squashed": lambda x: K.tanh(x) + 0.5 * K.sin(x),
    "square": lambda x: 0.3 * x**2,
    "root": lambda x: K.sqrt(x * x + 1.0),
    "bell": lambda x: K.exp(-K.square(x)),
    "share": lambda x: x / (1.0 + K.abs(x)),
    "centred": lambda x: x - K.mean(x, axis=-1, keepdims=True),
    "largest": lambda x: K.concatenate([K.max(x, axis=-1, keepdims=True), x[:, 1:]], axis=-1),
    "turned": lambda x: K.concatenate([x[:, 2:], -x[:, :2]], axis=-1),
    "by steps": lambda x: K.reshape(
        L.Conv1D(2, 2, activation="sigmoid")(K.reshape(x, (-1, WIDTH, 1)))[:, :2], (-1, WIDTH)
    ),
    "softmax": lambda x: L.Softmax()(x),
    "normalised": lambda x: L.LayerNormalization()(x),
}
TWO: dict[str, Piece] = {
    "sum": lambda x, y: x + y,
    "difference": lambda x, y: x - 0.5 * y,
    "product": lambda x, y: x * y,
    "gate": lambda x, y: K.sigmoid(x) * y,
    "maximum": K.maximum,
    "minimum": lambda x, y: K.minimum(x, 2.0 * y),
    "quotient": lambda x, y: x / (K.softplus(y) + 0.5),
    "contraction": lambda x, y: x * K.sum(x * y, axis=-1, keepdims=True),
}


def mixed_model(seed: int, steps: int = 5) -> keras.Model:
    """Model number ``seed``: steps of one or two values made before, of one input or of two; three outputs."""
    keras.utils.set_random_seed(seed)
    pick, _ = networks.seeded(seed)
    inputs = [keras.Input((WIDTH,))] if seed % 3 else [keras.Input((2,)), keras.Input((WIDTH,))]
    values = [L.Dense(WIDTH)(x) for x in inputs]
    for _ in range(steps):
        if pick([True, False]):
            values.append(pick(list(ONE.values()))(pick(values)))
        else:
            values.append(pick(list(TWO.values()))(pick(values), values[-1]))
    model = keras.Model(inputs, L.Dense(3)(L.Concatenate()(values[-3:])))
    networks.randomize(model, np.random.default_rng(seed))
    return model


@pytest.fixture
def double():
    """Keras in float64."""
    before = keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy(before)


@pytest.mark.parametrize("seed", sweep_but(range(4), range(40)))
def test_no_point_leaves_the_bounds_of_a_graph_of_all_kinds(seed, double, eager):
    network = from_keras(mixed_model(seed))
    rng = np.random.default_rng(seed)
    norm = ("linf", "l2", "l1", "linf")[seed % 4]
    x = rng.uniform(-0.1, 1.1, (2, *network.input_shape)).clip(0, 1)
    region = LpBall(x, [0.1, 0.01], norm, (None, (0.0, 1.0))[seed % 2])
    for method in GENERAL:
        assert_sound(network, region, method, rng)


@pytest.mark.parametrize("name", [*ONE, *TWO])
def test_no_point_leaves_the_bounds_of_one_piece_twice(name, double, eager):
    """So that every piece is bounded in every run, over ranges wide and narrow, by intervals and by planes."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((WIDTH,))
    piece = ONE.get(name) or (lambda x: TWO[name](x, L.Dense(WIDTH)(inputs)))
    model = keras.Model(inputs, L.Dense(2)(piece(L.Dense(WIDTH)(piece(L.Dense(WIDTH)(inputs))))))
    network, rng = from_keras(model), np.random.default_rng(2)
    region = LpBall(rng.uniform(0, 1, (2, WIDTH)), [0.5, 0.02], "l2")
    for method in ("ibp", "crown-ibp", "alpha-crown"):
        assert_sound(network, region, method, rng)


def test_the_graphs_hold_every_kind_of_node(double, eager):
    """Or the tests above would say less than they seem to."""
    nodes = [node for seed in range(8) for node in from_keras(mixed_model(seed)).nodes]
    kinds = {type(node).__name__ for node in nodes}
    assert {"Linear", "Add", "Concatenate"} | {k.__name__ for k in (Product, Elementwise, MaxPool)} <= kinds
    assert len({node.activation.name for node in nodes if isinstance(node, Elementwise)}) > 6


# --- products against exact arithmetic -------------------------------------------------------------------------------


def bilinear(seed: int) -> tuple[Network, list[np.ndarray], list[int]]:
    """``(A u + a) * (B v + b)``, then a dense layer, for inputs ``[u, v]``; and its weights."""
    rng = np.random.default_rng(seed)
    sizes = [int(n) for n in rng.integers(1, 4, 2)]
    shapes = [(sizes[0], 3), (3,), (sizes[1], 3), (3,), (3, 2), (2,)]
    weights = [rng.normal(size=shape).astype(np.float32).astype(np.float64) for shape in shapes]
    builder = Builder(tf.float64)
    x = builder.input((sum(sizes),), "x")
    parts = [builder.take(x, slice(0, sizes[0]), 0), builder.take(x, slice(sizes[0], None), 0)]

    def dense(y: Any, at: int) -> Any:
        kernel, bias = (builder.constant(weight) for weight in weights[at : at + 2])
        return builder.linear(y, DenseMap(kernel, y.shape, weights[at].shape[1]), bias)

    product = builder.product(dense(parts[0], 0), dense(parts[1], 2))
    return builder.network(dense(product, 4))[0], weights, sizes


def exact_least(weights: list[np.ndarray], sizes: list[int], box: Box, row: np.ndarray) -> Fraction:
    """The least value over a box: linear in each number by itself, so it is taken at a corner."""

    def affine(x: list[Fraction], kernel: np.ndarray, bias: np.ndarray) -> list[Fraction]:
        columns = zip(kernel.T, bias, strict=True)
        return [sum((Fraction(w) * v for w, v in zip(c, x, strict=True)), Fraction(b)) for c, b in columns]

    values = []
    for corner in itertools.product(*(map(Fraction, ends) for ends in zip(box.lower[0], box.upper[0], strict=True))):
        u, v = affine(list(corner[: sizes[0]]), *weights[:2]), affine(list(corner[sizes[0] :]), *weights[2:4])
        out = affine([a * b for a, b in zip(u, v, strict=True)], *weights[4:])
        values.append(sum((Fraction(w) * y for w, y in zip(row, out, strict=True)), Fraction(0)))
    return min(values)


@pytest.mark.parametrize("seed", sweep_but(range(4), range(16)))
def test_bounds_of_products_lie_below_the_exact_optimum(seed):
    network, weights, sizes = bilinear(seed)
    rng = np.random.default_rng(seed)
    center, radius = rng.normal(size=(1, sum(sizes))), float(rng.choice([1e-6, 0.3, 2.0]))
    box = Box(center - radius, center + radius)
    rows = np.array([[1, 0], [-1, 0], [0, 1], [1, -1]], np.float64)
    exact = np.array([exact_least(weights, sizes, box, row) for row in rows])
    asked = tf.constant(rows[None]), tf.zeros([1, len(rows)], tf.float64)
    for method in GENERAL:
        charged = with_charges(network, method, None, BoundOptions(rounding="real"))
        found = output_bounds(charged, region_of(box), asked, method, ascent=Ascent(2)).numpy()[0]
        slack = Fraction(0) if charged.rounding is not None else Fraction(1e-12) * (1 + abs(exact))
        assert np.all(np.array(list(map(Fraction, found.tolist()))) <= exact + slack), method
        if radius < 1e-5 and method not in ("ibp", "forward"):
            assert np.all(found >= exact.astype(float) - 1e-9), method


@pytest.mark.parametrize("method", GENERAL)
@pytest.mark.parametrize("box", [((0.9, 1.1), (1.9, 2.1)), ((-1, 2), (-3, 1)), ((-2, -1), (-1, 3)), ((0, 0), (-1, 1))])
def test_one_product_has_its_exact_range(method, box):
    builder = Builder(tf.float64)
    x = builder.input((2,), "x")
    network, _ = builder.network(builder.product(builder.take(x, [0], 0), builder.take(x, [1], 0)))
    corners = [Fraction(a) * Fraction(b) for a, b in itertools.product(*box)]
    asked = tf.constant([[[1.0], [-1.0]]], tf.float64), tf.zeros([1, 2], tf.float64)
    region = region_of(Box(*(np.array([[side[end] for side in box]], np.float64) for end in (0, 1))))
    found = output_bounds(network, region, asked, method, ascent=Ascent(2)).numpy()[0]
    np.testing.assert_allclose(found, [float(min(corners)), -float(max(corners))], rtol=0, atol=1e-12)
