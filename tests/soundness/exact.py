"""The true optimum of a tiny network over a box, in exact rational arithmetic.

A network is a list of layers over vectors: ``Affine``, ``Leaky``, ``Largest`` (a maximum over groups of entries) and
``Skip`` (adds the output of an earlier layer). The oracle shares no code with tfcert: it enumerates the activation
patterns that occur in the box, and on the polyhedron of each takes the least value over its vertices, all in
``fractions.Fraction``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations

import numpy as np

Vector = tuple[Fraction, ...]
Form = Vector
"""An affine function of the input: its coefficients, then its constant."""


@dataclass(frozen=True)
class Affine:
    kernel: np.ndarray
    """``[in, out]``"""
    bias: np.ndarray


@dataclass(frozen=True)
class Leaky:
    slope: float = 0.0


@dataclass(frozen=True)
class Largest:
    groups: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Skip:
    layer: int
    """The layer whose output is added, -1 for the input."""


Layer = Affine | Leaky | Largest | Skip


def least(layers: Sequence[Layer], lower: np.ndarray, upper: np.ndarray, row: np.ndarray) -> Fraction:
    """``min row . f(x)`` over the box ``[lower, upper]``, exactly."""
    size = len(lower)
    low, high = ([Fraction(float(v)) for v in end] for end in (lower, upper))
    # A constraint is an affine form that must be at least 0.
    box = [_unit(i, size, 1, -low[i]) for i in range(size)] + [_unit(i, size, -1, high[i]) for i in range(size)]
    start = tuple(_unit(i, size, 1, Fraction(0)) for i in range(size))
    goal = [Fraction(float(v)) for v in row]
    values = []
    for forms, constraints in _pieces(layers, 0, [start], box):
        target = _combine(goal, forms)
        values += [_at(target, vertex) for vertex in _vertices(constraints, size)]
    return min(values)


def evaluate(layers: Sequence[Layer], x: Sequence[Fraction]) -> Vector:
    """The output at a point, exactly."""
    point = tuple(Fraction(v) for v in x)
    size = len(point)
    start = tuple(_unit(i, size, 1, Fraction(0)) for i in range(size))
    here = [_unit(i, size, 1, -point[i]) for i in range(size)] + [_unit(i, size, -1, point[i]) for i in range(size)]
    forms, _ = next(_pieces(layers, 0, [start], here))
    return tuple(_at(form, point) for form in forms)


def _pieces(
    layers: Sequence[Layer], index: int, outputs: list[tuple[Form, ...]], constraints: list[Form]
) -> Iterator[tuple[tuple[Form, ...], list[Form]]]:
    """The pieces on which the network is affine: its outputs there, and what makes the piece."""
    if index == len(layers):
        yield outputs[-1], constraints
        return
    here = outputs[-1]
    match layers[index]:
        case Affine(kernel, bias):
            columns = [[Fraction(float(w)) for w in column] for column in kernel.T]
            made = tuple(
                _shift(_combine(column, here), Fraction(float(b))) for column, b in zip(columns, bias, strict=True)
            )
            yield from _pieces(layers, index + 1, [*outputs, made], constraints)
        case Skip(layer):
            made = tuple(_combine([Fraction(1)] * 2, pair) for pair in zip(here, outputs[layer + 1], strict=True))
            yield from _pieces(layers, index + 1, [*outputs, made], constraints)
        case Leaky(slope):
            choices = [[(Fraction(1), [f]), (Fraction(float(slope)), [_scaled(f, -1)])] for f in here]
            for factors, extra in _branches(choices, constraints):
                made = tuple(_scaled(f, factor) for f, factor in zip(here, factors, strict=True))
                yield from _pieces(layers, index + 1, [*outputs, made], extra)
        case Largest(groups):
            choices = [
                [
                    (k, [_combine([Fraction(1), Fraction(-1)], (here[k], here[j])) for j in group if j != k])
                    for k in group
                ]
                for group in groups
            ]
            for winners, extra in _branches(choices, constraints):
                made = tuple(here[k] for k in winners)
                yield from _pieces(layers, index + 1, [*outputs, made], extra)


def _branches(choices: list, constraints: list[Form]) -> Iterator[tuple[tuple, list[Form]]]:
    """One option of each choice, where the constraints of the options leave something."""
    if not choices:
        yield (), constraints
        return
    for value, needs in choices[0]:
        extra = [*constraints, *needs]
        if any(True for _ in _vertices(extra, len(constraints[0]) - 1)):
            for rest, final in _branches(choices[1:], extra):
                yield (value, *rest), final


def _vertices(constraints: list[Form], size: int) -> Iterator[Vector]:
    """The vertices of a bounded polyhedron (it holds a box's constraints, so it is empty or has one)."""
    distinct = list(dict.fromkeys(constraints))
    for chosen in combinations(distinct, size):
        point = _solve(chosen, size)
        if point is not None and all(_at(c, point) >= 0 for c in distinct):
            yield point


def _solve(equations: Sequence[Form], size: int) -> Vector | None:
    rows = [list(e) for e in equations]
    for column in range(size):
        pivot = next((r for r in range(column, size) if rows[r][column] != 0), None)
        if pivot is None:
            return None
        rows[column], rows[pivot] = rows[pivot], rows[column]
        head = [v / rows[column][column] for v in rows[column]]
        rows[column] = head
        for r in range(size):
            if r != column and rows[r][column] != 0:
                factor = rows[r][column]
                rows[r] = [a - factor * b for a, b in zip(rows[r], head, strict=True)]
    return tuple(-row[size] for row in rows)


def _unit(axis: int, size: int, sign: int, constant: Fraction) -> Form:
    return (*(Fraction(sign if i == axis else 0) for i in range(size)), constant)


def _combine(weights: Sequence[Fraction], forms: Sequence[Form]) -> Form:
    return tuple(
        sum((w * v for w, v in zip(weights, entry, strict=True)), Fraction(0)) for entry in zip(*forms, strict=True)
    )


def _scaled(form: Form, factor: Fraction | int) -> Form:
    return tuple(factor * v for v in form)


def _shift(form: Form, constant: Fraction) -> Form:
    return (*form[:-1], form[-1] + constant)


def _at(form: Form, point: Vector) -> Fraction:
    return sum((a * b for a, b in zip(form, point, strict=False)), form[-1])
