"""With a rounding, lines and images hold for values as Keras and TensorFlow compute them: exactly, with no slack."""

from dataclasses import replace
from fractions import Fraction

import keras
import numpy as np
import pytest
import tensorflow as tf
from test_relaxations import EVERY, within

from tfcert.activations import Accuracy, activation, image, lines, register_activation
from tfcert.activations.either import either
from tfcert.activations.general import Bends, general
from tfcert.activations.registry import _ACTIVATIONS
from tfcert.roundoff import rounding_of

SINGLE = rounding_of("deployed", np.float32, np.float32)
DOUBLE = rounding_of("deployed", np.float32, np.float64)
TINY = np.finfo(np.float32).tiny
POINTS = 32


def intervals() -> tuple[np.ndarray, np.ndarray]:
    """Around zero and far out; one number, one ulp, subnormal ends, saturated, next to what functions bend at."""
    rng = np.random.default_rng(1)
    middle = rng.normal(size=120) * rng.choice([1e-3, 1, 1, 5, 30, 1000], 120)
    radius = rng.exponential(size=120) * rng.choice([0, 1e-7, 1e-3, 0.1, 1, 1, 10, 300], 120)
    low, high = [middle - radius], [middle + radius]
    near = np.concatenate([rng.normal(size=30) * 3, [0.0, 1, -1, 3, -3, 6, 0.5, 2.3993573, -2.3993573, 1.4142135]])
    near = near.astype(np.float32)
    for first, last in ((0, 0), (0, 1), (1, 1), (1, 3)):  # how many ulps to the left and to the right
        left, right = near, near
        for _ in range(first):
            left = np.nextafter(left, np.float32(-np.inf))
        for _ in range(last):
            right = np.nextafter(right, np.float32(np.inf))
        low.append(left)
        high.append(right)
    ends = [-1e35, -1e20, -17.0, -1.0, -TINY, -1e-40, -1e-45, -0.0, 0.0, 1e-45, 1e-40, TINY, 1.0, 17.0, 1e20, 1e35]
    pairs = np.array([(a, b) for a in ends for b in ends if a <= b], np.float32)
    low, high = (np.concatenate([*ends, pairs[:, n]]) for n, ends in enumerate((low, high)))
    return low.astype(np.float32), high.astype(np.float32)


def inside(act, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Floats of each interval ``[intervals, points]``: the ends, the numbers next to them, and others."""
    rng = np.random.default_rng(2)
    low, high = low[:, None], high[:, None]
    share = rng.uniform(size=(len(low), POINTS))
    wide = low.astype(float) + (high.astype(float) - low) * share
    fixed = [0.0, -0.0, TINY, -TINY, 1e-40, -1e-40, 1e-45, -1e-45, 1.0, -1.0, 3.0, -3.0, 6.0, 0.5]
    near = [low, high, np.nextafter(low, high), np.nextafter(high, low), *(np.full_like(low, x) for x in fixed)]
    x = np.concatenate([wide.astype(np.float32), *near], axis=1)
    return np.where((x >= low) & (x <= high), x, low)


def deployed(act, name: str, parameters: dict, x: np.ndarray) -> list[np.ndarray]:
    """What programs compute at ``x``: tfcert's form and Keras's, eager and compiled by XLA."""
    forms = [act.function]
    found = getattr(keras.activations, name, None) or getattr(keras.ops, name, None)
    if name == "power":
        forms.append(lambda x: keras.ops.power(x, parameters["exponent"]))
    elif found is not None and name not in ("prelu", "param_ramp", "clip", "bounded_relu"):
        forms.append(lambda x: found(x, **parameters))
    flat = tf.constant(x.ravel())
    runs = [run for form in forms for run in (form, tf.function(form, jit_compile=True, autograph=False))]
    return [run(flat).numpy().reshape(x.shape) for run in runs]


def holds(slope: np.ndarray, intercept: np.ndarray, x: np.ndarray, value: np.ndarray, side: int) -> None:
    """The line lies on its side of the values (1: below), in exact arithmetic."""
    with np.errstate(invalid="ignore", over="ignore"):
        # Products are exact in 64 bits, of float32; a sum that is rounded onto the value is looked at again.
        line = slope.astype(np.longdouble) * x + intercept
        beyond = side * (line - value) > 0
        tie = (line == value) & np.isfinite(line) & (intercept != 0)
    beyond |= np.isnan(line) | np.isnan(value)
    assert not beyond.any(), [part[beyond][:3] for part in np.broadcast_arrays(slope, intercept, x, value)]
    shaped = np.broadcast_arrays(slope, intercept, x, value)
    for index in np.flatnonzero(tie.ravel())[:: max(1, int(tie.sum()) // 100)]:
        s, t, at, v = (Fraction(float(part.ravel()[index])) for part in shaped)
        assert side * (s * at + t - v) <= 0


def slopes_of(act, kind: str, lower: tf.Tensor, upper: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    slopes = act.slopes("adaptive", lower, upper)
    if kind == "adaptive":
        return slopes
    scale = tf.constant(np.random.default_rng(3).uniform(0.7, 1.3, lower.shape), lower.dtype)
    return slopes[0] * scale, slopes[1] * scale


PARAMETERS = {
    "celu": {"celu-1": {"alpha": 0.3}}, "elu": {"elu-1": {"alpha": 0.3}, "elu-2": {"alpha": 2.5}},
    "gelu": {"gelu-0": {"approximate": False}, "gelu-1": {"approximate": True}},
    "leaky_relu": {"leaky_relu-0": {"negative_slope": 0.01}, "leaky_relu-1": {"negative_slope": 1.5}},
    "squareplus": {"squareplus-1": {"b": 0.5}},
    "threshold": {"threshold-0": {"threshold": 0.5, "default_value": 0.5},
                  "threshold-1": {"threshold": 0.0, "default_value": 1.0},
                  "threshold-2": {"threshold": -0.5, "default_value": -3.0}},
    "power": {f"power-{n}": {"exponent": p} for n, p in enumerate((3, 4, 5, -2, -3, 0.3, 1.5, 2.7, -0.5, -1.3))},
}  # fmt: skip


@pytest.mark.parametrize("case", [pytest.param((case.id, case.values[0]), id=case.id) for case in EVERY])
def test_lines_and_images_hold_for_computed_values(case):
    """Lines of the default slopes and of others, and images, in float32 and float64, against eager and XLA's values."""
    label, act = case
    parameters = PARAMETERS.get(act.name, {}).get(label.removesuffix("-adaptive"), {})
    low, high = within(act, *intervals())
    x = inside(act, low, high)
    values = deployed(act, act.name, parameters, x)
    finite = 0
    for kind, rounding in ((tf.float32, SINGLE), (tf.float64, DOUBLE)):
        lower, upper = tf.constant(low.astype(kind.as_numpy_dtype)), tf.constant(high.astype(kind.as_numpy_dtype))
        for name in ("adaptive", "others"):
            found = lines(act, slopes_of(act, name, lower, upper), lower, upper, rounding)
            s_low, t_low, s_high, t_high = (part.numpy().astype(np.float64)[:, None] for part in found)
            finite += int((np.isfinite(t_low) & np.isfinite(t_high)).sum())
            for value in values:
                holds(s_low, t_low, x, value, 1)
                holds(s_high, t_high, x, value, -1)
        least, most = (part.numpy()[:, None] for part in image(act, lower, upper, rounding))
        for value in values:
            assert not (least > value).any() and not (most < value).any() and not np.isnan(value).any()
    assert finite > 0.5 * 4 * len(low)


@pytest.mark.parametrize("name", ["relu", "sigmoid", "square"])
def test_lines_that_xla_computes_hold(name):
    """XLA may contract and reassociate what lines are computed from."""
    act = activation(name)
    low, high = within(act, *intervals())
    run = tf.function(
        lambda a, b: tuple(lines(act, act.slopes("adaptive", a, b), a, b, SINGLE)), jit_compile=True, autograph=False
    )
    s_low, t_low, s_high, t_high = (p.numpy().astype(float)[:, None] for p in run(tf.constant(low), tf.constant(high)))
    x = inside(act, low, high)
    for value in deployed(act, name, {}, x):
        holds(s_low, t_low, x, value, 1)
        holds(s_high, t_high, x, value, -1)


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "softplus", "exp", "gelu", "silu", "elu", "hard_silu", "selu"])
def test_points_that_were_searched_for_need_not_be_right(name):
    """Where touching points are off, lines are looser and hold."""
    act = activation(name)
    rng = np.random.default_rng(4)

    def astray(slope, lower, upper):
        points = act.critical_points(slope, lower, upper)
        off = tf.constant(rng.normal(size=slope.shape), slope.dtype)
        return (*points[: act.exact], *(point + 0.3 * off for point in points[act.exact :]))

    wrong = replace(act, critical_points=astray)
    low, high = within(act, *intervals())
    lower, upper = tf.constant(low), tf.constant(high)
    found = lines(wrong, slopes_of(act, "adaptive", lower, upper), lower, upper, SINGLE)
    s_low, t_low, s_high, t_high = (part.numpy().astype(np.float64)[:, None] for part in found)
    x = inside(act, low, high)
    value = deployed(act, name, {}, x)[0]
    holds(s_low, t_low, x, value, 1)
    holds(s_high, t_high, x, value, -1)


@pytest.mark.parametrize("name", ["relu", "sigmoid", "gelu", "square", "log", "leaky_relu", "softplus"])
def test_the_charge_is_some_ulps(name):
    """Lines with a rounding are outside of those without, by little: a charge that is too large would pass all else."""
    act = activation(name, **({"negative_slope": 0.1} if name == "leaky_relu" else {}))
    rng = np.random.default_rng(5)
    low = rng.normal(size=200).astype(np.float32)
    low = np.abs(low) + np.float32(0.01) if name == "log" else low
    lower, upper = tf.constant(low), tf.constant(low + rng.exponential(size=200).astype(np.float32))
    slopes = act.slopes("adaptive", lower, upper)
    plain, charged = lines(act, slopes, lower, upper), lines(act, slopes, lower, upper, SINGLE)
    assert (charged.lower_intercept.numpy() <= plain.lower_intercept.numpy()).all()
    assert (charged.upper_intercept.numpy() >= plain.upper_intercept.numpy()).all()
    reach = np.abs([lower.numpy(), upper.numpy()]).max(axis=0)
    size = sum(np.abs(s.numpy()) * reach + np.abs(t.numpy()) for s, t in (plain[:2], plain[2:])) + 0.5 * reach
    moved = plain.lower_intercept.numpy() - charged.lower_intercept.numpy()
    assert (moved <= (4 * act.accuracy.ulps + 60) * np.finfo(np.float32).eps * size + 1e-36).all()


def test_stable_relus_stay_exact():
    """Slopes of 0 and 1 round nothing: only what is flushed is charged."""
    act = activation("relu")
    lower, upper = tf.constant([1.0, -3.0, 1e6]), tf.constant([2.0, -1.0, 2e6])
    found = lines(act, act.slopes("adaptive", lower, upper), lower, upper, SINGLE)
    np.testing.assert_array_equal(found.lower_slope, [1, 0, 1])
    assert (np.abs(found.lower_intercept) <= 16 * TINY).all() and (np.abs(found.upper_intercept) <= 16 * TINY).all()


@pytest.mark.parametrize(
    ("name", "low", "high", "values"),
    [
        ("sign", 1e-40, 1e-40, [0, 1]),
        ("sign", -1e-40, -1e-45, [-1, 0]),
        ("sign", -1e-45, 1.0, [-1, 0, 1]),
        ("log", 1e-40, 1.0, [-np.inf, -92.1]),
        ("sqrt", 1e-40, 1e-39, [0, 1e-20, 3.1e-20]),
        ("rsqrt", 1e-40, 1.0, [1, 1e20, np.inf]),
        ("reciprocal", 1e-40, 1.0, [1, np.inf]),
    ],
)
def test_subnormal_numbers_may_be_flushed_or_not(name, low, high, values):
    """Values at a subnormal number of a program that flushes it to zero and of one that does not are in the image."""
    least, most = image(activation(name), tf.constant([low]), tf.constant([high]), SINGLE)
    for value in values:
        assert least.numpy()[0] <= value <= most.numpy()[0]


def test_what_is_not_known_is_refused():
    """An activation of the user's own has no accuracy until its owner says one."""
    wave = Bends(lambda x: x + tf.sin(x) / 2, lambda x: 1 + tf.cos(x) / 2, (0.0, np.pi), domain=(-np.pi, np.pi))
    bent = general("rounded_wave", wave)
    end = tf.constant([0.5])
    with pytest.raises(ValueError, match="rounded_wave"):
        lines(bent, (end, end), end, end, SINGLE)
    try:
        register_activation("rounded_wave", lambda: bent, ulps=3)
        act = activation("rounded_wave")
        assert act.accuracy == Accuracy(3.0, 1.0, 1.0, act.accuracy.steep, sharp=True) and 1.5 < act.accuracy.steep < 5
        register_activation("rounded_other", lambda: activation("relu"))
        assert activation("rounded_other").accuracy is None
    finally:
        for name in ("rounded_wave", "rounded_other"):
            _ACTIVATIONS.pop(name, None)
    with pytest.raises(ValueError, match="above 0"):
        register_activation("rounded_wave", lambda: bent, ulps=0)


def test_functions_that_jump_elsewhere_in_double_precision_are_not_covered():
    """A program in single precision compares with another number than float64 bounds do."""
    assert activation("threshold", threshold=0.1, default_value=3.0).accuracy is None
    assert activation("bounded_relu", threshold=0.1).accuracy is None
    assert activation("threshold", threshold=0.5, default_value=3.0).accuracy is not None
    assert activation("clip", lower=0.1).accuracy.ulps > 0 and activation("clip", lower=0.5).accuracy.ulps == 0


def test_images_stay_where_all_computed_values_are():
    """Though lines are moved out: a root of what would be below zero has no value."""
    ends = tf.constant([-1.0, -2.0, 0.0]), tf.constant([2.0, -1.0, 3.0])
    for name, most in {"abs": np.inf, "relu": np.inf, "square": np.inf, "relu6": 6.0}.items():
        low, high = image(activation(name), *ends, rounding_of("deployed", np.float32, np.float32))
        assert (low.numpy() >= 0).all() and (high.numpy() <= most).all()


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "softplus", "mish", "selu", "sin"])
def test_lines_are_moved_by_a_few_roundings(name):
    """Catches a tangent of one piece that is charged for how far a point of another is away."""
    act, rng = activation(name), np.random.default_rng(4)
    low = rng.uniform(-4, 3, 200).astype(np.float32)
    lower, upper = tf.constant(low), tf.constant(low + rng.uniform(0, 3, 200).astype(np.float32))
    for kind in ("adaptive", "others"):
        slopes = slopes_of(act, kind, lower, upper)
        plain, moved = (lines(act, slopes, lower, upper, rounding) for rounding in (None, SINGLE))
        lost = np.stack([plain.lower_intercept - moved.lower_intercept, moved.upper_intercept - plain.upper_intercept])
        assert (lost > 0).all() and lost.max() < 4e-5


def test_a_choice_is_what_where_chooses():
    """Of tensors of one shape, of numbers, and where one is broadcast; and so is its gradient."""
    rng = np.random.default_rng(0)
    a, b = (tf.constant(rng.normal(size=(3, 4)).astype(np.float32)) for _ in range(2))
    for condition, this, other in ((a > b, a, b), (a > b, -np.inf, b), (a > b, a, tf.constant(2.0)), (a > b, a, b[:1])):
        np.testing.assert_array_equal(either(condition, this, other), tf.where(condition, this, other))
    with tf.GradientTape() as tape:
        tape.watch((a, b))
        found = either(a > 0, 2.0 * a, b)
    slopes = tape.gradient(found, (a, b))
    np.testing.assert_array_equal(slopes[0], 2.0 * (a.numpy() > 0))
    np.testing.assert_array_equal(slopes[1], a.numpy() <= 0)
