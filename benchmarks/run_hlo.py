"""Runs an exported bound pass under JAX's XLA client: same numbers, and images a second.

``python benchmarks/run_hlo.py PASS.npz [--repeats N] [--json FILE]``, where ``PASS.npz`` is what
``tfcert.certification.export.export_hlo(...).save`` wrote. Needs only numpy and jax, neither TensorFlow nor tfcert, and
runs on JAX's default device. Exits with 1 where a bound differs from the expected one by more than the tolerance.

Precision: every product in the file asks for the highest precision, which this script checks again; NVIDIA's libraries
are told not to use TF32, and XLA not to keep excess precision.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

# Both are read when JAX's libraries are loaded.
os.environ["NVIDIA_TF32_OVERRIDE"] = "0"
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_allow_excess_precision=false"

WARM_UP = 2


@dataclass(frozen=True)
class Pass:
    """An exported pass as it was read."""

    hlo: bytes
    arguments: tuple[np.ndarray, ...]
    bounds: np.ndarray
    metadata: dict[str, Any]


def read_pass(path: Path) -> Pass:
    """Raises a ValueError for a file that is no exported pass of a known format."""
    with np.load(path, allow_pickle=False) as saved:
        missing = {"hlo", "expected_bounds", "metadata"} - set(saved.files)
        if missing:
            raise ValueError(f"{path} is no exported pass: it has no {', '.join(sorted(missing))}")
        metadata = json.loads(str(saved["metadata"]))
        if metadata["format"] != 1:
            raise ValueError(f"{path} has format {metadata['format']}, this script reads format 1")
        names = sorted(name for name in saved.files if name.startswith("argument_"))
        arguments = tuple(saved[name] for name in names)
        return Pass(saved["hlo"].tobytes(), arguments, saved["expected_bounds"], metadata)


def compile_pass(given: Pass) -> Any:
    """The executable for JAX's default device.

    Raises:
        ValueError: a product that does not ask for the highest precision.
    """
    import jax
    from jax.extend.backend import get_backend
    from jaxlib import _jax, xla_client

    if given.metadata["dtype"] == "float64":
        jax.config.update("jax_enable_x64", True)
    module = _jax.mlir.hlo_to_stablehlo(given.hlo)
    devices = xla_client.DeviceList((jax.devices()[0],))
    executable = get_backend().compile_and_load(module, devices, xla_client.CompileOptions())
    text = executable.hlo_modules()[0].to_string()
    # What a backend makes of a product (a library call, a fusion) need not repeat it; what is left as one must.
    low = [v for v in re.findall(r"operand_precision=\{([^}]*)\}", text) if set(v.split(",")) != {"highest"}]
    if low:
        raise ValueError(f"a product is computed at precision {low[0]}, not at the highest")
    return executable


def run_pass(executable: Any, given: Pass, repeats: int) -> tuple[np.ndarray, bool, list[float]]:
    """Bounds, whether the weights are finite, and the seconds of each run, arguments already on the device."""
    import jax

    arguments = [jax.device_put(value, jax.devices()[0]) for value in given.arguments]
    jax.block_until_ready(arguments)
    seconds = []
    for _ in range(WARM_UP + repeats):
        began = time.perf_counter()
        results = executable.execute_sharded(arguments).disassemble_into_single_device_arrays()
        bounds, finite = (np.asarray(parts[0]) for parts in results)
        seconds.append(time.perf_counter() - began)
    return bounds, bool(finite), seconds[WARM_UP:]


def deviation(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, relative to the largest bound of its sample (at least 1); infinite for NaN."""
    if found.shape != expected.shape:
        raise ValueError(f"the pass answers {found.shape}, expected was {expected.shape}")
    scale = np.maximum(1.0, np.abs(expected).max(axis=1, keepdims=True))
    differences = np.abs(found.astype(np.float64) - expected) / scale
    return float(np.where(np.isfinite(differences), differences, np.inf).max())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("file", type=Path, metavar="PASS.npz")
    parser.add_argument("--repeats", type=int, default=20, metavar="N", help="timed runs (default: 20)")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="relative deviation allowed (default: 1e-4)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    options = parser.parse_args()
    given = read_pass(options.file)
    began = time.perf_counter()
    executable = compile_pass(given)
    compile_seconds = time.perf_counter() - began
    bounds, finite, seconds = run_pass(executable, given, options.repeats)
    import jax

    worst, device = deviation(bounds, given.bounds), jax.devices()[0]
    result = {
        "file": options.file.name,
        "metadata": given.metadata,
        "device": f"{device.platform}: {device.device_kind}",
        "jax": jax.__version__,
        "deviation": worst if np.isfinite(worst) else None,
        "finite_weights": finite,
        "compile_seconds": compile_seconds,
        "seconds": seconds,
        "images_per_second": given.metadata["batch"] / float(np.median(seconds)),
    }
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"{given.metadata['method']} ({given.metadata['relaxation']}) on {result['device']}, jax {jax.__version__}")
    print(f"largest deviation {worst:.2e} (tolerance {options.tolerance:.0e}), weights finite: {finite}")
    print(
        f"{result['images_per_second']:.1f} images a second: batch of {given.metadata['batch']}, "
        f"median {1e3 * float(np.median(seconds)):.2f} ms, least {1e3 * min(seconds):.2f} ms; "
        f"compiled in {compile_seconds:.1f} s"
    )
    return 0 if finite and worst <= options.tolerance else 1


if __name__ == "__main__":
    sys.exit(main())
