"""The network IR and its frontends."""

from tfcert.network.abstraction import IntervalAbstraction, abstraction_of, abstractions
from tfcert.network.builder import Builder, Tensor
from tfcert.network.contractions import EinsumMap, SumMap
from tfcert.network.densify import densify
from tfcert.network.errors import (
    FrontendMismatchError,
    ModelLoadError,
    NonFiniteWeightError,
    UnsupportedLayerError,
)
from tfcert.network.frontend import inputs_of, with_layer, with_output
from tfcert.network.graph import Add, Concatenate, Elementwise, Input, Linear, MaxPool, Multivariate, Network, Node
from tfcert.network.keras import attention as _keras_attention  # noqa: F401
from tfcert.network.keras import curves as _keras_curves  # noqa: F401
from tfcert.network.keras import images as _keras_images  # noqa: F401  (these fill the table of converters)
from tfcert.network.keras import kernels as _keras_kernels  # noqa: F401
from tfcert.network.keras import layers as _keras_layers  # noqa: F401
from tfcert.network.keras import normalization as _keras_normalization  # noqa: F401
from tfcert.network.keras import ops as _keras_ops  # noqa: F401
from tfcert.network.keras import pools as _keras_pools  # noqa: F401
from tfcert.network.keras import products as _keras_products  # noqa: F401
from tfcert.network.keras import rearranging as _keras_rearranging  # noqa: F401
from tfcert.network.keras import recurrent as _keras_recurrent  # noqa: F401
from tfcert.network.keras import reductions as _keras_reductions  # noqa: F401
from tfcert.network.keras import windows as _keras_windows  # noqa: F401
from tfcert.network.keras.embedding import embedded
from tfcert.network.keras.graph import from_keras, register_layer
from tfcert.network.keras.inputs import joined
from tfcert.network.keras.preprocessing import with_preprocessing
from tfcert.network.linear import ConvMap, DenseMap, LinearMap, ScaleMap
from tfcert.network.moves import BroadcastMap, CopiesMap, IndexMap, PadMap, ReshapeMap, TakeMap, TransposeMap
from tfcert.network.param_ramp import ParamRamp
from tfcert.network.product import Contraction, Product

__all__ = [
    "Add", "BroadcastMap", "Builder", "Concatenate", "Contraction", "ConvMap", "CopiesMap", "DenseMap", "EinsumMap",
    "Elementwise", "FrontendMismatchError", "IndexMap", "Input", "IntervalAbstraction", "Linear", "LinearMap",
    "MaxPool", "ModelLoadError", "Multivariate", "Network", "Node", "NonFiniteWeightError", "PadMap", "ParamRamp",
    "Product", "ReshapeMap", "ScaleMap", "SumMap", "TakeMap", "Tensor", "TransposeMap", "UnsupportedLayerError",
    "abstraction_of", "abstractions", "densify", "embedded", "from_keras", "inputs_of", "joined", "register_layer",
    "with_layer", "with_output", "with_preprocessing",
]  # fmt: skip
