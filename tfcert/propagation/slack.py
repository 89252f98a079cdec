"""What forward planes are charged for rounding: that of the deployed program, and that of propagating the planes.

Every node's deployed values lie between its planes, whose coefficients are what we have computed, read as exact
numbers, up to the planes' slack. Each step adds what it may have got wrong. With the planes' *size* ``s``, the largest
that ``sum |slopes| |x| + |intercept|`` can be over the region for either plane, and the slack added to it, no deployed
value of the node is larger than s; and a computation that errs by ``c`` relative to each slope and intercept errs by
``c s``. So one more product ``|W| s`` a linear node pays for both. k roundings in a row err by ``gamma_k`` at most
(Higham 2002, "Accuracy and Stability of Numerical Algorithms", lemmas 3.1 and 3.3; sums in any order, section 4.2), and
each operation may flush a number below the smallest normal one, of a slope times the inputs' own size.

Over an L2 ball of centre c the terms of a plane are no larger together than ``|slopes| |c| + eps |slopes|_2``, over an
L1 ball than with the largest slope: far less than over the box around it. And an addition errs by u times what it adds
up to, some of the terms: at most ``(T + Z) / 2`` where all of them have the size T and their sum Z (see
:mod:`tfcert.propagation.errors`). Of a linear node's n terms T is ``|W| s + |b|``, of what the program adds up and of
what slopes and intercepts are added up from; Z is the size of the planes that come out.

Charges are themselves computed in floating point: :func:`raised` makes up for that.
"""

from __future__ import annotations

import math
from dataclasses import replace

import tensorflow as tf

from tfcert.propagation.enclosures import Planes, Slack
from tfcert.propagation.errors import limited
from tfcert.roundoff import Rounding, gamma
from tfcert.sets.region import Region

_SPARE = 8
"""So many roundings are charged beyond the terms of a sum: of products, of halves and differences of two planes, of
adding a bias, an intercept, and of adding the slack to what there is."""


def slack_of(region: Region, rounding: Rounding | None, entries: tf.Tensor | None = None) -> Slack | None:
    """The slack of the inputs' planes: none yet.

    ``entries``: the inputs that planes are over, as rows of a unit matrix ``[entries, inputs]``; None for all.
    """
    if rounding is None:
        return None
    reach, ball = tf.maximum(tf.abs(region.lower), tf.abs(region.upper)), None
    count = math.prod(region.center.shape[1:])

    def chosen(numbers: tf.Tensor) -> tf.Tensor:
        flat = tf.reshape(numbers, [-1, count])
        return flat if entries is None else tf.matmul(flat, entries, transpose_b=True)

    if not region.is_box:
        # Each end of the hull may have been rounded inward; so may what follows.
        size = tf.abs(region.center)
        eps = region.eps if region.uneven else tf.reshape(region.eps, [-1, *[1] * (size.shape.rank - 1)])
        reach = (size + eps) * (1 + 4 * rounding.own) + rounding.tiny
        if isinstance(region.norm, str) and not (region.clipped or region.uneven):
            ball = region.norm, chosen(size), region.eps
    return Slack(tf.zeros([1, *region.center.shape[1:]], reach.dtype), chosen(reach), rounding, ball, units=True)


def raised(amount: tf.Tensor, roundings: int, rounding: Rounding) -> tf.Tensor:
    """An upper bound of a sum of numbers that are not negative, computed with so many roundings in a row at most."""
    return amount * (1 + 2 * gamma(roundings + _SPARE, rounding.own))


def plane_sizes(planes: Planes) -> tf.Tensor:
    """The size of a node's planes, which its deployed values do not exceed: ``[samples or 1, *shape]``."""
    slack = planes.slack
    assert slack is not None
    slopes, level = tf.abs(planes.lower.slopes), tf.abs(planes.lower.intercept)
    if planes.upper is not planes.lower:
        slopes = tf.maximum(slopes, tf.abs(planes.upper.slopes))
        level = tf.maximum(level, tf.abs(planes.upper.intercept))
    count, shape = slopes.shape[1], slopes.shape[2:]
    flat = tf.reshape(slopes, [slopes.shape[0] or -1, count, math.prod(shape)])
    if slack.ball is None:
        total = _weighed(slack.reach, flat)
    else:
        norm, size, eps = slack.ball
        total = _weighed(size, flat) + eps[:, None] * _dual(norm, flat, count * slack.rounding.tiny)
    total = tf.reshape(total, [-1, *shape]) + level + slack.amount
    return raised(total, _length(slack), slack.rounding)


def _weighed(size: tf.Tensor, slopes: tf.Tensor) -> tf.Tensor:
    """The sum of sizes ``[samples, inputs]`` times slopes ``[samples or 1, inputs, values]``, for each value."""
    # oneDNN's product (TensorFlow 2.21) crashes on repeating the second factor.
    return tf.matmul(size, slopes[0]) if slopes.shape[0] == 1 else tf.matmul(size[:, None], slopes)[:, 0]


def _dual(norm: str, slopes: tf.Tensor, few: float) -> tf.Tensor:
    """The norm of slopes ``[samples or 1, inputs, values]``, not negative, that is dual to a ball's.

    ``few``: what their squares may lose together where they are flushed to zero.
    """
    if norm == "l1":
        return tf.reduce_max(slopes, axis=1)
    return tf.sqrt(tf.reduce_sum(tf.square(slopes), axis=1) + few)


def charged_slack(
    slack: Slack, amount: tf.Tensor, size: tf.Tensor, terms: int, exact: bool = False, planes: Planes | None = None
) -> Slack:
    """The slack after a step.

    Args:
        slack: of the inputs.
        amount: what the slack of the inputs has become.
        size: ``|W| s + |b|`` of the step, for the sizes of its inputs: what all roundings are relative to.
        terms: how many numbers are added up for one value.
        exact: whether the deployed program computes the step without rounding, or the step's lines account for it.
        planes: where the step adds up nothing but these terms, weights times its inputs and a bias, the planes that it
            ends in, for how large their sum is.

    The computed slopes and intercepts err by ``gamma_(terms + 8)`` of the size, and the deployed values by
    ``gamma_(terms + 4)``: of n terms there are n products and n - 1 sums, a bias, and two more where a batch
    normalisation's scale is folded into the kernel. Of slopes that are units, all terms of a sum but one are 0.
    """
    rounding, size = slack.rounding, limited(size, slack.rounding)
    deployed = 0.0 if exact else rounding.deployed
    own = 0 if planes is not None and slack.units else terms
    slack = slack._replace(amount=amount, units=False)
    amount += flushed(slack, terms)
    lost = (gamma(own + _SPARE, rounding.own) + gamma(terms + 4, deployed)) * size
    sums = gamma(own, rounding.own) + gamma(terms, deployed)
    if planes is not None and sums < 0.25:
        # Values and planes are known to err by no more than that: so the sum, as it should be, has this size.
        whole = plane_sizes(replace(planes, slack=slack._replace(amount=raised(amount + lost, terms, rounding))))
        within = 0.5 * size + 0.5 * tf.minimum(whole, size)
        each = (gamma(_SPARE, rounding.own) + gamma(4, deployed)) * (1 + sums)
        lost = tf.minimum(within * (sums / (1 - sums)) + size * each, lost)
    return slack._replace(amount=raised(amount + lost, terms, rounding))


def flushed(slack: Slack, terms: int) -> tf.Tensor:
    """What flushed operations may lose: a slope each time its input, and an intercept."""
    lost = slack.rounding.tiny * (terms + _SPARE)
    rank = slack.amount.shape.rank - 1
    return lost * tf.reshape(1 + tf.reduce_sum(slack.reach, axis=1), [-1, *[1] * rank])


def lost_by_ranges(planes: Planes) -> tf.Tensor | None:
    """What the least values of planes over the region are charged: ``[samples or 1, *shape]``; None: nothing.

    Middles, radii, norms and sums of n slopes each err by ``gamma_(n + 16)`` at most. So do the duals over a ball that
    a box cuts: where one is better than the box's own bound its terms add up to no more than four times the size.
    """
    slack = planes.slack
    if slack is None:
        return None
    unit = 4 * gamma(_length(slack) + 2 * _SPARE, slack.rounding.own)
    lost = slack.amount + unit * plane_sizes(planes) + flushed(slack, _length(slack))
    return raised(lost, _length(slack), slack.rounding)


def lost_by_rows(rows: tf.Tensor, planes: Planes, stops: int) -> tf.Tensor | None:
    """What rows ``[samples or 1, 1, rows, values]`` over a node are charged for being put through its planes.

    Their coefficients over the input are sums of as many terms as the node has values, read as exact from there on, and
    added to those of at most so many ``stops``, this one included.

    Returns:
        ``[samples or 1, 1, rows]``; None: nothing.
    """
    slack = planes.slack
    if slack is None:
        return None
    terms = int(rows.shape[3])
    each = slack.amount + gamma(terms + stops + _SPARE, slack.rounding.own) * plane_sizes(planes)
    lost = tf.reduce_sum(tf.abs(rows) * tf.reshape(each, [-1, 1, 1, terms]), axis=3)
    few = tf.reshape(flushed(slack, terms + stops), [-1, 1, 1])
    return raised(lost + few, terms, slack.rounding)


def _length(slack: Slack) -> int:
    return int(slack.reach.shape[1])
