"""Least perturbations that make a model fail: the function that users call."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tfcert.attacks.witness import input_dtype
from tfcert.catalog import BOUNDS, GUIDES
from tfcert.clauses import Clauses
from tfcert.complete.prepare import Prepared, Setup, prepared
from tfcert.complete.search.minimum import OPTIMAL, Minimum
from tfcert.complete.search.witness import Judge
from tfcert.complete.solver.process import SolverSettings
from tfcert.complete.starts import Start, given_starts, rehearse, starts
from tfcert.given import radius
from tfcert.network import Network
from tfcert.options import BoundOptions
from tfcert.propagation.question import asked, target_clauses
from tfcert.rigour.radius import clip_distance
from tfcert.sets.balls import LpBall
from tfcert.sets.fitting import fitted, require_moving
from tfcert.showing import ShownResult, counted, spread
from tfcert.verdict import Guarantee, Work

_ALIKE = 0.4
"""The share of all samples' time that goes into what is done for all of them at once."""
SEARCHES: dict[str, tuple[str, ...]] = {"split": ("split", "milp"), "milp": ("milp",), "plain": ()}
"""How a search decides whether there is a nearer witness, by name; a plain one does not ask."""


@dataclass(frozen=True)
class MinimumPerturbations(ShownResult):
    """The least distances at which each sample is misclassified.

    Attributes:
        lower: ``[batch]``: no nearer input is misclassified (an infimum: at that distance the margin is within what the
            rounding of the model's own arithmetic may take; see :class:`tfcert.Certification`).
        upper: ``[batch]``: the distance of ``witness``, rounded up; infinite where there is none.
        optimal: bool ``[batch]``: the two differ by at most a relative 1e-5.
        witness: ``[batch, *input]``, strictly misclassified by the original model; NaN where none was found. Of a model
            with several inputs a dictionary of such by their names.
        seconds: ``[batch]``; the attacks' time, which is spent on the whole batch, shared out evenly.
        binaries: ``[batch]``: neurons and choices left to the solver of integer programs; 0 where none was asked.
        pieces: ``[batch]``: into how many pieces branch and bound cut the sets that it decided.
        guarantee: ``[batch]``: of ``lower``: ``solver`` where an integer program was believed, else that of bounds.
        reason: ``[batch]``: why lower and upper differ; "" where they do not, or where there is no witness up to
            ``upper`` of the call and that is proven.
        target: ``all``, or that only one class was asked about.
        search, bounds, guide: how the answers were found, as the arguments say it; no guide where nothing was attacked.
        work: for each sample what it took, ``binaries`` and ``pieces`` among it.
        setup_seconds: what came before, on no sample's time: tracing, flattening the network, starting solvers.
    """

    lower: np.ndarray
    upper: np.ndarray
    optimal: np.ndarray
    witness: Any
    seconds: np.ndarray
    binaries: np.ndarray
    pieces: np.ndarray
    guarantee: list[Guarantee]
    reason: list[str]
    target: str = "all"
    search: str = "split"
    bounds: str = "crown"
    guide: str = "pgd"
    work: tuple[Work, ...] = ()
    setup_seconds: float = 0.0

    @property
    def how(self) -> str:
        """How the answers were found, in words: the search, the bounds of neurons and the attack."""
        guided = f"guided by {self.guide}" if self.guide else "not guided"
        return f"search {self.search}, {guided}, {self.bounds} bounds"

    def __repr__(self) -> str:
        return (
            f"MinimumPerturbations: {int(self.optimal.sum())} of {counted(len(self.optimal), 'sample')} optimal; lower "
            f"{spread(self.lower)}; upper {spread(self.upper)} ({', '.join(sorted(set(map(str, self.guarantee))))}); "
            f"{self.how}{'' if self.target == 'all' else f'; towards {self.target} alone'}"
        )

    def _columns(self) -> dict[str, Any]:
        columns: dict[str, Any] = {
            "lower": self.lower,
            "upper": self.upper,
            "optimal": self.optimal,
            "seconds": self.seconds,
        }
        words = {"guarantee": [str(level) for level in self.guarantee], "reason": self.reason}
        return columns | words


@dataclass(frozen=True)
class Progress:
    """The state of a long search: the sample, what is known of it, and the seconds it took so far."""

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
    free: Any = None,
    scale: Any = None,
    search: str = "split",
    bounds: str = "crown",
    guide: str = "pgd",
    total_limit: float | None = None,
    progress: Callable[[Progress], None] | None = None,
    options: BoundOptions | None = None,
) -> MinimumPerturbations:
    """The least perturbation of each ``x[i]`` that makes the model misclassify it.

    For networks of straight pieces (dense, convolution, pooling, batch norm, residual adds, ReLU and its
    kin) the answer is exact up to tolerances; curved activations are enclosed, so ``lower`` is sound and ``upper`` a
    real witness, but the two may stay apart. Guided by attacks as in Agrify (Zhu et al. 2021), whose own configuration
    is ``search="milp", bounds="symbolic", targets="runner-up"``; by default all targets and tighter bounds.

    Args:
        model: a Keras model.
        x, y: samples and labels, in the forms that :func:`tfcert.certify` takes.
        norm: ``linf``, ``l1`` or ``l2``.
        targets: as for :func:`tfcert.certify`. With one class a sample the answer is for that class alone.
        upper: how far to look; by default as far as ``clip`` goes.
        time_limit: seconds a sample; ``total_limit``: for all together. Either holds to within a tenth and half a
            second. What is prepared before (see ``setup_seconds``) is no sample's time.
        solver: ``cbc``, ``highs``, or settings, which may name a second solver to confirm.
        clip: the valid range ``(low, high)`` of an input; None: every input counts, and a witness may be none that is
            valid.
        free: what may change, and nothing else, as for :class:`tfcert.LpBall`.
        scale: where radii are uneven, how they compare, as for :func:`tfcert.certified_radius`: distances are
            multiples of it.
        search: ``split``: an attack's witness confines the search (Agrify), and branch and bound decides whether there
            is a nearer one (integer programs what it leaves open); ``milp``: confined alike, by integer programs
            alone; ``plain``: nothing is attacked, and all of ``upper`` is one integer program.
        bounds: of the neurons, before the search: ``interval``; ``symbolic`` (ReLU alone; Wang et al. 2018, as in
            Agrify); ``forward``; ``crown``; ``lp`` or ``progressive`` (MIPVerify).
        guide: the attack whose witness confines the search: ``pgd``, by bisection on the radius; ``pgd_cross_entropy``,
            the same down the loss that it is published with; ``cw``, ``ead`` or ``fmn`` of the library foolbox. What
            counts is the witness's distance in ``norm``, whichever the attack looks in. A plain search has none.
        progress: is called as things are found.
        options: of bound computations.

    Returns:
        One answer a sample. A misclassified sample has distance 0 and itself as witness.

    Raises:
        ValueError: without ``upper`` and ``clip``, or anything that does not fit the model.
        UsageError: a guide whose library is not installed.
    """
    given = _read(model, x, y, (norm, targets, upper, clip), (free, scale))
    if given.ball.scale is not None and guide not in ("pgd", "pgd_cross_entropy"):
        raise ValueError(f"guide {guide} measures all numbers of an input alike; with free or scale use guide='pgd'")
    settings = solver if isinstance(solver, SolverSettings) else SolverSettings(solver=solver)
    how = MinimumOptions(search, bounds, guide, settings, time_limit, total_limit, options)
    found = list(_each(given, how, progress))
    gathered, parts = _gathered(given.ball, found, targets, how), given.network.parts
    return gathered if parts is None else replace(gathered, witness=parts.split(gathered.witness))


def each_minimum(
    model: Any, x: Any, y: Any, *, norm: str, targets: Any, upper: float | None, clip: Any, how: MinimumOptions
) -> Iterator[FoundMinimum]:
    """The answers of :func:`minimum_perturbation` in the order of the samples, each as soon as it is known.

    Arguments and errors are those of that function, which are raised before anything is looked for.
    """
    return _each(_read(model, x, y, (norm, targets, upper, clip)), how)


@dataclass(frozen=True)
class MinimumOptions:
    """How to look for least perturbations: arguments of :func:`minimum_perturbation`.

    Raises:
        ValueError: an unknown search, or an unknown name of bounds or a guide.
    """

    search: str = "split"
    bounds: str = "crown"
    guide: str = "pgd"
    solver: SolverSettings = field(default_factory=SolverSettings)
    time_limit: float | None = None
    total_limit: float | None = None
    options: BoundOptions | None = None

    def __post_init__(self) -> None:
        if self.search not in SEARCHES:
            raise ValueError(f"search is {', '.join(SEARCHES)}, not {self.search!r}")
        BOUNDS.find(self.bounds)
        GUIDES.find(self.guide)


@dataclass(frozen=True)
class FoundMinimum:
    """The answer about one sample, the seconds that it took, and those of what came before (see ``setup_seconds``)."""

    least: Minimum
    seconds: float
    setup_seconds: float


@dataclass(frozen=True, eq=False)
class _Given:
    """Samples as balls that reach as far as is looked, and what must hold of the outputs."""

    network: Network
    model: Any
    ball: LpBall
    clauses: Clauses
    began: float


def _read(
    model: Any, x: Any, y: Any, region: tuple[str, Any, float | None, Any], shares: tuple[Any, Any] = (None, None)
) -> _Given:
    (norm, targets, upper, clip), began = region, time.monotonic()
    network, x, y = asked(model, x, y)
    free, scale = shares
    center = LpBall(x, 0.0, norm, clip, free=free, scale=scale, parts=network.parts)
    center = center.astype(input_dtype(model, network.dtype.as_numpy_dtype))
    center = require_moving(fitted(center, network.parts, network.input_shape))
    clauses = target_clauses(network, center, y, targets)
    reach = _reach(center, radius(upper, "upper"))
    return _Given(network, model, center.resized(list(reach)), clauses, began)


def _each(
    given: _Given, how: MinimumOptions, progress: Callable[[Progress], None] | None = None
) -> Iterator[FoundMinimum]:
    ball, clauses = given.ball, given.clauses
    patience = min(limit for limit in (how.total_limit, how.time_limit, math.inf) if limit is not None)
    setup = Setup(SEARCHES[how.search], how.bounds, how.guide, how.options, how.solver, patience=patience)
    with prepared(given.network, given.model, ball, clauses, setup) as ready:
        plain = how.search == "plain"
        if not plain:
            rehearse(ready, ball, clauses)
        before = time.monotonic() - given.began - ready.seconds  # the network's translation above all
        clock = _Clock(len(ball), how.time_limit, how.total_limit)
        known = given_starts(given.model, ball, clauses) if plain else starts(ready, ball, clauses, clock.alike)
        clock.share()
        for i, start in enumerate(known):
            clock.begin(ready)
            told = _teller(progress, Progress(i, len(ball), start.proven, math.inf, 0.0, False), clock)
            least = _one(ready, ball.take([i]), clauses.take([i]), start, (clock.left(), told))
            seconds = clock.seconds()
            told(least.lower, least.upper, done=True)
            yield FoundMinimum(least, seconds, before + ready.seconds)


class _Clock:
    """The time of some samples: each has its own, with a part of what was done for all of them at once."""

    def __init__(self, count: int, each: float | None, total: float | None):
        self._count, self._each = max(1, count), math.inf if each is None else each
        self._total = math.inf if total is None else total
        self._began = self._sample = time.monotonic()
        self._shared = self._paused = 0.0

    def alike(self) -> float:
        """The seconds that are left for what is done for all samples at once."""
        return _ALIKE * min(self._total, self._count * self._each) - (time.monotonic() - self._began)

    def share(self) -> None:
        """Ends what is done for all samples at once: each is charged an even part."""
        self._shared = (time.monotonic() - self._began) / self._count

    def begin(self, ready: Prepared) -> None:
        """Starts the next sample's time, once the solvers are ready."""
        began = time.monotonic()
        ready.ready()
        self._sample = time.monotonic()
        self._paused += self._sample - began

    def left(self) -> float:
        """The seconds that are left for this sample."""
        spent = time.monotonic() - self._began - self._paused
        return min(self._each - self.seconds(), self._total - spent)

    def seconds(self) -> float:
        """The seconds that this sample took so far."""
        return self._shared + time.monotonic() - self._sample


def _reach(center: LpBall, upper: float | None) -> np.ndarray:
    """The distance up to which to look around each sample."""
    limit = np.full(len(center), np.inf)
    if upper is not None:
        if not (np.ndim(upper) == 0 and upper > 0):
            raise ValueError(f"upper must be a positive number, not {upper!r}")
        limit[:] = upper
    if center.clip is not None:
        limit = np.minimum(limit, clip_distance(center))
    if not np.isfinite(limit).all():
        raise ValueError("how far to look is not bounded: give upper, or clip")
    return limit


Told = Callable[..., None]


def _teller(progress: Callable[[Progress], None] | None, first: Progress, clock: _Clock) -> Told:
    def tell(lower: float, upper: float, done: bool = False) -> None:
        if progress is not None:
            progress(replace(first, lower=lower, upper=upper, seconds=clock.seconds(), done=done))

    return tell


def _one(ready: Prepared, ball: LpBall, clauses: Clauses, start: Start, how: tuple[float, Told]) -> Minimum:
    """One sample, within so many seconds."""
    judge, (seconds, tell) = Judge(ready.builder.model, ball, clauses), how
    if start.witness is not None and judge.distance(start.witness) == 0.0:
        return Minimum(0.0, 0.0, start.witness, Guarantee.REPLAYED, work=start.work)
    found = ready.nearest(ball, judge, (start.witness, start.proven), seconds, tell=tell, level=start.level)
    return replace(found, work=start.work + found.work)


def _gathered(ball: LpBall, found: list[FoundMinimum], targets: Any, how: MinimumOptions) -> MinimumPerturbations:
    minima = [one.least for one in found]
    witness = np.full(ball.x.shape, np.nan, ball.x.dtype)
    for i, least in enumerate(minima):
        if least.witness is not None:
            witness[i] = least.witness
    return MinimumPerturbations(
        lower=np.array([m.lower for m in minima]),
        upper=np.array([m.upper for m in minima]),
        optimal=np.array([m.optimal(OPTIMAL) for m in minima], bool),
        witness=witness,
        seconds=np.array([one.seconds for one in found]),
        binaries=np.array([m.work.binaries for m in minima], int),
        pieces=np.array([m.work.pieces for m in minima], int),
        guarantee=[m.guarantee for m in minima],
        reason=[m.reason for m in minima],
        target=targets if isinstance(targets, str) else "one class",
        search=how.search,
        bounds=how.bounds,
        guide="" if how.search == "plain" else how.guide,
        work=tuple(m.work for m in minima),
        setup_seconds=found[-1].setup_seconds if found else 0.0,
    )
