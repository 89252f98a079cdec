"""What a specification will cost, said before anything is loaded."""

from __future__ import annotations

import pytest

from tfcert.driver.explain import explain
from tfcert.language import load

TEXT = """prop 1
model clf = keras("clf.keras")
dataset test = mnist5k(split="test") take 7
strategy plan = {}
property robust(x, y in test) using plan {{ forall z in ball(x, linf, 0.1) in net: argmax(clf(z)) == y }}
"""


@pytest.mark.parametrize(
    ("stages", "cost"),
    [
        ("alpha_crown(iterations=30)", "30 gradient steps, each about 3 times a pass of crown"),
        ("alpha_crown", "20 gradient steps, each about 3 times a pass of crown"),
        ("crown", "one backward pass for every neuron that may switch, and for the outputs"),
        ("pgd(steps=5, restarts=2)", "at most 2 x 5 gradients a sample"),
        ("lp(solver=highs)", "a linear program over all neurons for each open clause, by highs, as long as the budget"),
        (
            "milp",
            "an integer program for each open clause, on the word of cbc, as long as the budget lasts; its time may",
        ),
        ("milp(time_limit=90s, confirm=highs)", "on the word of cbc, and again by highs, at most 90 s a sample"),
        ("milp(bounds=lp)", "before that a linear program for each neuron that may switch"),
        ("milp(tighten=lp)", "before that a linear program for each neuron that may switch"),
        ("milp(tighten=progressive)", "before that a linear and an integer program for each neuron that may switch"),
        ("milp", "finds witnesses and proves; an integer program"),
        ("split(time_limit=30s)", "branch and bound by the signs of neurons, at most 30 s a sample"),
        ("split(solver=highs)", "with a linear program by highs where a piece needs it"),
    ],
)
def test_every_stage_says_what_it_costs(stages, cost):
    shown = explain(load(TEXT.format(stages)))
    assert cost in shown
    assert "queries: at most 7, one for each sample of test" in shown


@pytest.mark.parametrize(
    ("question", "asked"),
    [
        ("property p(x, y in test) {{ forall z {}: argmax(clf(z)) == y }}", "a proof verifies, a witness against it"),
        (
            "property p(x, y in test) {{ exists z {}: argmax(clf(z)) != y }}",
            "a witness verifies, a proof that there is",
        ),
        ("measure p(x, y in test) = largest r in [0, 1] such that forall z {}: argmax(clf(z)) == y", "the largest"),
        ("measure p(x, y in test) = smallest r in [0, 1] such that exists z {}: argmax(clf(z)) != y", "the smallest"),
    ],
)
def test_every_question_says_what_settles_it(question, asked):
    radius = "r" if question.startswith("measure") else "0.1"
    head = TEXT.format("pgd").split("property")[0]
    shown = explain(load(head + question.format(f"in ball(x, linf, {radius}) in net")))
    (line,) = (line for line in shown.splitlines() if line.startswith("  asked: "))
    assert asked in line
    assert ("search: in [0, 1] to 1/10000 relative, about 15 bounds" in shown) == question.startswith("measure")


def test_a_measure_says_which_stage_of_each_kind_its_search_takes():
    head = TEXT.format("ibp -> pgd -> crown -> split -> pgd(steps=3)").split("property")[0]
    measure = "measure m(x, y in test) = largest r in [0, 1] such that forall z in ball(x, linf, r) in net: "
    (name,) = [word.split()[1] for word in head.splitlines() if word.startswith("strategy")]
    lines = [line.strip() for line in explain(load(f"{head}{measure}argmax(clf(z)) == y using {name}")).splitlines()]
    assert "1. ibp: not used, stage 3 is the one" in lines and "5. pgd(steps=3): not used, stage 2 is the one" in lines
    assert [line[0] for line in lines if line[:1].isdigit() and "not used" not in line] == ["2", "3", "4"]
    assert not any("survivors" in line for line in lines)


def test_an_objective_says_what_would_be_trained_in_how_many_steps() -> None:
    text = TEXT.format("ibp").replace("take 7", "take 7 { scale: 1/255 }") + (
        "objective o for robust { bound: crown_ibp epochs: 6 batch: 64 eps_factor: 1.5 initialize: ibp "
        "regularize: interval_width(weight=1e-3) eps: ramp(0 -> 0.1, epochs 1..4, smooth) verify_every: 2 "
        "learning_rate: decay(1e-3, epochs=[4, 5]) }"
    )
    shown = explain(load(text)).split("objective o for robust")[1]
    for line in (
        "trains: model clf (clf.keras), from weights drawn afresh as suits interval bounds",
        "on: the training part of test (4000 samples), batches of 64, 6 epochs of 62 steps: 372 steps",
        "eps: 1.5 times 0 -> 1/10 from epochs 1 to 4, smooth, linf, in net space",
        "natural weight: 1 -> 0 from epochs 1 to 4, smooth",
        "mixture: 1 -> 0 from epochs 1 to 4, smooth",
        "regulariser: interval_width(weight=0.001)",
        "optimizer: adam, learning rate 0.001, times 0.1 after 4, 5 epochs, seed 0",
        "at most 7, one for each sample of test), attacked by pgd, verified by ibp after every 2 epochs",
        "a step takes about two and a half steps of plain training, and a backward pass of bounds for the outputs",
    ):
        assert line in shown


@pytest.mark.parametrize(
    ("region", "said"),
    [
        (
            "ball(x, linf, 51)",
            "radius 51 (20% of the range) in raw space, within [0, 255] of the stored values, the decl",
        ),
        ("ball(x, linf, 51) within [0, 254] in raw", "(20% of the range) in raw space, within [0, 254]"),
        ("ball(x, l2, 51) within anything", "linf, within anything"),
    ],
)
def test_a_region_says_its_share_of_the_range_and_what_it_stays_within(region, said):
    text = TEXT.format("ibp").replace("ball(x, linf, 0.1) in net", region)
    assert said.replace("linf, ", "l2 ball of radius 51 (20% of the range) in raw space, ") in explain(load(text))


def test_questions_of_an_import_are_explained_where_they_are_asked(tmp_path):
    (tmp_path / "clf.keras").write_text("")
    (tmp_path / "common.prop").write_text(TEXT.format("ibp"))
    text = 'prop 1\nimport "common.prop" as common\n'
    assert "robust" not in explain(load(text, root=tmp_path))
    shown = explain(load(text + "check common", root=tmp_path))
    assert "property common.robust" in shown and "one for each sample of common.test" in shown
