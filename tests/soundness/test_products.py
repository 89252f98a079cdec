"""No point of a region leaves the bounds of networks that multiply what they compute."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from gradients import check_gradients
from methods import GENERAL
from sweeps import sweep_but

from soundness import networks, regions
from tfcert.network import Contraction, Network, Product, from_keras
from tfcert.options import BoundOptions
from tfcert.propagation.ascent import Ascent
from tfcert.propagation.bounds import output_bounds
from tfcert.propagation.supported import with_charges
from tfcert.sets.balls import LpBall, Perturbation
from tfcert.sets.region import region_of

L = keras.layers


VECTORS = (
    networks.gate_block, networks.mixed_product_block, networks.dense_block, networks.activation_block,
    networks.gate_block,
)  # fmt: skip
IMAGES = (
    networks.image_product_block, networks.squeeze_block, networks.conv_block, networks.activation_block,
    networks.max_pool_block, networks.gate_block, networks.concatenate_block,
)  # fmt: skip


def sketch(seed: int) -> networks.Sketch:
    """Network number ``seed``: every other one of images."""
    pick, rng = networks.seeded(seed)
    if seed % 2:
        s = networks.image_sketch(pick, rng, IMAGES)
        return s if "product" in s.kinds else sketch(seed + 100)
    s = networks.Sketch(rng)
    x = s.input((pick([3, 2, 5]),))
    for block in [networks.gate_block, *(pick(VECTORS) for _ in range(pick([2, 1])))]:
        x = block(s, x, pick)
    s.dense(s.activate(s.dense(x, 5)), 3)
    return s


def assert_sound(network: Network, region: Perturbation, method: str, rng: np.random.Generator) -> None:
    """Rows of every adversary are at least their bounds, but for a share of 1e-9 where these are not charged."""
    rows = np.concatenate([np.eye(network.output_shape[0]), rng.normal(size=(2, network.output_shape[0]))])
    rows = np.broadcast_to(rows, (len(region), *rows.shape))
    asked = tf.constant(rows), tf.zeros(rows.shape[:2], tf.float64)
    charged = with_charges(network, method, None, BoundOptions())
    lower = output_bounds(charged, region_of(region), asked, method, ascent=Ascent(2)).numpy()
    points = regions.adversaries(network, region, rows, rng)
    values = regions._values(network, points, rows.astype(np.longdouble))
    slack = 0.0 if charged.rounding is not None else 1e-9 * (1 + np.abs(values).max(axis=0))
    assert np.isfinite(lower).all()
    excess = (lower - values.min(axis=0) - slack).max()
    assert excess <= 0, f"{method}: a bound lies {float(excess):.3g} above a value"


@pytest.mark.parametrize("method", GENERAL)
@pytest.mark.parametrize("seed", sweep_but(range(4), range(16)))
def test_no_point_leaves_the_bounds_of_a_network_with_products(method, seed):
    s = sketch(seed)
    pick, rng = networks.seeded(seed)
    norm = ("linf", "l2", "l1", "l2")[seed % 4]
    x = np.clip(rng.uniform(-0.1, 1.1, (2, *s.shapes[0])), 0, 1)
    assert_sound(s.network(), LpBall(x, [0.2, 0.03], norm, pick([None, (0.0, 1.0)])), method, rng)


@pytest.mark.parametrize("method", GENERAL)
def test_a_region_of_a_single_point_has_its_values_as_bounds(method):
    s = sketch(2)
    network, x = s.network(), np.random.default_rng(0).uniform(0, 1, (2, *s.shapes[0]))
    eye = np.eye(3)
    asked = tf.constant(np.concatenate([eye, -eye])[None]), tf.zeros([1, 6], tf.float64)
    found = output_bounds(network, region_of(LpBall(x, 0.0)), asked, method, ascent=Ascent(2)).numpy()
    values = network(tf.constant(x)).numpy()
    np.testing.assert_allclose(found, np.concatenate([values, -values], axis=1), atol=1e-12)


def squeeze_and_excitation(dtype: str = "float64") -> keras.Model:
    keras.utils.set_random_seed(0)
    i = keras.Input((5, 5, 2), dtype=dtype)
    h = L.Conv2D(4, 3, activation="relu", dtype=dtype)(i)
    pooled = L.GlobalAveragePooling2D(keepdims=True, dtype=dtype)(h)
    gate = L.Dense(4, activation="sigmoid", dtype=dtype)(L.Dense(2, activation="relu", dtype=dtype)(pooled))
    return keras.Model(i, L.Dense(3, dtype=dtype)(L.Flatten(dtype=dtype)(L.Multiply(dtype=dtype)([h, gate]))))


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_no_point_leaves_the_bounds_of_squeeze_and_excitation(norm):
    network, rng = from_keras(squeeze_and_excitation()), np.random.default_rng(0)
    assert any(isinstance(node, Product) for node in network.nodes)
    region = LpBall(rng.uniform(0, 1, (2, 5, 5, 2)), [0.1, 0.02], norm, (0, 1))
    for method in GENERAL:
        assert_sound(network, region, method, rng)


@pytest.mark.parametrize("method", ["ibp", "crown-ibp", "crown", "forward"])
@pytest.mark.parametrize("eps", [0.0, 0.05])
def test_bounds_of_products_have_their_gradients_in_the_weights(method, eps):
    keras.utils.set_random_seed(1)
    i = keras.Input((3,), dtype="float64")
    first, second = (L.Dense(4, dtype="float64")(i) for _ in range(2))
    whole = L.Multiply(dtype="float64")([L.Activation("softplus", dtype="float64")(first), second])
    model = keras.Model(i, L.Dense(2, dtype="float64")(whole))
    network, rng = from_keras(model), np.random.default_rng(2)
    region = region_of(LpBall(rng.uniform(0, 1, (2, 3)), eps))
    asked = tf.constant([[[1.0, -1.0], [-1.0, 2.0]]], tf.float64), tf.zeros([1, 2], tf.float64)
    check_gradients(model, lambda: tf.reduce_sum(output_bounds(network, region, asked, method)), rng)


def scores(dtype: str = "float64") -> keras.Model:
    """What attention does without its softmax: weights that are products, and values weighed by them."""
    keras.utils.set_random_seed(3)
    i = keras.Input((3, 2), dtype=dtype)
    query, key, value = (L.Dense(2, dtype=dtype)(i) for _ in range(3))
    weights = L.Activation("sigmoid", dtype=dtype)(keras.ops.einsum("bqd,bkd->bqk", query, key))
    return keras.Model(i, L.Dense(2, dtype=dtype)(L.Flatten(dtype=dtype)(keras.ops.matmul(weights, value))))


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_no_point_leaves_the_bounds_of_products_of_matrices(norm):
    network, rng = from_keras(scores()), np.random.default_rng(0)
    assert sum(isinstance(node, Contraction) for node in network.nodes) == 2
    region = LpBall(rng.uniform(0, 1, (2, 3, 2)), [0.2, 0.02], norm, (0, 1))
    for method in GENERAL:
        assert_sound(network, region, method, rng)


@pytest.mark.parametrize("method", ["ibp", "crown-ibp", "crown", "forward"])
@pytest.mark.parametrize("eps", [0.0, 0.05])
def test_bounds_of_products_of_matrices_have_their_gradients_in_the_weights(method, eps):
    model = scores()
    network, rng = from_keras(model), np.random.default_rng(2)
    region = region_of(LpBall(rng.uniform(0, 1, (2, 3, 2)), eps))
    asked = tf.constant([[[1.0, -1.0], [-1.0, 2.0]]], tf.float64), tf.zeros([1, 2], tf.float64)
    check_gradients(model, lambda: tf.reduce_sum(output_bounds(network, region, asked, method)), rng)
