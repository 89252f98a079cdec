"""The least perturbation that makes a network fail, guided by attacks (Zhu et al. 2021, "Attack-guided efficient
robustness verification of ReLU neural networks", Agrify).

A witness that the original model confirms shows that the minimum lies within its distance, so inputs, bounds and
program are confined to that distance and fewer neurons are open. The witness is moved to the nearest one of its piece
of the network (a linear program); then the set just inside its distance is decided: either nothing is broken there, and
the distance is the minimum, or there is a nearer witness, and so on. What is proven for one target class at some
distance stays proven at smaller ones. Programs without a variable for the distance have as many rows as open neurons,
not as pixels, and their answers leave a margin to check.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np

from tfcert.complete.search.decide import NOT_FINITE, OVERFLOW, Decision, decide, out_of_time
from tfcert.complete.search.query import CLOSE, Distance, Query, Solvers, checked, distance_program, strict_distance
from tfcert.complete.search.witness import Judge, solve_cell
from tfcert.complete.solver.process import Answer, SolverError, SolverProcess
from tfcert.sets.balls import LpBall
from tfcert.verdict import NO_REASON, NO_WORK, Guarantee, Outcome, Reason, Work

_INSIDE, _FURTHER = 4e-6, 9e-6
"""How far inside the nearest witness's distance (relative) a proof is tried, and tried again where a margin, or a
nearer point of the model's own dtype, is lost in rounding; farther still where that is lost, too."""
_CHARGED = 1e-3
"""The same where proofs are charged for rounding, which mostly takes more than that: what is farther inside is proven
sooner, and the search then goes outward."""
_BETWEEN = 1.5
"""A search in which rounding takes proofs ends where the nearest share that is proven is at most so many times the
farthest that is lost."""
OPTIMAL = 1e-5
"""The relative gap within which lower and upper count as one."""
_DEMANDS = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3)
"""By how much a margin is broken in a cell, relative to the margins' size, until the original model confirms it."""
_DESCENTS = 8
"""How often a witness is moved to the nearest one of its piece of the network."""
_WORTH = 0.98
"""A nearer witness is worth new bounds if its distance is at most this much of the old one's."""
_DECISIONS = 60
"""Sets that are decided at most."""
_GAIN = 1e-3
"""A witness that is nearer by less than this share is hardly nearer."""

Ask = Callable[[LpBall], Query]
"""Builds the query for a smaller ball: its bounds and all; raises a TimeoutError where no time is left for that."""
TellDistances = Callable[[float, float], None]
"""Is told lower and upper whenever one of them moves."""


@dataclass(frozen=True)
class Minimum:
    """The least distance at which the property is broken, as far as it is known.

    Attributes:
        lower: no input nearer breaks it (ties not counted as kept), by ``guarantee``.
        upper: the distance of ``witness``, rounded up; infinite without one.
        witness: an input that the original model gets strictly wrong, or None.
        guarantee: of ``lower``.
        reason: why the two differ, if they do by more than was asked.
        work: what it took.
    """

    lower: float
    upper: float
    witness: np.ndarray | None
    guarantee: Guarantee
    reason: str = ""
    work: Work = NO_WORK

    def optimal(self, tolerance: float) -> bool:
        """Tells whether the two differ by at most a relative ``tolerance``."""
        return self.witness is not None and self.upper - self.lower <= tolerance * self.upper


@dataclass(frozen=True)
class NearestSearch:
    """The beginning of a search for one sample's minimum.

    Attributes:
        ask: builds its queries.
        judge: decides what is a witness.
        ball: how far to look, one sample, float64.
        witness: a confirmed witness in the ball, from an attack, or None.
        lower: a distance at which bounds prove that nothing is broken; ``level``: their guarantee.
        ways: see :func:`~tfcert.complete.search.decide.decide`.
        tell: is told of progress.
    """

    ask: Ask
    judge: Judge
    ball: LpBall
    witness: np.ndarray | None
    lower: float = 0.0
    ways: tuple[str, ...] = ("milp",)
    tell: TellDistances = lambda lower, upper: None
    level: Guarantee = Guarantee.NUMERIC


@dataclass
class _Bracket:
    """The bracket of a minimum: nothing is broken within ``low``, and ``best`` is the nearest witness.

    Attributes:
        certified: the radius that bounds prove before the search.
        last: how near the witness was before the last decision.
        lost: the least radius at which a margin, or a nearer witness, was lost in rounding.
        stalls: how many decisions in a row brought the witness hardly nearer.
        proven_at: the guarantee of proofs, the same of all queries of a search.
        proven: clauses, and the largest radius within which each is proven.
        doubt: why the last decision that was none was none.
        work: what it took so far.
    """

    best: _Best
    low: float = 0.0
    certified: float = 0.0
    last: float = math.inf
    lost: float = math.inf
    stalls: int = 0
    believed: bool = False
    proven_at: Guarantee | None = None
    proven: dict[int, float] = field(default_factory=dict)
    doubt: str = ""
    work: Work = NO_WORK

    def level(self, search: NearestSearch) -> Guarantee:
        """The guarantee of the larger of both lower ends, if no program was believed."""
        return search.level if self.proven_at is None or self.low <= search.lower else self.proven_at

    def ask(self, search: NearestSearch, ball: LpBall) -> Query:
        """The query for a ball, counted."""
        self.work += Work(evaluations=1)
        query = search.ask(ball)
        self.proven_at = query.level
        return query

    def radius(self) -> float:
        """The radius to decide next: just inside the witness, or further in where that gains little."""
        nearest = self.best.distance
        return nearest if math.isinf(nearest) else nearest * (1 - self._share())

    def _share(self) -> float:
        """How far inside the nearest witness's distance that is, relative to it."""
        proven, lost = self._proven(), self._inside(self.lost)
        if lost > 0:
            # What was lost at that share is so by a last bit, if at all.
            return _FURTHER if 1.01 * lost < _FURTHER < proven else math.sqrt(lost * proven)
        if self.stalls:
            return proven / 2 if self.low > 0 else min(0.5, _INSIDE * 10.0**self.stalls)
        if self.proven_at in (None, Guarantee.NUMERIC):
            return _INSIDE
        return _CHARGED if proven > 2 * _CHARGED else math.sqrt(_INSIDE * proven)

    def _proven(self) -> float:
        """How far inside the nearest witness's distance the largest radius is that is proven, relative to it."""
        return self._inside(max(self.low, self.certified))

    def _inside(self, radius: float) -> float:
        """How far inside the nearest witness's distance a radius is, relative to it; at most 0 where it is not."""
        return 1 - radius / self.best.distance

    def closed(self) -> bool:
        """Tells whether the two ends are as near as was asked, or as rounding leaves them."""
        return self._proven() <= max(OPTIMAL, _BETWEEN * self._inside(self.lost))

    def descend(self, search: NearestSearch, solvers: Solvers) -> None:
        """Moves the last decision's witness, if it is one, as near as its piece of the network allows."""
        if self.best.distance < self.last:
            self.best = _descend(functools.partial(self.ask, search), search.ball, self.best, solvers)
            self.stalls = self.stalls + 1 if self.best.distance > (1 - _GAIN) * self.last else 0
            self.last = self.best.distance

    def learn(self, decision: Decision, radius: float) -> bool:
        """Takes in a decision; returns whether another one can help."""
        self.believed = self.believed or decision.believed
        self.work += decision.work
        self.proven |= {k: max(radius, self.proven.get(k, 0.0)) for k in decision.proven}
        if decision.outcome is Outcome.VERIFIED:
            self.low, self.stalls = max(self.low, radius), 0
            return math.isfinite(self.best.distance) and not self.closed()
        if decision.outcome is Outcome.FALSIFIED:
            assert decision.witness is not None
            before, self.best = self.best.distance, self.best.with_witness(decision.witness)
            if self.best.distance < before:
                return True
        # A margin was lost in rounding, or a nearer point was rounded to one that is not nearer.
        self.doubt = decision.reason or self.doubt
        lost = decision.outcome in (Outcome.UNKNOWN, Outcome.FALSIFIED)
        if not lost or self.best.witness is None:
            return False
        self.lost = min(self.lost, radius)
        return not self.closed()


def minimum(search: NearestSearch, solvers: Solvers) -> Minimum:
    """The least distance from the ball's centre at which its property is broken, within the ball, guided by attacks."""
    bracket, began = _Bracket(_first(search), certified=search.lower), solvers.spent()
    try:
        reason = _narrowed(search, bracket, solvers)
    except TimeoutError as error:
        reason = out_of_time(error)
    best, low = bracket.best.distance, bracket.low
    if not reason and math.isfinite(best) and best - low > OPTIMAL * best:
        reason = bracket.doubt or Reason.INPUTS_ROUNDED.because()
    believed = bracket.believed and bracket.low > search.lower
    return Minimum(
        max(search.lower, bracket.low),
        bracket.best.distance,
        bracket.best.witness,
        Guarantee.SOLVER if believed else bracket.level(search),
        reason,
        replace(bracket.work, solver_seconds=solvers.spent() - began),
    )


def _narrowed(search: NearestSearch, bracket: _Bracket, solvers: Solvers) -> str:
    """Narrows a bracket by one decision after the other; returns why it is still open, "" where it is closed.

    Raises:
        TimeoutError: no time is left for the next one.
    """
    for _ in range(_DECISIONS):
        bracket.descend(search, solvers)
        if solvers.left() <= 0:
            return out_of_time("the budget was used up")
        search.tell(max(search.lower, bracket.low), bracket.best.distance)
        ball = _shrunk(search.ball, bracket.radius())
        radius = float(ball.eps[0])
        known = [k for k, within in bracket.proven.items() if within >= radius]
        decision = decide(bracket.ask(search, ball).without(known), solvers, ways=search.ways)
        more = bracket.learn(decision, radius)
        search.tell(max(search.lower, bracket.low), bracket.best.distance)
        if not more:
            return decision.reason
    return Reason.SEARCH_STOPPED.because()


def _first(search: NearestSearch) -> _Best:
    """The attack's witness, if there is one."""
    if search.witness is None:
        return _Best(search.judge, math.inf, None)
    return _Best(search.judge, search.judge.distance(search.witness), search.witness)


def plain_minimum(search: NearestSearch, solvers: Solvers) -> Minimum:
    """The same by one integer program over the whole ball that minimises the distance (MIPVerify's formulation, Tjeng
    et al. 2019, section 3): what the guided search is compared with. A witness, if any, is the solver's start."""
    best, began = _first(search), solvers.spent()
    known = Minimum(search.lower, best.distance, best.witness, search.level)
    try:
        query = search.ask(search.ball)
        if query.overflows or (query.open and not query.finite):
            return replace(known, reason=OVERFLOW if query.overflows else NOT_FINITE)
        if not query.open:
            lower = float(search.ball.eps[0])
            return replace(known, lower=lower, guarantee=query.level if lower > search.lower else search.level)
        asked = distance_program(query, way_out=best.witness is None, until=solvers.until)
    except TimeoutError as error:
        return replace(known, reason=out_of_time(error))
    work = Work(binaries=asked.program.binaries, evaluations=1)
    try:
        lower, best, late = _solved(query, asked, best, solvers.first, solvers)
        for other in solvers.others:
            second, best, _ = _solved(query, asked, best, other, solvers)
            if abs(second - lower) > 1e2 * CLOSE * max(second, lower):
                raise SolverError(f"the solvers disagree: {lower:.7g} and {second:.7g}")
            lower = min(lower, second)
    except (SolverError, TimeoutError) as error:
        failed = Reason.SOLVER_FAILED.because(said=error)
        reason = out_of_time(error) if isinstance(error, TimeoutError) else failed
        work += Work(solver_seconds=solvers.spent() - began)
        return replace(known, upper=best.distance, witness=best.witness, reason=reason, work=work)
    work += Work(solver_seconds=solvers.spent() - began)
    lower = max(search.lower, min(lower, best.distance))
    return Minimum(lower, best.distance, best.witness, Guarantee.SOLVER, late, work)


@dataclass(frozen=True)
class _Best:
    """The nearest witness so far."""

    judge: Judge
    distance: float
    witness: np.ndarray | None

    def with_point(self, x: np.ndarray) -> _Best:
        """The nearer of this and a point, if it is a witness."""
        point = self.judge.confirm(x)
        if point is None:
            return self
        return self.with_witness(point)

    def with_witness(self, point: np.ndarray) -> _Best:
        """The nearer of this and a confirmed witness."""
        distance = self.judge.distance(point)
        return replace(self, distance=distance, witness=point) if distance < self.distance else self


def _shrunk(ball: LpBall, distance: float) -> LpBall:
    """The ball of this distance, if it is smaller."""
    eps = ball.exact_eps[0] if math.isinf(distance) else min(Fraction(distance), ball.exact_eps[0])
    return ball.resized([eps])


def _descend(ask: Ask, ball: LpBall, best: _Best, solvers: Solvers) -> _Best:
    """Moves the witness nearer within its piece of the network, and on through the next, while that helps."""
    query = None
    for _ in range(_DESCENTS):
        assert best.witness is not None
        before = best.distance
        try:
            query = query or ask(_shrunk(ball, before * (1 + CLOSE)))
            best = _descended(query, best, best.witness.astype(np.float64).ravel(), solvers)
        except TimeoutError:
            break
        if best.distance >= before * (1 - CLOSE) or solvers.left() <= 0:
            break
        if best.distance < _WORTH * before:
            query = None
    return best


def _descended(query: Query, best: _Best, x: np.ndarray, solvers: Solvers) -> _Best:
    """The nearest witness of the piece of the network that ``x`` lies in, if it is nearer than the best."""
    broken = [k for k in query.open if query.true_margin(x, k) <= CLOSE * query.scale]
    if not broken or not query.finite:
        return best
    clause = min(broken, key=lambda k: query.true_margin(x, k))
    for demand in _DEMANDS:
        asked = strict_distance(query, clause, demand * query.scale, until=solvers.until)
        nearest = solve_cell(solvers.first, asked.program, asked.encoding, x, solvers.left())
        if nearest is None:
            return best
        moved = best.with_point(nearest)
        if moved is not best:
            return moved
    return best


def _solved(
    query: Query, asked: Distance, best: _Best, solver: SolverProcess, solvers: Solvers
) -> tuple[float, _Best, str]:
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
        x = asked.encoding.settled(answer.v)
        best = _descended(query, best.with_point(x), x, solvers)
    if answer.bound is not None and asked.way_out is not None:
        cost = float(asked.program.objective[asked.way_out])
        if answer.bound > cost * (1 + CLOSE):
            raise SolverError(f"the solver's bound {answer.bound:.6g} lies above the way out at {cost:.6g}")
    lower = _lower(query, answer, escaped)
    if lower > best.distance * (1 + 10 * CLOSE) + 1e-12:
        raise SolverError(f"the solver's bound {lower:.9g} is refuted by a witness at {best.distance:.9g}")
    return (
        min(lower, _reach(query)),
        best,
        out_of_time("the solver's time was used up") if answer.status == "limit" else NO_REASON,
    )


def _lower(query: Query, answer: Answer, escaped: bool) -> float:
    """The distance below which an answer claims that nothing is broken, even beyond the ball."""
    if answer.bound is None:
        raise TimeoutError("the solver's time was used up before it had a bound")
    bound = max(0.0, answer.bound)
    bound = math.sqrt(bound) if query.region.norm == "l2" else bound
    return _reach(query) if escaped and answer.status == "optimal" else bound


def _reach(query: Query) -> float:
    assert isinstance(query.region, LpBall)
    return float(query.region.eps[0])
