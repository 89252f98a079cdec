"""Powers, roots and quotients against exact arithmetic, and every function of a domain at its ends."""

import math
from fractions import Fraction

import numpy as np
import pytest
import tensorflow as tf

from tfcert.activations import activation, image, lines

RATIONAL = {
    "square": (lambda x: x * x, {}),
    "reciprocal": (lambda x: 1 / x, {}),
    "cube": (lambda x: x**3, {"exponent": 3}),
    "fourth power": (lambda x: x**4, {"exponent": 4}),
    "inverse square": (lambda x: 1 / (x * x), {"exponent": -2}),
    "inverse cube": (lambda x: 1 / x**3, {"exponent": -3}),
}


def build(name):
    function, parameters = RATIONAL[name]
    return activation(name if not parameters else "power", **parameters), function


def drawn(act, count=60):
    """Intervals of all widths, of the right-hand branch and the left one where there is a pole between them."""
    rng = np.random.default_rng(3)
    middle = rng.normal(size=count) * 3
    radius = rng.exponential(size=count) * rng.choice([0, 1e-9, 1e-3, 0.3, 3], count)
    low, high = middle - radius, middle + radius
    if act.poles:
        low, high = np.abs(middle) + 1e-3, np.abs(middle) + 1e-3 + radius
        low[::2], high[::2] = -high[::2], -low[::2]
    return low, high


@pytest.mark.parametrize("name", RATIONAL)
def test_lines_hold_in_exact_arithmetic_and_are_the_tangent_and_the_chord(name):
    """Every line is on its side of the function at rational points, by no more than rounding; and no looser."""
    act, function = build(name)
    low, high = drawn(act)
    slopes = act.slopes("adaptive", tf.constant(low), tf.constant(high))
    found = np.stack(lines(act, slopes, tf.constant(low), tf.constant(high)))
    for least, most, line in zip(low, high, found.T, strict=True):
        a, b = Fraction(least), Fraction(most)
        points = [a + (b - a) * k / 40 for k in range(41)]
        for slope, intercept, sign in ((line[0], line[1], 1), (line[2], line[3], -1)):
            gaps = [sign * (function(x) - Fraction(slope) * x - Fraction(intercept)) for x in points]
            size = max(abs(function(x)) + abs(Fraction(slope) * x) for x in points)
            assert min(gaps) >= -Fraction(1, 2**49) * size
            # A line that bends away touches between the points: a fortieth of the interval misses little of it.
            assert min(gaps) <= Fraction(1, 2**49) * size + (max(gaps) - min(gaps)) / 4


@pytest.mark.parametrize("name", RATIONAL)
def test_the_range_of_values_is_exact(name):
    act, function = build(name)
    low, high = drawn(act)
    least, most = image(act, tf.constant(low), tf.constant(high))
    for a, b, lower, upper in zip(low, high, least.numpy(), most.numpy(), strict=True):
        values = [function(Fraction(x)) for x in (a, b)] + ([Fraction(0)] if a < 0 < b else [])
        assert lower == pytest.approx(float(min(values)), rel=1e-14, abs=1e-300)
        assert upper == pytest.approx(float(max(values)), rel=1e-14, abs=1e-300)


POLES = [("reciprocal", {}), ("power", {"exponent": -2}), ("power", {"exponent": -3})]


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize(("name", "parameters"), POLES)
def test_nothing_is_known_of_an_interval_that_holds_a_pole(name, parameters, kind):
    act = activation(name, **parameters)
    low, high = np.array([-1, -1, 0, 0, -2, 1], kind), np.array([1, 0, 0, 1, -1, 2], kind)
    with tf.GradientTape() as tape:
        ends = tf.constant(low), tf.constant(high)
        tape.watch(ends)
        found = [*lines(act, act.slopes(None, *ends), *ends), *image(act, *ends)]
        total = tf.reduce_sum([tf.reduce_sum(part[4:]) for part in found])
    np.testing.assert_array_equal(found[4], [-np.inf] * 4 + list(found[4][4:].numpy()))
    np.testing.assert_array_equal(found[5], [np.inf] * 4 + list(found[5][4:].numpy()))
    assert all(np.isinf(part[:4]).all() for part in (found[1], found[3]))
    assert all(np.isfinite(part[4:]).all() for part in found)
    gradients = tape.gradient(total, ends)
    assert np.isfinite(gradients).all() and np.abs(gradients).max() > 0


UNBOUNDED = {"log": (0.0, "below"), "log1p": (-1.0, "below"), "rsqrt": (0.0, "above")}


@pytest.mark.parametrize("name", UNBOUNDED)
def test_at_the_end_of_its_domain_a_function_is_bounded_on_one_side_and_beyond_it_on_none(name):
    end, side = UNBOUNDED[name]
    act = activation(name)
    low, high = np.array([end, end, end - 0.5]), np.array([end + 2.0, end, end + 1.0])
    least, most = image(act, tf.constant(low), tf.constant(high))
    known, open_ = (most, least) if side == "below" else (least, most)
    np.testing.assert_array_equal(np.isfinite(known), [True, False, False])
    assert np.isinf(open_).all()
    assert float(known[0]) == pytest.approx(float(act.function(tf.constant([end + 2.0], tf.float64))[0]))
    found = lines(act, act.slopes(None, *map(tf.constant, (low, high))), *map(tf.constant, (low, high)))
    assert not np.isnan(np.stack(found)).any()
    finite = found.upper_intercept if side == "below" else found.lower_intercept
    assert np.isfinite(finite[0])


@pytest.mark.parametrize("exponent", [0.5, 0.3, 1.5])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_roots_begin_at_zero_with_a_slope_that_is_a_number(exponent, kind):
    act = activation("power", exponent=exponent)
    ends = tf.constant([0.0, 0.0], kind), tf.constant([0.0, 4.0], kind)
    with tf.GradientTape() as tape:
        tape.watch(ends)
        found = lines(act, act.slopes(None, *ends), *ends)
        total = tf.reduce_sum(found)
    assert np.isfinite(found).all() and np.isfinite(tape.gradient(total, ends)).all()
    x = np.linspace(0, 4, 1001)
    chord = float(found.lower_slope[1]) * x + float(found.lower_intercept[1])
    above = float(found.upper_slope[1]) * x + float(found.upper_intercept[1])
    chord, above = (chord, above) if exponent < 1 else (above, chord)
    if exponent < 1:
        np.testing.assert_allclose(chord, x * 4**exponent / 4, atol=1e-5)
        assert (above >= x**exponent - 1e-5).all() and np.abs(above - x**exponent).min() < 1e-5
    else:
        np.testing.assert_allclose(chord, x * 4**exponent / 4, atol=1e-5)
        assert (above <= x**exponent + 1e-5).all() and np.abs(above - x**exponent).min() < 1e-5


def test_exponents_that_bend_nothing_are_refused_and_those_with_a_name_of_their_own_are_that():
    for exponent in (0, 1, math.inf, math.nan):
        with pytest.raises(ValueError, match="other than 0 and 1"):
            activation("power", exponent=exponent)
    named = {2: "square", -1: "reciprocal", 0.5: "sqrt", -0.5: "rsqrt"}
    assert {p: activation("power", exponent=p).name for p in named} == named


OVERFLOWS = [("exp", {}), ("expm1", {}), ("sinh", {}), ("cosh", {}), ("square", {}), ("power", {"exponent": 7})]


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize(("name", "parameters"), OVERFLOWS)
def test_what_overflows_stays_infinite_and_is_no_nan_nor_is_its_gradient(name, parameters, kind):
    act, most = activation(name, **parameters), 800.0 if name.endswith(("p", "m1", "h")) else np.finfo(kind).max / 4
    low, high = np.array([0.0, -1.0, 1.0], kind), np.array([most, most, np.inf], kind)
    with tf.GradientTape() as tape:
        ends = tf.constant(low), tf.constant(high)
        tape.watch(ends)
        found = [*lines(act, act.slopes(None, *ends), *ends), *image(act, *ends)]
        total = tf.reduce_sum([tf.reduce_sum(tf.where(tf.math.is_finite(p), p, 0.0)) for p in found])
    assert not np.isnan(np.stack(found)).any()
    assert np.isinf(found[5]).all() and np.isfinite(found[4][:2]).all()
    assert np.isfinite(tape.gradient(total, ends)).all()


@pytest.mark.parametrize("name", ["sin", "cos"])
def test_waves_stay_in_their_range_on_any_interval_and_follow_the_wave_on_short_ones(name):
    act = activation(name)
    wide = tf.constant([-np.inf, -9e3, 0.0, -1e6]), tf.constant([np.inf, -8.9e3, 100.0, 1e6])
    np.testing.assert_array_equal(image(act, *wide)[0], [-1, -1, pytest.approx(-1), -1])
    np.testing.assert_array_equal(image(act, *wide)[1], [1, 1, pytest.approx(1), 1])
    found = lines(act, act.slopes(None, *wide), *wide)
    np.testing.assert_allclose(np.stack(found), [[0] * 4, [-1] * 4, [0] * 4, [1] * 4], atol=1e-6)
    # The same wave a whole number of turns away has the same slopes.
    low = tf.constant(np.linspace(-4.0, 3.0, 50))
    near = act.slopes(None, low, low + 1.5)
    far = act.slopes(None, low + 200 * math.pi, low + 1.5 + 200 * math.pi)
    np.testing.assert_allclose(near, far, atol=1e-9)
    lines_ = lines(act, near, low, low + 1.5)
    apart = lines_.upper_intercept - lines_.lower_intercept + (lines_.upper_slope - lines_.lower_slope) * (low + 0.75)
    assert float(tf.reduce_max(apart)) < 0.3  # 1 - cos(0.75) = 0.27 at a crest


@pytest.mark.parametrize(("name", "parameters"), [("silu", {}), ("gelu", {}), ("sin", {}), ("power", {"exponent": 3})])
def test_slopes_that_are_searched_for_have_the_gradients_of_differences(name, parameters):
    """Where a line touches at an end of the interval, its slope turns with that end; a few lie at a jump."""
    act, rng = activation(name, **parameters), np.random.default_rng(0)
    low = rng.normal(size=200) * 2
    ends, step = (tf.constant(low), tf.constant(low + rng.exponential(size=200) + 0.05)), 1e-6
    for side in (0, 1):
        with tf.GradientTape() as tape:
            tape.watch(ends)
            total = tf.reduce_sum(act.slopes(None, *ends)[side])
        for number, gradient in enumerate(tape.gradient(total, ends)):
            moved = [[end + way * step * (n == number) for n, end in enumerate(ends)] for way in (1, -1)]
            above, below = (act.slopes(None, *pair)[side] for pair in moved)
            expected = (above - below).numpy() / (2 * step)
            assert (np.abs(expected - gradient) > 1e-3 * (1 + np.abs(expected))).mean() < 0.04
