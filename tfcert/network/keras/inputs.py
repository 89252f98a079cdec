"""The inputs and the outputs of a Keras model: which arrays they are, and the way from a flat vector to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfcert.network.errors import UnsupportedLayerError
from tfcert.network.keras.private import (
    calls,
    functional_graph,
    input_structure,
    numpy_operations,
    operation_of,
    output_structure,
)
from tfcert.parts import NamedParts

_BESIDE = (keras.layers.Concatenate, numpy_operations.Concatenate, numpy_operations.Append, numpy_operations.Hstack)
"""Operations that put tensors beside each other."""


def keras_inputs(model: Any) -> NamedParts | None:
    """The inputs of a model that takes several arrays a sample; None where it takes one.

    Raises:
        UnsupportedLayerError: one of several has a dimension that is not known.
    """
    plain = getattr(model, "plain_model", model)
    tensors = list(getattr(plain, "inputs", None) or [])
    if len(tensors) < 2 or not isinstance(plain, keras.Model):
        return None
    layers = [operation_of(tensor).name for tensor in tensors]
    shapes = [tuple(tensor.shape[1:]) for tensor in tensors]
    names = _names(input_structure(plain), layers)
    for name, shape in zip(names, shapes, strict=True):
        if None in shape:
            raise UnsupportedLayerError(
                f"input {name!r} of model {plain.name!r} has unknown dimensions {shape}; of several inputs "
                "they must be known: build it with keras.Input of a shape without None"
            )
    return NamedParts.of(list(zip(names, shapes, strict=True)), [t.dtype for t in tensors], layers)


def _names(structure: Any, layers: list[str]) -> list[str]:
    """The keys of a dictionary of tensors, in the order in which Keras flattens it; else the names of the layers."""
    if isinstance(structure, Mapping) and not any(keras.tree.is_nested(entry) for entry in structure.values()):
        order = {id(tensor): key for key, tensor in structure.items()}
        return [str(order[id(tensor)]) for tensor in keras.tree.flatten(structure)]
    return layers


def arguments(model: Any, x: Any, parts: NamedParts | None = None) -> Any:
    """What a model is called with for inputs ``x``: an array, or the arrays of a vector in the model's own structure.

    Args:
        model: a Keras model.
        x: ``[batch, *input]``, a tensor.
        parts: its inputs, if they are known; None finds them.
    """
    parts = keras_inputs(model) if parts is None else parts
    plain = getattr(model, "plain_model", model)
    structure = input_structure(plain)
    if parts is None:
        return x if structure is None or plain is not model else keras.tree.pack_sequence_as(structure, [x])
    return keras.tree.pack_sequence_as(structure, taken_apart(x, parts))


def outputs_at(model: keras.Model, given: Any) -> list[tf.Tensor]:
    """What a model makes of its arguments at inference, ``[batch, ...]`` each, in Keras's order.

    Keras runs some models one sample at a time alone (:func:`one_by_one`); their samples are run so.
    """
    if not one_by_one(model):
        return list(keras.tree.flatten(model(given, training=False)))
    arrays = keras.tree.flatten(given)
    alone = [[array[i : i + 1] for array in arrays] for i in range(len(arrays[0]))]
    found = [keras.tree.flatten(model(keras.tree.pack_sequence_as(given, part), training=False)) for part in alone]
    return [tf.concat(output, axis=0) for output in zip(*found, strict=True)]


def one_by_one(model: Any) -> bool:
    """Whether Keras puts a constant of one sample beside tensors of the batch, which it does not repeat for others."""
    graph = functional_graph(model) if isinstance(model, keras.Model) else None
    for call in calls(graph) if graph is not None else ():
        if isinstance(call.operation, keras.Model) and one_by_one(call.operation):
            return True
        if isinstance(call.operation, _BESIDE):
            leaves = keras.tree.flatten((call.arguments.args, dict(call.arguments.kwargs)))
            if any(np.ndim(leaf) > 1 for leaf in leaves if not isinstance(leaf, keras.KerasTensor)):
                return True
    return False


def in_order(model: keras.Model, given: Any) -> Any:
    """Inputs of a functional model, by names where it declares a list, in the order of the list."""
    structure = input_structure(model)
    if isinstance(given, Mapping) and not isinstance(structure, Mapping):
        return [given[tensor.name] for tensor in keras.tree.flatten(structure)]
    return given


def taken_apart(x: tf.Tensor, parts: NamedParts) -> list[tf.Tensor]:
    """The arrays ``[batch, *shape]`` of vectors ``[batch, size]``, each in its own type."""
    return [
        tf.cast(tf.reshape(x[:, part.start : part.stop], [-1, *part.shape]), tf.as_dtype(part.dtype)) for part in parts
    ]


def joined(model: Any, x: Any) -> np.ndarray | tf.Tensor:
    """The vectors of inputs in the model's structure; an array of a model with one input as it is."""
    parts = keras_inputs(model)
    if parts is None or not isinstance(x, Mapping | list | tuple):
        return x
    leaves = parts.leaves(x)
    dtype = next(tf.as_dtype(part.dtype) for part in parts if not part.in_steps)
    flat = [tf.reshape(tf.cast(leaf, dtype), [-1, part.size]) for part, leaf in zip(parts, leaves, strict=True)]
    return tf.concat(flat, axis=1)


def structured(model: keras.Model, x: Any) -> Any:
    """Inputs by name, or by place, in the structure that the model declares; an array as it is."""
    parts = keras_inputs(model)
    if not isinstance(x, Mapping) or parts is None:
        return x
    by_place = list(x) == [str(i) for i in range(len(parts))]
    return keras.tree.pack_sequence_as(input_structure(model), list(x.values()) if by_place else parts.leaves(x))


def outputs_of(model: Any) -> NamedParts | None:
    """The outputs of a model with several; None where it has one."""
    graph = functional_graph(model)
    tensors = [] if graph is None else list(graph.outputs)
    if len(tensors) < 2:
        return None
    layers = [operation_of(tensor).name for tensor in tensors]
    names = _names(output_structure(model), layers)
    if len(set(names)) < len(names):
        names = [f"{name}_{i}" if names.count(name) > 1 else name for i, name in enumerate(names)]
    shapes = [tuple(tensor.shape[1:]) for tensor in tensors]
    return NamedParts.of(list(zip(names, shapes, strict=True)), [t.dtype for t in tensors])


def keras_layer(model: keras.Model, layer: str) -> keras.Model:
    """A model whose outputs are the values of one of its layers, flat, by the layer's name.

    Raises:
        ValueError: there is no such layer, it is called several times, or has several outputs.
    """
    graph = functional_graph(model)
    if graph is None:
        raise ValueError(f"model {model.name!r} is no functional model, whose layers could be told apart")
    found = [node.outputs for node in calls(graph) if node.operation.name == layer]
    if not found:
        known = ", ".join(repr(node.operation.name) for node in calls(graph))
        raise ValueError(f"model {model.name!r} has no layer {layer!r}; its layers are {known}")
    if len(found) > 1 or len(found[0]) > 1:
        how = f"is called {len(found)} times" if len(found) > 1 else f"has {len(found[0])} outputs"
        raise ValueError(f"layer {layer!r} of model {model.name!r} {how}, so its value is not a single one")
    (value,) = found[0]
    flat = value if len(value.shape) == 2 else keras.layers.Flatten()(value)
    return keras.Model(input_structure(model), flat, name=f"{model.name}_{layer}")


def keras_output(model: keras.Model, output: str | int) -> keras.Model:
    """A model of the same layers with one output, as :func:`tfcert.with_output` makes it."""
    parts, graph = outputs_of(model), functional_graph(model)
    if graph is None:
        raise ValueError(f"model {model.name!r} is no functional model, whose outputs could be told apart")
    structure = input_structure(model)
    if output == "all" and parts is not None:
        flat = [keras.layers.Flatten()(tensor) for tensor in graph.outputs]
        return keras.Model(structure, keras.layers.Concatenate()(flat), name=f"{model.name}_all")
    names = [str(operation_of(t).name) for t in graph.outputs] if parts is None else parts.names
    place = names.index(output) if output in names else output
    if isinstance(place, bool) or not isinstance(place, int) or not -len(names) <= place < len(names):
        known = ", ".join(map(repr, names))
        raise ValueError(f"model {model.name!r} has no output {output!r}; its outputs are {known}, in this order")
    return keras.Model(structure, graph.outputs[place], name=f"{model.name}_{names[place]}")
