"""Training by the dual network of Wong and Kolter: the loss, its gradient, and that networks learn by it."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from sweeps import sweep_but

import tfcert
from tfcert.objectives import CrownIBP, DualLP
from tfcert.schedules import Ramp
from training.small import certified, dense_net, robust_step

CLIP = (0, 1)


def deep_net():
    keras.utils.set_random_seed(3)
    layers = keras.layers
    model = keras.Sequential([keras.Input((4,)), *(layers.Dense(9, "relu") for _ in range(3)), layers.Dense(3)])
    for layer in model.layers:
        layer.kernel.assign(2 * layer.kernel)
    return model


def cnn():
    keras.utils.set_random_seed(2)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((6, 6, 1)), layers.Conv2D(3, 3, strides=2, padding="same", activation="relu"),
            layers.BatchNormalization(), layers.Conv2D(4, 2, activation="relu"), layers.Flatten(), layers.Dense(3),
        ]
    )  # fmt: skip


@pytest.mark.parametrize("make", [dense_net, deep_net])
def test_the_loss_is_the_cross_entropy_of_the_margins_that_certification_finds(data, make):
    """And neither CROWN's margins nor those of intervals: the deep network tells them apart."""
    x, y = data[0][:12], data[1][:12]
    model = make()
    found = float(robust_step(certified(model, DualLP(0.1, clip=CLIP)), x, y).loss)
    losses = {}
    for method in ("dual-lp", "crown", "crown-ibp", "ibp"):
        margins = tfcert.margins(model, tfcert.LpBall(x, 0.1, clip=CLIP), y, method=method)
        logits = np.where(np.eye(3)[y] > 0, 0, -margins)
        losses[method] = float(np.mean(keras.losses.sparse_categorical_crossentropy(y, logits, from_logits=True)))
    assert found == pytest.approx(losses["dual-lp"], rel=1e-4)
    if make is deep_net:
        assert all(abs(found - losses[other]) > 1e-2 for other in ("crown", "crown-ibp", "ibp"))


def test_natural_weight_and_regularizers_go_with_it_as_with_any_objective(data):
    x, y = data[0][:12], data[1][:12]
    model = deep_net()
    whole, nominal = (float(robust_step(certified(model, DualLP(eps, clip=CLIP)), x, y).loss) for eps in (0.1, 0.0))
    mixed = float(robust_step(certified(model, DualLP(0.1, kappa=0.25, clip=CLIP)), x, y).loss)
    assert mixed == pytest.approx(0.25 * nominal + 0.75 * whole, rel=1e-4)


def test_the_gradient_goes_through_the_bounds_of_layers(data):
    x, y = data[0][:12], data[1][:12]
    model = deep_net()
    wrapped = certified(model, DualLP(0.1, clip=CLIP))
    step, rng = robust_step(wrapped, x, y), np.random.default_rng(0)
    for variable, gradient in zip(model.trainable_weights, step.gradients, strict=True):
        before, direction = variable.numpy().copy(), rng.normal(size=variable.shape).astype(np.float32)
        ends = []
        for sign in (1, -1):
            variable.assign(before + sign * 1e-3 * direction)
            ends.append(float(robust_step(wrapped, x, y).loss))
        variable.assign(before)
        assert np.sum(gradient.numpy() * direction) == pytest.approx((ends[0] - ends[1]) / 2e-3, rel=2e-2, abs=2e-2)


def squares(count, rng):
    """Images of 6 x 6 whose class is which third is bright."""
    y = rng.integers(0, 3, count)
    x = rng.uniform(0, 0.3, (count, 6, 6, 1)).astype(np.float32)
    for i, label in enumerate(y):
        x[i, 2 * label : 2 * label + 2] += 0.6
    return x, y


@pytest.mark.parametrize("jit", sweep_but([False], [False, True]))
def test_a_convolutional_network_learns_to_be_verified(jit):
    rng = np.random.default_rng(0)
    x, y = squares(96, rng)
    inner = cnn()
    held_out = squares(64, rng)
    before = tfcert.certify(inner, *held_out, eps=0.1, clip=CLIP, method="dual-lp").verified.mean()
    objective = DualLP(Ramp(0.0, 0.1, 0, 4), clip=CLIP)
    wrapped = certified(inner, objective, optimizer=keras.optimizers.Adam(0.02), jit_compile=jit)
    evaluation = tfcert.callbacks.CertifiedEvaluation(held_out, method="dual-lp", every=10)
    history = wrapped.fit(x, y, batch_size=32, epochs=10, verbose=0, callbacks=[evaluation]).history
    after = tfcert.certify(inner, *held_out, eps=0.1, clip=CLIP, method="dual-lp").verified.mean()
    assert before < 0.4 and after > 0.8
    assert history["val_verified_accuracy"][-1] == pytest.approx(after)
    assert np.isfinite(history["loss"]).all()


def test_a_saved_model_goes_on_with_it(data, tmp_path):
    wrapped = certified(dense_net(), DualLP(0.05, clip=CLIP))
    wrapped.fit(*data, batch_size=16, epochs=1, shuffle=False, verbose=0)
    wrapped.save(tmp_path / "m.keras")
    again = tfcert.load_model(tmp_path / "m.keras", compile=True)
    assert type(again.objective) is DualLP and again.objective.get_config() == wrapped.objective.get_config()
    for found in (wrapped, again):
        found.fit(*data, batch_size=16, epochs=1, shuffle=False, verbose=0)
    for ours, theirs in zip(wrapped.model.weights, again.model.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_networks_that_it_is_not_defined_for_are_refused_before_training(data):
    layers = keras.layers
    curved = keras.Sequential([keras.Input((4,)), layers.Dense(5, "tanh"), layers.Dense(3)])
    with pytest.raises(ValueError, match=r"dual-lp is for networks of relu alone, .* is tanh: use the method crown"):
        tfcert.CertifiedModel(curved, DualLP(0.1))
    wrapped = certified(curved, CrownIBP(0.1))
    with pytest.raises(ValueError, match="is tanh"):
        wrapped.fit(*data, verbose=0, callbacks=[tfcert.callbacks.CertifiedEvaluation(data, method="dual-lp")])
    assert int(wrapped.optimizer.iterations) == 0


def test_a_step_on_points_is_plain_training(data):
    """At eps 0 the dual network is the network."""
    x, y = data[0][:8], data[1][:8]
    model = deep_net()
    step = robust_step(certified(model, DualLP(0.0)), x, y)
    with tf.GradientTape() as tape:
        logits = model(x)
        loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(y, logits, from_logits=True))
    assert float(step.loss) == pytest.approx(float(loss), rel=1e-5)
    for ours, plain in zip(step.gradients, tape.gradient(loss, model.trainable_weights), strict=True):
        np.testing.assert_allclose(ours, plain, rtol=1e-3, atol=1e-4)
