"""The solver's process: ``python -m tfcert.complete.solver.worker [memory in MiB]``. Loads no TensorFlow.

Reads requests from standard input and answers on standard output, one at a time, until the input ends. A message is
two lengths (8 bytes each, little-endian), a JSON header and an npz file. CBC writes to standard output whatever it is
told, so answers go out on a copy of it and the original leads to standard error.
"""

from __future__ import annotations

import contextlib
import gc
import json
import math
import os
import resource
import struct
import sys
import threading
import time
from typing import IO, Any

import numpy as np

from tfcert.complete.encoding.program import Program, pack, unpack

LENGTHS = struct.Struct("<QQ")
PARENT_CHECK = 1.0
"""Seconds between looks at whether the parent still lives."""
_SETTLED = 1e-6
"""Squares count as reached when they are off by this share of their sum (half as much of a distance)."""
_SPREAD = 1e4
"""How far apart the solver sees the ends of an objective. Its tolerances are absolute: CBC without cuts was seen to
call a distance of 0.034495 optimal where 0.034455 was there, and to find that, sooner, for 1000 times the distance."""
_UNSEEN = 1e-9
"""What a solver's tolerance leaves open of each square: no tangent closes that."""


def read_message(stream: IO[bytes]) -> tuple[dict[str, Any], bytes] | None:
    """One message; None at the end of the stream.

    Raises:
        ValueError: it is broken off or no message.
    """
    lengths = stream.read(LENGTHS.size)
    if not lengths:
        return None
    if len(lengths) < LENGTHS.size:
        raise ValueError("a message broke off")
    header, body = (stream.read(n) for n in LENGTHS.unpack(lengths))
    found = json.loads(header)
    if not isinstance(found, dict):
        raise ValueError("a message without a header")
    return found, body


def write_message(stream: IO[bytes], header: dict[str, Any], arrays: bytes) -> None:
    """Sends one message."""
    text = json.dumps(header).encode()
    stream.write(LENGTHS.pack(len(text), len(arrays)) + text + arrays)
    stream.flush()


class LoadedProgram:
    """A program loaded into a solver, with the tangents that were added to it."""

    def __init__(self, program: Program, settings: dict[str, Any]):
        import mip
        import mip.cbc

        self._mip, self.program, self.settings = mip, program, settings
        name = {"cbc": "CBC", "cbc-default": "CBC", "highs": "HIGHS"}[settings["solver"]]
        self.model = mip.Model(sense=mip.MINIMIZE, solver_name=name)
        self._configure()
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

    def _configure(self) -> None:
        model, settings = self.model, self.settings
        model.verbose = 0
        model.threads = int(settings["threads"])
        model.seed = int(settings["seed"])
        model.max_mip_gap = float(settings["gap"])
        if settings["solver"] == "cbc":
            # With its cuts and preprocessing CBC was seen to call a worse point optimal.
            model.cuts, model.preprocess = 0, 0
        if settings["solver"].startswith("cbc"):
            model.integer_tol, model.infeas_tol, model.opt_tol = 1e-9, 1e-9, 1e-9
            # python-mip hands tolerances on before integer programs only.
            self._mip.cbc.cbclib.Cbc_setPrimalTolerance(model.solver._model, 1e-9)
            self._mip.cbc.cbclib.Cbc_setDualTolerance(model.solver._model, 1e-9)
        else:  # python-mip hands these on to CBC only
            solver = model.solver
            for option in ("primal_feasibility_tolerance", "dual_feasibility_tolerance", "mip_feasibility_tolerance"):
                solver._set_double_option_value(option, 1e-9)
            solver._set_int_option_value("random_seed", int(settings["seed"]))

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


def answer(header: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
    """Solves what a request asks: its program once, or once for each of its ``_objectives``."""
    began, arrays = time.monotonic(), unpack(body)
    until = began + float(header["seconds"])
    start, objectives = arrays.pop("_start", None), arrays.pop("_objectives", None)
    task = LoadedProgram(Program(**arrays), header["settings"])
    if start is not None:
        task.start(start)
    answers = []
    for row in [None] if objectives is None else objectives:
        if row is not None:
            task.aim(row, 0.0)
        answers.append(task.solve(bool(header["relax"]), until))
    reply = [{k: found[k] for k in ("status", "bound", "objective")} for found in answers]
    data = {f"{k}{i}": a[k] for i, a in enumerate(answers) for k in ("v", "prices") if a[k] is not None}
    data["tangents"] = np.array(task.tangents, np.float64).reshape(-1, 3)
    return {"answers": reply, "seconds": time.monotonic() - began}, pack(data)


def _leave_with_parent() -> None:
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK)
    os._exit(1)


def main() -> None:
    """Serves requests until standard input ends."""
    if len(sys.argv) > 1:
        most = int(sys.argv[1]) * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    # A model that is collected while another one calls CBC waits for ever for the lock of that call (python-mip's
    # finaliser and cffi): what is left of models is collected between answers alone.
    with contextlib.suppress(ImportError, OSError, MemoryError):  # said to whoever asks for it
        import mip.cbc  # noqa: F401
    gc.disable()
    gc.freeze()
    while (message := read_message(sys.stdin.buffer)) is not None:
        try:
            header, body = answer(*message)
        except Exception as error:  # said to the parent, which makes no verdict of it
            header, body = {"error": f"{type(error).__name__}: {error}"}, b""
        write_message(replies, header, body)
        gc.collect()


if __name__ == "__main__":
    main()
