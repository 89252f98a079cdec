"""CONTRIBUTING's recipes: a part of each kind is added through its door, in the files that are named there, and used.

What a recipe needs beyond its files would be missing here: nothing is patched.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from methods import GENERAL
from soundness.networks import Sketch
from unrounded import IGNORED

import tfcert
from tfcert.activations.piecewise import piecewise
from tfcert.catalog import (
    DISTANCES,
    METHODS,
    SOLVERS,
    SOURCES,
    STAGES,
    DistanceInfo,
    MethodInfo,
    Option,
    SolverInfo,
    SourceInfo,
    StageKind,
    StageSchema,
    propagated,
)
from tfcert.datasets import Samples
from tfcert.driver.explain import explain
from tfcert.driver.stages.base import Finding
from tfcert.errors import UsageError
from tfcert.estimates.question import DistanceAnswer
from tfcert.language import load_file
from tfcert.network import Multivariate, from_keras
from tfcert.network.linear import LinearMap
from tfcert.network.sparse import Entries
from tfcert.options import BoundOptions
from tfcert.propagation.enclosures import Plane, Planes
from tfcert.propagation.engine import lower_bounds, prepared_bounds
from tfcert.propagation.kinds import KINDS
from tfcert.propagation.methods.crown_ibp import CROWN_IBP
from tfcert.propagation.multivariate import Facet, Kind, MultivariatePlanes
from tfcert.propagation.plan import Plan
from tfcert.sets.balls import LpBall
from tfcert.verdict import Outcome, Work

CONTRIBUTING = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
FILES = {
    "An activation": ["tfcert/activations/FAMILY.py"],
    "A layer": ["tfcert/network/keras/KIND.py"],
    "A linear map": ["tfcert/network/linear.py"],
    "A nonlinearity of several numbers": [
        "tfcert/network/KIND.py",
        "tfcert/propagation/KIND.py",
        "tfcert/propagation/kinds.py",
    ],
    "A method": ["tfcert/propagation/methods/NAME.py", "tfcert/catalog.py"],
    "A stage": ["tfcert/driver/stages/NAME.py", "tfcert/catalog.py"],
    "A solver": ["tfcert/complete/solver/NAME.py", "tfcert/catalog.py"],
    "A distance": ["tfcert/estimates/NAME.py", "tfcert/catalog.py"],
    "A source of samples": ["tfcert/datasets/NAME.py", "tfcert/catalog.py"],
}
"""By the heading of each recipe: the files that change. Each test below adds so many pieces."""
SPEC = """\
prop 1
model clf = keras("clf.keras") {{ outputs: logits }}
dataset test = {source}
strategy plan = {stages}
property robust(x, y in test) using plan {{
  forall z in ball(x, linf, {radius}) within anything in net: argmax(clf(z)) == y
}}
"""


@pytest.mark.parametrize("heading", FILES)
def test_a_recipe_names_the_files_that_change(heading):
    section = re.search(rf"^## {heading}\n\n(.*?)\n(?=## |\Z)", CONTRIBUTING, re.MULTILINE | re.DOTALL)
    assert section is not None
    (line,) = re.findall(r"^Files: (.*)$", section.group(1), re.MULTILINE)
    assert re.findall(r"`(tfcert/[\w/.]+)`", line) == FILES[heading]


@pytest.fixture
def clf(seed):
    """Three inputs, five ReLUs, three classes."""
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(5, "relu"), keras.layers.Dense(3)])


@pytest.fixture
def data(clf):
    x = np.random.default_rng(0).random((7, 3)).astype(np.float32)
    return x, np.asarray(clf(x)).argmax(axis=1)


def verify(tmp_path, clf, stages: str, source: str = 'npz("test.npz")', radius: float = 0.01) -> tfcert.Report:
    clf.save(tmp_path / "clf.keras")
    (tmp_path / "s.prop").write_text(SPEC.format(stages=stages, source=source, radius=radius))
    return tfcert.verify(tmp_path / "s.prop", verbose=0)


def assert_sound(model: keras.Model, x: np.ndarray, radius: float, method: str) -> None:
    """That outputs at points of the balls lie within the bounds, which are no constants."""
    bounds = tfcert.bounds(model, tfcert.LpBall(x, radius), method=method, options=BoundOptions(iterations=2))
    points = tfcert.LpBall(x, radius).sample(200)
    outputs = np.asarray(model(points.reshape(-1, *x.shape[1:]))).reshape(200, len(x), -1)
    assert (outputs >= bounds.lower - 1e-4).all() and (outputs <= bounds.upper + 1e-4).all()
    assert np.isfinite(bounds.lower).all() and (bounds.lower < bounds.upper).all()


@keras.saving.register_keras_serializable("recipes")
def leaning(x):
    return keras.ops.where(x > 1, 2 * x - 1, x)


@keras.saving.register_keras_serializable("recipes")
class Mirrored(keras.layers.Layer):
    """A layer of a user: values turned round, less half of what they were."""

    def call(self, x):
        return keras.ops.flip(x, -1) - 0.5 * x


class Mirror(LinearMap):
    """Its map, with nothing but the products."""

    def __init__(self, shape):
        self.in_shape = self.out_shape = shape

    def apply(self, x):
        return tf.reverse(x, [-1]) - 0.5 * x

    def transpose(self, a):
        return self.apply(a)

    def abs_apply(self, r):
        return tf.reverse(r, [-1]) + 0.5 * r

    def square_apply(self, v):
        return tf.reverse(v, [-1]) + 0.25 * v


@pytest.mark.usefixtures("eager")
def test_an_activation(seed):
    tfcert.register_activation(
        "leaning", lambda: piecewise("leaning", lambda x: tf.where(x > 1, 2 * x - 1, x), (1.0,), (1.0, 2.0)), [leaning]
    )
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(5, leaning), keras.layers.Dense(3)])
    x = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    for method in (*GENERAL, "milp"):
        assert_sound(model, x, 0.4, method)


@pytest.mark.usefixtures("eager")
def test_a_layer_and_a_linear_map(seed):
    """The map in the middle of images, where rows are patches, too."""
    tfcert.register_layer(Mirrored, lambda layer, builder, inputs: builder.linear(inputs[0], Mirror(inputs[0].shape)))
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((4, 4, 1)), layers.Conv2D(2, 2, activation="relu"), Mirrored(),
            layers.Conv2D(2, 2, activation="relu"), layers.Flatten(), Mirrored(), layers.Dense(3),
        ]
    )  # fmt: skip
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 1)).astype(np.float32)
    for method in (*propagated(), "milp"):
        assert_sound(model, x, 0.2, method)
    dense_network = tfcert.densify(from_keras(model))
    np.testing.assert_allclose(dense_network(tf.constant(x)), model(x), atol=1e-5)
    y = np.asarray(model(x)).argmax(axis=1)
    assert tfcert.attack(model, x, y, eps=2.0).success.any()
    assert (tfcert.global_lipschitz_radius(model, x, y).radius > 0).all()


class Worse:
    """CROWN-IBP less one."""

    def plan(self, network, rows, memory_mb, is_box):
        return Plan(2, 1.0, {})

    def pre_activation(self, network, region, how):
        return CROWN_IBP.pre_activation(network, region, how)

    def lower(self, network, region, rows, how):
        bounded = CROWN_IBP.lower(network, region, rows, how)
        return bounded._replace(lower=bounded.lower - 1)


WORSE = Worse()


@pytest.mark.usefixtures("eager")
@dataclass(frozen=True, eq=False, kw_only=True)
class Larger(Multivariate):
    """The larger of two numbers, of two tensors."""

    def evaluate(self, inputs):
        return tf.maximum(*inputs)

    def deviation(self, inputs, value):
        return tf.zeros_like(value)

    def carried(self, inputs, variances):
        return tf.maximum(*variances)

    def lipschitz(self, norm):
        return 1.0


@dataclass(frozen=True, eq=False)
class LargerPlanes(MultivariatePlanes):
    """Above the mean of both, and below the largest upper bound."""

    top: tf.Tensor

    def back(self, rows):
        half = replace(rows, values=0.5 * tf.nn.relu(rows.values))
        return [half, half], tf.reduce_sum(tf.minimum(rows.values, 0) * rows.unfold(self.top), axis=-1)

    def advance(self, inputs):
        low = [planes.lower for planes in inputs]
        mean = Plane(0.5 * (low[0].slopes + low[1].slopes), 0.5 * (low[0].intercept + low[1].intercept))
        return Planes(mean, Plane(tf.zeros_like(mean.slopes), self.top))


class LargerKind(Kind):
    def interval(self, node, inputs):
        return tuple(tf.maximum(*ends) for ends in zip(*inputs, strict=True))

    def relax(self, node, bounds, relaxation, choices=()):
        return LargerPlanes(tf.maximum(*(high for _, high in bounds)))

    def choices(self, node, bounds, relaxation):
        return ()

    def opened(self, node, bounds, relaxation):
        return None

    def facets(self, node, bounds):
        size, tops = bounds[0][0].size, np.maximum(*(high.ravel() for _, high in bounds))
        each, none = np.arange(size), np.zeros(size)
        units = [Entries(each, each + side * size, np.ones(size)) for side in (0, 1)]
        return [*(Facet(1, unit, none) for unit in units), Facet(-1, Entries(each, each, none), tops)]


def test_a_nonlinearity_of_several_numbers(monkeypatch):
    monkeypatch.setitem(KINDS, Larger, LargerKind())
    rng = np.random.default_rng(0)
    s = Sketch(rng)
    x = s.input((3,))
    sides = s.dense(x, 4), s.activate(s.dense(x, 4))
    larger = s.add("larger", (4,), lambda _: Larger(name="larger", inputs=sides, shape=(4,)))
    s.dense(s.activate(s.dense(larger, 4)), 2)
    network, ball = s.network(), LpBall(rng.uniform(0, 1, (2, 3)), 0.1)
    rows = np.broadcast_to(np.concatenate([np.eye(2), -np.eye(2)]), (2, 4, 2))
    values = np.stack([network(tf.constant(points)).numpy() for points in ball.sample(100, 0)])
    least = np.concatenate([values.min(axis=0), -values.max(axis=0)], axis=1)
    for method in (*GENERAL, "lp"):
        found = lower_bounds(network, ball, rows, np.zeros((2, 4)), method=method)
        assert np.isfinite(found).all() and (found <= least + 1e-9).all(), method


def test_a_method(clf, data, tmp_path):
    x, y = data
    np.savez(tmp_path / "test.npz", x=x, y=y)
    with METHODS.added(MethodInfo("much-worse", f"{__name__}:WORSE", cost="nothing to speak of")):
        how = {"eps": 0.01, "options": IGNORED}  # a new method says itself whether it charges for rounding
        ours, theirs = (tfcert.certify(clf, x, y, method=name, **how) for name in ("much-worse", "crown-ibp"))
        np.testing.assert_allclose(ours.margin, theirs.margin - 1, atol=1e-6)
        region, rows = tfcert.LpBall(x, 0.01), np.zeros((7, 1, 3))
        assert prepared_bounds(from_keras(clf), region, rows, rows[..., 0], method="much-worse").limit == 2
        report = verify(tmp_path, clf, "much_worse(relaxation=fastlin) -> crown")
        assert {r.verdict.method for r in report.records} <= {"much-worse", "crown"}
        assert [r.outcome for r in report.records] == ["verified" if m > 0 else "unknown" for m in theirs.margin]


class Tries:
    """A stage of the kind ``attack``: as many random points as its option says; it claims what it likes of them."""

    def __init__(self, spec):
        self.count = spec.option("count")

    def refuses(self, task):
        return "tries wants at least two samples" if len(task.samples) < 2 else ""

    @contextlib.contextmanager
    def open(self, task, options):
        yield self

    def decide(self, batch, budget, tell):
        points = batch.regions.witness.sample(self.count)
        classes = np.asarray(batch.task.model.model(points.reshape(-1, 3))).argmax(axis=1).reshape(self.count, -1)
        for place, label in enumerate(batch.task.labels):
            (wrong,) = np.nonzero(classes[:, place] != label)
            point = points[wrong[0] if len(wrong) else 0, place]
            yield Finding(place, Outcome.FALSIFIED, witness=point, work=Work(evaluations=self.count))


@pytest.mark.usefixtures("eager")
def test_a_stage(clf, data, tmp_path):
    """Its claims count where they hold, and it says before anything runs what it cannot do."""
    schema = StageSchema(
        "tries", f"{__name__}:Tries", kind=StageKind.ATTACK, norms=("linf",),
        options={"count": Option("whole", least=1)}, cost="{count} runs of the model",
    )  # fmt: skip
    np.savez(tmp_path / "test.npz", x=data[0], y=data[1])
    with STAGES.added(schema):
        report = verify(tmp_path, clf, "tries(count=200)", radius=0.3)
        falsified = [r.verdict.work.evaluations for r in report.records if r.outcome is Outcome.FALSIFIED]
        assert 0 < len(falsified) < 7 and set(falsified) == {200}
        assert {r.verdict.stage for r in report.records} == {"tries"}
        assert "finds witnesses; 200 runs of the model" in explain(load_file(tmp_path / "s.prop"))
        with pytest.raises(UsageError, match="tries wants at least two samples"):
            verify(tmp_path, clf, "tries(count=200)", 'npz("test.npz") take 1')


def handful(*, count=3):
    x = np.random.default_rng(1).random((count, 3))
    return Samples(x, np.zeros(count, np.int64))


@pytest.mark.usefixtures("eager")
def half_a_pixel(question):
    """A guess, and nothing else."""
    for _ in question.x:
        yield DistanceAnswer(estimate=0.5)


def test_a_distance(clf, data, tmp_path):
    info = DistanceInfo(
        "half-a-pixel", f"{__name__}:half_a_pixel", title="guess", promise="a guess", norms=("linf",),
        options=dict(DISTANCES["global-lipschitz"].options),
    )  # fmt: skip
    text = "prop 1\nmeasure m(x, y in test) = half_a_pixel(clf, linf) in net\nreport median(m)\n"
    with DISTANCES.added(info):
        report = tfcert.verify(text, bindings={"clf": clf, "test": data}, out=tmp_path / "out", verbose=0)
        said = str(report)
    assert [r.measured.estimate for r in report.records] == [0.5] * 7
    assert "median(m) = 0.5, guess: a guess" in said


def test_a_source_of_samples(clf, tmp_path):
    info = SourceInfo("handful", f"{__name__}:handful", options={"count": Option("whole", least=1)})
    with SOURCES.added(info):
        report = verify(tmp_path, clf, "crown", "handful(count=4)")
        assert [r.sample for r in report.records] == [0, 1, 2, 3]
    with pytest.raises(tfcert.SpecError, match="cannot come from `handful`"):
        verify(tmp_path, clf, "crown", "handful(count=4)")


NOTED = """
from pathlib import Path
from tfcert.complete.solver.backends import CBC

class Noted:
    def load(self, program, settings):
        Path(__file__).with_suffix(".asked").touch()
        return CBC.load(program, settings)

SOLVER = Noted()
"""


@pytest.mark.usefixtures("eager")
def test_a_solver(clf, tmp_path, monkeypatch):
    """It is found in the solver's own process, by what its entry says."""
    (tmp_path / "noted_solver.py").write_text(NOTED, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    x = np.zeros((1, 3), np.float32)
    y = np.asarray(clf(x + 0.1)).argmax(axis=1)
    with SOLVERS.added(SolverInfo("noted", "noted_solver:SOLVER")):
        found = tfcert.minimum_perturbation(clf, x + 0.1, y, upper=0.01, solver="noted", search="plain")
        assert (tmp_path / "noted_solver.asked").exists() and found.lower[0] > 0
        (tmp_path / "noted_solver.asked").unlink()
        np.savez(tmp_path / "test.npz", x=x + 0.1, y=y)
        (record,) = verify(tmp_path, clf, "milp(solver=noted)", radius=0.3).records
        assert (tmp_path / "noted_solver.asked").exists() and record.outcome in (Outcome.VERIFIED, Outcome.FALSIFIED)
