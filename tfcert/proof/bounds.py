"""Intervals of every place's numbers as the deployed program computes them, and lower bounds of rows over a place.

*Values.* A place's numbers are those that the deployed program holds, whatever its order of sums; where it draws a
scale into the weights before it, and so never holds a place's numbers, they may be any within its rounding. The
interval of ``W x + b`` is that of exact arithmetic over the interval of x, wider by what the program may lose:

    growth(n + extra, U) (|W| m + |b|) + flushed,    m >= |x|,  n terms,  U its unit roundoff.

A scale ``y = s z + t`` of ``z = W x + b`` may be drawn into W: then y is one sum of ``n + 1`` terms with ``extra`` more
roundings each, off by ``growth(n + extra + 2, U) (|s| (|W| m + |b|) + |t|)``, and if other places read z as well, they
may have other numbers, within what z may lose. Both are charged beside what y loses if it is computed of z. Flushing
loses at most the smallest normal number for each operation's result, for a weight times m, and for an input times its
weights.

*Rows.* ``A y`` over a place's numbers y is bounded by going backward from place to place: ``A y = A (W x + b) + A e``
with ``|e|`` as above. The coefficients ``A' = fl(A W)`` are taken as exact from there on, which changes the value by
at most ``growth(reads) |A| |W| m``, with as many terms as outputs read one input. A bent function lies between two
lines on its interval; their slopes are choices, and any will do, since intercepts are computed of them
(:meth:`Bounds.lines`). All of this is ``|A|`` times one vector a place. Sums of constants of K places' n numbers lose
``growth(n + K + 16)`` of the sum of their sizes.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from .errors import ProofError
from .graph import Affine, Bent, Beside, Entry, Graph, Largest, Nonlinear, Place, Total, bent
from .maps import cropped
from .region import Inputs, box_of
from .rounding import LARGEST, LEAST, growth, weighed

Interval = tuple[np.ndarray, np.ndarray]
Slopes = Mapping[int, np.ndarray]
"""For bent places, where lower lines lie: 0 for the least slope of the function's pieces and 1 for the greatest,
``[rows, *shape]`` or ``[*shape]``."""
_MANY = 1000
AT_ONCE = 1 << 17
"""Coefficients of a batch of rows, at most."""


class Cut(NamedTuple):
    """Inputs at which a number of a place is at most (``above`` False) or at least ``at``, as the program computes
    it."""

    place: int
    number: int
    at: float
    above: bool


class Lines(NamedTuple):
    """``lower x + below <= f(x) <= upper x + above`` on an interval, and what rows over it lose: ``|A| lost``."""

    lower: np.ndarray
    below: np.ndarray
    upper: np.ndarray
    above: np.ndarray
    lost: np.ndarray


class Bounds:
    """What is known of a graph's numbers over a set of inputs.

    Args:
        graph: the places.
        inputs: the set.
        backward: whether numbers that enter a nonlinear place are bounded by rows to the input, where intervals leave
        open which
            piece they lie on; else by intervals alone.

    Raises:
        ProofError: a number may be larger than 2**100: nothing is known then.
    """

    def __init__(self, graph: Graph, inputs: Inputs, backward: bool):
        self.graph, self._inputs = graph, inputs
        self.intervals: list[Interval] = []
        self.sizes: list[np.ndarray] = []
        self._lost: list[np.ndarray] = []  # by the program, of affine places and totals
        self._rows: list[np.ndarray] = []  # by rows over the place
        self._named: dict[int, Lines | tuple[np.ndarray, ...]] = {}
        self._mixes: list[int] = []
        wanted = {i for place in graph.places if isinstance(place, Nonlinear) for i in place.inputs}
        with np.errstate(over="ignore", invalid="ignore"):
            for index, place in enumerate(graph.places):
                low, high = self._interval(place)
                self._take(index, low, high)
                self._mixes.append(self._mixed(place))
                if index in wanted and isinstance(place, Affine | Total):
                    mixes, ball = self._mixes[index], inputs.norm != "linf"
                    if (backward and mixes > 1) or (ball and (backward or mixes < _MANY)):
                        self._take(index, *self._narrowed(index, all_of_them=mixes < _MANY))

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
        """Takes up a place's interval, the first or a narrower one."""
        size = np.maximum(np.abs(low), np.abs(high))
        if not (size <= LARGEST).all() or not (low <= high).all():
            raise ProofError(f"numbers of layer {self.graph.places[index].name!r} may be larger than 2**100, or NaN")
        for known, part in ((self.intervals, (low, high)), (self.sizes, size)):
            known[index:] = [part]  # type: ignore[list-item, index]

    def within(self, cuts: Sequence[Cut]) -> Bounds | None:
        """The same on the inputs that some cuts of places leave; None where they leave none.

        What holds on all inputs holds on fewer; the numbers that are cut have narrower intervals, and so other lines.
        """
        found = copy.copy(self)
        found.intervals, found.sizes, found._named = list(self.intervals), list(self.sizes), dict(self._named)
        for cut in cuts:
            low, high = (end.copy() for end in found.intervals[cut.place])
            (low if cut.above else high).flat[cut.number] = (max if cut.above else min)(
                cut.at, (low if cut.above else high).flat[cut.number]
            )
            if low.flat[cut.number] > high.flat[cut.number]:
                return None
            found.intervals[cut.place], found.sizes[cut.place] = (low, high), np.maximum(np.abs(low), np.abs(high))
            for index, place in enumerate(self.graph.places):
                if cut.place in place.inputs:
                    found._named.pop(index, None)
        return found

    # Intervals.

    def _interval(self, place: Place) -> Interval:
        unit, tiny = self.graph.unit, self.graph.tiny
        ends = [self.intervals[i] for i in place.inputs]
        sizes = [self.sizes[i] for i in place.inputs]
        lost = rows = np.zeros(())
        match place:
            case Entry():
                found = self._inputs.low, self._inputs.high
            case Affine():
                map, size = place.map, self._affine_size(place, sizes[0])
                if not map.exact:
                    lost = growth(map.terms + place.extra, unit) * size + self._flushed(place, sizes[0])
                    if place.follows:
                        lost = lost + self._drawn_in(place)
                rows = lost + growth(map.reads + 8 + place.count + 8) * size
                found = self._through(place, *ends[0], lost + growth(2 * map.terms + 32) * size)
            case Bent():
                error = self._bent_error(place, *ends[0])
                low, high = bent(place, ends[0][0]), bent(place, ends[0][1])
                low, high = np.minimum(low, high), np.maximum(low, high)
                for kink in place.kinks:  # where it may turn
                    inside, value = (ends[0][0] < kink) & (kink < ends[0][1]), bent(place, np.array(kink))
                    low, high = (
                        np.where(inside, f(end, value), end) for f, end in ((np.minimum, low), (np.maximum, high))
                    )
                found = low - error, high + error
            case Largest():
                fills = [place.windows.pad(end[None], -np.inf) for end in ends[0]]
                parts = [[image[place.windows.at(p)][0] for p in place.windows.places] for image in fills]
                found = np.max(parts[0], axis=0) - 2.0 * tiny, np.max(parts[1], axis=0) + 2.0 * tiny
            case Total():
                size = np.sum(sizes, axis=0) * (1.0 + growth(len(sizes) + 4))
                lost = growth(len(sizes), unit) * size + 2.0 * len(sizes) * tiny
                rows, more = lost, lost + growth(len(sizes) + 4) * size
                found = (
                    np.sum([low for low, _ in ends], axis=0) - more,
                    np.sum([high for _, high in ends], axis=0) + more,
                )
            case Beside():
                found = tuple(np.concatenate([pair[k] for pair in ends], axis=-1) for k in (0, 1))  # type: ignore[assignment]
            case _:
                raise TypeError(type(place).__name__)
        self._lost.append(lost)
        self._rows.append(rows)
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
        size, flushed = (
            self._affine_size(before, self.sizes[before.inputs[0]]),
            self._flushed(before, self.sizes[before.inputs[0]]),
        )
        both = np.stack([np.broadcast_to(part, place.map.into) for part in (size, self._lost[index])])
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

    def _bent_error(self, place: Bent, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """By how much the program's value, and ours, differ from the function's; ReLU alone is exact, but for
        flushing."""
        if place.units == 0 and place.kinks == (0.0,):
            return np.full((), 2.0 * self.graph.tiny)
        size = np.maximum(np.abs(low), np.abs(high)) + sum(map(abs, place.kinks))
        steepest = max(1.0, *map(abs, place.slopes))
        units = growth(place.units, self.graph.unit) if place.units else 0.0
        return np.asarray((units + growth(16)) * steepest * size + 4.0 * self.graph.tiny + LEAST)

    # Rows.

    def _narrowed(self, index: int, all_of_them: bool) -> Interval:
        """The interval of a place, met with bounds by rows of those numbers whose piece it leaves open, or of all."""
        low, high = (end.copy() for end in self.intervals[index])
        place, open_ = self.graph.places[index], np.full(low.shape, all_of_them)
        for reader in self.graph.places:
            if index in reader.inputs and isinstance(reader, Bent):
                for kink in reader.kinks:
                    open_ |= (low < kink) & (kink < high)
            elif index in reader.inputs and isinstance(reader, Largest):
                open_[...] = True
        numbers = np.flatnonzero(open_)
        widest = max(place.count for place in self.graph.places[: index + 1])
        size = max(1, AT_ONCE // (2 * widest), min(16, (64 * AT_ONCE) // widest))
        for first in range(0, len(numbers), size):
            some = numbers[first : first + size]
            rows = np.zeros((2 * len(some), place.count))
            rows[np.arange(len(some)), some] = 1.0
            rows[len(some) + np.arange(len(some)), some] = -1.0
            found = self.least(index, rows.reshape(-1, *place.shape))
            low.flat[some] = np.maximum(low.flat[some], found[: len(some)])
            high.flat[some] = np.minimum(high.flat[some], -found[len(some) :])
        return low, high

    def least(
        self,
        index: int,
        rows: np.ndarray,
        slopes: Slopes | None = None,
        stops: bool = False,
        offsets: np.ndarray | None = None,
        cuts: Sequence[Cut] = (),
        multipliers: np.ndarray | None = None,
    ) -> np.ndarray:
        """Lower bounds ``[count]`` of rows over the numbers of a place; minus infinity where nothing is known.

        Args:
            index: the place.
            rows: ``[count, *shape]``, exact.
            slopes: where lower lines of bent places lie, other than by the rule.
            stops: whether nonlinear places are bounded by their intervals, and not by lines.
            offsets: ``[count]`` numbers that are added.
            cuts: the rows are bounded where these hold.
            multipliers: ``[count, cuts]``, not negative: where ``z >= a`` holds a row is at least the row less ``m (z -
                a)``, which is what is bounded then (weak duality).
        """
        count, places = len(rows), self.graph.places
        total = np.zeros(count) if offsets is None else offsets.astype(np.float64)
        size, lost, most = np.abs(total), np.zeros(count), max(place.count for place in places)
        waiting: dict[int, np.ndarray] = {index: np.asarray(rows, np.float64)}
        pulls: dict[int, np.ndarray] = {}
        for number, cut in enumerate(cuts if multipliers is not None else ()):
            assert multipliers is not None
            pull = pulls.setdefault(cut.place, np.zeros((count, places[cut.place].count)))
            force = (-1.0 if cut.above else 1.0) * multipliers[:, number]
            pull[:, cut.number] += force
            total, size = total - force * cut.at, size + np.abs(force * cut.at)
            # A number may be cut several times: the sum of what is added is rounded as often.
            lost = lost + np.abs(force) * (4.0 * growth(len(cuts) + 2) * self.sizes[cut.place].flat[cut.number])

        def gain(parts: np.ndarray, sizes: np.ndarray) -> None:
            nonlocal total, size
            total, size = total + parts, size + sizes

        def pass_on(source: int, found: np.ndarray) -> None:
            nonlocal lost
            if source in waiting:
                found = waiting[source] + found
                lost = lost + weighed(found, 2.0 * growth(2) * self.sizes[source])
            waiting[source] = found

        with np.errstate(over="ignore", invalid="ignore"):
            for here in range(index, -1, -1):
                if here in pulls:
                    pass_on(here, pulls[here].reshape(count, *places[here].shape))
                if here not in waiting:
                    continue
                part, place = waiting.pop(here), places[here]
                if not (np.abs(part) <= LARGEST).all():
                    return np.full(count, -np.inf)
                if isinstance(place, Entry) or (stops and isinstance(place, Nonlinear)):
                    inputs = self._inputs if isinstance(place, Entry) else box_of(*self.intervals[here])
                    found = inputs.least(part)
                    gain(found, np.abs(found))
                    continue
                if isinstance(place, Affine | Total):
                    lost = lost + weighed(part, np.broadcast_to(self._rows[here], place.shape) + LEAST)
                match place:
                    case Affine():
                        bias = np.broadcast_to(place.bias, place.shape)
                        gain(part.reshape(count, -1) @ bias.reshape(-1), weighed(part, np.abs(bias)))
                        pass_on(place.inputs[0], place.map.back(part))
                    case Total():
                        for source in place.inputs:
                            pass_on(source, part)
                    case Beside():
                        ends = np.cumsum([places[source].shape[-1] for source in place.inputs])[:-1]
                        for source, piece in zip(place.inputs, np.split(part, ends, axis=-1), strict=True):
                            pass_on(source, piece)
                    case Bent():
                        lines = self.bent_lines(here, place, None if slopes is None else slopes.get(here))
                        up, down = np.maximum(part, 0.0), np.minimum(part, 0.0)
                        gain(
                            _summed(up * lines.below + down * lines.above),
                            _summed(up * np.abs(lines.below) - down * np.abs(lines.above)),
                        )
                        lost = lost + weighed(part, np.broadcast_to(lines.lost, place.shape))
                        pass_on(place.inputs[0], up * lines.lower + down * lines.upper)
                    case Largest():
                        found, constant, sizes, gone = self.through_largest(here, place, part)
                        gain(constant, sizes)
                        lost = lost + gone
                        pass_on(place.inputs[0], found)
            steps = 4 * len(places) + 4 * len(cuts) + 64  # additions, of what is gained and of what is lost
            least = total - lost * (1.0 + 2.0 * growth(steps)) - 4.0 * growth(most + steps) * size - LEAST
            return np.where(np.isfinite(least), least, -np.inf)

    def bent_lines(self, index: int, place: Bent, chosen: np.ndarray | None) -> Lines:
        if chosen is None:
            if index not in self._named:
                self._named[index] = self._made(place, *self._ruled(place))
            return self._named[index]  # type: ignore[return-value]
        least, most = min(place.slopes), max(place.slopes)
        upper = self.bent_lines(index, place, None).upper
        return self._made(place, least + (most - least) * np.clip(chosen.astype(np.float64), 0.0, 1.0), upper)

    def _ruled(self, place: Bent) -> tuple[np.ndarray, np.ndarray]:
        """The slopes of a lower and an upper line: of the chord and the pieces at both ends, each the line that lies
        nearest to the function in the middle of the interval."""
        low, high = self.intervals[place.inputs[0]]
        width, middle = high - low, 0.5 * low + 0.5 * high
        with np.errstate(divide="ignore", invalid="ignore"):
            chord = (bent(place, high) - bent(place, low)) / width
        kinks = np.array(place.kinks)
        slopes = np.array(place.slopes)
        pieces = slopes[np.searchsorted(kinks, low, "right")], slopes[np.searchsorted(kinks, high, "left")]
        chord = np.clip(np.where(np.isfinite(chord), chord, pieces[0]), min(place.slopes), max(place.slopes))
        found = []
        for side in (0, 1):
            best, best_at = chord, np.full(low.shape, -np.inf)
            for slope in (chord, *pieces):
                intercepts = self._intercepts(place, slope)[side]
                at = (slope * middle + intercepts) * (1 if side == 0 else -1)
                best, best_at = np.where(at > best_at, slope, best), np.maximum(at, best_at)
            found.append(best)
        return found[0], found[1]

    def _intercepts(self, place: Bent, slope: np.ndarray) -> Interval:
        """The least and the greatest of ``f(x) - slope x`` on the interval, at its ends or at kinks, moved outward."""
        low, high = self.intervals[place.inputs[0]]
        steepest = max(1.0, *map(abs, place.slopes))
        at_ends = [bent(place, end) - slope * end for end in (low, high)]
        least, most = np.minimum(*at_ends), np.maximum(*at_ends)
        for kink in place.kinks:
            inside, value = (low < kink) & (kink < high), bent(place, np.array(kink)) - slope * kink
            least, most = (
                np.where(inside, np.minimum(least, value), least),
                np.where(inside, np.maximum(most, value), most),
            )
        size = np.maximum(np.abs(low), np.abs(high)) + sum(map(abs, place.kinks))
        error = growth(16) * 2.0 * steepest * size + self._bent_error(place, low, high) + LEAST
        return least - error, most + error

    def _made(self, place: Bent, lower: np.ndarray, upper: np.ndarray) -> Lines:
        """Lines of any slopes between the least and the greatest of the function's pieces."""
        steepest, size = max(1.0, *map(abs, place.slopes)), self.sizes[place.inputs[0]]
        below, above = self._intercepts(place, lower)[0], self._intercepts(place, upper)[1]
        return Lines(lower, below, upper, above, 4.0 * growth(4) * steepest * size + LEAST)

    def through_largest(self, index: int, place: Largest, rows: np.ndarray) -> tuple[np.ndarray, ...]:
        """Rows through lines of a maximum; what is gained, its size, and what is lost.

        Below lies the number with the largest sum of ends. Above, for any weights ``0 <= w <= 1``, convexity of the
        maximum puts the greatest difference to ``sum w x`` at a vertex: ``max_j ((1 - w_j) u_j + w_j l_j) - sum w l``.
        Weights are ``max(0, u - g) / (u - l)`` for the level g: the largest lower end, or the second-largest upper end
        if that is above.
        """
        if index not in self._named:
            self._named[index] = self._largest_lines(place)
        below, above, intercept, lost = self._named[index]  # type: ignore[misc]
        windows, up, down = place.windows, np.maximum(rows, 0.0), np.minimum(rows, 0.0)
        found = windows.empty(len(rows))
        for number, where in enumerate(windows.places):
            found[windows.at(where)] += up * below[number] + down * above[number]
        return (
            cropped(found, windows.zeros),
            _summed(down * intercept),
            weighed(rows, np.abs(intercept)),
            weighed(rows, lost),
        )

    def _largest_lines(self, place: Largest) -> tuple[np.ndarray, ...]:
        windows = place.windows
        ends = [windows.pad(end[None], np.nan) for end in self.intervals[place.inputs[0]]]
        low, high = (np.stack([image[windows.at(where)][0] for where in windows.places]) for image in ends)
        outside = np.isnan(low)
        low, high = np.where(outside, -np.inf, low), np.where(outside, -np.inf, high)
        best = np.argmax(low + high, axis=0)
        below = (np.arange(len(low)).reshape(-1, *[1] * best.ndim) == best).astype(np.float64)
        order = np.sort(high, axis=0)
        level = np.maximum(low.max(axis=0), order[-2] if len(order) > 1 else order[-1])
        with np.errstate(divide="ignore", invalid="ignore"):
            above = np.where(high > level, np.where(high > low, (high - level) / (high - low), 1.0), 0.0)
        dominates = low.max(axis=0) >= (order[-2] if len(order) > 1 else -np.inf)
        above = np.clip(np.where(dominates, below, above), 0.0, 1.0)
        flat, ceiling = np.where(outside, 0.0, low), np.where(outside, 0.0, high)
        reach = np.where(outside, -np.inf, (1.0 - above) * ceiling + above * flat).max(axis=0)
        size = np.maximum(np.abs(flat), np.abs(ceiling))
        sizes = (np.maximum(below, above) * size).sum(axis=0) + size.max(axis=0)
        intercept = reach - (above * flat).sum(axis=0) + growth(4 * len(low) + 32) * sizes
        return below, above, intercept, growth(4 * len(low) + 32) * sizes + 2.0 * self.graph.tiny


def _summed(x: np.ndarray) -> np.ndarray:
    return np.asarray(x.reshape(len(x), -1).sum(axis=1))


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
