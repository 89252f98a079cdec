"""CROWN (Zhang et al. 2018): a backward pass for every neuron that needs one, and for the rows."""

from __future__ import annotations

from tfcert.network.graph import Network
from tfcert.propagation.affine import affine_part
from tfcert.propagation.coefficients import Coefficients
from tfcert.propagation.enclosures import TensorInterval
from tfcert.propagation.errors import no_errors
from tfcert.propagation.methods.base import Bounded, How, by_rows
from tfcert.propagation.plan import Plan, passes_plan
from tfcert.propagation.preactivation import backward_bounds, by_name, relax_before
from tfcert.sets.region import Region


class _Crown:
    def plan(self, network: Network, rows: int, memory_mb: int, is_box: bool) -> Plan:
        return passes_plan(network, rows, memory_mb, is_box)

    def pre_activation(self, network: Network, region: Region, how: How) -> dict[int, TensorInterval]:
        return backward_bounds(network, region, by_name(network, how.relaxation), how.passes)

    def lower(self, network: Network, region: Region, rows: Coefficients, how: How) -> Bounded:
        relaxer = by_name(network, how.relaxation)  # one for layers and rows: it keeps the lines that it has made
        affine = affine_part(network, region)
        errors = no_errors(network, region)
        bounds = backward_bounds(network, region, relaxer, how.passes, affine, errors)
        relaxed = relax_before(network, network.output, relaxer, bounds, affine, errors)
        return by_rows(network, region, rows, relaxed, bounds, how)


CROWN = _Crown()
