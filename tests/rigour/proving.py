"""What is proven of a case, and cases made as hard as can be: the smallest margin that a method still proves."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import tensorflow as tf
from rigour.deceiving import Case

import tfcert
from tfcert.clauses import Clauses
from tfcert.complete.prepare import Setup, prepared
from tfcert.complete.search.witness import Judge
from tfcert.network.cache import network_of
from tfcert.options import BoundOptions
from tfcert.verdict import Guarantee, Outcome

METHODS = ("ibp", "crown-ibp", "crown", "forward", "forward+backward", "symbolic", "alpha-crown", "lp")
DEPLOYED = BoundOptions(rounding="deployed")
LABEL = np.array([1])


def bound(case: Case, method: str) -> tuple[float, bool]:
    """The margin that a method bounds, and whether it proves the label for the deployed program."""
    ball = case.ball
    found = tfcert.certify(case.model, ball.x, LABEL, eps=ball.eps, clip=ball.clip, method=method, options=DEPLOYED)
    return float(found.margin[0]), bool(found.verified[0]) and found.guarantee == Guarantee.FLOAT32_ANY_ORDER


def splits(case: Case) -> bool:
    """Whether branch and bound proves the label for the deployed program."""
    ball, row = case.ball, np.array([[[-1.0, 1.0]]])
    clauses, network = Clauses.all_of(row, np.zeros((1, 1))), network_of(case.model, case.ball.x)
    with prepared(network, case.model, ball, clauses, Setup(("split",), options=DEPLOYED, prove=True)) as ready:
        found = ready.decide(ball, Judge(case.model, ball, clauses), 20.0)
    return found.outcome is Outcome.VERIFIED and found.guarantee is Guarantee.FLOAT32_ANY_ORDER


def _bias(model: keras.Model) -> keras.Variable:
    """That of the outputs."""
    return next(layer for layer in reversed(model.layers) if isinstance(layer, keras.layers.Dense)).bias


def shift(case: Case, by: float) -> None:
    """Moves the label's output, by a last place at least."""
    bias = _bias(case.model)
    value = bias.numpy()
    moved = value[1] + value.dtype.type(by)
    value[1] = moved if moved != value[1] else np.nextafter(moved, value.dtype.type(np.copysign(np.inf, by)))
    bias.assign(value)


def tightened(case: Case, method: str) -> bool:
    """Moves the label's output until the method just proves it; False where no finite bound ever does."""
    step = 0.0
    for _ in range(12):
        margin, proves = bound(case, method)
        if not np.isfinite(margin):
            return False
        if proves and step:
            return True
        step = 2 * step or float(np.spacing(np.abs(_bias(case.model).numpy()).max() + np.float32(abs(margin))))
        shift(case, step - margin)
    return False


def tightened_by_splitting(case: Case, steps: int = 5) -> bool:
    """The same for branch and bound, which begins where CROWN just proves it and takes away what it can."""
    if not tightened(case, "crown"):
        return False
    proven = _bias(case.model).numpy()
    by = 0.05 * float(np.abs(proven).max() + 1)
    for _ in range(steps):
        shift(case, -by)
        if splits(case):
            proven = _bias(case.model).numpy()
        else:
            _bias(case.model).assign(proven)
            by /= 4
    return splits(case)


def within_its_radius(case: Case, method: str) -> Case | None:
    """The same in the ball that a radius search proves; None where it proves none for the deployed program."""
    ball = case.ball
    found = tfcert.certified_radius(
        case.model, ball.x, LABEL, clip=ball.clip, method=method, tolerance=1e-6, upper=1.0, options=DEPLOYED
    )
    if found.guarantee != Guarantee.FLOAT32_ANY_ORDER or not found.radius[0] > 0:
        return None
    return replace(case, ball=tfcert.LpBall(ball.x, list(found.radius), "linf", ball.clip))


def searched(case: Case, restarts: int, steps: int = 4) -> np.ndarray:
    """Points of a ball where the margin is small, after Jia and Rinard 2021: corners by gradients, moved a little.

    From each restart the signs of the gradient choose the corner, again and again; then single features move inward by
    some last places, which changes what is rounded and hardly the margin.
    """
    x, eps, rng = case.ball.x, case.ball.eps[0], np.random.default_rng(0)
    many = tfcert.LpBall(np.repeat(x, restarts, axis=0), float(eps), "linf", case.ball.clip)
    point = many.project((many.x + eps * rng.uniform(-1, 1, many.x.shape)).astype(x.dtype))
    for _ in range(steps):
        inputs = tf.constant(point)
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = case.model(inputs)
            margin = tf.reduce_sum(outputs[:, 1] - outputs[:, 0])
        slope = tape.gradient(margin, inputs).numpy()
        point = many.project((many.x - eps * np.sign(slope)).astype(x.dtype))
    inward = rng.integers(0, 4, point.shape) * (rng.random(point.shape) < 0.3)
    moved = point + np.sign(many.x - point) * inward.astype(x.dtype) * np.spacing(np.abs(point))
    found = many.project(moved.astype(x.dtype))
    return np.concatenate([point, found])
