"""Certified training of models with several inputs, and with radii that differ between them."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L

import tfcert
from tfcert.objectives import IBP, CrownIBP
from tfcert.training.batch import boxes

SCALE = {"image": 1.0, "tab": 0.25}
CLIP = {"image": (0.0, 1.0)}


def models():
    """A model of two inputs, and the same of one that holds both, with the same weights."""
    keras.utils.set_random_seed(4)
    image, tab = keras.Input((3, 2), name="image"), keras.Input((4,), name="tab")
    both = L.Concatenate()([L.Flatten()(L.Dense(3, activation="relu")(image)), tab])
    two = keras.Model([image, tab], L.Dense(3)(L.Dense(8, activation="relu")(both)))
    z = keras.Input((10,))
    one = keras.models.clone_model(two)
    one.set_weights(two.get_weights())
    return two, keras.Model(z, one([L.Reshape((3, 2))(z[:, :6]), z[:, 6:]]))


def data(count=32):
    rng = np.random.default_rng(0)
    x = {"image": rng.random((count, 3, 2), np.float32), "tab": rng.normal(size=(count, 4)).astype(np.float32)}
    return x, (x["tab"].sum(1) > 0).astype(int) + (x["image"].mean((1, 2)) > 0.5)


@pytest.mark.parametrize("objective", [IBP, CrownIBP])
def test_training_of_two_inputs_is_that_of_one_that_holds_both(objective):
    """The same losses and weights: radii and ranges are by input in one, by number in the other."""
    two, one = models()
    x, y = data()
    flat = np.concatenate([x["image"].reshape(-1, 6), x["tab"]], axis=1)
    shares = [1.0] * 6 + [0.25] * 4
    ends = [0.0] * 6 + [-1e6] * 4, [1.0] * 6 + [1e6] * 4
    found = tfcert.CertifiedModel(two, objective(0.1, kappa=0.5, scale=SCALE, clip=CLIP))
    same = tfcert.CertifiedModel(one, objective(0.1, kappa=0.5, scale=shares, clip=ends))
    histories = []
    for model, inputs in ((found, [x["image"], x["tab"]]), (same, flat)):
        model.compile(keras.optimizers.SGD(0.1))
        histories.append(model.fit(inputs, y, batch_size=16, epochs=2, shuffle=False, verbose=0).history)
    for key, values in histories[0].items():
        np.testing.assert_allclose(values, histories[1][key], rtol=1e-4, err_msg=key)
    for a, b in zip(two.get_weights(), one.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.fixture(scope="module")
def trained():
    two, _ = models()
    x, y = data()
    certified = tfcert.CertifiedModel(two, IBP(0.05, scale=SCALE, clip=CLIP))
    certified.compile("adam")
    evaluation = tfcert.callbacks.CertifiedEvaluation((x, y), method="ibp", attack={"steps": 2})
    widths = tfcert.callbacks.IntervalWidths((x, y))
    history = certified.fit(
        tf.data.Dataset.from_tensor_slices((x, y)).batch(16), epochs=1, verbose=0, callbacks=[evaluation, widths]
    ).history
    return certified, history, evaluation, (x, y)


def test_callbacks_evaluate_at_the_radii_of_training(trained):
    certified, history, _, (x, y) = trained
    eps = {name: 0.05 * share for name, share in SCALE.items()}
    wanted = tfcert.certify(certified.model, x, y, eps=eps, clip=CLIP, method="ibp").verified.mean()
    assert history["val_verified_accuracy"][-1] == pytest.approx(wanted)
    assert history["val_attack_accuracy"][-1] >= wanted
    assert history["interval_width/total"][-1] > 0


def test_scales_and_ranges_by_name_are_saved(trained, tmp_path):
    certified, _, _, (x, _) = trained
    certified.save(tmp_path / "two.keras")
    loaded = tfcert.load_model(tmp_path / "two.keras")
    assert loaded.objective.get_config() == certified.objective.get_config()
    np.testing.assert_array_equal(loaded.scale, [1.0] * 6 + [0.25] * 4)
    inputs = [x["image"], x["tab"]]
    np.testing.assert_array_equal(loaded.predict(inputs, verbose=0), certified.predict(inputs, verbose=0))


def test_what_is_held_fixed_has_boxes_without_width():
    x = tf.constant([[0.5, 0.5, 0.5]])
    region = boxes(x, tf.constant(0.1), (0.0, 1.0), np.array([1.0, 0.0, 2.0]))
    np.testing.assert_allclose(region.upper - region.lower, [[0.2, 0.0, 0.4]], rtol=1e-6)


def test_values_outside_a_range_by_name_are_refused():
    two, _ = models()
    x, y = data()
    certified = tfcert.CertifiedModel(two, IBP(0.1, clip={"tab": (-1.0, 1.0)}))
    certified.compile("sgd")
    with pytest.raises(ValueError, match="outside the clip range"):
        certified.fit([x["image"], 10 * x["tab"]], y, verbose=0)


def test_scales_that_fit_no_input_are_refused():
    two, _ = models()
    with pytest.raises(ValueError, match="missing: 'tab'"):
        tfcert.CertifiedModel(two, IBP(0.1, scale={"image": 1.0}))
    with pytest.raises(ValueError, match="not negative"):
        tfcert.CertifiedModel(two, IBP(0.1, scale={"image": 1.0, "tab": -1.0}))
