"""Choices for certificates: slopes and multipliers that make rows' bounds larger, found in plain floating point.

The bound of a row is concave in the slopes of its lower lines (Xu et al. 2021, "Fast and complete", section 3.1) and in
the multipliers of cuts (Wang et al. 2021, "Beta-CROWN", theorem 3.1). Where it takes its least value, at an input x,
the chosen lines give every place a number, and the bound changes with a slope as the row's coefficient times the
number that enters there, with a multiplier as the distance of the number from its cut: supergradients. What is found
is a choice; the checker computes the bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tfcert.proof.bounds import Bounds
from tfcert.proof.graph import Affine, Bent, Beside, Entry, Largest, Nonlinear, Total
from tfcert.proof.lines import Planes, Shape
from tfcert.proof.maps import cropped
from tfcert.proof.rows import Choice, Cut

_RATE, _DECAY = 0.5, 0.97
_APART = 0.05
"""Levels of planes whose values tell how a bound changes with the level."""


@dataclass
class Chosen:
    """Choices for rows: by activation the places of lower lines, ``[rows, *shape]`` bytes, and multipliers of cuts.

    Attributes:
        slopes: as certificates hold them.
        multipliers: ``[rows, cuts]``, not negative.
        least: the checker's bound of each row by these, ``[rows]``.
        coefficients: of each place in the last pass, ``[rows, *shape]``.
    """

    slopes: dict[int, np.ndarray]
    multipliers: np.ndarray
    least: np.ndarray
    coefficients: dict[int, np.ndarray]


def chosen_slopes(
    bounds: Bounds,
    asked: tuple[np.ndarray, np.ndarray, float],
    cuts: Sequence[Cut] = (),
    steps: int = 40,
    start: Chosen | None = None,
) -> Chosen:
    """The choices at which each row's bound was best.

    Args:
        bounds: of all places, where the cuts hold.
        asked: rows over the outputs ``[rows, outputs]``, offsets that are added, and what one bound is to exceed: there
            the search ends.
        cuts: with multipliers to be chosen.
        steps: of the search; each takes two passes.
        start: where it begins: choices for as many rows, and multipliers of the first cuts.
    """
    graph, (rows, offsets, wanted) = bounds.graph, asked
    last = len(graph.places) - 1
    places = {i: _first(bounds, i, len(rows)) for i, place in enumerate(graph.places) if isinstance(place, Nonlinear)}
    forces = np.zeros((len(rows), len(cuts)))
    if start is not None:
        for index in places:
            if index in start.slopes and start.slopes[index].shape == places[index].shape:
                places[index] = _kept(bounds, index, start.slopes[index] / 255.0, places[index])
        count = min(len(cuts), start.multipliers.shape[1])
        forces[:, :count] = start.multipliers[:, :count]
    best: Chosen | None = None
    for step in range(steps + 1):
        slopes = {i: np.rint(255 * a).astype(np.uint8) for i, a in places.items()}
        how = Choice({i: a / 255.0 for i, a in slopes.items()}, cuts, forces)
        found = bounds.least(last, rows, offsets, how)
        parts, values = _run(bounds, rows, places, cuts, forces)
        if best is None:
            best = Chosen(slopes, forces.copy(), found, parts)
        better = found > best.least
        best.least = np.maximum(found, best.least)
        best.multipliers[better] = forces[better]
        for index in slopes:
            best.slopes[index][better] = slopes[index][better]
        if (best.least > wanted).any() or step == steps:
            break
        rate = _RATE * _DECAY**step
        for index in places:
            gradient = _gradient(bounds, index, slopes[index] / 255.0, parts[index], values)
            scale = np.abs(gradient).reshape(len(rows), -1).max(axis=1).reshape(-1, *[1] * (gradient.ndim - 1))
            share = np.sign(gradient) * np.sqrt(np.abs(gradient) / np.maximum(scale, 1e-30))
            places[index] = np.clip(places[index] + rate * share, 0.0, 1.0)
        for number, cut in enumerate(cuts):
            past = values[cut.place].reshape(len(rows), -1)[:, cut.number] - cut.at
            past = -past if cut.above else past  # how far the cut is missed
            size = np.abs(parts[cut.place]).reshape(len(rows), -1).max(axis=1) + 1e-6
            forces[:, number] = np.maximum(forces[:, number] + rate * size * np.sign(past) * (np.abs(past) > 1e-9), 0.0)
    assert best is not None
    return best


def attained(bounds: Bounds, rows: np.ndarray) -> np.ndarray:
    """The numbers that lines by the rule give the outputs where the rows' bounds are attained, ``[rows, outputs]``."""
    places = enumerate(bounds.graph.places)
    chosen = {i: _first(bounds, i, len(rows)) for i, place in places if isinstance(place, Nonlinear)}
    return _run(bounds, rows, chosen, (), np.zeros((len(rows), 0)))[1][-1]


def _kept(bounds: Bounds, index: int, given: np.ndarray, rule: np.ndarray) -> np.ndarray:
    """Places of lines that are given, where there is a choice: a function that is straight has one slope."""
    place = bounds.graph.places[index]
    if isinstance(place, Largest):
        return given
    assert isinstance(place, Bent)
    low, high = bounds.intervals[place.inputs[0]]
    if not place.function.parts:
        return given
    return np.where(np.any([(low < kink) & (kink < high) for kink in place.function.kinks], axis=0), given, rule)


def _first(bounds: Bounds, index: int, rows: int) -> np.ndarray:
    place = bounds.graph.places[index]
    if isinstance(place, Largest):
        return np.ones((rows, *place.shape))
    assert isinstance(place, Bent)
    lower = bounds.bent_lines(index).lower
    low, high = place.function.slopes
    share = (lower - low) / (high - low) if high > low else np.zeros_like(lower)
    return np.broadcast_to(share, (rows, *place.shape)).copy()


def _gradient(
    bounds: Bounds, index: int, share: np.ndarray, part: np.ndarray, values: Sequence[np.ndarray]
) -> np.ndarray:
    """How the rows' bounds change with the choices of a place, ``[rows, *shape]``."""
    place = bounds.graph.places[index]
    x = values[place.inputs[0]]
    if isinstance(place, Largest):
        near = np.where(share > _APART, share - _APART, share + _APART)
        ends = [_plane(place, bounds.planes(index, at), x) for at in (share, near)]
        return np.minimum(part, 0.0) * (ends[0] - ends[1]) / (share - near)
    return np.maximum(part, 0.0) * (x - _touched(bounds, index, share))


def _plane(place: Largest, planes: Planes, x: np.ndarray) -> np.ndarray:
    """The upper planes' values at inputs ``[rows, *shape]``."""
    image = place.windows.pad(x)
    entries = enumerate(place.windows.places)
    return planes.intercept + sum(planes.above[n] * image[place.windows.at(where)] for n, where in entries)


def _touched(bounds: Bounds, index: int, share: np.ndarray) -> np.ndarray:
    """Where lower lines of these slopes touch the function, ``[rows, *shape]``."""
    place = bounds.graph.places[index]
    assert isinstance(place, Bent)
    shape, (least, most) = Shape(place, bounds.intervals[place.inputs[0]], bounds.graph), place.function.slopes
    slope = least + (most - least) * share
    at, found = np.full(share.shape, np.inf), np.zeros(share.shape)
    for x, value in zip(shape.x, shape.values, strict=True):
        over = value - slope * x
        at, found = np.minimum(at, over), np.where(over < at, x, found)
    return found


def _run(
    bounds: Bounds, rows: np.ndarray, chosen: dict[int, np.ndarray], cuts: Sequence[Cut], forces: np.ndarray
) -> tuple[dict[int, np.ndarray], list[np.ndarray]]:
    """The rows' coefficients of each place, and the numbers that lines give each place at the rows' least inputs."""
    graph, parts = bounds.graph, {}
    waiting = {i: np.zeros((len(rows), *place.shape)) for i, place in enumerate(graph.places)}
    waiting[len(graph.places) - 1] = rows.astype(np.float64)
    for number, cut in enumerate(cuts):
        waiting[cut.place] = waiting[cut.place].copy()
        flat = waiting[cut.place].reshape(len(rows), -1)
        flat[:, cut.number] += (-1.0 if cut.above else 1.0) * forces[:, number]
    bent = {i: a for i, a in chosen.items() if isinstance(graph.places[i], Bent)}
    lines = {i: bounds.bent_lines(i, a) for i, a in bent.items()}
    planes = {i: bounds.planes(i, a) for i, a in chosen.items() if i not in bent}
    for here in range(len(graph.places) - 1, -1, -1):
        place, part = graph.places[here], waiting[here]
        parts[here] = part
        if isinstance(place, Beside):
            ends = np.cumsum([graph.places[source].shape[-1] for source in place.inputs])[:-1]
            passed = np.split(part, ends, axis=-1)
        elif isinstance(place, Affine):
            passed = [place.map.back(part)]
        elif isinstance(place, Bent):
            passed = [np.where(part > 0, part * lines[here].lower, part * lines[here].upper)]
        elif isinstance(place, Largest):
            image, windows = place.windows.empty(len(rows)), place.windows
            for number, where in enumerate(windows.places):
                below, above = planes[here].below[number], planes[here].above[number]
                image[windows.at(where)] += np.where(part > 0, part * below, part * above)
            passed = [cropped(image, windows.zeros)]
        else:
            passed = [part] * len(place.inputs)
        for source, found in zip(place.inputs, passed, strict=True):
            waiting[source] = waiting[source] + found
    values: list[np.ndarray] = []
    for here, place in enumerate(graph.places):
        before = [values[i] for i in place.inputs]
        match place:
            case Entry():
                values.append(np.where(parts[0] > 0, *bounds.intervals[0]))
            case Affine():
                values.append(place.map.forward(before[0]) + place.bias)
            case Bent():
                line, x = lines[here], before[0]
                values.append(np.where(parts[here] > 0, line.lower * x + line.below, line.upper * x + line.above))
            case Total():
                values.append(np.sum(before, axis=0))
            case Largest():
                image, chosen_planes = place.windows.pad(before[0]), planes[here]
                each = [image[place.windows.at(where)] for where in place.windows.places]
                least = sum(chosen_planes.below[n] * entry for n, entry in enumerate(each))
                values.append(np.where(parts[here] > 0, least, _plane(place, chosen_planes, before[0])))
            case _:
                values.append(np.concatenate(before, axis=-1))
    return parts, values
