"""Forward planes: every neuron between two affine functions of the input, one run of the network."""

from __future__ import annotations

from tfcert.activations import Lines
from tfcert.network.graph import Network
from tfcert.propagation.backward import Relaxed, TensorInterval
from tfcert.propagation.coefficients import Coefficients
from tfcert.propagation.forward import Planes, planes, substitute
from tfcert.propagation.interval import intervals, moved_inputs
from tfcert.propagation.methods.base import Bounded, How, by_rows
from tfcert.propagation.plan import Plan, planes_plan
from tfcert.propagation.pooling import PoolLines
from tfcert.propagation.preactivation import nonlinear, relax, stable_is_exact, tighter
from tfcert.sets.region import Region


class _Forward:
    def plan(self, network: Network, rows: int, memory_mb: int, is_box: bool) -> Plan:
        return planes_plan(network, rows, memory_mb)

    def pre_activation(self, network: Network, region: Region, how: How) -> dict[int, TensorInterval]:
        return _run(network, region, how.relaxation)[1]

    def lower(self, network: Network, region: Region, rows: Coefficients, how: How) -> Bounded:
        between, bounds = _run(network, region, how.relaxation)
        relaxed = Relaxed({}, {i: substitute(between[i], network.input_shape) for i in nonlinear(network)})
        return by_rows(network, region, rows, relaxed, bounds)


def _run(network: Network, region: Region, relaxation: str | None) -> tuple[list[Planes], dict[int, TensorInterval]]:
    """The planes of every node and its pre-activation bounds, each no looser than its interval."""
    ranges = intervals(network, region, {})
    bounds: dict[int, TensorInterval] = {}
    moved = moved_inputs(network)

    def bend(index: int, pair: TensorInterval) -> Lines | PoolLines:
        source = network.nodes[index].inputs[0]
        if source in moved:
            bounds[source] = ranges[source]
        else:
            bounds[source] = tighter(pair, ranges[source], stable_is_exact(network, source))
        return relax(network, index, bounds[source], relaxation)

    return planes(network, region, bend)[0], bounds


FORWARD = _Forward()
