"""The networks of CNN-Cert (Boopathy et al. 2019) and DeepCert (Wu and Zhang 2021), built in Keras, untrained.

All take ``x / 255 - 0.5``, channels last, and end in logits. An n-layer pure CNN has n - 1 convolutions (3 x 3, no
padding, stride 1), each followed by an activation, and a dense layer. The papers give sizes in hidden nodes: the values
that enter an activation, which ``Architecture.hidden_nodes`` records as printed. The eight-layer network's 14570 counts
the ten logits too (``counts_logits``), the others do not. Where a paper leaves a layout open, it is that of the
reference network of the same family (``reference/`` of the data), and LeNet-5's is LeCun's (1998).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import keras
from keras import layers

arctan = keras.saving.register_keras_serializable(package="tfcert_ref", name="arctan")(keras.ops.arctan)
"""Registered, because Keras saves ``Activation(keras.ops.arctan)`` but does not read it back otherwise."""

_FUNCTIONS = {"relu": "relu", "sigmoid": "sigmoid", "tanh": "tanh", "arctan": arctan}
_GAINS = {"relu": 2.0, "sigmoid": 12.0, "tanh": 1.0, "arctan": 1.0}
"""Variances of the initial weights times their fan-in: the inverse of the activation's mean squared slope, about."""
_SHAPES = {"mnist": (28, 28, 1), "cifar": (32, 32, 3)}


@dataclass(frozen=True)
class Architecture:
    """One family of networks, which differ in their activation.

    Attributes:
        body: the layers before the logits, as a function of (input, activation).
        activations: what the papers train it with.
        hidden_nodes: the paper's count, where it prints one.
        counts_logits: whether that count includes the ten logits.
    """

    body: Callable[[keras.KerasTensor, str], keras.KerasTensor]
    activations: tuple[str, ...]
    hidden_nodes: int | None = None
    counts_logits: bool = False


def _activation(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    return layers.Activation(_FUNCTIONS[name])(x)


def _initial(activation: str) -> keras.initializers.Initializer:
    return keras.initializers.VarianceScaling(_GAINS[activation])


def _dense(x: keras.KerasTensor, units: int, activation: str) -> keras.KerasTensor:
    return _activation(layers.Dense(units, kernel_initializer=_initial(activation))(x), activation)


def _conv(x: keras.KerasTensor, filters: int, activation: str, size: int = 3, **options: object) -> keras.KerasTensor:
    return layers.Conv2D(filters, size, kernel_initializer=_initial(activation), **options)(x)


def _pure(depth: int, filters: int, normalized: bool = False) -> Callable[..., keras.KerasTensor]:
    def body(x: keras.KerasTensor, activation: str) -> keras.KerasTensor:
        for _ in range(depth - 1):
            x = _conv(x, filters, activation)
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

ARCHITECTURES = {
    "mnist_cnn_4layer_5_3": Architecture(_pure(4, 5), _ALL, 8680),
    "mnist_cnn_4layer_20_3": Architecture(_pure(4, 20), ("relu",), 34720),
    "mnist_cnn_5layer_5_3": Architecture(_pure(5, 5), ("relu",), 10680),
    "mnist_cnn_8layer_5_3": Architecture(_pure(8, 5), _ALL, 14570, counts_logits=True),
    "cifar_cnn_5layer_5_3": Architecture(_pure(5, 5), _ALL, 14680),
    "cifar_cnn_7layer_5_3": Architecture(_pure(7, 5), ("relu",), 19100),
    "cifar_cnn_5layer_10_3": Architecture(_pure(5, 10), ("relu",), 29360),
    "mnist_cnn_4layer_5_3_bn": Architecture(_pure(4, 5, normalized=True), ("relu",)),
    "mnist_lenet": Architecture(_lenet(layers.MaxPooling2D), _ALL),
    "mnist_lenet_nopool": Architecture(_lenet(None), ("relu",)),
    "mnist_lenet5_avg": Architecture(_lenet5, _S_SHAPED),
    "mnist_cnn_7layer": Architecture(_seven_layer(32, 200, 0.5), ("relu", "tanh", "arctan")),
    "mnist_cnn_7layer_small": Architecture(_seven_layer(8, 64, 0.5), ("relu",)),
    "mnist_resnet_2": Architecture(_resnet(2), ("relu", "sigmoid", "tanh")),
    "mnist_resnet_3": Architecture(_resnet(3), _ALL),
    "mnist_resnet_4": Architecture(_resnet(4), _ALL),
    "mnist_resnet_5": Architecture(_resnet(5), _S_SHAPED),
    "mnist_2layer_fc_20": Architecture(_mlp(2, 20), ("relu",)),
    "mnist_3layer_fc_20": Architecture(_mlp(3, 20), ("relu",)),
    "mnist_4layer_fc_100": Architecture(_mlp(4, 100), ("relu", "sigmoid")),
}
"""Every family by its name; a network's name appends the activation."""

NAMES = tuple(f"{family}_{name}" for family, entry in ARCHITECTURES.items() for name in entry.activations)


def split(name: str) -> tuple[str, str]:
    """A network's family and activation.

    Raises:
        KeyError: there is no such network.
    """
    family, _, activation = name.rpartition("_")
    if activation not in ARCHITECTURES[family].activations:
        raise KeyError(name)
    return family, activation


def build(name: str) -> keras.Model:
    """An untrained network by its name."""
    family, activation = split(name)
    x = keras.Input(_SHAPES[family.partition("_")[0]])
    return keras.Model(x, layers.Dense(10)(ARCHITECTURES[family].body(x, activation)), name=name)


def hidden_nodes(model: keras.Model) -> int:
    """The values that enter an activation layer."""
    return sum(math.prod(layer.output.shape[1:]) for layer in model.layers if isinstance(layer, layers.Activation))


def pure_cnn(convolutions: int, filters: int, classes: int = 10) -> keras.Model:
    """An untrained ReLU network of 3 x 3 convolutions on 28 x 28 images, of any depth, width and number of classes."""
    x = keras.Input(_SHAPES["mnist"])
    return keras.Model(x, layers.Dense(classes)(_pure(convolutions + 1, filters)(x, "relu")))
