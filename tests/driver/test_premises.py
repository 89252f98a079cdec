"""Conditions on what networks answer to quantified inputs: an implication that must be about some input."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import pytest

from tfcert.driver.explain import explain
from tfcert.driver.verify import verify
from tfcert.language import load
from tfcert.verdict import Outcome, Reason, reason_of

pytestmark = pytest.mark.usefixtures("eager")

STAGES = ("pgd", "ibp", "crown", "alpha_crown(iterations=5)", "lp", "crown -> split", "milp")
COMPLETE = ("crown -> split", "milp")
HEAD = """prop 1
model f = keras("f.keras") { inputs: [age, pay] }
model g = keras("g.keras") { inputs: [age, pay] }
dataset d = npz("d.npz")
strategy s = STAGE
"""


def network(seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(4, "relu"), keras.layers.Dense(2)])
    model.set_weights([1.3 * w for w in model.get_weights()])
    return model


F, G = network(3), network(8)
SAMPLE = np.array([[0.4, 0.5]], np.float32)
GRID = (SAMPLE + np.stack(np.meshgrid(*[np.linspace(-1, 1, 161)] * 2), -1).reshape(-1, 2)).astype(np.float32)
OF_F, OF_G = (np.asarray(model(GRID)).astype(np.float64) for model in (F, G))
FIRST = OF_F[:, 0] > OF_F[:, 1]
NEAR = "forall z in ball(x, linf, 1) in raw"
ROOMS = {
    # What is asked where `f` answers the first class; beside a condition on inputs; of one of two networks' answers.
    f"{NEAR} where argmax(f(z)) == 0: g(z)[0] >= {{t}}": OF_G[FIRST, 0].min(),
    f"{NEAR} where argmax(f(z)) == 0 and (z[age] >= 0.6 or z[pay] <= 0.2): f(z)[0] - g(z)[1] >= {{t}}": (
        (OF_F[:, 0] - OF_G[:, 1])[FIRST & ((GRID[:, 0] >= 0.6) | (GRID[:, 1] <= 0.2))].min()
    ),
    f"{NEAR} where f(z)[1] >= 0.1 or z[age] < 0: z[pay] - g(z)[0] >= {{t}}": (
        (GRID[:, 1] - OF_G[:, 0])[(OF_F[:, 1] >= 0.1) | (GRID[:, 0] < 0)].min()
    ),
    "exists z in ball(x, linf, 1) in raw where argmax(f(z)) == 0: g(z)[0] >= {t}": OF_G[FIRST, 0].max(),
}


def run(stage: str, body: str, **options: Any) -> Any:
    text = HEAD.replace("STAGE", stage) + body
    return verify(text, bindings={"f": F, "g": G, "d": (SAMPLE, None)} | options, verbose=0).records


@pytest.mark.sweep
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("number", range(len(ROOMS)))
def test_no_stage_contradicts_brute_force(stage, number):
    """Thresholds beside what a grid finds where the condition is met: complete stages decide both, none is wrong."""
    text, room = list(ROOMS.items())[number]
    body = "\n".join(
        f"property p{k}(x in d) using s {{ {text.format(t=f'{room + shift:.6f}')} }}"
        for k, shift in enumerate((-0.05, 0.05))
    )
    low, high = (r.outcome.value for r in run(stage, body))
    assert low != "falsified" and high != "verified"
    if stage in COMPLETE:
        assert (low, high) == ("verified", "falsified")


def unmet(record: Any, said: str) -> bool:
    """Tells whether a record is open since its condition was met by no input."""
    verdict = record.verdict
    named = reason_of(verdict.reason) is Reason.NOT_MET and verdict.reason.startswith(said)
    return record.outcome is Outcome.UNKNOWN and named and math.isnan(verdict.margin)


def test_a_proof_about_no_input_is_none():
    """What is said of inputs that a network never answers so is true and says nothing, whatever proves it."""
    never, met = run(
        "ibp",
        f"""property never(x in d) using s {{ {NEAR} where f(z)[0] >= 1000: f(z)[1] >= 1000 }}
property met(x in d) using s {{ {NEAR} where f(z)[0] >= -1000: f(z)[1] >= -1000 }}""",
    )
    assert met.outcome is Outcome.VERIFIED and not met.verdict.reason and unmet(never, "no input of the region meets")


@pytest.mark.sweep
def test_an_input_that_meets_the_condition_is_looked_for_in_all_stages():
    """Bounds alone find none that the sample is not; an attack does. Of alternatives one input is enough."""
    most = f"f(z)[0] >= {OF_F[:, 0].max() - 1e-3}"
    unseen, seldom, either, one = run(
        "ibp",
        f"""property unseen(x in d) using s {{ {NEAR} where {most}: f(z)[1] >= -1000 }}
property seldom(x in d) using far {{ {NEAR} where {most}: f(z)[1] >= -1000 }}
property either(x in d) using s {{ {NEAR} where f(z)[0] >= 1000 and (z[age] < 0 or z[pay] > 1): f(z)[1] >= 1000 }}
property one(x in d) using s {{ {NEAR} where f(z)[0] >= -1000 and (z[age] < 0 or z[pay] > 0): f(z)[1] >= -1000 }}
strategy far = pgd -> crown""",
    )
    assert unmet(unseen, "nothing shows") and unmet(either, "no input of the region meets")
    assert [seldom.outcome, one.outcome] == [Outcome.VERIFIED] * 2


@pytest.mark.parametrize("kind", [pytest.param("radius"), pytest.param("value", marks=pytest.mark.sweep)])
def test_a_measure_of_no_input_has_no_value(kind):
    """Its search ends at the interval's end, or nowhere, with a proof that is about nothing."""
    text = "measure {}(x in d) = largest {} such that forall z in ball(x, linf, {}) in raw where {}: {} using s\n"
    questions = {
        "radius": [("r in [0, 1]", "r", "f(z)[0] >= 1000", "f(z)[1] >= 1000")],
        "value": [
            ("v in [-5, 5]", "1", "f(z)[0] >= 1000", "g(z)[0] >= v"),
            ("r in [0, 1]", "r", "f(z)[0] >= -1000", "f(z)[1] >= -1000"),
            ("v in [-50, 50] tol 0.01 absolute", "1", "argmax(f(z)) == 0", "g(z)[0] >= v"),
        ],
    }[kind]
    body = "".join(text.format(f"m{i}", *parts) for i, parts in enumerate(questions))
    never, *others = run("ibp" if kind == "radius" else "pgd -> crown -> split", body)
    assert unmet(never, "no input of the region meets") and math.isnan(never.measured.lower)
    for met in others:
        assert met.outcome is Outcome.VERIFIED
    if others:
        assert others[0].measured.lower == 1
        assert others[1].measured.lower - 1e-4 <= OF_G[FIRST, 0].min() <= others[1].measured.upper + 0.02


def test_explain_says_that_a_proof_waits_for_an_input():
    head = HEAD.replace("STAGE", "pgd -> crown")
    text = f"{head}property p(x in d) using s {{ {NEAR} where f(z)[0] >= 1: f(z)[1] >= 1 }}"
    assert "a premise about what networks answer; a proof counts once" in explain(load(text, bound=["f", "g", "d"]))
