"""Forward planes: every neuron between two affine functions of the input, one run of the network."""

from __future__ import annotations

from collections.abc import Callable

from tfcert.network.graph import Elementwise, Network, entering
from tfcert.propagation.backward import Relaxed, Stop
from tfcert.propagation.blocks import Blocks
from tfcert.propagation.coefficients import Coefficients
from tfcert.propagation.enclosures import TensorInterval
from tfcert.propagation.forward import planes, substitute
from tfcert.propagation.interval import exact_intervals, hull, intervals, step
from tfcert.propagation.methods.base import Bounded, How, by_rows
from tfcert.propagation.plan import Plan, planes_plan
from tfcert.propagation.preactivation import met_with, nonlinear, relax
from tfcert.propagation.stepping import NodeLines
from tfcert.sets.region import Region


class _Forward:
    def plan(self, network: Network, rows: int, memory_mb: int, is_box: bool) -> Plan:
        return planes_plan(network, rows, memory_mb, is_box)

    def pre_activation(self, network: Network, region: Region, how: How) -> dict[int, TensorInterval]:
        return _run(network, region, how)[1]

    def lower(self, network: Network, region: Region, rows: Coefficients, how: How) -> Bounded:
        stop, bounds = _run(network, region, how)
        relaxed = Relaxed({}, {i: stop(i) for i in nonlinear(network)})
        return by_rows(network, region, rows, relaxed, bounds, how)


def _run(network: Network, region: Region, how: How) -> tuple[Callable[[int], Stop], dict[int, TensorInterval]]:
    """What replaces each nonlinear node, and the pre-activation bounds, each no looser than its interval."""
    ranges = intervals(network, region, {}, how.passes.parts)
    exact = exact_intervals(network, region.is_box)
    bounds: dict[int, TensorInterval] = {}

    def bounds_of(index: int, range_of: Callable[[int], TensorInterval]) -> TensorInterval:
        node = network.nodes[index]
        if index in exact:
            return ranges[index]
        if isinstance(node, Elementwise):  # its planes would only lie outside the image of what is known
            return hull(*step(node, [bounds[node.inputs[0]]]))
        return met_with(network, index, range_of(index), ranges[index])

    def bend(index: int, range_of: Callable[[int], TensorInterval]) -> NodeLines:
        for source in entering(network.nodes[index]):
            if source not in bounds:
                bounds[source] = bounds_of(source, range_of)
        return relax(network, index, bounds, how.relaxation)

    if how.passes.inputs is None:
        between, stops = planes(network, region, bend), len(nonlinear(network))
        return lambda index: substitute(between[index], network.input_shape, stops), bounds
    blocks = Blocks(network, region.hull() if region.blocks() else region, how.passes.inputs)
    lines = blocks.lines(bend)
    return lambda index: blocks.substitute(index, lines), bounds


FORWARD = _Forward()
