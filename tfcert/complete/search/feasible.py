"""Common points of sets and linear conditions: a claim about none of them would be vacuous.

A point is found by moving the centre into the conditions or by a linear program, and is checked exactly. That there is
none is proven by the program's dual prices, whatever its solver says. An L2 ball is what its tangents leave of it,
which is never smaller.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from tfcert.complete.encoding.program import Program
from tfcert.complete.encoding.sets import encode_set
from tfcert.complete.encoding.variables import EncodingOptions
from tfcert.complete.solver.process import SolverError, SolverProcess
from tfcert.errors import UsageError
from tfcert.sets.balls import Perturbation
from tfcert.sets.conditions import Conditions, moved_into, solved_exactly

_SECONDS = 60.0
"""What the linear program of one sample may take."""
_EMPTY = 1e-9
"""By how much all points break a condition (relative to what it spans over the set) where there is no common point."""


@dataclass(frozen=True)
class CommonPoint:
    """The answer for one sample.

    Attributes:
        point: an input of the set ``[*input]``, in its type, that meets the conditions; None where none was found.
        exact: whether it does so as it stands; where not, its numbers are those of one that does, rounded.
        empty: whether it is proven that there is none (``numeric``).
        reason: where neither is known, why.
    """

    point: np.ndarray | None
    exact: bool = True
    empty: bool = False
    reason: str = ""


def common_points(
    sets: Perturbation, conditions: Conditions, solver: SolverProcess | None = None, seconds: float = _SECONDS
) -> list[CommonPoint]:
    """For each sample a point that lies in its set and meets its conditions, or a proof that there is none.

    Args:
        sets: one a sample.
        conditions: on the same samples.
        solver: is asked where moving the centre finds none; None for a process of its own.
        seconds: that it may take for each sample.
    """
    points = moved_into(sets, conditions, sets.center)
    inside = sets.contains(points) & conditions.holds(points)
    found: list[CommonPoint] = []
    with contextlib.ExitStack() as stack:
        for i, good in enumerate(inside):
            if not good and solver is None:
                solver = stack.enter_context(SolverProcess())
            if good:
                found.append(CommonPoint(points[i]))
            else:
                assert solver is not None
                found.append(_by_program(sets.take([i]), conditions.take([i]), solver, seconds))
    return found


def require_common_points(
    sets: Perturbation, conditions: Conditions, name: str, samples: Sequence[int] | None = None
) -> np.ndarray:
    """The points of :func:`common_points`, ``[batch, *input]``.

    Args:
        name: of the question, with which messages begin.
        samples: their numbers in messages; None for their places.

    Raises:
        UsageError: a set and its conditions have no common point, or none was found.
    """
    found = common_points(sets, conditions)
    for i, one in enumerate(found):
        where = "" if len(found) == 1 and samples is None else f" of sample {i if samples is None else samples[i]}"
        if one.empty:
            raise UsageError(
                f"{name}: no input of the region{where} meets the conditions of `where`, so whatever is asked of them "
                "would hold of nothing; widen the region or drop a condition"
            )
        if one.point is None:
            raise UsageError(
                f"{name}: no input of the region{where} was found that meets the conditions of `where`, nor is it "
                f"proven that there is none ({one.reason}); nothing is claimed of what may be empty"
            )
    shape = sets.lower.shape
    return np.stack([one.point for one in found if one.point is not None]) if found else np.zeros(shape)


def _by_program(sets: Perturbation, conditions: Conditions, solver: SolverProcess, seconds: float) -> CommonPoint:
    """One sample by the linear program of the least breach of its conditions."""
    low, high = (end.astype(np.float64).reshape(-1) for end in sets.interval())
    rows, offsets = conditions.rows[0], conditions.offsets[0]
    moving = (low < high) & (np.abs(rows) > 0)
    fixed = ~moving.any(axis=1)
    values = rows @ low + offsets
    if (values[fixed] < -_EMPTY * (np.abs(rows[fixed]) @ np.abs(low) + np.abs(offsets[fixed]))).any():
        return CommonPoint(None, empty=True)
    program, inputs = _least_breach(sets, rows[~fixed], offsets[~fixed])
    try:
        answer = solver.solve(program, seconds, relax=True)
    except SolverError as error:
        return CommonPoint(None, reason=f"the solver failed: {error}")
    if answer.proven_bound() > _EMPTY:
        return CommonPoint(None, empty=True)
    if answer.v is None:
        return CommonPoint(None, reason=f"the solver ended with {answer.status}")
    for point in _near(sets, conditions, answer.v[inputs]):
        if sets.contains(point)[0] and conditions.holds(point)[0]:
            return CommonPoint(point[0])
    # What breaks nothing most may lie in a corner of the set, where no number can be moved to solve an equation.
    found = _rounded(sets, conditions, answer.v[inputs])
    with contextlib.suppress(SolverError):
        deepest = solver.solve(_deepest(sets, conditions), seconds, relax=True).v
        if found.point is None and deepest is not None:
            return _rounded(sets, conditions, deepest[inputs])
    return found


def _deepest(sets: Perturbation, conditions: Conditions) -> Program:
    """The program of a point as far within the set's box, and within the conditions that are no equations, as any.

    Its first variables are the input's.
    """
    encoding = encode_set(sets.astype(np.float64), EncodingOptions(relax=True), False)
    builder, inputs = encoding.builder, encoding.inputs
    low, high = (end[0].astype(np.float64).reshape(-1) for end in sets.interval())
    rows, offsets = conditions.rows[0], conditions.offsets[0]
    equal = conditions.equations(0)
    opposite = [k for k in range(len(rows)) for j in equal if np.allclose(rows[k], -rows[j], rtol=_EMPTY, atol=0)]
    span = np.abs(rows) @ (high - low)
    inset = builder.variables(np.zeros(1), np.full(1, 0.5))
    columns, unit, width = np.concatenate([inputs, inset]), np.eye(len(low)), (high - low)[:, None]
    builder.rows([(columns, np.concatenate([-unit, width], axis=1))], -low)
    builder.rows([(columns, np.concatenate([unit, width], axis=1))], high)
    room = np.where(np.isin(np.arange(len(rows)), [*equal, *opposite]), 0.0, span)[:, None]
    builder.rows([(columns, np.concatenate([-rows, room], axis=1))], offsets + _EMPTY * span)
    return builder.program((inset, -np.ones(1)))


def _least_breach(sets: Perturbation, rows: np.ndarray, offsets: np.ndarray) -> tuple[Program, np.ndarray]:
    """The program, and its variables of the input.

    It minimises t, where each condition's value is at least ``-t`` times what it spans over the set's box.
    """
    encoding = encode_set(sets.astype(np.float64), EncodingOptions(relax=True), False)
    builder, inputs = encoding.builder, encoding.inputs
    low, high = (end[0].astype(np.float64).reshape(-1) for end in sets.interval())
    span = np.abs(rows) @ (high - low)
    least = np.where(rows > 0, rows * low, rows * high).sum(axis=1) + offsets
    most = 1.0 + float((-least / span).max(initial=0.0))
    breach = builder.variables(np.array([-1.0]), np.array([most]))
    columns = np.concatenate([inputs, breach])
    if len(rows):
        builder.rows([(columns, np.concatenate([-rows, -span[:, None]], axis=1))], offsets)
    return builder.program((breach, np.ones(1))), inputs


def _near(sets: Perturbation, conditions: Conditions, x: np.ndarray) -> Iterator[np.ndarray]:
    """A solver's point in the set's type, as it is and moved into the conditions."""
    point = x.reshape(sets.lower.shape).astype(sets.lower.dtype)
    yield sets.project(point)
    yield moved_into(sets, conditions, point)


def _rounded(sets: Perturbation, conditions: Conditions, x: np.ndarray) -> CommonPoint:
    """A point in exact arithmetic that no float may have: one that solves the equations among the conditions."""
    exact = solved_exactly(sets, conditions, x)
    if exact is None:
        return CommonPoint(None, reason="the equations among them contradict each other but for rounding")
    wide = sets.astype(np.float64)
    near = np.array([float(v) for v in exact]).reshape(wide.lower.shape)
    low, high = ([Fraction(float(v)) for v in end.flat] for end in (wide.lower, wide.upper))
    inside = all(a <= v <= b for a, v, b in zip(low, exact, high, strict=True)) and wide.contains(near)[0]
    values = [conditions.exactly(0, k, exact) for k in range(conditions.offsets.shape[1])]
    strict = conditions.strict
    met = [v > 0 or (v == 0 and not (strict is not None and strict[0, k])) for k, v in enumerate(values)]
    if inside and all(met):
        return CommonPoint(sets.project(near.astype(sets.lower.dtype))[0], exact=False)
    return CommonPoint(None, reason="the nearest points break one by no more than rounding")
