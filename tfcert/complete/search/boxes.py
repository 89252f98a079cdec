"""Branch and bound over the inputs: a box is cut until every clause is bounded on every part of it.

For questions with few inputs: on a small box few neurons change their sign, and all of them are bounded anew, so
cutting an input says more than fixing the sign of one neuron (as for ACAS-Xu's networks: ReluVal, Wang et al. 2018,
"Formal security analysis of neural networks using symbolic intervals"), and what kind of activation it is does not
matter. Bounds are CROWN's, a batch of boxes at a time. A plane below the row that nearly holds tells the rest: a box is
cut in the input along which that plane falls most and with which most goes of what relaxed neurons take from it (see
:mod:`tfcert.propagation.sensitivity`), and what lies where the plane is positive is cut off (as "Clip-and-Verify" does,
Zhou et al. 2025). Parts meet in their faces and cover the whole but for what was cut off.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tfcert.complete.search.halving import SIZES, Batches, RowPlanes, signs_of
from tfcert.complete.search.query import Query, Solvers, within_rounding
from tfcert.network.graph import Network
from tfcert.propagation.supported import as_given, not_charged
from tfcert.sets.balls import Perturbation
from tfcert.sets.region import region_of
from tfcert.tracing import expecting
from tfcert.verdict import NO_REASON, Because, Reason

MOST_INPUTS = 20
"""Boxes are cut where at most so many inputs may move."""
_FEW = 12
"""And without being asked to where so few may,"""
_NEURONS = 128
"""and more neurons than these are not in the first layer (else splitting neurons ends sooner),"""
_FEWEST = 2
"""or no more inputs than these may."""
_PASSES = 1000
"""For about so many passes to come the first is traced."""
_KEPT = 1 << 24
"""Numbers that open boxes may hold together."""
_AT_MOST = 3
"""A box is halved at most so many times before its parts are bounded."""
_ATTACKED = 16
"""From the worst so many boxes of a pass a point descends."""
_PLACES = 1 << 12
"""So many corners, and middles of sides, are looked at before anything is cut."""
_STARTS = 64
"""From so many points of the whole box one descends before anything is cut."""
_MORE = 16
"""Where something is only broken within rounding, so many passes, and as many again, may find a witness."""
_NARROW = 1e-12
"""A box is cut no further where its widest side is this narrow, relative to its ends."""


class _Open(NamedTuple):
    """Boxes that are not proven yet.

    Attributes:
        lower, upper: ``[boxes, inputs]``.
        bound: of each clause on the box that each is a part of ``[boxes, clauses]``.
        falls: what a cut of each input is worth to the bound of its worst row, for each unit of the input's width
            ``[boxes, inputs]``.
        depth: how many times it was cut ``[boxes]``.
        signs: of neurons, as far as they are known ``[boxes, neurons]``.
    """

    lower: np.ndarray
    upper: np.ndarray
    bound: np.ndarray
    falls: np.ndarray
    depth: np.ndarray
    signs: np.ndarray

    def taken(self, index: np.ndarray | slice) -> _Open:
        return _Open(*(part[index] for part in self))


@dataclass(frozen=True)
class Divided:
    """What cutting a query's box finds out.

    Attributes:
        bounds: of each clause that was looked at: no input of the box has a lower margin.
        proven: those that hold.
        witness: an input of the original model that breaks one of them, or None.
        pieces, passes, depth: how many boxes were bounded, in how many passes, and how often one was cut at most.
        reason: why some are neither proven nor broken; "" where none is.
        late: whether that is for want of time.
    """

    bounds: dict[int, float]
    proven: tuple[int, ...]
    witness: np.ndarray | None
    pieces: int
    passes: int
    depth: int
    reason: Because = NO_REASON
    late: bool = False


def can_divide(query: Query, most: int = MOST_INPUTS) -> bool:
    """Tells whether the query is about a box in which at least one input may move, and at most so many; of a rounded
    network, whether CROWN's bounds charge its rounding."""
    return query.finite and may_divide(query.about, query.region, most)


def should_divide(query: Query) -> bool:
    """Tells whether cutting inputs is likely to end sooner than splitting neurons."""
    return query.finite and are_divided(query.about, query.region)


def are_divided(network: Network, region: Perturbation) -> bool:
    """The same of sets of a kind, as far as bounds on them are finite."""
    neurons = sum(math.prod(network.nodes[i].shape) for i in network.bounded()[1:])
    return may_divide(network, region, _FEW if neurons > _NEURONS else _FEWEST)


def may_divide(network: Network, region: Perturbation, most: int = MOST_INPUTS) -> bool:
    """What :func:`can_divide` tells, of sets of a kind, as far as bounds on them are finite."""
    if not region_of(region).is_box:
        return False
    if network.rounding is not None and not_charged(network, "crown", None, as_given(network, None), combined=True):
        return False
    return 0 < int((region.lower < region.upper).reshape(len(region), -1).sum(axis=1).max(initial=0)) <= most


def prepare_boxes(query: Query) -> None:
    """Traces what :func:`by_halves` runs on queries like this one."""
    if query.asked:
        batches, ends, clause = Batches(query), _ends(query), np.zeros(1, int)
        with expecting(_PASSES):
            _, layers = batches.bounds(*ends)
        batches.planes(*ends, (clause, clause), layers)
        batches.descended(*ends, ends[0], clause)
        batches.outputs(ends[0])


def by_halves(
    query: Query,
    clauses: Sequence[int],
    solvers: Solvers,
    tell: Callable[[int, float], None] = lambda clause, bound: None,
) -> Divided:
    """Proves clauses on a query's box, or finds an input that breaks one; the same at every call.

    Args:
        query: one that :func:`can_divide`.
        clauses: which; of all of them the same boxes are cut.
        solvers: ``until`` ends the search.
        tell: is told clauses and the lower bounds of them so far.
    """
    tree = _Tree(query, clauses)
    low, high = _ends(query)
    left = _Open(low, high, tree.first(), high - low, np.zeros(1, int), tree.nothing(1))
    told = 0

    def ended(reason: Because = NO_REASON, *some: _Open, witness: np.ndarray | None = None) -> Divided:
        least = tree.least(*some)
        proven = () if witness is not None else tuple(k for k in clauses if least[k] > tree.batches.enough)
        passes = tree.batches.passes
        bounds = {k: float(least[k]) for k in clauses}
        late = reason.reason is Reason.TIME_LIMIT
        return Divided(bounds, proven, witness, tree.count, passes, tree.depth, reason, late)

    witness = tree.attacked_whole(low, high)
    if witness is not None:
        return ended(witness=witness)
    while len(left.bound):
        size = tree.batches.size(SIZES[-1], solvers.left())
        if not size:
            return ended(Reason.TIME_LIMIT.because(said="the budget was used up"), left)
        if left.lower.size + left.bound.size + left.signs.size // 8 > _KEPT:
            return ended(Reason.TOO_MANY_PIECES.because(), left)
        some, left = left.taken(slice(-size, None)), left.taken(slice(None, -size))
        some, witness = tree.bounded(some)
        if witness is not None:
            return ended(witness=witness)
        if not len(some.bound):
            continue
        tied = tree.batches.tied
        if tied and tree.batches.passes > _MORE + 2 * min(tied.values()):
            seen = max(tree.batches.seen[clause] for clause in tied)
            return ended(within_rounding(query, sorted(tied), seen), left, some)
        parts = _cut(some, _AT_MOST, SIZES[1])
        if parts is None:
            return ended(Reason.NOTHING_TO_SPLIT.because(said="a box is open that cannot be cut any more"), left, some)
        left = _Open(*(np.concatenate(both) for both in zip(left, parts, strict=True)))
        if tree.count > 2 * told:
            told, least = tree.count, tree.least(left)
            for clause in clauses:
                tell(clause, float(least[clause]))
    return ended()


def _ends(query: Query) -> tuple[np.ndarray, np.ndarray]:
    low, high = (np.asarray(end, np.float64).reshape(1, -1) for end in (query.region.lower, query.region.upper))
    return low, high


class _Tree:
    """Bounds boxes for some clauses of a query, and keeps what is known of those that are done.

    Attributes:
        batches: bounds them.
        count, depth: how many boxes were bounded, and how often one was cut at most.
    """

    def __init__(self, query: Query, clauses: Sequence[int]):
        self.batches = Batches(query)
        self._asked, self._query = np.array(sorted(clauses)), query
        self.count, self.depth = 0, 0
        self._done = np.full(len(query.lower), np.inf)

    def first(self) -> np.ndarray:
        """What is known of the clauses on the whole box ``[1, clauses]``: of those not looked at, that they hold."""
        found = np.full((1, len(self._done)), np.inf)
        known = self._query.lower[self._asked].max(axis=1)
        found[0, self._asked] = np.where(np.isfinite(known), known, -np.inf)
        return found

    def nothing(self, count: int) -> np.ndarray:
        """That nothing is known of signs, for so many boxes."""
        return np.zeros((count, self.batches.neurons), np.int8)

    def least(self, *some: _Open) -> np.ndarray:
        """Lower bounds of all clauses ``[clauses]``, by what is done and by boxes that are not."""
        found = self._done
        for part in some:
            found = np.minimum(found, part.bound.min(axis=0, initial=np.inf))
        return found

    def bounded(self, some: _Open) -> tuple[_Open, np.ndarray | None]:
        """What stays open of some boxes, the worst last, and a witness if there is one."""
        rows, layers = self.batches.bounds(some.lower, some.upper, some.signs)
        self.count += len(rows)
        self.depth = max(self.depth, int(some.depth.max()))
        bound = np.maximum(rows.max(axis=2), some.bound)
        some = some._replace(bound=bound)
        kept = np.flatnonzero(~(bound > self.batches.enough).all(axis=1))
        # The worst last: it is cut next, and few boxes are open at a time.
        kept = kept[np.argsort(-bound[kept].min(axis=1), kind="stable")]
        over = np.setdiff1d(np.arange(len(bound)), kept)
        self._done = np.minimum(self._done, bound[over].min(axis=0, initial=np.inf))
        some, rows, layers = some.taken(kept), rows[kept], [end[kept] for end in layers]
        if not len(kept):
            return some, None
        clause = some.bound.argmin(axis=1)
        # A mean of two rows may prove a clause, but says less of where it fails: of two ends of an output it is flat.
        row = rows[np.arange(len(rows)), clause, : self.batches.single].argmax(axis=1)
        planes = self.batches.planes(some.lower, some.upper, (clause, row), layers)
        witness = self._attacked(some, planes, clause)
        some = some._replace(falls=planes.falls, signs=signs_of(len(planes.falls), layers))
        return self._shrunk(some, planes, clause), witness

    def attacked_whole(self, low: np.ndarray, high: np.ndarray) -> np.ndarray | None:
        """A witness in the whole box: its corners and the middles of its sides and faces, where there are not too many,
        and what descents from points everywhere lead to."""
        starts = low + np.random.default_rng(0).uniform(size=(_STARTS, low.shape[1])) * (high - low)
        starts[0] = 0.5 * low[0] + 0.5 * high[0]
        first, last = (np.repeat(end, _STARTS, axis=0) for end in (low, high))
        points = self.batches.descended(first, last, starts, np.resize(self._asked, _STARTS))
        return self.batches.witness(np.concatenate([_places(low[0], high[0]), points]), self._asked.tolist())

    def _attacked(self, some: _Open, planes: RowPlanes, clause: np.ndarray) -> np.ndarray | None:
        """A witness among the boxes' middles, where planes are least on them, and what the worst lead to."""
        least = np.where(planes.slopes > 0, some.lower, some.upper)
        points = [0.5 * some.lower + 0.5 * some.upper, least]
        worst = some.taken(slice(-_ATTACKED, None))
        points.append(self.batches.descended(worst.lower, worst.upper, least[-_ATTACKED:], clause[-_ATTACKED:]))
        return self.batches.witness(np.concatenate(points), self._asked.tolist())

    def _shrunk(self, some: _Open, planes: RowPlanes, clause: np.ndarray) -> _Open:
        """Boxes without what lies where a plane is positive, where one clause alone is open.

        On a box a row is at least ``least + sum of |slope| d`` where ``d`` is how far an input is from the end at which
        the plane is least. So with one input that far from it the row holds, whatever the others are. Each step is
        rounded outward, and slopes are exact: what is cut off holds for whatever the row's bound is about.
        """
        alone = (~(some.bound > self.batches.enough)).sum(axis=1) == 1
        level, steep = 2 * self.batches.enough, np.abs(planes.slopes)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            far = np.nextafter(np.nextafter(level - planes.least, np.inf)[:, None] / steep, np.inf)
            far = np.where(alone[:, None] & np.isfinite(far), far, np.inf)
            start, end = np.nextafter(some.upper - far, -np.inf), np.nextafter(some.lower + far, np.inf)
        up = planes.slopes > 0
        lower = np.where(up, some.lower, np.maximum(some.lower, start))
        upper = np.where(up, np.minimum(some.upper, end), some.upper)
        less = ((lower > some.lower) | (upper < some.upper)).any(axis=1) & (planes.least <= level)
        rest = np.where(np.arange(some.bound.shape[1]) == clause[:, None], level, some.bound)
        self._done = np.minimum(self._done, rest[less].min(axis=0, initial=np.inf))
        pick = less[:, None]
        return some._replace(lower=np.where(pick, lower, some.lower), upper=np.where(pick, upper, some.upper))


def _places(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Points of a box ``[points, inputs]``: every input at one of its ends or in its middle, or at one of its ends; the
    middle alone where that makes too many."""
    moving, middle = np.flatnonzero(low < high), 0.5 * low + 0.5 * high
    levels = [level for level in ((low, middle, high), (low, high)) if len(level) ** len(moving) <= _PLACES]
    if not levels:
        return np.asarray(middle[None])
    found = np.repeat(middle[None], len(levels[0]) ** len(moving), axis=0)
    found[:, moving] = list(itertools.product(*np.stack(levels[0])[:, moving].T))
    return found


def _cut(some: _Open, most: int, fill: int) -> _Open | None:
    """The parts of boxes, each halved at least once and at most so many times while there are few; None where one
    cannot be halved."""
    for number in range(most):
        if number and 2 * len(some.bound) > fill:
            break
        halves = _halved(some)
        if halves is None:
            return some if number else None
        some = halves
    return some


def _halved(some: _Open) -> _Open | None:
    """The halves of boxes along the input in which it falls most; None where one cannot be halved."""
    middle, width = 0.5 * some.lower + 0.5 * some.upper, some.upper - some.lower
    wide = width > _NARROW * (1 + np.abs(middle))
    if not wide.any(axis=1).all():
        return None
    falls = some.falls * width
    # Where the plane is flat, the widest side.
    share = width / np.maximum(width.max(axis=1, keepdims=True), np.finfo(float).tiny)
    score = np.where(wide, falls + 1e-6 * share * falls.max(axis=1, keepdims=True) + np.finfo(float).tiny * share, -1.0)
    which, each = score.argmax(axis=1), np.arange(len(width))
    low, high = some.lower.copy(), some.upper.copy()
    high[each, which] = low[each, which] = middle[each, which]
    size = width.shape[1]
    starts, ends = (np.stack(pair, axis=1).reshape(-1, size) for pair in ((some.lower, low), (high, some.upper)))
    rest = (np.repeat(part, 2, axis=0) for part in (some.bound, some.falls, some.depth + 1, some.signs))
    return _Open(starts, ends, *rest)
