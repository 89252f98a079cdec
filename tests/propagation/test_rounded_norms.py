"""Normalisation and softmax on rounded networks: against exact arithmetic, and float32 programs in any order."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L

from tfcert.network import from_keras
from tfcert.network.normalized import Normalized
from tfcert.network.softmax import LogOdds
from tfcert.options import BoundOptions
from tfcert.propagation.coefficients import Coefficients
from tfcert.propagation.engine import lower_bounds
from tfcert.propagation.kinds import multivariate_kind
from tfcert.propagation.supported import guarantee_of, not_charged
from tfcert.roundoff import rounding_of
from tfcert.sets.balls import LpBall

DEPLOYED, REAL = (rounding_of(kind, np.float32, np.float32) for kind in ("deployed", "real"))
F = np.float32
METHODS = ("ibp", "crown-ibp", "crown", "forward")


def total(terms, rng):
    """The float32 sum of numbers along the first axis, by a random tree."""
    parts = list(np.asarray(terms, F))
    while len(parts) > 1:
        first, second = (parts.pop(rng.integers(len(parts))) for _ in range(2))
        parts.append(first + second)
    return parts[0]


def output_ranges(model, x, eps=0.0, rounding="deployed", methods=METHODS):
    """The range of each output over a box, by several methods."""
    network, options = from_keras(model), BoundOptions(rounding=rounding)
    eye = np.eye(int(np.prod(network.output_shape)))
    rows = np.concatenate([eye, -eye])[None]
    for method in methods:
        assert not not_charged(network, method, None, options)
        ball = LpBall(np.asarray(x, F)[None], eps, "linf")
        low = lower_bounds(network, ball, rows, np.zeros(rows.shape[:2]), method=method, options=options)[0]
        low, high = np.split(low.astype(np.longdouble), 2)
        yield method, low, -high


# --- nodes: planes, ranges and rows, whose own arithmetic rounds, against exact values ---


def random_pairs(rng, kind, size=24):
    """Bounds of one sample: many of them a number or an ulp wide, so that nothing hides a rounding error."""
    scale = rng.choice([1e-2, 1.0, 1.0, 20.0])
    low = (rng.normal(size=size) * scale).astype(F)
    width = np.abs(rng.normal(size=size)).astype(F) * F(rng.choice([0.0, 1e-6, 0.3]))
    pairs = [(low, np.maximum(low + width, low))]
    if kind == "normalized":
        least = (1e-3 + rng.exponential(size=size) * rng.choice([1e-4, 1.0])).astype(F)
        pairs.append((least, (least * F(rng.choice([1.0, 1 + 1e-6, 3.0]))).astype(F)))
    return pairs


def points(rng, pairs):
    shares = [rng.choice([0.0, 1.0, 0.5, rng.random()], pair[0].shape) for pair in pairs]
    found = [(1 - s) * low.astype(np.longdouble) + s * high for s, (low, high) in zip(shares, pairs, strict=True)]
    return [np.clip(point, *pair) for point, pair in zip(found, pairs, strict=True)]


def exact(node, inputs):
    if isinstance(node, Normalized):
        c, q = inputs
        return c / np.sqrt(np.maximum(np.longdouble(F(node.share)) * c * c + q, node.floor))
    (x,) = inputs
    groups = x.reshape(node.shape)
    found = np.empty_like(groups)
    for j in range(node.shape[-1]):
        others = np.delete(groups, j, axis=-1)
        top = others.max(axis=-1, keepdims=True)
        found[..., j] = groups[..., j] - top[..., 0] - np.log(np.exp(others - top).sum(axis=-1))
    return found.reshape(-1)


NODES = {
    "normalized": Normalized(name="n", inputs=(0, 1), shape=(24,), share=0.25, least=1e-4, terms=4, rounding=REAL),
    "root": Normalized(name="n", inputs=(0, 1), shape=(24,), share=0.0, least=1e-4, terms=4, rounding=REAL),
    "log_odds": LogOdds(name="l", inputs=(0,), shape=(6, 4), rounding=REAL),
}


def tensors(node, pairs):
    shape = node.shape
    return [tuple(tf.constant(end.reshape(1, *shape)) for end in pair) for pair in pairs]


@pytest.mark.parametrize("name", NODES)
def test_ranges_rows_and_facets_hold_although_they_are_computed_with_rounding(name):
    """Catches ends, planes, coefficients and constants that are taken to be exact, and extrema that are not found."""
    node, rng = NODES[name], np.random.default_rng(5)
    kind, free = multivariate_kind(node), 0
    for _ in range(20):
        pairs = random_pairs(rng, "normalized" if "odds" not in name else name)
        low, high = (end.numpy().ravel() for end in kind.interval(node, tensors(node, pairs)))
        rows = (rng.normal(size=(1, 1, 3, 24)) * rng.choice([0.0, 1.0, 50.0], (1, 1, 3, 24))).astype(F)
        rows[0, 0, 0], rows[0, 0, 1] = np.eye(24)[7], -np.eye(24)[7]
        over = Coefficients(tf.constant(rows), node.shape)
        sent, constant = kind.relax(node, tensors(node, pairs), None).back(over)
        facets = kind.facets(node, [tuple(e.astype(float).reshape(node.shape) for e in p) for p in pairs])
        slopes = [part.dense().values.numpy()[0, 0].astype(np.longdouble) for part in sent]
        for _ in range(6):
            at = points(rng, pairs)
            truth = exact(node, at)
            assert (low <= truth).all() and (truth <= high).all()
            below = constant.numpy()[0, 0].astype(np.longdouble)
            below = below + sum(s @ point for s, point in zip(slopes, at, strict=True))
            gap = rows[0, 0].astype(np.longdouble) @ truth - below
            assert (gap >= 0).all()
            free += int((gap[:2] < 1e-4).any())
            numbers = np.concatenate(at)
            for sign, entries, intercept in facets:
                plane = np.zeros(24, np.longdouble)
                np.add.at(plane, entries.row, entries.value * numbers[entries.column])
                assert (sign * (truth - plane - intercept) >= 0).all()
    assert free  # some are as close as rounding


@pytest.mark.parametrize("name", NODES)
def test_without_charges_some_of_these_do_not_hold(name):
    """The control: what the test above checks is a matter of rounding."""
    node, rng = replace(NODES[name], rounding=None), np.random.default_rng(5)
    kind, wrong = multivariate_kind(node), 0
    for _ in range(60):
        pairs = random_pairs(rng, "normalized" if "odds" not in name else name)
        low, high = (end.numpy().ravel() for end in kind.interval(node, tensors(node, pairs)))
        for _ in range(3):
            truth = exact(node, points(rng, pairs))
            wrong += int((low > truth).any() or (truth > high).any())
    assert wrong


def test_products_with_the_mean_are_charged_at_the_node():
    """Catches ``x r - m r`` taken for ``(x - m) r``: its error is relative to x, here a thousand times what is left."""
    node = Normalized(
        name="n", inputs=(0, 1, 2), shape=(50,), share=0.0, least=1e-4, terms=4, smallest=None, rounding=DEPLOYED
    )
    rng, mean = np.random.default_rng(2), F(1000)
    x = (mean + rng.normal(size=50)).astype(F)
    left, q = x - mean, (0.1 + rng.random(50)).astype(F)  # exact
    root = F(1) / np.sqrt(q)
    value = x * root - mean * root
    pairs = tensors(node, [(left, left), (q, q), (x, x)])
    kind = multivariate_kind(node)
    low, high = (end.numpy()[0] for end in kind.interval(node, pairs))
    assert (low <= value).all() and (value <= high).all() and (high - low).max() < 1e-2
    planes = kind.relax(node, pairs, None)
    exact_left, exact_q = left.astype(np.longdouble), q.astype(np.longdouble)
    below, above = (
        exact_left * slopes[0].numpy()[0] + exact_q * slopes[1].numpy()[0] + level.numpy()[0]
        for slopes, level in ((planes.lower, planes.below), (planes.upper, planes.above))
    )
    assert (below <= value).all() and (value <= above).all()
    assert (np.abs(value - exact_left / np.sqrt(exact_q)) > 1e-5).any()


def test_a_program_s_mean_square_root_and_product_are_charged_at_the_node():
    """Catches a program taken to be exact: bounds in float64 of a float32 program have no error that hides it."""
    wide = rounding_of("deployed", F, np.float64)
    node = Normalized(name="n", inputs=(0, 1), shape=(50,), share=0.0, least=1e-4, terms=4, rounding=wide)
    rng = np.random.default_rng(3)
    left, q = rng.normal(size=50).astype(F), (0.1 + rng.random(50)).astype(F)
    pairs = tensors(node, [(part.astype(np.float64),) * 2 for part in (left, q)])
    kind = multivariate_kind(node)
    low, high = (end.numpy()[0] for end in kind.interval(node, pairs))
    planes = kind.relax(node, pairs, None)
    below, above = (
        left * slopes[0].numpy()[0] + q * slopes[1].numpy()[0] + level.numpy()[0]
        for slopes, level in ((planes.lower, planes.below), (planes.upper, planes.above))
    )
    for summed in (q, q * F(1 - 2.0**-22), q * F(1 + 2.0**-22)):  # as three additions may leave it
        value = left * (F(1) / np.sqrt(summed))
        assert (low <= value).all() and (value <= high).all() and (high - low).max() < 1e-4
        assert (below <= value).all() and (value <= above).all()


def test_the_difference_from_the_largest_number_is_charged_at_the_node():
    """Catches ``x - max`` taken to be exact: bounds in float64 of a float32 program have no error that hides it."""
    node = LogOdds(name="l", inputs=(0,), shape=(40, 4), rounding=rounding_of("deployed", F, np.float64))
    x = (20 * np.random.default_rng(4).normal(size=(40, 4))).astype(F)
    top = x.max(axis=1, keepdims=True)
    sizes, rounded = (np.exp(part.astype(np.longdouble)) for part in (x.astype(float) - top, x - top))
    others = sizes @ (1 - np.eye(4)).astype(np.longdouble)
    # A probability is the program's exponential over the exact sum: with an exact one the sum would differ from it.
    odds = np.where(x == top, sizes / others, rounded / (others + sizes - rounded))
    bounds = [tf.constant(x[None].astype(np.float64))] * 2
    low, high = (end.numpy()[0] for end in multivariate_kind(node).interval(node, [bounds]))
    assert (low <= np.log(odds)).all() and (np.log(odds) <= high).all() and (high - low).max() < 1e-4


# --- layers: what programs compute ---


def layer_norm_program(x, gamma, beta, epsilon, rng):
    """Keras's layer normalisation in float32 with sums in a random order, the factor taken in at a random place."""
    n = F(len(x))
    mean = total(x, rng) / n
    variance = total(np.square(x - mean), rng) / n
    inverse = F(1) / np.sqrt(variance + F(epsilon)) * gamma
    return x * inverse + (beta - mean * inverse)


@pytest.mark.parametrize("offset", [0.0, 300.0])
def test_layer_normalisation_holds_what_programs_compute(offset):
    """Catches the error of the products with the mean, relative to it and not to what is left; and that of the mean."""
    rng, size = np.random.default_rng(0), 6
    layer = L.LayerNormalization(epsilon=1e-3)
    x = keras.Input((size,))
    model = keras.Model(x, layer(x))
    gamma, beta = rng.normal(size=(2, size)).astype(F)
    layer.set_weights([gamma, beta])
    compiled = tf.function(model, jit_compile=True)
    point = (offset + rng.normal(size=size)).astype(F)
    ranges = list(output_ranges(model, point))
    programs = [layer_norm_program(point, gamma, beta, 1e-3, rng) for _ in range(60)]
    many = np.repeat(point[None], 17, axis=0)
    programs += [model(point[None])[0], model(many)[5], compiled(point[None])[0], model.predict(many, verbose=0)[3]]
    exactly = point.astype(np.longdouble)
    left = exactly - exactly.mean()
    programs.append(left / np.sqrt(np.square(left).mean() + np.longdouble(F(1e-3))) * gamma + beta)
    spread = np.ptp([np.asarray(p, float) for p in programs], axis=0).max()
    assert spread > (1e-5 if offset else 1e-8)
    for _, low, high in ranges:
        for value in programs:
            assert (low <= np.asarray(value)).all() and (np.asarray(value) <= high).all()
        assert (high - low).max() < 3000 * 2.0**-24 * (1 + offset)  # nor is everything given away


@pytest.mark.parametrize(
    "layer",
    [
        lambda: L.GroupNormalization(2, axis=-1),
        lambda: L.LayerNormalization(axis=(1, 2)),
        lambda: L.RMSNormalization(),
        lambda: L.UnitNormalization(),
    ],
)
def test_relatives_of_it_hold_what_programs_compute(layer, seed):
    layer = layer()
    x = keras.Input((3, 4))
    model = keras.Model(x, L.Flatten()(layer(x)))
    rng = np.random.default_rng(1)
    layer.set_weights([rng.normal(size=w.shape) for w in layer.get_weights()])
    compiled = tf.function(model, jit_compile=True)
    points = (rng.normal(size=(5, 3, 4)) * 10 + 50 * rng.integers(0, 2, (5, 1, 1))).astype(F)
    each = [
        np.concatenate([model(points[i : i + 1]) for i in range(5)]),
        model(points).numpy(),
        compiled(points).numpy(),
    ]
    for i in range(0, 5, 2):
        for _, low, high in output_ranges(model, points[i], methods=("ibp", "crown")):
            for values in each:
                assert (low <= values[i]).all() and (values[i] <= high).all()


def softmax_program(x, rng):
    """A softmax in float32: sums in a random order, exponentials off by some ulps, a quotient or an inverse."""
    sizes = np.exp((x - x.max()).astype(np.float64)).astype(F)
    sizes = (sizes * (F(1) + F(2.0**-23) * rng.integers(-4, 5, len(x)).astype(F))).astype(F)
    sizes = np.where(sizes < np.finfo(F).tiny, F(0), sizes)
    whole = total(sizes, rng)
    return sizes / whole if rng.random() < 0.5 else sizes * (F(1) / whole)


@pytest.mark.parametrize("scale", [1.0, 30.0])
@pytest.mark.parametrize("size", [2, 3, 9])
def test_a_softmax_inside_a_network_holds_what_programs_compute(size, scale):
    """Catches what the difference from the largest number, an exponential, the sum and the quotient err by."""
    x = keras.Input((size, 1))
    model = keras.Model(x, L.Flatten()(L.Softmax(axis=1)(x)))
    rng = np.random.default_rng(size)
    compiled = tf.function(model, jit_compile=True)
    for _ in range(2):
        point = (scale * rng.normal(size=size)).astype(F)
        programs = [softmax_program(point, rng) for _ in range(60)]
        programs += [run(point[None, :, None]).numpy()[0] for run in (model, compiled)]
        exactly = np.exp(point.astype(np.longdouble) - point.max())
        programs.append(exactly / exactly.sum())
        for _, low, high in output_ranges(model, point[:, None]):
            for value in programs:
                assert (low <= value).all() and (value <= high).all()
            assert (high - low).max() < 1e-4 * (1 + scale)


def transformer(rng):
    """A block of attention, layer normalisation and a small dense part, with a softmax at the end."""
    x = keras.Input((4, 6))
    y = L.LayerNormalization()(x + L.MultiHeadAttention(2, 3)(x, x))
    y = L.LayerNormalization()(y + L.Dense(6)(L.Dense(8, activation="relu")(y)))
    model = keras.Model(x, L.Dense(3, activation="softmax")(L.GlobalAveragePooling1D()(y)))
    model.set_weights([rng.normal(size=w.shape) * 0.6 for w in model.get_weights()])
    return model


@pytest.mark.parametrize("method", ["ibp", "crown-ibp", "crown"])
def test_a_transformer_block_has_the_level_of_the_deployed_program(method):
    """From end to end: differences of logits, of the model in many batches, eager and compiled, lie in their ranges."""
    rng = np.random.default_rng(3)
    model = transformer(rng)
    network, options = from_keras(model), BoundOptions(rounding="deployed")
    assert guarantee_of(network, method, None, options).value == "float32-any-order"
    logits = keras.Model(model.inputs, model.layers[-1].input)
    kernel, bias = model.layers[-1].get_weights()
    points = rng.normal(size=(9, 4, 6)).astype(F)
    rows = np.array([[1.0, -1, 0], [0, -1, 1], [-1, 0, 1], [-1, 1, 0]])
    ball = LpBall(points[:2], 0.0, "linf")
    below = lower_bounds(
        network, ball, np.repeat(rows[None], 2, axis=0), np.zeros((2, 4)), method=method, options=options
    )
    compiled = tf.function(logits, jit_compile=True)
    for run in (lambda x: logits(x), lambda x: compiled(x), lambda x: logits.predict(x, verbose=0)):
        for batch in (points[:1], points[:2], points):
            answers = np.asarray(run(batch))[:2] @ kernel + bias
            values = answers.astype(np.float64) @ rows.T
            assert (below[: len(values)] <= values + 1e-6).all()
            assert (values - below[: len(values)]).max() < 0.05
