"""A network over a perturbation set as a mixed-integer program: only neurons that bounds leave open get a binary.

ReLU and other functions of straight pieces are exact (Tjeng et al. 2019, "Evaluating robustness of neural networks with
mixed integer programming", section 4.1, with the bounds of each neuron for its constants), and so are maxima (section
4.2). Curved activations are enclosed by lines on pieces of their interval. Relaxed, a program has no binaries: hinges
have the triangle of Ehlers (2017), curves one pair of lines. A program about a rounded network has room in the rows of
its affine functions for what rounding may take; see :mod:`tfcert.complete.encoding.rounded`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tfcert.complete.encoding.layers import layer_values
from tfcert.complete.encoding.piecewise import PiecewiseNetwork
from tfcert.complete.encoding.rounded import layer_sizes, residuals
from tfcert.complete.encoding.sets import encode_set
from tfcert.complete.encoding.variables import (
    ArrayInterval,
    Encoding,
    EncodingOptions,
    affine_values,
    own_variables,
    widened,
)
from tfcert.sets.balls import Perturbation

__all__ = ["ArrayInterval", "Encoding", "EncodingOptions", "encode"]


def encode(
    net: PiecewiseNetwork,
    region: Perturbation,
    bounds: Sequence[ArrayInterval],
    output: ArrayInterval,
    options: EncodingOptions | None = None,
    *,
    distance: bool = False,
) -> Encoding:
    """Encodes what a network computes on one sample's perturbation set.

    Args:
        net: the network.
        region: a set of one sample, in float64.
        bounds: of what enters each layer over the set, ``[size]`` pairs.
        output: bounds of the outputs, ``[outputs]``.
        distance: whether the distance from the ball's centre is to be minimised.

    Raises:
        ValueError: a bound is not finite.
        TimeoutError: the time of the options was used up.
    """
    if not all(np.isfinite(end).all() for pair in (*bounds, output) for end in pair):
        raise ValueError("the bounds are not finite: nothing can be encoded")
    options = options or EncodingOptions()
    encoding = encode_set(region, options, distance)
    values = [own_variables(encoding.inputs)]
    encoding.rounding = net.network.rounding if options.room else None
    sizes = layer_sizes(net, region, bounds) if encoding.rounded else None
    for number, (layer, pair) in enumerate(zip(net.layers, bounds, strict=True), 1):
        off = None if sizes is None else residuals(net, layer.sources, sizes[:number])
        values.append(layer_values(encoding, replace(layer, before=replace(layer.before, off=off)), values, pair))
        encoding.check_time()
    off = None if sizes is None else residuals(net, net.targets, sizes)
    encoding.outputs = affine_values(encoding, replace(net.output, off=off), values, widened(output))
    return encoding
