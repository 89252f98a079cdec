"""The simulated programs are float32 programs, and the deceiving networks deceive."""

from __future__ import annotations

from fractions import Fraction

import keras
import numpy as np
import pytest
import tensorflow as tf
from rigour.deceiving import BUILDERS, margins
from rigour.simulated import Program, drawn, fused, simulated

from tfcert.network.cache import network_of

L = keras.layers


def nearest(value: Fraction) -> np.float32:
    """The float32 number nearest to a rational one, ties to even."""
    near = np.float32(float(value))
    around = [np.nextafter(near, np.float32(end)) for end in (-np.inf, np.inf)] + [near]
    return min(around, key=lambda f: (abs(Fraction(float(f)) - value), int(f.view(np.int32)) & 1))


def test_a_fused_step_rounds_once():
    """Random operands, and those whose sum in float64 is a tie of float32 that the exact sum is not."""
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=400).astype(np.float32) for _ in range(2))
    c = (-a * b * rng.choice([0, 1, 1 + 2.0**-20, 2.0**24], 400)).astype(np.float32)
    a[:3], b[:3], c[:3] = 1 + 2.0**-12, 2.0**-24, [1 + 2.0**-23, 1, -1]
    a[3], b[3], c[3] = 2.0**-70, 2.0**-70, 1 + 2.0**-23
    a[4], b[4], c[4] = 2.0**-12 * (1 + 2.0**-23), 2.0**-12, 1
    found = fused(a, b, c)
    for x, y, z, given in zip(a, b, c, found, strict=True):
        assert given == nearest(Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z)))


def model() -> keras.Model:
    keras.utils.set_random_seed(1)
    layers = [L.Conv2D(3, 3), L.BatchNormalization(), L.ReLU(), L.MaxPooling2D(), L.Flatten(), L.Dense(5)]
    made = keras.Sequential([keras.Input((7, 7, 2)), *layers, L.ReLU(), L.Dense(2)])
    for layer in (made.layers[0], *made.layers[-3:]):
        if layer.weights:
            layer.bias.assign(np.linspace(0.1, 0.7, layer.bias.shape[0]))
    made.layers[1].set_weights([np.array(v, np.float32) for v in ([1, 2, 3], [1, 0, -1], [0.3, 0, 1], [2, 1, 0.1])])
    return made


@pytest.mark.parametrize("seed", range(8))
def test_a_program_computes_the_network_up_to_rounding(seed):
    made = model()
    x = np.random.default_rng(seed).random((3, 7, 7, 2)).astype(np.float32)
    found = simulated(network_of(made), drawn(seed))(x)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, made(x).numpy(), rtol=1e-4, atol=1e-5)


def test_programs_differ():
    """Orders, shapes, fusing and folding each change some last place: none of them is ignored."""
    made = network_of(model())
    x = np.random.default_rng(0).random((64, 7, 7, 2)).astype(np.float32)
    plain = simulated(made, Program())(x)
    for other in (
        Program(order="random"), Program(shape="halves"), Program(shape="lanes"), Program(shape="random"),
        Program(fused=True), Program(bias_first=True), Program(folded=True),
    ):  # fmt: skip
        assert (simulated(made, other)(x) != plain).any(), other


def test_denormals_are_flushed_where_the_program_does():
    case = BUILDERS["denormal"](0)
    network, x = network_of(case.model), case.ball.x
    kept, flushed = (simulated(network, Program(flushed=flag))(x) for flag in (False, True))
    assert margins(kept)[0] != margins(flushed)[0]


NEAR = {"ordinary", "scaled", "images", "tied", "attention", "recurrent"}
"""Families that deceive only where they are moved next to what is proven of them."""


@pytest.mark.parametrize("name", sorted(set(BUILDERS) - NEAR))
def test_the_answer_of_a_deceiving_network_depends_on_the_program(name):
    """Some program of some seed answers 0 at a point where another, or the network in float64, answers 1."""
    for seed in range(7):
        case = BUILDERS[name](seed)
        points, network = case.points(), network_of(case.model)
        answers = [margins(simulated(network, drawn(number))(points)) > 0 for number in range(8)]
        exact = network.astype(tf.float64)(points.astype(np.float64)).numpy()
        found = np.stack([*answers, margins(exact) > 0])
        if (found.any(axis=0) & ~found.all(axis=0)).any():
            return
    pytest.fail("all programs answer the same")
