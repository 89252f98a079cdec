"""A set of classes is decided where two of its members tie inside the region."""

from __future__ import annotations

import numpy as np
import pytest

from tfcert.errors import UsageError
from tfcert.verdict import Outcome

TEXT = """\
prop 1
model clf = keras("three.keras")
dataset test = npz("one.npz", x="x", y="y")
strategy plan = {stage}
property square using plan {{ forall z in box([-1, 1]): argmax(clf(z)) in {{0, 1}} }}
property words(x, y in test) using plan {{ forall z in ball(x, linf, 1): argmax(clf(z)) == y or argmax(clf(z)) == 1 }}
property never(x, y in test) using plan {{ exists z in ball(x, linf, 1): argmax(clf(z)) not in {{y, 1}} }}
property third using plan {{ forall z in box([-1, 1]): argmax(clf(z)) in {{1, 2}} }}
"""
RADIUS = """\
measure radius(x, y in test) = largest r in [0, 2] such that
  forall z in ball(x, linf, r): argmax(clf(z)) in {0, 1} using plan
"""


@pytest.fixture
def tied(folder):
    """Outputs relu(x), relu(-x), |x| / 2 - 0.1: at 0 the first two tie above the third, else one of them wins."""
    import keras

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2, activation="relu"), keras.layers.Dense(3)])
    model.layers[0].set_weights([np.array([[1.0, -1.0]]), np.zeros(2)])
    model.layers[1].set_weights([np.array([[1, 0, 0.5], [0, 1, 0.5]]), np.array([0, 0, -0.1])])
    model.save(folder / "three.keras")
    np.savez(folder / "one.npz", x=np.array([[0.25]], np.float32), y=np.array([0]))


@pytest.mark.parametrize(("stage", "more"), [("crown -> split", ""), ("milp", RADIUS)])
@pytest.mark.usefixtures("tied")
def test_a_tie_between_members_is_no_obstacle_to_any_stage(run, stage, more):
    report = run(text=TEXT.format(stage=stage) + more)
    outcomes = {r.property: r.outcome.value for r in report.records if r.property != "radius"}
    assert outcomes == {"square": "verified", "words": "verified", "never": "falsified", "third": "falsified"}
    for radius in (r for r in report.records if r.property == "radius"):
        assert radius.outcome is Outcome.VERIFIED and radius.measured.lower == pytest.approx(2)


SETTLED = "property p(x, y in test) using plan {{ {quantifier} z in ball(x, linf, eps) in net: {formula} }}"


@pytest.mark.parametrize(
    ("quantifier", "formula"),
    [
        ("forall", "argmax(clf(z)) in {0, 1, 2}"),
        ("forall", "argmin(clf(z)) == 0 or argmin(clf(z)) == 1 or argmin(clf(z)) == 2 or clf(z)[0] > 1e9"),
        ("forall", "max(clf(z)) >= clf(z)[y]"),
        ("exists", "argmax(clf(z)) not in {0, 1, 2}"),
        ("exists", "y in {0, 1, 2} or argmax(clf(z)) != y"),
    ],
)
def test_a_formula_that_the_network_does_not_matter_to_is_refused(run, quantifier, formula):
    with pytest.raises(UsageError, match="p: of 3 outputs the formula is true or false whatever clf computes"):
        run("ibp", SETTLED.format(quantifier=quantifier, formula=formula))


def test_samples_whose_labels_settle_a_formula_are_counted_in_a_note(run, samples):
    report = run("ibp", SETTLED.format(quantifier="forall", formula="y == 1 => argmax(clf(z)) == y"))
    count = int((samples[1] != 1).sum())
    assert any(f"p: for {count} of 8 samples the formula is true or false" in note for note in report.notes)
