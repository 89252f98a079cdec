"""The arrays that sources of samples answer with, and the checks that they share."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from tfcert.given import inputs, label_numbers
from tfcert.parts import parts_of
from tfcert.showing import spread

TRAIN_SHARE = 0.8
"""Of the data sets that come without a split, the first four fifths (after the interleave) are for training."""


class DatasetError(ValueError):
    """A data set cannot be read; the message says why and what would be right."""


class Samples(NamedTuple):
    """``x`` ``[samples, ...]`` as stored, ``y`` ``[samples]`` or None: int64, or float64 where some are not whole.

    Where samples are read as they are needed, ``x`` is a :class:`~tfcert.datasets.lazy.LazyInputs`, and ``y`` may be
    labels that are read in the same way; ``np.asarray`` makes arrays of them.
    """

    x: Any
    y: Any

    def __repr__(self) -> str:
        if not isinstance(self.x, np.ndarray):
            labels = "no labels" if self.y is None else "labels"
            return f"Samples: x of shape {self.x.shape} ({self.x.dtype}), read as it is needed; {labels}"
        labels = "no labels" if self.y is None else f"labels {spread(self.y)}"
        return f"Samples: x of shape {self.x.shape} ({self.x.dtype}), {spread(self.x)}; {labels}"


def checked_samples(x: Any, y: Any, where: str) -> Samples:
    """Checks: numbers, as many labels as samples, labels that are such (see :func:`tfcert.given.label_numbers`)."""
    try:
        x = inputs(x)
        if x.ndim == 0:
            raise ValueError("x must be an array with samples along its first axis")
        return Samples(x, None if y is None else label_numbers(y, len(x)))
    except ValueError as error:
        raise DatasetError(f"{where}: {error}") from error


def joined_inputs(arrays: Mapping[str, Any], where: str) -> np.ndarray:
    """The arrays of a model's inputs as one vector a sample, in their order.

    Raises:
        DatasetError: they have different numbers of samples, or hold something else than numbers.
    """
    try:
        parts = parts_of(arrays)
        assert parts is not None
        return parts.join(dict(arrays), inputs)
    except ValueError as error:
        raise DatasetError(f"{where}: {error}") from error


def interleave(y: np.ndarray) -> np.ndarray:
    """An order in which every stretch of samples holds the classes in their overall proportions.

    The k-th of the n samples of a class comes at (k + 1/2) / n of the way, equal places in the order of the labels;
    no random numbers, so the order is the same everywhere.
    """
    place = np.empty(len(y))
    for label in np.unique(y):
        (members,) = np.nonzero(y == label)
        place[members] = (np.arange(len(members)) + 0.5) / len(members)
    return np.lexsort((y, place))


def split_samples(x: np.ndarray, y: np.ndarray, split: str) -> Samples:
    order = interleave(y)
    middle = round(TRAIN_SHARE * len(y))
    parts = {"train": order[:middle], "test": order[middle:], "all": order}
    if split not in parts:
        raise DatasetError(f"split must be one of {', '.join(parts)}, not {split!r}")
    return Samples(x[parts[split]], y[parts[split]].astype(np.int64))


def optional_module(module: str, extra: str = "examples") -> ModuleType:
    """A module of a package that an extra of setup.cfg installs."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DatasetError(f"this data set needs {module.split('.')[0]}: pip install tfcert[{extra}]") from error
