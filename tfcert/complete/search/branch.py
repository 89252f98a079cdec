"""Branch and bound with proofs of our own: a set is cut at values of neurons until every piece of it is bounded.

Bounds of the pieces are beta-CROWN's (Wang et al. 2021; ``propagation.splitting``), a batch of pieces at a time. The
neuron whose relaxation costs most where the bound is attained is split next. Where splitting cannot help any more, a
piece's linear relaxation is solved and bounded by its dual prices, which rests on no solver's word. Of a rounded
network every bound, that of prices too, is charged for rounding, and the signs of neurons are those of values as
computed, so that what is proven has that network's guarantee; of others it is ``numeric``.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import tensorflow as tf

from tfcert.complete.search.climber import SIZES, STEPS, TELLING, climber
from tfcert.complete.search.query import CLOSE, Query, Solvers, margin_program, within_rounding
from tfcert.complete.search.results import POSITIVE, Branched, ProvenPiece, Split
from tfcert.complete.solver.process import SolverError
from tfcert.propagation.chosen import named_choices
from tfcert.propagation.preactivation import nonlinear
from tfcert.propagation.splitting import (
    AskedRows,
    Climbed,
    Pieces,
    activation_of,
    curved_nodes,
    first_pieces,
    hinges,
    split_nodes,
    splittable,
    wide_enough,
)
from tfcert.sets.region import region_of
from tfcert.verdict import NO_REASON, Because, Reason

_NUMBERS = 1 << 22
"""Neurons of all pieces of a batch at most: some thirty tensors of that size are in use."""
_FIRST = 200
"""Steps on the whole set; the pieces go on from what is found there."""
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
_PARTS = 1 << 27
"""Numbers that the pieces that are proven may hold together, to be kept."""


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
        path: of the cuts that made it.
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
    path: tuple[Split, ...] = ()

    def halves(self) -> list[_Piece]:
        """The two pieces on either side of where its worst neuron has some value: zero where it enters hinges alone."""
        assert self.split is not None
        node, neuron, value = self.split
        found = []
        for sign in (1, -1):
            place = self.curved[node]
            path = (*self.path, Split(node, neuron, 0.0 if place is None else value, sign > 0))
            half = replace(self, signs=_with(self.signs, node, neuron, sign), split=None, priced=False, path=path)
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
        tree.close([p for p in bounded if p.bound > enough])
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
    return replace(ended(proven, NO_REASON), parts=tuple(tree.done))


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
        done: the pieces that are proven, as far as they are kept: all or none.
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
        self._most = max((s for s in SIZES if s * sum(sizes) <= _NUMBERS), default=SIZES[0])
        self._climber = climber(self._network, self._region, (self._refresh, len(self._asked.offsets)))
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
        self.done: list[ProvenPiece] = []
        self._kept = _PARTS // max(1, sum(sizes))
        known = query.net.by_node(query.bounds.layers)
        self._bounds = {i: (tf.constant(low), tf.constant(high)) for i, (low, high) in known.items()}

    def size(self) -> int:
        """The number of pieces that the next pass may be for."""
        return self._climber.size(self._most, self._solvers.left())

    def late(self) -> bool:
        """Tells whether no step ends in time any more."""
        left = self._solvers.left()
        return left <= 0 or self._climber.pace(SIZES[0]) > left

    def measure(self) -> None:
        """Takes a few steps on the smallest batch, with a row that none of them proves."""
        asked = self._rows(SIZES[0])
        row = asked._replace(offsets=asked.offsets - _UNPROVEN * self._query.scale)
        for steps in (1, TELLING):
            self._climber(self._sets(SIZES[0]), row, self._batch([self.whole()] * SIZES[0]), steps)

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
        size = next(s for s in SIZES if s >= len(parts))
        fill = [*parts, *[parts[-1]] * (size - len(parts))]
        steps = self._climber.steps(size, _FIRST if first else STEPS, self._solvers.left())
        climbed = self._climber(self._sets(size), self._rows(size), self._batch(fill), steps)
        self.passes += 1
        return self._read(parts, climbed)

    def close(self, pieces: Sequence[_Piece]) -> None:
        """Keeps what pieces are proven by."""
        self._kept -= len(pieces)
        if self._kept < 0:
            self.done = []
            return
        for piece in pieces:
            last = {(cut.node, cut.neuron): number for number, cut in enumerate(piece.path)}
            forces = [
                float(piece.multipliers[cut.node].flat[cut.neuron]) if last[cut.node, cut.neuron] == number else 0.0
                for number, cut in enumerate(piece.path)
            ]
            slopes = {node: np.rint(255 * piece.choices[k][0]).astype(np.uint8) for node, k in self._lower.items()}
            weights = piece.weights * self._scale if len(piece.weights) > 1 else None
            self.done.append(ProvenPiece(piece.path, slopes, np.array(forces), weights))

    @functools.cached_property
    def _lower(self) -> dict[int, int]:
        """For each split node that enters a hinge, the place of its lower slopes among the choices."""
        found, count = dict[int, int](), 0
        for index in nonlinear(self._network):
            choices = len(named_choices(self._network, index, None, self._bounds))
            if index in hinges(self._network):
                source = self._network.nodes[index].inputs[0]
                ends = activation_of(self._network, index).slope_ranges(*self._bounds[source])
                if ends[0] is not None:
                    found.setdefault(split_nodes(self._network).index(source), count)
            count += choices
        return found

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
