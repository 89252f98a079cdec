"""Which statistics bounds use in batch normalisation, against NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfcert.objectives import IBP
from training.small import Intervals, certified, crossentropies, dense_net, robust_step

EPS = 0.05


@pytest.fixture
def normalised():
    layer = keras.layers.BatchNormalization(momentum=0.9)
    model = dense_net(layer)
    values = np.random.default_rng(4)
    for variable in (layer.gamma, layer.beta, layer.moving_mean):
        variable.assign(values.normal(size=6))
    layer.moving_variance.assign(values.uniform(0.5, 2.0, size=6))
    return model, layer


def folded(layer, mean, variance):
    scale = layer.gamma.numpy() / np.sqrt(variance + layer.epsilon)
    return {"scale": scale, "shift": layer.beta.numpy() - mean * scale}


def first_outputs(model, x):
    return x.astype(float) @ model.layers[0].kernel.numpy() + model.layers[0].bias.numpy()


def test_batch_statistics_are_those_of_the_nominal_pass(data, normalised):
    (x, y), (model, layer) = data, normalised
    values = first_outputs(model, x)
    exact = Intervals(model, x, EPS, **folded(layer, values.mean(axis=0), values.var(axis=0)))
    before = layer.moving_mean.numpy()
    found = robust_step(certified(model, IBP(EPS, kappa=0.25)), x, y)
    expected = 0.25 * crossentropies(exact.nominal, y).mean() + 0.75 * crossentropies(-exact.margins(y), y).mean()
    np.testing.assert_allclose(float(found.loss), expected, rtol=1e-4)
    np.testing.assert_allclose(layer.moving_mean, 0.9 * before + 0.1 * values.mean(axis=0), rtol=1e-4, atol=1e-6)


def test_moving_statistics_are_those_after_the_nominal_pass(data, normalised):
    (x, y), (model, layer) = data, normalised
    values = first_outputs(model, x)
    mean = 0.9 * layer.moving_mean.numpy() + 0.1 * values.mean(axis=0)
    variance = 0.9 * layer.moving_variance.numpy() + 0.1 * values.var(axis=0)
    bounded = Intervals(model, x, EPS, **folded(layer, mean, variance))
    nominal = Intervals(model, x, EPS, **folded(layer, values.mean(axis=0), values.var(axis=0)))
    found = robust_step(certified(model, IBP(EPS, kappa=0.25, batch_norm="moving")), x, y)
    expected = 0.25 * crossentropies(nominal.nominal, y).mean() + 0.75 * crossentropies(-bounded.margins(y), y).mean()
    np.testing.assert_allclose(float(found.loss), expected, rtol=1e-4)


def test_gradients_flow_through_the_batch_s_statistics(data, normalised):
    """The kernel's gradient by the robust loss alone agrees with finite differences in float64."""
    (x, y), (model, layer) = data, normalised
    found = robust_step(certified(model, IBP(EPS, kappa=0.0)), x, y)
    kernel = model.layers[0].kernel
    start = kernel.numpy()

    def loss(change):
        kernel.assign(start)
        w = start.astype(float) + change
        values = x.astype(float) @ w + model.layers[0].bias.numpy()
        part = folded(layer, values.mean(axis=0), values.var(axis=0))
        exact = Intervals(model, x, EPS, **part)
        first = w * part["scale"], model.layers[0].bias.numpy() * part["scale"] + part["shift"]
        lower, upper = Intervals.through(*first, x.astype(float) - EPS, x.astype(float) + EPS)
        exact.hidden = np.maximum(lower, 0), np.maximum(upper, 0)
        return crossentropies(-exact.margins(y), y).mean()

    for place in ((0, 0), (2, 3), (3, 5)):
        change = np.zeros_like(start, dtype=float)
        change[place] = 1e-6
        slope = (loss(change) - loss(-change)) / 2e-6
        np.testing.assert_allclose(float(found.gradients[0][place]), slope, rtol=2e-3, atol=1e-6)


def test_frozen_layers_keep_their_moving_statistics(data, normalised):
    (x, y), (model, layer) = data, normalised
    layer.trainable = False
    exact = Intervals(model, x, EPS, **folded(layer, layer.moving_mean.numpy(), layer.moving_variance.numpy()))
    found = robust_step(certified(model, IBP(EPS, kappa=0.0)), x, y)
    np.testing.assert_allclose(float(found.loss), crossentropies(-exact.margins(y), y).mean(), rtol=1e-4)


def test_a_layer_called_twice_has_no_single_statistics(data):
    layers = keras.layers
    inputs, shared = keras.Input((4,)), layers.BatchNormalization()
    model = keras.Model(inputs, layers.Dense(3)(shared(layers.ReLU()(shared(inputs)))))
    with pytest.raises(ValueError, match=r'is called twice.*batch_norm="moving"'):
        certified(model, IBP(EPS)).fit(*data, verbose=0)
    certified(model, IBP(EPS, batch_norm="moving")).fit(*data, verbose=0)
    assert "_moments" not in shared.__dict__


def test_statistics_of_a_strategy_s_replicas_are_recorded(data):
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        model = certified(dense_net(keras.layers.BatchNormalization(synchronized=True)), IBP(EPS))
    found = model.fit(*data, batch_size=48, verbose=0).history
    alone = certified(dense_net(keras.layers.BatchNormalization()), IBP(EPS))
    np.testing.assert_allclose(found["loss"], alone.fit(*data, batch_size=48, verbose=0).history["loss"], rtol=1e-5)
