"""Combinations for certificates: shares of a clause's rows whose sum is positive where no single row is.

A clause holds where a combination of its rows with shares that are not negative is positive. Its bound is concave in
the shares, for lines that stay, and changes with a share as the row's value where the bound is attained: a
supergradient, along which shares are multiplied (Kivinen and Warmuth 1997, "Exponentiated gradient").
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfcert.certification.slopes import attained
from tfcert.proof.bounds import Bounds

_STEPS, _RATE = 60, 1.0


def shares_of(
    bounds: Bounds, rows: np.ndarray, offsets: np.ndarray, clauses: Sequence[np.ndarray], wanted: float
) -> np.ndarray:
    """The shares ``[rows]`` of each clause's rows, at which the bound of their sum was best; they add up to 1.

    Args:
        clauses: the numbers of each clause's rows.
        wanted: where the bounds of all clauses are above that, the search ends.
    """
    last = len(bounds.graph.places) - 1
    shares = np.zeros((len(clauses), len(rows)))
    for clause, some in enumerate(clauses):
        shares[clause, some] = 1.0 / len(some)
    best, least = shares.copy(), np.full(len(clauses), -np.inf)
    for step in range(_STEPS):
        found = bounds.least(last, shares @ rows, shares @ offsets)
        best[found > least] = shares[found > least]
        least = np.maximum(found, least)
        if (least > wanted).all():
            break
        values = attained(bounds, shares @ rows) @ rows.T + offsets
        scale = np.abs(np.where(shares > 0, values, 0.0)).max(axis=1, keepdims=True)
        grown = shares * np.exp(_RATE / np.sqrt(1.0 + step) * values / np.maximum(scale, 1e-30))
        grown = np.where(shares > 0, np.maximum(grown, 1e-12), 0.0)
        shares = grown / grown.sum(axis=1, keepdims=True)
    return np.asarray(best.sum(axis=0))
