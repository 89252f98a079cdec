"""Values of a model that no input enters: ``ops.zeros_like(x)``, positions, and what layers make of them.

Keras computes them itself, whatever their type and the layers in between, whenever they are read: their weights stay
live. A network that needs one as a tensor has it as a constant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from tfcert.network.builder import Builder, Tensor
from tfcert.network.keras.private import numpy_operations, takes_training

Compute = Callable[[int], Any]
"""``samples -> value``, of so many samples at once."""

SHAPED = (numpy_operations.ZerosLike, numpy_operations.OnesLike, numpy_operations.FullLike)
"""Operations that read the shape of their first argument alone."""
MOVING = (
    *(layers.Embedding, layers.Flatten, layers.Permute, layers.RepeatVector, layers.Reshape),
    *(numpy_operations.BroadcastTo, numpy_operations.Concatenate, numpy_operations.ExpandDims, numpy_operations.Flip),
    *(numpy_operations.GetItem, numpy_operations.Repeat, numpy_operations.Reshape, numpy_operations.Squeeze),
    *(numpy_operations.Stack, numpy_operations.Take, numpy_operations.Tile, numpy_operations.Transpose),
)
"""Layers and operations that move and copy numbers, which every program does without rounding."""


class FixedValue:
    """A value that is the same for every input, ``[1, *shape]`` where the model has a batch; read when it is called."""

    def __init__(self, compute: Compute):
        self.compute = compute
        found = self()
        self.shape, self.dtype, self.ndim = tuple(found.shape), found.dtype, len(found.shape)

    def __call__(self) -> tf.Tensor:
        return self.compute(1)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self(), dtype)

    def tensor(self, builder: Builder, part: str = "fixed") -> Tensor:
        """The value as a tensor of the network.

        Raises:
            UnsupportedLayerError: it holds numbers of another type than the network, or knows no samples.
        """
        if self.dtype != builder.dtype:
            raise builder.refuse(f"reads a constant of {self.dtype.name} beside {builder.dtype.name}; cast it")
        return builder.fixed(lambda: self()[0], self.shape[1:], part=part)


def fixed_outputs(node: Any, values: Mapping[int, Any], builder: Builder) -> list[FixedValue] | None:
    """The outputs of a call that no input enters; None of any other.

    Args:
        node: the call, with Keras's tensors as its arguments.
        values: ours, by the identity of Keras's: of the network, or fixed.
        builder: for refusals.

    Raises:
        UnsupportedLayerError: an output tells samples apart, or how many there are.
    """
    given = (node.arguments.args, dict(node.arguments.kwargs))
    known = [values[id(leaf)] for leaf in keras.tree.flatten(given) if id(leaf) in values]
    shaped = isinstance(node.operation, SHAPED)
    random = given[1].get("training") not in (None, False)
    if random or not known or (not shaped and any(isinstance(value, Tensor) for value in known)):
        return None
    if not (shaped or isinstance(node.operation, MOVING) or _counts(node.outputs)):
        builder.has_precomputed(f"what {node.operation.name!r} computes of constants was computed beforehand")
    layer = isinstance(node.operation, keras.layers.Layer)
    inference = {"training": False} if layer and takes_training(node.operation) else {}

    def outputs(samples: int) -> list[Any]:
        def filled(leaf: Any) -> Any:
            value = values.get(id(leaf), leaf)
            if isinstance(value, Tensor):
                return tf.zeros([samples, *value.shape], builder.dtype)
            return value.compute(samples) if isinstance(value, FixedValue) else leaf

        args, kwargs = keras.tree.map_structure(filled, given)
        return [
            tf.convert_to_tensor(value) for value in keras.tree.flatten(node.operation(*args, **kwargs | inference))
        ]

    for one, two, declared in zip(outputs(1), outputs(2), node.outputs, strict=True):
        same = tf.repeat(one, 2, axis=0) if declared.shape and declared.shape[0] is None else one
        if same.shape != two.shape or not bool(tf.reduce_all(same == two)):
            raise builder.refuse("makes a constant that depends on how many samples there are; reshape or sum it less")

    def one_of(place: int) -> Compute:
        return lambda samples: outputs(samples)[place]

    return [FixedValue(one_of(place)) for place in range(len(node.outputs))]


def _counts(outputs: Sequence[Any]) -> bool:
    """Tells whether numbers are integers, or truth values, which are computed without rounding."""
    return all(tf.as_dtype(output.dtype).is_integer or output.dtype == "bool" for output in outputs)
