"""A CertifiedModel is a Keras model: labels, weights, data sets, strategies, and what it refuses."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfcert
from tfcert.objectives import IBP, CrownIBP
from tfcert.schedules import Ramp
from training.small import Intervals, certified, crossentropies, dense_net, robust_step

EPS, CLIP = 0.05, (0.0, 1.0)


def fitted(data, objective=None, **compiled):
    """The weights after two epochs; ``data`` is what ``fit`` takes."""
    model = certified(dense_net(), objective or IBP(EPS, clip=CLIP), **compiled)
    arguments = data if isinstance(data, dict) else {"x": data[0], "y": data[1]}
    history = model.fit(**{"batch_size": 16, "epochs": 2, "verbose": 0, "shuffle": False} | arguments)
    return [w.numpy() for w in model.model.weights], history.history


def assert_same(left, right):
    for a, b in zip(left, right, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("objective", [IBP, CrownIBP])
def test_labels_may_be_classes_columns_of_classes_or_one_hot(data, objective):
    """The last batch is a part of one: its size is not known when the step is traced."""
    x, y = data[0][:40], data[1][:40]
    wanted, history = fitted((x, y), objective(EPS, clip=CLIP), metrics=["accuracy"])
    for labels in (y[:, None], np.eye(3)[y]) if objective is IBP else (np.eye(3)[y],):
        found, other = fitted((x, labels), objective(EPS, clip=CLIP), metrics=["accuracy"])
        assert_same(wanted, found)
        assert other["accuracy"] == history["accuracy"]
        assert other["verified_accuracy"] == history["verified_accuracy"]


def test_a_loss_of_the_user_s_is_both_terms(data):
    x, y = data
    wanted, _ = fitted((x, y))
    named = keras.losses.CategoricalCrossentropy(from_logits=True)
    assert_same(wanted, fitted((x, np.eye(3)[y]), loss=named)[0])

    def hinge(y_true, y_pred):
        label = tf.one_hot(tf.cast(tf.reshape(y_true, [-1]), tf.int32), 3)
        own = tf.reduce_sum(label * y_pred, axis=1, keepdims=True)
        return tf.reduce_sum((1 - label) * tf.nn.relu(1 + y_pred - own), axis=1)

    model = dense_net()
    exact = Intervals(model, x, EPS, CLIP)

    def numpy_hinge(logits):
        own = logits[np.arange(len(y)), y][:, None]
        return ((1 - np.eye(3)[y]) * np.maximum(0, 1 + logits - own)).sum(axis=1).mean()

    found = robust_step(certified(model, IBP(EPS, kappa=0.5, clip=CLIP), loss=hinge), x, y)
    expected = 0.5 * numpy_hinge(exact.nominal) + 0.5 * numpy_hinge(-exact.margins(y))
    np.testing.assert_allclose(float(found.loss), expected, rtol=1e-5)


def test_weights_of_samples_multiply_both_terms_and_weights_of_classes_are_such(data):
    x, y = data
    weights = np.linspace(0, 2, len(x)).astype(np.float32)
    model = dense_net()
    exact = Intervals(model, x, EPS, CLIP)
    both = 0.5 * crossentropies(exact.nominal, y) + 0.5 * crossentropies(-exact.margins(y), y)
    found = robust_step(certified(model, IBP(EPS, clip=CLIP)), x, y, weights)
    np.testing.assert_allclose(float(found.loss), (weights * both).mean(), rtol=1e-5)
    by_class, _ = fitted({"x": x, "y": y, "class_weight": {0: 1.0, 1: 0.5, 2: 3.0}})
    by_sample, _ = fitted({"x": x, "y": y, "sample_weight": np.array([1.0, 0.5, 3.0])[y]})
    assert_same(by_class, by_sample)


def test_data_sets_and_arrays_train_the_same(data):
    wanted, _ = fitted(data)
    pipeline = tf.data.Dataset.from_tensor_slices(data).batch(16)
    assert_same(wanted, fitted({"x": pipeline, "batch_size": None})[0])


def test_compiled_steps_and_plain_graphs_train_the_same(data):
    assert_same(fitted(data, jit_compile=False)[0], fitted(data, jit_compile=True)[0])


def test_a_strategy_of_one_device_trains_the_same(data):
    wanted, _ = fitted(data)
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        model = certified(dense_net(), IBP(EPS, clip=CLIP))
    model.fit(*data, batch_size=16, epochs=2, verbose=0, shuffle=False)
    assert_same(wanted, [w.numpy() for w in model.model.weights])


def test_clipped_gradients_and_accumulated_ones_are_the_optimizer_s_business(data):
    x, y = data
    wanted, _ = fitted({"x": x, "y": y, "batch_size": 48})
    accumulated = keras.optimizers.SGD(0.1, gradient_accumulation_steps=3)
    model = certified(dense_net(), IBP(EPS, clip=CLIP, kappa=Ramp(1.0, 0.5, 0, 1)), optimizer=accumulated)
    model.fit(x, y, batch_size=16, epochs=2, verbose=0, shuffle=False)
    assert model.objective.steps_per_epoch == 1
    clipped, _ = fitted((x, y), optimizer=keras.optimizers.SGD(0.1, clipnorm=1e-9))
    start = dense_net().get_weights()
    assert_same(start, clipped)
    assert not np.allclose(start[0], wanted[0], atol=1e-4)


def test_verified_accuracy_is_that_of_certification(data):
    x, y = data
    model = certified(dense_net(), IBP(0.02, clip=CLIP), optimizer="adam", metrics=["accuracy"])
    model.fit(x, y, epochs=60, batch_size=16, verbose=0)
    logs = model.evaluate(x, y, verbose=0, return_dict=True)
    verified = tfcert.certify(model, x, y, eps=0.02, clip=CLIP, method="ibp").verified
    np.testing.assert_allclose(logs["verified_accuracy"], verified.mean(), atol=1e-6)
    assert 0.1 < verified.mean() < logs["accuracy"] == np.float32((model.predict(x, verbose=0).argmax(1) == y).mean())


def test_evaluation_is_at_the_end_of_the_schedules_without_the_factor(data):
    x, y = data
    ramped = certified(dense_net(), IBP(Ramp(0.0, EPS, 1, 9), kappa=Ramp(1, 0.5, 1, 9), clip=CLIP, eps_factor=1.5))
    fixed = certified(ramped.model, IBP(EPS, kappa=0.5, clip=CLIP))
    ramped.objective.steps_per_epoch = 3
    assert ramped.evaluate(x, y, verbose=0) == fixed.evaluate(x, y, verbose=0)


def test_margins_that_are_zero_infinite_or_lost_verify_nothing():
    metric = tfcert.metrics.VerifiedAccuracy()
    metric.update_state([1e-30, 0.0, -1.0, np.nan, np.inf])
    assert float(metric.result()) == np.float32(0.2)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1), keras.layers.ReLU(), keras.layers.Dense(2)])
    model.set_weights([np.array([[1.0]]), np.zeros(1), np.array([[0.0, 0.0]]), np.array([0.0, 1.0])])
    wrapped = certified(model, IBP(100.0, kappa=0.5))
    assert wrapped.evaluate(np.ones((1, 1)), np.ones(1, int), verbose=0, return_dict=True)["verified_accuracy"] == 1
    model.layers[0].kernel.assign([[1e38]])
    # The bias alone decides, but the intervals overflow: nothing is known of them.
    assert (
        wrapped.evaluate(np.ones((1, 1), np.float32), np.ones(1, int), verbose=0, return_dict=True)["verified_accuracy"]
        == 0
    )


def test_radii_are_averaged_with_zero_for_none():
    metric = tfcert.metrics.MeanCertifiedRadius()
    metric.update_state([0.2, 0.0, np.nan, 0.4])
    np.testing.assert_allclose(float(metric.result()), 0.15, rtol=1e-6)


def test_bounds_are_no_predictions(data):
    model = certified(dense_net(), IBP(EPS), metrics=[tfcert.metrics.VerifiedAccuracy(name="mine")])
    with pytest.raises(ValueError, match="fed with certified margins"):
        model.fit(*data, verbose=0)


def test_a_range_that_differs_by_feature_clips_each(data):
    x, y = data
    clip = ([0.2, 0.0, 0.0, 0.3], [1.0, 0.9, 1.0, 1.0])
    x = np.clip(x, *np.float32(clip))
    model = dense_net()
    found = robust_step(certified(model, IBP(0.1, kappa=0.0, clip=clip)), x, y)
    exact = Intervals(model, x, 0.1, np.array(clip))
    np.testing.assert_allclose(float(found.loss), crossentropies(-exact.margins(y), y).mean(), rtol=1e-5)


def test_samples_outside_of_the_valid_range_are_refused_whenever_they_come(data, eager):
    x, y = data
    pixels, late = 255 * x, x.copy()
    late[-1, 0] = np.nan
    for arguments in ({"x": pixels}, {"x": late, "batch_size": 24}, {"x": x, "validation_data": (pixels, y)}):
        model = certified(dense_net(), IBP(EPS, clip=CLIP), metrics=["accuracy"])
        with pytest.raises(ValueError, match=r"outside the clip range of the objective \(low \[0.0\], high \[1.0\]\)"):
            model.fit(**{"y": y, "batch_size": 48, "verbose": 0, "shuffle": False} | arguments)
    with pytest.raises(ValueError, match="48 samples hold values outside"):
        model.evaluate(pixels, y, batch_size=48, verbose=0)
    rounded = x.copy()
    rounded[0, 0] = 1.00001
    assert sorted(model.evaluate(rounded, y, verbose=0, return_dict=True)) == ["accuracy", "loss", "verified_accuracy"]
    certified(dense_net(), IBP(EPS, clip=(0, 255))).fit(pixels, y, verbose=0)


def test_a_label_that_is_no_class_verifies_nothing(data):
    x, _ = data
    found = robust_step(certified(dense_net(), IBP(0.001), loss=lambda y, f: tf.reduce_sum(f, 1)), x, np.full(48, 7))
    assert np.isnan(found.margin.numpy()).all()


@pytest.mark.parametrize("rows", [False, True])
def test_the_inner_model_evaluates_after_training_and_its_file_needs_nothing_of_ours(data, tmp_path, rows):
    x, y = data[0], np.eye(3)[data[1]] if rows else data[1]
    model = certified(dense_net(), IBP(EPS, kappa=1.0), metrics=["accuracy"])
    model.fit(x, y, verbose=0)
    loss, accuracy = model.model.evaluate(x, y, verbose=0)
    wrapped = model.evaluate(x, y, verbose=0, return_dict=True)
    assert accuracy == wrapped["accuracy"] and loss == pytest.approx(wrapped["loss"], rel=1e-5)
    model.model.save(tmp_path / "plain.keras")
    code = (
        "import keras, sys; m = keras.models.load_model(sys.argv[1]); assert m.compiled and 'tfcert' not in sys.modules"
    )
    if not rows:
        subprocess.run([sys.executable, "-c", code, str(tmp_path / "plain.keras")], check=True, capture_output=True)


def test_what_the_user_compiled_or_wrote_stays_his(data):
    mine = dense_net()
    mine.compile("sgd", "mse")
    certified(mine, IBP(EPS)).fit(*data, verbose=0)
    assert mine.loss == "mse"
    own = certified(dense_net(), IBP(EPS), loss=lambda y, f: tf.reduce_sum(f, axis=1))
    own.fit(*data, verbose=0)
    assert not own.model.compiled


def test_kappa_and_natural_weight_are_one_weight():
    named = IBP("8/255", natural_weight=Ramp(1.0, 0.25, 0, 1))
    assert named.get_config() == IBP(8 / 255, kappa=Ramp(1.0, 0.25, 0, 1)).get_config()
    assert "natural_weight" not in named.get_config()
    with pytest.raises(ValueError, match="two names of one weight: give one of them"):
        CrownIBP(0.1, kappa=0.5, natural_weight=0.5)
    with pytest.raises(ValueError, match="low end is above its high end"):
        IBP(0.1, clip=(1, 0))


def refused(model, error, reason, objective=None):
    with pytest.raises(error, match=reason):
        tfcert.CertifiedModel(model, objective or IBP(EPS))


def test_models_that_bounds_cannot_be_trained_on_are_refused_in_words():
    layers = keras.layers
    softmax = keras.Sequential([keras.Input((4,)), layers.Dense(3, activation="softmax")])
    refused(softmax, tfcert.UnsupportedLayerError, "ends in a softmax")
    refused(keras.Sequential([keras.Input((4,)), layers.Dense(1)]), ValueError, "at least two classes")
    refused(keras.Sequential([keras.Input((None, 4)), layers.Dense(3)]), ValueError, "unknown dimensions")
    stateful = keras.Sequential([keras.Input((5, 4), batch_size=2), layers.SimpleRNN(3, stateful=True)])
    refused(stateful, tfcert.UnsupportedLayerError, "is stateful")
    refused(dense_net(), TypeError, "expected an objective", "ibp")


@pytest.mark.parametrize(
    "loss",
    ["sparse_categorical_crossentropy", keras.losses.CategoricalCrossentropy(), keras.losses.categorical_crossentropy],
)
def test_losses_that_read_probabilities_are_refused(loss):
    with pytest.raises(ValueError, match="from_logits=True"):
        certified(dense_net(), IBP(EPS), loss=loss)


def test_epochs_of_a_data_set_without_length_are_an_error(data):
    endless = tf.data.Dataset.from_tensor_slices(data).repeat().batch(16)
    filtered = tf.data.Dataset.from_tensor_slices(data).filter(lambda x, y: True).batch(16)
    model = certified(dense_net(), IBP(Ramp(0, EPS, 1, 2)))
    with pytest.raises(ValueError, match='unit="steps"'):
        model.fit(filtered, verbose=0)
    model.fit(endless, steps_per_epoch=2, verbose=0)
    assert model.objective.steps_per_epoch == 2
    by_steps = certified(dense_net(), IBP(Ramp(0, EPS, 1, 2, "steps")))
    by_steps.fit(filtered, verbose=0)


def test_a_later_fit_with_other_batches_keeps_the_length_of_an_epoch_and_says_so(data):
    model = certified(dense_net(), IBP(Ramp(0, EPS, 1, 2)))
    model.fit(*data, batch_size=16, verbose=0)
    with pytest.warns(UserWarning, match="go on with 3 steps in an epoch"):
        model.fit(*data, batch_size=8, verbose=0)
    assert model.objective.steps_per_epoch == 3
