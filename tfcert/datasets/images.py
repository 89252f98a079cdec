"""Folders of images, read one by one."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tfcert import quiet
from tfcert.datasets.base import DatasetError, Samples
from tfcert.datasets.lazy import LazyInputs

SUFFIXES = (".jpg", ".jpeg", ".png")


def images(
    path: str | Path,
    *,
    height: int | None = None,
    width: int | None = None,
    resize: str = "refuse",
    channels: int | None = None,
    root: str | Path | None = None,
) -> Samples:
    """JPEG and PNG files of a folder: ``x`` ``[samples, height, width, channels]`` uint8, decoded when they are needed.

    The files of each sub-folder are a class; classes are the sub-folders in the order of their names' characters, and
    so are the files of each. Files of a folder without sub-folders have no labels. Nothing is kept in memory.

    Args:
        path: the folder.
        height, width: of an image; None for those of the first file.
        resize: what becomes of a file of another size: ``refuse`` it, ``stretch`` it, or ``crop`` its middle after it
            was made as small as covers the size. Both interpolate linearly, with antialiasing, and round.
        channels: 1 or 3; None for as many as the first file has.
        root: the folder that no link may lead out of; None for no such rule.

    Raises:
        DatasetError: no folder, no images, links that lead elsewhere; while reading, a damaged file or one of another
            size.
    """
    if resize not in ("refuse", "stretch", "crop"):
        raise DatasetError(f"resize must be refuse, stretch or crop, not {resize!r}")
    if channels not in (None, 1, 3):
        raise DatasetError(f"channels must be 1 or 3, not {channels}")
    if (height is None) != (width is None):
        raise DatasetError("give height and width, or neither of them")
    folder = Path(path)
    classes, files, labels = _listed(folder, None if root is None else Path(root).resolve())
    inputs = ImageInputs(folder, files, labels, resize)
    inputs.classes = classes
    size = inputs.decoded(files[0], channels).shape
    inputs.sample_shape = size if height is None or width is None else (height, width, size[2])
    return Samples(inputs, None if labels is None else np.array(labels))


def _listed(folder: Path, root: Path | None) -> tuple[tuple[str, ...], list[str], list[int] | None]:
    """The classes, the files of all of them relative to the folder, and their labels."""

    def inside(entry: os.DirEntry[str]) -> os.DirEntry[str]:
        if root is not None and entry.is_symlink() and not Path(entry.path).resolve().is_relative_to(root):
            raise DatasetError(f"{entry.path} leads outside the folder {root}; bind the folder of images to its name")
        return entry

    def names(place: Path) -> list[str]:
        found = (e for e in os.scandir(place) if e.name.lower().endswith(SUFFIXES) and not e.name.startswith("."))
        return sorted(inside(entry).name for entry in found if entry.is_file())

    here = (e for e in os.scandir(folder) if not e.name.startswith("."))
    classes = tuple(sorted(inside(entry).name for entry in here if entry.is_dir()))
    loose = names(folder)
    if classes and loose:
        raise DatasetError(f"{folder} holds images beside sub-folders: a class is a sub-folder, so move {loose[0]}")
    files = {name: [f"{name}/{file}" for file in names(folder / name)] for name in classes}
    empty = next((name for name, found in files.items() if not found), None)
    if empty is not None:
        raise DatasetError(
            f"{folder / empty} holds no images (files {', '.join(SUFFIXES)}); each sub-folder is a class"
        )
    if not classes and not loose:
        raise DatasetError(f"{folder} holds no images (files {', '.join(SUFFIXES)}) and no sub-folders with some")
    if not classes:
        return (), loose, None
    every = [file for found in files.values() for file in found]
    return classes, every, [label for label, found in enumerate(files.values()) for _ in found]


class ImageInputs(LazyInputs):
    """The images of a folder's files, decoded when they are asked for; ``classes`` are the names of its sub-folders."""

    classes: tuple[str, ...] = ()
    dtype = np.dtype(np.uint8)

    def __init__(self, folder: Path, files: list[str], labels: list[int] | None, resize: str):
        self._folder, self._files, self._labels, self._resize = folder, files, labels, resize
        self._asked: set[int] = set()

    def __len__(self) -> int:
        return len(self._files)

    def limit_to(self, count: int) -> None:
        del self._files[count:]

    def labels(self) -> Iterator[float | None]:
        return iter([None] * len(self) if self._labels is None else self._labels[: len(self)])

    def ask(self, indices: np.ndarray | None) -> None:
        if indices is not None:
            self._asked |= {int(i) for i in indices}

    def require_end(self) -> None:
        """A folder has one."""

    def digest(self) -> str:
        """A hash of all files' names and sizes, and of what the files hold that are asked about one by one."""
        digest = hashlib.sha256(f"{self.sample_shape} {self._resize} {len(self)} ".encode())
        for place, name in enumerate(self._files):
            file = self._folder / name
            digest.update(f"{name} {file.stat().st_size} ".encode())
            if place in self._asked:
                digest.update(hashlib.sha256(file.read_bytes()).digest())
        return digest.hexdigest()

    def _read(self, indices: np.ndarray) -> np.ndarray:
        return np.stack([self._sized(self._files[int(i)]) for i in indices])

    def _sized(self, name: str) -> np.ndarray:
        height, width, channels = self.sample_shape
        image = self.decoded(name, channels)
        if image.shape == self.sample_shape:
            return image
        if self._resize == "refuse":
            given = " x ".join(map(str, image.shape[:2]))
            raise DatasetError(
                f"{self._folder / name} has {given} pixels, and {height} x {width} are wanted: give height, width and "
                'resize="stretch" or "crop"'
            )
        return _resized(image, height, width, self._resize == "crop")

    def decoded(self, name: str, channels: int | None) -> np.ndarray:
        """A file's pixels ``[height, width, channels]``.

        Raises:
            DatasetError: it is no image.
        """
        tf = _tensorflow()
        content = (self._folder / name).read_bytes()
        try:
            with tf.device("CPU"):
                found: np.ndarray = tf.io.decode_image(content, channels or 0, expand_animations=False).numpy()
        except tf.errors.InvalidArgumentError as error:
            raise DatasetError(f"{self._folder / name} is no readable image") from error
        if found.shape[2] in (2, 4):  # with transparency, which says nothing of a colour
            return self.decoded(name, found.shape[2] - 1)
        return found


def _resized(image: np.ndarray, height: int, width: int, crop: bool) -> np.ndarray:
    tf = _tensorflow()
    size = height, width
    if crop:
        scale = max(height / image.shape[0], width / image.shape[1])
        size = max(height, round(image.shape[0] * scale)), max(width, round(image.shape[1] * scale))
    with tf.device("CPU"):
        found = tf.image.resize(image, size, antialias=True).numpy()
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return np.clip(np.rint(found[top : top + height, left : left + width]), 0, 255).astype(np.uint8)


def _tensorflow() -> Any:
    quiet.import_tensorflow()
    import tensorflow

    return tensorflow
