"""Copies that a matrix reads are added up where that is the same function, and left alone where it is not."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from rigour.simulated import drawn, simulated

import tfcert
from tfcert.layers import IntervalAbstraction
from tfcert.network import CopiesMap, Linear
from tfcert.network.keras import graph
from tfcert.propagation.bounds import output_bounds
from tfcert.propagation.supported import not_supported
from tfcert.roundoff import rounding_of
from tfcert.sets.balls import LpBall
from tfcert.sets.region import region_of

L = keras.layers
FOLDED = {
    "padded": [L.ZeroPadding2D(1), L.Conv2D(3, 3, strides=2), L.Flatten()],
    "scaled twice": [L.Rescaling(2.0, -1.0), L.ZeroPadding2D(1), L.Rescaling(3.0, 1.0), L.Conv2D(3, 3), L.Flatten()],
    "normalised in whole blocks": [L.Reshape((2, 16)), L.BatchNormalization(), L.Flatten()],
}  # fmt: skip
LEFT = {
    "normalised across rows": [L.Reshape((2, 16)), L.BatchNormalization(), L.Reshape((8, 4)), L.Dense(3), L.Flatten()],
    "torn apart": [L.Reshape((32, 1)), L.Dense(2), L.Flatten()],
    "bent first": [L.ReLU(), L.Flatten()],
}


@pytest.mark.parametrize("kind", [*FOLDED, *LEFT])
def test_the_network_is_the_model_whether_copies_are_added_up_or_not(kind, rng):
    between = (FOLDED | LEFT)[kind]
    model = keras.Sequential([keras.Input((4, 4, 1)), IntervalAbstraction(0.25), *between, L.Dense(2)])
    for layer in model.layers[1:]:
        for weight in layer.weights:
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
    network = tfcert.from_keras(model)
    copies = any(isinstance(node, Linear) and isinstance(node.map, CopiesMap) for node in network.nodes)
    assert copies == (kind in LEFT)
    x = rng.random((5, 4, 4, 1)).astype(np.float32)
    np.testing.assert_allclose(network(x), model(x), rtol=1e-5)


@pytest.mark.parametrize("giant", [1.0, 1e6])
@pytest.mark.parametrize("kind", ["dense", "padded", "scaled twice"])
def test_programs_that_add_up_both_copies_are_within_their_bounds(kind, giant, rng, monkeypatch):
    """Catches charges for the summed weights alone, which cancel where the program adds up giants. Bounds in float64
    leave nothing of ours for that to hide behind."""
    between = FOLDED.get(kind, [L.Flatten()])
    model = keras.Sequential([keras.Input((4, 4, 1)), IntervalAbstraction(0.25), *between, L.Dense(2)])
    reads = next(layer for layer in model.layers if isinstance(layer, L.Conv2D | L.Dense))
    one = rng.normal(size=(*reads.kernel.shape[:-2], reads.kernel.shape[-2] // 2, reads.kernel.shape[-1]))
    both = [giant * one, -giant * one + rng.normal(size=one.shape)]
    if kind == "dense":  # the ends of a pixel's cell stand side by side
        reads.kernel.assign(np.stack(both, axis=1).reshape(reads.kernel.shape))
    else:
        reads.kernel.assign(np.concatenate(both, axis=-2))
    network = tfcert.from_keras(model)
    monkeypatch.setattr(graph, "without_copies", lambda network: network)
    apart = tfcert.from_keras(model)
    assert not_supported(network) == "" and any(isinstance(n, Linear) and n.added == 2 for n in network.nodes)
    x = rng.random((3, 4, 4, 1)).astype(np.float32)
    found = [simulated(apart, drawn(seed))(x) for seed in range(8)]
    found += [model(x).numpy(), model.predict(x, verbose=0), apart.astype(tf.float64)(x.astype(float)).numpy()]
    wide = network.astype(tf.float64).rounded(rounding_of("deployed", np.float32, np.float64))
    rows = np.repeat([np.concatenate([np.eye(2), -np.eye(2)])], 3, axis=0), np.zeros((3, 4))
    region = region_of(LpBall(x.astype(float), 0.0))
    for method in ("ibp", "crown", "forward"):
        low, high = np.split(output_bounds(wide, region, rows, method).numpy(), 2, axis=1)
        assert all((low <= value).all() and (value <= -high).all() for value in found)
