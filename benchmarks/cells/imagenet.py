"""The ImageNet networks of AbsCert (Zhang et al. 2023, table 5) in Keras, untrained, behind an interval abstraction.

AlexNet (Krizhevsky et al. 2012, both towers as groups of one network), VGG11 (Simonyan and Zisserman 2014,
configuration A), Inception V1 (GoogLeNet, Szegedy et al. 2014, table 1) and ResNet18 (He et al. 2015, table 1 with
projections where shapes change, their option B). All end in logits. Three things differ from the papers:

- The first convolution reads both ends of each pixel's cell, so it has twice the kernel.
- Local response normalisation (AlexNet, Inception V1) is left out: it divides by a tensor, which tfcert cannot bound.
  It has no parameters, and VGG's authors found no gain in it.
- Inception V1 has no auxiliary classifiers, which serve training only.

AbsCert trains "with the super-parameters of the original experiments": :data:`PUBLISHED` has those that the papers
print. Images were random crops of 224 pixels, flipped at random, scaled here to ``value_range``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

import keras
from keras import layers

from tfcert.layers import IntervalAbstraction

Tensor = keras.KerasTensor


@dataclass(frozen=True)
class Published:
    """How a network was trained in its own paper, and what AbsCert prints of it.

    Attributes:
        parameters: trainable ones of the network without abstraction, for 224 pixels and 1,000 classes. AlexNet's paper
            prints 60 million, VGG's 133 million, Inception's only rows (its table 1), ResNet's none.
        batch, epochs: of stochastic gradient descent; None where the paper prints neither them nor steps.
        rate: the first learning rate, or None. ``factor`` multiplies it when the validation loss stays (for five
            epochs here; the papers print no patience), or after so many epochs as ``every`` says.
        momentum, decay: of the descent; ``decay`` adds that share of a kernel to its gradient.
        errors: AbsCert's table 5: percent of test images whose abstraction is misclassified (see
            :func:`tfcert.abstraction_error`, no guarantee), by the radius in the units of a range [-1, 1].
        seconds: of one epoch in the same table, on a GeForce RTX 3090 Ti.
    """

    parameters: int
    batch: int | None
    epochs: int | None
    rate: float | None
    factor: float
    decay: float
    seconds: float
    errors: dict[Fraction, float]
    momentum: float = 0.9
    every: int | None = None

    def training(self, rate: float | None = None) -> tuple[keras.optimizers.Optimizer, keras.callbacks.Callback]:
        """The optimizer for ``compile``, and the callback for ``fit`` that lowers its learning rate.

        Args:
            rate: the first learning rate, where the paper prints none or you choose another.

        Raises:
            ValueError: there is no rate.
        """
        rate = rate or self.rate
        if rate is None:
            raise ValueError("the paper prints no learning rate for this network; choose one: training(rate=0.01)")
        optimizer = keras.optimizers.SGD(rate, self.momentum)
        if self.every is None:
            return optimizer, keras.callbacks.ReduceLROnPlateau("val_loss", self.factor, patience=5)
        factor, every = self.factor, self.every
        steps = keras.callbacks.LearningRateScheduler(lambda epoch, _: rate * factor ** (epoch // every))
        return optimizer, steps


def _errors(*printed: float) -> dict[Fraction, float]:
    return dict(zip((Fraction(2, 255), Fraction(4, 255), Fraction(8, 255)), printed, strict=True))


PUBLISHED = {
    "alexnet": Published(60_965_224, 128, 90, 0.01, 0.1, 5e-4, 508.2, _errors(44.96, 44.96, 44.97)),
    "vgg11": Published(132_863_336, 256, 74, 0.01, 0.1, 5e-4, 2530.3, _errors(36.29, 36.35, 36.93)),
    "inception_v1": Published(6_998_552, None, None, None, 0.96, 0.0, 2183.7, _errors(41.67, 41.67, 43.12), every=8),
    "resnet18": Published(11_689_512, 256, 120, 0.1, 0.1, 1e-4, 212.6, _errors(32.15, 32.25, 32.86)),
}
"""By network. ResNet's 600,000 steps are 120 epochs. Inception's paper prints no weight decay either."""


@dataclass(frozen=True)
class _Kit:
    """Makes layers as one paper does: how weights are drawn, and how they decay."""

    decay: float
    kernel: keras.initializers.Initializer = field(default_factory=keras.initializers.GlorotUniform)

    def _options(self) -> dict[str, object]:
        # The gradient of half the squared norm is the kernel itself, so momentum gathers it as the papers' does.
        regularizer = keras.regularizers.L2(self.decay / 2) if self.decay else None
        return {"kernel_initializer": self.kernel.clone(), "kernel_regularizer": regularizer}

    def conv(self, x: Tensor, filters: int, size: int, strides: int = 1, **options: object) -> Tensor:
        options = {"padding": "same", "activation": "relu"} | self._options() | options
        return layers.Conv2D(filters, size, strides, **options)(x)

    def dense(self, x: Tensor, units: int, **options: object) -> Tensor:
        return layers.Dense(units, **self._options(), **options)(x)


def _alexnet(x: Tensor, classes: int, decay: float) -> Tensor:
    kit, ones = _Kit(decay, keras.initializers.RandomNormal(stddev=0.01)), {"bias_initializer": "ones"}
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


def build(
    name: str,
    granularity: float,
    value_range: tuple[float, float] = (-1.0, 1.0),
    input_shape: tuple[int, int, int] = (224, 224, 3),
    classes: int = 1000,
) -> keras.Model:
    """An untrained network of :data:`PUBLISHED` behind an abstraction, with kernels that decay as published.

    Args:
        granularity: the width of a cell in the units of ``value_range``; AbsCert's is at least twice the radius.
        value_range: of the pixels; AbsCert's is [-1, 1].
        input_shape: of an image without the batch. AlexNet needs 64 pixels and VGG11 32, the others less.
        classes: how many logits.

    Raises:
        KeyError: there is no such network.
    """
    body, decay = _BODIES[name], PUBLISHED[name].decay
    image = keras.Input(input_shape)
    ends = IntervalAbstraction(granularity, value_range, name="abstraction")(image)
    return keras.Model(image, body(ends, classes, decay), name=name)
