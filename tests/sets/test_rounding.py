"""Rounding, both ways: outward it holds what was meant, inward it is held by it, and both are tight."""

import math
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfcert.sets.rounding import enclosed, enclosing, float_down, float_up, inward, outward

NUMBERS = st.floats(-1e6, 1e6, width=32)
RADII = st.fractions(0, 10**6)


@given(st.fractions())
def test_rounding_is_outward_and_tight(number):
    low, high = float_down(number), float_up(number)
    assert Fraction(low) <= number <= Fraction(high)
    assert high == low or high == math.nextafter(low, math.inf)


def test_rounding_beyond_float64_stays_on_its_side():
    huge = Fraction(10) ** 400
    assert float_down(huge) == sys.float_info.max and float_up(huge) == math.inf
    assert float_down(-huge) == -math.inf and float_up(-huge) == -sys.float_info.max


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(center=NUMBERS, eps=RADII)
def test_boxes_around_a_centre_hold_the_exact_one_or_are_held_by_it(dtype, center, eps):
    """In exact arithmetic, in the type that the network takes; and the inner box never loses the centre."""
    point, exact = np.array([center], dtype), Fraction(float(dtype(center)))
    low, high = enclosing(*outward(point, np.array([float_up(eps)])), dtype)
    assert Fraction(float(low[0])) <= exact - eps and exact + eps <= Fraction(float(high[0]))
    inner = enclosed(*inward(point, np.array([float_down(eps)])), dtype)
    assert exact - eps <= Fraction(float(inner[0][0])) <= exact <= Fraction(float(inner[1][0])) <= exact + eps
    if not eps:
        assert low[0] == high[0] == point[0]
