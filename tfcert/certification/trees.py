"""Trees for certificates: branch and bound over neurons and inputs, by the checker's own bounds.

Bunel et al. 2020, "Branch and bound for piecewise linear neural network verification". Where the set has few numbers,
inputs are cut in the middle; else neurons at their kinks, the one first whose line lies farthest from its function,
times its coefficient in the row that is least.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from tfcert.certification.slopes import Chosen, chosen_slopes
from tfcert.proof.bounds import Bounds
from tfcert.proof.graph import Bent, Graph
from tfcert.proof.region import Inputs
from tfcert.proof.rows import Cut

FEW = 8
"""Inputs up to which they are cut rather than neurons."""


@dataclass(frozen=True)
class Limits:
    """How far a tree is looked for: nodes and seconds, at most."""

    nodes: int
    seconds: float


@dataclass
class Tree:
    """A proof by cases, in preorder, as certificates hold it; and the choices of each leaf, with its number of cuts."""

    places: list[int] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    ats: list[float] = field(default_factory=list)
    leaves: list[tuple[Chosen | None, int]] = field(default_factory=list)

    def add(self, place: int, number: int, at: float) -> None:
        """A node: a cut, or a leaf, whose place is -1."""
        self.places.append(place)
        self.numbers.append(number)
        self.ats.append(at)

    def arrays(self, rows: int) -> dict[str, np.ndarray]:
        """The arrays of a certificate; of a single leaf its slopes alone."""
        if len(self.leaves) == 1:
            ((chosen, _),) = self.leaves
            return {} if chosen is None else {f"slopes/{index}": part for index, part in chosen.slopes.items()}
        found = {
            "tree/place": np.array(self.places, np.int64),
            "tree/number": np.array(self.numbers, np.int64),
            "tree/at": np.array(self.ats, np.float64),
        }
        deepest = max(cuts for _, cuts in self.leaves)
        if deepest:
            found["multipliers"] = np.zeros((len(self.leaves), rows, deepest))
        indices = next((chosen.slopes for chosen, _ in self.leaves if chosen is not None), {})
        for index, like in indices.items():
            found[f"slopes/{index}"] = np.zeros((len(self.leaves), *like.shape), np.uint8)
        for number, (chosen, cuts) in enumerate(self.leaves):
            if chosen is not None:
                for index, slopes in chosen.slopes.items():
                    found[f"slopes/{index}"][number] = slopes
                if deepest:
                    found["multipliers"][number, :, :cuts] = chosen.multipliers
        return found


def tree_of(
    graph: Graph,
    inputs: Inputs,
    question: tuple[np.ndarray, np.ndarray, float],
    holds: Callable[[np.ndarray], bool],
    limits: Limits,
) -> Tree | None:
    """A tree whose leaves prove a claim; None where none is found.

    Args:
        question: rows ``[rows, outputs]``, offsets, and what every row has to exceed.
        holds: whether bounds of the rows prove the claim.
        limits: of the search.
    """
    rows, offsets, wanted = question
    tree, end = Tree(), time.monotonic() + limits.seconds
    by_inputs = int((inputs.low < inputs.high).sum()) <= FEW
    whole = Bounds(graph, inputs, backward=True)
    waiting: list[tuple[Inputs | None, tuple[Cut, ...]]] = [(inputs, ())]
    while waiting:
        if len(tree.places) >= limits.nodes or time.monotonic() > end:
            return None
        part, cuts = waiting.pop()
        bounds = None if part is None else Bounds(graph, part, backward=True) if by_inputs else whole.within(cuts)
        chosen = None
        if bounds is not None:
            steps = 10 if by_inputs else 20
            chosen = chosen_slopes(bounds, rows, offsets, wanted, cuts, steps)
        if bounds is None or chosen is None or holds(chosen.least - wanted):
            tree.add(-1, 0, 0.0)
            tree.leaves.append((chosen, len(cuts)))
            continue
        assert part is not None
        row = int(np.argmin(chosen.least))
        place, number, at = _input_of(part, chosen, row) if by_inputs else _neuron_of(bounds, chosen, row, cuts)
        if place < 0:
            return None
        tree.add(place, number, at)
        for above in (True, False):
            if place == 0:
                waiting.append((part.cut(number, at, above), cuts))
            else:
                waiting.append((part, (*cuts, Cut(place, number, at, above))))
    return tree


def _input_of(part: Inputs, chosen: Chosen, row: int) -> tuple[int, int, float]:
    """The input to be cut: the one whose width matters most to a row."""
    width = part.high - part.low
    score = np.abs(chosen.coefficients[0][row]) * width + 1e-3 * width
    number = int(np.argmax(score))
    at = float(0.5 * part.low.flat[number] + 0.5 * part.high.flat[number])
    return (0, number, at) if part.low.flat[number] < at < part.high.flat[number] else (-1, 0, 0.0)


def _neuron_of(bounds: Bounds, chosen: Chosen, row: int, cuts: tuple[Cut, ...]) -> tuple[int, int, float]:
    """The neuron to be cut: at its kink, or of a curve in the middle."""
    best, found = 0.0, (-1, 0, 0.0)
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
