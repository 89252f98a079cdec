"""Paired timing: every side runs once in each round, so that what disturbs the machine disturbs all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import numpy as np

_PAUSE = 0.03
"""Seconds between passes: threads of the last side's pool spin for a while after their work."""


def alternate(sides: dict[str, Callable[[], dict[str, float]]], rounds: int) -> dict[str, dict[str, Any]]:
    """What a pass of each side takes, measured in turn (in changing order) after one warm-up round.

    Args:
        sides: by name, a function that runs one pass and returns what it took, as ``usage.used`` does.
        rounds: passes of each side.

    Returns:
        For each side the medians by name, and the seconds of each round (``all``).
    """
    found: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    names = list(sides)
    for number in range(rounds + 1):
        for name in names if number % 2 else names[::-1]:
            time.sleep(_PAUSE)
            taken = sides[name]()
            if number:
                found[name].append(taken)
    return {
        name: {key: median(one[key] for one in taken) for key in taken[0]}
        | {"all": [round(one["seconds"], 5) for one in taken]}
        for name, taken in found.items()
    }


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """The first and the third quartile."""
    low, high = np.quantile(values, (0.25, 0.75))
    return float(low), float(high)


def times_faster(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float, float]:
    """The ratio of two sides' medians, and the least and the most of a round, which both ran in turn."""
    rounds = np.divide(theirs, ours)
    return median(theirs) / median(ours), float(rounds.min()), float(rounds.max())
