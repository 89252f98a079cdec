"""Exact answers about tiny dense ReLU models, one linear program for every activation pattern: no encoding of ours."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import keras
import numpy as np
from scipy.optimize import linprog

from tfcert.clauses import Clauses
from tfcert.sets.balls import LpBall, Perturbation


@dataclass(frozen=True)
class Cell:
    """Where one pattern holds, ``rows @ x <= right``, and the outputs there, ``matrix @ x + offset``."""

    rows: np.ndarray
    right: np.ndarray
    matrix: np.ndarray
    offset: np.ndarray


def cells(model: keras.Model) -> Iterator[Cell]:
    """Every pattern of a model of Dense layers with ReLU (the last without)."""
    layers = [[w.numpy().astype(np.float64) for w in layer.weights] for layer in model.layers]
    sizes = [len(bias) for _, bias in layers[:-1]]
    inputs = layers[0][0].shape[0]
    for pattern in itertools.product(*(itertools.product((0.0, 1.0), repeat=n) for n in sizes)):
        matrix, offset, rows, right = np.eye(inputs), np.zeros(inputs), [np.zeros((0, inputs))], [np.zeros(0)]
        for (kernel, bias), on in zip(layers, (*pattern, None), strict=True):
            matrix, offset = kernel.T @ matrix, kernel.T @ offset + bias
            if on is not None:
                sign = 1 - 2 * np.array(on)
                rows.append(sign[:, None] * matrix)
                right.append(-sign * offset)
                matrix, offset = np.array(on)[:, None] * matrix, np.array(on) * offset
        yield Cell(np.concatenate(rows), np.concatenate(right), matrix, offset)


def _set(region: Perturbation) -> tuple[np.ndarray, np.ndarray, list[tuple[float, float]]]:
    """Rows and bounds of a set (L1 by all its faces)."""
    lower, upper = (end[0].astype(np.float64) for end in region.interval())
    rows, right = np.zeros((0, len(lower))), np.zeros(0)
    if region.norm == "l1":
        assert isinstance(region, LpBall)
        rows = np.array(list(itertools.product((-1.0, 1.0), repeat=len(lower))))
        right = rows @ region.x[0].astype(np.float64) + region.eps[0]
    return rows, right, list(zip(lower.tolist(), upper.tolist(), strict=True))


def least_margin(model: keras.Model, region: Perturbation, clauses: Clauses) -> float:
    """The worst margin (least clause, best row) over an L-infinity or L1 set."""
    assert region.norm != "l2"
    outer, limits, ends = _set(region)
    best = np.inf
    for cell in cells(model):
        for coefficients, offsets in zip(clauses.coefficients[0], clauses.offsets[0], strict=True):
            real = np.isfinite(offsets)
            part = np.pad(np.concatenate([cell.rows, outer]), ((0, 0), (0, 1)))
            aims = np.pad(coefficients[real] @ cell.matrix, ((0, 0), (0, 1)), constant_values=-1.0)
            right = [cell.right, limits, -(coefficients[real] @ cell.offset + offsets[real])]
            goal = np.append(np.zeros(len(ends)), 1.0)
            found = linprog(goal, np.concatenate([part, aims]), np.concatenate(right), bounds=[*ends, (None, None)])
            best = min(best, found.fun) if found.status == 0 else best
    return float(best)


def least_distance(
    model: keras.Model, x: np.ndarray, clauses: Clauses, norm: str, clip: tuple[float, float] = (-np.inf, np.inf)
) -> float:
    """The least distance from ``x`` (flat) at which a clause is broken or tied, within ``clip``; L2 in the plane."""
    x = x.astype(np.float64)
    nearest = {"linf": _nearest_by_lp, "l1": _nearest_by_lp, "l2": _nearest_in_plane}[norm]
    best = np.inf
    for cell in cells(model):
        for coefficients, offsets in zip(clauses.coefficients[0], clauses.offsets[0], strict=True):
            rows = np.concatenate([cell.rows, coefficients @ cell.matrix])
            right = np.concatenate([cell.right, -(coefficients @ cell.offset + offsets)])
            best = min(best, nearest(x, rows, right, norm, clip))
    return float(best)


def _nearest_by_lp(x: np.ndarray, rows: np.ndarray, right: np.ndarray, norm: str, clip: tuple[float, float]) -> float:
    """With steps up and down: L1 sums them, L-infinity has one size above all of them."""
    count = len(x)
    step = np.concatenate([rows, -rows], axis=1)
    room = [(0.0, clip[1] - value) for value in x] + [(0.0, value - clip[0]) for value in x]
    if norm == "l1":
        found = linprog(np.ones(2 * count), step, right - rows @ x, bounds=room)
    else:
        above = np.concatenate([np.eye(2 * count), -np.ones((2 * count, 1))], axis=1)
        matrix = np.concatenate([np.pad(step, ((0, 0), (0, 1))), above])
        limits = np.concatenate([right - rows @ x, np.zeros(2 * count)])
        found = linprog(np.append(np.zeros(2 * count), 1.0), matrix, limits, bounds=[*room, (0, None)])
    return found.fun if found.status == 0 else np.inf


def _nearest_in_plane(
    x: np.ndarray, rows: np.ndarray, right: np.ndarray, norm: str, clip: tuple[float, float]
) -> float:
    """The point itself, its foot on an edge, or a corner."""
    assert len(x) == 2
    if np.isfinite(clip).all():
        rows = np.concatenate([rows, np.eye(2), -np.eye(2)])
        right = np.concatenate([right, np.full(2, clip[1]), np.full(2, -clip[0])])
    lengths = np.linalg.norm(rows, axis=1)
    if (right[lengths == 0] < 0).any():
        return np.inf
    rows, right = (rows[lengths > 0] / lengths[lengths > 0, None]), (right[lengths > 0] / lengths[lengths > 0])
    candidates = [x, *(x - (rows @ x - right)[:, None] * rows)]
    for i, j in itertools.combinations(range(len(rows)), 2):
        if abs(np.linalg.det(rows[[i, j]])) > 1e-12:
            candidates.append(np.linalg.solve(rows[[i, j]], right[[i, j]]))
    inside = np.array([c for c in candidates if (rows @ c <= right + 1e-10).all()]).reshape(-1, 2)
    return float(np.linalg.norm(inside - x, axis=1).min(initial=np.inf))
