"""Branch and bound over the inputs: a box is halved until every part of it is bounded.

For questions about related networks with few inputs and many neurons: on a small box few neurons change their sign, and
all of them are bounded anew, so halving an input says more than fixing the sign of one neuron (as for ACAS-Xu's
networks: ReluVal, Wang et al. 2018, "Formal security analysis of neural networks using symbolic intervals"). The input
that is halved is the one along which the outputs move most (their "smear"). Bounds are CROWN's, a batch of boxes at a
time, so what is proven is ``numeric``; parts meet in their faces and cover the whole.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfcert.clauses import Clauses
from tfcert.complete.search.query import Query, Solvers
from tfcert.complete.search.results import POSITIVE, Branched
from tfcert.network.graph import Network
from tfcert.options import BoundOptions
from tfcert.propagation.disjunctions import clause_bounds
from tfcert.sets.balls import Box
from tfcert.sets.region import region_of
from tfcert.tracing import expecting
from tfcert.verdict import NO_REASON, Because, Reason

_INPUTS = 12
"""Boxes are halved where at most so many inputs may move."""
_NEURONS = 128
"""And where more neurons than these are not in the first layer: else splitting neurons ends sooner."""
_AT_ONCE = 64
_PASSES = 1000
"""For about so many passes to come the first is traced."""
_KEPT = 1 << 22
"""Numbers that open boxes may hold together."""
_NARROW = 1e-12
"""A box is halved no further where its widest side is this narrow, relative to its ends."""


class _Open(NamedTuple):
    """Boxes ``[boxes, inputs]`` that are not bounded yet, and the bound of the box that each is a half of."""

    lower: np.ndarray
    upper: np.ndarray
    bound: np.ndarray

    def taken(self, index: np.ndarray | slice) -> _Open:
        return _Open(*(part[index] for part in self))


def can_divide(query: Query) -> bool:
    """Tells whether the query is one about several applications that halving boxes is for."""
    network = query.about
    if len(network.applied) < 2 or not query.finite or not region_of(query.region).is_box:
        return False
    free = int((query.region.lower < query.region.upper).sum())
    neurons = sum(math.prod(network.nodes[i].shape) for i in network.bounded()[1:])
    return 0 < free <= _INPUTS and neurons > _NEURONS


def prepare_boxes(query: Query) -> None:
    """Traces what :func:`by_halves` runs on queries like this one."""
    if query.asked:
        with expecting(_PASSES):
            _Boxes(query, query.asked[0]).bounds(_whole(query))


def by_halves(
    query: Query, clause: int, solvers: Solvers, tell: Callable[[float, int], None] = lambda bound, pieces: None
) -> Branched:
    """Proves a clause on a query's box, or finds an input that breaks it.

    Args:
        query: one that :func:`can_divide`.
        clause: which.
        solvers: ``until`` ends the search.
        tell: is told the lower bound so far and how many boxes were bounded.
    """
    boxes, enough = _Boxes(query, clause), POSITIVE * query.scale
    left, proven, count, passes, told, pace = _whole(query), math.inf, 0, 0, 0, 0.0

    def ended(reason: Because, some: _Open) -> Branched:
        return Branched(min(proven, float(some.bound.min(initial=math.inf))), None, count, passes, reason)

    while len(left.bound):
        if solvers.left() <= pace:
            return ended(Reason.TIME_LIMIT.because(said="the budget was used up"), left)
        if left.lower.size > _KEPT:
            return ended(Reason.TOO_MANY_PIECES.because(), left)
        began, some, left = time.monotonic(), left.taken(slice(-_AT_ONCE, None)), left.taken(slice(None, -_AT_ONCE))
        bound = np.maximum(boxes.bounds(some), some.bound)
        count, passes, pace = count + len(bound), passes + 1, time.monotonic() - began
        proven = min(proven, float(bound[bound > enough].min(initial=math.inf)))
        some = some._replace(bound=bound).taken(np.argsort(-bound, kind="stable"))  # the worst is halved first
        some = some.taken(~(some.bound > enough))
        if not len(some.bound):
            continue
        halves, witness = boxes.halved(some)
        while halves is not None and witness is None and 2 * len(halves.bound) <= _AT_ONCE:  # a pass takes so many
            halves, witness = boxes.halved(halves)
        if witness is not None:
            return Branched(-math.inf, witness, count, passes)
        if halves is None:
            return ended(Reason.NOTHING_TO_SPLIT.because(said="a box is open that cannot be halved any more"), some)
        left = _Open(*(np.concatenate(parts) for parts in zip(left, halves, strict=True)))
        if count > 2 * told:
            told = count
            tell(min(proven, float(left.bound.min(initial=math.inf))), count)
    return ended(NO_REASON, left)


def _whole(query: Query) -> _Open:
    low, high = (end.reshape(1, -1) for end in (query.region.lower, query.region.upper))
    return _Open(low, high, np.array([-np.inf]))


class _Boxes:
    """Bounds and halves boxes for one clause."""

    def __init__(self, query: Query, clause: int):
        self._query, self._number, self._shape = query, clause, query.region.input_shape
        self._clause = query.about_clause(clause)
        self._network: Network = query.about
        self._options = BoundOptions(differences=query.asked_of is not None)

    def bounds(self, some: _Open) -> np.ndarray:
        """Lower bounds of the clause's best row, or combination of rows, over each box."""
        spare = _AT_ONCE - len(some.lower)
        ends = [np.concatenate([end, np.repeat(end[-1:], spare, axis=0)]) for end in some[:2]]
        sets, asked = Box(*(end.reshape(-1, *self._shape) for end in ends)), self._clause
        rows, offsets = (np.repeat(p[None, None], _AT_ONCE, axis=0) for p in (asked.coefficients, asked.offsets))
        lower, combined = clause_bounds(self._network, sets, Clauses(rows, offsets), options=self._options)
        found = np.where(np.isnan(lower), -np.inf, lower).max(axis=1)
        found = found if combined is None else np.fmax(found, combined[:, 0])
        return np.asarray(np.where(np.isnan(found), -np.inf, found), np.float64)[: len(some.lower)]

    def halved(self, some: _Open) -> tuple[_Open | None, np.ndarray | None]:
        """The halves of boxes, or None where one has no half; and a witness, if one is found on the way."""
        count, size = some.lower.shape
        middle, half = 0.5 * some.lower + 0.5 * some.upper, 0.5 * some.upper - 0.5 * some.lower
        # The middles, and from each as far as the box goes along every input, down and up.
        steps = np.concatenate([np.zeros((1, size)), -np.eye(size), np.eye(size)])
        points = np.clip(middle + steps[:, None] * half, some.lower, some.upper)
        outputs = self._network(tf.constant(points.reshape(-1, *self._shape))).numpy().reshape(len(steps), count, -1)
        margins = self._query.best(self._number, self._clause.values(outputs))
        if margins.min() <= 0:
            worst = np.unravel_index(margins.argmin(), margins.shape)
            witness = self._query.confirmed(points[worst])
            if witness is not None:
                return None, witness
        smear = np.abs(outputs[1 : size + 1] - outputs[size + 1 :]).sum(axis=2).T  # [boxes, inputs]
        wide = half > _NARROW * (1 + np.abs(middle))
        if not wide.any(axis=1).all():
            return None, None
        # Where no output moves, the widest side.
        score = np.where(wide, smear + 1e-9 * half * smear.max(axis=1, keepdims=True) + np.finfo(float).tiny * half, -1)
        which, each = score.argmax(axis=1), np.arange(count)
        low, high = some.lower.copy(), some.upper.copy()
        high[each, which] = low[each, which] = middle[each, which]
        starts, ends = (np.stack(pair, axis=1).reshape(-1, size) for pair in ((some.lower, low), (high, some.upper)))
        return _Open(starts, ends, np.repeat(some.bound, 2)), None
