"""Planes of ``h(c, q) = c / sqrt(a c^2 + q)``: a number over the root of a mean square, q what others add to it.

h rises in c, convex left of zero and concave right of it, and is odd. Right of zero it falls and is convex in q, left
of it it rises and is concave. On a box of c and q

* its range lies between two corners, exactly; with a share a of 1/n this keeps ``|h| < sqrt(n)``;
* for any slopes the least intercept of a plane above it is known: over q the extremum is at an end, or where the
  derivative in q is the slope, and the same holds for c (lower planes are upper ones turned about zero).

Slopes of the upper plane are chosen from two pairs, by the value in the middle of the box, which a plane's mean
distance from h grows with:

* right of zero: by c that of the S-shaped curve h(c, middle of q) that leaves least area (the relaxation ``adaptive``),
  by q that of the plane that then touches at both ends of q;
* left of zero: by q the derivative in the middle, by c that of the plane that then touches at both ends of c.

(Measured on random boxes of layer normalisation over 2 to 1000 numbers, against the chain of squares, mean, rsqrt and
McCormick's planes of c and the root: the gap in the middle, relative to the range of h, is 0.03 against 0.11 for 2
numbers within 0.05, 0.24 against 1.15 for 4 within 1.5, 0.13 against 0.18 for 16 within 0.6, 0.13 against 0.16 for 64;
the best planes that there are have 0.02, 0.21, 0.12 and 0.12.)

*Rounding.* On a rounded network c is x minus the mean m as the program computes it, and the values are those whose
multiple by the factor of the layer (charged there) the program has, off by no more than :func:`program_charge`. Let v
be its unit roundoff and V the mean square of these c and what is added to it, of n terms: the program has V up to
``(n + 7) v``, an inverse root of it up to half of that and what a root may err by, and multiplies it by x (and the
layer's factor) with a few roundings more: relative errors of h, ``(n / 2 + 40) v`` in all, double precision's kernels
included. Where it has not subtracted m before, but computes ``x r + (b - m r)`` with r the inverse root, each of the
products errs by up to ``4 v`` of itself: by ``4.1 v (|x| + |m|) r <= 8.2 v |x| r + 4.1 v |h|``, because m is
``x - c``. A factor that makes r too small for the type costs the smallest normal number times ``|x| + |m|``, here
divided by the factor. A square that is flushed costs no more of V than that number over what V is never below.

Our own rounding, with u our unit roundoff, H the largest ``|h|``, and C and Q those of c and q: h is computed up to
``72 u H``. The extremum of ``h - slope c`` right of zero (and of ``h - rise q`` left of it) is that of a concave
function, so that it lies below the tangent at *any* point: the point where the derivative should vanish need not be
found exactly, what the derivative computed there leaves is added. Planes, their intercepts and coefficients of rows
are products and sums of a few numbers up to ``|by_c| C``, ``|by_q| Q`` and H, each within 24 u of these; constants
of rows are summed in float64.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfcert.activations.s_shaped import SCurve, s_shaped
from tfcert.network.normalized import Normalized, normalized
from tfcert.network.sparse import Entries
from tfcert.propagation.coefficients import Coefficients
from tfcert.propagation.enclosures import TensorInterval
from tfcert.propagation.multivariate import Carried, Facet, Kind
from tfcert.propagation.product import ProductPlanes
from tfcert.roundoff import gamma

_CURVE = s_shaped(
    "algebraic",
    lambda z: normalized(z, tf.ones_like(z), 1.0),
    SCurve(
        lambda z: normalized(z, tf.ones_like(z), 1.0),
        lambda z: (1 + tf.square(z)) ** -1.5,
        lambda slope: tf.sqrt(tf.nn.relu(tf.minimum(slope, 1.0) ** (-2 / 3) - 1)),
    ),
)
"""``z / sqrt(1 + z^2)``, which is ``sqrt(a) h`` for ``z = c sqrt(a / q)``."""


class NormalizedBox(NamedTuple):
    """Bounds of c and q, those of one number where they are not known, and how much is lost there: infinite; elsewhere
    what the deployed program rounds. ``unit`` is our roundoff, 0 where it is left out of account."""

    low: tf.Tensor
    high: tf.Tensor
    least: tf.Tensor
    most: tf.Tensor
    lost: tf.Tensor
    unit: float = 0.0

    @property
    def middle(self) -> TensorInterval:
        return 0.5 * self.low + 0.5 * self.high, 0.5 * self.least + 0.5 * self.most

    @property
    def reach(self) -> tf.Tensor:
        """The largest ``|c|``."""
        return tf.maximum(tf.abs(self.low), tf.abs(self.high))

    def turned(self) -> NormalizedBox:
        """The box turned about zero."""
        return self._replace(low=-self.high, high=-self.low)


class UpperPlane(NamedTuple):
    """``by_c * c - by_q * q``, and the intercept of a plane above h with these slopes."""

    by_c: tf.Tensor
    by_q: tf.Tensor
    intercept: tf.Tensor

    def at(self, c: tf.Tensor, q: tf.Tensor) -> tf.Tensor:
        return self.by_c * c - self.by_q * q + self.intercept


def normalized_box(
    node: Normalized, c: TensorInterval, rest: TensorInterval, x: TensorInterval | None = None
) -> NormalizedBox:
    """The box of a node's inputs."""
    large = c[0].dtype.max ** 0.2
    ends = _ends(node, rest)
    known = (c[0] >= -large) & (c[1] <= large) & (ends[1] <= large)
    low, high = (tf.where(known, end, tf.zeros_like(end)) for end in c)
    least, most = (tf.where(known, end, tf.ones_like(end)) for end in ends)
    box = NormalizedBox(low, high, least, tf.maximum(least, most), tf.zeros([], low.dtype))
    if node.rounding is not None:
        unit = 0.5 * float(np.finfo(low.dtype.as_numpy_dtype).eps)
        box = box._replace(lost=program_charge(node, box.reach, least, x), unit=unit)
    return box._replace(lost=tf.where(known, box.lost, tf.constant(np.inf, low.dtype)))


def program_charge(node: Normalized, reach: tf.Tensor, least: tf.Tensor, x: TensorInterval | None) -> tf.Tensor:
    """What the deployed program's rounding adds to values for ``|c|`` up to ``reach`` and q not below ``least``."""
    rounding = node.rounding
    assert rounding is not None
    root, v, tiny = tf.math.rsqrt(least), rounding.deployed, rounding.tiny
    largest = tf.abs(normalized(reach, least, node.share))
    unit = 1.01 * gamma(0.5 * node.terms + 40, v) + 8 * tiny * node.terms / max(node.least, node.floor)
    lost = unit * largest + 32 * tiny
    if x is not None:
        size = tf.maximum(tf.abs(x[0]), tf.abs(x[1]))
        lost += 1.01 * gamma(8.2, v) * size * root
        if node.smallest is not None:
            lost += 8 * tiny * (2 * size + reach) / tf.cast(node.smallest(), size.dtype)
    return lost


def own_charge(box: NormalizedBox, by_c: tf.Tensor, by_q: tf.Tensor, share: float) -> tf.Tensor:
    """What planes with these slopes are moved by for our own rounding."""
    largest = tf.abs(normalized(box.reach, box.least, share))
    tiny = 32 * float(np.finfo(box.low.dtype.as_numpy_dtype).tiny)
    scaled = tf.abs(by_c) * box.reach + tf.abs(by_q) * box.most
    return box.unit * (24 * scaled + 96 * largest) + tiny * (1 + tf.abs(by_c) + tf.abs(by_q))


def _ends(node: Normalized, rest: TensorInterval) -> TensorInterval:
    """Between what q is the value h(c, q): ``max(rest, floor - share c^2)``, so above the rest by the floor at most."""
    low = tf.maximum(rest[0], max(node.least, 0.0 if node.share else node.floor))
    return low, tf.maximum(rest[1], max(node.least, node.floor))


def upper_plane(box: NormalizedBox, share: float) -> UpperPlane:
    """The plane above h."""
    right, left = _right(box, share), _left(box, share)
    better = left.at(*box.middle) < right.at(*box.middle)
    return UpperPlane(*(tf.where(better, mine, other) for mine, other in zip(left, right, strict=True)))


def _right(box: NormalizedBox, share: float) -> UpperPlane:
    """A plane that falls in q, or does not change: its extrema are at the ends of q."""
    _, q = box.middle
    root = tf.math.rsqrt(q)
    _, slope = _CURVE.slopes(None, *(end * root * share**0.5 for end in (box.low, box.high)))
    by_c = slope * root
    least, most = (_most_over_c(box.low, box.high, end, by_c, share, box.unit) for end in (box.least, box.most))
    width = box.most - box.least
    wide = width > 1e-3 * box.most
    steep = tf.where(wide, (least - most) / tf.where(wide, width, tf.ones_like(width)), -_by_q(*box.middle, share))
    by_q = tf.nn.relu(steep)
    return UpperPlane(by_c, by_q, tf.maximum(least + by_q * box.least, most + by_q * box.most))


def _left(box: NormalizedBox, share: float) -> UpperPlane:
    """A plane that rises in q, or does not change."""
    c, q = box.middle
    rise = _by_q(tf.minimum(c, 0), q, share)
    low, high = (_most_over_q(end, box, rise, share) for end in (box.low, box.high))
    width = box.high - box.low
    wide = width > 1e-3 * (tf.abs(box.low) + tf.abs(box.high))
    chord = (high - low) / tf.where(wide, width, tf.ones_like(width))
    by_c = tf.where(wide, chord, q * tf.math.rsqrt(share * tf.square(c) + q) ** 3)
    # Left of zero convex in c, so the largest is at the ends; right of zero falling in q, so at the least q.
    nothing = tf.constant(-np.inf, c.dtype)
    ends = [low - by_c * box.low, high - by_c * box.high]
    ends.append(tf.where((box.low < 0) & (box.high > 0), -rise * box.least, nothing))
    beyond = _most_over_c(tf.nn.relu(box.low), tf.nn.relu(box.high), box.least, by_c, share, box.unit)
    beyond -= rise * box.least
    ends.append(tf.where(box.high > 0, beyond, nothing))
    return UpperPlane(by_c, -rise, functools.reduce(tf.maximum, ends))


def _by_q(c: tf.Tensor, q: tf.Tensor, share: float) -> tf.Tensor:
    """The derivative of h in q."""
    return -0.5 * c * tf.math.rsqrt(share * tf.square(c) + q) ** 3


def _most_over_c(
    low: tf.Tensor, high: tf.Tensor, q: tf.Tensor, slope: tf.Tensor, share: float, unit: float = 0.0
) -> tf.Tensor:
    """The largest ``h(c, q) - slope * c`` on an interval of c, for a slope that is not negative; of a tangent's bound
    of it where ``unit`` is not 0."""
    points, tangents = [low, high], []
    if share > 0:
        # h' = q (a c^2 + q)^(-3/2) is the slope where a c^2 = (q / slope)^(2/3) - q.
        some = tf.maximum(slope, 1e-12)
        point = tf.stop_gradient(tf.sqrt(tf.nn.relu((q / some) ** (2 / 3) - q) / share))
        points += [tf.clip_by_value(point, low, high), tf.clip_by_value(-point, low, high)]
        if unit:
            ends = tf.nn.relu(low), tf.nn.relu(high)
            place = tf.clip_by_value(point, *ends)
            steep = q * tf.math.rsqrt(share * tf.square(place) + q) ** 3
            loss = _tangent_loss(place, ends, steep, slope, unit)
            top = normalized(place, q, share) - slope * place + loss
            tangents = [tf.where(high > 0, top, tf.constant(-np.inf, top.dtype))]
    return functools.reduce(tf.maximum, [normalized(c, q, share) - slope * c for c in points] + tangents)


def _tangent_loss(place: tf.Tensor, ends: TensorInterval, steep: tf.Tensor, slope: tf.Tensor, unit: float) -> tf.Tensor:
    """By how much a concave function less a line may be above its value at a place of an interval."""
    error, tilt = unit * (80 * tf.abs(steep) + 2 * tf.abs(slope)), steep - slope
    right = tf.nn.relu(error + tilt) * tf.nn.relu(ends[1] - place)
    return 1.01 * tf.maximum(right, tf.nn.relu(error - tilt) * tf.nn.relu(place - ends[0]))


def _most_over_q(c: tf.Tensor, box: NormalizedBox, rise: tf.Tensor, share: float) -> tf.Tensor:
    """The largest ``h(c, q) - rise * q``, for a rise that is not negative."""
    # Left of zero h_q = |c| / 2 (a c^2 + q)^(-3/2) is the rise where q = (|c| / (2 rise))^(2/3) - a c^2.
    some = tf.maximum(rise, 1e-12)
    point = (tf.nn.relu(-c) / (2 * some)) ** (2 / 3) - share * tf.square(c)
    place = tf.clip_by_value(tf.stop_gradient(point), box.least, box.most)
    found = [normalized(c, q, share) - rise * q for q in (box.least, box.most, place)]
    if box.unit:
        loss = _tangent_loss(place, (box.least, box.most), _by_q(c, place, share), rise, box.unit)
        found.append(tf.where(c < 0, found[2] + loss, found[0]))
    return functools.reduce(tf.maximum, found)


@dataclass(frozen=True, eq=False)
class NormalizedPlanes(ProductPlanes):
    """The planes of a rounded node: constants of rows are summed in float64."""

    def back(self, rows: Coefficients) -> Carried:
        sent, _ = super().back(rows)
        positive, negative = tf.nn.relu(rows.values), tf.minimum(rows.values, 0)
        parts = (positive, rows.unfold(self.below)), (negative, rows.unfold(self.above))
        each = tf.add_n([tf.math.multiply_no_nan(level, part) for part, level in parts])
        return sent, tf.cast(tf.reduce_sum(tf.cast(each, tf.float64), axis=-1), each.dtype)


def normalized_planes(
    node: Normalized, c: TensorInterval, rest: TensorInterval, x: TensorInterval | None = None
) -> ProductPlanes:
    """The planes below and above a node."""
    box = normalized_box(node, c, rest, x)
    above, below = upper_plane(box, node.share), upper_plane(box.turned(), node.share)
    # Where planes rise in q, which is above the rest by the floor at most.
    lower, upper = (plane.intercept + tf.nn.relu(-plane.by_q) * node.floor + box.lost for plane in (below, above))
    if not box.unit:
        return ProductPlanes((below.by_c, below.by_q), -lower, (above.by_c, -above.by_q), upper)
    lower, upper = (
        level + own_charge(box, plane.by_c, plane.by_q, node.share) for level, plane in ((lower, below), (upper, above))
    )
    return NormalizedPlanes((below.by_c, below.by_q), -lower, (above.by_c, -above.by_q), upper)


class _NormalizedKind(Kind):
    keeps_patches = True
    charges_rounding = True

    def interval(self, node: Normalized, inputs: Sequence[TensorInterval]) -> TensorInterval:
        """Two corners: where c is positive, a larger rest makes less of it."""
        (low, high), rest = inputs[:2]
        least, most = _ends(node, rest)
        large = tf.constant(low.dtype.max**0.45, low.dtype)
        ends = []
        for c, q, nothing in (
            (low, tf.where(low >= 0, most, least), -np.inf),
            (high, tf.where(high >= 0, least, most), np.inf),
        ):
            known = (tf.abs(c) <= large) & tf.math.is_finite(q)
            value = normalized(tf.where(known, c, 0), tf.where(known, q, 1), node.share)
            ends.append(tf.where(known, value, tf.constant(nothing, low.dtype)))
        if node.rounding is None:
            return ends[0], ends[1]
        reach = tf.minimum(tf.maximum(tf.abs(low), tf.abs(high)), large)
        own = 96 * 0.5 * float(np.finfo(low.dtype.as_numpy_dtype).eps)
        lost = program_charge(node, reach, least, inputs[2] if len(inputs) > 2 else None)
        lost += own * tf.abs(normalized(reach, least, node.share))
        return ends[0] - lost, ends[1] + lost

    def relax(
        self,
        node: Normalized,
        bounds: Sequence[TensorInterval],
        relaxation: str | None,
        choices: Sequence[tf.Tensor] = (),
    ) -> ProductPlanes:
        return normalized_planes(node, *bounds)

    def choices(
        self, node: Normalized, bounds: Sequence[TensorInterval], relaxation: str | None
    ) -> tuple[tf.Tensor, ...]:
        return ()

    def opened(self, node: Normalized, bounds: Sequence[TensorInterval], relaxation: str | None) -> None:
        return None

    def facets(self, node: Normalized, bounds: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[Facet]:
        """Both planes."""
        pairs = [tuple(tf.constant(end.reshape(1, -1), tf.float64) for end in pair) for pair in bounds]
        found = normalized_planes(node, *pairs)
        size = bounds[0][0].size
        row, column = np.tile(np.arange(size), 2), np.arange(2 * size)
        sides = ((1, found.lower, found.below), (-1, found.upper, found.above))
        return [
            Facet(sign, Entries(row, column, np.concatenate([c.numpy()[0], q.numpy()[0]])), intercept.numpy()[0])
            for sign, (c, q), intercept in sides
        ]


NORMALIZED = _NormalizedKind()
