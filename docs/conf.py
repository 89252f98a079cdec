"""How Sphinx makes the pages (``make docs``). Nothing is fetched, neither to make them nor to read them."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # for grammar.py beside this file

import grammar
import tfcert

project = "tfcert"
copyright = "the authors of tfcert, Apache License 2.0"
version = release = installed("tfcert")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["layers.py"]
highlight_language = "none"
html_theme = "furo"
html_title = f"tfcert {version}"
html_show_sourcelink = html_copy_source = False
myst_heading_anchors = 4
autodoc_default_options = {"members": True, "undoc-members": False, "member-order": "groupwise"}
autodoc_typehints = "signature"
napoleon_use_ivar = True
napoleon_use_rtype = False


def settle_names() -> None:
    """Resolves the public names, which are resolved when they are first used: autodoc looks at what is there.

    A public name says that it is tfcert's, so its annotations are looked up there, not where they are written.
    """
    for name in tfcert.__all__:
        getattr(tfcert, name)
    for home in set(tfcert._HOMES.values()):
        for name, value in vars(import_module(f"tfcert.{home}")).items():
            vars(tfcert).setdefault(name, value)


def setup(app: Any) -> None:
    """What Sphinx calls first."""
    settle_names()
    grammar.write(Path(app.srcdir) / "grammar.md")
