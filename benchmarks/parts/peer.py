"""Drives auto_LiRPA in an environment and a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np

ENVIRONMENT = Path(__file__).resolve().parents[2] / ".venv-peers"
REQUIREMENTS = (
    ["torch==2.13.0", "numpy==1.26.4", "gurobipy", "pyyaml", "packaging", "appdirs", "ninja", "beartype"],
    ["termcolor", "psutil", "tqdm"],
    ["--no-deps", "neuralsat==0.2.17"],  # auto_LiRPA comes inside it
)
"""What each ``pip install`` takes."""


class Peer:
    """auto_LiRPA with one network; use it as a context manager."""

    def __init__(self, model: keras.Model, x: np.ndarray, folder: Path, threads: int):
        weights = folder / "weights.npz"
        export(model, x, weights)
        worker = Path(__file__).with_name("peer_worker.py")
        self._process = subprocess.Popen(
            [_python(), "-W", "ignore", str(worker)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(folder / "peer.log").open("w"),
            text=True,
        )
        self._log = folder / "peer.log"
        loaded = self.ask("load", weights=str(weights), threads=threads)
        self.versions: dict[str, str] = loaded["versions"]
        self.logits = np.array(loaded["logits"])

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)

    def ask(self, request: str, **arguments: Any) -> dict[str, Any]:
        """Sends one request and waits for its answer."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            print(json.dumps({"do": request, **arguments}), file=self._process.stdin, flush=True)
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise RuntimeError(f"the peer's process ended during {request!r}:\n{self._log.read_text()[-2000:]}")
        return json.loads(answer)


def export(model: keras.Model, x: np.ndarray, path: Path) -> None:
    """Writes a sequential Keras network and its inputs as plain arrays.

    Raises:
        ValueError: a layer that the worker could not rebuild faithfully.
    """
    layers: list[dict[str, Any]] = []
    arrays: dict[str, np.ndarray] = {"x": x}
    for layer in model.layers:
        entry = _describe(layer)
        if entry["weights"]:
            arrays[f"k{len(layers)}"], arrays[f"b{len(layers)}"] = layer.get_weights()
        layers.append(entry)
    np.savez(path, layers=json.dumps(layers), **arrays)


def _describe(layer: keras.Layer) -> dict[str, Any]:
    linear = getattr(layer, "activation", None) in (None, keras.activations.linear)
    match type(layer):
        case keras.layers.Flatten:
            return {"kind": "flatten", "shape": list(layer.input.shape[1:]), "weights": False}
        case keras.layers.Activation if layer.activation is keras.activations.relu:
            return {"kind": "relu", "weights": False}
        case keras.layers.Dense if linear and layer.use_bias:
            return {"kind": "dense", "weights": True}
        case keras.layers.Conv2D if linear and layer.use_bias and layer.padding == "valid" and layer.groups == 1:
            return {"kind": "conv", "weights": True, "strides": list(layer.strides)}
    raise ValueError(f"the peer's worker has no rule for the layer {layer.name!r} ({type(layer).__name__})")


def _python() -> str:
    """The interpreter of the peers' environment, which is built on first use."""
    python = ENVIRONMENT / "bin" / "python"
    done = ENVIRONMENT / "installed"
    if not done.exists():
        print("building the peers' environment (PyTorch and auto_LiRPA; a few minutes)", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True)
        for packages in REQUIREMENTS:
            subprocess.run([str(python), "-m", "pip", "install", "--quiet", *packages], check=True)
        done.touch()
    return str(python)
