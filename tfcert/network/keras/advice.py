"""Advice about layers and functions that are not supported: the nearest that is, and the way out."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

import keras

from tfcert.network.keras.reasons import EMBEDS, reason


def of_another_type(model: str, dtypes: Sequence[str], shape: tuple[int | None, ...], readers: Iterable[type]) -> str:
    """The sentence that refuses inputs that are no floating-point numbers, given the layers of the model."""
    takes = f"model {model!r} takes {' and '.join(dtypes)} inputs"
    if keras.layers.Embedding in readers:
        return f"{takes}, and has an Embedding: {EMBEDS}"
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
    parts = [reason(kind, is_layer)]
    if bases:
        parts = [f"it derives from {bases[0]}, but a subclass may compute anything"]
    elif not parts[0]:
        parts = [nearest(kind.__name__, (k.__name__ for k in known if issubclass(k, keras.layers.Layer) == is_layer))]
    if is_layer and getattr(keras.layers, kind.__name__, None) is not kind:
        parts.append(
            "write what its call does with keras.ops in a functional model, or teach tfcert the class: "
            f"tfcert.register_layer({kind.__name__}, lambda layer, builder, inputs: builder.activation(inputs[0], "
            "'relu')) says that it is a ReLU, and help(tfcert.register_layer) shows one with weights"
        )
    elif is_layer:
        parts.append("tfcert.register_layer teaches it a layer, and docs/layers.md lists those that it knows")
    else:
        parts.append(
            "docs/layers.md lists the operations that are; a function of single numbers can be registered with "
            "tfcert.register_activation, anything else as a layer with tfcert.register_layer"
        )
    return "is not supported; " + "; ".join(part for part in parts if part)
