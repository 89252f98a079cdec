"""Loading a model from a file that may come from anyone."""

from __future__ import annotations

import zipfile
from pathlib import Path

import keras

import tfcert.training  # noqa: F401  (importing it registers its classes, which a file may hold)
from tfcert.model_files import complaint
from tfcert.network.errors import ModelLoadError
from tfcert.network.keras.private import SafeModeScope


def load_model(path: str | Path, *, compile: bool = False) -> keras.Model:
    """Loads a ``.keras`` file; code stored in it (lambdas, pickles) is never run.

    Files that hold a CertifiedModel or a layer of tfcert's load too, in a new process as well.

    Args:
        path: the file. A model with functions or layers of your own needs them registered before
            (``keras.saving.register_keras_serializable``).
        compile: True to restore loss and optimizer, to train on.

    Raises:
        FileNotFoundError: there is no such file.
        ModelLoadError: another format, a damaged file, a Lambda layer, or a class that is not registered.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no model file {str(path)!r}")
    wrong = complaint(path)
    if wrong is not None:
        raise ModelLoadError(wrong)
    try:
        with SafeModeScope(True):  # Keras's global switch would overrule the argument.
            return keras.saving.load_model(path, compile=compile, safe_mode=True)
    except (ValueError, TypeError, KeyError, AttributeError, ImportError, OSError, zipfile.BadZipFile) as error:
        raise ModelLoadError(_explain(path, str(error))) from error


def _explain(path: Path, message: str) -> str:
    cause = message.rpartition("Exception encountered:")[2].strip()  # Keras nests the cause in layers of configuration
    if "lambda" in cause.lower():
        return (
            f"{str(path)!r} holds a Lambda layer: code of the file's author, which is never run; "
            "write it with keras.ops in a functional model, or as a registered layer, and save it again"
        )
    first = cause.partition(". ")[0].partition("\n")[0].rstrip(".")
    return (
        f"Keras cannot load {str(path)!r}: {first}. If the model uses functions or layers of your own, register them "
        "first with keras.saving.register_keras_serializable"
    )
