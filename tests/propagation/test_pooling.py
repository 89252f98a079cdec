"""The lines of max pooling: sound whatever the bounds, exact under dominance, and where each relaxation puts them."""

from fractions import Fraction

import numpy as np
import pytest
import tensorflow as tf
from soundness import networks

from tfcert.network.graph import MaxPool
from tfcert.propagation.pooling import PoolLines, default_height, pool_lines
from tfcert.propagation.preactivation import _may_win
from tfcert.roundoff import rounding_of

INF = np.inf


def planes_of(low, high, relaxation=None, height=None) -> tuple[np.ndarray, float, np.ndarray, float]:
    """Lower weights and intercept, and upper ones, of a single window with the given bounds of its entries."""
    node = MaxPool(name="pool", inputs=(0,), shape=(1, 1, 1), window=(1, len(low)), strides=(1, 1))
    ends = (tf.constant(np.reshape(end, (1, 1, -1, 1)), tf.float64) for end in (low, high))
    if height is not None:
        height = tf.fill([1, 1, 1, 1], tf.constant(height, tf.float64))
    found = pool_lines(node, *ends, relaxation, height)
    return (
        found.lower_weights.numpy().ravel(),
        found.lower_intercept.numpy().item(),
        found.upper_weights.numpy().ravel(),
        found.upper_intercept.numpy().item(),
    )


def one_window(low, high, relaxation=None, height=None) -> tuple[np.ndarray, np.ndarray, float]:
    """Lower weights, upper weights and upper intercept of a single window with the given bounds of its entries."""
    lower_weights, _, upper_weights, upper_intercept = planes_of(low, high, relaxation, height)
    return lower_weights, upper_weights, upper_intercept


def corners_of(low, high) -> np.ndarray:
    """Every corner of a box."""
    return np.array(np.meshgrid(*zip(low, high, strict=True))).reshape(len(low), -1).T


def random_boxes(count: int, entries: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of windows, among them ties, degenerate entries and the zeros that ReLU leaves."""
    rng = np.random.default_rng(5)
    low = rng.normal(size=(count, entries))
    high = low + rng.exponential(size=low.shape) * rng.choice([0, 1, 1, 3], low.shape)
    kind = np.arange(count)[:, None] % 3
    low, high = np.where(kind == 1, np.maximum(low, 0), low), np.where(kind == 1, np.maximum(high, 0), high)
    return np.where(kind == 2, np.round(low), low), np.where(kind == 2, np.round(high), high)


def random_block(seed: int) -> tuple[networks.Sketch, MaxPool, np.random.Generator]:
    pick, rng = networks.seeded(seed)
    s = networks.Sketch(rng)
    s.input((5, 6, 2))
    networks.max_pool_block(s, 0, pick)
    return s, s.network().nodes[1], rng


def window_values(node: MaxPool, x: np.ndarray) -> np.ndarray:
    """``[batch, h, w, entries, channels]`` read by plain loops; NaN outside the image."""
    (height, width, channels), (top, left) = node.shape, (node.padding[0][0], node.padding[1][0])
    out = np.full((len(x), height, width, node.window[0] * node.window[1], channels), np.nan)
    for i, j, a, b in np.ndindex(height, width, *node.window):
        row, column = i * node.strides[0] - top + a, j * node.strides[1] - left + b
        if 0 <= row < x.shape[1] and 0 <= column < x.shape[2]:
            out[:, i, j, a * node.window[1] + b] = x[:, row, column]
    return out


def assert_between(node: MaxPool, found: PoolLines, points: list[np.ndarray], tolerance: float) -> None:
    for x in points:
        entries = window_values(node, x)
        largest, known = np.nanmax(entries, axis=3), np.nan_to_num(entries)
        below = np.sum(found.lower_weights.numpy() * known, axis=3) + found.lower_intercept.numpy()
        above = np.sum(found.upper_weights.numpy() * known, axis=3) + found.upper_intercept.numpy()
        assert np.all(below <= largest + tolerance)
        assert np.all(above >= largest - tolerance)


@pytest.mark.parametrize("relaxation", [None, "adaptive", "cnncert", "heights"])
@pytest.mark.parametrize("seed", range(8))
def test_sampled_points_never_leave_the_lines(seed, relaxation):
    _, node, rng = random_block(seed)
    low = rng.normal(size=(4, 5, 6, 2)).round(rng.integers(0, 3))  # few digits: ties
    width = rng.exponential(size=low.shape) * rng.choice([0, 1e-12, 1, 5], size=low.shape)
    low[0], width[0] = np.maximum(low[0], 0), width[0] * (low[0] > 0.3)
    ends = (tf.constant(low), tf.constant(low + width))
    height = tf.constant(rng.random((4, *node.shape))) if relaxation == "heights" else None
    found = pool_lines(node, *ends, None if relaxation == "heights" else relaxation, height)
    corners = [low + width * rng.choice([0, 1], low.shape, p=[p, 1 - p]) for p in rng.random(100)]
    inside = [low + width * rng.random(low.shape) for _ in range(30)]
    assert_between(node, found, [*corners, *inside, low, low + width], 1e-12)
    assert np.all(found.upper_weights >= 0)
    assert np.all(found.upper_weights <= 1)


def rational(array) -> list[Fraction]:
    return [Fraction(float(number)) for number in np.ravel(array)]


@pytest.mark.parametrize(("relaxation", "height"), [(None, None), (None, 0.3), ("cnncert", None), ("deepcert", None)])
def test_lines_of_a_rounded_maximum_hold_in_rational_arithmetic(relaxation, height):
    """Of float32 entries, whose maximum is exact; catches weights, levels and sums that are computed with rounding."""
    rng, rounding = np.random.default_rng(1), rounding_of("deployed", np.float32, np.float32)
    node = MaxPool(name="pool", inputs=(0,), shape=(1, 1, 1), window=(1, 4), strides=(1, 1), rounding=rounding)
    low, high = (end.astype(np.float32) for end in random_boxes(60))
    scale = np.float32(10.0) ** rng.integers(-6, 7, (60, 1)).astype(np.float32)
    low, high = low * scale + scale, high * scale + scale  # rounded: sums of such ends are, too
    for below, above in zip(low, high, strict=True):
        ends = (tf.constant(end.reshape(1, 1, -1, 1)) for end in (below, above))
        at = None if height is None else tf.fill([1, 1, 1, 1], tf.constant(height, tf.float32))
        lower, least, upper, most = map(rational, pool_lines(node, *ends, relaxation, at))
        for x in np.unique(np.concatenate([corners_of(below, above), [0.5 * below + 0.5 * above]]), axis=0):
            entries = rational(np.clip(x.astype(np.float32), below, above))
            value = max(entries)
            assert sum(w * v for w, v in zip(lower, entries, strict=True)) + least[0] <= value
            assert sum(w * v for w, v in zip(upper, entries, strict=True)) + most[0] >= value


@pytest.mark.parametrize("height", [None, 0.0, 0.4, 1.0])
@pytest.mark.parametrize("relaxation", [None, "cnncert"])
@pytest.mark.parametrize(
    ("low", "high", "winner"),
    [
        ([0, 1, 5, 0.5], [2, 3, 7, 2.5], 2),
        ([0, 3, 1, 0], [3, 9, 3, 3], 1),  # the others reach its lower bound and no further
        ([-2.0], [1.0], 0),
        ([-INF, 1, -INF, -INF], [0, 2, 1, -1], 1),
    ],
)
def test_an_entry_that_dominates_is_the_maximum(low, high, winner, relaxation, height):
    lower_weights, upper_weights, intercept = one_window(low, high, relaxation, height)
    expected = np.eye(len(low))[winner]
    np.testing.assert_array_equal(lower_weights, expected)
    np.testing.assert_array_equal(upper_weights, expected)
    assert intercept == planes_of(low, high, relaxation, height)[1] == 0


def test_one_entry_above_constants_gets_the_chord_of_relu():
    # max(0, x) on [-1, 3]: the chord from (-1, 0) to (3, 3), whatever the height.
    for height in (None, 0.3, 1.0):
        _, weights, intercept = one_window([0, -1], [0, 3], height=height)
        np.testing.assert_allclose([*weights, intercept], [0, 0.75, 0.75])


def test_the_lower_line_is_the_entry_with_the_largest_sum_of_bounds():
    weights, _, _ = one_window([0, -1, 0.5], [1, 3, 0.6])
    np.testing.assert_array_equal(weights, [0, 1, 0])


def level_of(low: np.ndarray, high: np.ndarray, upper_weights: np.ndarray, intercept: float) -> float:
    """The level of an upper line: its value where every x_i = l_i."""
    return float(intercept + upper_weights @ low)


def test_the_default_level_is_the_second_largest_upper_bound():
    for low, high in zip(*random_boxes(200), strict=True):
        _, weights, intercept = one_window(low, high)
        expected = max(low.max(), np.sort(high)[-2])
        assert level_of(low, high, weights, intercept) == pytest.approx(expected, abs=1e-12)
        np.testing.assert_allclose(one_window(low, high, height=1.0)[1], weights, atol=1e-12)


def test_no_level_gives_a_smaller_area_than_the_default():
    for low, high in zip(*random_boxes(200), strict=True):
        levels = np.linspace(low.max(), max(low.max(), high.max()), 2001)[:, None]
        # The mean over the box of each line, which is its value at the centre.
        slopes = np.divide(np.maximum(0, high - levels), high - low, out=np.zeros((2001, 4)), where=high > low)
        centres = levels[:, 0] + slopes @ ((high - low) / 2)
        _, weights, intercept = one_window(low, high)
        assert weights @ (low + high) / 2 + intercept <= centres.min() + 1e-12


def test_the_default_is_nowhere_above_the_constant_of_auto_lirpa():
    for low, high in zip(*random_boxes(300), strict=True):
        _, weights, intercept = one_window(low, high)
        assert weights @ high + intercept <= high.max() + 1e-12  # weights >= 0: its largest value


def cnncert_by_loops(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Weights, lower and upper intercept of CNN-Cert's planes, entry by entry as its program computes them."""
    kept = np.flatnonzero(high >= low.max())
    l, u = low[kept], high[kept]  # noqa: E741
    constant = l == u
    level = l.max()
    if not constant.any():
        level = min(max((np.sum(u / (u - l)) - 1) / np.sum(1 / (u - l)), level), u.min())
    found = np.array([0.0 if c else (b - level) / (b - a) for a, b, c in zip(l, u, constant, strict=True)])
    if constant.any():
        found[constant] = np.clip((1 - found.sum()) / constant.sum(), 0, 1)
    total = found.sum()
    weights = np.zeros(len(low))
    weights[kept] = found
    return weights, (1 - total) * (l.min() if total <= 1 else u.max()), level - found @ l


def test_the_planes_of_cnncert_are_those_of_its_program():
    sums = []
    for low, high in zip(*random_boxes(600), strict=True):
        weights, below, above = cnncert_by_loops(low, high)
        lower_weights, lower_intercept, upper_weights, upper_intercept = planes_of(low, high, "cnncert")
        np.testing.assert_allclose(lower_weights, weights, atol=1e-12)
        np.testing.assert_allclose(upper_weights, weights, atol=1e-12)
        assert (lower_intercept, upper_intercept) == pytest.approx((below, above), abs=1e-12)
        sums.append(weights.sum())
    assert min(sums) >= 1 - 1e-12
    assert min(np.sum(np.isclose(sums, 1)), np.sum(np.array(sums) > 1.01)) > 100  # as printed, and held at the least u


def test_the_planes_of_cnncert_hold_at_every_corner_and_where_all_entries_are_equal():
    for low, high in zip(*random_boxes(300), strict=True):
        lower_weights, lower_intercept, upper_weights, upper_intercept = planes_of(low, high, "cnncert")
        # The lower plane is closest where entries are equal, as far as their intervals let them be.
        equal = [np.clip(level, low, high) for level in np.linspace(low.max(), high.max(), 9)]
        for x in [*corners_of(low, high), *equal]:
            assert lower_weights @ x + lower_intercept <= x.max() + 1e-12
            assert upper_weights @ x + upper_intercept >= x.max() - 1e-12


def test_a_window_of_cnncert_with_a_constant_entry():
    # Beside a neuron that is always 0 the level is 0, as in its program, and the weights of both others are 1.
    weights, below, _, above = planes_of([0, 0, 0], [0, 3, 5], "cnncert")
    np.testing.assert_array_equal(weights, [0, 1, 1])
    assert (below, above) == (-5, 0)  # x + y - 5 <= max(0, x, y) <= x + y
    # Constants that cannot be told apart share what lacks to 1.
    weights, below, _, above = planes_of([1, 1, 0], [1, 1, 4], "cnncert")
    np.testing.assert_allclose([*weights, below, above], [0.125, 0.125, 0.75, 0, 0.75])


def test_the_plane_of_cnncert_as_printed_fails_where_an_entry_cannot_win():
    low, high = np.array([0.0, 2.0, 1.0]), np.array([1.0, 4.0, 5.0])  # min u < max l
    widths = high - low
    middle = ((high / widths).sum() - 1) / (1 / widths).sum()
    level = min(max(middle, low.max()), high.min())
    printed_weights = (high - level) / widths
    printed_intercept = level - printed_weights @ low
    x = np.array([0.0, 2.0, 1.0])
    assert printed_weights @ x + printed_intercept < x.max() - 0.5
    _, weights, intercept = one_window(low, high, "cnncert")
    corners = corners_of(low, high)
    assert np.all(corners @ weights + intercept >= corners.max(axis=1) - 1e-12)


@pytest.mark.parametrize("relaxation", [None, "cnncert"])
@pytest.mark.parametrize("height", [None, 0.0, 0.5])
@pytest.mark.parametrize(
    ("low", "high", "finite"),
    [
        ([-INF, 0, 1], [2, 3, 4], True),
        ([-INF, -INF, -INF], [2, 3, 4], True),
        ([-INF, 0, -INF], [INF, 3, 4], False),
        ([0, 0, 1], [INF, INF, 4], False),
        ([-INF, -INF, -INF], [INF, INF, INF], False),
        ([-1.7e308, 0, 1], [1.7e308, 3, 4], True),  # the width overflows
    ],
)
def test_infinite_widths_give_finite_weights_and_a_sound_constant(low, high, finite, relaxation, height):
    lower_weights, below, upper_weights, intercept = planes_of(low, high, relaxation, height)
    assert sorted(lower_weights) == [0, 0, 1]
    assert below == 0
    assert np.all((upper_weights >= 0) & (upper_weights <= 1))
    assert np.isfinite(intercept) if finite else intercept == INF
    for x in corners_of(np.maximum(low, -1e9), np.minimum(high, 1e9)):
        assert upper_weights @ x + intercept >= x.max() - 1e-9


def test_unknown_entries_never_give_way_to_padding():
    node = MaxPool(name="pool", inputs=(0,), shape=(2, 2, 1), window=(2, 2), strides=(1, 1), padding=((1, 0), (1, 0)))
    found = pool_lines(node, tf.fill([1, 2, 2, 1], -INF), tf.fill([1, 2, 2, 1], 1.0))
    padding = np.isnan(window_values(node, np.zeros((1, 2, 2, 1))))
    assert padding.any()
    assert not np.any(found.lower_weights.numpy()[padding])
    assert not np.any(found.upper_weights.numpy()[padding])


@pytest.mark.parametrize("scale", [1e-44, 1e-38, 1.0, 1e30])
def test_lines_in_float32_are_finite_at_tiny_and_huge_widths(scale):
    low, high = (np.float32(scale) * end.astype(np.float32) for end in random_boxes(300))
    node = MaxPool(name="pool", inputs=(0,), shape=(300, 1, 1), window=(1, 4), strides=(1, 1))
    for relaxation in (None, "cnncert"):
        found = pool_lines(node, *(tf.constant(end[None, :, :, None]) for end in (low, high)), relaxation)
        assert all(np.isfinite(part).all() for part in found)
        assert np.max(found.upper_weights) <= 1


def value_at(node: MaxPool, low: tf.Tensor, high: tf.Tensor, height: tf.Tensor | None, relaxation=None) -> tf.Tensor:
    """A number that depends on every part of the lines."""
    found = pool_lines(node, low, high, relaxation, height)
    below = tf.reduce_sum(found.lower_weights * 0.3) + tf.reduce_sum(found.lower_intercept)
    return below + tf.reduce_sum(found.upper_weights * 0.7) + tf.reduce_sum(found.upper_intercept)


@pytest.mark.parametrize("height", [0.0, 0.5, 1.0, None])
@pytest.mark.parametrize("relaxation", [None, "cnncert"])
@pytest.mark.parametrize("infinite", [False, True])
def test_gradients_are_finite(height, relaxation, infinite):
    _, node, _ = random_block(3)
    low, high = (tf.Variable(end.reshape(5, 5, 6, 2)) for end in random_boxes(75))
    if infinite:
        low[:, 0].assign(tf.fill([5, 6, 2], tf.constant(-INF, tf.float64)))
    heights = tf.Variable(tf.fill([5, *node.shape], tf.constant(height or 0.0, tf.float64)))
    with tf.GradientTape() as tape:
        total = value_at(node, low, high, None if height is None else heights, relaxation)
    gradients = tape.gradient(total, [low, high, heights], unconnected_gradients="zero")
    assert all(np.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("height", [0.3, 1.0])
def test_the_gradient_in_the_height_is_that_of_the_levels_below(height):
    _, node, rng = random_block(1)
    low = rng.normal(size=(2, 5, 6, 2))
    high = tf.constant(low + rng.random(low.shape) * 2)
    step, start = 1e-7, tf.fill([2, *node.shape], tf.constant(height, tf.float64))
    with tf.GradientTape() as tape:
        tape.watch(start)
        total = value_at(node, tf.constant(low), high, start)
    slope = tape.gradient(total, start)
    before = value_at(node, tf.constant(low), high, start - step * tf.ones_like(start))
    assert float(tf.reduce_sum(slope)) == pytest.approx(float(total - before) / step, rel=1e-5)
    assert np.count_nonzero(slope) > 10


def test_the_default_height_gives_the_default_line():
    _, node, rng = random_block(2)
    low = rng.normal(size=(3, 5, 6, 2))
    ends = tf.constant(low), tf.constant(low + rng.exponential(size=low.shape))
    height = default_height(node, *ends)
    assert height.shape == (3, *node.shape)
    for ours, theirs in zip(pool_lines(node, *ends), pool_lines(node, *ends, None, height), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)


@pytest.mark.parametrize("padding", [((0, 0), (0, 0)), ((1, 1), (0, 1))])
def test_lines_of_a_maximum_do_not_depend_on_bounds_of_what_cannot_win(padding):
    node = MaxPool(
        name="pool",
        inputs=(0,),
        shape=((7 + sum(padding[0])) // 2, (5 + sum(padding[1])) // 2, 2),
        window=(2, 2),
        strides=(2, 2),
        padding=padding,
    )
    low, high = (tf.constant(end.reshape(10, 7, 5, 2)) for end in random_boxes(700, 1))
    wins = _may_win(node, low, high)
    assert 0 < np.mean(wins) < 1
    looser = tf.where(wins | (low == high), low, low - 1)
    for relaxation in (None, "cnncert"):
        expected, found = (pool_lines(node, end, high, relaxation) for end in (low, looser))
        for part, other in zip(expected, found, strict=True):
            np.testing.assert_allclose(part, other, rtol=0, atol=1e-12)
