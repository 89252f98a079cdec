"""Planes of sums of products: those of :mod:`tfcert.propagation.product`, summed by matrix products.

The mixture ``s`` of a product ``x y`` may be any number in [-1, 1]. Where it is the mean of a number of x and one of y,
as the default is, coefficients pass by a few matrix products of the size of the contraction itself, and what the rows
would hold for every single product never exists. With ``a`` and ``b`` these two numbers, a positive row passes to x by

    ``sum over y's: row (my + (a + b) / 2 dy) = row . (my + b dy / 2) + a / 2 (row . dy)``

*Rounding.* On a rounded network the planes of a sum of n products lie farther off by ``lost``. With X and Y the largest
``|x|`` and ``|y|``, everything is relative to their contraction Z:

* the deployed sum errs by ``gamma_n Z`` in any order, with FMA or without (Higham 2002, "Accuracy and Stability of
  Numerical Algorithms", section 4.2); ``gamma_(n + 4)`` is charged, and n flushed numbers;
* the products' planes err by 28 u (see :mod:`tfcert.propagation.product`), the sum of middles by ``gamma_n``;
* coefficients passed to x are sums of as many terms as there are values that a number of x goes into, in four parts
  that are together up to ``2 |a| Y``; those passed to y likewise. What they err by is read as a change of what is
  passed on, times X or Y;
* constants are summed in float64 and rounded once.

That is less than ``2 gamma_t Z`` with t all these terms and 64 more, by ``gamma_j + gamma_k <= gamma_(j + k)`` (lemma
3.3 there); 3 are charged.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfcert.network.linear import Shape
from tfcert.network.product import Contraction
from tfcert.network.sparse import Entries
from tfcert.propagation.coefficients import Coefficients
from tfcert.propagation.enclosures import Plane, Planes, Slack, TensorInterval
from tfcert.propagation.multivariate import Carried, Facet, Kind, MultivariatePlanes, OpenPlanes
from tfcert.propagation.product import (
    clipped_ratio,
    corner_range,
    known_marks,
    middle_and_radius,
    unless_unknown,
)
from tfcert.propagation.slack import charged_slack, plane_sizes, raised
from tfcert.roundoff import Rounding, gamma

_LARGEST = 1 << 24
"""So many products of a sample are computed one by one for the exact range of their sums; else it is enclosed."""


class Factors(NamedTuple):
    """Middles and radii of both inputs, 0 where a bound is infinite, ``[samples, *shape]``.

    Attributes:
        at: the contraction of the middles.
        lost: that of the radii, infinite where a bound is.
    """

    mx: tf.Tensor
    dx: tf.Tensor
    my: tf.Tensor
    dy: tf.Tensor
    at: tf.Tensor
    lost: tf.Tensor


class Places(NamedTuple):
    """Numbers of x and of y, the mean of which is the place ``s`` of a product's lower and of its upper plane."""

    low_x: tf.Tensor
    low_y: tf.Tensor
    high_x: tf.Tensor
    high_y: tf.Tensor


def factors_of(node: Contraction, x: TensorInterval, y: TensorInterval) -> Factors:
    """The middles and radii of inputs with these bounds."""
    known = [known_marks(pair) for pair in (x, y)]
    (mx, dx), (my, dy) = (middle_and_radius(k, *pair) for k, pair in zip(known, (x, y), strict=True))
    lost = node.contract(dx, dy)
    if node.rounding is not None:
        lost += _rounding_charge(node, node.rounding, tf.abs(mx) + dx, tf.abs(my) + dy)
    lost = tf.where(_known_sums(node, *known), lost, tf.constant(np.inf, dx.dtype))
    return Factors(mx, dx, my, dy, node.contract(mx, my), lost)


def _rounding_charge(node: Contraction, rounding: Rounding, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """What planes lie farther off for rounding; x and y bound the factors."""
    sizes_of, (first, second, result), n = dict(node.sizes), node.words, node.terms
    readers = sum(math.prod(sizes_of[k] for k in result if k not in word) for word in (first, second))
    numbers = sum(math.prod(shape) for shape in (*node.shapes, node.shape))
    unit = 1.01 * gamma(n + 4, rounding.deployed) + 3 * gamma(n + readers + 64, rounding.own)
    unit += 4 * gamma(numbers, 2.0**-53)
    few = 8 * rounding.tiny
    return raised(node.contract(x, y) * unit + few * (_sum_of(x, y) + n + readers + 32), n, rounding)


def _sum_of(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """The sum of all numbers of two tensors, ``[samples, 1...]`` as the first has axes: for what may be flushed."""
    return sum(tf.reduce_sum(part) for part in (x, y))


def _known_sums(node: Contraction, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Marks the values all of whose numbers are marked."""
    unknown, every = [], []
    for marks in (x, y):
        unknown.append(tf.cast(~marks, tf.float32))
        every.append(tf.ones(tf.shape(marks), tf.float32))
    return node.contract(unknown[0], every[1]) + node.contract(every[0], unknown[1]) == 0


def places_of(factors: Factors) -> Places:
    """The means of those at which a slope is least, by x and by y: a number has its part for all of its products."""
    x, y = clipped_ratio(factors.mx, factors.dx), clipped_ratio(factors.my, factors.dy)
    return Places(-x, -y, x, -y)


Lettered = tuple[tf.Tensor, str, str]
"""A tensor with the letters of its leading axes, and those of the others."""


def _summed(first: Lettered, second: Lettered, result: tuple[str, str]) -> tf.Tensor:
    """An einsum of two tensors, whose leading axes may have length one to be repeated; the result has all of them."""
    words, kept = [], set()
    tensors = []
    for tensor, lead, word in (first, second):
        long = [axis for axis, letter in enumerate(lead) if tensor.shape[axis] != 1]
        kept |= {lead[axis] for axis in long}
        words.append("".join(lead[axis] for axis in long) + word)
        short = [axis for axis in range(len(lead)) if axis not in long]
        tensors.append(tf.squeeze(tensor, short) if short else tensor)  # of no axes it would squeeze all
    lead, word = result
    found = tf.einsum(f"{words[0]},{words[1]}->{''.join(k for k in lead if k in kept)}{word}", *tensors)
    for axis, letter in enumerate(lead):
        if letter not in kept:
            found = tf.expand_dims(found, axis)
    return found


def _carried(node: Contraction, rows: Coefficients, factors: Factors, places: Places) -> Carried:
    """Dense rows through the planes at some places; both arranged for the rows, ``[samples, groups, rows, *shape]``."""
    first, second, result = node.words
    (mx, dx, my, dy, at, lost), (low_x, low_y, high_x, high_y) = factors, places
    lead = _leading(rows.values, rows)
    values = tf.reshape(rows.values, [*lead, *node.shape])
    positive, negative = tf.nn.relu(values), tf.minimum(values, 0)

    def to_x(some: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        return _summed((some, "SGR", result), (weights, "SGR", second), ("SGR", first))

    def to_y(some: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        return _summed((some, "SGR", result), (weights, "SGR", first), ("SGR", second))

    x = to_x(positive, my + 0.5 * low_y * dy) + to_x(negative, my + 0.5 * high_y * dy)
    x += 0.5 * (low_x * to_x(positive, dy) + high_x * to_x(negative, dy))
    y = to_y(positive, mx + 0.5 * low_x * dx) + to_y(negative, mx - 0.5 * high_x * dx)
    y += 0.5 * (low_y * to_y(positive, dx) - high_y * to_y(negative, dx))
    constant = _constant(node, ((values, at), (-tf.abs(values), lost), (-x, mx), (-y, my)))
    sent = []
    for part, shape in zip((x, y), node.shapes, strict=True):
        lead = _leading(part, rows)
        flat = tf.reshape(part, [*lead, math.prod(shape)])
        sent.append(replace(rows, values=flat, shape=shape, patches=None))
    return sent, constant


def _leading(values: tf.Tensor, rows: Coefficients) -> list[int | tf.Tensor]:
    """The lengths of the axes of samples, groups and rows of what came of some rows, as far as a trace knows them.

    An einsum forgets lengths that the rows have; selected rows have their samples along the axis of groups.
    """
    length = tf.shape(values)
    known = (1 if rows.owner is not None else None, *rows.values.shape[1:3])
    found = []
    for axis, (own, n) in enumerate(zip(known, values.shape[:3], strict=True)):
        kept = own is not None and (own > 1 or axis == 0)
        found.append(n if n is not None else own if kept else length[axis])
    return found


def _constant(node: Contraction, products: Sequence[tuple[tf.Tensor, tf.Tensor]]) -> tf.Tensor:
    """Sums of products over all but three axes; of a rounded network in float64, and rounded once."""
    if node.rounding is None:
        return tf.add_n([_total(first * second) for first, second in products])
    wide = [_total(tf.cast(first, tf.float64) * tf.cast(second, tf.float64)) for first, second in products]
    return tf.cast(functools.reduce(operator.add, wide), products[0][0].dtype)


def _total(values: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(values, axis=list(range(3, values.shape.rank)))


def _arranged(rows: Coefficients, parts: Sequence[tf.Tensor], shapes: Sequence[Shape]) -> list[tf.Tensor]:
    """Data of a sample's numbers ``[samples, *shape]`` as dense rows have them, ``[samples, groups, 1, *shape]``."""
    found = []
    for part, shape in zip(parts, shapes, strict=True):
        flat = replace(rows, shape=shape, patches=None).unfold(part)
        lead = _leading(flat, rows)
        found.append(tf.reshape(flat, [*lead, *shape]))
    return found


def _for_rows(node: Contraction, rows: Coefficients, factors: Factors, places: Places) -> tuple[Factors, Places]:
    """Factors and places arranged for the entries of dense rows."""
    x, y = node.shapes
    arranged = Factors(*_arranged(rows, factors, [x, x, y, y, node.shape, node.shape]))
    return arranged, Places(*_arranged(rows, places, [x, y, x, y]))


@dataclass(frozen=True, eq=False)
class ContractionPlanes(MultivariatePlanes):
    """Planes at one place for each number of x and of y, ``[samples, *shape]``."""

    node: Contraction
    factors: Factors
    places: Places

    def back(self, rows: Coefficients) -> Carried:
        rows = rows.dense()
        return _carried(self.node, rows, *_for_rows(self.node, rows, self.factors, self.places))

    def advance(self, inputs: Sequence[Planes]) -> Planes:
        node, (x, y) = self.node, inputs
        first, second, _ = node.words
        mx, dx, low_x, high_x = (
            _apart(node, part, first) for part in (*self.factors[:2], self.places.low_x, self.places.high_x)
        )
        my, dy, low_y, high_y = (
            _apart(node, part, second) for part in (*self.factors[2:4], self.places.low_y, self.places.high_y)
        )
        below, above = 0.5 * (low_x + low_y), 0.5 * (high_x + high_y)

        def side(slopes: tuple[tf.Tensor, tf.Tensor], near: list[Plane], far: list[Plane], lost: tf.Tensor) -> Plane:
            parts = [_through(node, *part) for part in zip(slopes, (first, second), near, far, strict=True)]
            products = slopes[0] * mx + slopes[1] * my
            level = tf.reduce_sum(products, axis=list(range(1 + len(node.shape), products.shape.rank)))
            intercept = parts[0].intercept + parts[1].intercept + self.factors.at - level + lost
            return Plane(parts[0].slopes + parts[1].slopes, intercept)

        low, high = [x.lower, y.lower], [x.upper, y.upper]
        return Planes(
            side((my + below * dy, mx + below * dx), low, high, -self.factors.lost),
            side((my + above * dy, mx - above * dx), high, low, self.factors.lost),
            self._slack(x, y),
        )

    def _slack(self, x: Planes, y: Planes) -> Slack | None:
        """Slopes by x are up to the largest ``|y|``, and the other way round."""
        slack, node = x.slack, self.node
        if slack is None or y.slack is None:
            return None
        largest = [(tf.abs(m) + d) * (1 + 8 * slack.rounding.own) for m, d in (self.factors[:2], self.factors[2:4])]
        amount, size = (
            node.contract(first, largest[1]) + node.contract(largest[0], second)
            for first, second in ((slack.amount, y.slack.amount), (plane_sizes(x), plane_sizes(y)))
        )
        size += 6 * node.contract(*largest) + self.factors.lost
        return charged_slack(slack, amount, size, 2 * node.terms + 8, exact=True)


def _through(node: Contraction, slopes: tf.Tensor, word: str, near: Plane, far: Plane) -> Plane:
    """Sums of an input's planes, by the slopes of each product ``[samples, *sizes of all letters]``."""
    result = node.words[2]
    found = []
    for part, plane in ((tf.nn.relu(slopes), near), (tf.minimum(slopes, 0), far)):
        factor: Lettered = (part, "S", result + node.summed)
        turned = _summed(factor, (plane.slopes, "SN", word), ("SN", result))
        found.append((turned, _summed(factor, (plane.intercept, "S", word), ("S", result))))
    return Plane(found[0][0] + found[1][0], found[0][1] + found[1][1])


def _apart(node: Contraction, x: tf.Tensor, word: str) -> tf.Tensor:
    """Numbers of an input ``[samples, *shape]`` repeated along the axes of all letters, those of the result first.

    They are written out: TensorFlow's own operations do not repeat two tensors along as many axes by turns.
    """
    letters = node.words[2] + node.summed
    turned = tf.transpose(x, [0, *(1 + word.index(letter) for letter in letters if letter in word)])
    sizes = dict(node.sizes)
    apart = tf.reshape(turned, [-1, *(sizes[letter] if letter in word else 1 for letter in letters)])
    samples = tf.shape(apart)[0] if apart.shape[0] is None else apart.shape[0]
    return tf.broadcast_to(apart, [samples, *(sizes[letter] for letter in letters)])


@dataclass(frozen=True, eq=False)
class _OpenContraction(OpenPlanes):
    node: Contraction
    factors: Factors
    places: Places

    def over(self, rows: Coefficients) -> _OpenContraction:
        factors, places = _for_rows(self.node, rows.dense(), self.factors, self.places)
        return replace(self, factors=factors, places=places)

    def first(self, shape: Sequence[int | tf.Tensor]) -> list[tf.Tensor]:
        x, y = self.node.shapes
        whole = [[*shape[:3], *own] for own in (x, y, x, y)]
        return [tf.broadcast_to(0.5 + 0.5 * place, own) for place, own in zip(self.places, whole, strict=True)]

    def back(self, rows: Coefficients, choices: Sequence[tf.Tensor]) -> Carried:
        return _carried(self.node, rows.dense(), self.factors, Places(*(2 * choice - 1 for choice in choices)))


class _ContractionKind(Kind):
    charges_rounding = True

    def held(self, node: Contraction) -> int:
        return min(_LARGEST, math.prod(size for _, size in node.sizes))

    def interval(self, node: Contraction, inputs: Sequence[TensorInterval]) -> TensorInterval:
        """Sums of the products' ranges: one by one where these are not too many, else by middles and radii."""
        known = [known_marks(pair) for pair in inputs]
        sums = _known_sums(node, *known)
        if math.prod(size for _, size in node.sizes) > _LARGEST:
            (mx, dx), (my, dy) = (middle_and_radius(k, *pair) for k, pair in zip(known, inputs, strict=True))
            at, reach = node.contract(mx, my), node.contract(tf.abs(mx) + dx, dy) + node.contract(dx, tf.abs(my))
            return unless_unknown(sums, *_outward(node, (mx, dx), (my, dy), at - reach, at + reach))
        ends = []
        for k, pair, word in zip(known, inputs, node.words[:2], strict=True):
            ends += [_apart(node, tf.where(k, end, tf.zeros_like(end)), word) for end in pair]
        low, high = (
            tf.reduce_sum(end, axis=list(range(1 + len(node.shape), end.shape.rank))) for end in corner_range(*ends)
        )
        middles = [middle_and_radius(k, *pair) for k, pair in zip(known, inputs, strict=True)]
        return unless_unknown(sums, *_outward(node, middles[0], middles[1], low, high))

    def relax(
        self,
        node: Contraction,
        bounds: Sequence[TensorInterval],
        relaxation: str | None,
        choices: Sequence[tf.Tensor] = (),
    ) -> ContractionPlanes:
        factors = factors_of(node, *bounds)
        places = Places(*(2 * choice - 1 for choice in choices)) if choices else places_of(factors)
        return ContractionPlanes(node, factors, places)

    def choices(
        self, node: Contraction, bounds: Sequence[TensorInterval], relaxation: str | None
    ) -> tuple[tf.Tensor, ...]:
        return tuple(tf.stop_gradient(0.5 + 0.5 * place) for place in places_of(factors_of(node, *bounds)))

    def opened(self, node: Contraction, bounds: Sequence[TensorInterval], relaxation: str | None) -> _OpenContraction:
        factors = factors_of(node, *bounds)
        return _OpenContraction(node, factors, places_of(factors))

    def facets(self, node: Contraction, bounds: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[Facet]:
        """The planes at both ends, and at the default place: of each sum, not of each product."""
        tensors = [(tf.constant(low[None]), tf.constant(high[None])) for low, high in bounds]
        low_x, low_y, high_x, high_y = (part.numpy()[0] for part in places_of(factors_of(node, *tensors)))
        (first, second, _), (low, high) = node.words, zip(*bounds, strict=True)
        below, above = (
            0.5 + 0.25 * (_every(node, a, first) + _every(node, b, second))
            for a, b in ((low_x, low_y), (high_x, high_y))
        )
        lx, ux, ly, uy = (
            _every(node, end, word)
            for end, word in ((low[0], first), (high[0], first), (low[1], second), (high[1], second))
        )
        found = []
        for share in (np.zeros_like(below), np.ones_like(below), below):
            found.append(_facet(node, 1, share, ((lx, ly), (ux, uy))))
        for share in (np.zeros_like(above), np.ones_like(above), above):
            found.append(_facet(node, -1, share, ((ux, ly), (lx, uy))))
        lost = _facet_charge(node, bounds)
        return [facet._replace(intercept=facet.intercept - facet.sign * lost) for facet in found]


def _facet_charge(node: Contraction, bounds: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray | float:
    """How far facets, in float64, lie off for rounding: of the deployed sums, and of the facets themselves."""
    rounding, n = node.rounding, node.terms
    if rounding is None:
        return 0.0
    x, y = (tf.constant(np.maximum(*map(np.abs, pair))[None], tf.float64) for pair in bounds)
    unit = 1.01 * gamma(n + 4, rounding.deployed) + 8 * gamma(n + 16, 2.0**-53)
    return (node.contract(x, y).numpy() * unit + 8 * rounding.tiny * (_sum_of(x, y).numpy() + n + 16)).ravel()


def _every(node: Contraction, x: np.ndarray, word: str) -> np.ndarray:
    """A number of an input for each product, flat."""
    return np.broadcast_to(_apart(node, tf.constant(x[None]), word).numpy()[0], _sizes(node)).ravel()


def _sizes(node: Contraction) -> list[int]:
    sizes = dict(node.sizes)
    return [sizes[letter] for letter in node.words[2] + node.summed]


def _outward(
    node: Contraction, x: TensorInterval, y: TensorInterval, low: tf.Tensor, high: tf.Tensor
) -> TensorInterval:
    """The range's ends, moved out by what they and the deployed sums may err, for middles and radii of the inputs.

    Both ways to find the range add up 3 n numbers at most that are together no more than ``3 Z``.
    """
    rounding, n = node.rounding, node.terms
    if rounding is None:
        return low, high
    largest = [tf.abs(middle) + radius for middle, radius in (x, y)]
    unit = 1.01 * gamma(n + 4, rounding.deployed) + 8 * gamma(n + 16, rounding.own)
    charge = raised(node.contract(*largest) * unit + 8 * rounding.tiny * (_sum_of(*largest) + n + 16), n, rounding)
    return low - charge, high + charge


Corner = tuple[np.ndarray, np.ndarray]


def _facet(node: Contraction, sign: int, share: np.ndarray, corners: tuple[Corner, Corner]) -> Facet:
    """Sums of the mixtures of the planes at two corners, by the share of the second."""
    (ax, ay), (bx, by) = corners
    shapes = (*node.shapes, node.shape)
    numbers = [np.arange(math.prod(shape)).reshape(shape) for shape in shapes]
    first, second, row = (_every(node, number, word) for number, word in zip(numbers, node.words, strict=True))
    slopes = np.concatenate([(1 - share) * ay + share * by, (1 - share) * ax + share * bx])
    level = (1 - share) * ax * ay + share * bx * by
    entries = Entries(np.tile(row, 2), np.concatenate([first, math.prod(shapes[0]) + second]), slopes)
    return Facet(sign, entries, -np.bincount(row, weights=level, minlength=numbers[2].size))


CONTRACTION = _ContractionKind()
