"""Advice about layers and functions that are not supported: the nearest that is, and the way out."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

import keras

_NORMALISES = (
    "it divides by a statistic of its own input, which is not linear; BatchNormalization, which divides by a trained "
    "one, is supported"
)
_RECURS = "it is recurrent; write its steps out with layers that are supported, or export the model with them unrolled"
_EMBEDS = (
    "it reads token ids, whole numbers of which there is no ball; tfcert.embedded(model, tokens) cuts a model behind "
    "its embeddings, which may be perturbed, and tfcert.substitutions encloses those of words that may be replaced"
)
_JUMPS = "what is chosen by it jumps; write choices between numbers with maximum, minimum, relu, clip or sign"
_REASONS = {
    "LayerNormalization": _NORMALISES,
    "RMSNormalization": _NORMALISES,
    "GroupNormalization": _NORMALISES,
    "UnitNormalization": _NORMALISES,
    "LSTM": _RECURS,
    "GRU": _RECURS,
    "SimpleRNN": _RECURS,
    "RNN": _RECURS,
    "Bidirectional": _RECURS,
    "TimeDistributed": "leave it out around Dense and activations, which act on every step by themselves",
    "Embedding": _EMBEDS,
    "Lambda": "its code cannot be read; call keras.ops on the tensors of a functional model (y = keras.ops.square(x) "
    "in place of Lambda(keras.ops.square)(x)), name the function in Activation(...) where it acts on single numbers, "
    "or write it as a layer for tfcert.register_layer",
} | dict.fromkeys(("Greater", "GreaterEqual", "Less", "LessEqual", "Equal", "NotEqual"), _JUMPS)


def of_another_type(model: str, dtypes: Sequence[str], shape: tuple[int | None, ...], readers: Iterable[type]) -> str:
    """The sentence that refuses inputs that are no floating-point numbers, given the layers of the model."""
    takes = f"model {model!r} takes {' and '.join(dtypes)} inputs"
    if keras.layers.Embedding in readers:
        return f"{takes}, and has an Embedding: {_EMBEDS}"
    return (
        f"{takes}; bounds are computed in float32 or float64, so declare the input as "
        f'such, e.g. keras.Input({shape}, dtype="float32")'
    )


def nearest(name: str, known: Iterable[str], cutoff: float = 0.5) -> str:
    """``"the nearest that are supported: X, Y"``, or "" where nothing is near."""
    close = difflib.get_close_matches(name, sorted(set(known)), n=3, cutoff=cutoff)
    return f"the nearest that {'is' if len(close) == 1 else 'are'} supported: {', '.join(close)}" if close else ""


def unsupported(kind: type, known: Iterable[type]) -> str:
    """The rest of the sentence that refuses a class of layers or operations, given those that are supported."""
    known = list(known)
    is_layer = issubclass(kind, keras.layers.Layer)
    bases = [base.__name__ for base in kind.__mro__[1:] if base in known]
    parts = [_REASONS.get(kind.__name__, "")]
    if bases:
        parts = [f"it derives from {bases[0]}, but a subclass may compute anything"]
    elif not parts[0]:
        parts = [nearest(kind.__name__, (k.__name__ for k in known if issubclass(k, keras.layers.Layer) == is_layer))]
    if is_layer and kind is not keras.layers.Lambda:
        parts.append("tfcert.register_layer teaches it a layer of yours")
    elif not is_layer:
        parts.append(
            "of keras.ops sums, products, quotients, powers, reshapes, maxima and activations are; a function of "
            "single numbers can be registered with tfcert.register_activation, anything else as a layer with "
            "tfcert.register_layer"
        )
    return "is not supported; " + "; ".join(part for part in parts if part)
