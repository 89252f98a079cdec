"""How far rounding may carry a computed bound past the exact one: a function of the network and the region.

Let ``u`` be the unit roundoff of the network's type. Over the region a node has a magnitude ``S`` and a drift ``D``:

* ``S`` bounds every number that a bound computation handles at the node in absolute value. At the input it is the
  largest ``|x|`` plus the reach of the ball (whose dual adds ``m eps^2 <= |a| eps``); then ``|W| S + |b|`` at a linear
  node, the same at ReLU and LeakyReLU (slopes at most 1, intercepts at most the smaller of ``|l|`` and ``|u|``), the
  sum over the window at a maximum (its upper plane weighs every entry, and adds an intercept), sums at joins.
* ``n`` is the number of products that one result adds up, in the map or in its transpose, whichever is more; ``N`` the
  sum of the ``n`` on the longest path from the input, plus the largest number of values of a node on it (biases,
  intercepts and inputs are met in one dot product).
* A linear node errs by ``n u S`` on top of ``|W| D``: interval arithmetic.
* A pass of linear bounds to a node (one that enters a nonlinearity, or the output) through ``q`` nonlinear nodes errs
  by at most ``(1 + q) N u S``: coefficients are sums of products with at most ``N`` rounded steps; what they multiply
  adds up to at most ``S`` for the biases and the input together, and to at most ``S`` for the intercepts of each
  nonlinear node.
* A nonlinear node hands on ``2 D``: its input may leave the computed bounds by ``D``, and its lines hold only up to
  that; the other ``D`` stands for the same drift of all nodes before it, whose lines the backward pass also uses
  (induction: what a node hands on is at least the sum of what all nodes before it hand on along the paths).

The allowance of a row is ``|c| D`` of the output; twice that where the values compared with are computed in the same
type as the bounds.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfcert.network import ConvMap, DenseMap, IndexMap, Network, PadMap, ReshapeMap
from tfcert.network.graph import Add, Concatenate, Elementwise, Linear, MaxPool, Node
from tfcert.network.windows import gather_windows
from tfcert.sets.region import Region


def allowance(network: Network, region: Region, coefficients: np.ndarray) -> np.ndarray:
    """``[samples, rows]``: what rounding may cost the lower bounds of ``coefficients`` ``[.., rows, outputs]``."""
    u = float(np.finfo(network.dtype.as_numpy_dtype).eps) / 2
    magnitudes = [_input_magnitude(region)]
    drifts = [4 * u * magnitudes[0]]
    sums, bends, largest = [4], [0], [_values(network.nodes[0])]
    passes = {*network.bounded(), network.output}
    for index, node in enumerate(network.nodes[1:], start=1):
        length, bent = _length(node), isinstance(node, Elementwise | MaxPool)
        sums.append(length + max(sums[i] for i in node.inputs))
        bends.append(bent + max(bends[i] for i in node.inputs))
        largest.append(max(_values(node), *(largest[i] for i in node.inputs)))
        magnitude = _carry(node, [magnitudes[i] for i in node.inputs])
        if isinstance(node, Linear) and node.bias is not None:
            magnitude = magnitude + tf.abs(node.bias())
        drift = _carry(node, [drifts[i] for i in node.inputs]) + length * u * magnitude
        if bent:
            drift = 2.0 * drift
        if index in passes:
            drift += (1 + bends[index]) * (sums[index] + largest[index]) * u * magnitude
        magnitudes.append(magnitude)
        drifts.append(drift)
    drift = np.asarray(drifts[-1] + _values(network.nodes[-1]) * u * magnitudes[-1], np.float64)
    return np.matmul(np.abs(np.asarray(coefficients, np.float64)), drift[:, :, None])[:, :, 0]


def _values(node: Node) -> int:
    return int(np.prod(node.shape))


def _input_magnitude(region: Region) -> tf.Tensor:
    largest = tf.maximum(tf.abs(region.lower), tf.abs(region.upper))
    if region.is_box:
        return largest
    width = region.upper - region.lower
    across = tf.norm(tf.reshape(width, [tf.shape(width)[0], -1]), axis=1)
    reach = tf.minimum(region.eps, across)
    return largest + tf.reshape(reach, [-1, *[1] * (len(region.lower.shape) - 1)])


def _carry(node: Node, sizes: list[tf.Tensor]) -> tf.Tensor:
    """Sizes through the absolute values of what a node's linear bounds can multiply by."""
    match node:
        case Linear():
            return node.map.abs_apply(sizes[0])
        case Elementwise():
            return sizes[0]
        case MaxPool():
            return 2.0 * tf.reduce_sum(gather_windows(sizes[0], node), axis=3)
        case Add():
            return tf.add_n(sizes)
        case Concatenate():
            return tf.concat(sizes, axis=node.axis + 1)
    raise TypeError(f"no rule for a {type(node).__name__} node")


def _length(node: Node) -> int:
    """How many products one result of the node adds up, forward or backward; 0 if it only moves numbers."""
    match node:
        case Linear(map=ConvMap() as conv):
            return max(conv.terms(), conv.size[0] * conv.size[1] * conv.out_shape[2] // conv.groups) + 4
        case Linear(map=DenseMap() as dense):
            return max(dense.terms(), dense.out_shape[-1]) + 4
        case Linear(map=IndexMap() as index):
            return int(np.bincount(index.index[index.index >= 0].ravel()).max()) - 1
        case Linear(map=ReshapeMap() | PadMap()) | Concatenate():
            return 0
        case MaxPool():
            return 2 * node.window[0] * node.window[1] + 4
        case Add():
            return len(node.inputs)
        case _:
            return 4
