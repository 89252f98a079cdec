"""Slopes for certificates: lines that make rows' bounds larger, found in plain floating point.

The bound of a row is concave in the slopes of its lower lines (Xu et al. 2021, "Fast and complete", section 3.1).
Where its bound takes its least value, at an input x, the chosen lines give every place a number, and the bound changes
with a slope as the row's coefficient times the number that enters there: a supergradient. What is found is a choice;
the checker computes the bound.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tfcert.proof.bounds import Bounds
from tfcert.proof.graph import Affine, Bent, Beside, Entry, Graph, Total
from tfcert.proof.region import Inputs

_RATE, _DECAY = 0.5, 0.97


def climbing(graph: Graph) -> str:
    """The reason why no slopes are looked for in a graph; "" where they are."""
    known = (Entry, Affine, Total, Beside, Bent)
    return next((f"{p.name} is no activation" for p in graph.places if not isinstance(p, known)), "")


def climbed(
    bounds: Bounds,
    inputs: Inputs,
    rows: np.ndarray,
    evaluate: Callable[[dict[int, np.ndarray]], np.ndarray],
    steps: int = 40,
) -> dict[int, np.ndarray]:
    """For each activation the places of lower lines, as bytes ``[rows, *shape]``, at which each row's bound was best.

    Args:
        bounds: intervals of all places.
        inputs: the set.
        rows: over the outputs, ``[rows, outputs]``.
        evaluate: the checker's bounds of the rows by some such places.
        steps: of the search; each takes two passes.
    """
    graph = bounds.graph
    places = {i: _first(bounds, i, len(rows)) for i, place in enumerate(graph.places) if isinstance(place, Bent)}
    best = {i: np.rint(255 * a).astype(np.uint8) for i, a in places.items()}
    least = evaluate(best)
    for step in range(steps):
        gradients = _gradients(bounds, inputs, rows, places)
        for index, gradient in gradients.items():
            scale = np.abs(gradient).reshape(len(rows), -1).max(axis=1).reshape(-1, *[1] * (gradient.ndim - 1))
            share = np.sign(gradient) * np.sqrt(np.abs(gradient) / np.maximum(scale, 1e-30))
            places[index] = np.clip(places[index] + _RATE * _DECAY**step * share, 0.0, 1.0)
        tried = {i: np.rint(255 * a).astype(np.uint8) for i, a in places.items()}
        found = evaluate(tried)
        better = found > least
        least = np.maximum(found, least)
        for index in best:
            best[index][better] = tried[index][better]
        if (least > 0).all():
            break
    return best


def _first(bounds: Bounds, index: int, rows: int) -> np.ndarray:
    place = bounds.graph.places[index]
    assert isinstance(place, Bent)
    lower = bounds.bent_lines(index, place, None).lower
    low, high = min(place.slopes), max(place.slopes)
    share = (lower - low) / (high - low) if high > low else np.zeros_like(lower)
    return np.broadcast_to(share, (rows, *place.shape)).copy()


def _gradients(
    bounds: Bounds, inputs: Inputs, rows: np.ndarray, chosen: dict[int, np.ndarray]
) -> dict[int, np.ndarray]:
    """How the rows' bounds change with the places of lower lines."""
    graph = bounds.graph
    waiting, parts = {len(graph.places) - 1: rows}, {}
    lines = {i: bounds.bent_lines(i, graph.places[i], a) for i, a in chosen.items()}  # type: ignore[arg-type]
    for here in range(len(graph.places) - 1, -1, -1):
        place = graph.places[here]
        part = parts[here] = waiting.pop(here, np.zeros((len(rows), *place.shape)))
        if isinstance(place, Beside):
            ends = np.cumsum([graph.places[source].shape[-1] for source in place.inputs])[:-1]
            passed = np.split(part, ends, axis=-1)
        elif isinstance(place, Affine):
            passed = [place.map.back(part)]
        elif isinstance(place, Bent):
            passed = [np.where(part > 0, part * lines[here].lower, part * lines[here].upper)]
        else:
            passed = [part] * len(place.inputs)
        for source, found in zip(place.inputs, passed, strict=True):
            waiting[source] = waiting[source] + found if source in waiting else found
    values: list[np.ndarray] = []
    for here, place in enumerate(graph.places):
        before = [values[i] for i in place.inputs]
        match place:
            case Entry():
                values.append(np.where(parts[0] > 0, inputs.low, inputs.high))
            case Affine():
                values.append(place.map.forward(before[0]) + place.bias)
            case Bent():
                line, x = lines[here], before[0]
                values.append(np.where(parts[here] > 0, line.lower * x + line.below, line.upper * x + line.above))
            case Total():
                values.append(np.sum(before, axis=0))
            case _:
                values.append(np.concatenate(before, axis=-1))
    found = {}
    for index in chosen:
        source = graph.places[index].inputs[0]
        low, high = bounds.intervals[source]
        open_ = (low < 0) & (high > 0)
        found[index] = np.where(open_, np.maximum(parts[index], 0.0) * values[source], 0.0)
    return found
