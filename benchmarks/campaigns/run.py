"""A run by several processes: how fast, at what overhead and memory, and what is left of it when something is killed.

python -m benchmarks.campaigns.run speed                 the demo's specification and FNN1: here, 1 and 2 workers, dask
python -m benchmarks.campaigns.run overhead              seconds a sample that costs next to nothing, paired
python -m benchmarks.campaigns.run memory                MiB of each worker, after a run
python -m benchmarks.campaigns.run kills --count 50      workers, drivers and schedulers killed at random moments
python -m benchmarks.campaigns.run --write               the tables of the README, from what is stored

Each run is a command of its own, ``tfcert verify``, and its results are compared by a hash of its records without
seconds. ``kills`` begins a run, kills one process of it at a random moment, resumes it where that ended it, and looks
for samples that were lost or answered twice.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.campaigns.runs import children, command, fingerprint
from benchmarks.common import data, machine, store
from benchmarks.common.robust import SPEC
from benchmarks.complete.networks import NETWORKS

STORE = store.Store(__file__)
WAYS = ("here", "1 worker", "2 workers", "dask, 2 workers")


@dataclass(frozen=True)
class Case:
    """A specification; of FNN1 it is written where it runs, with so many images."""

    stages: str = ""
    eps: str = "8/255"
    images: int = 100

    def write(self, folder: Path) -> Path:
        """The specification's file."""
        if not self.stages:
            return data.REPOSITORY / "examples" / "mnist_robust.prop"
        x, y = data.pixels("mnist", "test")
        np.savez(folder / "test.npz", x=x[: self.images].astype(np.float32) / np.float32(255), y=y[: self.images])
        shutil.copy(next(one for one in NETWORKS if one.name == "FNN1").path, folder / "clf.keras")
        path = folder / "s.prop"
        path.write_text(SPEC.format(stages=self.stages, eps=self.eps))
        return path


CASES = {
    "demo": Case(),
    "FNN1, split": Case("pgd(steps=40) -> crown -> split"),
    "FNN1, alpha-CROWN": Case("pgd(steps=40) -> crown -> alpha_crown", images=500),
}
CHEAP = Case("ibp", "1/2550", images=5000)
KILLED = Case("pgd(steps=40) -> crown -> alpha_crown", images=500)


# Runs


@contextlib.contextmanager
def cluster(workers: int = 2) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A scheduler and workers on this machine: its address, and the processes, the scheduler first."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    processes = [dask("scheduler", "--host", address, "--no-dashboard")]
    try:
        processes += [dask("worker", address, "--nthreads", "1", "--no-dashboard") for _ in range(workers)]
        yield address, processes
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()


def dask(*arguments: str) -> subprocess.Popen[bytes]:
    """A process of a cluster."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([sys.executable, "-m", "dask", *arguments], **quiet)


@contextlib.contextmanager
def options(way: str) -> Iterator[list[str]]:
    """What the command line says of a way to run."""
    if way == "here":
        yield []
    elif way.startswith("dask"):
        with cluster() as (address, _):
            yield ["--scheduler", address]
    else:
        yield ["--workers", way.split()[0]]


def seconds_of(spec: Path, out: Path, way: str) -> float:
    """The seconds of a run by the clock, everything included; a cluster is there before."""
    shutil.rmtree(out, ignore_errors=True)
    with options(way) as more:
        began = time.monotonic()
        code = subprocess.run(command(spec, out, *more)).returncode
        if code not in (0, 1, 6):
            raise SystemExit(f"{way}: exit code {code}")
        return time.monotonic() - began


# What is measured


def speed(rounds: int) -> None:
    """Seconds of each case by each way, in turn; and whether the answers are the same."""
    found = STORE.read("speed", {})
    for name, case in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            spec = case.write(Path(folder))
            each: dict[str, list[float]] = {way: [] for way in WAYS}
            hashes = {}
            for _ in range(rounds):
                for way in WAYS:
                    out = Path(folder, "out", way.replace(", ", "-").replace(" ", "-"))
                    each[way].append(seconds_of(spec, out, way))
                    hashes[way] = fingerprint(out)
                    print(f"{name}: {way}: {each[way][-1]:.1f} s, {hashes[way][:8]}", flush=True)
        found[name] = {"seconds": each, "hashes": hashes, "machine": machine.describe()}
        STORE.write("speed", found)


def overhead(rounds: int) -> None:
    """Seconds a sample that costs next to nothing: those of a run of many less those of a run of few."""
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        few, many = Path(folder, "few"), Path(folder, "many")
        for place in (few, many):
            place.mkdir()
        specs = Case(CHEAP.stages, CHEAP.eps, 500).write(few), CHEAP.write(many)
        for _ in range(rounds):
            for way in WAYS:
                short, long = (seconds_of(spec, spec.parent / "out", way) for spec in specs)
                found[way].append((long - short) / (CHEAP.images - 500))
                print(f"{way}: {1e3 * found[way][-1]:.2f} ms a sample", flush=True)
    STORE.write("overhead", {"seconds": found, "machine": machine.describe()})


def memory() -> None:
    """The largest memory of the driver and of each worker, in MiB, looked at four times a second."""
    found = {}
    for name, case in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            run = subprocess.Popen(command(case.write(Path(folder)), Path(folder, "out"), "--workers", "2"))
            most: dict[int, int] = {}
            while run.poll() is None:
                for pid in (run.pid, *children(run.pid)):
                    most[pid] = max(most.get(pid, 0), resident(pid))
                time.sleep(0.25)
            driver = most.pop(run.pid, 0)
            found[name] = {"driver": driver, "workers": sorted(most.values())}
            print(name, found[name], flush=True)
    STORE.write("memory", {"mebibytes": found, "machine": machine.describe()})


def resident(pid: int) -> int:
    """The memory that a process holds, in MiB; 0 of one that has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) >> 8
    except (OSError, IndexError):
        return 0


# Kills


def kills(count: int, seed: int) -> None:
    """Kills one process of a run at a random moment, so many times, and tells what became of it."""
    found = STORE.read("workers", {"runs": []})
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        spec = KILLED.write(Path(folder))
        lasts = {way: seconds_of(spec, Path(folder, way[:4]), way) for way in ("2 workers", "dask, 2 workers")}
        wanted = {way: fingerprint(Path(folder, way[:4])) for way in lasts}
        for number in range(count):
            way = chance.choice([*lasts])
            victim = chance.choice(["worker", "driver"] + ["scheduler"] * way.startswith("dask"))
            after, out = chance.uniform(0, lasts[way]), Path(folder, "out")
            shutil.rmtree(out, ignore_errors=True)
            resumed = (_dask_killed if way.startswith("dask") else _local_killed)(spec, out, victim, after, chance)
            entry = {"way": way, "victim": victim, "after": round(after, 2), "resumed": resumed} | _left(out)
            entry["same"] = fingerprint(out) == wanted[way]
            found["runs"].append(entry)
            print(number + 1, entry, flush=True)
            found["machine"] = machine.describe()
            STORE.write("workers", found)


def _left(out: Path) -> dict[str, int]:
    """How many samples have no record in the journal, and how many have more than one."""
    lines = [json.loads(line) for line in (out / "journal.jsonl").read_text().splitlines()]
    each = [(line["record"]["property"], line["record"]["sample"]) for line in lines if "record" in line]
    return {"lost": KILLED.images - len(set(each)), "twice": len(each) - len(set(each))}


def _local_killed(spec: Path, out: Path, victim: str, after: float, chance: random.Random) -> int:
    """A run by two processes; how often it was resumed."""
    run = subprocess.Popen(command(spec, out, "--workers", "2"))
    time.sleep(after)
    if victim == "worker" and children(run.pid):
        kill(chance.choice(children(run.pid)))
    elif victim == "driver":
        run.kill()
    run.wait()
    return _resumed(spec, out, ["--workers", "2"])


def _dask_killed(spec: Path, out: Path, victim: str, after: float, chance: random.Random) -> int:
    """A run by a cluster, of which another one is started where its scheduler is killed."""
    with cluster() as (address, processes):
        run = subprocess.Popen(command(spec, out, "--scheduler", address))
        time.sleep(after)
        if victim == "worker":
            nannies = [pid for process in processes[1:] for pid in children(process.pid)]
            kill(chance.choice(nannies or [processes[1].pid]))
        elif victim == "driver":
            run.kill()
        else:
            processes[0].kill()
        run.wait()
        if victim != "scheduler":
            return _resumed(spec, out, ["--scheduler", address])
    with cluster() as (address, _):
        return _resumed(spec, out, ["--scheduler", address])


def _resumed(spec: Path, out: Path, more: list[str]) -> int:
    """Resumes a run until it is complete; how often. One that was killed before its journal began starts again."""
    for times in range(5):
        with contextlib.suppress(OSError, ValueError, KeyError):
            if json.loads((out / "result.json").read_text())["header"]["complete"]:
                return times
        begun = (out / "journal.jsonl").is_file() and (out / "journal.jsonl").stat().st_size > 0
        subprocess.run(command(spec, out, *more, resume=begun))
    raise SystemExit(f"{out} is not complete after five runs")


def kill(pid: int) -> None:
    """Ends a process at once, if it is still there."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


# Tables


def write() -> None:
    """The tables of the README."""
    rows = ["| | " + " | ".join(WAYS) + " | speed-up by 2 workers | same answers |", "|---|" + "---:|" * 6]
    for name, one in STORE.read("speed", {}).items():
        medians = {way: statistics.median(each) for way, each in one["seconds"].items()}
        same = len({one["hashes"][way] for way in WAYS[1:]}) == 1
        cells = [f"{medians[way]:.1f} s" for way in WAYS]
        gain = f"{medians['1 worker'] / medians['2 workers']:.2f}"
        rows.append(f"| {name} | " + " | ".join([*cells, gain, "yes" if same else "NO"]) + " |")
    STORE.write_table("speed", "\n".join(rows))
    each = STORE.read("overhead", {}).get("seconds", {})
    rows = ["| | ms a sample |", "|---|---:|"]
    rows += [f"| {way} | {1e3 * statistics.median(seconds):.2f} |" for way, seconds in each.items()]
    STORE.write_table("overhead", "\n".join(rows))
    each = STORE.read("memory", {}).get("mebibytes", {})
    rows = ["| | driver, MiB | workers, MiB |", "|---|---:|---:|"]
    rows += [f"| {name} | {m['driver']} | {', '.join(map(str, m['workers']))} |" for name, m in each.items()]
    STORE.write_table("memory", "\n".join(rows))
    runs = STORE.read("workers", {}).get("runs", [])
    rows = ["| | killed | times | resumed | lost | twice | same result |", "|---|---|---:|---:|---:|---:|---:|"]
    for way, victim in sorted({(one["way"], one["victim"]) for one in runs}):
        some = [one for one in runs if (one["way"], one["victim"]) == (way, victim)]
        sums = [sum(one[key] for one in some) for key in ("resumed", "lost", "twice", "same")]
        rows.append(f"| {way} | {victim} | {len(some)} | " + " | ".join(map(str, sums)) + " |")
    STORE.write_table("workers", "\n".join(rows))


def main() -> None:
    """Measures what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=("speed", "overhead", "memory", "kills"))
    parser.add_argument("--rounds", type=int, default=3, help="of speed and overhead (default: 3)")
    parser.add_argument("--count", type=int, default=50, help="of kills (default: 50)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of kills (default: 0)")
    parser.add_argument("--write", action="store_true", help="write the tables of the README")
    options = parser.parse_args()
    measures: dict[str, Callable[[], None]] = {
        "speed": lambda: speed(options.rounds),
        "overhead": lambda: overhead(options.rounds),
        "memory": memory,
        "kills": lambda: kills(options.count, options.seed),
    }
    if options.what:
        measures[options.what]()
    if options.write:
        write()


if __name__ == "__main__":
    main()
