"""ParamRamp: its lines, its trained bends, and networks of it that are bounded, trained and saved."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L
from sweeps import sweep_but

import tfcert
from tfcert.layers import ParamRamp
from tfcert.objectives import CrownIBP


def net(slope=0.1, seed=3):
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [keras.Input((4,)), L.Dense(8), ParamRamp(slope), L.Dense(6), ParamRamp(slope), L.Dense(3)]
    )
    for layer in (model.layers[1], model.layers[3]):
        layer.right.assign(np.random.default_rng(seed).uniform(0.05, 0.6, layer.right.shape))
    return model


X = np.random.default_rng(1).uniform(-1, 1, (6, 4)).astype(np.float32)


def test_each_neuron_bends_at_zero_and_at_a_number_of_its_own():
    layer = ParamRamp(slope=0.25)
    layer.build((None, 2))
    layer.right.assign([0.5, 2.0])
    found = layer(np.array([[-2.0, -2.0], [0.25, 0.25], [1.0, 1.0], [4.5, 4.0]], np.float32)).numpy()
    np.testing.assert_allclose(found, [[-0.5, -0.5], [0.25, 0.25], [0.625, 1.0], [1.5, 2.5]], rtol=1e-6)


METHODS = ["alpha-crown", "ibp", "forward", "forward+backward", "crown-ibp", "crown", "milp"]


@pytest.mark.parametrize("method", sweep_but(METHODS[1:], METHODS))
def test_bounds_hold_at_sampled_points(method):
    model = net()
    y = model.predict(X, verbose=0).argmax(axis=1)
    found = tfcert.certify(model, X, y, eps=0.2, method=method)
    points = X[:, None] + np.random.default_rng(2).uniform(-0.2, 0.2, (6, 500, 4)).astype(np.float32)
    values = model.predict(points.reshape(-1, 4), verbose=0).reshape(6, 500, 3)
    own = np.take_along_axis(values, y[:, None, None], axis=2)
    others = np.where(np.arange(3) == y[:, None, None], np.inf, own - values)
    assert (found.margin <= others.min(axis=(1, 2)) + 1e-5).all() and np.isfinite(found.margin).all()


def test_bends_are_trained_stay_above_zero_and_are_saved(tmp_path):
    model = net()
    certified = tfcert.CertifiedModel(model, CrownIBP(0.1, kappa=0.5))
    certified.compile(keras.optimizers.SGD(5.0), jit_compile=False)
    before = model.layers[1].right.numpy()
    certified.fit(X, np.arange(6) % 3, epochs=3, verbose=0)
    after = model.layers[1].right.numpy()
    assert (after != before).any() and (after >= 1e-4).all()
    model.layers[1].slope = 0.0
    model.save(tmp_path / "m.keras")
    again = tfcert.load_model(tmp_path / "m.keras")
    assert again.layers[1].slope == 0.0 and again.layers[3].slope == pytest.approx(0.1)
    np.testing.assert_array_equal(again.predict(X, verbose=0), model.predict(X, verbose=0))


def test_a_slope_that_was_set_is_seen_by_compiled_functions_and_slopes_that_cannot_be_are_refused():
    layer = ParamRamp(0.5)
    compiled = tf.function(layer)
    x = np.array([[-1.0]], np.float32)
    assert compiled(x).numpy() == -0.5
    layer.slope = 0.25
    assert compiled(x).numpy() == -0.25
    with pytest.raises(ValueError, match="slope must be at least 0 and below 1"):
        layer.slope = 1.0
    with pytest.raises(ValueError, match="right must be a number of at least"):
        ParamRamp(right=0.0)
