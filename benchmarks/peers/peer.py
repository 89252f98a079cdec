"""Drives auto_LiRPA in an environment and a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common.data import REPOSITORY

ENVIRONMENT = REPOSITORY / ".venv-peers"
REQUIREMENTS = (
    ["torch==2.13.0", "numpy==1.26.4", "gurobipy", "pyyaml", "packaging", "appdirs", "ninja", "beartype"],
    ["termcolor", "psutil", "tqdm"],
    ["--no-deps", "neuralsat==0.2.17"],  # auto_LiRPA comes inside it
)
"""What each ``pip install`` takes."""


class OutOfMemoryError(RuntimeError):
    """The peer asked for more memory than it was allowed."""


class Peer:
    """auto_LiRPA with one network; use it as a context manager.

    Args:
        network: the network and the images that are asked about, as ``export.py`` writes them.
        threads: threads of the peer.
        memory_gib: heap and anonymous mappings that the peer's process may take, in GiB.
        python: an interpreter that has the peer; where there is none, an environment is built for it.
        device: where the peer computes, as PyTorch names it; on others than ``cpu`` memory is not limited.
    """

    def __init__(self, network: Path, threads: int, memory_gib: float, python: str | None = None, device: str = "cpu"):
        worker = Path(__file__).with_name("worker.py")
        self._log = network.with_suffix(".log")
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [python or environment(), "-P", "-W", "ignore", str(worker)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        loaded = self.ask("load", path=str(network), threads=threads, memory_gib=memory_gib, device=device)
        self.versions: dict[str, str] = loaded["versions"]

    def logits(self) -> np.ndarray:
        """The peer's outputs at the images."""
        return np.array(self.ask("logits")["logits"])

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def ask(self, request: str, **arguments: Any) -> dict[str, Any]:
        """Sends one request and waits for its answer.

        Raises:
            OutOfMemoryError: the answer would take more memory than the peer has.
            RuntimeError: the peer's process ended.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            print(json.dumps({"do": request, **arguments}), file=self._process.stdin, flush=True)
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise RuntimeError(f"the peer's process ended during {request!r}:\n{self._log.read_text()[-2000:]}")
        found = json.loads(answer)
        if "out_of_memory" in found:
            raise OutOfMemoryError(found["out_of_memory"])
        return found


def environment(*more: str) -> str:
    """The interpreter of the peers' environment, built on first use, and of the packages that a peer needs besides."""
    python = ENVIRONMENT / "bin" / "python"
    if not (ENVIRONMENT / "installed").exists():
        print("building the peers' environment (PyTorch and auto_LiRPA; a few minutes)", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True)
        _install(python, REQUIREMENTS, ENVIRONMENT / "installed")
    for package in more:
        if not (done := ENVIRONMENT / f"installed-{package}").exists():
            _install(python, ([package],), done)
    return str(python)


def _install(python: Path, requirements: Iterable[Sequence[str]], done: Path) -> None:
    for packages in requirements:
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *packages], check=True)
    done.touch()
