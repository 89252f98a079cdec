"""Balls whose radius differs between the numbers of an input: membership, hulls, projections, and how they are read."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from tfcert import Box, LpBall
from tfcert.sets.balls import ORDER
from tfcert.sets.region import region_of

RNG = np.random.default_rng(0)
X = RNG.uniform(0.2, 0.8, (3, 5)).astype(np.float32)
EPS = np.array([0.3, 0.0, 0.01, 0.2, 0.1])
NORMS = ["linf", "l2", "l1"]


def size(step, eps, norm):
    """``||step / eps||``; infinite where something moves that may not."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.linalg.norm(np.where(step == 0, 0.0, step / eps), ORDER[norm], axis=-1)


@pytest.mark.parametrize("clip", [None, (0.1, 0.9)])
@pytest.mark.parametrize("norm", NORMS)
def test_samples_and_projections_lie_in_the_ball_and_reach_its_ends(norm, clip):
    ball = LpBall(X, EPS, norm, clip)
    points = ball.sample(200, seed=1)
    for point in points:
        assert ball.contains(point).all()
        assert (size(point.astype(float) - X, EPS, norm) <= 1).all()
        assert (point >= ball.lower).all() and (point <= ball.upper).all()
    np.testing.assert_array_equal(points[..., 1], np.broadcast_to(X[:, 1], points.shape[:2]))
    for i in (0, 2, 3, 4):  # as far as one number goes alone
        far = X.astype(float)
        far[:, i] += 2 * EPS[i]
        end = ball.project(far.astype(np.float32))
        wanted = X[:, i] + EPS[i] if clip is None else np.minimum(X[:, i] + EPS[i], clip[1])
        np.testing.assert_allclose(end[:, i], wanted, rtol=1e-5)


@pytest.mark.parametrize("norm", NORMS)
def test_membership_is_exact(norm):
    """A step that is the radius itself is inside, the next number is not, and nothing fixed may move at all."""
    x = np.zeros((1, 3), np.float32)
    ball = LpBall(x, [[0.5, 0.25, 0.0]], norm)
    assert ball.contains(np.array([[0.5, 0, 0]], np.float32))[0]
    assert not ball.contains(np.array([[np.nextafter(np.float32(0.5), np.float32(1)), 0, 0]], np.float32))[0]
    assert not ball.contains(np.array([[0, 0, 1e-40]], np.float32))[0]
    both = np.array([[0.5, 0.25, 0]], np.float32)
    assert ball.contains(both)[0] == (norm == "linf")


def test_a_text_is_no_float_and_is_rounded_apart_for_proofs_and_witnesses():
    ball = LpBall({"a": np.zeros((1, 2)), "b": np.zeros((1, 1))}, {"a": "1/10", "b": "1/3"})
    low, high = ball.scale.low[0], ball.scale.high[0]
    for i, exact in enumerate([Fraction(1, 10)] * 2 + [Fraction(1, 3)]):
        assert Fraction(float(low[i])) < exact < Fraction(float(high[i]))
        assert np.nextafter(low[i], 1) == high[i]
        assert Fraction(float(ball.upper[0, i])) >= exact and Fraction(float(ball.lower[0, i])) <= -exact


@pytest.mark.parametrize("norm", NORMS)
def test_all_ways_to_say_the_same_are_the_same(norm):
    a, b = X[:, :2], X[:, 2:]
    wanted = LpBall(X, [[0.1, 0.1, 0, 0, 0]] * 3, norm)
    named = {"a": a, "b": b}
    for ball in (
        LpBall(X, np.array([0.1, 0.1, 0, 0, 0]), norm),
        LpBall(named, {"a": 0.1, "b": 0}, norm),
        LpBall(named, {"a": [0.1, 0.1], "b": np.zeros((3, 3))}, norm),
        LpBall({"b": b, "a": a}, {"a": 0.1, "b": 0.0}, norm).arranged(np.array([3, 4, 0, 1, 2])),
        LpBall(named, 0.1, norm, free=["a"]),
        LpBall(named, 0.1, norm, free={"a": True, "b": False}),
        LpBall(X, 0.1, norm, free=[True, True, False, False, False]),
        LpBall(X, [0.1] * 3, norm, free=np.array([[1, 1, 0, 0, 0]] * 3)),
        LpBall(X, 0.1, norm, scale=[1, 1, 0, 0, 0]),
        LpBall(X, 0.05, norm, scale=[[2, 2, 0, 0, 0]]),
    ):
        np.testing.assert_allclose(ball.reach, wanted.reach, rtol=1e-15)
        np.testing.assert_array_equal(ball.lower, wanted.lower)
        np.testing.assert_array_equal(ball.upper, wanted.upper)


def test_one_radius_for_all_is_what_it_was():
    """Even radii make no scale: their regions are read by the same code as ever."""
    for eps in (0.1, [0.1, 0.2, 0.3], "1/10", np.array([[0.1], [0.2], [0.3]])):
        ball = LpBall(X, eps, "l2")
        assert ball.scale is None and not region_of(ball).uneven
    assert LpBall(np.zeros((2, 2)), [0.1, 0.2]).scale is None  # one a sample where it could be either


def test_ranges_by_name():
    ball = LpBall({"a": X[:, :2], "b": X[:, 2:]}, 1.0, clip={"b": (0, [1, 1, 0.875])})
    np.testing.assert_array_equal(ball.upper[:, 2:], np.broadcast_to(np.float32([1, 1, 0.875]), (3, 3)))
    np.testing.assert_allclose(ball.upper[:, :2], X[:, :2] + 1, rtol=1e-6)


def test_radii_that_are_resized_keep_their_shares():
    ball = LpBall(X, EPS, "l2", (0, 1)).resized([0.5, 1.0, 2.0])
    for i, factor in enumerate((0.5, 1.0, 2.0)):
        wanted = LpBall(X[i : i + 1], EPS * factor, "l2", (0, 1))
        np.testing.assert_allclose(ball.take([i]).upper, wanted.upper, rtol=1e-6)
    half = ball.astype(np.float64).take([2, 0])
    assert half.scale.high.shape == (2, 5) and half.x.dtype == np.float64


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: LpBall(X, [0.1, -0.1, 0, 0, 0]), "not negative"),
        (lambda: LpBall(X, [0.1, np.nan, 0, 0, 0]), "finite"),
        (lambda: LpBall(X, [0.1] * 4), r"an array of shape \(5,\)"),
        (lambda: LpBall(X, {"a": 0.1}), "x is one array"),
        (lambda: LpBall({"a": X, "b": X}, {"a": 0.1}), "missing: 'b'"),
        (lambda: LpBall({"a": X, "b": X}, {"a": 0.1, "b": 0, "c": 0}), "names 'a', 'b', 'c'"),
        (lambda: LpBall({"a": X, "b": X}, {"a": [0.1, 0.2], "b": 0}), r"eps\['a'\] has shape \(2,\)"),
        (lambda: LpBall({"a": X, "b": X}, 0.1, free="c"), "no 'c' among"),
        (lambda: LpBall(X, 0.1, free=[0.5] * 5), "free is a mask"),
        (lambda: LpBall(X, [0.1] * 5, scale=[1.0] * 5), "leave scale out"),
        (lambda: LpBall({"a": X, "b": X}, 0.1, clip={"a": (0, [1, 2])}), r"clip\['a'\] has an end of shape"),
        (lambda: LpBall({"a": X, "b": X[:2]}, 0.1), "different numbers of samples"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_boxes_of_several_inputs():
    box = Box({"a": X, "b": X}, {"a": X + 1, "b": X})
    assert box.input_shape == (10,) and box.moving()[:, :5].all() and not box.moving()[:, 5:].any()
