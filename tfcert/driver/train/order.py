"""The order in which samples are trained on."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfcert.datasets.lazy import LazyInputs
from tfcert.training.augmentation import Augmentation

STRETCH = 2**25
"""Numbers of the stretches in which inputs are shuffled that can only be read forward, about."""


class Order(keras.callbacks.Callback):
    """Batches that depend on the seed and the epoch alone, so that a resumed run sees what it would have seen.

    What is left of the samples after whole batches is left out of the epoch, other samples each time. Images may be
    changed at random (``changes``), which follows from seed and epoch too. Inputs that are
    read when they are asked for (:class:`~tfcert.datasets.lazy.LazyInputs`) are read a batch at a time; those that can
    only be read forward are shuffled within stretches of some thousand, whose order stays.
    """

    def __init__(self, x: Any, y: np.ndarray, batch: int, seed: int, changes: Augmentation | None = None):
        super().__init__()
        self.changes = changes or Augmentation()
        self.x, self.y, self.seed = x, y, seed
        self.batch = min(batch, len(x))
        self.steps = len(x) // self.batch
        self.epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epoch = epoch

    def batches(self) -> tf.data.Dataset:
        """The samples, shuffled anew whenever an epoch begins."""
        if isinstance(self.x, LazyInputs):
            return self._read()

        def order() -> Any:
            chosen = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.x)).astype(np.int32)
            yield np.column_stack([chosen, self._draws()])

        with tf.device("CPU"):
            x, y = tf.constant(self.x), tf.constant(self.y)
            drawn = tf.data.Dataset.from_generator(order, output_signature=tf.TensorSpec([None, 4], tf.int32))
            batches = drawn.unbatch().batch(self.batch, drop_remainder=True)
            taken = batches.map(lambda d: self._changed(tf.gather(x, d[:, 0]), tf.gather(y, d[:, 0]), d[:, 1:]))
            return taken.apply(tf.data.experimental.assert_cardinality(self.steps)).prefetch(2)

    def _draws(self) -> np.ndarray:
        """What happens to each sample of an epoch, in its order."""
        return self.changes.draws(self.seed, self.epoch, len(self.x))

    def _changed(self, x: tf.Tensor, y: tf.Tensor, draws: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return (x if self.changes == Augmentation() else self.changes(x, draws)), y

    def _read(self) -> tf.data.Dataset:
        """Batches that are read as they are needed."""
        x = self.x
        batch = (self.batch, *x.sample_shape)
        types = (batch, x.dtype), (batch[:1], self.y.dtype), ((self.batch, 3), np.int32)
        signature = tuple(tf.TensorSpec(shape, tf.as_dtype(dtype)) for shape, dtype in types)
        some = self._anywhere if x.random_access else self._forward
        with tf.device("CPU"):
            batches = tf.data.Dataset.from_generator(some, output_signature=signature).map(self._changed)
            return batches.apply(tf.data.experimental.assert_cardinality(self.steps)).prefetch(2)

    def _anywhere(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.x))
        draws = self._draws()
        for step in range(self.steps):
            place = slice(step * self.batch, (step + 1) * self.batch)
            yield self.x[order[place]], self.y[order[place]], draws[place]

    def _forward(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        draws = self._draws()
        random = np.random.default_rng([self.seed, self.epoch])
        size = self.batch * max(1, STRETCH // max(1, math.prod(self.x.sample_shape)) // self.batch)
        for start in range(0, self.steps * self.batch, size):
            x = self.x[start : start + size]
            order = random.permutation(len(x))
            for first in range(0, len(x) - self.batch + 1, self.batch):
                some = order[first : first + self.batch]
                yield x[some], self.y[start + some], draws[start + first : start + first + self.batch]
