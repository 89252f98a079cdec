"""No answer about a softmax, a sigmoid or a plain head contradicts dense sampling: every form of formula, every stage.

Two inputs, so that a grid over the region is decisive; what the formulas mean is written a second time, in NumPy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from sweeps import sweep_but

from soundness import networks
from tfcert.catalog import METHODS, STAGES, method_name
from tfcert.driver.verify import verify

HEADS = {
    "softmax2": ("softmax", 2), "softmax3": ("softmax", 3), "sigmoid1": ("sigmoid", 1), "sigmoid2": ("sigmoid", 2),
    "plain1": ("linear", 1), "plain3": ("linear", 3),
}  # fmt: skip
EPS, SIDE = 0.3, 41
OPTIONS = {
    "pgd": "(steps=4, restarts=1)", "alpha_crown": "(iterations=1)", "lp": "(solver=highs)", "milp": "(solver=highs)",
    "split": "(solver=highs, time_limit=5s)",
}  # fmt: skip
Meaning = Callable[[np.ndarray, int, np.ndarray], np.ndarray]
"""``(outputs [points, outputs], label, thresholds) -> bool [points]``."""


@dataclass(frozen=True)
class Form:
    """A condition with ``{0}`` to ``{2}`` for thresholds, what it means, and of how many outputs it can be asked."""

    text: str
    meaning: Meaning
    orders: bool
    outputs: tuple[int, ...] = (2, 3)


def _in(f: np.ndarray, *members: int) -> np.ndarray:
    return np.isin(f.argmax(axis=1), members)


FORMS = [
    Form("argmax(clf(z)) == y", lambda f, y, t: _in(f, y), True),
    Form("argmin(clf(z)) != y", lambda f, y, t: f.argmin(axis=1) != y, True),
    Form("argmax(clf(z)) in {{0, y}}", lambda f, y, t: _in(f, 0, y), True, (3,)),
    Form("clf(z)[0] > clf(z)[1]", lambda f, y, t: f[:, 0] > f[:, 1], True),
    Form("not clf(z)[y] < max(clf(z))", lambda f, y, t: f[:, y] >= f.max(axis=1), True),
    Form(
        "argmax(clf(z)) == y => 2*clf(z)[0] >= 2*max(clf(z)[1], clf(z)[y])",
        lambda f, y, t: ~_in(f, y) | (f[:, 0] >= np.maximum(f[:, 1], f[:, y])),
        True,
    ),
    Form("clf(z)[0] <= {0}", lambda f, y, t: f[:, 0] <= t[0], False, (1, 2, 3)),
    Form("not clf(z)[0] > {2}", lambda f, y, t: f[:, 0] <= t[2], False, (1, 2, 3)),
    Form("{0} < clf(z)[0] < {1}", lambda f, y, t: (t[0] < f[:, 0]) & (f[:, 0] < t[1]), False, (1, 2, 3)),
    Form("abs(clf(z)[0] - {1}) >= 0.02", lambda f, y, t: abs(f[:, 0] - t[1]) >= 0.02, False, (1, 2, 3)),
    Form(
        "(y == 1 => clf(z)[0] > {0}) and (y == 0 => clf(z)[0] < {0})",
        lambda f, y, t: (f[:, 0] > t[0]) if y == 1 else (f[:, 0] < t[0]) | (y > 0),
        False,
        (1,),
    ),
    Form("2*clf(z)[0] - clf(z)[1] > {1}", lambda f, y, t: 2 * f[:, 0] - f[:, 1] > t[1], False),
    Form("max(clf(z)) <= {1} or argmax(clf(z)) != y", lambda f, y, t: (f.max(1) <= t[1]) | ~_in(f, y), False),
]


@dataclass(frozen=True)
class Setting:
    """A model, its samples, their labels, a grid over each ball and what the model says there."""

    model: keras.Model
    x: np.ndarray
    y: np.ndarray
    points: np.ndarray
    outputs: np.ndarray
    thresholds: np.ndarray

    def forms(self, peeled: bool) -> list[Form]:
        return [f for f in FORMS if self.outputs.shape[2] in f.outputs and (f.orders or not peeled)]

    def distances(self) -> np.ndarray:
        """``[points]``: how far the points of the grid are from the sample."""
        return np.abs(self.points[0] - self.x[0]).max(axis=1)


def setting(head: str, outputs: int) -> Setting:
    start = keras.Input((2,))
    hidden = keras.layers.Dense(4, activation="relu")(start)
    model = keras.Model(start, keras.layers.Dense(outputs, activation=head)(hidden))
    networks.randomize(model, np.random.default_rng(outputs))
    candidates = np.random.default_rng(7).uniform(-1, 1, (60, 2)).astype(np.float32)
    last = model.layers[-1]  # steeper, and balanced, so that every class is met
    last.kernel.assign(3 * last.kernel)
    last.bias.assign(-np.asarray(keras.Model(start, hidden)(candidates) @ last.kernel).mean(axis=0))
    steps = np.linspace(-EPS, EPS, SIDE)
    grid = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
    x = candidates[[0, 1]]
    if outputs > 1:  # one sample near a boundary, one wherever it is
        top = np.sort(np.asarray(model(candidates)), axis=1)
        x = candidates[[int(np.argmin(top[:, -1] - top[:, -2])), 1]]
    points = (x[:, None] + grid * (1 - 1e-6)).astype(np.float32)
    found = np.asarray(model(points.reshape(-1, 2))).reshape(2, -1, outputs)
    y = np.asarray(model(x)).argmax(axis=1) if outputs > 1 else np.array([1, 0])
    # Two that are crossed, and one that no sample reaches, though some come close.
    first = found[:, :, 0].astype(np.float64)
    thresholds = [*np.quantile(first, [0.35, 0.7]), first.max() + 0.02 * np.ptp(first)]
    return Setting(model, x, y, points, found, np.round(thresholds, 4))


def holds(form: Form, s: Setting, sample: int) -> np.ndarray:
    return form.meaning(s.outputs[sample].astype(np.float64), int(s.y[sample]), s.thresholds)


def at(form: Form, s: Setting, sample: int, point: np.ndarray) -> bool:
    outputs = np.asarray(s.model(point[None].astype(np.float32))).astype(np.float64)
    return bool(form.meaning(outputs, int(s.y[sample]), s.thresholds)[0])


def specification(s: Setting, forms: list[Form], stages: list[str], measured: bool) -> str:
    lines = ["prop 1", 'model clf = keras("clf.keras")']
    lines += [f"strategy s_{name} = {name}{OPTIONS.get(name, '')}" for name in stages]
    lines.append("strategy s_measured = pgd(steps=4, restarts=1) -> crown")
    for i, form in enumerate(forms):
        condition = form.text.format(*s.thresholds)
        for j, name in enumerate(stages):
            quantifier = "exists" if (i + j) % 2 else "forall"
            ball = f"z in ball(x, linf, {EPS})"
            lines.append(f"property p_{i}_{name}(x, y in d) using s_{name} {{ {quantifier} {ball}: {condition} }}")
        if not measured or i % 4 > 1:
            continue
        kind = ("smallest", "exists") if i % 2 else ("largest", "forall")
        lines.append(
            f"measure m_{i}(x, y in d) = {kind[0]} r in [0, {EPS}] tol 10% such that "
            f"{kind[1]} z in ball(x, linf, r): {condition} using s_measured"
        )
    return "\n".join(lines) + "\n"


def check_property(record: Any, form: Form, s: Setting, folder: Path) -> None:
    existential, sampled = record.asked.existential, holds(form, s, record.sample)
    outcome, what = str(record.outcome), f"{record.property}, sample {record.sample}: {form.text}"
    if outcome == ("falsified" if existential else "verified"):
        assert not sampled.any() if existential else sampled.all(), what
    elif outcome in ("verified", "falsified"):
        point = np.load(folder / record.witness)["witness"] if record.witness else s.x[record.sample]
        assert np.abs(point - s.x[record.sample]).max() <= EPS and at(form, s, record.sample, point) == existential, (
            what
        )


def check_measure(record: Any, form: Form, s: Setting) -> None:
    sampled, found = holds(form, s, record.sample), record.measured
    reached = s.distances()[sampled if record.asked.existential else ~sampled]
    nearest = reached.min(initial=np.inf)
    what = f"{record.property}, sample {record.sample}: {form.text}"
    assert not found.lower > nearest + 1e-6, what
    assert not found.upper < nearest - 2 * EPS / (SIDE - 1) - 1e-6, what


def check(s: Setting, forms: list[Form], stages: list[str], measured: bool, folder: Path) -> None:
    """Asks all forms at all stages, and compares every answer with the samples."""
    text = specification(s, forms, stages, measured)
    report = verify(text, bindings={"clf": s.model, "d": (s.x, s.y)}, out=folder / "out", verbose=0)
    assert {"verified", "falsified"} <= {str(record.outcome) for record in report.records}
    for record in report.records:
        form = forms[int(record.property.split("_")[1])]
        if record.measured is None:
            check_property(record, form, s, folder / "out")
        else:
            check_measure(record, form, s)


@pytest.mark.parametrize(("head", "step"), sweep_but([("softmax3", 2)], [("softmax3", 2), *((h, 1) for h in HEADS)]))
def test_no_answer_contradicts_the_samples(head: str, step: int, eager: None, tmp_path: Path) -> None:
    """``step`` is 2 where every other form is asked, at every stage, by each quantifier; the long sweep asks all."""
    s = setting(*HEADS[head])
    only_relu = {info.name for info in METHODS.values() if info.activations and head.startswith("sigmoid")}
    stages = [word for word in STAGES.words() if word != "split" and method_name(word) not in only_relu]
    check(s, s.forms(head.startswith("softmax"))[::step], stages, True, tmp_path)


@pytest.mark.parametrize("head", ["softmax3", "plain1", "plain3"])
def test_no_answer_of_branch_and_bound_contradicts_the_samples(head: str, tmp_path: Path) -> None:
    """Apart, since its many steps are slow where they are not compiled; of forms with few rows, which compile fast."""
    s = setting(*HEADS[head])
    check(s, s.forms(head.startswith("softmax"))[:4], ["split"], False, tmp_path)
