"""The slopes of every registered activation: no difference quotient leaves them, and some reach them."""

import numpy as np
import pytest
import tensorflow as tf
from test_relaxations import EVERY

from tfcert.activations import activation
from tfcert.activations.steepness import bends, steepness

ENDS = np.array([(-3.0, -1.0), (-2.0, 0.5), (-0.3, 0.0), (0.0, 0.7), (-1.5, 2.5), (0.25, 4.0), (2.0, 7.5), (-8.0, 8.0)])


def quotients(act, count=401):
    """Of each interval the slopes of the function between neighbours of so many points, ``[intervals, count - 1]``."""
    x = ENDS[:, :1] + np.linspace(0, 1, count) * (ENDS[:, 1:] - ENDS[:, :1])
    shape = [len(ENDS), count]
    with np.errstate(invalid="ignore"):
        values = act.function(tf.constant(x.reshape(shape))).numpy()
        return np.diff(values, axis=1) / np.diff(x, axis=1)


def found(act):
    return [end.numpy()[:, 0] for end in steepness(act, tf.constant(ENDS[:, :1]), tf.constant(ENDS[:, 1:]))]


@pytest.mark.parametrize("act", EVERY)
def test_no_two_points_of_an_interval_are_on_a_steeper_line(act):
    least, most = found(act)
    known, steep = np.isfinite(least) & np.isfinite(most), quotients(act)
    slack = 1e-7 * (1 + np.abs(steep[known]))
    assert (steep[known] >= least[known, None] - slack).all()
    assert (steep[known] <= most[known, None] + slack).all()


@pytest.mark.parametrize("name", ["relu", "abs", "relu6", "hard_sigmoid", "tanh", "sigmoid", "softplus", "elu"])
def test_the_slopes_are_reached(name):
    act = activation(name)
    least, most = found(act)
    steep = quotients(act, 4001)
    np.testing.assert_allclose(steep.min(axis=1), least, atol=6e-3)
    np.testing.assert_allclose(steep.max(axis=1), most, atol=6e-3)


def test_a_stable_relu_has_one_slope_and_a_point_on_the_kink_has_one():
    ends = tf.constant([[0.0, -1.0, 0.0, -1.0]]), tf.constant([[1.0, 0.0, 0.0, 1.0]])
    least, most = steepness(activation("relu"), *ends)
    np.testing.assert_array_equal(least[0, :2], [1, 0])
    np.testing.assert_array_equal(most[0, :2], [1, 0])
    assert least[0, 2] == most[0, 2] and [least[0, 3], most[0, 3]] == [0, 1]


@pytest.mark.parametrize("bad", [-np.inf, np.inf])
def test_nothing_is_known_where_a_function_jumps_or_a_curve_has_no_bounds(bad):
    one, other = tf.constant([[min(bad, 1.0)]]), tf.constant([[max(bad, 1.0)]])
    assert [float(end[0, 0]) for end in steepness(activation("sign"), *ends_of(0.0, 1.0))] == [
        -np.inf,
        np.inf,
    ]
    assert [float(end[0, 0]) for end in steepness(activation("tanh"), one, other)] == [-np.inf, np.inf]
    assert [float(end[0, 0]) for end in steepness(activation("relu"), one, other)] == [0.0 if bad < 0 else 1.0, 1.0]


def ends_of(low, high):
    return tf.constant([[low]]), tf.constant([[high]])


@pytest.mark.parametrize(
    ("name", "parameters", "which"),
    [
        ("relu", {}, (True, False)),
        ("abs", {}, (True, False)),
        ("leaky_relu", {"negative_slope": 1.5}, (False, True)),
        ("relu6", {}, (False, False)),
        ("tanh", {}, (False, False)),
    ],
)
def test_which_way_a_function_bends(name, parameters, which):
    marks = bends(activation(name, **parameters), tf.zeros([1, 1]))
    assert tuple(bool(tf.reduce_all(mark)) for mark in marks) == which
