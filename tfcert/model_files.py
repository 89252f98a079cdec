"""Complaints about a model's file, as far as they are seen without TensorFlow."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from tfcert.catalog import FORMATS, FormatInfo, of_file, suffixes


def complaint(path: Path) -> str | None:
    """A sentence that says why an existing file cannot be a model of any format; None if it may be one."""
    info = format_of(path)
    if info is not None:
        return info.complaint(path)
    if path.suffix in (".h5", ".hdf5"):
        return (
            f"{str(path)!r} is in the old HDF5 format, which tfcert does not read; convert it once with "
            'keras.models.load_model(...).save("model.keras")'
        )
    return (
        f"{str(path)!r} is not a {' or '.join(suffixes(FORMATS))} file; save the model with model.save('model.keras')"
    )


def format_of(path: Path) -> FormatInfo | None:
    """The format of a model's file by its suffix; None if there is none that is supported."""
    return of_file(FORMATS, path.name)


def keras_complaint(path: Path) -> str | None:
    """A sentence that says why an existing file cannot be a model that Keras 3 saved; None if it may be one."""
    if not path.is_file():
        return f"{str(path)!r} is not a .keras file; save the model with model.save('model.keras')"
    if not zipfile.is_zipfile(path):
        return f"{str(path)!r} is damaged: a .keras file is a zip archive, and this is none"
    return None


NamedInput = tuple[str, tuple[int | None, ...]]
"""The name and the shape (batch left out) of an input."""


def several_inputs(model: str, given: Sequence[NamedInput], by_name: bool) -> str | None:
    """A sentence that a model takes several arrays a sample, and how to make them one; None where it takes one."""
    if len(given) < 2:
        return None
    shapes = ", ".join(f"{name!r} {shape}" for name, shape in given)
    said = (
        f"model {model!r} has {len(given)} inputs ({shapes}), but one is supported: join them to one input that the "
        "model takes apart"
    )
    sizes = [shape[0] for _, shape in given if len(shape) == 1 and shape[0]]
    if len(sizes) < len(given):
        return said
    parts = [f"z[:, {end - size}:{end}]" for end, size in zip(accumulate(sizes), sizes, strict=True)]
    if by_name:
        named = zip((name for name, _ in given), parts, strict=True)
        taken = "{" + ", ".join(f"{name!r}: {part}" for name, part in named) + "}"
    else:
        taken = f"[{', '.join(parts)}]"
    return (
        f"{said}: z = keras.Input(({sum(sizes)},)); joined = keras.Model(z, model.call({taken})), and join samples by "
        "np.concatenate([...], axis=1)"
    )


def inputs_complaint(path: Path) -> str | None:
    """The sentence of :func:`several_inputs` about a ``.keras`` file, as far as its configuration shows it."""
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))["config"]
        given = config["input_layers"]
        by_name = isinstance(given, dict)
        # Keras writes a single input as one triple, several as a list of them, named ones as a dictionary.
        layers = {key: entry[0] for key, entry in given.items()} if by_name else {e[0]: e[0] for e in given}
        shapes = {layer["name"]: layer["config"]["batch_shape"][1:] for layer in config["layers"] if _is_input(layer)}
        found = [(key, tuple(shapes[name])) for key, name in layers.items()]
    except (KeyError, IndexError, TypeError, ValueError, OSError, zipfile.BadZipFile):
        return None  # another kind of model, or a damaged file: loading tells
    return several_inputs(str(config.get("name", path.stem)), found, by_name)


def _is_input(layer: Any) -> bool:
    return bool(layer["class_name"] == "InputLayer")
