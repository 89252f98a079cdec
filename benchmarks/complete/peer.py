"""Asks Marabou and NeuralSAT whether images are robust, in environments of their own, and replays what they answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from benchmarks.common.data import REPOSITORY
from benchmarks.complete.networks import CLIP, EPS, Digits, weights
from benchmarks.complete.tasks import ROBUST, UNKNOWN, judged
from benchmarks.peers.peer import environment

ENVIRONMENT = REPOSITORY / ".venv-marabou"
REQUIREMENTS = ("maraboupy==2.0.0", "numpy<2")
_BESIDE_TORCH = ("onnx==1.23.2", "onnxruntime", "onnxsim", "sortedcontainers")
"""What NeuralSAT needs beside the packages of the peers' environment, of which it is one."""
_GRACE = 30.0
"""Seconds that a process may take to start, build its queries and end, beyond its time."""


@dataclass(frozen=True)
class Peer:
    """A verifier: how tables call it, and the interpreter that has it (built on first use)."""

    title: str
    python: Callable[[], str]


def asked(peer: str, model: keras.Model, digits: Digits, limit: float) -> dict[str, Any]:
    """What a peer says of one image within ``EPS``: stored like tfcert's answers, the peer's own time included."""
    x = digits.x[0].astype(np.float64).ravel()
    lower, upper = np.maximum(x - EPS, CLIP[0]), np.minimum(x + EPS, CLIP[1])
    label, logits = int(digits.y[0]), model(digits.x).numpy()[0]
    others = [int(c) for c in np.argsort(-logits) if c != label]  # first the classes that are most easily reached
    question = {"lower": lower.tolist(), "upper": upper.tolist(), "label": label, "others": others, "seconds": limit}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.npz"
        layers = list(enumerate(weights(model)))
        arrays: dict[str, Any] = {f"kernel{i}": kernel for i, (kernel, _) in layers}
        np.savez(path, **arrays | {f"bias{i}": bias for i, (_, bias) in layers})
        command = [PEERS[peer].python(), "-P", str(Path(__file__).with_name(f"{peer}.py")), str(path)]
        asks = {"input": json.dumps(question) + "\n", "text": True, "env": os.environ | {"OMP_NUM_THREADS": "1"}}
        try:
            done = subprocess.run(command, capture_output=True, timeout=limit + _GRACE, **asks)
        except subprocess.TimeoutExpired:
            return {"outcome": UNKNOWN, "seconds": limit, "reason": "did not end in time and was stopped"}
    if done.returncode != 0:
        return {"outcome": UNKNOWN, "seconds": limit, "reason": f"ended with code {done.returncode}"}
    return _read(model, digits, json.loads(done.stdout.splitlines()[-1]))


def _read(model: keras.Model, digits: Digits, answer: dict[str, Any]) -> dict[str, Any]:
    stored = {"seconds": round(answer["seconds"], 3)}
    if "x" in answer:
        return stored | judged(model, digits, _inward(np.array(answer["x"]), digits.x[0].ravel()))
    if answer["outcome"] == "unsat":
        return stored | {"outcome": ROBUST}
    return stored | {"outcome": UNKNOWN, "reason": answer["outcome"]}


def _inward(point: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The point in float32; where rounding left the radius one step back, so that it alone costs no witness."""
    rounded = point.astype(np.float32)
    beyond = np.abs(rounded.astype(np.float64) - x) > EPS
    return np.clip(np.where(beyond, np.nextafter(rounded, x), rounded), *CLIP)


def _marabou() -> str:
    """The interpreter of Marabou's environment, which is built on first use."""
    interpreter, done = ENVIRONMENT / "bin" / "python", ENVIRONMENT / "installed"
    if not done.exists():
        print("building Marabou's environment (a minute)", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True)
        subprocess.run([str(interpreter), "-m", "pip", "install", "--quiet", *REQUIREMENTS], check=True)
        done.touch()
    return str(interpreter)


PEERS = {
    "marabou": Peer("maraboupy 2.0.0", _marabou),
    "neuralsat": Peer("neuralsat 0.2.17", lambda: environment(*_BESIDE_TORCH)),
}
