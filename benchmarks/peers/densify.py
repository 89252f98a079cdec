"""Convolutions as patches against the same network with dense maps: the CNN-Cert paper's own comparison.

python -m benchmarks.peers.densify            measures (a minute), checks that margins agree, writes results and table
python -m benchmarks.peers.densify --table    writes the README's table from the stored results
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

import tfcert
from benchmarks.common import machine, networks, store, timing
from benchmarks.common.question import posed
from benchmarks.common.usage import used

STORE = store.Store(__file__)
NETWORK = "mnist_cnn_4layer_5_3_relu"
IMAGES = 2
"""Dense coefficients of one image take 60 times the memory of patches."""


def measure(norm: str, rounds: int) -> dict[str, Any]:
    """Times both sides; AssertionError if their margins differ."""
    question = posed(NETWORK, norm)
    patches = tfcert.from_keras(networks.load(NETWORK))
    both = {"patches": patches, "dense maps": tfcert.densify(patches)}
    x, labels = question.x[:IMAGES], question.labels[:IMAGES]

    def margins(name: str) -> np.ndarray:
        ball = tfcert.LpBall(x, question.eps, norm)
        return tfcert.margins(both[name], ball, labels, relaxation="crown")

    sides = {name: (lambda name=name: used(lambda: margins(name))) for name in both}
    times = timing.alternate(sides, rounds)
    left, right = (margins(name)[np.arange(IMAGES)[:, None], question.classes[:IMAGES]] for name in both)
    difference = float(np.max(np.abs(left - right) / np.maximum(1, np.abs(right))))
    assert difference <= 1e-5, f"the margins differ by {difference}"
    return {"network": NETWORK, "norm": norm, "images": IMAGES, "largest_difference": difference, "passes": times}


def table(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    rows = []
    for case in result["cases"]:
        seconds = {name: side["seconds"] for name, side in case["passes"].items()}
        rows.append(
            {
                "network": case["network"],
                "norm": case["norm"],
                "images": str(case["images"]),
                **{f"{name}, ms": f"{1000 * value:.0f}" for name, value in seconds.items()},
                "ratio": f"{seconds['dense maps'] / seconds['patches']:.0f}",
                "margins differ by": f"{case['largest_difference']:.0e}",
            }
        )
    return f"{store.machine_line(result['machine'])}\n\n{store.markdown(rows)}"


def main() -> None:
    """Measures, or writes the table."""
    parser = argparse.ArgumentParser(description="Patches against dense maps.")
    parser.add_argument("--table", action="store_true", help="only write the README's table from the stored results")
    parser.add_argument("--rounds", type=int, default=5, help="passes of each side (default: 5)")
    arguments = parser.parse_args()
    if not arguments.table:
        machine.limit_threads()
        cases = [measure(norm, arguments.rounds) for norm in ("linf", "l2")]
        STORE.write("densify", {"machine": machine.describe(), "cases": cases})
    text = table(STORE.read("densify"))
    STORE.write_table("densify", text)
    print(text)


if __name__ == "__main__":
    main()
