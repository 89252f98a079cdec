"""Preparation of decisions: whatever does not depend on the samples, made ready before their clocks start.

Functions are traced (on a set of the kind to come), the network is flattened, solvers' processes are started. What
follows is bounds, programs and solvers alone, and holds its limits.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import numpy as np

from tfcert.attacks.gradient import Left
from tfcert.attacks.witness import model_outputs
from tfcert.catalog import BOUNDS, GUIDES
from tfcert.clauses import Clauses
from tfcert.complete.search import boxes, branch
from tfcert.complete.search.builder import QueryBuilder, flat_network
from tfcert.complete.search.decide import Decision, TellMargin, cuts, decide, out_of_time, say_nothing
from tfcert.complete.search.minimum import Minimum, NearestSearch, minimum, plain_minimum
from tfcert.complete.search.query import Query, Solvers
from tfcert.complete.search.witness import Judge
from tfcert.complete.solver.process import SolverProcess, SolverSettings
from tfcert.network import Network
from tfcert.network.shared import held
from tfcert.options import BoundOptions
from tfcert.rigour.radius import unranked
from tfcert.sets.balls import LpBall, Perturbation
from tfcert.sets.region import region_of
from tfcert.tracing import expecting, kept, timed
from tfcert.verdict import Guarantee, Outcome, Reason, Work


@dataclass(frozen=True)
class Setup:
    """The way in which samples will be decided.

    Attributes:
        ways: see :func:`~tfcert.complete.search.decide.decide`; none: a minimum is one integer program.
        bounds: of neurons, see :class:`~tfcert.complete.search.builder.QueryBuilder`.
        guide: one of ``catalog.GUIDES``, the attack that a search for minima begins with; "" for none.
        options: of bound computations.
        settings: of the solver.
        prove: whether what rests on a solver's word is proven again, by branch and bound, in the time that is left.
        patience: seconds at most that are waited for solvers to load: no longer than what they would be asked for.
    """

    ways: tuple[str, ...] = ("split", "milp")
    bounds: str = "crown"
    guide: str = ""
    options: BoundOptions | None = None
    settings: SolverSettings = field(default_factory=SolverSettings)
    prove: bool = False
    patience: float = math.inf


@dataclass
class Prepared:
    """Decides samples of one task; made by :func:`prepared`.

    Attributes:
        builder: builds their queries.
        first, others: the solvers' processes.
        setup: how samples are decided.
        seconds: that preparing took so far.
    """

    builder: QueryBuilder
    first: SolverProcess
    others: tuple[SolverProcess, ...]
    setup: Setup
    seconds: float = 0.0

    @property
    def processes(self) -> tuple[SolverProcess, ...]:
        """The solvers' processes that may be asked: none where inputs are cut and nothing else."""
        alone = self.setup.ways == ("inputs",) and not BOUNDS.find(self.setup.bounds).solver
        return () if alone else (self.first, *self.others)

    def ready(self) -> None:
        """Waits for solvers' processes that had to be replaced: to be called before a sample's clock starts."""
        with self.preparing():
            for process in self.processes:
                process.ready(self.setup.patience)

    def guided(self, ball: LpBall, clauses: Clauses, left: Left) -> tuple[np.ndarray, np.ndarray]:
        """The nearest strict witnesses ``[batch, *input]`` that the guide finds (NaN: none), and its gradients.

        Args:
            ball: how far to look, one ball a sample.
            clauses: what must hold of the outputs.
            left: seconds that are left.
        """
        network = self.builder.net.deployed
        peeled = network if network.peeled else None
        find = GUIDES.load(self.setup.guide)
        found: tuple[np.ndarray, np.ndarray] = find(self.builder.model, ball, clauses, network=peeled, left=left)
        return found

    @contextlib.contextmanager
    def preparing(self) -> Iterator[None]:
        """Counts what is done within as preparation."""
        began = time.monotonic()
        yield
        self.seconds += time.monotonic() - began

    def solvers(self, seconds: float | None = None) -> Solvers:
        """The solvers, for so many seconds from now; None for no limit."""
        return Solvers(self.first, self.others, time.monotonic() + (math.inf if seconds is None else seconds))

    def decide(
        self,
        region: Perturbation,
        judge: Judge,
        seconds: float | None = None,
        *,
        tell: TellMargin = say_nothing,
        known: Query | None = None,
        only: int | None = None,
    ) -> Decision:
        """Decides whether what the judge asks holds on one sample's set.

        Args:
            region: the set, of the kind that was prepared.
            judge: the model, and the clauses; as many as were prepared.
            seconds: the most that the answer may take; None for no limit.
            tell: is told lower bounds of the worst margin.
            known: ``left`` of an earlier decision about the same sample: what it found out is not computed again.
            only: the clause to decide; others are as bounds leave them: while one of those is open nothing is verified,
                and ``proven`` has this one if it is.
        """
        solvers, work = self.solvers(seconds), Work()
        try:
            if known is None or known.tighten != self.builder.bounds:
                with timed():
                    query, work = self.builder.query(region.astype(np.float64), judge, solvers), Work(evaluations=1)
                known = query if known is None else query.met(known)
        except TimeoutError as error:
            return Decision(Outcome.TIMEOUT, out_of_time(error), left=known)
        ways, left_out = self.setup.ways or ("milp",), [k for k in known.open if only not in (None, k)]
        asked = known.without(left_out) if left_out else known
        decision = decide(asked, solvers, ways=ways, tell=say_nothing if left_out else tell)
        if decision.outcome is Outcome.VERIFIED and decision.believed and self.setup.prove:
            decision = self._proven(decision, region, judge, solvers)
        if left_out and decision.outcome is not Outcome.FALSIFIED:
            open_ = Outcome.UNKNOWN if decision.outcome is Outcome.VERIFIED else decision.outcome
            decision = replace(decision, outcome=open_, margin=math.nan, rounding=0.0, left=known)
        return replace(decision, work=decision.work + work)

    def _proven(self, decision: Decision, region: Perturbation, judge: Judge, solvers: Solvers) -> Decision:
        """A decision that rests on a solver's word, or the same by branch and bound, which begins with bounds that do
        not; where it does not end in a proof, the reason says why. A witness that it finds is the answer."""
        with timed():
            again = decide(self.builder.untightened(region.astype(np.float64), judge), solvers, ways=("split",))
        work = decision.work + again.work
        if again.outcome in (Outcome.VERIFIED, Outcome.FALSIFIED):
            return replace(again, work=work)
        return replace(decision, reason=Reason.SOLVER_ALONE.because(said=again.reason), work=work)

    def nearest(
        self,
        ball: LpBall,
        judge: Judge,
        start: tuple[np.ndarray | None, float],
        seconds: float | None = None,
        *,
        tell: Callable[[float, float], None] = lambda lower, upper: None,
        level: Guarantee = Guarantee.NUMERIC,
    ) -> Minimum:
        """The least distance from one ball's centre at which what the judge asks is broken, within the ball.

        Args:
            ball: how far to look.
            judge: the model, and the clauses.
            start: a witness or None, and a distance up to which nothing is broken.
            level: the guarantee of that.
            seconds: the most that the answer may take; None for no limit.
            tell: is told lower and upper whenever one of them moves.
        """
        solvers = self.solvers(seconds)
        search = NearestSearch(
            lambda some: self.builder.query(some, judge, solvers),
            judge,
            ball.astype(np.float64),
            *start,
            self.setup.ways,
            tell=tell,
            level=level,
        )
        with timed():
            found = (minimum if self.setup.ways else plain_minimum)(search, solvers)
        if found.guarantee is not Guarantee.SOLVER or not self.setup.prove or not found.lower > 0:
            return found
        inner = ball.resized([Fraction(found.lower)])
        believed = Decision(Outcome.VERIFIED, found.reason, believed=True, work=found.work)
        proven = self._proven(believed, inner, judge, solvers)
        if proven.outcome is Outcome.FALSIFIED:  # the solver was wrong: what bounds prove remains
            assert proven.witness is not None
            witness, lower = proven.witness, start[1]
            upper, said = judge.distance(witness), Reason.SOLVER_FAILED.because(said="the solver's word was wrong")
            return Minimum(lower, upper, witness, level, said, proven.work)
        guarantee = found.guarantee if proven.believed else proven.guarantee
        return replace(found, guarantee=guarantee, reason=found.reason or proven.reason, work=proven.work)


@contextlib.contextmanager
def prepared(
    network: Network, model: Any, region: Perturbation, clauses: Clauses, setup: Setup | None = None
) -> Iterator[Prepared]:
    """Makes ready what deciding samples takes; the solvers' processes end with the context.

    Args:
        network: the network.
        model: the original, which judges witnesses.
        region: sets of the kind to come, as many as there will be: norm and clip count, and the first as an example.
        clauses: an example of what will be asked: their number and that of their rows count.
        setup: how.

    Raises:
        ValueError: a weight is NaN or infinite, or unknown bounds.
    """
    setup, began = setup or Setup(), time.monotonic()
    with solver_processes(setup.settings) as (first, others):
        options = setup.options or BoundOptions()
        if unranked(network, clauses):
            options = replace(options, rounding="ignore")
        flat = flat_network(network, setup.bounds, options)
        divided = "inputs" in setup.ways or ("split" in setup.ways and boxes.are_divided(flat.network, region))
        builder = QueryBuilder(flat, model, setup.bounds, options, combine=not divided)
        ready = Prepared(builder, first, others, setup)
        for process in ready.processes:
            process.start()  # loads while the rest is traced
        if len(region):
            with expecting(len(region)):
                _rehearse(ready, region.take([0]), clauses.take([0]))
        ready.seconds = time.monotonic() - began
        ready.ready()
        yield ready


def once(network: Network, *what: Hashable) -> bool:
    """Tells whether this is the first time that a network is asked for it."""
    known: set[Hashable] = kept(network, "rehearsed", set)
    if what in known:
        return False
    known.add(what)
    return True


def _rehearse(ready: Prepared, region: Perturbation, clauses: Clauses) -> None:
    """Runs what a sample runs, once to trace it and once to see how long it takes; unless that was done before."""
    builder, kind = ready.builder, region_of(region)
    asked = (*kind.kind, clauses.offsets.shape, builder.bounds, builder.options, ready.setup.ways)
    if not once(builder.net.deployed, *asked):
        return
    for points in (region.center, np.repeat(region.center, 2, axis=0)):
        model_outputs(builder.model, points)
    divided = not builder.combine  # then all that is traced serves other networks of the structure
    if divided and not once(held(builder.net.network), *asked):
        return
    judge = Judge(builder.model, region, clauses)
    for _ in range(2):
        query = builder.untightened(region.astype(np.float64), judge)
    cut = cuts(query, ready.setup.ways)
    if cut == "inputs" and boxes.can_divide(query):
        boxes.prepare_boxes(query)
    elif cut == "neurons":
        branch.prepare(query, ready.solvers())


@contextlib.contextmanager
def solver_processes(settings: SolverSettings) -> Iterator[tuple[SolverProcess, tuple[SolverProcess, ...]]]:
    """The solver's process and that of the one that confirms, started when they are first asked."""
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(SolverProcess(settings))
        names = () if settings.confirm is None else (settings.confirm,)
        others = tuple(stack.enter_context(SolverProcess(replace(settings, solver=n, confirm=None))) for n in names)
        yield first, others
