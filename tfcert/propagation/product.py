"""Planes of products: McCormick's, and what lies between them.

With x within ``dx`` of ``mx`` and y within ``dy`` of ``my`` there are two planes below ``x y`` (McCormick 1976): those
of ``(x - lx)(y - ly) >= 0`` and ``(ux - x)(uy - y) >= 0``; and two above it. Any mixture of the two of a side is sound:
the family of planes of Shi et al. (2020, "Robustness verification for transformers") and of GenBaB (Shi et al. 2024,
"Neural network verification with branch-and-bound for general nonlinearities"). Written with ``s`` in [-1, 1],

    below: ``mx my - dx dy + (my + s dy)(x - mx) + (mx + s dx)(y - my)``
    above: ``mx my + dx dy + (my + s dy)(x - mx) + (mx - s dx)(y - my)``

All mixtures of a side have one value in the middle, and one volume between them and the product. By default ``s`` is
where the plane's extremum over the box is the product's own, which some ``s`` always reaches: that of the lower plane
is ``mx my - dx dy - dx dy (|my / dy + s| + |mx / dx + s|)``, largest between ``-my / dy`` and ``-mx / dx`` (each
clipped to [-1, 1]). The first has the least slope by x, the second by y, and that by the wider factor is kept small:
what is wide has lost the most before it (a gate is narrow, and the memory that it lets through grows wide).

*Rounding.* On a rounded network the planes lie farther from the product, by :func:`rounding_charge`. Let X and Y be the
largest ``|x|`` and ``|y|``, u the unit roundoff of this arithmetic, and v that of the deployed program, which computes
``x y`` up to ``v X Y``, and the smallest normal number where it flushes (an FMA that adds something to the product, or
an order of several factors, rounds no more often). With slopes as they were computed and read as exact,
``x y - sx x - sy y`` is ``mx my - sx mx - sy my + (x - mx)(y - my) - (sx - my)(x - mx) - (sy - mx)(y - my)``, for
whatever middle was computed. Each of X's and Y's halves, middles and radii errs by ``u X`` or ``u Y`` at most, so

* ``|x - mx| <= dx + 3 u X``: the last three terms err by ``6 u X Y`` and, with the ``3 u`` that each slope errs by, by
  ``6 u X Y`` more;
* the first three, products of numbers up to X and Y, are summed with ``12 u X Y``; ``dx dy`` and what is charged is
  subtracted with ``4 u X Y``;

28 in all to first order. A row ``a`` over the product is passed on with slopes ``a sx`` and ``a sy``, each rounded up
to four times: ``|a| 8 u X Y``; 48 u are charged for both. Its constant is a sum of n terms ``a b``, ``|b| <= 4 X Y``,
which errs by ``|a| gamma_(n + 8) 4 X Y`` in any order (Higham 2002, "Accuracy and Stability of Numerical Algorithms",
section 4.2). That is in the charge too, for each entry by itself, so that passing rows costs nothing more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfcert.network.product import Product
from tfcert.network.sparse import Entries
from tfcert.propagation import kernels
from tfcert.propagation.coefficients import Coefficients
from tfcert.propagation.enclosures import Plane, Planes, TensorInterval, scaled_plane
from tfcert.propagation.multivariate import Carried, Facet, Kind, MultivariatePlanes, OpenPlanes
from tfcert.propagation.slack import charged_slack, plane_sizes
from tfcert.roundoff import Rounding, gamma


class FactorBox(NamedTuple):
    """Middles and radii of both factors, 0 where a bound is infinite.

    Attributes:
        lost: by how much the planes lie off the product in the middle: ``dx dy``, or infinite.
    """

    mx: tf.Tensor
    dx: tf.Tensor
    my: tf.Tensor
    dy: tf.Tensor
    lost: tf.Tensor


def box_of(node: Product, x: TensorInterval, y: TensorInterval) -> FactorBox:
    """The box of a product's factors with these bounds."""
    known = known_marks(x, y)
    (mx, dx), (my, dy) = (middle_and_radius(known, *pair) for pair in (x, y))
    lost = dx * dy
    if node.rounding is not None:
        lost += rounding_charge(node.rounding, tf.abs(mx) + dx, tf.abs(my) + dy, math.prod(node.shape))
    return FactorBox(mx, dx, my, dy, tf.where(known, lost, tf.constant(np.inf, dx.dtype)))


def rounding_charge(rounding: Rounding, x: tf.Tensor, y: tf.Tensor, entries: int) -> tf.Tensor:
    """What planes of products lie farther off for rounding, in rows of so many entries; x and y bound the factors."""
    own = rounding.own
    unit = 1.01 * rounding.deployed + 48 * own + 4 * gamma(entries + 8, own)
    return unit * x * y + 32 * rounding.tiny * (1 + x + y)


def rounded_out(rounding: Rounding | None, low: tf.Tensor, high: tf.Tensor) -> TensorInterval:
    """Bounds of a deployed value that one rounding makes of a number between these, each computed with one, too.

    ``e - v |e|`` rises with an end e, and e differs from the computed one by u of it: ``v + u`` and little more are
    needed, and another u for this difference; 4 u are charged. Each operation may flush.
    """
    if rounding is None:
        return low, high
    unit, lost = 1.01 * rounding.deployed + 4 * rounding.own, 8 * rounding.tiny
    return low - (unit * tf.abs(low) + lost), high + (unit * tf.abs(high) + lost)


def known_marks(*pairs: TensorInterval) -> tf.Tensor:
    """Marks the numbers all of whose bounds are finite."""
    known = tf.constant(True)
    for end in (end for pair in pairs for end in pair):
        known &= tf.math.is_finite(end)
    return known


def middle_and_radius(known: tf.Tensor, lower: tf.Tensor, upper: tf.Tensor) -> TensorInterval:
    """The middles and radii of bounds; 0 where nothing is known."""
    low, high = (tf.where(known, end, tf.zeros_like(end)) for end in (lower, upper))
    return 0.5 * low + 0.5 * high, 0.5 * high - 0.5 * low


def default_places(box: FactorBox) -> TensorInterval:
    """The ``s`` of the lower and the upper plane at which their extrema over the box are the product's, and the slope
    by the wider factor is least."""
    first, second = clipped_ratio(box.my, box.dy), clipped_ratio(box.mx, box.dx)
    wide = box.dy > box.dx
    return tf.where(wide, -second, -first), tf.where(wide, second, -first)


def clipped_ratio(middle: tf.Tensor, radius: tf.Tensor) -> tf.Tensor:
    """``middle / radius``, clipped to [-1, 1]; the sign where the radius is small."""
    inside = tf.abs(middle) < radius
    # Twice where: the quotient of what is not inside must not reach the gradient.
    quotient = tf.where(inside, middle, tf.zeros_like(middle)) / tf.where(inside, radius, tf.ones_like(radius))
    return tf.where(inside, quotient, tf.stop_gradient(tf.sign(middle)))


def corner_range(lx: tf.Tensor, ux: tf.Tensor, ly: tf.Tensor, uy: tf.Tensor) -> TensorInterval:
    """The least and the greatest product of ends; the ends may broadcast."""
    corners = lx * ly, lx * uy, ux * ly, ux * uy
    low = tf.minimum(tf.minimum(corners[0], corners[1]), tf.minimum(corners[2], corners[3]))
    high = tf.maximum(tf.maximum(corners[0], corners[1]), tf.maximum(corners[2], corners[3]))
    return low, high


def unless_unknown(known: tf.Tensor, low: tf.Tensor, high: tf.Tensor) -> TensorInterval:
    """Bounds that are infinite where nothing is known, or where they overflowed."""
    nothing = tf.constant(np.inf, low.dtype)
    return (
        tf.where(known & tf.math.is_finite(low), low, -nothing),
        tf.where(known & tf.math.is_finite(high), high, nothing),
    )


@dataclass(frozen=True, eq=False)
class ProductPlanes(MultivariatePlanes):
    """A plane below and one above each product, ``[samples or 1, *shape]``: slopes by x and by y, and intercepts."""

    lower: tuple[tf.Tensor, tf.Tensor]
    below: tf.Tensor
    upper: tuple[tf.Tensor, tf.Tensor]
    above: tf.Tensor

    def back(self, rows: Coefficients) -> Carried:
        parts = (self.lower[0], self.below, self.upper[0], self.above)
        first, constant = kernels.by_sign_both(rows.values, *map(rows.unfold, parts))
        second = kernels.by_sign(rows.values, rows.unfold(self.lower[1]), rows.unfold(self.upper[1]))
        return [replace(rows, values=values, zero_outside=True) for values in (first, second)], constant

    def advance(self, inputs: Sequence[Planes]) -> Planes:
        x, y = inputs[:2]
        slack = x.slack
        if slack is not None and y.slack is not None:
            # Like an activation's lines of two numbers: what the product errs by is in the intercepts.
            steepest = [tf.maximum(*map(tf.abs, pair)) for pair in zip(self.lower, self.upper, strict=True)]
            size = tf.maximum(tf.abs(self.below), tf.abs(self.above))
            amount = steepest[0] * slack.amount + steepest[1] * y.slack.amount
            size += steepest[0] * plane_sizes(x) + steepest[1] * plane_sizes(y)
            slack = charged_slack(slack, amount, size, 4, exact=True)

        def total(slopes: tuple[tf.Tensor, tf.Tensor], sides: Sequence[tuple[Plane, Plane]], at: tf.Tensor) -> Plane:
            first, second = (scaled_plane(slope, *pair) for slope, pair in zip(slopes, sides, strict=True))
            return Plane(first.slopes + second.slopes, first.intercept + second.intercept + at)

        return Planes(
            total(self.lower, [(x.lower, x.upper), (y.lower, y.upper)], self.below),
            total(self.upper, [(x.upper, x.lower), (y.upper, y.lower)], self.above),
            slack,
        )


def planes_at(box: FactorBox, below: tf.Tensor, above: tf.Tensor) -> ProductPlanes:
    """The planes at places ``s`` in [-1, 1] of the lower and of the upper one."""
    mx, dx, my, dy, lost = box
    lower, upper = (my + below * dy, mx + below * dx), (my + above * dy, mx - above * dx)

    def offset(slopes: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        return mx * my - slopes[0] * mx - slopes[1] * my

    return ProductPlanes(lower, offset(lower) - lost, upper, offset(upper) + lost)


@dataclass(frozen=True, eq=False)
class _OpenProduct(OpenPlanes):
    box: FactorBox

    def over(self, rows: Coefficients) -> _OpenProduct:
        return _OpenProduct(FactorBox(*map(rows.unfold, self.box)))

    def first(self, shape: Sequence[int | tf.Tensor]) -> list[tf.Tensor]:
        return [tf.broadcast_to(0.5 + 0.5 * place, shape) for place in default_places(self.box)]

    def back(self, rows: Coefficients, choices: Sequence[tf.Tensor]) -> Carried:
        first, second, constant = _carried(rows.values, *choices, *self.box)
        return [replace(rows, values=values, zero_outside=True) for values in (first, second)], constant


@kernels.kernel(passes=4)
def _carried(
    values: tf.Tensor,
    below: tf.Tensor,
    above: tf.Tensor,
    mx: tf.Tensor,
    dx: tf.Tensor,
    my: tf.Tensor,
    dy: tf.Tensor,
    lost: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Rows over products as rows over x and y, and their constant, by choices in [0, 1] for each entry."""
    low, high = tf.nn.relu(values) * (2 * below - 1), tf.minimum(values, 0) * (2 * above - 1)
    first, second = values * my + (low + high) * dy, values * mx + (low - high) * dx
    constant = values * mx * my - first * mx - second * my - tf.abs(values) * lost
    return first, second, tf.reduce_sum(constant, axis=-1)


class _ProductKind(Kind):
    keeps_patches = True
    charges_rounding = True

    def interval(self, node: Product, inputs: Sequence[TensorInterval]) -> TensorInterval:
        """The least and the largest product of ends."""
        x, y = inputs
        known = known_marks(x, y)
        lx, ux, ly, uy = (tf.where(known, end, tf.zeros_like(end)) for end in (*x, *y))
        return unless_unknown(known, *rounded_out(node.rounding, *corner_range(lx, ux, ly, uy)))

    def relax(
        self,
        node: Product,
        bounds: Sequence[TensorInterval],
        relaxation: str | None,
        choices: Sequence[tf.Tensor] = (),
    ) -> ProductPlanes:
        box = box_of(node, *bounds)
        below, above = (2 * choice - 1 for choice in choices) if choices else default_places(box)
        return planes_at(box, below, above)

    def choices(self, node: Product, bounds: Sequence[TensorInterval], relaxation: str | None) -> tuple[tf.Tensor, ...]:
        return tuple(tf.stop_gradient(0.5 + 0.5 * place) for place in default_places(box_of(node, *bounds)))

    def opened(self, node: Product, bounds: Sequence[TensorInterval], relaxation: str | None) -> _OpenProduct:
        return _OpenProduct(box_of(node, *bounds))

    def facets(self, node: Product, bounds: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[Facet]:
        """McCormick's four planes."""
        (lx, ux), (ly, uy) = ([np.reshape(end, -1) for end in pair] for pair in bounds)
        row, column = np.tile(np.arange(lx.size), 2), np.arange(2 * lx.size)
        corners = ((1, lx, ly), (1, ux, uy), (-1, lx, uy), (-1, ux, ly))
        lost = facet_charge(node, bounds)
        return [
            Facet(sign, Entries(row, column, np.concatenate([y, x])), -x * y - sign * lost) for sign, x, y in corners
        ]


def facet_charge(node: Product, bounds: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """How far facets, in float64, lie off the product for rounding: the deployed one, and ``x y``'s own."""
    if node.rounding is None:
        return np.zeros(bounds[0][0].size)
    x, y = (np.maximum(*map(np.abs, pair)).reshape(-1) for pair in bounds)
    return (1.01 * node.rounding.deployed + 2.0**-50) * x * y + 8 * node.rounding.tiny


PRODUCT = _ProductKind()
