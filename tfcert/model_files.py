"""Complaints about a model's file, as far as they are seen without TensorFlow."""

from __future__ import annotations

import json
import zipfile
from importlib.util import find_spec
from pathlib import Path

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


def input_type(path: Path) -> str | None:
    """The type of numbers that a Keras model takes, as its file says: ``float32`` say; None where it is not told."""
    if path.suffix != ".keras" or not zipfile.is_zipfile(path):
        return None
    try:
        with zipfile.ZipFile(path) as file:
            layers = json.loads(file.read("config.json"))["config"]["layers"]
        found = {layer["config"]["dtype"] for layer in layers if layer["class_name"] == "InputLayer"}
    except (KeyError, TypeError, ValueError, OSError, zipfile.BadZipFile):
        return None  # whoever loads the model says what is wrong with it
    floats = {kind for kind in found if isinstance(kind, str) and kind.startswith("float")}
    return floats.pop() if len(floats) == 1 else None


def onnx_complaint(path: Path) -> str | None:
    """A sentence that says why an existing file cannot be an ONNX model; None if it may be one."""
    if not path.is_file():
        return f"{str(path)!r} is not an .onnx file"
    missing = [name for name in ("onnx", "onnxruntime") if find_spec(name) is None]
    if missing:
        return f"{str(path)!r} needs {' and '.join(missing)}: pip install tfcert[onnx]"
    return None
