"""Convolutions as patches against dense and against sparse matrices: the CNN-Cert paper's own comparisons (table 4).

python -m benchmarks.peers.densify                 measures what has no result yet (minutes), then writes the table
python -m benchmarks.peers.densify NAME ...        these networks only; of others than CNN-Cert's smallest no dense maps
python -m benchmarks.peers.densify --minutes 10    begins nothing more after that; the next run goes on from there
python -m benchmarks.peers.densify --again         measures anew what has a result
python -m benchmarks.peers.densify --table         writes the README's table from the stored results

Sides: one CROWN pass over patches (CNN-Cert-Ada), the same over the network with every convolution as a dense matrix,
and Fast-Lin with sparse matrices (``fastlin.py``), one image after the other. Before anything is timed the margins of
the first two must agree, and those of the third with the method ``dual-lp``: Fast-Lin's bounds, over patches.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

import tfcert
from benchmarks.common import machine, networks, store, timing
from benchmarks.common.clock import Clock, add_minutes
from benchmarks.common.question import posed
from benchmarks.common.unrounded import UNROUNDED
from benchmarks.common.usage import used
from benchmarks.peers.fastlin import SparseFastLin

STORE = store.Store(__file__)
NETWORK = "mnist_cnn_4layer_5_3_relu"
NORMS = ("linf", "l2", "l1")
IMAGES = 2
"""Dense coefficients of one image take 60 times the memory of patches."""
PATCHES, DENSE, SPARSE = "patches", "dense maps", "sparse matrices"
_AGREE = {DENSE: 1e-5, SPARSE: 1e-5}
"""What margins may differ by, relative to the largest of them that is not below 1; all sides compute in float32."""


def measure(name: str, norm: str, rounds: int) -> dict[str, Any]:
    """Times the sides; AssertionError if their margins differ."""
    question = posed(name, norm)
    patches = tfcert.from_keras(networks.load(name))
    forms = {PATCHES: patches} | ({DENSE: tfcert.densify(patches)} if name == NETWORK else {})
    x, labels, rows = question.x[:IMAGES], question.labels[:IMAGES], question.rows[:IMAGES]
    matrices = SparseFastLin(patches)

    def margins(form: str, **how: str) -> np.ndarray:
        found = tfcert.margins(forms[form], tfcert.LpBall(x, question.eps, norm), labels, options=UNROUNDED, **how)
        return found[np.arange(IMAGES)[:, None], question.classes[:IMAGES]]

    def by_sparse() -> np.ndarray:
        return matrices.margins(x, question.eps, norm, rows)

    ours, fastlin = margins(PATCHES, relaxation="crown"), margins(PATCHES, method="dual-lp")
    differences = {SPARSE: _difference(by_sparse(), fastlin)}
    if DENSE in forms:
        differences[DENSE] = _difference(margins(DENSE, relaxation="crown"), ours)
    for side, difference in differences.items():
        assert difference <= _AGREE[side], f"{name}, {norm}: margins of {side} differ by {difference}"
    sides = {form: (lambda form=form: used(lambda: margins(form, relaxation="crown"))) for form in forms}
    times = timing.alternate({**sides, SPARSE: lambda: used(by_sparse)}, rounds)
    return {
        "network": name,
        "norm": norm,
        "images": IMAGES,
        "largest_difference": max(differences.values()),
        "differences": differences,
        "passes": times,
        "machine": machine.describe(),
    }


def _difference(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.max(np.abs(found - wanted)) / max(1, np.max(np.abs(wanted))))


def table(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    rows = []
    for case in result["cases"]:
        seconds = {name: side["seconds"] for name, side in case["passes"].items()}

        def cell(side: str, form: str, values: dict[str, float] = seconds) -> str:
            return form.format(values[side]) if side in values else ""

        fast = seconds[PATCHES]
        rows.append(
            {
                "network": case["network"],
                "norm": case["norm"],
                "images": str(case["images"]),
                **{f"{name}, ms": cell(name, "{:.0f}", _scaled(seconds, 1000)) for name in (PATCHES, DENSE, SPARSE)},
                "dense / patches": cell(DENSE, "{:.0f}", _scaled(seconds, 1 / fast)),
                "sparse / patches": cell(SPARSE, "{:.1f}", _scaled(seconds, 1 / fast)),
                "margins differ by": f"{case['largest_difference']:.0e}",
                "load": str(case.get("machine", result["machine"]).get("load_average", "")),
            }
        )
    return f"{store.machine_line(result['machine'])}\n\n{store.markdown(rows)}"


def _scaled(seconds: dict[str, float], factor: float) -> dict[str, float]:
    return {side: factor * value for side, value in seconds.items()}


def _is_whole(case: dict[str, Any]) -> bool:
    """Whether a case has every side, the one that was added last, too."""
    return SPARSE in case["passes"]


def main() -> None:
    """Measures, or writes the table."""
    parser = argparse.ArgumentParser(description="Patches against dense maps and against sparse Fast-Lin.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"networks (default: {NETWORK})")
    parser.add_argument("--table", action="store_true", help="only write the README's table from the stored results")
    parser.add_argument("--again", action="store_true", help="measure anew what has a result")
    parser.add_argument("--rounds", type=int, default=5, help="passes of each side (default: 5)")
    add_minutes(parser)
    arguments = parser.parse_args()
    clock = Clock(arguments.minutes)
    result = STORE.read("densify", {"machine": {}, "cases": []})
    if not arguments.table:
        machine.limit_threads()
        for name in arguments.names or [NETWORK]:
            for norm in NORMS:
                known = {(case["network"], case["norm"]): i for i, case in enumerate(result["cases"])}
                place = known.get((name, norm), len(result["cases"]))
                stored = (name, norm) in known and _is_whole(result["cases"][place])
                if clock.over or (stored and not arguments.again):
                    continue
                result["cases"][place : place + 1] = [measure(name, norm, arguments.rounds)]
                STORE.write("densify", result | {"machine": machine.describe()})
    text = table(STORE.read("densify"))
    STORE.write_table("densify", text)
    print(text)


if __name__ == "__main__":
    main()
