"""Several specifications in one run, and values of parameters from files and the environment."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from tfcert.cli.main import main

HEAD = """prop 1
param eps: real in [0, 1] = 0.01
model clf = keras("clf.keras") { outputs: logits }
dataset test = npz("test.npz", x="x", y="y")
property robust(r: real)(x, y in test) using quick { forall z in ball(x, linf, r) in net: argmax(clf(z)) == y }
strategy quick = pgd -> ibp
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A model of two inputs whose class is the larger one, and samples of which one is wrong within 0.2."""
    import keras

    made = tmp_path_factory.mktemp("several")
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    model.set_weights([np.eye(2, dtype=np.float32), np.zeros(2)])
    model.save(made / "clf.keras")
    np.savez(made / "test.npz", x=np.array([[0.9, 0.1], [0.2, 0.6], [0.6, 0.4]], np.float32), y=np.array([0, 1, 0]))
    (made / "nested").mkdir()
    (made / "good.prop").write_text(HEAD + "check robust(eps)")
    (made / "bad.prop").write_text(HEAD + "for r in [1e-3, 0.2] { property p(x, y in test) using quick "
                                   "{ forall z in ball(x, linf, r) in net: argmax(clf(z)) == y } }")  # fmt: skip
    (made / "library.prop").write_text(HEAD.replace("param eps: real in [0, 1] = 0.01\n", ""))
    above = HEAD.replace('"clf', '"../clf').replace('"test', '"../test')
    (made / "nested" / "up.prop").write_text(above + "expected fail assert verified_accuracy(robust(0.2)) >= 0.9")
    return made


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_the_worst_outcome_of_several_is_theirs_and_each_has_its_folder(folder, tmp_path, capsys):
    given = ["verify", str(folder / "good.prop"), str(folder / "bad.prop"), "--json", "all.json", "--junit", "all.xml"]
    assert main([*given, "-q"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "2 specifications: 1 pass, 1 fail (exit code 1)"
    assert (tmp_path / "out/good/journal.jsonl").is_file() and (tmp_path / "out/bad/result.json").is_file()
    told = json.loads((tmp_path / "all.json").read_text())
    assert told["exit_code"] == 1 and [run["exit_code"] for run in told["runs"]] == [0, 1]
    assert [r["property"] for r in told["runs"][0]["records"]] == ["robust(r=0.01)"] * 3
    suites = ElementTree.parse(tmp_path / "all.xml").getroot()
    assert [(s.get("tests"), s.get("failures"), s.get("errors")) for s in suites] == [("1", "0", "0"), ("2", "1", "0")]


def test_witnesses_of_instances_have_files_of_their_own(folder, tmp_path):
    main(["verify", str(folder / "bad.prop"), "-q"])
    assert [p.name for p in (tmp_path / "out/bad/witnesses").iterdir()] == ["p(r=0.2)-2.npz"]


def test_a_run_with_instances_is_resumed(folder, capsys):
    main(["verify", str(folder / "bad.prop"), "-q"])
    capsys.readouterr()
    assert main(["verify", str(folder / "bad.prop"), "--resume", "out/bad"]) == 1
    assert capsys.readouterr().err.count("3 of 3 taken from the journal") == 2


def test_a_folder_is_all_its_specifications_and_those_that_ask_nothing_are_left_out(folder, capsys):
    assert main(["verify", str(folder), "--root", str(folder), "-q"]) == 1
    shown = capsys.readouterr()
    assert "library.prop: asks nothing, and is left out" in shown.err
    assert shown.out.splitlines()[-1] == "3 specifications: 1 fail, 2 pass (exit code 1)"


def test_paths_leave_a_folder_only_into_the_root(folder, capsys):
    up = str(folder / "nested" / "up.prop")
    assert main(["verify", up]) == 4 and "give `--root`" in capsys.readouterr().err
    assert main(["verify", up, "--root", str(folder), "-q"]) == 0
    assert main(["check", up, "--root", str(folder / "nested")]) == 4
    assert "leads outside the folder that `--root` names" in capsys.readouterr().err
    assert main(["check", up, "--root", "/usr"]) == 4


def test_a_mistake_in_one_keeps_all_from_running(folder, tmp_path, capsys):
    (tmp_path / "wrong.prop").write_text("prop 1\nassert verified_accuracy(p) >= 0.5\n")
    assert main(["verify", str(folder / "good.prop"), "wrong.prop"]) == 4
    assert "wrong.prop:2:26" in capsys.readouterr().err and not (tmp_path / "out").exists()
    assert main(["verify", str(folder / "good.prop"), str(folder / "bad.prop"), "--set", "epz=1"]) == 4
    assert "none of the 2 specifications has a parameter epz" in capsys.readouterr().err


def explained(folder, capsys, *arguments: str) -> str:
    """What the parameter of a specification is explained to be."""
    code = main(["explain", str(folder / "good.prop"), *arguments])
    shown = capsys.readouterr()
    return shown.out.splitlines()[1].strip() if code == 0 else shown.err


def test_the_command_line_wins_against_the_environment_and_that_against_files(folder, tmp_path, capsys, monkeypatch):
    (tmp_path / "p.json").write_text('{"eps": 0.1}')
    (tmp_path / "p.toml").write_text('eps = "1/3"')
    monkeypatch.setenv("TFCERT_eps", "1/7")
    monkeypatch.setenv("TFCERT_DATA", "/nowhere")
    assert explained(folder, capsys) == "param eps = 1/100"
    assert explained(folder, capsys, "--params", "p.json") == "param eps = 1/10 (set by you)"
    assert explained(folder, capsys, "--params", "p.json", "--params", "p.toml") == "param eps = 1/3 (set by you)"
    assert explained(folder, capsys, "--params", "p.json", "--set-from-env") == "param eps = 1/7 (set by you)"
    assert explained(folder, capsys, "--set-from-env", "--set", "eps=1/9") == "param eps = 1/9 (set by you)"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"eps": 2}', "p.json, eps:1:1"),
        ('{"epz": 0.1}', "there is no parameter `epz`"),
        ('{"eps": [1]}', "must be a number, a text, or true or false"),
        ('{"eps": 1, "eps": 2}', "a name stands there twice"),
        ("[1]", "holds no names"),
        ("eps = 1", "p.json is no JSON"),
    ],
)
def test_what_is_wrong_in_a_file_of_parameters_names_the_file(content, said, folder, tmp_path, capsys):
    (tmp_path / "p.json").write_text(content)
    assert said in explained(folder, capsys, "--params", "p.json")


def test_variables_that_no_parameter_has_are_refused(folder, capsys, monkeypatch):
    monkeypatch.setenv("TFCERT_epz", "1")
    assert "environment, TFCERT_epz" in explained(folder, capsys, "--set-from-env")


def test_expected_fail_passes_where_a_sample_is_falsified_and_fails_where_all_are_verified(folder, tmp_path):
    for eps, code in (("0.2", 0), ("0.001", 1)):
        text = (folder / "bad.prop").read_text().replace("[1e-3, 0.2] { property", f"[{eps}] {{ expected fail property")
        (folder / "expected.prop").write_text(text)
        assert main(["verify", str(folder / "expected.prop"), "-q"]) == code
    (folder / "expected.prop").write_text(text.replace("pgd -> ibp", "fgsm"))
    assert main(["verify", str(folder / "expected.prop"), "-q"]) == 6
    (folder / "expected.prop").unlink()


def test_json_on_the_standard_output_stands_there_alone(folder, capsys):
    assert main(["verify", str(folder / "good.prop"), "--json", "-", "-q"]) == 0
    captured = capsys.readouterr()
    assert len(json.loads(captured.out)["records"]) == 3 and "pass (exit code 0)" in captured.err
