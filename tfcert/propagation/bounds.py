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

from collections.abc import Mapping

import tensorflow as tf

from tfcert.activations import Lines, lines
from tfcert.network.graph import Elementwise, MaxPool, Network
from tfcert.perturbations import Region
from tfcert.propagation.backward import Interval, Relaxed, Stop, lower_bounds
from tfcert.propagation.coefficients import Coefficients
from tfcert.propagation.concretize import least_over_box
from tfcert.propagation.forward import Planes, planes, substitute
from tfcert.propagation.interval import both_sides, exact_over_boxes, intervals, step, tidy
from tfcert.propagation.pooling import PoolLines, pool_lines

METHODS = ("ibp", "forward", "forward+backward", "crown-ibp", "crown")
RELAXATIONS = ("fastlin", "crown", "cnncert", "deepcert", "adaptive")
Parts = Mapping[int, tuple[slice | None, ...]]
"""How the rows of each bounded node are cut into passes that fit the memory."""


def output_bounds(
    network: Network,
    region: Region,
    rows: tuple[tf.Tensor, tf.Tensor],
    method: str = "crown",
    relaxation: str | None = None,
    parts: Parts | None = None,
) -> tf.Tensor:
    """Lower bounds of linear functions of the network's output over a region.

    Args:
        network: the network; its output has one axis.
        region: the inputs, ``[samples, *input]``.
        rows: coefficients ``[samples or 1, rows, outputs]`` and offsets ``[samples or 1, rows]``.
        method: one of ``METHODS``.
        relaxation: one of ``RELAXATIONS``, None for each activation's default.
        parts: how to cut the passes; None for one pass a node.

    Returns:
        ``[samples, rows]``. Guarantee: ``numeric``.

    Raises:
        ValueError: an unknown method, or a relaxation that an activation does not define.
    """
    coefficients, offsets = rows
    check_names(network, method, relaxation)
    nonlinear = [i for i, node in enumerate(network.nodes) if isinstance(node, Elementwise | MaxPool)]
    if method == "ibp":
        found = intervals(network, region, {})
        relaxed = Relaxed({}, {i: _box(*found[i]) for i in nonlinear})
    elif method == "forward":
        between, _ = _forward(network, region, relaxation)
        relaxed = Relaxed({}, {i: substitute(between[i], network.input_shape) for i in nonlinear})
    else:
        bounds = pre_activation_bounds(network, region, method, relaxation, parts)
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
    network: Network, region: Region, method: str, relaxation: str | None = None, parts: Parts | None = None
) -> dict[int, Interval]:
    """Bounds of every node that enters a nonlinearity, ``[samples, *shape]`` pairs, by node number."""
    if method in ("ibp", "crown-ibp"):
        found = intervals(network, region, {})
        return {i: found[i] for i in network.bounded()}
    if method in ("forward", "forward+backward"):
        return _forward(network, region, relaxation)[1]
    return _backward_bounds(network, region, relaxation, parts or {})


def _backward_bounds(network: Network, region: Region, relaxation: str | None, parts: Parts) -> dict[int, Interval]:
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
        if index in wanted:
            if not (region.is_box and index in exact):
                here = tighter(_in_parts(network, index, Relaxed(relaxed), region, parts.get(index)), here)
            bounds[index] = here
        if isinstance(node, Elementwise | MaxPool):
            relaxed[index] = relax(network, index, bounds[node.inputs[0]], relaxation)
        ranges.append(here)
    return bounds


def _in_parts(
    network: Network, index: int, relaxed: Relaxed, region: Region, parts: tuple[slice | None, ...] | None
) -> Interval:
    if parts is None or parts == (None,):
        return both_sides(network, index, relaxed, region)
    pieces = [both_sides(network, index, relaxed, region, part) for part in parts]
    shape = [-1, *network.nodes[index].shape]
    lower, upper = (tf.reshape(tf.concat([piece[end] for piece in pieces], axis=1), shape) for end in (0, 1))
    return lower, upper


def relax(network: Network, index: int, bounds: Interval, relaxation: str | None) -> Lines | PoolLines:
    """The relaxation of a nonlinear node whose input lies within ``bounds``."""
    node = network.nodes[index]
    if isinstance(node, MaxPool):
        return pool_lines(node, *bounds)
    assert isinstance(node, Elementwise)
    return lines(node.activation, node.activation.slopes(relaxation, *bounds), *bounds)


def tighter(bounds: Interval, other: Interval) -> Interval:
    """Sound bounds, replaced by ``other`` sound bounds where those lie inside.

    Not the intersection: adaptive slopes jump with the bounds, so a one-sided gain of a few neurons moves the output's
    bound up or down by more than it is worth (measured: +-1e-3), while bounds that blew up lie outside on both sides.
    """
    inside = (other[0] >= bounds[0]) & (other[1] <= bounds[1])
    return tf.where(inside, other[0], bounds[0]), tf.where(inside, other[1], bounds[1])


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
