"""``tfcert train``, from a specification to a model that is verified; interrupted, killed and resumed."""

from __future__ import annotations

import csv
import importlib.util
import json
import signal
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

import tfcert
from tfcert.cli.main import main
from tfcert.driver.bind import load_spec
from tfcert.driver.train.bind import bind_objective
from tfcert.driver.train.build import certified_model, starting_model
from tfcert.driver.train.order import Order
from tfcert.driver.train.run import Backup
from tfcert.driver.train.start import TrainingFolder
from tfcert.errors import JournalError
from tfcert.training.constancy import constant_since
from tfcert.training.schedules import Constant, Ramp, loaded
from tfcert.verdict import Outcome

SPEC = """\
prop 1
param eps: real in [0, 1] = 0.05
model clf = keras("clf.keras") {{ outputs: logits }}
dataset test = npz("test.npz") {{ range: [0, 10] {space} }}
dataset more = npz("more.npz") {{ range: [0, 10] {space} }}
strategy plan = ibp
property robust(x, y in test) using plan {{
  forall z in ball(x, linf, eps) within [0, 1] in unit: argmax(clf(z)) == y
}}
objective o for robust {{
  train: more bound: ibp eps: ramp(0 -> eps, epochs 1..3) epochs: 4 batch: 16 seed: 7 verify_every: 2
  learning_rate: decay(1e-2, factor=0.5, epochs=[3]) attack: pgd(steps=3, restarts=1)
}}
"""
PLAIN = "scale: 1/10"
CHANNELS = "scale: 1/10 normalize: { mean: [0.5, 0.4, 0.3, 0.2] std: [0.5, 0.25, 0.2, 0.1] }"


@pytest.fixture(scope="module")
def home(tmp_path_factory, classifier) -> Path:
    """A folder with a model, 64 samples of its own opinion to train on, and 20 to hold out."""
    folder = tmp_path_factory.mktemp("fitting")
    classifier.save(folder / "clf.keras")
    x = np.random.default_rng(2).random((84, 4)).astype(np.float32)
    y = np.asarray(classifier(x)).argmax(axis=1)
    np.savez(folder / "more.npz", x=10 * x[:64], y=y[:64])
    np.savez(folder / "test.npz", x=10 * x[64:], y=y[64:])
    (folder / "s.prop").write_text(SPEC.format(space=PLAIN))
    (folder / "channels.prop").write_text(SPEC.format(space=CHANNELS))
    return folder


def train(home: Path, *more: str, spec: str = "s.prop", out: str = "m.keras") -> int:
    """Runs the command line in the current folder."""
    return main(["train", str(home / spec), "--objective", "o", "--out", out, "-q", *more])


@pytest.fixture(scope="module")
def trained(home, tmp_path_factory) -> Path:
    """The folder in which a training ran to its end without a pause."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert train(home) == 0
    return folder


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def rows(folder: Path, run: str = "train-s-o") -> list[dict[str, str]]:
    """The log of a run."""
    with (folder / "out" / run / "log.csv").open() as file:
        return list(csv.DictReader(file))


def test_the_trained_model_is_a_plain_one_and_the_run_keeps_log_and_curves(trained):
    model = keras.models.load_model(trained / "m.keras")
    assert type(model) is keras.Sequential
    run = trained / "out" / "train-s-o"
    assert {path.name for path in run.iterdir()} >= {"log.csv", "training.json"}
    assert not (run / "backup").exists()
    assert [int(row["epoch"]) for row in rows(trained)] == [0, 1, 2, 3]
    # 4 steps an epoch: the last step of the first three epochs is the 4th, 8th and 12th; the ramp is from 4 to 12.
    assert [float(row["eps"]) for row in rows(trained)] == pytest.approx([0, 0.05 * 3 / 8, 0.05 * 7 / 8, 0.05])
    if tfcert.report.figures.available():
        assert (run / "figures" / "training.png").is_file()


def test_what_the_log_says_of_held_out_samples_is_what_certify_and_verify_say_of_the_saved_model(home, trained):
    model = tfcert.load_model(trained / "m.keras")
    with np.load(home / "test.npz") as data:
        x, y = (data["x"].astype(np.float64) / 10).astype(np.float32), data["y"]
    found = tfcert.certify(model, x, y, eps=0.05, clip=(0, 1), method="ibp")
    last = rows(trained)[-1]
    assert float(last["val_verified_accuracy"]) == pytest.approx(found.verified.mean())
    assert float(last["val_nominal_accuracy"]) == pytest.approx((np.asarray(model(x)).argmax(axis=1) == y).mean())
    report = tfcert.verify(home / "s.prop", bindings={"clf": trained / "m.keras"}, verbose=0, out="verified")
    verified = sum(record.outcome is Outcome.VERIFIED for record in report.records)
    assert float(last["val_verified_accuracy"]) == pytest.approx(verified / len(y))


def test_a_training_that_is_interrupted_and_then_killed_ends_as_one_that_is_not(home, trained, monkeypatch, capsys):
    def stop_at(epoch: int, error: type[BaseException]) -> None:
        def batch_end(order: Order, batch: int, logs: object = None) -> None:
            if (order.epoch, batch) == (epoch, 1):
                raise error

        monkeypatch.setattr(Order, "on_train_batch_end", batch_end)

    run = Path("out", "train-s-o")
    stop_at(1, KeyboardInterrupt)
    assert train(home) == 2
    assert f"--resume {run}" in capsys.readouterr().out and not Path("m.keras").exists()
    stop_at(3, RuntimeError)
    assert train(home, "--resume", str(run)) == 3
    stop_at(9, RuntimeError)
    capsys.readouterr()
    assert train(home, "--resume", str(run)) == 0
    assert "trained the last 1 epoch in" in capsys.readouterr().out
    last, whole = (keras.models.load_model(folder / "m.keras").get_weights() for folder in (Path(), trained))
    for resumed, uninterrupted in zip(last, whole, strict=True):
        np.testing.assert_array_equal(resumed, uninterrupted)
    assert rows(Path()) == rows(trained)
    assert train(home, "--resume", str(run)) == 4
    assert "nothing to resume" in capsys.readouterr().err


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """A folder with a classifier of images of 6 by 5 pixels, and a recipe with a cosine and random changes."""
    folder = tmp_path_factory.mktemp("pictures")
    keras.utils.set_random_seed(3)
    keras.Sequential([keras.Input((6, 5, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]).save(folder / "clf.keras")
    generator = np.random.default_rng(4)
    for name, count in (("more", 32), ("test", 8)):
        y = generator.integers(0, 3, count)
        np.savez(folder / f"{name}.npz", x=10 * generator.random((count, 6, 5, 1)).astype(np.float32), y=y)
    text = SPEC.format(space=PLAIN).replace("decay(1e-2, factor=0.5, epochs=[3])", "cosine(1e-2, warmup=1)")
    (folder / "s.prop").write_text(text.replace("attack:", "augment: [flip, shift(2)] attack:"))
    return folder


def test_a_cosine_and_random_changes_of_images_go_on_exactly_after_an_interruption(pictures, monkeypatch, tmp_path):
    assert train(pictures, out="whole.keras") == 0
    whole = rows(Path())

    def stop(order: Order, batch: int, logs: object = None) -> None:
        if (order.epoch, batch) == (2, 1):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Order, "on_train_batch_end", stop)
        assert train(pictures) == 2
    assert train(pictures, "--resume", str(Path("out", "train-s-o"))) == 0
    last, first = (keras.models.load_model(f"{name}.keras").get_weights() for name in ("m", "whole"))
    for resumed, uninterrupted in zip(last, first, strict=True):
        np.testing.assert_array_equal(resumed, uninterrupted)
    assert [row["loss"] for row in rows(Path())] == [row["loss"] for row in whole]
    # Without the changes the same training ends elsewhere.
    (pictures / "plain.prop").write_text((pictures / "s.prop").read_text().replace("augment: [flip, shift(2)]", ""))
    assert train(pictures, spec="plain.prop", out="plain.keras") == 0
    assert np.abs(keras.models.load_model("plain.keras").get_weights()[0] - first[0]).max() > 1e-6


@pytest.mark.parametrize(
    ("change", "sentence"),
    [("shift(5)", "moves images by up to 5 pixels, and they have 6 by 5"), ("flip", "needs images")],
)
def test_changes_that_samples_do_not_allow_are_refused_before_training(home, pictures, capsys, change, sentence):
    where = home if change == "flip" else pictures
    text = (pictures / "s.prop").read_text().replace("[flip, shift(2)]", change)
    (where / "refused.prop").write_text(text)
    assert train(where, spec="refused.prop") == 4
    assert f"o: `augment` {sentence}" in capsys.readouterr().err


def test_channels_of_different_std_are_trained_behind_a_normalisation_that_is_not_saved(home):
    shown = importlib.util.find_spec("tensorboard") is not None
    assert train(home, *(["--tensorboard", "tb"] if shown else []), spec="channels.prop") == 0
    folders = {path.parent.name for path in Path("tb").rglob("events.out.tfevents.*")}
    assert folders >= ({"train", "validation", "widths"} if shown else set())
    model = keras.models.load_model("m.keras")
    assert [type(layer).__name__ for layer in model.layers] == ["Dense", "Dense"]
    report = tfcert.verify(home / "channels.prop", bindings={"clf": model}, verbose=0, out="verified")
    verified = sum(record.outcome is Outcome.VERIFIED for record in report.records)
    last = rows(Path(), "train-channels-o")[-1]
    assert float(last["val_verified_accuracy"]) == pytest.approx(verified / len(report.records))


def test_weights_are_kept_or_drawn_afresh_or_drawn_for_intervals(home):
    bound = bind_objective(load_spec(home / "s.prop", None, None), "o", {})
    given = bound.model.model.get_weights()
    assert all(map(np.array_equal, starting_model(bound).get_weights(), given))
    kernels = {}
    for how in ("fresh", "ibp"):
        drawn = replace(bound, objective=replace(bound.objective, initialize=how))
        kernels[how], bias = starting_model(drawn).get_weights()[:2]
        assert not bias.any() and not np.isclose(kernels[how], given[0]).any()
    # A Glorot kernel stays within sqrt(6 / (4 + 8)); one for intervals has the deviation sqrt(2 pi) / 4.
    assert np.abs(kernels["fresh"]).max() < np.sqrt(0.5)
    assert kernels["ibp"].std() == pytest.approx(np.sqrt(2 * np.pi) / 4, rel=0.4)


@pytest.mark.parametrize(
    ("block", "kind", "options"),
    [
        ("bound: ibp(elide=false) eps_factor: 1.5", "IBP", {"elide": False, "eps_factor": 1.5}),
        (
            "bound: constrained_ibp(weight=1/4, layers=hidden, reduction=sum) batch_norm: moving",
            "ConstrainedIBP",
            {"weight": 0.25, "layers": "hidden", "reduction": "sum", "batch_norm": "moving"},
        ),
        (
            "bound: crown_ibp(fuse=false) mixture: ramp(1 -> 0, steps 2..9)",
            "CrownIBP",
            {"beta": Ramp(1, 0, 2, 9, unit="steps"), "fuse": False},
        ),
        ("bound: dual_lp natural_weight: 1/4", "DualLP", {"kappa": Constant(0.25), "eps_factor": 1.0}),
        (
            "bound: mtl_ibp(attack_steps=3, attack_factor=1/2) mixture: 1/8 seed: 5",
            "MTLIBP",
            {"alpha": Constant(0.125), "attack_steps": 3, "attack_factor": 0.5, "seed": 5},
        ),
        ("bound: loss_landscape_matters seed: 5", "LossLandscapeMatters", {"seed": 5}),
        ("bound: adv_ibp(decay=1/2) natural_weight: 1/4", "AdvIBP", {"kappa": Constant(0.25), "decay": 0.5}),
    ],
)
def test_every_bound_reaches_its_class_with_its_options(home, block, kind, options):
    text = (home / "s.prop").read_text().split("objective")[0]
    block += (
        " eps: ramp(0 -> eps, epochs 1..3, smooth) regularize: [interval_width(weight=2), relu_balance(fade=false)]"
    )
    (home / "kinds.prop").write_text(f"{text}objective o for robust {{ train: more {block} }}")
    bound = bind_objective(load_spec(home / "kinds.prop", None, None), "o", {})
    objective = certified_model(bound, bound.model.model, 4).objective
    config = {name: loaded(value) for name, value in objective.get_config().items()}
    assert type(objective).__name__ == kind and options.items() <= config.items()
    assert objective.eps == Ramp(0, 0.05, 1, 3, shape="smooth") and config["clip"] == [0, 1]
    width, balance = objective.regularizers
    assert (type(width).__name__, width.weight) == ("IntervalWidth", 2)
    assert (type(balance).__name__, balance.fade) == ("ReluBalance", False)


def test_an_interrupted_run_is_moved_before_a_new_one_begins(home, monkeypatch, capsys):
    run = Path("out", "train-s-o")
    (run / "backup").mkdir(parents=True)
    (run / "training.json").write_text("{}")
    monkeypatch.setattr(Order, "on_epoch_begin", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    arguments = ["train", str(home / "s.prop"), "--objective", "o", "--out", "m.keras"]
    assert main([*arguments, "--set", "eps=1/10"]) == 2
    shown = capsys.readouterr()
    assert f"moved to {run / 'interrupted-1'}" in shown.err
    assert "before an epoch was finished" in shown.out
    assert (run / "interrupted-1" / "backup").is_dir() and (run / "training.json").is_file()
    assert main([*arguments, "--resume", str(run), "--set", "eps=1/20"]) == 4
    assert "the parameter eps was 1/10 and is now 1/20" in capsys.readouterr().err
    assert main([*arguments, "--resume", str(run)]) == 2  # with the parameters that it began with
    assert "the training begins again" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--out", "m.h5"], "m.h5 is no .keras file"),
        (["--out", "{home}/clf.keras"], "would overwrite a file that the training starts from"),
        (["--objective", "none"], "has no objective none; it has o"),
        (["--resume", "none"], "nothing to resume"),
        (["--resume", "{home}"], "the parameter eps was 1 and is now"),
        (["--bind", "test={home}/test.npz", "--bind", "clf=none.keras"], "there is no file none.keras"),
    ],
)
def test_a_mistake_is_a_sentence_and_exit_code_4(home, capsys, trained, more, sentence):
    header = json.loads((trained / "out" / "train-s-o" / "training.json").read_text())
    (home / "training.json").write_text(json.dumps(header | {"params": {"eps": "1"}, "finished": False}))
    assert train(home, *(text.replace("{home}", str(home)) for text in more)) == 4
    assert sentence in capsys.readouterr().err


def test_a_schedule_in_steps_that_is_never_reached_is_said_once_the_samples_are_counted(home, monkeypatch, capsys):
    text = (home / "s.prop").read_text().replace("epochs 1..3", "steps 4..17")
    (home / "late.prop").write_text(text)
    monkeypatch.setattr(Order, "on_epoch_begin", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    assert main(["train", str(home / "late.prop"), "--objective", "o", "--out", "m.keras"]) == 2
    said = capsys.readouterr().err
    assert "warning: eps goes on to step 17, but training ends after 16" in said
    assert "natural_weight goes on" in said and "learning_rate" not in said


def test_tensorboard_s_logs_need_it_installed(home, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert train(home, "--tensorboard", "tb") == 4
    assert "pip install 'tfcert[tensorboard]'" in capsys.readouterr().err


def test_batches_depend_on_seed_and_epoch_alone():
    x = np.arange(10)
    order = Order(x, x, 4, seed=3)

    def epoch(number: int) -> list[list[int]]:
        order.on_epoch_begin(number)
        return [batch.numpy().tolist() for batch, _ in order.batches()]

    first, second = epoch(0), epoch(1)
    assert [len(batch) for batch in first] == [4, 4] and len({*first[0], *first[1]}) == 8
    assert first != second and epoch(0) == first
    assert Order(x, x, 64, seed=3).steps == 1


def test_an_interrupt_waits_until_the_backup_is_whole(tmp_path, monkeypatch):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    save = model.save_weights

    def interrupted(*args, **options):
        signal.raise_signal(signal.SIGINT)
        save(*args, **options)

    monkeypatch.setattr(model, "save_weights", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            model.fit(np.ones((4, 2)), np.ones(4), epochs=3, verbose=0, callbacks=[Backup(str(tmp_path / "backup"))])
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    fresh = keras.models.clone_model(model)
    fresh.compile("adam", "mse")
    fresh.fit(np.ones((4, 2)), np.ones(4), epochs=1, verbose=0, callbacks=[Backup(str(tmp_path / "backup"))])
    assert int(fresh.optimizer.iterations) == 1


def test_two_trainings_do_not_write_to_one_folder(tmp_path):
    with (
        TrainingFolder(out=tmp_path).held({}, print),
        pytest.raises(JournalError, match="another run is writing"),
        TrainingFolder(out=tmp_path).held({}, print),
    ):
        pass


def test_a_training_that_ends_constant_says_so_in_its_result_and_the_log_has_widths(home, capsys):
    """The regularizer outweighs everything else. Of the widths the log has the total, and each layer's if asked for."""
    text = (home / "s.prop").read_text().replace("epochs: 4", "epochs: 40 regularize: interval_width(weight=1000, ")
    text = text.replace("weight=1000, ", "weight=1000, reduction=sum)")
    text = text.replace("decay(1e-2, factor=0.5, epochs=[3])", "1/20").replace("pgd(steps=3, restarts=1)", "none")
    (home / "dead.prop").write_text(text)
    with pytest.warns(UserWarning, match="has become constant"):
        assert train(home, "--widths", spec="dead.prop") == 0
    log = rows(Path(), "train-dead-o")
    since = constant_since([float(row["constant"]) for row in log])
    assert since and f"warning: the network is constant since epoch {since}:" in capsys.readouterr().out
    widths = [key for key in log[0] if key.startswith("interval_width/")]
    assert len(widths) == 4 and float(log[-1]["interval_width/total"]) < 1e-2 * float(log[0]["interval_width/total"])


def test_the_log_has_the_total_of_widths_and_a_resumed_one_its_columns(trained, home):
    assert [key for key in rows(trained)[0] if key.startswith("interval_width")] == ["interval_width/total"]
    assert {row["constant"] for row in rows(trained)} == {"0.0"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Order, "on_epoch_begin", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert train(home) == 2
    assert train(home, "--widths", "--resume", str(Path("out", "train-s-o"))) == 0
    assert rows(Path())[0].keys() == rows(trained)[0].keys()
