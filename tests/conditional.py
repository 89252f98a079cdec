"""Small questions with conditions on inputs: networks that show their inputs, and points to try them on."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from soundness.networks import randomize

from tfcert.clauses import Clause, Clauses
from tfcert.sets.balls import Box, LpBall, Perturbation

KINDS = ("box", "linf", "l2", "l1")


def showing(inputs: int = 2, outputs: int = 2, hidden: int = 5, seed: int = 0, activation: Any = "relu") -> keras.Model:
    """A random dense network of one hidden layer whose outputs are followed by its inputs."""
    x = keras.Input((inputs,))
    y = keras.layers.Dense(outputs)(keras.layers.Dense(hidden, activation=activation)(x))
    model = keras.Model(x, keras.layers.Concatenate()([y, x]))
    randomize(model, np.random.default_rng(seed))
    return model


def around(kind: str, x: np.ndarray, eps: float) -> Perturbation:
    return Box(x - np.float32(eps), x + np.float32(eps)) if kind == "box" else LpBall(x, eps, kind)


def row(outputs: int, inputs: int, over: dict[int, float], offset: float = 0.0) -> tuple[np.ndarray, float]:
    """A row over outputs (from 0) and inputs (from -inputs to -1), and its offset."""
    found = np.zeros(outputs + inputs)
    for place, value in over.items():
        found[place] = value
    return found, offset


def clause(*rows: tuple[np.ndarray, float]) -> Clause:
    return Clause(np.stack([coefficients for coefficients, _ in rows]), np.array([offset for _, offset in rows]))


def dense_points(region: Perturbation, count: int = 101) -> np.ndarray:
    """Many members of one sample's set ``[points, inputs]``: a grid of its box that is moved into it, and corners."""
    low, high = region.lower[0], region.upper[0]
    side = count if low.size <= 2 else 21
    ticks = [np.linspace(a, b, side, dtype=np.float32) for a, b in zip(low, high, strict=True)]
    grid = np.stack(np.meshgrid(*ticks), -1).reshape(-1, low.size).astype(np.float32)
    inside = region.take(np.zeros(len(grid), int)).contains(grid)
    return grid[inside]


def least_margins(model: keras.Model, region: Perturbation, asked: Clauses, conditions: np.ndarray) -> np.ndarray:
    """Of each clause of one sample the least that its best row is on points where no condition row is positive.

    Args:
        conditions: marks such rows ``[clauses, rows]``.

    Returns:
        ``[clauses]``; infinite where no point is left.
    """
    points = dense_points(region)
    outputs = np.asarray(model(points), np.float64)
    found = []
    for coefficients, offsets, limits in zip(asked.coefficients[0], asked.offsets[0], conditions, strict=True):
        values = outputs @ coefficients.T + np.where(np.isfinite(offsets), offsets, -np.inf)
        met = (values[:, limits] <= 0).all(axis=1)
        rest = values[:, ~limits] if not limits.all() else values
        found.append(rest[met].max(axis=1).min(initial=np.inf))
    return np.array(found)
