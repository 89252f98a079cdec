"""Converters of sums of products of two tensors: matrix products, ``einsum`` and ``Dot``."""

from __future__ import annotations

import string
from typing import Any

import numpy as np
from keras import layers

from tfcert.network.builder import Builder, Tensor
from tfcert.network.keras.graph import converter
from tfcert.network.keras.private import numpy_operations as ops


def product_of_matrices(builder: Builder, x: Tensor, y: Tensor) -> Tensor:
    """``x @ y`` along the last two axes; those before are paired, and repeated where one of them has length one."""
    if len(x.shape) != len(y.shape):
        raise builder.refuse(
            f"multiplies shapes {[x.shape, y.shape]} (batch left out), which lines up a batch with another axis; "
            "reshape them to one rank"
        )
    if len(x.shape) < 2:
        raise builder.refuse("multiplies the batch with itself, which mixes samples; give each sample a matrix")
    lead = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    x = builder.broadcast(x, (*lead, *x.shape[-2:]), part="left")
    y = builder.broadcast(y, (*lead, *y.shape[-2:]), part="right")
    pairs = string.ascii_lowercase[: len(lead)]
    return builder.contract(f"{pairs}XK,{pairs}KY->{pairs}XY", x, y)


@converter(ops.Einsum, constants=True)
def einsum(operation: Any, builder: Builder, inputs: list[Any]) -> Tensor:
    written = operation.subscripts.replace(" ", "")
    operands, arrow, result = written.partition("->")
    words = operands.split(",")
    if len(inputs) != 2 or not all(isinstance(x, Tensor) for x in inputs):
        raise builder.refuse(
            f"is einsum of {written!r}; it is supported of two tensors that are computed, not of others"
        )
    if not arrow or not all(word.isalpha() for word in (*words, result)):
        raise builder.refuse(f"is einsum of {written!r}; write a letter for each axis, and the result behind '->'")
    batch = words[0][0]
    if any(word[0] != batch or batch in word[1:] for word in (*words, result)):
        raise builder.refuse(f"is einsum of {written!r}, which mixes samples; the batch must be the first axis of each")
    x, y = inputs
    return builder.contract(f"{words[0][1:]},{words[1][1:]}->{result[1:]}", x, y)


@converter(layers.Dot)
def dot(layer: layers.Dot, builder: Builder, inputs: list[Tensor]) -> Tensor:
    if layer.normalize:
        raise builder.refuse("has normalize=True; divide by the norms with UnitNormalization layers before it")
    x, y = inputs
    axes = [layer.axes] * 2 if isinstance(layer.axes, int) else layer.axes
    first, second = (axis % (len(t.shape) + 1) - 1 for axis, t in zip(axes, inputs, strict=True))
    words = []
    letters = iter(string.ascii_lowercase)
    for tensor, axis in ((x, first), (y, second)):
        words.append("".join("Z" if place == axis else next(letters) for place in range(len(tensor.shape))))
    result = "".join(words).replace("Z", "")
    found = builder.contract(f"{','.join(words)}->{result}", x, y)
    return found if found.shape else builder.reshape(found, (1,))
