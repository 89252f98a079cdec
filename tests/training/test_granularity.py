"""Granularity tuning keeps the best, stops where gradients say so, is exact, and can be interrupted and resumed."""

import csv
import math
from fractions import Fraction

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcert
from tfcert.callbacks import CertifiedEvaluation, GranularityTuner
from tfcert.layers import IntervalAbstraction
from tfcert.objectives import IBP
from tfcert.report import figures
from tfcert.training import granularity as tuning
from tfcert.training import tuner
from tfcert.training.abstraction import EndGradients, end_gradients
from tfcert.training.granularity import granularities
from training.small import certified

pytestmark = pytest.mark.usefixtures("eager")  # that compiled models see new cells is tested elsewhere
WIDER, FINER = EndGradients(upper=-1.0, lower=1.0), EndGradients(upper=1.0, lower=1.0)


def build(granularity, finest=None, seed=0):
    keras.utils.set_random_seed(seed)
    layers = [IntervalAbstraction(granularity, (0, 1), finest), L.Dense(6, activation="relu"), L.Dense(3)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile(keras.optimizers.Adam(0.05), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


# From scratch


def test_granularities_are_the_decimals_that_were_meant():
    found = list(granularities(eps=0.1, start=0.4, step=0.01))
    assert found == [Fraction(k, 100) for k in range(40, 19, -1)]
    assert [float(d) for d in found[:3]] == [0.4, 0.39, 0.38] and float(found[-1]) == 0.2
    pixels = [float(d) for d in granularities(eps=1 / 255, start=8 / 255, step=2 / 255)]
    assert pixels == [8 / 255, 6 / 255, 4 / 255, 2 / 255]
    assert list(granularities(eps=0.1, start=0.4, step=0.15)) == [Fraction(2, 5), Fraction(1, 4)]
    assert list(granularities(eps=0.1, start=0.4, step=0.1, floor=0.3)) == [Fraction(2, 5), Fraction(3, 10)]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"step": 0.0}, "step must be"),
        ({"step": -0.1}, "step must be"),
        ({"eps": 0.0}, "eps must be"),
        ({"start": math.nan}, "start must be"),
        ({"start": 0.1}, "already below its floor 0.2"),
        ({"floor": 0.19}, "floor 0.19 is below 2 \\* eps = 0.2"),
    ],
)
def test_a_search_that_cannot_be_is_refused_before_anything_is_trained(options, match, data):
    with pytest.raises(ValueError, match=match):
        tfcert.tune_granularity(None, *data, **({"eps": 0.1, "start": 0.4, "step": 0.1} | options))


@pytest.fixture
def asked(monkeypatch):
    """The samples of which gradients were taken; none asks for wider cells."""
    seen = []
    for module in (tuning, tuner):
        monkeypatch.setattr(module, "end_gradients", lambda model, x, y: seen.append((x, y)) or FINER)
    return seen


def test_each_granularity_is_trained_anew_and_the_least_abstraction_error_on_held_out_samples_is_kept(data, asked):
    x, y = data
    built = []

    def remember(granularity):
        built.append(build(granularity, seed=len(built)))
        return built[-1]

    found = tfcert.tune_granularity(
        remember, x, y, eps=0.05, start=0.5, step=0.2, validation_split=0.25, fit={"epochs": 3}, verbose=0
    )
    assert [trial.granularity for trial in found.curve] == [0.5, 0.3, 0.1] and found.stopped == "floor"
    for model, trial, seen in zip(built, found.curve, asked, strict=True):
        assert model.layers[0].granularity == trial.granularity
        held_out = tfcert.abstraction_error(model, x[36:], y[36:]).error
        verified = tfcert.certify(model, x[36:], y[36:], eps=0.05, method="ibp").verified
        assert trial.abstraction_error == held_out
        assert trial.certified_error == (~verified).mean() and trial.certified_error >= held_out
        assert model.optimizer.iterations == 3 * 2 and trial.loss > 0 and trial.seconds > 0  # 36 samples by 32
        np.testing.assert_array_equal(seen[0], x[:36])
    errors = [trial.abstraction_error for trial in found.curve]
    assert found.best == int(np.argmin(errors)) and found.model is built[found.best]
    assert found.granularity == found.curve[found.best].granularity


def test_a_search_with_a_folder_goes_on_after_the_trials_that_it_holds(data, asked, tmp_path):
    options = {"eps": 0.05, "start": 0.5, "step": 0.2, "fit": {"epochs": 1}, "verbose": 0, "certified": False}
    whole = tfcert.tune_granularity(build, *data, **options)
    trained = []

    def stopping(granularity):
        trained.append(granularity)
        if len(trained) == 3:
            raise KeyboardInterrupt
        return build(granularity)

    first = tfcert.tune_granularity(stopping, *data, folder=tmp_path / "search", **options)
    assert first.stopped == "interrupted" and len(first.curve) == 2
    last = tfcert.tune_granularity(stopping, *data, folder=tmp_path / "search", **options)
    assert trained[3:] in ([whole.curve[first.best].granularity, 0.1], [0.1]) and last.stopped == "floor"
    assert [t.abstraction_error for t in last.curve] == [t.abstraction_error for t in whole.curve]
    for a, b in zip(last.model.get_weights(), whole.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="holds a search with other arguments"):
        tfcert.tune_granularity(build, *data, folder=tmp_path / "search", **{**options, "step": 0.1})


def test_of_equal_errors_the_first_is_kept(data, asked):
    found = tfcert.tune_granularity(
        lambda d: certified(zero_net(d), IBP(0.05)), *data, eps=0.05, start=0.4, step=0.2, fit={"epochs": 1},
        certified={"method": "crown", "clip": (0, 1)}, verbose=0,
    )  # fmt: skip
    assert [trial.abstraction_error for trial in found.curve] == [1.0] * 2  # all outputs tie
    assert [trial.certified_error for trial in found.curve] == [1.0] * 2
    assert found.best == 0 and found.granularity == 0.4


def zero_net(granularity):
    """All outputs are 0, and no gradient moves them."""
    model = keras.Sequential([keras.Input((4,)), IntervalAbstraction(granularity), L.Dense(3, trainable=False)])
    model.layers[1].set_weights([np.zeros((8, 3)), np.zeros(3)])
    return model


def test_it_stops_where_the_loss_falls_as_cells_grow_and_says_so(data, monkeypatch, capsys):
    answers = iter([FINER, WIDER])
    monkeypatch.setattr(tuning, "end_gradients", lambda *_: next(answers))
    options = {"eps": 0.05, "start": 0.5, "step": 0.1, "fit": {"epochs": 1}, "certified": False}
    found = tfcert.tune_granularity(build, *data, **options)
    assert [trial.granularity for trial in found.curve] == [0.5, 0.4] and found.stopped == "gradient"
    assert all(math.isnan(trial.certified_error) for trial in found.curve)
    assert "stopped because the loss falls as cells grow" in str(found) and "no guarantee" in str(found)
    assert capsys.readouterr().out.splitlines() == str(found).replace("  best", "").splitlines()[:3]
    answers = iter([WIDER, WIDER])
    found = tfcert.tune_granularity(build, *data, **(options | {"step": 0.3, "stop_on_gradient": False, "verbose": 0}))
    assert [trial.granularity for trial in found.curve] == [0.5, 0.2] and found.stopped == "floor"


def test_gradients_are_those_of_the_samples_of_training(data):
    x, y = data
    found = tfcert.tune_granularity(
        build, x, y, eps=0.1, start=0.2, step=0.1, validation_split=0.5, fit={"epochs": 2}, verbose=0
    )
    assert found.curve[0].gradients == end_gradients(found.model, x[:24], y[:24])


def test_selection_on_the_test_set_trains_on_everything(data, asked):
    x, y = data
    test = x[:5], np.array([0, 1, 2, 0, 1])
    fits = []

    def fit(granularity):
        fits.append(granularity)
        return {"epochs": 1, "batch_size": 8}

    found = tfcert.tune_granularity(
        build, x, y, eps=0.1, start=0.3, step=0.1, selection="test", test=test, fit=fit, verbose=0
    )
    assert fits == [0.3, 0.2] and len(asked[0][0]) == 48 and found.model.optimizer.iterations == 6
    assert found.curve[found.best].abstraction_error == tfcert.abstraction_error(found.model, *test).error
    assert "errors on the test samples" in str(found)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"selection": "best"}, "must be one of validation, test"),
        ({"selection": "test"}, r"give test=\(x, y\)"),
        ({"test": (1, 2)}, r"give test=\(x, y\)"),
        ({"validation_split": 0.0}, "between 0 and 1"),
        ({"validation_split": 0.001}, "leaves none on one side"),
    ],
)
def test_a_selection_without_its_samples_is_refused(options, match, data):
    with pytest.raises(ValueError, match=match):
        tfcert.tune_granularity(None, *data, eps=0.1, start=0.4, step=0.1, **options)


def test_a_model_of_another_granularity_is_refused(data):
    with pytest.raises(ValueError, match=r"build\(0.4\) returned a model .* 0.3"):
        tfcert.tune_granularity(lambda d: build(0.3), *data, eps=0.1, start=0.4, step=0.1, verbose=0)


class Interrupt(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        raise KeyboardInterrupt


def test_an_interruption_keeps_what_was_found(data, asked):
    def fit(after):
        return lambda d: {"epochs": 1, "callbacks": [Interrupt()] if d < after else []}

    options = {"eps": 0.05, "start": 0.5, "step": 0.1, "verbose": 0}
    found = tfcert.tune_granularity(build, *data, fit=fit(0.4), **options)
    assert found.stopped == "interrupted" and [t.granularity for t in found.curve] == [0.5, 0.4]
    assert found.model.layers[0].granularity == found.granularity and "was interrupted" in str(found)
    with pytest.raises(KeyboardInterrupt):
        tfcert.tune_granularity(build, *data, fit=fit(1.0), **options)


def test_the_curve_is_drawn_with_and_without_certified_errors(tmp_path):
    pytest.importorskip("matplotlib")
    for name, errors in (("a", (0.9, 0.8)), ("b", (math.nan, math.nan))):
        curve = [tuning.Trial(d, 0.1, 0.2, e, FINER, 1.0) for d, e in zip((0.4, 0.3), errors, strict=True)]
        figures.draw_granularities(tmp_path / "f" / f"{name}.png", "tuning", curve)
        assert (tmp_path / "f" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


# While training


def run(model, data, callback, epochs, **options):
    callbacks = [callback, *options.pop("more", [])]
    return model.fit(*data, batch_size=48, epochs=epochs, shuffle=False, verbose=0, callbacks=callbacks)


def test_cells_become_finer_every_so_many_epochs_down_to_the_floor(data, asked):
    callback = GranularityTuner(data, eps=0.1, step=0.1, every=2)
    model = build(0.4, finest=0.2)
    callback.on_train_end = lambda logs=None: None
    history = run(model, data, callback, 8).history
    assert history["granularity"] == [0.4, 0.4, 0.3, 0.3, 0.2, 0.2, 0.2, 0.2]
    assert model.layers[0].granularity == 0.2
    assert history["val_abstraction_error"][-1] == tfcert.abstraction_error(model, *data).error


class Watch(keras.callbacks.Callback):
    """The granularity, the abstraction error and the weights at the end of each epoch."""

    def __init__(self, data):
        super().__init__()
        self.data, self.seen = data, []

    def on_epoch_end(self, epoch, logs=None):
        found = tfcert.abstraction_error(self.model, *self.data)
        self.seen.append((found.granularity, found.error, self.model.get_weights()))


@pytest.mark.parametrize("wrapped", [False, True])
def test_the_best_weights_and_their_granularity_are_restored(data, asked, wrapped):
    model = build(0.4, finest=0.1)
    if wrapped:
        model = certified(model, IBP(0.05), optimizer=keras.optimizers.Adam(0.05))
    callback, watch = GranularityTuner(data, eps=0.05, step=0.1), Watch(data)
    history = run(model, data, callback, 4, more=[watch]).history
    assert history["granularity"] == [seen[0] for seen in watch.seen] == [0.4, 0.3, 0.2, 0.1]
    assert history["val_abstraction_error"] == [seen[1] for seen in watch.seen]
    best = int(np.argmin(history["val_abstraction_error"]))
    assert callback.best == watch.seen[best][:2]
    for found, expected in zip(model.get_weights(), watch.seen[best][2], strict=True):
        np.testing.assert_array_equal(found, expected)
    assert tfcert.abstraction_error(model, *data).granularity == callback.best[0]


class Written(keras.callbacks.Callback):
    """Writes one figure an epoch."""

    def __init__(self, key, values):
        super().__init__()
        self.key, self.values = key, values

    def on_epoch_end(self, epoch, logs=None):
        logs[self.key] = self.values[epoch]


def test_another_figure_decides_what_is_best_if_the_logs_have_it(data, asked):
    key = "val_verified_accuracy"
    figure = Written(key, [0.1, 0.6, 0.3, 0.6])
    callback, watch = GranularityTuner(data, eps=0.05, step=0.1, monitor=key), Watch(data)
    model = build(0.4, finest=0.1)
    with pytest.raises(ValueError, match=f"'{key}', which the logs do not have: .*granularity"):
        run(model, data, callback, 1, more=[figure])
    run(model, data, figure, 4, more=[callback, watch])
    assert callback.best == (watch.seen[1][0], figure.values[1])
    for found, expected in zip(model.get_weights(), watch.seen[1][2], strict=True):
        np.testing.assert_array_equal(found, expected)


def test_the_end_of_a_key_tells_what_is_better_and_mode_says_so_of_any(data):
    def better(monitor, mode="auto"):
        return GranularityTuner(data, eps=0.05, step=0.1, monitor=monitor, mode=mode).best[1]

    for key in ("val_verified_accuracy", "val_acc", "certified_radius"):
        assert better(key) == better("val_margin", "max") == better("val_loss", "max") == -math.inf
    for key in ("val_loss", "val_abstraction_error"):
        assert better(key) == better("val_margin", "min") == better("val_accuracy", "min") == math.inf
    with pytest.raises(ValueError, match=r"'val_margin' does not tell .*: give mode='max' if it is, or mode='min'"):
        better("val_margin")
    with pytest.raises(ValueError, match="mode must be auto, min or max, not 'best'"):
        better("val_loss", "best")


def test_gradients_of_the_samples_of_training_end_the_descent_for_good(data, monkeypatch):
    answers, seen = iter([FINER, WIDER]), []
    monkeypatch.setattr(tuner, "end_gradients", lambda model, x, y: seen.append(x) or next(answers))
    callback = GranularityTuner(data, eps=0.05, step=0.1, train=(data[0][:7], data[1][:7]))
    history = run(build(0.5, finest=0.1), data, callback, 5).history
    assert history["granularity"] == [0.5, 0.4, 0.4, 0.4, 0.4] and callback.stopped
    assert [len(x) for x in seen] == [7, 7]


def test_what_others_evaluate_and_save_after_an_epoch_has_the_granularity_of_that_epoch(data, asked, tmp_path):
    model = certified(build(0.4, finest=0.2), IBP(0.05))
    callbacks = [
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
        keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.weights.h5", save_weights_only=True),
        CertifiedEvaluation(data, eps=0.05, method="ibp"),
    ]
    run(model, data, GranularityTuner(data, eps=0.1, step=0.1), 3, more=callbacks)
    with open(tmp_path / "log.csv") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["granularity"]) for row in rows] == [0.4, 0.3, 0.2]
    again = certified(build(0.4, finest=0.2), IBP(0.05))
    for epoch, row in enumerate(rows, 1):
        again.load_weights(tmp_path / f"{epoch}.weights.h5")
        assert again.model.layers[0].granularity == float(row["granularity"])
        assert tfcert.abstraction_error(again, *data).error == float(row["val_abstraction_error"])
        verified = tfcert.certify(again.model, *data, eps=0.05, method="ibp").verified
        assert verified.mean() == pytest.approx(float(row["val_verified_accuracy"]))


def test_a_run_that_is_stopped_between_epochs_goes_on_with_its_granularity(data, asked, tmp_path):
    def fit(model, more=()):
        callback = GranularityTuner(data, eps=0.05, step=0.1)
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
        return run(model, data, callback, 5, more=[backup, *more]).history["granularity"]

    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(build(0.5, finest=0.1), [Stop()])
    assert fit(build(0.5, finest=0.1)) == [0.3, 0.2, 0.1]


def test_a_tuner_that_cannot_tune_says_so(data):
    with pytest.raises(ValueError, match=r"make it with finest=0\.2"):
        run(build(0.4), data, GranularityTuner(data, eps=0.1, step=0.1), 1)
    with pytest.raises(ValueError, match="no IntervalAbstraction"):
        plain = keras.Sequential([keras.Input((4,)), L.Dense(3)])
        plain.compile("sgd", "mse")
        run(plain, data, GranularityTuner(data, eps=0.1, step=0.1), 1)
    for options in ({"eps": 0.0}, {"step": 0.0}, {"every": 0}, {"limit": 0}, {"floor": 0.1}):
        with pytest.raises(ValueError, match=r"must be|below 2"):
            GranularityTuner(data, **({"eps": 0.1, "step": 0.1} | options))
