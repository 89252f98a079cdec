"""Parts of an encoding: variables, numbers that are affine in one of them each, and affine functions."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from tfcert.complete.encoding.piecewise import Affine
from tfcert.complete.encoding.program import Program, ProgramBuilder
from tfcert.network.sparse import Entries
from tfcert.roundoff import Rounding

ArrayInterval = tuple[np.ndarray, np.ndarray]
PAD = 1e-9
"""Bounds and lines are computed in float64: they are widened by this much, relative to numbers above 1."""
ROOM = 2.0**-48
"""What 32 operations of float64 lose of their terms, at most."""
SHORT = 1e-7
"""An input is this near an edge if a solver may have mistaken its side: a hundred times the tolerance of solvers."""


@dataclass(frozen=True)
class Values:
    """Numbers that are affine in one variable each: ``scale * v[column] + shift``; no variable where column is -1."""

    column: np.ndarray
    scale: np.ndarray
    shift: np.ndarray

    def take(self, index: np.ndarray) -> Values:
        return Values(self.column[index], self.scale[index], self.shift[index])

    def at(self, v: np.ndarray) -> np.ndarray:
        """The numbers at a point."""
        return np.where(self.column < 0, 0.0, self.scale * v[self.column]) + self.shift


@dataclass(frozen=True)
class EncodingOptions:
    """Options of an encoding.

    Attributes:
        relax: without binaries.
        room: whether rows leave room for what rounding may take where the network is rounded; without it points of the
            program are what the formula says, good to look for witnesses, and nothing is proven.
        pieces: into how many pieces the interval of a curved activation is cut.
        until: ``time.monotonic()`` at which writing is given up, with a TimeoutError.
    """

    relax: bool = False
    room: bool = True
    pieces: int = 6
    until: float = math.inf


@dataclass
class Encoding:
    """A program under construction, and what its variables mean.

    Attributes:
        inputs: the variables of the input, ``[n]``.
        outputs: the outputs.
        distance: the variables and coefficients of the distance from the centre (of its square for L2).
        rounding: of the network, if the numbers are those of a rounded one: rows leave room for it and for our own.
    """

    builder: ProgramBuilder
    options: EncodingOptions
    inputs: np.ndarray
    outputs: Values = field(default_factory=lambda: constants(np.zeros(0)))
    distance: tuple[np.ndarray, np.ndarray] | None = None
    rounding: Rounding | None = None
    _steps: list[Callable[[np.ndarray], None]] = field(default_factory=list)
    _switches: list[tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]] = field(default_factory=list)
    _jumps: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = field(default_factory=list)

    @property
    def rounded(self) -> bool:
        """Tells whether the numbers are those of a rounded network."""
        return self.rounding is not None

    def copy(self) -> Encoding:
        """The same encoding, to be continued in another way."""
        return replace(
            self,
            builder=self.builder.copy(),
            _steps=list(self._steps),
            _switches=list(self._switches),
            _jumps=list(self._jumps),
        )

    def room(self, *terms: np.ndarray) -> np.ndarray | float:
        """By how much a row is moved that is computed from such terms by a few operations; 0 unless rounding counts."""
        return ROOM * sum(map(np.abs, terms), np.finfo(np.float64).tiny) if self.rounded else 0.0

    def check_time(self) -> None:
        """Raises a TimeoutError where the time to write is over."""
        if time.monotonic() > self.options.until:
            raise TimeoutError("the budget was used up while the program was written")

    def step(self, columns: np.ndarray, rule: Callable[[np.ndarray], np.ndarray]) -> None:
        """Notes how a variable follows from earlier ones."""

        def fill(v: np.ndarray) -> None:
            v[columns] = rule(v)

        self._steps.append(fill)

    def point(self, x: np.ndarray, program: Program) -> np.ndarray:
        """The point of a program in which the inputs are ``x`` (flattened) and everything else follows."""
        v = np.zeros(len(program.lower))
        v[self.inputs] = x
        for fill in self._steps:
            fill(v)
        return v

    def jump(self, binary: np.ndarray, column: np.ndarray, below: np.ndarray, at: np.ndarray) -> None:
        """Notes binaries that are 1 where an input is ``at`` an edge or beyond, and 0 up to ``below`` it."""
        self.step(binary, lambda v: (v[column] >= at).astype(np.float64))
        if not self.options.relax:
            self._switches.append((binary, lambda v: v[column] - at))
            self._jumps.append((binary, column, below, at))

    def settled(self, v: np.ndarray) -> np.ndarray:
        """The inputs of a solver's point, on the side of each edge that its binaries claim.

        By its tolerance a solver may leave an input just short of the edge that it says is reached. What follows
        differs by a whole cell then.
        """
        moved = v.copy()
        for binary, column, below, at in self._jumps:
            value, claimed = moved[column], v[binary] > 0.5
            near = np.abs(value - at) <= SHORT
            moved[column] = np.where(near, np.where(claimed, np.maximum(value, at), np.minimum(value, below)), value)
        return moved[self.inputs]

    def undecided(self, v: np.ndarray, closeness: float) -> np.ndarray:
        """The binaries of hinges whose neuron is within ``closeness`` of its kink at a point: rounding decides them."""
        found = [columns[np.abs(beyond(v)) <= closeness] for columns, beyond in self._switches]
        return np.concatenate([np.zeros(0, np.int64), *found])


def widened(pair: ArrayInterval) -> ArrayInterval:
    """Bounds, flattened, with room for what float64 loses."""
    low, high = (np.asarray(end, np.float64).reshape(-1) for end in pair)
    return low - PAD * np.maximum(1.0, np.abs(low)), high + PAD * np.maximum(1.0, np.abs(high))


def ones(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Scale 1 and shift 0."""
    return np.ones(count), np.zeros(count)


def constants(values: np.ndarray) -> Values:
    """Numbers that hang on no variable."""
    return Values(np.full(len(values), -1), np.zeros(len(values)), values)


def own_variables(columns: np.ndarray) -> Values:
    """Numbers that are variables."""
    return Values(columns, *ones(len(columns)))


def affine_values(
    encoding: Encoding,
    affine: Affine,
    values: Sequence[Values],
    pair: ArrayInterval,
    wanted: np.ndarray | None = None,
) -> Values:
    """The numbers of an affine function; those that are not ``wanted`` (by default all are) are left zero.

    A number that hangs on one variable is that variable, scaled; the others, and those that may be off, get one of
    their own.
    """
    offset, parts = affine.offset.copy(), []
    wanted = np.ones(affine.size, bool) if wanted is None else wanted
    for layer, entries in affine.matrices.items():
        encoding.check_time()
        known = values[layer].take(entries.column)
        np.add.at(offset, entries.row, entries.value * known.shift)
        some = (known.column >= 0) & (known.scale != 0) & wanted[entries.row]
        parts.append(Entries(entries.row[some], known.column[some], (entries.value * known.scale)[some]))
    row, column, value = (np.concatenate([getattr(p, k) for p in parts]) for k in ("row", "column", "value"))
    count = np.bincount(row, minlength=affine.size)
    found = constants(np.where(wanted, offset, 0.0))
    off = np.where(wanted, 0.0 if affine.off is None else affine.off, 0.0)
    single = (count[row] == 1) & (off[row] == 0)
    found.column[row[single]], found.scale[row[single]] = column[single], value[single]
    many = np.flatnonzero((count > 1) | (off > 0))
    if len(many):
        own = encoding.builder.variables(pair[0][many], pair[1][many])
        place = np.zeros(affine.size, np.int64)
        place[many] = np.arange(len(many))
        rest = ~single
        row, column, value = place[row[rest]], column[rest], value[rest]
        shift, off = offset[many], off[many]
        for sign in (1.0, -1.0) if (off > 0).any() else (1.0,):
            encoding.builder.entries(row, column, sign * value)
            room = off + encoding.room(shift, off) if (off > 0).any() else 0.0
            encoding.builder.rows([(own, -sign)], room - sign * shift, equal=not (off > 0).any())
        encoding.step(own, lambda v: np.bincount(row, weights=value * v[column], minlength=len(own)) + shift)
        found.column[many], found.scale[many], found.shift[many] = own, 1.0, 0.0
    return found
