"""An objective bound to a model and samples: what is trained on is in the space in which the ball is one number."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from tfcert.driver.bind import load_spec
from tfcert.driver.train.bind import Trainable, bind_objective
from tfcert.errors import UsageError

HEAD = """\
prop 1
model clf = keras("clf.keras")
dataset test = npz("test.npz") {{ range: [0, 10] {space} }}
dataset more = npz("more.npz") {{ range: [0, 10] {space} }}
property robust(x, y in test where y != 2 take 3) {{
  forall z in ball(x, linf, {eps}) within [{low}, {high}] in {name}: argmax(clf(z)) == y
}}
objective o for robust {{ train: more epochs: 1 }}
"""
PLAIN = "scale: 1/10 normalize: { mean: 0.5 std: 0.25 }"
CHANNELS = "scale: 1/10 normalize: { mean: [0.5, 0.4, 0.3, 0.2] std: [0.5, 0.25, 0.2, 0.1] }"


@pytest.fixture
def bound(folder, samples):
    """Binds the objective of a specification with the given spaces."""
    x, y = samples
    np.savez(folder / "test.npz", x=10 * x, y=y)
    np.savez(folder / "more.npz", x=np.full((5, 4), 10.0), y=np.array([0, 1, 2, 1, 0]))

    def bind(space: str = PLAIN, name: str = "unit", eps: str = "0.1", high: str = "1", **rest: str) -> Trainable:
        text = HEAD.format(space=space, name=name, eps=eps, high=high, low=rest.get("low", "0"))
        (folder / "s.prop").write_text(text)
        return bind_objective(load_spec(folder / "s.prop", None, None), rest.get("objective", "o"), {})

    return bind


def test_one_std_for_all_is_trained_in_network_space(bound, samples):
    found = bound()
    assert found.normalization is None and found.space == "net"
    assert found.eps(Fraction(1, 10)) == pytest.approx(0.4) and found.clip == pytest.approx((-2, 2))
    np.testing.assert_allclose(found.train.x, np.full((5, 4), 2.0))
    chosen = [i for i, label in enumerate(samples[1]) if label != 2][:3]
    np.testing.assert_allclose(found.held_out.x, (samples[0][chosen] - 0.5) / 0.25, rtol=1e-5)
    assert list(found.held_out.y) == list(samples[1][chosen]) and list(found.selected) == chosen


def test_a_std_for_each_channel_is_trained_before_normalisation(bound, samples):
    found = bound(CHANNELS)
    assert found.normalization is not None and found.space == "unit"
    np.testing.assert_allclose(found.normalization, [[0.5, 0.4, 0.3, 0.2], [0.5, 0.25, 0.2, 0.1]])
    assert found.eps(Fraction(1, 10)) == pytest.approx(0.1) and found.clip == pytest.approx((0, 1))
    np.testing.assert_allclose(found.train.x, np.ones((5, 4)))
    assert found.held_out.x.dtype == np.float32


def test_a_ball_in_the_space_of_stored_values_is_scaled(bound):
    found = bound(name="raw", eps="1", high="10")
    assert found.eps(Fraction(1)) == pytest.approx(0.4) and found.clip == pytest.approx((-2, 2))
    assert bound(CHANNELS, name="raw", eps="1", high="10").eps(Fraction(1)) == pytest.approx(0.1)


def test_a_ball_in_network_space_stays_there_whatever_the_channels(bound):
    found = bound(CHANNELS, name="net", low="-2", high="8")
    assert found.normalization is None and found.space == "net"
    assert found.eps(Fraction(1, 10)) == pytest.approx(0.1) and found.clip == (-2, 8)
    np.testing.assert_allclose(found.train.x[0], [1, 2.4, 3.5, 8], rtol=1e-6)


def test_what_lies_outside_the_valid_range_is_not_trained_on(bound, folder):
    with pytest.raises(UsageError, match=r"robust: .* outside `within`"):
        bound(high="0.5")
    np.savez(folder / "test.npz", x=np.full((2, 4), 1.0), y=np.array([0, 1]))
    with pytest.raises(UsageError, match="o, in what it trains on: 5 of 5 samples lie outside `within`"):
        bound(high="0.5")


@pytest.mark.parametrize(
    ("y", "sentence"),
    [(None, "which has no labels"), ([0, 1, 7], "has label 7, but clf has 3 outputs"), ([], "which has no samples")],
)
def test_samples_that_cannot_be_trained_on_are_refused(bound, folder, y, sentence):
    arrays = {} if y is None else {"y": np.array(y, int)}
    np.savez(folder / "more.npz", x=np.ones((3 if y is None else len(y), 4)), **arrays)
    with pytest.raises(UsageError, match=sentence):
        bound()


def test_nothing_can_be_held_out_of_no_sample_and_one_output_has_no_classes(bound, folder, samples):
    import keras

    np.savez(folder / "test.npz", x=samples[0], y=np.full(len(samples[0]), 2))
    with pytest.raises(UsageError, match="robust asks about no sample"):
        bound()
    np.savez(folder / "test.npz", x=samples[0], y=np.zeros(len(samples[0]), int))
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)]).save(folder / "clf.keras")
    with pytest.raises(UsageError, match="robust: a network with a single output has no classes"):
        bound()


def test_an_objective_that_does_not_exist_is_refused_with_those_that_do(bound):
    with pytest.raises(UsageError, match="has no objective robust_training; it has o"):
        bound(objective="robust_training")


def test_training_stays_in_the_declared_range_of_each_channel(folder, samples):
    np.savez(folder / "test.npz", x=10 * samples[0], y=samples[1])
    np.savez(folder / "more.npz", x=np.full((5, 4), 10.0), y=np.zeros(5, int))
    text = HEAD.format(space=CHANNELS, eps="0.1", name="net", low=0, high=0).replace(" within [0, 0]", "")
    (folder / "s.prop").write_text(text)
    found = bind_objective(load_spec(folder / "s.prop", None, None), "o", {})
    np.testing.assert_allclose(found.clip, [[-1, -1.6, -1.5, -2], [1, 2.4, 3.5, 8]], rtol=1e-6)
