"""Steps of a sequence: the first axis of a tensor taken apart and put together, and one conversion for all of them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Self

import numpy as np
import tensorflow as tf

from tfcert.network.builder import Builder, Tensor
from tfcert.network.graph import Add, Concatenate, Elementwise, Linear, Node
from tfcert.network.linear import LinearMap, Source
from tfcert.network.moves import ReshapeMap
from tfcert.network.product import Product


def stack(builder: Builder, parts: Sequence[Tensor], part: str = "sequence") -> Tensor:
    """Tensors of one shape as the entries of a new first axis."""
    joined = builder.concatenate(parts, 0, part=part)
    return builder.reshape(joined, (len(parts), *parts[0].shape), part=part)


def unstack(builder: Builder, x: Tensor) -> list[Tensor]:
    """The entries of the first axis; where a tensor was stacked of them, they themselves.

    So layers that are recurrent in time read each other's steps, and no pass carries whole sequences through each.
    """
    node = builder.node(x)
    if isinstance(node, Concatenate) and node.axis > 0:
        apart = [unstack(builder, Tensor(i, builder.node(i).shape)) for i in node.inputs]
        return [builder.concatenate(step, node.axis - 1, part="steps") for step in zip(*apart, strict=True)]
    if isinstance(node, Linear) and isinstance(node.map, ReshapeMap) and node.bias is None:
        joined = builder.node(node.inputs[0])
        if isinstance(joined, Concatenate) and joined.axis == 0:
            parts = [Tensor(i, builder.node(i).shape) for i in joined.inputs]
            if [part.shape for part in parts] == [x.shape[1:]] * x.shape[0]:
                return parts
    index = np.arange(int(np.prod(x.shape))).reshape(x.shape)
    return [builder.index(x, rows, part="step") for rows in index]


def backwards(builder: Builder, x: Tensor) -> Tensor:
    """The entries of the first axis in the opposite order."""
    return stack(builder, unstack(builder, x)[::-1], part="backwards")


class EachMap(LinearMap):
    """A map applied to every entry of a first axis: ``[steps, *in_shape] -> [steps, *out_shape]``."""

    def __init__(self, inner: LinearMap, steps: int):
        self.inner, self.steps = inner, steps
        self.in_shape, self.out_shape = (steps, *inner.in_shape), (steps, *inner.out_shape)
        self.moves = inner.moves

    @property
    def mixes(self) -> bool:
        return self.inner.mixes

    def diagonal(self) -> tf.Tensor | None:
        return self.inner.diagonal()

    def apply(self, x: tf.Tensor) -> tf.Tensor:
        return self._each(self.inner.apply, x, self.out_shape)

    def transpose(self, a: tf.Tensor) -> tf.Tensor:
        return self._each(self.inner.transpose, a, self.in_shape)

    def abs_apply(self, r: tf.Tensor) -> tf.Tensor:
        return self._each(self.inner.abs_apply, r, self.out_shape)

    def square_apply(self, v: tf.Tensor) -> tf.Tensor:
        return self._each(self.inner.square_apply, v, self.out_shape)

    def terms(self) -> int:
        return self.inner.terms()

    def sources(self) -> tuple[Source, ...]:
        return self.inner.sources()

    def reading(self, change: Callable[[Source], Source]) -> Self:
        other = copy.copy(self)
        other.inner = self.inner.reading(change)
        return other

    @staticmethod
    def _each(function: Callable[[tf.Tensor], tf.Tensor], x: tf.Tensor, shape: tuple[int, ...]) -> tf.Tensor:
        return tf.reshape(function(tf.reshape(x, [-1, *x.shape[2:]])), [-1, *shape])


def each(builder: Builder, x: Tensor, convert: Callable[[Builder, Tensor], Tensor]) -> Tensor:
    """What ``convert`` makes of a tensor, made of every entry of the first axis of ``x``.

    It is converted once and its nodes work on all entries together, as long as these are of kinds that can; a maximum
    over windows, say, cannot, and then every entry has nodes of its own.
    """
    steps, shape = x.shape[0], x.shape[1:]
    alone = builder.sketch()
    output = convert(alone, alone.input(shape, "entry"))
    network, _ = alone.network(output)
    if output.softmax is None and all(isinstance(node, _TOGETHER) for node in network.nodes[1:]):
        found = [x]
        for node in network.nodes[1:]:
            found.append(builder.adopt(_for_all(node, steps), [found[i] for i in node.inputs]))
        return found[-1]
    return stack(builder, [convert(builder, entry) for entry in unstack(builder, x)])


_TOGETHER = (Linear, Elementwise, Add, Concatenate, Product)


def _for_all(node: Node, steps: int) -> Node:
    """A node as one for every entry of a new first axis."""
    shape = (steps, *node.shape)
    match node:
        case Linear():
            return replace(node, shape=shape, map=EachMap(node.map, steps))
        case Concatenate():
            return replace(node, shape=shape, axis=node.axis + 1)
    return replace(node, shape=shape)
