"""What bounds of a node are made of: an interval, or two planes over the input."""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

TensorInterval = tuple[tf.Tensor, tf.Tensor]


@dataclass(frozen=True, eq=False)
class Plane:
    """``slopes . x + intercept`` for each value of a node.

    ``slopes`` is ``[samples or 1, inputs, *shape]``, ``intercept`` ``[samples or 1, *shape]``.
    """

    slopes: tf.Tensor
    intercept: tf.Tensor


@dataclass(frozen=True, eq=False)
class Planes:
    """A node lies above ``lower`` and below ``upper``; for an affine node both are the same object."""

    lower: Plane
    upper: Plane


def scaled_plane(factor: tf.Tensor, near: Plane, far: Plane) -> Plane:
    """The plane on the side of ``near`` of a node's values, each times a factor ``[samples or 1, *shape]``.

    ``far`` is the node's plane on the other side, which negative factors turn to this one.
    """
    up, down = tf.nn.relu(factor), tf.minimum(factor, 0)
    slopes = up[:, None] * near.slopes + down[:, None] * far.slopes
    return Plane(slopes, up * near.intercept + down * far.intercept)
