"""Values of parameters from outside of a specification: files, the environment, the command line; the last wins."""

from __future__ import annotations

import argparse
import json
import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfcert.errors import UsageError
from tfcert.language.spec.declarations import GivenValue

PREFIX = "TFCERT_"
"""Of names in the environment: ``TFCERT_eps``, and ``TFCERT_common__eps`` for ``common.eps``."""
OWN = ("TFCERT_DATA", "TFCERT_RESULTS")
"""Names in the environment that mean something else."""


def given_parameters(
    files: Sequence[str], environment: Mapping[str, str] | None, set_: Sequence[tuple[str, str]]
) -> dict[str, GivenValue]:
    """The values that a command was given, by the parameters' names, with where each comes from.

    Args:
        files: JSON or TOML files; of two with one name the later wins.
        environment: variables to look at; None for none. They win against files.
        set_: names and values of ``--set``, which win against all others.

    Raises:
        UsageError: a file is none of JSON or TOML, or holds something else than values.
    """
    found: dict[str, GivenValue] = {}
    for file in files:
        found |= {name: GivenValue(value, f"{file}, {name}") for name, value in _from_file(Path(file))}
    for variable, text in (environment or {}).items():
        if variable.startswith(PREFIX) and variable not in OWN:
            found[variable.removeprefix(PREFIX).replace("__", ".")] = GivenValue(text, f"environment, {variable}")
    return found | {name: GivenValue(text, f"--set {name}") for name, text in set_}


def _from_file(path: Path) -> Iterator[tuple[str, str | bool]]:
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8") from None
    # Numbers stay as they are written: 0.1 is a tenth, and not the float nearest to it.
    try:
        if path.suffix == ".toml":
            loaded: Any = tomllib.loads(text, parse_float=str)
        else:
            loaded = json.loads(text, parse_float=str, parse_int=str, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        kind = "TOML" if path.suffix == ".toml" else "JSON (or TOML, in a file .toml)"
        raise UsageError(f"{path} is no {kind}: {error}") from None
    if not isinstance(loaded, dict):
        raise UsageError(f'{path} holds no names: write {{"eps": "2/255"}}')
    yield from _flat(path, loaded, "")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands there twice")
    return found


def _flat(path: Path, values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str | bool]]:
    """Names and values; those of an import stand in an object of its name."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(path, value, f"{prefix}{name}.")
        elif isinstance(value, str | bool | int):
            yield prefix + name, value if isinstance(value, bool) else str(value)
        else:
            raise UsageError(f"{path}: the value of {prefix}{name} must be a number, a text, or true or false")


def from_environment(wanted: bool) -> Mapping[str, str] | None:
    """The variables of the process, if they are to be looked at."""
    return dict(os.environ) if wanted else None


def names_given(options: argparse.Namespace) -> dict[str, Any]:
    """What a command line gives for parameters (``params``), and for models and data sets (``bindings``)."""
    params = given_parameters(options.params, from_environment(options.set_from_env), options.set)
    return {"params": params, "bindings": dict(options.bind)}
