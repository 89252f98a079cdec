"""Choices of lines that all rows share: of FROWN, and of branch and bound."""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

from tfcert.activations import lines
from tfcert.activations.registry import Ranges, Slopes
from tfcert.network.graph import Elementwise, MaxPool, Multivariate, Network
from tfcert.propagation.enclosures import TensorInterval
from tfcert.propagation.kinds import multivariate_kind
from tfcert.propagation.pooling import default_height, pool_lines
from tfcert.propagation.preactivation import Relaxer, relax
from tfcert.propagation.stepping import NodeLines

Choices = dict[int, tuple[tf.Tensor, ...]]
"""By node: of an ``Elementwise`` its lower and upper slope, those that are free; of a ``MaxPool`` its height; of others
what :meth:`Kind.choices <tfcert.propagation.multivariate.Kind.choices>` has."""


def named_choices(
    network: Network, index: int, relaxation: str | None, bounds: Mapping[int, TensorInterval]
) -> tuple[tf.Tensor, ...]:
    """The choices of a node that give the named relaxation to all rows: of an activation ``[samples, 1, *shape]``."""
    node = network.nodes[index]
    if isinstance(node, Multivariate):
        return multivariate_kind(node).choices(node, [bounds[source] for source in node.asked], relaxation)
    here = bounds[node.inputs[0]]
    if isinstance(node, MaxPool):
        return (tf.stop_gradient(default_height(node, *here)),)
    assert isinstance(node, Elementwise)
    slopes = node.activation.slopes(relaxation, *here)
    found = []
    for slope, ends in zip(slopes, node.activation.slope_ranges(*here), strict=True):
        if ends is not None:
            place = tf.math.divide_no_nan(slope - ends[0], ends[1] - ends[0])
            place = tf.clip_by_value(tf.where(tf.math.is_finite(place), place, tf.zeros_like(place)), 0, 1)
            found.append(tf.stop_gradient(place)[:, None])
    return tuple(found)


def chosen_lines(
    network: Network,
    relaxation: str | None,
    choices: Choices,
    known: Mapping[int, tuple[Slopes, Ranges]] | None = None,
) -> Relaxer:
    """Relaxes by the choices made for a node; ``known`` has :func:`open_slopes` where bounds are fixed."""

    def relaxer(index: int, _: int, bounds: Mapping[int, TensorInterval]) -> NodeLines:
        node = network.nodes[index]
        chosen = choices.get(index, ())
        if not chosen:
            return relax(network, index, bounds, relaxation)
        if isinstance(node, Multivariate):
            return multivariate_kind(node).relax(node, [bounds[source] for source in node.asked], relaxation, chosen)
        here = bounds[node.inputs[0]]
        if isinstance(node, MaxPool):
            return pool_lines(node, *here, relaxation, *chosen)
        assert isinstance(node, Elementwise)
        named, ranges = open_slopes(node, here, relaxation) if known is None else known[index]
        rest, slopes = iter(chosen), []
        for slope, ends in zip(named, ranges, strict=True):
            if ends is None:
                slopes.append(slope)
            else:
                least, most = (tf.stop_gradient(end) for end in ends)
                slopes.append(least + next(rest) * (most - least))
        lower, upper = (end[:, None] for end in here)
        return lines(node.activation, (slopes[0], slopes[1]), lower, upper, node.rounding)

    return relaxer


def open_slopes(node: Elementwise, bounds: TensorInterval, relaxation: str | None) -> tuple[Slopes, Ranges]:
    """The slopes of a named relaxation, and between which slopes there is a choice, ``[samples, 1, *shape]`` each."""
    lower, upper = (end[:, None] for end in bounds)
    return node.activation.slopes(relaxation, lower, upper), node.activation.slope_ranges(lower, upper)
