"""One sample's question to a solver: the network, the set, what must hold, and what bounds already say about it.

What must hold is put to solvers with every threshold moved by what the rounding of the model's own arithmetic may take
(``certification.rounding``), so whatever they prove about these rows is a proof.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from tfcert.attacks.conditions import condition_rows, limits
from tfcert.attacks.witness import input_dtype
from tfcert.clauses import Clause, Clauses
from tfcert.complete.encoding.encode import Encoding, EncodingOptions, encode
from tfcert.complete.encoding.piecewise import PiecewiseNetwork
from tfcert.complete.encoding.program import Program, ProgramBuilder, RowTerm
from tfcert.complete.encoding.rounded import covers
from tfcert.complete.search.tighten import LayerBounds
from tfcert.complete.search.witness import Judge
from tfcert.complete.solver.process import Answer, SolverError, SolverProcess
from tfcert.network import Network
from tfcert.propagation.supported import level_of
from tfcert.roundoff import gamma
from tfcert.sets.balls import Perturbation
from tfcert.sets.conditions import moved_into
from tfcert.verdict import Because, Guarantee, Reason

CLOSE = 1e-6
"""Margins and distances that differ by this little (relative to the numbers involved) count as equal: a hundred times
the solvers' tolerances."""
_MET = 1e-12
"""By what share of its terms' size a point may break a condition that counts as met: what float64 loses."""


@dataclass(frozen=True)
class Solvers:
    """The solver, those that must agree with it, and until when (``time.monotonic()``) they may run."""

    first: SolverProcess
    others: tuple[SolverProcess, ...] = ()
    until: float = float("inf")

    def left(self) -> float:
        """The seconds that are left."""
        return self.until - time.monotonic()

    def spent(self) -> float:
        """The seconds that the solvers' processes took so far."""
        return sum(process.seconds for process in (self.first, *self.others))


@dataclass(frozen=True)
class Query:
    """One sample's question.

    Attributes:
        net: the network.
        region: the set, float64, rounded outward.
        clauses: one sample's clauses ``[1, clauses, rows, outputs]``, less what rounding may take from each row.
        rounding: that, ``[clauses, rows]``.
        bounds: of what enters the layers over the set.
        lower, upper: bounds of the clauses' rows over the set, ``[clauses, rows]``.
        judge: who decides whether a point is a witness.
        options: how to encode.
        tighten: how the bounds of neurons were found, see :class:`~tfcert.complete.search.builder.QueryBuilder`.
        asked_of: the network that the judge's clauses are about, in float64, where it is another than that of ``net``,
            whose outputs have differences beside them.
    """

    net: PiecewiseNetwork
    region: Perturbation
    clauses: Clauses
    rounding: np.ndarray
    bounds: LayerBounds
    lower: np.ndarray
    upper: np.ndarray
    judge: Judge
    options: EncodingOptions = field(default_factory=EncodingOptions)
    tighten: str = "crown"
    asked_of: Network | None = None
    _encodings: dict[tuple[bool, ...], Encoding] = field(default_factory=dict, init=False, repr=False, compare=False)
    _met: dict[int, bool] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def about(self) -> Network:
        """The network that was asked about, in float64: without differences beside its outputs."""
        return self.net.network if self.asked_of is None else self.asked_of

    @functools.cached_property
    def posed(self) -> Clauses:
        """The clauses over the outputs of :attr:`about`, less what rounding may take."""
        if self.asked_of is None:
            return self.clauses
        return self.judge.clauses.less(np.where(np.isfinite(self.rounding), self.rounding, 0.0))

    def about_clause(self, number: int) -> Clause:
        """One of :attr:`posed`, without padding."""
        real = self._real[number]
        return Clause(self.posed.coefficients[0, number][real], self.posed.offsets[0, number][real])

    @functools.cached_property
    def open(self) -> list[int]:
        """The clauses that bounds do not prove, the least certain first."""
        margins = self.lower.max(axis=1)
        return [int(k) for k in np.argsort(margins, kind="stable") if k in self.asked and not margins[k] > 0]

    @functools.cached_property
    def asked(self) -> list[int]:
        """The clauses that have a row to prove."""
        return np.flatnonzero(self._real.any(axis=1)).tolist()

    @functools.cached_property
    def _real(self) -> np.ndarray:
        """Rows that are no padding ``[clauses, rows]``."""
        real: np.ndarray = self.clauses.counts[0]
        return real

    @functools.cached_property
    def conditions(self) -> np.ndarray:
        """Rows over inputs that the network shows, in clauses with others ``[clauses, rows]``: a clause holds wherever
        one of them does, so what is asked of the others is asked where none does."""
        return condition_rows(self.about, self.posed)[0]

    @functools.cached_property
    def finite(self) -> bool:
        """Tells whether all bounds are finite; without them nothing can be encoded."""
        return all(np.isfinite(end).all() for pair in (*self.bounds.layers, self.bounds.output) for end in pair)

    @functools.cached_property
    def scale(self) -> float:
        """The size of the margins, at least 1e-3: what closeness is relative to. Conditions on inputs have none."""
        some = self.upper[self._real & ~self.conditions & np.isfinite(self.upper)]
        return max(1e-3, float(np.abs(some).max(initial=0.0)))

    @functools.cached_property
    def level(self) -> Guarantee:
        """The guarantee of bounds of the query: those of :attr:`lower`, of passes over the network, and of prices."""
        return level_of(self.net.network.rounding)

    @functools.cached_property
    def prices_prove(self) -> bool:
        """Tells whether a relaxation's prices prove bounds of that guarantee."""
        return self.level is Guarantee.NUMERIC or covers(self.net, self.region)

    @property
    def straight_but_rounded(self) -> bool:
        """Tells whether a program says all of the network but how it rounds, and charges for that in every row."""
        return self.level is not Guarantee.NUMERIC and self.prices_prove and self.net.straight

    def room(self, clause: Clause) -> np.ndarray:
        """What float64 may lose of a clause's rows where they are written over numbers of an encoding, ``[rows]``."""
        size = np.maximum(*map(np.abs, self.bounds.output))
        share = gamma(self.net.output.size + 16, 2.0**-53)
        return np.asarray(share * (np.abs(clause.coefficients) @ size + np.abs(clause.offsets)))

    def priced(self, answer: Answer) -> float:
        """The lower bound that a relaxation's prices prove; -inf where they prove nothing of the network's rounding."""
        return answer.proven_bound() if self.prices_prove else -np.inf

    def encoding(self, until: float, *, relax: bool = False, distance: bool = False, room: bool = True) -> Encoding:
        """The network over the set, without the question; written once. ``room``: see :class:`EncodingOptions`.

        Raises:
            TimeoutError: it was not written ``until`` then.
        """
        options, kind = replace(self.options, relax=relax, room=room, until=until), (relax, distance, room)
        known = self._encodings.get(kind)
        if known is None:
            bounds = self.bounds
            known = encode(self.net, self.region, bounds.layers, bounds.output, options, distance=distance)
            self._encodings[kind] = known
        found = known.copy()
        found.options = options
        found.check_time()
        return found

    def clause(self, number: int) -> Clause:
        """A clause, without padding."""
        real = self._real[number]
        return Clause(self.clauses.coefficients[0, number][real], self.clauses.offsets[0, number][real])

    def highest(self, clause: int) -> np.ndarray:
        """Upper bounds of a clause's rows ``[rows]``, without padding."""
        upper: np.ndarray = self.upper[clause][self._real[clause]]
        return upper

    def limited(self, clause: int) -> np.ndarray:
        """Marks the condition rows of a clause ``[rows]``, without padding, if some input meets the conditions; none
        where no such input is known, since they may leave a program without a solution."""
        marks = self.conditions[clause][self._real[clause]]
        if marks.any() and clause not in self._met:
            every = limits(self.about, self.posed)
            assert every is not None
            point = moved_into(self.region, every[clause], self.region.center)
            breach = np.minimum(every[clause].values(point)[0], 0.0)  # an equation may have no float that solves it
            self._met[clause] = bool((-breach <= _MET * every[clause].sizes(point)[0]).all())
        return marks & self._met.get(clause, False)

    def near(self, x: np.ndarray) -> Iterator[np.ndarray]:
        """Points of the set by an input (flattened) that may be a witness: solvers step out by their tolerances, and
        out of conditions too."""
        point = x.reshape(1, *self.region.input_shape)
        yield self.region.project(point)
        for conditions in limits(self.about, self.posed) or ():
            dtype = input_dtype(self.judge.model, self.judge.region.lower.dtype)
            yield moved_into(self.judge.region, conditions, point.astype(dtype))

    def confirmed(self, x: np.ndarray) -> np.ndarray | None:
        """A witness by an input (flattened) that may be one; None where none of the points near it is."""
        found = (self.judge.confirm(point) for point in self.near(x))
        return next((point for point in found if point is not None), None)

    @property
    def overflows(self) -> bool:
        """Tells whether the network leaves the range of its numbers on the set: then no proof of it means anything."""
        return not np.isfinite(self.rounding).all()

    def taken(self, clause: int) -> float:
        """The least that was taken from a clause's rows: by so much the margin asked about is larger."""
        return float(self.rounding[clause].min())

    def known(self, clause: int) -> float:
        """A lower bound of a clause's margin over the set."""
        best = float(np.where(np.isfinite(self.lower[clause]), self.lower[clause], -np.inf).max())
        return best if np.isfinite(best) else -1e6 * self.scale

    def without(self, clauses: Collection[int]) -> Query:
        """The query about the other clauses only: these are proven."""
        lower = self.lower.copy()
        lower[list(clauses)] = np.inf
        return replace(self, lower=lower)

    def holding(self, margins: Mapping[int, float], believed: bool) -> Query:
        """The query with what is known of some clauses' margins, less what rounding may take; programs are dropped.

        Args:
            margins: lower bounds.
            believed: whether some rest on a solver's word.
        """
        lower = self.lower.copy()
        for clause, margin in margins.items():
            lower[clause] = np.maximum(lower[clause], margin)
        return replace(self, lower=lower, bounds=replace(self.bounds, believed=believed or self.bounds.believed))

    def met(self, other: Query) -> Query:
        """The query with what another one about the same set and clauses knows of their margins."""
        return self.holding(dict(enumerate(other.lower.max(axis=1).tolist())), other.bounds.believed)

    def true_margin(self, x: np.ndarray, clause: int) -> float:
        """The best row of a clause at an input (flattened), by the float64 network; see :meth:`best`."""
        outputs = self.net.network(x.reshape(1, *self.region.input_shape)).numpy()
        return float(self.best(clause, self.clause(clause).values(outputs))[0])

    def best(self, clause: int, values: np.ndarray) -> np.ndarray:
        """The best of a clause's rows ``[...]`` by their values ``[..., rows]`` at points: of those that are no
        conditions; infinite where a condition is not met, by more than solvers leave open."""
        real = self._real[clause]
        conditions = self.conditions[clause][real]
        size = np.maximum(np.abs(self.lower), np.abs(self.upper))[clause][real]
        open_ = CLOSE * np.where(np.isfinite(size), np.maximum(size, 1e-3), 1e-3)
        broken = (values > open_)[..., conditions].any(axis=-1)
        return np.where(broken, np.inf, values[..., ~conditions].max(axis=-1))


@dataclass(frozen=True)
class Margin:
    """The program of the worst margin of some clauses: of each the best of its rows, of these the least.

    Attributes:
        program: minimises the margin.
        encoding: of the network in it.
        clauses: which.
    """

    program: Program
    encoding: Encoding
    clauses: tuple[int, ...]


def within_rounding(query: Query, clauses: Sequence[int], seen: float = -np.inf) -> Because:
    """The reason why clauses stay open whose margin is about what rounding may take, or at a point no more than is
    ``seen``, of which rounding leaves nothing."""
    taken = max(CLOSE * query.scale, seen, *(query.taken(k) for k in clauses))
    said = f"the worst margin is {taken:.3g} or less, which the model's rounding or our own may take"
    return Reason.ROUNDING.because(said=said)


def margin_program(
    query: Query,
    clauses: Sequence[int],
    *,
    relax: bool = False,
    least: float = -np.inf,
    until: float = np.inf,
    room: bool = True,
) -> Margin:
    """The worst margin of some clauses, or ``least`` where it is lower than that.

    Rows have room for what rounding may take, which a solution uses up: points that may be witnesses are looked for
    without ``room``, of which no bound is a proof.

    Condition rows that an input meets are constraints, and the margin is that of the other rows.

    Several clauses have a binary each, one of which is 1: the one whose rows the margin bounds.

    Raises:
        TimeoutError: it was not written ``until`` then.
    """
    encoding = query.encoding(until, relax=relax, room=room)
    builder, asked = encoding.builder, [query.clause(k) for k in clauses]
    floor = max(least, min(query.known(k) for k in clauses))
    ceiling = max(floor, *(float(query.highest(k).max()) for k in clauses)) + query.scale
    (column,) = builder.variables(np.array([floor]), np.array([ceiling]))
    choices = builder.binaries(len(clauses)) if len(clauses) > 1 else None
    if choices is not None:
        builder.rows([(choices, -np.ones((1, len(choices))))], np.array([-1.0]))
    limited = [query.limited(k) for k in clauses]
    for number, (clause, limit) in enumerate(zip(asked, limited, strict=True)):
        count, right = len(clause.offsets), -clause.offsets
        extra: list[RowTerm] = [(np.full(count, column), np.where(limit, 0.0, -1.0))]
        if choices is not None:
            slack = np.maximum(0.0, query.highest(clauses[number]) - np.where(limit, 0.0, floor))
            extra.append((np.full(count, choices[number]), slack))
            right = right + slack
        off = query.room(clause) if encoding.rounded else 0.0
        _row_terms(builder, encoding, clause.coefficients, right + off, extra)

    def margins(v: np.ndarray) -> np.ndarray:
        outputs = encoding.outputs.at(v)
        both = zip(asked, limited, strict=True)
        return np.array([float(clause.values(outputs)[~limit].max()) for clause, limit in both])

    encoding.step(np.array([column]), lambda v: np.array([max(floor, float(margins(v).min()))]))
    if choices is not None:
        encoding.step(choices, lambda v: np.eye(len(asked))[int(margins(v).argmin())])
    return Margin(builder.program((np.array([column]), np.ones(1))), encoding, tuple(clauses))


def _row_terms(
    builder: ProgramBuilder,
    encoding: Encoding,
    coefficients: np.ndarray,
    right: np.ndarray,
    extra: Sequence[RowTerm],
) -> None:
    """Rows ``C outputs + extra <= right``."""
    outputs = encoding.outputs
    live = outputs.column >= 0
    matrix = (coefficients * outputs.scale)[:, live]
    builder.rows([(outputs.column[live], matrix), *extra], right - coefficients @ outputs.shift)


@dataclass(frozen=True)
class Distance:
    """The program of the least distance at which a clause is broken.

    Attributes:
        program: minimises the distance (its square for L2).
        encoding: of the network in it.
        way_out: the variable that is 1 where no clause is broken, at a cost above every distance; None without one.
    """

    program: Program
    encoding: Encoding
    way_out: int | None


def distance_program(query: Query, *, way_out: bool, until: float = np.inf) -> Distance:
    """The least distance from the centre at which any open clause is broken (its rows are all at most 0).

    With a way out the program has a solution whatever the network does, so a solver that finds none has failed.

    Raises:
        TimeoutError: it was not written ``until`` then.
    """
    encoding = query.encoding(until, distance=True)
    assert encoding.distance is not None
    columns, costs = encoding.distance
    builder = encoding.builder
    count = len(query.open)
    choices = builder.binaries(count + way_out)
    builder.rows([(choices, -np.ones((1, len(choices))))], np.array([-1.0]))
    for choice, number in zip(choices, query.open, strict=False):
        clause, upper = query.clause(number), query.highest(number)
        room = np.maximum(0.0, np.where(np.isfinite(upper), upper, 1e6 * query.scale)) + query.scale * CLOSE
        extra: list[RowTerm] = [(np.full(len(room), choice), room)]
        _row_terms(builder, encoding, clause.coefficients, room - clause.offsets, extra)
    encoding.step(choices, _chosen(query, encoding, way_out))
    if way_out:
        reach = builder.program((columns, costs)).upper[columns] @ costs
        columns, costs = np.append(columns, choices[-1]), np.append(costs, 2.0 * _reach(query, float(reach)))
    return Distance(builder.program((columns, costs)), encoding, int(choices[-1]) if way_out else None)


def _reach(query: Query, reach: float) -> float:
    """No less than any distance (squared for L2) in the set."""
    eps = float(getattr(query.region, "eps", np.array([np.inf]))[0])
    return min(reach, eps * eps if query.region.norm == "l2" else eps)


def _chosen(query: Query, encoding: Encoding, way_out: bool) -> Callable[[np.ndarray], np.ndarray]:
    def choose(v: np.ndarray) -> np.ndarray:
        outputs = encoding.outputs.at(v)
        margins = [float(query.clause(number).margin(outputs)) for number in query.open]
        # A solver's point may be this far from the tie that it stands for.
        found = np.array([m <= CLOSE * query.scale for m in margins], np.float64)
        if not found.any() and not way_out:
            found[int(np.argmin(margins))] = 1.0
        return np.append(found, float(not found.any())) if way_out else found

    return choose


def strict_distance(query: Query, clause: int, demand: float, *, until: float = np.inf) -> Distance:
    """The least distance at which one clause, as it was asked, is broken by at least ``demand`` by the formula.

    Raises:
        TimeoutError: it was not written ``until`` then.
    """
    encoding = query.encoding(until, distance=True, room=False)
    assert encoding.distance is not None
    asked = query.clause(clause)
    _row_terms(encoding.builder, encoding, asked.coefficients, -asked.offsets - query.taken(clause) - demand, [])
    return Distance(encoding.builder.program(encoding.distance), encoding, None)


def checked(query: Query, answer: Answer, program: Program, encoding: Encoding) -> Answer:
    """The answer, if its point has the value that it claims and its bound is not above it.

    Raises:
        SolverError: it does not: a wrong point, or a bound that a point of the program refutes.
    """
    if answer.status.startswith("error"):
        raise SolverError(f"the solver ended with {answer.status}")
    if answer.status == "infeasible":
        raise SolverError("the solver says that a program with a known solution has none")
    if answer.status == "optimal" and (answer.v is None or answer.objective is None or answer.bound is None):
        raise SolverError("the solver claims an optimum without a solution")
    if answer.v is None or answer.objective is None:
        return answer
    full = encoding.point(encoding.settled(answer.v), program)
    value, slack = program.value(full), CLOSE * max(abs(answer.objective), abs(program.value(full)), 1e-6)
    off = abs(value - answer.objective) if query.net.exact else answer.objective - value
    tolerance = 1e2 * slack + 1e-7
    if off > tolerance:
        raise SolverError(f"the solver's point has the value {value:.6g}, not the {answer.objective:.6g} it claims")
    if answer.bound is not None and answer.bound > answer.objective + tolerance:
        raise SolverError(f"the solver's bound {answer.bound:.6g} lies above its own solution {answer.objective:.6g}")
    return answer
