"""Initialisation for interval bound propagation."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np

from tfcert.network import UnsupportedLayerError
from tfcert.network.keras.private import kernel_of, layers_within

_KERNELS = (keras.layers.Dense, keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.DepthwiseConv2D)


def ibp_initialize(model: Any, seed: int = 0) -> None:
    """Redraws the kernels of a model so that intervals keep their width from layer to layer.

    Each kernel is drawn from a normal distribution of deviation ``sqrt(2 pi) / n``, n the number of inputs of a neuron;
    then the expected radius of what leaves a ReLU layer is that of what entered it (Shi et al. 2021, "Fast certified
    robust training with short warmup", section 3.1). Biases become 0. Batch normalisation and other layers stay as they
    are. Usual initialisations let widths grow with the root of n in each layer. (The authors' program leaves the
    output's kernel as it is; here it is drawn as well.)

    Args:
        model: a Keras model, or a CertifiedModel; changed in place.
        seed: of the random draw.

    Raises:
        UnsupportedLayerError: a layer other than dense and convolutional ones has a kernel.
    """
    rng = np.random.default_rng(seed)
    for layer in layers_within(model, itself=True):
        kernel = kernel_of(layer)
        if kernel is None or isinstance(layer, keras.Model):
            continue
        if not isinstance(layer, _KERNELS):
            raise UnsupportedLayerError(
                f"layer {layer.name!r} ({type(layer).__name__}) has a kernel that ibp_initialize does not know; it "
                f"initialises {', '.join(kind.__name__ for kind in _KERNELS)}"
            )
        kernel.assign(rng.normal(scale=math.sqrt(2.0 * math.pi) / _fan_in(layer, kernel.shape), size=kernel.shape))
        if layer.bias is not None:
            layer.bias.assign(np.zeros(layer.bias.shape))


def _fan_in(layer: Any, shape: tuple[int, ...]) -> int:
    """The inputs of one neuron: all axes of a kernel but the last, or the window of a depthwise convolution."""
    return math.prod(shape[:2] if isinstance(layer, keras.layers.DepthwiseConv2D) else shape[:-1])
