"""The objective of Lee et al. 2021: sound margins, by slopes that lower the loss."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfcert.objectives import CrownIBP, LossLandscapeMatters
from tfcert.training.landscape import _Hinges
from tfcert.training.step import Labelled
from training.small import certified, robust_step

pytestmark = pytest.mark.usefixtures("eager")
EPS = 0.3


@pytest.fixture(scope="module")
def deep():
    keras.utils.set_random_seed(2)
    layers = [keras.layers.Dense(12, activation="relu"), keras.layers.Dense(12, activation="relu")]
    return keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(3)])


def batch_of(model, objective, x, y, step=0):
    wrapped = certified(model, objective)
    labelled = Labelled(tf.constant(x), tf.constant(y), None)
    return wrapped._stepper._batch(labelled, tf.constant(EPS), tf.constant(step, tf.int64))


def test_margins_of_any_slopes_are_bounds_and_crown_s_slopes_give_crown_s(deep, data):
    x, y = data
    batch = batch_of(deep, LossLandscapeMatters(EPS), x, y)
    hinges = _Hinges(batch)
    generator = np.random.default_rng(0)
    points = x[:, None] + generator.uniform(-EPS, EPS, (len(x), 400, 4)).astype(np.float32)
    logits = deep.predict(points.reshape(-1, 4), verbose=0).reshape(len(x), 400, 3)
    least = (np.take_along_axis(logits, y[:, None, None], axis=2) - logits).min(axis=1)
    for places in ([tf.zeros_like(p) for p in hinges.drawn(0)], hinges.drawn(0), hinges.drawn(1)):
        assert (hinges.margins(places).numpy() <= least + 1e-5).all()
    crown = []
    for index, (lower, upper) in hinges.slopes.items():
        slope = hinges.relaxed.lines[index].lower_slope
        crown.append(tf.math.divide_no_nan(slope - lower, upper - lower))
    np.testing.assert_allclose(hinges.margins(crown), batch.line_margins(), rtol=1e-5, atol=1e-5)


def test_the_slopes_that_are_taken_lower_the_loss_beside_those_that_were_drawn_and_crown_s(deep, data):
    x, y = data
    objective = LossLandscapeMatters(EPS)
    batch = batch_of(deep, objective, x, y)
    hinges = _Hinges(batch)
    drawn = float(batch.classify(-hinges.margins(hinges.drawn(0))))
    found = float(objective.robust(batch))
    assert found < drawn and found < float(CrownIBP(EPS, fuse=False).robust(batch))
    assert float(robust_step(certified(deep, objective), x, y).loss) > 0


def test_draws_follow_from_the_seed_and_the_step(deep, data):
    def draws(seed, step):
        return _Hinges(batch_of(deep, LossLandscapeMatters(EPS), *data, step)).drawn(seed)[0].numpy()

    np.testing.assert_array_equal(draws(3, 5), draws(3, 5))
    assert (draws(3, 5) != draws(3, 6)).any() and (draws(3, 5) != draws(4, 5)).any()


def test_it_trains_and_no_gradient_is_lost(deep, data):
    wrapped = certified(keras.models.clone_model(deep), LossLandscapeMatters(0.05))
    losses = wrapped.fit(*data, epochs=4, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    gradients = robust_step(wrapped, *data).gradients
    assert all(np.isfinite(g).all() and np.abs(g).max() > 0 for g in gradients)
