"""The machine that a benchmark ran on, how fast it multiplies matrices, and how fast its memory is."""

from __future__ import annotations

import os
import platform
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.python.util import _pywrap_util_port

THREADS = 2
"""Every side of every comparison runs on this many threads."""


def limit_threads() -> None:
    """Gives TensorFlow ``THREADS`` threads; call it before anything is computed."""
    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    tf.config.threading.set_inter_op_parallelism_threads(THREADS)


def describe() -> dict[str, object]:
    """CPU model, cores, load over the last five minutes (above 2: a busy machine), library versions, oneDNN."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "threads": THREADS,
        "load_average": round(os.getloadavg()[1], 1),
        "python": platform.python_version(),
        "onednn": bool(_pywrap_util_port.IsMklEnabled()),
        **{name: version(name) for name in ("tensorflow", "keras", "numpy", "tfcert")},
    }


def identity() -> dict[str, object]:
    """What TensorFlow's kernels are chosen by: processor and its vector instructions, library versions, oneDNN."""
    here = describe()
    return {name: here[name] for name in ("cpu", "onednn", "tensorflow", "keras")} | {"features": features()}


def features() -> list[str]:
    """The vector instructions that the processor has."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    flags = next((line for line in lines if line.startswith("flags")), "")
    return sorted(flag for flag in flags.split() if flag.startswith(("avx", "fma", "sse4")))


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


def memory_speed(mib: int = 128, passes: int = 5) -> float:
    """Bytes per second of the fastest of several sums ``a = b + c`` of float32 arrays of ``mib`` MiB each.

    ``THREADS`` threads; two arrays are read and one is written, and nothing else is counted (STREAM, McCalpin 1995).
    """
    parts = [np.ones((3, mib * 2**18 // THREADS), np.float32) for _ in range(THREADS)]
    seconds = []
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in range(passes + 1):
            start = time.perf_counter()
            list(pool.map(lambda part: np.add(part[1], part[2], out=part[0]), parts))
            seconds.append(time.perf_counter() - start)
    return sum(part.nbytes for part in parts) / min(seconds[1:])
