"""Habits of all verbs: an option is the same everywhere, JSON stands alone, quiet is quiet, and NO_COLOR is kept to."""

from __future__ import annotations

import argparse
import io
import json
import shutil
from collections import defaultdict
from pathlib import Path

import pytest

from tfcert.cli import doctor
from tfcert.cli.main import build_parser, main

PLANT = Path(__file__).parents[2] / "examples" / "questions" / "plant.keras"
SPEC = """\
prop 1
model plant = keras("plant.keras") { inputs: [load, valve] outputs: [power] }
property p { forall s in box(load in [0, 1], valve in [0, 1]) in raw: plant(s)[power] <= 90 }
"""
DIFFERENT = {"--out": {"DIR", "MODEL.keras"}}
"""Options whose value is written in different words: `train` makes a file, the others a folder."""
SPEAKING = {"lsp", "completion"}
"""Verbs that other programs read anyway."""


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.prop").write_text(SPEC)
    shutil.copy(PLANT, tmp_path)


def options_by_verb() -> dict[str, dict[str, argparse.Action]]:
    """The options of each verb that runs something, by their longest name."""
    found: dict[str, dict[str, argparse.Action]] = {}

    def walk(name: str, parser: argparse.ArgumentParser) -> None:
        inner = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
        for action in inner:
            for verb, below in action.choices.items():
                walk(f"{name} {verb}".strip(), below)
        if not inner:
            found[name] = {max(a.option_strings, key=len): a for a in parser._actions if a.option_strings}

    walk("", build_parser())
    return found


def test_an_option_is_the_same_thing_wherever_it_is():
    """Values have one word, flags stay flags, and short names belong to one option."""
    words, short = defaultdict(set), defaultdict(set)
    for options in options_by_verb().values():
        for name, action in options.items():
            words[name].add(action.metavar if action.choices is None else "one of several")
            for given in action.option_strings:
                if not given.startswith("--"):
                    short[given].add(name)
    assert len(words) > 50
    assert {name: said for name, said in words.items() if len(said) > 1} == DIFFERENT
    assert {name: said for name, said in short.items() if len(said) > 1} == {}


def test_every_verb_writes_json_and_can_be_quiet():
    verbs = options_by_verb()
    assert {verb for verb, options in verbs.items() if "--json" not in options} == {*SPEAKING, "watch"}
    assert {verb for verb, options in verbs.items() if "--quiet" not in options} == {*SPEAKING, "explain", "supports"}


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["check", "s.prop"], []),
        (["fmt", "s.prop", "--check"], [{"file": "s.prop", "changed": False}]),
        (["explain", "s.prop"], "questions"),
        (["doctor"], ["tfcert", "state"]),
    ],
)
def test_json_on_the_standard_output_stands_there_alone(arguments, part, capsys, monkeypatch):
    for name in ("machine", "solvers"):
        monkeypatch.setattr(doctor, name, list)
    assert main([*arguments, "--json", "-"]) == 0
    told = json.loads(capsys.readouterr().out)
    if arguments[0] == "explain":
        assert told["questions"]["p"][0] in _said(["explain", "s.prop"], capsys)
    elif arguments[0] == "doctor":
        assert told[0]["what"] == part[0] and part[1] in told[0]
    else:
        assert told == part


@pytest.mark.parametrize(("arguments", "lines"), [(["check", "s.prop"], 0), (["fmt", "s.prop"], 0), (["doctor"], 1)])
def test_quiet_leaves_out_what_nobody_needs(arguments, lines, capsys, monkeypatch):
    for name in ("machine", "solvers"):
        monkeypatch.setattr(doctor, name, list)
    loud = _said(arguments, capsys)
    assert len(_said([*arguments, "-q"], capsys).splitlines()) == lines < len(loud.splitlines())


def test_the_standard_output_is_not_written_twice(capsys):
    assert main(["fmt", "s.prop", "--diff", "--json", "-"]) == 4
    assert "write the JSON to a file" in capsys.readouterr().err


def test_alone_it_says_what_verbs_there_are(capsys):
    assert main([]) == 4
    assert "decide every property" in capsys.readouterr().err


class Terminal(io.StringIO):
    """A standard output that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("colours", [True, False])
def test_no_color_is_kept_to(colours, monkeypatch):
    monkeypatch.setattr(doctor, "machine", list)
    monkeypatch.setattr(doctor, "solvers", lambda: [doctor.Symptom("gurobi", "has no licence", "needed nowhere")])
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", "" if colours else "1")
    monkeypatch.setattr("sys.stdout", terminal := Terminal())
    main(["doctor"])
    assert ("\x1b[33m" in terminal.getvalue()) == colours


def _said(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(arguments) == 0
    return capsys.readouterr().out
