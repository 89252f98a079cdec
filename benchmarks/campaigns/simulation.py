"""A campaign of 100,000 samples on 1 to 256 workers: a discrete-event model of shards, transfer and journal.

python -m benchmarks.campaigns.simulation              all cases, results/simulation.json and results/simulation.svg
python -m benchmarks.campaigns.simulation --samples 10000 --workers 1 16

What a sample costs is drawn from seconds that were measured (``benchmarks/complete``, ``benchmarks/since``); what the
driver takes for a record and for a wait for the disk is that of ``results/journal.json``. The rest is assumed, and said
in ``Machine``. The driver is one server, first come, first served: it hands out shards, takes their answers, and writes
the journal. A worker has one shard waiting beside the one that it is at.
"""

from __future__ import annotations

import argparse
import heapq
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import store

STORE = store.Store(__file__)
SAMPLES, WORKERS = 100_000, (1, 2, 4, 8, 16, 32, 64, 128, 256)
BENCHMARKS = Path(__file__).parents[1]


@dataclass(frozen=True)
class Machine:
    """What a campaign runs on, in seconds and bytes.

    Attributes:
        record: the driver's processor time for a record: taken in, written as JSON, counted.
        sync: a wait for the disk.
        dispatch: the driver's time to hand out a shard (dask's documentation has up to 1 ms a task).
        latency: of a message, one way.
        network: bytes a second that leave the driver.
        model: bytes of model and samples, which each worker gets once.
        start: of a worker: TensorFlow, the model, tracing.
        answer: bytes of one.
    """

    record: float
    sync: float
    dispatch: float = 1e-3
    latency: float = 5e-4
    network: float = 125e6
    model: float = 50e6
    start: float = 15.0
    answer: float = 700.0


@dataclass(frozen=True)
class Policy:
    """How a campaign is cut.

    Attributes:
        shard: samples of a shard; 0 for ever smaller ones: a quarter of the work that is left, shared out, as far as a
            cheap stage tells, and at most ``most`` samples.
        most: see there.
        each: whether each record waits for the disk by itself, or a shard's together.
        hardest: whether a cheap stage tells what samples cost (right up to a factor of 3, one standard deviation), and
            the most expensive ones are asked first; else all look alike.
    """

    shard: int = 0
    most: int = 100
    each: bool = False
    hardest: bool = True

    def end(self, first: int, known: np.ndarray, workers: int) -> int:
        """Where a shard ends that begins at a sample; ``known`` are the costs of all, added up from the first on."""
        if self.shard:
            return min(first + self.shard, len(known))
        before = known[first - 1] if first else 0.0
        reach = int(np.searchsorted(known, before + (known[-1] - before) / (4 * workers)))
        return min(max(first + 1, min(reach, first + self.most)), len(known))


@dataclass
class Driver:
    """The one server: when it is free, and how long it was at work."""

    free: float = 0.0
    busy: float = 0.0

    def serve(self, at: float, seconds: float) -> float:
        """When something is done that comes in at a time and takes so long."""
        self.free = max(at, self.free) + seconds
        self.busy += seconds
        return self.free


def simulate(costs: np.ndarray, workers: int, machine: Machine, policy: Policy, seed: int = 0) -> dict[str, float]:
    """One campaign: seconds until its last record is on the disk, and what they went into."""
    rng, left = np.random.default_rng(seed), 0
    guess = costs * np.exp(rng.normal(0, np.log(3), len(costs))) if policy.hardest else np.ones(len(costs))
    order = np.argsort(-guess, kind="stable")
    ordered, known = costs[order], np.cumsum(guess[order])
    driver, events, working = Driver(), [(0.0, n, 0) for n in range(2 * workers)], np.zeros(workers)
    free, last_out, handed = np.full(workers, np.nan), 0.0, 0
    end = 0.0
    heapq.heapify(events)
    while events:
        at, slot, done = heapq.heappop(events)
        worker = slot % workers
        if done:
            syncs = done if policy.each else 1
            end = driver.serve(at + machine.latency, done * machine.record + syncs * machine.sync)
        if left == len(ordered):
            continue
        size = policy.end(left, known, workers) - left
        if np.isnan(free[worker]):
            sent = driver.serve(at, machine.dispatch + machine.model / machine.network)
            free[worker] = sent + machine.latency + machine.start
        else:
            sent = driver.serve(max(at, driver.free), machine.dispatch)
        seconds = float(ordered[left : left + size].sum())
        left, last_out, handed = left + size, sent, handed + 1
        begun = max(free[worker], sent + machine.latency)
        free[worker] = begun + seconds
        working[worker] += seconds
        heapq.heappush(events, (free[worker] + size * machine.answer / machine.network, slot, size))
    total = float(costs.sum())
    return {
        "workers": workers,
        "seconds": end,
        "efficiency": total / (workers * end),
        "speed-up": total / end,
        "driver": driver.busy / end,
        "tail": (end - last_out) / end,
        "shards": handed,
    }


def costs() -> dict[str, np.ndarray]:
    """Measured seconds of single samples, by what they were asked."""
    complete = json.loads((BENCHMARKS / "complete/results/agrify.json").read_text())["rows"]
    since = json.loads((BENCHMARKS / "since/results/since.json").read_text())["cases"]
    found = {
        f"{case['network']}, {name}": np.array([r["seconds"] for r in case["before"].values()])
        for case in since
        for name in [{"crown": "crown", "demo": "pgd to crown"}.get(case["strategy"], "")]
        if name and case["network"] == "FNN4"
    }
    rows = {
        "FNN1, split": "FNN1 verify split cbc",
        "FNN2, split": "FNN2 verify split cbc",
        "FNN1, minimum": "FNN1 minimum split crown cbc",
        "FNN3, split of 60 s": "FNN3 verify split cbc",
    }
    return found | {
        name: np.array([r["seconds"] for r in complete[row].values() if "seconds" in r]) for name, row in rows.items()
    }


def measured_machine() -> Machine:
    """The driver's times as they were measured."""
    steps = json.loads((Path(__file__).parent / "results/journal.json").read_text())["sizes"]["10000"]
    record = steps["extend"]["processor"] / 10_000
    return Machine(record=record, sync=max(0.0, steps["append"]["seconds"] / 10_000 - record))


POLICIES: dict[str, Policy] = {
    "shards that shrink, a sync a shard": Policy(),
    "shards that shrink, a sync a record": Policy(each=True),
    "shards that shrink, samples as they come": Policy(hardest=False),
    "shards of 1": Policy(shard=1),
    "shards of 100": Policy(shard=100),
}


def run(samples: int, workers: Sequence[int], say: Callable[[str], None]) -> dict[str, Any]:
    """All cases."""
    machine = measured_machine()
    found: dict[str, Any] = {"samples": samples, "machine": asdict(machine), "cases": []}
    for name, seconds in costs().items():
        drawn = np.random.default_rng(1).choice(seconds, samples)
        for words, policy in POLICIES.items():
            rows = [
                {key: round(value, 6) for key, value in simulate(drawn, n, machine, policy).items()} for n in workers
            ]
            found["cases"].append({"costs": name, "mean": float(seconds.mean()), "most": float(seconds.max()),
                                   "measured": len(seconds), "policy": words, "runs": rows})  # fmt: skip
            say(f"{name}; {words}: " + ", ".join(f"{r['workers']}: {r['speed-up']:.1f}" for r in rows))
    return found


def draw(found: dict[str, Any], path: Path) -> None:
    """Speed-ups over workers: of each distribution with the first policy."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    matplotlib.rcParams["svg.hashsalt"] = "campaigns"
    figure = Figure(figsize=(7.0, 4.6), layout="constrained")
    axes = figure.subplots()
    first = next(iter(POLICIES))
    for case in (case for case in found["cases"] if case["policy"] == first):
        points = [(row["workers"], row["speed-up"]) for row in case["runs"]]
        axes.plot(*zip(*points, strict=True), "o-", markersize=3, label=f"{case['costs']} ({case['mean']:.3g} s)")
    ends = [case["workers"] for case in found["cases"][0]["runs"]]
    axes.plot(ends, ends, ":", color="#8a8f98", label="as many times as fast as workers")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xlabel("workers")
    axes.set_ylabel("times as fast as one sample after the other")
    axes.set_title(f"{found['samples']:,} samples, simulated; mean seconds a sample in brackets")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})


def table(found: dict[str, Any]) -> str:
    """Speed-ups of each distribution and policy, and what the driver and the last shards take with most workers."""
    rows = []
    for case in found["cases"]:
        last = case["runs"][-1]
        fast = {f"{row['workers']}": f"{row['speed-up']:.3g}" for row in case["runs"] if row["workers"] > 1}
        rows.append(
            {"costs": case["costs"], "mean s": f"{case['mean']:.3g}", "most s": f"{case['most']:.3g}"}
            | {"policy": case["policy"], **fast}
            | {"driver busy": f"{100 * last['driver']:.0f}%", "tail": f"{100 * last['tail']:.0f}%"}
        )
    return store.markdown(rows)


def main() -> None:
    """Simulates all cases and stores them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--workers", type=int, nargs="+", default=list(WORKERS))
    options = parser.parse_args()
    found = run(options.samples, options.workers, lambda line: print(line, flush=True))
    STORE.write("simulation", found)
    draw(found, STORE.path("simulation.svg"))
    STORE.write_table("simulation", table(found))


if __name__ == "__main__":
    main()
