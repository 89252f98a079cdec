"""``tfcert train``: from an objective to a trained model, with a log, curves, and a backup to go on from.

A run keeps its folder: ``training.json`` (what it was started with), ``log.csv`` (Keras's ``CSVLogger``), ``backup/``
(Keras's ``BackupAndRestore``, after every epoch; gone once the model is saved) and ``figures/training.png``. A search
for a granularity has a log for each training in ``trials/``, and ``log.csv`` is that of the best.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import keras

from tfcert.driver.abstracted import best_figure, classifier, granularity_of
from tfcert.driver.fingerprint import data_hash
from tfcert.driver.train.bind import Trainable, bind_objective
from tfcert.driver.train.build import certified_model, held_out_callbacks, starting_model
from tfcert.driver.train.order import Order
from tfcert.driver.train.search import Search
from tfcert.driver.train.start import BACKUP, FINISHED, HEADER, LOG, TRIALS, TrainingStart, begin_training
from tfcert.language import LearningRate, RampSpec, Spec, Tuning
from tfcert.options import BoundOptions
from tfcert.propagation.supported import guarantee_of
from tfcert.report import ExitCode, figures
from tfcert.report.curves import Curves, read_curves
from tfcert.report.records import Json
from tfcert.showing import counted
from tfcert.training.constancy import constant_since
from tfcert.training.granularity import STOPS, GranularityTuning
from tfcert.training.tuner import GranularityTuner
from tfcert.verdict import Guarantee


class Backup(keras.callbacks.BackupAndRestore):
    """Keras's backup, which Ctrl-C waits for: cut short it would be a readable file without the optimizer's steps."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        before = signal.getsignal(signal.SIGINT)
        if before is None or threading.current_thread() is not threading.main_thread():
            super().on_epoch_end(epoch, logs)
            return
        waiting: list[int] = []
        signal.signal(signal.SIGINT, lambda number, _: waiting.append(number))
        try:
            super().on_epoch_end(epoch, logs)
        finally:
            signal.signal(signal.SIGINT, before)
        if waiting:
            signal.raise_signal(signal.SIGINT)


@dataclass(frozen=True)
class Trained:
    """The end of a training.

    Attributes:
        out: the trained model's file, which is there only if the training came to its end.
        folder: where log, curves and, after an interruption, the backup are.
        curves: what the log says, or None if no epoch was finished.
        notes: sentences for the user: a summary, or how to go on.
    """

    out: Path
    folder: Path
    curves: Curves | None
    exit_code: ExitCode
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """What `tfcert train --json` writes."""
        return {
            "exit_code": int(self.exit_code),
            "model": str(self.out),
            "folder": str(self.folder),
            "notes": list(self.notes),
        }


def train(
    spec: str | Path,
    objective: str,
    out: str | Path,
    *,
    params: Mapping[str, Any] | None = None,
    bindings: Mapping[str, Any] | None = None,
    resume: str | Path | None = None,
    tensorboard: str | Path | None = None,
    widths: bool = False,
    verbose: int | str = "auto",
) -> Trained:
    """Trains the model of a property as an objective of the specification says, and saves it alone.

    Args:
        spec, params, bindings: as for :func:`tfcert.verify`. A model that is bound from Python is trained in
            place.
        objective: the name of the objective.
        out: where the plain Keras model goes, a ``.keras`` file.
        resume: the folder of an interrupted run to go on with. Parameters and bindings are taken from there unless
            they are given again; everything it depends on must be the same as then.
        tensorboard: a folder for TensorBoard's logs.
        widths: whether ``log.csv`` has a column for the mean width of every layer's intervals, beside the total that it
            always has; see :class:`~tfcert.callbacks.IntervalWidths`. A resumed run keeps its columns.
        verbose: as for Keras's ``fit``; "auto" is a progress bar on a terminal and a line an epoch elsewhere.

    Returns:
        What became of it. After Ctrl-C its exit code is 2, and the backup of the last epoch is in its folder.

    Raises:
        SpecError: the specification cannot be used.
        UsageError, ValueError: what it names does not fit together, or cannot be loaded or trained.
    """
    start = begin_training(
        spec, objective, out, params=params, bindings=bindings, resume=resume, tensorboard=tensorboard, widths=widths
    )
    return run_training(start, verbose)


def run_training(start: TrainingStart, verbose: int | str = "auto") -> Trained:
    """Goes on from what :func:`begin_training` checked; returns and raises as :func:`train` does."""
    bound = bind_objective(start.spec, start.objective, start.bindings, start.data)
    start.out.parent.mkdir(parents=True, exist_ok=True)

    def say(sentence: str) -> None:
        if verbose != 0:
            print(sentence, file=sys.stderr)

    doing = _Run(start.spec, bound, start.out, start.folder.path, _header(start, bound))
    for sentence in [*(w.render() for w in start.spec.warnings), *(f"warning: {doubt}" for doubt in bound.doubts)]:
        say(sentence)
    with start.folder.held(doing.header, say):
        if start.folder.resumed:
            say(doing.goes_on())
        else:
            doing.write({})
        for sentence in doing.never_reached():
            say(sentence)
        return doing.fit(verbose, start.tensorboard, start.widths)


@dataclass(frozen=True)
class _Run:
    spec: Spec
    bound: Trainable
    out: Path
    folder: Path
    header: Json

    def goes_on(self) -> str:
        """Says where a resumed training goes on."""
        if not (self.folder / BACKUP).is_dir():
            (self.folder / LOG).unlink(missing_ok=True)
            return f"no epoch of {self.folder} was finished: the training begins again"
        return f"going on with the backup in {self.folder / BACKUP}"

    def write(self, more: Json) -> None:
        """Writes what the run was started with, and what is known since."""
        (self.folder / HEADER).write_text(json.dumps(self.header | more, indent=1), encoding="utf-8")

    def _order(self) -> Order:
        objective = self.bound.objective
        return Order(self.bound.train.x, self.bound.labels, objective.batch, objective.seed, self.bound.changes)

    def never_reached(self) -> list[str]:
        """Says which schedules in steps go on after the last one; those in epochs are checked with the text."""
        objective = self.bound.objective
        total = objective.epochs * self._order().steps
        named = {"eps": objective.eps, "natural_weight": objective.natural_weight, "mixture": objective.mixture}
        ends = {
            name: value.end for name, value in named.items() if isinstance(value, RampSpec) and value.unit == "steps"
        }
        rate = objective.learning_rate
        if isinstance(rate, LearningRate) and rate.unit == "steps":
            ends["learning_rate"] = Fraction(max(rate.at, default=0))
        return [
            f"warning: {name} goes on to step {float(end):g}, but training ends after {total}"
            for name, end in ends.items()
            if end > total
        ]

    def fit(self, verbose: int | str, tensorboard: Path | None, widths: bool) -> Trained:
        """Trains, and saves the model or says how to go on."""
        abstraction, objective = self.bound.asked.abstraction, self.bound.objective
        if abstraction is not None and abstraction.tuning is not None and abstraction.tuning.name == "search":
            return self._search(abstraction.tuning, verbose, tensorboard, widths)
        keras.utils.set_random_seed(objective.seed)
        model = starting_model(self.bound)
        order = self._order()
        certified = certified_model(self.bound, model, order.steps)
        held_out = held_out_callbacks(self.bound, tensorboard, widths)
        asked = self._fitting(order, held_out, self.folder / LOG, self.folder / BACKUP, verbose)
        began = time.monotonic()
        try:
            history = certified.fit(**asked)
        except KeyboardInterrupt:
            return self._interrupted()
        tuner = next((callback for callback in held_out if isinstance(callback, GranularityTuner)), None)
        self._end(model, {} if tuner is None else {"tuning": {"name": "descend", "best": list(tuner.best)}})
        kept = self._kept(tuner, len(history.epoch))
        return self._finished(len(history.epoch), time.monotonic() - began, kept)

    def _fitting(
        self, order: Order, held_out: list[Any], log: Path, backup: Path, verbose: int | str
    ) -> dict[str, Any]:
        """The arguments of ``fit``."""
        callbacks = [
            order,
            *held_out,
            keras.callbacks.CSVLogger(str(log), append=True),
            Backup(str(backup), double_checkpoint=True, delete_checkpoint=False),
        ]
        epochs = self.bound.objective.epochs
        fixed = {"callbacks": callbacks, "verbose": _loudness(verbose), "shuffle": False}
        return {"x": order.batches(), "epochs": epochs, **fixed}

    def _search(self, tuning: Tuning, verbose: int | str, tensorboard: Path | None, widths: bool) -> Trained:
        """Trains from scratch for each granularity, and saves the best model or says how to go on."""
        objective, backup, logs = self.bound.objective, self.folder / BACKUP, self.folder / TRIALS
        logs.mkdir(exist_ok=True)

        def fit(x: Any, y: Any, trial: int) -> dict[str, Any]:
            order = Order(x, y, objective.batch, objective.seed, self.bound.changes)
            held_out = held_out_callbacks(self.bound, tensorboard and tensorboard / f"trial-{trial}", widths)
            log, state = logs / f"{trial}.csv", backup / f"trial-{trial}"
            if not state.is_dir():
                log.unlink(missing_ok=True)
            return self._fitting(order, held_out, log, state, verbose)

        def steps(count: int) -> int:
            return count // min(objective.batch, count)

        began = time.monotonic()
        try:
            found = Search(self.bound, tuning, steps, fit, backup).run(int(verbose != 0))
        except KeyboardInterrupt:
            return self._interrupted()
        if found.stopped == "interrupted":
            return self._interrupted()
        model = self.bound.model.model
        model.set_weights(found.model.plain_model.get_weights())
        shutil.copy(logs / f"{found.best}.csv", self.folder / LOG)
        trials = [asdict(trial) for trial in found.curve]
        how = {"name": "search", "figure": found.figure, "selection": found.selection, "stopped": found.stopped}
        self._end(model, {"tuning": how | {"trials": trials, "best": found.best}})
        return self._finished(objective.epochs, time.monotonic() - began, self._chosen(found))

    def _chosen(self, found: GranularityTuning) -> list[str]:
        """Says what a search for a granularity found, and what of it is saved."""
        abstraction, best = self.bound.asked.abstraction, found.curve[found.best]
        assert abstraction is not None
        by = "numeric" if found.figure == "certified_error" else "AbsCert's figure, no guarantee"
        return [
            f"AbsCert's Algorithm 3 (`tune: search`) trained {counted(len(found.curve), 'time')} from scratch, and "
            f"stopped because {STOPS[found.stopped]}",
            f"saved is {classifier(abstraction, found.granularity)}, with the least {found.figure.replace('_', ' ')} "
            f"on the {found.selection} samples, {getattr(best, found.figure):.1%} ({by})",
        ]

    def _end(self, model: Any, more: Json) -> None:
        """Keeps a trained model, and what is known of its training, and removes what that would have gone on from."""
        self._save(model)
        self.write({FINISHED: True} | more)
        shutil.rmtree(self.folder / BACKUP, ignore_errors=True)

    def _save(self, model: Any) -> None:
        """The plain model, whole or not at all."""
        partial = self.out.with_name(f".{self.out.stem}-{os.getpid()}.keras")
        model.save(partial)
        partial.replace(self.out)

    def _interrupted(self) -> Trained:
        how = f"go on with the same command and --resume {self.folder}"
        if (self.folder / BACKUP).is_dir():
            note = f"interrupted: the last finished epoch is kept; {how}"
        else:
            note = (
                f"interrupted before an epoch was finished: there is nothing to go on from, {self.out} is not written"
            )
        return Trained(self.out, self.folder, self._curves(), ExitCode.INTERRUPTED, (note,))

    def _curves(self) -> Curves | None:
        path = self.folder / LOG
        if not path.is_file():
            return None
        curves = read_curves(path)
        return curves if curves.epochs else None

    def _finished(self, epochs: int, seconds: float, kept: list[str]) -> Trained:
        curves, objective = self._curves(), self.bound.objective
        last = "" if epochs == objective.epochs else "the last "
        notes = [f"trained {last}{counted(epochs, 'epoch')} in {seconds:.0f} s: {self.out}", *kept]
        if curves is not None:
            notes.append(self._summary(curves))
            notes += _constant(curves)
            if figures.available():
                path = self.folder / "figures" / "training.png"
                title = (
                    f"{objective.name}: {self.bound.model.name}, eps {float(self._eps()):.4g} in {self._space()} space"
                )
                figures.draw_training(path, title, curves)
                notes.append(f"drawn: {path}")
            else:
                notes.append(figures.MISSING)
        given = [f"--set {p.name}={p.value}" for p in self.spec.params.values() if p.overridden]
        command = ["tfcert verify", self.spec.filename, *given, f"--bind {objective.model}={self.out}"]
        notes.append(f"to verify it: {' '.join(command)}")
        return Trained(self.out, self.folder, curves, ExitCode.PASS, tuple(notes))

    def _kept(self, tuner: GranularityTuner | None, epochs: int) -> list[str]:
        """Says what is saved where a model was trained behind an abstraction, and of which epoch if that was tuned."""
        abstraction, model, objective = self.bound.asked.abstraction, self.bound.model.model, self.bound.objective
        if abstraction is None:
            return []
        saved = f"saved is {classifier(abstraction, granularity_of(model))}"
        if tuner is None:
            return [saved]
        if not epochs:
            return [f"{saved}, of the last epoch"]
        by = f"by {objective.verify.method}, numeric" if objective.trains_bounds else "AbsCert's figure, no guarantee"
        of = "" if epochs == objective.epochs else f" among the last {epochs}"
        return [
            f"{saved} by `tune: descend` in one training, of the epoch with {best_figure(objective)} on the held-out "
            f"samples{of}, {tuner.best[1]:.1%} ({by}); what follows was measured after the last epoch"
        ]

    def _summary(self, curves: Curves) -> str:
        objective = self.bound.objective
        rates = [f"nominal {curves.last('nominal'):.1%}"]
        if objective.attack is not None:
            rates.append(f"attack {curves.last('attack'):.1%}")
        rates.append(f"verified {curves.last('verified'):.1%} by {objective.verify.method}")
        count = len(self.bound.held_out.x)
        return (
            f"of {count} held-out samples at eps {float(self._eps()):.4g} in {self._space()} space: "
            f"{', '.join(rates)} ({self._level()})"
        )

    def _level(self) -> Guarantee:
        """The guarantee of the verified rate, which is that of ``tfcert.certify``; behind an abstraction, at least."""
        if self.bound.asked.abstraction is not None:
            return Guarantee.NUMERIC
        method = self.bound.objective.verify.method
        return guarantee_of(self.bound.model.network, method, None, BoundOptions())

    def _eps(self) -> Any:
        return self.bound.asked.region.eps  # type: ignore[union-attr]

    def _space(self) -> str:
        return self.bound.asked.region.space


def _constant(curves: Curves) -> list[str]:
    """Says that the network ended constant, if it did."""
    since = constant_since(curves.constant)
    if since is None:
        return []
    return [
        f"warning: the network is constant since epoch {since}: it gave every sample of a batch the same class, "
        "whatever the label (column constant of the log)"
    ]


def _loudness(verbose: int | str) -> int:
    """Keras's ``verbose``: a progress bar (1) where there is a terminal, and a line an epoch (2) elsewhere."""
    return (1 if sys.stdout.isatty() else 2) if verbose == "auto" else int(verbose)


def _header(start: TrainingStart, bound: Trainable) -> Json:
    """Everything a training depends on."""
    return start.header | {
        "weights_sha256": bound.model.sha256,
        "data_sha256": {"train": data_hash(bound.train), "held_out": data_hash(bound.held_out)},
    }
