"""Scikit-learn's digits."""

from __future__ import annotations

from tfcert.datasets.base import Samples, optional_module, split_samples


def digits(*, split: str = "test") -> Samples:
    """Scikit-learn's 1,797 digits: ``x`` ``[samples, 8, 8, 1]`` in 0 to 16, interleaved by class and split 4 to 1."""
    data = optional_module("sklearn.datasets").load_digits()
    return split_samples(data.images[..., None], data.target, split)
