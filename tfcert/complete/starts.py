"""Beginnings of searches for least perturbations: witnesses that attacks find, and distances that bounds certify."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfcert.attacks import falsify
from tfcert.attacks.witness import model_outputs
from tfcert.clauses import Clauses
from tfcert.complete.prepare import Prepared, once
from tfcert.network import Network
from tfcert.rigour.radius import CertifyingMethod, Reach, margins_of, proven_radius
from tfcert.sets.balls import LpBall
from tfcert.sets.region import region_of
from tfcert.verdict import NO_WORK, Guarantee, Work

_CERTIFIED = 0.05
"""Relative tolerance of the certified radii that a search begins with."""
_AT_ONCE = 25
"""Samples whose radii are searched for together."""
_ATTACK = 0.6
"""The share of the time that attacks may take of it."""


@dataclass(frozen=True)
class Start:
    """The beginning for one sample: a witness or None, a distance within which there is none, the work it took, and
    the guarantee of that distance."""

    witness: np.ndarray | None
    proven: float = 0.0
    work: Work = NO_WORK
    level: Guarantee = Guarantee.NUMERIC


def given_starts(model: Any, ball: LpBall, clauses: Clauses) -> list[Start]:
    """Samples as they are: one that is misclassified is its own witness."""
    wrong = _misclassified(model, ball, clauses)
    return [Start(x if bad else None) for x, bad in zip(ball.x, wrong, strict=True)]


def _misclassified(model: Any, ball: LpBall, clauses: Clauses) -> np.ndarray:
    at_center = clauses.margin(model_outputs(model, ball.x)) if len(ball) else np.zeros(0)
    return np.asarray(at_center < 0)


def starts(ready: Prepared, ball: LpBall, clauses: Clauses, left: Callable[[], float]) -> list[Start]:
    """Samples with the nearest witness that the guide finds, and a certified radius.

    Args:
        left: seconds that are left for all of it.
    """
    model = ready.builder.model
    kept = 0.0 if math.isinf(left()) else (1 - _ATTACK) * left()
    witness, gradients = ball.x.copy(), np.zeros(len(ball), int)
    right = np.flatnonzero(~_misclassified(model, ball, clauses))
    witness[right] = np.nan
    if len(right):
        found = ready.guided(ball.take(right), clauses.take(right), lambda: left() - kept)
        witness[right], gradients[right] = found
    proven, evaluations = _certified(ready, ball, clauses, left)
    level = CertifyingMethod(options=ready.builder.options).guarantee(ready.builder.net.deployed, clauses)
    return [
        Start(
            None if np.isnan(witness[i]).any() else witness[i],
            float(min(proven[i], ball.eps[i])),
            Work(evaluations=int(evaluations[i]), gradients=int(gradients[i])),
            level,
        )
        for i in range(len(ball))
    ]


def _certified(
    ready: Prepared, ball: LpBall, clauses: Clauses, left: Callable[[], float]
) -> tuple[np.ndarray, np.ndarray]:
    """Certified radii, cheap and something to show while solvers work, and the bounds that each took."""
    network, how = ready.builder.net.deployed, CertifyingMethod(options=ready.builder.options)
    proven, evaluations = np.zeros(len(ball)), np.zeros(len(ball), int)
    for first in range(0, len(ball), _AT_ONCE):
        if left() <= 0:
            break
        part = np.arange(first, min(first + _AT_ONCE, len(ball)))
        reach = Reach(tolerance=_CERTIFIED, left=left)
        found = proven_radius(network, _centers(network, ball.take(part)), clauses.take(part), how, reach)
        proven[part], evaluations[part] = found.radius, found.evaluations
    return proven, evaluations


def _centers(network: Network, ball: LpBall) -> LpBall:
    return ball.resized(0.0).astype(network.dtype.as_numpy_dtype)


def rehearse(ready: Prepared, ball: LpBall, clauses: Clauses) -> None:
    """Traces what :func:`starts` runs, off the samples' clocks."""
    network, model = ready.builder.net.deployed, ready.builder.model
    some = np.arange(min(_AT_ONCE, len(ball)))
    if not len(some):
        return
    kind = region_of(ball)
    size = min(len(ball), _AT_ONCE)
    if not once(network, id(model), *kind.kind, clauses.offsets.shape[1:], size, ready.builder.options):
        return
    ball, clauses = ball.take(some), clauses.take(some)
    with ready.preparing():
        peeled = network if network.peeled else None
        falsify(
            model, ball.take([0]), clauses.take([0]), network=peeled, steps=1, restarts=1,
            holds=lambda outputs, _: np.ones(len(outputs), bool),
        )  # fmt: skip
        margins_of(network, _centers(network, ball), clauses, CertifyingMethod(options=ready.builder.options))
