"""The tutorial runs, in one namespace, and prints what stands below each of its blocks; the glossary names files."""

import ast
import importlib
import importlib.util
import re
from pathlib import Path

import pytest

import tfcert
from tfcert.language import load

ROOT = Path(__file__).parents[1]
TUTORIAL = ROOT / "docs" / "tutorial.md"
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"\d+(?:\.\d+)?")
RELATIVE, COUNTS = 0.25, 3
"""How much a number may differ from what is printed: training is not the same on every machine."""


def blocks(text: str) -> list[tuple[str, str]]:
    """Each block of Python, and what it is said to print."""
    return [(code, output or "") for code, output in BLOCK.findall(text)]


def agree(printed: str, said: str) -> bool:
    """Whether two outputs are the same but for small differences of their numbers."""
    if NUMBER.sub("#", printed) != NUMBER.sub("#", said):
        return False
    pairs = zip(NUMBER.findall(printed), NUMBER.findall(said), strict=True)
    return all(abs(float(a) - float(b)) <= max(RELATIVE * float(b), 0 if "." in b else COUNTS) for a, b in pairs)


def test_the_tutorial_prints_what_it_says(tmp_path, monkeypatch, capsys):
    if importlib.util.find_spec("sklearn") is None:
        pytest.skip("scikit-learn, which holds the digits, is not installed")
    monkeypatch.chdir(tmp_path)
    namespace: dict = {}
    for number, (code, said) in enumerate(blocks(TUTORIAL.read_text(encoding="utf-8")), start=1):
        capsys.readouterr()
        exec(compile(code, f"block {number} of tutorial.md", "exec"), namespace)
        printed = capsys.readouterr().out
        assert agree(printed, said), f"block {number} prints:\n{printed}"


@pytest.mark.sweep
def test_the_page_on_retraining_prints_what_it_says(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "retraining.md").read_text(encoding="utf-8")
    ((code, said),) = blocks(text)
    exec(compile(code, "retraining.md", "exec"), {})
    assert capsys.readouterr().out == said


@pytest.mark.parametrize(
    ("printed", "same"),
    [
        ("40 verified, 0.030\n", True),
        ("43 verified, 0.035\n", True),
        ("50 verified, 0.030\n", True),
        ("52 verified, 0.030\n", False),
        ("40 verified, 0.040\n", False),
        ("40 refuted, 0.030\n", False),
        ("40 verified\n", False),
    ],
)
def test_outputs_agree_in_words_and_nearly_in_numbers(printed, same):
    assert agree(printed, "40 verified, 0.030\n") == same


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial.md", "docs/retraining.md"])
def test_python_on_a_page_compiles_and_takes_public_names_only(page):
    for code in re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(encoding="utf-8"), re.M | re.S):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "tfcert":
                assert node.attr in tfcert.__all__, f"tfcert.{node.attr}"
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("tfcert"):
                module = importlib.import_module(str(node.module))
                assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


def test_the_files_that_the_glossary_names_are_there():
    lines = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8").splitlines()
    places = [place for line in lines if line.startswith("|") for place in re.findall(r"`([a-z_/]+(?:\.py|/))`", line)]
    assert len(places) > 50
    assert [place for place in places if not (ROOT / "tfcert" / place).exists()] == []


def specifications(page: str) -> list[str]:
    """The blocks of a page that are whole specifications."""
    return re.findall(r"^```\n(prop 1\n.*?)^```$", (ROOT / page).read_text(encoding="utf-8"), re.M | re.S)


@pytest.mark.parametrize("page", ["docs/language.md"])
def test_specifications_on_a_page_are_without_mistakes(page):
    """A specification that is shown says what the tool takes: no errors, and no warnings either."""
    shown = specifications(page)
    assert len(shown) >= 2
    for text in shown:
        found = load(text)
        assert not found.warnings, found.warnings[0].render()


def test_the_page_about_onnx_prints_what_it_says_and_lists_what_is_read(tmp_path, monkeypatch, capsys):
    for package in ("onnx", "onnxruntime"):
        pytest.importorskip(package, reason=f"ONNX models need the package {package}")
    from tfcert.network.onnx.graph import OPERATORS

    text = (ROOT / "docs" / "onnx.md").read_text(encoding="utf-8")
    listed = re.sub(r"\([^)]*\)", "", text.rpartition("## Operators")[2])
    assert set(re.findall(r"\w+", listed)) == set(OPERATORS)
    monkeypatch.chdir(tmp_path)
    namespace: dict = {}
    for number, (code, said) in enumerate(blocks(text), start=1):
        capsys.readouterr()
        exec(compile(code, f"block {number} of onnx.md", "exec"), namespace)
        printed = capsys.readouterr().out
        assert not said or agree(printed, said), f"block {number} prints:\n{printed}"
    assert printed.startswith("unsat\n0\nsat\n((X_0 ") and "(X_1 0.1)" in printed and printed.endswith("1\n")
