"""Conditions on inputs: points are moved into them, and what they say is decided exactly."""

from fractions import Fraction

import numpy as np
import pytest

from tfcert.sets.balls import Box, LpBall, Perturbation
from tfcert.sets.conditions import Conditions, moved_into, narrowed, solved_exactly

KINDS = ("box", "linf", "l2", "l1")


def around(kind: str, x: np.ndarray, eps: float) -> Perturbation:
    return Box(x - np.float32(eps), x + np.float32(eps)) if kind == "box" else LpBall(x, eps, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_points_are_moved_into_conditions_that_a_point_near_them_meets(kind, rng):
    """Two random conditions that leave a small ball of the set: the centre and random points come to lie in both."""
    x = rng.normal(size=(20, 5)).astype(np.float32)
    sets = around(kind, x, 1.0)
    rows = rng.normal(size=(20, 2, 5)) * 10.0 ** rng.integers(-3, 4, size=(20, 2, 1))
    kept = sets.center + (0.1 * rng.normal(size=(20, 5))).astype(np.float32)
    room = 0.05 * np.linalg.norm(rows, axis=2)
    conditions = Conditions(rows, room - np.einsum("bcn,bn->bc", rows, kept))
    for start in (sets.center, *sets.sample(3)):
        moved = moved_into(sets, conditions, start)
        assert moved.dtype == np.float32 and sets.contains(moved).all() and conditions.holds(moved).all()


def test_a_point_that_meets_the_conditions_stays_where_it_is(rng):
    sets = Box(np.zeros((1, 3), np.float32), np.ones((1, 3), np.float32))
    conditions = Conditions(np.array([[[1.0, -1.0, 0.0]]]), np.zeros((1, 1)))
    point = np.array([[0.5, 0.25, 0.125]], np.float32)
    np.testing.assert_array_equal(moved_into(sets, conditions, point), point)


def test_numbers_move_as_far_as_they_may_relative_to_each_other():
    """An income in thousands and an age: both give way, neither to its end alone."""
    sets = Box(np.array([[0.0, 0.0]], np.float32), np.array([[100.0, 1e5]], np.float32))
    conditions = Conditions(np.array([[[1.0, 1e-3]]]), np.array([[-150.0]]))
    moved = moved_into(sets, conditions, np.array([[50.0, 5e4]], np.float32))
    np.testing.assert_allclose(moved, [[75.0, 7.5e4]], rtol=1e-3)


def test_equations_hold_exactly_where_floats_can():
    """``z0 + z1 == 1`` and ``z2 == 2 z0`` of random starts: neither is met by rounding a projection."""
    rows = np.array([[1.0, 1.0, 0.0, 0.0], [2.0, 0.0, -1.0, 0.0]])
    whole = np.concatenate([rows, -rows])[None]
    conditions = Conditions(whole, np.array([[-1.0, 0.0, 1.0, 0.0]]))
    sets = Box(np.full((1, 4), -1.0, np.float32), np.full((1, 4), 2.0, np.float32))
    for start in sets.sample(10):
        moved = moved_into(sets, conditions, start)
        assert sets.contains(moved).all() and conditions.holds(moved).all()
        assert Fraction(float(moved[0, 0])) + Fraction(float(moved[0, 1])) == 1 and moved[0, 2] == 2 * moved[0, 0]


def test_equations_that_contradict_each_other_have_no_solution():
    rows = np.array([[1.0, 1.0], [1.0, 1.0]])
    conditions = Conditions(np.concatenate([rows, -rows])[None], np.array([[-1.0, -1.5, 1.0, 1.5]]))
    sets = Box(np.zeros((1, 2)), np.ones((1, 2)))
    assert solved_exactly(sets, conditions, np.array([0.5, 0.5])) is None


def test_a_doubt_of_floats_is_settled_exactly():
    """The exact sum of the floats 0.1, 0.2 and -0.3 is positive by 3e-17: it is met, and its opposite is not. A strict
    condition is broken on its edge, and any other is met there."""
    rows = np.array([[[1.0, 1.0, -1.0], [-1.0, -1.0, 1.0]]])
    tenths = np.array([[0.1, 0.2, 0.3]])
    exact = Fraction(0.1) + Fraction(0.2) - Fraction(0.3)
    assert exact > 0
    assert Conditions(rows[:, :1], np.zeros((1, 1))).holds(tenths).all()
    assert not Conditions(rows[:, 1:], np.zeros((1, 1))).holds(tenths).any()
    edge = Conditions(np.array([[[1.0, -1.0]]]), np.zeros((1, 1)))
    assert edge.holds(np.array([[0.7, 0.7]])).all()
    strict = Conditions(edge.rows, edge.offsets, np.ones((1, 1), bool))
    assert not strict.holds(np.array([[0.7, 0.7]])).any()


def test_fixed_numbers_stay(rng):
    sets = Box(np.array([[0.5, 0.0]], np.float32), np.array([[0.5, 1.0]], np.float32))
    conditions = Conditions(np.array([[[-1.0, 1.0], [1.0, -1.0]]]), np.zeros((1, 2)))
    moved = moved_into(sets, conditions, np.array([[0.5, 0.9]], np.float32))
    np.testing.assert_array_equal(moved, [[0.5, 0.5]])


@pytest.mark.parametrize("kind", KINDS)
def test_narrower_boxes_keep_every_point_that_meets_the_conditions(kind, rng):
    """Random conditions of three numbers: no sample that meets them is cut off, and most boxes get narrower."""
    x = rng.normal(size=(40, 3)).astype(np.float32)
    sets = around(kind, x, 1.0)
    rows = rng.normal(size=(40, 2, 3)) * (rng.random((40, 2, 3)) < 0.7)
    conditions = Conditions(rows, -np.einsum("bcn,bn->bc", rows, x) + rng.normal(size=(40, 2)))
    small = narrowed(sets, conditions)
    for z in sets.sample(200):
        met = conditions.holds(z)
        inside = ((z >= small.lower) & (z <= small.upper)).all(axis=1)
        assert inside[met].all()
    assert (small.lower >= sets.lower).all() and (small.upper <= sets.upper).all()
    if kind in ("box", "linf"):
        assert ((small.upper - small.lower).sum(axis=1) < (sets.upper - sets.lower).sum(axis=1)).mean() > 0.5


def test_a_box_is_narrowed_to_the_last_number_and_an_empty_one_is_left():
    """``z0 >= z1 + 0.5``, ``z1 >= 0.25`` leave ``z0`` above 0.75; opposite ones that leave nothing change nothing."""
    sets = Box(np.zeros((2, 2), np.float32), np.ones((2, 2), np.float32))
    rows = np.array([[[1.0, -1.0], [0.0, 1.0]], [[1.0, 0.0], [-1.0, 0.0]]])
    small = narrowed(sets, Conditions(rows, np.array([[-0.5, -0.25], [-0.75, 0.5]])))
    np.testing.assert_allclose(small.lower[0], [0.75, 0.25], atol=1e-6)
    np.testing.assert_allclose(small.upper[0], [1.0, 0.5], atol=1e-6)
    assert (small.lower[0] <= [0.75, 0.25]).all() and (small.upper[0] >= [1.0, 0.5]).all()
    np.testing.assert_array_equal(small.lower[1], [0, 0])
    np.testing.assert_array_equal(small.upper[1], [1, 1])
