"""What checked specifications say: regions, spaces, parameters, imports, bindings."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tfcert.language import BallSpec, BoxSpec, Spec, SpecError, load, load_file, net_within
from tfcert.language.spec.choice import only_take

HEAD = """prop 1
model clf = keras("clf.keras")
dataset test = mnist5k(split="test") take 500 { scale: 1/255 normalize: { mean: 0.1307 std: 0.3081 } }
"""
ROBUST = "forall z in ball(x, linf, eps) within [0, 1] in unit: argmax(clf(z)) == y"


def codes(text: str, **options: object) -> list[str]:
    with pytest.raises(SpecError) as caught:
        load(text, **options)  # type: ignore[arg-type]
    return [d.code for d in caught.value.diagnostics]


def spec(text: str, **options: object) -> Spec:
    return load(HEAD + text, **options)  # type: ignore[arg-type]


def test_robustness_property_has_everything_a_driver_needs() -> None:
    loaded = spec(f"param eps: real = 8/255\nproperty robust(x, y in test) {{ {ROBUST} }}")
    p = loaded.properties["robust"]
    assert (p.model, p.dataset, p.sample, p.label) == ("clf", "test", "x", "y")
    assert p.is_robustness and p.needs_label
    assert [stage.method for stage in p.strategy.stages] == ["pgd", "ibp", "crown-ibp", "crown"]
    assert isinstance(p.region, BallSpec) and p.region.eps == Fraction(8, 255)
    assert p.region.net_eps(p.transform) == (Fraction(8, 255) / Fraction(3081, 10_000),)
    low, high = net_within(p.region, p.transform) or ((), ())
    assert low == (Fraction(-1307, 3081),) and high == (Fraction(8693, 3081),)
    assert only_take(loaded.datasets["test"].choice) == 500 and loaded.datasets["test"].range == (0, 255)
    assert p.holds(np.array([0.0, 2.0, 1.0]), 1) and not p.holds(np.array([2.0, 2.0, 1.0]), 1)
    assert len(p.clauses(10, 3)) == 9


@pytest.mark.parametrize(
    ("eps", "space", "unit"), [("8/255", "unit", "8/255"), ("8", "raw", "8/255"), ("8px", "unit", "8/255"),
                               ("8px", "raw", "8/255"), ("0.1", "net", "3081/100000")]
)  # fmt: skip
def test_spaces_agree_exactly(eps: str, space: str, unit: str) -> None:
    text = f"property p(x, y in test) {{ forall z in ball(x, l2, {eps}) in {space}: argmax(clf(z)) == y }}"
    p = spec(text).properties["p"]
    assert isinstance(p.region, BallSpec)
    assert p.region.net_eps(p.transform) == (Fraction(unit) / Fraction(3081, 10_000),)


def test_channels_have_their_own_eps() -> None:
    loaded = load(
        'prop 1 model clf = keras("c.keras") dataset c = keras("cifar10") {'
        " scale: 1/255 normalize: { mean: [0.5, 0.4, 0.3] std: [0.2, 0.25, 0.5] } }"
        "property p(x, y in c) { forall z in ball(x, linf, 1px) within [0, 255] in raw: argmax(clf(z)) == y }"
    )
    p = loaded.properties["p"]
    assert isinstance(p.region, BallSpec)
    assert p.region.net_eps(p.transform) == tuple(Fraction(1, 255) / Fraction(s) for s in ("1/5", "1/4", "1/2"))
    assert net_within(p.region, p.transform) == (
        (Fraction(-5, 2), Fraction(-8, 5), Fraction(-3, 5)),
        (Fraction(5, 2), Fraction(12, 5), Fraction(7, 5)),
    )


def test_acas_box_in_raw_space_without_a_sample() -> None:
    loaded = load(
        """prop 1
        model acas = keras("acas.keras") {
          inputs: [rho, theta, psi, v_own, v_int]
          outputs: [coc, wl, wr, sl, sr]
          normalize: { mean: [19791.091, 0, 0, 650, 600] std: [60261, 6.2832, 6.2832, 1100, 1200] } }
        property phi3 { forall x in box(theta in [-0.06, 0.06], rho in [1500, 1800], psi in [3.1, 3.1416],
            v_own in [980, 1200], v_int in [960, 1200]) in raw: argmin(acas(x)) != coc }"""
    )
    p = loaded.properties["phi3"]
    assert p.dataset is None and isinstance(p.region, BoxSpec)
    assert p.region.names == ("rho", "theta", "psi", "v_own", "v_int")
    lower, upper = p.region.net_bounds(p.transform)
    assert lower[0] == (1500 - Fraction("19791.091")) / 60261 and upper[4] == Fraction(600, 1200)
    (clause,) = p.clauses(5)
    assert clause.coefficients.shape == (4, 5)
    assert p.holds([1, 0, 2, 3, 4]) and not p.holds([0, 1, 2, 3, 4]) and p.holds([0, 0, 2, 3, 4])


def test_domain_and_within_make_the_box_smaller() -> None:
    loaded = spec(
        "domain d = box([-1, 2])\nproperty p { forall x in d within [0, 1] in net: clf(x)[0] - 2*clf(x)[1] <= 3 }"
    )
    region = loaded.properties["p"].region
    assert region == BoxSpec(((Fraction(0), Fraction(1)),), (), "net")
    (clause,) = loaded.properties["p"].clauses(2)
    np.testing.assert_array_equal(clause.coefficients, [[-1.0, 2.0]])
    np.testing.assert_array_equal(clause.offsets, [3.0])


def test_where_selects_by_label() -> None:
    p = spec(
        "property p(x, y in test where y == 1 or y > 7 take 3) "
        "{ forall z in ball(x, l2, 0.5) in unit: clf(z)[7] < clf(z)[1] }"
    ).properties["p"]
    assert [label for label in range(10) if p.sample_selected(label)] == [1, 8, 9]
    assert only_take(p.choice) == 3 and p.named_outputs == {1, 7}


def test_let_min_max_abs_and_chains_mean_what_they_say() -> None:
    p = spec(
        "let gap(z, k) = clf(z)[k] - clf(z)[0]\n"
        "property p { forall x in box([0, 1]) in net: "
        "-1 <= gap(x, 1) <= 1 and max(gap(x, 2), 0) < 2 => abs(gap(x, 3)) <= 1/10 or min(clf(x)) > 0 }"
    ).properties["p"]
    assert p.holds([0, 0, 0, 0.1 - 1e-9]) and not p.holds([0, 0, 0, 0.2])
    assert p.holds([0, 5, 0, 9]) and p.holds([0, 0, 2, 9]) and p.holds([1, 1, 1, 9])


def test_measure_keeps_its_interval_and_tolerance_as_written() -> None:
    text = (
        "measure m(x, y in test) = largest r in [0, 64px] {} such that "
        "forall z in ball(x, linf, 2*r) in unit: argmax(clf(z)) == y"
    )
    m = spec(text.format("tol 1%")).measures["m"]
    assert (m.lower, m.upper, m.tolerance, m.relative) == (0, Fraction(64, 255), Fraction(1, 100), True)
    assert isinstance(m.region, BallSpec) and m.region.radius(Fraction(1, 4)) == Fraction(1, 2)
    m = spec(text.format("tol 1e-4")).measures["m"]
    assert (m.tolerance, m.relative) == (Fraction(1, 10_000), False)
    m = spec(text.format("")).measures["m"]
    assert (m.tolerance, m.relative) == (Fraction(1, 10_000), True)


@pytest.mark.parametrize(
    ("given", "value"), [("2/255", Fraction(2, 255)), (0.1, Fraction(1, 10)), (1, Fraction(1)),
                         ("1e-3", Fraction(1, 1000)),
                         (Fraction(1, 3), Fraction(1, 3)), ("5%", Fraction(1, 20))]
)  # fmt: skip
def test_parameters_are_overridden_exactly(given: object, value: Fraction) -> None:
    loaded = load("prop 1\nparam eps: real in [0, 1] = 8/255\nparam two: real = 2*eps", params={"eps": given})  # type: ignore[dict-item]
    assert loaded.params["eps"].value == value and loaded.params["eps"].overridden
    assert loaded.params["two"].value == 2 * value and not loaded.params["two"].overridden


def test_parameters_have_types() -> None:
    text = "prop 1\nparam n: int\nparam b: bool = false\nparam k: norm = l2"
    loaded = load(text, params={"n": 3, "b": True, "k": "l1"})
    assert [loaded.params[name].value for name in ("n", "b", "k")] == [3, True, "l1"]
    for params in ({"n": "1/2"}, {"n": "l2"}, {"n": float("nan")}, {"n": "60s"}, {"n": "1 +"}, {"n": ""}):
        assert set(codes(text, params=params)) <= {"E206", "E201", "E207", "E101"}


def test_bound_names_need_neither_file_nor_declaration(tmp_path: Path) -> None:
    path = tmp_path / "s.prop"
    path.write_text(
        'prop 1\nmodel clf = keras("../no.keras")\n'
        "property p(x, y in data) { forall z in ball(x, linf, 0.1): argmax(clf(z)) == y }\n"
    )
    with pytest.raises(SpecError):
        load_file(path)
    loaded = load_file(path, bound={"clf", "data"})
    assert loaded.models["clf"].bound and loaded.datasets["data"].source == "bound"
    assert loaded.properties["p"].dataset == "data"


def test_what_is_bound_has_to_be_used_whatever_a_text_asks() -> None:
    for text in ("prop 1\n", "prop 1\nlet a = 1\n", 'prop 1\nmodel f = keras("f.keras")\n'):
        with pytest.raises(SpecError, match="there is no model or data set `clf`"):
            load(text, bound={"clf"})
        load(text, bound={"clf"}, shared=True)


def test_imported_names_carry_their_prefix(tmp_path: Path) -> None:
    (tmp_path / "common.prop").write_text(
        "prop 1\nparam eps: real = 1/10\ndataset test = digits() { scale: 1/16 }\nstrategy careful = ibp -> crown\n"
        "let twice(a) = 2*a*eps\n"
    )
    main = tmp_path / "main.prop"
    main.write_text(
        'prop 1\nimport "common.prop" as common\nmodel clf = keras("clf.keras")\n'
        "property p(x, y in common.test) using common.careful {\n"
        "  forall z in ball(x, linf, common.twice(3)) in unit: argmax(clf(z)) == y }\n"
    )
    (tmp_path / "clf.keras").write_text("")
    loaded = load_file(main, params={"common.eps": "1/100"})
    p = loaded.properties["p"]
    assert p.dataset == "common.test" and p.strategy.name == "common.careful"
    assert isinstance(p.region, BallSpec) and p.region.eps == Fraction(6, 100)
    assert loaded.params["common.eps"].value == Fraction(1, 100)
    common = tmp_path / "common.prop"
    common.write_text(common.read_text() + "# changed")
    assert load_file(main).source_hash != loaded.source_hash


def test_errors_of_an_import_name_its_file(tmp_path: Path) -> None:
    (tmp_path / "common.prop").write_text("prop 1\nparam eps: real = 1/0\n")
    (tmp_path / "main.prop").write_text('prop 1\nimport "common.prop" as common\n')
    with pytest.raises(SpecError) as caught:
        load_file(tmp_path / "main.prop")
    assert "common.prop:2:21" in caught.value.render()


def test_source_hash_depends_on_the_text_only() -> None:
    assert load("prop 1").source_hash == load("prop 1", filename="other").source_hash
    assert load("prop 1").source_hash != load("prop 1 ").source_hash


def test_outputs_that_are_not_finite_are_an_error() -> None:
    p = spec(f"param eps: real = 0\nproperty robust(x, y in test) {{ {ROBUST} }}").properties["robust"]
    for bad in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="NaN or infinite"):
            p.holds([0.0, bad], 0)


OBJECTIVE = (
    "property p(x, y in test) { forall z in ball(x, linf, 0.1) in unit: argmax(clf(z)) == y }\nobjective o for p "
)


@pytest.mark.parametrize("number", ["1e400", "1e-400"])
@pytest.mark.parametrize(
    "statement",
    [
        "property p(x, y in test) { forall z in ball(x, linf, NUMBER) in unit: argmax(clf(z)) == y }",
        "property p(x, y in test) { forall z in ball(x, l2, 1) within [0, NUMBER] in unit: argmax(clf(z)) == y }",
        "property p { forall z in box([-NUMBER, 1]) in unit: clf(z)[0] > 0 }",
        "property p { forall z in box([0, 1]) in unit: clf(z)[NUMBER] > 0 }",
        "domain d = box([0, NUMBER])",
        "dataset d = npz('a.npz') { normalize: { mean: 0 std: NUMBER } }",
        "dataset d = npz('a.npz') take NUMBER",
        "strategy s = milp(gap=1/NUMBER)",
        "strategy s = alpha_crown(learning_rate=NUMBER)",
        "abstraction g = intervals(range=[0, 1], granularity=1/NUMBER)",
        "measure m(x, y in test) = largest r in [0, NUMBER] such that\n"
        "  forall z in ball(x, linf, r) in unit: argmax(clf(z)) == y",
        OBJECTIVE + "{ eps: ramp(0 -> NUMBER, epochs 0..1) }",
        OBJECTIVE + "{ learning_rate: decay(NUMBER, epochs=[1]) }",
        OBJECTIVE + "{ epochs: NUMBER }",
    ],
)
def test_numbers_that_float64_does_not_hold_are_mistakes_wherever_they_stand(statement: str, number: str) -> None:
    assert codes(HEAD + statement.replace("'", '"').replace("NUMBER", number)) == ["E247"]


def test_results_are_compared_with_any_number() -> None:
    text = (
        OBJECTIVE.split("\n")[0] + "\nassert verified_accuracy(p) <= 1e400 and 1e300 * verified_accuracy(p) >= 1e-300"
    )
    assert [w.code for w in spec(text).warnings] == ["W003"]


@pytest.mark.parametrize("kind", ["pipe", "folder"])
@pytest.mark.parametrize(
    "statement", ['import "it" as common', 'model m = keras("it")', 'dataset d = npz("it")', 'dataset d = csv("it")']
)
def test_what_is_no_regular_file_is_refused_and_not_waited_for(tmp_path: Path, statement: str, kind: str) -> None:
    (os.mkfifo if kind == "pipe" else os.mkdir)(tmp_path / "it")
    (tmp_path / "s.prop").write_text(f"prop 1\n{statement}\n")
    with pytest.raises(SpecError) as caught:
        load_file(tmp_path / "s.prop")
    assert [d.code for d in caught.value.diagnostics] == ["E248"]


def test_errors_are_shown_however_many_warnings_come_before() -> None:
    ball = "forall z in ball(x, linf, 2) within [0, 1] in unit: argmax(clf(z)) == y"
    warned = "".join(f"property p{i}(x, y in test) {{ {ball} }}\n" for i in range(150))
    assert [w.code for w in spec(warned).warnings] == ["W002"] * 100
    assert codes(HEAD + warned + "property q { forall z in box([0, 1]) in unit: unknown(z)[0] > 0 }").count("E201") == 1


def test_what_could_not_be_understood_is_not_said_to_be_unused() -> None:
    text = (
        "property p(x in mine) { forall z in ball(x, linf, 0.1): other(z)[0] > 0 and (exists w in box([0, 1]): true) }"
    )
    assert codes(f"prop 1\n{text}", bound=["mine", "other"]) == ["E211"]
    assert codes(f"prop 1\n{text}", bound=["mine", "other", "third"]) == ["E211", "E201"]


def test_a_chain_of_implications_is_as_long_as_the_text_allows() -> None:
    chain = " => ".join(["clf(z)[0] > clf(z)[1]"] * 2000)
    p = spec(f"property p {{ forall z in box([0, 1]) in net: {chain} => clf(z)[2] > 0 }}").properties["p"]
    assert p.holds([0, 1, 0]) and p.holds([1, 0, 1]) and not p.holds([1, 0, 0])
