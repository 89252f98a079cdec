"""The least perturbation that makes a network fail, guided by attacks (Zhu et al. 2021, "Attack-guided efficient
robustness verification of ReLU neural networks", Agrify).

A witness that the original model confirms shows that the minimum lies within its distance. Inputs, bounds and program
are confined to that distance, so fewer neurons are open and the solver begins with a solution. Within the witness's
distance the program cannot be infeasible: a solver that says so has failed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from tfcert.complete.processes import Answer, SolverError, SolverProcess
from tfcert.complete.queries import CLOSE, Distance, Query, Solvers, checked, distance_program, strict_distance
from tfcert.complete.witnesses import fixed, solve_cell
from tfcert.perturbations import LpBall
from tfcert.query import Guarantee

_DEMANDS = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3)
"""By how much a margin is broken in a cell, relative to the margins' size, until the original model confirms it."""
_DESCENTS = 4
"""How often a witness is moved to the nearest one of its piece of the network."""
_WORTH = 0.98
"""A nearer witness is worth new bounds if its distance is at most this much of the old one's."""

Ask = Callable[[LpBall], Query]
"""Builds the query for a smaller ball: its bounds and all."""


@dataclass(frozen=True)
class Minimum:
    """The least distance at which the property is broken, as far as it is known.

    Attributes:
        lower: no input nearer breaks it (ties not counted as kept), by ``guarantee``.
        upper: the distance of ``witness``, rounded up; infinite without one.
        witness: an input that the original model gets strictly wrong, or None.
        guarantee: of ``lower``.
        reason: why the two differ, if they do by more than was asked.
        binaries: of the largest program.
    """

    lower: float
    upper: float
    witness: np.ndarray | None
    guarantee: Guarantee
    reason: str = ""
    binaries: int = 0

    def optimal(self, tolerance: float) -> bool:
        """Whether the two differ by at most a relative ``tolerance``."""
        return self.witness is not None and self.upper - self.lower <= tolerance * self.upper


def minimum(ask: Ask, ball: LpBall, witness: np.ndarray | None, solvers: Solvers, *, guided: bool = True) -> Minimum:
    """The least distance from the ball's centre at which its property is broken, within the ball.

    Args:
        ask: builds a query.
        ball: one sample's ball, float64: how far to look.
        witness: a confirmed witness in the ball, from an attack, or None.
        guided: whether the witness confines the query; without, it is only the solver's start.
    """
    query = ask(ball)
    best = _Best(query, math.inf, None)
    if witness is not None:
        best = _Best(query, query.judge.distance(witness), witness)
        if guided:
            query, best = _closed_in(ask, ball, query, best, solvers)
    if not query.open:
        proven = float(ball.eps[0]) if witness is None else best.distance
        return Minimum(proven, best.distance, best.witness, Guarantee.NUMERIC)
    asked = distance_program(query, way_out=best.witness is None)
    found = Minimum(0.0, best.distance, best.witness, Guarantee.NUMERIC, "", asked.program.binaries)
    try:
        lower, best, late = _solved(query, asked, best, solvers.first, solvers)
        for other in solvers.others:
            second, best, _ = _solved(query, asked, best, other, solvers)
            if abs(second - lower) > 1e2 * CLOSE * max(second, lower):
                raise SolverError(f"the solvers disagree: {lower:.7g} and {second:.7g}")
            lower = min(lower, second)
    except (SolverError, TimeoutError) as error:
        return replace(found, upper=best.distance, witness=best.witness, reason=str(error))
    lower = min(lower, best.distance)
    return replace(
        found, lower=lower, upper=best.distance, witness=best.witness, guarantee=Guarantee.SOLVER, reason=late
    )


@dataclass(frozen=True)
class _Best:
    """The nearest witness so far."""

    query: Query
    distance: float
    witness: np.ndarray | None

    def with_point(self, x: np.ndarray) -> _Best:
        """The nearer of this and a point, if it is a witness."""
        point = self.query.judge.confirm(x)
        if point is None:
            return self
        distance = self.query.judge.distance(point)
        return replace(self, distance=distance, witness=point) if distance < self.distance else self


def _shrunk(ball: LpBall, distance: float) -> LpBall:
    """The ball of the witness's distance, rounded up."""
    eps = min(Fraction(distance) * Fraction(10**12 + 1, 10**12), ball.exact_eps[0])
    return LpBall(ball.x, [eps], ball.norm, ball.clip)


def _closed_in(ask: Ask, ball: LpBall, query: Query, best: _Best, solvers: Solvers) -> tuple[Query, _Best]:
    """Confines the query to the witness, and moves the witness nearer within its piece of the network."""
    query = ask(_shrunk(ball, best.distance))
    for _ in range(_DESCENTS):
        assert best.witness is not None
        before = best.distance
        best = _descended(query, best, best.witness.astype(np.float64).ravel(), solvers)
        if best.distance < _WORTH * before:
            query = ask(_shrunk(ball, best.distance))
        elif best.distance >= before * (1 - 1e-6):
            break
    return query, best


def _descended(query: Query, best: _Best, x: np.ndarray, solvers: Solvers) -> _Best:
    """The nearest witness of the piece of the network that ``x`` lies in, if it is nearer than the best."""
    broken = [k for k in query.open if query.true_margin(x, k) <= CLOSE * query.scale]
    if not broken:
        return best
    clause = min(broken, key=lambda k: query.true_margin(x, k))
    for demand in _DEMANDS:
        asked = strict_distance(query, clause, demand * query.scale)
        cell = fixed(asked.program, asked.encoding.point(x, asked.program))
        answer = solve_cell(solvers.first, cell, solvers.left())
        if answer is None or answer.v is None:
            return best
        moved = best.with_point(answer.v[asked.encoding.inputs])
        if moved is not best:
            return moved
    return best


def _solved(query: Query, asked: Distance, best: _Best, solver: SolverProcess, solvers: Solvers) -> tuple[float, _Best]:
    """The minimum by one solver's word: a lower bound of the distance; and the best witness.

    Raises:
        SolverError: no usable answer, or a bound that a witness refutes.
        TimeoutError: the time was used up before there was a bound.
    """
    left = solvers.left()
    if left <= 0:
        raise TimeoutError("the budget was used up before the solver began")
    start = None
    if best.witness is not None:
        start = asked.encoding.point(best.witness.astype(np.float64).ravel(), asked.program)
        start = start if asked.program.violation(start) <= 1e-9 else None
    answer = checked(query, solver.solve(asked.program, left, start=start), asked.program, asked.encoding)
    escaped = asked.way_out is not None and answer.v is not None and answer.v[asked.way_out] > 0.5
    if answer.v is not None and not escaped:
        x = answer.v[asked.encoding.inputs]
        best = _descended(query, best.with_point(x), x, solvers)
    lower = _lower(query, answer, escaped)
    if lower > best.distance * (1 + 10 * CLOSE) + 1e-12:
        raise SolverError(f"the solver's bound {lower:.9g} is refuted by a witness at {best.distance:.9g}")
    return lower, best, "the solver's time was used up" if answer.status == "limit" else ""


def _lower(query: Query, answer: Answer, escaped: bool) -> float:
    """The distance below which an answer claims that nothing is broken."""
    assert isinstance(query.region, LpBall)
    eps = float(query.region.eps[0])
    if answer.bound is None:
        raise TimeoutError("the solver's time was used up before it had a bound")
    bound = max(0.0, answer.bound)
    bound = math.sqrt(bound) if query.region.norm == "l2" else bound
    return eps if escaped and answer.status == "optimal" else min(bound, eps)
