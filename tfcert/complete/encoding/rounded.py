"""What rounding adds to a program that is about a rounded network.

Numbers of the program are values as the deployed program computes them. A run of linear nodes then leaves a residual:
``|y - (W x + b)| <= e`` for what is computed of x, where W and b are the nodes' own matrices and biases multiplied in
float64. The vector e is carried along the run: a node adds what rounding may add to it (see
:mod:`tfcert.propagation.errors`) to ``|W|`` times the residual of its input, and what float64 lost of the products is
relative to the sum of the terms' sizes along the run, ``|W_2| (|W_1| m + |b_1|) + |b_2|``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from tfcert.complete.encoding.piecewise import (
    CurvedActivation,
    Enclosed,
    Layer,
    PiecewiseLinear,
    PiecewiseNetwork,
    Windows,
    between,
)
from tfcert.complete.encoding.variables import ArrayInterval
from tfcert.network.graph import Add, Concatenate, Linear, Network, Node
from tfcert.propagation.errors import linear_error, linear_size, moves, sum_error
from tfcert.propagation.interval import step
from tfcert.propagation.kinds import multivariate_kind
from tfcert.roundoff import gamma
from tfcert.sets.balls import Box, LpBall, Perturbation

_OWN = 16
"""Roundings of an entry of a program's row beside those of the products of matrices."""


def covers(net: PiecewiseNetwork, region: Perturbation) -> bool:
    """Tells whether every row of a relaxed program holds of the values as computed: then prices prove bounds of them.

    Hinges at zero and maxima are exact. Curves lie between lines that hold for the program's kernels, functions of
    several numbers between facets that do, where their kind bounds its rounding; so do functions of other straight
    pieces, whose kernels multiply. Of a set the exact steps from its centre fulfil the rows, whose coefficients are
    read as exact and whose right sides have room. Cells, and values on a grid, are not written at all.
    """
    known = isinstance(region, Box | LpBall)
    return known and all(_is_covered(layer) for layer in net.layers)


def _is_covered(layer: Layer) -> bool:
    match layer.kind:
        case Windows():
            return True
        case CurvedActivation():
            return layer.kind.activation.accuracy is not None
        case PiecewiseLinear():
            return layer.kind.is_ramp or layer.kind.curve.activation.accuracy is not None
        case Enclosed():
            return multivariate_kind(layer.kind.node).charges_rounding
    return False


def layer_sizes(net: PiecewiseNetwork, region: Perturbation, bounds: Sequence[ArrayInterval]) -> list[np.ndarray]:
    """The largest size of every layer's values ``[size]``, the input first, given bounds of what enters each layer."""
    ranges = [end.astype(np.float64) for end in region.interval()]
    known = {i: tuple(map(tf.constant, pair)) for i, pair in net.by_node(bounds).items()}
    found = [np.maximum(*map(np.abs, ranges)).ravel()]
    for layer in net.layers:
        node = net.network.nodes[layer.index]
        low, high = (end.numpy() for end in step(node, [known[i] for i in node.inputs]))
        found.append(np.maximum(np.abs(low), np.abs(high)).ravel())
    return found


def residuals(net: PiecewiseNetwork, targets: Sequence[int], sizes: Sequence[np.ndarray]) -> np.ndarray:
    """The vector e of some nodes, one after another, given the sizes of layers' values.

    Args:
        net: of a rounded network.
        targets: nodes of it.
        sizes: of the values of the layers before them, the input first.
    """
    numbers = [0, *(layer.index for layer in net.layers)]
    stops = dict(zip(numbers, sizes, strict=False))
    return np.concatenate([_residual(net.network, target, stops) for target in targets])


def _residual(network: Network, target: int, stops: Mapping[int, np.ndarray]) -> np.ndarray:
    """The same of one node."""
    known: dict[int, tuple[tf.Tensor, tf.Tensor, int]] = {}  # size of terms, residual, terms multiplied
    for index in between(network, target, stops):
        node = network.nodes[index]
        if index in stops:
            size = tf.constant(stops[index].reshape(1, *node.shape))
            known[index] = size, tf.zeros_like(size), 0
        else:
            known[index] = _after(node, [known[i] for i in node.inputs])
    size, error, terms = known[target]
    if terms == 0:
        return np.asarray(error.numpy()).ravel()
    rounding = network.rounding
    assert rounding is not None
    lost = gamma(2 * terms + _OWN, rounding.own) * size + (4.0 * terms + _OWN) * rounding.tiny
    return np.asarray(tf.where(size < np.inf, (error + lost) * (1.0 + 8.0 * rounding.own), np.inf).numpy()).ravel()


def _after(node: Node, inputs: Sequence[tuple[tf.Tensor, tf.Tensor, int]]) -> tuple[tf.Tensor, tf.Tensor, int]:
    """The size of a node's terms, its residual, and how many terms were multiplied on the way to it."""
    sizes, errors = [part[0] for part in inputs], [part[1] for part in inputs]
    terms, rounding = max(part[2] for part in inputs), node.rounding
    assert rounding is not None
    match node:
        case Linear() if moves(node):
            return node.map.abs_apply(sizes[0]), node.map.abs_apply(errors[0]), terms
        case Linear():
            count = node.map.terms()
            carried = node.map.abs_apply(errors[0]) * (1.0 + 2.0 * gamma(count + 4, rounding.own))
            own = linear_error(node, sizes[0] + errors[0], count)
            size, flushed = linear_size(node, sizes[0])
            return size, carried + own + flushed, terms + count + 1
        case Add():
            size = tf.add_n(sizes)
            own = sum_error(node, size + tf.add_n(errors))
            return size * (1.0 + 16.0 * rounding.own), tf.add_n(errors) + own, terms + len(inputs)
        case Concatenate():
            size, error = (tf.concat(parts, axis=node.axis + 1) for parts in (sizes, errors))
            return size, error, terms
    raise TypeError(f"no rule for the rounding of a {type(node).__name__} node")
