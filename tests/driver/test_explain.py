"""What a specification will cost, said before anything is loaded."""

from __future__ import annotations

import pytest

from tfcert.explain import explain
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
    ],
)
def test_every_stage_says_what_it_costs(stages, cost):
    shown = explain(load(TEXT.format(stages)))
    assert cost in shown
    assert "queries: at most 7, one for each sample of test" in shown
