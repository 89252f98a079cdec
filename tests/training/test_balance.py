"""AdvIBP: two losses, and how much each counts, by moving averages of their gradients."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfcert.objectives import IBP, AdvIBP, IntervalWidth
from tfcert.training.balance import GradientBalance
from tfcert.training.step import Labelled
from training.small import certified, dense_net, robust_step

pytestmark = pytest.mark.usefixtures("eager")
EPS, CLIP = 0.05, (0, 1)


def expected(gradients: list[tuple[np.ndarray, np.ndarray]], decay: float) -> tuple[float, float]:
    """The coefficients after these pairs of gradients, in float64, as the paper's algorithm has them."""
    moments, norms = np.zeros((2, len(gradients[0][0]))), np.zeros(2)
    for pair in gradients:
        moments = decay * moments + (1 - decay) * np.array(pair, np.float64)
        norms = decay * norms + (1 - decay) * np.array([np.linalg.norm(g) for g in pair])
    moments, norms = (part / (1 - decay ** len(gradients)) for part in (moments, norms))
    dot = moments[0] @ moments[1]
    if dot <= 0:
        return 1.0, -dot / norms[1] ** 2
    between = moments[0] / norms[0] + moments[1] / norms[1]
    length = (norms.sum() + dot / norms[0] + dot / norms[1]) / (2 * between @ between)
    return length / norms[0], length / norms[1]


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_coefficients_are_those_of_averages_over_the_steps(sign):
    generator = np.random.default_rng(0)
    common, found = generator.normal(size=7), GradientBalance(7, decay=0.8)
    pairs = []
    for _ in range(4):
        pairs.append((common + 0.3 * generator.normal(size=7), 3 * sign * common + generator.normal(size=7)))
        parts = ([tf.constant(g[:4].reshape(2, 2), tf.float32), tf.constant(g[4:], tf.float32)] for g in pairs[-1])
        assert np.allclose(found.coefficients(*parts), expected(pairs, 0.8), rtol=1e-4)


def test_gradients_in_conflict_leave_a_step_that_does_not_raise_the_second_loss_and_a_lost_one_has_no_say():
    first, second = np.array([1.0, 2.0]), np.array([-1.0, 0.0])
    one, two = GradientBalance(2).coefficients([tf.constant(first, tf.float32)], [tf.constant(second, tf.float32)])
    step = float(one) * first + float(two) * second
    assert step @ second == pytest.approx(0, abs=1e-6) and step @ first > 0
    zero = tf.zeros(2)
    assert np.allclose(GradientBalance(2).coefficients([tf.constant(first, tf.float32)], [zero]), [1, 0])
    assert np.isfinite(GradientBalance(2).coefficients([zero], [zero])).all()


def test_a_step_has_the_gradient_of_both_losses_weighed_and_of_the_rest(data):
    model, (x, y) = dense_net(), data
    objective = AdvIBP(EPS, kappa=0.25, clip=CLIP, regularizers=[IntervalWidth(0.5)])
    wrapped = certified(model, objective)
    labelled = Labelled(tf.constant(x), tf.constant(y), None)
    with tf.GradientTape(persistent=True) as tape:
        batch = wrapped._stepper._batch(labelled, tf.constant(EPS), tf.constant(0, tf.int64))
        first, second = objective.parts(batch)
        rest = 0.25 * batch.classify(model(x)) + objective.terms[0](batch)
    weights = wrapped.trainable_weights
    pair = [[g.numpy() for g in tape.gradient(part, weights)] for part in (first, second)]
    flat = [np.concatenate([g.ravel() for g in gradients]) for gradients in pair]
    one, two = expected([tuple(flat)], 0.9)
    found = robust_step(wrapped, x, y)
    assert float(found.loss) == pytest.approx(float(rest + 0.75 * (first + second)), rel=1e-5)
    for other, a, b, got in zip(tape.gradient(rest, weights), *pair, found.gradients, strict=True):
        np.testing.assert_allclose(got, other + 0.75 * (one * a + two * b), rtol=1e-3, atol=1e-6)


def test_the_averages_are_saved_with_the_weights_so_that_a_training_goes_on_with_them(data, tmp_path):
    model, (x, y) = dense_net(), data
    wrapped = certified(model, AdvIBP(EPS, clip=CLIP))
    wrapped.fit(x, y, epochs=2, batch_size=8, verbose=0)
    assert float(wrapped.balance.seen) > 1 and np.abs(wrapped.balance.moments).max() > 0
    wrapped.save_weights(tmp_path / "w.weights.h5")
    other = certified(keras.models.clone_model(model), AdvIBP(EPS, clip=CLIP))
    other.load_weights(tmp_path / "w.weights.h5")
    np.testing.assert_array_equal(other.balance.moments, wrapped.balance.moments)
    assert float(other.balance.seen) == float(wrapped.balance.seen)
    assert certified(model, IBP(EPS)).balance is None
    assert len(wrapped.trainable_weights) == len(model.trainable_weights)
