"""Maxima over any axes and affine maps of any shape: sound by every method, exact where an affine map's range is."""

import itertools

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops as K
from methods import GENERAL

import tfcert
from soundness.networks import randomize
from tfcert.network.cache import network_of
from tfcert.propagation.engine import lower_bounds
from tfcert.sets.balls import Box, LpBall, Perturbation

pytestmark = pytest.mark.usefixtures("eager")
FIRST = {"data_format": "channels_first"}


def model_of(shape, compute, seed=3) -> keras.Model:
    x = keras.Input(shape)
    model = keras.Model(x, L.Dense(2)(L.Flatten()(compute(x))))
    randomize(model, np.random.default_rng(seed))
    return model


BENT = {
    "largest pixel": ((2, 2, 2), lambda x: L.GlobalMaxPooling2D()(L.Conv2D(3, 2, padding="same")(x))),
    "largest channel": ((3, 2), lambda x: L.ReLU()(L.Dense(2)(K.max(L.Dense(4)(x), axis=-1)))),
    "smallest of apart axes": ((2, 2, 2), lambda x: K.min(L.Dense(3)(x), axis=(1, 3))),
    "blocks of a volume": ((2, 2, 2, 1), lambda x: L.MaxPooling3D((2, 1, 2))(L.Conv3D(2, 2, padding="same")(x))),
    "windows of a volume": ((2, 3, 1, 1), lambda x: L.MaxPooling3D((2, 2, 1), strides=1)(L.Conv3D(2, 1)(x))),
    "adaptive": ((3, 2), lambda x: L.AdaptiveMaxPooling1D(2)(L.Conv1D(2, 2, padding="same")(x))),
    "transposed": ((2, 2, 1), lambda x: L.Conv2DTranspose(2, 2, strides=2, activation="relu")(x)),
    "channels first": ((2, 2, 2), lambda x: L.MaxPooling2D(2, **FIRST)(L.Conv2D(3, 2, padding="same", **FIRST)(x))),
    "pieces": ((4, 2), lambda x: K.stack([L.ReLU()(x[:, ::-2]), K.cumsum(L.ReLU()(x), axis=1)[:, 1:3]], axis=2)),
}


def adversaries(region: Perturbation, rng: np.random.Generator) -> np.ndarray:
    """Points of a set of one sample: of a ball as far out as it goes, and corners of what holds it."""
    low, high = region.lower[0], region.upper[0]
    size = low.size
    chosen = (
        np.array(list(itertools.product([0.0, 1.0], repeat=size))) if size <= 8 else rng.integers(2, size=(200, size))
    )
    points = np.concatenate([chosen.astype(float), rng.random((200, size))]).reshape(-1, *low.shape)
    points = low + points * (high - low)
    if isinstance(region, LpBall) and region.norm == "l2":
        step = points - region.x[0]
        length = np.sqrt((step**2).sum(axis=tuple(range(1, step.ndim)), keepdims=True))
        points = region.x[0] + step * np.minimum(1, 0.999999 * region.eps[0] / np.maximum(length, 1e-12))
    return points.astype(np.float32)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", BENT)
def test_no_point_leaves_the_bounds_of_any_method(name, norm, rng):
    shape, compute = BENT[name]
    model = model_of(shape, compute)
    region = LpBall(rng.normal(size=(1, *shape)).astype(np.float32), 0.4, norm)
    values = np.asarray(model(adversaries(region, rng)))
    widths = {}
    for method in GENERAL:
        bounds = tfcert.bounds(model, region, method=method, options=tfcert.BoundOptions(jit=False))
        slack = 0.0 if bounds.guarantee == "float32-any-order" else 1e-4 * np.abs(values).max()
        assert np.all(values >= bounds.lower - slack) and np.all(values <= bounds.upper + slack), method
        widths[method] = float((bounds.upper - bounds.lower).sum())
    assert widths["alpha-crown"] <= 1.001 * widths["crown"] <= 2 * widths["ibp"]


@pytest.mark.parametrize(
    "name", ["largest pixel", "smallest of apart axes", "blocks of a volume", "adaptive", "pieces"]
)
def test_an_integer_program_finds_the_least_value(name, rng):
    """Not above what points attain, not below the bounds of lines, and attained to a small error."""
    shape, compute = BENT[name]
    model = model_of(shape, compute)
    network = network_of(model)
    region = LpBall(rng.normal(size=(1, *shape)).astype(np.float32), 0.3, "linf")
    rows = np.array([[[1.0, -1.0], [-1.0, 0.5]]])
    lines, whole = (lower_bounds(network, region, rows, np.zeros((1, 2)), method=m) for m in ("crown", "milp"))
    values = np.asarray(model(adversaries(region, rng)), np.float64) @ rows[0].T
    slack = 1e-4 * np.abs(values).max()
    assert np.all(whole >= lines - slack)
    assert np.all(whole <= values.min(axis=0) + slack)
    assert np.all(values.min(axis=0) - whole <= 0.2 * (values.max(axis=0) - values.min(axis=0)))


AFFINE = {
    "transposed convolution": ((3, 2, 2), L.Conv2DTranspose(2, 3, strides=2, padding="same")),
    "volume": ((2, 3, 2, 1), L.Conv3D(2, 2)),
    "transposed volume": ((2, 1, 2, 1), L.Conv3DTranspose(2, 2, strides=2)),
    "bilinear": ((3, 2, 2), L.UpSampling2D(2, interpolation="bilinear")),
    "average": ((3, 2, 2), L.AveragePooling2D(2, padding="same")),
    "adaptive average": ((5, 2), L.AdaptiveAveragePooling1D(2)),
    "einsum": ((3, 4), L.EinsumDense("abc,bcd->ad", 3, bias_axes="d")),
    "sum": ((3, 2), lambda x: K.sum(x, axis=1) - K.mean(x, axis=2, keepdims=True)[:, 0]),
    "differences": ((4, 2), lambda x: K.diff(x, axis=1)),
}


@pytest.mark.parametrize("method", ["forward", "crown", "alpha-crown"])
@pytest.mark.parametrize("name", AFFINE)
def test_the_range_of_an_affine_model_is_exact(name, method, rng):
    """``W m + b -+ |W| r``, with the matrix that unit vectors show in Keras."""
    shape, compute = AFFINE[name]
    model = model_of(shape, compute)
    low = rng.normal(size=(1, *shape)).astype(np.float32)
    high = low + rng.random(low.shape).astype(np.float32)
    size = int(np.prod(shape))
    units = np.concatenate([np.zeros((1, *shape)), np.eye(size).reshape(-1, *shape)]).astype(np.float32)
    images = np.asarray(model(units), np.float64)
    weights, constant = images[1:] - images[0], images[0]
    middle, radius = ((high + s * low).reshape(-1).astype(np.float64) / 2 for s in (1, -1))
    wanted = middle @ weights + constant, radius @ np.abs(weights)
    found = tfcert.bounds(model, Box(low, high), method=method, options=tfcert.BoundOptions(jit=False))
    slack = 1e-4 * max(1.0, np.abs(weights).max() * size)
    np.testing.assert_allclose(found.lower[0], wanted[0] - wanted[1], atol=slack)
    np.testing.assert_allclose(found.upper[0], wanted[0] + wanted[1], atol=slack)
