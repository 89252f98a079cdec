"""Questions about several points and networks, from text to verdict: no stage contradicts what brute force finds."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pytest
from sweeps import sweep_but

from tfcert.driver.verify import verify
from tfcert.verdict import Outcome

pytestmark = pytest.mark.usefixtures("eager")

STAGES = ("pgd", "ibp", "crown", "alpha_crown(iterations=5)", "lp", "crown -> split", "milp")
COMPLETE = ("crown -> split", "milp")


def network(inputs: int, outputs: int, seed: int, head: str | None = None, gain: float = 1.5) -> keras.Model:
    keras.utils.set_random_seed(seed)
    layers = [keras.Input((inputs,)), keras.layers.Dense(4, "relu"), keras.layers.Dense(outputs, head)]
    model = keras.Sequential(layers)
    model.set_weights([gain * w for w in model.get_weights()])
    return model


F, G = network(2, 2, 3), network(2, 2, 5)
SOFT = network(2, 3, 7, "softmax", 3.0)
ENCODE, DECODE = network(2, 1, 11), network(1, 2, 12)
SAMPLES = np.random.default_rng(0).random((1, 2)).astype(np.float32)
HEAD = """prop 1
model f = keras("f.keras") { inputs: [age, pay] }
model g = keras("g.keras") { inputs: [age, pay] }
model soft = keras("s.keras")
model encode = keras("e.keras") { inputs: [age, pay] }
model decode = keras("d.keras")
dataset d = npz("d.npz")
"""
BINDINGS = {"f": F, "g": G, "soft": SOFT, "encode": ENCODE, "decode": DECODE, "d": (SAMPLES, np.zeros(1, int))}


def square(low: float, high: float, steps: int = 25) -> np.ndarray:
    """Points of a square ``[n, 2]``, its border included."""
    ends = np.linspace(low, high, steps)
    return np.stack(np.meshgrid(ends, ends), -1).reshape(-1, 2).astype(np.float32)


def pairs(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every point of one list with every point of another."""
    return np.repeat(a, len(b), axis=0), np.tile(b, (len(a), 1))


def out(model: keras.Model, x: np.ndarray) -> np.ndarray:
    return np.asarray(model(x)).astype(np.float64)


@dataclass(frozen=True)
class Case:
    """A question with a threshold ``{t}`` that its formula keeps the less room to, the larger it is.

    ``room`` is the least value over the region that must be above the threshold, by brute force, for each sample.
    """

    text: str
    room: Callable[[np.ndarray | None], float]
    sampled: bool = False


def monotone(_: Any) -> float:
    a, b = pairs(square(0, 1), np.linspace(0, 1, 25, dtype=np.float32)[:, None])
    b = np.concatenate([a[:, :1], b], axis=1)
    kept = b[:, 1] >= a[:, 1]
    return float((out(F, b) - out(F, a))[kept, 0].min())


def fair(_: Any) -> float:
    a, b = pairs(square(0, 1), np.linspace(0, 1, 25, dtype=np.float32)[:, None])
    b = np.concatenate([b, a[:, 1:]], axis=1)
    return float(-np.abs(out(F, a) - out(F, b))[:, 0].max())


def lipschitz(x: np.ndarray | None) -> float:
    assert x is not None
    z = x + 0.2 * square(-1, 1, 81)
    z = z[np.linalg.norm(z.astype(np.float64) - x, axis=1) <= 0.2]
    return float(-np.abs(out(F, z) - out(F, x[None]))[:, 0].max())


def alike(x: np.ndarray | None) -> float:
    assert x is not None
    z = x + 0.2 * square(-1, 1, 81)
    return float(-np.abs(out(F, z) - out(G, z)).max())


def chained(_: Any) -> float:
    s = square(-1, 1, 81)
    return float(-np.abs(out(DECODE, np.asarray(ENCODE(s)))[:, 0] - s[:, 1]).max())


def rows(_: Any) -> float:
    z = square(0, 1, 81)
    kept = z[:, 1] >= 0.5 * z[:, 0].astype(np.float64)
    return float((out(F, z)[:, 1] + 0.5 * z[:, 0])[kept].min())


def two_balls(x: np.ndarray | None) -> float:
    assert x is not None
    near = x + 0.2 * square(-1, 1, 41)
    one = near[np.linalg.norm(near.astype(np.float64) - x, axis=1) <= 0.2]
    return float(out(F, one)[:, 0].min() - out(F, near)[:, 0].max())


def probabilities(x: np.ndarray | None) -> float:
    assert x is not None
    z = x + 0.2 * square(-1, 1, 41)
    return float(-np.abs(out(SOFT, z) - out(SOFT, x[None]))[:, 1].max())


BOX = "box(age in [0, 1], pay in [0, 1])"
NEAR = "forall z in ball(x, linf, 0.2)"
CASES = {
    "monotone": Case(
        f"forall a, b in {BOX} where b[pay] >= a[pay] and agree(a, b, except=[pay]): f(b)[0] - f(a)[0] >= {{t}}",
        monotone,
    ),
    "fair": Case(f"forall a, b in {BOX} where agree(a, b, except=[age]): abs(f(a)[0] - f(b)[0]) <= -({{t}})", fair),
    "lipschitz": Case("forall z in ball(x, l2, 0.2): abs(f(z)[0] - f(x)[0]) <= -({t})", lipschitz, True),
    "alike": Case(f"{NEAR}: abs(f(z)[0] - g(z)[0]) <= -({{t}}) and abs(f(z)[1] - g(z)[1]) <= -({{t}})", alike, True),
    "chained": Case("forall s in box([-1, 1]): abs(decode(encode(s))[0] - s[pay]) <= -({t})", chained),
    "rows": Case(f"forall z in {BOX} where z[pay] >= 0.5*z[age]: f(z)[1] + 0.5*z[age] >= {{t}}", rows),
    "two balls": Case(
        "forall a in ball(x, l2, 0.2), b in ball(x, linf, 0.2): f(a)[0] - f(b)[0] >= {t}", two_balls, True
    ),
    "probabilities": Case(f"{NEAR}: abs(soft(z)[1] - soft(x)[1]) <= -({{t}})", probabilities, True),
}


def decided(case: Case, stage: str, thresholds: list[float], tmp_path: Any) -> Any:
    asked = "(x, y in d)" if case.sampled else ""
    body = "\n".join(
        f"property p{i}{asked} using s {{ {case.text.format(t=f'{t:.6f}')} }}" for i, t in enumerate(thresholds)
    )
    text = f"{HEAD}strategy s = {stage} {{ budget: 200s per sample }}\n{body}\n"
    return verify(text, bindings=BINDINGS, verbose=0, out=tmp_path / "out")


ALL = list(itertools.product(CASES, STAGES))
SPLIT = "crown -> split"
USUAL = [("monotone", "milp"), ("lipschitz", SPLIT), ("chained", "milp"), ("rows", "lp"), ("two balls", "milp")]
USUAL += [("alike", "crown"), ("fair", "alpha_crown(iterations=5)"), ("probabilities", "pgd"), ("two balls", "ibp")]


@pytest.mark.parametrize(("name", "stage"), sweep_but(USUAL, ALL))
def test_no_stage_contradicts_brute_force(name, stage, tmp_path):
    """Thresholds a little within and beyond what a grid finds: complete stages decide both, none says the opposite."""
    case = CASES[name]
    room = case.room(SAMPLES[0] if case.sampled else None)
    report = decided(case, stage, [room - 0.05, room + 0.05], tmp_path)
    outcomes = {record.property: str(record.outcome) for record in report.records}
    assert outcomes["p0"] != "falsified" and outcomes["p1"] != "verified", (room, outcomes)
    if stage in COMPLETE:
        assert outcomes == {"p0": "verified", "p1": "falsified"}, (room, outcomes)


@pytest.mark.parametrize("stage", sweep_but(["milp"], COMPLETE))
def test_a_radius_of_two_points_is_closed_in_on_by_decisions(stage, tmp_path):
    """No solver looks for the nearest witness of two sets: it decides at radii, until both ends are near each other."""
    text = f"""{HEAD}strategy s = {stage}
measure m(x in d) = largest r in [0, 0.5] tol 10% such that
  forall a in ball(x, linf, r), b in ball(x, linf, r): f(a)[0] - f(b)[0] >= -0.3 using s
"""
    (record,) = verify(text, bindings=BINDINGS, verbose=0, out=tmp_path / "out").records
    lower, upper = record.measured.lower, record.measured.upper
    assert record.outcome is Outcome.VERIFIED and lower < upper <= lower * 1.11 and not record.verdict.reason

    def room(r: float) -> float:
        values = out(F, SAMPLES[0] + r * square(-1, 1, 81))[:, 0]
        return float(values.min() - values.max() + 0.3)

    assert room(lower) >= -1e-6 and room(upper * 1.001) < 0
