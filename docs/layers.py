"""Writes ``docs/layers.md``, the table of Keras's layers and operations, from the code: ``python docs/layers.py``.

What is said of a layer is seen by building one and converting it: the kinds of its nodes are how it is bounded, and the
refusals are those that its converter can raise. A layer that needs more than its class has a line in ``EXAMPLES``.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from tfcert.network import Builder, UnsupportedLayerError, from_keras
from tfcert.network.graph import Add, Concatenate, Elementwise, Input, Linear, MaxPool, Network
from tfcert.network.keras.fixed import SHAPED
from tfcert.network.keras.graph import CONVERTERS
from tfcert.network.keras.reasons import reason

PAGE = Path(__file__).with_name("layers.md")
L = keras.layers
VECTOR, SEQUENCE, IMAGE, COLOUR, VOLUME = (4,), (6, 4), (6, 6, 4), (6, 6, 3), (4, 4, 4, 2)


@dataclass(frozen=True)
class Example:
    """A layer to build: its arguments, and the shapes of its inputs."""

    arguments: tuple[Any, ...] = ()
    options: tuple[tuple[str, Any], ...] = ()
    shapes: tuple[tuple[int, ...], ...] = (VECTOR,)


def example(*arguments: Any, shapes: Any = (VECTOR,), **options: Any) -> Example:
    return Example(arguments, tuple(options.items()), tuple(shapes))


TWO = (VECTOR, VECTOR)
EXAMPLES: dict[str, Example] = {
    "Activation": example("sigmoid"),
    "Add": example(shapes=TWO),
    "AdditiveAttention": example(shapes=(SEQUENCE, SEQUENCE)),
    "Attention": example(shapes=(SEQUENCE, SEQUENCE)),
    "Average": example(shapes=TWO),
    "Bidirectional": example(L.LSTM(2), shapes=(SEQUENCE,)),
    "CategoryEncoding": example(3),
    "CenterCrop": example(2, 2, shapes=(IMAGE,)),
    "Concatenate": example(shapes=TWO),
    "Cropping1D": example(1, shapes=(SEQUENCE,)),
    "Cropping2D": example(1, shapes=(IMAGE,)),
    "Cropping3D": example(1, shapes=(VOLUME,)),
    "Dense": example(2),
    "Discretization": example(bin_boundaries=[0.0, 1.0]),
    "Dot": example(1, shapes=TWO),
    "Dropout": example(0.5),
    "EinsumDense": example("...x,xy->...y", 2),
    "Embedding": example(5, 2),
    "Flatten": example(shapes=(IMAGE,)),
    "GaussianNoise": example(0.5),
    "GRU": example(2, shapes=(SEQUENCE,)),
    "GroupNormalization": example(2, shapes=(IMAGE,)),
    "GroupQueryAttention": example(2, 2, 1, shapes=(SEQUENCE, SEQUENCE)),
    "HashedCrossing": example(3, shapes=TWO),
    "Hashing": example(3),
    "LSTM": example(2, shapes=(SEQUENCE,)),
    "Maximum": example(shapes=TWO),
    "MaxNumBoundingBoxes": example(3, shapes=(IMAGE,)),
    "Minimum": example(shapes=TWO),
    "MultiHeadAttention": example(2, 2, shapes=(SEQUENCE, SEQUENCE)),
    "Multiply": example(shapes=TWO),
    "Normalization": example(mean=1.0, variance=2.0),
    "Permute": example((2, 1), shapes=(SEQUENCE,)),
    "Pipeline": example([L.Identity()]),
    "RNN": example(L.LSTMCell(2), shapes=(SEQUENCE,)),
    "RandomCrop": example(6, 6, shapes=(COLOUR,)),
    "RandomPosterization": example(4, shapes=(COLOUR,)),
    "RandomTranslation": example(0.1, 0.1, shapes=(COLOUR,)),
    "RandomZoom": example(0.1, shapes=(COLOUR,)),
    "RepeatVector": example(2),
    "Rescaling": example(2.0),
    "Reshape": example((2, 2)),
    "Resizing": example(3, 3, shapes=(IMAGE,)),
    "SimpleRNN": example(2, shapes=(SEQUENCE,)),
    "Softmax": example(axis=1, shapes=(SEQUENCE,)),
    "SpectralNormalization": example(L.Dense(2)),
    "Subtract": example(shapes=TWO),
    "TimeDistributed": example(L.Dense(2), shapes=(SEQUENCE,)),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "Conv": {"filters": 2, "kernel_size": 2},
    "Convolution": {"filters": 2, "kernel_size": 2},
    "Separable": {"filters": 2, "kernel_size": 2},
    "Depthwise": {"kernel_size": 2},
    "ConvLSTM": {"filters": 2, "kernel_size": 2},
    "Adaptive": {"output_size": 2},
    "Average": {"pool_size": 2},
    "Max": {"pool_size": 2},
    "Random": {"factor": 0.1},
    "SpatialDropout": {"rate": 0.5},
    "Alpha": {"rate": 0.5},
    "Gaussian": {"rate": 0.5},
}
"""Arguments of families, by how their names begin."""
RANKS = {"1D": SEQUENCE, "2D": IMAGE, "3D": VOLUME}


def classes() -> dict[str, type]:
    """Every public class of ``keras.layers``, by its name; second names of one class left out."""
    kinds = {kind: kind.__name__ for name in dir(L) if isinstance(kind := getattr(L, name), type)}
    public = {
        kind: name if hasattr(L, name) else min(n for n in dir(L) if getattr(L, n) is kind)
        for kind, name in kinds.items()
    }
    return {name: kind for kind, name in sorted(public.items(), key=lambda item: item[1])}


def operation_classes() -> dict[str, type]:
    """Every class of operations of ``keras.ops``, by its name."""
    modules = [import_module(f"keras.src.ops.{name}") for name in ("numpy", "nn", "core", "math", "linalg", "image")]
    return {
        name: kind
        for module in modules
        for name, kind in sorted(vars(module).items())
        if isinstance(kind, type) and issubclass(kind, keras.Operation) and kind.__module__ == module.__name__
    }


def built(name: str) -> tuple[Any, list[tuple[int, ...]]]:
    """A layer of a class, and the shapes that it is called on."""
    if name in EXAMPLES:
        given = EXAMPLES[name]
        return getattr(L, name)(*given.arguments, **dict(given.options)), list(given.shapes)
    shape = next((shape for digits, shape in RANKS.items() if digits in name), VECTOR)
    kind = getattr(L, name)
    takes = inspect.signature(kind.__init__).parameters
    begins = max((start for start in OPTIONS if name.startswith(start)), key=len, default="")
    options = {key: value for key, value in OPTIONS.get(begins, {}).items() if key in takes}
    if kind.__module__.startswith("keras.src.layers.preprocessing.image"):
        shape = COLOUR
    return kind(**options), [shape]


def converted(name: str) -> Network:
    """The network of a model of one layer.

    Raises:
        UnsupportedLayerError: it is refused.
    """
    layer, shapes = built(name)
    inputs = [keras.Input(shape) for shape in shapes]
    apart = "query" in inspect.signature(layer.call).parameters
    outputs = layer(*inputs) if apart else layer(inputs if len(inputs) > 1 else inputs[0])
    if outputs is inputs[0]:  # Keras loses the layer
        builder = Builder(tf.float32)
        with builder.scope(layer.name, name):
            CONVERTERS[type(layer)](layer, builder, [])
    return from_keras(keras.Model(inputs, outputs))


def how(network: Network) -> str:
    """How a network of this kind is bounded."""
    nodes = [node for node in network.nodes if not isinstance(node, Input | Linear | Add | Concatenate)]
    if network.peeled:
        return "at the end of a model, exactly: the logits decide"
    if not nodes:
        computes = any(isinstance(node, Linear) and not node.map.moves for node in network.nodes)
        return "exactly: " + ("affine" if computes else "moves numbers" if network.nodes[1:] else "the identity")
    functions = [node.activation for node in nodes if isinstance(node, Elementwise)]
    said = []
    if any(isinstance(node, MaxPool) for node in nodes) or any(f.kinks is not None for f in functions):
        said.append("straight pieces: planes; exactly by `milp` and `split`")
    curves = sorted({function.name for function in functions if function.kinks is None})
    if curves:
        said.append(f"tight lines ({', '.join(curves)})")
    others = sorted({type(node).__name__ for node in nodes} - {"Elementwise", "MaxPool"})
    return "; ".join([*said, *(f"planes over {KINDS.get(kind, kind)}" for kind in others)])


KINDS = {"LogOdds": "the softmax", "Normalized": "normalised numbers", "Product": "products"}
"""Nodes of several arguments, in words."""


def refusals(convert: Callable[..., Any]) -> list[str]:
    """The sentences with which a converter, and the functions beside it that it calls, refuse an option."""
    found: dict[str, None] = {}
    for function in (convert, *_called(convert)):
        for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(function)))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".refuse") and node.args:
                found[_text(node.args[0])] = None
    return [text for text in found if text]


def _called(convert: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    for name in convert.__code__.co_names:
        function = convert.__globals__.get(name)
        if inspect.isfunction(function) and function.__module__ == convert.__module__:
            yield function


def _text(node: ast.expr) -> str:
    """A string as it is written, with dots for what is filled in."""
    match node:
        case ast.Constant(str(text)):
            return text
        case ast.JoinedStr(values):
            return "".join(_text(value) for value in values)
        case ast.FormattedValue():
            return "..."
    return ""


def rows() -> Iterator[tuple[str, str, str]]:
    """Of each layer its name, how it is bounded, and what is refused."""
    for name, kind in classes().items():
        if not issubclass(kind, L.Layer) or kind is L.InputLayer:
            continue
        if kind not in CONVERTERS:
            yield name, "refused", reason(kind, True)
            continue
        try:
            yield name, how(converted(name)), "; ".join(refusals(CONVERTERS[kind]))
        except UnsupportedLayerError as error:  # its converter knows it in order to say why not
            yield name, "refused", str(error).partition(") ")[2]


def page() -> str:
    """The whole document."""
    lines = [HEAD, "| layer | bounded | refused, and why |", "|---|---|---|"]
    lines += [f"| `{name}` | {bounded} | {said} |" for name, bounded, said in rows()]
    operations, supported = operation_classes(), {*CONVERTERS, *SHAPED}
    known = sorted(f"`{name}`" for name, kind in operations.items() if kind in supported)
    lines += ["", OPERATIONS_HEAD, ", ".join(known) + ".", "", "| refused | why, and what to do |", "|---|---|"]
    refused: dict[str, list[str]] = {}
    for name, kind in sorted(operations.items()):
        if kind not in supported:
            refused.setdefault(reason(kind, False), []).append(f"`{name}`")
    lines += [f"| {', '.join(names)} | {why} |" for why, names in sorted(refused.items(), key=lambda item: item[1])]
    return "\n".join(lines) + "\n"


HEAD = """# Keras's layers and operations

Every layer of Keras, how tfcert bounds it, and what it refuses; `python docs/layers.py` writes this page from the code.
Layers that take an `activation` are shown without; it is bounded like the layer `Activation` with its name. Every
network is compared with its model when it is loaded. "Exactly" is of the layer by itself: what numbers share between
layers is what backward passes keep track of.

A layer of your own is refused by its name until `tfcert.register_layer` says what it computes.
"""
OPERATIONS_HEAD = """## Operations

Of `keras.ops`, and the operators that stand for them, these are converted, where their arguments are tensors of the
model and constants:
"""


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
