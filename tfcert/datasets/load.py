"""Reading a data set: by the name of its source, or what the caller has already."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tfcert.catalog import SOURCES
from tfcert.datasets.base import DatasetError, Samples, checked_samples
from tfcert.datasets.streamed import StreamedInputs, StreamedLabels


def load_dataset(source: Any, *arguments: Any, root: str | Path | None = None, **options: Any) -> Samples:
    """Reads a data set.

    Args:
        source: the name of a source (one of ``catalog.SOURCES``), called with ``arguments`` and ``options`` as a
            specification writes them; or the data itself, see :func:`from_memory`.
        root: the folder that relative paths start from and that no path may leave, symbolic links resolved; None for
            a path that the user named on the command line.

    Raises:
        DatasetError: unknown source or option, unreadable or unsuitable data.
    """
    if not isinstance(source, str):
        return from_memory(source)
    try:
        info = SOURCES.find(source)
    except ValueError as error:
        raise DatasetError(str(error)) from error
    if info.positional in ("path", "folder"):
        if not arguments:
            kind, example = ("file", f"test.{source}") if info.positional == "path" else ("folder", "test")
            raise DatasetError(f'{source} needs the path of a {kind}, as in {source}("{example}")')
        folder = info.positional == "folder"
        arguments = (confine(arguments[0], root, folder=folder), *arguments[1:])
        options |= {"root": root} if folder else {}
    read = info.load()
    try:
        samples: Samples = read(*arguments, **options)
    except TypeError as error:
        if "argument" not in str(error):
            raise
        problem = str(error).removeprefix(f"{read.__name__}() ")
        raise DatasetError(f"data source {source}: {problem}") from error
    return samples


def confine(path: str | Path, root: str | Path | None, *, folder: bool = False) -> Path:
    """The real path of ``path``, which must lie inside ``root`` (unless that is None) once links are resolved.

    Raises:
        DatasetError: the path leads outside ``root``, or there is no such regular file (or ``folder``).
    """
    base = Path(root) if root is not None else Path()
    real = (base / path).resolve()
    if root is not None and not real.is_relative_to(base.resolve()):
        raise DatasetError(f"{path} leads outside the folder {base}; move the file there or name it with --bind")
    if not real.exists():
        kind = "folder" if folder else "file"
        raise DatasetError(f"there is no {kind} {path}" + (f" in {base}" if root is not None else ""))
    if folder and not real.is_dir():
        raise DatasetError(f"{path} is no folder: give the path of a folder of images")
    if not folder and not real.is_file():
        raise DatasetError(f"{path} is no regular file: give the path of a file, not of a folder, a pipe or a device")
    return real


def from_memory(data: Any) -> Samples:
    """Samples that the caller already has: ``x``, ``(x, y)``, a mapping with ``x`` and ``y``, or a ``tf.data.Dataset``.

    A ``tf.data.Dataset``, batched or not, is read as far as its samples are asked for.

    Raises:
        DatasetError: neither of these.
    """
    if hasattr(data, "as_numpy_iterator"):
        streamed = StreamedInputs(data, "the tf.data.Dataset")
        return Samples(streamed, StreamedLabels(streamed) if streamed.labelled else None)
    if isinstance(data, dict):
        if "x" not in data:
            raise DatasetError(f"the mapping has no 'x'; it has {', '.join(map(str, data)) or 'nothing'}")
        return checked_samples(data["x"], data.get("y"), "the mapping")
    if isinstance(data, tuple | list) and len(data) == 2:
        return checked_samples(data[0], data[1], "the pair (x, y)")
    if hasattr(data, "__array__"):
        return checked_samples(data, None, "the array")
    raise DatasetError(f"a data set is x, (x, y), a mapping or a tf.data.Dataset, not a {type(data).__name__}")
