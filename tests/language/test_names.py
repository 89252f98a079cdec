"""Any word is a name in quotes, wherever it is declared and wherever it is used."""

from __future__ import annotations

from pathlib import Path

import pytest
from language_specs import codes

from tfcert.language import load, load_file
from tfcert.language.text.diagnostics import Diagnostics, SourceText
from tfcert.language.text.names import RESERVED
from tfcert.language.text.parser import parse_module
from tfcert.language.text.printer import print_module

EVERYWHERE = """prop 1
model "net" = keras("clf.keras") { inputs: [age, "hours per week", "NAME"] outputs: [no, "more than 50 %", "NAME"] }
dataset "NAME-data" = npz("test.npz")
strategy "NAME" = ibp -> crown
domain "NAME-box" = box(age in [0, 1], "hours per week" in [0, 1], "NAME" in [0, 1])
abstraction "NAME-cells" = intervals(range=[0, 1], granularity=0.5)
property "NAME-1"(x, y in "NAME-data") using "NAME" { forall z in ball(x, linf, 0.1): argmax("net"(z)) == y }
property "8-px" { forall z in "NAME-box": "net"(z)["more than 50 %"] >= 0 and argmax("net"(z)) != "NAME"
  and argmin("net"(z)) in {"NAME", no} and "net"(z)["NAME"] > 1 }
measure "NAME-radius"(x, y in "NAME-data") = largest r in [0, 1] such that
  forall z in ball(x, linf, r): argmax("net"(z)) == y using "NAME" abstracted by "NAME-cells"
objective "NAME-training" for "NAME-1" { train: "NAME-more" }
dataset "NAME-more" = npz("more.npz")
assert verified_accuracy("NAME-1") >= 0.5 and percentile("NAME-radius", 5) >= 0 and accuracy("net", "NAME-data") > 0.9
report histogram("NAME-radius", bins=3)
"""


@pytest.mark.parametrize("word", ["model", "in", "max", "linf", "true", "not", "report", "clf"])
def test_a_name_in_quotes_works_wherever_names_do(word: str) -> None:
    text = EVERYWHERE.replace("NAME", word)
    spec = load(text)
    assert set(spec.models) == {"net"} and set(spec.strategies) == {word}
    assert spec.models["net"].input_names == ("age", "hours per week", word)
    assert spec.models["net"].output_names == ("no", "more than 50 %", word)
    assert set(spec.properties) == {f"{word}-1", "8-px"} and set(spec.measures) == {f"{word}-radius"}
    assert spec.properties["8-px"].named_outputs == {0, 1, 2} and len(spec.reports) == 1
    module = parse_module(SourceText("t", text), Diagnostics())
    assert module is not None
    assert parse_module(SourceText("t", print_module(module)), Diagnostics()) == module
    for question in (*spec.properties.values(), *spec.measures.values()):
        assert load(text.replace("prop 1", f"prop 1\n{question.text.replace(question.name, 'copy')}"))


def test_quotes_change_nothing_of_a_name_that_needs_none() -> None:
    text = (
        'prop 1\nmodel clf = keras("c.keras") {{ inputs: [{a}] }}\n'
        "property p {{ forall z in box({a} in [0, 1]): {f} > 0 }}"
    )
    plain, quoted = (load(text.format(a=a, f=f)) for a, f in (("age", "clf(z)[0]"), ('"age"', '"clf"(z)[0]')))
    assert plain.properties["p"].formula == quoted.properties["p"].formula
    assert plain.models["clf"].input_names == quoted.models["clf"].input_names


def test_a_name_in_quotes_is_imported(tmp_path: Path) -> None:
    (tmp_path / "clf.keras").touch()
    (tmp_path / "common.prop").write_text('prop 1\nmodel "net" = keras("clf.keras")\ndomain "box" = box([0, 1])\n')
    (tmp_path / "s.prop").write_text(
        'prop 1\nimport "common.prop" as common\nproperty p { forall z in common."box": common."net"(z)[0] > 0 }\n'
    )
    assert load_file(tmp_path / "s.prop").properties["p"].model == "common.net"


@pytest.mark.parametrize("word", sorted(RESERVED))
def test_no_word_of_the_language_is_a_name_without_quotes(word: str) -> None:
    text = f'prop 1\nmodel {word} = keras("c.keras")\nproperty p {{ forall z in box([0, 1]): {word}(z)[0] > 0 }}'
    assert codes(text)[0] in ("E246", "E101")
    assert load(text.replace(f"{word}(z)", f'"{word}"(z)').replace(f"model {word}", f'model "{word}"')).models


@pytest.mark.parametrize("name", ["", "a b", "../up", "a.b", "a/b", "gr\u00f6\u00dfe"])
def test_names_of_questions_are_names_of_files_too(name: str) -> None:
    assert codes(f'prop 1\nmodel "{name}" = keras("c.keras")') == ["E246"]
