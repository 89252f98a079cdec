"""Stages with a guide of their own, and about one class alone: what they may say, and that they say which class."""

import keras
import numpy as np
import pytest

import tfcert
from tfcert.driver.stages import complete
from tfcert.errors import UsageError
from tfcert.verdict import Reason, reason_of

pytestmark = pytest.mark.usefixtures("eager")

SPEC = """prop 1
model clf = keras("clf.keras") {{ outputs: logits }}
strategy s = {stages}
dataset d = npz("d.npz") {{ range: [-9, 9] }}
{question}
"""
PROPERTY = (
    "property p(x, y in d) using s {{ forall z in ball(x, linf, {}) within anything in raw: argmax(clf(z)) == y }}"
)
MEASURE = (
    "measure m(x, y in d) = largest r in [1/1000, 6] tol 1e-5 such that\n"
    "  forall z in ball(x, linf, r) within anything in raw: argmax(clf(z)) == y using s"
)


@pytest.fixture(scope="module")
def planes() -> keras.Model:
    """Three classes at the point (0, 0): class 1 is the runner-up there, and class 2 is reached sooner.

    Logits 1, x / 4 and -1/2 + 3 y: class 1 is level at distance 4, class 2 at distance 1/2.
    """
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(4, "relu"), keras.layers.Dense(3)])
    first = np.array([[1.0, -1, 0, 0], [0, 0, 1, -1]])
    last = np.array([[0, 0.25, 0], [0, -0.25, 0], [0, 0, 3.0], [0, 0, -3.0]])
    model.set_weights([first, np.zeros(4), last, np.array([1.0, 0, -0.5])])
    return model


def asked(model, question: str, stages: str, x=((0.0, 0.0),)):
    data = np.array(x, np.float32), np.zeros(len(x), np.int64)
    return tfcert.verify(SPEC.format(stages=stages, question=question), bindings={"clf": model, "d": data}, verbose=0)


@pytest.mark.parametrize("stage", ["milp", "split"])
def test_a_proof_about_the_runner_up_is_no_proof_and_names_the_class(planes, stage):
    """At 0.6 class 2 is within reach and class 1 is not: "robust" would be wrong."""
    (record,) = asked(planes, PROPERTY.format(0.6), f"{stage}(targets=runner_up)").records
    assert record.outcome == "unknown" and reason_of(record.verdict.reason) is Reason.ONE_CLASS
    assert "class 1, the runner-up, is not reached" in record.verdict.reason
    assert "other classes are open" in record.verdict.reason and np.isnan(record.verdict.margin)
    (record,) = asked(planes, PROPERTY.format(0.6), stage).records
    assert record.outcome == "falsified"


def test_a_later_stage_does_not_take_the_classes_that_were_left_out_for_proven(planes):
    stages = "split(targets=runner_up) -> milp(targets=runner_up) -> milp"
    (record,) = asked(planes, PROPERTY.format(0.6), stages).records
    assert record.outcome == "falsified" and record.verdict.stage == "milp"


def test_what_bounds_prove_of_all_other_classes_counts(planes):
    (record,) = asked(planes, PROPERTY.format(0.4), "milp(targets=runner_up)").records
    assert record.outcome == "verified" and record.verdict.margin == pytest.approx(1.5 - 3 * 0.4, abs=1e-3)


def test_a_measure_tells_the_one_class_s_distance_and_proves_nothing_by_it(planes):
    (record,) = asked(planes, MEASURE, "ibp -> milp(targets=runner_up)").records
    assert record.measured.lower <= 0.5 and reason_of(record.verdict.reason) is Reason.ONE_CLASS
    assert (
        "class 1, the runner-up, is no nearer than 3.99" in record.verdict.reason or "than 4" in record.verdict.reason
    )


def test_one_class_is_refused_where_the_formula_has_none(planes):
    question = "property p(x, y in d) using s { forall z in ball(x, linf, 1/10) within anything in raw: clf(z)[0] > 0 }"
    with pytest.raises(UsageError, match=r"milp\(targets=runner_up\) is for `argmax\(...\) == y`"):
        asked(planes, question, "milp(targets=runner_up)")


@pytest.mark.parametrize("guide", ["pgd", "fmn"])
def test_a_guide_settles_a_property_and_confines_a_measure_without_an_attack_stage(planes, guide, monkeypatch):
    pytest.importorskip("foolbox")
    (record,) = asked(planes, PROPERTY.format(0.6), f"milp(guide={guide})").records
    assert record.outcome == "falsified" and record.verdict.work.gradients > 0
    assert record.verdict.work.binaries == 0  # no program was needed
    (record,) = asked(planes, MEASURE, f"milp(guide={guide}, bounds=symbolic)").records
    assert record.measured.lower == pytest.approx(0.5, rel=1e-4)
    assert record.measured.upper == pytest.approx(0.5, rel=1e-4)


def test_a_guide_needs_a_ball_and_symbolic_bounds_a_network_of_relus(planes):
    question = "property p(x, y in d) using s { forall z in box([-1, 1]) in raw: argmax(clf(z)) == y }"
    with pytest.raises(UsageError, match="it needs a `ball`, not a box"):
        asked(planes, question, "split(guide=pgd)")
    bent = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, "tanh"), keras.layers.Dense(3)])
    for stages in ("milp(bounds=symbolic)", "symbolic"):
        with pytest.raises(UsageError, match="symbolic is for networks of relu alone"):
            asked(bent, PROPERTY.format(0.1), stages)


def test_the_runner_up_is_that_of_the_unperturbed_sample(planes):
    seen = []
    original = complete.runner_up

    def watched(sample):
        seen.append(original(sample))
        return seen[-1]

    complete.runner_up = watched
    try:
        asked(planes, PROPERTY.format(0.01), "milp(targets=runner_up)", x=((0.0, 0.0), (-1.0, 0.4)))
    finally:
        complete.runner_up = original
    assert {one.label for one in seen} == {1, 2}
