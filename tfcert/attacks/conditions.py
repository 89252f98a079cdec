"""Conditions on inputs that clauses state: rows over inputs that the network shows, which a witness must not hold."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import numpy as np

from tfcert.clauses import Clauses
from tfcert.network.graph import Network
from tfcert.network.shown import shown_inputs
from tfcert.sets.balls import Perturbation
from tfcert.sets.conditions import Conditions, narrowed


def condition_rows(network: Network, clauses: Clauses) -> np.ndarray:
    """Marks rows over shown inputs alone, in clauses that have others: bool ``[batch, clauses, rows]``."""
    shown = shown_inputs(network) >= 0
    if not shown.any():
        return np.zeros(clauses.offsets.shape, bool)
    marks = clauses.over(shown)
    return np.asarray(marks & (clauses.counts & ~marks).any(axis=2, keepdims=True))


def limits(network: Network, clauses: Clauses) -> list[Conditions] | None:
    """For each clause the conditions that inputs meet where none of its condition rows holds; None where no clause of
    any sample has a row over shown inputs alone.

    Where all rows of a clause are such, it has no conditions here: it is about inputs alone.
    """
    marks, shown = condition_rows(network, clauses), shown_inputs(network)
    if not marks.any():
        return None
    size, places = math.prod(network.input_shape), np.flatnonzero(shown >= 0)
    found = []
    for number in range(marks.shape[1]):
        rows = np.zeros((len(clauses), marks.shape[2], size))
        here = clauses.coefficients[:, number]
        for place in places:  # an input may be shown several times
            rows[..., shown[place]] -= np.where(marks[:, number], here[..., place], 0.0)
        offsets = np.where(marks[:, number], -clauses.offsets[:, number], 1.0)
        found.append(Conditions(rows, offsets))
    return found


def within_limits(network: Network, sets: Perturbation, clauses: Clauses) -> Perturbation:
    """The sets with a narrower box around them: a clause holds wherever else, since one of its condition rows does.

    It is the smallest that holds what is left for each clause; see :func:`~tfcert.sets.conditions.narrowed`.
    """
    every = limits(network, clauses)
    if every is None:
        return sets
    asked = np.asarray(clauses.counts.any(axis=2))
    ends = []
    for number, conditions in enumerate(every):
        part, rest = narrowed(sets, conditions), ~asked[:, number].reshape(-1, *[1] * (sets.lower.ndim - 1))
        ends.append((np.where(rest, np.inf, part.lower), np.where(rest, -np.inf, part.upper)))
    low, high = np.min([low for low, _ in ends], axis=0), np.max([high for _, high in ends], axis=0)
    left = low <= high
    whole = copy.copy(sets)
    whole.lower = np.where(left, low, sets.lower).astype(sets.lower.dtype)
    whole.upper = np.where(left, high, sets.upper).astype(sets.upper.dtype)
    return whole


def different(every: Sequence[Conditions]) -> list[Conditions]:
    """Conditions of several clauses without those that say the same; what always holds is none."""
    found: list[Conditions] = []
    for conditions in every:
        same = (_alike(conditions, other) for other in found)
        if (conditions.rows != 0).any() and not any(same):
            found.append(conditions)
    return found


def _alike(one: Conditions, other: Conditions) -> bool:
    return np.array_equal(one.rows, other.rows) and np.array_equal(one.offsets, other.offsets)
