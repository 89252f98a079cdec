"""Writes pages of the Python interface from its docstrings, by pdoc: ``python docs/pages.py FOLDER``."""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from pathlib import Path

import pdoc

import tfcert

MODULES = ("callbacks", "layers", "metrics", "objectives", "schedules", "datasets", "zoo")
"""What of tfcert has a page of its own, beside the names of tfcert itself."""


def write(folder: Path) -> None:
    """Fills ``folder`` with ``index.html`` and a page for each public module."""
    for name in tfcert.__all__:  # they are resolved when they are first used, and pdoc looks at what is there
        getattr(tfcert, name)
    # A public name says that it is tfcert's, so its annotations are looked up there, not where they are written.
    for home in set(tfcert._HOMES.values()):
        for name, value in vars(import_module(f"tfcert.{home}")).items():
            vars(tfcert).setdefault(name, value)
    pdoc.render.configure(docformat="google", show_source=False)
    pages = ["tfcert", r"!tfcert\..*", *(f"tfcert.{name}" for name in MODULES), r"!tfcert\.\w+\..*"]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Cannot determine where")  # of fields, whose sources are not shown
        warnings.filterwarnings("ignore", "Error parsing type annotation")  # those are shown as written
        pdoc.pdoc(*pages, output_directory=folder)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
