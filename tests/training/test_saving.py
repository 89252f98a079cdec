"""Saving, loading and resuming: everything goes on where it was."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from sweeps import sweep_but

import tfcert
from tfcert.objectives import (
    IBP,
    MTLIBP,
    AdvIBP,
    ConstrainedIBP,
    CrownIBP,
    DualLP,
    IntervalWidth,
    LossLandscapeMatters,
    ReluBalance,
    Tightness,
)
from tfcert.schedules import Ramp
from training.small import certified, dense_net

EPS = Ramp(0.0, 0.08, 1, 3)
KAPPA = Ramp(1.0, 0.5, 1, 3, shape="smooth")


@pytest.mark.parametrize(
    "objective",
    [
        IBP(EPS, kappa=KAPPA, clip=(0, 1), eps_factor=1.1, batch_norm="moving", elide=False),
        ConstrainedIBP(0.1, weight=0.3, layers="hidden", reduction="sum", regularizers=[Tightness(0.2), ReluBalance()]),
        CrownIBP(EPS, beta=Ramp(1, 0, 1, 3), fuse=False, clip=([0, 0], [1, 2]), regularizers=(IntervalWidth(2.0),)),
        DualLP(EPS, kappa=0.25, clip=(0, 1), regularizers=[Tightness(0.2)]),
        MTLIBP(0.1, alpha=0.2, attack_steps=4, attack_factor=0.5, seed=3),
        LossLandscapeMatters(0.1, kappa=Ramp(1, 0, 1, 3), seed=4),
        AdvIBP(0.1, kappa=Ramp(1, 0, 10, 20, "steps"), decay=0.5, attack_steps=3),
    ],
)
def test_objectives_survive_configurations(objective):
    objective.steps_per_epoch = 7.0
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(objective))
    assert type(again) is type(objective) and again.get_config() == objective.get_config()
    assert again.steps_per_epoch == 7.0


class Stop(keras.callbacks.Callback):
    """Ends training with an exception, as a kill would, after some steps."""

    def __init__(self, after):
        super().__init__()
        self.left = after

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            self.stop()

    def stop(self):
        raise KeyboardInterrupt


class Kill(Stop):
    """The same with a signal that no process can handle."""

    def stop(self):
        os.kill(os.getpid(), signal.SIGKILL)


class Seen(keras.callbacks.Callback):
    """The eps of each step."""

    def __init__(self):
        super().__init__()
        self.eps = []

    def on_train_batch_end(self, batch, logs=None):
        self.eps.append(float(logs["eps"]))


def model():
    return certified(dense_net(), IBP(EPS, kappa=KAPPA, clip=(0, 1)), optimizer=keras.optimizers.Adam(0.01))


def run(data, found, **options):
    seen = Seen()
    callbacks = [seen, *options.pop("callbacks", [])]
    found.fit(*data, batch_size=16, epochs=4, shuffle=False, verbose=0, callbacks=callbacks, **options)
    return seen.eps


def test_a_saved_model_is_loaded_with_its_objective_and_optimizer_and_goes_on(data, tmp_path):
    whole = model()
    straight = run(data, whole)
    half = model()
    half.fit(*data, batch_size=16, epochs=2, shuffle=False, verbose=0)
    half.save(tmp_path / "half.keras")
    for load in (tfcert.load_model, keras.models.load_model):
        again = load(tmp_path / "half.keras")
        assert type(again) is tfcert.CertifiedModel
        assert again.objective.get_config() == half.objective.get_config()
        np.testing.assert_array_equal(again.predict(data[0], verbose=0), half.predict(data[0], verbose=0))
    assert again.evaluate(*data, verbose=0) == half.evaluate(*data, verbose=0)
    assert run(data, again, initial_epoch=2) == straight[6:]
    for a, b in zip(again.model.weights, whole.model.weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_inner_model_is_saved_alone_and_shares_its_weights(data, tmp_path):
    inner = dense_net()
    wrapped = certified(inner, IBP(0.05))
    wrapped.fit(*data, verbose=0)
    assert wrapped.model is inner
    wrapped.model.save(tmp_path / "plain.keras")
    plain = keras.models.load_model(tmp_path / "plain.keras")
    assert type(plain) is keras.Sequential
    np.testing.assert_array_equal(plain.predict(data[0], verbose=0), wrapped.predict(data[0], verbose=0))


KILLED = """
import sys
import keras
import numpy as np
from training.test_saving import Kill, model, run
backup = keras.callbacks.BackupAndRestore(sys.argv[2], save_freq=1)
run([np.load(sys.argv[1])[k] for k in "xy"], model(), callbacks=[backup, Kill(after=5)])
"""


def interrupted(data, folder):
    with pytest.raises(KeyboardInterrupt):
        run(data, model(), callbacks=[keras.callbacks.BackupAndRestore(str(folder), save_freq=1), Stop(after=5)])


def killed(data, folder):
    np.savez(folder / "data.npz", x=data[0], y=data[1])
    command = [sys.executable, "-c", KILLED, str(folder / "data.npz"), str(folder)]
    path = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    child = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False)
    assert child.returncode == -signal.SIGKILL, child.stderr


@pytest.mark.parametrize("end", sweep_but([killed], [interrupted, killed]))
def test_a_run_that_is_stopped_in_mid_epoch_resumes_with_its_schedules_where_they_were(data, tmp_path, end):
    straight = run(data, model())
    end(data, tmp_path)
    resumed = model()  # a new process builds everything anew
    eps = run(data, resumed, callbacks=[keras.callbacks.BackupAndRestore(str(tmp_path), save_freq=1)])
    # Keras begins the interrupted epoch again: 5 steps are done, and epochs 2 to 4 have 9.
    assert eps[:7] == straight[5:]
    assert int(resumed.optimizer.iterations) == 14


def test_checkpoints_of_weights_and_of_models_are_loaded(data, tmp_path):
    checkpoints = [
        keras.callbacks.ModelCheckpoint(
            tmp_path / "best.keras", monitor="val_ibp_verified_accuracy", save_best_only=True
        ),
        keras.callbacks.ModelCheckpoint(tmp_path / "last.weights.h5", save_weights_only=True),
    ]
    wrapped = model()
    run(data, wrapped, validation_data=data, callbacks=checkpoints)
    assert checkpoints[0].monitor_op is keras.ops.greater
    other = model()
    other.load_weights(tmp_path / "last.weights.h5")
    assert other.steps_taken == wrapped.steps_taken == 12  # schedules go on
    np.testing.assert_array_equal(other.predict(data[0], verbose=0), wrapped.predict(data[0], verbose=0))
    best = tmp_path / "best.keras"
    assert type(tfcert.load_model(best)) is tfcert.CertifiedModel and not tfcert.load_model(best).compiled
    assert tfcert.load_model(best, compile=True).objective.get_config() == wrapped.objective.get_config()


def test_another_optimizer_goes_on_with_the_schedules_and_is_saved_so(data, tmp_path):
    wrapped = model()
    straight = run(data, model())
    wrapped.fit(*data, batch_size=16, epochs=2, shuffle=False, verbose=0)
    wrapped.compile(keras.optimizers.SGD(0.01))
    assert wrapped.steps_taken == 6 and int(wrapped.optimizer.iterations) == 0
    wrapped.save(tmp_path / "half.keras")
    again = keras.models.load_model(tmp_path / "half.keras")
    for found in (wrapped, again):
        assert run(data, found, initial_epoch=2) == straight[6:]
    again.compile(again.optimizer)
    assert again.steps_taken == 12


def test_weights_without_steps_are_said_to_begin_the_schedules(tmp_path):
    wrapped = model()
    wrapped.model.save_weights(tmp_path / "inner.weights.h5")
    fresh = tfcert.CertifiedModel(dense_net(), IBP(0.05))
    fresh.save_weights(tmp_path / "uncompiled.weights.h5")
    with pytest.warns(UserWarning, match="schedules of the objective begin at their start: set steps_before"):
        wrapped.load_weights(tmp_path / "uncompiled.weights.h5")
    wrapped.steps_before = 6
    assert wrapped.steps_taken == 6
