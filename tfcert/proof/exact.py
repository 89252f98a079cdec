"""A second opinion in rational arithmetic, for small networks: no rounding, of the program or of this one.

The set's box is halved until each piece is proven, by intervals and lines computed in fractions, or a point is found
where the claim fails. So what is proven here is the claim about exact arithmetic (level ``real``); a network that has
no margin at all may take any number of pieces. Scales and means are the float64 numbers that the checker has for them.

Curves have values in decimal numbers of 120 digits: Python's ``exp`` and ``ln`` of these are rounded correctly, so that
what is lost on the way is far less than the ``2**-64`` by which values are moved outward. Between points a curve is as
near to the chord as ``lines.py`` says.
"""

from __future__ import annotations

import decimal
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np

from .check import Claim
from .errors import ProofError
from .functions import Function
from .graph import Affine, Bent, Beside, Graph, Largest, Place
from .region import Inputs, read_inputs
from .rounding import above, below

_LARGEST = 1 << 18
"""Weights of a layer, zeros counted, at most."""
_ZERO = Fraction(0)
_fractions = np.vectorize(Fraction, otypes=[object])
_most: Any = np.frompyfunc(max, 2, 1)
Ends = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Opinion:
    """What exact arithmetic says: the claim is proven (True), fails at a point (False), or is open (None); and how many
    pieces it was divided into."""

    proven: bool | None
    pieces: int


class _Places:
    """A network's places as vectors of fractions: sums of matrices ``[inputs, outputs]`` times earlier ones and a bias,
    functions of straight pieces, and maxima of numbers whose places are listed."""

    def __init__(self, graph: Graph):
        self._places = graph.places
        self._sums: dict[int, tuple[list[np.ndarray], np.ndarray]] = {}
        self._windows: dict[int, list[list[int]]] = {}
        for here, place in enumerate(graph.places[1:], start=1):
            sizes = [graph.places[source].count for source in place.inputs]
            if max(sizes) * place.count > _LARGEST:
                raise ProofError(f"exact arithmetic: layer {place.name!r} is too large")
            if isinstance(place, Bent) and not (place.function.parts or place.function.name.split()[0] in _CURVES):
                raise ProofError(f"exact arithmetic: {place.function.name} in layer {place.name!r} is not known")
            if isinstance(place, Largest):
                numbers = place.windows.pad(np.arange(sizes[0]).reshape(1, *place.windows.into), -1)
                each = np.stack(
                    [numbers[place.windows.at(where)].reshape(-1) for where in place.windows.places], axis=1
                )
                self._windows[here] = [[n for n in some if n >= 0] for some in each.tolist()]
            elif not isinstance(place, Bent):
                bias = np.broadcast_to(place.bias if isinstance(place, Affine) else 0.0, place.shape).reshape(-1)
                matrices = [_fractions(self._matrix(place, number)) for number in range(len(sizes))]
                self._sums[here] = matrices, _fractions(bias)

    def _matrix(self, place: Place, number: int) -> np.ndarray:
        """The matrix ``[inputs, outputs]`` of one of the places that a linear one reads."""
        shapes = [self._places[source].shape for source in place.inputs]
        size = int(np.prod(shapes[number]))
        units = np.eye(size).reshape(-1, *shapes[number])
        if isinstance(place, Affine):
            units = place.map.forward(units)
        elif isinstance(place, Beside):
            parts = [units if k == number else np.zeros((size, *shape)) for k, shape in enumerate(shapes)]
            units = np.concatenate(parts, axis=-1)
        return np.asarray(units.reshape(size, -1))

    def intervals(self, low: np.ndarray, high: np.ndarray) -> list[Ends]:
        """The interval of each place; of a point (twice the same) its numbers, or what encloses them."""
        found = [(low, high)]
        for here, place in enumerate(self._places[1:], start=1):
            before = [found[source] for source in place.inputs]
            if here in self._sums:
                matrices, bias = self._sums[here]
                low, high = bias, bias
                for (least, most), matrix in zip(before, matrices, strict=True):
                    up, down = _most(matrix, _ZERO), -_most(-matrix, _ZERO)
                    low, high = low + least @ up + most @ down, high + most @ up + least @ down
            elif isinstance(place, Bent):
                ends = [_range(place.function, *pair) for pair in zip(*before[0], strict=True)]
                low, high = (np.array(some, object) for some in zip(*ends, strict=True))
            else:
                low, high = (np.array([max(end[n]) for n in self._windows[here]], object) for end in before[0])
            found.append((low, high))
        return found

    def lines(self, row: np.ndarray, offset: Fraction, intervals: Sequence[Ends]) -> tuple[np.ndarray, Fraction]:
        """A linear function of the inputs that is not above a row of the outputs."""
        waiting = [np.full(place.count, _ZERO) for place in self._places]
        waiting[-1] = row
        for here in range(len(self._places) - 1, 0, -1):
            place, row = self._places[here], waiting[here]
            if here in self._sums:
                matrices, bias = self._sums[here]
                offset += row @ bias
                for source, matrix in zip(place.inputs, matrices, strict=True):
                    waiting[source] = waiting[source] + matrix @ row
                continue
            low, high = intervals[place.inputs[0]]
            for number in np.flatnonzero(row):
                if isinstance(place, Bent):
                    slope, rest = _line(place.function, low[number], high[number], row[number])
                    waiting[place.inputs[0]][number] += row[number] * slope
                else:
                    window = self._windows[here][number]
                    best = max(window, key=lambda n: low[n])
                    if row[number] > 0 or all(high[n] <= low[best] for n in window if n != best):
                        waiting[place.inputs[0]][best] += row[number]
                        continue
                    rest = max(high[n] for n in window)
                offset += row[number] * rest
        return waiting[0], offset


def _erf(x: Decimal) -> Decimal:
    """The error function by its series, of at most 15 in size; beyond, it is 1 but for less than ``1e-90``."""
    if abs(x) > 15:
        return Decimal(1).copy_sign(x)
    term = total = x
    for n in range(1, 900):
        term = -term * x * x / n
        total += term / (2 * n + 1)
    return total * 2 / _PI.sqrt()


_PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640628620899862803482534211706798")
_CURVES: dict[str, Callable[[Decimal], Decimal]] = {
    "sigmoid": lambda x: 1 / (1 + (-x).exp()),
    "tanh": lambda x: 1 - 2 / (1 + (2 * x).exp()),
    "softplus": lambda x: (1 + x.exp()).ln(),
    "-softplus": lambda x: -(1 + (-x).exp()).ln(),
    "softsign": lambda x: x / (1 + abs(x)),
    "silu": lambda x: x / (1 + (-x).exp()),
    "gelu": lambda x: x * (1 + _erf(x / Decimal(2).sqrt())) / 2,
    "hard_silu": lambda x: x * min(max((x + 3) / 6, Decimal(0)), Decimal(1)),
    "elu": lambda x: x if x > 0 else x.exp() - 1,
}
"""By the first word of a function's name."""
_FINE, _PARTS = 1 << 64, 4
Point = tuple[Fraction, Fraction, Fraction]


def enclosed(function: Function, x: Fraction) -> tuple[Fraction, Fraction]:
    """What encloses the function at a number; twice its value where it is made of straight pieces."""
    kinks = [Fraction(kink) for kink in function.kinks]
    if function.parts:
        value = Fraction(function.start) + Fraction(function.parts[0]) * min(x - kinks[0], _ZERO)
        for slope, kink, end in zip(function.parts[1:], kinks, [*kinks[1:], max(x, kinks[-1])], strict=True):
            value += Fraction(slope) * max(min(x, end) - kink, _ZERO)
        return value, value
    if abs(x) > 1000:
        raise ProofError(f"exact arithmetic: {function.name} of numbers beyond 1,000 is not known")
    name, *numbers = function.name.split()
    with decimal.localcontext(prec=120):
        at = Decimal(x.numerator) / Decimal(x.denominator)
        found = Fraction(_CURVES[name](at))
    if numbers:  # of an ELU
        alpha, scale = map(Fraction, map(float, numbers))
        found = found * scale * (alpha if x < 0 else 1)
    return Fraction(math.floor(found * _FINE) - 1, _FINE), Fraction(math.ceil(found * _FINE) + 1, _FINE)


def _points(function: Function, low: Fraction, high: Fraction) -> tuple[list[Point], list[Fraction]]:
    """Points of an interval with what encloses the function there, and how far it may lie from each chord between."""
    inner = {Fraction(kink) for kink in function.kinks}
    if function.bend is not None:
        inner |= {low + (high - low) * part / _PARTS for part in range(1, _PARTS)}
    points = [(x, *enclosed(function, x)) for x in (low, *sorted(x for x in inner if low < x < high), high)]
    if function.bend is None:
        return points, [_ZERO] * (len(points) - 1)
    bends = [function.bend(np.array(below(a)), np.array(above(b))) for (a, *_), (b, *_) in pairwise(points)]
    gaps = [(b - a) ** 2 / 8 for (a, *_), (b, *_) in pairwise(points)]
    return points, [Fraction(float(bend) * (1 + 2.0**-20)) * gap for bend, gap in zip(bends, gaps, strict=True)]


def _range(function: Function, low: Fraction, high: Fraction) -> tuple[Fraction, Fraction]:
    """What encloses the function on an interval."""
    if function.slopes[0] >= 0:
        return enclosed(function, low)[0], enclosed(function, high)[1]
    points, apart = _points(function, low, high)
    return _least(points, apart, _ZERO, 1), -_least(points, apart, _ZERO, -1)


def _least(points: list[Point], apart: list[Fraction], slope: Fraction, side: int) -> Fraction:
    """The least of ``side (f(x) - slope x)``."""
    at = [side * ((low if side > 0 else high) - slope * x) for x, low, high in points]
    return min(min(pair) - less for pair, less in zip(pairwise(at), apart, strict=True))


def _line(function: Function, low: Fraction, high: Fraction, sign: Fraction) -> tuple[Fraction, Fraction]:
    """The line below a function, or above it for a negative sign, that is nearest to it in the middle: its slope and
    where it meets 0. Slopes are those between neighbouring points, and the chord's."""
    (points, apart), side = _points(function, low, high), 1 if sign > 0 else -1
    pairs = [*pairwise(points), (points[0], points[-1])]
    slopes = [(fb - fa) / (b - a) for (a, fa, _), (b, fb, _) in pairs if b > a] or [_ZERO]
    if function.bend is not None:
        slopes = [Fraction(round(slope * (1 << 32)), 1 << 32) for slope in slopes]
    rests = [_least(points, apart, slope, side) for slope in slopes]
    at = max(range(len(slopes)), key=lambda n: rests[n] + side * slopes[n] * (low + high) / 2)
    return slopes[at], side * rests[at]


def opinion(claim: Claim, graph: Graph, pieces: int = 1000) -> Opinion:
    """Decides a claim about exact arithmetic.

    Args:
        pieces: how many pieces are looked at before it stays open.

    Raises:
        ProofError: the network is too large, or a curve's numbers are.
    """
    if graph.softmax and claim.offsets.any():
        raise ProofError("exact arithmetic: of a softmax, only which output is the largest is known")
    inputs, places = read_inputs(claim.head["region"], claim.arrays, graph.places[0].shape), _Places(graph)
    rows, offsets, seen = _fractions(claim.rows), _fractions(claim.offsets), 0
    waiting: list[Ends] = [(_fractions(inputs.low.reshape(-1)), _fractions(inputs.high.reshape(-1)))]
    while waiting:
        if seen == pieces:
            return Opinion(None, seen)
        low, high = waiting.pop()
        seen += 1
        middle = _fractions(inputs.center.reshape(-1)) if inputs.ball else (low + high) / 2
        ends = places.intervals(middle, middle)[-1]
        values = np.maximum(rows * ends[0], rows * ends[1]).sum(axis=1) + offsets
        if not all(max(values[some]) > 0 for some in claim.clauses):
            return Opinion(False, seen)
        intervals = places.intervals(low, high)
        if all(
            any(_positive(*places.lines(rows[i], offsets[i], intervals), low, high, inputs) for i in some)
            for some in claim.clauses
        ):
            continue
        widest = int(np.argmax(high - low))
        if low[widest] == high[widest]:
            return Opinion(None, seen)
        half, left, right = (low[widest] + high[widest]) / 2, high.copy(), low.copy()
        left[widest] = right[widest] = half
        waiting += [(low, left), (right, high)]
    return Opinion(True, seen)


def _positive(row: np.ndarray, offset: Fraction, low: np.ndarray, high: np.ndarray, inputs: Inputs) -> bool:
    """Tells whether a linear function is positive on a piece: over its box, or over the whole ball."""
    if offset + np.minimum(row * low, row * high).sum() > 0:
        return True
    if not inputs.ball:
        return False
    center, radius = _fractions(inputs.center.reshape(-1)), Fraction(inputs.radius)
    scaled = row if inputs.scale is None else row * _fractions(inputs.scale.reshape(-1))
    rest = offset + row @ center
    if inputs.norm == "l1":
        return bool(rest > radius * max(abs(scaled)))
    return bool(rest > 0 and rest * rest > radius * radius * (scaled @ scaled))
