"""CROWN-IBP (Zhang et al. 2020): one backward pass for the rows, over intervals of all that comes before."""

from __future__ import annotations

from dataclasses import replace

from tfcert.network.graph import Network
from tfcert.propagation.coefficients import Coefficients
from tfcert.propagation.enclosures import TensorInterval
from tfcert.propagation.errors import no_errors
from tfcert.propagation.methods.base import Bounded, How, backward_rows, interval_bounds
from tfcert.propagation.plan import Plan, rows_plan
from tfcert.sets.region import Region


class _CrownIbp:
    def plan(self, network: Network, rows: int, memory_mb: int, is_box: bool) -> Plan:
        return rows_plan(network, rows, memory_mb, is_box)

    def pre_activation(self, network: Network, region: Region, how: How) -> dict[int, TensorInterval]:
        return interval_bounds(network, region, how)

    def lower(self, network: Network, region: Region, rows: Coefficients, how: How) -> Bounded:
        errors = no_errors(network, region)
        bounds = interval_bounds(network, region, how, errors)
        narrow = replace(how, wide=False)  # no pass takes longer than that for the rows
        return backward_rows(network, region, rows, narrow, bounds, errors)


CROWN_IBP = _CrownIbp()
