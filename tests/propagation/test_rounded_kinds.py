"""Kinds of several numbers on rounded networks: against exact rational arithmetic and float32 in any order."""

import itertools
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import tensorflow as tf

from tfcert.network import Contraction, Product
from tfcert.propagation.coefficients import Coefficients
from tfcert.propagation.enclosures import Plane, Planes, Slack
from tfcert.propagation.kinds import multivariate_kind
from tfcert.roundoff import rounding_of

ROUNDING = rounding_of("deployed", np.float32, np.float32)
PRODUCT = Product(name="p", inputs=(1, 2), shape=(3,), rounding=ROUNDING)
CONTRACTION = Contraction(
    name="c", inputs=(1, 2), shape=(2, 2), equation="ij,jk->ik", sizes=(("i", 2), ("j", 3), ("k", 2)), rounding=ROUNDING
)
SCALES = [1e-30, 1e-3, 1.0, 1.0, 1.0, 300.0, 2.0**24]


def bounds_of(rng, shape, wide=True):
    """Float32 bounds of one sample, of mixed sizes; some a single number, some one ulp wide."""
    low = (rng.normal(size=shape) * rng.choice(SCALES, shape)).astype(np.float32)
    width = np.abs(rng.normal(size=shape) * rng.choice(SCALES, shape)).astype(np.float32)
    high = np.where(
        rng.random(shape) < 0.2, low, np.where(rng.random(shape) < 0.3, np.nextafter(low, np.inf), low + width)
    )
    return low, high.astype(np.float32)


def inside(rng, low, high):
    """A point of float32 numbers: corners more often than not."""
    share = rng.choice([0.0, 0.0, 1.0, 1.0, 0.5], low.shape)
    point = (low.astype(np.float64) * (1 - share) + high.astype(np.float64) * share).astype(np.float32)
    return np.clip(point, low, high)


def fused(a, b, c):
    """``a b + c`` with one rounding."""
    exact = Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))
    near = np.float32(np.float64(float(exact)))
    return min((np.nextafter(near, np.float32(-np.inf)), near, np.nextafter(near, np.float32(np.inf))),
               key=lambda x: abs(Fraction(float(x)) - exact))  # fmt: skip


def sums(x, y, rng):
    """Float32 sums of products: every order, with and without FMA, and as a tree."""
    for order in itertools.permutations(range(len(x))):
        total, chained = np.float32(0), np.float32(0)
        for i in order:
            total = np.float32(total + np.float32(x[i] * y[i]))
            chained = fused(x[i], y[i], chained)
        yield total
        yield chained


def values_of(node, x, y, rng):
    """Values that the deployed program may compute, one array each."""
    if isinstance(node, Product):
        # In exact arithmetic too: of 48 bits. Rounding is monotone, so that rounded ends would hold rounded values.
        return [np.float32(x * y), x.astype(np.float64) * y.astype(np.float64)]
    found = {place: list(sums(x[place[0]], y[:, place[1]], rng)) for place in np.ndindex(node.shape)}
    count = len(next(iter(found.values())))
    return [
        np.array([found[p][k] for p in np.ndindex(node.shape)], np.float32).reshape(node.shape) for k in range(count)
    ]


def exactly(array):
    return [Fraction(float(number)) for number in np.asarray(array).ravel()]


def dot(first, second):
    return sum((a * b for a, b in zip(first, second, strict=True)), Fraction(0))


def tensors(pairs):
    return [(tf.constant(low[None]), tf.constant(high[None])) for low, high in pairs]


def cases(node, seed, count):
    rng = np.random.default_rng(seed)
    shapes = node.shapes if isinstance(node, Contraction) else (node.shape, node.shape)
    for _ in range(count):
        yield rng, [bounds_of(rng, shape) for shape in shapes]


@pytest.mark.parametrize("node", [PRODUCT, CONTRACTION], ids=["product", "contraction"])
def test_intervals_hold_what_any_order_computes(node):
    """Catches ends that are rounded inward, a missing term for the deployed sum, and FMA left out."""
    kind = multivariate_kind(node)
    for rng, pairs in cases(node, 1, 40):
        low, high = (end.numpy()[0] for end in kind.interval(node, tensors(pairs)))
        for _ in range(4):
            x, y = (inside(rng, *pair) for pair in pairs)
            for value in values_of(node, x, y, rng):
                assert (low <= value).all() and (value <= high).all()


@pytest.mark.parametrize("opened", [False, True])
@pytest.mark.parametrize("node", [PRODUCT, CONTRACTION], ids=["product", "contraction"])
def test_rows_passed_back_are_below_what_any_order_computes(node, opened):
    """Catches planes, coefficients and constants that are computed with rounding and taken to be exact."""
    kind = multivariate_kind(node)
    for rng, pairs in cases(node, 2, 30):
        size = int(np.prod(node.shape))
        rows = (rng.normal(size=(1, 1, 4, size)) * rng.choice([0.0, 1.0, 1e3], (1, 1, 4, size))).astype(np.float32)
        over = Coefficients(tf.constant(rows), node.shape)
        if opened:
            planes = kind.opened(node, tensors(pairs), None).over(over)
            shares = [tf.constant(rng.random(c.shape), tf.float32) for c in planes.first([1, 1, 4, size])]
            sent, constant = planes.back(over, shares)
        else:
            choices = [tf.constant(rng.random(c.shape), tf.float32) for c in kind.choices(node, tensors(pairs), None)]
            chosen = choices if rng.random() < 0.5 else ()
            sent, constant = kind.relax(node, tensors(pairs), None, chosen).back(over)
        for _ in range(3):
            x, y = (inside(rng, *pair) for pair in pairs)
            for row in range(4):
                below = Fraction(float(constant.numpy()[0, 0, row])) + sum(
                    dot(exactly(part.dense().values.numpy()[0, 0, row]), exactly(point))
                    for part, point in zip(sent, (x, y), strict=True)
                )
                given = exactly(rows[0, 0, row])
                for value in values_of(node, x, y, rng)[:8]:
                    assert below <= dot(given, exactly(value))


@pytest.mark.parametrize("node", [PRODUCT, CONTRACTION], ids=["product", "contraction"])
def test_planes_passed_forward_hold_up_to_their_slack(node):
    """Catches slack that leaves out the roundings of scaling, adding and contracting planes."""
    kind = multivariate_kind(node)
    for rng, pairs in cases(node, 3, 20):
        shapes = [pair[0].shape for pair in pairs]
        pairs = [(np.full_like(low, -100), np.full_like(high, 100)) for low, high in pairs]
        reach = np.array([[1.0, 0.5, 2.0]], np.float32)
        given = []
        for shape in shapes:
            slopes = rng.normal(size=(1, 3, *shape)).astype(np.float32)
            level = (10 * rng.normal(size=(1, *shape))).astype(np.float32)
            plane = Plane(tf.constant(slopes), tf.constant(level))
            given.append(Planes(plane, plane, Slack(tf.zeros([1, *shape]), tf.constant(reach), ROUNDING)))
        found = kind.relax(node, tensors(pairs), None).advance(given)
        for _ in range(3):
            z = rng.choice([-1.0, 1.0, 0.25], 3) * reach[0]
            # Exact values of the inputs stand for deployed ones: what is between the planes up to no slack.
            points = [
                [Fraction(float(p.lower.intercept.numpy().ravel()[k])) + dot(exactly(z), exactly(
                    p.lower.slopes.numpy().reshape(3, -1)[:, k])) for k in range(int(np.prod(shape)))]
                for p, shape in zip(given, shapes, strict=True)
            ]  # fmt: skip
            if isinstance(node, Product):
                exact = [a * b for a, b in zip(*points, strict=True)]
            else:
                exact = [sum(points[0][3 * i + j] * points[1][2 * j + k] for j in range(3))
                         for i in range(2) for k in range(2)]  # fmt: skip
            for k, value in enumerate(exact):
                slack = Fraction(float(found.slack.amount.numpy().ravel()[k]))
                low, high = (
                    Fraction(float(side.intercept.numpy().ravel()[k]))
                    + dot(exactly(z), exactly(side.slopes.numpy().reshape(3, -1)[:, k]))
                    for side in (found.lower, found.upper)
                )
                assert low - slack <= value <= high + slack


def test_nothing_is_charged_where_rounding_is_left_out():
    """Catches terms that a network without rounding would pay for."""
    for node in (PRODUCT, CONTRACTION):
        plain, kind = replace(node, rounding=None), multivariate_kind(node)
        (_, pairs), *_ = cases(node, 4, 1)
        ours, theirs = (kind.interval(n, tensors(pairs)) for n in (plain, node))
        assert (ours[0] > theirs[0]).numpy().any() and (ours[1] < theirs[1]).numpy().any()
        assert kind.charges_rounding
