"""The model and the samples that verbs without a specification are asked about, loaded and checked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from tfcert.catalog import SOURCES, of_file
from tfcert.clauses import SINGLE_OUTPUT
from tfcert.datasets import Samples, load_dataset
from tfcert.datasets.npz import npz_keys
from tfcert.driver.files import require_model, require_writable
from tfcert.driver.fingerprint import data_hash, weights_hash
from tfcert.driver.header import run_header
from tfcert.driver.task import LoadedModel
from tfcert.errors import UsageError
from tfcert.given import no_classes
from tfcert.report.records import Json


@dataclass(frozen=True)
class Request:
    """A question of the command line: files, the norm, the valid range, how many samples, a folder for witnesses.

    ``correct``: the samples are the first ``limit`` that the model classifies correctly, instead of the first ones.
    """

    model: str
    data: str
    norm: str
    clip: tuple[float, float] | None
    limit: int
    out: str | None = None
    correct: bool = False

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
            raise UsageError(
                f"{self.data} has no labels: an npz needs arrays x and y; a csv is for specifications, which name the "
                "column of its labels"
            )
        end = None if self.correct else self.limit
        found = Samples(samples.x[:end], samples.y[:end])
        self._check_values(found.x)
        if self.out is not None:
            require_writable(Path(self.out))
        return found

    @cached_property
    def _stored(self) -> Samples:
        """All of the file; arrays of several inputs, in the order of the model's, as one vector a sample."""
        source = (of_file(SOURCES, self.data) or SOURCES["npz"]).name
        keys = npz_keys(self.data) if source == "npz" else ()
        names = [key for key in keys if key != "y"]
        if "x" in keys or len(names) < 2:
            return load_dataset(source, self.data)
        from tfcert.loading import load_model
        from tfcert.network import inputs_of

        parts = inputs_of(load_model(Path(self.model)))
        if parts is None or sorted(parts.names) != sorted(names):
            has = "one input, the array x" if parts is None else f"the inputs {parts}"
            raise UsageError(f"{self.data} has the arrays {', '.join(names)}; the model has {has}")
        return load_dataset(source, self.data, x=parts.names)

    @property
    def total(self) -> int:
        """The number of samples in the file."""
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
        from tfcert.loading import load_model
        from tfcert.network.cache import network_of

        x, labels = self.samples
        assert labels is not None
        keras_model = load_model(Path(self.model))
        network = network_of(keras_model)
        x = x.astype(network.dtype.as_numpy_dtype)
        if tuple(x.shape[1:]) != tuple(network.input_shape):
            raise UsageError(f"{self.data}: samples have shape {x.shape[1:]}, the model takes {network.input_shape}")
        steps = [part for part in network.parts or () if part.in_steps]
        if steps:
            raise UsageError(
                f"{self.model}: input {steps[0].name} holds {steps[0].dtype}, which changes in steps: "
                "ask in Python, where inputs are held fixed (free=...), or by a specification"
            )
        loaded = LoadedModel(Path(self.model).stem, keras_model, network, weights_hash(keras_model))
        if loaded.num_outputs < 2:
            raise UsageError(f"{self.model}: {SINGLE_OUTPUT}")
        wrong = no_classes(labels, loaded.num_outputs)
        if len(wrong):
            raise UsageError(
                f"{self.data}: sample {wrong[0]} has label {labels[wrong[0]]}, but the model has "
                f"{loaded.num_outputs} outputs, counted from 0"
            )
        labels = labels.astype(np.int64)
        self._check_values(x)
        if not self.correct:
            return Loaded(loaded, x, labels, np.arange(len(x)))
        from tfcert.propagation.question import first_correct

        places = first_correct(network, x, labels, self.limit)
        return Loaded(loaded, x[places], labels[places], places)

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
            "params": {"norm": self.norm, "clip": self.clip and list(self.clip), "limit": self.limit}
            | {"correct": self.correct}
            | params,
        }


@dataclass(frozen=True, eq=False)
class Loaded:
    """A model with samples ``[n, *input]``, as it receives them, their labels ``[n]``, and their places in the file."""

    model: LoadedModel
    x: np.ndarray
    y: np.ndarray
    places: np.ndarray

    def take(self, some: np.ndarray) -> Loaded:
        """Some of the samples."""
        return Loaded(self.model, self.x[some], self.y[some], self.places[some])

    def header(self) -> Json:
        """The part of a header that is about the model."""
        return {"weights_sha256": {self.model.name: self.model.sha256}}
