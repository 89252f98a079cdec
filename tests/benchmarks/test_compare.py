"""The runner of two versions: each side imports its own, sides take turns, ratios and their spread are right."""

import json
import subprocess

import numpy as np
import pytest

from benchmarks import compare
from benchmarks.common.versions import ComparisonError, Side, checked_out, importable

CASES = """
def prepare():
    import importlib.resources
    from tfcert.part import NUMBER
    rules = importlib.resources.files("tfcert.grammar").joinpath("prop.lark").read_text()
    log = open(__file__ + "." + rules, "a")

    def work():
        print("said aloud")
        log.write("x")
        log.flush()
        return NUMBER
    return work

def broken():
    raise RuntimeError("no such network")

def foreign():
    import sys, types, tfcert
    sys.modules["tfcert.other"] = types.ModuleType("tfcert.other")
    sys.modules["tfcert.other"].__file__ = __file__
    return lambda: 0.0

CASES = {"count a": prepare, "count b": prepare, "broken": broken, "foreign": foreign}
"""


@pytest.fixture
def repository(tmp_path):
    """A package of two versions: the commit says 1, the working tree 3, each in code and in the grammar beside it."""
    home = tmp_path / "repository"

    def version(number: int) -> None:
        for folder, files in {
            "tfcert": {"__init__.py": "", "part.py": f"NUMBER = {number}\n"},
            "grammar": {"__init__.py": "", "prop.lark": str(number)},
        }.items():
            (home / folder).mkdir(parents=True, exist_ok=True)
            for name, text in files.items():
                (home / folder / name).write_text(text)

    def git(*words: str) -> None:
        subprocess.run(["git", "-C", str(home), *words], check=True, capture_output=True)

    version(1)
    git("init", "-q")
    git("add", ".")
    git("-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "one")
    version(3)
    (tmp_path / "cases.py").write_text(CASES)
    return home


def test_each_side_runs_its_own_version_with_its_grammar_in_turn(repository, tmp_path, capsys):
    cases, file = tmp_path / "cases.py", tmp_path / "ratios.json"
    arguments = ["HEAD", "count", "--rounds", "3", "--pairs", "2", "--json", str(file), "--work", str(cases)]
    assert compare.main(arguments, repository) == 0
    result = json.loads(file.read_text())
    assert list(result["cases"]) == ["count a", "count b"]
    for case in result["cases"].values():
        assert case["base"]["results"] == [1] * 8 and case["candidate"]["results"] == [3] * 8
        for side in case.values():
            assert len(side["seconds"]) == len(side["cpu_seconds"]) == 6 and len(side["first_seconds"]) == 2
    assert [(tmp_path / f"cases.py.{n}").read_text() for n in (1, 3)] == ["x" * 16] * 2
    shown = capsys.readouterr().out
    assert "differ by 2" in shown and "| 6 |" in shown
    assert result["commits"]["candidate"] == result["commits"]["base"] + "+"
    listed = subprocess.run(["git", "-C", str(repository), "worktree", "list"], capture_output=True, text=True).stdout
    assert len(listed.splitlines()) == 1  # nothing is left checked out


def test_modules_that_are_not_of_the_version_are_an_error(repository, tmp_path):
    site = importable(repository, tmp_path / "site")
    side = Side(repository, site, (tmp_path / "cases.py", "foreign"), 1)
    side.turn()
    with pytest.raises(ComparisonError, match=r"was to run, but .*cases\.py did"):
        side.close()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["HEAD", "broken"], "no such network"), (["no-such-commit", "count"], "no-such-commit")],
)
def test_what_cannot_be_compared_is_said(repository, tmp_path, capsys, arguments, said):
    assert compare.main([*arguments, "--work", str(tmp_path / "cases.py")], repository) == 4
    assert said in capsys.readouterr().err


def test_ratios_are_of_pairs_so_that_what_slows_both_sides_cancels():
    load = np.array([1.0, 5.0, 2.0, 9.0, 1.5])
    base, candidate = compare.Measured(), compare.Measured()
    for number, slow in enumerate(load):
        base.add({"seconds": slow, "cpu_seconds": 1.0, "result": 2.0}, first=number == 0)
        candidate.add({"seconds": slow / 2, "cpu_seconds": 3.0, "result": 2.0}, first=number == 0)
    row = compare.row("case", {"base": base, "candidate": candidate})
    assert row["ratio"] == "0.500 (0.500 to 0.500)" and row["ratio of processor s"] == "3.000 (3.000 to 3.000)"
    assert row["results"] == "same" and row["turns"] == "4" and row["first, s"] == "1 / 0.5"


def test_the_interval_holds_the_median_and_widens_with_the_spread():
    rng = np.random.default_rng(1)
    tight, wide = (compare.interval(np.exp(spread * rng.normal(size=40))) for spread in (0.01, 0.5))
    for middle, low, high in (tight, wide):
        assert low <= middle <= high
    assert wide[2] - wide[1] > 10 * (tight[2] - tight[1])


def test_a_commit_is_removed_again_when_the_work_fails(repository):
    with pytest.raises(RuntimeError), checked_out(repository, "HEAD") as tree:
        assert (tree / "tfcert" / "part.py").read_text() == "NUMBER = 1\n"
        raise RuntimeError
    assert not tree.exists()


def test_the_cases_that_are_shipped_are_named_without_tensorflow():
    code = "import sys; from benchmarks.compare import main; main(['--list']); assert 'tensorflow' not in sys.modules"
    done = subprocess.run([compare.sys.executable, "-c", code], cwd=compare.data.REPOSITORY, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert b"crown cnn l2" in done.stdout and b"training ibp" in done.stdout
