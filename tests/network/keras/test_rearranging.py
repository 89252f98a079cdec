"""Operations that move numbers, add them up and put tensors together compute what Keras computes."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops as K

import tfcert
from tfcert.attacks.witness import differentiable, model_outputs
from tfcert.network import Builder, IndexMap, Linear, PadMap, TakeMap, TransposeMap, UnsupportedLayerError, from_keras

SHAPE = (3, 4, 2)
PLACES = np.array([[0, 2], [1, 1]])
MOVES = {
    "slice": lambda x: x[:, 1:, ::2],
    "one of an axis": lambda x: x[:, :, -1],
    "backward": lambda x: x[..., ::-1],
    "new axes": lambda x: x[:, None, 0, :, None],
    "take": lambda x: K.take(x, PLACES, axis=2),
    "transpose": lambda x: K.transpose(x, (0, 3, 1, 2)),
    "swapaxes": lambda x: K.swapaxes(x, 1, -1),
    "moveaxis": lambda x: K.moveaxis(x, 3, 1),
    "flip": lambda x: K.flip(x, axis=(1, 3)),
    "roll": lambda x: K.roll(x, 2, axis=2),
    "rot90": lambda x: K.rot90(x, axes=(1, 2)),
    "repeat": lambda x: K.repeat(x, 2, axis=1),
    "tile": lambda x: K.tile(x, (1, 2, 1, 3)),
    "squeeze": lambda x: K.squeeze(K.expand_dims(x, 2), 2),
    "repeat a new axis": lambda x: K.repeat(x[:, None], 2, axis=1),
    "diagonal": lambda x: K.diagonal(x, axis1=1, axis2=2),
    "triangle": lambda x: K.tril(x, -1),
    "zeros around": lambda x: K.pad(x, ((0, 0), (1, 0), (0, 2), (1, 1))),
    "numbers around": lambda x: K.pad(x, ((0, 0), (1, 0), (0, 2), (0, 0)), constant_values=3.0),
    "reflected": lambda x: K.pad(x, ((0, 0), (2, 1), (0, 0), (0, 0)), mode="reflect"),
    "symmetric": lambda x: K.pad(x, ((0, 0), (0, 0), (1, 3), (0, 0)), mode="symmetric"),
    "split": lambda x: K.concatenate(K.split(x, [1, 3], axis=2)[::-1], axis=2),
    "unstack": lambda x: K.stack(K.unstack(x, axis=1)[1:], axis=-1),
    "stop gradient": lambda x: K.stop_gradient(x),
}
SUMS = {
    "sum": lambda x: K.sum(x, axis=(1, 3)),
    "mean": lambda x: K.mean(x, axis=-1, keepdims=True),
    "max": lambda x: K.max(x, axis=(1, 2)),
    "max with a least value": lambda x: K.max(x, axis=1, initial=0.5),
    "amin": lambda x: K.amin(x, axis=2, keepdims=True),
    "ptp": lambda x: K.ptp(x, axis=3),
    "var": lambda x: K.var(x, axis=(2, 3)),
    "cumsum": lambda x: K.cumsum(x, axis=2),
    "diff": lambda x: K.diff(x, n=2, axis=2),
    "stack": lambda x: K.stack([x, 2 * x], axis=2),
    "hstack": lambda x: K.hstack([x, x[:, :1]]),
}


def model_of(compute, shape=SHAPE, dtype="float32"):
    x = keras.Input(shape, dtype=dtype)
    return keras.Model(x, compute(x))


@pytest.mark.parametrize("name", MOVES)
def test_numbers_move_as_in_keras(check, name):
    network = check(model_of(MOVES[name]))
    assert all(node.map.moves or node.bias is not None for node in network.nodes if isinstance(node, Linear))


@pytest.mark.parametrize("name", SUMS)
def test_sums_and_maxima_along_axes_are_those_of_keras(check, name):
    check(model_of(SUMS[name]))


@pytest.mark.parametrize(
    ("compute", "reason"),
    [
        (lambda x: x[0], "indexes the batch"),
        (lambda x: K.flip(x), "one sample to another"),
        (lambda x: K.roll(x, 1), "one sample to another"),
        (lambda x: K.sum(x, axis=0), "mixes samples"),
        (lambda x: K.cumsum(x, axis=0), "mixes samples"),
        (lambda x: K.repeat(x, 2, axis=0), "changes the batch"),
        (lambda x: K.stack([x, x], axis=0), "batch must be"),
    ],
)
def test_what_mixes_samples_is_refused(compute, reason):
    with pytest.raises(UnsupportedLayerError, match=reason):
        from_keras(model_of(compute))


def test_a_constant_beside_a_tensor(rng, eager):
    """Keras runs such a model one sample at a time alone: bounds, attack and replay of several go sample by sample."""
    x = keras.Input((3, 4))
    beside = K.concatenate([x, np.full((1, 3, 1), 2.0, "float32"), x], axis=2)
    model = keras.Model(x, keras.layers.Dense(2)(keras.layers.Flatten()(beside)))
    values = rng.normal(size=(2, 3, 4)).astype("float32")
    with pytest.raises(tf.errors.InvalidArgumentError):
        model(values)
    alone = np.concatenate([model(value[None]) for value in values])
    np.testing.assert_allclose(from_keras(model)(tf.constant(values)), alone, rtol=1e-5, atol=1e-6)
    labels = alone.argmax(axis=1)
    np.testing.assert_allclose(model_outputs(model, values), alone)
    assert len(tfcert.certify(model, values, labels, eps=0.01).verified) == 2
    assert differentiable(model)(tf.constant(values)).shape == (2, 2)


def test_a_constant_of_several_samples_beside_a_tensor_is_refused():
    with pytest.raises(UnsupportedLayerError, match="one for all samples"):
        from_keras(model_of(lambda x: K.concatenate([x, np.ones((2, *SHAPE), "float32")], axis=1)))


NUMBERS = np.arange(24).reshape(SHAPE)
PATTERNS = [
    (NUMBERS[1:, :, :], [PadMap]),
    (NUMBERS[:, :, ::-1], [TakeMap]),
    (NUMBERS[:, 1:2, :1], [PadMap, TakeMap]),
    (NUMBERS.transpose(2, 0, 1), [TransposeMap]),
    (np.pad(NUMBERS, ((0, 0), (1, 0), (0, 0)), constant_values=-1), [PadMap]),
    (NUMBERS.repeat(2, axis=0).repeat(2, axis=1), [IndexMap]),
    (NUMBERS.ravel()[::-1].reshape(SHAPE), [TakeMap, TakeMap, TakeMap]),
    (NUMBERS.ravel()[[0, 3, 23]], [IndexMap]),
]


@pytest.mark.parametrize(("index", "kinds"), PATTERNS)
def test_an_index_becomes_the_maps_that_keep_patches(index, kinds, rng):
    builder = Builder(tf.float64)
    network, _ = builder.network(builder.index(builder.input(SHAPE, "x"), index))
    assert [type(node.map) for node in network.nodes[1:]] == kinds
    x = rng.normal(size=(2, *SHAPE))
    flat = np.concatenate([x.reshape(2, -1), np.zeros((2, 1))], axis=1)
    np.testing.assert_array_equal(network(tf.constant(x)), flat[:, index])


@pytest.mark.parametrize("seed_of_index", range(40))
def test_any_index_of_axes_is_found_or_left_alone(seed_of_index):
    """Slices, orders, constants, zeros and copies at random, against the numbers themselves."""
    rng = np.random.default_rng(seed_of_index)
    index = NUMBERS
    for axis in rng.permutation(3)[: rng.integers(4)]:
        size = index.shape[axis]
        index = index.take(rng.integers(size, size=rng.integers(1, 5)), axis=axis)
    index = index.transpose(rng.permutation(index.ndim))
    if rng.random() < 0.5:
        axis = int(rng.integers(index.ndim))
        ends = [(int(rng.integers(2)), 1) if a == axis else (0, 0) for a in range(index.ndim)]
        index = np.pad(index, ends, constant_values=-1)
    if rng.random() < 0.5:
        index = np.broadcast_to(index[:, None], (index.shape[0], 2, *index.shape[1:]))
    if rng.random() < 0.3 and index.shape[0] > 1:
        index = index[0]
    builder = Builder(tf.float64)
    network, _ = builder.network(builder.index(builder.input(SHAPE, "x"), index))
    x = rng.normal(size=(2, *SHAPE))
    flat = np.concatenate([x.reshape(2, -1), np.zeros((2, 1))], axis=1)
    np.testing.assert_array_equal(network(tf.constant(x)), flat[:, index])
