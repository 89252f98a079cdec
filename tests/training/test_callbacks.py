"""Callbacks find and write what they promise, in any order."""

import csv
import itertools
import sys
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfcert
from tfcert.callbacks import CertifiedEvaluation, IntervalWidths, ObjectiveScheduler
from tfcert.objectives import IBP
from tfcert.schedules import Ramp
from training.small import Intervals, certified, dense_net

OBJECTIVE = IBP(Ramp(0.0, 0.03, 1, 2), kappa=Ramp(1.0, 0.5, 1, 2), clip=(0, 1))
KEYS = ["val_attack_accuracy", "val_nominal_accuracy", "val_verified_accuracy"]


@pytest.fixture
def model():
    return certified(dense_net(), OBJECTIVE, optimizer=keras.optimizers.Adam(0.05))


def test_certified_evaluation_writes_what_certification_and_attacks_find(model, data):
    x, y = data
    evaluation = CertifiedEvaluation((x, np.eye(3)[y]), method="crown", attack={"method": "pgd", "steps": 5}, limit=40)
    history = model.fit(x, y, epochs=3, verbose=0, callbacks=[evaluation]).history
    x, y = x[:40], y[:40]
    right = model.predict(x, verbose=0).argmax(axis=1) == y
    verified = tfcert.certify(model, x, y, eps=0.03, clip=(0, 1), method="crown").verified
    attacked = tfcert.attack(model.model, x, y, eps=0.03, clip=(0, 1), steps=5).success
    assert history["val_nominal_accuracy"][-1] == right.mean()
    assert history["val_verified_accuracy"][-1] == verified.mean()
    assert history["val_attack_accuracy"][-1] == (right & ~attacked).mean()
    assert 0 < verified.mean() <= (right & ~attacked).mean() <= right.mean()


@pytest.mark.parametrize("order", list(itertools.permutations(range(4)))[::5])
def test_readers_see_what_is_written_whatever_the_order(data, tmp_path, order):
    """A fit of no training to speak of: what counts is who is called when."""
    x, y = data
    early = keras.callbacks.EarlyStopping("val_verified_accuracy", patience=9)
    best = keras.callbacks.ModelCheckpoint(tmp_path / "b.weights.h5", "val_verified_accuracy", save_weights_only=True)
    rows = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    callbacks = [early, rows, CertifiedEvaluation((x, y), method="ibp", limit=8), best]
    Cheap.shared().fit(x[:16], y[:16], epochs=1, verbose=0, callbacks=[callbacks[i] for i in order])
    with open(tmp_path / "log.csv") as file:
        (row,) = csv.DictReader(file)
    assert float(row["val_verified_accuracy"]) == early.best
    assert early.monitor_op is keras.ops.greater
    assert (tmp_path / "b.weights.h5").exists()


class Cheap:
    """One model for the tests above: each fit would trace it anew."""

    _model = None

    @classmethod
    def shared(cls):
        if cls._model is None:
            cls._model = certified(dense_net(), IBP(0.03))
        return cls._model


def test_epochs_that_are_not_evaluated_show_nothing_measured_and_the_readers_go_on(model, data, tmp_path):
    evaluation = CertifiedEvaluation(data, method="ibp", every=3, attack="fgsm")
    counted = []
    inner = evaluation.evaluate
    evaluation.evaluate = lambda: counted.append(1) or inner()
    key = "val_verified_accuracy"
    readers = [
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
        keras.callbacks.EarlyStopping(key, patience=9, restore_best_weights=True),
        keras.callbacks.ModelCheckpoint(tmp_path / f"{{epoch}}-{{{key}:.2f}}.keras", key, save_best_only=True),
        keras.callbacks.ReduceLROnPlateau(key, patience=9, mode="max"),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        history = model.fit(*data, epochs=5, verbose=0, callbacks=[*readers, evaluation]).history
    assert len(counted) == 3  # epochs 1, 3 and 5
    with open(tmp_path / "log.csv") as file:
        found = list(csv.DictReader(file))
    assert [key for key in found[0] if key.startswith("val")] == KEYS
    for name in KEYS:
        assert np.isnan(history[name]).tolist() == [False, True, False, True, False]
        assert [row[name] for row in found] == [str(value) for value in history[name]]
    assert readers[1].best == np.nanmax(history[key])
    assert {path.name[0] for path in tmp_path.glob("*.keras")} <= {"1", "3", "5"}


def test_early_stopping_by_mode_auto_stops_when_verified_accuracy_falls(model, data):
    fixed = iter([0.2, 0.5, 0.4, 0.3, 0.9])
    evaluation = CertifiedEvaluation(data)
    evaluation.evaluate = lambda: {"val_verified_accuracy": next(fixed)}
    early = keras.callbacks.EarlyStopping("val_verified_accuracy", patience=2)
    history = model.fit(*data, epochs=5, verbose=0, callbacks=[early, evaluation]).history
    assert history["val_verified_accuracy"] == [0.2, 0.5, 0.4, 0.3]


def test_validation_data_and_evaluations_have_names_of_their_own_and_both_serve_early_stopping(model, data):
    own = keras.callbacks.EarlyStopping("val_ibp_verified_accuracy", patience=1)
    other = keras.callbacks.EarlyStopping("val_verified_accuracy", patience=1)
    evaluation = CertifiedEvaluation(data, eps="3/500", method="crown")
    callbacks = [own, other, evaluation]
    history = model.fit(*data, epochs=1, verbose=0, validation_data=data, callbacks=callbacks).history
    assert own.monitor_op is other.monitor_op is keras.ops.greater
    for key, eps, method in (("val_ibp_verified_accuracy", 0.03, "ibp"), ("val_verified_accuracy", 0.006, "crown")):
        verified = tfcert.certify(model.model, *data, eps=eps, clip=(0, 1), method=method).verified
        np.testing.assert_allclose(history[key], [verified.mean()], atol=1e-6)
    assert history["val_ibp_verified_accuracy"] != history["val_verified_accuracy"]
    assert "verified_accuracy" in model.evaluate(*data, verbose=0, return_dict=True)


def test_evaluation_of_any_model_by_a_data_set(data):
    plain = dense_net()
    plain.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    pipeline = tf.data.Dataset.from_tensor_slices(data).batch(5)
    evaluation = CertifiedEvaluation(pipeline, eps=0.01, limit=12)
    history = plain.fit(*data, verbose=0, callbacks=[evaluation]).history
    verified = tfcert.certify(plain, data[0][:12], data[1][:12], eps=0.01, method="crown-ibp").verified
    assert history["val_verified_accuracy"] == [verified.mean()]
    with pytest.raises(ValueError, match="give CertifiedEvaluation an eps"):
        plain.fit(*data, verbose=0, callbacks=[CertifiedEvaluation(data)])


def test_the_scheduler_publishes_the_numbers_of_the_last_step(model, data, capsys):
    history = model.fit(*data, batch_size=16, epochs=3, verbose=0).history
    again = certified(dense_net(), OBJECTIVE)
    published = again.fit(*data, batch_size=16, epochs=3, verbose=0, callbacks=[ObjectiveScheduler(verbose=1)]).history
    assert published["eps"] == history["eps"] and published["kappa"] == history["kappa"]
    np.testing.assert_allclose(published["eps"], [0, 0.02, 0.03], rtol=1e-6)
    assert "eps 0.03, kappa 0.5" in capsys.readouterr().out


def test_interval_widths_are_written_for_tensorboard(model, data, tmp_path):
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    widths = IntervalWidths(data, tmp_path, limit=30)
    model.fit(*data, epochs=2, verbose=0, callbacks=[widths])
    events = loader.EventAccumulator(str(tmp_path), size_guidance={"tensors": 0})
    events.Reload()
    names = [model.network.nodes[i].name for i in widths.widths()]
    assert set(events.Tags()["tensors"]) == {
        *(f"interval_width/{name}" for name in [*names, "total"]),
        *(f"interval_widths/{name}" for name in names),
    }
    exact = Intervals(model.model, data[0][:30], 0.03, (0, 1))
    pairs = [exact.affine, exact.hidden, exact.logits]
    for name, (lower, upper) in zip(names, pairs, strict=True):
        last = tf.make_ndarray(events.Tensors(f"interval_width/{name}")[-1].tensor_proto)
        np.testing.assert_allclose(last, (upper - lower).mean(), rtol=1e-4)
    total = tf.make_ndarray(events.Tensors("interval_width/total")[-1].tensor_proto)
    np.testing.assert_allclose(total, sum(((u - low) ** 2).mean() for low, u in pairs[:2]), rtol=1e-4)


def test_interval_widths_are_in_history_and_csv_without_tensorboard(model, data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)  # importing it raises ImportError
    widths = IntervalWidths(data, limit=30)
    rows = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    history = model.fit(*data, epochs=2, verbose=0, callbacks=[rows, widths]).history
    exact = Intervals(model.model, data[0][:30], 0.03, (0, 1))
    pairs = [exact.affine, exact.hidden, exact.logits]
    names = [f"interval_width/{model.network.nodes[i].name}" for i in widths.widths()]
    for name, (lower, upper) in zip(names, pairs, strict=True):
        np.testing.assert_allclose(history[name][-1], (upper - lower).mean(), rtol=1e-4)
    total = sum(((upper - lower) ** 2).mean() for lower, upper in pairs[:2])
    np.testing.assert_allclose(history["interval_width/total"][-1], total, rtol=1e-4)
    with open(tmp_path / "log.csv") as file:
        found = list(csv.DictReader(file))
    for name in (*names, "interval_width/total"):
        assert [float(row[name]) for row in found] == history[name]
    alone = model.fit(*data, epochs=1, verbose=0, callbacks=[IntervalWidths(data, layers=False)]).history
    assert [key for key in alone if key.startswith("interval_width")] == ["interval_width/total"]
    with pytest.raises(ImportError, match="leave log_dir out"):
        model.fit(*data, verbose=0, callbacks=[IntervalWidths(data, tmp_path)])


def test_interval_widths_take_the_samples_first():
    with pytest.raises(TypeError, match="samples first"):
        IntervalWidths("logs", (np.zeros((2, 4)), np.zeros(2)))


def test_callbacks_that_need_a_certified_model_say_so(data):
    plain = dense_net()
    plain.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    for callback in (ObjectiveScheduler(), IntervalWidths(data)):
        with pytest.raises(ValueError, match="CertifiedModel"):
            plain.fit(*data, verbose=0, callbacks=[callback])


@pytest.mark.parametrize("options", [{"every": 0}, {"limit": 0}])
def test_evaluations_that_never_happen_are_refused(data, options):
    with pytest.raises(ValueError, match="at least 1"):
        CertifiedEvaluation(data, **options)
    with pytest.raises(ValueError, match="48 samples need 48 labels"):
        CertifiedEvaluation((data[0], data[1][:3]))
