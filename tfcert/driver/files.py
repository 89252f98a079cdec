"""Files that a run reads and writes, looked at before TensorFlow is loaded: a mistake in one is told at once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfcert.datasets import confine
from tfcert.driver.bind import needed_models, placed
from tfcert.driver.joining import require_one_type
from tfcert.errors import UsageError
from tfcert.language import Spec
from tfcert.model_files import complaint, input_type


def require_models(spec: Spec, bindings: Mapping[str, Any], *, if_there: bool = False) -> None:
    """Checks that the files of the models that a specification needs are there and may be Keras's.

    Args:
        spec, bindings: the specification, and what its names are bound to.
        if_there: look at files that exist, and let others be missing.

    Raises:
        UsageError: one is not, or lies outside the specification's folder, or a question is about networks of
            different types.
    """
    types: dict[str, str] = {}
    for name in needed_models(spec):
        model = spec.models[name]
        with placed(spec, name, model.span):
            if if_there and not model.bound and not Path(model.folder, model.path).exists():
                continue
            given = bindings[model.whole] if model.bound else confine(model.path, model.folder or None)
            if isinstance(given, str | Path):
                require_model(Path(given))
                types[name] = input_type(Path(given)) or ""
    for template in (*spec.properties.values(), *spec.measures.values()):
        with placed(spec, template.name, template.span):
            require_one_type(template, [types.get(a.model, "") for a in template.applications])


def require_model(path: Path) -> None:
    """Checks that a file is there and may be a Keras model.

    Raises:
        UsageError: it is not.
    """
    if not path.exists():
        raise UsageError(f"there is no model {path}")
    wrong = complaint(path)
    if wrong is not None:
        raise UsageError(wrong)


def require_writable(folder: Path) -> None:
    """Checks that files can be written into a folder, which need not exist yet.

    Raises:
        UsageError: they cannot.
    """
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir():
        raise UsageError(f"{folder} cannot be written to: {there} is no folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UsageError(f"{folder} cannot be written to: you may not write in {there}")


def require_file_writable(path: Path) -> None:
    """Checks that a file can be written at ``path``.

    Raises:
        UsageError: it cannot.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name a file")
    if path.exists() and not os.access(path, os.W_OK):
        raise UsageError(f"{path} cannot be written to")
    require_writable(path.absolute().parent)
