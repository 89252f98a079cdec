"""Witnesses: a solver's point is a claim until it lies in the set exactly and the original model gets it wrong."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tfcert.attacks import falsify, replay
from tfcert.attacks.gradient import Left, endless
from tfcert.attacks.witness import input_dtype, model_outputs
from tfcert.clauses import Clauses
from tfcert.complete.encoding.encode import Encoding
from tfcert.complete.encoding.program import Program
from tfcert.complete.solver.process import SolverError, SolverProcess
from tfcert.sets.balls import LpBall, Perturbation

_ROUNDS = 7
"""How often the nearest witness is looked for in a smaller ball."""
_AT_KINK = 1e-5
"""How near its kink a neuron is that rounding to the model's dtype may take to the other side."""


@dataclass(frozen=True)
class Judge:
    """The original model and what must hold of its outputs, for one sample.

    Attributes:
        model: the model as the user gave it.
        region: where a witness must lie: one sample's set, exact.
        clauses: one sample's clauses, ``[1, clauses, rows, outputs]``.
        broken: which outputs ``[points, outputs]`` break what is asked; by default those with a margin below zero.
    """

    model: Any
    region: Perturbation
    clauses: Clauses
    broken: Callable[[np.ndarray], np.ndarray] | None = None

    def confirm(self, x: np.ndarray) -> np.ndarray | None:
        """The point rounded to the model's dtype and moved into the set, if the model gets it wrong there."""
        dtype = input_dtype(self.model, self.region.lower.dtype)
        if not np.isfinite(x).all():
            return None
        point = self.region.project(x.reshape(1, *self.region.input_shape).astype(dtype))

        def holds(outputs: np.ndarray, _: np.ndarray) -> np.ndarray:
            flat = outputs.reshape(len(outputs), -1)
            return ~(self.clauses.margin(flat) < 0 if self.broken is None else self.broken(flat))

        return point[0] if replay(self.model, self.region, point, holds)[0] else None

    def margin(self, point: np.ndarray) -> float:
        """The margin that the model reaches on one point."""
        return float(self.clauses.margin(model_outputs(self.model, point[None]))[0])

    def distance(self, point: np.ndarray) -> float:
        """The distance of a point from the set's centre in its norm, rounded up."""
        size = float(self.region.lengths(point[None])[0]) if point.size else 0.0
        exact = self.region.norm == "linf" and getattr(self.region, "scale", None) is None
        return size if exact else size * (1 + 1e-12)


def solve_cell(
    solver: SolverProcess, program: Program, encoding: Encoding, x: np.ndarray, seconds: float
) -> np.ndarray | None:
    """The best inputs within the cell of ``x`` (flattened): every integer variable keeps its value there, but for the
    few neurons that are at their kink to within rounding. None if there are none, or the solver failed."""
    v = encoding.point(x, program)
    free = np.zeros(len(v), bool)
    free[encoding.undecided(v, _AT_KINK)] = True
    held = program.integer & ~free
    whole = np.clip(np.round(v), program.lower, program.upper)
    cell = replace(
        program,
        lower=np.where(held, whole, program.lower),
        upper=np.where(held, whole, program.upper),
        integer=program.integer & free,
    )
    try:
        answer = solver.solve(cell, seconds, relax=not cell.integer.any())
    except SolverError:
        return None
    return encoding.settled(answer.v) if answer.status == "optimal" and answer.v is not None else None


def nearest_witnesses(
    model: Any,
    ball: LpBall,
    clauses: Clauses,
    *,
    network: Any = None,
    left: Left = endless,
    loss: str = "margin",
) -> tuple[np.ndarray, np.ndarray]:
    """The nearest strict witnesses that PGD finds by bisecting on the radius.

    Args:
        ball: how far to look, one ball a sample.
        network: what gradients are taken of where the model's own outputs saturate.
        left: seconds that are left, by a clock of the caller's.
        loss: see :class:`~tfcert.attacks.AttackOptions`.

    Returns:
        Witnesses ``[batch, *input]`` in the model's dtype (NaN where none), and how many gradients were taken of each
        sample.
    """
    count = len(ball)
    witness = np.full(ball.x.shape, np.nan, ball.x.dtype)
    distance, failed, gradients = np.full(count, np.inf), np.zeros(count), np.zeros(count, int)
    radius, todo = ball.eps.copy(), np.arange(count)
    for _ in range(_ROUNDS):
        if not len(todo) or left() <= 0:
            break
        some = ball.take(todo).resized(radius[todo])
        part = clauses.take(todo)

        def holds(outputs: np.ndarray, samples: np.ndarray, part: Clauses = part) -> np.ndarray:
            return ~(part.take(samples).margin(outputs) < 0)

        attacks = falsify(model, some, part, network=network, holds=holds, left=left, loss=loss)
        gradients[todo] += attacks.gradients
        for i, sample in enumerate(todo):
            if attacks.success[i] and attacks.distance[i] * (1 + 1e-12) < distance[sample]:
                judge = Judge(model, ball.take([sample]), clauses.take([sample]))
                witness[sample], distance[sample] = attacks.witness[i], judge.distance(attacks.witness[i])
            elif not attacks.success[i] and not attacks.late:
                failed[sample] = radius[sample]
        todo = np.flatnonzero(np.isfinite(distance) & (distance > 1.02 * failed))
        radius[todo] = np.where(failed[todo] > 0, 0.5 * (failed[todo] + distance[todo]), 0.5 * distance[todo])
    return witness, gradients


PGD, PGD_CROSS_ENTROPY = nearest_witnesses, functools.partial(nearest_witnesses, loss="cross_entropy")
"""Guides of a search for least perturbations; see ``catalog.GUIDES``."""
