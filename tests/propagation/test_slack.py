"""Forward planes of rounded networks: ranges hold for float32 values, in any order, and for exact ones."""

import itertools
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import tensorflow as tf
from rigour.simulated import drawn, simulated

from tfcert.network import Builder
from tfcert.network.linear import DenseMap
from tfcert.propagation import slack
from tfcert.propagation.blocks import Blocks
from tfcert.propagation.enclosures import Plane, Planes, Slack
from tfcert.propagation.errors import linear_size
from tfcert.propagation.forward import planes, ranges
from tfcert.propagation.methods import symbolic
from tfcert.roundoff import rounding_of
from tfcert.sets.balls import LpBall
from tfcert.sets.region import region_of

ROUNDING = rounding_of("deployed", np.float32, np.float32)


def random_network(rng, giant):
    """Dense layers and ReLUs with a skip connection; with ``giant``, biases that absorb what is added to them."""
    builder = Builder(tf.float32)
    sizes, layers = (4, 5, 5, 3), []
    x = builder.input((4,), "in")
    first = None
    for k, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        kernel = (rng.normal(size=(fan_in, fan_out)) * rng.choice([1.0, 1e-3, 50.0], (fan_in, fan_out))).astype(
            np.float32
        )
        bias = (rng.normal(size=fan_out) * (giant if k < 2 else 1.0)).astype(np.float32)
        layers.append((kernel, bias))
        x = builder.linear(x, DenseMap(builder.constant(kernel), (fan_in,), fan_out), builder.constant(bias))
        if k == 1:
            x = builder.add([x, first])
        if k < 2:
            x = builder.activation(x, "relu")
        first = x if k == 0 else first
    return builder.network(x)[0], layers


def dense(x, kernel, bias, rng, exact):
    if exact:
        return [sum((a * Fraction(float(w)) for a, w in zip(x, column, strict=True)), Fraction(float(b)))
                for column, b in zip(kernel.T, bias, strict=True)]  # fmt: skip
    found = []
    for column, b in zip(kernel.T, bias, strict=True):
        terms = [np.float32(a * w) for a, w in zip(x, column, strict=True)] + [np.float32(b)]
        while len(terms) > 1:  # a random tree of additions
            first, second = (terms.pop(rng.integers(len(terms))) for _ in range(2))
            terms.append(np.float32(first + second))
        found.append(terms[0])
    return found


def computed(layers, x, rng, exact):
    value = [Fraction(float(v)) for v in x] if exact else list(x)
    zero, kept = (Fraction(0), None) if exact else (np.float32(0), None)
    for k, (kernel, bias) in enumerate(layers):
        value = dense(value, kernel, bias, rng, exact)
        if k == 1:
            value = [a + b if exact else np.float32(a + b) for a, b in zip(value, kept, strict=True)]
        if k < 2:
            value = [max(v, zero) for v in value]
        kept = value if k == 0 else kept
    return value


def corners(rng, x, eps, norm):
    if norm == "linf":
        return np.clip(x + np.float32(eps) * rng.choice([-1, 1], x.shape).astype(np.float32), *ends(x, eps))
    step = rng.normal(size=x.shape) if norm == "l2" else np.eye(len(x))[rng.integers(len(x))] * rng.choice([-1, 1])
    return (x + 0.999 * eps * step / np.linalg.norm(step)).astype(np.float32)


def ends(x, eps):
    return np.nextafter(x - np.float32(eps), x), np.nextafter(x + np.float32(eps), x)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("giant", [1.0, 2.0**24])
def test_ranges_hold_what_float32_computes_in_any_order(norm, giant):
    """Catches slack without the deployed sums, without our own, and ranges that are rounded inward."""
    tight = 0
    for seed in range(6):
        rng = np.random.default_rng(seed)
        network, layers = random_network(rng, giant)
        eps = float(rng.choice([0.0, 1e-6, 0.1]))
        x = rng.normal(size=4).astype(np.float32)
        region = region_of(LpBall(x[None], eps, norm=norm))
        rounded = network.rounded(ROUNDING)
        found, _ = symbolic._run(rounded, region)
        low, high = (end.numpy()[0] for end in ranges(found[-1], (4,), region))
        plain = ranges(symbolic._run(network, region)[0][-1], (4,), region)
        for _ in range(6):
            point = corners(rng, x, eps, norm)
            exact = computed(layers, point, rng, True)
            floats = [computed(layers, point, rng, False) for _ in range(4)]
            for value in (exact, *floats):
                assert all(Fraction(float(a)) <= Fraction(b) <= Fraction(float(c))
                           for a, b, c in zip(low, map(_fraction, value), high, strict=True))  # fmt: skip
                tight += not all(a <= float(b) <= c for a, b, c in zip(plain[0][0], value, plain[1][0], strict=True))
    assert tight > 0  # the cases tell planes that are charged from planes that are not


@pytest.mark.parametrize("rounding", [ROUNDING, rounding_of("real", np.float32, np.float32)], ids=["deployed", "real"])
def test_giants_that_are_gone_before_the_output_are_charged_where_they_were(rounding):
    """Catches slack that charges a step for neither, and sizes without the bias: at the output all is small again."""
    builder, giant = Builder(tf.float32), 2.0**26
    x = builder.input((1,), "in")
    for bias in (giant, -giant):
        x = builder.linear(x, DenseMap(builder.constant([[1.0]]), (1,), 1), builder.constant([bias]))
    network = builder.network(x)[0].rounded(rounding)
    region = region_of(LpBall(np.array([[3.3]], np.float32), 0.0, norm="linf"))
    low, high = (float(end.numpy()[0, 0]) for end in ranges(symbolic._run(network, region)[0][-1], (1,), region))
    absorbed = float(np.float32(np.float32(3.3) + np.float32(giant)) - np.float32(giant))
    assert absorbed == 0.0 and low <= 3.3 <= high and high - low < 2000
    assert rounding.deployed == 0 or low <= absorbed


def test_a_step_is_charged_for_the_program_and_for_itself():
    """Each of the two by itself: catches one that stands for the other."""
    at, size = tf.zeros([1, 2]), tf.constant([[1.0, 4.0]])
    found = []
    for rounding in (ROUNDING, replace(ROUNDING, own=0.0), replace(ROUNDING, deployed=0.0)):
        start = Slack(at, tf.zeros([1, 3]), rounding)
        found.append(slack.charged_slack(start, at + 0.5, size, 5).amount.numpy() - 0.5)
    both, program, own = found
    assert (program > 5 * 2.0**-24 * size.numpy()).all() and (own > 5 * 2.0**-24 * size.numpy()).all()
    assert (both > 0.9 * (program + own)).all()


def test_the_size_of_a_step_has_its_bias_in_it():
    """Catches ``|W| m`` alone, and a bias whose terms cancel taken for their size."""
    builder = Builder(tf.float32)
    kernel = np.array([[1.5, -2.0], [0.25, 3.0]], np.float32)
    x = builder.linear(
        builder.input((2,), "in"),
        DenseMap(builder.constant(kernel), (2,), 2),
        builder.constant([7.0, -0.5]),
        size=builder.constant([7.0, 9.0]),
    )
    node = builder.network(x)[0].rounded(ROUNDING).nodes[-1]
    for given, bias in ((node, [7.0, 9.0]), (replace(node, size_of_bias=None), [7.0, 0.5])):
        size = linear_size(given, tf.constant([[2.0, 4.0]]))[0].numpy()[0]
        exact = np.abs(kernel).T @ [2.0, 4.0] + bias
        assert (size >= exact).all() and (size < exact * (1 + 1e-5)).all()


def _fraction(value):
    return value if isinstance(value, Fraction) else Fraction(float(value))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_blocks_of_inputs_are_charged_as_all_inputs_together_at_least(norm):
    """Catches a block that leaves out the charge of another."""
    rng = np.random.default_rng(7)
    network, _ = random_network(rng, 1.0)
    region, rounded = region_of(LpBall(rng.normal(size=(1, 4)).astype(np.float32), 0.01, norm=norm)), None
    widths = []
    for net in (network, network.rounded(ROUNDING)):
        bounds = symbolic._run(network, region)[1]
        lines = lambda i, _: symbolic.concretised(*bounds[net.nodes[i].inputs[0]], tf.zeros([1]))  # noqa: B023, E731
        whole = ranges(planes(net, region, lines)[-1], (4,), region)
        blocks = Blocks(net, region, 3)
        parts = blocks.ranges(net.output, blocks.lines(lines))
        widths.append((parts[1] - parts[0]).numpy() - (whole[1] - whole[0]).numpy())
        rounded = parts if net.rounding else rounded
    assert (widths[1] > widths[0]).all()
    assert slack.slack_of(region, None) is None


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_sizes_over_a_ball_are_those_of_its_points(norm):
    """Catches sizes below a point's, and those of the box around the ball."""
    rng = np.random.default_rng(0)
    center, slopes = (rng.normal(size=shape).astype(np.float32) for shape in ((2, 40), (1, 40, 3)))
    intercept, eps = rng.normal(size=(1, 3)).astype(np.float32), np.array([0.5, 6.0])
    region = region_of(LpBall(center, eps, norm).astype(np.float32))
    start = slack.slack_of(region, ROUNDING)._replace(amount=tf.zeros([1, 3]))
    plane = Plane(tf.constant(slopes), tf.constant(intercept))
    found, hull = (slack.plane_sizes(Planes(plane, plane, part)).numpy() for part in (start, start._replace(ball=None)))
    weights = np.abs(slopes[0].astype(np.float64))
    along = [*(weights / np.linalg.norm(weights, axis=0)).T] if norm == "l2" else [*np.eye(40)]
    for sample in range(2):
        for step in along:
            point = np.abs(center[sample].astype(np.float64)) + eps[sample] * step
            assert (point @ weights + np.abs(intercept[0]) <= found[sample]).all()
    assert (found < hull).all() and (found[1] < 0.5 * hull[1]).all()


def test_planes_whose_terms_cancel_are_charged_what_they_add_up_on_the_way():
    """Halves that cancel: all of the terms' sizes would be twice what any order of the sum can lose."""
    half = np.array([2.0**24, *[1.0] * 99], np.float32)
    kernel = np.concatenate([half, -half])[:, None].astype(np.float32)
    builder = Builder(tf.float32)
    x = builder.linear(builder.input((1,), "in"), DenseMap(builder.constant(np.ones((1, 200))), (1,), 200), None)
    network = builder.network(builder.linear(x, DenseMap(builder.constant(kernel), (200,), 1), None))[0]
    wide, point = network.astype(tf.float64).rounded(replace(ROUNDING, own=2.0**-53)), np.ones((1, 1))
    region = region_of(LpBall(point, 0.0))
    low, high = (end.numpy()[0, 0] for end in ranges(symbolic._run(wide, region)[0][-1], (1,), region))
    runs = [simulated(network, drawn(seed))(point.astype(np.float32))[0, 0] for seed in range(20)]
    assert max(map(abs, runs)) > 20 and all(low <= run <= high for run in runs)
    assert high - low < 2 * 1.2 * (100 + 4 + 1) * 2.0**-24 * 2.0**25


def test_only_inputs_that_were_moved_are_summed_without_rounding():
    """Catches units said of numbers beside them that were computed: their slopes and intercepts are sums."""
    builder = Builder(tf.float32)
    x = builder.input((3,), "in")
    y = builder.linear(x, DenseMap(builder.constant(np.ones((3, 3))), (3,), 3), builder.constant(np.ones(3)))
    network = builder.network(builder.concatenate([x, y], 0))[0].rounded(ROUNDING)
    found = symbolic._run(network, region_of(LpBall(np.ones((1, 3), np.float32), 0.1)))[0]
    assert found[0].slack.units and not any(planes.slack.units for planes in found[1:])
