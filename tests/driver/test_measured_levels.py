"""Shares of volume, values and radii carry the guarantee of the bounds that they rest on."""

import numpy as np
import pytest
from six_neurons import network

from tfcert.driver.verify import verify
from tfcert.verdict import Guarantee, Outcome, Reason

pytestmark = pytest.mark.usefixtures("eager")

TEXT = """\
prop 1
model f = keras("f.keras") { outputs: [power, heat] }
dataset d = npz("d.npz", x="x", y="y") { range: [0, 1] }
domain all = box([0, 1])
strategy bounds = ibp -> crown { rounding: ROUNDING }
measure part = share of all tol 20% such that f(z)[power] >= LEVEL using bounds
measure least = largest v such that forall z in all: f(z)[power] >= v using bounds
measure radius(x in d) = largest eps in [0, 1] tol 0.1 such that
  forall z in ball(x, linf, eps): f(z)[power] >= LOW using bounds
"""
LEVELS = {"deployed": Guarantee.FLOAT32_ANY_ORDER, "real": Guarantee.REAL, "ignore": Guarantee.NUMERIC}


@pytest.mark.parametrize("rounding", ["deployed", pytest.param("real", marks=pytest.mark.sweep), "ignore"])
def test_measures_have_the_level_of_what_was_proven(rounding, tmp_path):
    """Catches a level that is given away (`numeric` whatever the stage proved) and one that was not earned."""
    model = network(1)
    power = np.asarray(model(np.linspace(0, 1, 1001, dtype=np.float32)[:, None]))[:, 0]
    text = TEXT.replace("ROUNDING", rounding).replace("LEVEL", f"{np.median(power):.3f}")
    text = text.replace("LOW", f"{power.min() - 0.1:.3f}")
    bindings = {"f": model, "d": (np.array([[0.5]], np.float32), np.zeros(1, int))}
    records = {r.property: r for r in verify(text, bindings=bindings, out=tmp_path / "out", verbose=0).records}
    assert set(records) == {"part", "least", "radius"}
    for name, record in records.items():
        assert record.outcome is Outcome.VERIFIED, name
        assert record.verdict.guarantee is LEVELS[rounding], name
        assert Reason.MARKED_DOWN.value not in record.verdict.reason
    measured = {name: record.measured for name, record in records.items()}
    assert 0 < measured["part"].lower < measured["part"].upper < 1
    assert measured["least"].lower <= power.min() and measured["radius"].lower > 0
