"""Inputs in formulas, conditions and what samples give, from text to verdict, of normalised data: by brute force."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pytest
from sweeps import sweep_but

from tfcert.driver.verify import verify
from tfcert.errors import UsageError
from tfcert.verdict import Outcome

pytestmark = pytest.mark.usefixtures("eager")

STAGES = ("pgd", "ibp", "crown", "alpha_crown(iterations=5)", "lp", "crown -> split", "milp")
COMPLETE = ("crown -> split", "milp")
MEAN, STD = np.array([0.25, 0.5]), np.array([0.5, 0.25])
HEAD = """prop 1
model f = keras("f.keras") { inputs: [age, pay] }
model g = keras("g.keras") { inputs: [age, pay] }
dataset d = npz("d.npz") { scale: 1/10 normalize: { mean: [0.25, 0.5] std: [0.5, 0.25] } }
"""


def network(outputs: int, seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(4, "relu"), keras.layers.Dense(outputs)])
    model.set_weights([1.3 * w for w in model.get_weights()])
    return model


F, G = network(2, 3), network(2, 8)
SAMPLES = np.array([[4.0, 5.0], [7.0, 2.5]], np.float32)
BINDINGS = {"f": F, "g": G, "d": (SAMPLES, np.array([0, 1]))}


def out(model: keras.Model, stored: np.ndarray) -> np.ndarray:
    """Answers to stored values ``[n, 2]``."""
    return np.asarray(model(((stored / 10 - MEAN) / STD).astype(np.float32))).astype(np.float64)


def near(x: np.ndarray, eps: float = 2, steps: int = 81) -> np.ndarray:
    """Stored values within eps of a sample, its borders and itself included."""
    ends = np.linspace(-eps, eps, steps)
    return x + np.stack(np.meshgrid(ends, ends), -1).reshape(-1, 2)


def differ(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Where no class is the largest of both."""
    return one.argmax(axis=1) != other.argmax(axis=1)


def same(x: np.ndarray) -> float:
    z = near(x, 4)
    f, g = out(F, z), out(G, z)
    return float((f[:, 0] + g[:, 1])[differ(f, g)].min())


def stays(x: np.ndarray) -> float:
    z = near(x, 4)
    f = out(F, z)
    return float(f[:, 0][differ(f, out(F, x[None]))].min())


def on_a_line(x: np.ndarray) -> float:
    steps = np.linspace(-2, 2, 2001)
    z = x + np.stack([steps, np.zeros(2001)], 1)
    z[:, 1] = 0.5 * z[:, 0] + 1
    z = z[(np.abs(z - x) <= 2).all(axis=1)]
    return float((out(F, z)[:, 0] + z[:, 1] / 10).min())


def cut(x: np.ndarray) -> float:
    z = near(x)
    kept = (z[:, 0] - z[:, 1] <= x[0] - x[1]) & (z[:, 1] >= x[1] - 1)
    return float((out(F, z)[kept] @ [1, -1]).min())


def either(x: np.ndarray) -> float:
    z = near(x)
    kept = (z[:, 0] >= x[0] + 1) | ((z[:, 1] >= x[1] + 1) & (z[:, 0] <= x[0] + 0.5))
    return float(out(F, z)[kept, 0].min())


def outside(x: np.ndarray) -> float:
    """Whatever is asked of samples of class 1 is asked of all inputs, and of others far from them alone."""
    z = near(x)
    far = np.abs(z - x).max(axis=1) >= 1.5
    return float((out(F, z) @ [1, -1])[far | bool(np.argmax(out(F, x[None])))].max())


def somewhere(x: np.ndarray) -> float:
    z = near(x)
    return float(out(F, z)[z[:, 1] > x[1], 0].max())


def held(x: np.ndarray) -> float:
    z = near(x)
    z[:, 0] = x[0]
    return float((out(F, z)[:, 1] - out(G, z)[:, 1] + z[:, 0] / 10).min())


def ball(x: np.ndarray) -> float:
    z = near(x, 5, 201)
    kept = (np.abs(z - x) / 10 / STD).sum(axis=1) <= 1
    z = z[kept & (z[:, 0] + z[:, 1] >= x.sum() - 0.5)]
    return float(out(F, z)[:, 1].min())


def three(x: np.ndarray) -> float:
    """Of outputs that are linear in the points' numbers the extremes are on the grids by themselves."""
    z = near(x, 1, 21)
    return float(out(F, z)[:, 0].min() - out(F, z)[:, 0].max() + out(G, z)[:, 1].min())


@dataclass(frozen=True)
class Case:
    """A question around each sample with a threshold ``{t}``; it holds below the ``room`` that brute force finds."""

    text: str
    room: Callable[[np.ndarray], float]


NEAR = "forall z in ball(x, linf, 2) in raw"
CASES = {
    "same": Case(
        "forall z in ball(x, linf, 4) in raw: argmax(f(z)) == argmax(g(z)) or f(z)[0] + g(z)[1] >= {t}", same
    ),
    "stays": Case("forall z in ball(x, linf, 4) in raw: argmax(f(z)) != argmax(f(x)) => f(z)[0] >= {t}", stays),
    "line": Case(f"{NEAR} where z[pay] == 0.5*z[age] + 1: f(z)[0] + z[pay]/10 >= {{t}}", on_a_line),
    "cut": Case(
        f"{NEAR} where z[age] - z[pay] <= x[age] - x[1] and z[1] >= x[pay] - 1: f(z)[0] - f(z)[1] >= {{t}}", cut
    ),
    "either": Case(
        f"{NEAR} where z[age] >= x[age] + 1 or not (z[pay] < x[pay] + 1 or z[age] > x[age] + 0.5): f(z)[0] >= {{t}}",
        either,
    ),
    "outside": Case(
        "exists z in ball(x, linf, 2) in raw where max(abs(z[age] - x[age]), abs(z[pay] - x[pay])) >= 1.5 "
        "or argmax(f(x)) == 1: f(z)[0] - f(z)[1] >= {t}",
        outside,
    ),
    "exists": Case("exists z in ball(x, linf, 2) in raw where z[pay] > x[pay]: f(z)[0] >= {t}", somewhere),
    "held": Case(f"{NEAR} where agree(z, x, except=[pay]): f(z)[1] - g(z)[1] + z[age]/10 >= {{t}}", held),
    "l1": Case("forall z in ball(x, l1, 1) in net where z[age] + z[pay] >= x[0] + x[1] - 0.5: f(z)[1] >= {t}", ball),
    "three": Case(
        "forall a, b, c in ball(x, linf, 1) in raw: f(a)[0] - f(b)[0] + g(c)[1] >= {t}", three
    ),
}  # fmt: skip


ALTERNATIVES = ("either", "outside")
ALL_HOLD = tuple(name for name in CASES if name not in ALTERNATIVES)


def run(stage: str, body: str, **options: Any) -> Any:
    text = f"{HEAD}strategy s = {stage}\n{body}\n"
    return verify(text, bindings=BINDINGS | options, verbose=0, out=options.pop("out", None))


@pytest.mark.parametrize("stage", sweep_but(["crown"], STAGES))
@pytest.mark.parametrize("sample", sweep_but([0], [0, 1]))
@pytest.mark.parametrize("names", [ALL_HOLD, pytest.param(ALTERNATIVES, marks=pytest.mark.sweep)])
def test_no_stage_contradicts_brute_force(stage, sample, names):
    """Thresholds a little within and beyond what a grid finds: complete stages decide both, none says the opposite.

    An equation has points that no float is, so that beyond the threshold no witness need be found.
    """
    rooms = {name: CASES[name].room(SAMPLES[sample].astype(np.float64)) for name in names}
    body = "\n".join(
        f"property {name}{k}(x, y in d indices [{sample}]) using s {{ {CASES[name].text.format(t=f'{t:.6f}')} }}"
        for name, room in rooms.items()
        for k, t in enumerate((room - 0.05, room + 0.05))
    )
    found = {r.property: r.outcome.value for r in run(stage, body).records}
    assert [name for name in names if found[f"{name}0"] == "falsified" or found[f"{name}1"] == "verified"] == []
    if stage in COMPLETE:
        open_ = [n for n in names if (found[f"{n}0"], found[f"{n}1"]) != ("verified", "falsified")]
        assert open_ == [n for n in names if n == "line"] and found.get("line0", "verified") == "verified"


def test_samples_are_chosen_by_their_numbers_and_by_what_networks_say():
    """Of three samples the first is classified wrongly, and the last is younger than 5."""
    x = np.array([[4, 5], [7, 2.5], [3, 4], [6, 6]], np.float32)
    predicted = out(F, x).argmax(axis=1)
    y = predicted.copy()
    y[0] = 1 - y[0]
    kept = [1, 2, 3], [int(i) for i in np.flatnonzero((predicted == y) & (x[:, 0] >= 5))]
    body = """property right(x, y in d where argmax(f(x)) == y) using s {
  forall z in ball(x, linf, 0) in raw: argmax(f(z)) == y
}
property older(x, y in d where argmax(f(x)) == y and x[age] >= 5) using s {
  forall z in ball(x, linf, 0) in raw: abs(f(z)[0] - f(x)[0]) <= 0.01
}
property near(x in d where max(f(x)) > f(x)[0] and x[1] > 3) using s {
  forall z in ball(x, linf, 0) in raw: f(z)[1] > f(z)[0]
}"""
    records = run("crown", body, d=(x, y)).records
    assert [r.sample for r in records if r.property == "right"] == kept[0]
    assert [r.sample for r in records if r.property == "older"] == kept[1] != kept[0]
    near = [int(i) for i in np.flatnonzero((predicted == 1) & (x[:, 1] > 3))]
    assert [r.sample for r in records if r.property == "near"] == near
    assert {r.outcome for r in records} == {Outcome.VERIFIED}


def test_a_measure_keeps_to_its_conditions():
    """The radius with conditions is at least that without; both lie between what bounds prove and witnesses refute."""
    text = "measure {}(x in d) = largest r in [0, 4] tol 1% such that forall z in ball(x, linf, r) in raw{}: {} using s"
    condition = "abs(f(z)[0] - f(x)[0]) <= 0.2"
    body = "\n".join([text.format("free", "", condition), text.format("up", " where z[pay] >= x[pay]", condition)])
    records = run("pgd -> crown -> milp", body).records
    assert [r.property for r in records] == ["free", "free", "up", "up"]
    for record in records:
        x = SAMPLES[record.sample].astype(np.float64)
        z = near(x, 4, 161)
        z = z[z[:, 1] >= x[1]] if record.property == "up" else z
        broken = np.abs(out(F, z) - out(F, x[None]))[:, 0] > 0.2
        radius = np.abs(z - x).max(axis=1)[broken].min(initial=4.0)
        assert record.measured.lower <= radius + 1e-6
        assert record.measured.upper is None or record.measured.upper >= radius - 0.05
    free, up = records[:2], records[2:]
    assert all(a.measured.lower <= b.measured.lower * 1.02 for a, b in zip(free, up, strict=True))


def test_a_region_that_no_input_is_left_of_is_refused():
    """A claim about none of them would be a pass that says nothing."""
    for body in (
        "forall z in box([0, 10]) in raw where z[age] > 10: f(z)[0] > 1000",
        "forall z in box([0, 10]) in raw where z[age] + z[pay] >= 21: f(z)[0] > 1000",
        "forall a, b in box([0, 10]) in raw where a[age] >= b[age] + 4 and b[age] >= a[age]: f(a)[0] > f(b)[0]",
    ):
        with pytest.raises(UsageError, match="conditions of `where`"):
            run("crown", f"property p(x in d) using s {{ {body} }}")


def test_conditions_that_a_sample_leaves_nothing_of_are_refused():
    """They are constants of each sample, or alternatives that nothing is left of: nothing is claimed of either."""
    near = "forall z in ball(x, linf, 1) in raw where"
    for condition, said in (
        ("x[age] > 5", "false of a sample"),
        ("f(x)[0] > 1000 and z[pay] >= x[pay]", "false of a sample"),
        ("y == 0 or z[age] > 100 or z[pay] > 100", "no input was found in the region of sample 1"),
    ):
        with pytest.raises(UsageError, match=said):
            run("crown", f"property p(x, y in d) using s {{ {near} {condition}: f(z)[0] > 1000 }}")


def test_an_alternative_that_nothing_is_left_of_claims_nothing():
    """It is no piece of the question, whose margin is that of the others; nor does it hide that they are empty."""
    near = "forall z in ball(x, linf, 1) in raw where"
    text = f"property {{}}(x, y in d take 1) using s {{{{ {near} z[pay] >= x[pay]{{}}: f(z)[0] >= -100 }}}}"
    body = "\n".join([text.format("alone", ""), text.format("joined", " or z[age] > 100 or y == 1")])
    alone, joined = run("ibp", body).records
    assert joined.outcome is Outcome.VERIFIED and joined.verdict.margin == alone.verdict.margin > 90


def test_what_stays_open_under_an_equation_says_why():
    """Its witnesses must meet the equation exactly: there may be none among floats, whatever a program finds."""
    body = CASES["line"].text.format(t=f"{on_a_line(SAMPLES[0].astype(np.float64)) + 0.05:.6f}")
    (record,) = run("ibp", f"property p(x, y in d take 1) using s {{ {body} }}").records
    assert record.outcome is Outcome.UNKNOWN and "meet the equation" in record.verdict.reason


def test_alternatives_are_decided_each_by_itself():
    """Of two alternatives the nearer one decides: what is claimed of both holds below the least of the two rooms."""
    room = either(SAMPLES[0].astype(np.float64))
    body = "\n".join(
        f"property p{k}(x, y in d take 1) using s {{ {CASES['either'].text.format(t=f'{t:.6f}')} }}"
        for k, t in enumerate((room - 0.05, room + 0.05))
    )
    assert [r.outcome.value for r in run("milp", body).records] == ["verified", "falsified"]


def test_a_condition_at_the_edge_leaves_the_edge():
    """``z[age] >= 10`` of numbers up to 10 leaves those that are 10."""
    z = np.stack([np.full(401, 10.0), np.linspace(0, 10, 401)], 1)
    room = out(F, z)[:, 0].min()
    body = "forall z in box([0, 10]) in raw where z[age] >= 10: f(z)[0] >= {t:.6f}"
    text = "\n".join(
        f"property p{k}(x in d take 1) using s {{ {body.format(t=room + shift)} }}"
        for k, shift in enumerate((-0.05, 0.05))
    )
    assert [r.outcome.value for r in run("milp", text).records] == ["verified", "falsified"]


def test_a_network_with_several_inputs_takes_points_and_the_sample():
    keras.utils.set_random_seed(4)
    left, right = keras.Input((2,), name="left"), keras.Input((1,), name="right")
    hidden = keras.layers.Dense(4, "relu")(keras.layers.Concatenate()([left, right]))
    pair = keras.Model([left, right], keras.layers.Dense(1)(hidden))
    x = np.array([[0.25, 0.75]], np.float32)
    ends = np.linspace(0, 1, 101, dtype=np.float32)[:, None]
    room = float(np.asarray(pair([np.repeat(x, 101, axis=0), ends])).min())
    text = """prop 1
model pair = keras("p.keras") {{ inputs: [left, right] }}
dataset d = npz("d.npz")
strategy s = crown -> milp
property p(x in d) using s {{ forall b in box([0, 1]): pair(x, b)[0] >= {0} }}
property q(x in d) using s {{ forall b in box([0, 1]): pair(x, b)[0] >= {1} }}
property r(x in d) using s {{ forall a in ball(x, linf, 0.1), b in box([0, 1]): pair(a, b)[0] >= {1} }}
"""
    text = text.format(f"{room - 0.01:.6f}", f"{room + 0.01:.6f}")
    report = verify(text, bindings={"pair": pair, "d": (x, None)}, verbose=0)
    assert [r.outcome.value for r in report.records] == ["verified", "falsified", "falsified"]


def test_a_network_takes_what_another_says_of_the_sample_beside_a_point():
    """``pair(f(x), b)``: the answer to the sample is a part of the one network, and a constant where it is named."""
    keras.utils.set_random_seed(5)
    left, right = keras.Input((2,), name="left"), keras.Input((1,), name="right")
    hidden = keras.layers.Dense(4, "relu")(keras.layers.Concatenate()([left, right]))
    pair = keras.Model([left, right], keras.layers.Dense(1)(hidden))
    x = np.array([[0.25, 0.75], [0.5, 0.1]], np.float32)
    ends, answers = np.linspace(0, 1, 101, dtype=np.float32)[:, None], np.asarray(F(x))
    values = [np.asarray(pair([np.repeat(a[None], 101, axis=0), ends]))[:, 0] - a[1] for a in answers]
    text = """prop 1
model pair = keras("p.keras") {{ inputs: [left, right] }}
model f = keras("f.keras")
dataset d = npz("d.npz")
strategy s = crown -> milp
""" + "".join(
        f"property p{i}{k}(x in d indices [{i}]) using s {{{{ forall b in box([0, 1]): "
        f"pair(f(x), b)[0] >= f(x)[1] + {value.min() + shift:.6f} }}}}\n"
        for i, value in enumerate(values)
        for k, shift in enumerate((-0.01, 0.01))
    )
    report = verify(text.format(), bindings={"pair": pair, "f": F, "d": (x, None)}, verbose=0)
    assert [r.outcome.value for r in report.records] == ["verified", "falsified"] * 2


def test_a_classifier_behind_an_abstraction_is_compared_with_what_it_says_of_the_sample():
    """Cells of width 1: nothing changes around a sample in the middle of its cells, but beside an edge."""
    keras.utils.set_random_seed(6)
    behind = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    text = """prop 1
model f = keras("f.keras")
dataset d = npz("d.npz")
abstraction grid = intervals(range=[0, 4], granularity=1)
strategy s = pgd -> crown
property p(x in d) using s abstracted by grid { forall z in ball(x, linf, 0.4): abs(f(z)[0] - f(x)[0]) <= 0.001 }
"""
    report = verify(
        text, bindings={"f": behind, "d": (np.array([[1.5, 2.5], [1.2, 2.2]], np.float32), None)}, verbose=0
    )
    assert [r.outcome.value for r in report.records] == ["verified", "falsified"]
