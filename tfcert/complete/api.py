"""What users call: the least perturbations that make a model fail."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tfcert.attacks.witness import input_dtype, run
from tfcert.certification.api import asked, certified_radius, target_clauses
from tfcert.clauses import Clauses
from tfcert.complete.encoding.piecewise import plain
from tfcert.complete.search.builder import Asker, nearest_witnesses
from tfcert.complete.search.minimum import OPTIMAL, Minimum, Search, minimum, plain_minimum
from tfcert.complete.search.query import Solvers
from tfcert.complete.search.witness import Judge
from tfcert.complete.solver.process import SolverProcess, SolverSettings
from tfcert.given import radius
from tfcert.network import Network
from tfcert.options import BoundOptions
from tfcert.sets.balls import ORDER, LpBall
from tfcert.showing import counted, spread, table
from tfcert.verdict import Guarantee

_CERTIFIED = 0.05
"""Relative tolerance of the certified radii that a search begins with."""
SEARCHES: dict[str, tuple[str, ...]] = {"split": ("split", "milp"), "milp": ("milp",), "plain": ()}
"""How a search decides whether there is a nearer witness, by name; a plain one does not ask."""


@dataclass(frozen=True)
class MinimumPerturbations:
    """The least distances at which each sample is misclassified.

    Attributes:
        lower: ``[batch]``: no nearer input is misclassified (an infimum: at that distance the margin is within what the
            rounding of the model's own arithmetic may take; see :class:`tfcert.Certification`).
        upper: ``[batch]``: the distance of ``witness``, rounded up; infinite where there is none.
        optimal: bool ``[batch]``: the two differ by at most a relative 1e-5.
        witness: ``[batch, *input]``, strictly misclassified by the original model; NaN where none was found.
        seconds: ``[batch]``; the attacks' time, which is spent on the whole batch, shared out evenly.
        binaries: ``[batch]``: neurons and choices left to the solver of integer programs; 0 where none was asked.
        pieces: ``[batch]``: into how many pieces branch and bound cut the sets that it decided.
        guarantee: ``[batch]``: of ``lower``: ``solver`` where an integer program was believed, else ``numeric``.
        reason: ``[batch]``: why lower and upper differ; "" where they do not, or where there is no witness up to
            ``upper`` of the call and that is proven.
        target: ``all``, or that only one class was asked about.
    """

    lower: np.ndarray
    upper: np.ndarray
    optimal: np.ndarray
    witness: np.ndarray
    seconds: np.ndarray
    binaries: np.ndarray
    pieces: np.ndarray
    guarantee: list[Guarantee]
    reason: list[str]
    target: str = "all"

    def __repr__(self) -> str:
        return (
            f"MinimumPerturbations: {int(self.optimal.sum())} of {counted(len(self.optimal), 'sample')} optimal; lower "
            f"{spread(self.lower)}; upper {spread(self.upper)} ({', '.join(sorted(set(map(str, self.guarantee))))})"
        )

    def __str__(self) -> str:
        columns: dict[str, Any] = {
            "lower": self.lower,
            "upper": self.upper,
            "optimal": self.optimal,
            "seconds": self.seconds,
        }
        words = {"guarantee": [str(level) for level in self.guarantee], "reason": self.reason}
        return f"{self!r}\n{table(columns | words)}"


@dataclass(frozen=True)
class Progress:
    """Where a long search stands: the sample, what is known of it, and the seconds it took so far."""

    sample: int
    of: int
    lower: float
    upper: float
    seconds: float
    done: bool


def minimum_perturbation(
    model: Any,
    x: Any,
    y: Any = None,
    *,
    norm: str = "linf",
    targets: Any = "all",
    upper: float | None = None,
    time_limit: float | None = None,
    solver: str | SolverSettings = "cbc",
    clip: Any = None,
    search: str = "split",
    bounds: str = "crown",
    total_limit: float | None = None,
    progress: Callable[[Progress], None] | None = None,
    options: BoundOptions | None = None,
) -> MinimumPerturbations:
    """The least perturbation of each ``x[i]`` that makes the model misclassify it.

    For networks of straight pieces (dense, convolution, pooling, batch norm, residual adds, ReLU and its
    kin) the answer is exact up to tolerances; curved activations are enclosed, so ``lower`` is sound and ``upper`` a
    real witness, but the two may stay apart. Guided by attacks as in Agrify (Zhu et al. 2021), with all targets.

    Args:
        model: a Keras model.
        x, y: samples and labels, in the forms that :func:`tfcert.certify` takes.
        norm: ``linf``, ``l1`` or ``l2``.
        targets: as for :func:`tfcert.certify`. With one class a sample the answer is for that class alone.
        upper: how far to look; by default as far as ``clip`` goes.
        time_limit: seconds a sample; ``total_limit``: for all together.
        solver: ``cbc``, ``highs``, or settings, which may name a second solver to confirm.
        clip: the valid range ``(low, high)`` of an input; None: every input counts, and a witness may be none that is
            valid.
        search: ``split``: an attack's witness confines the search (Agrify), and branch and bound decides whether there
            is a nearer one (integer programs what it leaves open); ``milp``: confined alike, by integer programs
            alone; ``plain``: nothing is attacked, and all of ``upper`` is one integer program.
        bounds: of the neurons: ``crown``, ``interval``, ``lp`` or ``progressive`` (MIPVerify).
        progress: is called as things are found.
        options: of bound computations.

    Returns:
        One answer a sample. A misclassified sample has distance 0 and itself as witness.

    Raises:
        ValueError: without ``upper`` and ``clip``, or anything that does not fit the model.
    """
    if search not in SEARCHES:
        raise ValueError(f"search is {', '.join(SEARCHES)}, not {search!r}")
    network, x, y = asked(model, x, y)
    center = LpBall(x, 0.0, norm, clip).astype(input_dtype(model, network.dtype.as_numpy_dtype))
    clauses = target_clauses(network, center, y, targets)
    settings = solver if isinstance(solver, SolverSettings) else SolverSettings(solver=solver)
    reach = _reach(center, radius(upper, "upper"))
    ball = LpBall(center.x, list(reach), norm, center.clip)
    asker = Asker(plain(network), model, bounds, options)
    started = time.monotonic()
    known = _known(model, network, ball, clauses, attacked=search != "plain")
    certified = np.zeros(len(ball))
    if search != "plain":  # cheap, and something to show while the solver works
        certified = certified_radius(
            network, ball.x, y, norm=norm, clip=clip, targets=targets, tolerance=_CERTIFIED, options=options
        ).radius.astype(np.float64)
        certified = np.minimum(certified, reach)
    shared = (time.monotonic() - started) / max(1, len(ball))
    limits = (math.inf if time_limit is None else time_limit, math.inf if total_limit is None else total_limit)
    found: list[Minimum] = []
    seconds = np.zeros(len(ball))
    with solver_processes(settings) as (first, others):
        for i in range(len(ball)):
            began = time.monotonic()
            solvers = Solvers(first, others, min(began + limits[0] - shared, started + limits[1]))
            told = _teller(progress, Progress(i, len(ball), certified[i], math.inf, shared, False), began)
            some = ball.take([i])
            start = (known[i], float(certified[i]))
            found.append(_one(asker, some, clauses.take([i]), start, (solvers, search, told)))
            seconds[i] = time.monotonic() - began + shared
            told(found[i].lower, found[i].upper, done=True)
    return _gathered(ball, found, seconds, targets)


def _reach(center: LpBall, upper: float | None) -> np.ndarray:
    """How far to look around each sample."""
    limit = np.full(len(center), np.inf)
    if upper is not None:
        if not (np.ndim(upper) == 0 and upper > 0):
            raise ValueError(f"upper must be a positive number, not {upper!r}")
        limit[:] = upper
    if center.clip is not None:
        x = center.x.astype(np.float64)
        room = np.maximum(center.clip[1] - x, x - center.clip[0]).reshape(len(x), -1)
        limit = np.minimum(limit, np.linalg.norm(room, ORDER[center.norm], axis=1))
    if not np.isfinite(limit).all():
        raise ValueError("how far to look is not bounded: give upper, or clip")
    return limit


def _known(model: Any, network: Network, ball: LpBall, clauses: Clauses, *, attacked: bool) -> list[np.ndarray | None]:
    """For each sample itself where it is misclassified, else the nearest witness that attacks find, if they are run."""
    at_center = clauses.margin(run(model, ball.x)) if len(ball) else np.zeros(0)
    wrong = at_center < 0
    right = np.flatnonzero(~wrong)
    peeled = network if network.peeled else None
    witness = ball.x.copy()
    witness[right] = np.nan
    if len(right) and attacked:
        witness[right], _ = nearest_witnesses(model, ball.take(right), clauses.take(right), network=peeled)
    return [None if np.isnan(w).any() else w for w in witness]


@contextlib.contextmanager
def solver_processes(settings: SolverSettings) -> Iterator[tuple[SolverProcess, tuple[SolverProcess, ...]]]:
    """The solver's process and that of the one that confirms, started when they are first asked."""
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(SolverProcess(settings))
        names = () if settings.confirm is None else (settings.confirm,)
        others = tuple(stack.enter_context(SolverProcess(replace(settings, solver=n, confirm=None))) for n in names)
        yield first, others


Told = Callable[..., None]


def _teller(progress: Callable[[Progress], None] | None, first: Progress, began: float) -> Told:
    def tell(lower: float, upper: float, done: bool = False) -> None:
        if progress is not None:
            seconds = first.seconds + time.monotonic() - began
            progress(replace(first, lower=lower, upper=upper, seconds=seconds, done=done))

    return tell


def _one(
    asker: Asker,
    ball: LpBall,
    clauses: Clauses,
    known: tuple[np.ndarray | None, float],
    how: tuple[Solvers, str, Told],
) -> Minimum:
    """One sample: ``known`` are a witness and a certified distance."""
    (witness, certified), (solvers, way, tell) = known, how
    judge = Judge(asker.model, ball, clauses)
    if witness is not None and judge.distance(witness) == 0.0:
        return Minimum(0.0, 0.0, witness, Guarantee.REPLAYED)
    search = Search(
        lambda some: asker.query(some, judge, solvers),
        judge,
        ball.astype(np.float64),
        witness,
        certified,
        SEARCHES[way],
        tell=tell,
    )
    return (minimum if search.ways else plain_minimum)(search, solvers)


def _gathered(ball: LpBall, found: list[Minimum], seconds: np.ndarray, targets: Any) -> MinimumPerturbations:
    witness = np.full(ball.x.shape, np.nan, ball.x.dtype)
    for i, one in enumerate(found):
        if one.witness is not None:
            witness[i] = one.witness
    return MinimumPerturbations(
        lower=np.array([f.lower for f in found]),
        upper=np.array([f.upper for f in found]),
        optimal=np.array([f.optimal(OPTIMAL) for f in found], bool),
        witness=witness,
        seconds=seconds,
        binaries=np.array([f.binaries for f in found], int),
        pieces=np.array([f.pieces for f in found], int),
        guarantee=[f.guarantee for f in found],
        reason=[f.reason for f in found],
        target=targets if isinstance(targets, str) else "one class",
    )
