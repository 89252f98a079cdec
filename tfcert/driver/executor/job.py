"""The description of a run from which a worker makes its bench: small and picklable, its contents known by their hash.

Models and samples travel once to each worker, under the SHA-256 of their bytes; a worker loads them as the driver did,
and refuses to answer where it does not get what the driver has.
"""

from __future__ import annotations

import contextlib
import hashlib
import pickle
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from tfcert import quiet
from tfcert.driver.executor.base import Bench, Shard, ShardAnswer, Spent
from tfcert.errors import UsageError
from tfcert.memory import keep_freed_memory


@dataclass(frozen=True)
class Seat:
    """What a worker has for a bench.

    Attributes:
        contents: a folder with a file for each content, by its name.
        folder: where the bench writes the files that its records name.
        threads: that it may use.
        pass_mb: of its device's memory, what one pass of bounds may use for coefficients, in MiB; None for the usual.
    """

    contents: Path
    folder: Path
    threads: int = 1
    pass_mb: int | None = None


class Job(Protocol):
    """What there is to answer questions about."""

    def open(self, seat: Seat) -> AbstractContextManager[Bench]:
        """The bench of a worker.

        Raises:
            ValueError: what was loaded is not what the driver has.
        """


@dataclass
class Contents:
    """Bytes that workers need, each under a name that begins with its hash."""

    files: dict[str, bytes] = field(default_factory=dict)

    def add(self, data: bytes, suffix: str = "") -> str:
        """The name of some bytes; one for the same bytes."""
        name = f"{hashlib.sha256(data).hexdigest()}{suffix}"
        self.files[name] = data
        return name

    def write(self, folder: Path) -> None:
        """Writes what is not in a folder yet; each file is whole or not there."""
        for name, data in self.files.items():
            if not (folder / name).exists():
                unfinished = folder / f"{name}.part"
                unfinished.write_bytes(data)
                unfinished.rename(folder / name)


def load_tensorflow(threads: int) -> None:
    """Imports TensorFlow as the command line does, with so many threads, and has this process answer the same whatever
    it answered before."""
    quiet.import_tensorflow()
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")
    with contextlib.suppress(RuntimeError):  # a process that has computed before keeps its threads
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    from tfcert.tracing import be_steady

    be_steady()


def job_of(pickled: bytes) -> Job:
    """A job as it was described; what its class imports is imported as the command line does."""
    if "tensorflow" not in sys.modules:
        keep_freed_memory()
    with quiet.imported():
        job: Job = pickle.loads(pickled)
    return job


def model_file(name: str, given: Any) -> tuple[bytes, str]:
    """The bytes of a model's file and its suffix: of a Keras model in memory, those of the file that it is saved to."""
    if isinstance(given, str | Path):
        path = Path(given)
        if path.is_dir():
            raise UsageError(f"{name}: a model that is a folder cannot be handed to workers: {path}")
        return path.read_bytes(), path.suffix
    import keras

    if not isinstance(given, keras.Model):
        raise UsageError(f"{name}: workers take Keras models and files of models, not a {type(given).__name__}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        given.save(path)
        return path.read_bytes(), path.suffix


class Collecting:
    """A bench whose answers come with the files that it wrote for them."""

    def __init__(self, bench: Bench, folder: Path, worker: str):
        self._bench, self._folder, self._worker = bench, folder, worker
        self._sent: set[str] = set()

    def answers(self, shard: Shard) -> Iterator[ShardAnswer]:
        """As those of the bench."""
        for answer in self._bench.answers(shard):
            yield replace(answer, files=self._new(), worker=self._worker)

    def spent(self) -> Spent:
        """As that of the bench."""
        return self._bench.spent()

    def _new(self) -> Mapping[str, bytes]:
        """What was written since the last answer. Files stay, since some (a model's) are written once for many."""
        found = {}
        for path in self._folder.rglob("*"):
            name = path.relative_to(self._folder).as_posix()
            if name not in self._sent and path.is_file():
                found[name] = path.read_bytes()
        self._sent |= set(found)
        return found
