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
``alpha-crown``     as ``crown``, with relaxations found   backward to the input
                    by gradient
==================  =====================================  ==============================================

"Or the interval": where the interval lies inside, see :func:`tighter`.

In every method the rows are multiplied into the last linear layers before anything is bounded (elision), and the bound
found is met with that of the intervals (:func:`floor`), so that no method is looser than ``ibp``.
Everything here is a function of (network, region): no state, differentiable in the network's weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import tensorflow as tf

from tfcert.activations import Lines
from tfcert.network.graph import Elementwise, Network
from tfcert.options import check_method
from tfcert.propagation.backward import Interval, Relaxed, lower_bounds
from tfcert.propagation.coefficients import Coefficients
from tfcert.propagation.forward import Planes, planes, substitute
from tfcert.propagation.interval import intervals, moved_inputs
from tfcert.propagation.optimised import Ascent, optimised_bounds
from tfcert.propagation.pooling import PoolLines
from tfcert.propagation.preactivation import (
    WHOLE,
    Passes,
    backward_bounds,
    by_name,
    floor,
    greater,
    nonlinear,
    relax,
    relax_before,
    stable_is_exact,
    tighter,
)
from tfcert.sets.balls import Region

_ASCENT = Ascent()


def output_bounds(
    network: Network,
    region: Region,
    rows: tuple[tf.Tensor, tf.Tensor],
    method: str = "crown",
    relaxation: str | None = None,
    passes: Passes = WHOLE,
    ascent: Ascent = _ASCENT,
) -> tf.Tensor:
    """Lower bounds of linear functions of the network's output over a region.

    Args:
        network: the network; its output has one axis.
        region: the inputs, ``[samples, *input]``.
        rows: coefficients ``[samples or 1, rows, outputs]`` and offsets ``[samples or 1, rows]``.
        method: one of ``METHODS``.
        relaxation: one of ``RELAXATIONS``, None for each activation's default. ``alpha-crown`` starts from it.
            ``frown`` is what ``alpha-crown`` does with one pair of lines a neuron, and goes with ``crown`` too.
        passes: how to cut the backward passes, and whether they may leave out stable neurons.
        ascent: how ``alpha-crown`` and ``frown`` look for relaxations.

    Returns:
        ``[samples, rows]``. Guarantee: ``numeric``.

    Raises:
        ValueError: an unknown method, or a relaxation that an activation does not define.
    """
    coefficients, offsets = (tf.convert_to_tensor(part, network.dtype) for part in rows)
    check_names(network, method, relaxation)
    first = Coefficients(coefficients[:, None], network.output_shape)
    if method == "alpha-crown" or relaxation == "frown":
        shared = relaxation == "frown"
        how = replace(ascent, shared=shared)
        return optimised_bounds(network, region, first, None if shared else relaxation, passes, how) + offsets
    if method == "ibp":
        return floor(network, region, first, {}) + offsets
    if method == "forward":
        between, bounds = _forward(network, region, relaxation)
        relaxed = Relaxed({}, {i: substitute(between[i], network.input_shape) for i in nonlinear(network)})
    else:
        bounds = pre_activation_bounds(network, region, method, relaxation, passes)
        relaxed = relax_before(network, network.output, by_name(network, relaxation), bounds)
    found = lower_bounds(network, network.output, first, relaxed, region)
    return greater(found, floor(network, region, first, bounds)) + offsets


def relaxed_by_lines(network: Network, ranges: Sequence[Interval], relaxation: str | None = None) -> Relaxed:
    """What ``crown-ibp`` does with the ranges of the nodes: every nonlinear node is relaxed on them."""
    bounds = {i: ranges[i] for i in network.bounded()}
    return relax_before(network, network.output, by_name(network, relaxation), bounds)


def check_names(network: Network, method: str, relaxation: str | None) -> None:
    """Raises a ValueError for a method or relaxation that does not exist here."""
    check_method(method, relaxation)
    if relaxation is None or relaxation == "frown":
        return
    for node in network.nodes:
        if isinstance(node, Elementwise) and relaxation not in node.activation.relaxations:
            known = ", ".join(sorted(node.activation.relaxations))
            raise ValueError(
                f"{node.activation.name} ({node.name}) defines no relaxation {relaxation!r}; it has {known}"
            )


def pre_activation_bounds(
    network: Network, region: Region, method: str, relaxation: str | None = None, passes: Passes = WHOLE
) -> dict[int, Interval]:
    """Bounds of every node that enters a nonlinearity, ``[samples, *shape]`` pairs, by node number."""
    if method in ("ibp", "crown-ibp"):
        found = intervals(network, region, {})
        return {i: found[i] for i in network.bounded()}
    if method in ("forward", "forward+backward"):
        return _forward(network, region, relaxation)[1]
    return backward_bounds(network, region, by_name(network, relaxation), passes)


def _forward(network: Network, region: Region, relaxation: str | None) -> tuple[list[Planes], dict[int, Interval]]:
    """The planes of every node and its pre-activation bounds, each no looser than its interval."""
    ranges = intervals(network, region, {})
    bounds: dict[int, Interval] = {}
    moved = moved_inputs(network)

    def bend(index: int, pair: Interval) -> Lines | PoolLines:
        source = network.nodes[index].inputs[0]
        if source in moved:
            bounds[source] = ranges[source]
        else:
            bounds[source] = tighter(pair, ranges[source], stable_is_exact(network, source))
        return relax(network, index, bounds[source], relaxation)

    return planes(network, region, bend)[0], bounds
