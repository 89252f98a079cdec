"""Bounds of a batch of 20 images and 9 margins each: tfcert against auto_LiRPA, in the same run.

python -m benchmarks.peers.run                  measures every case (half an hour), each in processes of its own
python -m benchmarks.peers.run --quick          five rounds, no variants of ours (a quarter of an hour)
python -m benchmarks.peers.run --only lenet     the cases whose name has this word (several words: any of them)
python -m benchmarks.peers.run --resume         only what this machine has not measured with this commit yet
python -m benchmarks.peers.run --machine NAME   the machine's name in the table (default: its processor and speed)
python -m benchmarks.peers.run --list           the cases' names
python -m benchmarks.peers.run --table          writes the README's table from the stored results

A case is one CROWN pass, or 20 iterations of alpha-CROWN, with all intermediate bounds. Results are stored after each
case, in place of those of the same machine: what another machine measured stays. A case stops where the networks'
outputs differ, or margins that are the same computation on both sides.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from typing import Any

from benchmarks.common import data, machine, store
from benchmarks.common.versions import commit
from benchmarks.peers.measure import Case, Setting, in_a_process, measure
from benchmarks.peers.tables import table

STORE = store.Store(__file__)
_CNN, _MLP = "mnist_cnn_4layer_5_3", "mnist_4layer_fc_100"
CASES = [
    Case(f"{_CNN}_relu"),
    Case(f"{_CNN}_relu", "l2"),
    Case(f"{_CNN}_relu", "l1", same=False),  # over patches the peer's L1 bounds are looser
    Case("mnist_cnn_8layer_5_3_relu"),
    Case("cifar_cnn_5layer_5_3_relu"),
    Case(f"{_MLP}_relu"),
    Case(f"{_MLP}_relu", "l2"),
    Case(f"{_MLP}_relu", "l1"),
    Case(f"{_MLP}_sigmoid", same=False),
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
_LIKE = 1.3
"""Measured peaks of one machine are within this factor of each other."""


def key(row: dict[str, Any]) -> tuple[str, str]:
    """What a stored row is about: the case and the machine."""
    return row["name"], row["machine"]["name"]


def merged(rows: list[dict[str, Any]], new: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows with a new one, which replaces that of the same case and machine, in the order of the cases."""
    order = [case.name for case in CASES]
    kept = {key(row): row for row in rows} | {key(new): new}
    return sorted(kept.values(), key=lambda row: (order.index(row["name"]), row["machine"]["name"]))


def named(rows: list[dict[str, Any]], cpu: str, gflops: float) -> str:
    """The name of a machine: that of the stored rows of the same processor and speed, else one made of both."""
    for row in rows:
        if row["machine"]["cpu"] == cpu and 1 / _LIKE < row["peak_gflops"] / gflops < _LIKE:
            return row["machine"]["name"]
    return f"{cpu}, {gflops:.0f} GFLOP/s"


def _here() -> tuple[str, float]:
    """This machine's processor and peak, in a process of its own."""
    machine.limit_threads()
    return str(machine.describe()["cpu"]), machine.product_peak() / 1e9


def _all(cases: list[Case], setting: Setting, name: str, resume: bool) -> list[str]:
    """Measures cases and stores them; returns what is wrong with those that failed."""
    version, failed = commit(data.REPOSITORY, ""), []
    for case in cases:
        rows = STORE.read("peers", {"cases": []})["cases"]
        known = {key(row) for row in rows if row.get("commit") == version}
        if resume and (case.name, name) in known:
            continue
        start = time.perf_counter()
        # What a first pass keeps for later processes is what the second one finds, and nothing older.
        with tempfile.TemporaryDirectory() as folder:
            os.environ["XDG_CACHE_HOME"] = folder
            try:
                found = measure(case, setting)
            except AssertionError as error:
                failed.append(f"{case.name}: {error}")
                print(failed[-1], flush=True)
                continue
        found["machine"]["name"] = name
        found["commit"] = version
        rows = STORE.read("peers", {"cases": []})["cases"]
        STORE.write("peers", {"cases": merged(rows, found)})
        print(f"{case.name}: {time.perf_counter() - start:.0f} s", flush=True)
    return failed


def main() -> None:
    """Measures, or writes the table."""
    parser = argparse.ArgumentParser(description="One CROWN pass, or alpha-CROWN, against auto_LiRPA.")
    parser.add_argument("--only", nargs="+", metavar="WORD", default=[""], help="cases whose name has one of the words")
    parser.add_argument("--list", action="store_true", help="only print the cases' names")
    parser.add_argument("--table", action="store_true", help="only write the README's table from the stored results")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, and no variants of ours")
    parser.add_argument("--resume", action="store_true", help="leave out what is stored for this machine and commit")
    parser.add_argument("--machine", metavar="NAME", help="the machine's name in the table")
    parser.add_argument("--rounds", type=int, help="CROWN passes of each side (default: 11; quick: 5)")
    parser.add_argument("--long-rounds", type=int, help="alpha-CROWN runs of each side (default: 3; quick: 2)")
    parser.add_argument("--peer-gib", type=float, default=12, help="GiB the peer may take (default: 12)")
    arguments = parser.parse_args()
    cases = [case for case in CASES if any(word in case.name for word in arguments.only)]
    if arguments.list:
        print("\n".join(case.name for case in cases))
        return
    if not arguments.table:
        rounds, long_rounds = (5, 2) if arguments.quick else (11, 3)
        rounds, long_rounds = arguments.rounds or rounds, arguments.long_rounds or long_rounds
        setting = Setting(rounds, long_rounds, arguments.quick, arguments.peer_gib)
        stored = STORE.read("peers", {"cases": []})["cases"]
        name = arguments.machine or named(stored, *in_a_process(_here))
        failed = _all(cases, setting, name, arguments.resume)
        if failed:
            print("\n".join(["failed, and not stored:", *failed]), file=sys.stderr)
    text = table(STORE.read("peers")["cases"])
    STORE.write_table("peers", text)
    print(text)


if __name__ == "__main__":
    main()
