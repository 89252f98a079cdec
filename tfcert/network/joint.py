"""Several networks, or one at several points, as one network of one vector.

A question about ``f(a)``, ``f(b)`` and ``g(h(b))`` together is a question about one network: its input holds the
numbers of all points side by side, and its output those of every application, one after the other, and then the inputs
that the question names. Two points that agree in a number share it. Bounds, solvers and attacks take it as any other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import tensorflow as tf

from tfcert.network.builder import Builder
from tfcert.network.composed import Tensor
from tfcert.network.graph import Input, Network


@dataclass(frozen=True, eq=False)
class Applied:
    """A network at a point.

    Attributes:
        network: what is applied; its weights stay live.
        source: what it is applied to: the places of its inputs in the vector of all inputs (``[*input]`` or flat; two
            applications may read one number), or the number of an earlier application, whose outputs are its inputs;
            or a tuple of such, side by side.
        softmax: whether a softmax that was peeled off the network is applied after all. What a later application
            reads always has it.
    """

    network: Network
    source: np.ndarray | int | tuple[np.ndarray | int, ...]
    softmax: bool = False

    @property
    def sources(self) -> tuple[np.ndarray | int, ...]:
        """What it is applied to, piece by piece."""
        return self.source if isinstance(self.source, tuple) else (self.source,)

    @property
    def outputs(self) -> int:
        """How many numbers it answers with."""
        return math.prod(self.network.output_shape)


def joint(applied: Sequence[Applied], size: int, shown: Sequence[int] = ()) -> Network:
    """The network of several applications, over one vector ``[size]``.

    Its output is a vector: the outputs of each application in order, flat, then the numbers ``shown`` of the input. It
    computes what the networks compute, number by number, and what two of them have in common is computed once, so that
    bounds see that it is the same. ``peeled`` tells whether the softmax of some application is left out.

    Raises:
        ValueError: nothing is applied, networks of different types, a place outside the vector, an application of a
            later one, or sources that do not have as many numbers as the network takes.
    """
    if not applied:
        raise ValueError("a joint network needs at least one application")
    dtypes = {part.network.dtype.name for part in applied}
    if len(dtypes) > 1:
        raise ValueError(f"networks that compute in {' and '.join(sorted(dtypes))} cannot be asked about together")
    with tf.init_scope():
        builder = Builder(applied[0].network.dtype)
        builder.layer, builder.kind = "joint", "Joint"
        builder.joins_networks()
        vector = builder.input((size,), "points")
        logits: list[Tensor] = []
        for number, part in enumerate(applied):
            pieces = [_piece(builder, vector, source, applied[:number], logits) for source in part.sources]
            logits.append(_inlined(builder, part.network, builder.concatenate(pieces, 0), number))
        each = list(zip(applied, logits, strict=True))
        answers = [_answer(builder, part, value) if part.softmax else value for part, value in each]
        outputs = [builder.reshape(answer, (math.prod(answer.shape),)) for answer in answers]
        if len(shown):
            outputs.append(builder.index(vector, _places(shown, size), part="shown"))
        network, _ = builder.network(builder.concatenate(outputs, 0, part="outputs"))
    weights = dict.fromkeys([*network.weights, *(read for part in applied for read in part.network.weights)])
    notes = dict.fromkeys(note for part in applied if not part.softmax for note in part.network.notes)
    peeled = any(part.network.peeled and not part.softmax for part in applied)
    sizes = tuple(part.outputs for part in applied)
    whole = replace(network, notes=tuple(notes), weights=tuple(weights), peeled=peeled, applied=sizes)
    precomputed = next((part.network.precomputed for part in applied if part.network.precomputed), "")
    whole = replace(whole, precomputed=whole.precomputed or precomputed)
    return whole.rounded(applied[0].network.rounding)


def _places(source: np.ndarray | Sequence[int], size: int) -> np.ndarray:
    places = np.asarray(source, np.int64).ravel()
    if ((places < 0) | (places >= size)).any():
        raise ValueError(f"a joint network of {size} inputs has none of number {places.min()} or {places.max()}")
    return places


def _piece(
    builder: Builder, vector: Tensor, source: np.ndarray | int, before: Sequence[Applied], logits: Sequence[Tensor]
) -> Tensor:
    """What a source stands for, as a vector."""
    if not isinstance(source, int):
        return builder.index(vector, _places(source, vector.shape[0]), part="point")
    if not 0 <= source < len(before):
        raise ValueError(f"application {len(before)} reads application {source}, which is none before it")
    answer = _answer(builder, before[source], logits[source])
    return builder.reshape(answer, (math.prod(answer.shape),))


def _answer(builder: Builder, part: Applied, logits: Tensor) -> Tensor:
    """What the model of an application answers, its softmax included."""
    return builder.written_softmax(logits) if part.network.peeled else logits


def _inlined(builder: Builder, network: Network, start: Tensor, number: int) -> Tensor:
    """The output of a network, its nodes appended, where its input is the vector ``start``."""
    shape = network.input_shape
    if math.prod(shape) != start.shape[0]:
        raise ValueError(f"application {number} takes inputs of shape {shape}, and is given {start.shape[0]} numbers")
    values: list[Tensor] = []
    for node in network.nodes:
        whole = isinstance(node, Input)
        inputs = [values[i] for i in node.inputs]
        values.append(builder.reshape(start, shape) if whole else builder.adopt(node, inputs))
    return values[network.output]
