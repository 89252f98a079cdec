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
        eps: ``[batch]``.
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


def region_of(perturbation: Perturbation) -> Region:
    """The set as tensors in its own floating-point type, rounded outward."""
    lower, upper = tf.constant(perturbation.lower), tf.constant(perturbation.upper)
    if isinstance(perturbation, LpBall):
        eps = tf.constant(round_up(perturbation.eps, perturbation.x.dtype))
        return Region(perturbation.norm, perturbation.clip is not None, tf.constant(perturbation.x), lower, upper, eps)
    return Region(perturbation.norm, True, lower, lower, upper, tf.zeros([len(perturbation)], lower.dtype))
