"""The two tasks of the Agrify benchmark: least perturbations, and whether an image is robust at all."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

import tfcert
from benchmarks.common.unrounded import UNROUNDED
from benchmarks.complete.networks import CLIP, EPS, Digits
from benchmarks.complete.witness import check

ADVERSARIAL, ROBUST, UNKNOWN, SKIPPED = "adversarial", "robust", "unknown", "misclassified"


@dataclass(frozen=True)
class How:
    """How a question is put: solver, seconds an image, how is searched, bounds of the neurons."""

    solver: str
    limit: float
    search: str = "split"
    bounds: str = "crown"


def least(model: keras.Model, digits: Digits, how: How) -> dict[str, Any]:
    """The least L-infinity perturbation of one image within ``EPS``: what is stored about it.

    ``upper`` and ``distance`` are absent without a witness; ``distance`` is this script's own. ``robust`` says that
    the lower bound reached ``EPS``, ``optimal`` that the witness is the nearest one to a relative 1e-5.
    """
    found = tfcert.minimum_perturbation(
        model, digits.x, digits.y, clip=CLIP, upper=EPS, time_limit=how.limit, solver=how.solver, search=how.search,
        bounds=how.bounds, options=UNROUNDED,
    )  # fmt: skip
    stored: dict[str, Any] = {
        "lower": float(found.lower[0]),
        "seconds": round(float(found.seconds[0]), 3),
        "binaries": int(found.binaries[0]),
        "guarantee": str(found.guarantee[0]),
        "bounds": found.bounds,
        "guide": found.guide,
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


_SPEC = """prop 1
strategy complete = pgd -> crown -> {stage}(solver={solver}, time_limit={limit:g}s) {{ rounding: ignore }}
property robust(x, y in images) using complete {{
  forall z in ball(x, linf, 15/255) within [0, 1] in unit: argmax(net(z)) == y
}}
"""


def decided(model: keras.Model, digits: Digits, how: How) -> list[dict[str, Any]]:
    """Whether each image is robust within ``EPS``, by a specification: attacks, CROWN, then the search.

    Returns:
        What is stored about each image, in order; ``by`` is the stage that settled it. The time of stages that take all
        images at once is shared out among them.
    """
    spec = _SPEC.format(stage=how.search, solver=how.solver, limit=how.limit)
    with tempfile.TemporaryDirectory() as folder:
        bindings = {"net": model, "images": (digits.x, digits.y)}
        records = tfcert.verify(spec, bindings=bindings, out=folder, verbose=0).records
    return [_stored(model, digits, record) for record in sorted(records, key=lambda r: r.sample)]


def _stored(model: keras.Model, digits: Digits, record: Any) -> dict[str, Any]:
    verdict, i = record.verdict, record.sample
    stored = {"seconds": round(verdict.seconds, 3), "by": verdict.stage}
    if verdict.outcome is tfcert.Outcome.FALSIFIED:
        return stored | judged(model, digits.take([i]), verdict.witness)
    if verdict.outcome is tfcert.Outcome.VERIFIED:
        return stored | {"outcome": ROBUST, "guarantee": str(verdict.guarantee)}
    return stored | {"outcome": UNKNOWN, "reason": verdict.reason}
