"""Bounds of clauses of several rows: of each row, and of the best combination of a clause's rows."""

from __future__ import annotations

import numpy as np

from tfcert.attacks.conditions import condition_rows
from tfcert.catalog import METHODS
from tfcert.clauses import Clauses
from tfcert.network import Network
from tfcert.network.shown import shown_inputs
from tfcert.options import BoundOptions
from tfcert.propagation.combined import Together
from tfcert.propagation.engine import lower_bounds, prepared_bounds, warn_of_domains
from tfcert.sets.balls import Perturbation

_ROUNDED = 8.0
"""So many units of rounding are taken from a condition's row for each multiple of it."""


def clause_bounds(
    network: Network,
    perturbation: Perturbation,
    clauses: Clauses,
    *,
    method: str = "crown",
    relaxation: str | None = None,
    options: BoundOptions | None = None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Lower bounds of the rows of clauses and, where a clause has several, of the best combination of its rows.

    Args as for :func:`lower_bounds`, with clauses for rows.

    Returns:
        What :func:`lower_bounds` returns for :meth:`~tfcert.clauses.Clauses.rows`; and ``[batch, clauses]``: lower
        bounds of a combination of each clause's rows, with multipliers of at least 0. Those of conditions (rows over
        inputs that the network shows) have no limit, so that the bound is that of the other rows where no condition row
        holds; those of the others add up to 1. None where each clause is one row, or where a solver is asked, which
        :class:`tfcert.complete.bounds` asks about clauses.

    Raises:
        ValueError: as for :func:`lower_bounds`.
    """
    rows, offsets = clauses.rows()
    if METHODS.find(method).asks_solver or not clauses.disjunctive or not len(clauses):
        lower = lower_bounds(
            network, perturbation, rows, offsets, method=method, relaxation=relaxation, options=options
        )
        return lower, None
    together = clauses_of(network, perturbation, clauses)
    question = prepared_bounds(
        network, perturbation, rows, offsets, method=method, relaxation=relaxation, options=options, together=together
    )
    (bounds,) = question.run()
    warn_of_domains(network, bounds[:, : rows.shape[1]])
    lower, combined = np.split(bounds, [rows.shape[1]], axis=1)
    return lower, combined if combined.size else None  # a method need not combine rows


def clauses_of(network: Network, perturbation: Perturbation, clauses: Clauses) -> Together:
    """The clauses that rows make up, as arrays: rows over inputs that the network shows are conditions."""
    shown = shown_inputs(network)
    counts, conditions = clauses.counts.copy(), condition_rows(network, clauses)
    counts[..., 0] |= ~counts.any(axis=2)
    weighs = counts & ~conditions
    _, offsets = clauses.rows()
    # The multiplier of a condition has no limit, and what rounding makes of its row is multiplied with it.
    ends = np.maximum(np.abs(perturbation.lower), np.abs(perturbation.upper)).reshape(len(clauses), -1)
    sizes = np.abs(clauses.coefficients[..., shown >= 0]) @ ends[:, shown[shown >= 0]][:, None, :, None]
    sizes = sizes[..., 0] + np.abs(np.where(np.isfinite(clauses.offsets), clauses.offsets, 0.0))
    lost = np.where(conditions, _ROUNDED * np.finfo(network.dtype.as_numpy_dtype).eps * sizes, 0.0)
    flat = offsets.shape
    return Together(counts.shape[2], offsets - lost.reshape(flat), counts.reshape(flat), weighs.reshape(flat))
