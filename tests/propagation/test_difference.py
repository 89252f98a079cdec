"""Planes of differences of activations: on the right side, tight where signs are known, and the same in every pass."""

from fractions import Fraction

import numpy as np
import pytest
import tensorflow as tf

from tfcert.activations import activation
from tfcert.network.difference import Difference
from tfcert.propagation.coefficients import Coefficients
from tfcert.propagation.difference import DIFFERENCE, bends_between, chords, gap_range, without
from tfcert.propagation.enclosures import Plane, Planes
from tfcert.roundoff import rounding_of

CASES = [
    ("relu", {}),
    ("leaky_relu", {"negative_slope": 0.1}),
    ("leaky_relu", {"negative_slope": 1.5}),
    ("abs", {}),
    ("relu6", {}),
    ("hard_tanh", {}),
    ("tanh", {}),
    ("sigmoid", {}),
    ("softplus", {}),
    ("elu", {}),
    ("gelu", {}),
    ("sign", {}),
]


def node(name="relu", parameters=None) -> Difference:
    act = activation(name, **(parameters or {}))
    return Difference(name="difference", inputs=(1, 2, 3, 4, 5), shape=(40,), activation=act)


def boxes(seed: int, act, narrow: bool = True):
    """Bounds ``[1, 40]`` of ``a - b``, ``f(a)``, ``f(b)``, a and b; and 400 points ``[points, 40]`` of a and b in them.

    By neuron: wide and narrow, of one sign and both, of width zero.
    """
    rng = np.random.default_rng(seed)
    lower = rng.normal(size=(2, 1, 40)) * 1.5
    upper = lower + rng.exponential(size=lower.shape) * rng.choice([0.0, 0.01, 1.0, 4.0], lower.shape)
    a, b = (lower[0] + rng.uniform(size=(400, 40)) * (upper - lower)[0] for _ in range(2))
    b = lower[1] + rng.uniform(size=(400, 40)) * (upper - lower)[1]
    if narrow:  # only pairs that are close: bounds of the difference know more than those of both
        middle = (a - b).mean(axis=0)
        width = rng.choice([0.0, 0.05, 0.5], 40) * (a - b).std(axis=0)
        b = np.clip(a - middle - rng.uniform(-1, 1, a.shape) * width, lower[1], upper[1])
    gap = a - b
    pairs = [(gap.min(axis=0)[None], gap.max(axis=0)[None])]
    values = [act.function(tf.constant(x)).numpy() for x in (a, b)]
    pairs += [(v.min(axis=0)[None], v.max(axis=0)[None]) for v in values]
    pairs += [(lower[k], upper[k]) for k in (0, 1)]
    return [tuple(map(tf.constant, pair)) for pair in pairs], a, b, values[0] - values[1]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}{case[1] or ''}")
@pytest.mark.parametrize("narrow", [True, False])
@pytest.mark.parametrize("share", [None, 0.0, 0.3, 1.0])
def test_planes_lines_and_intervals_enclose_the_difference(case, narrow, share):
    what = node(*case)
    bounds, a, b, value = boxes(0, what.activation, narrow)
    choices = () if share is None else (tf.fill([1, 40], tf.constant(share, tf.float64)),) * 2
    planes = DIFFERENCE.relax(what, bounds, None, choices)
    low_slope, low, high_slope, high = (part.numpy() for part in planes.lines)
    below, above = (part.numpy() for part in planes.stay)
    assert (low_slope * (a - b) + low + below * value <= value + 1e-9).all()
    assert (high_slope * (a - b) + high + above * value >= value - 1e-9).all()
    least, most = (end.numpy() for end in DIFFERENCE.interval(what, bounds))
    assert (least <= value + 1e-9).all() and (most >= value - 1e-9).all()


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}{case[1] or ''}")
def test_facets_hold_and_say_what_the_difference_is(case):
    what = node(*case)
    bounds, a, b, value = boxes(1, what.activation)
    plain = [tuple(end.numpy()[0] for end in pair) for pair in bounds]
    values = [what.activation.function(tf.constant(x)).numpy() for x in (a, b)]
    sides = set()
    for facet in DIFFERENCE.facets(what, plain):
        for inputs, true in zip(zip(a - b, *values, a, b, strict=True), value, strict=True):
            level = facet.slopes.apply(np.concatenate(inputs), 40) + facet.intercept
            assert (facet.sign * (true - level) >= -1e-9).all()
            assert facet.sign or np.allclose(level, true, atol=1e-12)
        sides.add(facet.sign)
    assert sides == ({0} if case[0] == "sign" else {0, 1, -1})


def pair(low, high):
    return tf.constant([[low]], tf.float64), tf.constant([[high]], tf.float64)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((1.0, 2.0), (1.0, 2.0), (1, 0, 1, 0)),  # both active: d itself
        ((-2.0, -1.0), (-2.0, -1.0), (0, 0, 0, 0)),  # both inactive: nothing
        ((-2.0, 2.0), (-2.0, 2.0), (0.5, -0.05, 0.5, 0.05)),  # chords of min(0, d) and max(0, d)
        ((0.5, 2.0), (-1.0, 2.0), (0.5, -0.05, 1, 0)),  # a active: at most d
        ((-1.0, 2.0), (0.5, 2.0), (1, 0, 0.5, 0.05)),  # b active: at least d
        ((-2.0, -0.5), (-1.0, 2.0), (0.5, -0.05, 0, 0)),  # a inactive: at most 0
        ((-1.0, 2.0), (-2.0, -0.5), (0, 0, 0.5, 0.05)),  # b inactive: at least 0
    ],
)
def test_lines_of_relu_by_the_signs_of_both(a, b, expected):
    found = chords(activation("relu"), pair(-0.1, 0.1), pair(*a), pair(*b))
    np.testing.assert_allclose([float(part[0, 0]) for part in found[:4]], expected, atol=1e-12)


@pytest.mark.parametrize(("d", "slopes"), [((0.1, 0.3), (0, 1)), ((-0.3, -0.1), (1, 0)), ((0.0, 0.0), (1, 0))])
def test_a_difference_of_one_sign_is_bounded_by_lines_through_zero(d, slopes):
    found = chords(activation("relu"), pair(*d), pair(-1.0, 1.0), pair(-1.0, 1.0))
    assert [float(found.low_slope[0, 0]), float(found.high_slope[0, 0])] == list(slopes)
    assert float(found.low[0, 0]) == float(found.high[0, 0]) == 0


def test_bounds_of_the_difference_are_met_with_those_of_both():
    low, high = gap_range(pair(-5.0, 5.0), pair(1.0, 2.0), pair(0.0, 0.5))
    assert (float(low[0, 0]), float(high[0, 0])) == (0.5, 2.0)
    low, high = gap_range(pair(-0.1, 0.2), pair(-1.0, 2.0), pair(-1.0, 2.0))
    assert (float(low[0, 0]), float(high[0, 0])) == (-0.1, 0.2)


@pytest.mark.parametrize(("a", "b", "bends"), [
    ((1.0, 2.0), (-1.0, 1.0), True), ((-1.0, 1.0), (1.0, 2.0), True), ((1.0, 2.0), (0.5, 3.0), False),
    ((-2.0, -1.0), (-3.0, -1.0), False),
])  # fmt: skip
def test_a_difference_bends_where_either_side_does(a, b, bends):
    assert bool(bends_between(activation("relu"), pair(*a), pair(*b))[0, 0]) is bends


def test_the_second_argument_follows_from_the_first_and_their_difference(rng):
    found = without(pair(1.0, 3.0), pair(-0.5, 0.25))
    assert [float(end[0, 0]) for end in found] == [0.75, 3.5]
    a, d = rng.normal(size=(1, 200)), 0.1 * rng.normal(size=(1, 200))
    low, high = without(
        (tf.constant(a), tf.constant(a)), (tf.constant(d), tf.constant(d)), rounding_of("real", np.float64, np.float64)
    )
    for first, gap, least, most in zip(a[0], d[0], low.numpy()[0], high.numpy()[0], strict=True):
        assert Fraction(least) <= Fraction(first) - Fraction(gap) <= Fraction(most)


@pytest.mark.parametrize(("d", "share"), [(0.01, 1.0), (5.0, 0.0)])
def test_neurons_begin_with_the_planes_that_are_closer(d, share):
    """Two ReLUs over [-1, 1]: their own lines are apart by 1 together, those over d by its width."""
    bounds = [pair(-d, d), pair(0.0, 1.0), pair(0.0, 1.0), pair(-1.0, 1.0), pair(-1.0, 1.0)]
    if share == 0:
        bounds[3] = bounds[4] = pair(-1.0, 9.0)
        bounds[1] = bounds[2] = pair(0.0, 9.0)
    assert [float(c[0, 0]) for c in DIFFERENCE.choices(node(), bounds, None)] == [share, share]


@pytest.mark.parametrize("place", range(6))
@pytest.mark.parametrize("name", ["relu", "tanh"])
def test_infinite_bounds_leave_what_the_difference_is(place, name):
    ends = [-0.1, 0.1, -1.0, 1.0, -1.0, 1.0]
    ends[place] = -np.inf if place % 2 == 0 else np.inf
    d, a, b = pair(*ends[:2]), pair(*ends[2:4]), pair(*ends[4:])
    bounds = [d, pair(-np.inf, np.inf), pair(-np.inf, np.inf), a, b]
    low, high = (float(end[0, 0]) for end in DIFFERENCE.interval(node(name), bounds))
    assert low <= 0 <= high and not np.isnan([low, high]).any()
    planes = DIFFERENCE.relax(node(name), bounds, None)
    assert all(np.isfinite(part).all() for part in (*planes.lines, *planes.stay))


def test_of_nothing_known_the_interval_is_infinite():
    nothing = pair(-np.inf, np.inf)
    low, high = DIFFERENCE.interval(node("tanh"), [nothing, nothing, nothing, nothing, nothing])
    assert float(low[0, 0]) >= -2 and float(high[0, 0]) <= 2  # the image of tanh
    low, high = DIFFERENCE.interval(node("relu"), [nothing, nothing, nothing, nothing, nothing])
    assert float(low[0, 0]) == -np.inf and float(high[0, 0]) == np.inf


def test_steps_through_a_difference_are_those_of_its_planes():
    rng = np.random.default_rng(3)
    what = node()
    bounds, _, _, _ = boxes(3, what.activation)
    rows = Coefficients(tf.constant(rng.normal(size=(1, 1, 3, 40))), (40,))
    planes, opened = DIFFERENCE.relax(what, bounds, None), DIFFERENCE.opened(what, bounds, None).over(rows)
    fixed, chosen = planes.back(rows), opened.back(rows, opened.first(rows.values.shape))
    assert len(fixed[0]) == len(chosen[0]) == len(what.sources) == 3
    for wanted, found in zip(fixed[0], chosen[0], strict=True):
        np.testing.assert_allclose(found.values, wanted.values, atol=1e-12)
    np.testing.assert_allclose(chosen[1], fixed[1], atol=1e-12)
    # Forward: over inputs that are known exactly, planes are what stepping back gives.
    slopes = [tf.constant(rng.normal(size=(1, 2, 40))) for _ in range(3)]
    levels = [tf.constant(rng.normal(size=(1, 40))) for _ in range(3)]
    inputs = [Planes(plane, plane) for plane in map(Plane, slopes, levels)]
    found = planes.advance([*inputs, inputs[1], inputs[2]])
    eye = Coefficients(tf.eye(40, batch_shape=[1, 1], dtype=tf.float64), (40,))
    for side, sign in ((found.lower, 1), (found.upper, -1)):
        parts, constant = planes.back(Coefficients(sign * eye.values, (40,)))
        over = sum(np.einsum("re,ie->ir", p.values[0, 0], s[0]) for p, s in zip(parts, slopes, strict=True))
        np.testing.assert_allclose(sign * side.slopes[0], over, atol=1e-9)
        level = sum(p.values.numpy()[0, 0] @ v.numpy()[0] for p, v in zip(parts, levels, strict=True))
        np.testing.assert_allclose(sign * side.intercept[0], level + constant.numpy()[0, 0], atol=1e-9)


@pytest.mark.parametrize("name", ["relu", "tanh"])
def test_gradients_are_finite_at_degenerate_bounds_and_those_of_differences(name):
    # By column: an ordinary box, single points, differences of zero width, and signs that are just known.
    ends = [[-0.2, 0.0, 0.0, -1e-40], [0.3, 0.0, 0.0, 1e-40], [-1.0, 0.5, -1.0, 0.0], [1.5, 0.5, 1.0, 1.0],
            [-1.2, 0.5, -1.0, -1.0], [1.4, 0.5, 1.0, 0.0]]  # fmt: skip
    starts = [tf.Variable([end], dtype=tf.float64) for end in ends]
    weights = tf.constant([[1.0, 2.0, -1.0, 0.5]], tf.float64)
    what = node(name)

    def total() -> tf.Tensor:
        d, a, b = (tuple(starts[k : k + 2]) for k in (0, 2, 4))
        values = [tuple(what.activation.function(end) for end in ends) for ends in (a, b)]
        bounds = [d, *values, a, b]
        planes = DIFFERENCE.relax(what, bounds, None)
        parts = [*planes.lines, *DIFFERENCE.interval(what, bounds)]
        return tf.add_n([tf.reduce_sum(weights * part * (k + 1)) for k, part in enumerate(parts)])

    with tf.GradientTape() as tape:
        value = total()
    gradients = tape.gradient(value, starts, unconnected_gradients="zero")
    for variable, gradient in zip(starts, gradients, strict=True):
        assert np.isfinite(gradient).all()
        before, found = variable.numpy().copy(), []
        for sign in (1, -1):
            variable[0, 0].assign(before[0, 0] + sign * 1e-6)
            found.append(float(total()))
        variable.assign(before)
        assert float(gradient[0, 0]) == pytest.approx((found[0] - found[1]) / 2e-6, rel=1e-5, abs=1e-6)
