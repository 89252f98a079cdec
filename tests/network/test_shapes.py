"""The builder's methods of shapes compute what NumPy computes, by maps whose transposes are adjoint."""

import numpy as np
import pytest
import tensorflow as tf
from adjoint import assert_adjoint

from tfcert.network import Builder, ConvMap, DenseMap, Linear, UnsupportedLayerError
from tfcert.propagation.backward import Relaxed, identity_rows, linear_lower_bounds
from tfcert.propagation.coefficients import Coefficients
from tfcert.sets.balls import Box
from tfcert.sets.region import region_of

SHAPE = (3, 4, 2)
FLIPPED = np.array([1, 0, 1])
CASES = {
    "transpose": (lambda b, x: b.transpose(x, (2, 0, 1)), lambda v: v.transpose(0, 3, 1, 2)),
    "transpose nothing": (lambda b, x: b.transpose(x, (0, 1, 2)), lambda v: v),
    "one": (lambda b, x: b.take(x, 2, 1), lambda v: v[:, :, 2]),
    "last": (lambda b, x: b.take(x, -1, 2), lambda v: v[..., -1]),
    "rows": (lambda b, x: b.take(x, slice(1, 3), 0), lambda v: v[:, 1:3]),
    "channels": (lambda b, x: b.take(x, slice(1, 2), 2), lambda v: v[..., 1:2]),
    "backward": (lambda b, x: b.take(x, slice(None, None, -2), 1), lambda v: v[:, :, ::-2]),
    "picked": (lambda b, x: b.take(x, FLIPPED, -1), lambda v: v[..., FLIPPED]),
    "picked twice": (lambda b, x: b.take(x, [[0, 1], [1, 1]], 0), lambda v: v[:, [[0, 1], [1, 1]]]),
    "repeat": (lambda b, x: b.repeat(x, 2, 1), lambda v: v.repeat(2, axis=2)),
    "repeat unevenly": (lambda b, x: b.repeat(x, [1, 0, 3], 0), lambda v: v.repeat([1, 0, 3], axis=1)),
    "tile": (lambda b, x: b.tile(x, (2, 1, 3)), lambda v: np.tile(v, (1, 2, 1, 3))),
    "tile to more axes": (lambda b, x: b.tile(x, (2, 1, 1, 1)), lambda v: np.tile(v[:, None], (1, 2, 1, 1, 1))),
    "sum": (lambda b, x: b.sum(x, 1), lambda v: v.sum(axis=2)),
    "sum of channels": (lambda b, x: b.sum(x, -1, keepdims=True), lambda v: v.sum(axis=3, keepdims=True)),
    "mean": (lambda b, x: b.mean(x, (0, 2), keepdims=True), lambda v: v.mean(axis=(1, 3), keepdims=True)),
    "mean of all": (lambda b, x: b.mean(x, (0, 1, 2)), lambda v: v.mean(axis=(1, 2, 3))),
    "largest pixel": (lambda b, x: b.reduce_max(x, (0, 1)), lambda v: v.max(axis=(1, 2))),
    "largest of a row": (lambda b, x: b.reduce_max(x, 1, keepdims=True), lambda v: v.max(axis=2, keepdims=True)),
    "largest channel": (lambda b, x: b.reduce_max(x, 2), lambda v: v.max(axis=3)),
    "largest of apart axes": (lambda b, x: b.reduce_max(x, (0, 2)), lambda v: v.max(axis=(1, 3))),
    "broadcast": (
        lambda b, x: b.broadcast(b.mean(x, (0, 1), keepdims=True), (2, 3, 4, 2)),
        lambda v: np.broadcast_to(v.mean(axis=(1, 2), keepdims=True)[:, None], (len(v), 2, 3, 4, 2)),
    ),
    "zeros between": (
        lambda b, x: b.spread(x, np.array([-1, 0, -1, 1, -1, -1]), 2),
        lambda v: np.stack([0 * v[..., 0], v[..., 0], 0 * v[..., 0], v[..., 1], *[0 * v[..., 0]] * 2], axis=-1),
    ),
    "zeros around": (
        lambda b, x: b.spread(x, np.array([-1, 1, 2, -1, -1]), 0),
        lambda v: np.pad(v[:, 1:], ((0, 0), (1, 2), (0, 0), (0, 0))),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_shapes_are_those_of_numpy(name, rng):
    build, wanted = CASES[name]
    builder = Builder(tf.float64)
    network, _ = builder.network(build(builder, builder.input(SHAPE, "x")))
    x = rng.normal(size=(2, *SHAPE))
    found = network(tf.constant(x)).numpy()
    assert found.shape == wanted(x).shape == (2, *network.output_shape)
    np.testing.assert_allclose(found, wanted(x), rtol=1e-12, atol=1e-14)
    for node in network.nodes:
        if isinstance(node, Linear):
            assert_adjoint(node.map, tf.float64, rng)


@pytest.mark.parametrize("shape", [(), (4,), (2, 3), (2, 2, 2, 2)])
def test_axes_are_counted_without_the_batch_whatever_the_rank(shape, rng):
    builder = Builder(tf.float64)
    x = builder.input((*shape, 3), "x")
    total = builder.add([builder.sum(x, -1), builder.reduce_max(x, len(shape))])
    network, _ = builder.network(total)
    values = rng.normal(size=(2, *shape, 3))
    np.testing.assert_allclose(network(tf.constant(values)), values.sum(axis=-1) + values.max(axis=-1), atol=1e-12)


@pytest.mark.parametrize(
    "ask",
    [
        lambda b, x: b.sum(x, 3),
        lambda b, x: b.mean(x, (0, 0)),
        lambda b, x: b.reduce_max(x, ()),
        lambda b, x: b.take(x, 4, 1),
        lambda b, x: b.take(x, slice(2, 2), 1),
    ],
)
def test_axes_and_slices_that_are_not_there_are_refused(ask):
    builder = Builder(tf.float32)
    x = builder.input(SHAPE, "x")
    with builder.scope("first", "Slice"), pytest.raises(UnsupportedLayerError, match="first"):
        ask(builder, x)


PIXELWISE = {
    "channels": lambda b, x: b.take(x, np.array([1, 1, 0]), 2),
    "channels put apart": lambda b, x: b.spread(x, np.array([0, -1, 1]), 2),
    "sum of channels": lambda b, x: b.sum(x, 2, keepdims=True),
    "copies": lambda b, x: b.broadcast(b.mean(x, 2, keepdims=True), (3, 4, 5)),
    "rows": lambda b, x: b.take(x, slice(1, 3), 0),
    "dense": None,
}


@pytest.mark.parametrize("name", PIXELWISE)
def test_patches_pass_maps_of_pixels_as_dense_rows_do(name, rng, eager, monkeypatch):
    """The same bounds, in patches until the input, which dense coefficients of the same rows confirm."""
    weights = tf.constant(rng.normal(size=(2, 3)))
    builder = Builder(tf.float64)
    x = builder.input(SHAPE, "x")
    first = tf.constant(rng.normal(size=(2, 2, 2, 2)))
    y = builder.linear(x, ConvMap(lambda: first, (2, 2, 2, 2), SHAPE, padding=((0, 1), (1, 0))))
    y = builder.linear(y, DenseMap(lambda: weights, SHAPE, 3)) if name == "dense" else PIXELWISE[name](builder, y)
    kernel = tf.constant(rng.normal(size=(2, 2, y.shape[2], 2)))
    y = builder.linear(y, ConvMap(lambda: kernel, kernel.shape, y.shape, padding=((1, 1), (1, 1))))
    network, _ = builder.network(y)
    low = rng.normal(size=(1, *SHAPE))
    box = region_of(Box(low, low + rng.uniform(size=low.shape)))
    rows = identity_rows(network.output_shape, tf.float64)
    size = np.prod(network.output_shape)
    written_out = Coefficients(tf.reshape(rows.dense().values, [1, 1, -1, size]), network.output_shape)
    wanted = linear_lower_bounds(network, network.output, written_out, Relaxed({}), box)
    monkeypatch.setattr(Coefficients, "dense", None)
    found = linear_lower_bounds(network, network.output, rows, Relaxed({}), box)
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)
