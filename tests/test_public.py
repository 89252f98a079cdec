"""The public names: they say that they are tfcert's, are documented, survive pickling, and stand on the pages."""

import importlib.util
import inspect
import pickle
import re
import subprocess
import sys
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


def test_the_page_of_functions_has_all_public_modules():
    modules = {f"tfcert.{name}" for name in tfcert.__all__ if inspect.ismodule(getattr(tfcert, name))}
    named = re.findall(r"^\.\. automodule:: (\S+)$", (DOCS / "api.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(named) == len(set(named)) and set(named) == {"tfcert", "tfcert.datasets", *modules}


@pytest.mark.sweep
def test_the_pages_are_made_without_a_warning_have_every_public_name_and_fetch_nothing(tmp_path):
    pytest.importorskip("sphinx", reason="sphinx, which makes the pages, is not installed")
    made = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", DOCS, tmp_path / "html"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (made.returncode, made.stderr) == (0, "")
    page = (tmp_path / "html" / "api.html").read_text(encoding="utf-8")
    assert [name for name in NAMES if f'id="tfcert.{name}"' not in page] == []
    pages = [path.read_text(encoding="utf-8") for path in (tmp_path / "html").glob("*.html")]
    fetched = re.compile(r"<(?:script|img|link|iframe)[^>]*(?:src|href)=[\"'](?:https?:)?//", re.IGNORECASE)
    assert len(pages) > 30 and not [found for text in pages for found in fetched.findall(text)]
    styles = [path.read_text(encoding="utf-8") for path in (tmp_path / "html" / "_static").rglob("*.css")]
    assert not [style for style in styles if re.search(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", style)]


def test_the_grammar_s_page_defines_each_rule_once_and_names_no_other():
    pytest.importorskip("railroad", reason="railroad-diagrams, which draws the grammar, is not installed")
    spec = importlib.util.spec_from_file_location("grammar_page", DOCS / "grammar.py")
    grammar = importlib.util.module_from_spec(spec)
    sys.modules["grammar_page"] = grammar  # dataclasses look themselves up there
    spec.loader.exec_module(grammar)
    text = grammar.GRAMMAR.read_text(encoding="utf-8")
    page = grammar.page(text)
    lines = "\n".join(re.findall(r"^```text\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))
    defined = re.findall(r"^(\w+) = ", lines, re.MULTILINE)
    assert sorted(defined) == sorted(grammar.rules(text)) and len(defined) > 90
    bare = re.sub(r'"[^"]*"|(?<= )/.*/(?= )', "", lines)
    assert set(re.findall(r"\w+", bare)) == set(defined)
    assert page.count("<svg") == sum(name.islower() for name in defined)
    small = 'start: "a" ("b" | X)* [y] y+ y?\n?y: "c" -> d\n  | X\n\nX.2: /(in|on)(?![a-z(])(?=x)/\nZ: /p\\)q/\n'
    assert [grammar.ebnf(rule) for rule in grammar.rules(small).values()] == [
        'start = "a" { "b" | X } [ y ] y { y } [ y ] .', 'y = "c" | X .', 'X = "in" | "on" .', "Z = /p\\)q/ .",
    ]  # fmt: skip
