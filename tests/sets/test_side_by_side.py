"""Sets side by side: members lie in every side's set, and bounds are the sums of what each of them allows."""

import itertools
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfcert.propagation.coefficients import Coefficients
from tfcert.propagation.concretize import least
from tfcert.sets.balls import Box, LpBall
from tfcert.sets.region import region_of
from tfcert.sets.side_by_side import SideBySide, boxed, side_by_side

NORMS = ("linf", "l2", "l1")


def ball(norm: str, size: int, rng: np.random.Generator, eps: float = 0.5, clip: Any = None) -> LpBall:
    return LpBall(rng.uniform(0, 1, (2, size)).astype("float32"), eps, norm, clip)


def two(one: str, other: str, rng: np.random.Generator, **how: Any) -> SideBySide:
    sides = [(ball(one, 3, rng, **how), np.array([0, 2, 4])), (ball(other, 2, rng, **how), np.array([3, 1]))]
    return SideBySide(sides)


@pytest.mark.parametrize(("one", "other"), itertools.product(NORMS, NORMS))
def test_members_are_those_whose_parts_are_members(one, other, rng):
    sets = two(one, other, rng, clip=(0, 1))
    points = np.concatenate([sets.sample(20), rng.normal(0.5, 0.6, (60, 2, 5)).astype("float32")])
    inside = np.stack([sets.contains(p) for p in points])
    parts = [np.stack([s.sets.contains(p[:, s.places]) for p in points]) for s in sets.sides]
    assert (inside == parts[0] & parts[1]).all() and inside[:20].all() and not inside.all()
    for point in points:
        assert sets.contains(sets.project(point)).all()
        held = sets.contains(point)
        np.testing.assert_array_equal(sets.project(point)[held], point[held])


def test_a_number_that_two_sides_share_lies_in_both(rng):
    first = LpBall(np.zeros((1, 2), "float32"), 1.0, "l2")
    second = LpBall(np.array([[0.6, 0.0]], "float32"), 0.5, "l1")
    sets = SideBySide([(first, np.array([0, 1])), (second, np.array([1, 2]))])
    assert sets.lower[0, 1] >= 0.1 - 1e-6 and sets.upper[0, 1] <= 1.0 + 1e-6
    for point in [*sets.sample(50), *rng.normal(0, 2, (50, 1, 3)).astype("float32")]:
        found = sets.project(point)
        assert sets.contains(found).all()
        assert first.contains(found[:, :2]).all() and second.contains(found[:, 1:]).all()
    for apart, error in ((1.6, "is empty"), (1.0, "no point")):
        with pytest.raises(ValueError, match=error):
            SideBySide(
                [
                    (first, np.array([0, 1])),
                    (LpBall(np.array([[apart, apart]], "float32"), 0.4, "l2"), np.array([0, 1])),
                ]
            )


@pytest.mark.parametrize(("one", "other"), itertools.product(NORMS, NORMS))
def test_a_row_over_two_balls_is_bounded_by_what_each_allows(one, other, rng):
    """``min a z`` over balls that are not cut is ``a c - sum of eps |a_k|_q``, and over cut ones no less."""
    sets, dual = two(one, other, rng), {"linf": 1, "l2": 2, "l1": np.inf}
    rows = rng.normal(size=(2, 1, 4, 5)).astype("float32")
    found = np.asarray(least(Coefficients(tf.constant(rows), (5,)), region_of(sets)))[:, 0]
    expected = np.zeros((2, 4))
    for side, norm in zip(sets.sides, (one, other), strict=True):
        part = rows[:, 0][..., side.places].astype(np.float64)
        expected += np.einsum("srn,sn->sr", part, side.sets.center) - 0.5 * np.linalg.norm(part, dual[norm], axis=2)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert (found <= expected + 1e-5).all()


@pytest.mark.parametrize(("one", "other"), [("l2", "l1"), ("l2", "l2"), ("linf", "l1")])
@pytest.mark.parametrize("share", [False, True])
def test_no_member_is_below_the_bound_of_a_row(one, other, share, rng):
    if share:
        center = rng.uniform(0, 1, (2, 4)).astype("float32")
        sides = [
            (LpBall(center[:, :3], 0.6, one, (0, 1)), np.arange(3)),
            (LpBall(center[:, 1:], 0.4, other), [1, 2, 3]),
        ]
        sets = SideBySide(sides)
    else:
        sets = two(one, other, rng, clip=(0, 1))
    rows = rng.normal(size=(2, 1, 6, sets.lower.shape[1])).astype("float32")
    found = np.asarray(least(Coefficients(tf.constant(rows), sets.input_shape), region_of(sets)))[:, 0]
    towards = [sets.project((sets.center - 9 * rows[:, 0, r]).astype("float32")) for r in range(6)]
    for point in [*sets.sample(200), *towards]:
        assert (np.einsum("srn,sn->sr", rows[:, 0], point) >= found - 1e-5).all()


def test_boxes_side_by_side_are_a_box_and_balls_of_linf_have_a_box_around_them(rng):
    box = Box(np.zeros((2, 2), "float32"), np.ones((2, 2), "float32"))
    assert isinstance(side_by_side([(box, [0, 1]), (box, [2, 3])]), Box)
    sets = two("linf", "linf", rng)
    around = boxed(sets)
    assert isinstance(around, Box) and all(around.contains(p).all() for p in sets.sample(50))
    assert region_of(sets).is_box and boxed(two("l2", "linf", rng)).norm == "product"


def test_some_samples_other_types_and_other_orders(rng):
    sets = two("l2", "l1", rng)
    assert sets.take([1]).contains(sets.center[1:]).all() and len(sets.take([1])) == 1
    assert sets.astype("float64").contains(sets.center.astype("float64")).all()
    order = rng.permutation(5)
    for point in sets.sample(20):
        assert sets.arranged(order).contains(point[:, order]).all()
