"""The grammar's parser. Its tables are kept between runs, since computing them takes six times as long as reading them.

They lie in the user's own cache folder, or the one that the environment variable ``TFCERT_CACHE`` names (empty for
none). A file's name says of which grammar, lark and Python it is, so that none is read for another; one that cannot be
read is computed again. Since it is unpickled, a folder that other users may write to is not used.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import io
import os
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import lark

STARTS = ("start", "formula")


def parser(postlex: Any, folder: Path | None = None) -> lark.Lark:
    """A parser of the language; a text or, with ``start="formula"``, a lone formula.

    Args:
        postlex: what lark asks about words; its ``always_accept`` is a part of the tables.
        folder: where tables are kept; None for the user's.
    """
    grammar = importlib.resources.files("tfcert.grammar").joinpath("prop.lark").read_text("utf-8")
    options = {"parser": "lalr", "start": list(STARTS), "propagate_positions": True, "postlex": postlex}
    folder = _usable(_own() if folder is None else folder)
    if folder is None:
        return lark.Lark(grammar, **options)
    rules = grammar, STARTS, postlex.always_accept, f"{type(postlex).__module__}.{type(postlex).__qualname__}"
    known = repr((*rules, lark.__version__, sys.version))
    kept = folder / f"prop-{hashlib.sha256(known.encode()).hexdigest()[:32]}.tables"
    tables = _read(kept)
    if tables is not None:
        return lark.Lark.load(io.BytesIO(tables))
    found = lark.Lark(grammar, **options)
    _keep(found, kept)
    return found


def _read(kept: Path) -> bytes | None:
    """Tables that were written whole; None where there are none."""
    try:
        digest, _, tables = kept.read_bytes().partition(b"\n")
    except OSError:
        return None
    return tables if hashlib.sha256(tables).hexdigest().encode() == digest else None


def _keep(found: lark.Lark, kept: Path) -> None:
    """Writes the tables as a whole, or not at all."""
    tables = io.BytesIO()
    found.save(tables)
    new = kept.with_name(f"{kept.name}.{os.getpid()}")
    with suppress(OSError):
        new.write_bytes(hashlib.sha256(tables.getvalue()).hexdigest().encode() + b"\n" + tables.getvalue())
        os.replace(new, kept)


def _own() -> Path | None:
    """The user's folder; None where there is none, or it is not wanted."""
    named = os.environ.get("TFCERT_CACHE")
    if named is not None:
        return Path(named) if named else None
    around = {"win32": "LOCALAPPDATA", "darwin": ""}.get(sys.platform, "XDG_CACHE_HOME")
    if around and os.environ.get(around):
        return Path(os.environ[around]) / "tfcert"
    with suppress(RuntimeError):  # nobody's home
        return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "tfcert"
    return None


def _usable(folder: Path | None) -> Path | None:
    """The folder, made if need be; None where that is impossible, or others may write to it."""
    if folder is None:
        return None
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
    except OSError:
        return None
    if os.name == "posix" and (found.st_uid != os.getuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)):
        return None
    return folder
