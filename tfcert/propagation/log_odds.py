"""Planes of the log odds ``t_j = x_j - log(sum over i != j of exp(x_i))``, of which a softmax is the sigmoid.

Each value is a concave function of its group x, rising in ``x_j`` and falling in the others. On a box

* its range is that between ``t_j(l_j, others at u)`` and ``t_j(u_j, others at l)``, exactly, and so is the softmax's;
* above it lies each of its tangents, ``x_j - sum_i w_i x_i + sum_i w_i log w_i`` with the softmax w of the others at
  the point where it touches;
* below it lie tangents of ``x_j - r - log(sum_i a_i(x_i - r))``, which is convex, where ``a_i`` is the chord of the
  exponential function over the range of ``x_i - r``, and r is 0 or one of the others, whose term is then exactly 1.
  The largest other is taken for r where the plane is higher in the middle for it: where it outweighs the rest.

A plane's mean distance from the function grows as its value in the middle of the box, so planes touch there.

Through the lines of the sigmoid that is best at ``t(middle)``, the upper plane of a softmax is nowhere higher in the
middle than that of Wei et al. 2023 ("Convex bounds on the softmax function with applications to robustness
verification", the bounds U^LSE and U^ER): their concave function is an increasing one of log p and touches the sigmoid
at both ends of the range, so that its tangent is one of the lines to choose from. Their lower bounds L^ER and L^LSE
replace the exponential function by chords too, also that of ``x_j``, which the sigmoid's lines need not.
(Measured on random boxes of 2 to 8 entries: the mean gap in the middle, relative to the range of p, is 0.01 to 0.38
above and 0.01 to 0.22 below, for U^LSE 0.04 to 0.48 and the better of L^ER and L^LSE 0.03 to 0.38; the best planes
that there are have 0.01 to 0.37 and 0.01 to 0.20.)

*Rounding.* On a rounded network the values are those whose sigmoid the deployed program's softmax is, up to the error
that the sigmoid is charged for (:func:`~tfcert.network.softmax.softmax_accuracy`). The program computes ``exp`` of
``x_j - m``, m the largest of the group. Where ``x_j`` is m nothing is lost; elsewhere ``p_j <= 1/2``, and the factor
``exp(v |x_j - m|)`` by which the difference may be off, v the program's unit roundoff, is what moving ``t_j`` by
``2.02 v |x_j - m|`` does, because the logarithm of a sigmoid has the slope ``1 - p_j >= 1/2``. What is too small for
the type counts as flushed: the sigmoid is charged for that, too.

Our own rounding, in units of the roundoff u, for groups of n numbers within M (functions err by up to 20 u of their
values, and a difference in an exponent by its size, which the term's share of the sum makes ``log n`` at most):

* the range: a sum of n exponentials, its logarithm, and sums of numbers up to M: ``n + 48 + 24 log n + 8 M``;
* upper planes: for any weights w above 0, of sum s, ``log(sum exp(x_i)) >= sum w_i/s (x_i - log(w_i/s))`` (Gibbs), so
  that weights which do not sum to 1, by ``n + 40``, cost this times ``M + log n + 1``; ``sum w log w`` errs by as much;
* lower planes: weights err by ``2 n + 64``, relatively, which moves the plane by no more than that on the box, for a
  weight times half of the width is at most the term's share of the sum; their intercepts are sums of n terms up to
  ``2 M`` in all; differences of ends from the largest other, and its weight, cost ``(2 n + 16) M``;
* rows: a coefficient over ``x_i`` is a sum of n + 1 products, of size ``|a_i| + sum |a_j| w_ji``, where the weights of
  a plane add up to 2 at most: ``3 (n + 12) M``; constants are summed in float64.

So planes are moved by ``(8 n + 96) M + (3 n + 96)(2 + log n)``.
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

from tfcert.network.softmax import LogOdds, log_sum_of_others, weights_of_others
from tfcert.network.sparse import Entries
from tfcert.propagation.coefficients import Coefficients
from tfcert.propagation.enclosures import Plane, Planes, Slack, TensorInterval
from tfcert.propagation.multivariate import Carried, Facet, Kind, MultivariatePlanes, OpenPlanes
from tfcert.propagation.slack import charged_slack, plane_sizes
from tfcert.roundoff import Rounding, gamma

_PLACES = (0.25, 0.5, 0.75)
"""Where upper planes to choose from touch, from ``t_j``'s least point on the box (0) to its greatest (1)."""


class Group(NamedTuple):
    """Planes ``x_j - sum_i weights_ji x_i + intercept_j`` of each group of values.

    Attributes:
        weights: ``[samples or 1, ..., k, k]``, not negative, 0 where i is j.
        intercept: ``[samples or 1, ..., k]``; infinite, with weights of any size, where nothing is known.
    """

    weights: tf.Tensor
    intercept: tf.Tensor


def log_odds_range(lower: tf.Tensor, upper: tf.Tensor) -> TensorInterval:
    """The exact range of the log odds along the last axis over a box; bounds may be infinite."""
    large = tf.constant(lower.dtype.max / 8, lower.dtype)
    low, high = (tf.clip_by_value(end, -large, large) for end in (lower, upper))
    least, most = low - log_sum_of_others(high), high - log_sum_of_others(low)
    nothing = tf.constant(np.inf, lower.dtype)
    return tf.where(least <= -0.5 * large, -nothing, least), tf.where(most >= 0.5 * large, nothing, most)


class _Box(NamedTuple):
    """A box, 0 where it is not known; ``lost`` is infinite there, else what rounding may take: ``[..., 1]``, for whole
    groups."""

    lower: tf.Tensor
    upper: tf.Tensor
    lost: tf.Tensor

    @property
    def middle(self) -> tf.Tensor:
        return 0.5 * self.lower + 0.5 * self.upper


def _box(node: LogOdds, lower: tf.Tensor, upper: tf.Tensor) -> _Box:
    large = lower.dtype.max**0.5
    known = tf.reduce_all((lower >= -large) & (upper <= large), axis=-1, keepdims=True)
    low, high = (tf.where(known, end, tf.zeros_like(end)) for end in (lower, upper))
    lost = tf.zeros([], lower.dtype)
    if node.rounding is not None:
        n = lower.shape[-1]
        lost = _charge(node.rounding, low, high, (8 * n + 96, 3 * n + 96, 2 + math.log(n)))
    return _Box(low, high, tf.where(known, lost, tf.constant(np.inf, lower.dtype)))


def _charge(rounding: Rounding, low: tf.Tensor, high: tf.Tensor, counts: tuple[float, float, float]) -> tf.Tensor:
    """What values of each group lie off for rounding, ``[..., 1]``: that of the program, and our own.

    ``counts``: units of our roundoff by M, beside that, and what the second is multiplied by.
    """
    by_size, alone, factor = counts
    unit, n = 0.5 * float(np.finfo(low.dtype.as_numpy_dtype).eps), low.shape[-1]
    size = tf.reduce_max(tf.maximum(tf.abs(low), tf.abs(high)), axis=-1, keepdims=True)
    apart = tf.reduce_max(high, axis=-1, keepdims=True) - tf.reduce_min(low, axis=-1, keepdims=True)
    own = gamma(by_size + 8, unit) * size + factor * gamma(alone + 8, unit)
    return own + 2.02 * rounding.deployed * apart + 64 * rounding.tiny * (n + size)


def upper_group(box: _Box, place: float = 0.5) -> Group:
    """The plane above, which touches at a place of ``_PLACES``."""
    if place == 0.5:
        weights = weights_of_others(box.middle)
    else:  # each value has its point: its own number there, the others from the other end
        others = box.upper + place * (box.lower - box.upper)
        weights = weights_of_others(others)  # its own number does not count
    logs = tf.where(weights > 0, tf.math.log(tf.where(weights > 0, weights, tf.ones_like(weights))), 0)
    return Group(weights, tf.reduce_sum(weights * logs, axis=-1) + box.lost)


def lower_groups(box: _Box) -> tuple[Group, Group, tf.Tensor]:
    """The planes below for r = 0 and for the largest of the others, and whether the second is the higher one."""
    first, second = _largest_two(box.middle)
    referred = tf.where(first[..., :, None], second[..., None, :], first[..., None, :])
    others = ~tf.eye(first.shape[-1], dtype=tf.bool)
    low, high = box.lower[..., None, :], box.upper[..., None, :]
    zero = tf.zeros_like(low * tf.cast(others, low.dtype))
    plain, height = _chords(zero + low, zero + high, others)
    base = [tf.reduce_sum(tf.where(referred, zero + end, zero), axis=-1, keepdims=True) for end in (low, high)]
    shifted, rest = _chords(tf.where(referred, zero, low - base[1]), tf.where(referred, zero, high - base[0]), others)
    own = tf.reduce_sum(tf.where(referred, zero, shifted), axis=-1, keepdims=True)
    shifted = tf.where(referred, 1 - own, shifted)
    taken = rest + tf.reduce_sum(tf.where(referred, zero + box.middle[..., None, :], zero), axis=-1)
    groups = [
        Group(weights, tf.linalg.matvec(weights, box.middle) - total - box.lost)
        for weights, total in ((plain, height), (shifted, taken))
    ]
    return groups[0], groups[1], taken < height


def _largest_two(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Marks the largest and the second-largest entry along the last axis."""
    first = tf.one_hot(tf.argmax(x, axis=-1), x.shape[-1], True, False)
    rest = tf.where(first, tf.constant(-np.inf, x.dtype), x)
    return first, tf.one_hot(tf.argmax(rest, axis=-1), x.shape[-1], True, False)


def _chords(low: tf.Tensor, high: tf.Tensor, others: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """A tangent of the logarithm of a sum of chords of exp on ``[low, high]``, in the middle.

    Returns:
        Its slopes ``[..., j, i]``, 0 where not ``others``, and its value in the middle ``[..., j]``.
    """
    largest = tf.stop_gradient(tf.reduce_max(tf.where(others, high, high.dtype.min), axis=-1, keepdims=True))
    end = tf.where(others, tf.exp(tf.minimum(high - largest, 0)), tf.zeros_like(high))
    width = tf.nn.relu(high - low)
    wide = width > 0
    some = tf.where(wide, width, tf.ones_like(width))
    slope = end * tf.where(wide, -tf.math.expm1(-some) / some, 1.0)
    middle = 0.5 * end * (1 + tf.exp(-width))
    total = tf.reduce_sum(middle, axis=-1, keepdims=True)
    return slope / total, tf.squeeze(largest + tf.math.log(total), -1)


@dataclass(frozen=True, eq=False)
class LogOddsPlanes(MultivariatePlanes):
    """A plane below and one above each value."""

    lower: Group
    upper: Group
    rounded: bool = False

    def back(self, rows: Coefficients) -> Carried:
        return _carried(rows, [(self.lower, None)], [(self.upper, None)], self.rounded)

    def advance(self, inputs: Sequence[Planes]) -> Planes:
        (source,) = inputs

        def side(near: Plane, far: Plane, group: Group) -> Plane:
            slopes = near.slopes - tf.linalg.matvec(group.weights[:, None], far.slopes)
            return Plane(slopes, near.intercept - tf.linalg.matvec(group.weights, far.intercept) + group.intercept)

        return Planes(
            side(source.lower, source.upper, self.lower),
            side(source.upper, source.lower, self.upper),
            None if source.slack is None else self._slack(source),
        )

    def _slack(self, source: Planes) -> Slack:
        """Like lines of as many numbers as a group has: what the function errs by is in the intercepts."""
        slack = source.slack
        assert slack is not None
        weights = tf.maximum(self.lower.weights, self.upper.weights)
        level = tf.maximum(tf.abs(self.lower.intercept), tf.abs(self.upper.intercept))
        amount, size = (x + tf.linalg.matvec(weights, x) for x in (slack.amount, plane_sizes(source)))
        return charged_slack(slack, amount, size + level, weights.shape[-1] + 4, exact=True)


Weighted = tuple[Group, tf.Tensor | None]
"""Planes, and how much each entry of rows takes of them; None for all."""


def _carried(
    rows: Coefficients, lower: Sequence[Weighted], upper: Sequence[Weighted], rounded: bool = False
) -> Carried:
    """Rows over the log odds as rows over the groups, by mixtures of planes; constants in float64 where ``rounded``."""
    kind = tf.float64 if rounded else rows.values.dtype
    rows = rows.masked()
    values, constants = rows.values, []
    for part, groups in ((tf.nn.relu(rows.values), lower), (tf.minimum(rows.values, 0), upper)):
        for group, share in groups:
            taken = part if share is None else part * share
            values -= _through(taken, _arranged(group.weights, rows))
            each = tf.math.multiply_no_nan(rows.unfold(group.intercept), taken)
            constants.append(tf.reduce_sum(tf.cast(each, kind), axis=-1))
    constant = tf.cast(functools.reduce(operator.add, constants), rows.values.dtype)
    return [replace(rows, values=values, zero_outside=True)], constant


def _arranged(weights: tf.Tensor, rows: Coefficients) -> tf.Tensor:
    """Weights ``[samples or 1, ..., k, k]`` for the entries of rows: ``[samples or 1, groups or 1, entries, k]``."""
    size = rows.shape[-1]
    flat = replace(rows, shape=(*rows.shape[:-1], size * size))
    found = flat.unfold(tf.reshape(weights, [-1, *flat.shape]))
    lead = [-1 if n is None else n for n in found.shape[:2]]
    return tf.reshape(found, [*lead, found.shape[-1] // size, size])


def _through(values: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """``sum_j values_j weights_ji`` of each group: ``[samples or 1, groups or 1, rows, entries]``."""
    entries, size = weights.shape[-2:]
    lead, over = ([-1 if n is None else n for n in part.shape[:2]] for part in (values, weights))
    split = tf.transpose(tf.reshape(values, [*lead, values.shape[2], entries // size, size]), [0, 1, 3, 2, 4])
    found = tf.matmul(split, tf.reshape(weights, [*over, entries // size, size, size]))
    found = tf.transpose(found, [0, 1, 3, 2, 4])
    return tf.reshape(found, [-1, tf.shape(found)[1], values.shape[2], entries])


@dataclass(frozen=True, eq=False)
class _OpenLogOdds(OpenPlanes):
    """A choice each: below between r = 0 and the largest other, above between the ``_PLACES``."""

    lower: tuple[Group, Group]
    upper: tuple[Group, ...]
    second: tf.Tensor
    """1 where r is the largest other by default."""
    rounded: bool = False
    pace = 0.5

    def over(self, rows: Coefficients) -> _OpenLogOdds:
        return replace(self, second=rows.unfold(self.second))

    def first(self, shape: Sequence[int | tf.Tensor]) -> list[tf.Tensor]:
        return [tf.broadcast_to(self.second, shape), tf.fill(shape, tf.constant(0.5, self.second.dtype))]

    def back(self, rows: Coefficients, choices: Sequence[tf.Tensor]) -> Carried:
        lower = list(zip(self.lower, (1 - choices[0], choices[0]), strict=True))
        return _carried(rows, lower, list(zip(self.upper, _shares(choices[1]), strict=True)), self.rounded)


def _shares(choice: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """How much of each of three planes a choice in [0, 1] takes: neighbours are mixed."""
    first, last = tf.nn.relu(1 - 2 * choice), tf.nn.relu(2 * choice - 1)
    return first, 1 - first - last, last


def _mixed(parts: Sequence[Group], shares: Sequence[tf.Tensor]) -> Group:
    weights = tf.add_n([part.weights * share[..., None] for part, share in zip(parts, shares, strict=True)])
    rest = [tf.math.multiply_no_nan(part.intercept, share) for part, share in zip(parts, shares, strict=True)]
    return Group(weights, tf.add_n(rest))


class _LogOddsKind(Kind):
    keeps_patches = True  # a group is a pixel
    charges_rounding = True

    def interval(self, node: LogOdds, inputs: Sequence[TensorInterval]) -> TensorInterval:
        low, high = log_odds_range(*inputs[0])
        if node.rounding is None:
            return low, high
        n = node.shape[-1]
        lost = _charge(node.rounding, *inputs[0], (8, n + 48 + 24 * math.log(n), 1.0))
        return low - lost, high + lost

    def relax(
        self, node: LogOdds, bounds: Sequence[TensorInterval], relaxation: str | None, choices: Sequence[tf.Tensor] = ()
    ) -> LogOddsPlanes:
        box, rounded = _box(node, *bounds[0]), node.rounding is not None
        plain, shifted, second = lower_groups(box)
        if choices:
            upper = _mixed([upper_group(box, place) for place in _PLACES], _shares(choices[1]))
            return LogOddsPlanes(_mixed((plain, shifted), (1 - choices[0], choices[0])), upper, rounded)
        lower = Group(
            tf.where(second[..., None], shifted.weights, plain.weights),
            tf.where(second, shifted.intercept, plain.intercept),
        )
        return LogOddsPlanes(lower, upper_group(box), rounded)

    def choices(self, node: LogOdds, bounds: Sequence[TensorInterval], relaxation: str | None) -> tuple[tf.Tensor, ...]:
        *_, second = lower_groups(_box(node, *bounds[0]))
        default = tf.stop_gradient(tf.cast(second, bounds[0][0].dtype))
        return default, tf.fill(tf.shape(default), tf.constant(0.5, default.dtype))

    def opened(self, node: LogOdds, bounds: Sequence[TensorInterval], relaxation: str | None) -> _OpenLogOdds:
        box = _box(node, *bounds[0])
        plain, shifted, second = lower_groups(box)
        upper = tuple(upper_group(box, place) for place in _PLACES)
        second = tf.cast(second, bounds[0][0].dtype)
        return _OpenLogOdds((plain, shifted), upper, second, node.rounding is not None)

    def facets(self, node: LogOdds, bounds: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[Facet]:
        """Both planes below and the three above."""
        box = _box(node, *(tf.constant(end[None], tf.float64) for end in bounds[0]))
        plain, shifted, _ = lower_groups(box)
        upper = [upper_group(box, place) for place in _PLACES]
        return [_facet(1, plain), _facet(1, shifted), *(_facet(-1, group) for group in upper)]


def _facet(sign: int, group: Group) -> Facet:
    weights, size = group.weights.numpy(), group.weights.shape[-1]
    matrix = np.reshape(np.eye(size) - weights, [-1, size])
    row, inner = np.nonzero(matrix)
    return Facet(sign, Entries(row, row // size * size + inner, matrix[row, inner]), group.intercept.numpy().ravel())


LOG_ODDS = _LogOddsKind()
