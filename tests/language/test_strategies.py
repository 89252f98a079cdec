"""Strategies: stages, their options, and which norms and questions they suit."""

from __future__ import annotations

from fractions import Fraction

import pytest
from language_specs import HEAD, codes, spec


def test_strategy_is_read_with_exact_budgets() -> None:
    loaded = spec(
        "strategy s = pgd(steps=40, restarts=5) -> crown(relaxation=fastlin) -> forward_backward "
        "{ budget: 500ms per sample, 2h total batch: 32 dtype: float64 }\nstrategy t = ibp { budget: 5min total }"
    )
    s, t = loaded.strategies["s"], loaded.strategies["t"]
    assert s.stages[0].options == (("steps", 40), ("restarts", 5)) and s.stages[0].attacks
    assert s.stages[2].method == "forward+backward"
    assert (s.seconds_per_sample, s.seconds_total, s.batch, s.dtype) == (Fraction(1, 2), 7200, 32, "float64")
    assert (t.seconds_per_sample, t.seconds_total, t.batch) == (None, 300, None)


def test_alpha_crown_takes_iterations_and_a_learning_rate() -> None:
    stage = (
        spec("strategy s = alpha_crown(iterations=30, learning_rate=1/10, relaxation=fastlin)")
        .strategies["s"]
        .stages[0]
    )
    assert stage.method == "alpha-crown" and not stage.attacks
    assert dict(stage.options) == {"iterations": 30, "learning_rate": Fraction(1, 10), "relaxation": "fastlin"}
    for wrong in ("iterations=0", "learning_rate=0", "iterations=1/2"):
        assert codes(HEAD + f"strategy s = alpha_crown({wrong})") in (["E220"], ["E206"])


@pytest.mark.parametrize("norm", ["linf", "l1", "l2"])
def test_solver_stages_take_every_norm_and_their_options(norm: str) -> None:
    loaded = spec(
        "strategy s = pgd -> crown -> lp(solver=highs, threads=2, time_limit=500ms) -> milp(gap=0.01%, time_limit=2min,"
        " solver=cbc, threads=1, confirm=cbc_default, tighten=progressive, guided=false)\n"
        f"property p(x, y in test) using s {{ forall z in ball(x, {norm}, 0.1) in unit: argmax(clf(z)) == y }}"
    )
    _, _, lp, milp = loaded.properties["p"].strategy.stages
    assert dict(lp.options) == {"solver": "highs", "threads": 2, "time_limit": Fraction(1, 2)}
    assert dict(milp.options) == {
        "gap": Fraction(1, 10_000), "time_limit": 120, "solver": "cbc", "threads": 1, "confirm": "cbc_default",
        "tighten": "progressive", "guided": False,
    }  # fmt: skip
    assert [stage.kind for stage in loaded.strategies["s"].stages] == ["attack", "bound", "bound", "solver"]
    assert (lp.method, milp.method) == ("lp", "milp") and milp.solves and not lp.solves
    assert not lp.relaxes and milp.option("guided", True) is False and lp.option("gap") is None


@pytest.mark.parametrize(
    ("stage", "code"),
    [
        ("milp(gap=0)", "E220"),
        ("milp(gap=1)", "E220"),
        ("milp(gap=2s)", "E207"),
        ("milp(time_limit=5)", "E207"),
        ("milp(threads=0)", "E206"),
        ("milp(guided=1)", "E206"),
        ("milp(solver=cbc_default)", "E220"),
        ("milp(confirm=cbc)", "E220"),
        ("milp(solver=highs, confirm=highs)", "E220"),
        ("milp(tighten=crown)", "E220"),
        ("milp(targets=least)", "E220"),
        ("milp(bounds=crown_ibp)", "E220"),
        ("milp(bounds=lp, tighten=lp)", "E220"),
        ("milp(guide=fgsm)", "E220"),
        ("milp(guide=cw, guided=false)", "E220"),
        ("split(bounds=symbolic)", "E219"),
        ("crown(guide=cw)", "E219"),
        ("lp(gap=1%)", "E219"),
        ("lp(relaxation=crown)", "E219"),
    ],
)
def test_a_solver_stage_refuses_what_has_no_meaning(stage: str, code: str) -> None:
    assert codes(HEAD + f"strategy s = {stage}") == [code]


def test_a_solver_can_prove_and_its_witnesses_verify_what_some_input_does() -> None:
    text = (
        "strategy s = {}\nproperty p(x, y in test) using s {{\n"
        "  {} z in ball(x, linf, 0.1) in unit: argmax(clf(z)) != y }}\nassert verified_accuracy(p) >= 0.5"
    )
    assert codes(HEAD + text.format("pgd", "forall")) == ["E215"]
    assert spec(text.format("pgd", "exists")).properties["p"].existential
    assert spec(text.format("pgd -> milp", "forall")).assertions


@pytest.mark.parametrize("stage", ["milp", "split"])
def test_solving_stages_take_a_guide_and_one_class_and_milp_every_way_to_bound(stage: str) -> None:
    from tfcert.catalog import BOUNDS, GUIDES

    for guide in GUIDES.words():
        (found,) = spec(f"strategy s = {stage}(guide={guide}, targets=runner_up)").strategies["s"].stages
        assert dict(found.options) == {"guide": guide, "targets": "runner_up"}
    for bounds in BOUNDS.words():
        (found,) = spec(f"strategy s = milp(bounds={bounds}, guided=true, guide=pgd)").strategies["s"].stages
        assert found.option("bounds") == bounds


@pytest.mark.parametrize("stage", ["forward", "forward_backward", "crown_ibp"])
def test_frown_is_for_backward_passes_alone(stage: str) -> None:
    assert codes(HEAD + f"strategy s = {stage}(relaxation=frown)") == ["E220"]


@pytest.mark.parametrize("relaxation", ["fastlin", "crown", "cnncert", "deepcert", "adaptive", "frown"])
def test_every_relaxation_of_the_bounds_can_be_asked_for(relaxation: str) -> None:
    from tfcert.catalog import RELAXATIONS

    stage = spec(f"strategy s = crown(relaxation={relaxation})").strategies["s"].stages[0]
    assert dict(stage.options) == {"relaxation": relaxation} and relaxation in RELAXATIONS


def test_names_of_python_and_the_command_line_are_the_language_s() -> None:
    text = (
        "strategy {s} = pgd -> {c}(relaxation=crown) -> {a} -> {f}\n"
        "property p(x, y in test) using {s} {{ forall z in ball(x, linf, 0.1) in unit: argmax(clf(z)) == y }}\n"
        "objective o for p {{ bound: {c} verify: {f} }}\nobjective q for p {{ bound: {m}(attack_steps=3) verify: {a} }}"
    )
    under = {"s": "s", "c": "crown_ibp", "a": "alpha_crown", "f": "forward_backward", "m": "mtl_ibp"}
    hyphens = {"s": "s", "c": "crown-ibp", "a": "alpha-crown", "f": "forward+backward", "m": "mtl-ibp"}
    first, second = spec(text.format(**under)), spec(text.format(**hyphens))
    assert first.strategies == second.strategies
    for name, objective in first.objectives.items():
        other = second.objectives[name]
        assert (objective.bound, objective.verify) == (other.bound, other.verify)


def test_a_relaxation_takes_a_fallback_where_it_may_lack_a_rule() -> None:
    (stage,) = spec("strategy s = crown(relaxation=deepcert, fallback=adaptive)").strategies["s"].stages
    assert stage.relaxation == "deepcert+adaptive"
    assert spec("strategy s = crown(relaxation=deepcert)").strategies["s"].stages[0].relaxation == "deepcert"
    for options in ("fallback=adaptive", "relaxation=frown, fallback=adaptive", "relaxation=deepcert, fallback=crown"):
        assert codes(HEAD + f"strategy s = crown({options})") == ["E220"]


def test_a_strategy_says_what_proofs_are_about() -> None:
    for name in ("deployed", "real", "ignore"):
        assert spec(f"strategy s = ibp {{ rounding: {name} }}").strategies["s"].rounding == name
    assert spec("strategy s = ibp").strategies["s"].rounding is None
    assert codes(HEAD + "strategy s = ibp { rounding: exact }") == ["E220"]
