"""The cell magic: names come from the notebook, mistakes are underlined, results are shown."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("IPython", reason="IPython is not installed")

from IPython.core.interactiveshell import InteractiveShell

from tfcert.driver.progress import Narrator
from tfcert.report import ExitCode, Report

ROOT = Path(__file__).parents[2]
CELL = """%%prop {}
prop 1
param eps: real in [0, 1] = 1/10
strategy fast = crown
property safe(x, y in test) using fast {{ forall z in ball(x, linf, eps) in net: argmax(clf(z)) == y }}
"""


@pytest.fixture
def shell(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = InteractiveShell()
    found.run_line_magic("load_ext", "tfcert")
    yield found
    found.history_manager.end_session()


def model(shell) -> None:
    """A model that returns its two inputs, and four samples, the last one close to the border, as variables."""
    import keras

    layer = keras.layers.Dense(2, use_bias=False)
    shell.user_ns["clf"] = keras.Sequential([keras.Input((2,)), layer])
    layer.set_weights([np.eye(2)])
    x = np.array([[1, 0], [0, 1], [1, 0.5], [0.55, 0.5]], np.float32)
    shell.user_ns["test"] = (x, np.array([0, 1, 0, 0]))


def test_a_mistake_is_underlined_where_it_stands_in_the_cell(shell, capsys):
    found = shell.run_cell("%%prop --check\nprop 1\nproprty q\n")
    assert not found.success
    assert capsys.readouterr().out.splitlines() == [
        "error[E101]: the name `proprty` cannot stand here",
        "  --> <text>:3:1",
        "3 | proprty q",
        "  | ^^^^^^^ did you mean `property`?",
    ]


def test_a_cell_is_about_the_notebook_s_model_and_samples(shell, capsys):
    model(shell)
    found = shell.run_cell(CELL.format("-q --as kept --set eps=1/5"))
    assert found.success and isinstance(found.result, Report) and found.result is shell.user_ns["kept"]
    assert [str(r.outcome) for r in found.result.records] == ["verified"] * 3 + ["unknown"]
    assert found.result.header["params"]["eps"] == "1/5" and "safe" in found.result._repr_html_()
    assert found.result.folder.parent.name == "out" and (found.result.folder / "result.json").is_file()


def test_check_runs_nothing_and_says_what_is_taken(shell, capsys):
    model(shell)
    assert shell.run_cell(CELL.format("--check")).success
    assert capsys.readouterr().out.splitlines() == [
        "no mistakes found in 1 property, 0 measures, 0 assertions",
        "from the notebook: clf, test",
    ]
    assert not Path("out").exists()


def test_what_a_cell_defines_is_taken_from_the_notebook_where_that_is_asked(shell, capsys):
    model(shell)
    np.savez("other.npz", x=np.zeros((1, 2), np.float32), y=np.zeros(1, int))
    text = CELL.replace("strategy", 'dataset test = npz("other.npz")\nstrategy', 1)
    assert shell.run_cell(text.format("--check")).success
    said = capsys.readouterr()
    assert "note: the dataset test is what the cell defines" in said.err and "notebook: clf\n" in said.out
    assert shell.run_cell(text.format("--check --bind test")).success
    said = capsys.readouterr()
    assert said.err == "" and "from the notebook: test, clf" in said.out


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--chek", "unrecognized arguments: --chek"),
        ("--bind other", "the notebook has no variable other"),
        ("--set eps", "'eps' is not of the form NAME=VALUE"),
    ],
)
def test_a_mistake_of_the_line_is_a_sentence(shell, capsys, line, said):
    assert not shell.run_cell(CELL.format(line)).success
    shown = capsys.readouterr().out
    assert shown.startswith(f"error: {said}") and "Traceback" not in shown


def test_numbers_and_functions_are_no_samples(shell):
    shell.user_ns |= {"clf": len, "test": 3}
    assert not shell.run_cell(CELL.format("--check")).success


def test_in_a_kernel_tables_stay_in_what_is_returned(monkeypatch):
    """rich shows whatever is printed in a cell's output, be it to a string, where it takes itself to be in a kernel."""
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    report = Report({}, (), ExitCode.PASS, ("safe",))
    assert "safe" in str(report) and "safe" in report._repr_html_()


def test_in_a_kernel_progress_is_one_output_that_is_drawn_over_and_cleared(monkeypatch):
    shown: list[str] = []
    handle = SimpleNamespace(update=lambda html: shown.append(html.data))
    monkeypatch.setattr("IPython.get_ipython", lambda: SimpleNamespace(kernel=True))
    monkeypatch.setattr("IPython.display.display", lambda html, display_id: handle)
    monkeypatch.setattr("tfcert.driver.progress.NOTEBOOK_SECONDS", -1.0)
    with Narrator() as narrator:
        narrator.begin("safe", 3, 1)
        with narrator.preparing("crown"):
            pass
    assert "safe" in shown[0] and "1/3" in shown[0] and "preparing crown" in shown[1] and shown[-1] == ""


def notebook_code() -> list[str]:
    content = json.loads((ROOT / "examples/notebook.ipynb").read_text())
    assert all(not cell["outputs"] for cell in content["cells"] if cell["cell_type"] == "code")
    return ["".join(cell["source"]) for cell in content["cells"] if cell["cell_type"] == "code"]


def test_the_example_s_specifications_have_no_mistakes(shell, capsys):
    """Checked here, since only a sweep runs the whole notebook."""
    shell.user_ns |= {"clf": (), "digits": ()}
    cells = [code for code in notebook_code() if code.startswith("%%prop")]
    assert cells and all(shell.run_cell(code.replace("%%prop", "%%prop --check", 1)).success for code in cells)


@pytest.mark.sweep
def test_the_example_runs_in_a_kernel(tmp_path, monkeypatch):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    content = nbformat.read(ROOT / "examples/notebook.ipynb", as_version=4)
    shutil.copy(ROOT / "examples/mnist_small.keras", tmp_path)
    folder = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(content, timeout=600, kernel_name="python3", resources=folder).execute()
    outputs = [output for cell in content.cells for output in cell.get("outputs", [])]
    shown = "".join(str(output) for output in outputs)
    assert "ipywidgets" not in shown and "Traceback" not in shown and "image/png" in shown and "text/html" in shown
