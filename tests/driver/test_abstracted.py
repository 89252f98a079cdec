"""Properties ``abstracted by`` something: the classifier is the model behind those cells, and the report says so."""

from __future__ import annotations

import itertools
import json
from fractions import Fraction

import keras
import numpy as np
import pytest

from tfcert.cli.main import main
from tfcert.driver.explain import explain
from tfcert.driver.verify import verify
from tfcert.errors import UsageError
from tfcert.language import Abstraction, load_file
from tfcert.layers import IntervalAbstraction
from tfcert.verdict import Outcome

pytestmark = pytest.mark.usefixtures("eager")
SPEC = """\
prop 1
param eps: real = 0.1
model clf = keras("clf.keras")
dataset test = npz("test.npz", x="x", y="y") {{ range: [-1, 1] }}
strategy plan = {stages}
abstraction grid = intervals(range=[-1, 1], granularity={width}) {tune}
property ab(x, y in test) using plan abstracted by grid {{
  forall z in ball(x, linf, eps) within [-1, 1] in net: argmax(clf(z)) == y
}}
{more}
"""
TUNE = "{ tune: descend(step=0.01, floor=0.2) }"
TWICE = "behind `grid` it must take the lower and the upper end of each value's cell, twice the channels"


def cell(value: float, width: float = 0.2) -> int:
    """The number of a value's cell, from -1 on."""
    return min(int(np.floor((value + 1) / width + 1e-9)), round(2 / width) - 1)


@pytest.fixture(scope="module")
def bare():
    """A network of the ends of one value's cell, right (class 0) where the lower end is above -0.1."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    model.layers[0].set_weights([np.array([[1.0, -1.0], [0.0, 0.0]]), np.array([0.1, -0.1])])
    return model


@pytest.fixture(scope="module")
def curved():
    """A network of the ends of three values' cells, with two hidden layers and three classes."""
    keras.utils.set_random_seed(4)
    layers = [keras.layers.Dense(7, activation="relu"), keras.layers.Dense(5, activation="relu")]
    return keras.Sequential([keras.Input((6,)), *layers, keras.layers.Dense(3)])


@pytest.fixture
def write(tmp_path, bare):
    """Writes a specification with its files; returns the path."""

    def written(stages="ibp", width="0.2", tune="", more="", x=((0.05,),), y=(0,), model=bare):
        model.save(tmp_path / "clf.keras")
        np.savez(tmp_path / "test.npz", x=np.array(x, np.float32), y=np.array(y))
        path = tmp_path / "s.prop"
        path.write_text(SPEC.format(stages=stages, width=width, tune=tune, more=more))
        return path

    return written


def outcomes(report) -> list[Outcome]:
    return [record.outcome for record in report.records]


@pytest.mark.parametrize("stages", ["ibp", "crown", "split", "milp"])
def test_the_counter_example_is_not_verified_though_the_cell_of_its_centre_is_right(write, tmp_path, stages):
    # The ball around 0.05 reaches -0.01, whose cell [-0.2, 0] is never looked at by AbsCert's VERIFY.
    (record,) = verify(write(stages), out=tmp_path / "out", verbose=0).records
    assert record.prediction == 0
    assert record.outcome is (Outcome.FALSIFIED if stages in ("split", "milp") else Outcome.UNKNOWN)


def test_its_witness_is_in_the_cell_below_and_is_replayed_on_the_classifier_with_cells(write, tmp_path):
    report = verify(write("pgd"), out=tmp_path / "out", verbose=0)
    (record,) = report.records
    assert record.outcome is Outcome.FALSIFIED and record.verdict.stage == "pgd"
    with np.load(tmp_path / "out" / record.witness) as saved:
        (value,) = saved["witness"]
    assert -0.05 <= value < 0


def test_a_ball_that_reaches_one_cell_is_verified_with_the_margin_of_that_cell(write, tmp_path):
    report = verify(write("ibp", x=[[0.1], [0.5]], y=[0, 0]), params={"eps": "0.05"}, out=tmp_path / "o", verbose=0)
    assert outcomes(report) == [Outcome.VERIFIED] * 2
    margins = [record.verdict.margin for record in report.records]
    assert margins == pytest.approx([0.2, 1.0], abs=1e-5)  # cells [0, 0.2] and [0.4, 0.6]: 2 (lower + 0.1)


def test_verdicts_agree_with_all_combinations_of_reachable_cells(write, curved, tmp_path):
    x = np.random.default_rng(0).uniform(-0.9, 0.9, (8, 3)).astype(np.float32)
    ends = [[(-1 + 0.2 * cell(v), -0.8 + 0.2 * cell(v)) for v in row] for row in x]
    own = np.array([[low for low, _ in row] + [high for _, high in row] for row in ends])
    y = np.asarray(curved(own)).argmax(axis=1)
    report = verify(write("ibp -> milp", x=x, y=y, model=curved), out=tmp_path / "out", verbose=0)
    for row, label, record in zip(x, y, report.records, strict=True):
        reach = [range(cell(max(v - 0.1, -1)), cell(min(v + 0.1, 1)) + 1) for v in row.astype(float)]
        combinations = np.array(list(itertools.product(*reach)))
        values = np.concatenate([-1 + 0.2 * combinations, -0.8 + 0.2 * combinations], axis=1)
        right = bool((np.asarray(curved(values)).argmax(axis=1) == label).all())
        assert record.outcome is (Outcome.VERIFIED if right else Outcome.FALSIFIED)
    assert set(outcomes(report)) == {Outcome.VERIFIED, Outcome.FALSIFIED}


def test_each_channel_may_have_its_own_granularity(write, curved, tmp_path):
    widths = [0.2, 0.5, 0.25]
    x = np.random.default_rng(3).uniform(-0.9, 0.9, (6, 3)).astype(np.float32)
    behind = keras.Sequential([keras.Input((3,)), IntervalAbstraction(widths, (-1, 1)), *curved.layers])
    y = behind.predict(x, verbose=0).argmax(axis=1)
    path = write("ibp -> milp", width="[0.2, 0.5, 0.25]", x=x, y=y, model=curved)
    report = verify(path, out=tmp_path / "out", verbose=0)
    for row, label, record in zip(x, y, report.records, strict=True):
        pairs = zip(row.astype(float), widths, strict=True)
        ends = [(cell(max(v - 0.1, -1), d), cell(min(v + 0.1, 1), d)) for v, d in pairs]
        lower = np.array(list(itertools.product(*(range(low, high + 1) for low, high in ends)))) * widths - 1
        values = np.asarray(curved(np.concatenate([lower, lower + widths], axis=1)))
        right = bool((values[:, [label]] > np.delete(values, label, axis=1)).all())  # a tie is not the label's
        assert record.outcome is (Outcome.VERIFIED if right else Outcome.FALSIFIED)
    assert report.header["abstractions"]["ab"]["granularity"] == widths
    assert "(cells of width [0.2, 0.5, 0.25] on [-1, 1])" in " ".join(str(report).split())
    with pytest.raises(UsageError, match="3 granularities"):
        verify(write(width="[0.2, 0.5, 0.25]"), out=tmp_path / "other", verbose=0)


def test_the_report_the_records_and_the_header_say_which_classifier_is_meant(write, tmp_path):
    report = verify(write("ibp", more="report accuracy(clf, test)"), out=tmp_path / "out", verbose=0)
    shown = str(report)
    assert "ab (behind grid)" in shown
    assert "of the classifier behind the abstraction `grid` (cells of width 0.2 on [-1, 1]): ab; bounds are over" in (
        " ".join(shown.split())
    )
    assert any("AbsCert's own figure" in note and "no guarantee" in note for note in report.notes)
    assert "accuracy(clf, test) = 1" in report.notes  # of the classifier behind the cells
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["records"][0]["abstraction"] == "grid"
    header = result["header"]
    assert header["abstractions"] == {
        "ab": {"model": "clf", "abstraction": "grid", "granularity": 0.2, "range": [-1.0, 1.0]}
    }
    assert list(header["weights_sha256"]) == ["clf behind grid"]


@pytest.mark.parametrize(
    "ends", [("-1", "1", "1/5"), ("0", "1", "3/10"), ("0", "255", "2"), ("-0.4242", "2.8215", "1/3")]
)
def test_the_layer_does_to_numbers_what_the_language_says(ends):
    low, high, width = map(Fraction, ends)
    grid = Abstraction("grid", low, high, width)
    count = int((high - low) / width)
    values = np.random.default_rng(0).uniform(float(low) - 1, float(high) + 1, 200)
    values = np.concatenate([values, [float(low + k * width) for k in range(count + 1)], [float(high)]])
    # Exact at edges where these are numbers of the layer's type; between them everywhere.
    exact = [Fraction(v).limit_denominator(10**6) if float(Fraction(v).limit_denominator(10**6)) == v else Fraction(v)
             for v in values.tolist()]  # fmt: skip
    found = np.asarray(IntervalAbstraction(float(width), (float(low), float(high)), dtype="float64")(values[:, None]))
    np.testing.assert_array_equal(found, [[float(end) for end in grid.cell(v)] for v in exact])


def test_an_accuracy_of_a_model_behind_two_abstractions_is_refused_before_anything_runs(write, tmp_path):
    more = """abstraction coarse = intervals(range=[-1, 1], granularity=0.5)
    property q(x, y in test) abstracted by coarse { forall z in ball(x, linf, eps) in net: argmax(clf(z)) == y }
    report accuracy(clf, test)"""
    with pytest.raises(UsageError, match="that of clf behind grid or clf behind coarse"):
        verify(write(more=more), out=tmp_path / "out", verbose=0)
    assert not (tmp_path / "out").exists()
    report = verify(write(more=more.replace("report", "#")), out=tmp_path / "out", verbose=0)
    assert {name: found["granularity"] for name, found in report.header["abstractions"].items()} == {
        "ab": 0.2,
        "q": 0.5,
    }
    assert set(report.header["weights_sha256"]) == {"clf behind grid", "clf behind coarse"}


def test_a_question_without_abstraction_says_nothing_of_one(run, margins):
    margins(0.5)
    report = run("crown")
    assert "behind" not in str(report) and report.header["abstractions"] == {}
    assert report.records[0].as_json()["abstraction"] is None


def test_check_and_explain_say_which_classifier_is_meant(write, capsys):
    path = write(tune=TUNE.replace("0.2)", "0.2)"), width="0.4")
    assert main(["check", str(path)]) == 0
    which = "the classifier behind the abstraction `grid` (cells of width 0.4 on [-1, 1], or finer ones to 0.2 after"
    assert f"ab is about {which}" in capsys.readouterr().out
    assert f"about: {which}" in explain(load_file(path))


def test_a_measure_is_of_the_abstracted_classifier(write, tmp_path):
    more = """measure radius(x, y in test) = largest r in [0, 0.5] tol 1e-3 such that
      forall z in ball(x, linf, r) in net: argmax(clf(z)) == y using plan abstracted by grid"""
    report = verify(write("pgd(steps=5) -> ibp", more=more, x=[[0.25]]), out=tmp_path / "out", verbose=0)
    measured = report.records[-1].measured
    # It is wrong from the cell that ends in 0 downwards, and 0 itself is in the cell above. What a network of numbers
    # would say, wrong below -0.1, is 0.35.
    assert measured.lower == pytest.approx(0.25, abs=1e-3) and measured.lower <= 0.25
    assert 0.25 < measured.upper < 0.35
    assert "radius (behind grid)" in str(report)


def test_a_model_that_begins_with_the_abstraction_is_taken_as_it_is(write, bare, tmp_path):
    whole = keras.Sequential([keras.Input((1,)), IntervalAbstraction(0.2, (-1, 1)), bare])
    path = write("pgd(steps=5) -> ibp", x=[[0.05], [0.5]], y=[0, 0])
    one, other = (
        verify(path, out=tmp_path / "out", verbose=0, bindings=bindings) for bindings in (None, {"clf": whole})
    )
    assert outcomes(one) == outcomes(other) == [Outcome.FALSIFIED, Outcome.VERIFIED]
    assert [r.verdict.margin for r in one.records] == [r.verdict.margin for r in other.records]


@pytest.mark.parametrize(
    ("layers", "sentence"),
    [
        ([IntervalAbstraction(0.1, (-1, 1))], "cells of width 0.1 on .-1, 1., but `grid` says cells of width 0.2"),
        ([IntervalAbstraction(0.2, (0, 1))], "cells of width 0.2 on .0, 1., but `grid` says cells of width 0.2 on .-1"),
        ([keras.layers.Dense(3)], "takes the samples as they are, .1,., and has no abstraction"),
        ([IntervalAbstraction(0.2, (-1, 1)), IntervalAbstraction(0.2, (-1, 1))], "has 2 abstractions of its own"),
    ],
)
def test_another_abstraction_or_none_is_refused_with_what_is_expected(write, tmp_path, layers, sentence):
    model = keras.Sequential([keras.Input((1,)), *layers, keras.layers.Dense(2)])
    with pytest.raises(UsageError, match=sentence):
        verify(write(), bindings={"clf": model}, out=tmp_path / "out", verbose=0)


def test_what_is_no_model_is_refused(write, tmp_path):
    with pytest.raises(UsageError, match="model clf must be a Keras model, to stand behind `grid`, not a int"):
        verify(write(), bindings={"clf": 5}, out=tmp_path / "out", verbose=0)


def test_a_model_that_reads_its_inputs_past_the_cells_is_refused(write, tmp_path):
    x = keras.Input((1,))
    both = keras.layers.Concatenate()([IntervalAbstraction(0.2, (-1, 1))(x), x])
    model = keras.Model(x, keras.layers.Dense(2)(both))
    with pytest.raises(UsageError, match="clf reads its inputs past its abstraction as well"):
        verify(write(), bindings={"clf": model}, out=tmp_path / "out", verbose=0)


def test_a_model_of_another_size_is_refused_with_what_is_expected(write, tmp_path):
    for size in (3, 4):
        model = keras.Sequential([keras.Input((size,)), keras.layers.Dense(2)])
        with pytest.raises(UsageError, match=f"clf takes .{size},., and samples have shape .1,.: {TWICE}"):
            verify(write(), bindings={"clf": model}, out=tmp_path / "out", verbose=0)


@pytest.mark.parametrize(("width", "accepted"), [(0.4, True), (0.31, True), (0.2, True), (0.19, False), (0.41, False)])
def test_a_tuned_model_has_any_granularity_down_to_the_floor(write, bare, tmp_path, width, accepted):
    whole = keras.Sequential([keras.Input((1,)), IntervalAbstraction(width, (-1, 1)), bare])
    path = write("ibp", width="0.4", tune=TUNE)
    if not accepted:
        with pytest.raises(UsageError, match=r"cells of width 0.4 on .-1, 1., tuned to no less than 0.2"):
            verify(path, bindings={"clf": whole}, out=tmp_path / "out", verbose=0)
        return
    report = verify(path, bindings={"clf": whole}, out=tmp_path / "out", verbose=0)
    assert report.header["abstractions"]["ab"]["granularity"] == pytest.approx(width)
    told = f"cells of width {width:g} on [-1, 1]" + ("" if width == 0.4 else ", tuned from 0.4")
    assert any(f"({told})" in note for note in report.notes)


def test_a_box_and_images_are_abstracted_too(tmp_path, write):
    more = "property boxed abstracted by grid { forall z in box([0, 0.19]) in net: clf(z)[0] > clf(z)[1] }"
    report = verify(write("ibp", more=more), out=tmp_path / "out", verbose=0)
    assert report.records[-1].outcome is Outcome.VERIFIED
    images = keras.Sequential([keras.Input((2, 2, 2)), keras.layers.Flatten(), keras.layers.Dense(2)])
    images.layers[-1].set_weights([np.ones((8, 2)) * [1.0, -1.0], np.zeros(2)])
    text = write("ibp", x=np.full((3, 2, 2), 0.5), y=[0, 0, 0])
    report = verify(text, bindings={"clf": images}, out=tmp_path / "images", verbose=0)
    assert outcomes(report) == [Outcome.VERIFIED] * 3


def test_float64_models_stand_behind_cells_of_float64(tmp_path, write):
    policy = keras.dtype_policies.DTypePolicy("float64")
    layers = [keras.Input((2,), dtype="float64"), keras.layers.Dense(2, dtype=policy)]
    model = keras.Sequential(layers)
    report = verify(write("ibp"), bindings={"clf": model}, out=tmp_path / "out", verbose=0)
    assert len(report.records) == 1
