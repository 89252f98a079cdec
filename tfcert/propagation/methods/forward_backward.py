"""Forward planes for the neurons, a backward pass for the rows."""

from __future__ import annotations

from tfcert.network.graph import Network
from tfcert.propagation.coefficients import Coefficients
from tfcert.propagation.enclosures import TensorInterval
from tfcert.propagation.methods.base import Bounded, How, backward_rows
from tfcert.propagation.methods.forward import FORWARD
from tfcert.propagation.plan import Plan
from tfcert.sets.region import Region


class _ForwardBackward:
    def plan(self, network: Network, rows: int, memory_mb: int, is_box: bool) -> Plan:
        return FORWARD.plan(network, rows, memory_mb, is_box)

    def pre_activation(self, network: Network, region: Region, how: How) -> dict[int, TensorInterval]:
        return FORWARD.pre_activation(network, region, how)

    def lower(self, network: Network, region: Region, rows: Coefficients, how: How) -> Bounded:
        return backward_rows(network, region, rows, how, self.pre_activation(network, region, how))


FORWARD_BACKWARD = _ForwardBackward()
