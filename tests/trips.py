"""Counts the files that four questions enter on their way, and the calls from one file into another.

    python tests/trips.py [--revision REV]

Each trip is made twice on models of its own: the first loads what is loaded lazily, the second is counted. A crossing
is a call of a function in another file of the package than that of the nearest caller within it. With ``--revision``
the package of that commit is counted instead, by this script.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
SPEC = """\
prop 1
model clf = keras("clf.keras") { outputs: logits }
dataset test = npz("test.npz", x="x", y="y") { range: [0, 1] }
strategy plan = pgd -> crown -> split { batch: 2 }
property robust(x, y in test) using plan {
  forall z in ball(x, linf, 0.02) within [0, 1] in net: argmax(clf(z)) == y
}
"""


@dataclass
class Trip:
    """The files that a question entered, as paths within the package, and how often it went from one into another.

    ``roads`` are the pairs of files between which it went at all: repeated passes do not change them.
    """

    package: Path
    files: set[str] = field(default_factory=set)
    crossings: int = 0
    roads: set[tuple[str, str]] = field(default_factory=set)

    def of(self, frame: FrameType | None) -> str | None:
        """The file of the package whose code a frame runs; None for other code, and for the body of a module."""
        if frame is None or frame.f_code.co_name == "<module>":
            return None
        name = frame.f_code.co_filename
        return name.removeprefix(str(self.package)) if name.startswith(str(self.package)) else None

    def see(self, frame: FrameType, event: str, _: Any) -> None:
        """Takes a profiler's event."""
        entered = self.of(frame) if event == "call" else None
        if entered is None:
            return
        self.files.add(entered)
        caller = frame.f_back
        while caller is not None and self.of(caller) is None:
            caller = caller.f_back
        left = self.of(caller)
        if left is not None and left != entered:
            self.crossings += 1
            self.roads.add((left, entered))

    @property
    def counts(self) -> tuple[int, int, int]:
        """Files, crossings and roads."""
        return len(self.files), self.crossings, len(self.roads)


def classifier(seed: int) -> Any:
    """Four inputs, eight ReLUs, three classes."""
    import keras

    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, activation="relu"), keras.layers.Dense(3)])


def samples(model: Any) -> tuple[np.ndarray, np.ndarray]:
    """Two inputs and the classes that the model gives them."""
    x = np.random.default_rng(0).random((2, 4)).astype(np.float32)
    return x, np.asarray(model(x)).argmax(axis=1)


def verify_property(model: Any, folder: Path) -> Callable[[], Any]:
    import tfcert

    x, y = samples(model)
    model.save(folder / "clf.keras")
    np.savez(folder / "test.npz", x=x, y=y)
    (folder / "clf.prop").write_text(SPEC)
    return lambda: tfcert.verify(folder / "clf.prop", out=folder / "out", verbose=0)


def search_radius(model: Any, folder: Path) -> Callable[[], Any]:
    import tfcert

    x, y = samples(model)
    return lambda: tfcert.certified_radius(model, x, y, norm="linf", clip=(0, 1))


def take_training_step(model: Any, folder: Path) -> Callable[[], Any]:
    import tfcert

    x, y = samples(model)
    certified = tfcert.CertifiedModel(model, tfcert.objectives.IBP(eps=0.01))
    certified.compile("adam")
    return lambda: certified.train_on_batch(x, y)


def solve_integer_program(model: Any, folder: Path) -> Callable[[], Any]:
    import tfcert

    x, y = samples(model)
    return lambda: tfcert.minimum_perturbation(model, x, y, norm="linf", clip=(0, 1))


TRIPS = {
    "a property": verify_property,
    "a radius": search_radius,
    "a training step": take_training_step,
    "an integer program": solve_integer_program,
}


def counted(prepare: Callable[[Any, Path], Callable[[], Any]]) -> Trip:
    """One trip, counted the second time."""
    import tfcert

    trip = Trip(Path(tfcert.__file__).parent)
    for seed in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            ask = prepare(classifier(seed), Path(folder))
            sys.setprofile(trip.see if seed == 2 else None)
            try:
                ask()
            finally:
                sys.setprofile(None)
    return trip


def of_revision(revision: str) -> dict[str, tuple[int, int, int]]:
    """The counts of the package at a commit."""
    with tempfile.TemporaryDirectory() as home:
        archive = subprocess.run(
            ["git", "archive", revision, "tfcert", "grammar"], cwd=ROOT, capture_output=True, check=True
        ).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            files.extractall(home, filter="data")
        (Path(home) / "grammar").rename(Path(home) / "tfcert" / "grammar")
        environment = os.environ | {"PYTHONPATH": home, "TF_CPP_MIN_LOG_LEVEL": "3"}
        command = [sys.executable, "-P", __file__, "--json"]
        answer = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, check=True).stdout
        found: dict[str, tuple[int, int, int]] = json.loads(answer.splitlines()[-1])
        return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--revision", metavar="REV")
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    options = parser.parse_args(arguments)
    if options.revision:
        found = of_revision(options.revision)
    else:
        trips = {name: counted(prepare) for name, prepare in TRIPS.items()}
        found = {name: trip.counts for name, trip in trips.items()}
    if options.json:
        print(json.dumps(found))
        return
    for name, (files, crossings, roads) in found.items():
        print(f"{name:<20}{files:>4} files{crossings:>7,} crossings of {roads:>4} roads")


if __name__ == "__main__":
    main()
