"""Layers."""

from tfcert.network import IntervalAbstraction, ParamRamp

__all__ = ["IntervalAbstraction", "ParamRamp"]
