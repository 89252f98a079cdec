"""Thresholds and sums of a softmax's probabilities: every stage decides them, and none against what is sampled."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from sweeps import sweep_but

from tfcert.driver.verify import verify

STAGES = ("pgd", "ibp", "crown", "alpha_crown(iterations=5)", "lp", "crown -> split", "milp")
FORMULAS = (
    "clf(z)[y] >= 0.3",
    "clf(z)[0] <= 0.6",
    "clf(z)[0] + clf(z)[1] >= 0.5",
    "2*clf(z)[0] - 0.1 > clf(z)[1]",
    "max(clf(z)) <= 0.9",
    "argmax(clf(z)) == y and clf(z)[y] > 0.4",
    "argmax(clf(z)) == y or abs(clf(z)[0] - clf(z)[1]) <= 0.2",
)
HEAD = 'prop 1\nmodel clf = keras("c.keras")\n'


def built(classes: int) -> keras.Model:
    keras.utils.set_random_seed(4)
    layers = [keras.Input((2,)), keras.layers.Dense(6, "relu"), keras.layers.Dense(classes, "softmax")]
    model = keras.Sequential(layers)
    model.layers[1].set_weights([3 * w for w in model.layers[1].get_weights()])
    return model


def decided(model: keras.Model, stage: str, samples, formulas=FORMULAS, radius: float = 0.15, quantifier="forall"):
    asked = "\n".join(
        f"property p{i}(x, y in d) using s {{ {quantifier} z in ball(x, linf, {radius}): {formula} }}"
        for i, formula in enumerate(formulas)
    )
    text = f'{HEAD}dataset d = npz("d.npz")\nstrategy s = {stage}\n{asked}\n'
    report = verify(text, bindings={"clf": model, "d": samples}, verbose=0)
    found = np.array([str(r.outcome) for r in report.records]).reshape(len(formulas), -1)
    return found, report


def truths(outputs: np.ndarray, y: int) -> list[np.ndarray]:
    """What the formulas say of outputs ``[n, k]``."""
    p = outputs.astype(np.float64).T
    right = (p[y] > np.delete(p, y, axis=0)).all(axis=0)
    return [
        p[y] >= 0.3, p[0] <= 0.6, p[0] + p[1] >= 0.5, 2 * p[0] - 0.1 > p[1], p.max(axis=0) <= 0.9,
        right & (p[y] > 0.4), right | (abs(p[0] - p[1]) <= 0.2),
    ]  # fmt: skip


CASES = [(stage, classes) for stage in STAGES for classes in (2, 3)]


@pytest.mark.parametrize(("stage", "classes"), sweep_but([("pgd", 3), ("crown", 2), ("crown", 3), ("milp", 3)], CASES))
@pytest.mark.usefixtures("eager")
def test_no_stage_contradicts_points_of_the_region(stage, classes):
    model, rng = built(classes), np.random.default_rng(0)
    x = rng.random((4, 2)).astype(np.float32)
    y = np.asarray(model(x)).argmax(axis=1)
    found, _ = decided(model, stage, (x, y))
    met = set()
    for i in range(len(x)):
        steps = np.linspace(-0.15, 0.15, 31)
        grid = x[i] + np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2).astype(np.float32)
        for j, truth in enumerate(truths(np.asarray(model(grid)), int(y[i]))):
            assert truth.all() or found[j, i] != "verified", (FORMULAS[j], i)
            met.add(found[j, i])
    complete = "split" in stage or stage == "milp"
    assert "falsified" in met and ("verified" in met) == (stage != "pgd") and (not complete or len(met) == 2)


@pytest.mark.parametrize("stage", ["crown -> split", "milp"])
@pytest.mark.usefixtures("eager")
def test_of_two_classes_a_threshold_is_decided_to_within_rounding(stage):
    """p_0 is the sigmoid of |x| - 1/2, whose largest value on [-1, 1] is that of 1/2."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2, "relu"), keras.layers.Dense(2, "softmax")])
    model.layers[0].set_weights([np.array([[1.0, -1.0]]), np.zeros(2)])
    model.layers[1].set_weights([np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([0.0, 0.5])])
    largest = 1 / (1 + np.exp(-0.5))
    samples = np.zeros((1, 1), np.float32), np.zeros(1, int)
    formulas = [f"clf(z)[0] <= {largest + by:.7f}" for by in (1e-5, -1e-5)]
    found, report = decided(model, stage, samples, formulas, radius=1)
    assert found.ravel().tolist() == ["verified", "falsified"]
    assert abs(report.records[1].verdict.witness[0]) == pytest.approx(1)


@pytest.mark.usefixtures("eager")
def test_a_measure_and_a_search_for_an_input_ask_of_probabilities_as_well():
    model = built(3)
    x = np.array([[0.2, 0.7]], np.float32)
    y = np.asarray(model(x)).argmax(axis=1)
    least = float(np.asarray(model(x))[0, y[0]]) - 0.02
    asked = f"forall z in ball(x, linf, r): clf(z)[y] >= {least}"
    radius = f"measure r(x, y in d) = largest r in [0, 1] tol 1% such that {asked}"
    text = f'{HEAD}dataset d = npz("d.npz")\nstrategy s = pgd -> crown -> milp\n{radius} using s\n'
    (record,) = verify(text, bindings={"clf": model, "d": (x, y)}, verbose=0).records
    assert 0 < record.measured.lower <= record.measured.upper < 1
    steps = np.linspace(-1, 1, 81)
    grid = np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2)
    for reach, holds in ((record.measured.lower * 0.999, True), (record.measured.upper * 1.05, False)):
        reached = np.asarray(model((x[0] + reach * grid).astype(np.float32)))[:, y[0]]
        assert (reached >= least).all() == holds
    found, _ = decided(
        model, "pgd -> crown -> milp", (x, y), ["clf(z)[y] < 0.1", f"clf(z)[y] < {least}"], 0.3, "exists"
    )
    grid = (x[0] + 0.3 * grid).astype(np.float32)
    assert found.ravel().tolist() == [
        "verified" if (np.asarray(model(grid))[:, y[0]] < limit).any() else "falsified" for limit in (0.1, least)
    ]


def test_a_threshold_that_rounding_reaches_is_not_proven():
    """p_0 is above 1 - 1e-9 in real numbers and exactly 1 in the model's, where `< 1` is broken."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(3, "softmax")])
    model.layers[0].set_weights([np.array([[1.0, 0.0, 0.0]]), np.array([25.0, 0.0, 0.0])])
    samples = np.zeros((1, 1), np.float32), np.zeros(1, int)
    found, _ = decided(model, "ibp -> crown -> milp", samples, ["clf(z)[0] < 1", "clf(z)[0] > 99.9%"], radius=0.5)
    assert found[0, 0] != "verified" and found[1, 0] == "verified"


@pytest.mark.parametrize("stage", sweep_but(["crown"], ["ibp", "crown", "milp"]))
@pytest.mark.usefixtures("eager")
def test_probabilities_are_compared_with_those_of_other_networks_and_with_inputs(stage):
    """Where a row speaks of more than one softmax, the probabilities themselves are bounded."""
    one, other = built(3), keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, "softmax")])
    formulas = ("f(z)[0] - g(z)[0] <= {}", "f(z)[y] >= f(x)[y] - {}", "f(z)[1] <= z[0] + {}")
    x = np.array([[0.3, 0.6], [0.8, 0.1]], np.float32)
    y = np.asarray(one(x)).argmax(axis=1)
    steps = np.linspace(-0.05, 0.05, 21)
    grid = np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2).astype(np.float32)
    for loose in (0.45, 0.0):
        asked = "\n".join(
            f"property p{i}(x, y in d) using s {{ forall z in ball(x, linf, 0.05): {formula.format(loose)} }}"
            for i, formula in enumerate(formulas)
        )
        text = 'prop 1\nmodel f = keras("f.keras")\nmodel g = keras("g.keras")\ndataset d = npz("d.npz")\n'
        text += f"strategy s = pgd -> {stage}\n{asked}\n"
        report = verify(text, bindings={"f": one, "g": other, "d": (x, y)}, verbose=0)
        found = np.array([str(r.outcome) for r in report.records]).reshape(3, 2)
        for i, center in enumerate(x):
            points = center + grid
            p, q = (np.asarray(model(points)).astype(np.float64) for model in (one, other))
            at = np.asarray(one(center[None]))[0].astype(np.float64)
            truth = [p[:, 0] - q[:, 0] <= loose, p[:, y[i]] >= at[y[i]] - loose, p[:, 1] <= points[:, 0] + loose]
            for j, holds in enumerate(truth):
                assert holds.all() or found[j, i] != "verified", (formulas[j], loose, i)
        assert loose == 0.0 or (found == "verified").any()
        assert loose > 0.0 or (found == "falsified").any()
