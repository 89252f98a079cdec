"""The machine that a benchmark ran on, and how fast it multiplies matrices."""

from __future__ import annotations

import os
import platform
import time
from importlib.metadata import version
from pathlib import Path

import tensorflow as tf

THREADS = 2
"""Every side of every comparison runs on this many threads."""


def limit_threads() -> None:
    """Gives TensorFlow ``THREADS`` threads; call it before anything is computed."""
    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    tf.config.threading.set_inter_op_parallelism_threads(THREADS)


def describe() -> dict[str, object]:
    """CPU model, cores, load over the last five minutes (above 2: a busy machine), library versions."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "threads": THREADS,
        "load_average": round(os.getloadavg()[1], 1),
        "python": platform.python_version(),
        **{name: version(name) for name in ("tensorflow", "keras", "numpy", "tfcert")},
    }


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def product_peak(size: int = 2048, passes: int = 9) -> float:
    """The machine's measured peak: FLOPs per second of the fastest of several square float32 matrix products."""
    left, right = (tf.random.stateless_uniform([size, size], [0, seed]) for seed in (1, 2))
    seconds = []
    for _ in range(passes + 1):
        start = time.perf_counter()
        tf.linalg.matmul(left, right).numpy()
        seconds.append(time.perf_counter() - start)
    return 2.0 * size**3 / min(seconds[1:])
