"""`tfcert doctor` and `tfcert --version`: what is missing is named, with the way to get it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError

import pytest

from tfcert.catalog import SOLVERS
from tfcert.cli import doctor
from tfcert.cli.main import _VERBS, main


def test_what_is_needed_is_there_and_each_solver_is_tried(capsys):
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert "tfcert is usable" in said and all(f"solver {name}" in said for name in SOLVERS)


def test_missing_and_old_packages_are_named(capsys, monkeypatch):
    there = doctor._version

    def missing(name: str) -> str | None:
        return {"lark": "0.9", "mip": None, "highspy": None}.get(name, there(name))

    monkeypatch.setattr(doctor, "_version", missing)
    found = {symptom.what: symptom for symptom in doctor.packages()}
    assert found["lark"].state == "0.9" and found["lark"].advice == "pip install 'lark<2,>=1.3'"
    assert found["mip"].state == "missing" and found["mip"].needed
    assert "highspy" in found["extra highs"].state and found["extra highs"].advice == "pip install 'tfcert[highs]'"
    monkeypatch.setattr(doctor, "machine", list)
    monkeypatch.setattr(doctor, "solvers", list)
    assert main(["doctor"]) == 1
    assert "not usable: lark, mip" in capsys.readouterr().out


def test_the_version_names_what_it_stands_on(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0 and "tensorflow 2." in capsys.readouterr().out


def test_a_package_that_is_not_there_has_no_version(monkeypatch):
    def gone(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(doctor, "version", gone)
    assert doctor._version("lark") is None


def test_help_has_an_example_and_the_exit_codes_of_every_verb(capsys):
    for verb in _VERBS:
        with pytest.raises(SystemExit):
            main([verb, "--help"])
        said = capsys.readouterr().out
        assert "exit codes: 0" in said and f"tfcert {verb}" in said.partition("example: ")[2]


def test_a_shell_completes_verbs_and_options(capsys):
    pytest.importorskip("shtab", reason="shtab is not installed")
    assert main(["completion", "bash"]) == 0
    said = capsys.readouterr().out
    assert "--certificates" in said and "watch" in said
