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
"""

from __future__ import annotations

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


def box_of(x: TensorInterval, y: TensorInterval) -> FactorBox:
    """The box of two factors with these bounds."""
    known = known_marks(x, y)
    (mx, dx), (my, dy) = (middle_and_radius(known, *pair) for pair in (x, y))
    return FactorBox(mx, dx, my, dy, tf.where(known, dx * dy, tf.constant(np.inf, dx.dtype)))


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
        x, y = inputs

        def total(slopes: tuple[tf.Tensor, tf.Tensor], sides: Sequence[tuple[Plane, Plane]], at: tf.Tensor) -> Plane:
            first, second = (scaled_plane(slope, *pair) for slope, pair in zip(slopes, sides, strict=True))
            return Plane(first.slopes + second.slopes, first.intercept + second.intercept + at)

        return Planes(
            total(self.lower, [(x.lower, x.upper), (y.lower, y.upper)], self.below),
            total(self.upper, [(x.upper, x.lower), (y.upper, y.lower)], self.above),
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

    def interval(self, node: Product, inputs: Sequence[TensorInterval]) -> TensorInterval:
        """The least and the largest product of ends."""
        x, y = inputs
        known = known_marks(x, y)
        lx, ux, ly, uy = (tf.where(known, end, tf.zeros_like(end)) for end in (*x, *y))
        return unless_unknown(known, *corner_range(lx, ux, ly, uy))

    def relax(
        self,
        node: Product,
        bounds: Sequence[TensorInterval],
        relaxation: str | None,
        choices: Sequence[tf.Tensor] = (),
    ) -> ProductPlanes:
        box = box_of(*bounds)
        below, above = (2 * choice - 1 for choice in choices) if choices else default_places(box)
        return planes_at(box, below, above)

    def choices(self, node: Product, bounds: Sequence[TensorInterval], relaxation: str | None) -> tuple[tf.Tensor, ...]:
        return tuple(tf.stop_gradient(0.5 + 0.5 * place) for place in default_places(box_of(*bounds)))

    def opened(self, node: Product, bounds: Sequence[TensorInterval], relaxation: str | None) -> _OpenProduct:
        return _OpenProduct(box_of(*bounds))

    def facets(self, node: Product, bounds: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[Facet]:
        """McCormick's four planes."""
        (lx, ux), (ly, uy) = ([np.reshape(end, -1) for end in pair] for pair in bounds)
        row, column = np.tile(np.arange(lx.size), 2), np.arange(2 * lx.size)
        corners = ((1, lx, ly), (1, ux, uy), (-1, lx, uy), (-1, ux, ly))
        return [Facet(sign, Entries(row, column, np.concatenate([y, x])), -x * y) for sign, x, y in corners]


PRODUCT = _ProductKind()
