"""Loading a model from a file that may come from anyone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tfcert.training  # noqa: F401  (importing it registers its classes, which a file may hold)
from tfcert.model_files import complaint, format_of
from tfcert.network.errors import ModelLoadError
from tfcert.network.frontend import Frontend


def load_model(path: str | Path, *, compile: bool = False) -> Any:
    """Loads a model from a file; code stored in it (lambdas, pickles) is never run.

    Files that hold a CertifiedModel or a layer of tfcert's load too, in a new process as well.

    Args:
        path: a ``.keras`` file. A model with functions or layers of your own needs them registered before
            (``keras.saving.register_keras_serializable``).
        compile: True to restore loss and optimizer, to train on.

    Returns:
        The Keras model.

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
    info = format_of(path)
    assert info is not None  # a file of no format is complained about
    frontend: Frontend = info.load()
    return frontend.load(path, compile=compile)
