"""A Keras network as plain arrays, from which another framework can build it again.

The file is an ``.npz`` with the inputs ``x``, a JSON text ``nodes`` and the weights ``<node>.<name>``. Node 0 is the
input; entry n of ``nodes`` is node n + 1: its ``kind``, the numbers of the nodes it reads (``inputs``) and its options.
Everything is as Keras keeps it: channels last, kernels ``[height, width, in, out]`` and ``[in, out]``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np

_ACTIVATIONS = {
    keras.activations.relu: "relu",
    keras.activations.sigmoid: "sigmoid",
    keras.activations.tanh: "tanh",
    keras.ops.arctan: "arctan",
}
_POOLS = {keras.layers.MaxPooling2D: "max_pool", keras.layers.AveragePooling2D: "average_pool"}
Description = tuple[dict[str, Any], dict[str, Any]]
"""The options of a node, and its weights."""


def export(model: keras.Model, x: np.ndarray, path: Path) -> None:
    """Writes a Sequential or functional Keras network and its inputs.

    Raises:
        ValueError: a layer that is not known here.
    """
    nodes: list[dict[str, Any]] = []
    arrays = {"x": x}
    place = {id(model.inputs[0]): 0}

    def visit(tensor: Any) -> int:
        """The number of the node that makes a tensor, after those that it reads."""
        if id(tensor) in place:
            return place[id(tensor)]
        layer, call, _ = tensor._keras_history
        sources = [visit(source) for source in layer._inbound_nodes[call].input_tensors]
        if isinstance(layer, keras.layers.Dropout):  # nothing at inference
            return sources[0]
        options, weights = _describe(layer)
        nodes.append({**options, "inputs": sources})
        number = place[id(tensor)] = len(nodes)
        arrays.update({f"{number}.{name}": np.asarray(value) for name, value in weights.items()})
        return number

    visit(model.outputs[0])
    np.savez(path, nodes=json.dumps(nodes), **arrays)


def _describe(layer: keras.Layer) -> Description:
    linear = getattr(layer, "activation", None) in (None, keras.activations.linear)
    match type(layer):
        case keras.layers.Flatten:
            return {"kind": "flatten", "shape": list(layer.input.shape[1:])}, {}
        case keras.layers.Activation if layer.activation in _ACTIVATIONS:
            return {"kind": _ACTIVATIONS[layer.activation]}, {}
        case keras.layers.Add:
            return {"kind": "add"}, {}
        case keras.layers.Multiply:
            return {"kind": "multiply"}, {}
        case keras.layers.GlobalAveragePooling1D | keras.layers.GlobalAveragePooling2D:
            return {"kind": "mean"}, {}
        case keras.layers.Reshape if layer.target_shape[:-1] == (1, 1):
            return {"kind": "as_channels"}, {}
        case keras.layers.LayerNormalization if layer.axis in (-1, [-1], [len(layer.input.shape) - 1]):
            return {"kind": "layer_normalisation", "epsilon": layer.epsilon}, {"scale": layer.gamma, "bias": layer.beta}
        case keras.layers.MultiHeadAttention:
            return _attention(layer)
        case keras.layers.LSTM if not (layer.return_sequences or layer.go_backwards):
            return {"kind": "lstm"}, dict(zip(("kernel", "recurrent", "bias"), layer.weights, strict=True))
        case keras.layers.Dense if linear and layer.use_bias:
            return {"kind": "dense"}, {"kernel": layer.kernel, "bias": layer.bias}
        case keras.layers.Conv2D if linear and layer.use_bias and layer.groups == 1 and layer.dilation_rate == (1, 1):
            return _convolution(layer)
        case keras.layers.BatchNormalization if layer.axis in (-1, 3) and layer.scale and layer.center:
            return _batch_normalisation(layer)
        case keras.layers.MaxPooling2D | keras.layers.AveragePooling2D if layer.padding == "valid":
            options = {"window": list(layer.pool_size), "strides": list(layer.strides)}
            return {"kind": _POOLS[type(layer)], **options}, {}
    raise ValueError(f"there is no plain form of the layer {layer.name!r} ({type(layer).__name__}) here")


def _convolution(layer: keras.layers.Conv2D) -> Description:
    pads = [[0, 0], [0, 0]]
    if layer.padding == "same":
        triples = zip(layer.input.shape[1:3], layer.kernel_size, layer.strides, strict=True)
        missing = [max(0, (-(-size // stride) - 1) * stride + window - size) for size, window, stride in triples]
        pads = [[total // 2, total - total // 2] for total in missing]  # TensorFlow: the odd pixel comes last
    options = {"kind": "convolution", "strides": list(layer.strides), "pads": pads}
    return options, {"kernel": layer.kernel, "bias": layer.bias}


def _attention(layer: keras.layers.MultiHeadAttention) -> Description:
    """Attention of one tensor to another; its four projections have heads side by side."""
    parts = {
        "query": layer.query_dense,
        "key": layer.key_dense,
        "value": layer.value_dense,
        "output": layer.output_dense,
    }
    weights = {}
    for name, dense in parts.items():
        rows = int(np.prod(dense.kernel.shape[: 2 if name == "output" else 1]))
        weights[f"{name}_kernel"] = np.reshape(dense.kernel, (rows, -1))
        weights[f"{name}_bias"] = np.ravel(dense.bias)
    return {"kind": "attention", "heads": layer.num_heads}, weights


def _batch_normalisation(layer: keras.layers.BatchNormalization) -> Description:
    weights = {"scale": layer.gamma, "bias": layer.beta, "mean": layer.moving_mean, "variance": layer.moving_variance}
    return {"kind": "batch_normalisation", "epsilon": layer.epsilon}, weights
