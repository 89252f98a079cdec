"""Whether limits hold: seconds to the first verdict, and the worst overrun of a time limit, each in a new process.

    python -m benchmarks.complete.limits [--counts] [--checkout FOLDER] [NAME ...]

The demo's CNN, a 6 x 50 MLP with random weights and the CIFAR CNN of the reference models are asked with ``split``,
``milp`` and ``minimum_perturbation``; NAMEs select networks. What was found out is read from the journal while the run
writes it, so the script runs on any version: ``--checkout`` names a folder with another one. ``--counts`` counts, in
runs of their own, how often the network was flattened and a formula lowered.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.common.data import REPOSITORY, find, pixels

NETWORKS = {"demo CNN": 0.02, "6 x 50 MLP": 0.01, "CIFAR CNN": 0.002}
"""Each network with the radius that is asked about: some samples are neither easy to prove nor to refute."""
WAYS = ("split", "milp", "minimum")
LIMIT, SAMPLES = 5.0, 3
FLATTENING = {"plain", "_matrices"}
"""What the function that flattens a network was ever called."""
LOWERING = {"lower"}


def build(name: str) -> tuple[Any, Any, Any]:
    """The model, its samples and labels."""
    import keras
    import numpy as np

    if name == "6 x 50 MLP":
        keras.utils.set_random_seed(0)
        layers = [keras.layers.Dense(50, activation="relu") for _ in range(6)]
        model = keras.Sequential([keras.Input((784,)), *layers, keras.layers.Dense(10)])
        x = np.random.default_rng(0).random((SAMPLES, 784)).astype("float32")
    elif name == "demo CNN":
        model = keras.models.load_model(REPOSITORY / "examples" / "mnist_small.keras")
        x = (pixels("mnist", "test")[0][:SAMPLES] / 255.0).astype("float32").reshape(-1, *model.input_shape[1:])
    else:
        model = keras.models.load_model(find("reference/models/cifar_cnn_5layer_5_3_relu_s0.keras"))
        with np.load(find("reference/cifar10_test200.npz")) as images:
            stored = images[next(key for key in images.files if images[key].ndim == 4)]
        x = (stored[:SAMPLES] / 255.0 - 0.5).astype("float32")
    return model, x, np.asarray(model(x)).argmax(1)


def ask(name: str, way: str, began: float) -> dict[str, Any]:
    """Asks once: when each answer came (seconds since ``began``), and what was prepared before."""
    import tfcert

    model, x, y = build(name)
    eps, low = NETWORKS[name], -0.5 if name == "CIFAR CNN" else 0.0
    if way == "minimum":
        times: list[float] = []
        asked = time.time()
        answer = tfcert.minimum_perturbation(
            model, x, y, clip=(low, low + 1.0), time_limit=LIMIT,
            progress=lambda p: times.append(time.time() - began) if p.done else None,
        )  # fmt: skip
        setup = float(getattr(answer, "setup_seconds", 0.0))
        # Attacks look at all samples at once: each sample's seconds hold its share, and the wall clock their sum.
        together = (times[-1] - (asked - began) - setup) / SAMPLES
        over = max(float(answer.seconds.max()), together) - LIMIT
        return {"asked": asked - began, "times": times, "setup": setup, "overrun": over}
    text = f"""prop 1
model clf = keras("clf.keras") {{ outputs: logits }}
strategy s = ibp -> {way}(time_limit={LIMIT:g}s)
dataset d = npz("d.npz") {{ range: [{low}, {low + 1.0}] }}
property p(x, y in d) using s {{
  forall z in ball(x, linf, {eps}) within [{low}, {low + 1.0}] in raw: argmax(clf(z)) == y
}}
"""  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        journal, times, running = Path(folder) / "journal.jsonl", [], True

        def watch() -> None:
            while running:
                lines = journal.read_bytes().count(b"\n") if journal.exists() else 0
                while len(times) < lines - 1:
                    times.append(time.time() - began)
                time.sleep(0.01)

        watcher = threading.Thread(target=watch)
        watcher.start()
        asked = time.time()
        report = tfcert.verify(text, bindings={"clf": model, "d": (x, y)}, out=folder, verbose=0)
        time.sleep(0.05)
        running = False
        watcher.join()
    prepared = report.header.get("setup_seconds", {}).get("p", {})
    setup = float(sum(prepared.values()))
    ends = [asked - began + setup, *times[:SAMPLES]]
    over = max(b - a for a, b in pairwise(ends)) - LIMIT
    return {"asked": asked - began, "times": times[:SAMPLES], "setup": setup, "overrun": over}


def counted(name: str, way: str) -> dict[str, int]:
    """How often the network was flattened and a formula lowered in one run."""
    import cProfile
    import pstats

    profile = cProfile.Profile()
    profile.runcall(ask, name, way, time.time())
    calls = {"flattened": 0, "lowered": 0}
    for (file, _, function), (_, number, *_) in pstats.Stats(profile).stats.items():
        if "tfcert" in file and file.endswith(("plain.py", "piecewise.py")) and function in FLATTENING:
            calls["flattened"] += number
        if file.endswith("lowering.py") and function in LOWERING:
            calls["lowered"] += number
    return calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NETWORKS))
    parser.add_argument("--counts", action="store_true", help="count instead of timing")
    parser.add_argument("--checkout", help="the folder of another version")
    parser.add_argument("--one", nargs=2, metavar=("NETWORK", "WAY"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        began = float(os.environ["BEGAN"])
        print(json.dumps(counted(*options.one) if options.counts else ask(*options.one, began)))
        return
    print("| network | way | first verdict, s | of it setting up, s | worst overrun of 5 s, s | flattened | lowered |")
    print("|---|---|---|---|---|---|---|")
    for name in options.names or NETWORKS:
        for way in WAYS:
            print(row(name, way, options), flush=True)


def row(name: str, way: str, options: argparse.Namespace) -> str:
    """One row of the table."""
    arguments = [sys.executable, "-m", "benchmarks.complete.limits", "--one", name, way]
    timed = run(arguments, options.checkout)
    calls = run([*arguments, "--counts"], options.checkout) if options.counts else {"flattened": "", "lowered": ""}
    first = timed["times"][0] if timed["times"] else float("nan")
    seconds = f"{first:.1f} | {timed['setup']:.1f} | {max(0.0, timed['overrun']):.2f}"
    return f"| {name} | {way} | {seconds} | {calls['flattened']} | {calls['lowered']} |"


def run(arguments: list[str], checkout: str | None) -> dict[str, Any]:
    """What a run in a new process answers."""
    path = os.pathsep.join([*([checkout] if checkout else []), str(REPOSITORY)])
    environment = os.environ | {"BEGAN": str(time.time()), "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": path}
    arguments = [arguments[0], "-P", *arguments[1:]]
    done = subprocess.run(
        [arguments[0], "-P", *arguments[1:]],
        env=environment,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


if __name__ == "__main__":
    main()
