"""Attacks: what they find is real, and on a linear model they find the closed-form optimum."""

import itertools
import math
from fractions import Fraction

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfcert.attacks import AttackOptions, attack, falsify, geometry, replay
from tfcert.attacks.points import best_points
from tfcert.clauses import Clause, Clauses, keeps_label
from tfcert.sets.balls import Box, LpBall
from tfcert.sets.region import region_of
from tfcert.verdict import Guarantee

NORMS = ("linf", "l2", "l1")
RNG = np.random.default_rng(5)


def small_network(seed: int = 0, head: str | None = None) -> keras.Model:
    keras.utils.set_random_seed(seed)
    layers = [
        keras.Input((4, 4, 1)),
        keras.layers.Conv2D(4, 3, activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(8, activation="relu"),
        keras.layers.Dense(3, activation=head),
    ]
    return keras.Sequential(layers)


def samples(model: keras.Model, count: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """Inputs in [0, 1], some entries at its very ends, with the model's own answers as labels."""
    x = np.clip(np.random.default_rng(1).uniform(-0.2, 1.2, (count, 4, 4, 1)), 0, 1).astype(np.float32)
    return x, np.argmax(model(x), axis=1)


def linear(weights: np.ndarray, bias: np.ndarray):
    return lambda x: tf.linalg.matmul(x, tf.constant(weights, x.dtype)) + tf.constant(bias, x.dtype)


def exact_distance(z: np.ndarray, x: np.ndarray, norm: str) -> Fraction:
    """The distance, squared for L2."""
    steps = [abs(Fraction(float(a)) - Fraction(float(b))) for a, b in zip(z.flat, x.flat, strict=True)]
    return max(steps) if norm == "linf" else sum(steps) if norm == "l1" else sum(s * s for s in steps)


@pytest.mark.parametrize("clip", [None, (0.0, 1.0)])
@pytest.mark.parametrize(("norm", "eps"), [("linf", Fraction(1, 10)), ("l2", Fraction(2, 5)), ("l1", Fraction(3, 5))])
def test_witnesses_lie_in_the_region_in_exact_arithmetic_and_fool_the_model(norm, eps, clip):
    model = small_network()
    x, y = samples(model)
    found = attack(model, x, y, eps=eps, norm=norm, clip=clip)
    assert 3 <= found.success.sum() < len(x)
    for i in np.flatnonzero(found.success):
        assert exact_distance(found.witness[i], x[i], norm) <= (eps * eps if norm == "l2" else eps)
        assert clip is None or (found.witness[i].min() >= 0 and found.witness[i].max() <= 1)
    wrong = np.argmax(model(found.witness[found.success]), axis=1) != y[found.success]
    assert wrong.all()
    assert found.witness.dtype == np.float32
    assert np.isnan(found.witness[~found.success]).all() and np.isnan(found.distance[~found.success]).all()
    assert (found.distance[found.success] <= float(eps)).all()


@pytest.mark.parametrize("method", ["fgsm", "pgd"])
@pytest.mark.parametrize("norm", NORMS)
def test_on_a_linear_model_attacks_reach_the_dual_norm(norm, method):
    """Two classes, ``f_0 - f_1 = w x + b``: the margin's minimum over the ball is ``w x + b - eps |w|_dual``."""
    w, b, x = RNG.normal(size=6), 0.3, RNG.normal(size=(20, 6))
    model = linear(np.stack([w, np.zeros(6)], axis=1), np.array([b, 0.0]))
    dual = {"linf": np.abs(w).sum(), "l2": np.linalg.norm(w), "l1": np.abs(w).max()}[norm]
    value = x @ w + b
    y, critical = np.where(value > 0, 0, 1), np.abs(value) / dual
    assert not attack(model, x, y, eps=critical * (1 - 1e-6), norm=norm, method=method).success.any()
    found = attack(model, x, y, eps=critical * (1 + 1e-6), norm=norm, method=method)
    assert found.success.all()
    np.testing.assert_allclose(found.distance, critical, rtol=1e-5)


def clipped_optimum(w: np.ndarray, x: np.ndarray, eps: float, norm: str) -> float:
    """The least of ``w u`` over the ball cut by [0, 1], by sorting (L1) or a scan of the scale (L2)."""
    room = np.where(w > 0, x, 1 - x)
    if norm == "linf":
        return float(w @ x - np.abs(w) @ np.minimum(room, eps))
    if norm == "l1":
        left, gain = eps, 0.0
        for i in np.argsort(-np.abs(w)):
            step = min(room[i], left)
            left, gain = left - step, gain + abs(w[i]) * step
        return float(w @ x - gain)
    steps = (np.minimum(room, np.abs(w) * s) for s in np.geomspace(1e-3, 1e3, 200_001))
    return float(w @ x - max(np.abs(w) @ step for step in steps if np.linalg.norm(step) <= eps))


@pytest.mark.parametrize("restarts", [1, 2])
@pytest.mark.parametrize("norm", NORMS)
def test_on_a_linear_model_attacks_reach_the_optimum_of_the_clipped_ball(norm, restarts):
    w = np.array([3.0, -2.0, 1.0, 0.5, -0.1])
    x = np.array([[0.1, 0.95, 0.5, 1.0, 0.0]])
    eps = 0.6
    optimum = clipped_optimum(w, x[0], eps, norm)
    clear = {"restarts": restarts, "norm": norm, "clip": (0, 1), "eps": eps}
    for gap, expected in ((1e-4, False), (-1e-4, True)):
        model = linear(np.stack([w, np.zeros(5)], axis=1), np.array([-optimum + gap, 0.0]))
        assert attack(model, x, np.array([0]), **clear).success[0] == expected


@pytest.mark.parametrize("norm", NORMS)
def test_steps_alone_reach_the_clipped_optimum_from_a_random_start(norm):
    """Without the first jump: what ``ascend`` does repeatedly, on a linear function."""
    w = np.array([[3.0, -2.0, 1.0, 0.5, -0.1]])
    ball = LpBall(np.array([[0.1, 0.95, 0.5, 0.9, 0.2]]), 0.6, norm, (0, 1))
    region = region_of(ball)
    step = tf.function(lambda z, i: geometry.ascend(region, z, tf.constant(-w), 0.3 * (1 - i), i))
    z = geometry.random_point(region, tf.constant([3, 4]))
    for i in range(300):
        z = step(z, tf.constant(i / 300, z.dtype))
    reached = float(np.sum(w * ball.project(z.numpy())))
    assert reached == pytest.approx(clipped_optimum(w[0], ball.x[0], 0.6, norm), abs=2e-3)


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_projection_is_the_nearest_point_of_the_clipped_ball(norm):
    center, z = RNG.uniform(0, 1, (8, 5)), RNG.normal(0.5, 2, (8, 5))
    ball = LpBall(center, 0.4, norm, (0, 1))
    nearest = geometry.project(region_of(ball), tf.constant(z)).numpy()
    others = ball.sample(2000, seed=2)
    assert (np.linalg.norm(nearest - center, 1 if norm == "l1" else 2, axis=1) <= 0.4 * (1 + 1e-6)).all()
    assert (np.linalg.norm(nearest - z, axis=1) <= np.linalg.norm(others - z, axis=2).min(axis=0) + 1e-9).all()


def flat_around_zero(x):
    """No gradient at the origin: only a random start finds where the second class wins."""
    second = 10 * tf.nn.relu(tf.reduce_sum(x, axis=1) - 0.5)
    return tf.stack([tf.ones_like(second), second], axis=1)


def test_random_starts_escape_a_plateau():
    x, y = np.zeros((20, 6), np.float32), np.zeros(20, int)
    assert not attack(flat_around_zero, x, y, eps=0.5, restarts=1, points=0).success.any()
    assert attack(flat_around_zero, x, y, eps=0.5, restarts=8).success.sum() > 10


def test_the_same_seed_gives_the_same_witnesses_and_another_seed_others():
    model, x, y = flat_around_zero, np.zeros((20, 6), np.float32), np.zeros(20, int)
    options = {"eps": 0.5, "restarts": 3, "steps": 3, "points": 0}
    first, second = (attack(model, x, y, seed=7, **options) for _ in range(2))
    np.testing.assert_array_equal(first.witness, second.witness)
    third = attack(model, x, y, seed=8, **options)
    assert first.success.any() and not np.array_equal(first.witness, third.witness, equal_nan=True)


def test_restarts_never_lose_a_witness_and_steps_beat_fgsm_on_a_curved_margin():
    model = small_network(3)
    x, y = samples(model, 64)
    one, many = (attack(model, x, y, eps=0.08, restarts=n).success for n in (1, 6))
    assert (many >= one).all()
    fgsm = attack(model, x, y, eps=0.08, method="fgsm").success
    assert (one >= fgsm).all()


def test_a_misclassified_clean_input_is_its_own_witness_at_distance_zero():
    model = small_network()
    x, y = samples(model)
    found = attack(model, x, (y + 1) % 3, eps=1e-6, norm="l2")
    assert found.success.all()
    np.testing.assert_array_equal(found.witness, x)
    np.testing.assert_array_equal(found.distance, 0)


def test_a_targeted_attack_reaches_its_target_and_not_just_any_class():
    model = small_network()
    x, y = samples(model)
    targets = (y + 1) % 3
    found = attack(model, x, y, eps=0.3, targets=targets)
    assert found.success.any()
    reached = np.argmax(model(found.witness[found.success]), axis=1)
    np.testing.assert_array_equal(reached, targets[found.success])
    assert (attack(model, x, y, eps=0.3).success >= found.success).all()


def test_a_target_that_is_the_label_is_refused():
    model = small_network()
    x, y = samples(model)
    with pytest.raises(ValueError, match="sample 2 is its own label"):
        attack(model, x, y, eps=0.1, targets=np.where(np.arange(len(y)) == 2, y, (y + 1) % 3))


def test_a_tie_breaks_the_strict_property_but_does_not_reach_a_target():
    def tied(x):
        return tf.stack([tf.reduce_sum(x, 1), tf.reduce_sum(x, 1)], axis=1)

    x, y = np.ones((1, 2), np.float32), np.array([0])
    assert attack(tied, x, y, eps=0.1).success[0]
    assert not attack(tied, x, y, eps=0.1, targets=np.array([1])).success[0]


class Fickle:
    """Wrong in graphs and in every second eager call: a model that does not repeat itself."""

    def __init__(self):
        self.calls = 0

    def __call__(self, x):
        self.calls += 1
        sign = -1.0 if self.calls % 2 or not tf.executing_eagerly() else 1.0
        ones = tf.ones([tf.shape(x)[0]], x.dtype)
        return tf.stack([sign * ones, 0 * ones], axis=1)


def test_a_model_that_changes_between_calls_is_not_falsified():
    model = Fickle()
    found = attack(model, np.zeros((3, 2), np.float32), np.zeros(3, int), eps=0.1, restarts=2)
    assert model.calls > 2 and not found.success.any()
    assert found.guarantee == [Guarantee.ESTIMATE] * 3


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_outputs_that_are_not_finite_are_no_witness(value):
    def broken(x):
        away = tf.where(tf.reduce_any(x != 0.0, axis=1), tf.constant(value, x.dtype), tf.constant(1.0, x.dtype))
        return tf.stack([away, tf.zeros_like(away)], axis=1)

    found = attack(broken, np.zeros((2, 3), np.float32), np.zeros(2, int), eps=0.5)
    assert not found.success.any()


def test_the_stand_in_only_points_the_way():
    """Gradients of a network that has nothing to do with the model: what counts is the model."""
    model, other = small_network(0), small_network(9)
    x, y = samples(model)
    found = attack(model, x, y, eps=0.2, network=other)
    assert (np.argmax(model(found.witness[found.success]), axis=1) != y[found.success]).all()


def test_a_saturated_softmax_is_attacked_through_its_logits():
    logits, model = small_network(0), small_network(0, head="softmax")
    for layer in (logits.layers[-1], model.layers[-1]):
        layer.set_weights([w * 400 for w in layer.get_weights()])
    x, y = samples(model)
    through = attack(model, x, y, eps=0.1, network=logits)
    assert through.success.sum() >= attack(model, x, y, eps=0.1).success.sum()
    np.testing.assert_array_equal(through.success, attack(logits, x, y, eps=0.1).success)
    assert (np.argmax(model(through.witness[through.success]), axis=1) != y[through.success]).all()


def test_replay_refuses_what_is_one_step_outside_the_region():
    def always_wrong(x):
        zeros = tf.zeros([tf.shape(x)[0]], x.dtype)
        return tf.stack([zeros, zeros + 1], axis=1)

    x = np.full((2, 3), 0.5, np.float32)
    ball = LpBall(x, Fraction(1, 4), "linf")
    witness = np.full((2, 3), 0.75, np.float32)
    witness[1, 0] = np.nextafter(np.float32(0.75), np.float32(1))
    np.testing.assert_array_equal(replay(always_wrong, ball, witness, np.zeros(2, int)), [True, False])
    np.testing.assert_array_equal(replay(always_wrong, ball, witness, np.ones(2, int)), [False, False])
    np.testing.assert_array_equal(replay(always_wrong, ball, np.full((2, 3), np.nan), np.zeros(2, int)), [False, False])


def test_replay_does_not_round_a_float64_witness_into_a_float32_model():
    model = small_network()
    x, y = samples(model, 1)
    ball = LpBall(x, 0.5, "linf")
    wrong = (y + 1) % 3
    assert replay(model, ball, x, wrong)[0]
    assert not replay(model, ball, x.astype(np.float64) + 1e-12, wrong)[0]


def test_a_property_with_disjunctions_is_falsified_only_where_every_row_fails():
    """f(x) = x: the clause ``x0 > 0 or x1 > 0`` fails on the quadrant where both are at most zero."""
    identity = linear(np.eye(2), np.zeros(2))
    clause = Clause(np.eye(2), np.zeros(2))
    single = Clause(np.array([[1.0, 0.0]]), np.array([5.0]))
    clauses = Clauses.stack([[clause, single], [clause]])
    found = falsify(identity, Box(np.array([[-1.0, -1.0], [0.5, -1.0]]), np.array([[2.0, 2.0], [1.0, 1.0]])), clauses)
    np.testing.assert_array_equal(found.success, [True, False])
    assert (found.witness[0] <= 0).all()
    assert found.margin[0] <= 0


def test_eps_may_differ_per_sample_and_batches_do_not_matter():
    model = small_network()
    x, y = samples(model)
    eps = np.where(np.arange(len(x)) % 2, 0.3, 1e-6)
    found = attack(model, x, y, eps=eps, restarts=1)
    assert found.success[1::2].any() and not found.success[::2].any()
    np.testing.assert_array_equal(found.success, attack(model, x, y, eps=eps, restarts=1, batch_size=7).success)


def test_a_float64_model_gets_float64_witnesses():
    model = linear(np.eye(3), np.zeros(3))
    x = np.array([[1.0, 0.9, 0.0]])
    found = attack(model, x, np.array([0]), eps=0.06)
    assert found.success[0] and found.witness.dtype == np.float64


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "nonsense"}, "unknown attack"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"step_size": -1.0}, "step_size must be positive"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        AttackOptions(**options)


@pytest.mark.parametrize("y", [np.array([3]), np.array([-1]), np.array([0.5])])
def test_labels_that_are_no_classes_are_refused(y):
    with pytest.raises(ValueError, match="labels"):
        attack(small_network(), np.zeros((1, 4, 4, 1), np.float32), y, eps=0.1)


def test_a_compiled_attack_finds_the_same_samples():
    model = small_network()
    x, y = samples(model, 8)
    plain, compiled = (attack(model, x, y, eps=0.15, jit=jit).success for jit in (False, True))
    assert plain.any()
    np.testing.assert_array_equal(plain, compiled)


def bump(inside: np.ndarray, width: float):
    """Flat but for a pyramid of half-width ``width`` around ``inside``, the only place where class 1 wins: gradients
    are zero everywhere else."""

    def model(x: tf.Tensor) -> tf.Tensor:
        away = tf.reduce_max(tf.abs(x - tf.constant(inside, x.dtype)), axis=1, keepdims=True)
        return tf.concat([tf.fill(tf.shape(away), tf.constant(0.5, x.dtype)), tf.nn.relu(1 - away / width)], axis=1)

    return model


def test_points_find_what_covers_a_hundredth_of_a_box_where_gradients_are_zero():
    """The place where class 1 wins is a cube of side 0.12, 1.44% of the square; starts from 3 points miss it."""
    box, clauses = Box(np.zeros((1, 2)), np.ones((1, 2))), keeps_label(np.array([0]), 2)
    model = bump(np.array([0.83, 0.27]), 0.12)
    assert not falsify(model, box, clauses, points=0).success.any()
    for method in ("pgd", "fgsm"):
        found = falsify(model, box, clauses, method=method)
        assert found.success.all() and np.abs(found.witness - [0.83, 0.27]).max() < 0.06
    again = falsify(model, box, clauses, method=method)
    np.testing.assert_array_equal(found.witness, again.witness)


@pytest.mark.parametrize(
    ("norm", "place"),
    [
        ("linf", [0.0, 1.0, 0.0, 1.0]),
        ("l1", [0.5, 0.5, 1.0, 0.5]),
        ("l2", [0.5, 0.5, 0.5, 0.0]),
        ("l2", [0.8, 0.5, 0.9, 0.5]),
    ],
)
def test_points_go_to_corners_and_axes_and_spheres(norm, place):
    """Clipped L-inf balls have the range's corners, L1 and L2 balls their points on the axes, L2 its sphere."""
    x = np.full((2, 4), 0.5)
    found = attack(bump(np.array(place), 0.3), x, np.zeros(2, int), eps=0.6, norm=norm, clip=(0, 1))
    assert found.success.all() and (found.distance <= 0.6).all()


def test_points_are_taken_in_parts_that_do_not_matter(monkeypatch):
    box, clauses = Box(np.zeros((3, 2)), np.ones((3, 2))), keeps_label(np.zeros(3, int), 2)
    whole = best_points(bump(np.array([0.83, 0.27]), 0.12), box, clauses, (64, 1)).points
    monkeypatch.setattr("tfcert.attacks.points._AT_ONCE", 1)
    np.testing.assert_array_equal(best_points(bump(np.array([0.83, 0.27]), 0.12), box, clauses, (64, 1)).points, whole)


def ticking(seconds: float):
    """A clock that falls by one second whenever it is looked at."""
    looks = itertools.count()
    return lambda: seconds - next(looks)


def test_steps_taken_in_runs_come_to_the_same_as_all_at_once():
    """A clock that is looked at decides when steps stop, and nothing about them."""
    model = small_network()
    x, y = samples(model, 8)
    ball, clauses = LpBall(x, 0.15), keeps_label(y, 3)
    whole, parts = (falsify(model, ball, clauses, left=left, steps=7) for left in (lambda: math.inf, ticking(500)))
    assert whole.success.any() and not whole.success.all() and not whole.late and not parts.late
    np.testing.assert_array_equal(whole.witness, parts.witness)
    np.testing.assert_array_equal(whole.gradients, parts.gradients)
    assert set(whole.gradients) > {3 * (2 + 7)}


def test_an_attack_stops_between_steps_when_its_time_is_up():
    model = small_network()
    x, y = samples(model, 8)
    for seconds, some in ((0, False), (9, True)):
        attacks = falsify(model, LpBall(x, 1e-3), keeps_label(y, 3), left=ticking(seconds), steps=50)
        assert attacks.late and not attacks.success.any()
        assert ((attacks.gradients > 0) == some).all() and attacks.gradients.max() < 2 + 50
