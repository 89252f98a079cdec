"""Small models, saved as Keras saves them, and claims about them, for tests of the checker."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

from tfcert.proof.check import Claim, claim_of
from tfcert.proof.graph import Affine, Bent, Beside, Entry, Graph, Largest, Total
from tfcert.proof.model import read_model

HEAD: dict[str, Any] = {
    "format": "tfcert certificate",
    "version": 1,
    "claim": {"property": "p", "sample": 0},
    "bounds": {"neurons": "lines", "rows": "lines"},
}


def dense(sizes: tuple[int, ...] = (3, 5, 4, 3), activation: str = "relu", **last: Any) -> keras.Model:
    hidden = [layers.Dense(n, activation=activation) for n in sizes[1:-1]]
    return scattered(keras.Sequential([keras.Input(sizes[:1]), *hidden, layers.Dense(sizes[-1], **last)]))


def image() -> keras.Model:
    """Every kind of layer that the checker knows, but those of :func:`flat`."""
    x = start = keras.Input((6, 6, 2))
    x = layers.Conv2D(3, 3, padding="same", strides=2)(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    y = layers.Conv2D(3, 1, activation="leaky_relu")(x)
    x = layers.MaxPooling2D(2, padding="same")(layers.Add()([x, y]))
    x = layers.DepthwiseConv2D(2, activation="relu6")(layers.ZeroPadding2D(((1, 0), (0, 2)))(x))
    x = layers.AveragePooling2D(2, strides=1, padding="same")(x)
    x = layers.Concatenate()([layers.Flatten()(x), layers.GlobalAveragePooling2D()(x)])
    return scattered(keras.Model(start, layers.Dense(3, activation="softmax")(x)))


def flat() -> keras.Model:
    stack = [layers.Rescaling(1 / 3, -0.1), layers.Reshape((4,)), layers.Dropout(0.3), layers.Dense(4)]
    stack += [layers.LeakyReLU(0.3), layers.Dense(4, use_bias=False), layers.ReLU(max_value=0.5), layers.Dense(3)]
    stack += [layers.Activation("relu"), layers.Dense(3), layers.Softmax()]
    return scattered(keras.Sequential([keras.Input((2, 2, 1)), *stack]))


def curved() -> keras.Model:
    """Curves, which no straight pieces make up."""
    names = ("tanh", "sigmoid", "gelu", "softplus", "hard_silu", "selu")
    hidden = [layers.Dense(4, activation=name) for name in names]
    return scattered(keras.Sequential([keras.Input((3,)), *hidden, layers.ELU(0.5), layers.Dense(3)]))


def scattered(model: keras.Model) -> keras.Model:
    """The model with weights drawn anew, variances positive."""
    rng = np.random.default_rng(0)
    for layer in model.layers:
        parts = [rng.normal(0, 0.7, w.shape).astype(w.dtype) for w in layer.get_weights()]
        if isinstance(layer, layers.BatchNormalization):
            parts[-1] = np.abs(parts[-1]) + 0.1
        layer.set_weights(parts)
    return model


def saved(model: keras.Model, folder: Path, name: str = "model.keras") -> tuple[Path, Graph]:
    path = folder / name
    model.save(path)
    return path, read_model(path)


def claim(graph: Graph, center: np.ndarray, eps: str, rows: Any, **more: Any) -> Claim:
    """That all rows ``(C, d)`` are positive on a ball; ``more`` are arrays, and ``norm``, ``clip`` and ``bounds``."""
    coefficients, offsets = (np.asarray(part, np.float64) for part in rows)
    clip, bounds = more.pop("clip", None), more.pop("bounds", HEAD["bounds"])
    head = HEAD | {
        "model": {"digest": graph.digest},
        "region": {"kind": "ball", "norm": more.pop("norm", "linf"), "eps": eps},
        "bounds": bounds,
    }
    arrays = {"rows/C": coefficients, "rows/d": offsets, "rows/clause": np.arange(len(offsets))}
    arrays |= {"region/center": center, **more}
    if clip is not None:
        arrays |= {"region/low": np.array([clip[0]], np.float64), "region/high": np.array([clip[1]], np.float64)}
    return claim_of(head, arrays)


def values(graph: Graph, x: np.ndarray) -> np.ndarray:
    """The output of the last place at inputs ``[count, *input]``, in float64."""
    found: list[np.ndarray] = []
    for place in graph.places:
        here = [found[i] for i in place.inputs]
        match place:
            case Entry():
                value = x.astype(np.float64)
            case Affine():
                value = place.map.forward(here[0]) + place.bias
            case Bent():
                value = place.function.of(here[0])
            case Largest():
                image = place.windows.pad(here[0], -np.inf)
                value = np.max([image[place.windows.at(p)] for p in place.windows.places], axis=0)
            case Total():
                value = np.sum(here, axis=0)
            case Beside():
                value = np.concatenate(here, axis=-1)
            case _:
                raise TypeError(type(place).__name__)
        found.append(value)
    return found[-1]
