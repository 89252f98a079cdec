"""What rounding may add to each node's values and to rows over them, as one vector a node.

Statement. Let a node's inputs lie within ``m`` in size, as computed by the deployed program. A linear node of n terms
computes ``b + sum w_i x_i`` by additions in any order, with or without fused multiplications, so its value is off by at
most ``gamma_(n+1) (|W| m + |b|)`` (Higham 2002, "Accuracy and Stability of Numerical Algorithms", sections 3.1 and 4.2;
Jeannerod and Rump 2013, "Improved error bounds for inner products in floating-point arithmetic", show n u to be enough
for n terms, which is less). Three more roundings a term stand for a scale that was folded into the weights first, and
more for a node that only scales, whose factor (of batch normalisation) the program computes itself. Each operation may
also lose the smallest normal number, where results below it are flushed to zero.

Our own rounding is charged in the same way. Rows ``A`` over a linear node become ``A' = fl(A W)``, which are taken to
be exact from there on: ``|A W - A'| |x| <= |A| gamma_K (|W| m)`` where an input is read K times. The affine nodes'
values in the middle of the region are off by ``gamma_(n+1)`` times the same size. What products and sums of rows with
slopes change is relative to the rows themselves: a few roundings times m; where more than two nodes read a number, rows
are charged for each sum on the way. So ``|A| e`` is all that a node is charged,
and e is one vector for each sample.

Assumption: no value reaches :attr:`~tfcert.roundoff.Rounding.largest`; where one may, errors are infinite.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import tensorflow as tf

from tfcert.activations import Lines
from tfcert.network.graph import Add, Concatenate, Input, Linear, MaxPool, Network, Node
from tfcert.network.linear import Convolution, DenseMap, LinearMap, ScaleMap
from tfcert.propagation import kernels
from tfcert.propagation.coefficients import Coefficients
from tfcert.propagation.enclosures import TensorInterval
from tfcert.roundoff import Rounding, gamma
from tfcert.tracing import kept

_FOLDED, _SCALED = 4, 12
"""Roundings of a term beside those of the sum: of any linear node, and of one that only scales."""
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


def linear_size(node: Linear, m: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """``|W| m + |b|`` of inputs of size m, never below it; and what is lost where operands are flushed to zero.

    An input that is loses ``|w|`` times the smallest normal number, a weight ``m`` times.
    """
    rounding = node.rounding
    assert rounding is not None
    terms, size = node.map.terms(), node.map.abs_apply(tf.concat([m, tf.ones_like(m[:1])], axis=0))
    size, weights = size[:-1], size[-1:]
    bias = node.size_of_bias or node.bias
    if bias is not None:
        size += tf.abs(bias())
    size *= 1.0 + 2.0 * gamma(terms + 4, rounding.own)
    limit = tf.constant(rounding.largest, size.dtype)
    size = tf.where(size < limit, size, tf.constant(np.inf, size.dtype))
    return size, (4.0 * rounding.tiny) * (weights + terms * tf.reduce_max(m))


def linear_error(node: Linear, m: tf.Tensor, own: int) -> tf.Tensor:
    """What rounding adds to a linear node of inputs of size m: the program's, and ``own`` roundings of ours a term."""
    rounding, terms = node.rounding, node.map.terms()
    assert rounding is not None
    size, flushed = linear_size(node, m)
    extra = _SCALED if isinstance(node.map, ScaleMap) else _FOLDED
    share = gamma(terms + extra, rounding.deployed) + gamma(own, rounding.own)
    return size * up(share) + flushed + (2.0 * terms + extra + own) * rounding.tiny


def up(share: float) -> float:
    """A share made larger by what multiplying with it in float32 may lose."""
    return share * (1.0 + 2.0**-20)


def interval_error(node: Linear, pair: TensorInterval) -> tf.Tensor:
    """By how much a linear node's interval, computed from its middle and radius, is moved outward."""
    return linear_error(node, sizes(pair), 2 * node.map.terms() + 16)


def sum_error(node: Node, size: tf.Tensor) -> tf.Tensor:
    """By how much the interval of a sum of nodes is moved outward, ``size`` being the sum of their sizes."""
    rounding, terms = node.rounding, len(node.inputs)
    assert rounding is not None
    share = gamma(terms, rounding.deployed) + gamma(terms + 4, rounding.own)
    return size * up(share) + 2.0 * terms * rounding.tiny


def moved_outward(pair: TensorInterval, error: tf.Tensor) -> TensorInterval:
    """An interval moved outward."""
    return pair[0] - error, pair[1] + error


@dataclass
class Errors:
    """The error vectors of a rounded network's nodes, as far as their intervals are known.

    Attributes:
        network: the network.
        vectors: ``[samples, *shape]`` by node: rows over it lose ``|A| e``.
        sizes: of every node, the largest size of its values, ``[samples, *shape]``.
        lost: what flushing to zero may take from any row, a scalar.
    """

    network: Network
    vectors: dict[int, tf.Tensor] = field(default_factory=dict)
    sizes: dict[int, tf.Tensor] = field(default_factory=dict)
    lost: tf.Tensor | float = 0.0
    _affine: set[int] = field(default_factory=set)

    @property
    def rounding(self) -> Rounding:
        assert self.network.rounding is not None
        return self.network.rounding

    def add(self, index: int, pair: TensorInterval) -> None:
        """Takes up a node's interval; its inputs' are known."""
        node, m, unit = self.network.nodes[index], sizes(pair), self.rounding.own
        self.sizes[index] = m
        if isinstance(node, Input | Linear | Add | Concatenate) and self._affine.issuperset(node.inputs):
            self._affine.add(index)
        entries = math.prod(node.shape)
        read = times_read(node.map) if isinstance(node, Linear) else 1
        total = tf.reduce_max(tf.reduce_sum(m, axis=list(range(1, m.shape.rank))))
        self.lost += (2.0 * self.rounding.tiny) * ((read + _STEPS) * total + 4.0 * entries)
        read_by, pools = readers(self.network)[index], _pooled(self.network)
        rows = up(gamma(_STEPS + 2 * read_by + pools, unit)) * m
        match node:
            case Linear() if moves(node):
                source = node.map.abs_apply(self.sizes[node.inputs[0]])
                self.vectors[index] = rows + up(gamma(read + 1, unit)) * source
            case Linear():
                # Values in the middle of the region are computed of affine nodes alone.
                evaluated = node.map.terms() + 8 if index in self._affine else 4
                self.vectors[index] = rows + linear_error(node, self.sizes[node.inputs[0]], read + evaluated)
            case Add():
                self.vectors[index] = rows + sum_error(node, tf.add_n([self.sizes[i] for i in node.inputs]))
            case _ if read_by > 1:
                self.vectors[index] = rows


def readers(network: Network) -> Mapping[int, int]:
    """How many nodes read each."""
    count = dict.fromkeys(range(len(network.nodes)), 0)
    for node in network.nodes:
        for source in node.inputs:
            count[source] += 1
    return count


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
    """A lower bound of the rows' values at ``x``; without rounding, the value as it is computed."""
    found = rows.dot(x)
    if rounding is None:
        return found
    lost = share_of_sum(rows.values.shape[3], rounding) * tf.abs(x) + 4.0 * rounding.tiny  # x may be flushed
    return found - charged(rows, lost, rounding)


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
