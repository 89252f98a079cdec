"""One CROWN pass of a batch of 20 images and 9 margins each: tfcert against auto_LiRPA, in the same run.

python benchmarks/peers.py            measures (a few minutes), checks that the margins agree, writes results and table
python benchmarks/peers.py --table    writes the README's table from the stored results
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from parts import machine, reference, timing
from parts.flops import crown_pass
from parts.peer import Peer

import tfcert

PEER = "auto_LiRPA"
OURS = {"tfcert": None, "tfcert, jit=False": False, "tfcert, jit=True": True}
"""Our sides: as users get it, without compilation, and the whole pass compiled with XLA."""


@dataclass(frozen=True)
class Case:
    """What is timed."""

    network: str
    norm: str
    method: str = "crown"


CASES = [
    Case("mnist_cnn_4layer_5_3_relu", "linf"),
    Case("mnist_cnn_4layer_5_3_relu", "l2"),
    Case("mnist_4layer_fc_100_relu", "linf"),
    Case("mnist_4layer_fc_100_relu", "l2"),
]


def measure(case: Case, rounds: int, folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Times both sides on one case; returns the result and the versions of the peer's libraries.

    Raises:
        AssertionError: the two sides do not compute the same thing.
    """
    model = reference.load(case.network)
    question = reference.question(case.network, case.method, case.norm)

    def ours(jit: bool | None) -> np.ndarray:
        ball = tfcert.LpBall(question.x, question.eps, case.norm)
        options = tfcert.BoundOptions(jit=jit)
        found = tfcert.margins(model, ball, question.labels, method=case.method, relaxation="crown", options=options)
        return np.take_along_axis(found, question.classes, axis=1)

    with Peer(model, question.x, folder, machine.THREADS) as peer:
        assert np.abs(peer.logits - model(question.x).numpy()).max() <= 2e-4, "the networks differ"
        tfcert.from_keras(model)  # not part of either side's first pass
        rows = question.rows.tolist()
        first = {PEER: peer.ask("prepare", norm=case.norm, eps=question.eps, method=case.method, rows=rows)["seconds"]}
        first |= {name: timing.clock(lambda jit=jit: ours(jit)) for name, jit in OURS.items()}
        sides = {PEER: lambda: peer.ask("run")["seconds"]}
        sides |= {name: (lambda jit=jit: timing.clock(lambda: ours(jit))) for name, jit in OURS.items()}
        times = timing.alternate(sides, rounds)
        theirs = np.array(peer.ask("margins")["margins"])

    gains = {name: _gain(ours(jit), theirs) for name, jit in OURS.items()}
    # Equal, but for neurons whose sign an interval shows where the peer relaxes them: those may gain a little.
    assert all(low >= -1e-4 and high <= 1e-3 for low, high in gains.values()), f"the margins differ: {gains}"
    region = tfcert.LpBall(question.x, question.eps, case.norm).region()
    flops = crown_pass(tfcert.from_keras(model), region, question.rows.shape[1])
    result = {
        **asdict(case),
        "eps": question.eps,
        "images": len(question.x),
        "margins": question.rows.shape[1],
        "gflop_useful": flops.useful / 1e9,
        "gflop_with_padding": flops.with_padding / 1e9,
        "gain": gains,
        "first_pass_seconds": first,
        "passes": times,
    }
    return result, peer.versions


def _gain(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float]:
    """The least and the largest by which a margin of ours is above the peer's, relative to margins above 1."""
    gain = (ours - theirs) / np.maximum(1, np.abs(theirs))
    return float(gain.min()), float(gain.max())


def table(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    peak = result["peak_gflops"]
    rows = []
    for case in result["cases"]:
        seconds = {name: side["seconds"] for name, side in case["passes"].items()}
        for name, value in seconds.items():
            ours = name in OURS
            rate = case["gflop_useful"] / value
            rows.append(
                {
                    "network": case["network"],
                    "norm": case["norm"],
                    "side": name,
                    "pass, ms": f"{1000 * value:.1f}",
                    "times faster": f"{seconds[PEER] / value:.1f}" if ours else "",
                    "first pass, s": f"{case['first_pass_seconds'][name]:.1f}",
                    "GFLOP/s": f"{rate:.1f}" if ours else "",
                    "of peak": f"{100 * rate / peak:.0f}%" if ours else "",
                    "margins above the peer's": "{:.0e} to {:.0e}".format(*case["gain"][name]) if ours else "",
                }
            )
    notes = f"{reference.machine_line(result['machine'])} Peak (matrix product): {peak:.0f} GFLOP/s."
    return f"{notes}\n\n{reference.markdown(rows)}"


def main() -> None:
    """Measures, or writes the table."""
    parser = argparse.ArgumentParser(description="One CROWN pass against auto_LiRPA.")
    parser.add_argument("--table", action="store_true", help="only write the README's table from the stored results")
    parser.add_argument("--rounds", type=int, default=11, help="passes of each side (default: 11)")
    arguments = parser.parse_args()
    if not arguments.table:
        machine.limit_threads()
        peak, versions, cases = machine.product_peak(), {}, []
        for case in CASES:
            print(f"{case.network}, {case.norm}", flush=True)
            with tempfile.TemporaryDirectory() as folder:
                result, versions = measure(case, arguments.rounds, Path(folder))
            cases.append(result)
        peak = max(peak, machine.product_peak()) / 1e9
        reference.write("peers", {"machine": machine.describe() | versions, "peak_gflops": peak, "cases": cases})
    text = table(reference.read("peers"))
    reference.write_table("peers", text)
    print(text)


if __name__ == "__main__":
    main()
