"""Interval bound propagation (Gowal et al. 2018)."""

from __future__ import annotations

from tfcert.network.graph import Network
from tfcert.propagation.backward import TensorInterval, linear_lower_bounds
from tfcert.propagation.coefficients import Coefficients
from tfcert.propagation.interval import intervals
from tfcert.propagation.methods.base import Bounded, How, interval_bounds
from tfcert.propagation.plan import Plan, rows_plan
from tfcert.propagation.preactivation import relaxed_by_intervals
from tfcert.sets.region import Region


class _Ibp:
    def plan(self, network: Network, rows: int, memory_mb: int, is_box: bool) -> Plan:
        return rows_plan(network, rows, memory_mb)

    def pre_activation(self, network: Network, region: Region, how: How) -> dict[int, TensorInterval]:
        return interval_bounds(network, region)

    def lower(self, network: Network, region: Region, rows: Coefficients, how: How) -> Bounded:
        ranges = intervals(network, region, {})
        lower = linear_lower_bounds(network, network.output, rows, relaxed_by_intervals(network, ranges), region)
        return Bounded(lower, {i: ranges[i] for i in network.bounded()})


IBP = _Ibp()
