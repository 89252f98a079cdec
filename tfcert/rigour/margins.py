"""Rounding of margins: what must be left of a margin for it to be a proof.

Bounds are computed in floating point, and so is the network that they are about. Where bounds are not charged for that,
a margin that the network's own rounding could undo proves nothing: it has to be above ``MULTIPLE`` times the standard
deviation of the rounding error that the network's float32 (or float64) execution is estimated to make. This is no
guarantee about rounding: what is proven so is ``numeric``.
"""

from __future__ import annotations

import math
import weakref

import numpy as np
import tensorflow as tf

from tfcert.network import Network
from tfcert.rigour.estimate import output_deviations
from tfcert.sets.balls import Perturbation
from tfcert.sets.region import Region, region_of
from tfcert.tracing import Warming, kept

MULTIPLE = 2.0
"""How many standard deviations of the network's rounding error a margin must exceed."""
_NUMBERS = 1 << 22
"""Values of the largest node that are held at a time."""


def rounding(network: Network, perturbation: Perturbation, coefficients: np.ndarray) -> np.ndarray:
    """Estimates what the network's own rounding may take from each row ``C y + d``.

    ``MULTIPLE`` times its standard deviation, by :func:`~tfcert.rigour.estimate.output_deviations`. The row itself
    is taken to be evaluated exactly, as specifications and comparisons of outputs are.

    Args:
        network: the network in the type that it is deployed in.
        perturbation: one set a sample, ``[batch, *input]``.
        coefficients: C, ``[batch, rows, outputs]``.

    Returns:
        ``[batch, rows]`` float64, at least 0; infinite or NaN where the network overflows.
    """
    largest = max(math.prod(node.shape) for node in network.nodes)
    size, found = max(1, _NUMBERS // (3 * largest)), []
    for first in range(0, len(perturbation), size):
        part = slice(first, first + size)
        some = perturbation.take(part) if size < len(perturbation) else perturbation
        found.append(_deviations(network, region_of(some.astype(network.dtype.as_numpy_dtype))).numpy())
    deviations = np.concatenate(found) if found else np.zeros((0, *network.output_shape))
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.einsum("bro,bo->br", np.square(coefficients), np.square(deviations.astype(np.float64)))
        return MULTIPLE * np.sqrt(squares)


def label_rounding(network: Network, region: Region, labels: tf.Tensor) -> tf.Tensor:
    """The same of the margins ``f_y - f_j``, the largest of each sample, as a tensor ``[batch]``.

    Args:
        region: sets of the network's type.
        labels: y, one-hot ``[batch, outputs]``.
    """
    variances = tf.square(output_deviations(network, region))
    own = tf.reduce_sum(tf.where(labels > 0, variances, tf.zeros_like(variances)), axis=1)
    others = tf.reduce_max(tf.where(labels > 0, tf.zeros_like(variances), variances), axis=1)
    return MULTIPLE * tf.sqrt(own + others)


def _deviations(network: Network, region: Region) -> tf.Tensor:
    """The outputs' deviations, by a function made once for a network and kind of region."""
    kind, owner = region.kind, weakref.ref(network)

    def deviations(*parts: tf.Tensor) -> tf.Tensor:
        net = owner()
        assert net is not None
        return output_deviations(net.with_weights_read(), Region(*kind[:2], *parts))

    shapes = [network.input_shape] * 3 + [network.input_shape if region.uneven else ()]
    signature = [tf.TensorSpec([None, *shape], network.dtype) for shape in shapes]
    run = kept(network, ("deviations", *kind), lambda: Warming(deviations, input_signature=signature))
    found: tf.Tensor = run(*region[2:])
    return found
