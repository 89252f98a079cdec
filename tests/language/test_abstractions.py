"""Abstractions: what their declarations say, what they mean on numbers, and what a property of one is about."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from language_specs import HEAD, codes, spec

from tfcert.language import Abstraction, BallSpec, Spec, SpecError, Tuning, load, load_file

GRID = "abstraction grid = intervals(range=[-1, 3], granularity=0.3)\n"
TUNED = "abstraction grid = intervals(range=[-1, 3], granularity=0.3) { tune: descend(step=0.01, floor=2*eps) }\n"
BALL = "forall z in ball(x, linf, 0.1) in net: argmax(clf(z)) == y"


def test_the_declaration_is_exact_and_may_use_parameters() -> None:
    text = f"{HEAD}param eps: real = 0.07\n{TUNED}property p(x, y in test) abstracted by grid {{ {BALL} }}"
    expected = Abstraction("grid", Fraction(-1), Fraction(3), Fraction(3, 10), Tuning(Fraction(1, 100), Fraction(1, 5)))
    found = load(text, params={"eps": "1/10"})
    assert found.abstractions == {"grid": expected}
    assert found.properties["p"].abstraction == expected


def test_a_granularity_may_be_searched_or_be_one_for_each_channel() -> None:
    text = GRID.rstrip() + " { tune: search(step=0.01, floor=0.2, selection=test, stop_on_gradient=false) }\n"
    grid = spec(f"{text}property p(x, y in test) abstracted by grid {{ {BALL} }}").abstractions["grid"]
    assert grid.tuning == Tuning(Fraction(1, 100), Fraction(1, 5), "search", "test", False)
    text = GRID.replace("0.3)", "[0.3, 1/2, 2/3])")
    grid = spec(f"{text}property p(x, y in test) abstracted by grid {{ {BALL} }}").abstractions["grid"]
    assert grid.channels == (Fraction(3, 10), Fraction(1, 2), Fraction(2, 3)) and grid.granularity == Fraction(3, 10)
    assert grid.cell(Fraction(0), 1) == (Fraction(0), Fraction(1, 2)) and grid.widths == [0.3, 0.5, 2 / 3]
    assert grid.accepts(np.array([0.3, 0.5, 2 / 3])) and not grid.accepts(np.array([0.3, 0.5, 0.7]))
    assert not grid.accepts(0.3) and not Abstraction("g", Fraction(0), Fraction(1), Fraction(1)).accepts(np.ones(2))
    narrow = GRID.replace("0.3)", "[0.3, 0.1, 0.4])")
    assert codes(f"{HEAD}{narrow}property p(x, y in test) abstracted by grid {{ {BALL} }}") == ["E212"]


def test_properties_and_measures_say_what_they_are_abstracted_by() -> None:
    found = spec(
        f"{GRID}strategy s = ibp\n"
        f"property p(x, y in test) using s abstracted by grid {{ {BALL} }}\n"
        f"property q(x, y in test) {{ {BALL} }}\n"
        "measure m(x, y in test) = largest r in [0, 1] such that forall z in ball(x, linf, r) in net: "
        "argmax(clf(z)) == y using s abstracted by grid\n"
        "measure n(x, y in test) = smallest r in [0, 1] such that exists z in ball(x, linf, r) in net: "
        "argmax(clf(z)) != y abstracted by grid\n"
    )
    assert not found.warnings
    assert found.properties["q"].abstraction is None
    grid = found.abstractions["grid"]
    assert [t.abstraction for t in (found.properties["p"], *found.measures.values())] == [grid] * 3
    assert found.measures["m"].strategy.name == "s" and found.measures["n"].strategy.name == "default"


def test_a_printed_question_is_abstracted_still() -> None:
    statement = f"property p(x, y in test) abstracted by grid {{ {BALL} }}"
    found = spec(GRID + statement)
    assert spec(GRID + found.properties["p"].text).properties == found.properties
    assert "abstracted by grid" in found.properties["p"].text


@pytest.mark.parametrize(
    ("value", "ends"),
    [("-1", ("-1", "-7/10")), ("-7/10", ("-7/10", "-4/10")), ("-0.70000001", ("-1", "-7/10")), ("2", ("2", "23/10")),
     ("2.9", ("29/10", "32/10")), ("3", ("29/10", "32/10")), ("3.2", ("29/10", "32/10")), ("7", ("29/10", "32/10")),
     ("-8", ("-1", "-7/10"))],
)  # fmt: skip
def test_a_number_is_in_the_cell_that_begins_at_or_below_it(value: str, ends: tuple[str, str]) -> None:
    grid = Abstraction("grid", Fraction(-1), Fraction(3), Fraction(3, 10))
    assert grid.cell(Fraction(value)) == tuple(map(Fraction, ends))


def test_the_top_cell_is_closed_where_the_granularity_divides_the_range() -> None:
    assert Abstraction("grid", Fraction(0), Fraction(1), Fraction(1, 4)).cell(Fraction(1)) == (Fraction(3, 4), 1)


def test_a_network_may_be_finer_than_written_only_where_it_was_tuned() -> None:
    plain = Abstraction("grid", Fraction(0), Fraction(1), Fraction(1, 5))
    assert plain.accepts(0.2) and not plain.accepts(0.19)
    tuned = Abstraction("grid", Fraction(0), Fraction(1), Fraction(1, 5), Tuning(Fraction(1, 100), Fraction(1, 10)))
    assert [tuned.accepts(d) for d in (0.21, 0.2, 0.15, 0.1, 0.09)] == [False, True, True, True, False]
    assert (plain.cells(), tuned.cells()) == (5, 10)


def test_a_granularity_of_exactly_two_eps_is_accepted_in_every_space() -> None:
    for space, eps in (("net", "0.15"), ("unit", "0.15*0.3081"), ("raw", "0.15*0.3081*255")):
        ball = f"forall z in ball(x, linf, {eps}) in {space}: argmax(clf(z)) == y"
        text = f"{HEAD}{GRID}property p(x, y in test) abstracted by grid {{ {ball} }}"
        assert set(load(text).properties) == {"p"}
        assert codes(text.replace(eps, f"{eps}*1.0001")) == ["E212"]


@pytest.mark.parametrize("eps", ["0.1/3", "0.1234567890123", "16/255", "100/123457", "12345.671"])
def test_the_granularity_that_is_advised_is_accepted_and_hardly_more_than_two_eps(eps: str) -> None:
    def text(granularity: str) -> str:
        grid = f"abstraction grid = intervals(range=[-1, 3], granularity={granularity})"
        ball = f"forall z in ball(x, linf, {eps}) in net: argmax(clf(z)) == y"
        return f"{HEAD}{grid}\nproperty p(x, y in test) abstracted by grid {{ {ball} }}"

    with pytest.raises(SpecError) as caught:
        load(text("0.0001"))
    (problem,) = (d for d in caught.value.diagnostics if d.code == "E212")
    found = load(text(problem.fix.removeprefix("choose a granularity of at least "))).properties["p"]
    assert isinstance(found.region, BallSpec) and found.abstraction is not None
    assert 2 * found.region.eps <= found.abstraction.granularity <= 2 * found.region.eps * (1 + Fraction(1, 10**5))


@pytest.mark.parametrize("mean", ["0.1307", "0.1307001", "0"])
def test_the_range_that_is_advised_holds_all_values(mean: str) -> None:
    def text(ends: str) -> str:
        grid = f"abstraction grid = intervals(range={ends}, granularity=0.3)"
        return f"{HEAD.replace('0.1307', mean)}{grid}\nproperty p(x, y in test) abstracted by grid {{ {BALL} }}"

    (problem,) = load(text("[0.1, 1]")).warnings
    assert problem.code == "W007" and not load(text(problem.fix.split("`")[1].removeprefix("range="))).warnings


def test_numbers_that_no_float_holds_are_mistakes_like_others() -> None:
    ball = "forall z in ball(x, linf, 1e399) within [0, 1e399] in net: argmax(clf(z)) == y"
    assert codes(f"{HEAD}{GRID}property p(x, y in test) abstracted by grid {{ {ball} }}") == ["E247"]


def test_a_box_and_a_question_about_some_input_can_be_abstracted() -> None:
    found = spec(
        f"{GRID}property p abstracted by grid {{ forall z in box([0, 1]) in net: clf(z)[0] > 0 }}\n"
        "property q(x, y in test) abstracted by grid { exists z in ball(x, l2, 0.1) in net: argmax(clf(z)) != y }"
    )
    assert found.properties["q"].existential
    assert [p.abstraction for p in found.properties.values()] == [found.abstractions["grid"]] * 2


def _imported(folder: Path, text: str) -> Spec:
    (folder / "clf.keras").touch()
    (folder / "common.prop").write_text(HEAD + GRID)
    (folder / "s.prop").write_text(f'prop 1\nimport "common.prop" as common\n{text}')
    return load_file(folder / "s.prop")


def test_an_abstraction_may_be_imported(tmp_path: Path) -> None:
    text = f"property p(x, y in common.test) abstracted by common.grid {{ {BALL.replace('clf', 'common.clf')} }}"
    found = _imported(tmp_path, text)
    abstraction = found.properties["p"].abstraction
    assert abstraction is not None and abstraction.name == "common.grid"
    assert set(found.abstractions) == {"common.grid"} and not found.warnings


def test_an_objective_may_be_for_an_abstracted_property() -> None:
    found = spec(f"{GRID}property p(x, y in test) abstracted by grid {{ {BALL} }}\nobjective o for p {{ }}")
    assert found.objectives["o"].property == "p"


def test_the_abstraction_of_the_reference_is_valid() -> None:
    reference = (Path(__file__).parents[2] / "docs" / "language.md").read_text("utf-8")
    (block,) = (part for part in reference.split("```") if part.strip().startswith("abstraction"))
    found = spec(f"param eps: real = 0.1\nstrategy fast = ibp\n{block}")
    assert found.properties["ab"].abstraction == found.abstractions["grid"]
