"""Converters of attention layers: projections are dense maps, scores and their use contractions, weights a softmax.

Letters of contractions: ``t`` queries, ``s`` keys, ``n`` heads, ``h`` features of a head; the batch has none. Dropout
does nothing at inference, and ``flash_attention`` computes the same.
"""

from __future__ import annotations

import math
from string import ascii_letters
from typing import Any

import numpy as np
import tensorflow as tf
from keras import layers

from tfcert.network.builder import Builder, Tensor
from tfcert.network.keras.activations import single
from tfcert.network.keras.graph import Arguments, check_dtype, converter
from tfcert.network.keras.layers import refuse_lora
from tfcert.network.keras.private import layers_within
from tfcert.network.linear import DenseMap, Shape


@converter(layers.MultiHeadAttention, named=True)
def multi_head_attention(layer: layers.MultiHeadAttention, builder: Builder, given: Arguments) -> Any:
    query, key, value = operands(builder, given)
    axes = [axis - 1 for axis in layer.attention_axes]  # Keras counts the batch, and holds none below zero once built
    if -1 in axes:
        raise builder.refuse("attends along the batch, which mixes samples")
    heads, features = layer.num_heads, layer.key_dim
    q = projected(layer, "query", builder, query, (heads, features), scale=score_scale(features))
    k = projected(layer, "key", builder, key, (heads, features))
    v = projected(layer, "value", builder, value, (heads, layer.value_dim))
    dot, combine = equations(len(q.shape), axes)
    scores = builder.contract(dot, k, q, part="scores")
    weights = masked_softmax(builder, scores, mask_of(layer, builder, given, scores.shape, len(axes)), len(axes))
    context = builder.contract(combine, weights, v, part="context")
    return answered(layer, builder, given, context, weights)


@converter(layers.GroupQueryAttention, named=True)
def grouped_query_attention(layer: layers.GroupQueryAttention, builder: Builder, given: Arguments) -> Any:
    """Heads of queries come in groups that share a head of keys and values: ``r`` counts the heads of a group."""
    query, key, value = operands(builder, given)
    groups, size, features = layer.num_key_value_heads, layer.num_repeats, layer.head_dim
    heads, scale = groups * size, score_scale(features)
    q = projected(layer, "query", builder, query, (heads, features), scale=scale)
    k = projected(layer, "key", builder, key, (groups, features))
    v = projected(layer, "value", builder, value, (groups, features))
    targets, sources = q.shape[0], k.shape[0]
    q = builder.reshape(q, (targets, groups, size, features), part="groups")
    scores = builder.contract("tnrh,snh->nrts", q, k, part="scores")
    scores = builder.reshape(scores, (heads, targets, sources), part="heads")
    weights = masked_softmax(builder, scores, mask_of(layer, builder, given, scores.shape, 1), 1)
    shared = builder.reshape(weights, (groups, size, targets, sources), part="groups")
    context = builder.contract("nrts,snh->tnrh", shared, v, part="context")
    context = builder.reshape(context, (targets, heads, features), part="heads")
    return answered(layer, builder, given, context, weights)


@converter(layers.Attention, named=True)
def attention(layer: layers.Attention, builder: Builder, given: Arguments) -> Any:
    query, value, *others = given["inputs"]
    key = others[0] if others else value
    lead = ascii_letters[26 : 26 + len(query.shape) - 2]
    if layer.score_mode == "dot":
        scores = builder.contract(f"{lead}th,{lead}sh->{lead}ts", query, key, part="scores")
        if layer.scale is not None:
            scores = builder.scale(scores, builder.constant(layer.scale), part="scale")
    else:
        weight = builder.constant(layer.concat_score_weight)
        added = sums_of_pairs(builder, query, key)
        if layer.scale is not None:
            added = builder.scale(added, builder.constant(layer.scale), part="scale")
        bent = builder.activation(added, "tanh", part="tanh")
        ones = builder.constant(np.ones((bent.shape[-1], 1)))
        scores = scores_of(builder, bent, DenseMap(lambda: ones() * weight(), bent.shape, 1))
    return weighted(builder, given, scores, value)


@converter(layers.AdditiveAttention, named=True)
def additive_attention(layer: layers.AdditiveAttention, builder: Builder, given: Arguments) -> Any:
    query, value, *others = given["inputs"]
    bent = builder.activation(sums_of_pairs(builder, query, others[0] if others else value), "tanh", part="tanh")
    scale = builder.constant(np.ones(bent.shape[-1]) if layer.scale is None else layer.scale)
    scores = scores_of(builder, bent, DenseMap(lambda: scale()[:, None], bent.shape, 1))
    return weighted(builder, given, scores, value)


def operands(builder: Builder, given: Arguments) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value, the key being the value where it is not given."""
    for name in ("query_mask", "key_mask", "value_mask"):
        if given.get(name) is not None:
            raise builder.refuse(f"is called with a {name}; a constant attention_mask [1, queries, keys] says the same")
    value = given["value"]
    return given["query"], value if given.get("key") is None else given["key"], value


def score_scale(features: int) -> float:
    """What scores are multiplied by. Keras keeps it in single precision, in float64 models, too."""
    return single(1 / math.sqrt(features))


def projected(layer: Any, name: str, builder: Builder, x: Tensor, heads: tuple[int, int], scale: float = 1.0) -> Tensor:
    """A projection of the last axis of ``x`` to ``heads`` (their number, their features), times ``scale``."""
    dense = part_of(layer, name, builder)
    size = heads[0] * heads[1]
    kernel = DenseMap(lambda: scale * tf.reshape(tf.convert_to_tensor(dense.kernel), [-1, size]), x.shape, size)
    bias = None if dense.bias is None else lambda: scale * tf.reshape(tf.convert_to_tensor(dense.bias), [size])
    flat = builder.linear(x, kernel, bias, part=name)
    return builder.reshape(flat, (*x.shape[:-1], *heads), part=f"{name}_heads")


def part_of(layer: Any, name: str, builder: Builder) -> Any:
    """A dense map within an attention layer."""
    dense = next(part for part in layers_within(layer) if part.name == name)
    with builder.scope(name, type(dense).__name__):
        check_dtype(dense, builder)
        refuse_lora(dense, builder)
    return dense


def equations(rank: int, axes: list[int]) -> tuple[str, str]:
    """Equations of scores (keys, queries) and of their use (weights, values), tensors ``[..., heads, features]``.

    Args:
        rank: axes of a projected tensor.
        axes: those attended along; all others but the last are walked in step.
    """
    target = ascii_letters[:rank]
    source = "".join(letter.upper() if axis in axes else letter for axis, letter in enumerate(target))
    kept = "".join(letter for axis, letter in enumerate(target[:-1]) if axis not in axes)
    pairs = kept + "".join(target[axis] for axis in axes) + "".join(source[axis] for axis in axes)
    return f"{source},{target}->{pairs}", f"{pairs},{source}->{target}"


def answered(layer: Any, builder: Builder, given: Arguments, context: Tensor, weights: Tensor) -> Any:
    """The layer's outputs: the heads' sums, gated if it has a gate, projected back; and the weights where asked."""
    if any(part.name == "gate" for part in layers_within(layer)):
        gate = projected(layer, "gate", builder, given["query"], (context.shape[-2], context.shape[-1]))
        context = builder.product(context, builder.activation(gate, "sigmoid", part="sigmoid"), part="gated")
    dense = part_of(layer, "attention_output", builder)
    kernel_shape = tuple(dense.kernel.shape)
    rows, columns = int(np.prod(kernel_shape[:2])), int(np.prod(kernel_shape[2:]))
    flat = builder.reshape(context, (*context.shape[:-2], rows), part="side_by_side")
    kernel = DenseMap(lambda: tf.reshape(tf.convert_to_tensor(dense.kernel), [rows, columns]), flat.shape, columns)
    bias = None if dense.bias is None else lambda: tf.reshape(tf.convert_to_tensor(dense.bias), [columns])
    output = builder.linear(flat, kernel, bias, part="output")
    output = builder.reshape(output, (*flat.shape[:-1], *kernel_shape[2:]), part="output_shape")
    return [output, weights] if given.get("return_attention_scores") else output


def sums_of_pairs(builder: Builder, query: Tensor, key: Tensor) -> Tensor:
    """``query + key`` for every pair of them: ``[..., queries, keys, features]``."""
    *lead, targets, features = query.shape
    shape = (*lead, targets, key.shape[-2], features)
    left = builder.reshape(query, (*lead, targets, 1, features), part="queries")
    right = builder.reshape(key, (*lead, 1, key.shape[-2], features), part="keys")
    return builder.add([builder.broadcast(x, shape, part="pairs") for x in (left, right)], part="sums")


def scores_of(builder: Builder, bent: Tensor, kernel: DenseMap) -> Tensor:
    """One score for each pair."""
    return builder.reshape(builder.linear(bent, kernel, part="scores"), bent.shape[:-1], part="scores_shape")


def weighted(builder: Builder, given: Arguments, scores: Tensor, value: Tensor) -> Any:
    """Values weighted by the softmax of ``scores`` ``[..., queries, keys]``; and the weights where asked."""
    query_mask, value_mask, *_ = given.get("mask") or (None, None)
    if query_mask is not None:
        raise builder.refuse("is called with a mask of its queries; set what it masks to zero after the layer")
    mask = constant_mask(builder, value_mask)
    if mask is not None:
        mask = np.broadcast_to(one_for_all(builder, mask[:, None], scores.shape), scores.shape)
    if given.get("use_causal_mask"):
        causal = np.tri(scores.shape[-2], scores.shape[-1]) > 0
        mask = np.broadcast_to(causal if mask is None else causal & mask, scores.shape)
    weights = masked_softmax(builder, scores, mask, 1)
    lead = ascii_letters[26 : 26 + len(scores.shape) - 2]
    context = builder.contract(f"{lead}ts,{lead}sh->{lead}th", weights, value, part="context")
    return [context, weights] if given.get("return_attention_scores") else context


def mask_of(layer: Any, builder: Builder, given: Arguments, shape: Shape, axes: int) -> np.ndarray | None:
    """Which keys each query of ``[..., heads, queries, keys]`` may attend to; None for all.

    Args:
        axes: how many axes queries have, and keys.
    """
    found = []
    mask = constant_mask(builder, given.get("attention_mask"))
    if mask is not None:
        while mask.ndim < len(shape) + 1:  # Keras adds axes between the batch and the queries
            mask = np.expand_dims(mask, -2 * axes - 1)
        found.append(one_for_all(builder, mask, shape))
    window = layer.get_config()["sliding_window"]
    if given.get("use_causal_mask") or window is not None:
        if axes > 1:
            raise builder.refuse("has a causal mask or a sliding window over several axes, which Keras does not define")
        ahead = np.arange(shape[-1])[None, :] - np.arange(shape[-2])[:, None]
        if given.get("use_causal_mask"):
            found.append(ahead <= 0)
        if window is not None:
            found.append(abs(ahead) < window)
    return np.logical_and.reduce([np.broadcast_to(mask, shape) for mask in found]) if found else None


def constant_mask(builder: Builder, mask: Any) -> np.ndarray | None:
    """A mask that a layer is called with, as truth values."""
    if mask is None:
        return None
    if isinstance(mask, Tensor):
        raise builder.refuse(
            "is called with a mask that is computed from the input; a constant mask is supported: pass an array"
        )
    array = np.asarray(mask)
    if not np.isin(array, (0, 1)).all():
        raise builder.refuse("is called with a mask that has other entries than 0 and 1")
    return array.astype(bool)


def one_for_all(builder: Builder, mask: np.ndarray, shape: Shape) -> np.ndarray:
    """A mask ``[1, ...]`` without its batch; it must fit scores of a shape, and must not tell samples apart."""
    fits = mask.ndim == len(shape) + 1 and all(n in (1, m) for n, m in zip(mask.shape[1:], shape, strict=True))
    if not fits or mask.shape[0] != 1:
        raise builder.refuse(
            f"is called with a mask of shape {mask.shape} for scores [batch, {shape}]; its batch must be 1"
        )
    return mask[0]


def masked_softmax(builder: Builder, scores: Tensor, mask: np.ndarray | None, axes: int) -> Tensor:
    """The softmax over the last ``axes`` axes of scores, of those alone that the mask leaves; the others weigh nothing.

    Keras puts a large negative number in the place of masked scores, whose exponential is zero. Here queries with the
    same mask are taken together, without what they do not see, so no such number enters a bound.
    """
    if mask is None or mask.all():
        return builder.softmax(scores, range(-axes, 0))
    return spared_softmax(builder, scores, mask, axes)


def spared_softmax(builder: Builder, scores: Tensor, mask: np.ndarray, axes: int) -> Tensor:
    """:func:`masked_softmax` where something is masked."""
    size = int(np.prod(scores.shape[-axes:]))
    rows = mask.reshape(-1, size)
    if not rows.any(axis=1).all():
        raise builder.refuse(
            "has a query that may attend to nothing; let it attend to one key, and leave its output out"
        )
    patterns, which = np.unique(rows, axis=0, return_inverse=True)
    place, parts = np.full(rows.shape, -1), []
    taken = 0
    for number, pattern in enumerate(patterns):
        chosen = np.ix_(np.flatnonzero(which.ravel() == number), np.flatnonzero(pattern))
        index = np.arange(rows.size).reshape(rows.shape)[chosen]
        part = builder.index(scores, index, part="seen")
        parts.append(builder.reshape(builder.softmax(part, -1), (index.size,), part="flat"))
        place[chosen] = taken + np.arange(index.size).reshape(index.shape)
        taken += index.size
    together = builder.concatenate(parts, 0, part="together")
    return builder.index(together, place.reshape(scores.shape), part="weights")
