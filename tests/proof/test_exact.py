"""The second opinion: rational arithmetic decides what floating point must leave open, and never differs from it."""

from fractions import Fraction

import keras
import numpy as np
import pytest

from proof import small
from tfcert.proof.check import check
from tfcert.proof.exact import enclosed, opinion
from tfcert.proof.functions import FUNCTIONS


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    model = small.dense()
    return model, small.saved(model, tmp_path_factory.mktemp("exact"))[1]


def least(model, center, eps, row, norm="linf"):
    """Nearly the least value of a row on a ball, by many points."""
    rng = np.random.default_rng(0)
    step = rng.choice([-1.0, 1.0, rng.random()], (4000, 3)) * rng.random((4000, 1)) ** 0.2
    step /= np.maximum(1.0, np.linalg.norm(step, {"linf": np.inf, "l2": 2, "l1": 1}[norm], axis=1, keepdims=True))
    return float((model((center + eps * step).astype(np.float32)).numpy().astype(np.float64) @ row).min())


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_it_proves_what_holds_and_refutes_what_fails(made, norm):
    """At the same margin above and below the least value that is met; nothing that the checker proves is refuted."""
    model, graph = made
    rng = np.random.default_rng(5)
    for _ in range(4):
        center, row = rng.random(3).astype(np.float32), rng.normal(size=3)
        bottom = least(model, center, 0.05, row, norm)
        wide = 0.2 * abs(bottom) + 0.05
        held = small.claim(graph, center, "1/20", ([row], [-bottom + wide]), norm=norm)
        assert opinion(held, graph).proven or not check(held, graph).proven
        if norm == "linf":
            assert opinion(held, graph).proven
        middle = float(model(center[None]).numpy()[0] @ row)
        broken = small.claim(graph, center, "1/20", ([row], [-middle - 0.01]), norm=norm)
        assert opinion(broken, graph).proven is False and not check(broken, graph).proven


def test_it_divides_sets_that_one_pass_leaves_open(made):
    model, graph = made
    center, row = np.full(3, 0.4, np.float32), np.array([1.0, -1.0, 0.5])
    bottom = least(model, center, 0.4, row)
    found = opinion(small.claim(graph, center, "2/5", ([row], [-bottom + 0.05])), graph)
    assert found.proven and found.pieces > 1


def test_it_computes_without_rounding(tmp_path):
    """A margin of 2**-60, which neither float32 nor float64 sees beside numbers of size 1."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2)])
    model.layers[0].set_weights([np.array([[1, 1]], np.float32), np.array([0, -(2.0**-60)], np.float32)])
    _, graph = small.saved(model, tmp_path)
    rows = [[1.0, -1.0]], [0.0]
    claim = small.claim(graph, np.array([1], np.float32), "0", rows)
    assert opinion(claim, graph).proven and not check(claim, graph).proven
    worse = small.claim(graph, np.array([1], np.float32), "0", (rows[0], [-(2.0**-60)]))
    assert opinion(worse, graph).proven is False


def several() -> keras.Model:
    """Sums, places side by side, maxima, means, scales, and functions of straight pieces."""
    layers = keras.layers
    x = start = keras.Input((3, 2, 1))
    x = layers.Conv2D(2, 2, padding="same", activation="hard_tanh")(layers.ZeroPadding2D(((1, 0), (0, 0)))(x))
    y = layers.MaxPooling2D(2, strides=1, padding="same")(layers.DepthwiseConv2D(1, activation="relu6")(x))
    x = layers.Concatenate()([layers.Add()([x, y, x]), layers.BatchNormalization()(y)])
    x = layers.LeakyReLU(0.25)(layers.AveragePooling2D(2, strides=2)(x))
    return small.scattered(keras.Model(start, layers.Dense(3)(layers.Flatten()(x))))


def test_it_knows_every_straight_kind(tmp_path):
    """It bounds what dense sampling meets, proves above that, and refutes below the middle."""
    model = several()
    _, graph = small.saved(model, tmp_path)
    center, row, rng = np.full((3, 2, 1), 0.4, np.float32), np.array([1.0, -1.0, 0.5]), np.random.default_rng(3)
    x = center + 0.01 * rng.choice([-1.0, 1.0, 0.3], (4000, 3, 2, 1))
    values = small.values(graph, x) @ row
    np.testing.assert_allclose(values, model(x.astype(np.float32)).numpy().astype(np.float64) @ row, atol=1e-4)
    held = small.claim(graph, center, "1/100", ([row], [-values.min() + 1e-3]))
    assert opinion(held, graph).proven
    broken = small.claim(graph, center, "1/100", ([row], [-values.max() - 1e-3]))
    assert opinion(broken, graph).proven is False and not check(broken, graph).proven


def test_curves_are_enclosed(tmp_path):
    """What it proves of curves is met by no point, and what it refutes is met in the middle."""
    model = small.curved()
    _, graph = small.saved(model, tmp_path)
    center, row, rng = np.full(3, 0.5, np.float32), np.array([1.0, -1.0, 0.5]), np.random.default_rng(3)
    values = small.values(graph, center + 0.02 * rng.uniform(-1, 1, (4000, 3))) @ row
    middle = (small.values(graph, center[None].astype(np.float64)) @ row)[0]
    for offset, proven in ((-values.min() + 0.02, True), (-middle - 1e-9, False), (-values.max() - 1e-9, False)):
        claim = small.claim(graph, center, "1/50", ([row], [offset]))
        assert opinion(claim, graph, 60).proven is proven
    assert check(small.claim(graph, center, "1/50", ([row], [-values.min() + 0.02])), graph).proven


@pytest.mark.parametrize("name", [name for name, function in FUNCTIONS.items() if function.bend is not None])
def test_values_of_curves_are_those_of_float64_but_for_rounding(name):
    for x in (-12.0, -3.5, -1.0, -1e-3, 0.0, 0.25, 2.0, 9.0):
        low, high = enclosed(FUNCTIONS[name], Fraction(x))
        near = Fraction(float(FUNCTIONS[name].of(np.array(x))))
        assert low < high and abs(near - low) <= Fraction(1, 10**12) and abs(near - high) <= Fraction(1, 10**12)
