"""Several networks as one: it computes what they do, and bounds of it are no looser than those of each by itself."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L

import tfcert
from tfcert.network import Network, from_keras
from tfcert.network.joint import Applied, joint
from tfcert.propagation.bounds import output_bounds
from tfcert.sets.balls import Box
from tfcert.sets.region import region_of


def model(inputs: int, outputs: int, activation: str = "relu", head: str | None = None) -> keras.Model:
    layers = [keras.Input((inputs,)), L.Dense(5, activation), L.Dense(4, activation), L.Dense(outputs, head)]
    return keras.Sequential(layers)


def answers(network: Network, x: np.ndarray) -> np.ndarray:
    return np.asarray(network(tf.constant(x)))


def points(size: int, rng: np.random.Generator, count: int = 7) -> np.ndarray:
    return rng.normal(size=(count, size)).astype(np.float32)


def test_the_outputs_of_all_applications_and_the_inputs_shown_stand_side_by_side(seed, rng):
    one, other = model(3, 2), model(2, 3, "tanh")
    first, second = np.array([0, 1, 2]), np.array([4, 1])
    whole = joint([Applied(from_keras(one), first), Applied(from_keras(other), second)], 5, [4, 0])
    x = points(5, rng)
    expected = [one(x[:, first]), other(x[:, second]), x[:, [4, 0]]]
    assert whole.input_shape == (5,) and whole.output_shape == (7,)
    np.testing.assert_allclose(answers(whole, x), np.concatenate(expected, axis=1), rtol=1e-5, atol=1e-6)


def test_weights_are_shared_and_stay_live(seed, rng):
    one = model(2, 2)
    network = from_keras(one)
    whole = joint([Applied(network, np.array([0, 1])), Applied(network, np.array([2, 3]))], 4)
    assert len(whole.weights) == len(network.weights)
    one.layers[0].kernel.assign(np.full((2, 5), 0.3))
    x = points(4, rng)
    expected = np.concatenate([one(x[:, :2]), one(x[:, 2:])], axis=1)
    np.testing.assert_allclose(answers(whole, x), expected, rtol=1e-5, atol=1e-6)


def test_outputs_of_one_network_may_be_the_inputs_of_another(seed, rng):
    encode, decode = model(3, 2), model(3, 3, "tanh")
    parts = [Applied(from_keras(encode), np.arange(3)), Applied(from_keras(decode), (0, np.array([1])))]
    x = points(3, rng)
    code = np.asarray(encode(x))
    expected = np.concatenate([code, decode(np.concatenate([code, x[:, 1:2]], axis=1))], axis=1)
    np.testing.assert_allclose(answers(joint(parts, 3), x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("outputs", [2, 3])
def test_a_softmax_is_left_out_or_written_and_a_later_network_reads_it_written(seed, rng, outputs):
    soft, after = model(2, outputs, head="softmax"), model(outputs, 1)
    network, x = from_keras(soft), points(2, rng)
    place = np.arange(2)
    parts = [Applied(network, place), Applied(network, place, softmax=True), Applied(from_keras(after), 0)]
    whole = joint(parts, 2)
    found = answers(whole, x)
    probabilities = np.asarray(soft(x))
    assert whole.peeled and whole.notes and not joint(parts[1:2], 2).peeled and not joint(parts[1:2], 2).notes
    np.testing.assert_allclose(found[:, :outputs], answers(network, x), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[:, outputs : 2 * outputs], probabilities, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[:, 2 * outputs :], after(probabilities), rtol=1e-5, atol=1e-6)


def test_images_lie_flat_in_the_vector(seed, rng):
    picture = keras.Sequential([keras.Input((4, 4, 1)), L.Conv2D(2, 3, activation="relu"), L.Flatten(), L.Dense(2)])
    network = from_keras(picture)
    whole = joint([Applied(network, np.arange(16).reshape(4, 4, 1)), Applied(network, np.arange(16)[::-1])], 16)
    x = points(16, rng)
    expected = [picture(x.reshape(-1, 4, 4, 1)), picture(x[:, ::-1].reshape(-1, 4, 4, 1))]
    np.testing.assert_allclose(answers(whole, x), np.concatenate(expected, axis=1), rtol=1e-4, atol=1e-5)


def test_what_is_computed_twice_is_one_node(seed):
    network = from_keras(model(3, 2))
    twice = joint([Applied(network, np.arange(3)), Applied(network, np.arange(3))], 3)
    assert len(twice.nodes) == len(network.nodes) + 1  # the outputs side by side


@pytest.mark.parametrize("method", ["ibp", "crown-ibp", "crown", "alpha-crown", "forward"])
def test_bounds_hold_and_are_no_looser_than_those_of_each_network(seed, rng, eager, method):
    one, other = from_keras(model(3, 2)), from_keras(model(2, 2, "sigmoid"))
    whole = joint([Applied(one, np.array([0, 1, 2])), Applied(other, np.array([2, 3]))], 4, [3])
    center = points(4, rng, 2)
    box = Box(center - 0.3, center + 0.2)
    found = tfcert.bounds(whole, box, method=method)
    lower, upper = np.asarray(found.lower), np.asarray(found.upper)
    for z in box.sample(300):
        y = answers(whole, z)
        assert (y >= lower - 1e-5).all() and (y <= upper + 1e-5).all()
    for network, places, outputs in ((one, [0, 1, 2], slice(0, 2)), (other, [2, 3], slice(2, 4))):
        alone = tfcert.bounds(network, Box(box.lower[:, places], box.upper[:, places]), method=method)
        assert (lower[:, outputs] >= np.asarray(alone.lower) - 1e-4).all()
        assert (upper[:, outputs] <= np.asarray(alone.upper) + 1e-4).all()
    np.testing.assert_allclose(lower[:, 4], box.lower[:, 3], atol=1e-5)
    np.testing.assert_allclose(upper[:, 4], box.upper[:, 3], atol=1e-5)


def test_the_same_network_at_one_point_twice_differs_by_nothing(seed, rng, eager):
    """The difference of two outputs that are one is zero on any box, where two intervals would be wide."""
    network = from_keras(model(3, 1, "tanh"))
    whole = joint([Applied(network, np.arange(3)), Applied(network, np.arange(3))], 3)
    box = Box(np.full((1, 3), -2.0, "float32"), np.full((1, 3), 2.0, "float32"))
    rows = tf.constant([[[1.0, -1.0], [-1.0, 1.0]]])
    for method in ("ibp", "crown"):
        lower = output_bounds(whole, region_of(box), (rows, rows[:, :, 0] * 0), method)
        assert float(np.abs(lower).max()) < 1e-5


@pytest.mark.parametrize(
    ("parts", "size", "shown", "said"),
    [
        ([], 3, [], "at least one application"),
        ([("f", np.arange(2))], 3, [], "takes inputs of shape"),
        ([("f", np.array([0, 1, 3]))], 3, [], "has none of number"),
        ([("f", np.arange(3))], 3, [3], "has none of number"),
        ([("f", 0)], 3, [], "none before it"),
        ([("f", np.arange(3)), ("f", 0)], 3, [], "given 2 numbers"),
        ([("f", np.arange(3)), ("d", np.arange(3))], 3, [], "float32 and float64"),
    ],
)
def test_what_does_not_fit_is_refused(seed, parts: Any, size, shown, said):
    wide = keras.Input((3,), dtype="float64")
    double = keras.Model(wide, L.Dense(2, dtype="float64")(wide))
    networks = {"f": from_keras(model(3, 2)), "d": from_keras(double)}
    with pytest.raises(ValueError, match=said):
        joint([Applied(networks[name], source) for name, source in parts], size, shown)
