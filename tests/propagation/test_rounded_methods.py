"""Methods over rounded networks with products: bounds hold for what Keras computes, and say so."""

import keras
import numpy as np
import pytest

from tfcert.clauses import Clauses, keeps_label
from tfcert.network import from_keras
from tfcert.options import BoundOptions
from tfcert.propagation.engine import lower_bounds
from tfcert.propagation.supported import guarantee_of
from tfcert.rigour.radius import CertifyingMethod, lost_in_ties, margins_of
from tfcert.sets.balls import LpBall
from tfcert.verdict import Guarantee, is_proof

pytestmark = pytest.mark.usefixtures("eager")
METHODS = ["ibp", "symbolic", "forward", "forward+backward", "crown-ibp", "crown", "dual-lp", "alpha-crown", "frown"]
RELU_ONLY = ("symbolic", "dual-lp")


def model(products):
    x = keras.Input((4,))
    y = keras.layers.Dense(5, activation="relu")(x)
    if products:
        gate = keras.layers.Dense(5, activation="relu")(x)
        y = keras.layers.Multiply()([y, gate])
    else:
        y = keras.layers.Dense(5, activation="relu")(y)
    return keras.Model(x, keras.layers.Dense(2)(y))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("products", [False, True])
def test_bounds_are_charged_and_hold_for_the_model(method, products):
    """Catches a method whose result claims rounding that it leaves out: at radius 0 a bound is the value itself."""
    if products and method in RELU_ONLY:
        pytest.skip("the method is for ReLU networks")
    method, relaxation = ("crown", method) if method == "frown" else (method, None)
    keras.utils.set_random_seed(5)
    given = model(products)
    network, rng = from_keras(given), np.random.default_rng(5)
    x = rng.normal(size=(8, 4)).astype(np.float32)
    rows, none = np.tile(np.eye(2, dtype=np.float32), (8, 1, 1)), np.zeros((8, 2))
    for eps, norm in ((0.0, "linf"), (1e-3, "linf"), (0.0, "l2")):
        ball = LpBall(x, eps, norm=norm)
        sides = {}
        for rounding in ("ignore", "deployed"):
            options = BoundOptions(rounding=rounding, iterations=2, jit=None)
            sides[rounding] = [
                lower_bounds(network, ball, s * rows, none, method=method, relaxation=relaxation, options=options)
                for s in (1, -1)
            ]
        plain, charged = sides["ignore"], sides["deployed"]
        assert all((ours < theirs).all() for ours, theirs in zip(charged, plain, strict=True))
        assert all((theirs - ours < 1e-3).all() for ours, theirs in zip(charged, plain, strict=True))
        points = x[:, None] + eps * rng.choice([-0.999, 0.999], (8, 5, 4))
        for batch in (1, 8):
            y = given.predict(points.reshape(-1, 4).astype(np.float32), batch_size=batch, verbose=0).reshape(8, 5, 2)
            assert (charged[0][:, None] <= y).all() and (y <= -charged[1][:, None]).all()
    assert guarantee_of(network, method, relaxation, BoundOptions(rounding="deployed")) == Guarantee.FLOAT32_ANY_ORDER


def test_logits_that_a_softmax_cannot_tell_apart_are_not_proven_different():
    """Catches a proof by logits of an order that the deployed probabilities do not have: they are the same number."""
    given = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3, use_bias=False, activation="softmax")])
    given.layers[0].set_weights([np.eye(3, dtype=np.float32)])
    network, rng = from_keras(given), np.random.default_rng(0)
    assert network.peeled
    x = rng.uniform(0.01, 0.1, (64, 3)).astype(np.float32)
    x[:, 1] = np.nextafter(x[:, 0], np.float32(0))
    x[:, 2] = 0.0
    p = given.predict(x, verbose=0)
    tied = p[:, 0] <= p[:, 1]
    how = CertifyingMethod("crown", None, BoundOptions(rounding="deployed"))
    first = keeps_label(np.zeros(64, int), 3)
    margins, lost = margins_of(network, LpBall(x, 0.0), first, how)
    assert how.guarantee(network, first) is Guarantee.FLOAT32_ANY_ORDER
    assert tied.any() and not is_proof(margins, lost).any()
    gap = (x[:, 0] - x[:, 1])[tied]
    assert (gap > 0).all() and (gap < lost_in_ties(network, first)[tied, 0]).all()
    # Of two logits neither of which is known to be the largest both probabilities may be 0.
    second = Clauses.all_of(np.tile(np.array([1.0, 0.0, -1.0]), (64, 1, 1)))
    assert how.guarantee(network, second) is Guarantee.NUMERIC
    assert np.isposinf(lost_in_ties(network, second)).all()
