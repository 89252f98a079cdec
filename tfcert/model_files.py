"""What is wrong with a model's file, as far as that is seen without TensorFlow."""

from __future__ import annotations

import zipfile
from pathlib import Path


def complaint(path: Path) -> str | None:
    """Why an existing file cannot be a Keras model of the format that tfcert reads; None if it may be one."""
    if path.suffix in (".h5", ".hdf5"):
        return (
            f"{str(path)!r} is in the old HDF5 format, which tfcert does not read; convert it once with "
            'keras.models.load_model(...).save("model.keras")'
        )
    if path.suffix != ".keras" or not path.is_file():
        return f"{str(path)!r} is not a .keras file; save the model with model.save('model.keras')"
    if not zipfile.is_zipfile(path):
        return f"{str(path)!r} is damaged: a .keras file is a zip archive, and this is none"
    return None
