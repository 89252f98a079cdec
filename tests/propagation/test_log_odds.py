"""Log odds of a softmax: ranges and planes against dense samples, the published bounds, and at the edges."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from tfcert.network.softmax import LogOdds, log_sum_of_others, weights_of_others
from tfcert.propagation.log_odds import LOG_ODDS, log_odds_range

K = (2, 3, 5)


def node(k):
    return LogOdds(name="odds", inputs=(0,), shape=(k,))


def boxes(k, seed=0, scale=2.0, width=2.0, count=60, dtype=np.float64):
    rng = np.random.default_rng(seed)
    middle = rng.normal(size=(count, k)) * scale
    radius = rng.exponential(size=middle.shape) * width * rng.choice([0, 0.1, 1], size=middle.shape)
    return (middle - radius).astype(dtype), (middle + radius).astype(dtype)


def points(lower, upper, seed=1, count=60):
    """Corners and points between, ``[count, boxes, k]``."""
    rng = np.random.default_rng(seed)
    corners = [np.where(c, lower, upper) for c in itertools.product([False, True], repeat=lower.shape[1])]
    inside = [np.clip(lower + (upper - lower) * rng.uniform(size=lower.shape), lower, upper) for _ in range(count)]
    return np.stack([*corners, *inside]).astype(np.float64)


def log_odds(x):
    others = [np.logaddexp.reduce(np.delete(x, j, -1), axis=-1) for j in range(x.shape[-1])]
    return x - np.stack(others, axis=-1)


def pair(lower, upper):
    return tf.constant(lower), tf.constant(upper)


def at(group, x):
    weights, intercept = group.weights.numpy().astype(np.float64), group.intercept.numpy().astype(np.float64)
    return x - np.einsum("bji,pbi->pbj", weights, x) + intercept


@pytest.mark.parametrize("k", K)
def test_the_range_is_exact_and_so_is_that_of_the_softmax(k):
    lower, upper = boxes(k)
    low, high = (end.numpy() for end in log_odds_range(*pair(lower, upper)))
    values = log_odds(points(lower, upper))
    np.testing.assert_allclose(low, values.min(axis=0), atol=1e-12)
    np.testing.assert_allclose(high, values.max(axis=0), atol=1e-12)
    x = points(lower, upper)
    shares = np.exp(x - np.logaddexp.reduce(x, axis=-1, keepdims=True))
    np.testing.assert_allclose(tf.sigmoid(low).numpy(), shares.min(axis=0), atol=1e-12)


@pytest.mark.parametrize("k", K)
@pytest.mark.parametrize("width", [1e-9, 0.3, 5.0, 60.0])
def test_planes_and_any_mixture_of_them_enclose_the_function(k, width):
    lower, upper = boxes(k, width=width)
    bounds, x = [pair(lower, upper)], points(lower, upper)
    values, slack = log_odds(x), 1e-12 * (1 + np.abs(x).max())
    rng = np.random.default_rng(3)
    free = [tf.constant(rng.uniform(size=lower.shape)) for _ in range(2)]
    ends = [[tf.fill(lower.shape, tf.constant(place, tf.float64))] * 2 for place in (0.0, 1.0)]
    for chosen in ((), free, *ends, LOG_ODDS.choices(node(k), bounds, None)):
        planes = LOG_ODDS.relax(node(k), bounds, None, chosen)
        assert (at(planes.lower, x) <= values + slack).all()
        assert (at(planes.upper, x) >= values - slack).all()


def test_the_choices_of_a_node_are_those_of_its_default_planes():
    bounds = [pair(*boxes(5))]
    default, chosen = (LOG_ODDS.relax(node(5), bounds, None, c) for c in ((), LOG_ODDS.choices(node(5), bounds, None)))
    for one, other in zip((*default.lower, *default.upper), (*chosen.lower, *chosen.upper), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)


def published(lower, upper):
    """U^LSE and the better of L^ER and L^LSE of Wei et al. 2023 in the middle of boxes, ``[boxes, k]`` each."""
    middle = (lower + upper) / 2

    def chord(low, high, x):
        width = np.where(high > low, high - low, 1.0)
        return np.exp(low) + np.where(high > low, (np.exp(high) - np.exp(low)) / width, 0) * (x - low)

    low, high = (1 / (1 + np.exp(-end.numpy())) for end in log_odds_range(*pair(lower, upper)))
    p = 1 / (1 + np.exp(-log_odds(middle)))
    apart = np.where(np.log(high) > np.log(low), np.log(high) - np.log(low), 1.0)
    above = low + np.where(high > low, (high - low) / apart, 0) * (np.log(p) - np.log(low))
    total = chord(lower, upper, middle).sum(axis=1, keepdims=True)
    by_logs = np.exp(middle) / total
    differences = [end[:, None, :] - other[:, :, None] for end, other in ((lower, upper), (upper, lower))]
    parts = chord(*differences, middle[:, None, :] - middle[:, :, None])
    own = np.eye(lower.shape[1], dtype=bool)
    by_quotient = 1 / np.where(own, 1.0, parts).sum(axis=2)
    return above, np.maximum(by_logs, by_quotient)


@pytest.mark.parametrize("k", [3, 8])
@pytest.mark.parametrize(("scale", "width"), [(0.5, 0.3), (0.5, 2.0), (3.0, 1.0)])
def test_the_softmax_is_enclosed_more_tightly_than_by_the_published_planes(k, scale, width):
    """In the middle, which mean distances grow with: above for every box, below in the mean, and for 85% of boxes."""
    from tfcert.activations import activation, lines

    lower, upper = boxes(k, scale=scale, width=width, count=200)
    ends, planes = log_odds_range(*pair(lower, upper)), LOG_ODDS.relax(node(k), [pair(lower, upper)], None)
    middle = (lower + upper)[None] / 2
    sigmoid = activation("sigmoid")
    below, above = (np.clip(at(group, middle)[0], *(e.numpy() for e in ends)) for group in (planes.lower, planes.upper))
    (low_slopes, high_slopes) = sigmoid.slope_ranges(*ends)
    slope_at = sigmoid.declaration.derivative
    falling = tf.clip_by_value(slope_at(tf.constant(np.minimum(below, 0))), *low_slopes)
    rising = tf.clip_by_value(slope_at(tf.constant(np.maximum(above, 0))), *high_slopes)
    found = lines(sigmoid, (falling, rising), *ends)
    low, high = (
        slope.numpy() * value + intercept.numpy()
        for slope, intercept, value in (
            (found.lower_slope, found.lower_intercept, below),
            (found.upper_slope, found.upper_intercept, above),
        )
    )
    wei_high, wei_low = published(lower, upper)
    assert (high <= wei_high + 1e-9).all()
    p = 1 / (1 + np.exp(-log_odds(middle)[0]))
    assert (low >= wei_low - 1e-9).mean() > 0.85
    assert (high - p).mean() < 0.9 * (wei_high - p).mean()
    assert (p - low).mean() < 0.92 * (p - wei_low).mean()


def test_values_of_large_numbers_do_not_cancel():
    x = np.array([[1e4, 1e4 - 30, 0.0, 1e4 + 1], [-1e9, 3.0, 2.0, -1e9]])
    for dtype, tolerance in ((tf.float64, 1e-12), (tf.float32, 1e-6)):
        found = node(4).evaluate([tf.constant(x, dtype)])
        np.testing.assert_allclose(found, log_odds(x), rtol=tolerance, atol=tolerance * 1e4)
        shares = weights_of_others(tf.constant(x, dtype)).numpy()
        np.testing.assert_allclose(shares.sum(axis=-1), 1, rtol=tolerance)
        assert (np.diagonal(shares, axis1=-2, axis2=-1) == 0).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_masked_entries_take_no_share_and_are_bounded(dtype):
    """Attention adds -1e9 to what it does not attend to."""
    lower, upper = boxes(4, dtype=dtype, width=1.0)
    masked = np.array([0, -1e9, 0, 0], dtype)
    bounds = [pair(lower + masked, upper + masked)]
    planes = LOG_ODDS.relax(node(4), bounds, None)
    kept = LOG_ODDS.relax(node(3), [pair(np.delete(lower, 1, 1), np.delete(upper, 1, 1))], None)
    rest = [0, 2, 3]
    for group, wanted in ((planes.lower, kept.lower), (planes.upper, kept.upper)):
        assert (group.weights.numpy()[:, rest, 1] == 0).all()
        np.testing.assert_allclose(group.weights.numpy()[:, rest][:, :, rest], wanted.weights, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(group.intercept.numpy()[:, rest], wanted.intercept, rtol=1e-5, atol=1e-5)
    low, high = LOG_ODDS.interval(node(4), bounds)
    assert (tf.sigmoid(high).numpy()[:, 1] == 0).all() and (low.numpy()[:, 1] < -1e8).all()


@pytest.mark.parametrize(
    ("lower", "upper"),
    [
        ([-np.inf, 0, 1], [0, 1, np.inf]), ([0, 0, -np.inf], [1, 1, 2]), ([-np.inf] * 3, [np.inf] * 3),
        ([0, 0, 0], [np.inf] * 3), ([-1e30, 0, 0], [1e30, 1e30, 0]),
    ],
)  # fmt: skip
def test_unknown_bounds_leave_planes_that_say_nothing_and_ranges_that_hold(lower, upper):
    bounds = pair(np.array([lower], np.float32), np.array([upper], np.float32))
    low, high = (end.numpy()[0] for end in log_odds_range(*bounds))
    x = points(*(np.clip(end.numpy(), -50, 50) for end in bounds))
    values = log_odds(x)[:, 0]
    assert (low <= values + 1e-5).all() and (high >= values - 1e-5).all()
    planes = LOG_ODDS.relax(node(3), [bounds], None)
    for group, nothing in ((planes.lower, -np.inf), (planes.upper, np.inf)):
        assert np.isfinite(group.weights).all()
        assert (group.intercept.numpy() == nothing).all()


def test_a_far_greater_entry_is_referred_to():
    """Between the largest entry and the others lies the whole softmax: it is then that of two, exact below."""
    lower, upper = np.array([[-1.0, 9.0, -30.0]]), np.array([[1.0, 11.0, -30.0]])
    planes = LOG_ODDS.relax(node(3), [pair(lower, upper)], None)
    x = points(lower, upper)
    np.testing.assert_allclose(at(planes.lower, x)[..., :2], log_odds(x)[..., :2], atol=1e-4)


@pytest.mark.parametrize("width", [0.0, 0.7])
def test_gradients_are_finite_and_those_of_differences(width):
    lower, upper = boxes(3, count=4)
    middle, radius = (lower + upper) / 2, np.full_like(lower, width)
    rng = np.random.default_rng(0)
    weights = [tf.constant(rng.normal(size=(4, 3, 3))), tf.constant(rng.normal(size=(4, 3)))]

    def total(middle):
        bounds = middle - radius, middle + radius
        planes = LOG_ODDS.relax(node(3), [bounds], None)
        parts = [
            tf.reduce_sum(g.weights * weights[0]) + tf.reduce_sum(g.intercept * weights[1]) for g in planes_of(planes)
        ]
        return tf.add_n([*parts, *(tf.reduce_sum(end * weights[1]) for end in log_odds_range(*bounds))])

    x = tf.constant(middle)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = total(x)
    slope = tape.gradient(value, x).numpy()
    direction = rng.normal(size=middle.shape)
    ends = [float(total(tf.constant(middle + sign * 1e-6 * direction))) for sign in (1, -1)]
    assert np.sum(slope * direction) == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-4, abs=1e-6)


def planes_of(planes):
    return planes.lower, planes.upper


def test_facets_are_sound_and_as_many_as_there_are_planes_to_choose_from():
    lower, upper = boxes(3, count=1)
    facets = LOG_ODDS.facets(node(3), [(lower[0], upper[0])])
    assert [facet.sign for facet in facets] == [1, 1, -1, -1, -1]
    for x in points(lower, upper)[:, 0]:
        value = log_odds(x)
        for facet in facets:
            rest = facet.slopes.apply(x, 3) + facet.intercept
            assert (facet.sign * (value - rest) >= -1e-12).all()


def test_the_sum_of_the_others_is_that_of_each():
    x = np.random.default_rng(0).normal(size=(5, 4)) * 10
    np.testing.assert_allclose(log_sum_of_others(tf.constant(x)), x - log_odds(x), atol=1e-12)
