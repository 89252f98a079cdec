"""The network IR and its frontends."""

from tfcert.network.graph import Add, Concatenate, Elementwise, Input, Linear, MaxPool, Network, Node
from tfcert.network.linear import ConvMap, DenseMap, IndexMap, LinearMap, PadMap, ReshapeMap, ScaleMap

__all__ = [
    "Add", "Concatenate", "ConvMap", "DenseMap", "Elementwise", "IndexMap", "Input", "Linear", "LinearMap",
    "MaxPool", "Network", "Node", "PadMap", "ReshapeMap", "ScaleMap",
]  # fmt: skip
