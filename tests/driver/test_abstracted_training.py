"""``tfcert train`` for a property ``abstracted by`` something: what is saved is the classifier with its cells."""

from __future__ import annotations

import csv
import functools
import json
from dataclasses import replace

import keras
import numpy as np
import pytest

import tfcert
from tfcert.driver.bind import load_spec
from tfcert.driver.explain import explain
from tfcert.driver.train.bind import bind_objective
from tfcert.driver.train.build import starting_model
from tfcert.driver.train.run import Order, train
from tfcert.driver.verify import verify
from tfcert.language import load_file
from tfcert.network import abstraction_of
from tfcert.verdict import Outcome

pytestmark = pytest.mark.usefixtures("eager")
SPEC = """\
prop 1
param eps: real = 0.05
model clf = keras("clf.keras")
dataset test = npz("d.npz", x="x_test", y="y_test") { range: [-1, 1] }
strategy plan = pgd(steps=10) -> ibp
abstraction grid = intervals(range=[-1, 1], granularity=0.2) { tune: descend(step=0.03, floor=2*eps) }
property ab(x, y in test) using plan abstracted by grid {
  forall z in ball(x, linf, eps) within [-1, 1] in net: argmax(clf(z)) == y
}
objective o for ab {
  bound: ibp natural_weight: ramp(0 -> 1, epochs 1..2) epochs: 4 batch: 50
  initialize: ibp learning_rate: 8e-2 attack: none
}
objective paper for ab { natural_weight: 1 epochs: 2 batch: 100 learning_rate: 1e-2 attack: none }
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a network of the ends of four values' cells, and samples whose class is the largest of three."""
    folder = tmp_path_factory.mktemp("abstracted")
    keras.utils.set_random_seed(1)
    layers = [keras.Input((8,)), keras.layers.Dense(16, activation="relu"), keras.layers.Dense(3)]
    keras.Sequential(layers).save(folder / "clf.keras")
    x = np.random.default_rng(0).uniform(-1, 1, (400, 4)).astype(np.float32)
    y = x[:, :3].argmax(axis=1)
    np.savez(folder / "d.npz", x_train=x[:300], y_train=y[:300], x_test=x[300:], y_test=y[300:])
    (folder / "s.prop").write_text(SPEC)
    return folder


@pytest.fixture(scope="module")
def training(home):
    """Trains for an objective once, in the folder of a run."""

    @functools.cache
    def run(objective):
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(home)
            return train("s.prop", objective, f"out/{objective}.keras", verbose=0)

    return run


@pytest.fixture
def trained(training):
    """What became of a training on bounds."""
    return training("o")


def log(folder):
    with (folder / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    keys = ("granularity", "val_abstraction_error", "val_verified_accuracy")
    return {key: [float(row[key]) for row in rows] for key in keys}


def saved(trained):
    """The sentence that says what was saved."""
    (found,) = (note for note in trained.notes if note.startswith("saved is"))
    return found


def test_the_log_has_the_descent_and_the_saved_model_is_of_the_epoch_with_most_verified(home, trained):
    seen = log(home / trained.folder)
    widths, verified = seen["granularity"], seen["val_verified_accuracy"]
    assert widths[0] == 0.2 and min(widths) < 0.2 and min(widths) >= 0.1
    best = int(np.argmax(verified))
    assert seen["val_abstraction_error"][best] > min(seen["val_abstraction_error"]) and len(set(verified)) > 1
    model = tfcert.load_model(home / trained.out)
    assert model.input_shape == (None, 4) and abstraction_of(model).granularity == widths[best]
    with np.load(home / "d.npz") as data:
        x, y = data["x_test"], data["y_test"]
    assert tfcert.abstraction_error(model, x, y).error == pytest.approx(seen["val_abstraction_error"][best])
    assert f"cells of width {widths[best]:g} on [-1, 1], tuned from 0.2" in saved(trained)
    kept = f"with the highest verified accuracy on the held-out samples, {verified[best]:.1%} (by ibp, numeric);"
    assert kept in saved(trained)


def test_where_bounds_are_not_trained_the_epoch_with_the_least_abstraction_error_is_saved(home, training):
    trained = training("paper")
    seen = log(home / trained.folder)
    best = int(np.argmin(seen["val_abstraction_error"]))
    assert len(set(seen["granularity"])) == len(set(seen["val_abstraction_error"])) == 2
    assert abstraction_of(tfcert.load_model(home / trained.out)).granularity == seen["granularity"][best]
    least = f"with the least abstraction error on the held-out samples, {seen['val_abstraction_error'][best]:.1%} ("
    assert least in saved(trained) and "no guarantee" in saved(trained)


def test_the_specification_accepts_the_tuned_model_and_proves_less_than_the_abstraction_error_claims(home, trained):
    report = verify(home / "s.prop", bindings={"clf": home / trained.out}, out=home / "verified", verbose=0)
    model = tfcert.load_model(home / trained.out)
    assert report.header["abstractions"]["ab"]["granularity"] == abstraction_of(model).granularity
    with np.load(home / "d.npz") as data:
        x, y = data["x_test"], data["y_test"]
        error = tfcert.abstraction_error(model, x, y, eps=0.05).error
        certified = tfcert.certify(model, x, y, eps=0.05, clip=(-1, 1), method="ibp")
    outcomes = np.array([record.outcome for record in report.records])
    assert (outcomes[certified.verified] == Outcome.VERIFIED).all()
    # Not what AbsCert calls verified: witnesses refute more than its figure admits.
    assert (outcomes == Outcome.FALSIFIED).mean() > error


def test_weights_are_drawn_afresh_but_cells_are_not(home):
    bound = bind_objective(load_spec(home / "s.prop", None, None), "o", {})
    before = bound.model.model.get_weights()
    after = starting_model(replace(bound, objective=replace(bound.objective, initialize="fresh"))).get_weights()
    kept = [name.path.split("/")[-1] for name, a, b in zip(bound.model.model.weights, before, after, strict=True)
            if np.array_equal(a, b)]  # fmt: skip
    assert {"edges", "granularity"} <= set(kept) and "kernel" not in kept


def test_explain_says_what_is_trained_and_how_its_granularity_falls(home):
    told = explain(load_file(home / "s.prop"))
    assert (
        "as: the classifier behind the abstraction `grid` (cells of width 0.2 on [-1, 1], or finer ones to 0.1" in told
    )
    assert "granularity: 0.03 less after every epoch, down to 0.1 or until gradients ask for wider cells" in told
    assert "that with the highest verified accuracy on the held-out samples is kept" in told.split("paper")[0]
    assert "that with the least abstraction error on the held-out samples is kept" in told.split("paper")[-1]


SEARCH = SPEC.replace("descend(step=0.03, floor=2*eps)", "search(step=0.05, floor=2*eps, stop_on_gradient=false)")


@pytest.fixture(scope="module")
def searched(home):
    """A search for the granularity that was interrupted in its second training, and then went on."""
    (home / "search.prop").write_text(SEARCH)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        begun = []

        def stop(order, batch, logs=None):
            begun.append((order.epoch, batch))
            if begun.count((1, 0)) == 2:
                raise KeyboardInterrupt

        patch.setattr(Order, "on_train_batch_end", stop)
        first = train("search.prop", "paper", "search.keras", verbose=0)
        patch.undo()
        patch.chdir(home)
        return first, train("search.prop", "paper", "search.keras", resume=first.folder, verbose=0)


def test_a_search_trains_each_granularity_from_scratch_and_saves_the_best(home, searched):
    first, last = searched
    assert (first.exit_code, last.exit_code) == (2, 0) and "go on with the same command" in first.notes[0]
    told = json.loads((home / last.folder / "training.json").read_text())["tuning"]
    assert (told["name"], told["figure"], told["selection"]) == ("search", "abstraction_error", "validation")
    assert [trial["granularity"] for trial in told["trials"]] == [0.2, 0.15, 0.1] and told["stopped"] == "floor"
    errors = [trial["abstraction_error"] for trial in told["trials"]]
    assert told["best"] == int(np.argmin(errors))
    model = tfcert.load_model(home / last.out)
    assert abstraction_of(model).granularity == told["trials"][told["best"]]["granularity"]
    with np.load(home / "d.npz") as data:  # the last tenth of the samples to train on selects
        assert tfcert.abstraction_error(model, data["x_train"][270:], data["y_train"][270:]).error == min(errors)
    assert any("AbsCert's Algorithm 3 (`tune: search`) trained 3 times from scratch" in note for note in last.notes)
    assert "with the least abstraction error on the validation samples" in saved(last)


def test_a_search_that_went_on_finds_what_one_at_a_stretch_finds(home, searched, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    whole = train(home / "search.prop", "paper", "whole.keras", verbose=0)
    found = [json.loads((f / "training.json").read_text())["tuning"] for f in (whole.folder, home / searched[1].folder)]
    for one, other in zip(*(told.pop("trials") for told in found), strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}
    assert found[0] == found[1]
    one, other = (tfcert.load_model(path).get_weights() for path in (tmp_path / whole.out, home / searched[1].out))
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


def test_explain_says_that_a_search_trains_from_scratch(home, searched):
    told = explain(load_file(home / "search.prop"))
    assert (
        "granularity: 0.05 less in each training, all from scratch (AbsCert's Algorithm 3), down to 0.1; that" in told
    )
    assert "the least certified error on the last tenth of the samples to train on is kept" in told.split("paper")[0]
