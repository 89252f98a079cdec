"""Trees for certificates: branch and bound over neurons and inputs, by the checker's own bounds.

Bunel et al. 2020, "Branch and bound for piecewise linear neural network verification". Each clause has a tree of its
own. Where the set has few numbers, inputs are cut in the middle; else neurons at their kinks, the one first whose line
lies farthest from its function, times its coefficient in the row that is least. A search may begin with a tree that is
known: its leaves, with their choices, are its first pieces, and only those that prove nothing are cut further.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from tfcert.certification.slopes import Chosen, chosen_slopes
from tfcert.proof.bounds import Bounds
from tfcert.proof.graph import Bent, Graph, Nonlinear
from tfcert.proof.region import Inputs
from tfcert.proof.rows import Cut

FEW = 8
"""Inputs up to which they are cut rather than neurons."""
_ANEW = 128
"""Bounds of neurons are computed anew in each leaf where at most so many are not in the first layer."""
_STEPS_OF_INPUTS, _STEPS = 10, 20
_NUMBERS = 1 << 28
"""Bytes that the slopes of a certificate's leaves may take."""


@dataclass(frozen=True)
class Limits:
    """How far trees are looked for: cuts and seconds, of all clauses together."""

    nodes: int
    seconds: float


@dataclass(frozen=True)
class AskedClause:
    """A clause: rows ``[rows, outputs]`` and offsets, one of which is to exceed a number."""

    rows: np.ndarray
    offsets: np.ndarray
    wanted: float = 0.0

    def with_weights(self, weights: np.ndarray | None) -> AskedClause:
        """The same with a combination of its rows as one more of them."""
        if weights is None:
            return self
        rows = np.concatenate([self.rows, [weights @ self.rows]])
        return AskedClause(rows, np.append(self.offsets, weights @ self.offsets), self.wanted)


@dataclass(frozen=True, eq=False)
class Leaf:
    """A leaf's choices, for a clause's rows and their combination; None where no input is left, or none are known."""

    chosen: Chosen | None = None
    weights: np.ndarray | None = None


@dataclass
class Tree:
    """A proof of one clause by cases, in preorder, as certificates hold it."""

    places: list[int] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    ats: list[float] = field(default_factory=list)
    leaves: list[Leaf] = field(default_factory=list)

    def add(self, place: int, number: int, at: float) -> None:
        """A node that cuts."""
        self.places.append(place)
        self.numbers.append(number)
        self.ats.append(at)

    def close(self, leaf: Leaf) -> None:
        """A leaf."""
        self.add(-1, 0, 0.0)
        self.leaves.append(leaf)

    def nodes(self) -> Iterator[tuple[int, int, float, Leaf]]:
        """The nodes in preorder; a leaf's place is -1."""
        leaves = iter(self.leaves)
        for place, number, at in zip(self.places, self.numbers, self.ats, strict=True):
            yield place, number, at, next(leaves) if place == -1 else Leaf()


def anew(graph: Graph) -> bool:
    """Tells whether bounds of neurons are to be computed anew in each leaf of a tree over them."""
    entering = sorted({i for place in graph.places if isinstance(place, Nonlinear) for i in place.inputs})
    return 0 < sum(graph.places[i].count for i in entering[1:]) <= _ANEW


class TreeSearch:
    """Looks for trees of the clauses of one claim.

    Args:
        inputs: the set.
        limits: of all trees together.
    """

    def __init__(self, graph: Graph, inputs: Inputs, limits: Limits):
        self._graph, self._inputs = graph, inputs
        self._left, self._end = limits.nodes, time.monotonic() + limits.seconds
        self._by_inputs = int((inputs.low < inputs.high).sum()) <= FEW
        self._anew = anew(graph)
        self._known: dict[tuple[Cut, ...], Bounds] = {}

    def tree(self, asked: AskedClause, start: Tree | None = None, weights: np.ndarray | None = None) -> Tree | None:
        """A tree whose leaves prove a clause; None where none is found.

        Args:
            start: where the search begins.
            weights: of a combination of the clause's rows, where it begins with nothing.
        """
        tree, old = Tree(), iter(()) if start is None else start.nodes()
        waiting: list[tuple[tuple[Cut, ...], Leaf | None]] = [((), None if start is not None else Leaf(None, weights))]
        while waiting:
            cuts, first = waiting.pop()
            if first is None:
                place, number, at, first = next(old)
                if place >= 0:
                    tree.add(place, number, at)
                    waiting += _halves(cuts, (place, number, at), None)
                    continue
            if self._left < 0 or time.monotonic() > self._end:
                return None
            bounds, asks = self._bounds(cuts), asked.with_weights(first.weights)
            if bounds.empty:
                tree.close(Leaf())
                continue
            leaf = replace(first, chosen=self._chosen(bounds, asks, cuts, first.chosen))
            assert leaf.chosen is not None
            if (leaf.chosen.least > asked.wanted).any():
                tree.close(leaf)
                continue
            cut = self._next(bounds, leaf.chosen)
            if cut is None:
                return None
            self._left -= 1
            tree.add(*cut)
            waiting += _halves(cuts, cut, leaf)
        return tree

    def _bounds(self, cuts: tuple[Cut, ...]) -> Bounds:
        outer = cuts if self._anew else tuple(cut for cut in cuts if cut.place == 0)
        if outer not in self._known:
            self._known = {key: known for key, known in self._known.items() if not key}  # the whole set's are kept
            self._known[outer] = Bounds(self._graph, self._inputs, True, outer)
        return self._known[outer].within([cut for cut in cuts if cut.place != 0])

    def _chosen(self, bounds: Bounds, asked: AskedClause, cuts: Sequence[Cut], first: Chosen | None) -> Chosen:
        inner = [cut for cut in cuts if cut.place != 0]
        steps = _STEPS_OF_INPUTS if self._by_inputs else _STEPS
        return chosen_slopes(bounds, (asked.rows, asked.offsets, asked.wanted), inner, steps, first)

    def _next(self, bounds: Bounds, chosen: Chosen) -> tuple[int, int, float] | None:
        """The cut that is made next, for the row that is nearest to being proven."""
        row = int(np.argmax(chosen.least))
        return _input_of(bounds.inputs, chosen, row) if self._by_inputs else _neuron_of(bounds, chosen, row)


def _halves(
    cuts: tuple[Cut, ...], cut: tuple[int, int, float], leaf: Leaf | None
) -> list[tuple[tuple[Cut, ...], Leaf | None]]:
    return [((*cuts, Cut(*cut, above)), leaf) for above in (True, False)]


def _input_of(part: Inputs, chosen: Chosen, row: int) -> tuple[int, int, float] | None:
    """The input to be cut: the one whose width matters most to a row."""
    width = part.high - part.low
    score = np.abs(chosen.coefficients[0][row]) * width + 1e-3 * width
    number = int(np.argmax(score))
    at = float(0.5 * part.low.flat[number] + 0.5 * part.high.flat[number])
    return (0, number, at) if part.low.flat[number] < at < part.high.flat[number] else None


def _neuron_of(bounds: Bounds, chosen: Chosen, row: int) -> tuple[int, int, float] | None:
    """The neuron to be cut: at its kink, or of a curve in the middle."""
    best, found = 0.0, None
    for index, place in enumerate(bounds.graph.places):
        if not isinstance(place, Bent):
            continue
        source = place.inputs[0]
        low, high = bounds.intervals[source]
        coefficient = chosen.coefficients[index][row]
        for at in place.function.kinks if place.function.parts else (0.5 * low + 0.5 * high,):
            with np.errstate(divide="ignore", invalid="ignore"):
                gap = np.where((low < at) & (at < high), (high - at) * (at - low) / (high - low), 0.0)
            score = gap * (np.abs(np.minimum(coefficient, 0.0)) + 0.3 * np.maximum(coefficient, 0.0) + 1e-9)
            number = int(np.argmax(score))
            if score.flat[number] > best:
                best = float(score.flat[number])
                found = source, number, float(np.broadcast_to(at, low.shape).flat[number])
    return found


def arrays_of_trees(trees: Sequence[Tree], clauses: Sequence[np.ndarray]) -> dict[str, np.ndarray] | None:
    """The arrays of a certificate with a tree for each clause; where none cuts anything, of slopes a row alone. None
    where they would be too large.

    Args:
        clauses: the numbers of each clause's rows.
    """
    leaves = [leaf for tree in trees for leaf in tree.leaves]
    shapes = next(
        ({i: a.shape[1:] for i, a in leaf.chosen.slopes.items()} for leaf in leaves if leaf.chosen is not None), {}
    )
    if len(leaves) == len(trees) and all(leaf.chosen is not None and leaf.weights is None for leaf in leaves):
        found = {f"slopes/{i}": np.zeros((sum(map(len, clauses)), *s), np.uint8) for i, s in shapes.items()}
        for leaf, some in zip(leaves, clauses, strict=True):
            assert leaf.chosen is not None
            for index, slopes in leaf.chosen.slopes.items():
                found[f"slopes/{index}"][some] = slopes
        return found
    weighs, most = any(leaf.weights is not None for leaf in leaves), max(map(len, clauses))
    deepest = max((leaf.chosen.multipliers.shape[1] for leaf in leaves if leaf.chosen is not None), default=0)
    rows = most + weighs
    if len(leaves) * rows * (8 * deepest + sum(map(math.prod, shapes.values()))) > _NUMBERS:
        return None
    found = {
        "tree/place": np.array([n for tree in trees for n in tree.places], np.int64),
        "tree/number": np.array([n for tree in trees for n in tree.numbers], np.int64),
        "tree/at": np.array([n for tree in trees for n in tree.ats], np.float64),
    }
    if deepest:
        found["multipliers"] = np.zeros((len(leaves), rows, deepest))
    if weighs:
        found["weights"] = np.zeros((len(leaves), most))
    found |= {f"slopes/{i}": np.zeros((len(leaves), rows, *s), np.uint8) for i, s in shapes.items()}
    for number, leaf in enumerate(leaves):
        if leaf.weights is not None:
            found["weights"][number, : len(leaf.weights)] = leaf.weights
        if leaf.chosen is not None:
            for index, slopes in leaf.chosen.slopes.items():
                found[f"slopes/{index}"][number, : len(slopes)] = slopes
            if deepest:
                forces = leaf.chosen.multipliers
                found["multipliers"][number, : len(forces), : forces.shape[1]] = forces
    return found


def trees_from(arrays: dict[str, np.ndarray], clauses: Sequence[np.ndarray]) -> list[Tree]:
    """The trees that a certificate holds, where each clause has one; else none."""
    names = ("tree/place", "tree/number", "tree/at")
    if not all(name in arrays for name in names):
        return []
    trees, open_, number = list[Tree](), 0, 0
    for place, count, at in zip(*(arrays[name].tolist() for name in names), strict=True):
        if not open_:
            trees.append(Tree())
            open_ = 1
        if place >= 0:
            trees[-1].add(place, count, at)
            open_ += 1
            continue
        open_ -= 1
        trees[-1].close(_leaf_of(arrays, number, len(clauses[len(trees) - 1]) if len(trees) <= len(clauses) else 0))
        number += 1
    return trees if len(trees) == len(clauses) and not open_ else []


def _leaf_of(arrays: dict[str, np.ndarray], number: int, rows: int) -> Leaf:
    """The choices of a leaf of trees of which there is one a clause."""
    weights = arrays.get("weights")
    weights = None if weights is None or weights.ndim < 2 else weights[number, :rows]
    count = rows + (weights is not None)
    named = {int(name.removeprefix("slopes/")): a for name, a in arrays.items() if name.startswith("slopes/")}
    slopes = {index: a[number, :count] for index, a in named.items()}
    forces = arrays.get("multipliers", np.zeros((number + 1, count, 0)))[number, :count]
    return Leaf(Chosen(slopes, forces, np.full(count, -np.inf), {}), weights)
