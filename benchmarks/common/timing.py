"""Paired timing: every side runs once in each round, so that what disturbs the machine disturbs all of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

_PAUSE = 0.03
"""Seconds between passes: threads of the last side's pool spin for a while after their work."""


def clock(run: Callable[[], Any]) -> float:
    """Seconds that one call takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def alternate(sides: dict[str, Callable[[], float]], rounds: int) -> dict[str, dict[str, Any]]:
    """Seconds of each side, measured in turn (in changing order) after one warm-up round.

    Args:
        sides: by name, a function that runs one pass and returns its seconds.
        rounds: passes of each side.
    """
    found: dict[str, list[float]] = {name: [] for name in sides}
    names = list(sides)
    for number in range(rounds + 1):
        for name in names if number % 2 else names[::-1]:
            time.sleep(_PAUSE)
            seconds = sides[name]()
            if number:
                found[name].append(seconds)
    return {name: {"seconds": median(s), "all": [round(x, 5) for x in s]} for name, s in found.items()}
