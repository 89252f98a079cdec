"""What a search over boxes asks about batches of them: bounds of rows, planes below some, points that break one.

Boxes are arguments of everything here, and batches may have any size, so that each function is traced once for a
network, or for all of its structure (:mod:`tfcert.network.shared`), and a few numbers of rows.
"""

from __future__ import annotations

import itertools
import math
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfcert.complete.search.query import Query
from tfcert.complete.search.results import POSITIVE
from tfcert.network.graph import Network
from tfcert.network.shared import holder_of
from tfcert.options import BoundOptions
from tfcert.propagation.backward import linear_lower_bounds
from tfcert.propagation.coefficients import Coefficients
from tfcert.propagation.concretize import least_change
from tfcert.propagation.engine import differences_for, full_precision, prepared_bounds, warn_of_domains
from tfcert.propagation.preactivation import by_name, relax_before
from tfcert.propagation.sensitivity import is_counted, taken_by_input
from tfcert.roundoff import rounding_name
from tfcert.sets.balls import Box
from tfcert.sets.region import Region
from tfcert.tracing import kept, traced

SIZES = (16, 64, 256)
"""How many boxes are bounded at a time, at most."""
_ROWS = (16, 64, 256)
"""Passes are traced for so many rows."""
_PAIRS = 60
"""Sums of two rows, of all clauses together, at most."""
_NUMBERS = 1 << 19
"""Neurons of all boxes of a batch at most."""
_PLACES = 6
"""At so many points of a box it is seen how steep a row is."""
_STEPS = 5
"""Steps of a descent towards a point that breaks a clause."""
_FAR, _NEARER = 0.25, 0.6
"""How long the first step is, of a box's width, and how much shorter each is than the one before."""


_NEWS = 0.9
"""A point is looked at again where it is by this much worse than the last one that was."""


class RowPlanes(NamedTuple):
    """A linear function below a row on each of some boxes; of a rounded network, below what any program computes.

    Attributes:
        least: of the function on the box ``[boxes]``, not above it: a lower bound of the row.
        slopes: over the inputs ``[boxes, inputs]``, exact: the function is the one that has these.
        falls: an estimate of what a cut of each input is worth, for each unit of its width ``[boxes, inputs]``.
    """

    least: np.ndarray
    slopes: np.ndarray
    falls: np.ndarray


class Batches:
    """Bounds batches of boxes ``[boxes, inputs]`` for all clauses of a query, with its network's rounding.

    Attributes:
        enough: a clause is proven where its bound is above this.
        passes: how many passes were made.
        tied: the clauses that are never proven, for some point breaks them up to rounding and is no witness, and after
            how many passes that was seen.
        seen: of each clause the least margin at a point so far.
        neurons: how many enter a nonlinearity, those of differences included.
        single: how many rows a clause has; means of two of them follow.
    """

    def __init__(self, query: Query):
        self._query, self._network, self._shape = query, query.about, query.region.input_shape
        self._holder = holder_of(self._network)
        asked = query.posed
        self.single = asked.offsets.shape[2]
        coefficients, offsets, self._real = with_pairs(asked.coefficients[0], asked.offsets[0], asked.counts[0])
        self._rows = coefficients.reshape(-1, coefficients.shape[2])
        self._offsets = np.where(self._real, offsets, 0.0).ravel()
        kind = rounding_name(self._network.rounding)
        self._options = BoundOptions(differences=query.asked_of is not None, jit=False, rounding=kind)
        pairs = differences_for(self._network, asked.coefficients, ("crown", None, self._options, False))
        self._related, self._posed = None, self._rows
        if pairs is not None:
            self._related, self._posed = pairs.network, pairs.matched(tf.constant(self._rows)).numpy()
        self.neurons = sum(math.prod(self._computed.nodes[i].shape) for i in self._computed.bounded())
        self._pace: dict[int, float] = {}
        self.enough, self.passes = POSITIVE * query.scale, 0
        self.tied: dict[int, int] = {}
        self.seen: dict[int, float] = {}
        self._looked: dict[int, tuple[float, int]] = {}

    @property
    def _asked(self) -> Network:
        """The network, or the one that holds its weights."""
        if self._holder is None:
            return self._network
        self._holder.hold(self, self._network)
        return self._holder.network

    @property
    def _computed(self) -> Network:
        """The same, with differences where rows are bounded by these."""
        return self._asked if self._related is None else self._related

    def size(self, most: int, left: float) -> int:
        """How many boxes, at most so many, the next pass is for, if it is to end in the time that is left; 0: none."""
        fits = [s for s in SIZES if s == SIZES[0] or s * self.neurons <= _NUMBERS]
        in_time = [s for s in fits if self._pace.get(s, 0.0) <= left]
        return min(most, max(in_time, default=0)) if left > 0 else 0

    def bounds(
        self, lower: np.ndarray, upper: np.ndarray, signs: np.ndarray | None = None
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """Lower bounds of all rows ``[boxes, clauses, rows]``, -inf where nothing is known, and for each node that
        enters a nonlinearity lower and upper bounds ``[boxes, *shape]``, which they were found with: of differences
        too, where rows are bounded by these. ``signs``: what :func:`signs_of` says of boxes that these are parts of."""
        count, began = len(lower), time.monotonic()
        box = Box(*(end.reshape(-1, *self._shape) for end in (lower, upper)))
        spare = ((0, _padded(len(self._rows)) - len(self._rows)), (0, 0))
        padded = np.pad(self._rows, spare), np.pad(self._offsets, spare[0])
        rows = np.repeat(padded[0][None], count, axis=0), np.repeat(padded[1][None], count, axis=0)
        signs = np.zeros((count, self.neurons), np.int8) if signs is None else signs
        question = prepared_bounds(self._asked, box, *rows, options=self._options, signs=signs)
        found, *ends = question.run(layers=True)
        found = found[:, : len(self._rows)]
        warn_of_domains(self._network, found)
        layers = dict(zip(question.computed.bounded(), zip(ends[::2], ends[1::2], strict=True), strict=True))
        self.passes += 1
        if self.passes > 1:  # a first pass may have been traced in that time
            self._pace[next((size for size in SIZES if size >= count), count)] = time.monotonic() - began
        found = np.where(np.isnan(found), -np.inf, found).astype(np.float64).reshape(count, *self._real.shape)
        return np.where(self._real, found, -np.inf), [end for i in self._computed.bounded() for end in layers[i]]

    def planes(
        self, lower: np.ndarray, upper: np.ndarray, which: tuple[np.ndarray, np.ndarray], layers: Sequence[np.ndarray]
    ) -> RowPlanes:
        """A plane below one row of each box (``which``: its clause and its number), given bounds of the layers; over
        differences where rows are bounded by these."""
        flat = which[0] * self._real.shape[1] + which[1]
        parts = [lower, upper, self._posed[flat], self._offsets[flat], *layers]
        with full_precision():
            found = _planes_of(self._computed)(*(tf.constant(part, tf.float64) for part in parts))
        return RowPlanes(*(part.numpy() for part in found))

    def descended(self, lower: np.ndarray, upper: np.ndarray, points: np.ndarray, clause: np.ndarray) -> np.ndarray:
        """Points of boxes, each moved down the margin of a clause, number ``clause`` for each."""
        offsets = np.where(self._real[:, : self.single], self._query.posed.offsets[0], -np.inf)[clause]
        rows = self._query.posed.coefficients[0][clause]
        parts = [lower, upper, points, rows, offsets]
        found = _descent_of(self._asked)(*(tf.constant(part, tf.float64) for part in parts))
        return np.asarray(found.numpy(), np.float64)

    def outputs(self, points: np.ndarray) -> np.ndarray:
        """The network's outputs at points ``[points, inputs]``."""
        found: np.ndarray = _values_of(self._asked)(tf.constant(points, tf.float64)).numpy()
        return found

    def witness(self, points: np.ndarray, clauses: Sequence[int]) -> np.ndarray | None:
        """An input that breaks one of the clauses on the original model, if the worst of the points leads to one."""
        outputs = self.outputs(points)
        for clause in clauses:
            margins = self._query.best(clause, self._query.about_clause(clause).values(outputs))
            worst = int(margins.argmin())
            found = self._query.confirmed(points[worst]) if margins[worst] <= 0 else None
            if found is not None:
                return found
            self.seen[clause] = min(float(margins[worst]), self.seen.get(clause, np.inf))
            if margins[worst] <= 0 or not self._provable(clause, points[worst], float(margins[worst])):
                self.tied.setdefault(clause, self.passes)
        return None

    def _provable(self, clause: int, point: np.ndarray, margin: float) -> bool:
        """Tells whether a clause may be proven on boxes that hold a point: whether it is on the point alone, where that
        is news, since rounding may take more there than the margin."""
        before, passes = self._looked.get(clause, (np.inf, 0))
        if self._network.rounding is None or clause in self.tied:
            return True
        if margin > _NEWS * before and self.passes < 2 * passes:
            return True
        rows, _ = self.bounds(point[None], point[None])
        self._looked[clause] = min(margin, before), self.passes
        return bool(rows[0, clause].max() > self.enough)


def with_pairs(
    coefficients: np.ndarray, offsets: np.ndarray, real: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of clauses ``[clauses, rows, outputs]``, their offsets, and which are no padding, each with the means of two
    rows behind them: one of the two is nowhere below their mean, so what bounds the mean bounds the better row.

    A mean that float64 does not hold exactly is left out; one of offsets is rounded down. None are added to clauses of
    many rows.
    """
    pairs = list(itertools.combinations(range(real.shape[1]), 2))
    if len(pairs) * len(real) > _PAIRS:
        return coefficients, offsets, real
    for one, other in pairs:
        both, lost = _two_sum(coefficients[:, one], coefficients[:, other])
        usable = real[:, one] & real[:, other] & ((lost == 0) & (2.0 * (0.5 * both) == both)).all(axis=1)
        level, rest = _two_sum(*(np.where(usable, offsets[:, k], 0.0) for k in (one, other)))
        level = np.where(rest < 0, np.nextafter(level, -np.inf), level)
        both, level = (
            0.5 * both,
            np.where(2.0 * (0.5 * level) == level, 0.5 * level, np.nextafter(0.5 * level, -np.inf)),
        )
        coefficients, offsets, real = (
            np.concatenate([old, new[:, None]], axis=1)
            for old, new in ((coefficients, both), (offsets, level), (real, usable))
        )
    return coefficients, offsets, real


def _two_sum(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A sum as float64 has it, and what is left of the exact one (Knuth, "Seminumerical Algorithms", 4.2.2)."""
    found = a + b
    part = found - a
    return found, (a - (found - part)) + (b - part)


def signs_of(boxes: int, layers: Sequence[np.ndarray]) -> np.ndarray:
    """Which neurons keep their sign, by lower and upper bounds of the layers in turn: 1, -1 or 0 ``[boxes, neurons]``.

    They keep it on every part of the boxes, where intervals of the layers before may not show it."""
    signs = [(low >= 0).astype(np.int8) - (high <= 0) for low, high in zip(layers[::2], layers[1::2], strict=True)]
    return np.concatenate([np.zeros((boxes, 0)), *(part.reshape(boxes, -1) for part in signs)], axis=1).astype(np.int8)


def _padded(rows: int) -> int:
    """For how many rows a function is traced that bounds so many."""
    return next(size for size in _ROWS if size >= rows) if rows <= _ROWS[-1] else rows


def _any_number(*shapes: Sequence[int | None]) -> list[tf.TensorSpec]:
    return [tf.TensorSpec([None, *shape], tf.float64) for shape in shapes]


def _planes_of(network: Network) -> Callable[..., tuple[tf.Tensor, tf.Tensor, tf.Tensor]]:
    """The traced function of planes.

    A backward pass that ends at the input has a row ``a``, the slopes, of which the bound is the least value over the
    box: ``least <= a x + c`` on all of it. What rounding takes is in the constant c, for ``a`` as it was computed is
    read as exact; so the plane is below the row, as computed by any program, wherever the bound is one.

    A cut of an input is worth half of what the plane falls along it, and what relaxed neurons take that goes with it.
    Where those are of other kinds, the row's steepest sampled slope stands for them: lines of slope zero below many
    neurons make a plane flatter than the row.
    """
    owner = weakref.ref(network)

    def run(lower, upper, row, offset, *layers):  # type: ignore[no-untyped-def]
        net = owner()
        assert net is not None
        low, high = (tf.reshape(end, [-1, *net.input_shape]) for end in (lower, upper))
        bounds = dict(zip(net.bounded(), zip(layers[::2], layers[1::2], strict=True), strict=True))
        radius = tf.zeros([tf.shape(low)[0]], low.dtype)  # of a ball: a box has none
        region = Region("linf", False, 0.5 * low + 0.5 * high, low, high, radius)
        over_input = [tf.zeros_like(lower)]

        def at_input(rows: Coefficients) -> tuple[None, tf.Tensor]:
            over_input.append(tf.reshape(rows.dense().values, [-1, lower.shape[1]]) + over_input[0])
            return None, least_change(rows, region, net.rounding)

        relaxed = replace(relax_before(net, net.output, by_name(net, None), bounds), stops={0: at_input})
        rows = Coefficients(row[:, None, None], net.output_shape)

        def bound() -> tf.Tensor:
            return linear_lower_bounds(net, net.output, rows, relaxed, region)[:, 0] + offset

        if is_counted(relaxed):
            least, falls = taken_by_input(net, lower, upper, relaxed, bound)
            falls += 0.5 * tf.abs(over_input[-1])
        else:
            least, falls = bound(), tf.maximum(tf.abs(over_input[-1]), _steepest(net, lower, upper, row))
        if net.rounding is not None:
            least -= 2.0 * net.rounding.own * tf.abs(least) + net.rounding.tiny
        slopes = over_input[-1]
        known = tf.math.is_finite(least) & tf.reduce_all(tf.math.is_finite(slopes), axis=1)
        slopes, falls = (tf.where(known[:, None], part, 0.0) for part in (slopes, falls))
        return tf.where(known, least, -np.inf), slopes, falls

    inputs, ends = (math.prod(network.input_shape),), [network.nodes[i].shape for i in network.bounded()]
    asked = _any_number(inputs, inputs, network.output_shape, (), *(shape for shape in ends for _ in range(2)))
    return kept(network, "planes below rows", lambda: traced(run, input_signature=asked))


def _values_of(network: Network) -> Callable[[tf.Tensor], tf.Tensor]:
    """The traced function of the outputs at inputs ``[points, inputs]``."""
    owner = weakref.ref(network)

    def run(points: tf.Tensor) -> tf.Tensor:
        net = owner()
        assert net is not None
        return net(tf.reshape(points, [-1, *net.input_shape]))

    asked = _any_number((math.prod(network.input_shape),))
    return kept(network, "values at points", lambda: traced(run, input_signature=asked))


def _steepest(network: Network, lower: tf.Tensor, upper: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """The largest slopes of rows over the inputs at the same few places of each box ``[boxes, inputs]``."""
    places = np.random.default_rng(0).uniform(size=(_PLACES, 1, lower.shape[1]))
    points = lower[None] + places * (upper - lower)[None]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(points)
        outputs = network(tf.reshape(points, [-1, *network.input_shape]))
        value = tf.reduce_sum(tf.reshape(outputs, [_PLACES, -1, *network.output_shape]) * rows[None])
    slopes = tape.gradient(value, points, unconnected_gradients="zero")
    return tf.reduce_max(tf.where(tf.math.is_finite(slopes), tf.abs(slopes), 0.0), axis=0)


def _descent_of(network: Network) -> Callable[..., Any]:
    """The traced function that moves points down the best row of a clause, by signs of gradients."""
    owner = weakref.ref(network)

    def run(lower, upper, points, rows, offsets):  # type: ignore[no-untyped-def]
        net = owner()
        assert net is not None

        def margin(x):  # type: ignore[no-untyped-def]
            outputs = net(tf.reshape(x, [-1, *net.input_shape]))
            return tf.reduce_max(tf.linalg.matvec(rows, outputs) + offsets, axis=1)

        least, best = margin(points), points
        for number in range(_STEPS):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(points)
                value = margin(points)
            step = _FAR * _NEARER**number * (upper - lower)
            points = tf.clip_by_value(points - step * tf.sign(tape.gradient(value, points)), lower, upper)
            value = margin(points)
            best = tf.where((value < least)[:, None], points, best)
            least = tf.minimum(value, least)
        return best

    inputs, outputs = (math.prod(network.input_shape),), network.output_shape
    asked = _any_number(inputs, inputs, inputs, (None, *outputs), (None,))
    return kept(network, "descent in boxes", lambda: traced(run, input_signature=asked))
