"""The solvers: what loads a program into each of them. Runs in the solver's process and loads no TensorFlow.

``tfcert.catalog.SOLVERS`` names them. What a backend answers is a claim: the parent checks it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from tfcert.complete.encoding.program import Program

_SETTLED = 1e-6
"""Squares count as reached when they are off by this share of their sum (half as much of a distance)."""
_SPREAD = 1e4
"""How far apart the solver sees the ends of an objective. Its tolerances are absolute: CBC without cuts was seen to
call a distance of 0.034495 optimal where 0.034455 was there, and to find that, sooner, for 1000 times the distance."""
_UNSEEN = 1e-9
"""What a solver's tolerance leaves open of each square: no tangent closes that."""


class LoadedProgram(Protocol):
    """A program in a solver.

    Attributes:
        tangents: those that were added where it asks for squares: root, square and point of each.
    """

    tangents: list[tuple[int, int, float]]

    def start(self, point: np.ndarray) -> None:
        """Gives the solver a full point to begin with."""

    def aim(self, objective: np.ndarray, constant: float) -> None:
        """Changes what is minimised."""

    def solve(self, relax: bool, until: float) -> dict[str, Any]:
        """Solves it, or its linear relaxation, until ``time.monotonic()`` is ``until``.

        Returns:
            ``status`` (``optimal``, ``infeasible``, ``limit`` or ``error: ...``), ``bound``, ``objective``, the point
            ``v`` and of a relaxation the rows' ``prices``, tangents last; None each where there is none.
        """


class SolverBackend(Protocol):
    """A solver: the object that an entry of ``tfcert.catalog.SOLVERS`` names."""

    def complaint(self) -> str:
        """What keeps it from being used on this machine, in one line; "" if nothing does."""

    def load(self, program: Program, settings: Mapping[str, Any]) -> LoadedProgram:
        """Loads a program; the settings are ``gap``, ``gap_abs``, ``threads`` and ``seed``."""


class _Mip:
    """A solver that python-mip knows by a name, with what is set beside the common settings."""

    def __init__(self, name: str, tune: Callable[[Any, Any, Mapping[str, Any]], None]):
        self._name, self._tune = name, tune

    def complaint(self) -> str:
        import mip

        try:
            mip.Model(sense=mip.MINIMIZE, solver_name=self._name)
        except Exception as error:  # python-mip's own, or of a library's loader
            return f"{type(error).__name__}: {' '.join(str(error).split())}"
        return ""

    def load(self, program: Program, settings: Mapping[str, Any]) -> LoadedProgram:
        import mip
        import mip.cbc

        model = mip.Model(sense=mip.MINIMIZE, solver_name=self._name)
        model.verbose = 0
        model.threads = int(settings["threads"])
        model.seed = int(settings["seed"])
        model.max_mip_gap = float(settings["gap"])
        self._tune(mip, model, settings)
        return _MipProgram(mip, model, program, settings)


def _tune_cbc(mip: Any, model: Any, settings: Mapping[str, Any]) -> None:
    # With its cuts and preprocessing CBC was seen to call a worse point optimal.
    model.cuts, model.preprocess = 0, 0
    _tune_cbc_default(mip, model, settings)


def _tune_cbc_default(mip: Any, model: Any, _: Mapping[str, Any]) -> None:
    model.integer_tol, model.infeas_tol, model.opt_tol = 1e-9, 1e-9, 1e-9
    # python-mip hands tolerances on before integer programs only.
    mip.cbc.cbclib.Cbc_setPrimalTolerance(model.solver._model, 1e-9)
    mip.cbc.cbclib.Cbc_setDualTolerance(model.solver._model, 1e-9)


def _tune_highs(_: Any, model: Any, settings: Mapping[str, Any]) -> None:
    # python-mip hands these on to CBC only.
    for option in ("primal_feasibility_tolerance", "dual_feasibility_tolerance", "mip_feasibility_tolerance"):
        model.solver._set_double_option_value(option, 1e-9)
    model.solver._set_int_option_value("random_seed", int(settings["seed"]))


def _tune_gurobi(_: Any, model: Any, settings: Mapping[str, Any]) -> None:
    model.infeas_tol, model.opt_tol, model.integer_tol = 1e-9, 1e-9, 1e-9


def gurobi_complaint() -> str:
    """A sentence that says why Gurobi cannot be used on this machine; "" if it can."""
    said = GUROBI.complaint()
    return said and (
        "the solver gurobi cannot be used here: python-mip needs Gurobi's library in the folder `lib` of the one "
        "that GUROBI_HOME names, and a licence that GRB_LICENSE_FILE names (gurobipy's own is for "
        f"that alone); it says: {said}"
    )


CBC, HIGHS, CBC_DEFAULT = _Mip("CBC", _tune_cbc), _Mip("HIGHS", _tune_highs), _Mip("CBC", _tune_cbc_default)
GUROBI = _Mip("GUROBI", _tune_gurobi)


class _MipProgram:
    """A program loaded into a solver, with the tangents that were added to it."""

    def __init__(self, mip: Any, model: Any, program: Program, settings: Mapping[str, Any]):
        self._mip, self.model, self.program, self.settings = mip, model, program, settings
        kinds = np.where(program.integer, mip.INTEGER, mip.CONTINUOUS)
        self.variables = [
            self.model.add_var(lb=low, ub=high, var_type=kind)
            for low, high, kind in zip(program.lower.tolist(), program.upper.tolist(), kinds.tolist(), strict=True)
        ]
        starts = program.starts.tolist()
        columns, values, right = program.columns.tolist(), program.values.tolist(), program.right.tolist()
        for row, equal in enumerate(program.equal.tolist()):
            part = slice(starts[row], starts[row + 1])
            self._row(columns[part], values[part], right[row], "=" if equal else "<")
        self.aim(program.objective, float(program.constant))
        self.tangents: list[tuple[int, int, float]] = []
        for point in (-1.0, -0.5, 0.0, 0.5, 1.0) if len(program.squares) else ():
            roots, squares = program.squares.T
            reach = np.maximum(np.abs(program.lower[roots]), np.abs(program.upper[roots]))
            self._touch(roots, squares, point * reach)

    def _row(self, columns: list[int], values: list[float], right: float, sense: str) -> None:
        variables = [self.variables[c] for c in columns]
        self.model.add_constr(self._mip.LinExpr(variables, values, -right, sense))

    def aim(self, objective: np.ndarray, constant: float) -> None:
        """Changes what is minimised: times a power of two, which costs no digits."""
        some = np.flatnonzero(objective)
        spread = float(np.abs(objective) @ (self.program.upper - self.program.lower))
        self.scale = 2.0 ** round(math.log2(_SPREAD / spread)) if spread > 0 else 1.0
        costs = (self.scale * objective[some]).tolist()
        terms = self._mip.LinExpr([self.variables[i] for i in some], costs, self.scale * constant)
        self.model.objective = self._mip.minimize(terms)
        self.model.max_mip_gap_abs = self.scale * float(self.settings["gap_abs"])

    def start(self, point: np.ndarray) -> None:
        """Gives the solver a full point to begin with: python-mip would fill the rest with zeros."""
        self.model.start = list(zip(self.variables, point.tolist(), strict=True))

    def solve(self, relax: bool, until: float) -> dict[str, Any]:
        """Solves, adding tangents where squares fall short, until they do not or the time is up."""
        if relax or not len(self.program.squares):
            return self._converged(relax, until)
        rough = self._converged(True, until)  # tangents are cheap to find without integers
        return rough if rough["status"] == "infeasible" else self._converged(False, until)

    def _converged(self, relax: bool, until: float) -> dict[str, Any]:
        best: dict[str, Any] = {}
        while True:
            answer = self._once(relax, until)
            if answer["bound"] is not None and best.get("bound") is not None:
                answer["bound"] = max(answer["bound"], best["bound"])
            best = answer
            if answer["v"] is None or not len(self.program.squares):
                return answer
            roots, squares = self.program.squares.T
            at, lifted = answer["v"][roots], answer["v"][squares]
            short = at**2 - lifted
            settled = short.sum() <= max(_SETTLED * lifted.sum(), _UNSEEN * len(short))
            # A solver that breaks the tangents that it has would break more of them as well.
            if settled or self._broken(answer["v"]) >= 0.5 * short.max() or time.monotonic() >= until:
                return answer
            some = short > 0
            self._touch(roots[some], squares[some], at[some])

    def _broken(self, v: np.ndarray) -> float:
        """By how much a point breaks the tangents at most."""
        tangents = np.array(self.tangents)
        roots, squares, p = tangents[:, 0].astype(np.int64), tangents[:, 1].astype(np.int64), tangents[:, 2]
        return float((2 * p * v[roots] - v[squares] - p**2).max())

    def _touch(self, roots: np.ndarray, squares: np.ndarray, points: np.ndarray) -> None:
        """Adds the tangents ``square >= 2 p root - p^2``."""
        for root, square, p in zip(roots.tolist(), squares.tolist(), points.tolist(), strict=True):
            self._row([root, square], [2 * p, -1.0], p * p, "<")
            self.tangents.append((root, square, p))

    def _once(self, relax: bool, until: float) -> dict[str, Any]:
        left = until - time.monotonic()
        if left <= 0:
            return {"status": "limit", "bound": None, "objective": None, "v": None, "prices": None}
        limit = {} if relax else {"max_seconds": left}
        status = self.model.optimize(relax=relax, **limit)
        codes = self._mip.OptimizationStatus
        names = {
            codes.OPTIMAL: "optimal",
            codes.INFEASIBLE: "infeasible",
            codes.INT_INFEASIBLE: "infeasible",
            codes.FEASIBLE: "limit",
            codes.NO_SOLUTION_FOUND: "limit",
        }
        name = names.get(status, f"error: {status.name.lower()}")
        # After an infeasible run HiGHS keeps the values of the run before.
        found = name in ("optimal", "limit") and self.model.num_solutions > 0
        point = np.array([v.x for v in self.variables], np.float64) if found else None
        prices = None
        if relax and name == "optimal":
            prices = np.array([row.pi for row in self.model.constrs], np.float64) / self.scale
        bound = self.model.objective_bound if name in ("optimal", "limit") and not relax else None
        if relax and name == "optimal":
            bound = self.model.objective_value
        return {
            "status": name,
            "bound": _number(bound, self.scale),
            "objective": _number(self.model.objective_value, self.scale) if found else None,
            "v": point,
            "prices": prices,
        }


def _number(value: Any, scale: float) -> float | None:
    return float(value) / scale if value is not None and math.isfinite(value) and abs(value) < 1e30 else None
