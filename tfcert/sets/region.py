"""Regions: perturbation sets as tensors, which is what bound propagation and attacks read."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfcert.sets.balls import LpBall, Perturbation
from tfcert.sets.rounding import round_up
from tfcert.sets.side_by_side import SideBySide


class BlockNorms(NamedTuple):
    """The norm of sets side by side: of each block the norm, whether it is clipped, and the places of its numbers.

    Every number is in one block. Together the blocks may be larger than the sets: of numbers that several sets share
    each is in the first ball that holds it.
    """

    blocks: tuple[tuple[str, bool, tuple[int, ...]], ...]


class Region(NamedTuple):
    """A perturbation set as tensors.

    Attributes:
        norm: ``linf`` (the box ``[lower, upper]``), ``l2`` or ``l1`` (the ball of radius ``eps`` around ``center``); or
            those of sets side by side, each over some of the numbers of a vector.
        clipped: whether the ball is cut by the box ``[lower, upper]``; a ball that is not has its hull there.
        center, lower, upper: ``[batch, *input]``.
        eps: ``[batch]``; or ``[batch, *input]``, where it differs between the numbers of an input: then the ball is
            ``||(z - center) / eps|| <= 1``, and a number whose eps is 0 stays as it is.
    """

    norm: str | BlockNorms
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
    def kind(self) -> tuple[str | BlockNorms, bool, bool]:
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

    def blocks(self) -> list[tuple[tuple[int, ...], Region]]:
        """Sets side by side, each by itself with the places of its numbers; none of a single ball or box."""
        if not isinstance(self.norm, BlockNorms):
            return []

        def block(norm: str, is_clipped: bool, places: tuple[int, ...]) -> Region:
            parts = (entries_at(part, places) if part.shape.rank > 1 else part for part in self[2:])
            return Region(norm, is_clipped, *parts)

        return [(of_block[2], block(*of_block)) for of_block in self.norm.blocks]

    def assembled(self, parts: list[tf.Tensor]) -> tf.Tensor:
        """Vectors ``[batch, size]`` of what each block says of its numbers."""
        assert isinstance(self.norm, BlockNorms)
        order = np.argsort(np.concatenate([places for _, _, places in self.norm.blocks]))
        return entries_at(tf.concat(parts, axis=1), tuple(order.tolist()))

    def hull(self) -> Region:
        """The box that encloses the set."""
        return Region("linf", True, self.lower, self.lower, self.upper, tf.zeros_like(self.lower[:, 0]))


def entries_at(x: tf.Tensor, places: tuple[int, ...]) -> tf.Tensor:
    """Some entries of the last axis."""
    first = places[0]
    if places == tuple(range(first, first + len(places))):
        return x[..., first : first + len(places)]
    return tf.gather(x, tf.constant(places, tf.int32), axis=-1)


def region_of(perturbation: Perturbation) -> Region:
    """The set as tensors in its own floating-point type, rounded outward."""
    lower, upper = tf.constant(perturbation.lower), tf.constant(perturbation.upper)
    if isinstance(perturbation, SideBySide):
        return _sides(perturbation)
    if isinstance(perturbation, LpBall):
        even = perturbation.scale is None or perturbation.norm == "linf"
        eps = tf.constant(round_up(perturbation.eps if even else perturbation.reach, perturbation.x.dtype))
        return Region(perturbation.norm, perturbation.clip is not None, tf.constant(perturbation.x), lower, upper, eps)
    return Region(perturbation.norm, True, lower, lower, upper, tf.zeros([len(perturbation)], lower.dtype))


def _sides(sets: SideBySide) -> Region:
    """Sets side by side: their balls one after the other, and then everything else as one box."""
    lower, upper, dtype = sets.lower, sets.upper, sets.lower.dtype
    center = (0.5 * lower + 0.5 * upper).astype(dtype)
    radius = np.maximum(upper.astype(np.float64) - center, center.astype(np.float64) - lower)
    left = np.ones(lower.shape[1], bool)
    blocks: list[tuple[str, bool, tuple[int, ...]]] = []
    for ball, places in sets.sides:
        if not isinstance(ball, LpBall) or ball.norm == "linf" or not left[places].any():
            continue
        fresh = np.flatnonzero(left[places])
        own = places[fresh]
        blocks.append((ball.norm, ball.clip is not None or sets.shared, tuple(own.tolist())))
        center[:, own] = ball.x.reshape(len(lower), -1)[:, fresh]
        radius[:, own] = np.broadcast_to(ball.reach, ball.x.shape).reshape(len(lower), -1)[:, fresh]
        left[own] = False
    if left.any():
        blocks.append(("linf", True, tuple(np.flatnonzero(left).tolist())))
    middle, low, high, eps = map(tf.constant, (center, lower, upper, round_up(radius, dtype)))
    whole = Region(BlockNorms(tuple(blocks)), True, middle, low, high, eps)
    return whole.hull() if len(blocks) == 1 and blocks[0][0] == "linf" else whole
