"""The two tasks of the Agrify benchmark: least perturbations, and whether an image is robust at all."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

import tfcert
from parts.agrify_networks import CLIP, EPS, Digits
from parts.agrify_witness import check
from tfcert.attacks import Clauses, falsify
from tfcert.certification.api import network_of, target_rows
from tfcert.complete.asking import Asker
from tfcert.complete.deciding import decide
from tfcert.complete.plain import plain
from tfcert.complete.processes import SolverProcess, SolverSettings
from tfcert.complete.queries import Solvers
from tfcert.complete.witnesses import Judge

ADVERSARIAL, ROBUST, UNKNOWN, SKIPPED = "adversarial", "robust", "unknown", "misclassified"


@dataclass(frozen=True)
class How:
    """How a question is put: solver, bounds of the neurons, whether attacks guide, seconds an image."""

    solver: str
    limit: float
    guided: bool = True
    bounds: str = "crown"


def least(model: keras.Model, digits: Digits, how: How) -> dict[str, Any]:
    """The least L-infinity perturbation of one image within ``EPS``: what is stored about it.

    ``upper`` and ``distance`` are absent without a witness; ``distance`` is this script's own. ``robust`` says that
    the lower bound reached ``EPS``, ``optimal`` that the witness is the nearest one to a relative 1e-5.
    """
    found = tfcert.minimum_perturbation(
        model, digits.x, digits.y, clip=CLIP, upper=EPS, time_limit=how.limit, solver=how.solver, guided=how.guided,
        bounds=how.bounds,
    )  # fmt: skip
    stored: dict[str, Any] = {
        "lower": float(found.lower[0]),
        "seconds": round(float(found.seconds[0]), 3),
        "binaries": int(found.binaries[0]),
        "guarantee": str(found.guarantee[0]),
    }
    if found.reason[0]:
        stored["reason"] = found.reason[0]
    if np.isfinite(found.upper[0]):
        stored |= {"upper": float(found.upper[0]), "optimal": bool(found.optimal[0])}
        return stored | judged(model, digits, found.witness[0])
    return stored | {"outcome": ROBUST if found.lower[0] >= EPS else UNKNOWN}


def judged(model: keras.Model, digits: Digits, witness: np.ndarray) -> dict[str, Any]:
    """What becomes of a witness of one image: ``adversarial`` only if this script finds that it is one."""
    checked = check(model, digits.x[0], int(digits.y[0]), witness)
    stored = {"outcome": ADVERSARIAL if checked.strict else UNKNOWN, "distance": checked.distance}
    if not checked.strict:
        stored["refused"] = f"no witness: margin {checked.margin:.3g} at distance {checked.distance:.9g}"
    elif not checked.strict64:
        stored["only_float32"] = True
    return stored


def decided(model: keras.Model, digits: Digits, how: How) -> Iterator[tuple[int, dict[str, Any]]]:
    """Whether each image is robust within ``EPS``: attacks and CROWN on all, integer programs for those left open.

    Yields:
        An image's position and what is stored about it; ``by`` is the stage that settled it. The time of attacks and
        of CROWN, which take all images at once, is shared out evenly among those that they were asked about.
    """
    network = network_of(model, digits.x)
    ball = tfcert.LpBall(digits.x, EPS, "linf", CLIP)
    rows = target_rows(network, ball, digits.y, "all")
    clauses = Clauses(rows[:, :, None, :], np.zeros((*rows.shape[:2], 1)))
    start = time.perf_counter()
    attacks = falsify(model, ball, clauses)
    shared = (time.perf_counter() - start) / len(digits.x)
    for i in np.flatnonzero(attacks.success):
        yield int(i), {"seconds": round(shared, 3), "by": "attack"} | judged(model, _one(digits, i), attacks.witness[i])
    left = np.flatnonzero(~attacks.success)
    if not len(left):
        return
    start = time.perf_counter()
    proven = tfcert.certify(model, digits.x[left], digits.y[left], eps=EPS, clip=CLIP).verified
    shared += (time.perf_counter() - start) / len(left)
    for i in left[proven]:
        yield int(i), {"outcome": ROBUST, "seconds": round(shared, 3), "by": "crown", "guarantee": "numeric"}
    asker = Asker(plain(network), model, how.bounds)
    with SolverProcess(SolverSettings(solver=how.solver)) as process:
        for i in left[~proven]:
            start = time.perf_counter()
            solvers = Solvers(process, (), time.monotonic() + how.limit)
            some = ball.take([i])
            judge = Judge(model, some, clauses.take([i]))
            decision = decide(asker.query(some.astype(np.float64), judge, solvers), solvers)
            seconds = round(shared + time.perf_counter() - start, 3)
            stored = {"seconds": seconds, "by": "milp", "binaries": decision.binaries}
            if decision.witness is not None:
                yield int(i), stored | judged(model, _one(digits, i), decision.witness)
            elif decision.outcome is tfcert.Outcome.VERIFIED:
                yield int(i), stored | {"outcome": ROBUST, "guarantee": str(decision.guarantee)}
            else:
                yield int(i), stored | {"outcome": UNKNOWN, "reason": decision.reason}


def _one(digits: Digits, i: int) -> Digits:
    return Digits(digits.x[[i]], digits.y[[i]])
