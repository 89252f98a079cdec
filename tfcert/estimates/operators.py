"""Operator norms of chains of linear maps, from above, in the three norms.

A chain is what lies between two nonlinearities: a convolution with its batch normalisation, say, or the sums of an
average pooling with their counts. Everything is computed in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from tfcert.estimates.spectral import convolution_norm, gram_norm
from tfcert.network import (
    BroadcastMap,
    ConvMap,
    DenseMap,
    IndexMap,
    LinearMap,
    PadMap,
    ReshapeMap,
    ScaleMap,
    SumMap,
    TakeMap,
    TransposeMap,
)
from tfcert.network.densify import matrix
from tfcert.roundoff import unit_roundoff

MapChain = tuple[LinearMap, ...]
"""Maps in the order in which they are applied."""

_PLAIN = (ReshapeMap, PadMap, IndexMap, TransposeMap, TakeMap, BroadcastMap)
"""Maps without weights, whose entries are 0 and 1."""
_MATRIX_SIDE, _MATRIX_ENTRIES = 1024, 1 << 22
"""A chain no larger than this is written out as one matrix."""
_GRAM_SIDE = 4096
_ROUNDOFF = unit_roundoff(np.float64)


def in_float64(linear_map: LinearMap, dtype: tf.DType) -> MapChain:
    """The same map on float64 tensors, with its weights as they are now; a user's own map is written out as a matrix.

    Args:
        linear_map: the map; dtype: the type that it computes in.
    """
    kind = type(linear_map)  # exactly: a subclass may do anything
    if kind in _PLAIN or (isinstance(linear_map, SumMap) and linear_map.weight >= 0):
        return (linear_map,)
    if kind in (DenseMap, ConvMap, ScaleMap):
        return (_with_weights(linear_map, lambda weights: tf.cast(weights, tf.float64)),)
    inputs, outputs = math.prod(linear_map.in_shape), math.prod(linear_map.out_shape)
    weights = tf.cast(matrix(linear_map, dtype), tf.float64)
    return (
        ReshapeMap(linear_map.in_shape, (inputs,)),
        DenseMap(lambda: weights, (inputs,), outputs),
        ReshapeMap((outputs,), linear_map.out_shape),
    )


def chain_norm(chain: MapChain, norm: str) -> float:
    """An upper bound of how much a chain stretches a vector: its operator norm from ``norm`` to ``norm``.

    L-inf and L1: the largest row and column sum of the chain's absolute values, exact (to rounding, which is added)
    where at most one map of the chain mixes values with signs. L2: the spectral norm of the whole as a matrix where
    that is small, else the best product over the ways to cut the chain into parts, each part bounded by its own
    spectral norm (one map) or by Schur's test, ``sqrt(L1 norm * L-inf norm)``.
    """
    if norm != "l2":
        return _sums(chain, norm)
    folded = _folded(chain)
    schur = _schur(folded)
    inputs, outputs = math.prod(folded[0].in_shape), math.prod(folded[-1].out_shape)
    if min(inputs, outputs) <= _MATRIX_SIDE and inputs * outputs <= _MATRIX_ENTRIES:
        whole = matrix(_Composition(folded), tf.float64).numpy()
        # The entries of the product are off by less than _roundings times those of the absolute values' product.
        return min(schur, float(gram_norm(whole)) + _roundings(folded) * schur)
    best = [1.0]  # of the first maps
    for end in range(1, len(folded) + 1):
        parts = [(start, folded[start:end]) for start in range(end)]
        best.append(min(best[start] * min(_schur(part), _spectral(part)) for start, part in parts))
    return best[-1] * (1 + 4 * len(folded) * _ROUNDOFF)


def _sums(chain: MapChain, norm: str) -> float:
    magnitudes = [_with_weights(linear_map, tf.abs) for linear_map in chain]
    if norm == "linf":
        sums = tf.ones([1, *chain[0].in_shape], tf.float64)
        for linear_map in magnitudes:
            sums = linear_map.apply(sums)
    else:
        sums = tf.ones([1, *chain[-1].out_shape], tf.float64)
        for linear_map in reversed(magnitudes):
            sums = linear_map.transpose(sums)
    return float(np.max(sums.numpy(), initial=0.0)) * (1 + _roundings(chain))


def _roundings(chain: MapChain) -> float:
    """A bound of the relative rounding error of sums of positive terms through the chain."""
    longest = sum(max(math.prod(m.in_shape), math.prod(m.out_shape)) + 2 for m in chain)
    return 2 * longest * _ROUNDOFF


def _schur(chain: MapChain) -> float:
    return math.sqrt(_sums(chain, "l1") * _sums(chain, "linf")) * (1 + 4 * _ROUNDOFF)


def _spectral(chain: MapChain) -> float:
    """The spectral norm of a single map, from above; infinite where nothing but Schur's test is worth its cost."""
    match chain:
        case (ConvMap() as convolution,):
            return convolution_norm(convolution)
        case (DenseMap() as dense,) if min(dense.kernel().shape) <= _GRAM_SIDE:
            return float(gram_norm(dense.kernel().numpy()))
        case (ScaleMap() as scale,):
            return float(np.abs(scale.scale().numpy()).max(initial=0.0))
    return math.inf


def _folded(chain: MapChain) -> MapChain:
    """The chain with scales of channels multiplied into the convolutions before or after them."""
    folded: list[LinearMap] = []
    for linear_map in chain:
        previous = folded[-1] if folded else None
        match previous, linear_map:
            case ConvMap(), ScaleMap() if (factor := _channels(linear_map)) is not None:
                folded[-1] = _convolution(previous, previous.kernel() * factor)
            case ScaleMap(), ConvMap() if (factor := _channels(previous)) is not None:
                folded[-1] = _convolution(linear_map, linear_map.kernel() * factor[:, None])
            case _:
                folded.append(linear_map)
    return tuple(folded)


def _channels(scale: ScaleMap) -> tf.Tensor | None:
    """The scale of each channel, where all pixels share it."""
    factor = scale.scale()
    if any(size != 1 for size in factor.shape[:-1]):
        return None
    return tf.broadcast_to(tf.reshape(factor, [-1]), [scale.in_shape[-1]])


def _with_weights(linear_map: LinearMap, change: Callable[[tf.Tensor], tf.Tensor]) -> LinearMap:
    """The map with other weights of the same shape; a map without weights as it is."""
    match linear_map:
        case DenseMap():
            kernel = change(linear_map.kernel())
            return DenseMap(lambda: kernel, linear_map.in_shape, linear_map.out_shape[-1])
        case ConvMap():
            return _convolution(linear_map, change(linear_map.kernel()))
        case ScaleMap():
            scale = change(linear_map.scale())
            return ScaleMap(lambda: scale, linear_map.in_shape)
    return linear_map


def _convolution(like: ConvMap, kernel: tf.Tensor) -> ConvMap:
    """A convolution like another, with a kernel whose groups are written out."""
    return like.with_kernel(lambda: kernel, like.in_shape[2])


class _Composition(LinearMap):
    """A chain as one map."""

    def __init__(self, chain: Sequence[LinearMap]):
        self.chain = chain
        self.in_shape, self.out_shape = chain[0].in_shape, chain[-1].out_shape

    def apply(self, x: tf.Tensor) -> tf.Tensor:
        for linear_map in self.chain:
            x = linear_map.apply(x)
        return x

    def transpose(self, a: tf.Tensor) -> tf.Tensor:
        for linear_map in reversed(self.chain):
            a = linear_map.transpose(a)
        return a
