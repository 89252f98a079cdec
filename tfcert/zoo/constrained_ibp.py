"""The networks of Gowal et al. 2018 (table 2), which constrained IBP (Morawiecki et al. 2020, table 1) takes over.

Inputs are in [0, 1]. The schedules are those of Gowal et al. in steps: plain training, then a ramp of eps and kappa.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from tfcert.zoo.network import ZooNetwork
from tfcert.zoo.recipe import Recipe

SIZES = ("small", "medium", "large")
_CONVOLUTIONS = {
    "small": ((16, 4, 2), (32, 4, 1)),
    "medium": ((32, 3, 1), (32, 4, 2), (64, 3, 1), (64, 4, 2)),
    "large": ((64, 3, 1), (64, 3, 1), (128, 3, 2), (128, 3, 1), (128, 3, 1)),
}
"""Filters, size and stride."""
_PADDING = {"small": "valid", "medium": "valid", "large": "same"}
"""Not printed; with these the networks have the 8.3, 47 and 230 thousand hidden units of Gowal et al. on CIFAR-10."""
_DENSE = {"small": (100,), "medium": (512, 512), "large": (200,)}
_NODES: dict[tuple[int, ...], dict[str, int]] = {
    (28, 28, 1): {"small": 6_004, "medium": 34_688, "large": 175_816},
    (32, 32, 3): {"small": 8_308, "medium": 46_912, "large": 229_576},
}
_PRINTED = {"small": "8.3 thousand", "medium": "47 thousand", "large": "230 thousand"}
_PICTURES: dict[str, Any] = {
    "eps": 8 / 255, "batch": 50, "optimizer": "adam", "rate": 1e-3, "plain": 5_000, "ramp": 150_000,
    "drops": (200_000, 250_000, 300_000), "kappa": 0.5, "augment": "random translations and flips", "normalize": True,
}  # fmt: skip
RECIPES = {
    "mnist": Recipe(
        data="mnist", eps=0.4, epochs=100, batch=100, optimizer="adam", rate=1e-3, plain=2_000, ramp=10_000,
        drops=(15_000, 25_000), kappa=0.5,
    ),
    "cifar10": Recipe(data="cifar10", epochs=350, **_PICTURES),
    "svhn": Recipe(
        data="svhn", epochs=240, **_PICTURES, note="240 epochs of SVHN are as many steps as 350 of CIFAR-10."
    ),
}  # fmt: skip
"""By data set; one for the three sizes."""
_SHAPES: dict[str, tuple[int, ...]] = {"mnist": (28, 28, 1), "cifar10": (32, 32, 3), "svhn": (32, 32, 3)}
NAMES = tuple(f"{data}_dm_{size}" for data in RECIPES for size in SIZES)


def dm_network(
    size: str,
    shape: tuple[int, ...],
    *,
    first: Sequence[keras.layers.Layer] = (),
    activation: str = "relu",
    classes: int = 10,
) -> keras.Model:
    """The network, untrained; ``first`` layers (normalisation, an abstraction) come before it.

    Args:
        size: ``small``, ``medium`` or ``large``.
        shape: of an image, channels last.
    """
    layers: list[Any] = [keras.Input(shape), *first]
    layers += [keras.layers.Conv2D(n, k, s, _PADDING[size], activation=activation) for n, k, s in _CONVOLUTIONS[size]]
    layers.append(keras.layers.Flatten())
    layers += [keras.layers.Dense(n, activation=activation) for n in _DENSE[size]]
    return keras.Sequential([*layers, keras.layers.Dense(classes)], name=f"dm_{size}")


def dm_hidden_nodes(size: str, shape: tuple[int, ...]) -> int:
    """Hidden nodes of a network for images of 28 x 28 x 1 or 32 x 32 x 3."""
    return _NODES[shape][size]


def entry(name: str) -> ZooNetwork:
    """What is kept of a network.

    Raises:
        KeyError: there is no such network.
    """
    data, _, size = name.rpartition("_dm_")
    shape, recipe = _SHAPES[data], RECIPES[data]

    def build(activation: str = "relu", first: Sequence[keras.layers.Layer] = ()) -> keras.Model:
        return dm_network(size, shape, first=first, activation=activation)

    return ZooNetwork(
        name=name,
        papers=("constrained-ibp",),
        where="constrained IBP, table 1, figures 3 to 7 and table 2",
        input_shape=shape,
        hidden_nodes=dm_hidden_nodes(size, shape),
        printed=f"about {_PRINTED[size]}, by Gowal et al." if data == "cifar10" else "",
        recipe=recipe,
        builder=build,
    )
