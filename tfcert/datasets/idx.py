"""Arrays in idx files, the form in which MNIST and Fashion-MNIST were published."""

from __future__ import annotations

import gzip
import math
import re
import zlib
from pathlib import Path

import numpy as np

from tfcert.datasets.base import DatasetError, Samples, checked_samples

_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
"""Types of numbers, by the third byte of a file."""
_IMAGES = re.compile(r"images([-.])idx3")


def idx(path: str | Path) -> Samples:
    """The array of an idx file (LeCun et al. 1998), gzipped or not, with the labels of the file beside it.

    Images of one channel get an axis for it: ``x`` is ``[samples, height, width, 1]``. Labels are those of the file
    that is called as ``path`` is, with ``labels-idx1`` for ``images-idx3`` (``t10k-images-idx3-ubyte.gz`` and
    ``t10k-labels-idx1-ubyte.gz``), gzipped or not; without such a file there are none.

    Raises:
        DatasetError: no idx file, one that is cut off, or labels of another number.
    """
    images = Path(path).resolve()
    labels = labels_beside(images)
    # A link that leads elsewhere is not followed: a specification may not read outside of its folder.
    return idx_pair(images, labels if labels is not None and labels.resolve().parent == images.parent else None)


def idx_pair(images: Path, labels: Path | None) -> Samples:
    """The arrays of two idx files, see :func:`idx`."""
    x = _array(images)
    return checked_samples(x[..., None] if x.ndim == 3 else x, None if labels is None else _array(labels), str(images))


def labels_beside(images: Path) -> Path | None:
    """The file of the labels of a file of images; None where there is none of its name."""
    name, found = _IMAGES.subn(r"labels\1idx1", images.name)
    if not found:
        return None
    plain = images.with_name(name.removesuffix(".gz"))
    return next((file for file in (plain, plain.with_name(f"{plain.name}.gz")) if file.is_file()), None)


def _array(path: Path) -> np.ndarray:
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetError(f"{path} cannot be read: {error}") from error
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _TYPES:
        raise DatasetError(f"{path} is no idx file: such a file begins with two zeros, a type and a number of axes")
    dtype, axes = np.dtype(_TYPES[content[2]]), content[3]
    head, body = content[4 : 4 + 4 * axes], content[4 + 4 * axes :]
    shape = [int.from_bytes(head[4 * i : 4 * i + 4]) for i in range(axes)]
    expected = math.prod(shape) * dtype.itemsize
    if len(head) != 4 * axes or not axes or len(body) != expected:
        raise DatasetError(f"{path} is cut off or damaged: its head says {expected} bytes, and it has {len(body)}")
    return np.frombuffer(body, dtype).reshape(shape).astype(dtype.newbyteorder("="))
