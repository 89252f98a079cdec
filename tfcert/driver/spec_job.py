"""A specification's run as workers get it: the checked specification, and models and samples by their hashes."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tfcert.datasets import Samples, confine
from tfcert.datasets.lazy import LazyInputs
from tfcert.driver.bench import SpecBench
from tfcert.driver.bind import BoundSpec, bind, load_data, needed_models
from tfcert.driver.certificates import Certificates
from tfcert.driver.executor.job import Contents, Seat, load_tensorflow, model_file
from tfcert.driver.fingerprint import data_hash
from tfcert.errors import UsageError
from tfcert.language import Spec


@dataclass(frozen=True)
class SpecJob:
    """What a worker binds again.

    Attributes:
        spec: checked.
        models: the name among the contents of each model's file.
        samples: the name among the contents of all samples; "" where they are read from their files as needed.
        files: the data sets' files that the caller named.
        weights, data: hashes of the models and samples that the driver has.
        certificates: whether proofs get certificates.
    """

    spec: Spec
    models: Mapping[str, str]
    samples: str
    files: Mapping[str, str]
    weights: Mapping[str, str]
    data: Mapping[str, str]
    certificates: bool

    @contextlib.contextmanager
    def open(self, seat: Seat) -> Iterator[SpecBench]:
        """As :meth:`tfcert.driver.executor.job.Job.open`."""
        load_tensorflow(seat.threads)
        contents = seat.contents
        models = {
            name: replace(model, bound=True) if model.whole in self.models else model
            for name, model in self.spec.models.items()
        }
        spec = replace(self.spec, models=models)
        bindings = {**self.files, **{name: contents / file for name, file in self.models.items()}}
        data: Mapping[str, Samples]
        data = pickle.loads((contents / self.samples).read_bytes()) if self.samples else load_data(spec, bindings)
        bound = bind(spec, bindings, data)
        found = {name: model.sha256 for name, model in bound.models.items()}
        _require_same("model", self.weights, found)
        _require_same("data set", self.data, {name: data_hash(samples) for name, samples in data.items()})
        certificates = Certificates(seat.folder) if self.certificates else None
        with SpecBench(bound.tasks, seat.folder, certificates, pass_mb=seat.pass_mb) as bench:
            yield bench


def _require_same(what: str, driver: Mapping[str, str], worker: Mapping[str, str]) -> None:
    wrong = [name for name, digest in driver.items() if worker.get(name) != digest]
    if wrong:
        raise UsageError(
            f"a worker has another {what} {' and '.join(wrong)} than this process: where files are read by each "
            "worker they must be the same, and a model must be the same once it is saved and loaded"
        )


def spec_job(bound: BoundSpec, bindings: Mapping[str, Any], certificates: bool) -> tuple[SpecJob, Contents]:
    """A bound specification as workers get it, with the contents that they need.

    Raises:
        UsageError: a model or samples that Python handed over cannot be handed on.
    """
    contents, spec = Contents(), bound.spec
    models = {}
    for name in needed_models(spec):
        model = spec.models[name]
        given = bindings[model.whole] if model.bound else confine(model.path, model.folder or None)
        if model.whole not in models:
            models[model.whole] = contents.add(*model_file(model.whole, given))
    lazy = [name for name, samples in bound.data.items() if isinstance(samples.x, LazyInputs)]
    for name in lazy:
        if name in bindings and not isinstance(bindings[name], str | Path):
            raise UsageError(
                f"{name}: samples that Python reads as they are needed cannot be handed to workers: give arrays, or a "
                "file that each worker can read"
            )
    files = {name: str(Path(v).resolve()) for name, v in bindings.items() if isinstance(v, str | Path)}
    files = {name: file for name, file in files.items() if name in spec.datasets}
    job = SpecJob(
        spec,
        models,
        "" if lazy else contents.add(pickle.dumps(dict(bound.data))),
        files,
        {name: model.sha256 for name, model in bound.models.items()},
        {name: data_hash(samples) for name, samples in bound.data.items()},
        certificates,
    )
    return job, contents
