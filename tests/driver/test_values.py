"""Largest outputs, sums, sets of classes, the only output, heads and hidden layers: decided as sampling says."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from sweeps import sweep_but

from tfcert.driver.verify import verify
from tfcert.errors import UsageError

STAGES = ("pgd", "ibp", "crown", "alpha_crown(iterations=5)", "lp", "crown -> split", "milp")
FORMULAS = (
    "y in top(f(z), 2)",
    "top(f(z), 2) == {y, 1}",
    "not (3 in top(f(z), 3))",
    "argmax(f(z)) in group",
    "sum(f(z)[group]) <= 0.4",
    "sum(f(z)) >= -0.2 and min(f(z)[{0, 3}]) <= 0.5",
)
HEAD = """prop 1
model f = keras("f.keras")
dataset d = npz("d.npz")
let pair = {1, 2}
let group = {pair, y0}
let y0 = 0
"""


def built(outputs: int = 4) -> keras.Model:
    keras.utils.set_random_seed(5)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(6, "relu"), keras.layers.Dense(outputs)])
    model.layers[1].bias.assign(-np.asarray(model(np.random.default_rng(1).random((200, 2)))).mean(axis=0))
    return model


def truths(outputs: np.ndarray, y: int) -> list[np.ndarray]:
    """What the formulas say of outputs ``[n, 4]``, by sorting."""
    o = outputs.astype(np.float64)
    rank = (o[:, None] >= o[..., None]).sum(axis=2)  # how many are as large, itself included
    best = o.max(axis=1)
    both = rank[:, [y, 1]].max(axis=1) <= 2 if y != 1 else np.zeros(len(o), bool)
    return [
        rank[:, y] <= 2,
        both,
        ~(rank[:, 3] <= 3),
        (o[:, :3].max(axis=1) == best) & (o[:, 3] < best),
        o[:, :3].sum(axis=1) <= 0.4,
        (o.sum(axis=1) >= -0.2) & (o[:, [0, 3]].min(axis=1) <= 0.5),
    ]


def decided(model: keras.Model, stage: str, samples, formulas=FORMULAS, radius: float = 0.1) -> np.ndarray:
    asked = "\n".join(
        f"property p{i}(x, y in d) using s {{ forall z in ball(x, linf, {radius}): {formula} }}"
        for i, formula in enumerate(formulas)
    )
    report = verify(f"{HEAD}strategy s = {stage}\n{asked}\n", bindings={"f": model, "d": samples}, verbose=0)
    return np.array([str(r.outcome) for r in report.records]).reshape(len(formulas), -1)


@pytest.mark.parametrize("stage", sweep_but(["pgd", "crown", "milp"], STAGES))
@pytest.mark.usefixtures("eager")
def test_no_stage_contradicts_points_of_the_region(stage):
    model, rng = built(), np.random.default_rng(2)
    x = rng.random((5, 2)).astype(np.float32)
    y = np.asarray(model(x)).argmax(axis=1)
    found, met = decided(model, stage, (x, y)), set()
    steps = np.linspace(-0.1, 0.1, 21)
    grid = np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2).astype(np.float32)
    for i in range(len(x)):
        for j, truth in enumerate(truths(np.asarray(model(x[i] + grid)), int(y[i]))):
            assert truth.all() or found[j, i] != "verified", (FORMULAS[j], i)
            assert truth.any() or found[j, i] == "falsified", (FORMULAS[j], i)  # the sample itself breaks it
            met.add(found[j, i])
    assert "falsified" in met and ("verified" in met) == (stage != "pgd")
    assert stage not in ("milp", "crown -> split") or len(met) == 2


@pytest.mark.usefixtures("eager")
def test_a_network_with_one_output_is_a_number_and_others_are_refused():
    x, y = np.array([[0.5, 0.5]], np.float32), np.array([0.25])
    value = float(np.asarray(built(1)(x))[0, 0])
    found = decided(built(1), "pgd -> milp", (x, y), [f"abs(f(z) - {value}) <= 0.5", f"f(z) <= {value - 0.01}"])
    assert found.ravel().tolist() == ["verified", "falsified"]
    with pytest.raises(UsageError, match=r"the network has 4 outputs and is taken for a number: write which"):
        decided(built(4), "pgd", (x, y), ["f(z) <= 3"])


def heads() -> keras.Model:
    """Two heads on one layer: the sum of its neurons, and three classes."""
    keras.utils.set_random_seed(6)
    x = keras.Input((2,))
    hidden = keras.layers.Dense(4, "relu", name="dense_2")(x)
    steer = keras.layers.Dense(1, name="steer", use_bias=False, kernel_initializer="ones")(hidden)
    grade = keras.layers.Dense(3, "softmax", name="grade")(hidden)
    return keras.Model(x, {"steer": steer, "grade": grade})


@pytest.mark.parametrize("stage", sweep_but(["milp"], ["crown", "milp"]))
@pytest.mark.usefixtures("eager")
def test_heads_and_hidden_layers_are_models_of_their_own(stage):
    model, x = heads(), np.array([[0.3, -0.4], [0.8, 0.9]], np.float32)
    inner = keras.Model(model.input, model.get_layer("dense_2").output)
    steps = np.linspace(-0.2, 0.2, 41)
    grid = np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 1, 2).astype(np.float32) + x
    flat = grid.reshape(-1, 2)
    neuron = np.asarray(inner(flat))[:, 2].reshape(-1, 2).max(axis=0)
    answers = model(flat)
    steer = np.asarray(answers["steer"]).reshape(-1, 2).max(axis=0)
    first = np.asarray(answers["grade"])[:, 0].reshape(-1, 2).min(axis=0)
    asked = [
        ('f.layer("dense_2")(z)[2] <= {:.5f}', neuron.max() + 0.05, neuron.max() - 0.02),
        ('f.head("steer")(z) <= {:.5f}', steer.max() + 0.2, steer.max() - 0.05),
        ("f(z).grade[0] >= {:.5f}", first.min() - 0.1, first.min() + 0.02),
    ]
    kept = decided(model, f"pgd -> {stage}", (x, np.zeros(2, int)), [f.format(well) for f, well, _ in asked], 0.2)
    broken = decided(model, f"pgd -> {stage}", (x, np.zeros(2, int)), [f.format(bad) for f, _, bad in asked], 0.2)
    assert (kept == "verified").all() and all("falsified" in row for row in broken.tolist())


def test_a_head_or_layer_that_there_is_not_is_said_with_those_there_are():
    samples = np.zeros((1, 2), np.float32), np.zeros(1, int)
    with pytest.raises(ValueError, match=r"no layer 'dense_9'; its layers are 'dense_2', "):
        decided(heads(), "pgd", samples, ['f.layer("dense_9")(z)[0] <= 1'])
    with pytest.raises(ValueError, match="no output 'brake'; its outputs are 'grade', 'steer'"):
        decided(heads(), "pgd", samples, ["f(z).brake <= 1"])
    with pytest.raises(UsageError, match="there is no output 7"):
        decided(heads(), "pgd", samples, ["f(z).grade[7] <= 1"])


@pytest.mark.usefixtures("eager")
def test_the_example_of_the_reference_is_decided():
    reference = (Path(__file__).parents[2] / "docs" / "language.md").read_text("utf-8")
    text = reference.partition("### Sets, largest outputs, parts of models")[2].split("```prop\n")[1].split("```")[0]
    keras.utils.set_random_seed(7)
    x = keras.Input((2,))
    hidden = keras.layers.Dense(5, "relu", name="dense_2")(x)
    kind, size = keras.layers.Dense(4, "softmax", name="kind")(hidden), keras.layers.Dense(1, "relu")(hidden)
    model = keras.Model(x, {"kind": kind, "size": size})
    samples = np.array([[0.1, 0.9], [0.7, 0.2]], np.float32)
    labels = np.array([2, 0])
    report = verify(text, bindings={"clf": model, "test": (samples, labels)}, verbose=0)
    outcomes = {(r.property, r.sample): str(r.outcome) for r in report.records}
    assert set(outcomes.values()) <= {"verified", "falsified"}
    assert len(outcomes) == 1 + 2 + 1 + 2 + 2 and outcomes["inside", 0] == outcomes["inside", 1] == "verified"
