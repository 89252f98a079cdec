"""Rewritten networks at the level of the deployed program: what it rounds is charged, or said not to be."""

from __future__ import annotations

import decimal
import itertools
import math
from decimal import Decimal

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L

from tfcert.activations.accuracy import ACCURACIES
from tfcert.network import from_keras
from tfcert.network.simplify import WrittenNumbers
from tfcert.options import BoundOptions
from tfcert.propagation.bounds import output_bounds
from tfcert.propagation.engine import lower_bounds
from tfcert.propagation.supported import not_charged, not_supported
from tfcert.roundoff import rounding_of
from tfcert.sets.balls import LpBall
from tfcert.sets.region import region_of


def functional(shape, function):
    x = keras.Input(shape)
    return keras.Model(x, function(x))


def reason(shape, function):
    return not_supported(from_keras(functional(shape, function)))


def rounded_bounds(model, x, rounding="deployed", methods=("ibp", "crown")):
    """The range of the outputs at a point, with rounding taken into account, by several methods."""
    found, x = [], np.asarray(x, np.float32)[None]
    for method in methods:
        network = from_keras(model)
        options = BoundOptions(rounding=rounding)
        assert not not_charged(network, method, None, options)
        eye = np.eye(network.output_shape[0])
        rows = np.concatenate([eye, -eye])[None]
        ball = LpBall(x, 0.0, "linf")
        low = lower_bounds(network, ball, rows, np.zeros(rows.shape[:2]), method=method, options=options)[0]
        low, high = np.split(low.astype(np.float64), 2)
        found.append((low, -high))
    return found


def test_what_a_model_computes_twice_may_round_differently_each_time(seed):
    """``f - f`` of a layer that is called twice need not be zero; of one that does not round it is."""
    dense = L.Dense(3, activation="tanh")
    assert "more than once" in reason((4,), lambda x: dense(x) - dense(x))
    assert "more than once" in reason((4,), lambda x: L.Concatenate()([dense(x), 2.0 * dense(x)]))
    assert "more than once" in reason((4,), lambda x: L.Concatenate()([keras.ops.square(x), keras.ops.square(x)]))

    def once(x):
        y = dense(x)
        return L.Concatenate()([y - y, y, keras.ops.relu(x), keras.ops.relu(x), L.Reshape((2, 2))(x)[:, 0]])

    assert reason((4,), once) == ""


def test_a_multiple_minus_itself_is_zero_only_where_multiplying_is_exact():
    """An FMA that subtracts a rounded product from its exact value leaves the rounding error."""
    assert reason((4,), lambda x: 0.1 * x - 0.1 * x).startswith("the model")
    assert reason((4,), lambda x: 0.5 * x - 0.5 * x) == ""


@pytest.mark.parametrize(
    ("factors", "merged"),
    [
        ((3.0, 5.0), True),
        ((1 / 255, 3.2), True),
        ((1e-30, 1e30), False),
        ((1e30, 1e-30), False),
        ((255.0, 0.004), False),
    ],
)
def test_factors_are_merged_where_nothing_is_lost_between_them(factors, merged):
    """Numbers that are flushed to zero, or overflow, after the first factor would not be seen by the product."""

    def scaled(x):
        for factor in factors:
            x = x * factor
        return x

    maps = [node.map for node in from_keras(functional((3,), scaled)).nodes if hasattr(node, "map")]
    assert len(maps) == (1 if merged else 2)


def test_factors_that_cancel_but_for_rounding_are_charged():
    """``fl(x / 3 * 3)`` is not x: catches a factor of one that is dropped although the program rounds twice."""
    third = np.float32(1 / 3)
    model = functional((64,), lambda x: (x * float(third)) * 3.0)
    x = np.linspace(1, 2, 64, dtype=np.float32)
    truth = (x * third) * np.float32(3)
    assert (truth != x).any()
    for low, high in rounded_bounds(model, x):
        assert (low <= truth).all() and (truth <= high).all()
    assert WrittenNumbers(np.array([0.5, -4.0, 0.0])).steps == 0 and WrittenNumbers(np.array([0.5, 3.0])).steps == 1


def test_constants_that_cancel_absorb_what_they_are_added_to():
    """Catches a bias that is worked out beforehand: ``(x + 2^30) - 2^30`` is 0 in float32 for small x."""
    giant = np.full((1, 2), 2.0**30, np.float32)
    model = functional((2,), lambda x: L.Add()([x, giant, -giant]))
    x = np.array([3.0, -5.0], np.float32)
    truth = model(x[None]).numpy()[0]
    assert (truth == 0).all()
    for low, high in rounded_bounds(model, x):
        assert (low <= 0).all() and (high >= 0).all() and (low <= x).all() and (x <= high).all()


def test_a_gru_is_charged_for_both_of_its_biases():
    """Keras adds one bias to the input's part and one to the state's: catches their sum taken for all there is."""
    layer = L.GRU(1)
    model = functional((2, 1), layer)
    weights = [*layer.get_weights()[:2], np.array([[3.0, -2.0, 0.0], [-3.0, 2.5, 0.0]], np.float32)]
    layer.set_weights(weights)
    gates = [n for n in from_keras(model).nodes if n.name.endswith("/gates") and getattr(n, "bias", None) is not None]
    assert len(gates) == 2
    for node in gates:
        assert node.bias().numpy().tolist() == [0.0, 0.5] and node.size_of_bias().numpy().tolist() == [6.0, 4.5]


def counted(x):
    """A one for each place of a sequence, as a model may count places: integers."""
    return keras.ops.ones_like(x[..., 0], dtype="int32")


@pytest.mark.parametrize(
    ("shape", "function", "part"),
    [
        ((3, 4), lambda x: keras.ops.logsumexp(x, axis=(-1, 1)), ""),
        ((3, 4), lambda x: keras.ops.log_softmax(x, axis=-1), ""),
        ((3, 4), lambda x: L.Dense(2)(L.Softmax(axis=(1, 2))(x)), "several axes"),
        ((4, 4, 1), lambda x: L.Resizing(6, 6)(x), "resizing"),
        ((4, 4, 1), lambda x: L.Resizing(6, 6, interpolation="nearest")(x), ""),
        ((4, 4, 1), lambda x: L.AdaptiveAveragePooling2D((2, 3))(x), "averaged"),
        (
            (3, 4),
            lambda x: keras.ops.einsum("bij,jk,kl->bil", x, np.ones((4, 3), "f"), np.ones((3, 2), "f")),
            "factors",
        ),
        ((3, 4), lambda x: keras.ops.einsum("bij,jk->bi", x, np.ones((4, 3), "f")), "beforehand"),
        ((5, 3), lambda x: x + L.Reshape((5, 3))(L.Embedding(5, 3)(keras.ops.cumsum(counted(x), axis=1) - 1)), ""),
        ((5, 3), lambda x: x + keras.ops.relu(keras.ops.full_like(x, 0.1)), "beforehand"),
    ],
)
def test_what_is_computed_otherwise_than_it_is_bounded_is_said_not_to_be_charged(shape, function, part):
    found = reason(shape, function)
    assert part in found and bool(part) == bool(found)


LOG_SUMS = [
    [-10.0, 0.0],
    [0.0, -14.0],
    [-16.6, 0.0, -17.0],
    [3.0, 3.0, 3.0, 3.0],
    [1e5, 1e5 + 0.0078125, -1e5],
    [-1.7, 1.2, -0.4, 0.9, -30.0],
    [80.0, 79.0, -90.0, 40.0],
]


def log_sums(x, which):
    """``log(sum exp(x - m)) + m`` by float32 programs whose functions err by as much as they may, sums in every order;
    with ``which``, of the difference of that entry and m instead, as a log-softmax takes it."""
    single, unit = np.float32, 2.0**-24
    exp, log = (4 * ACCURACIES["exp"].ulps * unit, 2 * ACCURACIES["log"].ulps * unit)
    m = x.max()
    apart = single(x - m)
    for exp_sign, log_sign in itertools.product((-1, 1), repeat=2):
        terms = single(np.exp(apart.astype(np.float64)) * (1 + exp_sign * exp))
        for order in itertools.permutations(range(len(x))):
            total = single(0)
            for i in order:
                total = single(total + terms[i])
            logarithm = single(math.log(total) * (1 + log_sign * log))
            yield single(logarithm + m) if which is None else single(apart[which] - logarithm)


def exact_log_sum(x):
    with decimal.localcontext() as context:
        context.prec = 60
        return sum((Decimal(float(v)).exp() for v in x), Decimal(0)).ln()


@pytest.mark.parametrize("x", LOG_SUMS, ids=str)
def test_the_logarithm_of_a_sum_of_exponentials_is_charged_for_what_programs_compute(x):
    """Catches the charges of softpluses alone, whose values fall with the smaller terms: a program that adds these to 1
    errs by ulps of 1. Bounds in float64, so that nothing of ours hides what is missing."""
    x, count = np.array(x, np.float32), len(x)
    last = functional((count,), lambda z: keras.ops.log_softmax(z, axis=-1))
    total = functional((count,), lambda z: keras.ops.logsumexp(z, axis=-1, keepdims=True))
    exact = exact_log_sum(x)
    shifted = [Decimal(float(v)) - exact for v in x]
    for model, entries, truth in ((total, [None], [exact]), (last, range(count), shifted)):
        network = from_keras(model).astype(tf.float64).rounded(rounding_of("deployed", np.float32, np.float64))
        answers = model(x[None]).numpy()[0]
        programs = [[*log_sums(x, entry), value] for entry, value in zip(entries, answers, strict=True)]
        for method in ("ibp", "crown", "forward"):
            eye = np.eye(len(programs))
            box = region_of(LpBall(x[None].astype(np.float64), 0.0))
            rows = tf.constant(np.concatenate([eye, -eye])[None]), tf.zeros([1, 2 * len(eye)], tf.float64)
            low, high = np.split(output_bounds(network, box, rows, method).numpy()[0], 2)
            for place, found in enumerate(programs):
                assert Decimal(low[place]) <= truth[place] <= -Decimal(high[place]), method
                assert (low[place] <= np.float64(found)).all() and (np.float64(found) <= -high[place]).all(), method


def test_a_state_that_a_layer_begins_with_is_worked_out_beforehand():
    layer = L.SimpleRNN(2)
    start = np.ones((1, 2), np.float32)
    assert "beforehand" in reason((3, 2), lambda x: layer(x, initial_state=keras.ops.zeros_like(x[:, 0]) + start))


def test_scales_that_the_program_computes_are_charged_for_it_twice(seed):
    """Batch normalisation's scale is rounded where it is read, too: exact arithmetic lies within."""
    layer = L.BatchNormalization(epsilon=1e-3)
    model = functional((8,), layer)
    rng = np.random.default_rng(0)
    layer.set_weights([rng.normal(size=8), rng.normal(size=8), rng.normal(size=8), rng.random(8) + 0.1])
    gamma, beta, mean, variance = (w.astype(np.longdouble) for w in layer.get_weights())
    (node,) = (node for node in from_keras(model).nodes if hasattr(node, "map"))
    assert node.computed == 10
    for _ in range(6):
        x = (mean + 1e-6 * rng.normal(size=8)).astype(np.float32)
        truth = (x - mean) / np.sqrt(variance + np.longdouble(np.float32(1e-3))) * gamma + beta
        for low, high in rounded_bounds(model, x, "real", ("ibp", "crown", "forward")):
            assert (low <= truth).all() and (truth <= high).all()
