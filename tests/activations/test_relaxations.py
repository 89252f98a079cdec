"""Every registered activation: lines on the right side of the function, touching it, sloped as their rule says."""

import math

import numpy as np
import pytest
import tensorflow as tf

from tfcert.activations import activation, image, lines, names

PARAMETERS = {
    "prelu": [{"alpha": lambda: 0.25}, {"alpha": lambda: -2.0}, {"alpha": lambda: 3.0}],
    "leaky_relu": [{"negative_slope": 0.01}, {"negative_slope": 1.5}],
    "elu": [{}, {"alpha": 0.3}, {"alpha": 2.5}],
    "celu": [{}, {"alpha": 0.3}],
    "gelu": [{}, {"approximate": True}],
    "param_ramp": [{}, {"slope": 0.0, "right": 2.0}, {"slope": 0.5}, {"right": lambda: 0.3, "slope": lambda: 0.1}],
    "squareplus": [{}, {"b": 0.5}],
    "power": [{"exponent": p} for p in (3, 4, 5, -2, -3, 0.3, 1.5, 2.7, -0.5, -1.3)],
    "clip": [{}, {"lower": 0.5, "upper": math.inf}, {"lower": -math.inf, "upper": 2.0}],
    "threshold": [
        {"threshold": 0.5, "default_value": 0.5},
        {"threshold": 0.0, "default_value": 1.0},
        {"threshold": -0.5, "default_value": -3.0},
    ],
    "bounded_relu": [
        {"max_value": 2.0},
        {"threshold": 0.5},
        {"threshold": 0.5, "max_value": 2.0, "negative_slope": 0.1},
    ],
}
SHIPPED = [name for name in names() if not name.startswith("test_")]
CASES = [
    pytest.param(act, rule, id=f"{act.name}-{number}-{rule}")
    for name in SHIPPED
    for number, parameters in enumerate(PARAMETERS.get(name, [{}]))
    for act in [activation(name, **parameters)]
    for rule, slopes in act.relaxations.items()
    if rule == "adaptive" or slopes is not act.relaxations["adaptive"]  # the same rule under another name
]
S_SHAPED = ["arcsinh", "arctan", "erf", "sigmoid", "softsign", "tanh"]
EVERY = [pytest.param(case.values[0], id=case.id) for case in CASES if case.values[1] == "adaptive"]
LIMITS = {
    "exp": (-math.inf, 80.0),
    "expm1": (-math.inf, 80.0),
    "cosh": (-80.0, 80.0),
    "sinh": (-80.0, 80.0),
    "log": (1e-30, math.inf),
    "log1p": (1e-6 - 1.0, math.inf),
    "rsqrt": (1e-12, math.inf),
    "reciprocal": (1e-8, math.inf),
    "power": (1e-4, math.inf),
}
"""Between which numbers functions stay within float32: powers are no higher than five. Of those with a pole this is the
right-hand branch."""
ULPS = 8
"""By how many units in the last place of its largest term a line may be off: library functions err by a few."""


def intervals(kind: type) -> tuple[np.ndarray, np.ndarray]:
    """1,000 intervals and more: around zero and far out, wide, narrow and degenerate, with ends of every kind."""
    rng = np.random.default_rng(0)
    center = rng.normal(size=1000) * rng.choice([1e-3, 1, 1, 1, 5, 30, 1000], 1000)
    radius = rng.exponential(size=1000) * rng.choice([0, 1e-12, 1e-7, 1e-4, 1e-2, 0.3, 1, 1, 3, 30, 1000], 1000)
    ends = [-1e3, -6.0, -3.0, -1.0, -1e-40, -0.0, 0.0, 1e-40, 0.5, 1.0, 2.0, 3.0, 6.0, 1e3]
    pairs = np.array([(low, high) for low in ends for high in ends if low <= high])
    low = np.concatenate([center - radius, pairs[:, 0]]).astype(kind)
    return low, np.concatenate([center + radius, pairs[:, 1]]).astype(kind)


def within(act, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The intervals, moved to where a function is bounded: turned to the right side of zero, cut, kept from a pole."""
    kind = low.dtype.type
    least, most = LIMITS.get(act.name, act.domain)
    if act.name == "power" and not act.limited:
        least = -most
    if least > -1 and not act.poles:
        left = high <= least
        low, high = np.where(left, -high, low), np.where(left, -low, high)
    ends = [end.clip(kind(least), kind(most)) for end in (low, high)]
    if act.limited or act.name in ("sign", "threshold"):  # a root, or a jump, shows what is flushed to zero
        ends = [np.where(np.abs(end) < np.finfo(kind).tiny, kind(0), end) for end in ends]
    if act.poles:
        mirrored = [-end[::2] for end in ends[::-1]]
        ends = [np.concatenate(pair) for pair in zip(ends, mirrored, strict=True)]
    return ends[0], ends[1]


def samples(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """257 points of each interval, its ends and the numbers next to them, and zeros of both signs, in float64."""
    low, high = low[:, None], high[:, None]
    near = [np.nextafter(low, high), np.nextafter(high, low), np.clip(np.zeros_like(low), low, high)]
    near += [np.where((low <= 0) & (high >= 0), low.dtype.type(-0.0), low)]
    wide = low.astype(float), high.astype(float)
    grid = wide[0] + (wide[1] - wide[0]) * np.linspace(0, 1, 257)
    return np.clip(np.concatenate([grid, *near], axis=1), *wide)


def relaxed(act, rule: str, low: np.ndarray, high: np.ndarray) -> list[np.ndarray]:
    """The lines' slopes and intercepts; in float32 as a graph, as users have them, in float64 step by step."""

    def compute(lower, upper):
        return tuple(lines(act, act.slopes(rule, lower, upper), lower, upper))

    run = tf.function(compute, autograph=False) if low.dtype == np.float32 else compute
    return [part.numpy().astype(float)[:, None] for part in run(tf.constant(low), tf.constant(high))]


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize(("act", "rule"), CASES)
def test_no_sampled_point_leaves_the_lines(act, rule, kind):
    low, high = within(act, *intervals(kind))
    x = samples(low, high)
    value = act.function(tf.constant(x)).numpy()
    lower_slope, lower_intercept, upper_slope, upper_intercept = relaxed(act, rule, low, high)
    reach = np.maximum(np.abs(low), np.abs(high)).astype(float)[:, None]
    for slope, intercept, side in ((lower_slope, lower_intercept, 1), (upper_slope, upper_intercept, -1)):
        assert np.isfinite(slope).all() and np.isfinite(intercept).all()
        terms = np.abs(value).max(axis=1, keepdims=True) + np.abs(slope) * reach + np.abs(intercept)
        # TensorFlow flushes denormals to zero.
        pad = ULPS * np.finfo(kind).eps * terms + 4 * float(np.finfo(np.float32).tiny) * (1 + np.abs(slope))
        outside = side * (slope * x + intercept - value) - pad
        worst = np.unravel_index(np.argmax(outside), outside.shape)
        assert outside[worst] <= 0, (low[worst[0]], high[worst[0]], x[worst], outside[worst])


def moderate(count: int = 400, act=None) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    center, radius = rng.normal(size=count) * 2, rng.exponential(size=count) + 1e-2
    low, high = center - radius, center + radius
    if act is None or not act.limited:
        return low, high
    least = max(act.domain[0], -4.0) + (0.01 if act.domain[0] > -10 or act.poles else 0.0)
    if act.poles:
        least = 0.1
    low = np.maximum(low, least)
    return low, np.maximum(high, low + 0.02)


def gaps(act, rule, low, high) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Many points of each interval, and how far each line is from the function at them."""
    x = low[:, None] + (high - low)[:, None] * np.linspace(0, 1, 2001)
    kinks = np.clip([[-3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0, 6.0]], low[:, None], high[:, None])
    x = np.sort(np.concatenate([x, kinks], axis=1), axis=1)
    value = act.function(tf.constant(x)).numpy()
    lower_slope, lower_intercept, upper_slope, upper_intercept = relaxed(act, rule, low, high)
    return x, (value - (lower_slope * x + lower_intercept), upper_slope * x + upper_intercept - value)


@pytest.mark.parametrize(("act", "rule"), CASES)
def test_each_line_touches_the_function(act, rule):
    if act.name == "bounded_relu":
        pytest.skip("it jumps: a line touches its limit from the other side, which no sample shows")
    low, high = moderate(act=act)
    for gap in gaps(act, rule, low, high)[1]:
        assert gap.min(axis=1).max() < 2e-5 * (1 + np.abs(gap).max())


@pytest.mark.parametrize("act", EVERY)
def test_adaptive_leaves_the_least_area_of_all_rules_and_of_many_other_slopes(act):
    low, high = moderate(120, act)

    def areas(rule: str) -> list[np.ndarray]:
        x, both = gaps(act, rule, low, high)
        return [np.trapezoid(gap, x, axis=1) for gap in both]

    for rule in act.relaxations:
        for least, area in zip(areas("adaptive"), areas(rule), strict=True):
            assert (least <= area + 1e-4 * (1 + area)).all(), rule
    ends = tf.constant(low), tf.constant(high)
    best = act.slopes("adaptive", *ends)
    for change in (-0.3, -0.03, 0.03, 0.3):
        found = lines(act, (best[0] + change, best[1] + change), *ends)
        middle = 0.5 * (low + high)
        reference = lines(act, best, *ends)
        # The area is what the line's height in the middle says, the interval's width apart.
        assert np.all(
            found.lower_slope * middle + found.lower_intercept
            <= reference.lower_slope * middle + reference.lower_intercept + 1e-4
        )
        assert np.all(
            found.upper_slope * middle + found.upper_intercept
            >= reference.upper_slope * middle + reference.upper_intercept - 1e-4
        )


@pytest.mark.parametrize("act", EVERY)
def test_slope_ranges_hold_the_adaptive_slopes(act):
    ends = [tf.constant(end) for end in moderate(act=act)]
    for slope, pair in zip(act.slopes("adaptive", *ends), act.slope_ranges(*ends), strict=True):
        if pair is not None:
            tolerance = 2e-3 * (1 + np.abs(slope))
            assert np.all(pair[0] <= slope + tolerance) and np.all(slope <= pair[1] + tolerance)
    point = [tf.constant([0.4, 1.3, 0.7] if act.limited else [-1.5, -0.3, 0.7])] * 2
    for pair in act.slope_ranges(*point):
        if pair is not None:
            np.testing.assert_allclose(pair[0], pair[1], atol=1e-6)


@pytest.mark.parametrize("act", EVERY)
def test_bounds_that_blew_up_give_lines_without_nan(act):
    low, high = tf.constant([-np.inf, -np.inf, 0.5]), tf.constant([np.inf, -1.0, np.inf])
    for rule in act.relaxations:
        slopes = act.slopes(rule, low, high)
        assert np.all(np.isfinite(slopes))
        assert not np.isnan(np.stack(lines(act, slopes, low, high))).any()
    assert not np.isnan(np.stack(image(act, low, high))).any()


@pytest.mark.parametrize(("act", "rule"), CASES)
def test_gradients_of_lines_are_finite(act, rule):
    low = tf.constant([-1.0, -1.0, 0.0, 0.0, -0.0, 2.0, 2.0, -50.0, -3.0], tf.float32)
    high = tf.constant([-1.0, 1.0, 0.0, 1e-30, 1.0, 2.0, 2.0000002, 50.0, -2.0], tf.float32)
    with tf.GradientTape() as tape:
        tape.watch([low, high])
        total = tf.add_n([tf.reduce_sum(part) for part in lines(act, act.slopes(rule, low, high), low, high)])
    assert np.all(np.isfinite(tape.gradient(total, [low, high])))


@pytest.mark.parametrize("act", [case for case in EVERY if case.values[0].closed_form is not None])
def test_a_closed_form_is_the_default_rule_and_has_its_gradients(act):
    low, high = intervals(np.float64)
    size = np.maximum(1e-300, np.maximum(np.abs(low), np.abs(high)))
    found = act.closed_form(tf.constant(low), tf.constant(high))
    expected = lines(act, act.slopes(None, low, high), low, high)
    for end in (low, high):
        for slope, intercept in ((0, 1), (2, 3)):
            values = [part[slope] * end + part[intercept] for part in (found, expected)]
            np.testing.assert_allclose(values[0] / size, values[1] / size, atol=1e-12)
    ends = [tf.constant(end) for end in moderate()]
    gradients = []
    for bounded in (act.closed_form, lambda low, high: lines(act, act.slopes(None, low, high), low, high)):
        with tf.GradientTape() as tape:
            tape.watch(ends)
            weighted = [(k + 1.0) * tf.reduce_sum(part) for k, part in enumerate(bounded(*ends))]
        gradients.append(tape.gradient(weighted, ends))
    np.testing.assert_allclose(gradients[0], gradients[1], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("act", EVERY)
def test_the_image_is_the_range_of_values(act):
    low, high = moderate(100, act)
    x = low[:, None] + (high - low)[:, None] * np.linspace(0, 1, 4001)
    value = act.function(tf.constant(x)).numpy()
    found = image(act, tf.constant(low), tf.constant(high))
    np.testing.assert_allclose(found[0], value.min(axis=1), atol=2e-3)
    assert np.all(found[0] <= value.min(axis=1) + 1e-12) and np.all(found[1] >= value.max(axis=1) - 1e-12)


@pytest.mark.parametrize("name", S_SHAPED)
def test_s_shaped_rules_place_their_slopes(name):
    act = activation(name)
    low, high = moderate()
    found = {
        rule: [s.numpy() for s in act.slopes(rule, tf.constant(low), tf.constant(high))] for rule in act.relaxations
    }
    ends = act.function(tf.constant(np.stack([low, high]))).numpy()
    chord = (ends[1] - ends[0]) / (high - low)
    mixed = (low < 0) & (high > 0)
    for side in (0, 1):
        parallel = np.isclose(found["deepcert"][side], chord) & np.isclose(found["deepcert"][1 - side], chord)
        assert parallel[~mixed].all() and not parallel.all()
        crossing = ~parallel
        np.testing.assert_allclose(found["deepcert"][side][crossing], found["crown"][side][crossing], rtol=1e-9)
        cut = mixed & np.isclose(found["cnncert"][side], chord)
        np.testing.assert_allclose(found["cnncert"][side][~cut & mixed], found["crown"][side][~cut & mixed], rtol=1e-9)
        assert np.all(found["crown"][side][cut] >= chord[cut] - 1e-12)  # touches outside, if at all


def test_a_tangent_through_an_end_touches_where_its_slope_is_the_derivative():
    act = activation("tanh")
    low = -np.logspace(-3, 1.5, 200)
    slope = act.slopes("crown", tf.constant(low), tf.constant(-low))[1].numpy()
    touch = np.arctanh(np.sqrt(1 - slope))
    np.testing.assert_allclose(np.tanh(low) + slope * (touch - low), np.tanh(touch), rtol=0, atol=3e-9)


def test_deepcert_jumps_from_case_1_to_case_3_on_tanh():
    """Wu & Zhang 2021: with l = -2 the tangent at u passes through (l, f(l)) at u = 0.76988."""
    act = activation("tanh")
    high = np.array([0.7698, 0.7699])
    low = np.full_like(high, -2.0)
    chord = (np.tanh(high) - np.tanh(low)) / (high - low)
    lower, upper = (part.numpy() for part in act.slopes("deepcert", tf.constant(low), tf.constant(high)))
    np.testing.assert_allclose([lower[0], upper[0]], chord[0], rtol=1e-12)
    np.testing.assert_allclose(upper[1], chord[1], rtol=1e-4)
    assert lower[1] > 1.5 * chord[1]


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_deepcert_gives_constants_where_tanh_is_flat_to_rounding(kind):
    act = activation("tanh")
    low, high = np.array([20.0, -30.0], kind), np.array([30.0, -20.0], kind)
    found = relaxed(act, "deepcert", low, high)
    np.testing.assert_array_equal(np.hstack(found), [[0, 1, 0, 1], [0, -1, 0, -1]])


def test_deepcert_on_relu_is_parallel_to_the_chord():
    lower, upper = activation("relu").slopes("deepcert", tf.constant([-1.0]), tf.constant([3.0]))
    assert lower == upper == 0.75


def test_a_name_that_a_paper_does_not_define_is_an_error():
    with pytest.raises(ValueError, match="gelu defines no relaxation 'deepcert'; it has adaptive"):
        activation("gelu").slopes("deepcert", tf.constant([0.0]), tf.constant([1.0]))


@pytest.mark.parametrize("rule", ["fastlin", "crown", "cnncert", "deepcert"])
@pytest.mark.parametrize("act", EVERY)
def test_with_a_fallback_every_activation_has_the_rule_or_its_default(act, rule):
    low, high = (tf.constant(end) for end in intervals(np.float64))
    expected = act.slopes(rule if rule in act.relaxations else act.default, low, high)
    for found, line in zip(act.slopes(f"{rule}+adaptive", low, high), expected, strict=True):
        np.testing.assert_array_equal(found, line)
    if rule not in act.relaxations:
        with pytest.raises(ValueError, match="fallback='adaptive'"):
            act.slopes(rule, low, high)
