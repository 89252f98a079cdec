"""Interval bound propagation (Gowal et al. 2018)."""

from __future__ import annotations

import tensorflow as tf

from tfcert.network.graph import Network
from tfcert.propagation.backward import linear_lower_bounds
from tfcert.propagation.coefficients import Coefficients
from tfcert.propagation.enclosures import TensorInterval
from tfcert.propagation.errors import no_errors
from tfcert.propagation.interval import intervals
from tfcert.propagation.methods.base import Bounded, How, combined_through, in_parts, interval_bounds
from tfcert.propagation.plan import Plan, rows_plan
from tfcert.propagation.preactivation import relaxed_by_intervals
from tfcert.sets.region import Region


class _Ibp:
    def plan(self, network: Network, rows: int, memory_mb: int, is_box: bool) -> Plan:
        return rows_plan(network, rows, memory_mb, is_box)

    def pre_activation(self, network: Network, region: Region, how: How) -> dict[int, TensorInterval]:
        return interval_bounds(network, region, how)

    def lower(self, network: Network, region: Region, rows: Coefficients, how: How) -> Bounded:
        errors = no_errors(network, region)
        ranges = intervals(network, region, {}, how.passes.parts, errors)
        relaxed = relaxed_by_intervals(network, ranges, errors)

        def bound(some: Coefficients) -> tf.Tensor:
            return linear_lower_bounds(network, network.output, some, relaxed, region)

        combined = combined_through(network, region, rows, relaxed, how)
        return Bounded(in_parts(rows, how.passes.rows, bound), {i: ranges[i] for i in network.bounded()}, combined)


IBP = _Ibp()
