"""The start of a training, checked as far as that takes no TensorFlow."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfcert.datasets import Samples
from tfcert.driver.bind import load_data, placed, spec_name
from tfcert.driver.files import require_file_writable, require_models
from tfcert.driver.folder import RunFolder
from tfcert.driver.sources import load_samples
from tfcert.driver.start import read_spec
from tfcert.driver.train.bind import about, find_objective
from tfcert.errors import JournalError, UsageError
from tfcert.language import Spec
from tfcert.report.records import Json

HEADER, LOG, BACKUP, FINISHED = "training.json", "log.csv", "backup", "finished"
"""The files of a training: its header, its log, its backup, and the key that says that it came to its end."""
TRIALS = "trials"
"""The folder with the log of each training of a search for a granularity."""


class TrainingFolder(RunFolder):
    """The folder of a training: ``training.json``, the log, and the backup of its last epoch."""

    header_file = HEADER
    kept_together = (HEADER, LOG, BACKUP, TRIALS)
    stale = (LOG, f"{TRIALS}/*.csv")

    def _header_in(self, path: Path) -> Json:
        try:
            then: Json = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            raise JournalError(f"{path} is damaged: it holds no JSON") from None
        if then.get(FINISHED):
            raise JournalError(f"{self.path} holds a training that came to its end: nothing to resume")
        return then

    def _unfinished(self) -> str:
        return "an interrupted training" if (self.path / BACKUP).exists() else ""


@dataclass(frozen=True)
class TrainingStart:
    """A checked specification and objective with their samples, and where the training writes.

    Attributes:
        spec, bindings: the bindings of a resumed training are those of its folder, unless given again.
        data: the samples that the training needs, by name.
        folder: of the training.
        header: what a resumed training must agree with, as far as it is known without the model.
        objective: its name.
        out: where the trained model goes.
        tensorboard: where TensorBoard's logs go; None for nowhere.
        widths: whether the log has the width of every layer's intervals beside their total.
    """

    spec: Spec
    bindings: Mapping[str, Any]
    data: Mapping[str, Samples]
    folder: TrainingFolder
    header: Json
    objective: str
    out: Path
    tensorboard: Path | None = None
    widths: bool = False


def begin_training(
    spec: str | Path,
    objective: str,
    out: str | Path,
    *,
    params: Mapping[str, Any] | None = None,
    bindings: Mapping[str, Any] | None = None,
    resume: str | Path | None = None,
    root: str | Path | None = None,
    tensorboard: str | Path | None = None,
    widths: bool = False,
) -> TrainingStart:
    """Checks what ``tfcert train`` was given, and reads its samples.

    Arguments and errors as for :func:`tfcert.driver.train.run.train`.
    """
    if tensorboard is not None and importlib.util.find_spec("tensorboard") is None:
        raise UsageError("TensorBoard's logs need it installed: pip install 'tfcert[tensorboard]'")
    folder = TrainingFolder(resume=resume)
    checked, bindings, header = read_spec(spec, params, bindings, folder, root=root)
    asked = find_objective(checked, objective)
    header["objective"] = asked.text
    # A log that goes on keeps its columns.
    header["widths"] = widths = widths if folder.then is None else bool(folder.then.get("widths"))
    folder.require_same(header, "tfcert", "spec_sha256", "objective", "params")
    alone = about(checked, asked)
    destination = _destination(Path(out), checked, bindings)
    folder.settle(Path("out") / f"train-{spec_name(checked)}-{objective}")
    require_models(alone, bindings)
    data = load_data(alone, bindings)
    if asked.train is not None:
        with placed(checked, objective, asked.span):
            data[asked.train.name] = load_samples(asked.train, bindings, [checked.models[asked.model]])
    logs = None if tensorboard is None else Path(tensorboard)
    return TrainingStart(checked, bindings, data, folder, header, objective, destination, logs, widths)


def _destination(out: Path, spec: Spec, bindings: Mapping[str, Any]) -> Path:
    """The file to write, which must not be one that the specification reads.

    Raises:
        UsageError: no ``.keras`` file, a folder, or a model of the specification.
    """
    if out.suffix != ".keras" or out.is_dir():
        raise UsageError(f"--out {out} is no .keras file, which a trained model is saved to")
    read = [Path(m.folder) / m.path for m in spec.models.values() if m.path and not m.bound]
    read += [Path(value) for value in bindings.values() if isinstance(value, str | Path)]
    if any(path.exists() and out.exists() and path.samefile(out) for path in read):
        raise UsageError(f"--out {out} would overwrite a file that the training starts from: choose another name")
    require_file_writable(out)
    return out
