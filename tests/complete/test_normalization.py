"""Programs of softmax and normalisation: enclosed by their planes, so nothing is missed and no answer is wrong."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from complete.questions import REGIONS, around, assert_decisions_are_right, keeps_class, points
from complete.test_encoding import assert_holds_everything
from tfcert.network import Builder
from tfcert.network.cache import network_of
from tfcert.propagation.engine import lower_bounds
from tfcert.sets.balls import LpBall

L = keras.layers
pytestmark = pytest.mark.usefixtures("eager")
BLOCKS = {
    "softmax": lambda b, x: b.softmax(x),
    "softmax along the first axis": lambda b, x: b.softmax(x, 0),
    "layer": lambda b, x: b.normalized(x, -1, 1e-3, center=(True, True)),
    "rms": lambda b, x: b.normalized(x, (0, 1), 1e-3, center=(False, False)),
    "unit": lambda b, x: b.divided_by_norm(x, -1, 1e-12),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_points_of_the_set_satisfy_the_program(name, rng):
    builder = Builder(tf.float64)
    x = builder.input((3, 3), "input")
    with builder.scope("block", "Block"):
        network = builder.network(builder.reshape(BLOCKS[name](builder, x), (9,)))[0]
    x = rng.normal(size=(1, 3, 3))
    assert_holds_everything(network, [around(kind, x, 0.3) for kind in REGIONS])


def small(kind: str) -> keras.Model:
    i = keras.Input((2,))
    block = {"softmax": L.Softmax, "layer": L.LayerNormalization}[kind]()
    model = keras.Model(i, L.Dense(2)(block(L.Dense(3)(i))))
    rng = np.random.default_rng(0)
    for variable in model.weights:
        variable.assign(rng.normal(size=variable.shape))
    return model


@pytest.mark.parametrize("kind", ["softmax", "layer"])
def test_a_linear_program_is_not_looser_than_crown_and_holds(kind):
    model = small(kind)
    network, ball = network_of(model), LpBall(np.array([[0.3, -0.2]], np.float32), 0.2)
    rows = np.concatenate([np.eye(2), -np.eye(2)])[None]
    crown, linear = (lower_bounds(network, ball, rows, np.zeros((1, 4)), method=m) for m in ("crown", "lp"))
    values = np.asarray(model(points(ball, 500)))
    least = np.concatenate([values.min(axis=0), -values.max(axis=0)])
    assert (linear[0] <= least + 1e-5).all()
    assert (linear >= crown - 1e-6).all()


@pytest.mark.parametrize("kind", ["softmax", pytest.param("layer", marks=pytest.mark.sweep)])
def test_decisions_are_never_wrong(kind, cbc):
    """What is broken on a grid is not verified, what holds by far is, and what is broken by far is falsified."""
    model, x = small(kind), np.array([[0.3, -0.2]], np.float32)
    region, base = LpBall(x, 0.3), keeps_class(model, x)
    assert_decisions_are_right(model, region, base, cbc, seconds=10)
