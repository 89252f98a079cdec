"""Token ids: what is perturbed is their embeddings, so a model is cut behind these."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers

from tfcert.network.errors import UnsupportedLayerError
from tfcert.network.keras.private import calls, functional_graph, operation_of

_SAME = 1e-4
"""How far a cut model may be from the whole, relative to its outputs: both are Keras's own."""


def embedded(model: keras.Model, tokens: Any, *, after: str | None = None) -> tuple[keras.Model, np.ndarray]:
    """The part of a model behind its embeddings, and the embeddings of some tokens.

    A ball around token ids has no meaning; one around their embeddings has: the model that is returned takes these
    (its weights are the same variables), so that ``tfcert.certify(tail, points, y, eps=...)`` and everything else
    asks about them.

    Args:
        model: a Sequential or functional model of token ids ``[batch, ...]``.
        tokens: ids ``[samples, ...]``.
        after: the layer or operation behind which to cut; by default the model's only ``Embedding``. Name a later one
            (the sum with embeddings of positions, a layer of your own that makes both) to perturb what it returns.

    Returns:
        The model from there on, and its inputs ``[samples, ...]``, one for each of ``tokens``.

    Raises:
        ValueError: there is no such layer, or not a single ``Embedding``; names those that there are.
        UnsupportedLayerError: outputs depend on tokens by another way than through that layer: by another layer, or by
            the mask of an ``Embedding(mask_zero=True)`` for samples that hold the token 0.
    """
    model, tokens = getattr(model, "plain_model", model), np.asarray(tokens)
    graph, cut = _cut(model, after)
    for call in calls(graph):
        if getattr(call.operation, "mask_zero", False) and not tokens.all():
            sample = int(np.argwhere(tokens == 0)[0][0])
            raise UnsupportedLayerError(
                f"layer {call.operation.name!r} (Embedding) masks the token 0, which sample {sample} holds, so what "
                "its model computes depends on more than embeddings; ask about samples of one length without it"
            )
    try:
        tail = keras.Model(cut, graph.outputs, name=f"{model.name}_embedded")
    except ValueError as error:
        raise UnsupportedLayerError(
            f"the outputs of model {model.name!r} depend on its tokens by another way than through layer "
            f"{operation_of(cut).name!r}, its mask perhaps; name one behind which all comes together, as after=..."
        ) from error
    points = encoder_of(graph, cut)(tokens).numpy()
    whole, rest = (np.asarray(keras.tree.flatten(found)[0]) for found in (model(tokens), tail(points)))
    if not np.allclose(whole, rest, rtol=_SAME, atol=_SAME * np.abs(whole).max(initial=0.0)):
        raise UnsupportedLayerError(
            f"model {model.name!r} computes something else than its part behind layer {operation_of(cut).name!r}: a "
            "mask of its tokens, say; cut it behind a later layer, by after=..."
        )
    return tail, points


def _cut(model: keras.Model, after: str | None) -> tuple[Any, Any]:
    """The graph of a model, and the tensor at which it is cut."""
    graph = functional_graph(model)
    if graph is None:
        raise UnsupportedLayerError(f"{type(model).__name__} is no Sequential or functional model that is built")
    if len(graph.inputs) != 1:
        raise UnsupportedLayerError(
            f"model {model.name!r} has {len(graph.inputs)} inputs; one array of tokens is supported: build a model of "
            "it, with the other inputs constant"
        )
    every = [call for call in calls(graph) if len(call.outputs) == 1]
    if after is None:
        found = [call for call in every if isinstance(call.operation, layers.Embedding)]
        others = [call.operation.name for call in found] or [call.operation.name for call in every]
    else:
        found = [call for call in every if call.operation.name == after]
        others = [call.operation.name for call in every]
    if len(found) != 1:
        wanted = "Embedding" if after is None else f"layer {after!r}"
        raise ValueError(
            f"model {model.name!r} has {len(found) or 'no'} calls of {wanted}; name the layer behind which embeddings "
            f"are complete, as after=...: {', '.join(others)}"
        )
    return graph, found[0].outputs[0]


def encoder_of(graph: Any, cut: Any) -> keras.Model:
    """The model from tokens to where a graph is cut."""
    (ids,) = graph.inputs
    return keras.Model(ids, cut, name="encoder")


def encoder(model: keras.Model, after: str | None) -> keras.Model:
    """The first part of a model, which :func:`embedded` leaves out."""
    return encoder_of(*_cut(getattr(model, "plain_model", model), after))
