"""Branch and bound with proofs of our own: a set is cut at values of neurons until every piece of it is bounded.

Bounds of the pieces are beta-CROWN's (Wang et al. 2021; ``propagation.splitting``), a batch of pieces at a time. The
neuron whose relaxation costs most where the bound is attained is split next. Where splitting cannot help any more, a
piece's linear relaxation is solved and bounded by its dual prices, which rests on no solver's word. Of a rounded
network every bound, that of prices too, is charged for rounding, and the signs of neurons are those of values as
computed, so that what is proven has that network's guarantee; of others it is ``numeric``.
"""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from tfcert.complete.search.query import CLOSE, Query, Solvers, margin_program, within_rounding
from tfcert.complete.search.results import POSITIVE, Branched
from tfcert.complete.solver.process import SolverError
from tfcert.network.graph import Network
from tfcert.options import BoundOptions
from tfcert.propagation.engine import full_precision, use_jit
from tfcert.propagation.splitting import (
    AskedRows,
    Climb,
    Climbed,
    Pieces,
    activation_of,
    climb,
    curved_nodes,
    first_pieces,
    split_nodes,
    splittable,
    wide_enough,
)
from tfcert.sets.region import Region, region_of
from tfcert.tracing import traced
from tfcert.verdict import NO_REASON, Because, Reason

_SIZES = (2, 16, 64, 256)
"""How many pieces are bounded at a time: a batch is filled up to one of these."""
_NUMBERS = 1 << 22
"""Neurons of all pieces of a batch at most: some thirty tensors of that size are in use."""
_FIRST = 200
"""Steps on the whole set; the pieces go on from what is found there."""
_STEPS, _RATE = 30, 0.02
_TELLING = 5
"""Steps of a pass that tell how long one takes; fewer tell nothing beside the start of the pass."""
_PASS = 0.1
"""The share of the time that is left that a pass may take, where fewer pieces would make it shorter."""
_REFRESHED = 128
"""Bounds of neurons are computed anew on each piece where at most so many neurons are not in the first layer."""
_SMALL = 0.5
"""Splitting helps no more where what relaxations cost is less than this share of the distance to a point's margin."""
_GIVING_WAY = 1e4
"""What a broken row of a linear program costs, in units of the margins' size."""
_KEPT = 1 << 29
"""Numbers that open pieces may hold together."""
_UNPROVEN = 1e6
"""A row that is moved down by this many times the margins' size is not proven."""


@dataclass(frozen=True)
class _Piece:
    """A piece of the set.

    Attributes:
        signs, choices, multipliers: as in :class:`~tfcert.propagation.splitting.Pieces`, of one piece.
        cuts: a lower and an upper end for each of the nodes that enter a curve.
        curved: for each split node the place of its lower end in ``cuts``; None of one that enters hinges alone.
        bounds: of what enters the nonlinear nodes on the piece, where they are computed anew on pieces of it; None
            where they are those of the whole set, cut by the signs.
        weights: of the clause's rows, in their scale, of which a combination is bounded.
        bound: the lower bound of that.
        split: split node and neuron whose relaxation costs most, and where it is cut; None where none costs anything.
        layers: of what enters the layers on the piece, flattened, if its linear relaxation is to be solved before it is
            split.
        priced: whether it was, and its prices proved a bound.
    """

    signs: list[np.ndarray]
    choices: list[np.ndarray]
    multipliers: list[np.ndarray]
    cuts: list[np.ndarray]
    curved: tuple[int | None, ...]
    bounds: list[np.ndarray] | None
    weights: np.ndarray
    bound: float = -math.inf
    split: tuple[int, int, float] | None = None
    layers: tuple[tuple[np.ndarray, np.ndarray], ...] | None = None
    priced: bool = False

    def halves(self) -> list[_Piece]:
        """The two pieces on either side of where its worst neuron has some value: zero where it enters hinges alone."""
        assert self.split is not None
        node, neuron, value = self.split
        found = []
        for sign in (1, -1):
            half = replace(self, signs=_with(self.signs, node, neuron, sign), split=None, priced=False)
            place = self.curved[node]
            if place is not None:  # a condition with another number begins without a multiplier
                cuts = _with(self.cuts, place if sign > 0 else place + 1, neuron, value)
                half = replace(half, cuts=cuts, multipliers=_with(self.multipliers, node, neuron, 0.0))
            found.append(half)
        return found

    def numbers(self) -> int:
        """The number of numbers that it holds."""
        return sum(
            part.size for part in (*self.signs, *self.choices, *self.multipliers, *self.cuts, *(self.bounds or []))
        )


def _with(arrays: list[np.ndarray], number: int, entry: int, value: float) -> list[np.ndarray]:
    """Arrays, one of them changed in one entry."""
    found = list(arrays)
    found[number] = found[number].copy()
    found[number].flat[entry] = value
    return found


def can_branch(query: Query) -> bool:
    """Tells whether the network has neurons that can be split."""
    return bool(splittable(query.net.network)) and query.finite


def branch(
    query: Query, clause: int, solvers: Solvers, tell: Callable[[float, int], None] = lambda bound, pieces: None
) -> Branched:
    """Proves a clause on a query's set, or finds an input that breaks it.

    Args:
        query: the set, the network and bounds of its neurons.
        clause: which.
        solvers: the first solves linear relaxations; ``until`` ends the search.
        tell: is told the lower bound so far and how many pieces were bounded.
    """
    tree, enough = _Tree(query, clause, solvers), POSITIVE * query.scale
    proven, stack, told = math.inf, [tree.whole()], 0

    def ended(bound: float, reason: Because, lost: bool = False) -> Branched:
        return Branched(bound, None, tree.count, tree.passes, reason, lost)

    while stack:
        least = min(proven, *(p.bound for p in stack))
        if tree.late():
            return ended(least, Reason.TIME_LIMIT.because(said="the budget was used up"))
        if len(stack) * stack[-1].numbers() > _KEPT:
            return ended(least, Reason.TOO_MANY_PIECES.because())
        count = max(1, tree.size() // 2)
        chosen, stack = stack[-count:], stack[:-count]
        bounded = tree.bounded(chosen)
        bounded = [piece if piece.layers is None else tree.solved(piece, piece.layers) for piece in bounded]
        if tree.witness is not None:
            return Branched(-math.inf, tree.witness, tree.count, tree.passes)
        # The bound of an empty piece may be infinite, which is right of a piece; of the set ``is_proof`` decides.
        proven = min([proven, *(p.bound for p in bounded if p.bound > 0)])
        left = [p for p in bounded if not p.bound > enough]
        stuck = [p for p in left if p.split is None]
        if stuck:
            least = min(p.bound for p in (*left, *stack))
            if query.straight_but_rounded and any(p.priced for p in stuck):
                return ended(least, within_rounding(query, [clause], tree.seen), lost=True)
            return ended(least, _stuck(query, clause, least))
        # The worst is cut next: a set that holds a witness is left soon, and few pieces are open at a time.
        stack += sorted(left, key=lambda p: -p.bound)
        if tree.count > 2 * told:
            told = tree.count
            tell(min((p.bound for p in stack), default=proven), tree.count)
    return ended(proven, NO_REASON)


def prepare(query: Query, solvers: Solvers) -> None:
    """Traces what :func:`branch` runs on queries like this one, and measures how long a step takes."""
    if can_branch(query) and query.asked:
        _Tree(query, query.asked[0], solvers).measure()


class _Tree:
    """Bounds pieces of one clause's set.

    Attributes:
        count, passes: of pieces bounded so far, and of passes that bounded them.
        witness: an input that breaks the clause, once one is found.
        seen: the least margin at a point that was looked at.
    """

    def __init__(self, query: Query, clause: int, solvers: Solvers):
        self._query, self._clause, self._solvers = query, clause, solvers
        self._network = query.net.network
        self._region = region_of(query.region)
        self._asked = query.clause(clause)
        real = query.clauses.counts[0, clause]
        self._weighs = (~query.conditions[clause][real]).astype(np.float64)
        spread = (query.upper - query.lower)[clause][real]
        self._scale = np.where(np.isfinite(spread) & (spread > 0), 1 / np.where(spread > 0, spread, 1.0), 1.0)
        sizes = [math.prod(self._network.nodes[i].shape) for i in self._network.bounded()]
        self._refresh = 0 < sum(sizes[1:]) <= _REFRESHED
        self._most = max((s for s in _SIZES if s * sum(sizes) <= _NUMBERS), default=_SIZES[0])
        self._climber = _climber(self._network, self._region, (self._refresh, len(self._asked.offsets)))
        # Places of the split nodes among the bounded ones.
        split, curved = split_nodes(self._network), curved_nodes(self._network)
        self._open = [self._network.bounded().index(i) for i in split]
        self._curved = tuple(2 * curved.index(i) if i in curved else None for i in split)
        self._readers = [
            [
                activation_of(self._network, k)
                for k in splittable(self._network)
                if self._network.nodes[k].inputs[0] == i
            ]
            for i in split
        ]
        self.count = self.passes = 0
        self.seen = math.inf
        self.witness: np.ndarray | None = None
        known = query.net.by_node(query.bounds.layers)
        self._bounds = {i: (tf.constant(low), tf.constant(high)) for i, (low, high) in known.items()}

    def size(self) -> int:
        """The number of pieces that the next pass may be for."""
        return self._climber.size(self._most, self._solvers.left())

    def late(self) -> bool:
        """Tells whether no step ends in time any more."""
        left = self._solvers.left()
        return left <= 0 or self._climber.pace(_SIZES[0]) > left

    def measure(self) -> None:
        """Takes a few steps on the smallest batch, with a row that none of them proves."""
        asked = self._rows(_SIZES[0])
        row = asked._replace(offsets=asked.offsets - _UNPROVEN * self._query.scale)
        for steps in (1, _TELLING):
            self._climber(self._sets(_SIZES[0]), row, self._batch([self.whole()] * _SIZES[0]), steps)

    def whole(self) -> _Piece:
        """The whole set."""
        first = first_pieces(self._network, self._bounds)
        signs = [s.numpy()[0].astype(np.int8) for s in first.signs]
        bounds = [end.numpy()[0] for pair in first.bounds for end in pair] if self._refresh else None
        cuts = [end.numpy()[0] for pair in first.cuts for end in pair]
        choices, multipliers = _numbers(first.choices), _numbers(first.multipliers)
        return _Piece(signs, choices, multipliers, cuts, self._curved, bounds, self._first_weights())

    def _first_weights(self) -> np.ndarray:
        """Half of the weight on the row that bounds prove most of, the rest on all alike."""
        found = np.full(len(self._asked.offsets), 0.5 / len(self._asked.offsets))
        lower = self._query.lower[self._clause][self._query.clauses.counts[0, self._clause]]
        found[int(np.where(self._weighs > 0, lower, -np.inf).argmax())] += 0.5
        return found

    def bounded(self, pieces: Sequence[_Piece]) -> list[_Piece]:
        """Halves pieces, unless there is only the whole set, and bounds what results; may find a witness."""
        first = self.count == 0
        parts = list(pieces) if first else [half for piece in pieces for half in piece.halves()]
        self.count += len(parts)
        size = next(s for s in _SIZES if s >= len(parts))
        fill = [*parts, *[parts[-1]] * (size - len(parts))]
        steps = self._climber.steps(size, _FIRST if first else _STEPS, self._solvers.left())
        climbed = self._climber(self._sets(size), self._rows(size), self._batch(fill), steps)
        self.passes += 1
        return self._read(parts, climbed)

    def _sets(self, size: int) -> list[tf.Tensor]:
        """The region, once for each piece."""
        return [tf.repeat(t, size, axis=0) for t in self._region[2:]]

    def _rows(self, size: int) -> AskedRows:
        """The clause's rows, once for each piece."""
        parts = self._asked.coefficients, self._asked.offsets, self._weighs, self._scale
        return AskedRows(*(tf.constant(np.repeat(part[None], size, axis=0), tf.float64) for part in parts))

    def solved(self, piece: _Piece, layers: tuple[tuple[np.ndarray, np.ndarray], ...]) -> _Piece:
        """The piece with the bound of its linear relaxation, if that is better; its solution may be a witness."""
        piece = replace(piece, layers=None)
        if self._solvers.left() <= 0 or self.witness is not None:
            return piece
        part = replace(self._query, bounds=replace(self._query.bounds, layers=layers))
        try:
            asked = margin_program(part, [self._clause], relax=True, until=self._solvers.until)
            answer = self._solvers.first.solve(asked.program, self._solvers.left(), relax=True)
            if answer.status == "infeasible":  # no proof that the piece is empty, but with rows that give way there is
                elastic = asked.program.elastic(_GIVING_WAY * self._query.scale)
                answer = replace(self._solvers.first.solve(elastic, self._solvers.left(), relax=True), v=None)
        except (SolverError, TimeoutError):
            return piece
        if answer.v is not None:
            self._look(asked.encoding.settled(answer.v)[None])
        bound = self._query.priced(answer)
        piece = replace(piece, bound=max(piece.bound, bound), priced=math.isfinite(bound))
        if piece.split is None and not piece.bound > 0 and asked.encoding.rounded:
            self._look_without_room(part)
        return piece

    def _look_without_room(self, part: Query) -> None:
        """Looks at the worst point of a piece by rows that leave no room for rounding, which a solution uses up."""
        if self.witness is not None or self._solvers.left() <= 0:
            return
        try:
            asked = margin_program(part, [self._clause], relax=True, until=self._solvers.until, room=False)
            answer = self._solvers.first.solve(asked.program, self._solvers.left(), relax=True)
        except (SolverError, TimeoutError):
            return
        if answer.v is not None:
            self._look(asked.encoding.settled(answer.v)[None])

    def _batch(self, pieces: Sequence[_Piece]) -> Pieces:
        def stacked(name: str) -> list[tf.Tensor]:
            parts = zip(*(getattr(p, name) for p in pieces), strict=True)
            return [tf.constant(np.stack(part), tf.float64) for part in parts]

        if self._refresh:
            ends = stacked("bounds")
            bounds = list(zip(ends[::2], ends[1::2], strict=True))
        else:
            each = [self._bounds[i] for i in self._network.bounded()]
            bounds = [(tf.repeat(low, len(pieces), 0), tf.repeat(high, len(pieces), 0)) for low, high in each]
        cuts = stacked("cuts")
        pairs = list(zip(cuts[::2], cuts[1::2], strict=True))
        weights = tf.constant(np.stack([p.weights for p in pieces]), tf.float64)
        return Pieces(bounds, stacked("signs"), stacked("choices"), stacked("multipliers"), pairs, weights)

    def _read(self, parts: Sequence[_Piece], found: Climbed) -> list[_Piece]:
        count = len(parts)
        bound = found.bound.numpy()
        gaps = [g.numpy().reshape(len(bound), -1) for g in found.gaps]
        widest = np.stack([g.max(axis=1) for g in gaps], axis=1)
        lost = sum(g.sum(axis=1) for g in gaps)
        margins = self._look(found.point.numpy()[:count])
        choices, multipliers = (
            [t.numpy().astype(np.float32) for t in tensors]
            for tensors in (found.pieces.choices, found.pieces.multipliers)
        )
        ends = [end.numpy() for pair in found.pieces.bounds for end in pair]
        weights = found.pieces.weights.numpy()
        pieces = []
        for i, part in enumerate(parts):
            node = int(widest[i].argmax())
            worst = (node, int(gaps[node][i].argmax())) if widest[i, node] > 0 else self._tallest(ends, i)
            split = None if worst is None else (*worst, self._value(ends, i, *worst))
            short = not bound[i] > 0 and (split is None or lost[i] <= _SMALL * (margins[i].max() - bound[i]))
            pieces.append(
                replace(
                    part,
                    choices=[c[i] for c in choices],
                    multipliers=[m[i] for m in multipliers],
                    bounds=[end[i] for end in ends] if self._refresh else None,
                    weights=weights[i],
                    bound=max(float(bound[i]), part.bound),
                    split=split,
                    layers=self._layers(ends, i) if short else None,
                )
            )
        return pieces

    def _look(self, points: np.ndarray) -> np.ndarray:
        """The rows' margins at points ``[points, rows]``, by the float64 network; the worst may be a witness."""
        inside = points.reshape(-1, *self._region.center.shape[1:])
        outputs = self._network(tf.constant(inside)).numpy()
        margins = self._asked.values(outputs)
        best = self._query.best(self._clause, margins)
        worst = int(best.argmin())
        self.seen = min(self.seen, float(best[worst]))
        if self.witness is None and best[worst] <= 0:
            self.witness = self._query.confirmed(inside[worst])
        return margins

    def _layers(self, ends: Sequence[np.ndarray], piece: int) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        """Bounds of what enters the layers on a piece of a batch, flattened."""
        pairs = [(low[piece], high[piece]) for low, high in zip(ends[::2], ends[1::2], strict=True)]
        return self._query.net.entering(dict(zip(self._network.bounded(), pairs, strict=True)))

    def _tallest(self, ends: Sequence[np.ndarray], piece: int) -> tuple[int, int] | None:
        """The neuron of a piece with the tallest triangle, where climbing did not see that any costs something; None
        where every neuron is straight."""
        best, height = None, 0.0
        for number, place in enumerate(self._open):
            lower, upper = (end[piece].ravel() for end in ends[2 * place : 2 * place + 2])
            heights = np.where((lower < 0) & (upper > 0), -lower * upper / np.maximum(upper - lower, 1e-300), 0.0)
            if self._curved[number] is not None:
                heights = np.where(wide_enough(lower, upper), upper - lower, 0.0)
            if heights.max(initial=0.0) > height:
                best, height = (number, int(heights.argmax())), float(heights.max())
        return best

    def _value(self, ends: Sequence[np.ndarray], piece: int, node: int, neuron: int) -> float:
        """The value at which a neuron is cut: the kink that is nearest to its middle, or that, where it has none."""
        place = self._open[node]
        low, high = (float(end[piece].ravel()[neuron]) for end in ends[2 * place : 2 * place + 2])
        middle = 0.5 * low + 0.5 * high
        kinks = [kink for act in self._readers[node] for kink in act.kinks or () if low < kink < high]
        return min(kinks, key=lambda kink: abs(kink - middle), default=middle)


def _stuck(query: Query, clause: int, bound: float) -> Because:
    """The reason why a piece without a neuron to split stays open."""
    if abs(bound) <= max(CLOSE * query.scale, query.taken(clause)):
        return within_rounding(query, [clause])
    return Reason.NOTHING_TO_SPLIT.because(said="a piece is open that has no neuron left to split")


def _numbers(tensors: Sequence[tf.Tensor]) -> list[np.ndarray]:
    return [t.numpy()[0].astype(np.float32) for t in tensors]


class _Climber:
    """Climbs on batches of pieces by one traced function for a network and kind of region.

    It keeps what a step takes in seconds, by the number of pieces, so that a pass fits into the time that is left.
    """

    def __init__(self, network: Network, region: Region, refresh: bool):
        norm, clipped, _ = region.kind
        owner = weakref.ref(network)

        def run(center, lower, upper, eps, row, pieces, steps):  # type: ignore[no-untyped-def]
            net = owner()
            assert net is not None
            sets = Region(norm, clipped, center, lower, upper, eps)
            return climb(net, sets, row, pieces, Climb(steps, _RATE, refresh))

        self._function = run
        self._run: Callable[..., Climbed] | None = None
        self._pace: dict[int, float] = {}

    def __call__(self, sets: Sequence[tf.Tensor], row: AskedRows, pieces: Pieces, steps: int) -> Climbed:
        """Climbs for at most so many steps; the arguments as :func:`climb` takes them, one set and row for each."""
        arguments = [*sets, row, pieces, tf.constant(steps)]
        fresh = self._run is None
        if self._run is None:
            signature = tf.nest.map_structure(lambda t: tf.TensorSpec([None, *t.shape[1:]], t.dtype), arguments[:-1])
            signature.append(tf.TensorSpec([], tf.int32))
            self._run = traced(self._function, input_signature=signature, jit_compile=use_jit(BoundOptions()))
        began = time.monotonic()
        with full_precision():
            climbed = self._run(*arguments)
        taken, size = int(climbed.steps), int(sets[0].shape[0])
        if not fresh and (taken >= _TELLING or size not in self._pace):  # what is fresh was traced in that time
            self._pace[size] = (time.monotonic() - began) / max(1, taken)
        return climbed

    def pace(self, size: int) -> float:
        """About how many seconds a step with so many pieces takes; 0 where nothing is known.

        A number of pieces that was never tried is taken to cost twice as much as the next smaller one: too little, so
        that it is tried.
        """
        smaller = [s for s in self._pace if s <= size]
        if not smaller:
            return min(self._pace.values(), default=0.0)
        return self._pace[max(smaller)] * (1.0 if size in self._pace else 2.0)

    def size(self, most: int, left: float) -> int:
        """Into a batch of how many pieces a share of the time that is left goes, at most ``most``."""
        fits = (s for s in _SIZES if s <= most and self.pace(s) * _STEPS <= _PASS * left)
        return max(fits, default=_SIZES[0])

    def steps(self, size: int, wanted: int, left: float) -> int:
        """The number of the ``wanted`` steps that go into half of the time that is left, one at least."""
        pace, most = self.pace(size), 0.5 * max(0.0, left)
        return wanted if wanted * pace <= most else max(1, int(most / pace))


_CLIMBERS: weakref.WeakKeyDictionary[Network, dict[Any, _Climber]] = weakref.WeakKeyDictionary()


def _climber(network: Network, region: Region, what: tuple[bool, int]) -> _Climber:
    """The climber of a network, a kind of region, whether bounds are computed anew, and a number of rows."""
    known, key = _CLIMBERS.setdefault(network, {}), (*what, *region.kind)
    if key not in known:
        known[key] = _Climber(network, region, what[0])
    return known[key]
