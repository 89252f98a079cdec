"""Alpha-CROWN (Xu et al. 2021): CROWN whose relaxations are found by gradient."""

from __future__ import annotations

import tensorflow as tf

from tfcert.network.graph import Network
from tfcert.propagation.coefficients import Coefficients
from tfcert.propagation.combined import Together
from tfcert.propagation.enclosures import TensorInterval
from tfcert.propagation.methods.base import Bounded, How, in_clauses, split
from tfcert.propagation.optimised import optimised_bounds
from tfcert.propagation.plan import COPIES_OF_ASCENT, Plan, passes_plan
from tfcert.propagation.preactivation import backward_bounds, by_name
from tfcert.sets.region import Region


class _AlphaCrown:
    def plan(self, network: Network, rows: int, memory_mb: int, is_box: bool) -> Plan:
        return passes_plan(network, rows, memory_mb, is_box, COPIES_OF_ASCENT)

    def pre_activation(self, network: Network, region: Region, how: How) -> dict[int, TensorInterval]:
        """Those that the search starts from: bounds of neurons are only improved for the rows' sake."""
        return backward_bounds(network, region, by_name(network, how.relaxation), how.passes)

    def lower(self, network: Network, region: Region, rows: Coefficients, how: How) -> Bounded:
        parts: list[tuple[Coefficients, Together | None]] = [*in_clauses(rows, how)]
        parts = parts or [(some, None) for some in split(rows, how.passes.rows)]
        found = [
            optimised_bounds(network, region, some, how.relaxation, how.passes, how.ascent, clauses)
            for some, clauses in parts
        ]
        lower = tf.concat([part.lower for part in found], axis=1)
        combined = None if how.together is None else tf.concat([part.combined for part in found], axis=1)
        return Bounded(lower, found[0].pre_activation, combined)


ALPHA_CROWN = _AlphaCrown()
