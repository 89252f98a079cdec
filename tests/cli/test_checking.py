"""`tfcert check` of several files and of a text, told to editors and code hosts."""

from __future__ import annotations

import io
import json
from types import SimpleNamespace

import pytest

from tfcert.cli.main import main

GOOD = 'prop 1\nmodel clf = keras("clf.keras") { outputs: logits }\nparam eps: real in [0, 1] = 0.1\n'
BAD = (
    GOOD + "property p(x, y in tst) { forall z in ball(x, linf, eps) in net: argmax(clf(z)) == y }\nlet a = argmx(1)\n"
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    (tmp_path / "in/good.prop").write_text(GOOD)
    (tmp_path / "in/clf.keras").write_bytes(b"PK")
    return tmp_path


def given(monkeypatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(text.encode())))


def test_mistakes_of_all_files_are_told_as_json(folder, capsys):
    (folder / "in/bad.prop").write_text(BAD)
    assert main(["check", "in", "--json", "-"]) == 4
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert [(d["file"], d["line"], d["column"], d["code"], d["severity"]) for d in found] == [
        ("in/bad.prop", 4, 20, "E201", "error"),
        ("in/bad.prop", 5, 9, "E201", "error"),
    ]
    assert found[1]["fix"] == "did you mean `argmax`?" and "error[E201]" in captured.err
    assert main(["check", "in/good.prop", "in/bad.prop"]) == 4
    assert capsys.readouterr().out.startswith("in/good.prop: no mistakes")


def test_sarif_names_the_rule_and_the_place(folder, capsys):
    (folder / "bad.prop").write_text(BAD)
    assert main(["check", "bad.prop", "--sarif", "in/found.sarif"]) == 4
    run = json.loads((folder / "in/found.sarif").read_text())["runs"][0]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    place = run["results"][-1]["locations"][0]["physicalLocation"]
    assert rules[run["results"][-1]["ruleIndex"]] == "E201" and place["artifactLocation"]["uri"] == "bad.prop"
    assert place["region"] == {"startLine": 5, "startColumn": 9, "endLine": 5, "endColumn": 14}
    capsys.readouterr()
    assert main(["check", "bad.prop", "--github", "-"]) == 4
    said = capsys.readouterr().out.splitlines()
    assert any(
        line.startswith("::error file=bad.prop,line=5,endLine=5,col=9,endColumn=14,title=tfcert E201::")
        for line in said
    )


def test_a_text_on_the_standard_input_has_the_paths_of_its_file(folder, capsys, monkeypatch):
    given(monkeypatch, GOOD)
    assert main(["check", "-", "--as", "in/new.prop"]) == 0
    given(monkeypatch, GOOD)
    assert main(["check", "-", "--json", "-"]) == 4  # there is no clf.keras here
    assert json.loads(capsys.readouterr().out.split("\n", 1)[1])[0]["code"] == "E222"


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["check", "-", "in/good.prop"], "checked alone"),
        (["check", "in/good.prop", "--json", "-", "--sarif", "-"], "only one format"),
        (["check", "in", "--set", "eps2=1"], "has a parameter eps2"),
        (["check", "nowhere.prop"], "there is no specification"),
        (["fmt", "-", "in/good.prop"], "laid out alone"),
    ],
)
def test_what_cannot_be_done_is_said(folder, capsys, arguments, sentence):
    (folder / "in/other.prop").write_text(GOOD)
    assert main(arguments) == 4
    assert sentence in capsys.readouterr().err
