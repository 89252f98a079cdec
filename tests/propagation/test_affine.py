"""What passes do not carry to the input, but add at the affine nodes or take from a factor, is what they would find."""

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import tensorflow as tf
from soundness import networks
from soundness.networks import Sketch

from tfcert.network import DenseMap
from tfcert.network.graph import Network
from tfcert.propagation import affine, backward, kernels, preactivation
from tfcert.propagation.affine import affine_part
from tfcert.propagation.bounds import output_bounds, pre_activation_bounds
from tfcert.propagation.coefficients import Coefficients
from tfcert.propagation.preactivation import Passes
from tfcert.roundoff import rounding_of
from tfcert.sets.balls import LpBall
from tfcert.sets.region import Region, region_of


def branches() -> Sketch:
    """Affine nodes that an activation, a maximum, a sum and a concatenation read, some of them through a scaling."""
    s = Sketch(np.random.default_rng(1))
    x = s.conv(s.input((4, 4, 2)), 3, (3, 3), padding=((1, 1), (1, 1)))
    scaled = s.scale(x, s.weights(3), s.weights(3))
    pooled = s.max_pool(s.conv(0, 3, (1, 1)), (2, 2), (1, 1), ((0, 1), (0, 1)))
    bent = s.max_pool(s.activate(s.scale(x, s.weights(3), s.weights(3))), (2, 2), (1, 1), ((0, 1), (0, 1)))
    y = s.sum(s.activate(scaled), x, pooled, bent, s.activate(pooled))
    s.dense(networks.flatten(s, s.activate(s.concatenate((y, scaled, 0), 2))), 3)
    return s


def chain(width: int = 3) -> Sketch:
    """Normalisation, a dense layer of few units, and more layers."""
    s = Sketch(np.random.default_rng(2))
    x = s.reshape(s.scale(s.input((2, 4, 2)), s.weights(2), s.weights(2)), (16,))
    s.dense(s.activate(s.dense(s.activate(s.dense(x, width)), 4)), 3)
    return s


def margins(network: Network, region: Region) -> np.ndarray:
    rows = tf.constant(np.concatenate([np.eye(3), -np.eye(3)])[None], network.dtype)
    return output_bounds(network, region, (rows, tf.zeros([1, 6], rows.dtype)), "crown").numpy()


def balls(s: Sketch, norm: str, clip: tuple[float, float] | None = None) -> Region:
    return region_of(LpBall(s.rng.uniform(0, 1, (3, *s.shapes[0])), [0.1, 0.02, 0.3], norm, clip))


@pytest.mark.parametrize(("norm", "clip"), [("linf", None), ("l2", None), ("l1", None), ("l2", (0, 1)), ("l1", (0, 1))])
@pytest.mark.parametrize("make", [branches, chain])
def test_what_the_middle_adds_at_affine_nodes_is_what_it_adds_at_the_input(monkeypatch, make, norm, clip):
    s = make()
    network, region = s.network(), balls(s, norm, clip)
    found = margins(network, region)
    monkeypatch.setattr(backward, "affine_nodes", lambda _: frozenset({0}))
    np.testing.assert_allclose(found, margins(network, region), rtol=1e-10, atol=1e-10)


def test_rows_over_a_narrow_first_layer_are_measured_by_its_factor(monkeypatch):
    s = chain()
    network, region = s.network(), balls(s, "l2")
    assert affine_part(network, region).factor is not None
    found = margins(network, region)
    monkeypatch.setattr(affine, "_NARROWER", 10)
    assert affine_part(network, region).factor is None
    np.testing.assert_allclose(found, margins(network, region), rtol=1e-10, atol=1e-10)


def test_there_is_a_factor_only_where_all_is_read_through_one_narrow_layer_and_the_ball_is_whole():
    s = chain()
    assert affine_part(s.network(), balls(s, "linf")).factor is None
    assert affine_part(s.network(), balls(s, "l1")).factor is None
    assert affine_part(s.network(), balls(s, "l2", (0, 1))).factor is None
    wide, shortcut = chain(width=5), Sketch(np.random.default_rng(3))
    assert affine_part(wide.network(), balls(wide, "l2")).factor is None
    x = shortcut.dense(shortcut.input((8,)), 2)
    shortcut.dense(shortcut.concatenate((shortcut.activate(x), 0), 0), 3)
    assert affine_part(shortcut.network(), balls(shortcut, "l2")).factor is None


def test_of_an_affine_layer_all_neurons_are_bounded_for_their_rows_are_those_of_every_sample(monkeypatch):
    def refuse(*_):
        raise AssertionError("neurons of an affine layer were selected")

    s = Sketch(np.random.default_rng(5))
    s.dense(s.activate(s.dense(s.input((8,)), 6)), 3)
    monkeypatch.setattr(preactivation, "_some_only", refuse)
    monkeypatch.setattr(preactivation, "_FEW", 1.0)
    pre_activation_bounds(s.network(), balls(s, "l1"), "crown", None, Passes(select=True))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_row_is_shorter_by_the_factor_than_by_the_matrix_whatever_its_rank(dtype):
    rng = np.random.default_rng(4)
    full = rng.normal(size=(6, 40))
    twice = np.concatenate([full[:3], full[:3]])
    scaled = full * 10.0 ** rng.integers(-12, 12, (6, 1))
    for matrix in (full, twice, scaled, 0 * full, 1e-18 * full, full + 1e4):
        matrix = matrix.astype(dtype)
        factor = affine._root(tf.constant(matrix)).numpy().astype(np.float64)
        rows = np.concatenate([rng.normal(size=(50, 6)), np.eye(6), np.eye(3, 6) - np.eye(3, 6, 3)])
        length = np.linalg.norm(rows @ matrix.astype(np.float64), axis=1)
        size = np.abs(rows) @ np.linalg.norm(matrix.astype(np.float64), axis=1)
        found = np.linalg.norm(rows @ factor, axis=1)
        # The factor is rounded to the network's type, as products with the matrix are.
        rounding = 6 * np.finfo(dtype).eps * size
        assert (found >= length - rounding).all()
        np.testing.assert_allclose(found, length, rtol=0, atol=(1e-6 * size + rounding).max() + 1e-150)


@pytest.mark.parametrize("seed", range(4))
def test_no_row_of_a_rounded_network_is_longer_than_the_factor_and_what_it_is_charged(seed):
    """In rational arithmetic; catches rows whose terms cancel in the factor, computed in float32."""
    rng, s = np.random.default_rng(seed), Sketch(np.random.default_rng(seed))
    s.dense(s.activate(s.dense(s.input((24,)), 4)), 2)
    network = s.network(tf.float32).rounded(rounding_of("deployed", np.float32, np.float32))
    kernel = (rng.normal(size=24) + 1e-5 * rng.normal(size=(4, 24))).astype(np.float32)
    first = network.nodes[1]
    nodes = (
        network.nodes[0],
        replace(first, map=DenseMap(lambda: tf.constant(kernel.T), (24,), 4)),
        *network.nodes[2:],
    )
    network = replace(network, nodes=nodes)
    region = region_of(LpBall(rng.normal(size=(1, 24)), 1.0, "l2").astype(np.float32))
    factor = affine_part(network, region).factor
    rows = rng.normal(size=(40, 4)).astype(np.float32)
    rows[:, 3] = -rows[:, :3].sum(axis=1)  # all of them nearly cancel
    over = Coefficients(tf.constant(rows[None, None]), (4,))
    turned = tf.matmul(over.values, factor.matrix)[0, 0].numpy()
    lost = sum(tf.reshape(part, [-1]) for part in backward.lost_by_turning(over, factor, region, network.rounding))
    for row, short, charge in zip(rows, turned, -lost.numpy(), strict=True):
        exact = [
            sum(Fraction(float(a)) * Fraction(float(w)) for a, w in zip(row, column, strict=True))
            for column in kernel.T
        ]
        length = Fraction(math.sqrt(sum(Fraction(float(v)) ** 2 for v in short))) * (1 + Fraction(2) ** -50)
        assert sum(v**2 for v in exact) <= (length + Fraction(float(charge))) ** 2


def test_of_a_matrix_that_is_not_finite_the_factor_says_nothing():
    assert np.isnan(affine._root(tf.constant([[1.0, np.nan, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]])).numpy()).all()
    assert np.isnan(affine._root(tf.constant([[1.0, np.inf, 0.0, 0.0]])).numpy()).all()


@pytest.mark.parametrize("shared", ["rows", "weights", "neither"])
def test_sums_of_rows_times_weights_are_the_same_whoever_shares_them(shared):
    """As products they would crash where samples share weights only."""
    rng = np.random.default_rng(6)
    values = rng.normal(size=(1 if shared == "rows" else 3, 1, 5, 7))
    weights = [rng.normal(size=(1 if shared == "weights" else 3, 1, 1, 7)) for _ in range(4)]
    found = kernels.weighted_size(tf.constant(values), tf.constant(weights[0]))
    np.testing.assert_allclose(found, (np.abs(values) * weights[0]).sum(axis=3), rtol=0, atol=1e-12)
    positive, negative = np.maximum(values, 0), np.minimum(values, 0)
    bent, summed = kernels.by_sign_both(tf.constant(values), *(tf.constant(w) for w in weights))
    np.testing.assert_allclose(bent, positive * weights[0] + negative * weights[2], rtol=0, atol=1e-12)
    np.testing.assert_allclose(summed, (positive * weights[1] + negative * weights[3]).sum(axis=3), rtol=0, atol=1e-12)
