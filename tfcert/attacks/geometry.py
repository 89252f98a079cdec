"""Steps, projections and starting points in the three norms, as tensors ``[batch, n]``.

A region is the ball of radius ``eps`` around ``center`` cut by the box ``[lower, upper]``, which encloses the centre;
for L-inf it is the box alone. What is computed here is near the region, rounding included: only
``Perturbation.project`` promises to be inside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from tfcert.sets.region import Region, entries_at

_STEPS, _QUICK_STEPS = 36, 12
"""Most steps towards a multiplier, and how many of them are not bisections."""
_NEAR = 1e-5
"""How far from the surface of a ball a point may be that should lie on it, relative to the radius."""
_NEGLIGIBLE = 1e-12
"""Entries of a unit vector below this are treated as zero, so that no quotient overflows."""
_TURNS = 4
"""How often conditions are projected onto in turn."""
_L1_SHARE = 0.05
"""The share of coordinates that the first L1 steps move; it falls to one coordinate half-way."""


def project(region: Region, z: tf.Tensor) -> tf.Tensor:
    """The nearest point of the region in the Euclidean sense.

    With a multiplier m for the ball's constraint the minimiser is separable: the box clips ``step / (1 + m)`` (L2) or
    the soft threshold of ``step`` at m (L1); its norm falls as m grows, so m is found by false position.
    For L1 without a box this is Duchi et al., "Efficient projections onto the l1-ball" (2008).
    """
    if region.blocks():
        return _by_block(region, project, z)
    inside = tf.clip_by_value(z, region.lower, region.upper)
    if region.is_box:
        return inside
    step = z - region.center
    if region.norm == "l2" and not region.clipped:
        length = tf.maximum(_size(region, step), region.eps[:, None])
        return region.center + step * tf.math.divide_no_nan(region.eps[:, None], length)
    excess = _size(region, inside - region.center) > region.eps[:, None]
    if region.norm == "l2":
        # At least length / eps - 1 shrinks the step to the ball without the box's help.
        most = _size(region, step) / tf.maximum(region.eps[:, None], _tiny(z))
    else:
        most = tf.reduce_max(tf.abs(step), axis=1, keepdims=True)

    def shrunk(multiplier: tf.Tensor) -> tf.Tensor:
        soft = tf.sign(step) * tf.nn.relu(tf.abs(step) - multiplier)
        move = step / (1 + multiplier) if region.norm == "l2" else soft
        return tf.clip_by_value(region.center + move, region.lower, region.upper)

    return tf.where(excess, shrunk(_reaching(region, shrunk, most)), inside)


class Halfspaces(NamedTuple):
    """Conditions ``A z + b >= 0`` on the points of a region.

    Attributes:
        rows: A, ``[batch, conditions, n]``; offsets: b, ``[batch, conditions]``.
    """

    rows: tf.Tensor
    offsets: tf.Tensor

    def in_units(self, region: Region) -> Halfspaces:
        """The same in the coordinates of an uneven region."""
        offsets = self.offsets + tf.einsum("bcn,bn->bc", self.rows, region.center)
        return Halfspaces(self.rows * region.eps[:, None], offsets)


def into(region: Region, conditions: Halfspaces, z: tf.Tensor) -> tf.Tensor:
    """A point near ``z`` that meets conditions, as far as a few projections in turn onto each and the region find it.

    A number moves as far as the region lets it relative to the others.
    """
    width = tf.square(region.upper - region.lower)
    lengths = tf.einsum("bcn,bn->bc", tf.square(conditions.rows), width)
    count = tf.shape(conditions.offsets)[1]

    def step(number: tf.Tensor, z: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        row, length = (tf.gather(part, number % count, axis=1) for part in (conditions.rows, lengths))
        value = tf.reduce_sum(row * z, axis=1) + tf.gather(conditions.offsets, number % count, axis=1)
        share = tf.math.divide_no_nan(tf.nn.relu(-value), length)
        moved = z + share[:, None] * width * row
        ends = tf.equal(number % count, count - 1)
        return number + 1, tf.cond(ends, lambda: project(region, moved), lambda: moved)

    return tf.while_loop(lambda number, _: number < _TURNS * count, step, (tf.constant(0), z))[1]


def furthest(region: Region, direction: tf.Tensor) -> tf.Tensor:
    """The point of the region that is furthest along ``direction``: the maximiser of a linear function."""
    if region.blocks():
        return _by_block(region, furthest, direction)
    ends = tf.where(direction > 0, region.upper, tf.where(direction < 0, region.lower, region.center))
    if region.is_box:
        return ends
    room = tf.abs(ends - region.center)
    if region.norm == "l1":
        # Greedy: the steepest coordinates are moved as far as the box lets them until eps is spent.
        order = tf.argsort(tf.abs(direction), axis=1, direction="DESCENDING", stable=True)
        spent = tf.cumsum(tf.gather(room, order, axis=1, batch_dims=1), axis=1, exclusive=True)
        back = tf.argsort(order, axis=1)
        left = tf.nn.relu(region.eps[:, None] - tf.gather(spent, back, axis=1, batch_dims=1))
        return region.center + tf.sign(direction) * tf.minimum(room, left)
    return _furthest_l2(region, direction, room)


def _furthest_l2(region: Region, direction: tf.Tensor, room: tf.Tensor) -> tf.Tensor:
    unit = tf.math.divide_no_nan(direction, _size(region, direction))
    if not region.clipped:
        return region.center + region.eps[:, None] * unit
    # The maximiser moves every coordinate by min(room, |unit| s): s is reach where all meet the box's ends, and eps
    # or more; s = reach / (1 + multiplier) is found likewise.
    steep = tf.where(tf.abs(unit) > _NEGLIGIBLE, tf.abs(unit), tf.zeros_like(unit))
    needed = tf.reduce_max(tf.math.divide_no_nan(room, steep), axis=1, keepdims=True)
    reach = tf.maximum(needed, region.eps[:, None])

    def reached(multiplier: tf.Tensor) -> tf.Tensor:
        return region.center + tf.sign(unit) * tf.minimum(room, steep * reach / (1 + multiplier))

    return reached(_reaching(region, reached, reach / tf.maximum(region.eps[:, None], _tiny(unit))))


def _reaching(region: Region, point: Callable[[tf.Tensor], tf.Tensor], most: tf.Tensor) -> tf.Tensor:
    """A multiplier in ``[0, most]``, ``[batch, 1]``, at which ``point`` lies in the ball, and on its surface if it can.

    The distance of ``point(multiplier)`` falls with the multiplier. False position, where an end that stays twice
    counts half (the Illinois rule), mostly needs four to eight steps; where it takes more, the rest is bisection.
    """
    eps = region.eps[:, None]

    def beyond(multiplier: tf.Tensor) -> tf.Tensor:
        """The distance by which the point is outside of the middle of what is near enough."""
        return _size(region, point(multiplier) - region.center) - (1 - _NEAR / 2) * eps

    def narrow(
        count: tf.Tensor, ends: tuple[tf.Tensor, tf.Tensor], values: tuple[tf.Tensor, tf.Tensor], side: tf.Tensor
    ) -> tuple:
        (low, high), (above, below) = ends, values
        share = tf.where(count < _QUICK_STEPS, tf.math.divide_no_nan(above, above - below), 0.5)
        middle = tf.clip_by_value(low + (high - low) * share, low, high)
        reached = beyond(middle)
        out, near = reached > 0, tf.abs(reached) <= _NEAR / 2 * eps
        above = tf.where(out, reached, tf.where(side < 0, above / 2, above))
        below = tf.where(out, tf.where(side > 0, below / 2, below), reached)
        ends = tf.where(out | near, middle, low), tf.where(out & ~near, high, middle)
        return count + 1, ends, (above, below), tf.where(out, tf.ones_like(side), -tf.ones_like(side))

    zero = tf.zeros_like(most)
    above = beyond(zero)
    high = tf.where(above <= _NEAR / 2 * eps, zero, most)
    start = (tf.constant(0), (zero, high), (above, beyond(high)), zero)
    bracket = tf.while_loop(
        lambda count, ends, *_: tf.reduce_any(ends[1] > ends[0]), narrow, start, maximum_iterations=_STEPS
    )
    return bracket[1][1]


def ascend(region: Region, z: tf.Tensor, gradient: tf.Tensor, size: tf.Tensor, progress: tf.Tensor) -> tf.Tensor:
    """One steepest-ascent step in the region's norm, projected back.

    Args:
        region: the region.
        z, gradient: ``[batch, n]``.
        size: the length of the step relative to the region's radius (for a box, to each side's half-width).
        progress: how far the attack has come, 0 to 1.
    """
    if region.blocks():
        return _by_block(region, lambda block, at, uphill: ascend(block, at, uphill, size, progress), z, gradient)
    if region.is_box:
        move = tf.sign(gradient) * (region.upper - region.lower) / 2
    elif region.norm == "l2":
        move = region.eps[:, None] * tf.math.divide_no_nan(gradient, tf.norm(gradient, axis=1, keepdims=True))
    else:
        move = region.eps[:, None] * _sparse_direction(region, z, gradient, progress)
    return project(region, z + size * move)


def _sparse_direction(region: Region, z: tf.Tensor, gradient: tf.Tensor, progress: tf.Tensor) -> tf.Tensor:
    """A direction of L1 length 1 on the steepest coordinates that the box leaves room for.

    Steepest ascent in L1 moves one coordinate; moving a few at first is far stronger on networks (Tramer and Boneh,
    "Adversarial training and robustness for multiple perturbations", 2019).
    """
    room = tf.where(gradient > 0, region.upper - z, z - region.lower)
    steep = tf.where(room > 0, tf.abs(gradient), tf.zeros_like(gradient))
    most = max(1, int(_L1_SHARE * z.shape[1]))
    count = tf.maximum(1, tf.cast(most * tf.nn.relu(1 - 2 * progress), tf.int32))
    least = tf.math.top_k(steep, most)[0][:, count - 1 : count]
    chosen = tf.cast((steep >= least) & (steep > 0), z.dtype)
    return tf.sign(gradient) * tf.math.divide_no_nan(chosen, tf.reduce_sum(chosen, axis=1, keepdims=True))


def random_point(region: Region, seed: tf.Tensor) -> tf.Tensor:
    """A random point of the region, ``[batch, n]``; the same for the same seed (two integers)."""
    if region.blocks():
        parts = [random_point(block, seed + 3 * i) for i, (_, block) in enumerate(region.blocks())]
        return region.assembled(parts)
    shape, dtype = tf.shape(region.center), region.center.dtype
    uniform = tf.random.stateless_uniform(shape, seed, dtype=dtype)
    if region.is_box:
        return region.lower + (region.upper - region.lower) * uniform
    direction = tf.random.stateless_normal(shape, seed + 1, dtype=dtype)
    if region.norm == "l1":
        direction = tf.sign(direction) * -tf.math.log(tf.maximum(uniform, _tiny(uniform)))
    length = tf.random.stateless_uniform([shape[0], 1], seed + 2, dtype=dtype)
    step = tf.math.divide_no_nan(direction, _size(region, direction)) * length * region.eps[:, None]
    return tf.clip_by_value(region.center + step, region.lower, region.upper)


def _by_block(region: Region, function: Callable[..., tf.Tensor], *parts: tf.Tensor) -> tf.Tensor:
    """Sets side by side: a function of each of them, and of the numbers that are its own."""
    found = [function(block, *(entries_at(part, places) for part in parts)) for places, block in region.blocks()]
    return region.assembled(found)


def _size(region: Region, step: tf.Tensor) -> tf.Tensor:
    """The norm of each row, ``[batch, 1]``."""
    return tf.norm(step, ord=2 if region.norm == "l2" else 1, axis=1, keepdims=True)


def _tiny(x: tf.Tensor) -> tf.Tensor:
    return tf.constant(x.dtype.as_numpy_dtype(1e-30), x.dtype)
