"""Whether a property holds on one sample's set: linear relaxation, then integer programs, clause by clause.

A clause is decided by its worst margin, which every point of the set bounds from above: so "infeasible" is never an
answer, only a solver's failure. Proven: a positive lower bound of the margin. Refuted: a point that the original model
gets wrong. Anything else stays unknown.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tfcert.complete.processes import Answer, SolverError, SolverProcess
from tfcert.complete.queries import CLOSE, Margin, Query, Solvers, checked, margin_program
from tfcert.complete.witnesses import solve_cell
from tfcert.query import Guarantee, Outcome

_POSITIVE = 1e-7
"""A margin counts as positive above this share of the margins' size: ten times what solvers' tolerances (1e-9) and
float64 leave uncertain."""
_ROUGH = 0.9
"""The gap at which a positive margin's bound is positive too: the margin's own value is not needed."""


@dataclass(frozen=True)
class Decision:
    """What came out for one sample.

    Attributes:
        outcome, reason: as in a verdict.
        margin: proven lower bound of the worst margin; the margin a witness reaches; NaN where unknown.
        witness: an input of the original model, or None.
        guarantee: ``numeric`` where linear relaxations sufficed, ``solver`` where an integer program was believed (the
            one of a bound, too).
        binaries: of the largest program.
        proven: the clauses that are proven, whatever became of the others.
        believed: whether an integer program was believed for one of them, or for a bound.
    """

    outcome: Outcome
    reason: str = ""
    margin: float = math.nan
    witness: np.ndarray | None = None
    guarantee: Guarantee = Guarantee.ESTIMATE
    binaries: int = 0
    proven: tuple[int, ...] = ()
    believed: bool = False


def decide(query: Query, solvers: Solvers, *, together: bool = False) -> Decision:
    """Decides all clauses that bounds leave open; stops at the first witness.

    Args:
        together: one integer program for all clauses that the relaxation leaves open, or one for each.
    """
    margins = {k: float(query.lower[k].max()) for k in range(len(query.lower)) if k not in query.open}
    left: list[int] = []
    for clause in query.open:
        found = _relaxed(query, clause, solvers)
        if isinstance(found, Decision):
            return replace(found, proven=tuple(margins), believed=query.bounds.believed)
        if found > 0:
            margins[clause] = found
        else:
            left.append(clause)
    believed, binaries = query.bounds.believed, 0
    for group in [left] if together and left else [[k] for k in _by_distance(query, left)]:
        asked, claim = _integer(query, group, solvers)
        binaries = max(binaries, asked)
        if isinstance(claim, Decision):
            return replace(claim, binaries=binaries, proven=tuple(margins), believed=believed)
        believed = True
        margins |= dict.fromkeys(group, claim)
    worst = min((m for m in margins.values() if math.isfinite(m)), default=math.inf)
    guarantee = Guarantee.SOLVER if believed else Guarantee.NUMERIC
    return Decision(Outcome.VERIFIED, "", worst, None, guarantee, binaries, tuple(margins), believed)


def _by_distance(query: Query, clauses: Sequence[int]) -> list[int]:
    """The clauses, first those that the centre comes closest to breaking."""
    center = query.region.center[0].ravel()
    return sorted(clauses, key=lambda k: query.true_margin(center, k))


def _relaxed(query: Query, clause: int, solvers: Solvers) -> float | Decision:
    """The clause's margin that the linear relaxation proves (-inf if the solver fails at it), or a refutation."""
    if solvers.left() <= 0:
        return -math.inf
    asked = margin_program(query, [clause], relax=True)
    try:
        answer = solvers.first.solve(asked.program, solvers.left(), relax=True)
    except SolverError:
        return -math.inf
    bound = answer.proven_bound()
    refuted = None if bound > 0 or answer.v is None else _refuted(query, answer.v[asked.encoding.inputs])
    return bound if refuted is None else refuted


def _refuted(query: Query, x: np.ndarray) -> Decision | None:
    """The decision if the point, moved into the set (solvers step out of it by their tolerances), is a witness."""
    inside = query.region.project(x.reshape(1, *query.region.input_shape))
    point = query.judge.confirm(inside)
    if point is None:
        return None
    return Decision(Outcome.FALSIFIED, "", query.judge.margin(point), point, Guarantee.REPLAYED)


def _integer(query: Query, clauses: Sequence[int], solvers: Solvers) -> tuple[int, float | Decision]:
    """The binaries of the clauses' program, and their worst margin that the solvers prove or why there is none."""
    if solvers.left() <= 0:
        return 0, Decision(Outcome.TIMEOUT, "the budget was used up before the solver began")
    asked = margin_program(query, clauses, least=0.0)
    count = asked.program.binaries
    try:
        margin = _least(query, asked, solvers.first, solvers)
        if margin is None:  # a margin of zero, but no witness there: is it ever below?
            asked = margin_program(query, clauses)
            margin = _least(query, asked, solvers.first, solvers, exact=True)
        if margin is None:
            reason = "the worst margin is zero to within rounding: neither a proof nor a witness"
            return count, Decision(Outcome.UNKNOWN, reason)
        if isinstance(margin, Decision):
            return count, margin
        for other in solvers.others:
            second = _least(query, asked, other, solvers)
            if not isinstance(second, float):
                reason = f"the solvers disagree: {other.settings.solver} does not find a positive margin"
                return count, second or Decision(Outcome.UNKNOWN, reason)
            margin = min(margin, second)
    except SolverError as error:
        return count, Decision(Outcome.UNKNOWN, str(error))
    except TimeoutError as error:
        return count, Decision(Outcome.TIMEOUT, str(error))
    return count, margin


def _least(
    query: Query, asked: Margin, solver: SolverProcess, solvers: Solvers, *, exact: bool = False
) -> float | Decision | None:
    """A positive lower bound of the worst margin by one solver's word, or a refutation; None if neither.

    Raises:
        SolverError: no usable answer.
        TimeoutError: the time was used up.
    """
    left = solvers.left()
    if left <= 0:
        raise TimeoutError("the budget was used up before the solver began")
    gap = None if exact else _ROUGH
    answer = checked(query, solver.solve(asked.program, left, gap=gap), asked.program, asked.encoding)
    if answer.v is not None:
        x = answer.v[asked.encoding.inputs]
        refuted = _refuted(query, x)
        if refuted is None and answer.objective is not None and answer.objective <= CLOSE * query.scale:
            refuted = _search_cell(query, asked.clauses, x, solvers)
        if refuted is not None:
            return refuted
    bound = _bound(answer, solver.settings.gap if gap is None else gap)
    if bound > _POSITIVE * query.scale:
        _require_possible(query, asked.clauses, bound)
        return bound
    if answer.status == "limit":
        raise TimeoutError(f"the solver's time was used up; the margin is at least {bound:.3g} by its word")
    return None


def _bound(answer: Answer, gap: float) -> float:
    """The lower bound that an answer claims. At an optimum within a gap some report the solution's value instead."""
    if answer.bound is None:
        return -math.inf
    if answer.status == "optimal" and answer.objective is not None and answer.objective > 0:
        return min(answer.bound, (1 - gap) * answer.objective)
    return answer.bound


def _require_possible(query: Query, clauses: Sequence[int], bound: float) -> None:
    """No point of the set has a margin below a lower bound; the centre is one."""
    center = query.region.center[0].ravel()
    if min(query.true_margin(center, k) for k in clauses) < bound - CLOSE * query.scale:
        raise SolverError(f"the solver's bound {bound:.6g} is refuted by the centre itself")


def _search_cell(query: Query, clauses: Sequence[int], x: np.ndarray, solvers: Solvers) -> Decision | None:
    """The decision if the piece of the network that the point lies in holds a witness."""
    asked = margin_program(query, clauses)
    moved = solve_cell(solvers.first, asked.program, asked.encoding, x, solvers.left())
    return None if moved is None else _refuted(query, moved)
