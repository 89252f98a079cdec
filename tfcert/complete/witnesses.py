"""Witnesses: a solver's point is a claim until it lies in the set exactly and the original model gets it wrong."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tfcert.attacks import Clauses, replay
from tfcert.attacks.witness import input_dtype, run
from tfcert.complete.processes import Answer, SolverError, SolverProcess
from tfcert.complete.program import Program
from tfcert.perturbations import ORDER, Perturbation


@dataclass(frozen=True)
class Judge:
    """The original model and what must hold of its outputs, for one sample.

    Attributes:
        model: the model as the user gave it.
        region: where a witness must lie: one sample's set, exact.
        clauses: one sample's clauses, ``[1, clauses, rows, outputs]``.
    """

    model: Any
    region: Perturbation
    clauses: Clauses

    def confirm(self, x: np.ndarray) -> np.ndarray | None:
        """The point rounded to the model's dtype and moved into the set, if the model gets it strictly wrong there."""
        dtype = input_dtype(self.model, self.region.lower.dtype)
        if not np.isfinite(x).all():
            return None
        point = self.region.project(x.reshape(1, *self.region.input_shape).astype(dtype))

        def holds(outputs: np.ndarray, _: np.ndarray) -> np.ndarray:
            return ~(self.clauses.margin(outputs) < 0)

        return point[0] if replay(self.model, self.region, point, holds)[0] else None

    def margin(self, point: np.ndarray) -> float:
        """The margin that the model reaches on one point."""
        return float(self.clauses.margin(run(self.model, point[None]))[0])

    def distance(self, point: np.ndarray) -> float:
        """How far a point is from the set's centre in its norm, rounded up."""
        step = point.astype(np.float64).ravel() - self.region.center[0].astype(np.float64).ravel()
        size = float(np.linalg.norm(step, ORDER[self.region.norm])) if step.size else 0.0
        return size if self.region.norm == "linf" else size * (1 + 1e-12)


def fixed(program: Program, v: np.ndarray) -> Program:
    """The program within the cell of a point: every integer variable has its value there, so it is linear."""
    whole = np.clip(np.round(v), program.lower, program.upper)
    return replace(
        program,
        lower=np.where(program.integer, whole, program.lower),
        upper=np.where(program.integer, whole, program.upper),
        integer=np.zeros_like(program.integer),
    )


def with_bounds(program: Program, column: int, lower: float, upper: float) -> Program:
    """The program with other bounds of one variable."""
    low, high = program.lower.copy(), program.upper.copy()
    low[column], high[column] = lower, upper
    return replace(program, lower=low, upper=high)


def solve_cell(solver: SolverProcess, program: Program, seconds: float) -> Answer | None:
    """The best point of a cell; None if there is none, or the solver failed."""
    try:
        answer = solver.solve(program, seconds, relax=True)
    except SolverError:
        return None
    return answer if answer.status == "optimal" and answer.v is not None else None
