"""Where proofs end: the last radius that is certified, and the first one that holds a witness."""

from itertools import pairwise

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcert
from tfcert.driver.verify import verify

INPUTS, HIDDEN, SAMPLES = 6, 10, 6


def active(bias: float) -> tuple[keras.Model, np.ndarray]:
    """Two layers of ReLUs that stay active, so that bounds are tight and a radius ends where rounding alone is left;
    their values are about ``bias``, the outputs about 1, as what cancels leaves them; and the gradient of the margin.
    """
    rng = np.random.default_rng(0)
    sizes = (INPUTS, HIDDEN, HIDDEN, 2)
    kernels = [(rng.normal(size=s) / np.sqrt(s[0])).astype(np.float32) for s in pairwise(sizes)]
    wide, biases, value = [k.astype(float) for k in kernels], [], np.full(INPUTS, 0.5)
    for layer, (kernel, level) in enumerate(zip(wide, (bias + 6, bias + 6, 0.0), strict=True)):
        middle = np.full(kernel.shape[1], level) - (value @ kernel if layer else 0.0)
        biases.append(middle.astype(np.float32))
        value = value @ kernel + biases[-1]
    activations = ["relu", "relu", None]
    stack = [L.Dense(k.shape[1], activation=a) for k, a in zip(kernels, activations, strict=True)]
    model = keras.Sequential([keras.Input((INPUTS,)), *stack])
    model.set_weights([part for pair in zip(kernels, biases, strict=True) for part in pair])
    through = wide[0] @ wide[1] @ wide[2]
    return model, through[:, 1] - through[:, 0]


@pytest.mark.parametrize(("bias", "some"), [(1.0, True), (100.0, True), (1e6, False)])
def test_no_point_of_a_certified_ball_is_misclassified(bias, some):
    """Catches a search whose last margin rounding may undo: at the ball's corner the model answers the other class."""
    model, gradient = active(bias)
    rng = np.random.default_rng(1)
    x = rng.random((SAMPLES, INPUTS)).astype(np.float32)
    y = np.asarray(model(x)).argmax(axis=1)
    found = tfcert.certified_radius(model, x, y)
    assert found.guarantee == "float32-any-order"
    assert (found.radius > 0).any() == some, "at 1e6 rounding is larger than any margin"
    ball, sign = tfcert.LpBall(x, list(found.radius)), np.where(y == 1, 1.0, -1.0)[:, None]
    corner = ball.project((x - found.radius[:, None] * np.sign(sign * gradient)).astype(np.float32))
    for _ in range(20):
        points = ball.project((corner + 1e-4 * found.radius[:, None] * (rng.random(x.shape) - 0.5)).astype(np.float32))
        assert ball.contains(points).all()
        right = np.asarray(model(points)).argmax(axis=1) == y
        assert right[found.radius > 0].all()


def test_a_ball_that_ends_within_rounding_of_a_witness_is_not_verified(tmp_path):
    """Jia and Rinard 2021: a complete search that trusts its own floating point verifies what the model breaks."""
    model, _ = active(1.0)
    x = np.random.default_rng(2).random((1, INPUTS)).astype(np.float32)
    y = np.asarray(model(x)).argmax(axis=1)
    least = tfcert.minimum_perturbation(model, x, y, upper=5.0)
    text = (
        'prop 1\nmodel clf = keras("c.keras")\nstrategy s = crown -> split(time_limit=20s)\n'
        "property p(x, y in d) using s {{ forall z in ball(x, linf, {}): argmax(clf(z)) == y }}\n"
    )
    for share, proven in ((1 - 1e-6, False), (0.5, True)):
        spec = text.format(repr(float(share * least.upper[0])))
        (record,) = verify(spec, bindings={"clf": model, "d": (x, y)}, out=tmp_path / str(share), verbose=0).records
        assert (record.outcome == "verified") == proven
        assert not proven or record.verdict.guarantee == "float32-any-order"
