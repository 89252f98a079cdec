"""Nothing that is proven for the deployed program is wrong in any program that runs the network.

Every network of ``deceiving.py`` is asked about by each method, at its set and at the radius that the method finds, and
run at many points of that set: by Keras alone and in batches, compiled, with units permuted, and by simulated float32
programs. One answer that is not the proven one fails the test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from rigour.deceiving import BUILDERS, Case, cases, linear, margins
from rigour.simulated import drawn, simulated

import tfcert
from tfcert.network.cache import network_of
from tfcert.options import BoundOptions
from tfcert.verdict import Guarantee

METHODS = ("ibp", "crown-ibp", "crown")
DEPLOYED = BoundOptions(rounding="deployed")
Run = Callable[[np.ndarray], np.ndarray]


def permuted(model: keras.Model, seed: int) -> keras.Model:
    """A copy of a stack of dense layers with the units of each hidden layer in another order."""
    copy, rng = keras.models.clone_model(model), np.random.default_rng(seed)
    order = None
    layers = [layer for layer in model.layers if layer.weights]
    for number, (old, new) in enumerate(zip(layers, [w for w in copy.layers if w.weights], strict=True)):
        parts = old.get_weights()
        if isinstance(old, keras.layers.Dense):
            parts[0] = parts[0] if order is None else parts[0][order]
            last = number == len(layers) - 1
            order = np.arange(len(parts[1])) if last else rng.permutation(len(parts[1]))
            new.set_weights([parts[0][:, order], parts[1][order]])
        else:
            new.set_weights([part[order] for part in parts])
    return copy


def deployed(model: keras.Model, xla: bool) -> Iterator[tuple[str, Run]]:
    """Ways in which Keras runs a model."""
    yield "alone", lambda x: np.concatenate([model(row[None]).numpy() for row in x])
    yield "together", lambda x: model(x).numpy()
    yield "batch of 64", lambda x: model(np.resize(x, (64, *x.shape[1:]))).numpy()[: len(x)]
    yield "permuted", lambda x: permuted(model, 0)(x).numpy()
    if xla:
        compiled = tf.function(model, jit_compile=True)
        yield "predict", lambda x: model.predict(x, batch_size=7, verbose=0)
        yield "compiled", lambda x: compiled(tf.constant(x)).numpy()


def programs(case: Case, count: int, xla: bool = False) -> Iterator[tuple[str, Run]]:
    """Keras's ways to run a model, and simulated programs."""
    yield from deployed(case.model, xla)
    network = network_of(case.model)
    for seed in range(count):
        yield repr(drawn(seed)), simulated(network, drawn(seed))


def proven(case: Case, method: str) -> bool:
    """Whether a method proves the label for the deployed program."""
    ball = case.ball
    found = tfcert.certify(
        case.model, ball.x, np.array([1]), eps=ball.eps, clip=ball.clip, method=method, options=DEPLOYED
    )
    return bool(found.verified[0]) and found.guarantee == Guarantee.FLOAT32_ANY_ORDER


def within_its_radius(case: Case, method: str) -> Case | None:
    """The same in the ball that a radius search proves; None where it proves none at that level."""
    ball = case.ball
    found = tfcert.certified_radius(
        case.model, ball.x, np.array([1]), clip=ball.clip, method=method, tolerance=1e-6, upper=1.0, options=DEPLOYED
    )
    if found.guarantee != Guarantee.FLOAT32_ANY_ORDER or not found.radius[0] > 0:
        return None
    return replace(case, ball=tfcert.LpBall(ball.x, list(found.radius), "linf", ball.clip))


def check(case: Case, count: int, xla: bool = False) -> None:
    points = case.points()
    for name, run in programs(case, count, xla):
        assert (margins(run(points)) > 0).all(), f"{case.name}: wrong as run {name}"


@pytest.mark.parametrize(
    ("name", "seed"), [pytest.param(*c, marks=() if c[1] < 3 else pytest.mark.sweep) for c in cases(40)]
)
def test_nothing_proven_is_wrong_in_any_program(name, seed):
    case = BUILDERS[name](seed)
    found = [method for method in METHODS if proven(case, method)]
    if case.easy:
        assert found == list(METHODS)
    if found:
        check(case, 16 if seed < 3 else 40, xla=seed == 0)


@pytest.mark.parametrize("name", ["linear", "folded", "one_ulp", "absorption"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.sweep) for seed in range(1, 20))])
def test_no_point_of_a_proven_radius_is_answered_otherwise(name, method, seed):
    case = within_its_radius(BUILDERS[name](seed), method)
    if case is not None:
        check(case, 12 if seed == 0 else 40)


def test_a_radius_ends_where_rounding_may_matter_and_not_far_before(rng):
    """With all neurons active CROWN's bounds are exact but for rounding: nearly all of the exact radius is proven."""
    for bias, share in ((1.0, 0.995), (100.0, 0.9)):
        exact = linear(bias)
        found = within_its_radius(exact, "crown")
        assert found is not None
        assert share * exact.ball.eps[0] < found.ball.eps[0] < exact.ball.eps[0]


@pytest.mark.parametrize("name", ["absorption", "folded"])
def test_bounds_that_leave_rounding_out_are_fooled_or_close_to_it(name):
    """What the tests above could catch is there: with rounding left out, positive margins and wrong answers meet."""
    wrong = 0
    for seed in range(7):
        case = BUILDERS[name](seed)
        ball = case.ball
        options = BoundOptions(rounding="ignore")
        bounds = tfcert.certify(case.model, ball.x, np.array([1]), eps=ball.eps, clip=ball.clip, options=options)
        points = case.points()
        answers = [margins(run(points)) for _, run in programs(case, 6)]
        wrong += bool(bounds.margin[0] > 0 and (np.array(answers) <= 0).any())
    assert wrong
