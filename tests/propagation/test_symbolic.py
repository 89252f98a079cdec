"""Symbolic intervals: ReluVal's equations in exact arithmetic, sound, never looser than intervals, for ReLU alone."""

from fractions import Fraction

import keras
import numpy as np
import pytest
import tensorflow as tf
from soundness import networks

import tfcert
from tfcert.network import from_keras
from tfcert.propagation.bounds import output_bounds, pre_activation_bounds
from tfcert.propagation.methods.symbolic import concretised
from tfcert.sets.balls import LpBall
from tfcert.sets.region import region_of

pytestmark = pytest.mark.usefixtures("eager")

Equation = list[Fraction]
"""Coefficients of the inputs, then a constant."""


def ends(equation: Equation, box: list[tuple[Fraction, Fraction]]) -> tuple[Fraction, Fraction]:
    """The least and the largest value of an equation over a box."""
    *slopes, constant = equation
    low = sum((s * (b[0] if s > 0 else b[1]) for s, b in zip(slopes, box, strict=True)), constant)
    high = sum((s * (b[1] if s > 0 else b[0]) for s, b in zip(slopes, box, strict=True)), constant)
    return low, high


def reluval(layers, box) -> tuple[list[list[tuple[Fraction, Fraction]]], set[str]]:
    """The ranges of each layer's sums by ReluVal's symbolic intervals, in rational numbers, and the cases met."""
    size, cases = len(box), set()
    unit = [[Fraction(i == j) for j in range(size + 1)] for i in range(size)]
    lower, upper = unit, [list(e) for e in unit]
    found = []
    for number, (kernel, bias) in enumerate(layers):
        sums = []
        for j in range(len(bias)):
            low, high = ([Fraction(0)] * size + [Fraction(float(bias[j]))] for _ in range(2))
            for i, weight in enumerate(map(Fraction, kernel[:, j].tolist())):
                near, far = (lower[i], upper[i]) if weight > 0 else (upper[i], lower[i])
                low = [a + weight * b for a, b in zip(low, near, strict=True)]
                high = [a + weight * b for a, b in zip(high, far, strict=True)]
            sums.append((low, high))
        found.append([(ends(low, box)[0], ends(high, box)[1]) for low, high in sums])
        if number == len(layers) - 1:
            break
        lower, upper = [], []
        for low, high in sums:
            zero = [Fraction(0)] * (size + 1)
            if ends(high, box)[1] <= 0:
                cases.add("inactive")
                low, high = zero, zero
            elif ends(low, box)[0] >= 0:
                cases.add("active")
            elif ends(high, box)[0] > 0:
                cases.add("open, upper kept")
                low = zero
            else:
                cases.add("open")
                low, high = zero, [*zero[:-1], ends(high, box)[1]]
            lower.append(low)
            upper.append(high)
    return found, cases


CASES = {}


@pytest.mark.parametrize("seed", range(8))
def test_bounds_are_those_of_reluval_s_equations_in_exact_arithmetic(seed):
    inputs = z = keras.Input((3,), dtype="float64")
    for width in (6, 6, 5):
        z = keras.layers.Dense(width, "relu", dtype="float64")(z)
    model = keras.Model(inputs, keras.layers.Dense(2, dtype="float64")(z))
    networks.randomize(model, np.random.default_rng(seed))
    rng = np.random.default_rng(seed)
    x, eps = rng.normal(size=3), rng.choice([0.05, 0.3, 1.0])
    box = [(Fraction(float(v - eps)), Fraction(float(v + eps))) for v in x]
    layers = [layer.get_weights() for layer in model.layers[1:]]
    exact, CASES[seed] = reluval(layers, box)
    network = from_keras(model)
    region = region_of(tfcert.Box((x - eps)[None], (x + eps)[None]))
    found = pre_activation_bounds(network, region, "symbolic")
    for index, ranges in zip(sorted(found), exact, strict=False):
        for end in (0, 1):
            expected = [float(pair[end]) for pair in ranges]
            np.testing.assert_allclose(found[index][end].numpy()[0], expected, rtol=1e-10, atol=1e-10)
    rows = tf.constant(np.concatenate([np.eye(2), -np.eye(2)])[None])
    bounds = output_bounds(network, region, (rows, tf.zeros([1, 4], tf.float64)), "symbolic").numpy()[0]
    expected = [float(low) for low, _ in exact[-1]] + [-float(high) for _, high in exact[-1]]
    np.testing.assert_allclose(bounds, expected, rtol=1e-10, atol=1e-10)


def test_the_networks_above_have_neurons_of_every_kind():
    """Without an upper equation that stays, the rule for it would be untested."""
    for seed in range(8):
        test_bounds_are_those_of_reluval_s_equations_in_exact_arithmetic(seed)
    assert set.union(*CASES.values()) == {"inactive", "active", "open", "open, upper kept"}


def test_an_open_neuron_keeps_an_upper_equation_that_is_positive_everywhere():
    lower, upper = tf.constant([-1.0, -1.0, 2.0, -3.0]), tf.constant([4.0, 4.0, 5.0, -1.0])
    lines = concretised(lower, upper, tf.constant([0.5, -0.5, 3.0, -2.0]))
    np.testing.assert_array_equal(lines.lower_slope, [0, 0, 1, 0])
    np.testing.assert_array_equal(lines.upper_slope, [1, 0, 1, 0])
    np.testing.assert_array_equal(lines.upper_intercept, [0, 4, 0, 0])


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_they_are_sound_and_never_looser_than_intervals(norm, rng):
    inputs = keras.Input((5, 5, 1), dtype="float64")
    options = {"dtype": "float64"}
    z = keras.layers.Conv2D(3, 3, activation="relu", **options)(inputs)
    z = keras.layers.Add(**options)([z, keras.layers.Conv2D(3, 1, activation="relu", **options)(z)])
    z = keras.layers.BatchNormalization(**options)(keras.layers.ReLU(**options)(z))
    model = keras.Model(inputs, keras.layers.Dense(3, **options)(keras.layers.Flatten(**options)(z)))
    networks.randomize(model, np.random.default_rng(1))
    ball = LpBall(rng.uniform(size=(3, 5, 5, 1)), [0.01, 0.1, 0.4], norm, clip=(0, 1))
    found, loose = (tfcert.bounds(model, ball, method=m) for m in ("symbolic", "ibp"))
    assert (found.lower >= loose.lower - 1e-12).all() and (found.upper <= loose.upper + 1e-12).all()
    assert (found.upper - found.lower).sum() < 0.99 * (loose.upper - loose.lower).sum()
    for points in ball.sample(60, 3):
        outputs = np.asarray(model(points))
        assert (found.lower <= outputs + 1e-9).all() and (outputs <= found.upper + 1e-9).all()


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (keras.layers.Activation("tanh"), "is tanh"),
        (keras.layers.LeakyReLU(0.1), "is leaky_relu"),
        (keras.layers.MaxPooling1D(2), "is a maximum"),
    ],
)
def test_what_is_no_relu_is_refused_with_what_there_is_instead(layer, said):
    model = keras.Sequential([keras.Input((4, 1)), layer, keras.layers.Flatten(), keras.layers.Dense(2)])
    x = np.zeros((1, 4, 1), np.float32)
    asked = (
        lambda: tfcert.certify(model, x, [0], eps=0.1, method="symbolic"),
        lambda: tfcert.minimum_perturbation(model, x, [0], upper=1.0, bounds="symbolic"),
    )
    for ask in asked:
        with pytest.raises(ValueError, match=rf"symbolic is for networks of relu alone, and .* {said}: use"):
            ask()


def test_a_model_with_a_softmax_and_one_of_a_single_neuron_are_bounded():
    """A head that is peeled off is no activation of the network."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, "relu"), keras.layers.Dense(2, "softmax")])
    networks.randomize(model, np.random.default_rng(0))
    x = np.array([[0.5]], np.float32)
    y = np.asarray(model(x)).argmax(axis=1)
    assert np.isfinite(tfcert.certify(model, x, y, eps=0.01, method="symbolic").margin).all()


def test_equations_that_do_not_fit_into_the_memory_are_refused_with_the_number():
    model = keras.Sequential([keras.Input((32, 32, 1)), keras.layers.Conv2D(64, 3, activation="relu")])
    model = keras.Sequential([model, keras.layers.Flatten(), keras.layers.Dense(2)])
    x = np.zeros((1, 32, 32, 1), np.float32)
    with pytest.raises(ValueError, match=r"two equations of all inputs .* MiB, and memory_mb is 64"):
        tfcert.certify(model, x, [0], eps=0.1, method="symbolic", options=tfcert.BoundOptions(memory_mb=64))
