"""Questions about a model and an npz file without a specification: what is loaded, asked in batches and recorded."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tfcert.datasets import Samples, load_dataset
from tfcert.driver.bind import LoadedModel
from tfcert.driver.fingerprint import data_hash, weights_hash
from tfcert.driver.journal import Journal
from tfcert.driver.progress import Narrator
from tfcert.driver.start import require_model, require_writable, run_header
from tfcert.errors import UsageError
from tfcert.misfit import misfit, tiny_radius, unsaid
from tfcert.report import Asked, ExitCode, Measured, Record
from tfcert.report.attacks import AttackReport
from tfcert.report.records import Json
from tfcert.report.summary import clean_holds
from tfcert.verdict import SINGLE_OUTPUT, Guarantee, Outcome, Verdict, strictly_right

BATCH = 100


@dataclass(frozen=True)
class Direct:
    """What the command line names: files, the norm, the valid range, how many samples, a folder for witnesses."""

    model: str
    data: str
    norm: str
    clip: tuple[float, float] | None
    limit: int
    out: str | None = None

    @cached_property
    def samples(self) -> Samples:
        """The inputs and their labels, checked as far as that takes no TensorFlow; the model's file is looked at, too.

        Raises:
            UsageError, DatasetError: files that are missing or hold something else, values that are not finite or
                leave the valid range.
        """
        if self.clip is not None and not self.clip[0] <= self.clip[1]:
            raise UsageError(f"--clip {self.clip[0]:g} {self.clip[1]:g}: the lower end comes first")
        require_model(Path(self.model))
        samples = self._stored
        if samples.y is None:
            raise UsageError(f"{self.data} has no labels: it needs arrays x and y")
        found = Samples(samples.x[: self.limit], samples.y[: self.limit])
        self._check_values(found.x)
        if self.out is not None:
            require_writable(Path(self.out))
        return found

    @cached_property
    def _stored(self) -> Samples:
        """All of the file."""
        return load_dataset("npz", self.data)

    @property
    def total(self) -> int:
        """How many samples the file has."""
        return len(self._stored.x)

    @property
    def width(self) -> float:
        """The width of the valid range; NaN where none is given."""
        return math.nan if self.clip is None else self.clip[1] - self.clip[0]

    def load(self) -> Loaded:
        """The model, its inputs and their labels, checked against each other.

        Raises:
            UsageError: files that are missing, or samples that do not fit the model.
        """
        from tfcert.certification.api import network_of
        from tfcert.loading import load_model

        x, labels = self.samples
        assert labels is not None
        keras_model = load_model(Path(self.model))
        network = network_of(keras_model)
        x = x.astype(network.dtype.as_numpy_dtype)
        if tuple(x.shape[1:]) != tuple(network.input_shape):
            raise UsageError(f"{self.data}: samples have shape {x.shape[1:]}, the model takes {network.input_shape}")
        loaded = LoadedModel(Path(self.model).stem, keras_model, network, weights_hash(keras_model))
        if loaded.num_outputs < 2:
            raise UsageError(f"{self.model}: {SINGLE_OUTPUT}")
        wrong = np.flatnonzero((labels < 0) | (labels >= loaded.num_outputs))
        if len(wrong):
            raise UsageError(
                f"{self.data}: sample {wrong[0]} has label {labels[wrong[0]]}, but the model has "
                f"{loaded.num_outputs} outputs, counted from 0"
            )
        self._check_values(x)
        return Loaded(loaded, x, labels)

    def _check_values(self, x: np.ndarray) -> None:
        low, high = self.clip or (-math.inf, math.inf)
        bad = ~np.isfinite(x) | (x < low) | (x > high)
        if bad.any():
            where = "is not finite" if self.clip is None else f"leaves the valid range [{low:g}, {high:g}]"
            raise UsageError(f"{self.data}: sample {int(np.argwhere(bad)[0][0])} {where}")

    def header(self, params: Json) -> Json:
        """As the header of a specification's run, as far as it is known without the model."""
        return run_header() | {
            "model": self.model,
            "data": self.data,
            "data_sha256": {"data": data_hash(self.samples)},
            # As JSON reads them back, so that a journal's header can be compared.
            "params": {"norm": self.norm, "clip": self.clip and list(self.clip), "limit": self.limit} | params,
        }


@dataclass(frozen=True, eq=False)
class Loaded:
    """A model with samples ``[n, *input]``, as it receives them, and their labels ``[n]``."""

    model: LoadedModel
    x: np.ndarray
    y: np.ndarray

    def take(self, places: np.ndarray) -> Loaded:
        return Loaded(self.model, self.x[places], self.y[places])

    def header(self) -> Json:
        """What the header says of the model."""
        return {"weights_sha256": {self.model.name: self.model.sha256}}


Found = list[tuple[Verdict, Measured | None]]
Decide = Callable[[Loaded, np.ndarray], Found]
"""``(samples, which are classified right) -> a verdict and a measured value a sample``."""


@dataclass(frozen=True)
class Question:
    """What is asked of every sample, ``batch`` of them at a time."""

    name: str
    asked: Asked
    batch: int
    decide: Decide
    out: Path | None = None

    def run(
        self, loaded: Loaded, journal: Journal | None = None, known: Sequence[Record] = ()
    ) -> tuple[tuple[Record, ...], bool]:
        """Records in the order of the samples, and whether they are all there: Ctrl-C keeps those that are.

        Args:
            journal: takes each record as it falls.
            known: records of an earlier run, whose samples are left out.
        """
        records = {r.sample: r for r in known}
        todo = np.array([i for i in range(len(loaded.x)) if i not in records], int)
        with Narrator() as narrator:
            narrator.begin(self.name, len(loaded.x), len(records))
            try:
                for first in range(0, len(todo), self.batch):
                    for record in self._decide(loaded, todo[first : first + self.batch]):
                        records[record.sample] = record
                        if journal is not None:
                            journal.append(record)
                        narrator.advance(record)
            except KeyboardInterrupt:
                narrator.say("interrupted: what was found is kept")
        return tuple(records[i] for i in sorted(records)), len(records) == len(loaded.x)

    def _decide(self, loaded: Loaded, places: np.ndarray) -> list[Record]:
        """Records of one batch; its time is shared out evenly."""
        began, part = time.monotonic(), loaded.take(places)
        outputs = loaded.model.outputs(part.x)
        found, predictions = self.decide(part, strictly_right(outputs, part.y)), outputs.argmax(axis=1)
        seconds = (time.monotonic() - began) / len(places)
        records = []
        for i, (verdict, measured) in enumerate(found):
            timed, label, place = replace(verdict, seconds=seconds), int(part.y[i]), int(places[i])
            witness = self._save(f"{self.name}-{place}", verdict.witness, part.x[i], label)
            records.append(Record(self.name, place, timed, self.asked, measured, label, int(predictions[i]), witness))
        return records

    def _save(self, name: str, witness: np.ndarray | None, original: np.ndarray, label: int) -> str | None:
        """Writes a witness, as the model receives it, beside its original; returns the path within ``out``."""
        if self.out is None or witness is None:
            return None
        relative = Path("witnesses") / f"{name}.npz"
        (self.out / relative).parent.mkdir(parents=True, exist_ok=True)
        np.savez(self.out / relative, allow_pickle=False, witness=witness, original=original, label=label)
        return relative.as_posix()


def remarks(data: Direct, loaded: Loaded, records: Sequence[Record]) -> list[str]:
    """What the reader should know of the samples: how many there are, and what makes them look out of place."""
    said = []
    if len(loaded.x) < data.total:
        said.append(f"the first {len(loaded.x)} of {data.total} samples of {data.data}; --limit takes more")
    right = np.array([record.prediction == record.label for record in records], bool)
    doubts = [misfit(right, loaded.model.num_outputs, loaded.x)]
    doubts += [tiny_radius(records[0].asked.eps, loaded.x)] if records else []
    found = [record.verdict.witness for record in records if record.verdict.witness is not None]
    if data.clip is None and found:
        low, high = float(loaded.x.min()), float(loaded.x.max())
        outside = sum(bool(w.min() < low or w.max() > high) for w in found)
        if outside:
            said.append(
                f"{outside} of {len(found)} witnesses leave the range of the samples, {low:g} to {high:g}: give the "
                f"valid range of an input to keep to it, --clip {low:g} {high:g}, say"
            )
    return [*(f"warning: {doubt}" for doubt in doubts if doubt is not None), *said]


def exit_code(records: Sequence[Record], complete: bool) -> ExitCode:
    """Neither radii nor attacks judge: they are done, were interrupted, or had nothing to do."""
    if not complete:
        return ExitCode.INTERRUPTED
    return ExitCode.PASS if records else ExitCode.NOTHING_TO_CHECK


def require_eps(eps: float) -> None:
    """Raises a UsageError for a radius that is negative or not finite."""
    if not (math.isfinite(eps) and eps >= 0):
        raise UsageError(f"eps must be finite and not negative, not {eps}")


def attack_samples(data: Direct, eps: float, *, steps: int, restarts: int) -> AttackReport:
    """PGD within ``eps`` of each sample, in network space; what it does not find stays unknown.

    Raises:
        UsageError: files or samples that do not fit the model, or an eps that is negative or not finite.
    """
    require_eps(eps)

    from tfcert.attacks import attack
    from tfcert.clauses import keeps_label

    def decide(part: Loaded, right: np.ndarray) -> Found:
        model, x, y = part.model, part.x, part.y
        network = model.network if model.peeled else None
        how: dict[str, Any] = {"norm": data.norm, "clip": data.clip, "steps": steps, "restarts": restarts}
        with unsaid():  # the whole run has a note
            found = attack(model.model, x, y, eps=eps, network=network, **how)
        reached = model.outputs(np.where(found.success.reshape(-1, *[1] * (x.ndim - 1)), found.witness, x))
        margins = keeps_label(y, model.num_outputs).margin(model.scores(reached))
        verdicts = [_attack_verdict(*v) for v in zip(found.success, ~right, margins, strict=True)]
        witnesses = [w if ok else None for w, ok in zip(found.witness, found.success, strict=True)]
        return [(replace(v, witness=w), None) for v, w in zip(verdicts, witnesses, strict=True)]

    out = None if data.out is None else Path(data.out)
    loaded, asked = data.load(), Asked(data.norm, eps, "net", "all", width=data.width)
    records, complete = Question("attack", asked, BATCH, decide, out).run(loaded)
    return AttackReport(
        header=data.header({"eps": eps, "steps": steps, "restarts": restarts})
        | loaded.header()
        | {"complete": complete},
        records=records,
        exit_code=exit_code(records, complete),
        properties=("attack",) if records else (),
        notes=(*loaded.model.network.notes, *remarks(data, loaded, records)),
        folder=out,
        asked={"attack": len(loaded.x)},
        conclusion=_attack_conclusion(records, f"{data.norm} {eps:.4g}"),
    )


def _attack_verdict(success: bool, clean: bool, margin: float) -> Verdict:
    if success:
        stage = "clean" if clean else "pgd"
        return Verdict(Outcome.FALSIFIED, "", stage, "" if clean else "pgd", "", Guarantee.REPLAYED, float(margin))
    reason = "the attack found no witness, which proves nothing"
    return Verdict(Outcome.UNKNOWN, reason, "pgd", "pgd", "", Guarantee.ESTIMATE)


def _attack_conclusion(records: Sequence[Record], distance: str) -> str:
    """What an attack came to; "" without samples."""
    if not records:
        return ""
    found = [r for r in records if r.outcome is Outcome.FALSIFIED]
    clean = sum(not clean_holds(r) for r in found)
    rest = len(records) - len(found)
    return (
        f"witnesses within {distance} of {len(found)} of {len(records)} samples"
        + (f" ({clean} of them misclassified as they are)" if clean else "")
        + (f"; none found for {rest}, which proves nothing" if rest else "")
    )
