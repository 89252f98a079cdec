"""Softmax and normalisation layers: every option against Keras, and no sampled point outside the bounds."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from gradients import check_gradients
from methods import GENERAL
from sweeps import sweep_but

from tfcert.network import Builder, DenseMap, Elementwise, UnsupportedLayerError, from_keras
from tfcert.network.normalized import Normalized
from tfcert.network.softmax import LogOdds
from tfcert.propagation.ascent import Ascent
from tfcert.propagation.bounds import output_bounds
from tfcert.sets.balls import LpBall
from tfcert.sets.region import region_of

L, ops = keras.layers, keras.ops

NORMALISED = {
    "layer": lambda x: L.LayerNormalization()(x),
    "layer, first axis": lambda x: L.LayerNormalization(axis=1)(x),
    "layer, two axes": lambda x: L.LayerNormalization(axis=[1, 2])(x),
    "layer, no weights": lambda x: L.LayerNormalization(center=False, scale=False, epsilon=1e-2)(x),
    "layer, rms_scaling": lambda x: L.LayerNormalization(rms_scaling=True)(x),
    "rms": lambda x: L.RMSNormalization()(x),
    "group": lambda x: L.GroupNormalization(2)(x),
    "group, one channel each": lambda x: L.GroupNormalization(-1)(x),
    "group, first axis": lambda x: L.GroupNormalization(2, axis=1, center=False)(x),
    "unit": lambda x: L.UnitNormalization()(x),
    "unit, two axes": lambda x: L.UnitNormalization(axis=[1, 2])(x),
    "ops.normalize": lambda x: ops.normalize(x, axis=1),
    "ops.layer_normalization": lambda x: ops.layer_normalization(
        x, gamma=np.full(4, 2.0, x.dtype), beta=np.arange(4.0).astype(x.dtype)
    ),
    "ops.rms_normalization": lambda x: ops.rms_normalization(x, scale=np.arange(1, 5).astype(x.dtype), epsilon=1e-3),
}
SOFTMAXES = {
    "last axis": lambda x: L.Softmax()(x),
    "first axis": lambda x: L.Softmax(axis=1)(x),
    "both axes": lambda x: L.Softmax(axis=(1, 2))(x),
    "masked": lambda x: L.Softmax()(x, mask=np.array([[[True, False, True, True], [False, True, True, False]]])),
    "temperature": lambda x: ops.softmax(x * 3.0, axis=-1),
    "activation": lambda x: L.Dense(5, activation="softmax")(x),
    "of two": lambda x: L.Dense(2, activation="softmax")(x),
    "of one": lambda x: ops.add(L.Dense(1, activation="softmax")(x), L.Dense(1)(x)),
    "log": lambda x: ops.log_softmax(x, axis=2),
}
BLOCKS = {**NORMALISED, **SOFTMAXES}
DOUBLE = tuple(name for name in BLOCKS if name != "ops.normalize")
"""Keras says of the others that they compute in float32 whatever they get."""


def model_of(block, dtype="float32", seed=0):
    """A block between two dense layers, with weights that no initialiser makes."""
    before, floats = keras.config.dtype_policy(), keras.config.floatx()
    keras.config.set_dtype_policy(dtype)
    keras.config.set_floatx(dtype)
    try:
        i = keras.Input((2, 3), dtype=dtype)
        model = keras.Model(i, L.Dense(2)(L.Flatten()(block(L.Dense(4)(i)))))
    finally:
        keras.config.set_dtype_policy(before)
        keras.config.set_floatx(floats)
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        variable.assign(rng.normal(size=variable.shape) * 0.7 + 0.2)
    return model


@pytest.mark.parametrize("name", BLOCKS)
def test_a_layer_is_translated_with_its_options(name):
    """Loading compares each layer with the model; this asks again, in both types and far from zero."""
    for dtype in ("float32", "float64")[: 1 + (name in DOUBLE)]:
        model = model_of(BLOCKS[name], dtype)
        network = from_keras(model)
        x = np.random.default_rng(1).normal(size=(20, 2, 3)) * np.logspace(-1, 1, 20)[:, None, None]
        tolerance = 2e-5 if dtype == "float32" else 1e-11
        np.testing.assert_allclose(
            network(tf.constant(x, dtype)), model(x.astype(dtype)), rtol=tolerance, atol=tolerance
        )


CASES = [(name, method) for name in DOUBLE for method in GENERAL]


@pytest.mark.parametrize(("name", "method"), sweep_but(list(zip(DOUBLE, GENERAL * 9, strict=False)), CASES))
@pytest.mark.usefixtures("eager")
def test_no_point_leaves_the_bounds(name, method):
    network, rng = from_keras(model_of(BLOCKS[name], "float64")), np.random.default_rng(2)
    norm = ("linf", "l2", "l1")[len(name) % 3]
    ball = LpBall(rng.normal(size=(2, 2, 3)), [0.3, 0.02], norm)
    rows = tf.constant([[[1.0, 0], [-1, 0], [1, -1]]], tf.float64), tf.zeros([1, 3], tf.float64)
    lower = output_bounds(network, region_of(ball), rows, method, ascent=Ascent(2)).numpy()
    points = np.concatenate([ball.sample(100, 0), corners(ball, rng)])
    values = np.stack([network(tf.constant(p)).numpy() for p in points]) @ rows[0].numpy()[0].T
    assert np.isfinite(lower).all()
    assert (lower <= values.min(axis=0) + 1e-9 * (1 + np.abs(values).max())).all()


def corners(ball, rng, count=60):
    """Points on the boundary: corners of a box, ends of axes of other balls."""
    if ball.norm == "linf":
        move = rng.choice([-1.0, 1.0], (count, *ball.x.shape))
    else:
        move = np.zeros((count, *ball.x.shape)).reshape(count, len(ball), -1)
        place = rng.integers(0, move.shape[2], (count, len(ball), 1))
        np.put_along_axis(move, place, rng.choice([-1.0, 1.0], place.shape), axis=2)
        move = move.reshape(count, *ball.x.shape)
    return ball.x + move * np.asarray(ball.eps)[:, None, None]


def test_layers_are_bounded_by_kinds_of_their_own_and_two_entries_by_their_difference():
    def kinds(name):
        return {type(node) for node in from_keras(model_of(BLOCKS[name])).nodes}

    assert LogOdds in kinds("last axis") and Normalized in kinds("layer")
    assert LogOdds not in kinds("of two") | kinds("of one")


@pytest.mark.usefixtures("eager")
def test_the_whole_group_is_one_mean_where_it_is_large():
    """Of 300 numbers the shares make no difference to speak of, and a square matrix of weights would be large."""
    i = keras.Input((300,), dtype="float64")
    model = keras.Model(i, L.LayerNormalization(dtype="float64")(i))
    network = from_keras(model)
    (node,) = (node for node in network.nodes if isinstance(node, Normalized))
    assert node.share == 0
    x = np.random.default_rng(0).normal(size=(1, 300))
    rows = tf.constant(np.eye(300)[None, :3]), tf.zeros([1, 3], tf.float64)
    found = output_bounds(network, region_of(LpBall(x, 1e-6)), rows, "crown")
    np.testing.assert_allclose(found, model(x)[:, :3], atol=1e-4)


def widths(network, ball, method):
    """Of the bounds of each output."""
    eye = np.eye(int(np.prod(network.output_shape)))
    rows = tf.constant(np.concatenate([eye, -eye])[None]), tf.zeros([1, 2 * len(eye)], tf.float64)
    return -output_bounds(network, region_of(ball), rows, method).numpy().reshape(len(ball), 2, -1).sum(axis=1)


def written(block):
    """Dense, ``block(builder, x)`` and dense, by the builder, in float64."""
    rng, b = np.random.default_rng(0), Builder(tf.float64)
    before, after = (b.constant(rng.normal(size=size) * 0.7) for size in ((3, 4), (4, 2)))
    x = b.linear(b.input((2, 3), "x"), DenseMap(before, (2, 3), 4))
    return b.network(b.linear(block(b, x), DenseMap(after, (2, 4), 2)))[0]


def layer_spelled_out(b, x):
    """Squares, their mean, rsqrt, and the product with the centred numbers."""
    centred = b.linear(x, DenseMap(b.constant(np.eye(4) - 0.25), x.shape, 4))
    ones = DenseMap(b.constant(np.full((4, 4), 0.25)), x.shape, 4)
    mean = b.linear(b.activation(centred, "square"), ones, b.constant(1e-3))
    return b.product(centred, b.activation(mean, "rsqrt"))


def softmax_spelled_out(b, x):
    """Differences, exponential functions, their sums and reciprocals."""
    differences = np.eye(4)[:, None, :] - np.eye(4)[:, :, None]  # [input, one, other]: other minus one
    apart = b.linear(x, DenseMap(b.constant(differences.reshape(4, 16)), x.shape, 16))
    summed = np.kron(np.eye(4), np.ones((4, 1)))
    return b.activation(b.linear(b.activation(apart, "exp"), DenseMap(b.constant(summed), (2, 16), 4)), "reciprocal")


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("method", ["ibp", "crown-ibp", "crown"])
@pytest.mark.parametrize(
    ("block", "chain"),
    [
        (lambda b, x: b.normalized(x, -1, 1e-3, center=(True, True)), layer_spelled_out),
        (lambda b, x: b.softmax(x), softmax_spelled_out),
    ],
)
def test_bounds_are_tighter_than_those_of_the_layer_spelled_out(block, chain, method):
    """Intervals of a softmax are exact either way; single bounds may be wider by 2%."""
    x = np.random.default_rng(3).normal(size=(4, 2, 3))
    networks = written(block), written(chain)
    np.testing.assert_allclose(networks[0](tf.constant(x)), networks[1](tf.constant(x)), atol=1e-12)
    for eps in (0.02, 0.2):
        mine, other = (widths(network, LpBall(x, eps), method) for network in networks)
        assert (mine <= 1.02 * other).all()
        exact = chain is softmax_spelled_out and method == "ibp"
        assert mine.mean() <= (1 + 1e-9 if exact else 0.99 if eps == 0.02 else 0.9) * other.mean()


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("name", DOUBLE)
def test_no_bound_by_planes_is_looser_than_that_of_intervals(name):
    """Of the output, which the methods promise; 1e-9 is rounding."""
    ball = LpBall(np.random.default_rng(3).normal(size=(2, 2, 3)), [0.5, 0.05])
    model = from_keras(model_of(BLOCKS[name], "float64"))
    assert (widths(model, ball, "crown") <= widths(model, ball, "ibp") * (1 + 1e-9)).all()


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("name", ["layer", "unit", "group", "last axis", "masked", "both axes"])
@pytest.mark.parametrize("eps", [0.0, 0.1])
def test_bounds_have_their_gradients_in_the_weights(name, eps):
    model = model_of(BLOCKS[name], "float64")
    network, rng = from_keras(model), np.random.default_rng(2)
    region = region_of(LpBall(rng.normal(size=(1, 2, 3)), eps))
    rows = tf.constant([[[1.0, -1.0], [-1.0, 2.0]]], tf.float64), tf.zeros([1, 2], tf.float64)
    method = {"group": "ibp", "masked": "ibp", "layer": "crown"}.get(name, "crown-ibp")
    check_gradients(model, lambda: tf.reduce_sum(output_bounds(network, region, rows, method)), rng)


def test_a_softmax_at_the_end_is_peeled_off_and_inside_it_is_not():
    i = keras.Input((3,))
    inner = L.Softmax()(L.Dense(4)(i))
    ends = from_keras(keras.Model(i, inner))
    assert ends.peeled and not any(isinstance(node, LogOdds) for node in ends.nodes)
    both = from_keras(keras.Model(i, L.Dense(3, activation="softmax")(inner)))
    assert both.peeled and sum(isinstance(node, LogOdds) for node in both.nodes) == 1
    twice = from_keras(keras.Model(i, L.Add()([inner, inner])))
    assert not twice.peeled and not twice.notes
    assert sum(isinstance(n, Elementwise) and n.activation.name == "sigmoid" for n in twice.nodes) == 1
    first = from_keras(keras.Model((j := keras.Input((3, 2))), L.Softmax(axis=1)(j)))
    assert not first.peeled


def test_margins_of_a_log_softmax_are_those_of_its_logits():
    """Differences of outputs do not see what is subtracted from all of them."""
    i = keras.Input((3,), dtype="float64")
    logits = L.Dense(4, dtype="float64")(L.Dense(5, activation="tanh", dtype="float64")(i))
    x, difference = np.random.default_rng(0).normal(size=(2, 3)), tf.constant([[[1.0, -1, 0, 0]]], tf.float64)
    rows = difference, tf.zeros([1, 1], tf.float64)
    plain, logs = (
        output_bounds(from_keras(keras.Model(i, out)), region_of(LpBall(x, 0.1)), rows, "crown").numpy()
        for out in (logits, ops.log_softmax(logits))
    )
    np.testing.assert_allclose(logs, plain, atol=1e-12)


@pytest.mark.parametrize(
    ("block", "said"),
    [
        (lambda x: ops.normalize(x, order=1), "a norm of order 1"),
        (lambda x: L.LayerNormalization(axis=0)(x), "along the batch"),
        (lambda x: ops.softmax(x, axis=0), "along the batch"),
        (lambda x: L.Softmax()(x, mask=L.Dense(4)(x)), "computed mask"),
        (lambda x: L.GroupNormalization(2, axis=-2)(x), "name it from the front"),
    ],
)
def test_what_is_not_supported_is_refused_with_the_reason(block, said):
    i = keras.Input((2, 4), batch_size=2)
    model = keras.Model(i, L.Dense(2)(block(i)))
    with pytest.raises(UnsupportedLayerError, match=said):
        from_keras(model)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("scale", [1e2, 1e4])
@pytest.mark.parametrize("method", ["ibp", "crown", "forward"])
def test_a_saturated_softmax_stays_bounded_and_free_of_nan(scale, method):
    network = from_keras(model_of(lambda x: L.Softmax()(ops.multiply(x, scale))))
    ball = LpBall(np.random.default_rng(0).normal(size=(2, 2, 3)).astype(np.float32), 1.0)
    rows = tf.constant([[[1.0, 0], [-1, 0], [1, -1]]]), tf.zeros([1, 3])
    lower = output_bounds(network, region_of(ball), rows, method).numpy()
    values = np.stack([network(tf.constant(p, tf.float32)) for p in ball.sample(50, 0)]) @ rows[0].numpy()[0].T
    assert np.isfinite(lower).all()
    assert (lower <= values.min(axis=0) + 1e-4).all()


IMAGES = {
    "softmax over channels": lambda x: L.Softmax()(x),
    "softmax over rows": lambda x: L.Softmax(axis=1)(x),
    "layer": lambda x: L.LayerNormalization()(x),
    "layer, whole image": lambda x: L.LayerNormalization(axis=[1, 2, 3])(x),
    "group": lambda x: L.GroupNormalization(2)(x),
}


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("name", IMAGES)
def test_no_point_leaves_the_bounds_of_images(name):
    """Rows over images are patches, before and behind these layers."""
    i = keras.Input((4, 4, 2), dtype="float64")
    before = L.Conv2D(4, 2, dtype="float64")(i)
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    try:
        after = L.Conv2D(3, 2, strides=2, padding="same", activation="relu")(IMAGES[name](before))
        model = keras.Model(i, L.Dense(2)(L.Flatten()(after)))
    finally:
        keras.config.set_dtype_policy(policy)
    rng = np.random.default_rng(0)
    for variable in model.weights:
        variable.assign(rng.normal(size=variable.shape) * 0.7 + 0.1)
    network = from_keras(model)
    ball = LpBall(rng.normal(size=(2, 4, 4, 2)), [0.3, 0.02])
    rows = tf.constant([[[1.0, 0], [-1, 0], [1, -1]]], tf.float64), tf.zeros([1, 3], tf.float64)
    points = np.concatenate([ball.sample(100, 0), ball.x + rng.choice([-1, 1], (100, 2, 4, 4, 2)) * SIZES])
    values = np.stack([network(tf.constant(p)).numpy() for p in points]) @ rows[0].numpy()[0].T
    for method in GENERAL:
        lower = output_bounds(network, region_of(ball), rows, method, ascent=Ascent(2)).numpy()
        assert np.isfinite(lower).all()
        assert (lower <= values.min(axis=0) + 1e-9 * (1 + np.abs(values).max())).all(), method


SIZES = np.array([0.3, 0.02])[:, None, None, None]
