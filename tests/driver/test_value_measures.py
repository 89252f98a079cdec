"""Measures of values of formulas: against exact extremes of tiny networks and dense sampling, by each kind of stage."""

from __future__ import annotations

import json
import math
from fractions import Fraction

import keras
import numpy as np
import pytest
from six_neurons import network
from sweeps import sweep_but

from tfcert.driver.explain import explain
from tfcert.driver.verify import verify
from tfcert.language import load
from tfcert.verdict import Guarantee, Outcome

HEAD = """\
prop 1
model f = keras("f.keras") { outputs: [power, heat] }
dataset d = npz("d.npz", x="x", y="y") { range: [0, 1] }
domain all = box([0, 1])
strategy bounds = crown
strategy attacked = pgd(steps=10, restarts=1) -> crown
strategy exact = crown -> split
strategy program = crown -> milp
"""


@pytest.fixture(scope="module")
def line() -> keras.Model:
    return network(1)


@pytest.fixture(scope="module")
def plane() -> keras.Model:
    return network(2)


SAMPLES = np.array([[0.25, 0.5], [0.75, 0.125]], np.float32)


@pytest.fixture
def ask(tmp_path):
    """Runs measures about a model, and returns the records by measure and sample."""

    def asked(model: keras.Model, text: str, x: np.ndarray = SAMPLES, **options):
        bindings = {"f": model, "d": (x, np.zeros(len(x), int))}
        out = tmp_path / "out"
        report = verify(HEAD + text, bindings=bindings, out=out, verbose=0, **options)
        return {(r.property, r.sample): r for r in report.records}

    return asked


def kinks(model: keras.Model) -> np.ndarray:
    """Where a network of one input may bend between 0 and 1, with both ends; float64."""
    weights, biases = (np.asarray(v, np.float64) for v in model.layers[0].weights)
    with np.errstate(divide="ignore"):
        found = -biases / weights[0]
    return np.sort(np.concatenate([[0.0, 1.0], found[(found > 0) & (found < 1)]]))


def outputs(model: keras.Model, z: np.ndarray) -> np.ndarray:
    return np.asarray(model(z.reshape(len(z), -1).astype(np.float32)), np.float64)


@pytest.mark.parametrize("strategy", sweep_but(["bounds", "exact"], ["bounds", "exact", "program"]))
def test_the_extremes_of_a_network_of_one_input_are_its_kinks(ask, line, strategy):
    found = ask(
        line,
        f"""
measure high = largest v such that exists z in all: f(z)[power] >= v using {strategy}
measure low = smallest f(z)[power] over z in all using {strategy}
measure sure = largest v tol 1e-3 absolute such that forall z in all: f(z)[power] >= v using {strategy}
measure cap = smallest v in [-9, 9] such that forall z in all: f(z)[power] < v using bounds
measure gap = largest max(f(z)) - 2*f(z)[heat] over z in all using bounds
""",
    )
    values = outputs(line, kinks(line))
    power, gap = values[:, 0], values.max(axis=1) - 2 * values[:, 1]
    # A kink is met by float32 up to a roundoff, and max(f) bends where the two outputs meet, too.
    crossing = outputs(line, np.linspace(0, 1, 20_001))
    best = max(gap.max(), (crossing.max(axis=1) - 2 * crossing[:, 1]).max())
    wanted = {"high": power.max(), "low": power.min(), "sure": power.min(), "cap": power.max(), "gap": best}
    for name, true in wanted.items():
        record = found[name, 0]
        lower, upper = record.measured.lower, record.measured.upper
        assert lower <= true + 1e-5 and upper >= true - 1e-5, name
        if strategy != "bounds" and name not in ("cap", "gap"):
            assert upper - lower <= max(2e-3 if name == "sure" else 1e-4 * max(1, abs(true)), 1e-6) + 1e-5, name
            levels = (Guarantee.FLOAT32_ANY_ORDER, Guarantee.NUMERIC, Guarantee.SOLVER)
            assert record.outcome is Outcome.VERIFIED and record.verdict.guarantee in levels
        # The end that rests on a witness is never beyond what the network reaches.
        proof_above = name in ("high", "cap", "gap")
        assert record.asked.proof == ("upper" if proof_above else "lower")
        witnessed = lower if proof_above else upper
        assert math.isnan(witnessed) or (witnessed <= true + 1e-5 if proof_above else witnessed >= true - 1e-5)


FORMULAS = {
    # text, whether larger v makes it harder, and the value that a point reaches
    "f(z)[power] >= v and f(z)[heat] >= v/2": (True, lambda o: np.minimum(o[:, 0], 2 * o[:, 1])),
    "f(z)[power] >= v or f(z)[heat] >= 2*v - 1": (True, lambda o: np.maximum(o[:, 0], (o[:, 1] + 1) / 2)),
    "abs(f(z)[power]) <= v and not f(z)[heat] > 3 + v": (False, lambda o: np.maximum(np.abs(o[:, 0]), o[:, 1] - 3)),
}


@pytest.mark.parametrize("text", sweep_but(list(FORMULAS)[:1], FORMULAS))
def test_values_of_formulas_agree_with_dense_sampling(ask, plane, text):
    harder, value = FORMULAS[text]
    kinds = ("largest", "exists"), ("largest", "forall")
    if not harder:
        kinds = ("smallest", "exists"), ("smallest", "forall")
    asked = [
        f"measure m{i}(x in d) = {extremum} v in [-9, 9] such that {quantifier} z in ball(x, linf, 0.2): {text}\n"
        for i, (extremum, quantifier) in enumerate(kinds)
    ]
    found = ask(plane, "".join(line.replace("\n", " using exact\n") for line in asked), SAMPLES[:1])
    grid = np.stack(np.meshgrid(*[np.linspace(-0.2, 0.2, 161)] * 2), -1).reshape(-1, 2)
    for sample, x in enumerate(SAMPLES[:1]):
        o = outputs(plane, np.clip(x + grid, 0, 1))
        reached = value(o)
        for i, (extremum, quantifier) in enumerate(kinds):
            best = reached.max() if (extremum == "largest") == (quantifier == "exists") else reached.min()
            measured = found[f"m{i}", sample].measured
            # The grid misses the extreme by its step times a slope of a few.
            assert measured.lower <= best + 1e-2 and measured.upper >= best - 1e-2, (extremum, quantifier)
            assert measured.upper - measured.lower <= 1e-3 * max(1, abs(best)), (extremum, quantifier)
            beyond = (
                best - measured.upper if (extremum == "largest") == (quantifier == "exists") else measured.lower - best
            )
            assert beyond <= 1e-5, "a sampled value lies beyond what is proven"


def test_bounds_find_their_last_value_in_a_few_passes(ask, plane):
    record = ask(plane, "measure m = largest f(z)[power] - f(z)[heat] over z in all using attacked")["m", 0]
    assert record.verdict.work.evaluations <= 4
    at, end = np.linspace(0, 1, 101), record.measured.upper
    grid = outputs(plane, np.stack(np.meshgrid(at, at), -1).reshape(-1, 2))
    best = (grid[:, 0] - grid[:, 1]).max()
    assert record.measured.lower >= best - 0.02 and end >= best - 1e-6, "the attack finds what sampling does"
    # At the value that was found the margin is what rounding may take, and no more.
    assert 0 < record.verdict.margin <= 1e-4


@pytest.mark.sweep
def test_a_value_may_be_sought_with_a_radius_that_it_shrinks(ask, plane):
    asked = "forall z in ball(x, linf, r): f(z)[power] >= r - 2 using exact"
    found = ask(plane, f"measure m(x in d) = largest r in [0, 1] tol 1% such that {asked}", SAMPLES[:1])
    steps = np.stack(np.meshgrid(*[np.linspace(-1, 1, 101)] * 2), -1).reshape(-1, 2)
    for sample, x in enumerate(SAMPLES[:1]):
        least = [outputs(plane, np.clip(x + r * steps, 0, 1))[:, 0].min() for r in np.linspace(0, 1, 101)]
        holds = [value >= r - 2 for value, r in zip(least, np.linspace(0, 1, 101), strict=True)]
        true = np.linspace(0, 1, 101)[np.flatnonzero(holds)[-1]]
        measured = found["m", sample].measured
        upper = 1.0 if math.isnan(measured.upper) else measured.upper
        assert measured.lower <= true + 0.011 and upper >= true - 0.011 and upper - measured.lower <= 0.011


def test_an_interval_clips_the_answer(ask, line):
    power = outputs(line, kinks(line))[:, 0]
    top, low = float(power.max()), float(power.min())
    found = ask(
        line,
        f"""
measure below = largest v in [{low - 2:.3f}, {low - 1:.3f}] such that exists z in all: f(z)[power] >= v using bounds
measure above = largest v in [{top + 1:.3f}, {top + 2:.3f}] such that exists z in all: f(z)[power] >= v using bounds
measure never = largest v in [{top + 1:.3f}, {top + 2:.3f}] such that forall z in all: f(z)[power] >= v using bounds
""",
    )
    below, above, never = (found[name, 0] for name in ("below", "above", "never"))
    end = pytest.approx(low - 1, abs=1e-3)
    assert (below.measured.lower, below.measured.upper) == (end, end) and below.outcome is Outcome.VERIFIED
    assert below.verdict.guarantee is Guarantee.REPLAYED
    assert above.measured.upper == pytest.approx(top + 1, abs=1e-3) and math.isnan(above.measured.lower)
    assert never.outcome is Outcome.FALSIFIED and never.measured.upper == pytest.approx(top + 1, abs=1e-3)


@pytest.mark.parametrize(("head", "norm"), [("softmax", "linf"), ("sigmoid", "l2")])
def test_probabilities_and_other_norms(ask, head, norm):
    model = network(2, 3, head)
    over = f"over z in ball(x, {norm}, 0.2) using bounds\n"
    text = f"measure p(x in d) = largest f(z)[power] {over}measure q(x in d) = smallest f(z)[power] {over}"
    found = ask(model, text, SAMPLES[:1])
    r = np.random.default_rng(0)
    steps = r.uniform(-1, 1, (20_000, 2))
    if norm == "l2":
        steps /= np.maximum(1, np.linalg.norm(steps, axis=1, keepdims=True))
    reached = outputs(model, np.clip(SAMPLES[0] + 0.2 * steps, 0, 1))[:, 0]
    most, least = found["p", 0].measured, found["q", 0].measured
    assert reached.max() - 1e-6 <= most.upper and most.lower <= most.upper <= reached.max() + 0.1
    assert least.lower - 1e-6 <= reached.min() and reached.min() - 0.1 <= least.lower <= least.upper


def test_normalised_inputs_have_the_same_values(ask, plane, tmp_path):
    text = "measure m(x in d) = largest f(z)[power] over z in ball(x, linf, 0.1) within [0, 1] in raw using bounds\n"
    plain = ask(plane, text)
    shifted = network(2)
    shifted.set_weights(plane.get_weights())
    kernel, bias = (np.asarray(v) for v in plane.layers[0].weights)
    shifted.layers[0].kernel.assign(kernel * np.array([[0.5], [0.25]]))
    shifted.layers[0].bias.assign(bias + np.array([0.1, 0.2]) @ kernel)
    head = HEAD.replace("range: [0, 1] }", "range: [0, 1] normalize: { mean: [0.1, 0.2] std: [0.5, 0.25] } }")
    out = tmp_path / "shifted"
    report = verify(head + text, bindings={"f": shifted, "d": (SAMPLES, np.zeros(2, int))}, verbose=0, out=out)
    for record in report.records:
        same = plain["m", record.sample].measured
        assert (record.measured.lower, record.measured.upper) == pytest.approx((same.lower, same.upper), abs=1e-4)


def test_a_witness_against_a_proof_is_what_counts(ask, plane, monkeypatch):
    def lying(network, sets, clauses, how):
        return np.full(len(clauses), 5.0), np.zeros(len(clauses))

    monkeypatch.setattr("tfcert.driver.stages.bound.margins_of", lying)
    text = "measure m = largest v in [-9, 9] such that exists z in all: f(z)[power] >= v using loose"
    record = ask(plane, f"strategy loose = crown {{ rounding: ignore }}\n{text}")["m", 0]
    assert record.verdict.contradicted is Guarantee.NUMERIC and math.isnan(record.measured.upper)
    assert outputs(plane, np.array([[0.5, 0.5]]))[0, 0] == pytest.approx(record.measured.lower, abs=1e-4)


def test_a_run_that_is_resumed_has_the_same_answers(ask, plane, tmp_path):
    text = "measure m(x in d) = largest f(z)[power] over z in ball(x, linf, 0.1) using bounds\nassert max(m) <= 9"
    first = ask(plane, text)
    bindings = {"f": plane, "d": (SAMPLES, np.zeros(2, int))}
    again = verify(HEAD + text, bindings=bindings, resume=tmp_path / "out", verbose=0)
    assert {(r.property, r.sample): r.measured for r in again.records} == {k: r.measured for k, r in first.items()}
    saved = json.loads((tmp_path / "out" / "result.json").read_text())["records"][0]
    assert (saved["measures"], saved["extremum"], saved["proof"]) == ("value", "largest", "upper")
    assert all(r.asked == first[r.property, r.sample].asked or r.asked.measures == "value" for r in again.records)


def test_assertions_take_the_end_that_they_need(ask, line, tmp_path):
    top = float(outputs(line, kinks(line))[:, 0].max())
    text = "measure m = largest f(z)[power] over z in all using bounds\n"
    conditions = (f"m <= {top + 2:.6f}", f"m >= {top + 2:.6f}", f"m / 2 >= {top / 2 - 1:.6f}")
    text += "".join(f"assert {condition}\n" for condition in conditions)
    report = verify(HEAD + text, bindings={"f": line, "d": (SAMPLES, [0, 0])}, verbose=0, out=tmp_path / "out")
    assert [j.judgement for j in report.judged] == ["pass", "fail", "pass"]


def test_explain_says_which_end_rests_on_what():
    spec = load(HEAD + "measure m = largest f(z)[power] over z in all using exact\n"
                       "measure n = largest v in [0, 1] such that forall z in all: f(z)[power] >= v\n")  # fmt: skip
    text = explain(spec)
    assert "the largest value with the formula for some input: proofs bound it from above, witnesses from below" in text
    assert "the largest value with the formula for all inputs: proofs bound it from below, witnesses from above" in text
    assert "in [-infinity, infinity] to 1/10000 relative" in text and "in [0, 1] to" in text
    assert spec.measures["m"].lower is None and spec.measures["n"].upper == Fraction(1)


def test_no_time_is_said_so(ask, plane):
    hurried = "strategy hurried = crown { budget: 0.000001s total }\n"
    record = ask(plane, hurried + "measure m = largest f(z)[power] over z in all using hurried")["m", 0]
    assert record.outcome is Outcome.TIMEOUT and math.isnan(record.measured.upper)


def test_several_points_and_unions(ask, plane):
    found = ask(
        plane,
        """
measure apart = largest abs(f(a)[power] - f(b)[power]) over a, b in all where a[0] <= b[0] using bounds
measure either = largest f(z)[power] over z in box([0, 0.25]) or box([0.75, 1]) using bounds
measure least = smallest f(z)[power] over z in box([0, 0.25]) or box([0.75, 1]) using bounds
measure one = largest f(z)[power] over z in box([0, 0.25]) using bounds
measure other = largest f(z)[power] over z in box([0.75, 1]) using bounds
""",
    )
    r = np.random.default_rng(0)
    a, b = r.random((2, 20_000, 2))
    ordered = a[:, 0] <= b[:, 0]
    apart = np.abs(outputs(plane, a)[:, 0] - outputs(plane, b)[:, 0])[ordered].max()
    assert (
        found["apart", 0].measured.lower <= found["apart", 0].measured.upper
        and found["apart", 0].measured.upper >= apart
    )
    whole = found["either", 0].measured
    parts = [found[name, 0].measured for name in ("one", "other")]
    assert whole.upper == pytest.approx(max(p.upper for p in parts), abs=1e-4)
    assert whole.lower == pytest.approx(max(p.lower for p in parts), abs=1e-4)
    reached = np.concatenate([outputs(plane, part)[:, 0] for part in (a / 4, 0.75 + a / 4)])
    assert whole.upper >= reached.max() - 1e-6 and found["least", 0].measured.lower <= reached.min() + 1e-6
