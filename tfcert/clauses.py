"""What an attack tries to break: clauses over the outputs, stacked so that a batch is one tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tfcert.verdict import Clause, require_classes


class Clauses(NamedTuple):
    """A conjunction of clauses for each sample; a clause is a disjunction of rows ``C y + d > 0``.

    Attributes:
        coefficients: C, ``[batch, clauses, rows, outputs]`` float64.
        offsets: d, ``[batch, clauses, rows]`` float64; ``-inf`` marks a row that is only padding, ``+inf`` one that
            always holds.
    """

    coefficients: np.ndarray
    offsets: np.ndarray

    def take(self, index: Any) -> Clauses:
        """The clauses of some samples."""
        return Clauses(self.coefficients[index], self.offsets[index])

    def margin(self, outputs: np.ndarray) -> np.ndarray:
        """The property's margin on outputs ``[batch, ...]``: least clause, best row, in float64; ``[batch]``.

        The property holds where it is positive. NaN where an output is not finite: such an output settles nothing.
        """
        flat = np.asarray(outputs, np.float64).reshape(len(outputs), -1)
        settled = np.asarray(np.isfinite(flat).all(axis=1))
        rows = np.einsum("bcro,bo->bcr", self.coefficients, np.where(settled[:, None], flat, 0.0)) + self.offsets
        return np.where(settled, rows.max(axis=2).min(axis=1), np.nan)


def stack_clauses(clauses: Sequence[Sequence[Clause]]) -> Clauses:
    """Stacks one list of clauses a sample; short clauses are padded with rows ``(0, -inf)``, which never hold, and
    short lists with clauses ``(0, +inf)``, which always do.

    Raises:
        ValueError: a sample has no clause, a clause no row, or the outputs differ in number.
    """
    if not all(clauses) or not all(len(clause.offsets) for sample in clauses for clause in sample):
        raise ValueError("every sample needs at least one clause, and every clause at least one row")
    every = [clause for sample in clauses for clause in sample]
    outputs = {np.shape(clause.coefficients)[1] for clause in every}
    if len(outputs) != 1:
        raise ValueError(f"clauses over {sorted(outputs)} outputs cannot be attacked together")
    shape = (len(clauses), max(map(len, clauses)), max(len(clause.offsets) for clause in every))
    coefficients = np.zeros((*shape, outputs.pop()))
    offsets = np.full(shape, -np.inf)
    for i, sample in enumerate(clauses):
        for j, clause in enumerate(sample):
            coefficients[i, j, : len(clause.offsets)] = clause.coefficients
            offsets[i, j, : len(clause.offsets)] = clause.offsets
        offsets[i, len(sample) :] = np.inf
    return Clauses(coefficients, offsets)


def keeps_label(y: np.ndarray, outputs: int) -> Clauses:
    """``argmax == y``: for every other class j a clause ``f_y - f_j > 0``."""
    others = _others(y, outputs)
    coefficients = np.eye(outputs)[y][:, None] - np.eye(outputs)[others]
    return Clauses(coefficients[:, :, None, :], np.zeros((*others.shape, 1)))


def misses_target(targets: np.ndarray, outputs: int) -> Clauses:
    """``argmax != target``: one clause, whose rows are ``f_j - f_target > 0`` for every other class j."""
    others = _others(targets, outputs)
    coefficients = np.eye(outputs)[others] - np.eye(outputs)[targets][:, None]
    return Clauses(coefficients[:, None], np.zeros((len(others), 1, others.shape[1])))


def _others(y: np.ndarray, outputs: int) -> np.ndarray:
    """``[batch, outputs - 1]``: the classes other than ``y``."""
    require_classes(outputs)
    if (y < 0).any() or (y >= outputs).any():
        raise ValueError(f"labels must be class indices from 0 to {outputs - 1}; found {y.min()} to {y.max()}")
    return np.array([[j for j in range(outputs) if j != label] for label in y], np.int64).reshape(len(y), outputs - 1)
