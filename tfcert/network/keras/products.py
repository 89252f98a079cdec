"""Converters of sums of products: matrix products, ``dot``, ``tensordot``, ``einsum`` and the layer ``Dot``.

All of them are written as an einsum of two operands without the batch: of two tensors a contraction, of a tensor and
a constant a linear map.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from tfcert.network.builder import Builder, Tensor
from tfcert.network.contractions import EinsumMap
from tfcert.network.keras.graph import converter
from tfcert.network.keras.private import numpy_operations as ops
from tfcert.network.linear import DenseMap, Source

_LETTERS = "abcdefghijklmnopqrstuvwxy"
_FREE = "ABCDEFGHIJKLMNOPQRSTUVWXY"


def contracted(
    builder: Builder, words: Sequence[str], operands: Sequence[Any], result: str, *, part: str = ""
) -> Tensor:
    """``einsum`` of two operands, one of which may be a constant; letters without the batch."""
    left, right = operands
    if isinstance(left, Tensor) and isinstance(right, Tensor):
        return builder.contract(f"{words[0]},{words[1]}->{result}", left, right, part=part)
    x, constant = (left, right) if isinstance(left, Tensor) else (right, left)
    given, weights = words if isinstance(left, Tensor) else words[::-1]
    read, shape = builder.constant(constant), tuple(np.shape(constant))
    alone = [i for i, letter in enumerate(given) if letter not in weights + result]
    if alone:
        x, given = builder.sum(x, alone, part="summed"), "".join(c for i, c in enumerate(given) if i not in alone)
    before = weights
    read, shape, weights = _without_lone(read, shape, weights, given + result)
    if weights != before:
        builder.has_precomputed("a constant of einsum was summed beforehand")
    if given[-1:] + weights[-1:] == weights and result == given[:-1] + weights[-1:] and len(shape) == 2:
        return builder.linear(x, DenseMap(read, x.shape, shape[1]), part=part)
    try:
        product = EinsumMap(f"{given},{weights}->{result}", read, x.shape, shape)
    except ValueError as error:
        raise builder.refuse(f"cannot be written as a linear map: {error}") from error
    return builder.linear(x, product, part=part)


def _without_lone(
    read: Source, shape: tuple[int, ...], letters: str, others: str
) -> tuple[Source, tuple[int, ...], str]:
    """A constant summed over the axes whose letters stand nowhere else."""
    lone = [i for i, letter in enumerate(letters) if letter not in others]
    if not lone:
        return read, shape, letters
    kept = [i for i in range(len(shape)) if i not in lone]
    summed = "".join(letters[i] for i in kept)
    return lambda: tf.reduce_sum(read(), axis=lone), tuple(shape[i] for i in kept), summed


@converter(ops.Matmul, constants=True)
def matmul(operation: Any, builder: Builder, inputs: list[Any]) -> Tensor:
    left, right = inputs
    if isinstance(left, Tensor) and isinstance(right, Tensor):
        return _product_of_tensors(builder, left, right)
    x, constant = (left, right) if isinstance(left, Tensor) else (right, left)
    rank, depth = len(x.shape), np.ndim(constant)
    stacked, before = np.shape(constant)[:-2], x.shape[:-2]
    # An axis of the constant before its matrices must be one of the tensor's, and none may be the batch.
    if not depth or len(stacked) > len(before) or stacked != before[len(before) - len(stacked) :]:
        raise builder.refuse(
            f"multiplies shapes {np.shape(constant)} and [batch, {x.shape}]; a constant vector or matrix, or one for "
            "each of the tensor's axes before its last two, is supported"
        )
    if x is right and rank < 2:
        raise builder.refuse("multiplies a constant with the batch, which mixes samples; put the constant on the right")
    letters = _LETTERS[:rank]
    row, column = (letters[-2:-1], letters[-1]) if rank > 1 else ("", letters[-1])
    front, shared = letters[:-2], letters[:-2][len(letters[:-2]) - len(stacked) :]
    if x is left:
        words = (letters, f"{shared}{column}{'z' if depth > 1 else ''}")
        return contracted(builder, words, inputs, f"{front}{row}{'z' if depth > 1 else ''}")
    words = (f"{shared}{'z' if depth > 1 else ''}{row}", letters)
    return contracted(builder, words, inputs, f"{front}{'z' if depth > 1 else ''}{column}")


def _product_of_tensors(builder: Builder, left: Tensor, right: Tensor) -> Tensor:
    rank = len(left.shape)
    if rank != len(right.shape):
        raise builder.refuse(
            f"multiplies shapes {[left.shape, right.shape]} (batch left out), which lines up a batch with another "
            "axis; reshape them to one rank"
        )
    if rank < 2:
        raise builder.refuse("multiplies the batch with itself, which mixes samples; give each sample a matrix")
    front = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    left, right = (builder.broadcast(x, (*front, *x.shape[-2:]), part="broadcast") for x in (left, right))
    letters = _LETTERS[: rank - 2]
    return contracted(builder, (f"{letters}xy", f"{letters}yz"), (left, right), f"{letters}xz")


@converter(ops.Dot, constants=True)
def dot(operation: Any, builder: Builder, inputs: list[Any]) -> Tensor:
    """NumPy's ``dot``: the last axis by the last but one of a constant."""
    x, constant = inputs
    if not isinstance(x, Tensor) or isinstance(constant, Tensor):
        raise builder.refuse(
            "is a dot product that lines up the batch of one tensor with axes of another; write matmul, einsum with a "
            "letter for the batch, or the layer Dot"
        )
    depth = np.ndim(constant)
    if not depth:
        return builder.scale(x, builder.constant(constant))
    letters, weights = _LETTERS[: len(x.shape)], _FREE[: max(depth - 1, 0)]
    place = len(weights) if depth == 1 else depth - 2
    word = f"{weights[:place]}{letters[-1]}{weights[place:]}"
    return contracted(builder, (letters, word), inputs, letters[:-1] + weights)


@converter(ops.Tensordot, constants=True)
def tensordot(operation: Any, builder: Builder, inputs: list[Any]) -> Tensor:
    """A sum over axes of a tensor and of a constant on its right."""
    x, constant = inputs
    if not isinstance(x, Tensor) or isinstance(constant, Tensor):
        raise builder.refuse(
            "is a tensordot that lines up the batch of one tensor with axes of another; write einsum with a letter for "
            "the batch"
        )
    rank, depth, axes = len(x.shape) + 1, np.ndim(constant), operation.axes
    if isinstance(axes, int):
        pairs = (list(range(rank - axes, rank)), list(range(axes)))
    else:
        pairs = tuple([axis] if isinstance(axis, int) else list(axis) for axis in axes)  # type: ignore[assignment]
    own, other = [axis % rank for axis in pairs[0]], [axis % max(depth, 1) for axis in pairs[1]]
    if 0 in own:
        raise builder.refuse("sums over the batch, which mixes samples")
    letters, free = _LETTERS[: rank - 1], list(_FREE[:depth])
    for axis, place in zip(own, other, strict=True):
        free[place] = letters[axis - 1]
    result = "".join(c for i, c in enumerate(letters, 1) if i not in own) + "".join(c for c in free if c in _FREE)
    return contracted(builder, (letters, "".join(free)), inputs, result)


@converter(ops.Einsum, constants=True)
def einsum(operation: Any, builder: Builder, inputs: list[Any]) -> Tensor:
    """Pairs of operands from the left; the batch is the first letter of every tensor and of the result."""
    words, result = _spelled_out(operation.subscripts, inputs, builder)
    batches = {word[:1] for word, x in zip(words, inputs, strict=True) if isinstance(x, Tensor)} | {result[:1]}
    batch = min(batches)
    strange = [w for w, x in zip(words, inputs, strict=True) if w.count(batch) != isinstance(x, Tensor)]
    if len(batches) > 1 or strange or result.count(batch) != 1:
        raise builder.refuse(
            f"computes {operation.subscripts!r}; the batch must be the first letter of every tensor and of the result, "
            "and of nothing else"
        )
    if any(len(set(word)) < len(word) for word in words):
        raise builder.refuse(f"computes {operation.subscripts!r}, which reads a diagonal; no letter may stand twice")
    words, result = [w[1:] if isinstance(x, Tensor) else w for w, x in zip(words, inputs, strict=True)], result[1:]
    tensors = [(w, x) for w, x in zip(words, inputs, strict=True) if isinstance(x, Tensor)]
    others = [(w, x) for w, x in zip(words, inputs, strict=True) if not isinstance(x, Tensor)]
    # Constants first: what is left of a tensor by then is smaller, and they are linear.
    word, found = tensors[0]
    rest = others + tensors[1:]
    for number, (other, x) in enumerate(rest):
        after = result + "".join(w for w, _ in rest[number + 1 :])
        kept = "".join(dict.fromkeys(c for c in word + other if c in after)) if number < len(rest) - 1 else result
        found = contracted(builder, (word, other), (found, x), kept, part="" if kept is result else "product")
        word = kept
    gone = [i for i, letter in enumerate(word) if letter not in result]
    if gone:
        found, word = builder.sum(found, gone, part="summed"), "".join(c for c in word if c in result)
    if len(words) > 2:
        builder.not_charged(found, "in which order its factors are multiplied is not known")
    if set(word) != set(result) or len(result) != len(word):
        raise builder.refuse(f"computes {operation.subscripts!r}, whose result has letters of no operand")
    return builder.transpose(found, [word.index(letter) for letter in result])


def _spelled_out(subscripts: str, inputs: Sequence[Any], builder: Builder) -> tuple[list[str], str]:
    """The letters of each operand and of the result, ellipses and an implied result written out."""
    given, arrow, result = subscripts.replace(" ", "").partition("->")
    words = given.split(",")
    ranks = [len(x.shape) + 1 if isinstance(x, Tensor) else np.ndim(x) for x in inputs]
    if len(words) != len(inputs):
        raise builder.refuse(f"computes {subscripts!r} of {len(inputs)} operands")
    hidden = [
        rank - len(word.replace("...", "")) if "..." in word else 0 for word, rank in zip(words, ranks, strict=True)
    ]
    most = max(hidden)
    letters = "".join(c for c in _FREE if c not in subscripts)[:most]
    words = [word.replace("...", letters[most - n :]) for word, n in zip(words, hidden, strict=True)]
    if any(len(word) != rank for word, rank in zip(words, ranks, strict=True)):
        raise builder.refuse(f"computes {subscripts!r}, which does not fit shapes of the ranks {ranks}")
    if not arrow:
        every = "".join(words)
        result = "..." + "".join(sorted(c for c in set(every) - set(letters) if every.count(c) == 1))
    return words, result.replace("...", letters)


@converter(layers.Dot)
def dot_layer(layer: layers.Dot, builder: Builder, inputs: list[Tensor]) -> Tensor:
    """The sum over one axis of each of two tensors, of vectors of length one with ``normalize``."""
    axes = layer.axes if isinstance(layer.axes, list | tuple) else [layer.axes] * 2
    places = [axis % (len(x.shape) + 1) - 1 for axis, x in zip(axes, inputs, strict=True)]
    if layer.normalize:
        inputs = [unit(builder, x, place) for x, place in zip(inputs, places, strict=True)]
    words = []
    for x, place, letters in zip(inputs, places, (_LETTERS, _FREE), strict=True):
        words.append(f"{letters[:place]}z{letters[place : len(x.shape) - 1]}")
    result = "".join(words).replace("z", "")
    if result:
        return contracted(builder, words, inputs, result)
    return builder.reshape(contracted(builder, words, inputs, result, part="product"), (1,))


def unit(builder: Builder, x: Tensor, axis: int) -> Tensor:
    """``x`` by its length along an axis, which counts as at least Keras's epsilon."""
    squares = builder.activation(x, "square", part="square")
    length = builder.sum(squares, axis, keepdims=True, part="length")
    least = builder.number(keras.config.epsilon() ** 2)
    inverse = builder.activation(
        builder.activation(length, "clip", lower=least, upper=float("inf"), part="least"), "rsqrt", part="rsqrt"
    )
    return builder.product(x, builder.broadcast(inverse, x.shape, part="broadcast"), part="unit")
