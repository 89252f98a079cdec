"""Programs of networks with products: enclosed by McCormick's planes, so nothing is missed and no answer is wrong."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from soundness import networks

from complete.questions import REGIONS, around, assert_decisions_are_right, keeps_class, points, question
from complete.test_encoding import assert_holds_everything
from tfcert.activations import activation
from tfcert.complete.encoding.encode import EncodingOptions, encode
from tfcert.complete.encoding.piecewise import flatten
from tfcert.complete.search.branch import branch
from tfcert.complete.search.query import Solvers
from tfcert.complete.search.tighten import propagated_bounds
from tfcert.network import Builder, Network
from tfcert.network.cache import network_of
from tfcert.propagation.engine import lower_bounds
from tfcert.sets.balls import Box, LpBall

L = keras.layers
pytestmark = pytest.mark.usefixtures("eager")
SKETCHES = {
    block.__name__: functools.partial(networks.block_sketch, block, 1, (3, 3, 2)) for block in networks.PRODUCT_BLOCKS
}


@pytest.mark.parametrize("name", SKETCHES)
def test_points_of_the_set_satisfy_the_program_of_every_product(name, rng):
    network = SKETCHES[name]().network(tf.float64)
    x = rng.uniform(0.2, 0.8, (1, *network.input_shape))
    assert_holds_everything(network, [around(kind, x, 0.3) for kind in REGIONS])


def test_points_of_the_set_satisfy_the_program_of_a_matrix_product(rng):
    builder = Builder(tf.float64)
    x = builder.input((2, 3), "input")
    with builder.scope("scores", "Matmul"):
        y = builder.elementwise(x, activation("relu"))
        scores = builder.contract("ij,kj->ik", builder.scale(x, builder.constant(2.0)), y)
        network = builder.network(builder.reshape(scores, (4,)))[0]
    x = rng.normal(size=(1, 2, 3))
    assert_holds_everything(network, [around(kind, x, 0.5) for kind in REGIONS])


def coordinates() -> Network:
    """``x0 * x1``, as one output."""
    builder = Builder(tf.float64)
    x = builder.input((2,), "input")
    with builder.scope("multiply", "Multiply"):
        product = builder.product(*(builder.index(x, np.array([k])) for k in (0, 1)))
    return builder.network(product)[0]


def test_the_program_of_a_product_is_its_convex_hull(solver):
    """A linear function of factors and product has its least value at a corner, where all four planes meet it."""
    net, box = flatten(coordinates()), Box(np.array([[0.9, -1.0]]), np.array([[1.1, 2.0]]))
    assert not net.exact
    bounds = propagated_bounds(net, box, "crown")[0]
    encoding = encode(net, box, bounds.layers, bounds.output, EncodingOptions(relax=True))
    for weight, wanted in (([1.0, 0.0, 0.0], -1.1), ([-1.0, 0.0, 0.0], -2.2), ([1.0, 0.0, -1.0], -0.2)):
        columns = np.concatenate([encoding.outputs.column, encoding.inputs])
        program = encoding.copy().builder.program((columns, np.array(weight)))
        value = solver.solve(program, 30, relax=True).proven_bound()
        # x0 x1 - x1 = (x0 - 1) x1 is least at (1.1, -1): -0.1, or at (0.9, 2): -0.2.
        assert value == pytest.approx(wanted, abs=1e-6)


def gated(seed: int) -> keras.Model:
    """ReLUs whose outputs weigh each other, and ReLUs of that."""
    i = keras.Input((2,))
    first, second = (L.Dense(4, activation="relu")(i) for _ in range(2))
    model = keras.Model(i, L.Dense(2)(L.Dense(4, activation="relu")(L.Multiply()([first, second]))))
    networks.randomize(model, np.random.default_rng(seed))
    return model


def test_a_linear_program_is_not_looser_than_crown_and_holds():
    model = gated(1)
    network, ball = network_of(model), LpBall(np.array([[0.3, -0.2]], np.float32), 0.3)
    rows = np.concatenate([np.eye(2), -np.eye(2)])[None]
    crown, linear, whole = (
        lower_bounds(network, ball, rows, np.zeros((1, 4)), method=m) for m in ("crown", "lp", "milp")
    )
    values = np.asarray(model(points(ball, 500)))
    least = np.concatenate([values.min(axis=0), -values.max(axis=0)])
    assert (linear[0] <= least + 1e-5).all() and (whole[0] <= least + 1e-5).all()
    assert (linear >= crown - 1e-6).all() and (whole >= linear - 1e-6).all()
    assert (linear > crown + 1e-3).any()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_decisions_about_products_are_never_wrong(seed, cbc):
    """The margin is moved to either side of the least that a fine grid has: nothing that is broken is verified, and
    nothing that holds is falsified; where it is broken, or holds, by far, it is decided."""
    model, x = gated(seed), np.array([[0.3, -0.2]], np.float32)
    region, base = LpBall(x, 0.5), keeps_class(model, x)
    least, width = assert_decisions_are_right(model, region, base, cbc)
    assert width > 1e-2
    tight = branch(question(model, region, base.less(least - 0.02 * width)), 0, Solvers(cbc))
    assert tight.witness is None and tight.bound <= 0.02 * width + 1e-4
