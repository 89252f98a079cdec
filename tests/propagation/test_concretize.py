"""The least value of a linear function over a ball cut by a box, against an exact solver."""

import numpy as np
import pytest
import tensorflow as tf

from tfcert.propagation.coefficients import Coefficients
from tfcert.propagation.concretize import least
from tfcert.propagation.kernels import fused_kernels
from tfcert.sets.balls import LpBall
from tfcert.sets.region import region_of


def exact_l1(a: np.ndarray, down: np.ndarray, up: np.ndarray, eps: float) -> float:
    """Spend eps on the entries with the largest ``|a|`` first: a fractional knapsack."""
    reach = np.where(a > 0, -down, up)
    value, left = 0.0, eps
    for i in np.argsort(-np.abs(a)):
        moved = min(left, reach[i])
        value, left = value - abs(a[i]) * moved, left - moved
    return value


def exact_l2(a: np.ndarray, down: np.ndarray, up: np.ndarray, eps: float) -> float:
    """``z = clip(-t a)`` with the largest t for which ``|z| <= eps``: the breakpoints of t are sorted, and between two
    of them ``|z|^2`` is a quadratic in t."""
    ends = np.where(a > 0, down, up)
    moving = a != 0
    if np.sum(ends[moving] ** 2) <= eps**2:
        return float(np.sum(a[moving] * ends[moving]))
    times = np.full(len(a), np.inf)
    times[moving] = np.abs(ends[moving] / a[moving])
    order = np.argsort(times)
    # Summed from the small entries up: taking large squares off a sum would lose the small ones.
    still_free = np.append(np.cumsum((a[order] ** 2)[::-1])[::-1], 0.0)
    fixed, free = 0.0, 0.0
    for place, i in enumerate(order):
        free = float(still_free[place])
        if fixed + times[i] ** 2 * free >= eps**2:
            break
        fixed, free = fixed + ends[i] ** 2, float(still_free[place + 1])
    t = np.sqrt(max(eps**2 - fixed, 0) / max(free, 1e-300))
    return float(np.sum(a * np.clip(-t * a, down, up)))


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_the_least_value_over_ball_and_box_is_exact_to_1e_6_and_never_above(norm):
    rng = np.random.default_rng(3)
    exact = {"l1": exact_l1, "l2": exact_l2}[norm]
    for size in (1, 2, 7, 60):
        x = np.clip(rng.uniform(-0.3, 1.3, (5, size)), 0, 1)
        for eps in (1e-6, 0.01, 0.3, 1.0, 3.0, 0.9 * size, 50.0):
            rows = rng.normal(size=(5, 1, 4, size)) * 10.0 ** rng.integers(-3, 3, size=(5, 1, 4, 1))
            rows[:, :, 1] *= rng.random(size) < 0.5
            rows[:, :, 2] = np.sign(rows[:, :, 2])  # ties
            rows[:, :, 3] *= 10.0 ** rng.integers(-4, 4, size=size)  # entries of very different size
            found = least(Coefficients(tf.constant(rows), (size,)), region_of(LpBall(x, eps, norm, (0, 1)))).numpy()
            for sample, row in np.ndindex(5, 4):
                a, down, up = rows[sample, 0, row], -x[sample], 1 - x[sample]
                move = exact(a, down, up, eps)
                got = found[sample, 0, row] - a @ x[sample]
                noise = 1e-13 * (np.abs(a).sum() + 1)
                assert got <= move + noise
                assert got >= move - 1e-6 * abs(move) - noise, (size, eps, row)


@pytest.mark.parametrize(("norm", "order"), [("linf", 1), ("l2", 2), ("l1", np.inf)])
def test_a_ball_costs_eps_times_the_dual_norm(norm, order):
    rng = np.random.default_rng(4)
    x, rows = rng.normal(size=(3, 5)), rng.normal(size=(3, 1, 2, 5))
    eps = [0.1, 2.0, 0.0]
    found = least(Coefficients(tf.constant(rows), (5,)), region_of(LpBall(x, eps, norm))).numpy()[:, 0]
    expected = np.einsum("srn,sn->sr", rows[:, 0], x) - np.array(eps)[:, None] * np.linalg.norm(
        rows[:, 0], order, axis=2
    )
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_a_zero_row_and_a_zero_radius_cost_nothing_and_have_finite_gradients(norm):
    x = np.full((2, 3), 0.5, np.float32)
    rows = tf.Variable(np.zeros((2, 1, 2, 3), np.float32))
    rows[:, :, 1].assign(tf.ones([2, 1, 3]))
    for clip in (None, (0, 1)):
        with tf.GradientTape() as tape:
            value = least(Coefficients(tf.convert_to_tensor(rows), (3,)), region_of(LpBall(x, [0.0, 0.1], norm, clip)))
        assert np.all(value.numpy()[:, 0, 0] == 0)
        assert value.numpy()[0, 0, 1] == pytest.approx(1.5)
        assert np.isfinite(tape.gradient(value, rows).numpy()).all()


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_the_gradient_by_the_row_is_the_point_where_the_least_value_is_taken(norm):
    """alpha-crown ascends on it; of L1 it moves the last coordinate by what is left of eps."""
    x = np.full((1, 3), 0.5)
    row = tf.Variable([[[[3.0, -2.0, 1.0]]]], dtype=tf.float64)
    with tf.GradientTape() as tape:
        value = least(Coefficients(tf.convert_to_tensor(row), (3,)), region_of(LpBall(x, 0.7, norm, (0, 1))))
    # L1: 0.5 along the first, the other 0.2 along the second. L2: 0.5 along the first, the rest in proportion.
    rest = np.sqrt((0.49 - 0.25) / 5)
    moved = [-0.5, 0.2, 0.0] if norm == "l1" else [-0.5, 2 * rest, -rest]
    np.testing.assert_allclose(tape.gradient(value, row).numpy()[0, 0, 0] - 0.5, moved, atol=1e-9)


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_a_compiled_kernel_finds_the_same_over_ball_and_box(norm):
    """It adds up otherwise than what runs op by op."""
    rng = np.random.default_rng(5)
    region = region_of(LpBall(rng.random((2, 100)), [0.2, 1.5], norm, (0, 1)))
    rows = Coefficients(tf.constant(rng.normal(size=(2, 1, 400, 100))), (100,))

    def compiled() -> tf.Tensor:
        with fused_kernels(True):
            return least(rows, region)

    np.testing.assert_allclose(tf.function(compiled)().numpy(), least(rows, region).numpy(), rtol=1e-6, atol=1e-12)
