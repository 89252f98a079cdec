"""Planes of ``f(a) - f(b)`` over ``d = a - b``, met with those of ``f(a)`` and ``f(b)`` themselves.

All difference quotients of an activation lie between its least slope ``m`` and its greatest ``M`` on the arguments'
bounds, so ``min(m d, M d) <= f(a) - f(b) <= max(m d, M d)``, two chords over the bounds of ``d`` (the relaxation of
NeuroDiff, Paulsen et al. 2020, section 4; for ReLU ITNE's, Wang et al. 2022). Of a convex function the slopes of ``a``
alone bound from above, ``f(a) - f(b) <= f'(a) d``, and those of ``b`` from below; of a concave one the other way round.
So the difference of ReLUs, one of which is surely active, is at most ``d``, however wide ``d`` is.

The other plane of each side is ``f(a) - f(b)`` as it stands, over the two activations' own values: what bounds without
differences know. Any mixture of the two is sound. Which of them a neuron begins with is decided by how far apart the
planes of each are in the middle of their bounds; ``alpha-crown`` and branch and bound go on from there. The bounds of
``d`` are met with those of ``a`` minus those of ``b``.

Of a rounded network ``f(a)`` and ``f(b)`` are values as computed, and their difference, which nothing computes, is
exact. The chords are moved out by what the program's kernel errs by at a and at b (see
:func:`~tfcert.activations.placing.kernel_error`) and by what they lose in our own arithmetic: with S the largest of the
slopes and D the largest size of d, a slope errs by a few roundings of S (declared derivatives by 32 of ``S + reach``,
slopes of pieces by 8 of ``S (1 + |kink|)`` over the kinks' distance), its chord by 6 more and an intercept by 5 of S D:
128 of ``(S + reach) K D`` are charged, K being 1 but for pieces. A row that goes back through the planes loses a few
roundings of ``|f(a)| + |f(b)|`` and of S D, and its constant is a sum of as many terms as the node has values.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfcert.activations import image, lines
from tfcert.activations.placing import accuracy_of, kernel_error
from tfcert.activations.registry import Activation, Slopes
from tfcert.activations.steepness import bends, steepness
from tfcert.network.difference import Difference
from tfcert.network.sparse import Entries
from tfcert.propagation import kernels
from tfcert.propagation.coefficients import Coefficients
from tfcert.propagation.enclosures import Plane, Planes, Slack, TensorInterval, scaled_plane
from tfcert.propagation.errors import charged, share_of_sum, sizes
from tfcert.propagation.multivariate import Carried, Facet, Kind, MultivariatePlanes, OpenPlanes
from tfcert.propagation.slack import charged_slack, plane_sizes
from tfcert.roundoff import Rounding


class Chords(NamedTuple):
    """Lines over ``d`` below and above the difference, ``[samples, *shape]`` each; 0 where nothing is ``known``.

    ``steepest`` is the largest size that a chord over d has, S D in the module's words, and ``moved`` by how much both
    are moved out for rounding.
    """

    low_slope: tf.Tensor
    low: tf.Tensor
    high_slope: tf.Tensor
    high: tf.Tensor
    known: tf.Tensor
    steepest: tf.Tensor
    moved: tf.Tensor | float = 0.0


def gap_range(
    d: TensorInterval, a: TensorInterval, b: TensorInterval, rounding: Rounding | None = None
) -> TensorInterval:
    """Bounds of ``a - b``, met with those that follow from ``a`` and ``b``; in order where they cross by rounding."""
    least, most = a[0] - b[1], a[1] - b[0]
    if rounding is not None:
        least, most = _outward(rounding, least, most)
    low, high = tf.maximum(d[0], least), tf.minimum(d[1], most)
    return tf.minimum(low, high), tf.maximum(low, high)


def without(a: TensorInterval, d: TensorInterval, rounding: Rounding | None = None) -> TensorInterval:
    """Bounds of ``b`` by those of ``a`` and of ``d = a - b``."""
    least, most = a[0] - d[1], a[1] - d[0]
    return (least, most) if rounding is None else _outward(rounding, least, most)


def _outward(rounding: Rounding, low: tf.Tensor, high: tf.Tensor) -> TensorInterval:
    """Ends that were computed with one rounding, moved out."""
    unit = 4.0 * rounding.own
    return low - (unit * tf.abs(low) + 4.0 * rounding.tiny), high + (unit * tf.abs(high) + 4.0 * rounding.tiny)


def chords(
    act: Activation, d: TensorInterval, a: TensorInterval, b: TensorInterval, error: ChordError | None = None
) -> Chords:
    """The lines over ``d``, given its bounds and those of ``a`` and ``b``; of computed values with an ``error``."""
    lower, upper = gap_range(d, a, b, None if error is None else error.rounding)
    (low_least, low_most), (high_least, high_most) = _slopes(act, a, b)
    known = tf.math.is_finite(lower) & tf.math.is_finite(upper)
    for slope in (low_least, low_most, high_least, high_most):
        known &= tf.math.is_finite(slope)

    def finite(x: tf.Tensor) -> tf.Tensor:
        return tf.where(known, x, tf.zeros_like(x))

    left, right = tf.minimum(finite(lower), 0), tf.nn.relu(finite(upper))
    wide = right > left
    share = right / tf.where(wide, right - left, tf.ones_like(right))
    low_turn, high_turn = finite(low_most - low_least), finite(high_most - high_least)
    slopes = [tf.abs(finite(slope)) for slope in (low_least, low_most, high_least, high_most)]
    steepest = tf.reduce_max(tf.stack(slopes), axis=0) * tf.maximum(tf.abs(finite(lower)), tf.abs(finite(upper)))
    low, high, lost = low_turn * left * share, -high_turn * left * share, 0.0
    if error is not None:
        known &= tf.math.is_finite(error.kernels) & (not accuracy_of(act).sharp)
        lost = finite(error.of(steepest, tf.maximum(tf.abs(finite(lower)), tf.abs(finite(upper)))))
        low, high = low - lost, high + lost
    low_slope, high_slope = finite(low_most) - low_turn * share, finite(high_least) + high_turn * share
    return Chords(low_slope, low, high_slope, high, known, steepest, lost)


@dataclass(frozen=True)
class ChordError:
    """What chords of a rounded network's node are moved out by.

    Attributes:
        rounding: the network's.
        kernels: what the program's kernel errs by at a and at b, together ``[samples, *shape]``.
        reach: of the activation's accuracy, relative to which derivatives err.
        factor: K in the module's words.
        values: the largest size of ``|f(a)| + |f(b)|``.
        entries: how many values the node has.
    """

    rounding: Rounding
    kernels: tf.Tensor
    reach: float
    factor: float
    values: tf.Tensor
    entries: int

    def of(self, steepest: tf.Tensor, d: tf.Tensor) -> tf.Tensor:
        """What a chord is moved out by."""
        own = 128.0 * self.rounding.own * self.factor
        return self.kernels * (1.0 + own) + own * (steepest + self.reach * d) + 128.0 * self.rounding.tiny * (1.0 + d)

    def of_rows(self, found: Chords) -> tf.Tensor:
        """What a row of ones loses on its way back through the planes."""
        levels = tf.maximum(tf.abs(found.low), tf.abs(found.high))
        own = 16.0 * self.rounding.own * (self.values + 4.0 * found.steepest + levels)
        return (
            own + share_of_sum(self.entries, self.rounding) * levels + 32.0 * self.rounding.tiny * (1.0 + self.values)
        )


def chord_error(node: Difference, bounds: Sequence[TensorInterval]) -> ChordError | None:
    """What chords are moved out by, given the bounds of a node's inputs; None where rounding is left out of account."""
    rounding, act = node.rounding, node.activation
    if rounding is None:
        return None
    ours, theirs, a, b = map(sizes, bounds[1:])
    kernels = kernel_error(act, a, ours, rounding) + kernel_error(act, b, theirs, rounding)
    kinks = act.kinks or (0.0,)
    apart = min([1.0, *(after - before for before, after in itertools.pairwise(kinks))])
    factor = (1.0 + max(map(abs, kinks))) / apart
    reach = accuracy_of(act).reach
    return ChordError(rounding, kernels, reach, factor, ours + theirs, math.prod(node.shape))


def _slopes(act: Activation, a: TensorInterval, b: TensorInterval) -> tuple[Slopes, Slopes]:
    """The least and greatest slope that bound the difference from below, and those that bound it from above."""
    both = steepness(act, tf.minimum(a[0], b[0]), tf.maximum(a[1], b[1]))
    convex, concave = bends(act, a[0])
    ours, theirs = steepness(act, *a), steepness(act, *b)

    def chosen(if_convex: Slopes, if_concave: Slopes) -> Slopes:
        least, most = (
            tf.where(convex, first, tf.where(concave, second, either))
            for first, second, either in zip(if_convex, if_concave, both, strict=True)
        )
        return least, most

    return chosen(theirs, ours), chosen(ours, theirs)


def bends_between(act: Activation, a: TensorInterval, b: TensorInterval) -> tf.Tensor:
    """Marks where more than one slope is possible: elsewhere a difference is a multiple of ``d``, whatever ``d`` is."""
    (low_least, low_most), (high_least, high_most) = _slopes(act, a, b)
    return (low_least < low_most) | (high_least < high_most)


def _apart(act: Activation, ends: TensorInterval) -> tf.Tensor:
    """How far an activation's lines are apart in the middle of its bounds; infinite where nothing is known."""
    lower, upper = ends
    placed = lines(act, act.slopes(None, lower, upper), lower, upper)
    middle = 0.5 * lower + 0.5 * upper
    slope, level = placed.upper_slope - placed.lower_slope, placed.upper_intercept - placed.lower_intercept
    found = tf.math.multiply_no_nan(middle, slope) + level
    return tf.where(tf.math.is_nan(found), tf.constant(np.inf, found.dtype), found)


def default_share(act: Activation, found: Chords, d: TensorInterval, a: TensorInterval, b: TensorInterval) -> tf.Tensor:
    """1 where the lines over ``d`` are no farther apart than those of both activations together, else 0.

    What rounding moves them by is left aside: straight neurons, of which both are exact, keep the lines over ``d``.
    """
    lower, upper = gap_range(d, a, b)
    middle = tf.where(found.known, 0.5 * lower + 0.5 * upper, tf.zeros_like(lower))
    width = (found.high_slope - found.low_slope) * middle + found.high - found.low
    near = found.known & (width - 4.0 * found.moved <= _apart(act, a) + _apart(act, b))
    return tf.stop_gradient(tf.cast(near, lower.dtype))


@dataclass(frozen=True, eq=False)
class DifferencePlanes(MultivariatePlanes):
    """A plane below and one above each difference: a line over ``d``, and a multiple of ``f(a) - f(b)``.

    Attributes:
        lines: slope and intercept over ``d`` of the lower and of the upper plane.
        stay: how much of each is ``f(a) - f(b)``.
        lost: what rows lose on their way, for each entry; None where rounding is left out of account.
        rounding: the network's.
    """

    lines: tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]
    stay: tuple[tf.Tensor, tf.Tensor]
    lost: tf.Tensor | None = None
    rounding: Rounding | None = None

    def back(self, rows: Coefficients) -> Carried:
        over, constant = kernels.by_sign_both(rows.values, *map(rows.unfold, self.lines))
        stay = kernels.by_sign(rows.values, *map(rows.unfold, self.stay))
        if self.lost is not None and self.rounding is not None:
            constant -= charged(rows, self.lost, self.rounding)
        return [replace(rows, values=values, zero_outside=True) for values in (over, stay, -stay)], constant

    def advance(self, inputs: Sequence[Planes]) -> Planes:
        d, ours, theirs = inputs[:3]
        low_slope, low, high_slope, high = self.lines

        def total(parts: Sequence[Plane], level: tf.Tensor) -> Plane:
            return Plane(sum(p.slopes for p in parts), sum(p.intercept for p in parts) + level)

        below, above = self.stay
        lower = [scaled_plane(low_slope, d.lower, d.upper), scaled_plane(below, ours.lower, ours.upper)]
        upper = [scaled_plane(high_slope, d.upper, d.lower), scaled_plane(above, ours.upper, ours.lower)]
        lower.append(scaled_plane(-below, theirs.lower, theirs.upper))
        upper.append(scaled_plane(-above, theirs.upper, theirs.lower))
        return Planes(total(lower, low), total(upper, high), self._slack(inputs[:3]))

    def _slack(self, inputs: Sequence[Planes]) -> Slack | None:
        """Like an activation's lines of three numbers: what the chords err by is in their intercepts."""
        slack = inputs[0].slack
        if slack is None or self.lost is None:
            return slack
        low_slope, low, high_slope, high = map(tf.abs, self.lines)
        steepest = [tf.maximum(low_slope, high_slope), *[tf.maximum(*map(tf.abs, self.stay))] * 2]
        amount, size = self.lost, tf.maximum(low, high)
        for slope, part in zip(steepest, inputs, strict=True):
            assert part.slack is not None
            amount, size = amount + slope * part.slack.amount, size + slope * plane_sizes(part)
        return charged_slack(slack, amount, size, 6, exact=True)


def mixed_planes(
    found: Chords, below: tf.Tensor, above: tf.Tensor, error: ChordError | None = None
) -> DifferencePlanes:
    """The planes with so much of the lines over ``d`` in the lower and in the upper one, numbers in [0, 1]."""
    known = tf.cast(found.known, below.dtype)
    low, high = below * known, above * known
    placed = (low * found.low_slope, low * found.low, high * found.high_slope, high * found.high)
    if error is None:
        return DifferencePlanes(placed, (1 - low, 1 - high))
    return DifferencePlanes(placed, (1 - low, 1 - high), error.of_rows(found), error.rounding)


@dataclass(frozen=True, eq=False)
class _OpenDifference(OpenPlanes):
    lines: tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]
    known: tf.Tensor
    share: tf.Tensor
    lost: tf.Tensor | None
    rounding: Rounding | None

    def over(self, rows: Coefficients) -> _OpenDifference:
        low_slope, low, high_slope, high = map(rows.unfold, self.lines)
        lines, known, share = (low_slope, low, high_slope, high), rows.unfold(self.known), rows.unfold(self.share)
        lost = None if self.lost is None else rows.unfold(self.lost)
        return _OpenDifference(lines, known, share, lost, self.rounding)

    def first(self, shape: Sequence[int | tf.Tensor]) -> list[tf.Tensor]:
        return [tf.broadcast_to(self.share, shape)] * 2

    def back(self, rows: Coefficients, choices: Sequence[tf.Tensor]) -> Carried:
        over, stay, constant = _carried(rows.values, *choices, *self.lines, self.known)
        if self.lost is not None and self.rounding is not None:
            lost = kernels.weighted_size(rows.values, self.lost)
            constant -= lost * (1.0 + share_of_sum(rows.values.shape[3], self.rounding))
        return [replace(rows, values=values, zero_outside=True) for values in (over, stay, -stay)], constant


@kernels.kernel(passes=4)
def _carried(
    values: tf.Tensor,
    below: tf.Tensor,
    above: tf.Tensor,
    low_slope: tf.Tensor,
    low: tf.Tensor,
    high_slope: tf.Tensor,
    high: tf.Tensor,
    known: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Rows over differences as rows over ``d`` and over ``f(a)``, and their constant, by shares for each entry."""
    positive, negative = tf.nn.relu(values) * below * known, tf.minimum(values, 0) * above * known
    over, stay = positive * low_slope + negative * high_slope, values - positive - negative
    return over, stay, tf.reduce_sum(positive * low + negative * high, axis=-1)


class _DifferenceKind(Kind):
    keeps_patches = True
    charges_rounding = True

    def interval(self, node: Difference, inputs: Sequence[TensorInterval]) -> TensorInterval:
        """The ends of the lines over ``d``, met with the images of both arguments."""
        d, ours, theirs, a, b = inputs
        error = chord_error(node, inputs)
        lower, upper = gap_range(d, a, b, node.rounding)
        (low_least, low_most), (high_least, high_most) = _slopes(node.activation, a, b)
        fan = [_times(slope, end) for end in (lower, upper) for slope in (low_least, low_most)]
        low = _unless_nan(tf.reduce_min(tf.stack(fan), axis=0), -np.inf)
        fan = [_times(slope, end) for end in (lower, upper) for slope in (high_least, high_most)]
        high = _unless_nan(tf.reduce_max(tf.stack(fan), axis=0), np.inf)
        if error is not None:
            farthest = tf.maximum(tf.abs(lower), tf.abs(upper))
            lost = error.of(tf.maximum(tf.abs(low), tf.abs(high)), farthest)
            lost = tf.where(accuracy_of(node.activation).sharp, tf.constant(np.inf, lost.dtype), lost)
            low, high = _unless_nan(low - lost, -np.inf), _unless_nan(high + lost, np.inf)
        images = [image(node.activation, *ends, node.rounding) for ends in (a, b)]
        for values in ((ours, theirs), images):
            least, most = values[0][0] - values[1][1], values[0][1] - values[1][0]
            if node.rounding is not None:
                least, most = _outward(node.rounding, least, most)
            low = tf.maximum(low, _unless_nan(least, -np.inf))
            high = tf.minimum(high, _unless_nan(most, np.inf))
        return tf.minimum(low, high), tf.maximum(low, high)

    def relax(
        self,
        node: Difference,
        bounds: Sequence[TensorInterval],
        relaxation: str | None,
        choices: Sequence[tf.Tensor] = (),
    ) -> DifferencePlanes:
        found, share = self._found(node, bounds)
        below, above = choices or (share, share)
        return mixed_planes(found, below, above, chord_error(node, bounds))

    def choices(
        self, node: Difference, bounds: Sequence[TensorInterval], relaxation: str | None
    ) -> tuple[tf.Tensor, ...]:
        return (self._found(node, bounds)[1],) * 2

    def opened(self, node: Difference, bounds: Sequence[TensorInterval], relaxation: str | None) -> _OpenDifference:
        found, share = self._found(node, bounds)
        error = chord_error(node, bounds)
        lost = None if error is None else error.of_rows(found)
        return _OpenDifference(found[:4], tf.cast(found.known, share.dtype), share, lost, node.rounding)

    def facets(self, node: Difference, bounds: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[Facet]:
        """What the difference is, and the lines over ``d``."""
        tensors = [(tf.constant(low[None]), tf.constant(high[None])) for low, high in bounds]
        d, _, _, a, b = tensors
        found_chords = chords(node.activation, d, a, b, chord_error(node, tensors))
        low_slope, low, high_slope, high, known = (part.numpy().ravel() for part in found_chords[:5])
        each, size, none = np.arange(known.size), known.size, np.zeros(known.size)
        places = np.concatenate([each + size, each + 2 * size])
        itself = Entries(np.tile(each, 2), places, np.repeat([1.0, -1.0], size))
        found = [Facet(0, itself, none)]
        if known.all():
            found += [Facet(1, Entries(each, each, low_slope), low), Facet(-1, Entries(each, each, high_slope), high)]
        return found

    @staticmethod
    def _found(node: Difference, bounds: Sequence[TensorInterval]) -> tuple[Chords, tf.Tensor]:
        """The lines over ``d``, and how much of them planes have by default."""
        d, _, _, a, b = bounds
        found = chords(node.activation, d, a, b, chord_error(node, bounds))
        return found, default_share(node.activation, found, d, a, b)


def _times(slope: tf.Tensor, end: tf.Tensor) -> tf.Tensor:
    """A slope times a distance, 0 where either is, even where the other is infinite."""
    none = (slope == 0) | (end == 0)
    return tf.where(none, tf.zeros_like(end), tf.where(none, tf.ones_like(slope), slope) * end)


def _unless_nan(x: tf.Tensor, otherwise: float) -> tf.Tensor:
    return tf.where(tf.math.is_nan(x), tf.constant(otherwise, x.dtype), x)


DIFFERENCE = _DifferenceKind()
