"""Layers."""

from tfcert.network import IntervalAbstraction

__all__ = ["IntervalAbstraction"]
