"""Linear conditions on inputs, beside the sets that they restrict: where they hold, and points that meet them."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from tfcert.sets.balls import Box, LpBall, Perturbation
from tfcert.sets.rounding import enclosing

_ROUNDS = 60
"""How often a point is moved over each condition in turn, and back into its set, at most."""
_INSIDE = 1e-5
"""How far beyond its edge a point is moved at first, as a share of what a condition's value spans over the set."""
_GRID = 11
"""Numbers of an equation are rounded to so many bits of their width, so that the last one can be solved exactly."""
_PASSES, _HARDLY = 8, 1e-3
"""How often conditions narrow a box in turn, at most, and by what share of its width that is not worth another turn."""
_EQUAL = 1e-12
"""Two conditions are one equation where they are opposite up to this share of their coefficients."""

ExactCondition = tuple[Mapping[int, Fraction], Fraction]
"""A condition exactly: coefficients by the number's place in an input, flattened, and a constant."""


@dataclass(frozen=True, eq=False)
class Conditions:
    """Conditions ``A z + b >= 0`` on the inputs z of each sample, flattened; one that always holds is ``(0, 1)``.

    Attributes:
        rows: A, ``[batch, conditions, size]`` float64.
        offsets: b, ``[batch, conditions]`` float64.
        strict: bool ``[batch, conditions]``, where ``A z + b > 0`` is meant; None for nowhere.
        exact: of each sample its conditions as they are written, where floats round them: coefficients by the number's
            place, and b. Whether a point meets a condition is decided by these. None where floats say all.
    """

    rows: np.ndarray
    offsets: np.ndarray
    strict: np.ndarray | None = field(default=None)
    exact: Sequence[Sequence[ExactCondition]] | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.offsets)

    def take(self, index: Any) -> Conditions:
        """The conditions of some samples."""
        strict = None if self.strict is None else self.strict[index]
        exact = None if self.exact is None else [self.exact[i] for i in np.arange(len(self))[index]]
        return Conditions(self.rows[index], self.offsets[index], strict, exact)

    @property
    def never(self) -> np.ndarray:
        """Marks the samples ``[batch]`` of which some condition is false whatever the input is."""
        constant = ~(self.rows != 0).any(axis=2) & (self.offsets < 0)
        return np.asarray(constant.any(axis=1))

    def values(self, z: np.ndarray) -> np.ndarray:
        """``A z + b`` at a point of each sample, ``[batch, conditions]``, in float64."""
        flat = np.asarray(z, np.float64).reshape(len(self), -1)
        return np.asarray(np.einsum("bcn,bn->bc", self.rows, flat) + self.offsets)

    def sizes(self, z: np.ndarray) -> np.ndarray:
        """The size of the terms that :meth:`values` adds up, ``[batch, conditions]``."""
        flat = np.abs(np.asarray(z, np.float64).reshape(len(self), -1))
        return np.asarray(np.einsum("bcn,bn->bc", np.abs(self.rows), flat) + np.abs(self.offsets))

    def holds(self, z: np.ndarray) -> np.ndarray:
        """Tells whether each point ``z[i]`` meets all conditions, by exact arithmetic where floats leave a doubt."""
        flat = np.asarray(z, np.float64).reshape(len(self), -1)
        values = self.values(flat)
        doubt = 4 * (flat.shape[1] + 4) * np.finfo(np.float64).eps * self.sizes(flat)
        found = values > doubt
        for sample, number in zip(*np.nonzero(np.abs(values) <= doubt), strict=True):
            exact = self.exactly(int(sample), int(number), [Fraction(float(v)) for v in flat[sample]])
            strict = self.strict is not None and bool(self.strict[sample, number])
            found[sample, number] = exact > 0 or (exact == 0 and not strict)
        return np.asarray(found.all(axis=1))

    def exactly(self, sample: int, number: int, z: list[Fraction]) -> Fraction:
        """The value of one condition at a point."""
        row, offset = self.linear(sample, number)
        return sum((value * z[k] for k, value in row.items()), offset)

    def linear(self, sample: int, number: int) -> ExactCondition:
        """One condition exactly: its coefficients that are not 0, and b."""
        if self.exact is not None:
            return self.exact[sample][number]
        row = self.rows[sample, number]
        coefficients = {int(k): Fraction(float(row[k])) for k in np.flatnonzero(row)}
        return coefficients, Fraction(float(self.offsets[sample, number]))

    def equations(self, sample: int) -> list[int]:
        """The conditions of a sample whose opposite is one, too: together they say ``A z + b == 0``."""
        whole = np.concatenate([self.rows[sample], self.offsets[sample][:, None]], axis=1)
        size = np.abs(whole).max(axis=1)
        found = []
        for number, row in enumerate(whole):
            others = np.abs(whole[number + 1 :] + row).max(axis=1, initial=0.0)
            if size[number] > 0 and (others <= _EQUAL * size[number]).any():
                found.append(number)
        return found


def narrowed(sets: Perturbation, conditions: Conditions) -> Perturbation:
    """The sets with a narrower box around them, which still has every point of each that meets the conditions.

    Each condition bounds each number by what the others may be, in turn (interval constraint propagation), rounded
    outward. A box that no point of is left, and one around several points' balls, stay as they are.
    """
    if not isinstance(sets, Box | LpBall):
        return sets
    shape, kind = sets.lower.shape, sets.lower.dtype
    first = [end.astype(np.float64).reshape(len(sets), -1) for end in (sets.lower, sets.upper)]
    low, high = _propagated(first[0], first[1], conditions)
    if isinstance(sets, LpBall) and sets.norm != "linf":  # what is known of a clipped ball holds the centre
        center = sets.x.reshape(len(sets), -1)
        low, high = np.minimum(low, center), np.maximum(high, center)
    left = (low <= high).all(axis=1, keepdims=True)
    low, high = np.where(left, low, first[0]), np.where(left, high, first[1])
    part = copy.copy(sets)
    part.lower, part.upper = (end.reshape(shape) for end in enclosing(low, high, kind))
    return part


def surely_empty(sets: Perturbation, conditions: Conditions) -> np.ndarray:
    """Marks the samples ``[batch]`` of which no point of the box around the set meets the conditions, outward rounded.

    Where it does not, there need not be such a point: see :mod:`tfcert.complete.search.feasible`.
    """
    low, high = (end.astype(np.float64).reshape(len(sets), -1) for end in sets.interval())
    low, high = _propagated(low, high, conditions)
    gone = conditions.never | (low > high).any(axis=1)
    eps = 4 * (low.shape[1] + 4) * np.finfo(np.float64).eps
    for number in range(conditions.offsets.shape[1]):
        row, offset = conditions.rows[:, number], conditions.offsets[:, number]
        most = np.where(row > 0, row * high, row * low).sum(axis=1) + offset
        sizes = (np.abs(row) * np.maximum(np.abs(low), np.abs(high))).sum(axis=1) + np.abs(offset)
        gone |= most < -eps * sizes
    return np.asarray(gone)


def _propagated(low: np.ndarray, high: np.ndarray, conditions: Conditions) -> tuple[np.ndarray, np.ndarray]:
    """Ends ``[batch, size]`` of what conditions leave of boxes, outward rounded; a lower one above where nothing is."""
    eps = 4 * (low.shape[1] + 4) * np.finfo(np.float64).eps
    for _ in range(_PASSES):
        before = low, high
        for number in range(conditions.offsets.shape[1]):
            row, offset = conditions.rows[:, number], conditions.offsets[:, number][:, None]
            most = np.where(row > 0, row * high, row * low)
            sizes = np.abs(row) * np.maximum(np.abs(low), np.abs(high))
            lost = eps * (sizes.sum(axis=1, keepdims=True) + np.abs(offset))
            rest = most.sum(axis=1, keepdims=True) - most + offset + lost  # of the others: row * z >= -rest
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                end = -rest / row
                end += np.where(row > 0, -1, 1) * eps * np.abs(end)
            low = np.where((row > 0) & np.isfinite(end), np.maximum(low, end), low)
            high = np.where((row < 0) & np.isfinite(end), np.minimum(high, end), high)
        if (np.abs(low - before[0]) + np.abs(high - before[1]) <= _HARDLY * (before[1] - before[0])).all():
            break
    return low, high


def moved_into(sets: Perturbation, conditions: Conditions, z: np.ndarray) -> np.ndarray:
    """Points of the sets near ``z`` that meet the conditions, as far as they are found: alternating projections.

    Each is moved over the edge of every condition in turn and back into its set, which ends in a common point where
    there is one with room around it (Bauschke and Borwein 1996, "On projection algorithms for solving convex
    feasibility problems"). Equations are then solved exactly. A number moves as far as it may relative to the others.

    Returns:
        Points of the sets ``[batch, *input]`` in the type of ``z``; ask :meth:`Conditions.holds` which of them do.
    """
    best = sets.project(z)
    open_ = np.flatnonzero(~conditions.holds(best))
    for inside in (_INSIDE, 0.0):
        if not len(open_):
            return best
        some = sets.take(open_)
        found = _alternated(some, conditions.take(open_), z[open_], inside)
        holds = conditions.take(open_).holds(found)
        best[open_[holds]] = found[holds]
        open_, found = open_[~holds], found[~holds]
    for place, sample in enumerate(open_):
        settled = solved_exactly(sets.take([sample]), conditions.take([sample]), found[place])
        if settled is not None:
            point = np.array([float(v) for v in settled]).reshape(1, *z.shape[1:]).astype(z.dtype)
            if sets.take([sample]).contains(point)[0] and conditions.take([sample]).holds(point)[0]:
                found[place] = point[0]
        best[sample] = found[place]
    return best


def _alternated(sets: Perturbation, conditions: Conditions, z: np.ndarray, inside: float) -> np.ndarray:
    width = sets.upper.astype(np.float64).reshape(len(z), -1) - sets.lower.astype(np.float64).reshape(len(z), -1)
    reach = np.einsum("bcn,bn->bc", np.abs(conditions.rows), width)
    length = np.einsum("bcn,bn->bc", conditions.rows**2, width**2)
    point = sets.project(z)
    for _ in range(_ROUNDS):
        flat = point.astype(np.float64).reshape(len(z), -1)
        for number in range(conditions.offsets.shape[1]):
            row = conditions.rows[:, number]
            value = (row * flat).sum(axis=1) + conditions.offsets[:, number] - inside * reach[:, number]
            share = np.divide(np.maximum(-value, 0), length[:, number], where=length[:, number] > 0, out=0 * value)
            flat = flat + share[:, None] * width**2 * row
        point = sets.project(flat.reshape(z.shape).astype(z.dtype))
        if conditions.holds(point).all():
            break
    return point


def solved_exactly(sets: Perturbation, conditions: Conditions, z: np.ndarray) -> list[Fraction] | None:
    """A point near ``z`` (of one sample, flattened) on which the equations among the conditions hold exactly.

    Each equation is solved for the number that has most room, the others being rounded to few bits. Ask whoever wants
    the point where it lies.

    Returns:
        Its numbers; None where the equations contradict each other.
    """
    low, high = (end.astype(np.float64).reshape(-1) for end in (sets.lower, sets.upper))
    width, point = high - low, np.asarray(z, np.float64).reshape(-1).copy()
    equations = conditions.equations(0)
    touched = (np.abs(conditions.rows[0][equations]).max(axis=0, initial=0.0) > 0) & (width > 0)
    step = np.where(touched, 2.0 ** np.ceil(np.log2(np.where(touched, width, 1.0)) - _GRID), 1.0)
    snapped = np.where(touched, np.round(point / step) * step, point)
    point = np.where((snapped >= low) & (snapped <= high), snapped, point)
    exact = [Fraction(float(v)) for v in point]
    solved: list[tuple[int, dict[int, Fraction], Fraction]] = []
    for number in equations:
        known, offset = conditions.linear(0, number)
        row = dict(known)
        for pivot, terms, constant in solved:
            weight = row.pop(pivot, Fraction(0))
            offset += weight * constant
            for k, term in terms.items():
                row[k] = row.get(k, Fraction(0)) + weight * term
        free = {k: v for k, v in row.items() if v != 0 and width[k] > 0}
        if not free:
            if offset + sum((v * exact[k] for k, v in row.items()), Fraction(0)) != 0:
                return None
            continue
        pivot = max(free, key=lambda k: abs(float(free[k])) * width[k])
        own = row.pop(pivot)
        terms, constant = {k: -v / own for k, v in row.items() if v != 0}, -offset / own
        solved = [_substituted(entry, pivot, terms, constant) for entry in solved]
        solved.append((pivot, terms, constant))
    for pivot, terms, constant in solved:
        exact[pivot] = constant + sum((v * exact[k] for k, v in terms.items()), Fraction(0))
    return exact


def _substituted(
    entry: tuple[int, dict[int, Fraction], Fraction], pivot: int, terms: dict[int, Fraction], constant: Fraction
) -> tuple[int, dict[int, Fraction], Fraction]:
    """A solved number in terms of others, with one of these replaced by its own terms."""
    own, old, offset = entry
    weight = old.get(pivot, Fraction(0))
    found = {k: v for k, v in old.items() if k != pivot}
    for k, term in terms.items():
        found[k] = found.get(k, Fraction(0)) + weight * term
    return own, found, offset + weight * constant
