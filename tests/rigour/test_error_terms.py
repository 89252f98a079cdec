"""Bounds of rounded networks hold without slack: of every program's values, and of the exact result in rationals.

Three oracles: exact rational arithmetic (``soundness/exact.py``); simulated float32 programs; and, for sums of three to
five products, *every* order and shape of the sum. Bounds computed in float64 are charged for the float32 program alone,
which leaves the program's own terms nothing to hide behind.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest
import tensorflow as tf
from rigour.simulated import Program, drawn, fused, simulated, values
from soundness.exact import Affine, Leaky, evaluate, least
from soundness.test_exact import as_network, box_of, random_layers

from tfcert.activations import activation
from tfcert.network import DenseMap, Network
from tfcert.network.graph import Add, Elementwise, Input, Linear
from tfcert.network.linear import ScaleMap
from tfcert.propagation.bounds import output_bounds
from tfcert.propagation.errors import ball_of, linear_size
from tfcert.propagation.interval import intervals
from tfcert.roundoff import rounding_of
from tfcert.sets.balls import Box, LpBall
from tfcert.sets.region import region_of

ROWS = np.array([[1, -1], [-1, 1], [1, 0], [0.5, 2]], np.float32)
METHODS = ("ibp", "crown-ibp", "crown")


def charged(network: Network, kind: str = "deployed", own: type = np.float32) -> Network:
    """A float32 network's bounds in a type of our own, charged for rounding."""
    return network.astype(tf.as_dtype(own)).rounded(rounding_of(kind, np.float32, own))


def below(network: Network, box: Box, rows: np.ndarray, method: str) -> np.ndarray:
    """Lower bounds of rows over a box, ``[rows]``."""
    dtype = network.dtype.as_numpy_dtype
    region, count = region_of(box.astype(dtype)), len(rows)
    asked = (tf.constant(rows[None], dtype), tf.zeros([1, count], dtype))
    return output_bounds(network, region, asked, method).numpy()[0]


def exactly(row: np.ndarray, output: np.ndarray) -> Fraction:
    return sum((Fraction(float(c)) * Fraction(float(v)) for c, v in zip(row, output, strict=True)), Fraction(0))


def corners(box: Box, count: int) -> np.ndarray:
    rng = np.random.default_rng(count)
    chosen = rng.integers(0, 2, (count, box.lower.shape[1])).astype(bool)
    return np.concatenate([np.where(chosen, box.lower, box.upper), box.lower, box.upper]).astype(np.float32)


@pytest.mark.parametrize("seed", [*range(8), *(pytest.param(seed, marks=pytest.mark.sweep) for seed in range(8, 80))])
def test_bounds_lie_below_the_exact_optimum_and_every_program_without_slack(seed):
    layers, inputs = random_layers(seed)
    layers = [Leaky(0.0) if isinstance(layer, Leaky) else layer for layer in layers]
    box = box_of(seed, inputs)
    network = as_network(layers, inputs, tf.float32)
    exact = [least(layers, box.lower[0], box.upper[0], row) for row in ROWS]
    points = corners(box, 8)
    outputs = np.concatenate([simulated(network, drawn(number))(points) for number in range(12)])
    outputs = np.concatenate([outputs, network(tf.constant(points)).numpy()])
    lowest = [min(exactly(row, output) for output in outputs) for row in ROWS]
    for own, method in itertools.product((np.float32, np.float64), METHODS):
        real = below(charged(network, "real", own), box, ROWS, method)
        ours = below(charged(network, "deployed", own), box, ROWS, method)
        for row in range(len(ROWS)):
            assert Fraction(float(real[row])) <= exact[row], (own, method, row)
            assert Fraction(float(ours[row])) <= min(exact[row], lowest[row]), (own, method, row)


@pytest.mark.parametrize("seed", range(6))
def test_every_node_s_interval_holds_every_program_s_values(seed):
    layers, inputs = random_layers(4 * seed + 1)
    box, layers = box_of(seed, inputs), [Leaky(0.0) if isinstance(layer, Leaky) else layer for layer in layers]
    network = as_network(layers, inputs, tf.float32)
    points = corners(box, 8)
    for own in (np.float32, np.float64):
        found = intervals(charged(network, "deployed", own), region_of(box.astype(own)), {})
        for number in range(8):
            for value, (low, high) in zip(values(network, points, drawn(number)), found, strict=True):
                assert (low.numpy() <= value.astype(np.float64)).all()
                assert (value.astype(np.float64) <= high.numpy()).all()


def every_sum(terms: tuple[tuple[np.float32, np.float32], ...]) -> Iterator[np.float32]:
    """The values of every order and shape of a sum of products, each step fused or not."""
    if len(terms) == 1:
        yield np.float32(terms[0][0] * terms[0][1])
        return
    for size in range(1, len(terms) // 2 + 1):
        for left in itertools.combinations(range(len(terms)), size):
            if 2 * size == len(terms) and 0 not in left:
                continue
            ours = tuple(terms[i] for i in left)
            theirs = tuple(terms[i] for i in range(len(terms)) if i not in left)
            for b in set(every_sum(theirs)):
                for a in set(every_sum(ours)):
                    yield np.float32(a + b)
                if size == 1:
                    yield fused(*(np.array([v], np.float32) for v in (*ours[0], b)))[0]
            if len(theirs) == 1:
                for a in set(every_sum(ours)):
                    yield fused(*(np.array([v], np.float32) for v in (*theirs[0], a)))[0]


def operands(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Random, extreme and adversarial weights and values: ties, giants that cancel, last places that are lost."""
    rng = np.random.default_rng(seed)
    w, x = rng.normal(size=count).astype(np.float32), rng.normal(size=count).astype(np.float32)
    match seed % 5:
        case 1:
            x *= np.float32(2.0) ** rng.integers(-60, 60, count).astype(np.float32)
        case 2:
            w[0], x[0], w[1], x[1] = 3e8, 1.0, -3e8, 1.0
        case 3:
            w[:], x[:] = 1.0, 2.0**-24
            x[0] = 1.0
        case 4:
            w[:], x[:] = 1 + 2.0**-12 - 2.0**-23, 1 + 2.0**-12
            x[1] = -x[0]
    return w, x


@pytest.mark.parametrize("count", [3, 4])
@pytest.mark.parametrize("seed", range(5))
def test_no_order_and_no_shape_of_a_small_sum_leaves_the_interval(count, seed):
    contained(count, seed)


@pytest.mark.sweep
@pytest.mark.parametrize("count", [3, 4, 5])
@pytest.mark.parametrize("seed", range(5, 20))
def test_no_order_and_no_shape_of_many_small_sums_leaves_the_interval(count, seed):
    contained(count, seed)


def contained(count: int, seed: int) -> None:
    """Every way to add up products and a bias lies within a rounded node's bounds at the point, and so does the sum."""
    w, x = operands(count, seed)
    layers = [Affine(w[:-1, None], w[-1:])]  # the last product is the bias, times 1
    terms = (*zip(w[:-1], x[:-1], strict=True), (w[-1], np.float32(1)))
    found = set(every_sum(tuple(terms)))
    exact = evaluate(layers, [Fraction(float(v)) for v in x[:-1]])[0]
    network, box = as_network(layers, count - 1, tf.float32), Box(x[None, :-1], x[None, :-1])
    for own, method in itertools.product((np.float32, np.float64), METHODS):
        low, high = below(charged(network, "deployed", own), box, np.array([[1.0], [-1.0]]), method) * [1, -1]
        assert Fraction(float(low)) <= exact <= Fraction(float(high))
        assert all(low <= float(value) <= high for value in found), method


def absorbing(count: int, bias: float = 0.0) -> tuple[list[Affine], np.ndarray]:
    """A sum whose terms after the first are lost one by one: it errs by nearly ``n u`` times its size."""
    kernel, x = np.ones((count, 1), np.float32), np.full(count, 2.0**-24, np.float32)
    if not bias:
        x[0] = 1.0
    return [Affine(kernel, np.array([bias], np.float32))], x


@pytest.mark.parametrize("bias", [0.0, 1.0])
@pytest.mark.parametrize("method", METHODS)
def test_a_sum_that_errs_as_much_as_a_sum_can_stays_within_its_bounds(bias, method):
    """Behind a bound in float64, that only the program's own terms widen: half of them would not do."""
    layers, x = absorbing(1000, bias)
    network, box = as_network(layers, 1000, tf.float32), Box(x[None], x[None])
    run = simulated(network, Program(order="falling", bias_first=True))(x[None])[0, 0]
    exact = evaluate(layers, [Fraction(float(v)) for v in x])[0]
    assert abs(Fraction(float(run)) - exact) > Fraction(99, 100) * 1000 * Fraction(2) ** -24
    low, high = below(charged(network, "deployed", np.float64), box, np.array([[1.0], [-1.0]]), method) * [1, -1]
    assert low <= float(run) <= high
    assert high - low < 2.2 * 1000 * 2.0**-24


def block(scaled: bool, bent: bool) -> tuple[Network, np.ndarray]:
    """A residual block: a sum of a thousand terms that absorbs all but the first, scaled or not, and that again."""
    count = 1000
    first, every = np.eye(count, 1, dtype=np.float32), np.ones((count, 1), np.float32)
    nodes = [
        Input(name="x", shape=(count,)),
        Elementwise(name="relu", inputs=(0,), shape=(count,), activation=activation("relu")),
        Linear(name="sum", inputs=(1,), shape=(1,), map=DenseMap(lambda: tf.constant(every), (count,), 1)),
        Linear(name="skip", inputs=(1,), shape=(1,), map=DenseMap(lambda: tf.constant(first), (count,), 1)),
    ]
    if scaled:
        scale = ScaleMap(lambda: tf.fill([1], np.float32(4)), (1,))
        nodes.append(Linear(name="scale", inputs=(2,), shape=(1,), map=scale))
    nodes.append(Add(name="add", inputs=(len(nodes) - 1 if scaled else 2, 3), shape=(1,)))
    if bent:
        last = len(nodes) - 1
        nodes.append(Elementwise(name="bend", inputs=(last,), shape=(1,), activation=activation("relu")))
    x = np.full((1, count), 2.0**-24, np.float32)
    x[0, 0] = 1.0
    return Network(tuple(nodes)), x


@pytest.mark.parametrize("bent", [False, True])
@pytest.mark.parametrize("scaled", [False, True])
def test_layers_of_a_residual_block_are_charged_with_their_sum_once(scaled, bent):
    """Catches a layer that is charged neither for itself nor with the sum that it goes into, or twice."""
    network, x = block(scaled, bent)
    run = float(simulated(network, Program(order="falling"))(x)[0, 0])
    factor = 4 if scaled else 1
    assert run == factor + 1  # the exact value is larger by 999 u times the factor
    for method in ("crown-ibp", "crown"):
        low, high = below(charged(network, "deployed", np.float64), Box(x, x), np.array([[1.0], [-1.0]]), method)
        assert low <= run <= -high
        assert -high - low < 2.2 * (factor + 1) * 1000 * 2.0**-24


def cancelling(count: int) -> tuple[list[Affine], np.ndarray]:
    """Halves that cancel: added up one after the other, each loses nearly ``n u / 2`` times the size of the terms."""
    half = np.array([2.0**24, *[1.0] * (count // 2 - 1)], np.float32)
    kernel = np.concatenate([half, -half])[:, None].astype(np.float32)
    return [Affine(kernel, np.zeros(1, np.float32))], np.ones(count, np.float32)


@pytest.mark.parametrize("method", METHODS)
def test_sums_of_terms_that_cancel_are_charged_what_they_add_up_on_the_way(method):
    """Catches a charge relative to the sum, which is 0 here; and one of all terms' sizes, twice what is needed."""
    layers, x = cancelling(400)
    network, box = as_network(layers, 400, tf.float32), Box(x[None], x[None])
    found = [simulated(network, drawn(seed))(x[None])[0, 0] for seed in range(20)]
    assert max(map(abs, found)) > 20 and evaluate(layers, [Fraction(1)] * 400)[0] == 0
    low, high = below(charged(network, "deployed", np.float64), box, np.array([[1.0], [-1.0]]), method) * [1, -1]
    assert all(low <= float(value) <= high for value in found)
    assert high - low < 2 * 1.1 * (200 + 2 * 5) * 2.0**-24 * 2.0**25


@pytest.mark.parametrize("method", METHODS)
def test_a_bias_that_is_folded_into_a_sum_is_rounded_with_every_term(method):
    """Where batch normalisation is folded, its bias may come first in the sum: of a hundred terms, not of one."""
    kernel, one = np.full((100, 1), 2.0**-25, np.float32), np.ones(1, np.float32)
    matrix, scale = DenseMap(lambda: tf.constant(kernel), (100,), 1), ScaleMap(lambda: tf.constant(one), (1,))
    network = Network(
        nodes=(
            Input(name="input", shape=(100,)),
            Linear(name="sum", inputs=(0,), shape=(1,), map=matrix),
            Linear(name="scale", inputs=(1,), shape=(1,), map=scale, bias=lambda: tf.constant(one)),
        ),
        dtype=tf.float32,
    )
    x = np.ones((1, 100), np.float32)
    run = simulated(network, Program(bias_first=True, folded=True))(x)[0, 0]
    assert run == 1.0  # all terms are lost
    low, high = below(charged(network, "deployed", np.float64), Box(x, x), np.array([[1.0], [-1.0]]), method) * [1, -1]
    assert low <= run <= high


def scaled(weight: float, scale: float) -> Network:
    """Two products with a weight, a scale behind their sum, and a weight that undoes the scale."""
    matrix = DenseMap(lambda: tf.fill([2, 1], np.float32(weight)), (2,), 1)
    behind = ScaleMap(lambda: tf.fill([1], np.float32(scale)), (1,))
    sums = Linear(name="sum", inputs=(0,), shape=(1,), map=matrix)
    middle = Linear(name="scale", inputs=(1,), shape=(1,), map=behind)
    undone = DenseMap(lambda: tf.fill([1, 1], np.float32(1 / scale)), (1,), 1)
    last = Linear(name="undone", inputs=(2,), shape=(1,), map=undone)
    return Network((Input(name="x", shape=(2,)), sums, middle, last))


@pytest.mark.parametrize("own", [np.float32, np.float64])
@pytest.mark.parametrize("method", METHODS)
def test_a_folded_weight_that_the_type_does_not_have_is_charged(method, own):
    """``2^-100 2^-60`` is 0 once it is folded, and all of the sum is lost; ``2^100 2^100`` is infinite."""
    rows, fold = np.array([[1.0], [-1.0]]), Program(folded=True)
    small, x = scaled(2.0**-100, 2.0**-60), np.full((1, 2), 2.0**100, np.float32)
    plain, lost = (simulated(small, program)(x)[0, 0] for program in (Program(), fold))
    assert plain == 2 and lost == 0
    low, high = below(charged(small, "deployed", own), Box(x, x), rows, method) * [1, -1]
    assert low <= 0 and plain <= high
    large, x = scaled(2.0**100, 2.0**100), np.full((1, 2), 2.0**-100, np.float32)
    assert simulated(large, Program())(x)[0, 0] == 2 and not np.isfinite(simulated(large, fold)(x)).any()
    assert not np.isfinite(below(charged(large, "deployed", own), Box(x, x), rows, method)).any()


@pytest.mark.parametrize("own", [np.float32, np.float64])
@pytest.mark.parametrize("method", METHODS)
def test_sums_that_overflow_on_the_way_have_no_bounds(method, own):
    """Of products, and of nodes: the result is small, and float64, which bounds are computed in, has all of it."""
    giant, x = np.float32(1.5 * 2.0**126), np.zeros((1, 1), np.float32)
    signs = np.array([[1.0], [1.0], [-1.0], [-1.0]], np.float32)
    products = as_network([Affine(signs, np.zeros(1, np.float32))], 4, tf.float32)
    point = np.full((1, 4), giant)
    assert not np.isfinite(below(charged(products, "deployed", own), Box(point, point), np.ones((1, 1)), method)).any()

    def constant(value: np.float32, name: str) -> Linear:
        matrix = DenseMap(lambda: tf.zeros([1, 1]), (1,), 1)
        return Linear(name=name, inputs=(0,), shape=(1,), map=matrix, bias=lambda: tf.constant([value]))

    parts = [constant(sign * giant, f"part{number}") for number, (sign,) in enumerate(signs)]
    nodes = Network((Input(name="x", shape=(1,)), *parts, Add(name="sum", inputs=(1, 2, 3, 4), shape=(1,))))
    assert not np.isfinite(below(charged(nodes, "deployed", own), Box(x, x), np.ones((1, 1)), method)).any()


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_terms_of_inputs_in_a_ball_are_within_their_size(norm):
    """Against points on the ball that make one term, or all alike, as large as they get; far less than over the box."""
    rng = np.random.default_rng(0)
    kernel, bias = rng.normal(size=(40, 3)).astype(np.float32), rng.normal(size=3).astype(np.float32)
    x, eps = rng.normal(size=(2, 40)).astype(np.float32), np.array([0.5, 3.0])
    network = charged(as_network([Affine(kernel, bias)], 40, tf.float32))
    region = region_of(LpBall(x, eps, norm).astype(np.float32))
    ball, node = ball_of(region), network.nodes[-1]
    found, box = ball.terms(node).numpy(), linear_size(node, tf.maximum(abs(region.lower), abs(region.upper)))[0]
    weights = np.abs(kernel.astype(np.float64))
    for sample in range(2):
        along = weights / np.linalg.norm(weights, axis=0)
        for step in [*(along.T if norm == "l2" else ()), *np.eye(40)]:
            point = np.abs(x[sample].astype(np.float64)) + eps[sample] * step
            assert (point @ weights + np.abs(bias) <= found[sample]).all()
    assert (found < 0.8 * box.numpy()).all() and (found[1] < 0.5 * box.numpy()[1]).all()


@pytest.mark.parametrize("method", METHODS)
def test_one_product_is_charged_its_rounding(method):
    """A program that does not fuse rounds the product, too: ``w x`` alone errs although nothing is added up."""
    for seed in range(20):
        w, x = (np.random.default_rng(seed).random((1, 1)).astype(np.float32) for _ in range(2))
        x = np.nextafter(x, np.float32(1)) + np.float32(seed) / 64
        network, box = as_network([Affine(w, np.zeros(1, np.float32))], 1, tf.float32), Box(x, x)
        low, high = below(charged(network, "deployed", np.float64), box, np.array([[1.0], [-1.0]]), method) * [1, -1]
        assert low <= float((w * x)[0, 0]) <= high


@pytest.mark.parametrize("method", METHODS)
def test_one_product_and_its_sum_are_rounded_each(method):
    """Product and sum both lie half-way between two floats: each loses u, and both together twice that."""
    w = np.full((1, 1), 1 + 2.0**-12, np.float32)
    bias = np.array([2.0**-24], np.float32)
    network, box = as_network([Affine(w, bias)], 1, tf.float32), Box(w, w)
    run, exact = float((w * w + bias)[0, 0]), float(w[0, 0]) ** 2 + 2.0**-24
    assert exact - run == 2.0**-23
    assert below(charged(network, "deployed", np.float64), box, np.array([[1.0]]), method) <= run


@pytest.mark.parametrize("kind", ["deployed", "real"])
@pytest.mark.parametrize("seed", range(12))
def test_points_have_bounds_on_both_sides_of_the_exact_value(kind, seed):
    """At a point all of a bound's error is rounding's, so an end that is rounded inward once is on the wrong side."""
    rng = np.random.default_rng(seed)
    layers = [
        Affine(rng.normal(size=s).astype(np.float32), rng.normal(size=s[1]).astype(np.float32)) for s in ((4, 3),)
    ]
    x = rng.normal(size=(1, 4)).astype(np.float32)
    exact = evaluate(layers, [Fraction(float(v)) for v in x[0]])
    network = charged(as_network(layers, 4, tf.float32), kind)
    for method in METHODS:
        found = below(network, Box(x, x), np.concatenate([np.eye(3), -np.eye(3)]), method)
        for i in range(3):
            assert Fraction(float(found[i])) <= exact[i] <= -Fraction(float(found[3 + i]))
