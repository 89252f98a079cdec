"""Data sets of TensorFlow Datasets, where that package is installed and the data set is prepared on this machine."""

from __future__ import annotations

from tfcert.datasets.base import DatasetError, Samples, optional_module
from tfcert.datasets.load import from_memory


def tfds(name: str, *, split: str = "test", folder: str | None = None) -> Samples:
    """A data set by its name, ``mnist`` or ``mnist:3.0.1``: inputs and labels, read as they are needed.

    Args:
        name: as ``tensorflow_datasets.load`` takes it.
        split: the same, with slices such as ``test[:100]``.
        folder: where data sets are kept; None for the package's own place.

    Nothing is downloaded: ``tfds build NAME`` prepares a data set. Files are read in their order.

    Raises:
        DatasetError: the package is not installed, or knows no such data set or split, or it is not prepared, or it has
            no inputs with labels.
    """
    package = optional_module("tensorflow_datasets", "tfds")
    try:
        data = package.load(name, split=split, data_dir=folder, as_supervised=True, download=False, shuffle_files=False)
    except (AssertionError, LookupError, OSError, ValueError) as error:
        first = str(error).strip().split("\n")[0][:200]
        raise DatasetError(f"tfds({name!r}, split={split!r}): {first}; prepare it with `tfds build {name}`") from error
    return from_memory(data)
