"""Decisions of a property on one sample's set, clause by clause: by branch and bound, integer programs, or both.

A clause is decided by its worst margin, which every point of the set bounds from above: so "infeasible" is never an
answer, only a solver's failure. Proven: a positive lower bound of the margin less what rounding may take (see
``queries``). Refuted: a point that the original model gets wrong. Anything else stays unknown.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from tfcert.complete.search.boxes import MOST_INPUTS, by_halves, can_divide, should_divide
from tfcert.complete.search.branch import branch, can_branch
from tfcert.complete.search.query import CLOSE, Margin, Query, Solvers, checked, margin_program, within_rounding
from tfcert.complete.search.results import ProvenPiece, ProvenPieces
from tfcert.complete.search.witness import solve_cell
from tfcert.complete.solver.process import Answer, SolverError, SolverProcess
from tfcert.verdict import NO_REASON, NO_WORK, Because, Guarantee, Outcome, Reason, Work, is_proof

_POSITIVE = 1e-7
"""A margin counts as positive above this share of the margins' size: ten times what solvers' tolerances (1e-9) and
float64 leave uncertain."""
_SHARE = 0.5
"""What part of the time branch and bound may take where integer programs can follow."""
_ROUGH = 0.9
"""The gap at which a positive margin's bound is positive too: the margin's own value is not needed."""


@dataclass(frozen=True)
class Decision:
    """The decision of one sample.

    Attributes:
        outcome, reason: as in a verdict.
        margin: proven lower bound of the worst margin; the margin a witness reaches; NaN where unknown.
        rounding: what the rounding of the model's own arithmetic may take from that bound.
        witness: an input of the original model, or None.
        guarantee: the query's level where linear relaxations sufficed, ``solver`` where an integer program was
            believed (the one of a bound, too).
        work: what it took, for all clauses.
        proven: the clauses that are proven, whatever became of the others.
        believed: whether an integer program was believed for one of them, or for a bound.
        level: the guarantee of what is proven where none was.
        left: where it is still open, the query with all that is known now; None where it is not.
        parts: what the clauses that were split are proven by.
    """

    outcome: Outcome
    reason: str = ""
    margin: float = math.nan
    rounding: float = 0.0
    witness: np.ndarray | None = None
    guarantee: Guarantee = Guarantee.ESTIMATE
    work: Work = NO_WORK
    proven: tuple[int, ...] = ()
    believed: bool = False
    level: Guarantee = Guarantee.NUMERIC
    left: Query | None = field(default=None, repr=False, compare=False)
    parts: ProvenPieces | None = field(default=None, repr=False, compare=False)


OVERFLOW = Reason.NOT_FINITE.because(said="the network's values overflow on the set, or come close to it")
NOT_FINITE = Reason.NOT_FINITE.because(
    said="the bounds of the network over the set are not finite, so nothing can be encoded"
)
UNSPLIT = Reason.NOTHING_TO_SPLIT.because(said="the linear relaxation does not settle it, and no neuron can be split")
WAYS = ("split", "inputs", "neurons", "milp")
"""How clauses are decided: by branch and bound (that cuts inputs, splits neurons, or whichever of the two is likely to
end sooner), by integer programs; both means in this order."""
NO_BOX = Reason.NOTHING_TO_SPLIT.because(
    said=f"inputs are cut in boxes where at least one and at most {MOST_INPUTS} of them may move"
)
TellMargin = Callable[[float], None]
"""Is told a lower bound of the worst margin whenever it moves."""


def out_of_time(said: object) -> Because:
    """The reason that the time was used up, in the words of an error or in others."""
    return Reason.TIME_LIMIT.because(said=said)


def say_nothing(_: float) -> None:
    """Is told, and tells nobody."""


def decide(
    query: Query,
    solvers: Solvers,
    *,
    ways: Sequence[str] = ("milp",),
    tell: TellMargin = say_nothing,
) -> Decision:
    """Decides all clauses that bounds leave open; stops at the first witness.

    Args:
        ways: some of ``WAYS``.
        tell: is told how far the proof is.

    Raises:
        ValueError: unknown ways.
    """
    if not ways or not set(ways) <= set(WAYS):
        raise ValueError(f"ways to decide are {' and '.join(WAYS)}, not {', '.join(ways) or 'none'}")
    if query.overflows:
        return Decision(Outcome.UNKNOWN, OVERFLOW)
    so_far = _SoFar(query, solvers, tell)
    if query.open and not query.finite:
        return so_far.completed(Decision(Outcome.UNKNOWN, NOT_FINITE))
    cut = cuts(query, ways)
    if cut == "inputs" and query.open:
        decided = _divided(query, _first_share(solvers) if "milp" in ways else solvers, so_far)
        if decided is not None:
            return so_far.completed(decided)
    for clause in [] if cut == "inputs" else _by_distance(query, query.open):
        if cut == "neurons":
            decided = _branched(query, clause, _first_share(solvers) if "milp" in ways else solvers, so_far)
        else:
            decided = _relaxed(query, clause, solvers, so_far)
        if decided is not None:
            return so_far.completed(decided)
    for clause in so_far.left:
        if "milp" not in ways or clause in so_far.lost:
            reason = so_far.lost.get(clause) or so_far.reason or UNSPLIT
            return so_far.completed(Decision(so_far.outcome, reason))
        binaries, claim = _integer(query, clause, solvers)
        so_far.work += Work(binaries=binaries)
        if isinstance(claim, Decision):
            return so_far.completed(claim)
        so_far.believed = True
        so_far.prove(clause, claim)
    finite = {k: m for k, m in so_far.margins.items() if math.isfinite(m)}
    worst = min((m + query.taken(k) for k, m in finite.items()), default=math.inf)
    rounding = max(0.0, worst - min(finite.values(), default=math.inf)) if finite else 0.0
    guarantee = Guarantee.SOLVER if so_far.believed else query.level
    return so_far.completed(Decision(Outcome.VERIFIED, "", worst, rounding, None, guarantee))


def cuts(query: Query, ways: Sequence[str]) -> str:
    """What branch and bound cuts on a query, ``inputs`` or ``neurons``; "" where it does not run."""
    if "inputs" in ways or ("split" in ways and should_divide(query)):
        return "inputs"
    return "neurons" if {"split", "neurons"} & set(ways) and can_branch(query) else ""


class _SoFar:
    """The state of a query's clauses while they are decided.

    Attributes:
        margins: lower bounds of those that are proven, less what rounding may take (see ``queries``).
        left: those that are open and have been looked at.
        lost: those of them that are open for rounding alone, and the reason in words.
        outcome, why: of the first of them that branch and bound left open, or of one whose time was up.
        work, believed: as in :class:`Decision`; the solvers' seconds are added in the end.
    """

    def __init__(self, query: Query, solvers: Solvers, tell: TellMargin):
        self.margins = {k: float(query.lower[k].max()) for k in range(len(query.lower)) if k not in query.open}
        self.left: list[int] = []
        self.lost: dict[int, Because] = {}
        self.outcome, self.why = Outcome.UNKNOWN, NO_REASON
        self._bounds: dict[int, float] = {}
        self.work, self.believed = NO_WORK, query.bounds.believed
        self._solvers, self._began = solvers, solvers.spent()
        self._open = {k: query.known(k) for k in query.open}
        self._query, self._tell = query, tell
        self.parts: dict[int, tuple[ProvenPiece, ...]] = {}

    def prove(self, clause: int, margin: float) -> None:
        """The clause holds with a margin."""
        self.margins[clause] = margin
        self.say(clause, margin)

    def say(self, clause: int, bound: float) -> None:
        """A clause's margin is at least this."""
        self._open[clause] = max(bound, self._open.get(clause, -math.inf))
        self._tell(min((m + self._query.taken(k) for k, m in self._open.items()), default=math.inf))

    def leave(self, clause: int, bound: float) -> None:
        """Leaves a clause open, whose margin is at least ``bound``."""
        self.left.append(clause)
        self._bounds[clause] = max(bound, float(self._query.lower[clause].max()))

    @property
    def reason(self) -> Because:
        """The reason why clauses are open, with how far all of them came."""
        if not self.why:
            return self.why
        least = min((m + self._query.taken(k) for k, m in self._bounds.items() if k in self.left), default=-math.inf)
        return self.why.more(f" (pieces bounded: {self.work.pieces}; the margin is at least {least:.3g})")

    def completed(self, decision: Decision) -> Decision:
        """A decision with what was proven and spent before it."""
        work = self.work + Work(solver_seconds=self._solvers.spent() - self._began)
        closed = decision.outcome in (Outcome.VERIFIED, Outcome.FALSIFIED)
        left = None if closed else self._query.holding(self._bounds | self.margins, self.believed)
        proven, level = tuple(self.margins), self._query.level
        parts = ProvenPieces(self._query.net.network, self.parts) if self.parts else None
        decision = replace(decision, work=work, proven=proven, believed=self.believed)
        return replace(decision, level=level, left=left, parts=parts)


def _first_share(solvers: Solvers) -> Solvers:
    """The same with a part of the time only."""
    return replace(solvers, until=min(solvers.until, time.monotonic() + _SHARE * solvers.left()))


def _branched(query: Query, clause: int, solvers: Solvers, so_far: _SoFar) -> Decision | None:
    """Decides a clause by branch and bound, if it can; returns a refutation."""
    if solvers.left() <= 0 and so_far.reason:  # what was said of the clause before it holds of all
        so_far.leave(clause, -math.inf)
        return None
    found = branch(query, clause, solvers, lambda bound, _: so_far.say(clause, bound))
    so_far.work += Work(pieces=found.pieces, evaluations=found.passes)
    if found.witness is not None:
        margin = query.judge.margin(found.witness)
        return Decision(Outcome.FALSIFIED, "", margin, witness=found.witness, guarantee=Guarantee.REPLAYED)
    if found.reason:
        so_far.leave(clause, found.bound)
        if found.lost:
            so_far.lost[clause] = found.reason
        late = solvers.left() <= 0
        if not so_far.reason or late:
            so_far.outcome = Outcome.TIMEOUT if late else Outcome.UNKNOWN
            so_far.why = found.reason
        return None
    so_far.prove(clause, found.bound)
    if found.parts:
        so_far.parts[clause] = found.parts
    return None


def _divided(query: Query, solvers: Solvers, so_far: _SoFar) -> Decision | None:
    """Decides all open clauses by cutting the inputs; returns a refutation."""
    if not can_divide(query):
        for clause in query.open:
            so_far.leave(clause, -math.inf)
        so_far.why = NO_BOX
        return None
    found = by_halves(query, query.open, solvers, so_far.say)
    so_far.work += Work(pieces=found.pieces, evaluations=found.passes)
    if found.witness is not None:
        margin = query.judge.margin(found.witness)
        return Decision(Outcome.FALSIFIED, "", margin, witness=found.witness, guarantee=Guarantee.REPLAYED)
    for clause, bound in found.bounds.items():
        if clause in found.proven:
            so_far.prove(clause, bound)
        else:
            so_far.leave(clause, bound)
    if found.reason:
        so_far.outcome = Outcome.TIMEOUT if found.late else Outcome.UNKNOWN
        so_far.why = found.reason.more(f" (inputs were cut, at most {found.depth} times)")
    return None


def _by_distance(query: Query, clauses: Sequence[int]) -> list[int]:
    """The clauses, first those that the centre comes closest to breaking."""
    center = query.region.center[0].ravel()
    return sorted(clauses, key=lambda k: query.true_margin(center, k))


def _relaxed(query: Query, clause: int, solvers: Solvers, so_far: _SoFar) -> Decision | None:
    """Proves a clause by its linear relaxation, if that suffices; returns a refutation by its solution."""
    so_far.leave(clause, -math.inf)
    if solvers.left() <= 0:
        return None
    try:
        asked = margin_program(query, [clause], relax=True, until=solvers.until)
        answer = solvers.first.solve(asked.program, solvers.left(), relax=True)
    except (SolverError, TimeoutError):
        return None
    bound = query.priced(answer)
    if is_proof(bound):
        so_far.left.pop()
        so_far.prove(clause, bound)
        return None
    so_far.say(clause, bound)
    return None if answer.v is None else _refuted(query, asked.encoding.settled(answer.v))


def _refuted(query: Query, x: np.ndarray) -> Decision | None:
    """The decision if the point, moved into the set and into conditions on inputs, is a witness."""
    point = query.confirmed(x)
    if point is None:
        return None
    return Decision(Outcome.FALSIFIED, "", query.judge.margin(point), witness=point, guarantee=Guarantee.REPLAYED)


def _integer(query: Query, clause: int, solvers: Solvers) -> tuple[int, float | Decision]:
    """The binaries of the clause's program, and its worst margin that the solvers prove or why there is none."""
    if solvers.left() <= 0:
        return 0, Decision(Outcome.TIMEOUT, out_of_time("the budget was used up before the solver began"))
    count = 0
    try:
        asked = margin_program(query, [clause], least=0.0, until=solvers.until)
        count = asked.program.binaries
        margin = _least(query, asked, solvers.first, solvers)
        if margin is None:  # a margin of zero, but no witness there: is it ever below?
            asked = margin_program(query, [clause], until=solvers.until)
            margin = _least(query, asked, solvers.first, solvers, exact=True)
        if margin is None:
            reason = within_rounding(query, [clause]).more(": neither a proof nor a witness")
            return count, Decision(Outcome.UNKNOWN, reason)
        if isinstance(margin, Decision):
            return count, margin
        for other in solvers.others:
            second = _least(query, asked, other, solvers)
            if not isinstance(second, float):
                said = f"{other.settings.solver} does not find a positive margin"
                reason = Reason.SOLVERS_DISAGREE.because(said=said)
                return count, second or Decision(Outcome.UNKNOWN, reason)
            margin = min(margin, second)
    except SolverError as error:
        return count, Decision(Outcome.UNKNOWN, Reason.SOLVER_FAILED.because(said=error))
    except TimeoutError as error:
        return count, Decision(Outcome.TIMEOUT, out_of_time(error))
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
        x = asked.encoding.settled(answer.v)
        refuted = _refuted(query, x)
        if refuted is None and answer.objective is not None and answer.objective <= CLOSE * query.scale:
            refuted = _search_cell(query, asked.clauses, x, solvers)
        if refuted is not None:
            return refuted
    bound = _bound(answer, solver.settings.gap if gap is None else gap)
    if is_proof(bound, _POSITIVE * query.scale):
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
    asked = margin_program(query, clauses, until=solvers.until, room=False)
    moved = solve_cell(solvers.first, asked.program, asked.encoding, x, solvers.left())
    return None if moved is None else _refuted(query, moved)
