"""Schedules are what their formulas say, at the steps that are asked for."""

import keras
import numpy as np
import pytest

from tfcert.schedules import Constant, Ramp
from tfcert.training.schedules import schedule


def values(ramp, steps, steps_per_epoch=None):
    return np.array([float(ramp(step, steps_per_epoch)) for step in steps])


def test_a_linear_ramp_holds_its_start_goes_straight_and_holds_its_stop():
    found = values(Ramp(1.0, 0.5, 2, 6, "steps"), range(9))
    np.testing.assert_allclose(found, [1, 1, 1, 0.875, 0.75, 0.625, 0.5, 0.5, 0.5], rtol=1e-7)


def test_epochs_are_steps_times_the_steps_of_an_epoch():
    by_epochs = values(Ramp(0.0, 0.3, 1, 2.5), range(40), steps_per_epoch=10)
    by_steps = values(Ramp(0.0, 0.3, 10, 25, "steps"), range(40))
    np.testing.assert_array_equal(by_epochs, by_steps)


def test_both_ends_are_reached_exactly():
    ramp = Ramp(0.1, 8 / 255, 3, 1000, "steps")
    assert values(ramp, [0, 3, 1000, 5000]).tolist() == [np.float32(v) for v in (0.1, 0.1, 8 / 255, 8 / 255)]


def test_a_smooth_ramp_grows_as_a_fourth_power_then_straight_with_no_jump_of_value_or_slope():
    ramp = Ramp(0.0, 1.0, 0, 4000, "steps", "smooth")
    found = values(ramp, range(0, 4001, 10))
    early = found[1:100] / np.arange(1, 100) ** 4
    np.testing.assert_allclose(early, early[-1], rtol=1e-4)
    slopes = np.diff(found)
    np.testing.assert_allclose(slopes[100:], slopes[-1], rtol=2e-3)
    assert abs(slopes[99] / slopes[101] - 1) < 0.02
    assert np.all(slopes > 0) and found[0] == 0 and found[-1] == 1


def test_a_ramp_of_no_length_jumps():
    assert values(Ramp(0.0, 2.0, 5, 5, "steps"), [4, 5, 6]).tolist() == [0, 2, 2]


def test_the_plain_phase_ends_with_the_last_step_whose_value_is_the_start():
    ramp = Ramp(1.0, 0.5, 0.7, 3)
    last = int(np.floor(ramp.starts_at(1.0, steps_per_epoch=7)))
    assert values(ramp, [last, last + 1], 7)[0] == 1.0
    assert values(ramp, [last, last + 1], 7)[1] < 1.0
    assert ramp.starts_at(0.9, 7) == -1 == Constant(1.0).starts_at(1.0)


def test_schedules_survive_configurations():
    for ramp in (Constant(0.25), Ramp(0.0, 0.1, 1, 2.5), Ramp(1.0, 0.5, 10, 90, "steps", "smooth")):
        again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(ramp))
        assert again == ramp and again is not ramp
    assert Ramp(0, 1, 1, 2) != Ramp(0, 1, 1, 3)


def test_numbers_and_their_texts_are_constants_and_other_things_are_refused():
    assert schedule(0.5) == schedule("1/2") == Constant(0.5)
    with pytest.raises(ValueError, match="'half' is no number"):
        schedule("half")
    for other in (True, [0.5], None):
        with pytest.raises(TypeError, match="a number or a schedule"):
            schedule(other)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((0, 1, 5, 2), "0 <= begin <= end"),
        ((0, 1, -1, 2), "0 <= begin <= end"),
        ((0, float("nan"), 1, 2), "finite"),
        ((0, 1, 1, 2, "years"), "unit"),
        ((0, 1, 1, 2, "steps", "cubic"), "shape"),
    ],
)
def test_ramps_that_mean_nothing_are_refused(arguments, reason):
    with pytest.raises(ValueError, match=reason):
        Ramp(*arguments)


def test_epochs_of_unknown_length_are_an_error_that_names_the_way_out():
    with pytest.raises(ValueError, match='unit="steps"'):
        Ramp(0, 1, 1, 2)(0)
