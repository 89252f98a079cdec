"""Templates and loops: what they ask, under which names, and that names never mean something else on the way."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from language_specs import HEAD, codes, spec

from tfcert.language import BallSpec, PropertyTemplate, Spec, SpecError, load, load_file

TEMPLATE = """
model big = keras("big.keras")
property robust(eps: real in [0px, 20px] = 8px, m: model = clf)(x, y in test) {
  forall z in ball(x, linf, eps) in unit: argmax(m(z)) == y
}
"""


def radius(found: Spec, name: str) -> Fraction:
    region = found.properties[name].region
    assert isinstance(region, BallSpec)
    return region.eps


def test_an_instance_asks_with_its_values_and_is_named_after_them() -> None:
    found = spec(TEMPLATE + "check robust(2px), robust(m=big, eps=3px/2), robust")
    assert list(found.properties) == ["robust(eps=2px, m=clf)", "robust(eps=1.5px, m=big)", "robust(eps=8px, m=clf)"]
    assert radius(found, "robust(eps=2px, m=clf)") == Fraction(2, 255)
    assert [p.model for p in found.properties.values()] == ["clf", "big", "clf"]
    assert found.properties["robust(eps=2px, m=clf)"].text.startswith("property robust(eps=2px, m=clf)(x, y in test)")


def test_one_instance_is_asked_once_however_it_is_written() -> None:
    text = TEMPLATE + "assert verified_accuracy(robust(8px)) > 0 and verified_accuracy(robust(eps=8px, m=clf)) > 0"
    found = spec(text + " report nominal_accuracy(robust)\nlet r = 4px + 4px\ncheck robust(r)")
    assert list(found.properties) == ["robust(eps=8px, m=clf)"]
    assert found.judged_by_assertions == {"robust(eps=8px, m=clf)"}


def test_a_template_without_values_asks_nothing() -> None:
    found = spec(TEMPLATE)
    assert not found.properties and [w.code for w in found.warnings] == ["W020"]


@pytest.mark.parametrize(
    ("kind", "given", "use", "shown"),
    [
        ("real", "1/3", "linf, k", "1/3"),
        ("real", "1e-3", "linf, k", "0.001"),
        ("real", "10%", "linf, k", "10%"),
        ("int", "2", "linf, k/255", "2"),
        ("norm", "l2", "k, 0.1", "l2"),
        ("bool", "true", "linf, 0.1", "true"),
    ],
)
def test_parameters_of_every_type_of_value(kind: str, given: str, use: str, shown: str) -> None:
    body = f"property p(k: {kind})(x, y in test) {{ forall z in ball(x, {use}) in unit: argmax(clf(z)) == y"
    found = spec(body + (" and k }" if kind == "bool" else " }") + f" check p({given})")
    assert list(found.properties) == [f"p(k={shown})"]


def test_parameters_of_every_kind_of_name() -> None:
    text = """
dataset other = mnist5k(split="train") take 7 { scale: 1/255 normalize: { mean: 0.1307 std: 0.3081 } }
strategy "8px-plan" = ibp
domain unit_cube = box([0, 1])
abstraction grid = intervals(range=[-1, 1], granularity=0.5)
property p(m: model, d: dataset, s: strategy)(x, y in d) using s {
  forall z in ball(x, linf, 0.1) in unit: argmax(m(z)) == y
}
property q(r: domain)(x, y in test) { forall z in r in unit: argmax(clf(z)) == y }
property c(g: abstraction)(x, y in test) abstracted by g { forall z in ball(x, linf, 0.01) in net: argmax(clf(z)) == y }
check p(clf, other, "8px-plan"), q(unit_cube), c(grid)
"""
    found = spec(text)
    p = found.properties["p(m=clf, d=other, s=8px-plan)"]
    assert (p.model, p.dataset, p.strategy.name) == ("clf", "other", "8px-plan")
    assert found.properties["c(g=grid)"].abstraction is not None and "q(r=unit_cube)" in found.properties


def test_measures_and_distances_are_templates_too() -> None:
    text = """
measure far(of: norm)(x, y in test) =
  largest r in [0, 8px] such that forall z in ball(x, of, r) in unit: argmax(clf(z)) == y
measure score(of: norm)(x, y in test) = clever(clf, of) in unit
assert median(far(linf)) >= 1px
report histogram(score(l2), bins=5), mean(far(l2))
"""
    assert list(spec(text).measures) == ["far(of=linf)", "score(of=l2)", "far(of=l2)"]


def test_an_objective_trains_towards_an_instance() -> None:
    learn = 'dataset learn = mnist5k(split="train") { scale: 1/255 normalize: { mean: 0.1307 std: 0.3081 } }'
    found = spec(TEMPLATE + learn + " objective o for robust(2px) { bound: ibp train: learn }")
    assert found.objectives["o"].property == "robust(eps=2px, m=clf)"


# Loops


def test_a_loop_reads_its_statements_once_for_each_value() -> None:
    text = TEMPLATE + "for eps_ in [2px, 4px .. 8px by 2px] { assert verified_accuracy(robust(eps_)) >= 0.5 }"
    found = spec(text)
    assert list(found.properties) == [f"robust(eps={k}px, m=clf)" for k in (2, 4, 6, 8)]
    assert found.assertions[0].text == "verified_accuracy(robust(eps_)) >= 0.5 (eps_=2px)"
    assert [sorted(a.properties) for a in found.assertions] == [[name] for name in found.properties]


def test_loops_over_names_nest_and_what_they_define_is_theirs() -> None:
    text = (
        TEMPLATE
        + """
for m in [clf, big] {
  for k in [1 .. 2] {
    let half = k/510
    strategy plan = pgd(steps=10*k) -> ibp
    property near(x, y in test where y != k) using plan { forall z in ball(x, linf, half) in unit: argmax(m(z)) == y }
    report verified_accuracy(near)
  }
}
"""
    )
    found = spec(text)
    assert list(found.properties) == [f"near(m={m}, k={k})" for m in ("clf", "big") for k in (1, 2)]
    near = found.properties["near(m=big, k=2)"]
    assert near.model == "big" and radius(found, "near(m=big, k=2)") == Fraction(1, 255)
    assert not near.sample_selected(2) and near.sample_selected(1)
    assert near.strategy.name == "plan(m=big, k=2)" and near.strategy.stages[0].option("steps") == 20
    assert found.strategies["plan(m=big, k=2)"] == near.strategy
    assert [r.quantity.names[0] for r in found.reports if r.quantity] == list(found.properties)


def test_loops_go_through_questions_norms_sets_and_lists_with_names() -> None:
    text = (
        TEMPLATE
        + """
let radii = [k*1px for k in [1 .. 4] where k != 3]
measure far(of: norm)(x, y in test) =
  largest r in [0, 8px] such that forall z in ball(x, of, r) in unit: argmax(clf(z)) == y
for r in radii { check robust(r) }
for p in {robust(1px), robust(5px)} { report verified_accuracy(p) }
for of in [linf, l2] { for way in [far(of)] { assert median(way) >= 0px } }
"""
    )
    found = spec(text)
    assert list(found.properties) == [f"robust(eps={k}px, m=clf)" for k in (1, 2, 4, 5)]
    assert list(found.measures) == ["far(of=linf)", "far(of=l2)"] and len(found.assertions) == 2


def test_a_template_of_a_loop_belongs_to_its_turn() -> None:
    text = """
for k in [1, 2] {
  property p(eps: real)(x, y in test where y == k) { forall z in ball(x, linf, eps) in unit: argmax(clf(z)) == y }
  assert verified_accuracy(p(k/255)) >= 0
}
"""
    found = spec(text)
    assert list(found.properties) == ["p(k=1, eps=1/255)", "p(k=2, eps=2/255)"]
    assert "E201" in codes(HEAD + text + "assert verified_accuracy(p(1)) >= 0")


def test_arguments_mean_what_they_mean_where_they_are_written() -> None:
    """A value is not read anew in the template's text, where its names may stand for something else."""
    text = """
let scale_ = 1/255
property inner(eps: real)(x, y in test) { forall z in ball(x, linf, eps*scale_) in unit: argmax(clf(z)) == y }
for k in [2] { let local = 3*k*scale_*255  check inner(local) }
"""
    assert radius(spec(text), "inner(eps=6)") == Fraction(6, 255)


def test_an_import_s_templates_take_names_of_the_importing_text(tmp_path: Path) -> None:
    (tmp_path / "lib.prop").write_text(
        "prop 1\nparam factor: real = 2\n"
        "property robust(m: model, d: dataset, eps: real)(x, y in d) "
        "{ forall z in ball(x, linf, factor*eps) in unit: argmax(m(z)) == y }\n"
    )
    for name in ("clf.keras", "a.npz"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "s.prop").write_text(
        'prop 1\nimport "lib.prop" as lib\nimport "lib.prop" as wide(factor=10)\nmodel factor_ = keras("clf.keras")\n'
        'dataset test = npz("a.npz", x="x", y="y") { range: [0, 1] }\n'
        "check lib.robust(factor_, test, 1px)\nassert verified_accuracy(wide.robust(factor_, test, eps=1px)) >= 0.5\n"
    )
    found = load_file(tmp_path / "s.prop")
    assert list(found.properties) == [
        "lib.robust(m=factor_, d=test, eps=1px)",
        "wide.robust(m=factor_, d=test, eps=1px)",
    ]
    assert [radius(found, name) for name in found.properties] == [Fraction(2, 255), Fraction(10, 255)]
    assert not found.warnings


def test_what_is_wrong_in_a_template_points_there_and_says_who_asked() -> None:
    with pytest.raises(SpecError) as caught:
        load(HEAD + TEMPLATE.replace("m(z)", "m(w)") + "for e in [1px, 2px] { check robust(e) }", filename="t.prop")
    (found,) = caught.value.diagnostics
    assert found.code == "E201" and found.line == 7
    assert found.note == "in `robust(eps=1px, m=clf)`, asked at t.prop:9:29, where e=1px"


# Expected to fail


def test_expected_fail_turns_an_assertion_and_marks_a_property() -> None:
    from tfcert.language import Judgement, PropertyCounts, Results

    body = "property weak(x, y in test) { forall z in ball(x, linf, 8px) in unit: argmax(clf(z)) == y }"
    found = spec(f"expected fail {body} expected fail assert nominal_accuracy(weak) >= 0.5")
    assert isinstance(found.properties["weak"], PropertyTemplate) and found.properties["weak"].expect_fail
    judged = {
        correct: found.assertions[0].judge(Results(properties={"weak": PropertyCounts(10, correct, 1, 0)}))
        for correct in (4, 5)
    }
    assert judged == {4: Judgement.PASS, 5: Judgement.FAIL}
    nothing = Results(properties={"weak": PropertyCounts(10, 0, 0, 0)})
    assert found.assertions[0].judge(nothing) is Judgement.INCONCLUSIVE


# Names


def test_settings_stand_before_or_after_the_body() -> None:
    plan = "strategy s = ibp\nabstraction g = intervals(range=[-1, 1], granularity=0.5)\n"
    body = "forall z in ball(x, linf, 0.01) in net: argmax(clf(z)) == y"
    far = "largest r in [0, 0.1] such that forall z in ball(x, linf, r) in net: argmax(clf(z)) == y"
    settings = ("using s abstracted by g", "abstracted by g using s")
    texts = [f"property p(x, y in test) {one} {{ {body} }}" for one in settings]
    texts += [f"property p(x, y in test) {{ {body} }} {one}" for one in settings]
    texts += [f"property p(x, y in test) using s {{ {body} }} abstracted by g"]
    found = [spec(plan + text).properties["p"] for text in texts]
    assert len({(p.strategy, p.abstraction, p.text) for p in found}) == 1
    texts = [f"measure m(x, y in test) = {far} {one}" for one in settings]
    texts += [f"measure m(x, y in test) {one} = {far}" for one in settings]
    assert len({spec(plan + text).measures["m"].text for text in texts}) == 1


def test_quoted_words_of_the_language_are_templates_and_strategies_too() -> None:
    text = """
strategy "max" = ibp
strategy longer = "max" -> crown
property "forall"(eps: real)(x, y in test) using "max" { forall z in ball(x, linf, eps) in unit: argmax(clf(z)) == y }
check "forall"(2px)
for p in ["forall"(3px)] { assert verified_accuracy(p) >= 0 or verified_accuracy("forall"(4px)) >= 0.1 }
"""
    found = spec(text)
    assert list(found.properties) == [f"forall(eps={k}px)" for k in (2, 3, 4)]
    assert [s.name for s in found.strategies["longer"].stages] == ["ibp", "crown"]


def test_the_reference_s_example_of_templates_asks_what_it_says() -> None:
    reference = (Path(__file__).parents[2] / "docs" / "language.md").read_text("utf-8")
    section = reference[reference.index("## Templates, loops and lists") :]
    found = load(section.split("```prop\n")[1].split("```")[0])
    radii = [f"robust(eps={k}px, m={m})" for m in ("small", "big") for k in (1, 2, 3, 4)]
    named = ["top_class(m=small)", "top_class(m=big)", "robust(eps=8px, m=small)", "robust(eps=1.5px, m=big)"]
    assert set(found.properties) == {*radii, *named, "robust(eps=64px, m=big)"} and not found.warnings
    assert [s.name for s in found.strategies["exact"].stages] == ["pgd", "ibp", "crown", "milp"]
    assert found.assertions[-1].expect_fail and len(found.assertions) == 9
