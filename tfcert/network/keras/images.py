"""Converters of Keras's image layers: augmentation, which is the identity at inference, cropping and resizing."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import layers

from tfcert.network.builder import Builder, Tensor
from tfcert.network.keras.graph import converter
from tfcert.network.keras.layers import identity
from tfcert.network.keras.private import image_operations
from tfcert.network.keras.windows import channels_last, pad


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
    def compute(x: Tensor) -> Tensor:
        size = (layer.height, layer.width)
        spare = [length - wanted for length, wanted in zip(x.shape, size, strict=False)]
        if min(spare) < 0:
            return resized(builder, _cropped_to_ratio(builder, x, size), size, "bilinear")
        return pad(builder, x, [(extra // 2, extra - extra // 2) for extra in spare], -1)

    return channels_last(layer, builder, inputs[0], compute)


@converter(layers.Resizing, image_operations.Resize)
def resizing(layer: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    if len(inputs[0].shape) != 3:
        raise builder.refuse(f"resizes tensors of shape {inputs[0].shape}, which are no images of one sample each")

    def compute(x: Tensor) -> Tensor:
        size = (layer.height, layer.width) if isinstance(layer, layers.Layer) else tuple(layer.size)
        if layer.crop_to_aspect_ratio:
            x = _cropped_to_ratio(builder, x, size)
        elif layer.pad_to_aspect_ratio:
            x = _padded_to_ratio(builder, x, size, layer.fill_value)
        return resized(builder, x, size, layer.interpolation, layer.antialias)

    return channels_last(layer, builder, inputs[0], compute)


def _to_ratio(x: Tensor, size: tuple[int, int]) -> list[int]:
    """The height that fits the width of an image in the ratio of a size, and the width that fits its height."""
    height, width, _ = x.shape
    return [int(np.float32(a * b) / np.float32(c)) for a, b, c in ((width, *size), (height, *reversed(size)))]


def _cropped_to_ratio(builder: Builder, x: Tensor, size: tuple[int, int]) -> Tensor:
    """The middle of an image in the ratio of a size, as Keras cuts it out."""
    kept = [max(1, min(length, fit)) for length, fit in zip(x.shape, _to_ratio(x, size), strict=False)]
    spare = [length - count for length, count in zip(x.shape, kept, strict=False)]
    return pad(builder, x, [(extra // 2, extra - extra // 2) for extra in spare], -1)


def _padded_to_ratio(builder: Builder, x: Tensor, size: tuple[int, int], fill: float) -> Tensor:
    """An image with a border of one number, in the ratio of a size (to a row or column, which Keras leaves out)."""
    border = [max(0, fit - length) // 2 for length, fit in zip(x.shape, _to_ratio(x, size), strict=False)]
    padded = pad(builder, x, [(width, width) for width in border], 1)
    if padded is x or fill == 0:
        return padded
    inside = np.zeros(x.shape)
    around = np.pad(inside, [*[(width, width) for width in border], (0, 0)], constant_values=fill)
    return builder.scale(padded, builder.constant(1.0), builder.constant(around), part="border")


@converter(layers.UpSampling1D, layers.UpSampling2D, layers.UpSampling3D)
def up_sampling(layer: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    factors = (layer.size,) if isinstance(layer.size, int) else layer.size

    def compute(x: Tensor) -> Tensor:
        size = [factor * length for factor, length in zip(factors, x.shape, strict=False)]
        interpolation = getattr(layer, "interpolation", "nearest")
        if interpolation != "nearest":
            return resized(builder, x, (size[0], size[1]), interpolation)
        places = np.ix_(*(np.arange(length) // factor for factor, length in zip(factors, size, strict=True)))
        return builder.index(x, np.arange(math.prod(x.shape)).reshape(x.shape)[places])

    return channels_last(layer, builder, inputs[0], compute)


def resized(builder: Builder, x: Tensor, size: tuple[int, int], interpolation: str, antialias: bool = False) -> Tensor:
    """An image in another size: a linear map of its rows, and one of its columns."""
    matrices = [_weights(before, after, interpolation, antialias) for before, after in zip(x.shape, size, strict=False)]
    if interpolation == "nearest":
        index = np.arange(math.prod(x.shape)).reshape(x.shape)
        rows, columns = (matrix.argmax(axis=0) for matrix in matrices)
        return builder.index(x, index[rows][:, columns])
    for axis, matrix in enumerate(matrices):
        if matrix.shape[0] != matrix.shape[1] or not np.array_equal(matrix, np.eye(len(matrix))):
            x = builder.along(x, builder.constant(matrix), matrix.shape[1], axis, part="resized")
            builder.not_charged(x, "how weights of resizing round is not known")
    return x


def _weights(before: int, after: int, interpolation: str, antialias: bool) -> np.ndarray:
    """``[before, after]``: how much of each old row or column is in each new one, read off Keras's own resizing."""
    # Columns one pixel wide: others would be resampled too, which is no identity to the last bit of lanczos kernels.
    images = np.eye(before, dtype=np.float32)[:, :, None, None]
    found = keras.ops.image.resize(
        images, (after, 1), interpolation=interpolation, antialias=antialias, data_format="channels_last"
    )
    return np.asarray(found)[:, :, 0, 0]
