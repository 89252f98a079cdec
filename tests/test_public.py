"""The public names: they say that they are tfcert's, are documented, survive pickling, and have their page."""

import importlib.util
import inspect
import pickle
from pathlib import Path

import pytest

import tfcert

DOCS = Path(__file__).parents[1] / "docs"
NAMES = [name for name in tfcert.__all__ if not inspect.ismodule(getattr(tfcert, name))]


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_is_documented_and_is_found_where_it_says_it_is(name):
    value = getattr(tfcert, name)
    assert (value.__module__, value.__name__) == ("tfcert", name)
    assert pickle.loads(pickle.dumps(value)) is value
    assert value.__doc__ and value.__doc__[0].isupper(), f"{name} has no docstring"


def test_every_public_name_is_on_the_pages_and_no_module_inside_of_tfcert_is(tmp_path):
    if importlib.util.find_spec("pdoc") is None:
        pytest.skip("pdoc, which writes the pages, is not installed")
    spec = importlib.util.spec_from_file_location("pages", DOCS / "pages.py")
    pages = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pages)
    before = dict(vars(tfcert))
    try:
        pages.write(tmp_path)
    finally:
        for name in set(vars(tfcert)) - set(before):
            delattr(tfcert, name)
    written = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.html")}
    assert written == {"index.html", "tfcert.html", *(f"tfcert/{name}.html" for name in pages.MODULES)}
    page = (tmp_path / "tfcert.html").read_text(encoding="utf-8")
    assert [name for name in NAMES if f'id="{name}"' not in page] == []
