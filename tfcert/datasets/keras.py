"""The data sets that Keras knows, where they are on this machine already."""

from __future__ import annotations

from tfcert.catalog import SOURCES
from tfcert.datasets.base import DatasetError, Samples
from tfcert.datasets.public import read_public


def keras(name: str, *, split: str = "test") -> Samples:
    """``mnist``, ``fashion_mnist`` or ``cifar10`` as Keras knows them: uint8, ``[samples, height, width, channels]``.

    Read from the folder that the environment variable ``TFCERT_DATA`` names, else from Keras's own cache, in any of
    the forms of :func:`tfcert.datasets.public.read_public`. Nothing is downloaded.
    """
    names = SOURCES["keras"].choices
    if name not in names:
        raise DatasetError(f"keras has no data set {name!r} here; there are {', '.join(names)}")
    return read_public(name, split)
