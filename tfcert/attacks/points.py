"""Points to look at before any gradient is taken: random ones, corners and points of faces of each region.

Gradients lead nowhere where a network is flat or where the way to a violation goes uphill. In few dimensions a few
hundred points see what gradients miss: of n random points all miss a violation of share p of the volume with
probability (1 - p)^n only.
"""

from __future__ import annotations

import math

import numpy as np

from tfcert.attacks.gradient import Left, Proposal, endless
from tfcert.attacks.witness import model_outputs
from tfcert.clauses import Clauses
from tfcert.sets.balls import LpBall, Perturbation
from tfcert.sets.conditions import Conditions, moved_into
from tfcert.sets.side_by_side import SideBySide
from tfcert.sets.stepped import Stepped

_BUDGET = 8192
"""So many numbers a sample are spent on points, within the next two limits."""
_LEAST, _MOST = 16, 512
_AT_ONCE = 2**22
"""Most input numbers that are given to the model in one pass."""
_AT_ONCE_TIMED = 2**18
"""The same where the time is limited, which is looked at between passes."""


def default_count(size: int) -> int:
    """The number of points for a sample of ``size`` inputs: 512 for up to 16 inputs, 16 for an image."""
    return min(_MOST, max(_LEAST, _BUDGET // max(1, size)))


def best_points(
    model: object,
    region: Perturbation,
    clauses: Clauses,
    draw: tuple[int, int],
    left: Left = endless,
    conditions: Conditions | None = None,
) -> Proposal:
    """Of some points of each region the one with the lowest margin.

    The points are the same for the same seed. They lie in the region up to rounding; a replay decides whether one is a
    witness.

    Args:
        draw: how many points, and the seed.
        left: seconds that are left; asked between passes, which are small where there is a limit.
        conditions: on the inputs, into which points are moved.
    """
    count, seed = draw
    shape, size = region.lower.shape, math.prod(region.input_shape)
    pattern = _pattern(region, count, seed)
    best, lowest = region.center.copy(), np.full(len(region), np.inf)
    numbers = _AT_ONCE if math.isinf(left()) else _AT_ONCE_TIMED
    part = max(1, numbers // max(1, len(region) * size))
    for first in range(0, count, part):
        if left() <= 0:
            return Proposal(best, late=True)
        points = _placed(region, pattern[first : first + part]).reshape(-1, *shape)
        if conditions is not None:
            every = np.tile(np.arange(len(region)), len(points))
            moved = moved_into(region.take(every), conditions.take(every), points.reshape(-1, *shape[1:]))
            points = moved.reshape(points.shape)
        outputs = model_outputs(model, points.reshape(-1, *shape[1:])).reshape(len(points), shape[0], -1)
        margins = clauses.margins(outputs)
        margins = np.where(np.isnan(margins), np.inf, margins)
        chosen, places = margins.argmin(axis=0), np.arange(shape[0])
        least = margins[chosen, places]
        better = least < lowest
        best[better], lowest[better] = points[chosen, places][better], least[better]
    return Proposal(best)


def _placed(region: Perturbation, pattern: np.ndarray) -> np.ndarray:
    """The points ``[n, batch, size]`` of the regions that a pattern ``[n, size]`` stands for."""
    low, high = (end.reshape(len(region), -1).astype(np.float64) for end in (region.lower, region.upper))
    if isinstance(region, SideBySide):
        points = np.zeros((len(pattern), len(region), pattern.shape[1]), region.lower.dtype)
        for sets, places in region.sides:
            points[..., places] = _placed(sets, pattern[:, places])
        return points.clip(region.lower, region.upper)
    if isinstance(region, LpBall) and region.norm != "linf":
        center = region.center.reshape(len(region), -1).astype(np.float64)
        reach = np.broadcast_to(region.reach, region.lower.shape).reshape(len(region), -1)
        points = np.clip(center + reach * pattern[:, None], low, high)
    else:
        points = low + (high - low) * pattern[:, None]
    points = points.astype(region.lower.dtype)
    if isinstance(region, Stepped):  # between its values no point is a witness
        points = np.stack([region.project(p.reshape(region.lower.shape)).reshape(p.shape) for p in points])
    return points


def _pattern(region: Perturbation, count: int, seed: int) -> np.ndarray:
    """The pattern ``[count, size]`` that suits a set; of sets side by side each has its own."""
    size = math.prod(region.input_shape)
    if not isinstance(region, SideBySide):
        boxed = region.norm == "linf"
        return _box_pattern(count, size, seed) if boxed else _ball_pattern(count, size, seed, region.norm)
    pattern = np.zeros((count, size))
    for number, (sets, places) in enumerate(region.sides):
        pattern[:, places] = _pattern(sets, count, seed + number)
    return pattern


def _box_pattern(count: int, size: int, seed: int) -> np.ndarray:
    """``[count, size]`` in [0, 1]: half of them inside; of the others half corners, half on faces between."""
    rng = np.random.default_rng([seed, count, size])
    inside = rng.random((count, size))
    ends = (rng.random((count, size)) < 0.5).astype(float)
    corners = count // 4
    if size < 30 and 2**size <= corners:  # few enough to take all of them
        corners = 2**size
        ends[:corners] = (np.arange(corners)[:, None] >> np.arange(size)) & 1
    pattern = inside
    pattern[:corners] = ends[:corners]
    faces = slice(corners, corners + count // 4)
    pattern[faces] = np.where(rng.random((count, size)) < 0.5, inside, ends)[faces]
    return pattern


def _ball_pattern(count: int, size: int, seed: int, norm: str) -> np.ndarray:
    """``[count, size]`` in the unit ball: half of them inside; of the others half on axes, half on the sphere."""
    rng = np.random.default_rng([seed, count, size])
    direction = rng.normal(size=(count, size)) if norm == "l2" else rng.laplace(size=(count, size))
    direction /= np.linalg.norm(direction, 2 if norm == "l2" else 1, axis=1, keepdims=True)
    length = rng.random((count, 1)) ** (1 / size)
    axes = np.arange(count // 4)
    order = np.concatenate([rng.permutation(size), rng.permutation(size)])[: len(axes)]
    length[: len(axes) + count // 4] = 1.0
    direction[: len(order)] = 0.0
    direction[axes[: len(order)], order] = np.where(axes[: len(order)] < size, 1.0, -1.0)
    return direction * length
