"""The methods: how pre-activation bounds are found, and how the output's rows are bounded with them.

==================  =====================================  ==============================================
method              pre-activation bounds                  rows of the output
==================  =====================================  ==============================================
``ibp``             intervals                              interval of the last nonlinear nodes
``crown-ibp``       intervals                              backward to the input
``forward``         forward planes, or the interval        planes of the last nonlinear nodes
``forward+backward``  forward planes, or the interval      backward to the input
``crown``           backward to the input, or the          backward to the input
                    interval
==================  =====================================  ==============================================

"Or the interval": where the interval lies inside, see :func:`tighter`.

In every method the rows are multiplied into the last linear layers before anything is bounded (elision).
Everything here is a function of (network, region): no state, differentiable in the network's weights.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf

from tfcert.activations import Lines, lines
from tfcert.network.graph import Elementwise, MaxPool, Network
from tfcert.perturbations import Region
from tfcert.propagation.backward import Interval, Relaxed, Stop, lower_bounds, selected
from tfcert.propagation.coefficients import Coefficients
from tfcert.propagation.concretize import least_over_box
from tfcert.propagation.forward import Planes, planes, substitute
from tfcert.propagation.interval import both_sides, exact_over_boxes, intervals, step, tidy
from tfcert.propagation.pooling import PoolLines, pool_lines

METHODS = ("ibp", "forward", "forward+backward", "crown-ibp", "crown")
RELAXATIONS = ("fastlin", "crown", "cnncert", "deepcert", "adaptive")


@dataclass(frozen=True)
class Passes:
    """How backward passes over pre-activations are run; no choice here changes what is proven.

    Attributes:
        parts: for each bounded node the slices of :func:`identity`'s rows that one pass takes each; one pass if absent.
        select: whether a pass may take only the unstable neurons where they are few.
    """

    parts: Mapping[int, tuple[slice | None, ...]] = field(default_factory=dict)
    select: bool = False


_WHOLE = Passes()
_FEW = 0.3
"""The fraction of a node's neurons up to which a pass over the unstable ones alone pays (its rows share no slopes)."""


def output_bounds(
    network: Network,
    region: Region,
    rows: tuple[tf.Tensor, tf.Tensor],
    method: str = "crown",
    relaxation: str | None = None,
    passes: Passes = _WHOLE,
) -> tf.Tensor:
    """Lower bounds of linear functions of the network's output over a region.

    Args:
        network: the network; its output has one axis.
        region: the inputs, ``[samples, *input]``.
        rows: coefficients ``[samples or 1, rows, outputs]`` and offsets ``[samples or 1, rows]``.
        method: one of ``METHODS``.
        relaxation: one of ``RELAXATIONS``, None for each activation's default.
        passes: how to cut the backward passes, and whether they may leave out stable neurons.

    Returns:
        ``[samples, rows]``. Guarantee: ``numeric``.

    Raises:
        ValueError: an unknown method, or a relaxation that an activation does not define.
    """
    coefficients, offsets = (tf.convert_to_tensor(part, network.dtype) for part in rows)
    check_names(network, method, relaxation)
    nonlinear = [i for i, node in enumerate(network.nodes) if isinstance(node, Elementwise | MaxPool)]
    if method == "ibp":
        found = intervals(network, region, {})
        relaxed = Relaxed({}, {i: _box(*found[i]) for i in nonlinear})
    elif method == "forward":
        between, _ = _forward(network, region, relaxation)
        relaxed = Relaxed({}, {i: substitute(between[i], network.input_shape) for i in nonlinear})
    else:
        bounds = pre_activation_bounds(network, region, method, relaxation, passes)
        relaxed = Relaxed({i: relax(network, i, bounds[network.nodes[i].inputs[0]], relaxation) for i in nonlinear})
    first = Coefficients(coefficients[:, None], network.output_shape)
    return lower_bounds(network, network.output, first, relaxed, region) + offsets


def check_names(network: Network, method: str, relaxation: str | None) -> None:
    """Raises a ValueError for a method or relaxation that does not exist here."""
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}: one of {', '.join(METHODS)}")
    if relaxation is None:
        return
    if relaxation not in RELAXATIONS:
        raise ValueError(f"unknown relaxation {relaxation!r}: one of {', '.join(RELAXATIONS)}")
    for node in network.nodes:
        if isinstance(node, Elementwise) and relaxation not in node.activation.relaxations:
            known = ", ".join(sorted(node.activation.relaxations))
            raise ValueError(
                f"{node.activation.name} ({node.name}) defines no relaxation {relaxation!r}; it has {known}"
            )


def pre_activation_bounds(
    network: Network, region: Region, method: str, relaxation: str | None = None, passes: Passes = _WHOLE
) -> dict[int, Interval]:
    """Bounds of every node that enters a nonlinearity, ``[samples, *shape]`` pairs, by node number."""
    if method in ("ibp", "crown-ibp"):
        found = intervals(network, region, {})
        return {i: found[i] for i in network.bounded()}
    if method in ("forward", "forward+backward"):
        return _forward(network, region, relaxation)[1]
    return _backward_bounds(network, region, relaxation, passes)


def _backward_bounds(network: Network, region: Region, relaxation: str | None, passes: Passes) -> dict[int, Interval]:
    exact = exact_over_boxes(network)
    ranges: list[Interval] = []
    bounds: dict[int, Interval] = {}
    relaxed: dict[int, Lines | PoolLines] = {}
    wanted = set(network.bounded())
    for index, node in enumerate(network.nodes):
        if index == 0:
            here: Interval = (region.lower, region.upper)
        else:
            here = tidy(*step(node, [ranges[i] for i in node.inputs]))
        if isinstance(node, Elementwise | MaxPool):  # before its own bounds: an activation may feed a maximum
            relaxed[index] = relax(network, index, bounds[node.inputs[0]], relaxation)
        if index in wanted:
            if not (region.is_box and index in exact):
                here = _refined(network, index, Relaxed(relaxed), region, here, passes)
            bounds[index] = here
        ranges.append(here)
    return bounds


def _refined(
    network: Network, index: int, relaxed: Relaxed, region: Region, here: Interval, passes: Passes
) -> Interval:
    """Bounds of a node by backward passes, given its interval."""
    cut = passes.parts.get(index, (None,))
    if cut != (None,):
        pieces = [both_sides(network, index, relaxed, region, part) for part in cut]
        shape = [-1, *network.nodes[index].shape]
        lower, upper = (tf.reshape(tf.concat([piece[end] for piece in pieces], axis=1), shape) for end in (0, 1))
        return tighter((lower, upper), here)

    def all_neurons() -> Interval:
        return tighter(both_sides(network, index, relaxed, region), here)

    if not passes.select or not _stable_is_exact(network, index):
        return all_neurons()
    unstable = tf.cast((here[0] < 0) & (here[1] > 0), tf.int32)
    size = tf.maximum(1, tf.cast(_FEW * tf.cast(tf.size(unstable), tf.float32), tf.int32))
    few = functools.partial(_unstable_only, network, index, relaxed, region, here, size)
    lower, upper = tf.cond(tf.reduce_sum(unstable) <= size, few, all_neurons)
    return tf.ensure_shape(lower, here[0].shape), tf.ensure_shape(upper, here[1].shape)


def _unstable_only(
    network: Network, index: int, relaxed: Relaxed, region: Region, here: Interval, size: tf.Tensor
) -> Interval:
    """Bounds of at most ``size`` unstable neurons of the batch by one backward pass; the others keep their interval."""
    flat = [tf.reshape(end, [-1]) for end in here]
    number = tf.where((flat[0] < 0) & (flat[1] > 0))[:, 0]
    # Filled up with neuron 0, whose bound is as good as any.
    number = tf.concat([number, tf.zeros([size], tf.int64)], axis=0)[:size]
    shape = network.nodes[index].shape
    rows = selected(shape, network.dtype, number // math.prod(shape), tf.math.floormod(number, math.prod(shape)))
    bounds = tf.reshape(lower_bounds(network, index, rows, relaxed, region), [size, 2])
    found = tighter(tidy(bounds[:, 0], -bounds[:, 1]), (tf.gather(flat[0], number), tf.gather(flat[1], number)))
    lower, upper = (
        tf.reshape(tf.tensor_scatter_nd_update(old, number[:, None], new), [-1, *shape])
        for old, new in zip(flat, found, strict=True)
    )
    return lower, upper


def _stable_is_exact(network: Network, index: int) -> bool:
    """Whether a neuron of the node that does not change sign is propagated exactly, however loose its bounds are."""
    readers = [node for node in network.nodes if index in node.inputs]
    return all(isinstance(node, Elementwise) and node.activation.piecewise_linear for node in readers)


def relax(network: Network, index: int, bounds: Interval, relaxation: str | None) -> Lines | PoolLines:
    """The relaxation of a nonlinear node whose input lies within ``bounds``."""
    node = network.nodes[index]
    if isinstance(node, MaxPool):
        return pool_lines(node, *bounds)
    assert isinstance(node, Elementwise)
    return lines(node.activation, node.activation.slopes(relaxation, *bounds), *bounds)


def tighter(bounds: Interval, other: Interval) -> Interval:
    """Sound bounds, met with ``other`` sound bounds where those lie inside or show that the sign is known.

    Not the intersection everywhere: adaptive slopes jump with the bounds, so a one-sided gain of a few neurons moves
    the output's bound up or down by more than it is worth (measured: +-1e-3). Bounds that blew up have the others
    inside them, and a neuron whose sign is known is propagated exactly.
    """
    # Ends that are equal in exact arithmetic are common: rounding must not decide which pair is taken.
    slack = 64 * np.finfo(bounds[0].dtype.as_numpy_dtype).eps * tf.maximum(tf.abs(bounds[0]), tf.abs(bounds[1]))
    inside = (other[0] >= bounds[0] - slack) & (other[1] <= bounds[1] + slack)
    better = inside | (other[0] >= 0) | (other[1] <= 0)
    low = tf.where(better, tf.maximum(other[0], bounds[0]), bounds[0])
    return tidy(low, tf.where(better, tf.minimum(other[1], bounds[1]), bounds[1]))


def _forward(network: Network, region: Region, relaxation: str | None) -> tuple[list[Planes], dict[int, Interval]]:
    """The planes of every node and its pre-activation bounds, each no looser than its interval."""
    ranges = intervals(network, region, {})
    bounds: dict[int, Interval] = {}

    def bend(index: int, pair: Interval) -> Lines | PoolLines:
        source = network.nodes[index].inputs[0]
        bounds[source] = tighter(pair, ranges[source])
        return relax(network, index, bounds[source], relaxation)

    return planes(network, region, bend)[0], bounds


def _box(lower: tf.Tensor, upper: tf.Tensor) -> Stop:
    return lambda rows: (None, least_over_box(rows, lower, upper))
