"""Converters of Keras's image layers: augmentation, which is the identity at inference, cropping and resizing."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers

from tfcert.network.builder import Builder, Tensor
from tfcert.network.keras.graph import converter
from tfcert.network.keras.layers import identity
from tfcert.network.keras.windows import pad, refuse_channels_first
from tfcert.network.linear import DenseMap


def present(*names: str) -> list[type]:
    """Those of Keras's layers that this version of it has."""
    return [getattr(layers, name) for name in names if hasattr(layers, name)]


AUGMENTATION = present(
    "AugMix",
    "CutMix",
    "MaxNumBoundingBoxes",
    "MixUp",
    "RandAugment",
    "RandomBrightness",
    "RandomColorDegeneration",
    "RandomColorJitter",
    "RandomContrast",
    "RandomElasticTransform",
    "RandomErasing",
    "RandomFlip",
    "RandomGaussianBlur",
    "RandomGrayscale",
    "RandomHue",
    "RandomInvert",
    "RandomPerspective",
    "RandomPosterization",
    "RandomRotation",
    "RandomSaturation",
    "RandomSharpness",
    "RandomShear",
    "RandomTranslation",
    "RandomZoom",
    "Solarization",
)
"""Layers that change images in training alone; as everything, that is checked against the model."""
converter(*AUGMENTATION)(identity)


@converter(*present("RandomCrop"))
def random_crop(layer: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    raise builder.refuse(
        "crops in training only: at inference Keras passes images on whole, though it announces the smaller shape; "
        "use CenterCrop, which crops always"
    )


@converter(*present("AutoContrast", "ContrastLimitedAdaptiveHistogramEqualization", "Equalization"))
def own_contrast(layer: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    raise builder.refuse(
        "stretches the contrast of each image by that image's own brightness, at inference too, which is not linear; "
        "apply it to the data, and verify the model behind it"
    )


@converter(layers.CenterCrop)
def center_crop(layer: layers.CenterCrop, builder: Builder, inputs: list[Tensor]) -> Tensor:
    refuse_channels_first(layer, builder)
    spare = [size - wanted for size, wanted in zip(inputs[0].shape, (layer.height, layer.width), strict=False)]
    if min(spare) < 0:
        raise builder.refuse(
            f"enlarges images of {inputs[0].shape[:2]} pixels to {(layer.height, layer.width)} by its own rule; use "
            "Resizing there"
        )
    return pad(builder, inputs[0], [(extra // 2, extra - extra // 2) for extra in spare], -1)


@converter(layers.Resizing)
def resizing(layer: layers.Resizing, builder: Builder, inputs: list[Tensor]) -> Tensor:
    refuse_channels_first(layer, builder)
    if layer.crop_to_aspect_ratio or layer.pad_to_aspect_ratio:
        raise builder.refuse(
            "keeps the aspect ratio; only Resizing that stretches images to their new size is supported"
        )
    return resized(builder, inputs[0], (layer.height, layer.width), layer.interpolation, layer.antialias)


@converter(layers.UpSampling2D)
def up_sampling(layer: layers.UpSampling2D, builder: Builder, inputs: list[Tensor]) -> Tensor:
    refuse_channels_first(layer, builder)
    height, width = (n * size for n, size in zip(layer.size, inputs[0].shape, strict=False))
    return resized(builder, inputs[0], (height, width), layer.interpolation)


def resized(builder: Builder, x: Tensor, size: tuple[int, int], interpolation: str, antialias: bool = False) -> Tensor:
    """An image in another size: a linear map of its rows, and one of its columns."""
    matrices = [_weights(before, after, interpolation, antialias) for before, after in zip(x.shape, size, strict=False)]
    if interpolation == "nearest":
        index = np.arange(int(np.prod(x.shape))).reshape(x.shape)
        rows, columns = (matrix.argmax(axis=0) for matrix in matrices)
        return builder.index(x, index[rows][:, columns])
    for axis, matrix in enumerate(matrices):
        if matrix.shape[0] == matrix.shape[1] and np.array_equal(matrix, np.eye(len(matrix))):
            continue
        x = builder.transpose(x, (2, 1 - axis, axis), part="turned")
        x = builder.linear(x, DenseMap(builder.constant(matrix), x.shape, matrix.shape[1]), part="resized")
        x = builder.transpose(x, (2, 1, 0) if axis == 0 else (1, 2, 0), part="back")
    return x


def _weights(before: int, after: int, interpolation: str, antialias: bool) -> np.ndarray:
    """``[before, after]``: how much of each old row or column is in each new one, read off Keras's own resizing."""
    # Columns one pixel wide: others would be resampled too, which is no identity to the last bit of lanczos kernels.
    images = np.eye(before, dtype=np.float32)[:, :, None, None]
    found = keras.ops.image.resize(
        images, (after, 1), interpolation=interpolation, antialias=antialias, data_format="channels_last"
    )
    return np.asarray(found)[:, :, 0, 0]
