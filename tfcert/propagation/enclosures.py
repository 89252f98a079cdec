"""What bounds of a node are made of: an interval, or two planes over the input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import tensorflow as tf

from tfcert.roundoff import Rounding

TensorInterval = tuple[tf.Tensor, tf.Tensor]


@dataclass(frozen=True, eq=False)
class Plane:
    """``slopes . x + intercept`` for each value of a node.

    ``slopes`` is ``[samples or 1, inputs, *shape]``, ``intercept`` ``[samples or 1, *shape]``.
    """

    slopes: tf.Tensor
    intercept: tf.Tensor


class Slack(NamedTuple):
    """What planes are charged for rounding.

    Attributes:
        amount: by how much the node's deployed values may lie below the lower plane or above the upper one, both taken
            with their coefficients as they are, in exact arithmetic: ``[samples or 1, *shape]``.
        reach: the largest absolute value of each input over the region, ``[samples or 1, inputs]``.
        rounding: of the network.
        ball: where the region is an even ball that nothing cuts, its norm, its centre's size ``[samples, inputs]``, and
            its radius ``[samples]``.
        units: whether each value is one of the inputs, or 0: sums of products with these slopes do not round.
    """

    amount: tf.Tensor
    reach: tf.Tensor
    rounding: Rounding
    ball: tuple[str, tf.Tensor, tf.Tensor] | None = None
    units: bool = False


@dataclass(frozen=True, eq=False)
class Planes:
    """A node lies above ``lower`` and below ``upper``; for an affine node both are the same object.

    Of a rounded network it does so up to the ``slack``, which is kept apart so that affine nodes have one plane.
    """

    lower: Plane
    upper: Plane
    slack: Slack | None = None


def scaled_plane(factor: tf.Tensor, near: Plane, far: Plane) -> Plane:
    """The plane on the side of ``near`` of a node's values, each times a factor ``[samples or 1, *shape]``.

    ``far`` is the node's plane on the other side, which negative factors turn to this one.
    """
    up, down = tf.nn.relu(factor), tf.minimum(factor, 0)
    slopes = up[:, None] * near.slopes + down[:, None] * far.slopes
    return Plane(slopes, up * near.intercept + down * far.intercept)
