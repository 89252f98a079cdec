"""Regions: perturbation sets as tensors, which is what bound propagation and attacks read."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from tfcert.sets.balls import LpBall, Perturbation
from tfcert.sets.rounding import round_up


class Region(NamedTuple):
    """A perturbation set as tensors.

    Attributes:
        norm: ``linf`` (the box ``[lower, upper]``), ``l2`` or ``l1`` (the ball of radius ``eps`` around ``center``).
        clipped: whether the ball is cut by the box ``[lower, upper]``; a ball that is not has its hull there.
        center, lower, upper: ``[batch, *input]``.
        eps: ``[batch]``; or ``[batch, *input]``, where it differs between the numbers of an input: then the ball is
            ``||(z - center) / eps|| <= 1``, and a number whose eps is 0 stays as it is.
    """

    norm: str
    clipped: bool
    center: tf.Tensor
    lower: tf.Tensor
    upper: tf.Tensor
    eps: tf.Tensor

    @property
    def is_box(self) -> bool:
        """Tells whether the set is the box ``[lower, upper]``."""
        return self.norm == "linf"

    @property
    def uneven(self) -> bool:
        """Tells whether eps differs between the numbers of an input."""
        return bool(self.eps.shape.rank != 1)

    @property
    def kind(self) -> tuple[str, bool, bool]:
        """What tells traced functions of regions apart: the norm, whether it is clipped, and whether it is uneven."""
        return self.norm, self.clipped, self.uneven

    def in_units(self) -> Region:
        """An uneven ball in coordinates ``(z - center) / eps``, where it is the unit ball cut by a box."""
        zero = tf.zeros_like(self.center)

        def placed(end: tf.Tensor) -> tf.Tensor:
            # No farther than the ball itself, so that nothing overflows where eps is tiny.
            return tf.clip_by_value(tf.math.divide_no_nan(end - self.center, self.eps), -1.0, 1.0)

        ones = tf.ones(tf.shape(self.center)[:1], self.center.dtype)
        return Region(self.norm, True, zero, placed(self.lower), placed(self.upper), ones)


def region_of(perturbation: Perturbation) -> Region:
    """The set as tensors in its own floating-point type, rounded outward."""
    lower, upper = tf.constant(perturbation.lower), tf.constant(perturbation.upper)
    if isinstance(perturbation, LpBall):
        even = perturbation.scale is None or perturbation.norm == "linf"
        eps = tf.constant(round_up(perturbation.eps if even else perturbation.reach, perturbation.x.dtype))
        return Region(perturbation.norm, perturbation.clip is not None, tf.constant(perturbation.x), lower, upper, eps)
    return Region(perturbation.norm, True, lower, lower, upper, tf.zeros([len(perturbation)], lower.dtype))
