"""Labels that are real numbers: compared as they are stored, and refused where a class is meant."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from tfcert.driver.verify import verify
from tfcert.errors import UsageError

HEAD = 'prop 1\nmodel f = keras("f.keras")\ndataset d = npz("d.npz")\nstrategy s = {}\n'


def built(outputs: int = 1) -> keras.Model:
    """The sum of two numbers, above zero."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, "relu"), keras.layers.Dense(outputs)])
    model.layers[0].set_weights([np.ones((2, 1)), np.zeros(1)])
    model.layers[1].set_weights([np.ones((1, outputs)), np.zeros(outputs)])
    return model


def run(text: str, samples, stages: str = "pgd -> crown -> milp", outputs: int = 1):
    return verify(HEAD.format(stages) + text, bindings={"f": built(outputs), "d": samples}, verbose=0)


X = np.array([[0.25, 0.5], [0.5, 0.5], [1.0, 1.0]], np.float32)


@pytest.mark.parametrize("stages", ["pgd -> ibp", "pgd -> crown -> milp"])
@pytest.mark.usefixtures("eager")
def test_each_output_is_held_against_its_own_label(stages):
    y = np.array([0.75, 1.5, 2.0 + 2**-20])
    text = (
        "property near(x, y in d) using s { forall z in ball(x, linf, 1/16): abs(f(z)[0] - y) <= 0.126 }\n"
        "property chosen(x, y in d where y < 1.9) using s { forall z in ball(x, linf, 1/16): f(z)[0] >= 3/4*y }\n"
    )
    report = run(text, (X, y), stages)
    found = [(r.property, r.sample, str(r.outcome), r.label) for r in report.records]
    assert sorted(found) == sorted([
        ("near", 0, "verified", 0.75), ("near", 1, "falsified", 1.5), ("near", 2, "verified", y[2]),
        ("chosen", 0, "verified", 0.75), ("chosen", 1, "falsified", 1.5),
    ])  # fmt: skip


@pytest.mark.usefixtures("eager")
def test_a_label_is_exact():
    """0.75 + 2^-22 is missed by 2^-22 exactly, which breaks `<` alone."""
    y = np.array([0.75 + 2**-22])
    text = "property p(x, y in d) using s {{ forall z in ball(x, linf, 0): abs(f(z)[0] - y) {} 1/4194304 }}"
    outcomes = [str(run(text.format(operator), (X[:1], y)).records[0].outcome) for operator in ("<", "<=")]
    assert outcomes == ["falsified", "unknown"]


def test_where_a_class_is_meant_a_real_label_is_refused():
    samples = X, np.array([0.0, 0.5, 1.0])
    ball = "forall z in ball(x, linf, 0.1)"
    for formula in ("argmax(f(z)) == y", "argmax(f(z)) in {y, 1}"):
        with pytest.raises(UsageError, match=r"p: sample 1 of d has label 0.5, but f has 2 outputs"):
            run(f"property p(x, y in d) using s {{ {ball}: {formula} }}", samples, outputs=2)
    with pytest.raises(UsageError, match="the label 1/2 is no class"):
        run(f"property p(x, y in d) using s {{ {ball}: f(z)[y] >= 0 }}", samples, outputs=2)
    with pytest.raises(UsageError, match=r"accuracy\(f, d\): sample 1 has label 0.5"):
        run(f"property p(x in d) using s {{ {ball}: f(z)[0] >= 0 }}\nreport accuracy(f, d)", samples, outputs=2)
    split = 'dataset e = npz("e.npz") take 1 per class\n'
    with pytest.raises(UsageError, match=r"cannot be taken per class: the label 0\.5 is none"):
        text = HEAD.format("pgd") + split + f"property p(x in e) using s {{ {ball}: f(z)[0] >= 0 }}"
        verify(text, bindings={"f": built(), "d": samples, "e": samples}, verbose=0)
    with pytest.raises(UsageError, match=r"m: sample 1 of d has label 0.5"):
        run("measure m(x, y in d) = clever(f, l2)", samples, outputs=2)
