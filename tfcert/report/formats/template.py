"""Pages by jinja2: templates of packages, and the head that all of them have."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files

import jinja2


@lru_cache
def template(package: str) -> jinja2.Template:
    """The ``page.html`` of a package; it may begin with ``head.html``, which is next to this file."""
    homes = {"page.html": package, "head.html": "tfcert.report.formats"}

    def source(name: str) -> str:
        return files(homes[name]).joinpath(name).read_text(encoding="utf-8")

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(source), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    return environment.get_template("page.html")
