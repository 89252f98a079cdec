"""FROWN (Lyu et al. 2020): the relaxation that alpha-CROWN finds with one pair of lines a neuron for all passes."""

from __future__ import annotations

from dataclasses import replace

from tfcert.network.graph import Network
from tfcert.propagation.coefficients import Coefficients
from tfcert.propagation.enclosures import TensorInterval
from tfcert.propagation.methods.alpha_crown import ALPHA_CROWN
from tfcert.propagation.methods.base import Bounded, How
from tfcert.propagation.plan import Plan
from tfcert.sets.region import Region


class _Frown:
    def plan(self, network: Network, rows: int, memory_mb: int, is_box: bool) -> Plan:
        return ALPHA_CROWN.plan(network, rows, memory_mb, is_box)

    def pre_activation(self, network: Network, region: Region, how: How) -> dict[int, TensorInterval]:
        return ALPHA_CROWN.pre_activation(network, region, how)

    def lower(self, network: Network, region: Region, rows: Coefficients, how: How) -> Bounded:
        return ALPHA_CROWN.lower(network, region, rows, replace(how, ascent=replace(how.ascent, shared=True)))


FROWN = _Frown()
