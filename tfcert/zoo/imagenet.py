"""The ImageNet networks of AbsCert (Zhang et al. 2023, table 5) in Keras, untrained, behind an interval abstraction.

AlexNet (Krizhevsky et al. 2012, both towers as groups of one network), VGG11 (Simonyan and Zisserman 2014,
configuration A), Inception V1 (GoogLeNet, Szegedy et al. 2014, table 1) and ResNet18 (He et al. 2015, table 1 with
projections where shapes change, their option B). All end in logits. Three things differ from the papers:

- The first convolution reads both ends of each pixel's cell, so it has twice the kernel.
- Local response normalisation (AlexNet, Inception V1) is left out: it divides by a tensor, which tfcert cannot bound.
  It has no parameters, and VGG's authors found no gain in it.
- Inception V1 has no auxiliary classifiers, which serve training only.

AbsCert trains "with the super-parameters of the original experiments": :data:`RECIPES` has those that the papers
print. Images were random crops of 224 pixels, flipped at random, scaled here to ``value_range``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
from keras import layers

from tfcert.layers import IntervalAbstraction
from tfcert.zoo.network import ZooNetwork
from tfcert.zoo.recipe import Recipe

Tensor = Any


_SGD: dict[str, Any] = {
    "data": "imagenet",
    "inputs": (2.0, -1.0),
    "optimizer": "sgd",
    "momentum": 0.9,
    "augment": "random crops of 224 pixels, random flips",
}
_WITHOUT = "The network is built without the paper's local response normalisation."
RECIPES = {
    "alexnet": Recipe(batch=128, epochs=90, rate=0.01, plateau=0.1, decay=5e-4, note=_WITHOUT, **_SGD),
    "vgg11": Recipe(batch=256, epochs=74, rate=0.01, plateau=0.1, decay=5e-4, **_SGD),
    "inception_v1": Recipe(
        every=8, factor=0.96, note=f"No batch, epochs, rate and decay are printed. {_WITHOUT}", **_SGD
    ),
    "resnet18": Recipe(
        batch=256, epochs=120, rate=0.1, plateau=0.1, decay=1e-4, note="120 epochs are its 600,000 steps.", **_SGD
    ),
}
"""By network: how it was trained in its own paper, which AbsCert follows."""
PARAMETERS = {"alexnet": 60_965_224, "vgg11": 132_863_336, "inception_v1": 6_998_552, "resnet18": 11_689_512}
"""Trainable ones of the network without abstraction, for 224 pixels and 1,000 classes. AlexNet's paper prints 60
million, VGG's 133 million, Inception's only rows (its table 1), ResNet's none."""
_PRINTED = {"alexnet": "60 million parameters", "vgg11": "133 million parameters"}
_NODES = {"alexnet": 658_272, "vgg11": 7_434_240, "inception_v1": 3_226_160, "resnet18": 2_308_096}
NAMES = tuple(RECIPES)


@dataclass(frozen=True)
class _Kit:
    """Makes layers as one paper does: how weights are drawn, and how they decay."""

    decay: float
    kernel: keras.initializers.Initializer = field(default_factory=keras.initializers.GlorotUniform)

    def _options(self) -> dict[str, object]:
        # The gradient of half the squared norm is the kernel itself, so momentum gathers it as the papers' does.
        regularizer = keras.regularizers.L2(self.decay / 2) if self.decay else None
        return {"kernel_initializer": self.kernel.clone(), "kernel_regularizer": regularizer}

    def conv(self, x: Tensor, filters: int, size: int, strides: int = 1, **options: Any) -> Tensor:
        options = {"padding": "same", "activation": "relu"} | self._options() | options
        return layers.Conv2D(filters, size, strides, **options)(x)

    def dense(self, x: Tensor, units: int, **options: Any) -> Tensor:
        return layers.Dense(units, **self._options(), **options)(x)


def _alexnet(x: Tensor, classes: int, decay: float) -> Tensor:
    kit = _Kit(decay, keras.initializers.RandomNormal(stddev=0.01))
    ones: dict[str, Any] = {"bias_initializer": "ones"}
    x = layers.ZeroPadding2D(((1, 2), (1, 2)))(x)  # the paper's 224 pixels give its 55 x 55 positions as 227 do
    x = layers.MaxPooling2D(3, 2)(kit.conv(x, 96, 11, 4, padding="valid"))
    x = layers.MaxPooling2D(3, 2)(kit.conv(x, 256, 5, groups=2, **ones))
    x = kit.conv(x, 384, 3)
    x = kit.conv(x, 384, 3, groups=2, **ones)
    x = layers.MaxPooling2D(3, 2)(kit.conv(x, 256, 3, groups=2, **ones))
    x = layers.Flatten()(x)
    for _ in range(2):
        x = layers.Dropout(0.5)(kit.dense(x, 4096, activation="relu", **ones))
    return kit.dense(x, classes)


def _vgg11(x: Tensor, classes: int, decay: float) -> Tensor:
    kit = _Kit(decay, keras.initializers.RandomNormal(stddev=0.01))
    for filters, count in ((64, 1), (128, 1), (256, 2), (512, 2), (512, 2)):
        for _ in range(count):
            x = kit.conv(x, filters, 3)
        x = layers.MaxPooling2D(2)(x)
    x = layers.Flatten()(x)
    for _ in range(2):
        x = layers.Dropout(0.5)(kit.dense(x, 4096, activation="relu"))
    return kit.dense(x, classes)


_INCEPTION = (
    ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
    (
        (192, 96, 208, 16, 48, 64),
        (160, 112, 224, 24, 64, 64),
        (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64),
        (256, 160, 320, 32, 128, 128),
    ),
    ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
)
"""Filters of each module, by stage: 1 x 1; before and of 3 x 3; before and of 5 x 5; after pooling."""


def _module(kit: _Kit, x: Tensor, filters: tuple[int, ...]) -> Tensor:
    one, before_three, three, before_five, five, pooled = filters
    return layers.Concatenate()(
        [
            kit.conv(x, one, 1),
            kit.conv(kit.conv(x, before_three, 1), three, 3),
            kit.conv(kit.conv(x, before_five, 1), five, 5),
            kit.conv(layers.MaxPooling2D(3, 1, padding="same")(x), pooled, 1),
        ]
    )


def _inception_v1(x: Tensor, classes: int, decay: float) -> Tensor:
    kit = _Kit(decay)
    x = layers.MaxPooling2D(3, 2, padding="same")(kit.conv(x, 64, 7, 2))
    x = kit.conv(kit.conv(x, 64, 1), 192, 3)
    for modules in _INCEPTION:
        x = layers.MaxPooling2D(3, 2, padding="same")(x)
        for filters in modules:
            x = _module(kit, x, filters)
    return kit.dense(layers.Dropout(0.4)(layers.GlobalAveragePooling2D()(x)), classes)


def _block(kit: _Kit, x: Tensor, filters: int, stride: int) -> Tensor:
    """Two convolutions beside a shortcut, which is a projection where the shape changes."""

    def normal(x: Tensor, size: int, strides: int) -> Tensor:
        return layers.BatchNormalization()(kit.conv(x, filters, size, strides, activation=None, use_bias=False))

    inner = normal(layers.ReLU()(normal(x, 3, stride)), 3, 1)
    shortcut = x if stride == 1 and x.shape[-1] == filters else normal(x, 1, stride)
    return layers.ReLU()(layers.Add()([inner, shortcut]))


def _resnet18(x: Tensor, classes: int, decay: float) -> Tensor:
    kit = _Kit(decay, keras.initializers.HeNormal())
    x = kit.conv(x, 64, 7, 2, activation=None, use_bias=False)
    x = layers.MaxPooling2D(3, 2, padding="same")(layers.ReLU()(layers.BatchNormalization()(x)))
    for stage, filters in enumerate((64, 128, 256, 512)):
        for number in range(2):
            x = _block(kit, x, filters, 2 if stage and not number else 1)
    return kit.dense(layers.GlobalAveragePooling2D()(x), classes)


_BODIES: dict[str, Callable[[Tensor, int, float], Tensor]] = {
    "alexnet": _alexnet,
    "vgg11": _vgg11,
    "inception_v1": _inception_v1,
    "resnet18": _resnet18,
}


def imagenet_network(
    name: str,
    granularity: float,
    value_range: tuple[float, float] = (-1.0, 1.0),
    input_shape: tuple[int, int, int] = (224, 224, 3),
    classes: int = 1000,
) -> keras.Model:
    """An untrained network of :data:`RECIPES` behind an abstraction, with kernels that decay as published.

    Args:
        granularity: the width of a cell in the units of ``value_range``; AbsCert's is at least twice the radius.
        value_range: of the pixels; AbsCert's is [-1, 1].
        input_shape: of an image without the batch. AlexNet needs 64 pixels and VGG11 32, the others less.
        classes: how many logits.

    Raises:
        KeyError: there is no such network.
    """
    body, decay = _BODIES[name], RECIPES[name].decay
    image = keras.Input(input_shape)
    ends = IntervalAbstraction(granularity, value_range, name="abstraction")(image)
    return keras.Model(image, body(ends, classes, decay), name=name)


def entry(name: str) -> ZooNetwork:
    """What is kept of a network.

    Raises:
        KeyError: there is no such network.
    """

    def build(granularity: float = 16 / 255, **options: Any) -> keras.Model:
        return imagenet_network(name, granularity, **options)

    return ZooNetwork(
        name=name,
        papers=("abscert",),
        where="AbsCert, table 5, behind an abstraction of cells",
        input_shape=(224, 224, 3),
        hidden_nodes=_NODES[name],
        printed=_PRINTED.get(name, ""),
        recipe=RECIPES[name],
        builder=build,
    )
