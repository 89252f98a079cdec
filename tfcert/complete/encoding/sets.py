"""Perturbation sets as variables and rows."""

from __future__ import annotations

import numpy as np

from tfcert.complete.encoding.program import ProgramBuilder
from tfcert.complete.encoding.variables import Encoding, EncodingOptions
from tfcert.sets.balls import LpBall, Perturbation


def encode_set(region: Perturbation, options: EncodingOptions, distance: bool) -> Encoding:
    """One sample's set, and with ``distance`` what is to be minimised.

    Raises:
        ValueError: several samples, or the distance of a box.
    """
    if len(region) != 1:
        raise ValueError("one sample is encoded at a time")
    builder = ProgramBuilder()
    lower, upper = (end[0].astype(np.float64).ravel() for end in region.interval())
    inputs = builder.variables(lower, upper)
    encoding = Encoding(builder, options, inputs)
    if not isinstance(region, LpBall):
        if distance:
            raise ValueError("a box has no centre to measure a distance from")
        return encoding
    center, eps = region.x[0].astype(np.float64).ravel(), float(region.eps[0])
    if region.norm == "linf":
        if distance:
            _linf(encoding, center, lower, upper, eps)
    elif region.norm == "l1":
        _l1(encoding, center, lower, upper, eps)
    else:
        _l2(encoding, center, lower, upper, eps)
    return encoding


def _linf(encoding: Encoding, center: np.ndarray, lower: np.ndarray, upper: np.ndarray, eps: float) -> None:
    builder, x = encoding.builder, encoding.inputs
    most = builder.variables(np.zeros(1), np.array([_up(eps)]))
    shared = np.repeat(most, len(x))
    builder.rows([(x, 1.0), (shared, -1.0)], center)
    builder.rows([(x, -1.0), (shared, -1.0)], -center)
    encoding.step(most, lambda v: np.abs(v[x] - center).max(initial=0.0))
    encoding.distance = (most, np.ones(1))


def _l1(encoding: Encoding, center: np.ndarray, lower: np.ndarray, upper: np.ndarray, eps: float) -> None:
    builder, x = encoding.builder, encoding.inputs
    size = builder.variables(np.zeros(len(x)), np.maximum(upper - center, center - lower))
    builder.rows([(x, 1.0), (size, -1.0)], center)
    builder.rows([(x, -1.0), (size, -1.0)], -center)
    builder.rows([(size, np.ones((1, len(x))))], np.array([_up(eps)]))
    encoding.step(size, lambda v: np.abs(v[x] - center))
    encoding.distance = (size, np.ones(len(x)))


def _l2(encoding: Encoding, center: np.ndarray, lower: np.ndarray, upper: np.ndarray, eps: float) -> None:
    """Steps are counted in units of ``eps / sqrt(n)``, so that their squares are about 1: solvers' tolerances are
    absolute."""
    builder, x = encoding.builder, encoding.inputs
    unit = eps / np.sqrt(len(x)) if eps > 0 else 1.0
    root = builder.variables((lower - center) / unit, (upper - center) / unit)
    square = builder.variables(np.zeros(len(x)), (np.maximum(upper - center, center - lower) / unit) ** 2)
    builder.rows([(x, 1.0), (root, -unit)], center, equal=True)
    builder.rows([(square, np.ones((1, len(x))))], np.array([_up((eps / unit) ** 2)]))
    builder.squares(root, square)
    encoding.step(root, lambda v: (v[x] - center) / unit)
    encoding.step(square, lambda v: v[root] ** 2)
    encoding.distance = (square, np.full(len(x), unit**2))


def _up(number: float) -> float:
    return number * (1 + 1e-12)
