"""Lower bounds of rows over a place: backward from place to place, through lines, to the input.

``A y`` over a place's numbers y is ``A (W x + b) + A e`` with ``|e|`` what the program loses there (``bounds.py``). The
coefficients ``A' = fl(A W)`` are taken as exact from there on, which changes the value by at most ``growth(reads) |A|
|W| m``, with as many terms as outputs read one input. A nonlinear place lies between lines (``lines.py``). All of this
is ``|A|`` times one vector a place. Sums of constants of K places' n numbers lose ``growth(n + K + 16)`` of the sum of
their sizes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from .graph import Affine, Bent, Beside, Entry, Graph, Largest, Nonlinear, Place, Total
from .lines import Interval, Lines, Planes, Shape, planes
from .maps import cropped, used
from .region import Inputs, box_of
from .rounding import LARGEST, LEAST, growth, weighed

Slopes = Mapping[int, np.ndarray]
"""For bent places, where lower lines lie: 0 for the least slope of the function and 1 for the greatest; for maxima the
levels of upper planes: 1 for the rule's. ``[rows, *shape]`` or ``[*shape]``."""


class Cut(NamedTuple):
    """Inputs at which a number of a place is at most (``above`` False) or at least ``at``, as the program computes
    it."""

    place: int
    number: int
    at: float
    above: bool


class Choice(NamedTuple):
    """How rows are bounded.

    Attributes:
        slopes: where lower lines of bent places, and upper planes of maxima, lie other than by the rule.
        cuts: of the place of the rows and of those before it: the rows are bounded where these hold.
        multipliers: ``[count, cuts]``, not negative: where ``z >= a`` holds a row is at least the row less ``m (z -
            a)``, which is what is bounded then (weak duality). None for 0.
    """

    slopes: Slopes = MappingProxyType({})
    cuts: Sequence[Cut] = ()
    multipliers: np.ndarray | None = None


RULE = Choice()


class Known:
    """What is known of each place of a graph over a set of inputs.

    Attributes:
        intervals: of its numbers as the program computes them; sizes: the largest of each.
        losses: what rows over the place lose, of affine places and totals.
        bends: the nonlinear places.
        pools: the first maximum alone, where there is one: lines through it are loose, so that rows may be bounded
            better by what is known of its numbers.
    """

    def __init__(self, graph: Graph, inputs: Inputs):
        self.graph, self.inputs = graph, inputs
        self.intervals: list[Interval] = []
        self.sizes: list[np.ndarray] = []
        self.losses: list[np.ndarray] = []
        self.bends = [index for index, place in enumerate(graph.places) if isinstance(place, Nonlinear)]
        self.pools = [[index] for index in self.bends if isinstance(graph.places[index], Largest)][:1]
        self._lines: dict[int, Lines] = {}
        self._planes: dict[int, Planes] = {}

    def bent_lines(self, index: int, chosen: np.ndarray | None = None) -> Lines:
        """Lines of a bent place: by the rule, or with lower slopes that are chosen."""
        place = self.graph.places[index]
        assert isinstance(place, Bent)
        rule = self._lines.get(index)
        if rule is None or chosen is not None:
            shape = Shape(place, self.intervals[place.inputs[0]], self.graph)
            rule = self._lines[index] = rule or shape.lines()
            if chosen is not None:
                least, most = place.function.slopes
                return shape.lines(least + (most - least) * np.clip(chosen, 0.0, 1.0), rule.upper)
        return rule

    def planes(self, index: int, chosen: np.ndarray | None = None) -> Planes:
        """Planes of a place of maxima: by the rule, or with upper levels that are chosen."""
        place = self.graph.places[index]
        assert isinstance(place, Largest)
        if chosen is None and index in self._planes:
            return self._planes[index]
        found = planes(place, self.intervals[place.inputs[0]], self.graph.tiny, chosen)
        return found if chosen is not None else self._planes.setdefault(index, found)

    def forget(self, source: int) -> None:
        """Drops lines and planes over numbers of a place."""
        for index, place in enumerate(self.graph.places):
            if source in place.inputs:
                self._lines.pop(index, None)
                self._planes.pop(index, None)

    def least(
        self, index: int, rows: np.ndarray, offsets: Any = 0.0, chosen: Choice = RULE, stops: Collection[int] = ()
    ) -> np.ndarray:
        """Lower bounds ``[count]`` of rows over the numbers of a place; minus infinity where nothing is known.

        Args:
            index: the place.
            rows: ``[count, *shape]``, exact.
            offsets: ``[count]`` numbers that are added.
            chosen: how.
            stops: places that are bounded by their intervals, and not by those before them.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            going = _Pass(self, index, rows, offsets)
            if chosen.multipliers is not None:
                going.pull(chosen.cuts, chosen.multipliers)
            for here in range(index, -1, -1):
                place = self.graph.places[here]
                if not going.arrives(here):
                    continue
                if not going.small:
                    return np.full(len(rows), -np.inf)
                if isinstance(place, Entry) or here in stops:
                    going.ends(self.inputs if isinstance(place, Entry) else box_of(*self.intervals[here]))
                else:
                    going.passes(here, place, chosen.slopes.get(here))
            return going.least(len(chosen.cuts))


class _Pass:
    """Rows on their way to the input: coefficients that wait for each place, constants, and what is lost.

    Of images only the part is looked at beside which all coefficients of a place are 0.
    """

    def __init__(self, known: Known, index: int, rows: np.ndarray, offsets: Any):
        self._known, self._places, self._count = known, known.graph.places, len(rows)
        self._total = np.zeros(len(rows)) + offsets
        self._size, self._lost = np.abs(self._total), np.zeros(len(rows))
        self._waiting: dict[int, np.ndarray] = {index: np.asarray(rows, np.float64)}

    def pull(self, cuts: Sequence[Cut], multipliers: np.ndarray) -> None:
        """Takes multipliers times distances from cuts off the rows."""
        pulls: dict[int, np.ndarray] = {}
        for number, cut in enumerate(cuts):
            pull = pulls.setdefault(cut.place, np.zeros((self._count, self._places[cut.place].count)))
            force = (-1.0 if cut.above else 1.0) * multipliers[:, number]
            pull[:, cut.number] += force
            self._gain(-force * cut.at, np.abs(force * cut.at))
            # A number may be cut several times: the sum of what is added is rounded as often.
            size = self._known.sizes[cut.place].flat[cut.number]
            self._lost = self._lost + np.abs(force) * (4.0 * growth(len(cuts) + 2) * size)
        for place, pull in pulls.items():
            self._pass_on(place, pull.reshape(self._count, *self._places[place].shape))

    def arrives(self, here: int) -> bool:
        """Takes up the coefficients of a place, if there are any."""
        if here not in self._waiting:
            return False
        self._whole = self._waiting.pop(here)
        self._box = used(self._whole)
        self._part = self._whole[self._box]
        self._flat = self._part.reshape(self._count, -1)
        self._sizes = np.abs(self._flat)
        self.small = bool((self._sizes <= LARGEST).all())  # and no NaN
        return True

    def ends(self, inputs: Inputs) -> None:
        """Bounds the rows over a set."""
        found = inputs.least(self._whole)
        self._gain(found, np.abs(found))

    def passes(self, here: int, place: Place, chosen: np.ndarray | None) -> None:
        """Takes the rows through a place to those before it."""
        whole = self._whole
        match place:
            case Affine():
                self._lose(self._known.losses[here], place.shape)
                bias = self._over(np.broadcast_to(place.bias, place.shape))
                self._gain(_times(self._flat, bias), weighed(self._sizes, np.abs(bias).reshape(-1)))
                self._pass_on(place.inputs[0], place.map.back(whole))
            case Total():
                self._lose(self._known.losses[here], place.shape)
                for source in place.inputs:
                    self._pass_on(source, whole)
            case Beside():
                ends = np.cumsum([self._places[source].shape[-1] for source in place.inputs])[:-1]
                for source, piece in zip(place.inputs, np.split(whole, ends, axis=-1), strict=True):
                    self._pass_on(source, piece)
            case Bent():
                lines = self._known.bent_lines(here, chosen)
                self._lose(lines.lost, place.shape)
                lower, below, upper, above = (self._over(part) for part in lines[:4])
                up, down = np.maximum(self._part, 0.0), np.minimum(self._part, 0.0)
                self._gain(
                    _times(up, below) + _times(down, above), _times(up, np.abs(below)) - _times(down, np.abs(above))
                )
                self._pass_on(place.inputs[0], self._spread(up * lower + down * upper))
            case Largest():
                found, known = place.windows.empty(self._count), self._known.planes(here, chosen)
                up, down = np.maximum(whole, 0.0), np.minimum(whole, 0.0)
                for number, where in enumerate(place.windows.places):
                    found[place.windows.at(where)] += up * known.below[number] + down * known.above[number]
                self._gain(_times(down, known.intercept), -_times(down, np.abs(known.intercept)))
                self._lost = self._lost + weighed(whole, known.lost)
                self._pass_on(place.inputs[0], cropped(found, place.windows.zeros))

    def least(self, cuts: int) -> np.ndarray:
        """The bounds, once the rows have come to their ends."""
        most = max(place.count for place in self._places)
        steps = 4 * len(self._places) + 4 * cuts + 64  # additions, of what is gained and of what is lost
        lost = self._lost * (1.0 + 2.0 * growth(steps)) + 4.0 * growth(most + steps) * self._size
        least = self._total - lost - LEAST
        return np.where(np.isfinite(least), least, -np.inf)

    def _over(self, vector: np.ndarray) -> np.ndarray:
        """What of numbers ``[*shape]`` or ``[rows, *shape]`` is looked at."""
        return vector[self._box if vector.ndim == len(self._box) else self._box[1:]]

    def _spread(self, part: np.ndarray) -> np.ndarray:
        whole = np.zeros(self._whole.shape)
        whole[self._box] = part
        return whole

    def _gain(self, parts: np.ndarray, sizes: np.ndarray) -> None:
        self._total, self._size = self._total + parts, self._size + sizes

    def _lose(self, vector: np.ndarray, shape: tuple[int, ...]) -> None:
        lost = self._over(np.broadcast_to(vector + LEAST, shape)).reshape(-1)
        self._lost = self._lost + weighed(self._sizes, lost)

    def _pass_on(self, source: int, found: np.ndarray) -> None:
        if source in self._waiting:
            found = self._waiting[source] + found
            self._lost = self._lost + weighed(found, 2.0 * growth(2) * self._known.sizes[source])
        self._waiting[source] = found


def _times(rows: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """The sum of each row's products with numbers, which are one for all rows, or one a row."""
    flat = rows.reshape(len(rows), -1)
    if numbers.size == flat.shape[1]:
        return np.asarray(flat @ numbers.reshape(-1))
    return np.asarray((flat * numbers.reshape(flat.shape)).sum(axis=1))
