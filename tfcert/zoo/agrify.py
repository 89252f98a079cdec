"""The six fully connected networks of Agrify (table II), on MNIST and Fashion-MNIST.

Inputs are in [0, 1], images of one channel, which the network flattens; the radius is 15/255. FNN4 was trained by
semidefinite relaxations by others; its layers are here, that training is not.
"""

from __future__ import annotations

from typing import Any

import keras

from tfcert.zoo.network import ZooNetwork
from tfcert.zoo.recipe import Recipe

LAYERS = {
    "fnn1": (784, 24, 24, 10),
    "fnn2": (784, 40, 20, 10),
    "fnn3": (784, 512, 512, 10),
    "fnn4": (784, 500, 10),
    "fnn5": (784, 24, 24, 10),
    "fnn6": (784, 40, 20, 10),
}
"""Neurons, inputs and logits included."""
DATA = {name: "fashion_mnist" if name in ("fnn5", "fnn6") else "mnist" for name in LAYERS}
_NOTE = "The paper prints no recipe: it takes FNN1 to FNN4 from other papers and trained FNN5 and FNN6 itself."
NAMES = tuple(LAYERS)


def entry(name: str) -> ZooNetwork:
    """What is kept of a network.

    Raises:
        KeyError: there is no such network.
    """
    widths = LAYERS[name]

    def build() -> keras.Model:
        layers: list[Any] = [keras.Input((28, 28, 1)), keras.layers.Flatten()]
        layers += [keras.layers.Dense(width, activation="relu") for width in widths[1:-1]]
        return keras.Sequential([*layers, keras.layers.Dense(widths[-1])], name=name)

    return ZooNetwork(
        name=name,
        papers=("agrify",),
        where=f"Agrify, tables {'I to III' if DATA[name] == 'mnist' else 'II, IV and V'} ({name.upper()})",
        input_shape=(28, 28, 1),
        hidden_nodes=sum(widths[1:-1]),
        printed=str(sum(widths[1:-1])),
        recipe=Recipe(data=DATA[name], note=_NOTE),
        builder=build,
    )
