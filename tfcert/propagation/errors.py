"""What rounding may add to each node's values and to rows over them, as one vector a node.

Statement. Let a node's inputs lie within ``m`` in size, as computed by the deployed program. A linear node of n terms
computes ``b + sum w_i x_i`` by n additions in any order, with or without fused multiplications. Its terms sum up to
``T = |W| m + |b|`` in size, and each is off by ``gamma_4`` of itself: a product, and three roundings for a scale that
was folded into the weights first (more for a node that only scales, whose factor, of batch normalisation, the program
computes itself). An addition errs by u times what it adds up to, and that is the sum of *some* of the terms and what
was lost before (Higham 2002, "Accuracy and Stability of Numerical Algorithms", sections 3.1 and 4.2). The sum of some
terms is largest for all those of one sign, ``(sum |t_i| + |sum t_i|) / 2``, at most ``S = (T + Z) / 2`` where the
node's values are within Z: terms of a layer cancel, so that this is little more than half of T. With L lost in all,
``L <= gamma_n (S + gamma_4 T) + gamma_4 T``, where S counts L/2 once more if Z is of values that have lost it.
A bias that is folded into the sum of a node before may come first there, and is in all of its additions:
:attr:`~tfcert.network.graph.Linear.folded` says how many. Each operation may also lose the smallest normal number,
where results below it are flushed to zero; a weight that a scale s was folded into may, too, and then ``tiny |x|`` of
the folded sum, which is ``tiny |x| / |s|`` of the node's own.

Our own rounding is charged in the same way. Rows ``A`` over a linear node become ``A' = fl(A W)``, which are taken to
be exact from there on: ``|A W - A'| |x| <= |A| gamma_K (|W| m)`` where an input is read K times. The affine nodes'
values in the middle of the region are computed in float64, and rounded once. What products and sums of rows with
slopes change is relative to the rows themselves: a few roundings times m; where more than two nodes read a number, rows
are charged for each sum on the way. So ``|A| e`` is all that a node is charged, and e is one vector for each sample. An
interval's middle and radius, ``W c + b`` and ``|W| r``, are each a sum in some order, too: the partial sums of both
together are no larger than S.

Assumption: no value reaches :attr:`~tfcert.roundoff.Rounding.largest`; where one may, errors are infinite. No
partial sum is larger than ``|W| m + |b|``, no folded one than ``|s|`` times that, no folded weight than ``|s| |W| 1``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfcert.activations import Lines
from tfcert.activations.either import either
from tfcert.network.graph import Add, Concatenate, Input, Linear, MaxPool, Network, Node
from tfcert.network.linear import Convolution, DenseMap, LinearMap, ScaleMap
from tfcert.propagation import kernels
from tfcert.propagation.coefficients import Coefficients
from tfcert.propagation.enclosures import TensorInterval
from tfcert.roundoff import Rounding, gamma
from tfcert.sets.region import Region
from tfcert.tracing import kept

_FOLDED, _SCALED = 4, 12
"""Roundings of a term beside those of the sum: of any linear node, and of one that only scales."""
_SPARE = 8
"""Roundings of a product of rows beside those of its sum: values that enter and leave it, and room."""
_STEPS = 12
"""Roundings of a row's entry between two nodes: slopes, a scale, a middle."""


def sizes(pair: TensorInterval) -> tf.Tensor:
    """The largest size of a number in an interval."""
    return tf.maximum(tf.abs(pair[0]), tf.abs(pair[1]))


def moves(node: Linear) -> bool:
    """Tells whether a node only moves or copies numbers, zeros between them."""
    return node.bias is None and node.map.moves


def times_read(linear: LinearMap) -> int:
    """The largest number of terms that one number of the transposed product has."""
    if isinstance(linear, DenseMap):
        return linear.out_shape[-1]
    if isinstance(linear, Convolution):
        return math.prod(linear.size) * linear.out_shape[-1]
    if isinstance(linear, ScaleMap):
        return 1
    if not linear.moves:
        return math.prod(linear.out_shape)

    def counted() -> int:
        with tf.init_scope():
            return int(tf.reduce_max(linear.transpose(tf.ones([1, *linear.out_shape]))).numpy())

    return max(1, int(kept(linear, "times read", counted)))


Sized = tuple[tf.Tensor, tf.Tensor]
"""What :func:`linear_size` finds."""


def linear_size(node: Linear, m: tf.Tensor) -> Sized:
    """``|W| m + |b|`` of inputs of size m, never below it; and what is lost where operands are flushed to zero.

    An input that is loses ``|w|`` times the smallest normal number, a weight ``m`` times, a folded one more.
    """
    size, weights = through_sizes(node, m, tf.ones_like(m[:1]))
    return _sized(node, m, size, weights)


def through_sizes(node: Linear, *inputs: tf.Tensor) -> list[tf.Tensor]:
    """``|W| x`` of several batches, in one product."""
    found = node.map.abs_apply(tf.concat(inputs, axis=0))
    return tf.split(found, [tf.shape(x)[0] if x.shape[0] is None else x.shape[0] for x in inputs], axis=0)


def radius_and_size(node: Linear, pair: TensorInterval, radius: tf.Tensor) -> tuple[tf.Tensor, Sized]:
    """``|W| r`` and, for inputs within an interval, what :func:`linear_size` finds."""
    m = sizes(pair)
    reach, size, weights = through_sizes(node, radius, m, tf.ones_like(m[:1]))
    return reach, _sized(node, m, size, weights)


def _sized(node: Linear, m: tf.Tensor, size: tf.Tensor, weights: tf.Tensor) -> Sized:
    """The same, given ``|W| m`` and ``|W| 1`` as they are computed."""
    rounding, terms = node.rounding, node.map.terms()
    assert rounding is not None
    bias = node.size_of_bias or node.bias
    if bias is not None:
        size += tf.abs(bias())
    size *= 1.0 + 2.0 * gamma(terms + 4, rounding.own)
    growth, spread = _folded(node)
    if node.scales:
        size = tf.where(growth * weights < rounding.largest, size, tf.constant(np.inf, size.dtype))
    few = 4.0 * rounding.tiny
    return limited(size, rounding, growth), few * weights + (few * spread) * terms * (1.0 + tf.reduce_max(m))


def limited(size: tf.Tensor, rounding: Rounding, growth: tf.Tensor | float = 1.0) -> tf.Tensor:
    """Sizes that partial sums do not exceed; infinite where the program may overflow, with sizes that grow so much."""
    grown = size if isinstance(growth, float) and growth == 1.0 else growth * size
    return either(grown < rounding.largest, size, np.inf)


def _folded(node: Linear) -> tuple[tf.Tensor | float, tf.Tensor | float]:
    """By how much the scales that may be folded into a node's weights make numbers larger, and smaller, at most."""
    assert node.rounding is not None
    growth: tf.Tensor | float = 1.0
    spread: tf.Tensor | float = 1.0
    for scale in node.scales:
        size = tf.abs(scale())
        growth *= tf.maximum(size, 1.0)
        spread /= tf.clip_by_value(size, node.rounding.tiny, 1.0)
    return growth, spread


class Own(NamedTuple):
    """Our own roundings: those of each term, and the additions of terms that may cancel."""

    terms: float
    additions: int = 0


def linear_error(node: Linear, m: tf.Tensor, own: float) -> tf.Tensor:
    """What rounding adds to a linear node of inputs of size m: the program's, and ``own`` roundings of ours a term."""
    return sum_of_terms_error(node, linear_size(node, m), None, Own(own))


def sum_of_terms_error(node: Linear, terms: Sized, reach: tf.Tensor | None, own: Own) -> tf.Tensor:
    """The same where :func:`linear_size` is known, and that the node's values are within ``reach`` in size.

    ``reach`` may be found in arithmetic of ours, as an interval is; None: nothing is known of it.
    """
    rounding, (size, flushed), count = node.rounding, terms, node.map.terms()
    assert rounding is not None
    ours, theirs = gamma(own.additions, rounding.own), gamma(count, rounding.deployed)
    extra = node.computed + (_SCALED if isinstance(node.map, ScaleMap) else _FOLDED)
    own = own._replace(terms=own.terms + node.computed * max(1.0, rounding.weights / rounding.own))
    each = gamma(extra, rounding.deployed) * (1.0 + theirs) + gamma(own.terms, rounding.own) * (1.0 + ours)
    partial = (ours + theirs) / max(1.0 - ours - theirs, 0.5)
    if reach is not None and max(ours, theirs) < 0.25:
        # Half of the terms' size and half of the values', which are found up to a rounding of each term.
        known = 0.5 + 0.5 * up(gamma(count + 8, rounding.own))
        lost = tf.minimum(reach, size) * up(0.5 * partial) + size * up(each + known * partial)
    else:
        lost = size * up(each + partial)
    few = flushed + (2.0 * count + extra + node.folded + own.terms + own.additions) * rounding.tiny
    bias = node.size_of_bias or node.bias
    if node.folded and bias is not None:
        few += tf.abs(bias()) * up(gamma(node.folded, rounding.deployed))
    return lost + few


def up(share: float) -> float:
    """A share made larger by what multiplying with it in float32 may lose."""
    return share * (1.0 + 2.0**-20)


def sum_error(node: Node, size: tf.Tensor) -> tf.Tensor:
    """By how much the interval of a sum of nodes is moved outward, ``size`` being the sum of their sizes."""
    rounding, terms = node.rounding, len(node.inputs)
    assert rounding is not None
    share = gamma(terms, rounding.deployed) + gamma(terms + 4, rounding.own)
    return limited(size, rounding) * up(share) + 2.0 * terms * rounding.tiny


def moved_outward(pair: TensorInterval, error: tf.Tensor) -> TensorInterval:
    """An interval moved outward."""
    return pair[0] - error, pair[1] + error


class Ball(NamedTuple):
    """Inputs ``c + d`` of which d is no longer than 1 in units of a radius for each number: an L2 ball, or an L1 ball.

    All terms of a sum of them are no larger together than ``|w| |c| + |r w|_2``, far less than over the box around it.

    Attributes:
        size: ``|c|``, ``[samples, *shape]``.
        square: of the radii.
    """

    size: tf.Tensor
    square: tf.Tensor

    def moved(self, node: Linear) -> Ball:
        return Ball(*map(node.map.apply, self))

    def terms(self, node: Linear) -> tf.Tensor:
        """The first half of :func:`linear_size`."""
        assert node.rounding is not None
        count, tiny = node.map.terms(), node.rounding.tiny
        # Squares that are flushed to zero are charged as if they were not.
        square = node.map.square_apply(self.square + tiny) + 4.0 * count * tiny * (1.0 + tf.reduce_max(self.square))
        length = tf.sqrt(square) * (1.0 + 2.0 * gamma(count + 16, node.rounding.own))
        zero = tf.zeros_like(length)
        return _sized(node, zero[:1], node.map.abs_apply(self.size) + length, zero)[0]


def ball_of(region: Region) -> Ball | None:
    """The ball that a region is, or that it is cut from; None of a box, and of sets side by side."""
    if region.is_box or region.blocks():
        return None
    eps = region.eps if region.uneven else tf.reshape(region.eps, [-1] + [1] * (region.center.shape.rank - 1))
    return Ball(tf.abs(region.center), tf.square(eps) + tf.zeros_like(region.center))


def no_errors(network: Network, region: Region) -> Errors | None:
    """The errors of a rounded network, of no node yet; None of another network."""
    if network.rounding is None:
        return None
    ball = ball_of(region)
    return Errors(network, balls={} if ball is None else {0: ball})


@dataclass
class Errors:
    """The error vectors of a rounded network's nodes, as far as their intervals are known.

    Attributes:
        network: the network.
        vectors: ``[samples, *shape]`` by node: rows over it lose ``|A| e``.
        sizes: of every node, the largest size of its values, ``[samples, *shape]``.
        lost: what flushing to zero may take from any row, a scalar.
        balls: of the input, where it is in a ball that is no box, and of the nodes that only move it.
        affine: the nodes that are affine functions of the input.
        terms: of linear nodes that compute, what :func:`linear_size` finds.
    """

    network: Network
    vectors: dict[int, tf.Tensor] = field(default_factory=dict)
    sizes: dict[int, tf.Tensor] = field(default_factory=dict)
    lost: tf.Tensor | float = 0.0
    balls: dict[int, Ball] = field(default_factory=dict)
    affine: set[int] = field(default_factory=set)
    terms: dict[int, Sized] = field(default_factory=dict)

    @property
    def rounding(self) -> Rounding:
        assert self.network.rounding is not None
        return self.network.rounding

    def add(self, index: int, pair: TensorInterval, terms: Sized | None = None) -> None:
        """Takes up a node's interval; its inputs' are known.

        ``terms``: of a linear node what :func:`linear_size` finds, where that is known already.
        """
        node, m = self.network.nodes[index], sizes(pair)
        self.sizes[index] = m
        if isinstance(node, Input | Linear | Add | Concatenate) and self.affine.issuperset(node.inputs):
            self.affine.add(index)
        ball = self.balls.get(node.inputs[0]) if isinstance(node, Linear) else None
        if isinstance(node, Linear) and not moves(node):
            found, flushed = terms or linear_size(node, self.sizes[node.inputs[0]])
            self.terms[index] = (found if ball is None else tf.minimum(found, ball.terms(node))), flushed
        elif isinstance(node, Linear) and ball is not None:
            self.balls[index] = ball.moved(node)
        read = times_read(node.map) if isinstance(node, Linear) else 1
        total = math.prod(node.shape) * tf.maximum(tf.reduce_max(pair[1]), -tf.reduce_min(pair[0]))
        self.lost += (2.0 * self.rounding.tiny) * ((read + _STEPS) * total + 4.0 * math.prod(node.shape))
        self.charge(index)

    def narrow(self, index: int, pair: TensorInterval) -> None:
        """Takes up better bounds of a node that was added."""
        self.sizes[index] = sizes(pair)
        self.charge(index)

    def charge(self, index: int) -> None:
        """Finds a node's error, given its size and its terms."""
        node, m, unit = self.network.nodes[index], self.sizes[index], self.rounding.own
        read_by, pools = len(self.network.readers[index]), _pooled(self.network)
        rows = up(gamma(_STEPS + 2 * read_by + pools, unit)) * m
        match node:
            case Linear() if moves(node) and _only_moved(self.network, index):
                pass  # no number is rounded on the way
            case Linear() if moves(node):
                source = node.map.abs_apply(self.sizes[node.inputs[0]])
                self.vectors[index] = rows + up(gamma(times_read(node.map) + 1, unit)) * source
            case Linear():
                own = float(times_read(node.map) + _SPARE)
                if index in self.affine:  # the value in the middle of the region, computed in float64
                    own += (node.map.terms() + _SPARE) * (2.0**-53 / unit)
                self.vectors[index] = rows + sum_of_terms_error(node, self.terms[index], m, Own(own))
            case Add():
                self.vectors[index] = rows + sum_error(node, tf.add_n([self.sizes[i] for i in node.inputs]))
            case _ if read_by > 1:
                self.vectors[index] = rows


def _only_moved(network: Network, index: int) -> bool:
    """Tells whether rows over a moving node are what a linear node sent it, and are moved back one by one."""
    node, reading = network.nodes[index], [node for node in network.nodes if index in node.inputs]
    assert isinstance(node, Linear)
    return times_read(node.map) == 1 and len(reading) == 1 and isinstance(reading[0], Linear)


def _pooled(network: Network) -> int:
    """The largest window that is pooled: so many windows may share a number."""
    return max((math.prod(node.window) for node in network.nodes if isinstance(node, MaxPool)), default=0)


def share_of_sum(entries: int | None, rounding: Rounding, more: int = 8) -> float:
    """What a sum of so many products may lose, relative to the sum of their sizes."""
    share = gamma((entries or 0) + more, rounding.own)
    return up(share / (1.0 - share)) if share < 0.5 else math.inf


def charged(rows: Coefficients, vector: tf.Tensor, rounding: Rounding) -> tf.Tensor:
    """``sum |A| vector`` for rows A over a node, never below it: ``[samples or 1, groups or 1, rows]``."""
    if rows.alike:
        found = replace(rows, values=tf.abs(rows.values)).dot(vector)
    else:
        found = kernels.weighted_size(rows.values, rows.unfold(vector))
    return found * (1.0 + share_of_sum(rows.values.shape[3], rounding))


def dotted(rows: Coefficients, x: tf.Tensor, rounding: Rounding | None) -> tf.Tensor:
    """A lower bound of the rows' values at ``x``; without rounding, the value as it is computed.

    Both sums are one, of which each coefficient is read once: ``sum (a x - |a| r)`` errs by ``gamma`` of the sum of
    ``|a| (|x| + r)`` at most, for which r makes room.
    """
    if rounding is None:
        return rows.dot(x)
    if rows.alike:
        lost = share_of_sum(rows.values.shape[3], rounding) * tf.abs(x) + 4.0 * rounding.tiny  # x may be flushed
        return rows.dot(x) - charged(rows, lost, rounding)
    lost = share_of_sum(rows.values.shape[3], rounding, 16) * tf.abs(x) + 4.0 * rounding.tiny
    return kernels.box_least(rows.values, rows.unfold(x), rows.unfold(lost))


def beside(vector: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """Data of values ``[samples, *shape]`` beside lines that may differ by row: ``[samples, 1, *shape]`` then."""
    return vector if like.shape.rank == vector.shape.rank else vector[:, None]


def lowered(lines: Lines, vector: tf.Tensor) -> Lines:
    """Lines that hold where what enters is off by at most ``vector``."""
    vector = beside(vector, lines.lower_slope)
    return lines._replace(
        lower_intercept=lines.lower_intercept - tf.math.multiply_no_nan(vector, tf.abs(lines.lower_slope)),
        upper_intercept=lines.upper_intercept + tf.math.multiply_no_nan(vector, tf.abs(lines.upper_slope)),
    )


def moved_apart(lines: Lines, vector: tf.Tensor) -> Lines:
    """Lines of values that are off by at most ``vector``."""
    vector = beside(vector, lines.lower_slope)
    return lines._replace(
        lower_intercept=lines.lower_intercept - vector, upper_intercept=lines.upper_intercept + vector
    )


def apart(lines: Lines, share: float) -> Lines:
    """Lines whose intercepts may be summed with rows, losing a share of their sizes."""
    return lines._replace(
        lower_intercept=lines.lower_intercept - share * tf.abs(lines.lower_intercept),
        upper_intercept=lines.upper_intercept + share * tf.abs(lines.upper_intercept),
    )


def summed(constants: Sequence[tf.Tensor], errors: Errors | None) -> tf.Tensor:
    """The sum of constants; with errors, a number not above it: summed in float64."""
    if errors is None:
        found = constants[0]
        for constant in constants[1:]:
            found += constant
        return found
    dtype, unit = constants[0].dtype, 2.0**-53
    wide = [tf.cast(constant, tf.float64) for constant in constants]
    found, size = wide[0], tf.abs(wide[0])
    for part in wide[1:]:
        found, size = found + part, size + tf.abs(part)
    found -= 2.0 * gamma(len(wide) + 4, unit) * size + tf.cast(errors.lost, tf.float64)
    return rounded_down(found, dtype)


def rounded_down(x: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """A number of a type that is not above ``x``, of float64."""
    limits = np.finfo(dtype.as_numpy_dtype)
    return tf.cast(x - 2.0 * float(limits.eps) * tf.abs(x) - float(limits.tiny), dtype)
