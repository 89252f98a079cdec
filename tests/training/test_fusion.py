"""Loss fusion: one row a sample bounds the robust cross-entropy as a whole."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfcert.objectives import CrownIBP
from tfcert.propagation.bounds import output_bounds
from tfcert.training.step import Labelled
from training.small import CLASSES, Intervals, certified, crossentropies, dense_net, robust_step

EPS, CLIP = 0.06, (0.0, 1.0)
LAYERS = keras.layers


def normalised():
    model = dense_net(LAYERS.BatchNormalization(), LAYERS.Dropout(0.5))
    model.layers[1].moving_mean.assign(np.linspace(-0.2, 0.2, 6))
    return model


def residual():
    inputs = keras.Input((4,))
    first = LAYERS.Dense(5, activation="relu")(inputs)
    second = LAYERS.Dense(5, activation="tanh")(first)
    return keras.Model(inputs, LAYERS.Dense(3)(LAYERS.Add()([first, second])))


def pooled():
    layers = [LAYERS.Reshape((2, 2, 1)), LAYERS.Conv2D(4, 2, padding="same", activation="leaky_relu")]
    return keras.Sequential([keras.Input((4,)), *layers, LAYERS.MaxPooling2D(2), LAYERS.Flatten(), LAYERS.Dense(3)])


def ending_in_relu():
    return keras.Sequential([keras.Input((4,)), *dense_net().layers, LAYERS.ReLU()])


NETWORKS = [dense_net, normalised, residual, pooled, ending_in_relu]


def batch_of(model, x, y, eps, **options):
    wrapped = certified(model, CrownIBP(eps, clip=CLIP, **options))
    labelled = Labelled(tf.constant(x), tf.constant(y), None)
    return wrapped._stepper._batch(labelled, tf.constant(eps), tf.constant(0, tf.int64))


def fused(model, x, y, eps):
    """The bound of each sample's cross-entropy."""
    return crossentropies(batch_of(model, x, y, eps).fused_logits().numpy().astype(float), y)


def worst_found(model, x, y, eps, rng):
    """The greatest cross-entropy of each sample over corners and other points of its box."""
    ends = np.maximum(x - np.float32(eps), 0), np.minimum(x + np.float32(eps), 1)
    corners = np.array(np.meshgrid(*[[0.0, 1.0]] * 4)).reshape(4, -1).T
    shares = np.concatenate([corners, rng.random((40, 4))]).astype(np.float32)
    points = [ends[0] + share * (ends[1] - ends[0]) for share in shares]
    return np.max([crossentropies(model(p, training=False).numpy().astype(float), y) for p in points], axis=0)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("eps", [0.01, 0.3])
def test_no_point_of_a_box_has_a_greater_loss_than_the_bound(data, rng, network, eps):
    keras.utils.set_random_seed(3)
    (x, y), model = data, network()
    assert np.all(fused(model, x, y, eps) >= worst_found(model, x, y, eps, rng) - 1e-5)


@pytest.mark.parametrize("network", NETWORKS)
def test_a_point_has_its_own_loss(data, network):
    keras.utils.set_random_seed(3)
    (x, y), model = data, network()
    logits = model(x, training=False).numpy().astype(float)
    np.testing.assert_allclose(fused(model, x, y, 0.0), crossentropies(logits, y), rtol=1e-5, atol=1e-6)


def test_the_bound_is_that_of_crown_ibp_for_the_chords_of_the_exponentials(data):
    (x, y), model = data, dense_net()
    batch, exact = batch_of(model, x, y, EPS), Intervals(model, x, EPS, CLIP)
    label = np.eye(CLASSES)[y]
    upper = -exact.margins(y)
    middle = (exact.logits[0] + exact.logits[1]) / 2
    lower = 2 * (middle - (middle * label).sum(axis=1, keepdims=True)) - upper
    width = np.where(label == 1, 1, upper - lower)
    slope = (1 - label) * (np.exp(upper) - np.exp(lower)) / width
    row = label * slope.sum(axis=1, keepdims=True) - slope  # minus the sum of the chords, but for a constant
    rows = tf.constant(row[:, None], tf.float32), tf.zeros([1, 1])
    least, by_intervals = (
        output_bounds(batch.network, batch.region, rows, method).numpy()[:, 0] for method in ("crown-ibp", "ibp")
    )
    total = ((1 - label) * (np.exp(upper) - slope * upper)).sum(axis=1) - least
    lines = least > by_intervals + 1e-4  # certification takes the better of lines and intervals, training takes lines
    assert lines.sum() > 10
    np.testing.assert_allclose(fused(model, x, y, EPS)[lines], np.log(1 + total)[lines], rtol=1e-4)


@pytest.mark.parametrize("beta", [1.0, 0.4, 0.0])
def test_a_mixture_is_of_the_losses(data, beta):
    (x, y), model = data, dense_net()
    by_intervals = crossentropies(-Intervals(model, x, EPS, CLIP).margins(y), y)
    expected = beta * fused(model, x, y, EPS).mean() + (1 - beta) * by_intervals.mean()
    found = robust_step(certified(model, CrownIBP(EPS, clip=CLIP, beta=beta)), x, y)
    np.testing.assert_allclose(float(found.loss), expected, rtol=1e-5)


@pytest.mark.parametrize("rows", [True, False])
def test_samples_count_by_their_weights_and_labels_come_in_both_forms(data, rows):
    (x, y), model = data, dense_net()
    weights = np.linspace(0, 2, len(x), dtype=np.float32)
    expected = (weights * fused(model, x, y, EPS)).mean()
    labels = np.eye(CLASSES, dtype=np.float32)[y] if rows else y
    loss = [None, keras.losses.CategoricalCrossentropy(from_logits=True)][rows]
    found = robust_step(certified(model, CrownIBP(EPS, clip=CLIP), loss=loss), x, labels, weights)
    np.testing.assert_allclose(float(found.loss), expected, rtol=1e-5)


@pytest.mark.parametrize(
    "loss",
    [
        keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
        keras.losses.CategoricalFocalCrossentropy(from_logits=True),
        lambda labels, logits: tf.reduce_max(logits - tf.reduce_sum(labels * logits, axis=1, keepdims=True), axis=1),
    ],
)
def test_another_loss_reads_margins(data, loss):
    (x, y), model = data, dense_net()
    labels = np.eye(CLASSES, dtype=np.float32)[y]
    losses = [
        robust_step(certified(model, CrownIBP(EPS, clip=CLIP, fuse=fuse), loss=loss), x, labels).loss
        for fuse in (True, False)
    ]
    assert float(losses[0]) == float(losses[1])


def test_logits_too_large_for_an_exponential_have_finite_losses_and_gradients(data):
    (x, y), model = data, dense_net()
    for variable in model.layers[-1].variables:
        variable.assign(1e4 * variable)
    found = robust_step(certified(model, CrownIBP(EPS, clip=CLIP)), x, y)
    slow = robust_step(certified(model, CrownIBP(EPS, clip=CLIP, fuse=False)), x, y)
    assert float(found.loss) == pytest.approx(float(slow.loss), rel=0.3) and float(found.loss) > 200
    assert all(np.isfinite(gradient).all() for gradient in found.gradients)


def test_two_classes_are_one_chord_and_float64_is_kept(data):
    x, y = data[0].astype(np.float64), data[1] % 2
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,), dtype="float64")
    hidden = LAYERS.Dense(6, activation="relu", dtype="float64")(inputs)
    model = keras.Model(inputs, LAYERS.Dense(2, dtype="float64")(hidden))
    batch = batch_of(model, x, y, EPS)
    found = batch.fused_logits()
    assert found.dtype == tf.float64
    np.testing.assert_allclose(fused(model, x, y, 0.0), crossentropies(model(x).numpy(), y), rtol=1e-12)


@pytest.mark.parametrize("jit", [True, False])
def test_training_with_the_bound_proves_more(data, jit):
    (x, y), model = data, dense_net()
    wrapped = certified(model, CrownIBP(0.02, clip=CLIP), optimizer=keras.optimizers.Adam(0.02), jit_compile=jit)
    history = wrapped.fit(x, y, batch_size=16, epochs=40, verbose=0, class_weight={0: 1.0, 1: 2.0, 2: 1.0}).history
    assert history["loss"][-1] < 0.7 * history["loss"][0]
    assert history["verified_accuracy"][-1] > history["verified_accuracy"][0] + 0.1
