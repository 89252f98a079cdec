"""Perturbation sets: exact membership, hulls rounded outward, projections rounded inward."""

from fractions import Fraction

import numpy as np
import pytest

from tfcert.sets.balls import Box, LpBall
from tfcert.sets.region import region_of
from tfcert.sets.rounding import round_down, round_up

NORMS = ("linf", "l2", "l1")
CLIPS = (None, (0.0, 1.0))


def centres(dtype=np.float32, clip=None) -> np.ndarray:
    x = np.random.default_rng(0).uniform(-0.2, 1.2, (4, 3, 2)).astype(dtype)
    return x if clip is None else np.clip(x, *clip)


def distance(z: np.ndarray, x: np.ndarray, norm: str) -> Fraction:
    """The exact distance, squared for L2."""
    steps = [abs(Fraction(float(a)) - Fraction(float(b))) for a, b in zip(z.flat, x.flat, strict=True)]
    return max(steps) if norm == "linf" else sum(s * s for s in steps) if norm == "l2" else sum(steps)


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("eps", [Fraction(1, 10), Fraction(0), Fraction(1, 10**7), Fraction(8, 255), Fraction(10)])
def test_projections_and_samples_lie_in_the_ball_in_exact_arithmetic(norm, clip, dtype, eps):
    ball = LpBall(centres(dtype, clip), eps, norm, clip)
    rng = np.random.default_rng(1)
    points = [*ball.sample(3), ball.project(rng.normal(size=(4, 3, 2)) * 5), ball.center]
    limit = eps * eps if norm == "l2" else eps
    for z in points:
        assert z.dtype == dtype
        assert ball.contains(z).all()
        for i in range(4):
            assert distance(z[i], ball.x[i], norm) <= limit
        assert clip is None or (z.min() >= 0 and z.max() <= 1)
        low, high = ball.interval()
        assert np.all((z >= low) & (z <= high))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_hull_contains_the_exact_ball_and_is_tight_to_two_roundings(norm, dtype):
    eps = Fraction(1, 10)
    ball = LpBall(centres(dtype), eps, norm)
    for x, low, high in zip(ball.x.flat, ball.lower.flat, ball.upper.flat, strict=True):
        centre = Fraction(float(x))
        assert Fraction(float(low)) <= centre - eps and Fraction(float(high)) >= centre + eps
        spacing = 3 * Fraction(float(np.spacing(dtype(2))))
        assert Fraction(float(low)) >= centre - eps - spacing and Fraction(float(high)) <= centre + eps + spacing
    region = region_of(ball)
    assert Fraction(float(region.eps.numpy()[0])) >= eps
    assert region.eps.dtype == dtype


def test_membership_is_exact_at_the_border():
    x = np.zeros((1, 3))
    ball = LpBall(x, Fraction(1, 2), "l1")
    assert ball.contains(np.array([[0.25, -0.25, 0.0]]))[0]
    assert not ball.contains(np.array([[0.25, -0.25, 1e-300]]))[0]
    assert LpBall(x, Fraction(5), "l2").contains(np.array([[3.0, 4.0, 0.0]]))[0]
    assert not LpBall(x, Fraction(5), "l2").contains(np.array([[3.0, 4.0, 1e-100]]))[0]
    tenth = Fraction(1, 10)
    assert float(tenth) > tenth
    assert not LpBall(x, tenth).contains(np.array([[0.1, 0.0, 0.0]]))[0]
    assert LpBall(x, 0.1).contains(np.array([[0.1, 0.0, 0.0]]))[0]


@pytest.mark.parametrize("norm", NORMS)
def test_what_is_not_finite_is_in_no_set(norm):
    for bad in (np.nan, np.inf, -np.inf):
        z = np.zeros((1, 3))
        z[0, 1] = bad
        assert not LpBall(np.zeros((1, 3)), 10.0, norm).contains(z)[0]
        assert not Box(np.zeros((1, 3)), np.ones((1, 3))).contains(z)[0]


def test_a_box_contains_its_ends_and_nothing_beyond():
    low, high = np.zeros((2, 3), np.float32), np.array([[1, 2, 3], [0, 0, 0]], np.float32)
    box = Box(low, high)
    assert box.contains(low).all() and box.contains(high).all()
    beyond = high.copy()
    beyond[1, 0] = np.nextafter(np.float32(0), np.float32(1))
    np.testing.assert_array_equal(box.contains(beyond), [True, False])
    assert box.contains(box.project(beyond)).all()
    assert box.contains(box.center).all()


def test_a_box_in_another_type_contains_the_box():
    low, high = np.full((1, 2), 0.1), np.full((1, 2), 0.7)
    cast = Box(low, high).astype(np.float32)
    assert np.all(cast.lower.astype(float) <= low) and np.all(cast.upper.astype(float) >= high)
    back = Box(np.float32(low), np.float32(high)).astype(np.float64)
    np.testing.assert_array_equal(back.lower, np.float32(low).astype(float))


@pytest.mark.parametrize("norm", NORMS)
def test_taking_samples_keeps_each_with_its_own_eps_and_clip(norm):
    x = centres(np.float64)
    low, high = x - np.arange(4).reshape(-1, 1, 1), x + 0.5
    ball = LpBall(x, [0.1, Fraction(1, 3), 0.0, 2.0], norm, (low, high))
    some = ball.take([3, 1])
    np.testing.assert_array_equal(some.x, x[[3, 1]])
    assert some.exact_eps == [Fraction(2), Fraction(1, 3)]
    np.testing.assert_array_equal(some.lower, ball.lower[[3, 1]])
    np.testing.assert_array_equal(some.upper, ball.upper[[3, 1]])


@pytest.mark.parametrize("eps", [0.25, np.float32(0.25), [0.25, 0.25], np.full(2, 0.25, np.float32), Fraction(1, 4),
                                 [np.float32(0.25), Fraction(1, 4)]])  # fmt: skip
def test_eps_may_be_any_kind_of_number(eps):
    assert LpBall(np.zeros((2, 3)), eps).exact_eps == [Fraction(1, 4)] * 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"eps": -1e-9}, "eps"),
        ({"eps": np.nan}, "eps"),
        ({"eps": np.inf}, "eps"),
        ({"eps": [0.1]}, "eps"),
        ({"norm": "l0"}, "norm"),
        ({"x": np.full((2, 3), np.nan)}, "centre"),
        ({"x": np.zeros(3)}, r"x\[None\]"),
        ({"clip": (0.1, 1)}, "clip"),
        ({"clip": (np.nan, 1)}, "clip"),
        ({"clip": (0, np.nan)}, "clip"),
    ],
)
def test_a_ball_that_makes_no_sense_is_an_error(arguments, message):
    with pytest.raises(ValueError, match=message):
        LpBall(**{"x": np.zeros((2, 3)), "eps": 0.1, **arguments})


@pytest.mark.parametrize(
    ("lower", "upper"), [(1.0, 0.0), (np.nan, 0.0), (0.0, np.nan), (-np.inf, 0.0), (np.zeros((2, 4)), 1.0)]
)
def test_a_box_that_makes_no_sense_is_an_error(lower, upper):
    lower, upper = (end if np.ndim(end) else np.full((2, 3), end) for end in (lower, upper))
    with pytest.raises(ValueError):
        Box(lower, upper)


def test_rounding_is_to_the_nearest_number_on_that_side():
    x = np.array([0.1, 1.0, -0.1, 1e-50, -1e-50, 1 + 1e-12])
    down, up = round_down(x, np.float32), round_up(x, np.float32)
    assert np.all(down <= x) and np.all(up >= x)
    exact = np.float32(x).astype(float) == x
    np.testing.assert_array_equal(
        np.nextafter(down, np.float32(np.inf)), np.where(exact, np.nextafter(up, np.float32(9)), up)
    )


@pytest.mark.parametrize("clip", [None, (0, 1), (np.zeros(3), np.ones((1, 3))), (np.zeros((4, 3)), np.ones((4, 1)))])
@pytest.mark.parametrize("index", [slice(1, 3), [2, 0, 0], np.array([False, True, False, True])])
def test_some_of_the_sets_are_the_sets_of_some(clip, index):
    x, eps = np.random.default_rng(0).random((4, 3)).astype(np.float32), ["1/10", "1/7", 0, "2"]
    chosen = np.arange(4)[index].astype(int)
    ends = clip and tuple(np.broadcast_to(end, x.shape)[chosen] for end in clip)
    ball, part = LpBall(x, eps, "l2", clip).take(index), LpBall(x[chosen], [eps[i] for i in chosen], "l2", ends)
    assert ball.exact_eps == part.exact_eps
    boxes = Box(x, x + 1).take(index), Box(x[chosen], x[chosen] + 1)
    for one, other in ((ball, part), boxes):
        for array, expected in zip(region_of(one)[2:], region_of(other)[2:], strict=True):
            np.testing.assert_array_equal(array, expected)
        np.testing.assert_array_equal(one.contains(one.center + 0.1), other.contains(other.center + 0.1))


@pytest.mark.parametrize("eps", ["1/7", 0, [0.1, "1/3"]])
@pytest.mark.parametrize("norm", ["linf", "l1"])
def test_a_resized_ball_is_one_that_was_made_so(norm, eps):
    x = np.array([[0.25, 0.5], [0.9, 0.1]], np.float32)
    ball, other = LpBall(x, 2, norm, (0, 1)).resized(eps), LpBall(x, eps, norm, (0, 1))
    assert ball.exact_eps == other.exact_eps
    for array, expected in zip(region_of(ball)[2:], region_of(other)[2:], strict=True):
        np.testing.assert_array_equal(array, expected)
    with pytest.raises(ValueError, match="not negative"):
        ball.resized(-1)
