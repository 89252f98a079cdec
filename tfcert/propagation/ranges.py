"""The range of one node, given those of its inputs, and what rounding adds to each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from tfcert.activations import image
from tfcert.activations.either import either
from tfcert.network.graph import Add, Concatenate, Elementwise, Input, Linear, MaxPool, Multivariate, Network, Node
from tfcert.network.windows import gather_windows
from tfcert.propagation.enclosures import TensorInterval
from tfcert.propagation.errors import (
    Errors,
    Own,
    Sized,
    moved_outward,
    moves,
    no_errors,
    radius_and_size,
    sizes,
    sum_error,
    sum_of_terms_error,
)
from tfcert.propagation.kinds import multivariate_kind
from tfcert.sets.region import Region


def tidy(lower: tf.Tensor, upper: tf.Tensor) -> TensorInterval:
    """Bounds that later steps can rely on: no NaN (nothing is known there: infinite), and ``lower <= upper``."""
    return hull(*_known(lower, upper))


def _known(lower: tf.Tensor, upper: tf.Tensor) -> TensorInterval:
    return either(tf.math.is_nan(lower), -np.inf, lower), either(tf.math.is_nan(upper), np.inf, upper)


def hull(low: tf.Tensor, high: tf.Tensor) -> TensorInterval:
    """Bounds in order: those of a constant may cross by a rounding error, and their hull is sound to that error."""
    return tf.minimum(low, high), tf.maximum(low, high)


def step(node: Node, inputs: Sequence[TensorInterval]) -> TensorInterval:
    """The range of a node, given ranges of its inputs; of a rounded node, of its values as computed."""
    match node:
        case Linear():
            return through_linear(node, inputs[0])[0]
        case Elementwise():
            return image(node.activation, *inputs[0], node.rounding)
        case MaxPool():
            low, high = (tf.reduce_max(gather_windows(end, node, fill=-np.inf), axis=3) for end in inputs[0])
            return low, high
        case Add():
            total = tf.add_n([low for low, _ in inputs]), tf.add_n([high for _, high in inputs])
            if node.rounding is None:
                return total
            return moved_outward(total, sum_error(node, tf.add_n([sizes(pair) for pair in inputs])))
        case Concatenate():
            low, high = (tf.concat([pair[end] for pair in inputs], axis=node.axis + 1) for end in (0, 1))
            return low, high
        case Multivariate():
            return multivariate_kind(node).interval(node, inputs)
    raise TypeError(f"no rule to propagate an interval through a {type(node).__name__} node")


def taken_up(index: int, node: Node, inputs: Sequence[TensorInterval], errors: Errors | None) -> TensorInterval:
    """The range of a node, given those of its inputs, which are taken up in ``errors`` already, as this then is."""
    if errors is None:
        return tidy(*step(node, inputs))
    terms = None
    if isinstance(node, Linear) and not moves(node):
        found, _, terms = _through_linear(node, inputs[0])
        pair = _known(*found)  # in order: they lie on either side of their middle
    elif isinstance(node, Elementwise):
        pair = hull(*step(node, inputs))  # images are no NaN
    else:
        pair = tidy(*step(node, inputs))
    errors.add(index, pair, terms)
    return pair


def through_linear(
    node: Linear, pair: TensorInterval, nominal: Sequence[tf.Tensor] = ()
) -> tuple[TensorInterval, list[tf.Tensor]]:
    """A linear node's range, and its values at points: at most one tensor ``nominal``, ``[batch, *shape]``.

    The range's middle and the points go through the map as one batch; the radii take a second product, with ``|W|``.
    """
    if moves(node):
        return (node.map.apply(pair[0]), node.map.apply(pair[1])), [node.map.apply(value) for value in nominal]
    return _through_linear(node, pair, nominal)[:2]


def _through_linear(
    node: Linear, pair: TensorInterval, nominal: Sequence[tf.Tensor] = ()
) -> tuple[TensorInterval, list[tf.Tensor], Sized | None]:
    """The same of a node that computes; and of a rounded one the sizes of its terms, found by the second product."""
    lower, upper = pair
    middle, radius = 0.5 * lower + 0.5 * upper, 0.5 * upper - 0.5 * lower
    together = node.map.apply(tf.concat([*nominal, middle], axis=0) if nominal else middle)
    if node.bias is not None:
        together += node.bias()
    *value, center = tf.split(together, 2, axis=0) if nominal else [together]
    if node.rounding is None:
        reach, terms = node.map.abs_apply(radius), None
    else:
        reach, terms = radius_and_size(node, pair, radius)
        reach += sum_of_terms_error(node, terms, tf.abs(center) + reach, Own(16, node.map.terms()))
    return (center - reach, center + reach), value, terms


def errors_of(
    network: Network, region: Region, known: Mapping[int, TensorInterval], last: int | None = None
) -> Errors | None:
    """The errors of a rounded network's nodes, with ranges ``known`` of some; None of another network."""
    errors = no_errors(network, region)
    if errors is None:
        return None
    ranges: dict[int, TensorInterval] = {}
    before = network.ancestors(network.output if last is None else last)
    for index, node in enumerate(network.nodes):
        if index not in before:
            continue
        if index in known or isinstance(node, Input):
            ranges[index] = known.get(index, (region.lower, region.upper))
            errors.add(index, ranges[index])
        else:
            ranges[index] = taken_up(index, node, [ranges[i] for i in node.inputs], errors)
    return errors
