"""Images a second of bounds, radius search and training on the device at hand, beside auto_LiRPA, in eight minutes.

python -m benchmarks.gpu --json FILE                 every section; what is done is in the file as it goes
python -m benchmarks.gpu --only crown training       sections whose name has one of the words
python -m benchmarks.gpu --small                     a tiny network: does everything run?
python -m benchmarks.gpu --export FOLDER             where TensorFlow is: writes what a machine without it needs
python -m benchmarks.gpu --folder FOLDER             there: runs the exported passes with jax

Each section is a process of its own with a limit of time, and the limits together hold eight minutes. Passes are
compiled whole (``jit=True``). Where TensorFlow is missing, exported passes run through ``run_hlo.py``, and training is
left out. The peer runs where its interpreter (``--peer-python``) has auto_LiRPA and a PyTorch that sees a GPU (with
``--small`` a CPU will do); else our side stands alone and the file says so. It bisects radii with its own bounds, to
our tolerance.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
WORKS = {"ibp": 25, "crown": 50, "alpha-crown": 85, "radius": 55, "training ibp": 30, "training crown-ibp": 45}
"""Of our side, with seconds that each may take; the peer's, which compile nothing, get half."""
PREPARE, PREPARATION, TOTAL = "prepare", 40, 480
PEER, US, EXPORTED = "auto_LiRPA", "tfcert", "exported"
TOLERANCE, UPPER, ITERATIONS = 0.01, 0.5, 20
_TRAINED = "mnist_cnn_4layer_5_3_relu"


@dataclass(frozen=True)
class Size:
    """How much is asked: images of a pass by method, training steps, and MiB that a pass of ours may take."""

    images: int
    steps: int
    memory_mb: int


LARGE, SMALL = Size(100, 50, 16384), Size(2, 2, 1024)


def prepare(folder: Path, small: bool, passes: tuple[str, ...] = ()) -> None:
    """Writes the network, the question and, for machines without TensorFlow, the compiled passes of these methods."""
    import tfcert
    from benchmarks.peers.export import export
    from tfcert.certification.export import export_hlo

    size, model = (SMALL if small else LARGE), _network(small)
    x = _images(model, size.images)
    labels = np.asarray(model(x)).argmax(axis=1)
    model.save(folder / "network.keras")
    export(model, x, folder / "network.npz")
    eps, classes = (0.002 if small else 0.031), model.output_shape[-1]
    np.savez(folder / "question.npz", x=x, labels=labels, eps=eps, classes=classes)
    for method in passes:
        ball = tfcert.LpBall(x, eps)
        options = tfcert.BoundOptions(rounding="ignore", iterations=ITERATIONS, memory_mb=size.memory_mb)
        export_hlo(model, ball, labels, method=method, options=options).save(folder / f"{method}.npz")


def _network(small: bool) -> Any:
    import keras

    from benchmarks.common import architectures, data, networks

    keras.utils.set_random_seed(0)
    if small:
        x = keras.Input((6, 6, 1))
        hidden = keras.layers.Activation("relu")(keras.layers.Conv2D(2, 3)(x))
        return keras.Model(x, keras.layers.Dense(3)(keras.layers.Flatten()(hidden)))
    known = data.has(f"reference/models/{_TRAINED}_s0.keras")
    return networks.load(_TRAINED) if known else architectures.build(_TRAINED)


def _images(model: Any, count: int) -> np.ndarray:
    """Test images of MNIST where they are, else noise of the network's shape."""
    from benchmarks.common import data, networks

    if tuple(model.input_shape[1:]) == (28, 28, 1):
        with contextlib.suppress(data.MissingDataError):
            return networks.test_images(_TRAINED).x[:count]
    return np.random.default_rng(0).uniform(-0.5, 0.5, (count, *model.input_shape[1:])).astype(np.float32)


def timed(run: Callable[[], Any], images: int, seconds: float) -> dict[str, Any]:
    """A first call, and further ones (at least one, at most twenty) while half of the time is left."""
    end, times = time.perf_counter() + seconds / 2, []
    while len(times) < 2 or (len(times) < 21 and time.perf_counter() < end):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    median = statistics.median(times[1:])
    rounded = [round(t, 5) for t in times[1:]]
    return {"first_seconds": times[0], "seconds": rounded, "images": images, "images_per_second": images / median}


def ours(work: str, folder: Path, size: Size, seconds: float) -> dict[str, Any]:
    """One section of our side, in this process."""
    import tensorflow as tf

    import tfcert

    device = {"device": (tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU"))[0].name}
    model, question = tfcert.load_model(folder / "network.keras"), np.load(folder / "question.npz")
    x, labels, eps = question["x"], question["labels"], float(question["eps"])
    if work.startswith("training"):
        return device | timed(_training(model, work, x, labels, size.steps), size.steps * len(x), seconds)
    options = tfcert.BoundOptions(rounding="ignore", jit=True, iterations=ITERATIONS, memory_mb=size.memory_mb)

    def run() -> None:
        if work == "radius":
            tfcert.certified_radius(model, x, labels, norm="linf", tolerance=TOLERANCE, upper=UPPER, options=options)
        else:
            tfcert.margins(model, tfcert.LpBall(x, eps), labels, method=work, options=options)

    return device | timed(run, len(x), seconds)


def _training(model: Any, work: str, x: np.ndarray, labels: np.ndarray, steps: int) -> Callable[[], Any]:
    import tfcert

    objective = {"training ibp": tfcert.objectives.IBP, "training crown-ibp": tfcert.objectives.CrownIBP}[work]
    certified = tfcert.CertifiedModel(model, objective(0.01, kappa=0.0))
    certified.compile("adam", jit_compile=True)
    many, wanted = np.concatenate([x] * steps), np.concatenate([labels] * steps)
    return lambda: certified.fit(many, wanted, batch_size=len(x), shuffle=False, verbose=0)


def exported(work: str, folder: Path, seconds: float) -> dict[str, Any]:
    """One section of our side through jax: a pass that was exported, or a search with the exported CROWN pass."""
    from benchmarks import run_hlo

    given = run_hlo.read_pass(folder / f"{'crown' if work == 'radius' else work}.npz")
    executable = run_hlo.compile_pass(given)
    import jax

    centre, eps, others = given.arguments[0], given.arguments[3], given.arguments[4:]
    if work != "radius":
        bounds, _, _ = run_hlo.run_pass(executable, given, 1)
        assert run_hlo.deviation(bounds, given.bounds) <= 1e-4, "another device computes other bounds"

    def bound(radius: np.ndarray) -> np.ndarray:
        wide = radius.reshape(-1, *[1] * (centre.ndim - 1)).astype(centre.dtype)
        asked = [centre, centre - wide, centre + wide, radius.astype(eps.dtype)]
        placed = [jax.device_put(value, jax.devices()[0]) for value in (*asked, *others)]
        results = executable.execute_sharded(placed).disassemble_into_single_device_arrays()
        return np.asarray(results[0][0])

    def run() -> None:
        if work != "radius":
            bound(eps)
            return
        low, high = np.full(len(centre), 1e-4), np.full(len(centre), UPPER)
        while (high / low).max() > 1 + TOLERANCE:
            middle = np.sqrt(low * high)
            safe = bound(middle).min(axis=1) > 0
            low, high = np.where(safe, middle, low), np.where(safe, high, middle)

    return {"device": str(jax.devices()[0]), **timed(run, len(centre), seconds)}


def peer(work: str, folder: Path, size: Size, python: str, device: str, seconds: float) -> dict[str, Any]:
    """One section of the peer's side."""
    from benchmarks.peers.peer import Peer

    question = np.load(folder / "question.npz")
    labels, eps = question["labels"], float(question["eps"])
    eye = np.eye(int(question["classes"]), dtype=np.float32)
    rows = [(eye[label] - np.delete(eye, label, axis=0)).tolist() for label in labels]
    method = work if work in ("ibp", "crown", "alpha-crown") else "crown"
    with Peer(folder / "network.npz", os.cpu_count() or 1, 64, python, device) as running:
        options = {"optimize_bound_args": {"iteration": ITERATIONS, "lr_alpha": 0.5}}
        first = running.ask("prepare", norm="linf", eps=eps, method=method, rows=rows, options=options)
        count, how = len(labels), {"lower": 1e-4, "upper": UPPER, "tolerance": TOLERANCE}
        if work.startswith("training"):
            kind, count = work.removeprefix("training "), size.steps * len(labels)
            found = timed(lambda: running.ask("train", eps=0.01, method=kind, steps=size.steps), count, seconds)
        elif work == "radius":
            found = timed(lambda: running.ask("search", **how), count, seconds)
        else:
            found = timed(lambda: running.ask("run"), count, seconds)
        return {"device": device} | found | {"first_seconds": first["seconds"], "versions": running.versions}


def peers_device(python: str) -> str | None:
    """Where the peer of an interpreter computes; None where it has none."""
    code = "import torch; from src.abstractor import auto_LiRPA; print('cuda' if torch.cuda.is_available() else 'cpu')"
    done = subprocess.run([python, "-W", "ignore", "-c", code], capture_output=True, text=True)
    return done.stdout.split()[-1] if done.returncode == 0 else None


def run_section(name: str, command: list[str], limit: float) -> dict[str, Any]:
    """What a process says on its last line; where it fails or its time is up, that."""
    try:
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return {"name": name, "stopped_after_seconds": limit}
    if done.returncode:
        return {"name": name, "failed": done.stderr[-500:]}
    return {"name": name, **json.loads((done.stdout.splitlines() or ["{}"])[-1])}


def run_all(sections: dict[str, tuple[list[str], float]], result: dict[str, Any], file: Path | None) -> None:
    """Runs commands by name, each within its limit and all within the total, and stores after each."""
    end = time.monotonic() + TOTAL
    for name, (command, limit) in sections.items():
        found = run_section(name, command, max(1.0, min(limit, end - time.monotonic())))
        result["sections"].append(found)
        print(f"{name}: {found.get('images_per_second') or found}", flush=True)
        if file is not None:
            file.write_text(json.dumps(result, indent=1) + "\n")
        if name == PREPARE and len(found) > 1:
            return  # there is nothing to measure


def main(arguments: list[str] | None = None) -> None:
    """Measures, or does one section."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", metavar="WORD", default=[""], help="sections with one of these words")
    parser.add_argument("--small", action="store_true", help="a tiny network, two images")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where results go")
    parser.add_argument("--export", type=Path, metavar="FOLDER", help="only write what needs TensorFlow")
    parser.add_argument("--folder", type=Path, metavar="FOLDER", help="what was exported")
    parser.add_argument("--peer-python", default=sys.executable, metavar="PYTHON", help="an interpreter with the peer")
    parser.add_argument("--section", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.section:
        side, _, work = options.section.partition(" ")
        print(json.dumps(_section(side, work, options)))
        return
    if options.export:
        options.export.mkdir(exist_ok=True)
        prepare(options.export, options.small, ("ibp", "crown", "alpha-crown"))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        _measure(folder, options)


def _section(side: str, work: str, options: argparse.Namespace) -> dict[str, Any]:
    size = SMALL if options.small else LARGE
    if side == PREPARE:
        prepare(options.folder, options.small)
        return {}
    if side == EXPORTED:
        return exported(work, options.folder, WORKS[work])
    if side == PEER:
        device = peers_device(options.peer_python) or "cpu"
        return peer(work, options.folder, size, options.peer_python, device, WORKS[work] / 2)
    return ours(work, options.folder, size, WORKS[work])


def _measure(folder: Path, options: argparse.Namespace) -> None:
    has_tensorflow = importlib.util.find_spec("tensorflow") is not None
    common = ["--folder", str(folder), "--peer-python", options.peer_python, *["--small"] * options.small]

    def command(section: str) -> list[str]:
        return [sys.executable, "-m", "benchmarks.gpu", "--section", section, *common]

    result: dict[str, Any] = {"small": options.small, "sections": []}
    device = peers_device(options.peer_python)
    beside = device == "cuda" or (device == "cpu" and options.small)
    if not beside:
        result["peer"] = f"left out: {options.peer_python} has no auto_LiRPA on a GPU"
    side = US if has_tensorflow else EXPORTED
    sections = {} if options.folder else {PREPARE: (command(PREPARE), PREPARATION)}
    for work, limit in WORKS.items():
        if has_tensorflow or not work.startswith("training"):
            sections[f"{side} {work}"] = (command(f"{side} {work}"), limit)
        if beside:
            sections[f"{PEER} {work}"] = (command(f"{PEER} {work}"), limit / 2)
    chosen = {
        name: section
        for name, section in sections.items()
        if name == PREPARE or any(word in name for word in options.only)
    }
    run_all(chosen, result, options.json)


if __name__ == "__main__":
    main()
