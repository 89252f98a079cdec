"""What users declare of an activation: held against the function, and taken for no more than its domain."""

import math
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from test_relaxations import EVERY

import tfcert
from tfcert.activations import (
    Activation,
    Bends,
    activation,
    general,
    image,
    lines,
    names,
    register_activation,
    registration,
)
from tfcert.activations.convex import convex
from tfcert.activations.piecewise import piecewise
from tfcert.activations.registry import WHOLE
from tfcert.activations.s_shaped import SCurve, s_shaped

TURNS = tuple(math.pi * n for n in range(-3, 4))


def wave(x):
    return x + keras.ops.sin(x) / 2


def slope(x):
    return 1 + tf.cos(x) / 2


def bends(function=wave, derivative=slope, ends=TURNS, **options):
    return lambda: general("wave", Bends(function, derivative, ends, **options))


def lopsided(x):
    return tf.where(x > 0, tf.tanh(x), 0.5 * tf.tanh(2 * x))


def tanh_slope(x):
    return 1 / tf.square(tf.cosh(tf.clip_by_value(x, -300.0, 300.0)))


WRONG = {
    "bends again beyond its ends": (bends(domain=WHOLE), "both ways between -inf and -9.42"),
    "an end is missing": (bends(ends=TURNS[:2] + TURNS[3:]), r"both ways between -6\.28\S* and 0 .* x = -3\.14"),
    "an end in the wrong place": (bends(ends=(*TURNS[:2], -2.0, *TURNS[3:])), r"inflects at x = -3\.14"),
    "the derivative of another function": (bends(derivative=lambda x: 1 + tf.cos(x) / 2.0001), "wrong derivative"),
    "a step inside a piece": (bends(lambda x: wave(x) + tf.cast(x > 1, x.dtype)), r"derivative .* at x = 0\.99"),
    "a jump at an end": (bends(lambda x: wave(x) + tf.cast(x > 0, x.dtype)), "not declared a jump"),
    "not a number": (bends(lambda x: tf.sqrt(x), lambda x: 0.5 / tf.sqrt(x)), "not a number"),
    "float32 only": (bends(lambda x: wave(tf.cast(x, tf.float32)) + x), "float64"),
    "no convex function": (
        lambda: convex("cube", lambda x: x**3, lambda x: 3 * x**2, tf.sqrt),
        r"inflects at x = -?\d.*e-0",
    ),
    "a wrong inverse": (lambda: convex("square", tf.square, lambda x: 2 * x, lambda s: s), "crosses its lower line"),
    "not odd": (
        lambda: s_shaped(
            "lopsided",
            lopsided,
            SCurve(
                lopsided,
                lambda x: tf.where(x > 0, tanh_slope(x), tanh_slope(2 * x)),
                lambda s: tf.acosh(tf.math.rsqrt(tf.clip_by_value(s, 1e-300, 1.0))),
            ),
        ),
        "crosses its",
    ),
    "a slope": (
        lambda: piecewise("p", lambda x: tf.clip_by_value(x, -1, 2), (-1.0, 2.0), (0.0, 1.0, 0.1)),
        "from|between 2",
    ),
    "a kink": (lambda: piecewise("p", lambda x: tf.clip_by_value(x, -1, 2), (-1.0, 1.9), (0.0, 1.0, 0.0)), r"1\.9"),
    "not rising": (lambda: replace(activation("silu"), increasing=True), "is declared to rise"),
    "not straight": (lambda: replace(activation("softplus"), kinks=(0.0,)), "is declared straight"),
    "a family of one's own": (
        lambda: Activation(
            "sine", tf.sin, lambda s, *_: (), {"adaptive": lambda low, _: (0 * low, 0 * low)}, lambda *_: (None, None)
        ),
        "crosses its lower line",
    ),
}


@pytest.mark.parametrize(("build", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_declaration_is_refused_and_says_where(build, message):
    with pytest.raises(ValueError, match=message):
        register_activation("test_wrong", build)
    with pytest.raises(KeyError):
        activation("test_wrong")


def test_a_declaration_with_parameters_is_checked_when_a_model_asks_for_them():
    def build(reach):
        return bends(domain=(TURNS[0], TURNS[0] + reach), ends=TURNS[1:3])()

    register_activation("test_reach", build)
    assert activation("test_reach", reach=3 * math.pi).domain[1] == pytest.approx(0)
    with pytest.raises(ValueError, match=r"both ways between -3\.14159 and 3\.14159"):
        activation("test_reach", reach=4 * math.pi)


@pytest.mark.parametrize("act", EVERY)
def test_what_is_shipped_declares_every_point_where_it_bends(act):
    registration.check_activation(replace(act, relaxations={}))


def test_a_domain_is_said_where_the_ends_do_not_tell_it_and_goes_with_no_claim_on_all_numbers():
    with pytest.raises(ValueError, match="domain="):
        Bends(tf.square, lambda x: 2 * x)
    with pytest.raises(ValueError, match="must rise and lie"):
        Bends(wave, slope, TURNS, domain=(0.0, 1.0))
    with pytest.raises(ValueError, match="hold on all numbers"):
        replace(activation("relu"), domain=(0.0, 1.0))


def test_nothing_is_known_of_an_interval_that_leaves_the_domain():
    end = math.pi
    act = convex("log", lambda x: -tf.math.log(x), lambda x: -1 / x, lambda s: -1 / s, (1e-3, end))
    registration.check_activation(act)
    low = tf.constant([1.0, 1.0, 0.0, -3.0, 4.0])
    high = tf.constant([end - 1e-6, end, 1.0, -2.0, 5.0])  # pi in float32 lies above pi
    with tf.GradientTape() as tape:
        tape.watch([low, high])
        slopes = act.slopes(None, low, high)
        found = [*lines(act, slopes, low, high), *image(act, low, high), *act.slope_ranges(low, high)[0]]
        total = tf.reduce_sum([part[0] for part in found])
    for part in (found[1], found[3], found[4], found[5]):
        np.testing.assert_array_equal(np.isfinite(part), [True, False, False, False, False])
    assert np.isfinite(np.stack([*slopes, found[6], found[7]])).all()
    assert np.isfinite(np.stack(tape.gradient(total, [low, high]))).all()


def leaning(x):
    return x - keras.ops.log(x)


@pytest.mark.parametrize("method", ["ibp", "forward", "crown-ibp", "crown", "alpha-crown", "lp", "milp"])
def test_no_method_claims_anything_beyond_the_domain_and_all_say_where_it_ends(method):
    def build():
        return convex("test_leaning", leaning, lambda x: 1 - 1 / x, lambda s: 1 / (1 - s), (0.5, 9.42))

    if "test_leaning" not in names():
        register_activation("test_leaning", build, spellings=[leaning])
    z = keras.Input((1,), dtype="float64")
    bent = keras.layers.Activation(leaning, dtype="float64")(keras.ops.abs(z) + 1.0)
    model = keras.Model(z, keras.layers.Concatenate(dtype="float64")([bent, 0.0 * z]))  # at least 1, and 0
    options = tfcert.BoundOptions(iterations=1, jit=False)
    with pytest.warns(UserWarning, match=r"'test_leaning' from 0\.5 to 9\.42"):
        found = tfcert.certify(model, np.array([[8.0], [2.0]]), [0, 0], eps=0.5, method=method, options=options)
    np.testing.assert_array_equal(found.verified, [False, True])
