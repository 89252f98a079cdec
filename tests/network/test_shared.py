"""Networks that hold the weights of others of their structure, one after another."""

from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfcert.network.cache import network_of
from tfcert.network.shared import held, holder_of
from tfcert.roundoff import rounding_of

POINTS = np.random.default_rng(0).uniform(-1, 1, (20, 3)).astype(np.float32)


def mlp(seed, *, width=4, activation="relu", scaled=False):
    keras.utils.set_random_seed(seed)
    layers = [keras.layers.Dense(width, activation=activation, bias_initializer="normal")]
    layers += [keras.layers.BatchNormalization()] if scaled else []
    model = keras.Sequential([keras.Input((3,)), *layers, keras.layers.Dense(2, bias_initializer="normal")])
    if scaled:
        model.layers[1].set_weights([np.random.default_rng(seed).uniform(0.5, 2, width) for _ in range(4)])
    return model


def wide(model):
    """The network as searches ask it: in float64, rounded."""
    return network_of(model).astype(tf.float64).rounded(rounding_of("deployed", np.float32, np.float64))


@pytest.mark.parametrize("scaled", [False, True], ids=["dense", "batch norm"])
def test_a_holder_is_each_network_in_turn(scaled):
    """Catches weights of another network: bounds of those would be proofs about the wrong one."""
    models = [mlp(seed, scaled=scaled) for seed in (1, 2)]
    (holder,) = {holder_of(wide(model)) for model in models}
    for owner, model in [("a", models[0]), ("b", models[1]), ("a", models[0])]:
        holder.hold(owner, wide(model))
        found = holder.network(tf.constant(POINTS, tf.float64)).numpy()
        assert np.allclose(found, model(POINTS), atol=1e-6)
        assert bool(holder.network.finite())
    models[0].layers[-1].bias.assign([np.nan, 0.0])
    assert not bool(held(wide(models[0])).finite())


def test_weights_that_have_changed_since_are_taken_up():
    model = mlp(3)
    before = held(wide(model))(tf.constant(POINTS, tf.float64)).numpy()
    model.layers[0].kernel.assign(2 * model.layers[0].kernel)
    after = held(wide(model))(tf.constant(POINTS, tf.float64)).numpy()
    assert np.allclose(after, model(POINTS), atol=1e-6) and not np.allclose(before, after)


def test_whatever_a_trace_depends_on_tells_networks_apart():
    """Catches a trace that is used for another shape, activation, rounding or order of nodes."""
    network = wide(mlp(1))
    others = [mlp(1, width=5), mlp(1, activation="tanh"), mlp(1, scaled=True)]
    found = [network, *map(wide, others), network.rounded(None), network.rounded(rounding_of("real", "f4", "f8"))]
    found.append(wide(mlp(1, activation=keras.layers.LeakyReLU(0.3))))
    holders = [holder_of(part) for part in found]
    assert len(set(holders)) == len(found)


def test_networks_of_other_layers_are_asked_themselves():
    model = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.MaxPooling2D(), keras.layers.Flatten()])
    network = network_of(model)
    assert holder_of(network) is None and held(network) is network


def test_threads_hold_networks_of_their_own():
    """Catches weights that another thread takes up between a thread's own and its bounds of them."""
    mine = holder_of(wide(mlp(1)))
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: holder_of(wide(mlp(2)))).result() is not mine
    assert holder_of(wide(mlp(2))) is mine
