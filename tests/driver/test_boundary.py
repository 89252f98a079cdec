"""A condition that a point attains exactly is decided by that point, strict or not, in every stage that holds one."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from sweeps import sweep_but

from tfcert.driver.verify import verify
from tfcert.verdict import Guarantee, Outcome

SPEC = """\
prop 1
model clf = keras("clf.keras") {{ outputs: logits }}
property reached using s {{ exists z in box([-1, 1]): clf(z)[0] >= 2 }}
property exceeded using s {{ exists z in box([-1, 1]): clf(z)[0] > 2 }}
property below using s {{ forall z in box([-1, 1]): clf(z)[0] < 2 }}
property most using s {{ forall z in box([-1, 1]): clf(z)[0] <= 2 }}
property both using s {{ exists z in box([-1, 1]): clf(z)[0] >= 2 and clf(z)[1] <= -2 }}
strategy s = {stage}
"""


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """``y = relu(x_0 + 2) + relu(x_1 + 2) - 4`` and ``-y``: 2 at one corner alone, without rounding."""
    layers = keras.layers
    found = keras.Sequential([keras.Input((2,)), layers.Dense(2, activation="relu"), layers.Dense(2)])
    found.set_weights([np.eye(2), np.full(2, 2.0), np.array([[1.0, -1.0], [1.0, -1.0]]), np.array([-4.0, 4.0])])
    return found


STAGES = ["split", "pgd", "milp { rounding: ignore }", "crown -> split -> milp"]


@pytest.mark.parametrize("stage", sweep_but(STAGES[1:], STAGES))
def test_a_boundary_that_is_attained_exactly_is_decided_as_it_is_written(model, stage, tmp_path):
    # Of a charged program the corner lies within what rounding may take, where the solver need not stop.
    report = verify(SPEC.format(stage=stage), bindings={"clf": model}, out=tmp_path, verbose=0)
    found = {r.property: r.verdict for r in report.records}
    for name, outcome in (("reached", "verified"), ("both", "verified"), ("below", "falsified")):
        assert found[name].outcome is Outcome(outcome) and found[name].guarantee is Guarantee.REPLAYED
        assert found[name].margin == 0
    # A tie with the threshold breaks nothing here, and is no proof either.
    assert found["exceeded"].outcome is found["most"].outcome is Outcome.UNKNOWN
