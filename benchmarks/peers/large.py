"""Whether passes over large networks keep ``memory_mb``: seconds, and the peak of memory, each in a new process.

python -m benchmarks.peers.large                  what has no result yet (minutes), then the table
python -m benchmarks.peers.large --minutes 5      begins nothing more after that; the next run goes on from there
python -m benchmarks.peers.large --table          writes the README's table from the stored results

One image of noise and untrained weights: CNN-Cert's 7 layers for Tiny ImageNet, and AbsCert's ResNet18 for ImageNet
behind cells. Of each, reading the model into tfcert and one pass for the margins of one label. The peak is of the whole
process, TensorFlow, the model and its copy included, so what a pass adds is its difference to the model's.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import keras
import numpy as np

import tfcert
from benchmarks.common import machine, store, usage
from benchmarks.common.clock import Clock, add_minutes
from benchmarks.common.unrounded import UNROUNDED

STORE = store.Store(__file__)
CASES = [
    ("tinyimagenet_cnn_7layer_relu", "ibp"),
    ("tinyimagenet_cnn_7layer_relu", "crown-ibp"),
    ("tinyimagenet_cnn_7layer_relu", "forward"),
    ("resnet18", "ibp"),
    ("resnet18", "crown-ibp"),
]
EPS, MEMORY = 0.001, 1024


def measured(name: str, method: str) -> dict[str, Any]:
    """One case, in this process."""
    keras.utils.set_random_seed(0)
    model = tfcert.zoo.build(name)
    x = np.random.default_rng(0).uniform(-1, 1, (1, *model.input_shape[1:])).astype(np.float32)
    found: dict[str, Any] = {"network": name, "method": method, "memory_mb": MEMORY, "eps": EPS}
    networks: list[Any] = []
    spent, found["model_mib"] = usage.peak_mib(lambda: usage.used(lambda: networks.append(tfcert.from_keras(model))))
    found |= {"neurons": networks[0].neurons(), "model_seconds": round(spent["seconds"], 1)}
    options, margins = replace(UNROUNDED, memory_mb=MEMORY), list[float]()

    def certify() -> None:
        proof = tfcert.certify(networks[0], x, np.zeros(1, int), eps=EPS, method=method, options=options)
        margins.append(float(proof.margin[0]))

    spent, found["pass_mib"] = usage.peak_mib(lambda: usage.used(certify))
    return found | {"pass_seconds": round(spent["seconds"], 1), "margin": margins[0], "machine": machine.describe()}


def table(results: list[dict[str, Any]]) -> str:
    """One row a case."""
    rows = [
        {
            "network": f"{r['network']}, {r['neurons']:,} neurons",
            "method": f"`{r['method']}`",
            "limit, MiB": str(r["memory_mb"]),
            "model read, s": f"{r['model_seconds']:.0f}",
            "peak, MiB": f"{r['model_mib']:,.0f}",
            "first pass, s": f"{r['pass_seconds']:.0f}",
            "peak in it, MiB": f"{r['pass_mib']:,.0f}",
            "margin": f"{r['margin']:.3g}",
        }
        for r in results
    ]
    return f"{store.machine_line(results[-1]['machine'])}\n\n{store.markdown(rows)}"


def main() -> None:
    """Measures what is missing, each in a process of its own."""
    parser = argparse.ArgumentParser(description="Large networks in bounded memory.")
    parser.add_argument("--table", action="store_true", help="only write the README's table from the stored results")
    parser.add_argument("--case", nargs=2, metavar=("NETWORK", "METHOD"), help=argparse.SUPPRESS)
    add_minutes(parser)
    arguments = parser.parse_args()
    if arguments.case:
        machine.limit_threads()
        print(json.dumps(measured(*arguments.case)))
        return
    clock, results = Clock(arguments.minutes), STORE.read("large", [])
    known = {(r["network"], r["method"]) for r in results}
    for case in [] if arguments.table else [case for case in CASES if case not in known]:
        if clock.over:
            break
        print(*case, flush=True)
        command = [sys.executable, "-m", "benchmarks.peers.large", "--case", *case]
        ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        results.append(json.loads(ended.stdout.splitlines()[-1]))
        results.sort(key=lambda r: CASES.index((r["network"], r["method"])))
        STORE.write("large", results)
    STORE.write_table("large", table(STORE.read("large")))


if __name__ == "__main__":
    main()
