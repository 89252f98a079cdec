"""What a run starts with, checked as far as that takes no TensorFlow.

A mistake on the command line is answered at once: TensorFlow and the model, which take seconds, are loaded only when
options, parameters, files and folders are found to be right.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tfcert.datasets import Samples, confine
from tfcert.driver.bind import load_data, load_spec, needed_models, placed, spec_name
from tfcert.driver.fingerprint import SCHEME, data_hash
from tfcert.driver.journal import FILE_NAME, read_header, require_same
from tfcert.driver.sources import load_samples
from tfcert.driver.train.bind import about, find_objective
from tfcert.errors import JournalError, UsageError
from tfcert.language import Spec
from tfcert.model_files import complaint, inputs_complaint
from tfcert.report.records import Json

PACKAGES = ("tensorflow", "keras", "numpy", "tensorflow-probability")


@dataclass(frozen=True)
class Start:
    """A checked specification with its samples, and where its run writes.

    Attributes:
        spec, bindings: the bindings of a resumed run are those of its folder, unless given again.
        data: the samples that the run needs, by name.
        folder: of the run; ``resumed`` if it goes on with what is there.
        header: what a resumed run must agree with, as far as it is known without the models.
    """

    spec: Spec
    bindings: Mapping[str, Any]
    data: Mapping[str, Samples]
    folder: Path
    resumed: bool
    header: Json


def begin(
    spec: str | Path,
    *,
    params: Mapping[str, Any] | None = None,
    bindings: Mapping[str, Any] | None = None,
    resume: str | Path | None = None,
    out: str | Path | None = None,
) -> Start:
    """Checks what :func:`tfcert.verify` was given, and reads its samples. Arguments and errors as there."""
    if resume is not None and out is not None:
        raise UsageError("a resumed run writes where it was begun: give either resume or out")
    path = Path(resume or "") / FILE_NAME
    then = None if resume is None else read_header(Path(resume))
    checked, bindings, header = _checked(spec, params, bindings, path, then)
    if then is not None:
        require_same(path, then, header, ("tfcert", "spec_sha256", "params"))
    require_models(checked, bindings)
    data = load_data(checked, bindings)
    header["data_sha256"] = {name: data_hash(samples) for name, samples in data.items()}
    if then is not None:
        require_same(path, then, header, ("data_sha256",))
    folder = Path(resume or out or Path("out") / spec_name(checked))
    require_writable(folder)
    return Start(checked, bindings, data, folder, resume is not None, header)


HEADER, FINISHED = "training.json", "finished"
"""What a training was started with, in its folder, and the key that says that it came to its end."""


@dataclass(frozen=True)
class TrainingStart(Start):
    """The same of a training: the name of its objective, where the trained model goes, and TensorBoard's logs."""

    objective: str
    out: Path
    tensorboard: Path | None = None


def begin_training(
    spec: str | Path,
    objective: str,
    out: str | Path,
    *,
    params: Mapping[str, Any] | None = None,
    bindings: Mapping[str, Any] | None = None,
    resume: str | Path | None = None,
    tensorboard: str | Path | None = None,
) -> TrainingStart:
    """Checks what ``tfcert train`` was given, and reads its samples. Arguments and errors as there."""
    if tensorboard is not None and importlib.util.find_spec("tensorboard") is None:
        raise UsageError("TensorBoard's logs need it installed: pip install 'tfcert[tensorboard]'")
    path = Path(resume or "") / HEADER
    then = None if resume is None else _training_header(path)
    checked, bindings, header = _checked(spec, params, bindings, path, then)
    asked = find_objective(checked, objective)
    header["objective"] = asked.text
    if then is not None:
        require_same(path, then, header, ("tfcert", "spec_sha256", "objective", "params"))
    alone = about(checked, asked)
    destination = _destination(Path(out), checked, bindings)
    folder = Path(resume or Path("out") / f"train-{spec_name(checked)}-{objective}")
    require_writable(folder)
    require_models(alone, bindings)
    data = load_data(alone, bindings)
    if asked.train is not None:
        with placed(checked, objective, asked.span):
            data[asked.train.name] = load_samples(asked.train, bindings, [checked.models[asked.model]])
    logs = None if tensorboard is None else Path(tensorboard)
    return TrainingStart(checked, bindings, data, folder, resume is not None, header, objective, destination, logs)


def _checked(
    spec: str | Path,
    params: Mapping[str, Any] | None,
    bindings: Mapping[str, Any] | None,
    path: Path,
    then: Json | None,
) -> tuple[Spec, Mapping[str, Any], Json]:
    """A specification with its bindings and header; ``then`` is the header, in ``path``, of a run that is resumed."""
    params, bindings = dict(params or {}), dict(bindings or {})
    if then is not None:
        params, bindings = restored(path, then, params, bindings)
    checked = load_spec(spec, params, bindings)
    return checked, bindings, run_header() | spec_header(checked, params, bindings)


def _training_header(path: Path) -> Json:
    if not path.is_file():
        what = f"{path.parent} has no {HEADER}" if path.parent.is_dir() else f"there is no folder {path.parent}"
        raise UsageError(f"{what}: nothing to resume")
    try:
        then: Json = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise UsageError(f"{path} is damaged: it holds no JSON") from None
    if then.get(FINISHED):
        raise UsageError(f"{path.parent} holds a training that came to its end: nothing to resume")
    return then


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


def restored(
    path: Path, then: Json, params: Mapping[str, Any], bindings: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters and bindings of a run that is resumed: those of its header ``then`` in ``path``, unless given again.

    Raises:
        JournalError: another version of tfcert wrote it, it is no run of a specification, or a binding was an object
            of Python.
    """
    require_same(path, then, run_header(), ("tfcert",))
    if "given" not in then:
        raise JournalError(f"{path} is of a run without a specification, such as `tfcert radius` makes: resume it so")
    given = then["given"]
    lost = [name for name, file in given["bindings"].items() if file is None and name not in bindings]
    if lost:
        raise JournalError(
            f"{path} does not hold what Python gave for {' and '.join(lost)}: give it again, as "
            f"bindings={{{lost[0]!r}: ...}} in Python or --bind {lost[0]}=PATH on the command line."
        )
    return {**given["params"], **params}, {**given["bindings"], **bindings}


def spec_header(spec: Spec, params: Mapping[str, Any], bindings: Mapping[str, Any]) -> Json:
    """What a header says of a specification and of what was given for its names; no more than JSON can hold."""
    return {
        "spec": spec.filename,
        "spec_sha256": spec.source_hash,
        "params": {name: param.shown for name, param in spec.params.items()},
        "given": {
            "params": {n: v if isinstance(v, bool | int | float | str) else str(v) for n, v in params.items()},
            "bindings": {
                name: str(Path(value).resolve()) if isinstance(value, str | Path) else None
                for name, value in bindings.items()
            },
        },
    }


def run_header() -> Json:
    """What every run's header begins with."""
    return {
        "tfcert": package_version("tfcert"),
        "hashes": SCHEME,
        "versions": {"python": platform.python_version()} | {name: package_version(name) for name in PACKAGES},
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def package_version(name: str) -> str | None:
    """The installed version; None where there is none."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def require_models(spec: Spec, bindings: Mapping[str, Any], *, if_there: bool = False) -> None:
    """That the files of the models that a specification needs are there and may be Keras's.

    Args:
        spec, bindings: the specification, and what its names are bound to.
        if_there: look at files that exist, and let others be missing.

    Raises:
        UsageError: one is not, or lies outside the specification's folder.
    """
    for name in needed_models(spec):
        model = spec.models[name]
        with placed(spec, name, model.span):
            if if_there and not model.bound and not Path(model.folder, model.path).exists():
                continue
            given = bindings[name] if model.bound else confine(model.path, model.folder or None)
            if isinstance(given, str | Path):
                require_model(Path(given))


def require_model(path: Path) -> None:
    """That a file is there and may be a Keras model.

    Raises:
        UsageError: it is not.
    """
    if not path.exists():
        raise UsageError(f"there is no model {path}")
    wrong = complaint(path) or inputs_complaint(path)
    if wrong is not None:
        raise UsageError(wrong)


def require_writable(folder: Path) -> None:
    """That files can be written into a folder, which need not exist yet.

    Raises:
        UsageError: they cannot.
    """
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir():
        raise UsageError(f"{folder} cannot be written to: {there} is no folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UsageError(f"{folder} cannot be written to: you may not write in {there}")


def require_file_writable(path: Path) -> None:
    """That a file can be written at ``path``.

    Raises:
        UsageError: it cannot.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name a file")
    if path.exists() and not os.access(path, os.W_OK):
        raise UsageError(f"{path} cannot be written to")
    require_writable(path.absolute().parent)
