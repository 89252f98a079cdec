"""Writing a dossier, and deriving it again: what differs was changed, or cannot be derived from what is there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2

from tfcert.dossier.content import JSON_FILE, PAGE_FILE, dossier_of, text_of
from tfcert.dossier.page import page_of
from tfcert.errors import UsageError
from tfcert.report.records import Json

_MOST = 20
"""Differences that are told."""


def write_dossier(folder: str | Path) -> tuple[Path, Path, Json]:
    """Writes the dossier of a run into its folder: a page, and JSON.

    Returns:
        The page's path, that of the JSON, and what it says.

    Raises:
        UsageError: as for :func:`~tfcert.dossier.content.dossier_of`.
    """
    folder = Path(folder)
    dossier = dossier_of(folder)
    page, data = folder / PAGE_FILE, folder / JSON_FILE
    page.write_text(page_of(dossier, folder), encoding="utf-8")
    data.write_text(text_of(dossier), encoding="utf-8")
    return page, data, dossier


def recheck(dossier: str | Path) -> list[str]:
    """Derives a dossier again from the journal and files beside it, and runs the checker.

    Args:
        dossier: the folder that holds it, or one of its files.

    Returns:
        What differs, in sentences; nothing where all is as it says. Certificates that are not proven, and a result that
        does not agree with the journal, are among them.

    Raises:
        UsageError: there is no dossier.
    """
    folder = Path(dossier)
    folder = folder if folder.is_dir() else folder.parent
    for name in (JSON_FILE, PAGE_FILE):
        if not (folder / name).is_file():
            raise UsageError(f"there is no {folder / name}: `tfcert dossier {folder}` writes it")
    try:
        again = dossier_of(folder)
        page = page_of(again, folder).encode()
    except UsageError as error:
        return [str(error)]
    except (KeyError, TypeError, ValueError, AttributeError, jinja2.UndefinedError) as error:
        return [f"the journal or the result lacks what a dossier follows from ({type(error).__name__}: {error})"]
    written, found = (folder / JSON_FILE).read_bytes(), list[str]()
    if written != text_of(again).encode():
        try:
            found += _differences(json.loads(written), again, "")
        except ValueError:
            found.append(f"{JSON_FILE} is no JSON")
        found = found or [f"{JSON_FILE} says the same, and is written otherwise"]
    if (folder / PAGE_FILE).read_bytes() != page:
        found.append(f"{PAGE_FILE} is not the page that follows from the journal")
    checked = again["content"]["certificates"]
    found += [f"{c['file']} is not proven: {c['said']}" for c in checked["checked"] if not c["proven"]]
    found += [f"{path} is missing" for path in checked["missing"]]
    if not again["content"]["agrees"]:
        found.append("the result does not agree with the journal")
    return found if len(found) <= _MOST else [*found[:_MOST], f"and {len(found) - _MOST} more"]


def _differences(said: Any, is_: Any, where: str) -> Iterator[str]:
    """What a dossier says, and what follows from the files, where the two differ."""
    if isinstance(said, dict) and isinstance(is_, dict):
        for key in dict.fromkeys([*said, *is_]):
            if key not in said or key not in is_:
                yield f"{where}{key} is {'not said' if key not in said else 'said, and does not follow'}"
            else:
                yield from _differences(said[key], is_[key], f"{where}{key}: ")
    elif isinstance(said, list) and isinstance(is_, list) and len(said) == len(is_):
        for number, (one, other) in enumerate(zip(said, is_, strict=True)):
            yield from _differences(one, other, f"{where}{number}: ")
    elif said != is_ or type(said) is not type(is_):
        yield f"{where}{_short(said)} is said, and {_short(is_)} follows"


def _short(value: Any) -> str:
    text = json.dumps(value, sort_keys=True)
    return text if len(text) <= 60 else text[:57] + "..."
