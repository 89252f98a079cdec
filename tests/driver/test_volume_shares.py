"""Shares of volume: against exact volumes of networks of one input and dense sampling, piece by piece."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from six_neurons import network

from tfcert.driver.explain import explain
from tfcert.driver.verify import verify
from tfcert.language import load
from tfcert.verdict import Guarantee, Outcome, Reason, reason_of

pytestmark = pytest.mark.usefixtures("eager")

HEAD = """\
prop 1
model f = keras("f.keras") { outputs: [power, heat] inputs: [a, b] }
dataset d = npz("d.npz", x="x", y="y") { range: [0, 1] }
domain all = box([0, 1])
strategy bounds = pgd -> ibp -> crown
"""
SAMPLES = np.array([[0.25, 0.5], [0.875, 0.125]], np.float32)


@pytest.fixture(scope="module")
def plane() -> keras.Model:
    return network(2)


@pytest.fixture
def ask(tmp_path):
    def asked(model: keras.Model, text: str, **options):
        bindings = {"f": model, "d": (SAMPLES, np.zeros(2, int))}
        head = HEAD if model.input_shape[1] == 2 else HEAD.replace(" inputs: [a, b]", "")
        return verify(head + text, bindings=bindings, out=tmp_path / "out", verbose=0, **options)

    return asked


def outputs(model: keras.Model, z: np.ndarray) -> np.ndarray:
    return np.asarray(model(z.astype(np.float32)), np.float64)


def test_the_share_of_a_line_is_exact_between_its_ends(ask):
    line = network(1)
    at = np.linspace(0, 1, 200_001)
    threshold = float(np.quantile(outputs(line, at[:, None])[:, 0], 0.3))
    true = float((outputs(line, at[:, None])[:, 0] >= threshold).mean())
    share = f"measure safe = share of all tol 1e-4 such that f(z)[power] >= {threshold:.6f} using fast"
    report = ask(line, f"strategy fast = pgd -> ibp -> crown {{ rounding: ignore }}\n{share}")
    (record,) = report.records
    assert record.measured.lower - 2e-5 <= true <= record.measured.upper + 2e-5
    assert record.measured.upper - record.measured.lower <= 1.1e-4
    assert record.outcome is Outcome.VERIFIED and record.verdict.guarantee is Guarantee.NUMERIC
    assert not record.verdict.reason, "as little is open as was asked for"


@pytest.mark.parametrize("head", [None, "softmax"])
def test_pieces_tile_the_region_and_say_what_sampling_says(ask, tmp_path, head):
    tf.config.run_functions_eagerly(False)  # hundreds of passes
    model = network(2, 1, head)
    r = np.random.default_rng(0)
    z = r.random((40_000, 2))
    middle = np.median(outputs(model, z), axis=0).round(3)
    formula = f"f(z)[power] >= {middle[0]:.3f} and (f(z)[heat] <= {middle[1] + 0.05:.3f} or f(z)[power] >= f(z)[heat])"
    report = ask(model, f"measure safe = share of z in all tol 4% such that {formula} using bounds\nassert safe >= 1%")
    (record,) = report.records
    o = outputs(model, z)
    holds = (o[:, 0] >= middle[0]) & ((o[:, 1] <= middle[1] + 0.05) | (o[:, 0] >= o[:, 1]))
    assert record.measured.lower - 0.01 <= holds.mean() <= record.measured.upper + 0.01
    assert record.measured.upper - record.measured.lower <= 0.041
    cells = np.load(tmp_path / "out" / "cells" / "safe-0.npz")
    volumes = np.prod(cells["high"].astype(np.float64) - cells["low"], axis=1)
    assert volumes.sum() == pytest.approx(1.0, abs=1e-9), "no piece is lost, and none counted twice"
    assert volumes[cells["known"] == 1].sum() == pytest.approx(record.measured.lower, abs=1e-5)
    for low, high, known in zip(cells["low"], cells["high"], cells["known"], strict=True):
        inside = ((z >= low) & (z <= high)).all(axis=1)
        assert known == 0 or (holds[inside] == (known == 1)).all()
    assert (tmp_path / "out" / "figures" / "safe-0-cells.png").stat().st_size > 1000
    assert any("uniformly distributed" in note for note in report.notes)


def test_shares_of_balls_are_those_of_each_sample(ask, plane):
    region = "share of z in ball(x, linf, 0.25) tol 2%"
    text = f"measure safe(x in d) = {region} such that f(z)[power] >= f(z)[heat] using bounds"
    report = ask(plane, text + "\nreport mean(safe), table(safe)\nassert share(safe >= 0%) >= 1")
    steps = np.random.default_rng(0).random((20_000, 2))
    for record in report.records:
        x = SAMPLES[record.sample]
        low, high = np.maximum(x - 0.25, 0), np.minimum(x + 0.25, 1)
        o = outputs(plane, low + (high - low) * steps)
        true = (o[:, 0] >= o[:, 1]).mean()
        assert record.measured.lower - 0.01 <= true <= record.measured.upper + 0.01


@pytest.mark.parametrize(
    ("left", "right"), [("f(z)[power]", "g(z)[power] + z[a]"), ("g(z)[heat]", "f(x)[power]"), ("f(z)[heat]", "z[a]")]
)
def test_shares_are_of_several_networks_and_of_inputs_too(left, right, plane, tmp_path):
    """The negation of a formula has the columns of the formula: those of two networks, and of inputs behind them."""
    other, r = network(2, 5), np.random.default_rng(0)
    z = SAMPLES[0] + 0.25 * (2 * r.random((40_000, 2)) - 1)
    f, g, x = outputs(plane, z), outputs(other, z), outputs(plane, SAMPLES[:1])
    terms = {"f(z)[power]": f[:, 0], "f(z)[heat]": f[:, 1], "g(z)[heat]": g[:, 1], "z[a]": z[:, 0]}
    terms |= {"g(z)[power] + z[a]": g[:, 0] + z[:, 0], "f(x)[power]": x[:, 0]}
    gap = terms[left] - terms[right]
    formula = f"{left} - {np.quantile(gap, 0.4):.5f} >= {right}"
    head = HEAD.replace("dataset", 'model g = keras("g.keras") { outputs: [power, heat] inputs: [a, b] }\ndataset')
    text = f"measure safe(x in d take 1) = share of z in ball(x, linf, 0.25) tol 4% such that {formula} using bounds"
    names = {"f": plane, "g": other, "d": (SAMPLES, np.zeros(2, int))}
    (record,) = verify(head + text, bindings=names, out=tmp_path / "out", verbose=0).records
    assert record.measured.lower - 0.01 <= 0.6 <= record.measured.upper + 0.01
    assert record.measured.upper - record.measured.lower <= 0.041


def test_a_side_without_width_does_not_count(ask, plane):
    report = ask(plane, "measure safe = share of box(a in [0, 1], b in [0.3, 0.3]) tol 1% such that f(z)[power] >= 0")
    z = np.column_stack([np.linspace(0, 1, 10_001), np.full(10_001, 0.3)])
    true = (outputs(plane, z)[:, 0] >= 0).mean()
    (record,) = report.records
    assert record.measured.lower - 1e-3 <= true <= record.measured.upper + 1e-3
    assert record.measured.upper - record.measured.lower <= 0.011


def test_what_is_open_is_never_counted(ask, plane, monkeypatch):
    """Bounds that prove nothing leave all of it open, however many pieces there are."""
    monkeypatch.setattr("tfcert.driver.share.MOST", 40)
    monkeypatch.setattr(
        "tfcert.driver.stages.bound.margins_of", lambda n, p, c, how: (np.full(len(c), -1.0), np.zeros(len(c)))
    )
    report = ask(plane, "measure safe = share of all such that f(z)[power] >= 0 using bounds\nassert safe >= 0.5")
    (record,) = report.records
    assert (record.measured.lower, record.measured.upper) == (0.0, 1.0) and record.outcome is Outcome.UNKNOWN
    assert (
        reason_of(record.verdict.reason) is Reason.OPEN_VOLUME and "100% of the volume is open" in record.verdict.reason
    )
    assert report.judged[0].judgement == "inconclusive"


def test_a_resumed_share_is_the_same_and_explain_says_what_is_used(ask, plane, tmp_path):
    text = "measure safe = share of all tol 20% such that f(z)[power] >= 0.1 using bounds"
    first = ask(plane, text)
    again = verify(HEAD + text, bindings={"f": plane, "d": (SAMPLES, [0, 0])}, resume=tmp_path / "out", verbose=0)
    assert [r.measured for r in again.records] == [r.measured for r in first.records]
    saved = json.loads((tmp_path / "out" / "result.json").read_text())["records"][0]
    assert saved["measures"] == "share" and "cells" not in saved
    told = explain(load(HEAD + text))
    assert "uniformly distributed" in told and "pgd: not used, pieces are decided by bounds" in told
    assert "at most 1/5 of the volume is open" in told


@pytest.mark.parametrize("formula", ["f(z)[power] >= z[a] + {}", "f(z)[power] >= g(z)[power] + {}"])
def test_what_is_refuted_may_speak_of_inputs_and_of_two_networks(plane, formula, tmp_path):
    """The negation is about the same joint network as the formula."""
    other = network(2, seed=3)
    points = np.random.default_rng(0).random((20_000, 2))
    gap = outputs(plane, points)[:, 0] - (points if "z[a]" in formula else outputs(other, points))[:, 0]
    asked = formula.format(round(float(np.quantile(gap, 0.4)), 6))
    text = HEAD + 'model g = keras("g.keras") { outputs: [power, heat] inputs: [a, b] }\n'
    text += f"measure safe = share of z in all tol 10% such that {asked} using bounds\n"
    (record,) = verify(text, bindings={"f": plane, "g": other}, out=tmp_path, verbose=0).records
    assert record.measured.lower - 0.01 <= 0.6 <= record.measured.upper + 0.01
    assert record.outcome is Outcome.VERIFIED and record.measured.upper - record.measured.lower <= 0.11
