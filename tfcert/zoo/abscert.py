"""The networks that AbsCert (Zhang et al. 2023) trains on MNIST and CIFAR-10, behind an abstraction of cells.

Pixels p are in [-1, 1] (``2 p / 255 - 1``), and so are radii and the width of cells: an eps of 0.1 in [0, 1] is one of
0.2. Its ImageNet networks are in :mod:`tfcert.zoo.imagenet`.
"""

from __future__ import annotations

from typing import Any

import keras

from tfcert.layers import IntervalAbstraction
from tfcert.zoo.constrained_ibp import SIZES, dm_hidden_nodes, dm_network
from tfcert.zoo.network import ZooNetwork
from tfcert.zoo.recipe import Recipe

RANGE = (-1.0, 1.0)
FULLY_CONNECTED = {"fc3": (100, 100, 100), "fc5": (100, 100, 100, 100, 100)}
"""Hidden layers; the paper gives their number, not their widths, which are this package's."""
_SHAPES = {"mnist": (28, 28, 1), "cifar10": (32, 32, 3)}
_GRANULARITY = {"mnist": 0.2, "cifar10": 16 / 255}
"""The narrowest cells of the paper's tables."""
_BOTH = [(f"dm_{size}", "relu") for size in SIZES]
_BOTH += [(net, curve) for net in ("fc3", "fc5", "dm_small") for curve in ("sigmoid", "tanh")] + [("dm_medium", "tanh")]
NAMES = tuple(f"abscert_{data}_{net}_{activation}" for data in _SHAPES for net, activation in _BOTH)
_NOTE = (
    "The paper prints 30 epochs for CIFAR-10 (section 5.2) and none for MNIST, and neither the peak of the rate nor "
    "the length of the warm-up (here a tenth); choose a peak, such as training(steps, rate=1e-3)."
)


def cell_network(
    net: str,
    shape: tuple[int, ...],
    granularity: float,
    *,
    activation: str = "relu",
    value_range: tuple[float, float] = RANGE,
) -> keras.Model:
    """An untrained network behind an abstraction.

    Args:
        net: ``fc3``, ``fc5``, ``dm_small``, ``dm_medium`` or ``dm_large``.
        shape: of an image, channels last.
        granularity: the width of a cell in the units of ``value_range``; AbsCert's is at least twice the radius.
    """
    first = [IntervalAbstraction(granularity, value_range)]
    if net.startswith("dm_"):
        return dm_network(net.removeprefix("dm_"), shape, first=first, activation=activation)
    return perceptron(FULLY_CONNECTED[net], shape, first=first, activation=activation, name=net)


def perceptron(
    hidden: tuple[int, ...],
    shape: tuple[int, ...],
    *,
    first: list[keras.layers.Layer],
    activation: str,
    name: str,
) -> keras.Model:
    """A fully connected network with ten logits, behind ``first`` layers."""
    layers: list[Any] = [keras.Input(shape), *first, keras.layers.Flatten()]
    layers += [keras.layers.Dense(n, activation=activation) for n in hidden]
    return keras.Sequential([*layers, keras.layers.Dense(10)], name=name)


def entry(name: str) -> ZooNetwork:
    """What is kept of a network.

    Raises:
        KeyError: there is no such network.
    """
    if name not in NAMES:
        raise KeyError(name)
    _, data, net, activation = name.replace("dm_", "dm-").split("_")
    net, shape = net.replace("-", "_"), _SHAPES[data]

    def build(granularity: float = _GRANULARITY[data], value_range: tuple[float, float] = RANGE) -> keras.Model:
        return cell_network(net, shape, granularity, activation=activation, value_range=value_range)

    fully = net in FULLY_CONNECTED
    recipe = Recipe(
        data=data, inputs=(2.0, -1.0), batch=128, optimizer="adam", cosine=True, warm_up=0.1, note=_NOTE,
        epochs=30 if data == "cifar10" else None,
    )  # fmt: skip
    return ZooNetwork(
        name=name,
        papers=("abscert",),
        where=f"AbsCert, {'tables 1 and 2' if activation == 'relu' else 'table 4'}, behind an abstraction of cells",
        input_shape=shape,
        hidden_nodes=sum(FULLY_CONNECTED[net]) if fully else dm_hidden_nodes(net.removeprefix("dm_"), shape),
        printed=f"{net[-1]} layers" if fully else "",
        recipe=recipe,
        builder=build,
    )
