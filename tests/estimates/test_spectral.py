"""Operator norms from above: never below the exact norm of the matrix, and close to it."""

import numpy as np
import pytest
import tensorflow as tf

from tfcert.estimates.operators import chain_norm, in_float64
from tfcert.estimates.spectral import convolution_norm, gram_norm
from tfcert.network import (
    BroadcastMap,
    ConvMap,
    DenseMap,
    IndexMap,
    LinearMap,
    PadMap,
    ReshapeMap,
    ScaleMap,
    SumMap,
    TakeMap,
    TransposeMap,
)
from tfcert.network.densify import matrix

ORDERS = {"linf": np.inf, "l2": 2, "l1": 1}


def convolution(rng: np.random.Generator, shape, size=(3, 3), out=4, **options) -> ConvMap:
    kernel = rng.normal(size=(*size, shape[2] // options.get("groups", 1), out))
    return ConvMap(lambda: tf.constant(kernel), kernel.shape, shape, **options)


def dense_matrix(*chain: LinearMap) -> np.ndarray:
    """``[out, in]``."""
    whole = np.eye(int(np.prod(chain[0].in_shape)))
    for part in chain:
        whole = whole @ matrix(part, tf.float64).numpy()
    return whole.T


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 5, 8, 20])
@pytest.mark.parametrize("kind", ["real", "complex"])
def test_the_gram_iterate_is_an_upper_bound_at_every_step(rng, kind, steps):
    matrices = rng.normal(size=(50, 7, 12)) + (1j * rng.normal(size=(50, 7, 12)) if kind == "complex" else 0)
    exact = np.linalg.norm(matrices, 2, axis=(-2, -1))
    bound = gram_norm(matrices, steps)
    assert (bound >= exact).all()
    assert (bound <= exact * 7 ** (0.5 / 2**steps) * (1 + 1e-10)).all()


def test_power_iteration_underestimates_where_gram_iteration_does_not(rng):
    """Two nearly equal singular values: ten steps of the one are still well below, as many of the other are tight."""
    left, right = (np.linalg.qr(rng.normal(size=(30, 30)))[0] for _ in range(2))
    values = np.concatenate([[1.0], np.linspace(0.99, 0.5, 29)])
    matrix_ = left @ np.diag(values) @ right
    vector = rng.normal(size=30)
    for _ in range(10):
        vector = matrix_.T @ (matrix_ @ vector)
        vector /= np.linalg.norm(vector)
    assert np.linalg.norm(matrix_ @ vector) < 1 - 1e-3
    assert 1 <= gram_norm(matrix_, 10) < 1 + 1e-3


@pytest.mark.parametrize("size", [1e-160, 1.0, 1e150])
def test_extreme_scales_neither_overflow_nor_vanish(rng, size):
    matrix_ = size * rng.normal(size=(5, 5))
    exact = np.linalg.norm(matrix_ / size, 2) * size
    assert exact <= gram_norm(matrix_) * (1 + 1e-12)
    assert gram_norm(matrix_) <= exact * (1 + 1e-5)


def test_the_norm_of_the_zero_matrix_is_zero():
    np.testing.assert_array_equal(gram_norm(np.zeros((2, 3, 4))), np.zeros(2))


OPTIONS = [
    {},
    {"padding": ((1, 1), (1, 1))},
    {"padding": ((0, 2), (1, 0))},
    {"strides": (2, 2)},
    {"strides": (2, 3), "padding": ((1, 1), (0, 1))},
    {"strides": (5, 5)},
    {"dilation": (2, 2)},
    {"dilation": (2, 1), "strides": (2, 1), "padding": ((2, 2), (1, 1))},
    {"groups": 2},
    {"padding": ((-1, 0), (0, -2))},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_convolution_s_norm_is_bounded_from_above_and_closely(rng, options):
    conv = convolution(rng, (11, 12, 2), **options)
    exact = np.linalg.norm(dense_matrix(conv), 2)
    assert exact <= convolution_norm(conv) <= 1.2 * exact


def test_a_convolution_on_a_large_image_approaches_the_bound(rng):
    """The bound is the supremum over all image sizes: a larger image comes nearer."""
    kernel = rng.normal(size=(3, 3, 1, 1))
    gaps = []
    for size in (5, 12, 24):
        conv = ConvMap(lambda: tf.constant(kernel), kernel.shape, (size, size, 1), padding=((1, 1), (1, 1)))
        gaps.append(convolution_norm(conv) / np.linalg.norm(dense_matrix(conv), 2) - 1)
    assert gaps[0] > gaps[1] > gaps[2] >= 0
    assert gaps[2] < 0.01


@pytest.mark.parametrize("norm", ORDERS)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_one_convolution_has_its_exact_norm(rng, norm, options):
    conv = convolution(rng, (9, 9, 2), **options)
    exact = np.linalg.norm(dense_matrix(conv), ORDERS[norm])
    assert exact * (1 - 1e-12) <= chain_norm((conv,), norm) <= exact * (1 + 1e-5)


def test_a_chain_with_one_map_that_mixes_values_has_its_exact_norm(rng):
    conv = convolution(rng, (6, 6, 2), padding=((1, 1), (1, 1)))
    scale, before = rng.normal(size=4), rng.normal(size=(1, 1, 2))
    chain = (
        PadMap((5, 5, 2), ((0, 1), (1, 0))),
        ScaleMap(lambda: tf.constant(before), (6, 6, 2)),
        conv,
        ScaleMap(lambda: tf.constant(scale), (6, 6, 4)),
        ReshapeMap((6, 6, 4), (144,)),
        IndexMap((144,), rng.permutation(144)),
    )
    for norm, order in ORDERS.items():
        exact = np.linalg.norm(dense_matrix(*chain), order)
        assert exact * (1 - 1e-12) <= chain_norm(chain, norm) <= exact * (1 + 1e-5)


@pytest.mark.parametrize(
    "linear",
    [
        TransposeMap((6, 5, 4), (2, 0, 1)),
        TakeMap((6, 5, 4), np.array([3, -1, 0]), 2),
        BroadcastMap((6, 1, 4), (6, 5, 4)),
        SumMap((6, 5, 4), (0, 1), weight=1 / 30),
    ],
)
def test_maps_that_move_or_add_up_are_read_as_they_stand(linear):
    """Not written out as a matrix, which an image is too large for; and with their exact norms."""
    (found,) = in_float64(linear, tf.float32)
    assert found is linear
    for norm, order in ORDERS.items():
        exact = np.linalg.norm(dense_matrix(linear), order)
        assert exact * (1 - 1e-12) <= chain_norm((linear,), norm) <= exact * (1 + 1e-5)


@pytest.mark.parametrize("norm", ORDERS)
def test_a_long_chain_is_bounded_from_above(rng, norm, monkeypatch):
    """Also where it is too large to be written out."""
    first = convolution(rng, (8, 8, 2), out=6, padding=((1, 1), (1, 1)))
    scale = ScaleMap(lambda: tf.constant(np.linspace(0.1, 2, 384).reshape(8, 8, 6)), (8, 8, 6))
    second = convolution(rng, (8, 8, 6), strides=(2, 2))
    weights = rng.normal(size=(36, 5))
    tail = (ReshapeMap((3, 3, 4), (36,)), DenseMap(lambda: tf.constant(weights), (36,), 5))
    chain = (first, scale, second, *tail)
    exact = np.linalg.norm(dense_matrix(*chain), ORDERS[norm])
    whole = chain_norm(chain, norm)
    monkeypatch.setattr("tfcert.estimates.operators._MATRIX_SIDE", 0)
    parts = chain_norm(chain, norm)
    assert exact <= whole * (1 + 1e-12) and whole <= parts * (1 + 1e-12)
    assert parts <= np.prod([np.linalg.norm(dense_matrix(m), ORDERS[norm]) for m in chain]) * 1.2


def test_averages_of_padded_windows_do_not_stretch_by_their_smallest_count(rng, monkeypatch):
    """Sums over 3 x 3 windows have norm 9 and the corner's factor is 1/4: their product would be 9/4."""
    monkeypatch.setattr("tfcert.estimates.operators._MATRIX_SIDE", 0)
    ones = np.ones((3, 3, 1, 1))
    sums = ConvMap(lambda: tf.constant(ones), ones.shape, (6, 6, 1), padding=((1, 1), (1, 1)))
    counts = sums.apply(tf.ones([1, 6, 6, 1], tf.float64))[0]
    chain = (sums, ScaleMap(lambda: 1 / counts, (6, 6, 1)))
    assert np.linalg.norm(dense_matrix(*chain), 2) <= chain_norm(chain, "l2") <= 1.2


class Subclass(DenseMap):
    """A map that does something else than its base class."""

    def apply(self, x: tf.Tensor) -> tf.Tensor:
        return 3 * super().apply(x)

    def transpose(self, a: tf.Tensor) -> tf.Tensor:
        return 3 * super().transpose(a)


def test_a_map_of_the_user_s_own_is_measured_by_what_it_does(rng):
    weights = rng.normal(size=(4, 3)).astype(np.float32)
    chain = in_float64(Subclass(lambda: tf.constant(weights), (2, 4), 3), tf.float32)
    for norm, order in ORDERS.items():
        assert chain_norm(chain, norm) == pytest.approx(3 * np.linalg.norm(weights.T.astype(float), order), rel=1e-5)
