"""The order in which samples are trained on."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfcert.datasets.lazy import LazyInputs

STRETCH = 2**25
"""Numbers of the stretches in which inputs are shuffled that can only be read forward, about."""


class Order(keras.callbacks.Callback):
    """Batches whose order depends on the seed and the epoch alone, so that a resumed run sees what it would have seen.

    What is left of the samples after whole batches is left out of the epoch, other samples each time. Inputs that are
    read when they are asked for (:class:`~tfcert.datasets.lazy.LazyInputs`) are read a batch at a time; those that can
    only be read forward are shuffled within stretches of some thousand, whose order stays.
    """

    def __init__(self, x: Any, y: np.ndarray, batch: int, seed: int):
        super().__init__()
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
            yield np.random.default_rng([self.seed, self.epoch]).permutation(len(self.x))

        with tf.device("CPU"):
            x, y = tf.constant(self.x), tf.constant(self.y)
            indices = tf.data.Dataset.from_generator(order, output_signature=tf.TensorSpec([None], tf.int64))
            batches = indices.unbatch().batch(self.batch, drop_remainder=True)
            taken = batches.map(lambda index: (tf.gather(x, index), tf.gather(y, index)))
            return taken.apply(tf.data.experimental.assert_cardinality(self.steps)).prefetch(2)

    def _read(self) -> tf.data.Dataset:
        """Batches that are read as they are needed."""
        x = self.x
        batch = (self.batch, *x.sample_shape)
        signature = tf.TensorSpec(batch, tf.as_dtype(x.dtype)), tf.TensorSpec(batch[:1], tf.as_dtype(self.y.dtype))
        some = self._anywhere if x.random_access else self._forward
        with tf.device("CPU"):
            batches = tf.data.Dataset.from_generator(some, output_signature=signature)
            return batches.apply(tf.data.experimental.assert_cardinality(self.steps)).prefetch(2)

    def _anywhere(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.x))
        for step in range(self.steps):
            some = order[step * self.batch : (step + 1) * self.batch]
            yield self.x[some], self.y[some]

    def _forward(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        random = np.random.default_rng([self.seed, self.epoch])
        size = self.batch * max(1, STRETCH // max(1, math.prod(self.x.sample_shape)) // self.batch)
        for start in range(0, self.steps * self.batch, size):
            x = self.x[start : start + size]
            order = random.permutation(len(x))
            for first in range(0, len(x) - self.batch + 1, self.batch):
                some = order[first : first + self.batch]
                yield x[some], self.y[start + some]
