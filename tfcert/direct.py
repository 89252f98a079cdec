"""Radii and attacks on a model and an npz file, without a specification: ``tfcert radius`` and ``tfcert attack``."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tfcert.attacks import attack
from tfcert.binding import LoadedModel, data_hash, require_names, weights_hash
from tfcert.certification import certified_radius
from tfcert.datasets import Samples, load_dataset
from tfcert.driver import run_header
from tfcert.errors import UsageError
from tfcert.network import from_keras, load_model
from tfcert.progress import Narrator
from tfcert.query import Guarantee, Outcome, Verdict
from tfcert.report import Asked, ExitCode, Measured, Record, Report
from tfcert.report.records import Json

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

    def load(self) -> tuple[LoadedModel, np.ndarray, np.ndarray]:
        """The model, its inputs and their labels, checked against each other."""
        path = Path(self.model)
        if not path.is_file():
            raise UsageError(f"there is no model {path}")
        keras_model = load_model(path)
        network = from_keras(keras_model)
        samples = load_dataset("npz", self.data)
        if samples.y is None:
            raise UsageError(f"{self.data} has no labels: it needs arrays x and y")
        x = samples.x[: self.limit].astype(network.dtype.as_numpy_dtype)
        if tuple(x.shape[1:]) != tuple(network.input_shape):
            raise UsageError(f"{self.data}: samples have shape {x.shape[1:]}, the model takes {network.input_shape}")
        loaded = LoadedModel(path.stem, keras_model, network, weights_hash(keras_model))
        labels = samples.y[: self.limit]
        wrong = np.flatnonzero((labels < 0) | (labels >= loaded.num_outputs))
        if len(wrong):
            raise UsageError(
                f"{self.data}: sample {wrong[0]} has label {labels[wrong[0]]}, but the model has "
                f"{loaded.num_outputs} outputs, counted from 0"
            )
        self._check_values(x)
        return loaded, x, labels

    def _check_values(self, x: np.ndarray) -> None:
        low, high = self.clip or (-math.inf, math.inf)
        bad = ~np.isfinite(x) | (x < low) | (x > high)
        if bad.any():
            where = "is not finite" if self.clip is None else f"leaves the valid range [{low:g}, {high:g}]"
            raise UsageError(f"{self.data}: sample {int(np.argwhere(bad)[0][0])} {where}")

    def header(self, loaded: LoadedModel, x: np.ndarray, y: np.ndarray, options: Json) -> Json:
        """As the header of a specification's run."""
        return run_header() | {
            "model": self.model,
            "data": self.data,
            "weights_sha256": {loaded.name: loaded.sha256},
            "data_sha256": {self.data: data_hash(Samples(x, y))},
            "params": {"norm": self.norm, "clip": self.clip, "limit": self.limit} | options,
        }

    def decide(self, name: str, eps: float, batch: int, decide: Decide) -> tuple[list[Record], LoadedSamples]:
        """Records of all samples, ``batch`` at a time; time is shared out evenly within a batch."""
        loaded, x, y = loaded_samples = self.load()
        records: list[Record] = []
        asked = Asked(self.norm, eps, "net", "all")
        with Narrator() as narrator:
            narrator.begin(name, len(x))
            for first in range(0, len(x), batch):
                began = time.monotonic()
                part = slice(first, first + batch)
                predictions = loaded.outputs(x[part]).argmax(axis=1)
                found = decide(loaded, x[part], y[part], predictions)
                seconds = (time.monotonic() - began) / len(predictions)
                for i, (verdict, measured) in enumerate(found):
                    place, timed = first + i, replace(verdict, seconds=seconds)
                    label, predicted = int(y[place]), int(predictions[i])
                    witness = self._save(f"{name}-{place}", verdict.witness, x[place], label)
                    records.append(Record(name, place, timed, asked, measured, label, predicted, witness))
                    narrator.advance(records[-1])
        return records, loaded_samples

    def _save(self, name: str, witness: np.ndarray | None, original: np.ndarray, label: int) -> str | None:
        """Writes a witness, as the model receives it, beside its original; returns the path within ``out``."""
        if self.out is None or witness is None:
            return None
        relative = Path("witnesses") / f"{name}.npz"
        (Path(self.out) / relative).parent.mkdir(parents=True, exist_ok=True)
        np.savez(Path(self.out) / relative, allow_pickle=False, witness=witness, original=original, label=label)
        return relative.as_posix()


LoadedSamples = tuple[LoadedModel, np.ndarray, np.ndarray]
Found = list[tuple[Verdict, Measured | None]]
Decide = Callable[[LoadedModel, np.ndarray, np.ndarray, np.ndarray], Found]
"""``(model, x, y, predictions) -> a verdict and a measured value a sample``."""


def measure_radii(data: Direct, *, method: str, relaxation: str | None, batch: int) -> Report:
    """The largest certified radius around each sample, in network space.

    Raises:
        UsageError: files, samples or a relaxation that do not fit the model.
    """

    def decide(loaded: LoadedModel, x: np.ndarray, y: np.ndarray, predictions: np.ndarray) -> Found:
        require_names(loaded, method, relaxation)
        radii = certified_radius(
            loaded.network, x, y, norm=data.norm, clip=data.clip, method=method, relaxation=relaxation
        )
        how = "" if method == "ibp" else radii.relaxation
        right = (predictions == y).tolist()
        verdicts = [_radius_verdict(*v, method, how) for v in zip(right, radii.radius, radii.margin, strict=True)]
        measured = [Measured(float(r), math.nan if ok else 0.0) for r, ok in zip(radii.radius, right, strict=True)]
        return list(zip(verdicts, measured, strict=True))

    records, loaded = data.decide("radius", math.nan, batch, decide)
    header = data.header(*loaded, {"method": method, "relaxation": relaxation, "batch": batch})
    return _report(header, records, loaded, is_measure=True)


def _radius_verdict(right: bool, radius: float, margin: float, method: str, relaxation: str) -> Verdict:
    if not right:
        return Verdict(
            Outcome.FALSIFIED, "the unperturbed input is misclassified", "clean", guarantee=Guarantee.REPLAYED
        )
    if not (math.isfinite(radius) and radius > 0):
        reason = "no radius could be proven"
        return Verdict(Outcome.UNKNOWN, reason, method, method, relaxation, Guarantee.ESTIMATE)
    return Verdict(Outcome.VERIFIED, "", method, method, relaxation, Guarantee.NUMERIC, float(margin))


def attack_samples(data: Direct, eps: float, *, steps: int, restarts: int) -> Report:
    """PGD within ``eps`` of each sample, in network space; what it does not find stays unknown.

    Raises:
        UsageError: files or samples that do not fit the model, or an eps that is negative or not finite.
    """
    if not (math.isfinite(eps) and eps >= 0):
        raise UsageError(f"eps must be finite and not negative, not {eps}")

    def decide(loaded: LoadedModel, x: np.ndarray, y: np.ndarray, predictions: np.ndarray) -> Found:
        network = loaded.network if loaded.peeled else None
        found = attack(
            loaded.model, x, y, eps=eps, norm=data.norm, clip=data.clip, network=network, steps=steps, restarts=restarts
        )
        clean = predictions != y
        verdicts = [_attack_verdict(*v) for v in zip(found.success, clean, found.margin, strict=True)]
        witnesses = [w if ok else None for w, ok in zip(found.witness, found.success, strict=True)]
        return [(replace(v, witness=w), None) for v, w in zip(verdicts, witnesses, strict=True)]

    records, loaded = data.decide("attack", eps, BATCH, decide)
    header = data.header(*loaded, {"eps": eps, "steps": steps, "restarts": restarts})
    return _report(header, records, loaded, is_measure=False)


def _attack_verdict(success: bool, clean: bool, margin: float) -> Verdict:
    if success:
        stage = "clean" if clean else "pgd"
        return Verdict(Outcome.FALSIFIED, "", stage, "" if clean else "pgd", "", Guarantee.REPLAYED, float(margin))
    reason = "the attack found no witness, which proves nothing"
    return Verdict(Outcome.UNKNOWN, reason, "pgd", "pgd", "", Guarantee.ESTIMATE)


def _report(header: Json, records: list[Record], loaded: LoadedSamples, is_measure: bool) -> Report:
    code = ExitCode.PASS if records else ExitCode.NOTHING_TO_CHECK
    names = tuple(dict.fromkeys(r.property for r in records))
    properties, measures = ((), names) if is_measure else (names, ())
    return Report(header, tuple(records), code, properties, measures, notes=loaded[0].network.notes)
