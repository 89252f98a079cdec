"""Intervals of every place's numbers as the deployed program computes them, and which of them rows make narrower.

A place's numbers are those that the deployed program holds, whatever its order of sums; where it draws a scale into the
weights before it, and so never holds a place's numbers, they may be any within its rounding. The interval of ``W x +
b`` is that of exact arithmetic over the interval of x, wider by what the program may lose:

    growth(n + extra, U) (|W| m + |b|) + flushed,    m >= |x|,  n terms,  U its unit roundoff.

A scale ``y = s z + t`` of ``z = W x + b`` may be drawn into W: then y is one sum of ``n + 1`` terms with ``extra`` more
roundings each, off by ``growth(n + extra + 2, U) (|s| (|W| m + |b|) + |t|)``, and if other places read z as well, they
may have other numbers, within what z may lose. Both are charged beside what y loses if it is computed of z. Flushing
loses at most the smallest normal number for each operation's result, for a weight times m, and for an input times its
weights.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np

from .errors import ProofError
from .graph import Affine, Bent, Beside, Entry, Graph, Largest, Nonlinear, Place, Total
from .lines import Interval, Shape, entries
from .region import Inputs
from .rounding import LARGEST, LEAST, growth
from .rows import Cut, Known

_MANY = 1000
AT_ONCE = 1 << 17
"""Coefficients of a batch of rows, at most."""


class Bounds(Known):
    """What is known of a graph's numbers over a set of inputs.

    Args:
        graph: the places.
        inputs: the set.
        backward: whether numbers that enter a nonlinear place are bounded by rows to the input, where intervals leave
            open which piece they lie on; else by intervals alone.
        cuts: everything is bounded on the inputs at which these hold.

    Attributes:
        empty: whether no input was seen to be left; then nothing else is known.

    Raises:
        ProofError: a number may be larger than 2**100: nothing is known then.
    """

    def __init__(self, graph: Graph, inputs: Inputs, backward: bool, cuts: Sequence[Cut] = ()):
        for cut in cuts:
            inputs = inputs.cut(cut.number, cut.at, cut.above) if cut.place == 0 else inputs
        super().__init__(graph, inputs)
        self.empty, self._part = False, bool(cuts)
        self._program: list[np.ndarray] = []  # what it loses, of affine places and totals
        self._mixes: list[int] = []
        wanted = {i for place in graph.places if isinstance(place, Nonlinear) for i in place.inputs}
        with np.errstate(over="ignore", invalid="ignore"):
            for index, place in enumerate(graph.places):
                low, high = self._interval(place)
                self._take(index, low, high)
                self._mixes.append(self._mixed(place))
                if index in wanted and not self.empty and isinstance(place, Affine | Total):
                    mixes, ball = self._mixes[index], inputs.norm != "linf"
                    if (backward and mixes > 1) or (ball and (backward or mixes < _MANY)):
                        self._take(index, *self._narrowed(index, all_of_them=mixes < _MANY))
                for cut in [cut for cut in cuts if cut.place == index]:
                    self._cut(cut)
                if self.empty:
                    break

    def _mixed(self, place: Place) -> int:
        """How many times numbers are mixed between the input and a place: an interval is the best there is of one. With
        a nonlinear place between it is ``_MANY`` at least."""
        before = [self._mixes[source] for source in place.inputs]
        match place:
            case Affine():
                return min(before[0] + (0 if place.map.exact or place.follows else 1), 2 * _MANY)
            case Total():
                return min(sum(before) + 2, 2 * _MANY)
            case Bent() | Largest():
                return _MANY
        return max(before, default=0)

    def _take(self, index: int, low: np.ndarray, high: np.ndarray) -> None:
        """Takes up a place's interval, the first or a narrower one. Where something was cut off, bounds of one number
        may cross: then no input is left."""
        size = np.maximum(np.abs(low), np.abs(high))
        if self._part and (low > high).any():
            self.empty = True
        elif not (size <= LARGEST).all() or not (low <= high).all():
            raise ProofError(f"numbers of layer {self.graph.places[index].name!r} may be larger than 2**100, or NaN")
        for known, part in ((self.intervals, (low, high)), (self.sizes, size)):
            known[index:] = [part]  # type: ignore[list-item, index]

    def within(self, cuts: Sequence[Cut]) -> Bounds:
        """The same on the inputs that some cuts of places leave.

        What holds on all inputs holds on fewer; the numbers that are cut have narrower intervals, and so other lines.
        """
        found = copy.copy(self)
        found.intervals, found.sizes = list(self.intervals), list(self.sizes)
        found._lines, found._planes = dict(self._lines), dict(self._planes)
        for cut in () if self.empty else cuts:
            found._cut(cut)
        return found

    def _cut(self, cut: Cut) -> None:
        """Takes up that a cut holds."""
        low, high = (end.copy() for end in self.intervals[cut.place])
        end = low if cut.above else high
        end.flat[cut.number] = (max if cut.above else min)(cut.at, end.flat[cut.number])
        self.intervals[cut.place], self.sizes[cut.place] = (low, high), np.maximum(np.abs(low), np.abs(high))
        self.forget(cut.place)
        self.empty |= bool(low.flat[cut.number] > high.flat[cut.number])

    # Intervals.

    def _interval(self, place: Place) -> Interval:
        unit, tiny = self.graph.unit, self.graph.tiny
        ends = [self.intervals[i] for i in place.inputs]
        sizes = [self.sizes[i] for i in place.inputs]
        lost = rows = np.zeros(())
        match place:
            case Entry():
                found = self.inputs.low, self.inputs.high
            case Affine():
                map, size = place.map, self._affine_size(place, sizes[0])
                if not map.exact:
                    lost = growth(map.terms + place.extra, unit) * size + self._flushed(place, sizes[0])
                    if place.follows:
                        lost = lost + self._drawn_in(place)
                rows = lost + growth(map.reads + 8 + place.count + 8) * size
                found = self._through(place, *ends[0], lost + growth(2 * map.terms + 32) * size)
            case Bent():
                found = Shape(place, ends[0], self.graph).interval()
            case Largest():
                low, high = entries(place, ends[0])
                found = np.nanmax(low, axis=0) - 2.0 * tiny, np.nanmax(high, axis=0) + 2.0 * tiny
            case Total():
                size = np.sum(sizes, axis=0) * (1.0 + growth(len(sizes) + 4))
                lost = growth(len(sizes), unit) * size + 2.0 * len(sizes) * tiny
                rows, more = lost, lost + growth(len(sizes) + 4) * size
                low, high = (np.sum([pair[k] for pair in ends], axis=0) for k in (0, 1))
                found = low - more, high + more
            case Beside():
                found = tuple(np.concatenate([pair[k] for pair in ends], axis=-1) for k in (0, 1))  # type: ignore[assignment]
            case _:
                raise TypeError(type(place).__name__)
        self._program.append(lost)
        self.losses.append(rows)
        return found

    def _affine_size(self, place: Affine, size: np.ndarray) -> np.ndarray:
        """``|W| m + |b|``, never below it."""
        found = place.map.forward(size[None], size=True)[0] + place.bias_size
        return np.asarray(found * (1.0 + 4.0 * growth(place.map.terms + 16)))

    def _drawn_in(self, place: Affine) -> np.ndarray:
        """What a scale loses more where it is drawn into the place before it."""
        before, index = self.graph.places[place.inputs[0]], place.inputs[0]
        if not isinstance(before, Affine) or before.map.exact:
            return np.zeros(())
        entering = self.sizes[before.inputs[0]]
        size, flushed = self._affine_size(before, entering), self._flushed(before, entering)
        both = np.stack([np.broadcast_to(part, place.map.into) for part in (size, self._program[index])])
        size, lost = place.map.forward(both, size=True)
        share = growth(before.map.terms + place.extra + 2, self.graph.unit)
        found = share * (size + place.bias_size) + lost + float(np.max(flushed)) + 4.0 * self.graph.tiny * place.extra
        return np.asarray(found * (1.0 + 2.0**-40))

    def _flushed(self, place: Affine, size: np.ndarray) -> np.ndarray:
        """What results, weights and inputs lose that the program flushes to zero."""
        weights = place.map.forward(np.ones((1, *size.shape)), size=True)[0]
        terms = place.map.terms + place.extra
        lost = weights + terms * (float(np.max(size)) + float(np.max(place.bias_size, initial=0.0)) + 2.0)
        return np.asarray(4.0 * self.graph.tiny * lost)

    def _through(self, place: Affine, low: np.ndarray, high: np.ndarray, error: np.ndarray) -> Interval:
        """The interval of an affine place. Its middle and radius are sums that ``error`` is to cover."""
        if place.map.exact:
            return place.map.forward(low[None])[0], place.map.forward(high[None])[0]
        middle = 0.5 * low + 0.5 * high
        radius = np.maximum(high - middle, middle - low) * (1.0 + 2.0**-50)
        center = place.map.forward(middle[None])[0] + place.bias
        reach = place.map.forward(radius[None], size=True)[0] + error + LEAST
        return center - reach, center + reach

    # Rows.

    def _narrowed(self, index: int, all_of_them: bool) -> Interval:
        """The interval of a place, met with bounds by rows of those numbers whose piece it leaves open, or of all: of
        what is pooled afterwards ends count, too."""
        low, high = (end.copy() for end in self.intervals[index])
        place, open_ = self.graph.places[index], np.full(low.shape, all_of_them)
        pooled = {source for reader in self.graph.places if isinstance(reader, Largest) for source in reader.inputs}
        for here in [here for here in self.bends if index in self.graph.places[here].inputs]:
            reader = self.graph.places[here]
            if isinstance(reader, Bent) and reader.function.parts and here not in pooled:
                open_ |= np.any([(low < kink) & (kink < high) for kink in reader.function.kinks], axis=0)
            else:
                open_[...] = True
        numbers = np.flatnonzero(open_)
        widest = max(place.count for place in self.graph.places[: index + 1])
        size = max(1, AT_ONCE // (2 * widest), min(16, (64 * AT_ONCE) // widest))
        for first in range(0, len(numbers), size):
            some = numbers[first : first + size]
            rows = np.zeros((2 * len(some), place.count))
            rows[np.arange(len(some)), some] = 1.0
            rows[len(some) + np.arange(len(some)), some] = -1.0
            found = self.least(index, rows := rows.reshape(-1, *place.shape))
            for stops in [pool for pool in self.pools if pool[0] < index]:
                found = np.maximum(found, self.least(index, rows, stops=stops))
            low.flat[some] = np.maximum(low.flat[some], found[: len(some)])
            high.flat[some] = np.minimum(high.flat[some], -found[len(some) :])
        return low, high


def margin_of_softmax(graph: Graph) -> float:
    """What a difference of numbers must exceed for the softmax of one to be larger than that of the other.

    With x the largest number and y another, x - y at least 64 u: the program computes ``exp`` of 0 and of ``fl(y - x)
    <= -64 u (1 - u)``, each off by at most 8 units in the last place, 16 u relative, and divides both by one sum or
    multiplies them by its inverse, which is monotone but for 4 u. ``exp(-64 u (1 - u)) (1 + 16 u) (1 + 4 u) < (1 - 16
    u) (1 - 4 u)``.
    """
    return 64.0 * graph.unit if graph.softmax else 0.0


def ranks_first(clauses: Sequence[np.ndarray]) -> bool:
    """Tells whether rows are differences of one number to others, one row a clause: all that is known of a softmax."""
    firsts = set()
    for rows in clauses:
        if len(rows) != 1 or sorted(rows[0][rows[0] != 0].tolist()) != [-1.0, 1.0]:
            return False
        firsts.add(int(np.argmax(rows[0])))
    return len(firsts) == 1
