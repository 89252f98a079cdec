"""Bounds that a test makes up, in place of those that are computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

BOUNDS = "tfcert.rigour.radius.clause_bounds"
"""What stages that bound ask."""


def of_clauses(bounds: Callable[..., np.ndarray]) -> Callable[..., tuple[np.ndarray, None]]:
    """A function of ``(network, sets, coefficients, offsets)`` that bounds rows, as one that bounds clauses."""

    def replaced(network: Any, sets: Any, clauses: Any, **how: Any) -> tuple[np.ndarray, None]:
        return bounds(network, sets, *clauses.rows(), **how), None

    return replaced
