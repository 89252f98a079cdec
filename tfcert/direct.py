"""Radii and attacks on a model and an npz file, without a specification: ``tfcert radius`` and ``tfcert attack``."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tfcert.attacks import attack
from tfcert.binding import LoadedModel, data_hash, weights_hash
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
    """What the command line names: files, the norm, the valid range, how many samples."""

    model: str
    data: str
    norm: str
    clip: tuple[float, float] | None
    limit: int

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
                f"{self.data}: sample {wrong[0]} has label {labels[wrong[0]]}; the model has {loaded.num_outputs} outputs"
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


def measure_radii(data: Direct, *, method: str, relaxation: str | None, batch: int) -> Report:
    """The largest certified radius around each sample, in network space."""
    loaded, x, y = data.load()
    header = data.header(loaded, x, y, {"method": method, "relaxation": relaxation, "batch": batch})
    records: list[Record] = []
    with Narrator() as narrator:
        narrator.begin("radius", len(x))
        for first in range(0, len(x), batch):
            part = slice(first, first + batch)
            began = time.monotonic()
            predictions = loaded.outputs(x[part]).argmax(axis=1)
            radii = certified_radius(
                loaded.network, x[part], y[part], norm=data.norm, clip=data.clip, method=method, relaxation=relaxation
            )
            seconds = (time.monotonic() - began) / len(predictions)
            for i, predicted in enumerate(predictions.tolist()):
                right = predicted == y[first + i]
                verdict = _radius_verdict(right, float(radii.radius[i]), float(radii.margin[i]), seconds)
                if right:
                    name = "" if method == "ibp" else relaxation or "adaptive"
                    verdict = Verdict(**(vars(verdict) | {"method": method, "relaxation": name}))
                measured = Measured(float(radii.radius[i]), math.nan if right else 0.0)
                asked = Asked(data.norm, math.nan, "net", "all")
                label = int(y[first + i])
                records.append(Record("radius", first + i, verdict, asked, measured, label, predicted))
                narrator.advance(records[-1])
    code = ExitCode.PASS if records else ExitCode.NOTHING_TO_CHECK
    return Report(header, tuple(records), code, measures=("radius",), notes=loaded.network.notes)


def _radius_verdict(right: bool, radius: float, margin: float, seconds: float) -> Verdict:
    if not right:
        reason = "the unperturbed input is misclassified"
        return Verdict(Outcome.FALSIFIED, reason, "clean", guarantee=Guarantee.REPLAYED, seconds=seconds)
    if radius > 0:
        return Verdict(Outcome.VERIFIED, guarantee=Guarantee.NUMERIC, margin=margin, seconds=seconds)
    return Verdict(Outcome.UNKNOWN, "no radius could be proven", guarantee=Guarantee.ESTIMATE, seconds=seconds)


def attack_samples(data: Direct, eps: float, *, steps: int, restarts: int) -> Report:
    """PGD within ``eps`` of each sample, in network space; what it does not find stays unknown."""
    if not (math.isfinite(eps) and eps >= 0):
        raise UsageError(f"eps must be finite and not negative, not {eps}")
    loaded, x, y = data.load()
    header = data.header(loaded, x, y, {"eps": eps, "steps": steps, "restarts": restarts})
    network = loaded.network if loaded.peeled else None
    records: list[Record] = []
    with Narrator() as narrator:
        narrator.begin("attack", len(x))
        for first in range(0, len(x), BATCH):
            part = slice(first, first + BATCH)
            began = time.monotonic()
            predictions = loaded.outputs(x[part]).argmax(axis=1)
            found = attack(
                loaded.model, x[part], y[part], eps=eps, norm=data.norm, clip=data.clip, network=network,
                steps=steps, restarts=restarts,
            )  # fmt: skip
            seconds = (time.monotonic() - began) / len(predictions)
            for i, predicted in enumerate(predictions.tolist()):
                clean = predicted != y[first + i]
                verdict = _attack_verdict(bool(found.success[i]), clean, float(found.margin[i]), seconds)
                asked = Asked(data.norm, eps, "net", "all")
                records.append(Record("attack", first + i, verdict, asked, None, int(y[first + i]), predicted))
                narrator.advance(records[-1])
    code = ExitCode.PASS if records else ExitCode.NOTHING_TO_CHECK
    return Report(header, tuple(records), code, properties=("attack",), notes=loaded.network.notes)


def _attack_verdict(success: bool, clean: bool, margin: float, seconds: float) -> Verdict:
    if success:
        stage = "clean" if clean else "pgd"
        method = "" if clean else "pgd"
        return Verdict(Outcome.FALSIFIED, "", stage, method, "", Guarantee.REPLAYED, margin, seconds)
    reason = "the attack found no witness, which proves nothing"
    return Verdict(Outcome.UNKNOWN, reason, "pgd", "pgd", "", Guarantee.ESTIMATE, seconds=seconds)
