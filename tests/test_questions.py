"""The specifications of ``examples/questions``: each kind of user, and questions that other languages ask."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

from tfcert.cli.main import main
from tfcert.driver.verify import verify
from tfcert.language import load_file

FOLDER = Path(__file__).parents[1] / "examples" / "questions"
SPECS = sorted(FOLDER.glob("*.prop"))


@pytest.mark.parametrize("spec", SPECS, ids=lambda path: path.stem)
def test_a_question_is_said_without_a_mistake_or_a_warning(spec, capsys):
    assert main(["check", str(spec)]) == 0
    out, err = capsys.readouterr()
    assert "no mistakes found" in out and "warning" not in out + err


def test_all_examples_are_laid_out_as_the_formatter_does(capsys):
    assert main(["fmt", "--check", str(FOLDER.parent)]) == 0, capsys.readouterr().out


@pytest.mark.sweep
@pytest.mark.parametrize("spec", SPECS, ids=lambda path: path.stem)
def test_a_question_is_decided_as_its_specification_says(spec, tmp_path):
    report = verify(spec, out=tmp_path, verbose=0)
    assert report.exit_code == 0
    assert report.records and not any(record.verdict.contradicted for record in report.records)


def test_the_networks_are_those_that_the_script_makes():
    """The files beside the specifications are what ``models.py`` writes, up to rounding of another machine."""
    import keras

    description = importlib.util.spec_from_file_location("questions_models", FOLDER / "models.py")
    models = importlib.util.module_from_spec(description)
    description.loader.exec_module(models)
    made = [pair for make in (models.classifiers, models.tables, models.chained) for pair in make()]
    assert {f"{name}.keras" for name, _ in made} == {path.name for path in FOLDER.glob("*.keras")}
    for name, model in made:
        saved = keras.models.load_model(FOLDER / f"{name}.keras")
        for own, other in zip(model.get_weights(), saved.get_weights(), strict=True):
            np.testing.assert_allclose(own, other, atol=1e-3, err_msg=name)


def test_the_page_for_those_who_come_from_elsewhere_names_questions_that_are_there():
    page = (FOLDER.parents[1] / "docs" / "coming-from.md").read_text(encoding="utf-8")
    sections = re.split(r"^## ", page, flags=re.MULTILINE)[1:5]
    for section in sections:
        (name,) = re.findall(r"\| in `(from_\w+)\.prop` \|", section)
        named = set(re.findall(r"\| `(\w+)` \|$", section, flags=re.MULTILINE))
        assert named == set(load_file(FOLDER / f"{name}.prop").properties), name
    numbers = {path.stem.split("_")[0] for path in SPECS if not path.stem.startswith("from_")}
    assert numbers == set(re.findall(r"`(\d\db?)`", page.split("## Every kind of user")[1])) | {"07"}
