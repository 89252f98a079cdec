"""A number over a root mean square: ranges and planes against dense grids, the best planes, and at the edges."""

import numpy as np
import pytest
import tensorflow as tf

from tfcert.network.normalized import Normalized
from tfcert.network.product import Product
from tfcert.propagation.normalized import NORMALIZED
from tfcert.propagation.product import PRODUCT

LEAST = 1e-3


def node(share, floor=0.0, least=LEAST):
    return Normalized(name="normalized", inputs=(0, 1), shape=(100,), share=share, least=least, floor=floor)


def boxes(seed=0, scale=1.0, width=1.0, rest=1.0, dtype=np.float64):
    """Bounds of c and of the rest, ``[1, 100]`` each."""
    rng = np.random.default_rng(seed)
    middle = rng.normal(size=(1, 100)) * scale
    radius = rng.exponential(size=middle.shape) * width * rng.choice([0, 0.1, 1], size=middle.shape)
    least = LEAST + rng.exponential(size=middle.shape) * rest
    most = least + rng.exponential(size=middle.shape) * rest * rng.choice([0, 0.1, 1], size=middle.shape)
    return [
        tuple(tf.constant(end.astype(dtype)) for end in pair)
        for pair in ((middle - radius, middle + radius), (least, most))
    ]


def grid(bounds, count=21):
    """Points of both, ends included: ``[count, count, 100]``."""
    shares = np.linspace(0, 1, count)[:, None]
    c, q = ((low + shares * (high - low)).astype(np.float64) for low, high in (map(np.asarray, b) for b in bounds))
    return np.broadcast_arrays(c[:, None], q[None])


def value(c, q, share, floor=0.0):
    return c / np.sqrt(np.maximum(share * c * c + q, floor))


def at(slopes, intercept, c, q):
    return (slopes[0].numpy() * c + slopes[1].numpy() * q + intercept.numpy()).astype(np.float64)


@pytest.mark.parametrize("share", [0.0, 0.5, 1 / 64])
@pytest.mark.parametrize(("scale", "width", "rest"), [(1, 0.1, 1), (1, 3, 1), (30, 30, 1e-4), (1e-3, 1e-5, 10)])
def test_the_range_is_exact_and_planes_enclose_the_function_and_touch_it(share, scale, width, rest):
    bounds = boxes(scale=scale, width=width, rest=rest)
    c, q = grid(bounds)
    wanted = value(c, q, share)
    size = np.abs(wanted).max(axis=(0, 1))
    low, high = (end.numpy()[0] for end in NORMALIZED.interval(node(share), bounds))
    np.testing.assert_allclose(low, wanted.min(axis=(0, 1)), atol=1e-12 * size.max())
    np.testing.assert_allclose(high, wanted.max(axis=(0, 1)), atol=1e-12 * size.max())
    planes = NORMALIZED.relax(node(share), bounds, None)
    gaps = wanted - at(planes.lower, planes.below, c, q), at(planes.upper, planes.above, c, q) - wanted
    for gap in gaps:
        assert (gap >= -1e-12 * size).all()
        assert (gap.min(axis=(0, 1)) <= 0.02 * (high - low) + 1e-9 * size).all()  # the grid is coarse


def test_a_group_of_squares_never_leaves_the_root_of_its_size():
    for bounds in (boxes(width=100, scale=100), boxes(width=1e6)):
        low, high = NORMALIZED.interval(node(1 / 9), bounds)
        assert (low.numpy() >= -3).all() and (high.numpy() <= 3).all()


@pytest.mark.parametrize(("entries", "width"), [(2, 0.1), (4, 0.6), (16, 0.2)])
def test_planes_are_tighter_than_those_of_the_product_with_the_root(entries, width):
    """Layer normalisation of a box: in the middle, which mean distances grow with, and relative to the range."""
    rng = np.random.default_rng(0)
    center = rng.normal(size=(200, entries))
    radius = rng.uniform(0.3, 1, size=center.shape) * width
    low, high = center - radius, center + radius
    crosses = (low < 0) & (high > 0)
    squares = np.where(crosses, 0, np.minimum(low**2, high**2)), np.maximum(low**2, high**2)
    first = (tf.constant(low[None, :, 0]), tf.constant(high[None, :, 0]))
    rest = tuple(tf.constant(s[None, :, 1:].sum(axis=-1) / entries + LEAST) for s in squares)
    whole = tuple(s[None].sum(axis=-1) / entries + LEAST for s in squares)
    mine = NORMALIZED.relax(node(1 / entries), (first, rest), None)
    root = tuple(tf.constant(1 / np.sqrt(end)) for end in whole[::-1])
    chain = PRODUCT.relax(Product(name="p", inputs=(1, 2), shape=low.shape[:1]), (first, root), None)
    # Between its least and greatest value a mean of squares lies within these planes in the middle.
    means = [(center[:, start:] ** 2).sum(axis=1) / entries + LEAST for start in (1, 0)]
    spread = [(radius[:, start:] ** 2).sum(axis=1) / entries for start in (1, 0)]

    def beyond(slopes, intercept, below, above, sign):
        by_c, by_other = (slope.numpy()[0] for slope in slopes)
        other = np.where(sign * by_other > 0, above, below)
        return by_c * center[:, 0] + by_other * other + intercept.numpy()[0]

    tangent_at = (whole[0][0] + whole[1][0]) / 2
    chord = (root[0].numpy()[0] - root[1].numpy()[0]) / (whole[1][0] - whole[0][0])
    roots = (
        tangent_at**-0.5 - 0.5 * tangent_at**-1.5 * (means[1] + spread[1] - tangent_at),
        root[1].numpy()[0] + chord * (means[1] - whole[0][0]),
    )
    gaps = []
    for planes, below, above in ((mine, means[0], means[0] + spread[0]), (chain, *roots)):
        most = beyond(planes.upper, planes.above, below, above, 1)
        least = beyond(planes.lower, planes.below, below, above, -1)
        gaps.append(np.mean(most - least))
    assert gaps[0] < (0.5 if entries == 2 else 0.85) * gaps[1]


@pytest.mark.parametrize("share", [0.0, 1.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_floor_under_the_squares_is_kept_to(share, dtype):
    """What is divided by its norm, or by a small number where that is less (UnitNormalization)."""
    floor = 1e-2
    small = node(share, floor, floor * float(np.finfo(dtype).eps))
    rng = np.random.default_rng(0)
    lower = rng.normal(size=(1, 100)) * 0.2
    least = np.where(rng.uniform(size=(1, 100)) < 0.5, 0, 0.02 * rng.uniform(size=(1, 100)))
    pairs = (lower, lower + 0.3 * rng.uniform(size=(1, 100))), (least, least + 0.05 * rng.uniform(size=(1, 100)))
    bounds = [tuple(tf.constant(end.astype(dtype)) for end in pair) for pair in pairs]
    c, q = grid(bounds)
    if not share:
        q = np.maximum(q, floor)
        bounds[1] = tuple(tf.maximum(end, floor) for end in bounds[1])
    wanted = value(c, q, share, floor)
    np.testing.assert_allclose(small.evaluate([tf.constant(c), tf.constant(q)]), wanted, atol=1e-12)
    slack = 1e-5 if dtype == np.float32 else 1e-12
    low, high = (end.numpy() for end in NORMALIZED.interval(small, bounds))
    assert (low - slack <= wanted).all() and (high + slack >= wanted).all()
    planes = NORMALIZED.relax(small, bounds, None)
    assert (at(planes.lower, planes.below, c, q) <= wanted + slack).all()
    assert (at(planes.upper, planes.above, c, q) >= wanted - slack).all()


def test_unknown_and_enormous_bounds_leave_nothing_or_what_holds():
    ends = np.array([-np.inf, -1e30, 0.0, -1.0, -1.0]), np.array([1.0, 1e30, np.inf, 1.0, np.inf])
    rest = np.array([1.0, 0.0, 1.0, -5.0, -np.inf]), np.array([2.0, np.inf, np.inf, 3.0, 1.0])
    bounds = [tuple(tf.constant(end[None].astype(np.float32)) for end in pair) for pair in (ends, rest)]
    low, high = (end.numpy()[0] for end in NORMALIZED.interval(node(0.25), bounds))
    assert not np.isnan([low, high]).any()
    assert low[3] == pytest.approx(-1 / np.sqrt(0.25 + LEAST)) and high[3] == -low[3]  # the rest is at least that
    planes = NORMALIZED.relax(node(0.25), bounds, None)
    for part in (*planes.lower, *planes.upper):
        assert np.isfinite(part).all()
    assert (planes.below.numpy()[0, [0, 1, 2, 4]] == -np.inf).all() and np.isfinite(planes.below.numpy()[0, 3])


@pytest.mark.parametrize("width", [0.0, 0.5])
def test_gradients_are_finite_and_those_of_differences(width):
    (low, high), rest = boxes(width=width)
    start, radius = (low + high) / 2, (high - low) / 2
    rng = np.random.default_rng(0)
    weights = [tf.constant(rng.normal(size=(1, 100))) for _ in range(8)]

    def total(x):
        bounds = [(x - radius, x + radius), (rest[0] + 0.1 * tf.square(x), rest[1] + 0.2 * tf.square(x))]
        planes = NORMALIZED.relax(node(0.1), bounds, None)
        parts = [*planes.lower, *planes.upper, planes.below, planes.above, *NORMALIZED.interval(node(0.1), bounds)]
        return tf.add_n([tf.reduce_sum(part * weight) for part, weight in zip(parts, weights, strict=True)])

    with tf.GradientTape() as tape:
        tape.watch(start)
        found = total(start)
    slope = tape.gradient(found, start).numpy()
    assert np.isfinite(slope).all()
    differences = []
    for index in range(0, 100, 9):
        move = np.zeros((1, 100))
        move[0, index] = 1e-6
        differences.append((float(total(start + move)) - float(total(start - move))) / 2e-6)
    np.testing.assert_allclose(slope[0, ::9], differences, rtol=1e-3, atol=1e-3)


def test_facets_are_its_planes():
    bounds = boxes()
    facets = NORMALIZED.facets(node(0.1), [tuple(end.numpy()[0] for end in pair) for pair in bounds])
    c, q = grid(bounds, 5)
    for facet in facets:
        for i, j in np.ndindex(5, 5):
            inputs = c[i, j], q[i, j]
            rest = facet.slopes.apply(np.concatenate(inputs), 100) + facet.intercept
            assert (facet.sign * (value(*inputs, 0.1) - rest) >= -1e-10).all()
