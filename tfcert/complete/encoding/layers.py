"""Nonlinear layers as variables and rows: hinges, curves, maxima, and functions of several numbers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from tfcert.activations import image, lines
from tfcert.activations.registry import Slopes
from tfcert.complete.encoding.enclosed import enclosed_values
from tfcert.complete.encoding.piecewise import (
    Affine,
    CurvedActivation,
    Enclosed,
    Layer,
    PiecewiseLinear,
    Steps,
    Windows,
)
from tfcert.complete.encoding.variables import (
    PAD,
    ArrayInterval,
    Encoding,
    Values,
    affine_values,
    constants,
    own_variables,
    widened,
)

_NARROW = 1e-9
"""A curve over an interval no wider than this is a free value between its bounds."""


def layer_values(encoding: Encoding, layer: Layer, values: Sequence[Values], pair: ArrayInterval) -> Values:
    """The values of a layer, given those of earlier layers; ``pair`` bounds what enters it."""
    if isinstance(layer.kind, Steps):
        return _steps(encoding, layer.before, layer.kind, values, pair)
    pair = widened(pair)
    match layer.kind:
        case PiecewiseLinear() if encoding.rounded and encoding.options.relax and not layer.kind.is_ramp:
            inside = np.asarray(_placed(layer.kind, pair)[0].any(axis=0))
            return _curve(encoding, layer.before, layer.kind.curve, values, pair, (layer.kind.slopes, inside))
        case PiecewiseLinear():
            return _pieces(encoding, layer.before, layer.kind, values, pair)
        case CurvedActivation():
            return _curve(encoding, layer.before, layer.kind, values, pair)
        case Windows():
            entering = affine_values(encoding, layer.before, values, pair)
            return _maxima(encoding, layer.kind.table, entering, pair)
        case Enclosed():
            entering = affine_values(encoding, layer.before, values, pair, layer.kind.wanted)
            return enclosed_values(encoding, layer.kind, entering, pair)


def _pieces(
    encoding: Encoding, before: Affine, kind: PiecewiseLinear, values: Sequence[Values], pair: ArrayInterval
) -> Values:
    inside, slope, shift = _placed(kind, pair)
    z = affine_values(encoding, before, values, pair, inside.any(axis=0) | (slope != 0))
    # What enters may be a constant, whatever its bounds say.
    fixed = (z.column < 0) & (inside.any(axis=0) | (slope != 0))
    pair = np.where(fixed, z.shift, pair[0]), np.where(fixed, z.shift, pair[1])
    inside, slope, shift = _placed(kind, pair)
    bends = [_hinge(encoding, z, kind.kinks[k], pair, inside[k]) for k in range(len(kind.kinks))]
    _ordered(encoding, bends)
    turns = np.diff(kind.slopes, axis=0)
    # Straight: follows z. One bend after a flat piece: follows the bend. Else a variable of its own.
    found = Values(z.column.copy(), slope * z.scale, slope * z.shift + shift)
    alone = (inside.sum(axis=0) == 1) & (slope == 0)
    for (columns, _), turn, on in zip(bends, turns, inside, strict=True):
        some = alone & on
        found.column[some], found.scale[some], found.shift[some] = columns[some], turn[some], shift[some]
    mixed = np.flatnonzero(inside.any(axis=0) & ~alone)
    if len(mixed):
        line = Values(found.column[mixed], found.scale[mixed], found.shift[mixed])
        terms = [
            (on[mixed], columns[mixed], turn[mixed])
            for (columns, _), turn, on in zip(bends, turns, inside, strict=True)
        ]
        start = slope[mixed] * pair[0][mixed] + shift[mixed]
        room = np.abs(kind.slopes).max() * (pair[1] - pair[0])[mixed] + PAD * np.maximum(1.0, np.abs(start))
        own = _sum(encoding, line, terms, (start - room, start + room))
        found.column[mixed], found.scale[mixed], found.shift[mixed] = own, 1.0, 0.0
    return found


def _placed(kind: PiecewiseLinear, pair: ArrayInterval) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Marks the kinks inside each interval ``[kinks, size]``; with slope and intercept of the piece it begins in."""
    lower, upper = pair
    kinks = kind.kinks[:, None]
    first = (kinks <= lower).sum(axis=0)
    intercepts = [kind.at_kink - kind.slopes[0] * kind.kinks[0]]
    for k, kink in enumerate(kind.kinks):
        intercepts.append(intercepts[-1] + (kind.slopes[k] - kind.slopes[k + 1]) * kink)
    slope, shift = (np.take_along_axis(a, first[None], axis=0)[0] for a in (kind.slopes, np.stack(intercepts)))
    return (lower < kinks) & (kinks < upper), slope, shift


Bend = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Where a bend takes part, its columns, and by how much the slope turns there."""


def _sum(encoding: Encoding, line: Values, bends: Sequence[Bend], pair: ArrayInterval) -> np.ndarray:
    """Variables for a line plus its bends."""
    builder, has = encoding.builder, line.column >= 0
    own = builder.variables(*pair)
    builder.entries(np.flatnonzero(has), line.column[has], line.scale[has])
    for on, columns, turn in bends:
        builder.entries(np.flatnonzero(on), columns[on], turn[on])
    builder.rows([(own, -1.0)], -line.shift, equal=True)
    encoding.step(own, lambda v: line.at(v) + sum(np.where(on, turn * v[column], 0.0) for on, column, turn in bends))
    return own


def _hinge(
    encoding: Encoding, z: Values, kink: float, pair: ArrayInterval, some: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """``w = max(0, z - kink)`` of some neurons: columns of w and of its binary, -1 elsewhere."""
    columns, switches = np.full(len(some), -1), np.full(len(some), -1)
    which = np.flatnonzero(some)
    if not len(which):
        return columns, switches
    builder, inner = encoding.builder, z.take(which)
    low, high = pair[0][which] - kink, pair[1][which] - kink
    below = inner.shift - kink  # z - kink = scale * v + below
    w = builder.variables(np.zeros(len(which)), high)
    builder.rows([(inner.column, inner.scale), (w, -1.0)], -below)
    columns[which] = w
    encoding.step(w, lambda v: np.maximum(0.0, inner.at(v) - kink))
    if encoding.options.relax:
        share = high / (high - low)
        right = share * (below - low) + encoding.room(low, high)
        builder.rows([(w, 1.0), (inner.column, -share * inner.scale)], right)
        return columns, switches
    a = builder.binaries(len(which))
    builder.rows([(w, 1.0), (a, -high)], np.zeros(len(which)))
    builder.rows([(w, 1.0), (inner.column, -inner.scale), (a, -low)], below - low)
    encoding.step(a, lambda v: (inner.at(v) > kink).astype(np.float64))
    encoding._switches.append((a, lambda v: inner.at(v) - kink))
    switches[which] = a
    return columns, switches


def _ordered(encoding: Encoding, bends: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """A neuron beyond one kink is beyond the kink before it."""
    for (_, first), (_, second) in itertools.pairwise(bends):
        both = (first >= 0) & (second >= 0)
        if both.any():
            encoding.builder.rows([(second[both], 1.0), (first[both], -1.0)], np.zeros(int(both.sum())))


def _steps(encoding: Encoding, before: Affine, kind: Steps, values: Sequence[Values], pair: ArrayInterval) -> Values:
    """One binary for each edge that lies within a number's interval: whether the number has reached it.

    What enters are inputs, so the interval is exact, and is not widened: that could reach one more cell.
    """
    z = affine_values(encoding, before, values, pair, np.ones(before.size, bool))
    fixed = z.column < 0
    lower, upper = (np.where(fixed, z.shift, np.reshape(end, -1)) for end in pair)
    first, last = kind.cell(lower), kind.cell(upper)
    found = constants(kind.middle(first))
    bends: list[Bend] = []
    reached = np.full(before.size, -1)
    for edge in range(1, kind.most):
        on = (first < edge) & (edge <= last)
        which = np.flatnonzero(on)
        if not len(which):
            continue
        columns = np.full(before.size, -1)
        at, below = (np.broadcast_to(part, before.size)[which] for part in (kind.at(edge), kind.under(edge)))
        columns[which] = _reaches(encoding, z.take(which), (at, below), (lower[which], upper[which]))
        again = on & (reached >= 0)
        if again.any():
            encoding.builder.rows([(columns[again], 1.0), (reached[again], -1.0)], np.zeros(int(again.sum())))
        reached = np.where(on, columns, reached)
        # Rows with fewer cells have no such edge.
        rise = np.where(on, kind.middle(np.where(on, edge, 1)) - kind.middle(np.where(on, edge - 1, 0)), 0.0)
        bends.append((on, columns, rise))
    once = last == first + 1
    for on, columns, rise in bends:
        some = on & once
        found.column[some], found.scale[some] = columns[some], rise[some]
    several = np.flatnonzero(last > first + 1)
    if len(several):
        terms = [(on[several], columns[several], rise[several]) for on, columns, rise in bends]
        line = constants(kind.middle(first)[several])
        # With these bounds exact, CBC was seen to call programs that have solutions infeasible.
        own = _sum(encoding, line, terms, widened((kind.middle(first)[several], kind.middle(last)[several])))
        found.column[several], found.scale[several], found.shift[several] = own, 1.0, 0.0
    return found


def _reaches(encoding: Encoding, z: Values, edge: tuple[np.ndarray, np.ndarray], pair: ArrayInterval) -> np.ndarray:
    """Columns of binaries: 1 where ``z``, which are inputs, is at the edge or beyond, 0 where it is below.

    ``edge`` is where it is for each, and the largest input below it.
    """
    assert (z.scale == 1).all() and (z.shift == 0).all(), "only numbers that were moved come before cells"
    builder, (lower, upper) = encoding.builder, pair
    at, below = edge[0], np.maximum(edge[1], lower)
    zeros, count = np.zeros(len(lower)), len(lower)
    binary = builder.variables(zeros, zeros + 1.0) if encoding.options.relax else builder.binaries(count)
    builder.rows([(binary, at - lower), (z.column, -1.0)], -lower)
    builder.rows([(z.column, 1.0), (binary, below - upper)], below)
    encoding.jump(binary, z.column, below, at)
    return binary


def _curve(
    encoding: Encoding,
    before: Affine,
    kind: CurvedActivation,
    values: Sequence[Values],
    pair: ArrayInterval,
    more: tuple[np.ndarray, np.ndarray] | None = None,
) -> Values:
    """Numbers between lines; ``more``: slopes of further ones ``[n, size]``, and which numbers have these."""
    act, (lower, upper) = kind.activation, pair
    ends = image(act, kind.shaped(lower), kind.shaped(upper), encoding.rounding)
    floor, ceiling = widened((ends[0].numpy(), ends[1].numpy()))
    y = encoding.builder.variables(floor, ceiling)
    bent = upper - lower > _NARROW
    z = affine_values(encoding, before, values, pair, bent)
    encoding.step(y, lambda v: act.function(kind.shaped(z.at(v))).numpy().ravel())
    which = np.flatnonzero(bent & (z.column >= 0))
    if not len(which):
        return own_variables(y)
    pieces = 1 if encoding.options.relax else encoding.options.pieces
    shares = np.linspace(0.0, 1.0, pieces + 1)[:, None]
    lower, upper = np.reshape(lower, -1), np.reshape(upper, -1)
    ends = lower + shares * (upper - lower)
    tensors = kind.shaped(ends[:-1]), kind.shaped(ends[1:])

    def between(slopes: Slopes, some: np.ndarray) -> list[np.ndarray]:
        """Slopes and intercepts of the lines below and above some numbers, with room, ``[pieces, numbers]`` each."""
        found = lines(act, slopes, *tensors, encoding.rounding)
        low_slope, low, high_slope, high = (part.numpy().reshape(pieces, -1)[:, some] for part in found)
        low, high = low - PAD * np.maximum(1.0, np.abs(low)), high + PAD * np.maximum(1.0, np.abs(high))
        most = np.maximum(np.abs(lower), np.abs(upper))[some] + np.abs(z.shift[some])
        low, high = low - encoding.room(low, low_slope * most), high + encoding.room(high, high_slope * most)
        return [low_slope, low, high_slope, high]

    usual = act.slopes("adaptive", *tensors)
    if pieces > 1:
        _segments(encoding, z.take(which), y[which], ends[:, which], between(usual, which))
        return own_variables(y)
    _enclosed(encoding, z.take(which), y[which], between(usual, which))
    if more is not None:
        some = which[more[1][which]]
        for slope in more[0] if len(some) else []:
            _enclosed(encoding, z.take(some), y[some], between((kind.shaped(slope),) * 2, some))
    return own_variables(y)


def _enclosed(encoding: Encoding, z: Values, y: np.ndarray, parts: Sequence[np.ndarray]) -> None:
    """``y`` lies between a line below and one above."""
    low_slope, low, high_slope, high = (part[0] for part in parts)
    for sign, slope, intercept in ((-1.0, low_slope, low), (1.0, high_slope, high)):
        right = sign * (intercept + slope * z.shift)
        encoding.builder.rows([(y, sign), (z.column, -sign * slope * z.scale)], right)


def _segments(encoding: Encoding, z: Values, y: np.ndarray, ends: np.ndarray, parts: Sequence[np.ndarray]) -> None:
    """``y`` lies between the lines of the piece that ``z`` lies in: the convex hull of the pieces."""
    builder, (low_slope, low, high_slope, high) = encoding.builder, parts
    pieces, count = low.shape
    on = builder.binaries(pieces * count).reshape(pieces, count)
    share = builder.variables(np.minimum(ends[:-1], 0.0), np.maximum(ends[1:], 0.0))
    zero = np.zeros(count)
    builder.rows([(on[k], 1.0) for k in range(pieces)], np.ones(count), equal=True)
    builder.rows([*((share[k], 1.0) for k in range(pieces)), (z.column, -z.scale)], z.shift, equal=True)
    for k in range(pieces):
        builder.rows([(share[k], 1.0), (on[k], -ends[k + 1])], zero)
        builder.rows([(share[k], -1.0), (on[k], ends[k])], zero)
    for sign, slope, intercept in ((-1.0, low_slope, low), (1.0, high_slope, high)):
        terms = [(share[k], -sign * slope[k]) for k in range(pieces)]
        terms += [(on[k], -sign * intercept[k]) for k in range(pieces)]
        builder.rows([(y, sign), *terms], zero)
    where = np.arange(pieces)[:, None]

    def piece(v: np.ndarray) -> np.ndarray:
        return where == np.clip((z.at(v) >= ends[1:-1]).sum(axis=0), 0, pieces - 1)

    encoding.step(on, lambda v: piece(v).astype(np.float64))
    encoding.step(share, lambda v: np.where(piece(v), z.at(v), 0.0))


def _maxima(encoding: Encoding, table: np.ndarray, entering: Values, pair: ArrayInterval) -> Values:
    lower, upper = (np.concatenate([end, [-np.inf]]) for end in pair)
    least = lower[table].max(axis=1)
    # Only entries that can be the largest; where one dominates the others, the maximum is that entry.
    rivals = (table >= 0) & (upper[table] > least[:, None])
    leader = lower[table].argmax(axis=1)
    rivals[np.arange(len(table)), leader] = True
    chosen = table[np.arange(len(table)), leader]
    found = entering.take(chosen)
    found = Values(found.column.copy(), found.scale.copy(), found.shift.copy())
    open_ = np.flatnonzero(rivals.sum(axis=1) > 1)
    if not len(open_):
        return found
    builder, table, rivals = encoding.builder, table[open_], rivals[open_]
    top = np.where(rivals, upper[table], -np.inf)
    y = builder.variables(least[open_], top.max(axis=1))
    found.column[open_], found.scale[open_], found.shift[open_] = y, 1.0, 0.0
    integer = not encoding.options.relax
    on = np.full(table.shape, -1)
    on[rivals] = builder.variables(np.zeros(int(rivals.sum())), np.ones(int(rivals.sum())), integer=integer)
    for entry in range(table.shape[1]):
        some = rivals[:, entry]
        if not some.any():
            continue
        inner = entering.take(table[some, entry])
        others = np.where(np.arange(table.shape[1]) == entry, -np.inf, top)[some].max(axis=1)
        room = np.maximum(0.0, others - lower[table[some, entry]])
        column, scale = np.maximum(inner.column, 0), np.where(inner.column < 0, 0.0, inner.scale)
        builder.rows([(column, scale), (y[some], -1.0)], -inner.shift)
        right = inner.shift + room + encoding.room(room, others, lower[table[some, entry]])
        builder.rows([(y[some], 1.0), (column, -scale), (on[some, entry], room)], right)
    row, slot = np.nonzero(rivals)
    builder.entries(row, on[row, slot], np.ones(len(row)))
    builder.rows([], np.ones(len(open_)), equal=True)

    def largest(v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        seen = np.where(rivals, np.append(entering.at(v), 0.0)[table], -np.inf)
        return seen.max(axis=1), seen.argmax(axis=1)

    encoding.step(y, lambda v: largest(v)[0])
    encoding.step(on[row, slot], lambda v: (largest(v)[1][row] == slot).astype(np.float64))
    return found
