"""Hashes of models and data: what must change them, and what must not."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcert
from tfcert.datasets import Samples
from tfcert.driver.fingerprint import data_hash, weights_hash

WEIGHTS = [np.random.default_rng(0).normal(size=(3, 3)), np.zeros(3)]


def same_weights(model):
    """Every layer of the model gets the same weights, so that models differ in what else they are."""
    for layer in model._flatten_layers(include_self=False):
        if isinstance(layer, L.Dense):
            layer.set_weights(WEIGHTS)
    return model


def subtracted(swap: bool):
    given = keras.Input((3,))
    first = L.Dense(3)(given)
    second = L.Dense(3)(first)
    return same_weights(keras.Model(given, L.Subtract()([second, first] if swap else [first, second])))


def scaled(factor: float, shift: float):
    given = keras.Input((3,))
    return same_weights(keras.Model(given, L.Dense(3)(given / factor - shift)))


def nested(swap: bool):
    given = keras.Input((3,))
    return same_weights(keras.Model(given, L.Dense(3)(subtracted(swap)(given))))


def shared(pattern: str):
    """Three dense layers of two weights: which two are one layer, one of them inside a nested model."""
    given, inner = keras.Input((3,)), keras.Input((3,))
    made = {name: L.Dense(3) for name in sorted(set(pattern))}
    first = keras.Model(inner, made[pattern[0]](inner))
    model = keras.Model(given, made[pattern[2]](L.ReLU()(made[pattern[1]](first(given)))))
    for i, name in enumerate(made):
        made[name].set_weights([(i + 1) * WEIGHTS[0], WEIGHTS[1]])
    return model


class Times(L.Layer):
    """A layer that keeps its factor to itself: no option of its configuration says it."""

    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor

    def call(self, x):
        return x * self.factor

    def compute_output_shape(self, shape):
        return shape


@pytest.fixture(scope="module", autouse=True)
def registered():
    tfcert.register_layer(Times, lambda layer, b, inputs: b.scale(inputs[0], b.constant(layer.factor)))


def times(factor: float):
    return same_weights(keras.Sequential([keras.Input((3,)), Times(factor), L.Dense(3)]))


def head(activation: str):
    return same_weights(keras.Sequential([keras.Input((3,)), L.Dense(3, activation=activation)]))


@pytest.mark.parametrize(
    ("build", "options"),
    [
        (subtracted, (False, True)),
        (scaled, ((255.0, 0.0), (127.5, 1.0))),
        (nested, (False, True)),
        (shared, ("aab", "aba", "abb")),
        (times, (2.0, 3.0)),
        (head, ("linear", "softmax", "relu")),
    ],
)
def test_what_models_compute_has_a_hash_and_their_names_have_none(build, options):
    """Built twice, every name is another one; that the options differ is seen by no list of weights."""

    def hashed(option):
        return weights_hash(build(*option) if isinstance(option, tuple) else build(option))

    found = [hashed(option) for option in options]
    assert len(set(found)) == len(options)
    assert [hashed(option) for option in options] == found


def test_a_model_has_the_hash_of_its_file(tmp_path):
    model = nested(True)
    model.save(tmp_path / "m.keras")
    assert weights_hash(tfcert.load_model(tmp_path / "m.keras")) == weights_hash(model)


def test_labels_and_order_are_part_of_the_data():
    x, y = np.arange(6.0).reshape(3, 2), np.array([0, 1, 1])
    order = [1, 0, 2]
    hashes = {data_hash(s) for s in (Samples(x, y), Samples(x, 1 - y), Samples(x[order], y[order]), Samples(x, None))}
    assert len(hashes) == 4
