"""The network IR and its frontends."""

from tfcert.network import keras_images as _keras_images  # noqa: F401  (these fill the table of converters)
from tfcert.network import keras_layers as _keras_layers  # noqa: F401
from tfcert.network import keras_ops as _keras_ops  # noqa: F401
from tfcert.network import keras_windows as _keras_windows  # noqa: F401
from tfcert.network.abstraction import IntervalAbstraction, abstraction_of, abstractions
from tfcert.network.builder import Builder, Tensor
from tfcert.network.densify import densify
from tfcert.network.errors import (
    FrontendMismatchError,
    ModelLoadError,
    NonFiniteWeightError,
    UnsupportedLayerError,
)
from tfcert.network.graph import Add, Concatenate, Elementwise, Input, Linear, MaxPool, Network, Node
from tfcert.network.keras_graph import from_keras, register_layer, require_one_input
from tfcert.network.linear import ConvMap, CopiesMap, DenseMap, IndexMap, LinearMap, PadMap, ReshapeMap, ScaleMap
from tfcert.network.loading import load_model
from tfcert.network.preprocessing import with_preprocessing

__all__ = [
    "Add", "Builder", "Concatenate", "ConvMap", "CopiesMap", "DenseMap", "Elementwise", "FrontendMismatchError",
    "IndexMap", "Input", "IntervalAbstraction", "Linear", "LinearMap", "MaxPool", "ModelLoadError", "Network", "Node",
    "NonFiniteWeightError", "PadMap", "ReshapeMap", "ScaleMap", "Tensor", "UnsupportedLayerError", "abstraction_of",
    "abstractions", "densify", "from_keras", "load_model", "register_layer", "require_one_input", "with_preprocessing",
]  # fmt: skip
