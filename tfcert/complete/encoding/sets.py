"""Perturbation sets as variables and rows."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from tfcert.complete.encoding.program import ProgramBuilder
from tfcert.complete.encoding.variables import Encoding, EncodingOptions
from tfcert.sets.balls import LpBall, Perturbation
from tfcert.sets.side_by_side import SideBySide
from tfcert.sets.stepped import Stepped

T = TypeVar("T", float, np.ndarray)
_ROUNDING = 1e-14
"""What float64 may lose of a number on a grid, relative to the largest."""
Costs = tuple[np.ndarray, np.ndarray]
"""The variables and coefficients of a distance from a centre (of its square for L2)."""


def encode_set(region: Perturbation, options: EncodingOptions, distance: bool) -> Encoding:
    """One sample's set, and with ``distance`` what is to be minimised.

    Raises:
        ValueError: several samples, or the distance of a box or of sets side by side.
    """
    if len(region) != 1:
        raise ValueError("one sample is encoded at a time")
    builder = ProgramBuilder()
    lower, upper = (end[0].astype(np.float64).ravel() for end in region.interval())
    inputs = builder.variables(lower, upper)
    encoding = Encoding(builder, options, inputs)
    if distance and not isinstance(region, LpBall):
        raise ValueError("a box, and sets side by side, have no centre to measure a distance from")
    if isinstance(region, LpBall):
        encoding.distance = _ball(encoding, region, np.arange(len(lower)), distance)
    elif isinstance(region, SideBySide):
        for sets, places in region.sides:
            if isinstance(sets, LpBall):
                _ball(encoding, sets, places, False)
            elif isinstance(sets, Stepped):
                _steps(encoding, sets, places)
    elif isinstance(region, Stepped):
        _steps(encoding, region, np.arange(len(lower)))
    return encoding


def _steps(encoding: Encoding, region: Stepped, places: np.ndarray) -> None:
    """Whole numbers behind the inputs that have some values only: ``x = start + step * k``, as exactly as they are."""
    for place, values in region.steps.items():
        low, high = (end[0].astype(np.float64).ravel()[place] for end in region.interval())
        found = values[(values >= low) & (values <= high)]
        if len(found) < 2 or encoding.options.relax:
            continue
        builder, x = encoding.builder, encoding.inputs[[places[place]]]
        start, step = found[0], (found[-1] - found[0]) / (len(found) - 1)
        off = np.abs(found - (start + step * np.arange(len(found)))).max()
        slack = off + _ROUNDING * max(abs(low), abs(high), step * len(found))
        number = builder.variables(np.zeros(1), np.array([len(found) - 1.0]), integer=True)
        builder.rows([(x, 1.0), (number, -step)], np.array([start + slack]))
        builder.rows([(x, -1.0), (number, step)], np.array([slack - start]))
        encoding.step(number, functools.partial(_nearest, x, start, step))


def _nearest(x: np.ndarray, start: float, step: float, v: np.ndarray) -> np.ndarray:
    """The whole number of a value that lies on its grid."""
    return np.round((v[x] - start) / step)


def _ball(encoding: Encoding, region: LpBall, places: np.ndarray, distance: bool) -> Costs | None:
    """The rows of a ball over some of the inputs, and the distance from its centre; of L-inf if it is asked for."""
    x = encoding.inputs[places]
    lower, upper = (end[0].astype(np.float64).ravel() for end in region.interval())
    center, eps = region.x[0].astype(np.float64).ravel(), float(region.eps[0])
    ball = _Ball(x, center, lower, upper, eps, _scale(region))
    if region.norm == "linf":
        return _linf(encoding, ball) if distance else None
    return _l1(encoding, ball) if region.norm == "l1" else _l2(encoding, ball)


@dataclass(frozen=True)
class _Ball:
    """A ball of one sample over the variables ``x``; what does not change has the scale 1, and equal ends."""

    x: np.ndarray
    center: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    eps: float
    scale: np.ndarray

    @property
    def far(self) -> np.ndarray:
        """How far each number may move, in its scale, rounded up."""
        return np.asarray(_up(np.maximum(self.upper - self.center, self.center - self.lower) / self.scale))

    def steps(self, x: np.ndarray) -> np.ndarray:
        """The steps from the centre, in their scale."""
        return np.asarray((x - self.center) / self.scale)


def _scale(region: LpBall) -> np.ndarray:
    if region.scale is None:
        return np.ones(region.x[0].size)
    high = region.scale.high[0].ravel()
    return np.where(high > 0, high, 1.0)


def _linf(encoding: Encoding, ball: _Ball) -> Costs:
    builder, x = encoding.builder, ball.x
    most = builder.variables(np.zeros(1), np.array([_up(ball.eps)]))
    shared = np.repeat(most, len(x))
    builder.rows([(x, 1.0), (shared, -ball.scale)], ball.center)
    builder.rows([(x, -1.0), (shared, -ball.scale)], -ball.center)
    encoding.step(most, lambda v: np.abs(ball.steps(v[x])).max(initial=0.0))
    return most, np.ones(1)


def _l1(encoding: Encoding, ball: _Ball) -> Costs:
    builder, x = encoding.builder, ball.x
    size = builder.variables(np.zeros(len(x)), ball.far)
    builder.rows([(x, 1.0), (size, -ball.scale)], ball.center)
    builder.rows([(x, -1.0), (size, -ball.scale)], -ball.center)
    builder.rows([(size, np.ones((1, len(x))))], np.array([_up(ball.eps)]))
    encoding.step(size, lambda v: np.abs(ball.steps(v[x])))
    return size, np.ones(len(x))


def _l2(encoding: Encoding, ball: _Ball) -> Costs:
    """Steps are counted in units of ``eps / sqrt(n)``, so that their squares are about 1: solvers' tolerances are
    absolute."""
    builder, x, eps = encoding.builder, ball.x, ball.eps
    unit = eps / np.sqrt(len(x)) if eps > 0 else 1.0
    low, high, far = ball.steps(ball.lower) / unit, ball.steps(ball.upper) / unit, _up(ball.far / unit)
    root = builder.variables(low - (far - ball.far / unit), high + (far - ball.far / unit))
    square = builder.variables(np.zeros(len(x)), _up(far**2))
    builder.rows([(x, 1.0), (root, -unit * ball.scale)], ball.center, equal=True)
    builder.rows([(square, np.ones((1, len(x))))], np.array([_up((eps / unit) ** 2)]))
    builder.squares(root, square)
    encoding.step(root, lambda v: ball.steps(v[x]) / unit)
    encoding.step(square, lambda v: v[root] ** 2)
    return square, np.full(len(x), unit**2)


def _up(number: T) -> T:
    """A number, or an array, that stays above the exact one whatever float64 lost of it in a few operations."""
    return number * (1 + 1e-12)
