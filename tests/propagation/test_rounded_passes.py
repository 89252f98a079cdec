"""Bounds of rounded networks are below what a program computes, in exact rational arithmetic and without slack."""

import itertools
from fractions import Fraction

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from sweeps import sweep_but

import tfcert
from tfcert.clauses import Clauses
from tfcert.network.cache import network_of
from tfcert.network.keras.graph import from_keras
from tfcert.options import BoundOptions
from tfcert.propagation.ascent import Ascent
from tfcert.propagation.bounds import output_bounds
from tfcert.propagation.disjunctions import clause_bounds
from tfcert.propagation.supported import not_supported
from tfcert.roundoff import rounding_of
from tfcert.sets.balls import LpBall
from tfcert.sets.region import region_of
from tfcert.verdict import Guarantee

SHORT = Ascent(2)
METHODS = ("ibp", "crown-ibp", "crown", "dual-lp", "alpha-crown", "crown/frown")


def exact_layer(x, kernel, bias):
    """``x @ kernel + bias`` in rational arithmetic."""
    return [sum((a * b for a, b in zip(x, column, strict=True)), c) for column, c in zip(kernel.T, bias, strict=True)]


def exact(weights, x):
    """A network of ReLUs in rational arithmetic."""
    parts = [np.vectorize(Fraction, otypes=[object])(np.asarray(w, np.float64)) for w in weights]
    value = [Fraction(float(v)) for v in x]
    for number in range(0, len(parts), 2):
        value = exact_layer(value, parts[number], parts[number + 1])
        if number + 2 < len(parts):
            value = [max(v, Fraction(0)) for v in value]
    return value


def in_float32(weights, x, rng):
    """The same in float32, the terms of each sum in a random order, the bias among them."""
    value = x.astype(np.float32)
    for number in range(0, len(weights), 2):
        kernel, bias = weights[number : number + 2]
        found = []
        for column, start in zip(kernel.T, bias, strict=True):
            terms = [*(value * column).astype(np.float32), start]
            total = np.float32(0)
            for place in rng.permutation(len(terms)):
                total = np.float32(total + terms[place])
            found.append(total)
        value = np.array(found, np.float32)
        if number + 2 < len(weights):
            value = np.maximum(value, 0)
    return value


def dense(sizes, rng, bias):
    model = keras.Sequential([keras.Input((sizes[0],))])
    for size in sizes[1:-1]:
        model.add(layers.Dense(size, activation="relu"))
    model.add(layers.Dense(sizes[-1]))
    model.set_weights([
        rng.normal(size=w.shape).astype(np.float32) * (1 if w.ndim == 2 else np.float32(bias))
        for w in model.get_weights()
    ])  # fmt: skip
    return model


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["deployed", "real"])
@pytest.mark.parametrize("bias", [1.0, 1e4, 2.0**24])
def test_bounds_of_points_are_below_exact_and_computed_values(method, kind, bias):
    """A set of one point has the point's value for a bound, so that any rounding that is not charged shows."""
    rng = np.random.default_rng(0)
    rows = np.concatenate([np.eye(2), -np.eye(2)]).astype(np.float32)
    method, _, relaxation = method.partition("/")
    for _ in range(1 if method == "alpha-crown" or relaxation else 3):
        model = dense((3, 6, 6, 2), rng, bias)
        weights = model.get_weights()
        x = rng.random((5, 3)).astype(np.float32)
        network = from_keras(model).rounded(rounding_of(kind, np.float32, np.float32))
        region = region_of(LpBall(x, 0.0, "linf").astype(np.float32))
        bounds = output_bounds(
            network,
            region,
            (np.tile(rows, (5, 1, 1)), np.zeros((5, 4), np.float32)),
            method,
            relaxation or None,
            ascent=SHORT,
        ).numpy()
        for point, found in zip(x, bounds, strict=True):
            values = [exact(weights, point)]
            if kind == "deployed":
                values += [[Fraction(float(v)) for v in in_float32(weights, point, rng)] for _ in range(6)]
            for lower, row in zip(found, rows, strict=True):
                least = min(sum(Fraction(float(c)) * v for c, v in zip(row, value, strict=True)) for value in values)
                assert Fraction(float(lower)) <= least


@pytest.mark.parametrize("bias", sweep_but([1e4], [1.0, 1e4, 2.0**24]))
def test_combinations_of_rows_that_are_searched_for_are_below_computed_values(bias):
    """Catches weights that add up to a little more than 1, and combinations that the search alone evaluated: at a point
    a combination is one of its rows, and of two equal rows every combination is that row."""
    rng = np.random.default_rng(2)
    model = dense((3, 6, 6, 2), rng, bias)
    x = rng.random((6, 3)).astype(np.float32)
    rows = np.array([[[1, 0], [1, 0]], [[0, -1], [0, -1]], [[1, 0], [0, 1]], [[1, -1], [-1, 1]]], np.float32)
    clauses = Clauses(np.tile(rows, (6, 1, 1, 1)), np.zeros((6, 4, 2), np.float32))
    options = BoundOptions(iterations=2, rounding="deployed")
    _, found = clause_bounds(network_of(model, x), LpBall(x, 0.0), clauses, method="alpha-crown", options=options)
    assert found is not None and np.isfinite(found).all()
    for point, bounds in zip(x, found, strict=True):
        values = [exact(model.get_weights(), point)]
        values += [[Fraction(float(v)) for v in in_float32(model.get_weights(), point, rng)] for _ in range(8)]
        for clause, bound in zip(rows, bounds, strict=True):
            best = [max(int(r[0]) * v[0] + int(r[1]) * v[1] for r in clause) for v in values]
            assert Fraction(float(bound)) <= min(best)


@pytest.mark.parametrize("method", METHODS)
def test_what_an_early_layer_loses_is_charged_behind_a_harmless_one(method):
    """Catches bounds that only a search in fast arithmetic saw: ``2**24 + 1 - 2**24`` may be 0, and is 1."""
    model = keras.Sequential([keras.Input((3,)), layers.Dense(1, activation="relu"), layers.Dense(2)])
    model.set_weights([
        np.array([[2.0**24], [1.0], [-(2.0**24)]], np.float32), np.zeros(1, np.float32),
        np.ones((1, 2), np.float32), np.zeros(2, np.float32),
    ])  # fmt: skip
    x, (method, _, relaxation) = np.ones((1, 3), np.float32), method.partition("/")
    assert exact(model.get_weights(), x[0]) == [1, 1]
    assert np.float32(np.float32(2.0**24 + 1) - 2.0**24) == 0
    region, rows = region_of(LpBall(x, 0.0).astype(np.float32)), (np.eye(2, dtype=np.float32)[None], np.zeros((1, 2)))
    network = from_keras(model).rounded(rounding_of("deployed", np.float32, np.float32))
    assert (output_bounds(network, region, rows, method, relaxation or None, ascent=SHORT).numpy() <= 0).all()


def test_without_rounding_the_same_points_lie_on_the_wrong_side():
    """So the test above can fail."""
    rng = np.random.default_rng(0)
    model = dense((3, 6, 6, 2), rng, 1e4)
    x = rng.random((20, 3)).astype(np.float32)
    region = region_of(LpBall(x, 0.0, "linf").astype(np.float32))
    rows = np.tile(np.eye(2, dtype=np.float32), (20, 1, 1))
    bounds = output_bounds(from_keras(model), region, (rows, np.zeros((20, 2), np.float32)), "crown").numpy()
    values = [exact(model.get_weights(), point) for point in x]
    above = [
        Fraction(float(b)) > v
        for found, value in zip(bounds, values, strict=True)
        for b, v in zip(found, value, strict=True)
    ]
    assert sum(above) > 5


def convolutional(rng):
    image = keras.Input((6, 6, 2))
    x = layers.Conv2D(3, 3, padding="same")(image)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    y = layers.BatchNormalization()(layers.Conv2D(3, 3, padding="same")(x))
    x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.MaxPool2D(2, strides=1)(x)
    x = layers.ReLU()(layers.Conv2D(2, 2)(x))
    x = layers.AveragePooling2D(2)(layers.MaxPool2D(2)(x))
    model = keras.Model(image, layers.Dense(2)(layers.Flatten()(x)))
    model.set_weights([rng.uniform(0.5, 1.5, w.shape).astype(np.float32) * rng.choice([-1, 1], w.shape)
                       if w.ndim != 1 else rng.uniform(0.5, 50.0, w.shape).astype(np.float32)
                       for w in model.get_weights()])  # fmt: skip
    return model


@pytest.mark.parametrize(
    ("method", "norm", "clip"),
    [
        *itertools.product(["crown"], ["linf", "l2", "l1"], [None, (0, 1)]),
        *itertools.product(["ibp", "crown-ibp", "alpha-crown"], ["linf", "l1"], [None]),
        *itertools.product(["crown/cnncert", "crown/deepcert", "crown/frown"], ["linf"], [None]),
    ],
)
def test_points_of_a_ball_are_above_the_bounds_of_a_network_with_every_node(method, norm, clip):
    rng = np.random.default_rng(1)
    model = convolutional(rng)
    x = rng.random((3, *model.input_shape[1:])).astype(np.float32)
    network = from_keras(model)
    assert not not_supported(network)
    ball = LpBall(x, 0.0 if norm == "linf" else 1e-6, norm, clip)
    rows = np.tile(np.concatenate([np.eye(2), -np.eye(2)]).astype(np.float32), (3, 1, 1))
    rounded = network.rounded(rounding_of("deployed", np.float32, np.float32))
    method, _, relaxation = method.partition("/")
    asked = region_of(ball.astype(np.float32)), (rows, np.zeros((3, 4), np.float32)), method, relaxation or None
    bounds, plain = (output_bounds(net, *asked, ascent=SHORT).numpy() for net in (rounded, network))
    assert np.isfinite(bounds).all() and (bounds < plain).all()
    wide = network.astype(tf.float64)
    for points in (x, ball.project(x + rng.normal(size=x.shape).astype(np.float32) * 1e-7)):
        for values in (model(points), model.predict(points, verbose=0), wide(tf.cast(points, tf.float64))):
            assert (np.einsum("bro,bo->br", rows, np.asarray(values, np.float64)) >= bounds).all()


def test_a_result_says_what_it_is_charged_for():
    rng = np.random.default_rng(2)
    model, x = dense((3, 6, 2), rng, 1.0), rng.random((2, 3)).astype(np.float32)
    y = model(x).numpy().argmax(axis=1)
    found = {}
    for rounding in ("deployed", "real", "ignore"):
        options = tfcert.BoundOptions(rounding=rounding)
        found[rounding] = tfcert.certify(model, x, y, eps=1e-3, options=options)
    assert found["deployed"].guarantee is Guarantee.FLOAT32_ANY_ORDER and (found["deployed"].rounding == 0).all()
    assert found["real"].guarantee is Guarantee.REAL
    assert found["ignore"].guarantee is Guarantee.NUMERIC and (found["ignore"].rounding > 0).all()
    assert (found["deployed"].margin < found["real"].margin).all()
    assert (found["real"].margin < found["ignore"].margin).all()
    assert (found["deployed"].margin > found["ignore"].margin - 1e-3).all()


def test_what_is_not_charged_stays_numeric():
    x = keras.Input((3,))
    factors = [np.ones(shape, np.float32) for shape in ((4, 3), (3, 2))]
    model = keras.Model(x, keras.ops.einsum("bi,ij,jk->bk", layers.Dense(4)(x), *factors))
    assert "factors" in not_supported(from_keras(model))
    found = tfcert.certify(model, np.zeros((1, 3), np.float32), [0], eps=1e-3)
    assert found.guarantee is Guarantee.NUMERIC and (found.rounding > 0).all()


@pytest.mark.parametrize("jit", [False, True])
def test_traced_and_compiled_passes_charge_the_same(jit):
    rng = np.random.default_rng(1)
    model = dense((3, 6, 6, 2), rng, 1.0)
    x = rng.random((2, *model.input_shape[1:])).astype(np.float32)
    found = [
        tfcert.margins(model, LpBall(x, 1e-4), [0, 1], options=tfcert.BoundOptions(rounding="deployed", jit=how))
        for how in (None, jit)
    ]
    plain = tfcert.margins(model, LpBall(x, 1e-4), [0, 1], options=tfcert.BoundOptions(rounding="ignore"))
    finite = np.isfinite(plain)
    assert (found[1][finite] < plain[finite]).all()
    np.testing.assert_allclose(found[1][finite], found[0][finite], rtol=1e-4)
