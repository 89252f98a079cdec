"""Random changes of images of training: flips and translations, drawn from a seed and the number of an epoch alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

FILLS = ("edge", "reflect")


@dataclass(frozen=True)
class Augmentation:
    """Images, each flipped with probability 1/2, then moved by whole pixels drawn evenly, anew in every epoch.

    Attributes:
        flip: whether left and right may change places.
        shift: the most pixels that an image is moved by, up or down and to either side.
        fill: what comes in at the border: ``edge`` repeats the outermost pixels, ``reflect`` mirrors at their middle.
            Both take values that the image has, so that it stays in its valid range.
    """

    flip: bool = False
    shift: int = 0
    fill: str = "edge"

    def refuses(self, shape: tuple[int, ...]) -> str:
        """Why samples of this shape (without the batch) cannot be changed so, as the end of a sentence; or ""."""
        if len(shape) != 3:
            return f"needs images [height, width, channels], and samples have shape {shape}"
        if self.shift >= min(shape[:2]):
            return f"moves images by up to {self.shift} pixels, and they have {shape[0]} by {shape[1]}"
        return ""

    def draws(self, seed: int, epoch: int, count: int) -> np.ndarray:
        """What happens to each of so many samples in an epoch, ``[count, 3]`` int32: flipped, moved down, and right."""
        generator = np.random.default_rng([seed, epoch, 1])
        flipped = generator.integers(0, 2, count) * self.flip
        moved = generator.integers(-self.shift, self.shift + 1, (count, 2))
        return np.column_stack([flipped, moved]).astype(np.int32)

    def __call__(self, images: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        """The changed images, ``[batch, height, width, channels]``; ``draws`` ``[batch, 3]`` as above."""
        height, width = images.shape[1], images.shape[2]
        rows = self._inside(tf.range(height)[None] - draws[:, 1, None], height)
        columns = self._inside(tf.range(width)[None] - draws[:, 2, None], width)
        columns = tf.where(draws[:, :1] == 1, width - 1 - columns, columns)
        return tf.gather(tf.gather(images, rows, axis=1, batch_dims=1), columns, axis=2, batch_dims=1)

    def _inside(self, index: tf.Tensor, size: int) -> tf.Tensor:
        """The pixel that stands at an index, which may lie outside the image by less than its size."""
        if self.fill == "edge":
            return tf.clip_by_value(index, 0, size - 1)
        mirrored = tf.abs(index)
        return tf.minimum(mirrored, 2 * (size - 1) - mirrored)
