"""Forward planes in bounded memory: over a block of the inputs at a time.

Given the relaxations, the slopes of a plane by one input do not depend on other inputs (see :mod:`forward`). So the
network is run for one block of inputs after another, anew for each range that is wanted, and only what the blocks add
up to is kept. Over a ball that is cut by a box a range is the better one of the ball's and of the box's: looser than
where all inputs are at hand, which the multiplier of the constraint weighs against each other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import tensorflow as tf

from tfcert.network.graph import Input, Network, Nonlinear
from tfcert.propagation.backward import Stop
from tfcert.propagation.coefficients import Coefficients
from tfcert.propagation.concretize import dual_norm, least, least_over_box
from tfcert.propagation.enclosures import Planes, TensorInterval
from tfcert.propagation.forward import RelaxNode, advance, below, unit_planes
from tfcert.propagation.interval import tidy
from tfcert.propagation.slack import lost_by_ranges, lost_by_rows, slack_of
from tfcert.propagation.stepping import NodeLines
from tfcert.sets.region import Region

_TWICE = 2.0
"""Of a rounded network each block is charged for its own slopes, with intercepts and slack: for the sums of blocks, the
same again."""

LinesByNode = Mapping[int, NodeLines]


class _Sums(NamedTuple):
    """What blocks add up to for functions of the input, ``[samples, 1, functions]``.

    Attributes:
        least: the least value over a box; over a ball the value in its center.
        size: over a ball, the dual norm of the slopes.
        boxed: over a ball that a box cuts, the least value over that box.
    """

    least: tf.Tensor
    size: tf.Tensor
    boxed: tf.Tensor


@dataclass(frozen=True, eq=False)
class Blocks:
    """The planes of a network over blocks of the inputs.

    Attributes:
        network, region: what is bounded.
        size: inputs in a block.
    """

    network: Network
    region: Region
    size: int

    def lines(self, relax: RelaxNode) -> dict[int, NodeLines]:
        """The relaxation of every nonlinear node."""
        found: dict[int, NodeLines] = {}

        def range_of(index: int) -> TensorInterval:
            return self.ranges(index, found)

        for index, node in enumerate(self.network.nodes):
            if isinstance(node, Nonlinear):
                found[index] = relax(index, range_of)
        return found

    def ranges(self, target: int, lines: LinesByNode) -> TensorInterval:
        """The range of a node over the region, given relaxations before it: a pair ``[samples, *shape]``."""
        shape = self.network.nodes[target].shape
        samples, known = tf.shape(self.region.center)[0], self.region.center.shape[0]
        zeros = tf.ensure_shape(tf.zeros([samples, 1, math.prod(shape)], self.network.dtype), [known, 1, None])
        level = tf.ensure_shape(tf.zeros([samples, *shape], self.network.dtype), [known, *shape])

        def step(start: tf.Tensor, sums: tuple[_Sums, _Sums], ends: tuple[tf.Tensor, ...]) -> tuple[Any, ...]:
            node, part = self._planes(target, start, lines), self._part(start)
            lost = lost_by_ranges(node)
            charge = ends[2] if lost is None else ends[2] + lost * _TWICE
            both = node.lower.slopes, -node.upper.slopes
            added = tuple(self._added(old, slopes, part) for old, slopes in zip(sums, both, strict=True))
            return start + self.size, added, (level + node.lower.intercept, level + node.upper.intercept, charge)

        none = _Sums(zeros, zeros, zeros)
        begin = tf.constant(0), (none, none), (level, level, level)
        _, (low, high), (bottom, top, charge) = tf.while_loop(self._is_left, step, begin, parallel_iterations=1)
        lower, upper = (tf.reshape(self._least(sums), [-1, *shape]) for sums in (low, high))
        if self.network.rounding is None:
            return tidy(bottom + lower, top - upper)
        return tidy(bottom + lower - charge, top - upper + charge)

    def substitute(self, target: int, lines: LinesByNode) -> Stop:
        """A stop for backward passes: rows over the node become rows over the input, below by the planes."""

        def stop(rows: Coefficients) -> tuple[Coefficients, tf.Tensor]:
            values = rows.dense().values

            @tf.autograph.experimental.do_not_convert
            def over(start: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
                node = self._planes(target, start, lines)
                found, constant = below(values, node)
                lost = lost_by_rows(values, node, len(self.network.nodes))
                return found, constant, tf.zeros_like(constant) if lost is None else lost * _TWICE

            starts = tf.range(0, self._inputs, self.size)
            slopes, constants, charges = tf.map_fn(over, starts, (values.dtype,) * 3, parallel_iterations=1)
            slopes = tf.transpose(slopes, [1, 2, 3, 0, 4])  # [samples, 1, rows, blocks, inputs of a block]
            lead = [-1 if n is None else n for n in slopes.shape[:3]]
            whole = tf.reshape(slopes, [*lead, slopes.shape[3] * self.size])[..., : self._inputs]
            return Coefficients(whole, self.network.input_shape), constants[0] - tf.reduce_sum(charges, axis=0)

        return stop

    @property
    def _inputs(self) -> int:
        return math.prod(self.network.input_shape)

    def _is_left(self, start: tf.Tensor, *_: object) -> tf.Tensor:
        return start < self._inputs

    def _planes(self, target: int, start: tf.Tensor, lines: LinesByNode) -> Planes:
        """A node's planes over a block of inputs; beyond the last input slopes are 0."""
        nodes, wanted = self.network.nodes, sorted({*self.network.ancestors(target), target})
        last = {source: index for index in wanted for source in nodes[index].inputs}
        found: dict[int, Planes] = {}
        for index in wanted:
            node = nodes[index]
            if isinstance(node, Input):
                units = tf.one_hot(start + tf.range(self.size), self._inputs, dtype=self.network.dtype)
                unit, slack = unit_planes(self.network, units), slack_of(self.region, self.network.rounding, units)
                found[index] = replace(unit, slack=slack)
            else:
                found[index] = advance(node, [found[i] for i in node.inputs], lines.get(index))
            for source in {i for i in node.inputs if last[i] == index}:
                del found[source]
        return found[target]

    def _part(self, start: tf.Tensor) -> Region:
        """The region's extent along a block of inputs; beyond the last input it is the point 0."""

        def part(values: tf.Tensor) -> tf.Tensor:
            flat = tf.reshape(values, [-1, self._inputs])[:, start : start + self.size]
            padded = tf.pad(flat, [[0, 0], [0, self.size - tf.shape(flat)[1]]])
            return tf.ensure_shape(padded, [values.shape[0], self.size])

        region = self.region
        eps = part(region.eps) if region.uneven else region.eps
        return region._replace(center=part(region.center), lower=part(region.lower), upper=part(region.upper), eps=eps)

    def _added(self, sums: _Sums, slopes: tf.Tensor, part: Region) -> _Sums:
        flat = tf.reshape(slopes, [slopes.shape[0] or -1, self.size, math.prod(slopes.shape[2:])])
        rows = Coefficients(tf.linalg.matrix_transpose(flat)[:, None], (self.size,))
        if part.is_box:
            return sums._replace(least=sums.least + least(rows, part))
        norm, boxed = dual_norm(part.norm), sums.boxed
        if part.clipped:
            boxed += least_over_box(rows, part.lower, part.upper)
        # The norm of a vector is the norm of its parts' norms.
        values = rows.values * rows.unfold(part.eps) if part.uneven else rows.values
        size = norm(tf.stack([sums.size, norm(values) + tf.zeros_like(sums.size)], axis=3))
        return _Sums(sums.least + rows.dot(part.center), size, boxed)

    def _least(self, sums: _Sums) -> tf.Tensor:
        if self.region.is_box:
            return sums.least
        radius = 1.0 if self.region.uneven else tf.reshape(self.region.eps, [-1, 1, 1])
        over_ball = sums.least - radius * sums.size
        return tf.maximum(over_ball, sums.boxed) if self.region.clipped else over_ball
