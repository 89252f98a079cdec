"""Bounds of linear functions of the outputs by a solver: the methods ``lp`` and ``milp``.

``lp``: the triangle relaxation of the whole network at once (Salman et al. 2019 call what it reaches the barrier of
single-neuron relaxations; the best-LP column of CNN-Cert's Table 8). Its bound is evaluated from the dual prices, so it
does not rest on the solver's word. ``milp``: the exact minimum, which does.
"""

from __future__ import annotations

import math
import time

import numpy as np

from tfcert.clauses import Clauses
from tfcert.complete.search.builder import QueryBuilder, flat_network
from tfcert.complete.search.query import Query, Solvers, checked, margin_program
from tfcert.complete.search.witness import Judge
from tfcert.complete.solver.process import SolverError, SolverProcess, SolverSettings
from tfcert.network import Network
from tfcert.options import BoundOptions
from tfcert.sets.balls import Perturbation


class _Solved:
    """A method that asks a solver about each row: a :class:`~tfcert.propagation.methods.base.SolvedMethod`."""

    def __init__(self, exact: bool):
        self._exact = exact

    def bounds(
        self,
        network: Network,
        perturbation: Perturbation,
        coefficients: np.ndarray,
        offsets: np.ndarray,
        options: BoundOptions,
    ) -> np.ndarray:
        """Lower bounds of linear functions ``C y + d`` of the outputs y over each sample's perturbation set.

        Args as for :func:`tfcert.propagation.engine.lower_bounds`.

        Returns:
            ``[batch, rows]`` float64, never below CROWN's.
        """
        builder = QueryBuilder(flat_network(network, "crown", options), network, "crown", options, rounded=False)
        each = math.inf if options.solver_seconds is None else options.solver_seconds
        count, rows = np.shape(offsets)
        lower = np.zeros((count, rows))
        with SolverProcess(SolverSettings(solver=options.solver)) as process:
            for i in range(count):
                asked = Clauses.all_of(coefficients[i][None], offsets[i][None])
                lower[i], _ = row_bounds(builder, perturbation.take([i]), asked, Solvers(process), (each, self._exact))
        return lower


LP, MILP = _Solved(exact=False), _Solved(exact=True)


def row_bounds(
    builder: QueryBuilder, perturbation: Perturbation, clauses: Clauses, solvers: Solvers, how: tuple[float, bool]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Lower bounds of one sample's rows and clauses, as far as there is time.

    Args:
        builder: of the sample's query.
        perturbation: the sample's set.
        clauses: of the sample, whose rows are bounded.
        solvers: of which the first is asked, until their time is used up.
        how: the most seconds of one program, and whether an integer program follows its linear relaxation.

    Returns:
        Of the rows, ``[clauses * rows]``, never below CROWN's, and None. Where some clause has several rows, the solver
        is asked about clauses: -inf for rows, and ``[clauses]``, of the best row of each where conditions on inputs are
        met.

    Raises:
        TimeoutError: there is no time for CROWN's bounds either.
    """
    region = perturbation.astype(np.float64)
    together = clauses.disjunctive
    asked = clauses if together else Clauses.all_of(*clauses.rows())
    query = builder.query(region, Judge(builder.model, region, asked), solvers)
    lower = query.lower.max(axis=1)
    for number in query.asked if together else range(len(lower)):
        seconds = min(how[0], solvers.left())
        if seconds <= 0:
            break
        lower[number] = max(float(lower[number]), _row(query, number, solvers.first, seconds, exact=how[1]))
    return (np.full(query.lower.size, -np.inf), lower) if together else (lower, None)


def _row(query: Query, row: int, process: SolverProcess, limit: float, *, exact: bool) -> float:
    if not query.finite:
        return -np.inf  # nothing can be encoded
    until, bound = time.monotonic() + limit, -np.inf
    try:
        relaxed = margin_program(query, [row], relax=True, until=until)
        bound = query.priced(process.solve(relaxed.program, until - time.monotonic(), relax=True))
        if exact:
            asked = margin_program(query, [row], until=until)
            answer = process.solve(asked.program, until - time.monotonic())
            claimed = checked(query, answer, asked.program, asked.encoding).bound
            bound = bound if claimed is None else max(bound, claimed)
    except SolverError:
        return -np.inf  # nothing is known from it
    except TimeoutError:  # what is known by then counts
        pass
    return bound
