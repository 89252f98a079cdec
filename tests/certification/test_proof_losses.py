"""Layer by layer: how a bound comes about adds up, and says what the network says."""

from __future__ import annotations

import itertools

import keras
import numpy as np
import pytest
from sweeps import sweep_but
from unrounded import IGNORED

from tfcert import BoundOptions, Box, LpBall, layer_widths, margins, plots, proof_losses
from tfcert.certification.layers import losses_of
from tfcert.clauses import Clauses
from tfcert.network.cache import network_of
from tfcert.report import figures

OPTIONS = BoundOptions(jit=False, rounding="ignore")


def small(activation: str, seed: int = 2) -> keras.Model:
    """Two layers of one activation, a skip and three outputs."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((4,))
    first = keras.layers.Dense(6, activation=activation, name="first")(inputs)
    second = keras.layers.Dense(6, activation=activation, name="second")(first)
    return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Add()([first, second])))


@pytest.mark.parametrize(
    ("activation", "norm", "clip"),
    sweep_but(
        [("relu", "linf", (0, 1)), ("tanh", "l2", None), ("relu", "l1", (0, 1))],
        itertools.product(("relu", "tanh", "gelu"), ("linf", "l2", "l1"), (None, (0, 1))),
    ),
)
def test_losses_add_up_from_the_bound_to_what_the_network_reaches_there(activation, norm, clip):
    model = small(activation)
    x = np.random.default_rng(0).uniform(0.2, 0.8, (1, 4)).astype(np.float32)
    y = np.argmax(np.asarray(model(x)), axis=1)
    found = proof_losses(model, x, y, eps=0.3, norm=norm, clip=clip)
    assert found.layers == ("first", "second") and found.kinds == (activation,) * 2
    assert found.bound + found.over + found.loss.sum() == pytest.approx(found.reached, abs=1e-12)
    assert (found.loss >= -1e-12).all() and found.loss.max() > 1e-3 and found.over >= -1e-12
    if clip is None or norm == "linf":  # a ball that a box cuts need not have its least value at a point that is known
        assert found.over == pytest.approx(0, abs=1e-9)
    ball = LpBall(x, 0.3, norm, clip)
    assert (found.point >= ball.lower[0] - 1e-6).all() and (found.point <= ball.upper[0] + 1e-6).all()
    plain = margins(model, ball, y, options=OPTIONS)[0]
    other = int(np.argmin(plain))
    assert found.bound == pytest.approx(plain[other], abs=1e-5)
    assert found.about == f"output {y[0]} - output {other}"
    outputs = np.asarray(model(found.point[None].astype(np.float32)))[0]
    assert outputs[y[0]] - outputs[other] == pytest.approx(found.reached, abs=1e-5)


@pytest.mark.parametrize("stable", [0, 1])
def test_a_layer_whose_neurons_keep_their_sign_loses_nothing(stable):
    """Losses fall to the layers whose lines lose, which their sum does not tell."""
    keras.utils.set_random_seed(3)
    bent = [keras.layers.Dense(4, activation="relu") for _ in range(2)]
    model = keras.Sequential([keras.Input((3,)), *bent, keras.layers.Dense(2)])
    bent[stable].bias.assign(np.full(4, 100.0))
    if stable == 0:  # what the first layer adds, so that the second one is about zero
        first = np.asarray(bent[0](np.zeros((1, 3), np.float32)))
        bent[1].bias.assign(-np.asarray(bent[1].kernel).T @ first[0])
    found = proof_losses(model, np.zeros((1, 3), np.float32), np.array([0]), eps=0.5)
    assert found.unstable[stable] == 0 < found.unstable[1 - stable]
    assert found.loss[stable] == pytest.approx(0, abs=1e-9) and found.loss[1 - stable] > 1e-3


def test_the_best_row_of_the_worst_clause_is_looked_at():
    model = small("relu")
    box = Box(np.full((1, 4), 0.4, np.float32), np.full((1, 4), 0.6, np.float32))
    rows = np.eye(3)[None, :, :] * 1.0
    either = Clauses(rows[:, None, :, :], np.array([[[0.0, 50.0, -np.inf]]]))  # one clause of two rows
    found = losses_of(network_of(model), box, either)
    assert found.reached > 40 and found.about == "output 1"


def test_widths_and_unstable_neurons_follow_from_the_layer_by_hand():
    first = keras.layers.Dense(2, activation="relu", name="bent")
    model = keras.Sequential([keras.Input((2,)), first, keras.layers.Dense(2)])
    first.set_weights([np.array([[1.0, 2.0], [0.0, 1.0]]), np.array([0.0, 10.0])])
    x = np.array([[0.0, 0.0], [5.0, 0.0]], np.float32)
    found = layer_widths(model, LpBall(x, 1.0), options=BoundOptions(jit=False, rounding="ignore"))
    assert found.layers == ("bent",) and list(found.neurons) == [2] and found.samples == 2
    assert found.width[0] == pytest.approx((2 + 6) / 2) and found.widest[0] == pytest.approx(6)
    assert found.unstable[0] == 0.5  # the first neuron of the first sample
    assert "bent" in str(found) and "<td" in found._repr_html_() and "1 layer for 2 samples" in repr(found)


def test_losses_are_of_one_sample():
    with pytest.raises(ValueError, match="of one sample"):
        proof_losses(small("relu"), np.zeros((2, 4)), np.zeros(2, int), eps=0.1)


@pytest.mark.skipif(not figures.available(), reason="matplotlib is not installed")
def test_layers_and_losses_are_drawn():
    model, x = small("relu"), np.full((1, 4), 0.5, np.float32)
    bounds = {name: layer_widths(model, LpBall(x, 0.2), method=name, options=IGNORED) for name in ("ibp", "crown")}
    axes = plots.layers(bounds)
    assert axes.get_yscale() == "log" and "upper - lower" in axes.get_ylabel()
    found = proof_losses(model, x, np.zeros(1, int), eps=0.2)
    labels = [text.get_text() for text in plots.losses(found).get_yticklabels()]
    assert labels == ["the network, at this point", "second (relu)", "first (relu)", "the bound"]
