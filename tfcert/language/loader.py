"""From text to a checked specification."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from tfcert.language.templates import Spec, Value


def load(
    source: str,
    *,
    filename: str = "<text>",
    params: Mapping[str, Value | float] | None = None,
    bound: Collection[str] = (),
    root: str | Path | None = None,
) -> Spec:
    """Check a specification given as text.

    Args:
        source: the text.
        filename: under which to report it.
        params: values that override parameters: exact texts such as ``"2/255"``, or numbers (a float means its
            shortest decimal).
        bound: names of models and data sets that the caller binds; their paths are not checked, and they need not
            be declared.
        root: the folder to which paths and imports are relative and confined. None: paths are only checked for
            staying inside, imports are refused.

    Raises:
        SpecError: with everything that is wrong.
    """
    raise NotImplementedError


def load_file(
    path: str | Path, *, params: Mapping[str, Value | float] | None = None, bound: Collection[str] = ()
) -> Spec:
    """Check a specification in a file; its folder is the root. Arguments and errors as for ``load``."""
    raise NotImplementedError
