"""Bound propagation: interval, forward and backward linear bounds over the network IR."""
