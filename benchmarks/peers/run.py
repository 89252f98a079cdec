"""Bounds of a batch of 20 images and 9 margins each: tfcert against auto_LiRPA, in the same run.

python -m benchmarks.peers.run                measures every case (tens of minutes), each in a process of its own
python -m benchmarks.peers.run --only lenet   the cases whose name has this word (several words: any of them)
python -m benchmarks.peers.run --list         the cases' names
python -m benchmarks.peers.run --table        writes the README's table from the stored results

A case is one CROWN pass, or 20 iterations of alpha-CROWN, with all intermediate bounds. Results are stored after each
case. A case stops where the networks' outputs differ, or margins that are the same computation on both sides.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import tfcert
from benchmarks.common import machine, networks, store, timing
from benchmarks.common.memory import peak_mib
from benchmarks.common.question import Question, posed
from benchmarks.peers.flops import crown_pass
from benchmarks.peers.peer import OutOfMemoryError, Peer
from benchmarks.peers.tables import PEER, table
from tfcert.sets.region import region_of

OURS = {
    "crown": {"tfcert": None, "tfcert, jit=False": False, "tfcert, jit=True": True},
    "alpha-crown": {"tfcert": None},
}
"""Our sides for each method: as users get it, without compilation, and the whole pass compiled with XLA."""
ITERATIONS, LEARNING_RATE = 20, 0.5
STORE = store.Store(__file__)


@dataclass(frozen=True)
class Case:
    """What is timed.

    Attributes:
        same: whether both sides compute the same numbers. Not for max pooling and S-shaped activations, which this
            auto_LiRPA relaxes in its own way.
    """

    network: str
    norm: str = "linf"
    method: str = "crown"
    same: bool = True

    @property
    def name(self) -> str:
        return f"{self.network} {self.norm} {self.method}"


_CNN, _MLP = "mnist_cnn_4layer_5_3", "mnist_4layer_fc_100"
CASES = [
    Case(f"{_CNN}_relu"),
    Case(f"{_CNN}_relu", "l2"),
    Case("mnist_cnn_8layer_5_3_relu"),
    Case(f"{_MLP}_relu"),
    Case(f"{_MLP}_relu", "l2"),
    Case("mnist_resnet_2_relu"),
    Case("mnist_resnet_2_relu", "l2"),
    Case("mnist_lenet_relu", same=False),
    Case("mnist_lenet_relu", "l2", same=False),
    Case("mnist_cnn_7layer_small_relu", same=False),
    Case(f"{_CNN}_sigmoid", same=False),
    Case(f"{_CNN}_tanh", same=False),
    Case(f"{_CNN}_arctan", same=False),
    Case(f"{_MLP}_relu", method="alpha-crown", same=False),
    Case(f"{_MLP}_sigmoid", method="alpha-crown", same=False),
    Case(f"{_CNN}_relu", method="alpha-crown", same=False),
    Case(f"{_CNN}_sigmoid", method="alpha-crown", same=False),
]


@dataclass(frozen=True)
class Setting:
    """How to measure: rounds of a pass and of an optimisation, GiB that the peer may take."""

    rounds: int
    long_rounds: int
    peer_gib: float


def measure(case: Case, setting: Setting) -> dict[str, Any]:
    """Times both sides on one case.

    Raises:
        AssertionError: the two sides do not compute the same thing.
    """
    machine.limit_threads()
    peak = machine.product_peak()
    model = networks.load(case.network)
    question = posed(case.network, case.norm)
    with (
        tempfile.TemporaryDirectory() as folder,
        Peer(model, question.x, Path(folder), machine.THREADS, setting.peer_gib) as peer,
    ):
        assert np.abs(peer.logits - model(question.x).numpy()).max() <= 2e-4, "the networks differ"
        found = _measure_sides(case, setting, model, question, peer)
        versions = peer.versions
    result = {
        **asdict(case),
        "name": case.name,
        "machine": machine.describe() | versions,
        "peak_gflops": max(peak, machine.product_peak()) / 1e9,
        "eps": question.eps,
        "images": len(question.x),
        "margins": question.rows.shape[1],
        **found,
    }
    if case.method == "crown":
        region = region_of(tfcert.LpBall(question.x, question.eps, case.norm))
        flops = crown_pass(tfcert.from_keras(model), region, question.rows.shape[1])
        result |= {"gflop_useful": flops.useful / 1e9, "gflop_with_padding": flops.with_padding / 1e9}
    return result


def _measure_sides(case: Case, setting: Setting, model: Any, question: Question, peer: Peer) -> dict[str, Any]:
    """First passes, peak memory, times and gains of all sides."""

    def ours(jit: bool | None) -> np.ndarray:
        ball = tfcert.LpBall(question.x, question.eps, case.norm)
        options = tfcert.BoundOptions(jit=jit, iterations=ITERATIONS, learning_rate=LEARNING_RATE)
        found = tfcert.margins(model, ball, question.labels, method=case.method, options=options)
        return np.take_along_axis(found, question.classes, axis=1)

    tfcert.from_keras(model)  # not part of either side's first pass
    first: dict[str, float] = {}
    memory: dict[str, float] = {}
    for name, jit in OURS[case.method].items():
        first[name], memory[name] = peak_mib(lambda jit=jit: timing.clock(lambda: ours(jit)))
    sides = {name: (lambda jit=jit: timing.clock(lambda: ours(jit))) for name, jit in OURS[case.method].items()}
    refused = _prepare(case, setting, question, peer)
    if "out_of_memory" not in refused:
        first[PEER], memory[PEER] = refused["seconds"], refused["peak_mib"]
        sides = {PEER: lambda: peer.ask("run")["seconds"], **sides}
    times = timing.alternate(sides, setting.rounds if case.method == "crown" else setting.long_rounds)
    found = {"first_pass_seconds": first, "peak_mib": memory, "passes": times}
    if "out_of_memory" in refused:
        return {**found, "peer_refused": refused}
    theirs = np.array(peer.ask("margins")["margins"])
    gains = {name: _gain(ours(jit), theirs) for name, jit in OURS[case.method].items()}
    # Equal, but for neurons whose sign an interval shows where the peer relaxes them: those may gain a little.
    if case.same:
        assert all(gain["least"] >= -1e-4 and gain["most"] <= 1e-3 for gain in gains.values()), gains
    return {**found, "gain": gains}


def _prepare(case: Case, setting: Setting, question: Question, peer: Peer) -> dict[str, Any]:
    """The peer's first pass: its seconds and memory, or that it ran out of memory, and when."""
    optimiser = {"iteration": ITERATIONS, "lr_alpha": LEARNING_RATE}
    rows, start = question.rows.tolist(), time.perf_counter()
    try:
        return peer.ask("prepare", norm=case.norm, eps=question.eps, method=case.method, rows=rows, optimiser=optimiser)
    except OutOfMemoryError as error:
        seconds = time.perf_counter() - start
        return {"out_of_memory": str(error), "allowed_gib": setting.peer_gib, "after_seconds": seconds}


def _gain(ours: np.ndarray, theirs: np.ndarray) -> dict[str, float]:
    """By how much margins of ours are above the peer's, relative to margins above 1."""
    gain = (ours - theirs) / np.maximum(1, np.abs(theirs))
    return {"least": float(gain.min()), "mean": float(gain.mean()), "most": float(gain.max())}


def _store(result: dict[str, Any]) -> None:
    """Puts a case's result in place of an older one; the others stay."""
    stored = STORE.read("peers", {"cases": []})["cases"]
    cases = {case["name"]: case for case in stored} | {result["name"]: result}
    order = [case.name for case in CASES]
    STORE.write("peers", {"cases": sorted(cases.values(), key=lambda case: order.index(case["name"]))})


def main() -> None:
    """Measures, or writes the table."""
    parser = argparse.ArgumentParser(description="One CROWN pass, or alpha-CROWN, against auto_LiRPA.")
    parser.add_argument("--only", nargs="+", metavar="WORD", default=[""], help="cases whose name has one of the words")
    parser.add_argument("--list", action="store_true", help="only print the cases' names")
    parser.add_argument("--table", action="store_true", help="only write the README's table from the stored results")
    parser.add_argument("--rounds", type=int, default=11, help="CROWN passes of each side (default: 11)")
    parser.add_argument("--long-rounds", type=int, default=3, help="alpha-CROWN runs of each side (default: 3)")
    parser.add_argument("--peer-gib", type=float, default=12, help="GiB the peer may take (default: 12)")
    arguments = parser.parse_args()
    cases = [case for case in CASES if any(word in case.name for word in arguments.only)]
    if arguments.list:
        print("\n".join(case.name for case in cases))
        return
    if not arguments.table:
        setting = Setting(arguments.rounds, arguments.long_rounds, arguments.peer_gib)
        spawn = multiprocessing.get_context("spawn")
        for case in cases:
            start = time.perf_counter()
            # A process for each: its peak memory is its own.
            with ProcessPoolExecutor(1, mp_context=spawn) as pool:
                _store(pool.submit(measure, case, setting).result())
            print(f"{case.name}: {time.perf_counter() - start:.0f} s", flush=True)
    text = table(STORE.read("peers"))
    STORE.write_table("peers", text)
    print(text)


if __name__ == "__main__":
    main()
