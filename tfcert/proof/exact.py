"""A second opinion in rational arithmetic, for small networks of ReLUs: no rounding, of the program or of this one.

The set's box is halved until each piece is proven, by intervals and lines computed in fractions, or a point is found
where the claim fails. So what is proven here is the claim about exact arithmetic (level ``real``); a network that has
no margin at all may take any number of pieces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from .check import Claim
from .errors import ProofError
from .graph import Affine, Bent, Entry, Graph
from .maps import Convolution, Matrix, Moved
from .region import Inputs, read_inputs

_LARGEST = 1 << 18
"""Weights of a layer, zeros counted, at most."""
_ZERO, _ONE = Fraction(0), Fraction(1)
_fractions = np.vectorize(Fraction, otypes=[object])
_most: Any = np.frompyfunc(max, 2, 1)
Ends = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Opinion:
    """What exact arithmetic says: the claim is proven (True), fails at a point (False), or is open (None); and how many
    pieces it was divided into."""

    proven: bool | None
    pieces: int


class _Layers:
    """A network as matrices ``[inputs, outputs]`` and biases of fractions; None in the place of a ReLU."""

    def __init__(self, graph: Graph):
        self.steps: list[tuple[np.ndarray, np.ndarray] | None] = []
        for number, place in enumerate(graph.places):
            if place.inputs and place.inputs != (number - 1,):
                raise ProofError("exact arithmetic: layers one after another are known")
            match place:
                case Entry():
                    continue
                case Affine(map=Moved(zeros=None)):
                    continue
                case Affine() if isinstance(place.map, Matrix | Convolution | Moved):
                    size = int(np.prod(place.map.into))
                    if size * place.count > _LARGEST:
                        raise ProofError(f"exact arithmetic: layer {place.name!r} is too large")
                    weights = place.map.forward(np.eye(size).reshape(-1, *place.map.into)).reshape(size, -1)
                    bias = np.broadcast_to(place.bias, place.shape).reshape(-1)
                    self.steps.append((_fractions(weights), _fractions(bias)))
                case Bent(kinks=(0.0,), slopes=(0.0, 1.0)):
                    self.steps.append(None)
                case _:
                    raise ProofError(f"exact arithmetic: layer {place.name!r} is neither linear nor a ReLU")

    def at(self, x: np.ndarray) -> np.ndarray:
        """The outputs at a point."""
        for step in self.steps:
            x = _most(x, _ZERO) if step is None else x @ step[0] + step[1]
        return x

    def intervals(self, low: np.ndarray, high: np.ndarray) -> list[Ends]:
        """The interval of what enters each step, and of the outputs."""
        found = [(low, high)]
        for step in self.steps:
            if step is None:
                low, high = _most(low, _ZERO), _most(high, _ZERO)
            else:
                up, down = _most(step[0], _ZERO), -_most(-step[0], _ZERO)
                low, high = low @ up + high @ down + step[1], high @ up + low @ down + step[1]
            found.append((low, high))
        return found

    def lines(self, row: np.ndarray, offset: Fraction, intervals: Sequence[Ends]) -> tuple[np.ndarray, Fraction]:
        """A linear function of the inputs that is not above a row of the outputs, by CROWN's lines."""
        for step, (low, high) in reversed(list(zip(self.steps, intervals[:-1], strict=True))):
            if step is not None:
                row, offset = step[0] @ row, offset + row @ step[1]
                continue
            found = []
            for value, least, most in zip(row, low, high, strict=True):
                slope = _ONE if least >= 0 or (most > 0 and value > 0 and most > -least) else _ZERO
                if least < 0 < most and value < 0:
                    slope = most / (most - least)
                    offset -= value * slope * least
                found.append(value * slope)
            row = np.array(found, object)
        return row, offset


def opinion(claim: Claim, graph: Graph, pieces: int = 1000) -> Opinion:
    """Decides a claim about exact arithmetic.

    Args:
        pieces: how many pieces are looked at before it stays open.

    Raises:
        ProofError: the network is not one of ReLUs, or too large.
    """
    if graph.softmax and claim.offsets.any():
        raise ProofError("exact arithmetic: of a softmax, only which output is the largest is known")
    inputs, layers = read_inputs(claim.head["region"], claim.arrays, graph.places[0].shape), _Layers(graph)
    rows, offsets = _fractions(claim.rows), _fractions(claim.offsets)
    waiting: list[Ends] = [(_fractions(inputs.low.reshape(-1)), _fractions(inputs.high.reshape(-1)))]
    seen = 0
    while waiting:
        if seen == pieces:
            return Opinion(None, seen)
        low, high = waiting.pop()
        seen += 1
        middle = (low + high) / 2 if seen > 1 or not inputs.ball else _fractions(inputs.center.reshape(-1))
        values = rows @ layers.at(middle) + offsets
        if not all(max(values[some]) > 0 for some in claim.clauses) and (seen == 1 or not inputs.ball):
            return Opinion(False, seen)
        intervals = layers.intervals(low, high)
        if all(
            any(_positive(*layers.lines(rows[i], offsets[i], intervals), low, high, inputs) for i in some)
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
