"""From an objective's template to Keras: rates, schedules, initial weights."""

from __future__ import annotations

from fractions import Fraction

import keras
import numpy as np
import pytest

from tfcert.driver.train.build import draw_afresh, learning_rate, optimizer
from tfcert.language import CosineRate, LearningRate, Named


@pytest.mark.parametrize(("unit", "at"), [("epochs", (2, 3)), ("steps", (10, 15))])
def test_the_learning_rate_falls_with_the_first_step_after_the_moment(unit, at):
    rate = learning_rate(LearningRate(Fraction(1), Fraction(1, 4), at, unit), steps_per_epoch=5, epochs=4)
    assert [float(rate(step)) for step in (0, 9, 10, 14, 15, 99)] == [1, 1, 0.25, 0.25, 0.0625, 0.0625]
    assert learning_rate(LearningRate(Fraction(1, 8)), 5, 4) == 0.125


def test_a_cosine_rises_as_a_line_and_ends_with_the_training():
    rate = learning_rate(CosineRate(Fraction(1), Fraction(2), Fraction(1, 5)), steps_per_epoch=5, epochs=6)
    assert [float(rate(step)) for step in (0, 5, 10, 30)] == pytest.approx([0, 0.5, 1, 0.2])
    assert float(rate(20)) == pytest.approx(0.6)  # half of the way down
    plain = learning_rate(CosineRate(Fraction(1)), 5, 6)
    assert [float(plain(step)) for step in (0, 15, 30)] == pytest.approx([1, 0.5, 0], abs=1e-6)


def test_optimizers_take_their_options():
    made = optimizer(Named("sgd", (("momentum", Fraction(1, 2)), ("nesterov", True), ("clip_norm", Fraction(3)))), 0.5)
    assert isinstance(made, keras.optimizers.SGD)
    assert (made.momentum, made.nesterov, made.global_clipnorm) == (0.5, True, 3)
    assert float(made.learning_rate) == 0.5
    assert optimizer(Named("adamw", (("weight_decay", Fraction(1, 4)),)), 1.0).weight_decay == 0.25


def test_weights_drawn_afresh_are_other_ones_and_what_an_input_was_adapted_to_stays():
    adapted = keras.layers.Normalization()
    adapted.adapt(np.array([[1.0, 5.0], [3.0, 9.0]]))
    layers = [keras.Input((2,)), adapted, keras.layers.Dense(3), keras.layers.BatchNormalization()]
    model = keras.Sequential(layers)
    model.layers[1].set_weights([np.ones((2, 3)), np.ones(3)])
    model.layers[2].moving_mean.assign(np.ones(3))
    draw_afresh(model)
    np.testing.assert_array_equal(np.asarray(adapted.mean), [[2, 7]])
    np.testing.assert_array_equal(model.layers[1].bias, np.zeros(3))
    assert np.ptp(np.asarray(model.layers[1].kernel)) > 0
    np.testing.assert_array_equal(model.layers[2].moving_mean, np.zeros(3))
