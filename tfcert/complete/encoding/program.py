"""Mixed-integer linear programs as plain arrays: what is sent to a solver's process, and what its answer is checked by.

NumPy only. A program may ask for squares, ``v[square] >= v[root]^2``, which linear solvers see as tangents.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np


@dataclass(frozen=True)
class Program:
    """Minimise ``objective . v + constant`` over ``lower <= v <= upper`` and the rows ``A v <= right`` (or ``==``).

    Attributes:
        lower, upper: ``[variables]`` float64, all finite.
        integer: ``[variables]`` bool.
        objective: ``[variables]`` float64; ``constant`` a number.
        starts, columns, values: A in compressed rows: row r has entries ``starts[r]:starts[r + 1]``.
        right: ``[rows]``; ``equal``: ``[rows]`` bool.
        squares: ``[n, 2]`` pairs (root, square) of variables.
    """

    lower: np.ndarray
    upper: np.ndarray
    integer: np.ndarray
    objective: np.ndarray
    constant: np.ndarray
    starts: np.ndarray
    columns: np.ndarray
    values: np.ndarray
    right: np.ndarray
    equal: np.ndarray
    squares: np.ndarray

    @property
    def binaries(self) -> int:
        """The number of integer variables."""
        return int(self.integer.sum())

    def to_bytes(self) -> bytes:
        """The arrays as an npz file."""
        return pack({f.name: getattr(self, f.name) for f in fields(self)})

    @classmethod
    def from_bytes(cls, data: bytes) -> Program:
        return cls(**unpack(data))

    def products(self, v: np.ndarray) -> np.ndarray:
        """``A v``, ``[rows]``."""
        return _row_sums(self.starts, self.values * v[self.columns])

    def violation(self, v: np.ndarray) -> float:
        """By how much a point breaks a bound, a row or a square at most; integrality is not looked at."""
        excess = self.products(v) - self.right
        parts = [self.lower - v, v - self.upper, np.where(self.equal, np.abs(excess), excess)]
        if len(self.squares):
            parts.append(v[self.squares[:, 0]] ** 2 - v[self.squares[:, 1]])
        return max((float(part.max()) for part in parts if part.size), default=0.0)

    def value(self, v: np.ndarray) -> float:
        """The objective at a point."""
        return float(self.objective @ v + self.constant)

    def dual_bound(self, prices: np.ndarray) -> float:
        """A lower bound of the linear relaxation from any prices of the rows, whoever found them: weak duality.

        For prices p (at most 0 on inequalities) the least of ``c v + p (right - A v)`` over the box bounds the
        minimum from below (Neumaier and Shcherbina, "Safe bounds in linear and mixed-integer programming", 2004).
        Evaluated in float64, less the most that rounding can have added, so that huge prices prove nothing that is not
        so; -inf where they overflow. It holds of the program as it stands: k roundings add at most ``gamma_k`` times
        the sum of the terms' sizes (Higham 2002, section 3.1), and what is lost below the normal numbers, a tiny number
        each. What that says of a network is up to the rows; see :mod:`tfcert.complete.encoding.rounded`.

        Args:
            prices: ``[rows]``, of either sign convention; signs that prove nothing are cut off.
        """
        return max(self._bound(prices), self._bound(-prices))

    def elastic(self, cost: float) -> Program:
        """The program whose rows may be broken at a cost, by as much as its bounds allow: it always has a solution.

        Each of its points of no violation is one of this program, so its minimum is no greater, and a lower bound of it
        is one of this program's; where this one has no solution, a large one.
        """
        count, rows = len(self.lower), len(self.right)
        row = np.repeat(np.arange(rows), np.diff(self.starts))
        reach = np.abs(self.values) * np.maximum(np.abs(self.lower), np.abs(self.upper))[self.columns]
        most = np.bincount(row, weights=reach, minlength=rows) + np.abs(self.right)
        both = np.concatenate([np.arange(rows), np.flatnonzero(self.equal)])
        signs = np.concatenate([-np.ones(rows), np.ones(int(self.equal.sum()))])
        row = np.concatenate([row, both])
        column = np.concatenate([self.columns, count + np.arange(len(both))])
        value = np.concatenate([self.values, signs])
        order = np.argsort(row, kind="stable")
        extra = np.zeros(len(both))
        return replace(
            self,
            lower=np.concatenate([self.lower, extra]),
            upper=np.concatenate([self.upper, most[both]]),
            integer=np.concatenate([self.integer, extra.astype(bool)]),
            objective=np.concatenate([self.objective, extra + cost]),
            starts=np.searchsorted(row[order], np.arange(rows + 1)),
            columns=column[order],
            values=value[order],
        )

    def with_tangents(self, tangents: np.ndarray) -> Program:
        """The program with the rows ``2 p v[root] - v[square] <= p^2`` of ``tangents``, ``[n, 3]``: root, square, p.

        Raises:
            ValueError: a root and a square that do not belong together, or a p that is not finite: no tangent.
        """
        roots, squares, points = tangents[:, 0].astype(np.int64), tangents[:, 1].astype(np.int64), tangents[:, 2]
        pairs = set(map(tuple, self.squares.tolist()))
        if not np.isfinite(points).all() or not pairs.issuperset(zip(roots.tolist(), squares.tolist(), strict=True)):
            raise ValueError("rows that are no tangents of the program's squares")
        ends = self.starts[-1] + 2 * np.arange(1, len(points) + 1)
        return replace(
            self,
            starts=np.concatenate([self.starts, ends]),
            columns=np.concatenate([self.columns, np.stack([roots, squares], axis=1).ravel()]),
            values=np.concatenate([self.values, np.stack([2 * points, np.full(len(points), -1.0)], axis=1).ravel()]),
            right=np.concatenate([self.right, np.nextafter(points**2, np.inf)]),
            equal=np.concatenate([self.equal, np.zeros(len(points), bool)]),
        )

    def _bound(self, prices: np.ndarray) -> float:
        prices = np.where(np.isfinite(prices), prices, 0.0)
        prices = np.where(self.equal, prices, np.minimum(prices, 0.0))
        rows = np.repeat(np.arange(len(self.right)), np.diff(self.starts))
        count = len(self.lower)
        with np.errstate(over="ignore", invalid="ignore"):
            shares = self.values * prices[rows]
            reduced = self.objective - np.bincount(self.columns, weights=shares, minlength=count)
            ends = np.where(reduced > 0, reduced * self.lower, reduced * self.upper)
            weights = np.abs(self.objective) + np.bincount(self.columns, weights=np.abs(shares), minlength=count)
            reach = np.maximum(np.abs(self.lower), np.abs(self.upper))
            size = float(weights @ reach + np.abs(prices) @ np.abs(self.right) + np.abs(self.constant))
            longest = np.bincount(self.columns).max(initial=0) + count + len(prices) + 4
            limits = np.finfo(np.float64)
            small = longest * limits.tiny * (1.0 + float(reach.sum()) + float(np.abs(prices).sum()))
            bound = float(ends.sum() + prices @ self.right + self.constant) - longest * limits.eps * size - small
        return bound if np.isfinite(bound) else -np.inf


def _row_sums(starts: np.ndarray, entries: np.ndarray) -> np.ndarray:
    """Sums of each row alone: differences of a running sum would lose digits over long programs."""
    sums = np.zeros(len(starts) - 1)
    filled = np.flatnonzero(np.diff(starts))
    if len(filled):
        sums[filled] = np.add.reduceat(entries, starts[:-1][filled])
    return sums


def pack(arrays: dict[str, np.ndarray]) -> bytes:
    """Arrays as an npz file in memory."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def unpack(data: bytes) -> dict[str, np.ndarray]:
    """The program that :func:`pack` wrote.

    Raises:
        ValueError: it is no such file.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:
        raise ValueError(f"not a message: {error}") from error


RowTerm = tuple[np.ndarray, "np.ndarray | float"]
"""``(columns [rows], coefficients [rows] or one)``: one entry a row; or ``(columns [n], matrix [rows, n])``."""


@dataclass
class ProgramBuilder:
    """A program under construction."""

    _lower: list[np.ndarray] = field(default_factory=list)
    _upper: list[np.ndarray] = field(default_factory=list)
    _integer: list[np.ndarray] = field(default_factory=list)
    _entries: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = field(default_factory=list)
    _right: list[np.ndarray] = field(default_factory=list)
    _equal: list[np.ndarray] = field(default_factory=list)
    _squares: list[np.ndarray] = field(default_factory=list)
    _variables: int = 0
    _rows: int = 0

    def copy(self) -> ProgramBuilder:
        """The same program, to be continued in another way."""
        return ProgramBuilder(**{f.name: copy.copy(getattr(self, f.name)) for f in fields(self)})

    def variables(self, lower: np.ndarray, upper: np.ndarray, integer: bool = False) -> np.ndarray:
        """New variables; returns their numbers, shaped like the bounds."""
        lower, upper = np.broadcast_arrays(np.asarray(lower, np.float64), np.asarray(upper, np.float64))
        numbers = np.arange(self._variables, self._variables + lower.size).reshape(lower.shape)
        self._lower.append(lower.ravel())
        self._upper.append(upper.ravel())
        self._integer.append(np.full(lower.size, integer))
        self._variables += lower.size
        return numbers

    def binaries(self, count: int) -> np.ndarray:
        """``count`` new variables that are 0 or 1."""
        return self.variables(np.zeros(count), np.ones(count), integer=True)

    def rows(self, terms: Sequence[RowTerm], right: np.ndarray, equal: bool = False) -> None:
        """Rows ``sum of terms <= right`` (or ``==``)."""
        right = np.atleast_1d(np.asarray(right, np.float64))
        count = len(right)
        for columns, coefficients in terms:
            columns, coefficients = np.asarray(columns), np.asarray(coefficients, np.float64)
            if coefficients.ndim == 2:
                row, place = np.nonzero(coefficients)
                entry = (row, columns[place], coefficients[row, place])
            else:
                entry = (np.arange(count), columns, np.broadcast_to(coefficients, count))
            self._entries.append((entry[0] + self._rows, entry[1], entry[2]))
        self._right.append(right)
        self._equal.append(np.full(count, equal))
        self._rows += count

    def entries(self, row: np.ndarray, column: np.ndarray, value: np.ndarray) -> None:
        """More entries of the rows that the next :meth:`rows` adds, ``row`` counted from its first."""
        self._entries.append((row + self._rows, column, value))

    def squares(self, root: np.ndarray, square: np.ndarray) -> None:
        """Asks for ``v[square] >= v[root]^2``."""
        self._squares.append(np.stack([root, square], axis=1))

    def program(self, objective: RowTerm, constant: float = 0.0) -> Program:
        """The program that minimises ``sum of coefficients * v[columns] + constant``."""
        costs = np.zeros(self._variables)
        np.add.at(costs, np.asarray(objective[0]), np.asarray(objective[1], np.float64))
        empty = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
        row, column, value = (np.concatenate(part) for part in zip(empty, *self._entries, strict=True))
        order = np.lexsort((column, row))
        row, column, value = row[order], column[order], value[order]
        # Several terms may name the same variable in a row.
        first = np.ones(len(row), bool)
        first[1:] = (row[1:] != row[:-1]) | (column[1:] != column[:-1])
        if not first.all():
            value = np.add.reduceat(value, np.flatnonzero(first))
            row, column = row[first], column[first]
        return Program(
            lower=_joined(self._lower),
            upper=_joined(self._upper),
            integer=_joined(self._integer).astype(bool),
            objective=costs,
            constant=np.array(float(constant)),
            starts=np.searchsorted(row, np.arange(self._rows + 1)),
            columns=column,
            values=value,
            right=_joined(self._right),
            equal=_joined(self._equal).astype(bool),
            squares=np.concatenate([np.zeros((0, 2), np.int64), *self._squares]).astype(np.int64),
        )


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts) if parts else np.zeros(0)
