"""Checking a certificate: the question it states, the choices it makes, and the bounds that follow from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .bounds import Bounds, Cut, margin_of_softmax, ranks_first
from .errors import ProofError
from .files import arrays_of, parsed_json
from .graph import Graph, Nonlinear
from .region import Inputs, read_inputs
from .rounding import LARGEST, LEAST, growth, weighed
from .rows import Choice

FORMAT, VERSION = "tfcert certificate", 1
LEVEL = "float32-any-order"
"""What an accepted certificate promises of a model of float32 or float64: see ``docs/guarantees.md``."""
_ARRAYS = ("region", "rows", "slopes", "tree", "multipliers", "weights")
_HEAD = ("format", "version", "model", "claim", "region", "bounds")
_WORK = 1e15
"""Products that a check may take, at most."""
_ROWS, _NODES, _DEPTH, _WAYS, _NUMBERS = 1 << 16, 1 << 20, 200, 1 << 25, 1 << 26


@dataclass(frozen=True)
class Claim:
    """A certificate as it was read: that every clause holds of every input of a set.

    Attributes:
        head: its JSON head.
        clauses: by clause the numbers of its rows, one of which has to be positive.
        rows: C ``[rows, outputs]``, offsets: d ``[rows]``: the rows are ``C y + d`` over the outputs y.
        arrays: all arrays, by name.
    """

    head: Mapping[str, Any]
    clauses: tuple[np.ndarray, ...]
    rows: np.ndarray
    offsets: np.ndarray
    arrays: Mapping[str, np.ndarray]

    @property
    def digest(self) -> str:
        return str(self.head["model"]["digest"])

    def about(self, clause: int) -> Claim:
        """The claim that one of the clauses holds."""
        some = self.clauses[clause]
        return replace(self, clauses=(np.arange(len(some)),), rows=self.rows[some], offsets=self.offsets[some])


@dataclass(frozen=True)
class Checked:
    """What came of a check.

    Attributes:
        proven: whether the claim holds, at the level ``float32-any-order``.
        margin: the least bound of a clause, less what a softmax may take; positive where it is proven.
        said: the question in words.
    """

    proven: bool
    margin: float
    said: str


def read_claim(path: Path) -> Claim:
    """A certificate's question and choices.

    Raises:
        ProofError: it is no certificate of this version, or states no question.
    """
    arrays = arrays_of(path)
    head = arrays.pop("head", np.zeros(0))
    if head.dtype != np.uint8 or head.ndim != 1:
        raise ProofError("it has no head: it is no certificate")
    return claim_of(parsed_json(head.tobytes(), "its head"), arrays)


def claim_of(head: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Claim:
    """What a head and arrays claim; raises as :func:`read_claim` does."""
    if head.get("format") != FORMAT or head.get("version") != VERSION:
        raise ProofError(f"it is of another format or version than {FORMAT!r}, {VERSION}")
    if set(head) != set(_HEAD) or not all(isinstance(head[key], dict) for key in _HEAD[2:]):
        raise ProofError(f"its head says {sorted(head)}, not {sorted(_HEAD)}")
    if not isinstance(head["model"].get("digest"), str):
        raise ProofError("it does not say which model it is about")
    unknown = [name for name in arrays if name.split("/")[0] not in _ARRAYS]
    missing = [name for name in ("rows/C", "rows/d", "rows/clause") if name not in arrays]
    if unknown or missing:
        raise ProofError(f"it holds {sorted(unknown)[:5]}, of which nothing is known, and lacks {missing}")
    rows, offsets, numbers = (arrays[name] for name in ("rows/C", "rows/d", "rows/clause"))
    if rows.ndim != 2 or not 0 < len(rows) <= _ROWS or {rows.dtype, offsets.dtype} != {np.dtype(np.float64)}:
        raise ProofError(f"rows of type {rows.dtype} and shape {rows.shape} are no rows")
    if not offsets.shape == numbers.shape == rows.shape[:1] or numbers.dtype != np.int64:
        raise ProofError("offsets and clauses do not fit the rows")
    if not ((np.abs(rows) <= LARGEST).all() and (np.abs(offsets) <= LARGEST).all()):
        raise ProofError("a row holds a NaN, or a number larger than 2**100")
    if not np.array_equal(np.unique(numbers), np.arange(len(np.unique(numbers)))):
        raise ProofError("clauses are not numbered from 0 on")
    clauses = tuple(np.flatnonzero(numbers == number) for number in range(int(numbers.max()) + 1))
    return Claim(head, clauses, rows, offsets, arrays)


def check(claim: Claim, graph: Graph) -> Checked:
    """Recomputes the bounds that a claim rests on.

    Raises:
        ProofError: it is about another model, its region is empty, or it asks for what is not checked.
    """
    if claim.digest != graph.digest:
        raise ProofError(f"it is about another model, {claim.digest[:12]}..., not {graph.digest[:12]}...")
    inputs = read_inputs(claim.head["region"], claim.arrays, graph.places[0].shape)
    if claim.rows.shape[1:] != graph.places[-1].shape:
        raise ProofError(f"rows over {claim.rows.shape[1]} outputs, and the model has {graph.places[-1].shape}")
    if graph.softmax and (claim.offsets.any() or not ranks_first([claim.rows[some] for some in claim.clauses])):
        raise ProofError("of a softmax, only which output is the largest follows from what enters it")
    margin = float(least_of_clauses(claim, graph, inputs).min())
    return Checked(0.0 < margin < np.inf, margin, _words(claim, inputs))


def least_of_clauses(claim: Claim, graph: Graph, inputs: Inputs) -> np.ndarray:
    """A lower bound of each clause's best row over the set, less what a softmax may take: ``[clauses]``."""
    neurons, rows = (claim.head["bounds"].get(key) for key in ("neurons", "rows"))
    if neurons not in ("lines", "intervals", "leaves") or rows not in ("lines", "intervals"):
        raise ProofError(f"bounds of neurons by {neurons!r}, and of rows by {rows!r}, are not known")
    trees = trees_of(claim, graph)
    parts = [claim] if len(trees) == 1 else [claim.about(number) for number in range(len(trees))]
    every = [(first, cuts) for first, tree in enumerate(trees) for cuts in tree]
    _require_affordable(graph, max(len(part.rows) for part in parts), str(neurons), [cuts for _, cuts in every])
    choices = _Choices(claim, graph, len(every), parts)
    whole: dict[tuple[Cut, ...], Bounds] = {}
    found = np.full(len(claim.clauses), np.inf)
    for number, (first, cuts) in enumerate(every):
        outer = _bounded_on(cuts, str(neurons))
        if outer not in whole:
            whole.clear()  # leaves of one part of the inputs stand side by side
            whole[outer] = Bounds(graph, inputs, neurons != "intervals", outer)
        inner, part = [cut for cut in cuts if cut.place != 0], parts[first]
        here = whole[outer].within(inner)
        if not here.empty:  # else no input is left
            least = _of_leaf(part, here, *choices.of(number, part, inner), rows == "lines")
            some = slice(first, first + len(part.clauses))
            found[some] = np.minimum(found[some], least)
    return found


def _bounded_on(cuts: tuple[Cut, ...], neurons: str) -> tuple[Cut, ...]:
    """The cuts of a leaf on whose inputs neurons are bounded: those of inputs, or all."""
    return cuts if neurons == "leaves" else tuple(cut for cut in cuts if cut.place == 0)


def _of_leaf(claim: Claim, bounds: Bounds, chosen: Choice, weights: np.ndarray | None, lines: bool) -> np.ndarray:
    """Of each clause the largest lower bound of a row, or of the combination of its rows that is chosen."""
    last, rows, offsets = len(bounds.graph.places) - 1, claim.rows, claim.offsets
    if weights is not None:  # and of each clause a combination, less what rounding changes in it
        share = np.zeros((len(claim.clauses), len(rows)))
        for clause, some in enumerate(claim.clauses):
            share[clause, some] = weights[some]
        gone = weighed(share @ np.abs(rows), bounds.sizes[last]) + share @ np.abs(offsets)
        gone = 4.0 * growth(len(rows) + 4) * gone + LEAST
        rows, offsets = np.concatenate([rows, share @ rows]), np.concatenate([offsets, share @ offsets - gone])
    least = bounds.least(last, rows, offsets, stops=bounds.bends)
    for stops in ([], *bounds.pools) if lines else ():
        least = np.maximum(least, bounds.least(last, rows, offsets, chosen, stops))
    least = least - margin_of_softmax(bounds.graph)
    best = np.array([least[some].max() for some in claim.clauses])
    return best if weights is None else np.maximum(best, least[len(claim.rows) :])


def trees_of(claim: Claim, graph: Graph) -> list[list[tuple[Cut, ...]]]:
    """The cuts on the way to each leaf of a certificate's trees, from left to right; one leaf without a tree.

    There is one tree, each of whose leaves proves every clause, or one for each clause, one after the other. Trees
    stand in preorder. A node cuts a number of a place: to its left all inputs at which that is at most
    ``at``, to its right all at which it is at least ``at``; every number that a program computes is one or the other,
    so that the leaves of any tree cover the set. (NaN does not occur: all numbers are at most 2**100.)
    """
    names = ("tree/place", "tree/number", "tree/at")
    given = [claim.arrays[name] for name in names if name in claim.arrays]
    if not given:
        return [[()]]
    if len(given) < 3 or not 0 < len(given[0]) <= _NODES or len({a.shape for a in given}) > 1 or given[0].ndim != 1:
        raise ProofError(f"a tree has {', '.join(names)}, of one length and at most {_NODES}")
    places, numbers, ats = given
    if [a.dtype for a in given] != [np.int64, np.int64, np.float64] or not (np.abs(ats) <= LARGEST).all():
        raise ProofError("a tree's places and numbers are whole numbers, and it cuts at numbers")
    trees: list[list[tuple[Cut, ...]]] = []
    waiting: list[tuple[Cut, ...]] = []
    deepest = min(_DEPTH, _WAYS // len(places))  # all ways together are kept
    for place, number, at in zip(places.tolist(), numbers.tolist(), ats.tolist(), strict=True):
        if not waiting:
            trees.append([])
            waiting.append(())
        cuts = waiting.pop()
        if place == -1:
            trees[-1].append(cuts)
            continue
        if not 0 <= place < len(graph.places) or not 0 <= number < graph.places[place].count or len(cuts) >= deepest:
            raise ProofError(f"a tree cuts number {number} of place {place}, which is none, or is too deep")
        waiting += [(*cuts, Cut(place, number, at, above)) for above in (True, False)]
    if waiting:
        raise ProofError("a tree ends before its last leaf")
    if len(trees) not in (1, len(claim.clauses)):
        raise ProofError(f"there are {len(trees)} trees for {len(claim.clauses)} clauses")
    return trees


class _Choices:
    """What a certificate chooses for each leaf; what is left out is by the rule."""

    def __init__(self, claim: Claim, graph: Graph, leaves: int, parts: Sequence[Claim]):
        arrays, count = claim.arrays, max(len(part.rows) for part in parts)
        self._weights = arrays.get("weights")
        rows = count + (0 if self._weights is None else len(parts[0].clauses))
        if self._weights is not None:
            _require(self._weights, "weights", np.float64, [(count,), (leaves, count)])
            self._weights = np.broadcast_to(self._weights, (leaves, count))
        self._multipliers = arrays.get("multipliers")
        if self._multipliers is not None:
            depth = self._multipliers.shape[-1] if self._multipliers.ndim == 3 else -1
            _require(self._multipliers, "multipliers", np.float64, [(leaves, rows, depth)])
        self._slopes = {}
        for name, array in arrays.items():
            if name.startswith("slopes/"):
                number = name.removeprefix("slopes/")
                index = int(number) if number.isascii() and number.isdigit() and len(number) < 8 else len(graph.places)
                place = graph.places[index] if index < len(graph.places) else None
                shape = place.shape if isinstance(place, Nonlinear) else (-1,)
                _require(array, name, np.uint8, [shape, (rows, *shape), (leaves, rows, *shape)])
                self._slopes[index] = np.broadcast_to(array, (leaves, rows, *shape))

    def of(self, leaf: int, part: Claim, cuts: Sequence[Cut]) -> tuple[Choice, np.ndarray | None]:
        """What is chosen for the rows of what a leaf proves, and weights of these."""
        forces, weights = self._multipliers, self._weights
        count = len(part.rows) + (0 if weights is None else len(part.clauses))
        if forces is not None and forces.shape[2] < len(cuts):
            raise ProofError(f"there are {forces.shape[2]} multipliers for {len(cuts)} cuts")
        forces = None if forces is None else forces[leaf, :count, : len(cuts)]
        slopes = {index: array[leaf, :count] / 255.0 for index, array in self._slopes.items()}
        return Choice(slopes, cuts, forces), None if weights is None else weights[leaf, : len(part.rows)]


def _require(array: np.ndarray, name: str, dtype: Any, shapes: list[tuple[int, ...]]) -> None:
    """Requires numbers of a type, in one of some shapes, neither negative nor larger than 2**100."""
    if array.dtype != dtype or array.shape not in shapes:
        raise ProofError(f"{name!r} of type {array.dtype} and shape {array.shape} fits no place or tree")
    if not ((array >= 0) & (array <= LARGEST)).all():
        raise ProofError(f"{name!r} holds a negative number, a NaN, or one larger than 2**100")


def _require_affordable(graph: Graph, rows: int, neurons: str, leaves: list[tuple[Cut, ...]]) -> None:
    each = sum(place.count * getattr(getattr(place, "map", None), "terms", 16) for place in graph.places)
    bounded = sum(place.count for place in graph.places) if neurons != "intervals" else 0
    parts = len({_bounded_on(cuts, neurons) for cuts in leaves})
    passes = 2 * (parts * bounded + rows * len(leaves))
    if rows * max(place.count for place in graph.places) > _NUMBERS:
        raise ProofError(f"{rows} rows over this model would take too much memory")
    if each * passes > _WORK:
        raise ProofError(f"a check would take some {each * passes:.0e} products, more than {_WORK:.0e}")


def _words(claim: Claim, inputs: Inputs) -> str:
    said = claim.head["claim"]
    name, sample = (printable(said.get(key, ""))[:80] for key in ("property", "sample"))
    rows = f"{len(claim.clauses)} clauses of {len(claim.rows)} rows"
    if not claim.offsets.any() and ranks_first([claim.rows[some] for some in claim.clauses]):
        rows = f"output {int(claim.rows[0].argmax())} is above {len(claim.clauses)} others"
    return f"{name or 'a claim'}{f', sample {sample}' if sample else ''}: {rows} over {inputs.said}"


def printable(said: object) -> str:
    """A text from a file as it may be shown: without what would move the cursor or begin a line."""
    return "".join(c for c in str(said) if c.isprintable())
