"""The networks that CNN-Cert (Boopathy et al. 2019) and DeepCert (Wu and Zhang 2021), which extends it, ask about.

All take ``p / 255 - 0.5`` of pixels p, channels last, and end in logits. An n-layer pure CNN has n - 1 convolutions
(3 x 3, no padding, stride 1), each followed by an activation, and a dense layer. The papers give sizes in hidden nodes:
the values that enter an activation. The eight-layer network's 14570 counts the ten logits too, the others do not.
CNN-Cert's networks for one data set are built alike; where a paper leaves a layout open, it is that of networks its
authors published, and LeNet-5's is LeCun's (1998).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import keras
from keras import layers

from tfcert.zoo.network import ZooNetwork
from tfcert.zoo.recipe import Recipe

arctan = keras.saving.register_keras_serializable(package="tfcert", name="arctan")(keras.ops.arctan)
"""Registered, because Keras saves ``Activation(keras.ops.arctan)`` but does not read it back otherwise."""
ACTIVATIONS = {"relu": "relu", "sigmoid": "sigmoid", "tanh": "tanh", "arctan": arctan}
"""The functions that the papers train with; any network here can be built with each."""
_GAINS = {"relu": 2.0, "sigmoid": 12.0, "tanh": 1.0, "arctan": 1.0}
"""Variances of the initial weights times their fan-in: the inverse of the activation's mean squared slope, about."""
_SHAPES = {"mnist": (28, 28, 1), "cifar": (32, 32, 3), "tinyimagenet": (64, 64, 3)}
_CLASSES = {"mnist": 10, "cifar": 10, "tinyimagenet": 200}
_DATA = {"mnist": "mnist", "cifar": "cifar10", "tinyimagenet": "tiny-imagenet"}
_NOTE = "Epochs are those of the authors' program; the papers print neither these, nor optimizer, rate, batch or seed."


@dataclass(frozen=True)
class Family:
    """Networks that differ in their activation.

    Attributes:
        body: the layers before the logits, as a function of (input, activation).
        activations: what the papers train it with.
        nodes: hidden nodes.
        where: where in the papers.
        printed: the size as printed.
    """

    body: Callable[[keras.KerasTensor, str], keras.KerasTensor]
    activations: tuple[str, ...]
    nodes: int
    where: str
    printed: str = ""


def _activation(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    return layers.Activation(ACTIVATIONS[name])(x)


def _initial(activation: str) -> keras.initializers.Initializer:
    return keras.initializers.VarianceScaling(_GAINS[activation])


def _dense(x: keras.KerasTensor, units: int, activation: str) -> keras.KerasTensor:
    return _activation(layers.Dense(units, kernel_initializer=_initial(activation))(x), activation)


def _conv(x: keras.KerasTensor, filters: int, activation: str, size: int = 3, **options: object) -> keras.KerasTensor:
    return layers.Conv2D(filters, size, kernel_initializer=_initial(activation), **options)(x)


def _pure(depth: int, filters: int, normalized: bool = False, kernel: int = 3) -> Callable[..., keras.KerasTensor]:
    def body(x: keras.KerasTensor, activation: str) -> keras.KerasTensor:
        for _ in range(depth - 1):
            x = _conv(x, filters, activation, kernel)
            x = _activation(layers.BatchNormalization()(x) if normalized else x, activation)
        return layers.Flatten()(x)

    return body


def _mlp(depth: int, units: int) -> Callable[..., keras.KerasTensor]:
    def body(x: keras.KerasTensor, activation: str) -> keras.KerasTensor:
        x = layers.Flatten()(x)
        for _ in range(depth - 1):
            x = _dense(x, units, activation)
        return x

    return body


def _lenet(pooling: type[layers.Layer] | None) -> Callable[..., keras.KerasTensor]:
    def body(x: keras.KerasTensor, activation: str) -> keras.KerasTensor:
        for filters, padding in ((6, "same"), (16, "valid")):
            x = _activation(_conv(x, filters, activation, 5, padding=padding), activation)
            x = x if pooling is None else pooling(2)(x)
        return _dense(layers.Flatten()(x), 100, activation)

    return body


def _lenet5(x: keras.KerasTensor, activation: str) -> keras.KerasTensor:
    """LeNet-5 as DeepCert describes it: three convolutions, two average poolings, two dense layers."""
    for filters, padding in ((6, "same"), (16, "valid")):
        x = layers.AveragePooling2D(2)(_activation(_conv(x, filters, activation, 5, padding=padding), activation))
    x = _activation(_conv(x, 120, activation, 5), activation)
    return _dense(layers.Flatten()(x), 84, activation)


def _seven_layer(filters: int, units: int, dropout: float) -> Callable[..., keras.KerasTensor]:
    """Two convolutions of ``filters`` and two of twice as many, max pooling after each pair, three dense layers."""

    def body(x: keras.KerasTensor, activation: str) -> keras.KerasTensor:
        for width in (filters, 2 * filters):
            for _ in range(2):
                x = _activation(_conv(x, width, activation), activation)
            x = layers.MaxPooling2D(2)(x)
        x = _dense(layers.Flatten()(x), units, activation)
        return _dense(layers.Dropout(dropout)(x), units, activation)

    return body


def _resnet(blocks: int) -> Callable[..., keras.KerasTensor]:
    """Residual blocks of 8 filters (the first with stride 2 and a projection), then of 16, as many or one less."""

    def normal(x: keras.KerasTensor, filters: int, stride: int, activation: str) -> keras.KerasTensor:
        return layers.BatchNormalization()(_conv(x, filters, activation, strides=stride, padding="same"))

    def body(x: keras.KerasTensor, activation: str) -> keras.KerasTensor:
        for filters, count in ((8, blocks - blocks // 2), (16, blocks // 2)):
            for number in range(count):
                stride = 1 if number else 2
                inner = _activation(normal(x, filters, stride, activation), activation)
                shortcut = x if number else normal(x, filters, stride, activation)
                x = _activation(layers.Add()([normal(inner, filters, 1, activation), shortcut]), activation)
        return layers.Flatten()(layers.AveragePooling2D(7)(x))

    return body


_S_SHAPED = ("sigmoid", "tanh", "arctan")
_ALL = ("relu", *_S_SHAPED)
_BOTH = "CNN-Cert, table 3, and DeepCert, table 1"
_RESIDUAL = "CNN-Cert, tables 6 and 7, and DeepCert, table 1"

FAMILIES = {
    "mnist_cnn_4layer_5_3": Family(_pure(4, 5), _ALL, 8680, _BOTH, "8680"),
    "mnist_cnn_4layer_20_3": Family(_pure(4, 20), ("relu",), 34720, "CNN-Cert, table 3", "34720"),
    "mnist_cnn_5layer_5_3": Family(_pure(5, 5), ("relu",), 10680, "CNN-Cert, table 3", "10680"),
    "mnist_cnn_8layer_5_3": Family(_pure(8, 5), _ALL, 14560, "DeepCert, table 1", "14570, the ten logits counted too"),
    "cifar_cnn_5layer_5_3": Family(_pure(5, 5), _ALL, 14680, "DeepCert, table 1", "14680"),
    "cifar_cnn_7layer_5_3": Family(_pure(7, 5), ("relu",), 19100, "CNN-Cert, table 3", "19100"),
    "cifar_cnn_5layer_10_3": Family(_pure(5, 10), ("relu",), 29360, "CNN-Cert, table 3", "29360"),
    "mnist_cnn_4layer_5_3_bn": Family(_pure(4, 5, normalized=True), ("relu",), 8680, "CNN-Cert, table 5"),
    "mnist_lenet": Family(_lenet(layers.MaxPooling2D), _ALL, 6404, "CNN-Cert, tables 5 and 7"),
    "mnist_lenet_nopool": Family(_lenet(None), ("relu",), 14020, "CNN-Cert, table 5"),
    "mnist_lenet5_avg": Family(_lenet5, _S_SHAPED, 6508, "DeepCert, table 1"),
    "mnist_cnn_7layer": Family(
        _seven_layer(32, 200, 0.5), ("relu", "tanh", "arctan"), 50960, "CNN-Cert, tables 5 and 7"
    ),
    "mnist_cnn_7layer_small": Family(
        _seven_layer(8, 64, 0.5), ("relu",), 12768, "no table: the 7-layer network with a quarter of its filters"
    ),
    "mnist_resnet_2": Family(_resnet(2), ("relu", "sigmoid", "tanh"), 4704, _RESIDUAL),
    "mnist_resnet_3": Family(_resnet(3), _ALL, 7840, _RESIDUAL),
    "mnist_resnet_4": Family(_resnet(4), _ALL, 9408, _RESIDUAL),
    "mnist_resnet_5": Family(_resnet(5), _S_SHAPED, 12544, "DeepCert, table 1"),
    "mnist_2layer_fc_20": Family(_mlp(2, 20), ("relu",), 20, "CNN-Cert, table 8", "2 layers of 20 nodes"),
    "mnist_3layer_fc_20": Family(_mlp(3, 20), ("relu",), 40, "CNN-Cert, table 8", "3 layers of 20 nodes"),
    "mnist_4layer_fc_100": Family(_mlp(4, 100), ("relu", "sigmoid"), 300, "no table: a wider perceptron"),
    "tinyimagenet_cnn_7layer": Family(_seven_layer(32, 200, 0.5), ("relu",), 332_048, "CNN-Cert, table 5"),
}
"""Every family by its name; a network's name appends the activation."""

NAMES = tuple(f"{family}_{name}" for family, entry in FAMILIES.items() for name in entry.activations)
"""The networks that the papers train."""


def split(name: str) -> tuple[str, str]:
    """A network's family and activation, whether the papers train it with that or not.

    Raises:
        KeyError: there is no such network.
    """
    family, _, activation = name.rpartition("_")
    if family not in FAMILIES or activation not in ACTIVATIONS:
        raise KeyError(name)
    return family, activation


def entry(name: str) -> ZooNetwork:
    """What is kept of a network.

    Raises:
        KeyError: there is no such network.
    """
    family, activation = split(name)
    found, data = FAMILIES[family], family.partition("_")[0]

    def build(classes: int = _CLASSES[data]) -> keras.Model:
        x = keras.Input(_SHAPES[data])
        return keras.Model(x, layers.Dense(classes)(found.body(x, activation)), name=name)

    papers = tuple(p for p, told in (("cnn-cert", "CNN-Cert"), ("deepcert", "DeepCert")) if told in found.where)
    trained = activation in found.activations
    return ZooNetwork(
        name=name,
        papers=papers,
        where=found.where if trained else f"{found.where}, but not with {activation}",
        input_shape=_SHAPES[data],
        hidden_nodes=found.nodes,
        printed=found.printed,
        recipe=Recipe(data=_DATA[data], inputs=(1.0, -0.5), epochs=10, note=_NOTE),
        builder=build,
    )


def pure_cnn(convolutions: int, filters: int, classes: int = 10, *, size: int = 28, kernel: int = 3) -> keras.Model:
    """An untrained ReLU network of convolutions, without padding, on grey images.

    Args:
        size: of the images, in pixels a side; ``size > convolutions * (kernel - 1)``.
        kernel: of the filters, in pixels a side.
    """
    x = keras.Input((size, size, 1))
    return keras.Model(x, layers.Dense(classes)(_pure(convolutions + 1, filters, kernel=kernel)(x, "relu")))
