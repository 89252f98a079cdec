"""Matrices by index arithmetic are those that unit vectors give, whatever the map, and their products are products."""

import numpy as np
import pytest
import tensorflow as tf
from adjoint import assert_adjoint

from tfcert.network import sparse
from tfcert.network.contractions import EinsumMap, SumMap
from tfcert.network.linear import ConvMap, DenseMap, LinearMap, ScaleMap
from tfcert.network.moves import BroadcastMap, CopiesMap, IndexMap, PadMap, ReshapeMap, TakeMap, TransposeMap
from tfcert.network.sparse import Entries, product, total
from tfcert.network.volumes import TransposedMap, VolumeMap

RNG = np.random.default_rng(0)


class Rotation(LinearMap):
    """A map that says nothing of its matrix."""

    in_shape = out_shape = (2,)

    def apply(self, x):
        return x @ tf.constant([[0.0, 1.0], [-1.0, 0.5]], tf.float64)

    def transpose(self, a):
        return a @ tf.constant([[0.0, -1.0], [1.0, 0.5]], tf.float64)


def convolution(kernel_shape, in_shape, **options) -> ConvMap:
    kernel = tf.constant(RNG.normal(size=kernel_shape))
    return ConvMap(lambda: kernel, kernel_shape, in_shape, **options)


def volume(kernel_shape, in_shape, **options) -> VolumeMap:
    kernel = tf.constant(RNG.normal(size=kernel_shape))
    return VolumeMap(lambda: kernel, kernel_shape, in_shape, **options)


def matrix_map(shape) -> DenseMap:
    kernel = tf.constant(RNG.normal(size=(shape[-1], 3)))
    return DenseMap(lambda: kernel, shape, 3)


def einsum_map(equation, in_shape, kernel_shape) -> EinsumMap:
    kernel = tf.constant(RNG.normal(size=kernel_shape))
    return EinsumMap(equation, lambda: kernel, in_shape, kernel_shape)


MAPS = {
    "dense": matrix_map((4,)),
    "dense at positions": matrix_map((2, 3, 4)),
    "convolution": convolution((3, 2, 2, 3), (6, 5, 2)),
    "strides and padding": convolution((3, 3, 2, 3), (6, 5, 2), strides=(2, 1), padding=((1, 2), (0, 1))),
    "dilated, cropped": convolution((2, 2, 1, 2), (7, 7, 1), dilation=(2, 3), padding=((-1, 0), (1, -1))),
    "groups": convolution((2, 2, 2, 6), (4, 4, 4), groups=2),
    "scale": ScaleMap(lambda: tf.constant([2.0, 0.0, -1.0], tf.float64), (2, 3)),
    "reshape": ReshapeMap((2, 3), (6,)),
    "pad and crop": PadMap((3, 4, 2), ((1, -1), (-1, 2))),
    "index": IndexMap((4,), np.array([[3, -1], [0, 3]])),
    "copies": CopiesMap((2, 2), 3),
    "volume": volume((2, 1, 2, 2, 3), (3, 2, 4, 2), strides=(1, 1, 2), padding=((1, 0), (0, 0), (-1, 1))),
    "transposed": TransposedMap(convolution((3, 2, 2, 3), (6, 5, 2), strides=(2, 1)), 12),
    "transposed groups": TransposedMap(convolution((2, 2, 2, 6), (4, 4, 4), groups=2, dilation=(2, 1)), 12),
    "transpose": TransposeMap((2, 3, 4), (2, 0, 1)),
    "slices": TakeMap((2, 4, 3), np.array([3, -1, 1, 3]), 1),
    "broadcast": BroadcastMap((1, 3, 1), (2, 3, 4)),
    "sum": SumMap((2, 3, 4), (0, 2)),
    "mean": SumMap((2, 3, 4), (1,), keepdims=True, weight=1 / 3),
    "einsum": einsum_map("abc,dcb->ad", (2, 3, 4), (5, 4, 3)),
    "einsum that copies": einsum_map("ab,bc->abc", (2, 3), (3, 2)),
    "a map of one's own": Rotation(),
}


def full(entries: Entries, rows: int, columns: int) -> np.ndarray:
    found = np.zeros((rows, columns))
    np.add.at(found, (entries.row, entries.column), entries.value)
    return found


@pytest.mark.parametrize("name", MAPS)
def test_the_matrix_of_a_map_is_what_it_does_to_unit_vectors(name):
    linear, inputs, outputs = MAPS[name], np.prod(MAPS[name].in_shape), np.prod(MAPS[name].out_shape)
    images = linear.apply(tf.constant(np.eye(inputs).reshape(-1, *linear.in_shape))).numpy().reshape(inputs, -1)
    np.testing.assert_allclose(full(linear.entries(), outputs, inputs), images.T, atol=1e-15)


@pytest.mark.parametrize("name", MAPS)
def test_magnitudes_and_squares_are_those_of_the_matrix(name):
    """And the transpose is the adjoint, and no output adds up more products than the map says."""
    linear = MAPS[name]
    if name == "a map of one's own":
        return
    assert_adjoint(linear, tf.float64, RNG)
    matrix = full(linear.entries(), np.prod(linear.out_shape), np.prod(linear.in_shape))
    x = RNG.normal(size=(1, *linear.in_shape))
    for found, wanted in ((linear.abs_apply, np.abs(matrix)), (linear.square_apply, matrix**2)):
        np.testing.assert_allclose(np.ravel(found(tf.constant(x))), wanted @ x.ravel(), atol=1e-12)
    assert np.count_nonzero(matrix, axis=1).max() <= linear.terms()


@pytest.mark.parametrize("way", ["whole", "in parts", "in full"])
@pytest.mark.parametrize("share", [0.05, 0.3, 1.0])
def test_products_are_products(share, way, monkeypatch):
    """Rows and columns without an entry among them, and entries that stand twice."""
    monkeypatch.setattr(sparse, "_OVERLAP", 0 if way == "in full" else 1 << 30)
    monkeypatch.setattr(sparse, "_AT_ONCE", 7 if way != "whole" else 1 << 22)
    outer, inner = (RNG.normal(size=s) * (RNG.random(s) < share) for s in ((9, 13), (13, 11)))
    parts = []
    for matrix in (outer, inner):
        row, column = np.nonzero(matrix)
        half = Entries(row, column, matrix[row, column] / 2)
        parts.append(Entries(*(np.concatenate([getattr(half, k)] * 2) for k in ("row", "column", "value"))))
    found = product(*parts, 13, 11)
    np.testing.assert_allclose(full(found, 9, 11), outer @ inner, atol=1e-12)
    assert len(np.unique(found.row * 11 + found.column)) == len(found) and (found.value != 0).all()


def test_what_cancels_is_no_entry():
    one = Entries(np.array([0, 1]), np.array([1, 0]), np.array([2.0, 3.0]))
    found = total([one, Entries(one.row, one.column, np.array([-2.0, 1.0]))], 2)
    assert found.row.tolist() == [1] and found.column.tolist() == [0] and found.value.tolist() == [4.0]
