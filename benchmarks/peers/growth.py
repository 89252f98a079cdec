"""How time and memory of one CROWN pass grow with the batch, the depth and the width, and where the time goes.

python -m benchmarks.peers.growth            measures (about ten minutes), writes results, figure and table
python -m benchmarks.peers.growth --table    writes figure and table from the stored results

Each point is a process of its own, so that one's memory is not another's. A pass: all intermediate bounds and 9 margins
an image over L-infinity balls. Memory is the process's peak during the pass, less what it held before it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

import keras

import tfcert
from benchmarks.common import architectures, data, machine, memory, networks, store
from benchmarks.peers import profile
from benchmarks.peers.flops import crown_pass
from tfcert.sets.region import region_of

TRAINED = "mnist_cnn_4layer_5_3_relu"
STORE = store.Store(__file__)
FIGURE = STORE.path("growth.svg")
_RUNS = 5
_COUNTED_IMAGES = 2
"""FLOPs an image are the mean of this many images."""


@dataclass(frozen=True)
class Point:
    """One measurement; ``depth`` counts convolutions; the trained network where depth is 3 and width 5."""

    sweep: str
    batch: int = 10
    depth: int = 3
    filters: int = 5
    memory_mb: int = 1024
    eps: float = 0.03


POINTS = [
    *(Point("batch", batch=2**power, memory_mb=limit) for limit in (1024, 128) for power in range(9)),
    *(Point("depth", depth=depth) for depth in (4, 6, 8, 10, 12)),
    *(Point("width", filters=filters) for filters in (5, 8, 16, 32)),
]


def measure(point: Point) -> dict[str, Any]:
    """Times one point in this process."""
    machine.limit_threads()
    keras.utils.set_random_seed(0)
    trained = point.sweep == "batch"
    model = networks.load(TRAINED) if trained else architectures.pure_cnn(point.depth, point.filters)
    network = tfcert.from_keras(model)
    images = networks.test_images(TRAINED)
    options = tfcert.BoundOptions(memory_mb=point.memory_mb)

    def run(count: int) -> float:
        start = time.perf_counter()
        ball = tfcert.LpBall(images.x[:count], point.eps, "linf")
        tfcert.margins(network, ball, images.y[:count], options=options)
        return time.perf_counter() - start

    run(1)  # loads and traces, so that the peak is the pass's
    held = memory.peak_mib(lambda: None)[1]
    first, peak = memory.peak_mib(lambda: run(point.batch))
    seconds = [run(point.batch) for _ in range(_RUNS)]
    region = region_of(tfcert.LpBall(images.x[:_COUNTED_IMAGES], point.eps, "linf"))
    return {
        **asdict(point),
        "neurons": network.neurons(),
        "first_seconds": round(first, 3),
        "seconds": [round(s, 4) for s in seconds],
        "memory_mib": round(peak - held),
        "gflop_useful": crown_pass(network, region, 9).useful / 1e9 / _COUNTED_IMAGES * point.batch,
        "by_kind": {kind: round(s, 4) for kind, s in profile.seconds_by_kind(lambda: run(point.batch)).items()},
    }


def figure(points: list[dict[str, Any]]) -> None:
    """Time an image and memory against batch, depth and width."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "growth"  # the same file from the same numbers
    import matplotlib.pyplot as plt

    labels = {"batch": "images in a batch", "depth": "convolutions", "width": "filters"}
    keys = {"batch": "batch", "depth": "depth", "width": "filters"}
    drawing, axes = plt.subplots(2, 3, figsize=(9, 4.8), layout="constrained")
    for column, sweep in enumerate(labels):
        limits = sorted({p["memory_mb"] for p in points if p["sweep"] == sweep}, reverse=True)
        for limit in limits:
            some = [p for p in points if p["sweep"] == sweep and p["memory_mb"] == limit]
            where = [p[keys[sweep]] for p in some]
            name = f"memory_mb={limit}"
            axes[0, column].loglog(where, [1000 * min(p["seconds"]) / p["batch"] for p in some], "o-", label=name)
            axes[1, column].loglog(where, [max(1, p["memory_mib"]) for p in some], "o-", label=name)
        axes[1, column].set_xlabel(labels[sweep])
        axes[1, column].axhline(1024, color="grey", linewidth=0.8, linestyle=":")
        for axis in axes[:, column]:
            axis.set_xticks(where, [str(w) for w in where], minor=False)
            axis.minorticks_off()
            axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("ms an image")
    axes[1, 0].set_ylabel("peak memory, MiB")
    axes[0, 0].legend()
    drawing.savefig(FIGURE, metadata={"Date": None})


def table(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    peak, rows = result["peak_gflops"], []
    for point in result["points"]:
        seconds, spent = min(point["seconds"]), sum(point["by_kind"].values())
        rate = point["gflop_useful"] / seconds
        rows.append(
            {
                "sweep": point["sweep"],
                "batch": str(point["batch"]),
                "convolutions x filters": f"{point['depth']} x {point['filters']}",
                "neurons": str(point["neurons"]),
                "memory_mb": str(point["memory_mb"]),
                "ms an image": f"{1000 * seconds / point['batch']:.2f}",
                "peak memory, MiB": str(point["memory_mib"]),
                "GFLOP/s": f"{rate:.1f}",
                "of peak": f"{100 * rate / peak:.1f}%",
                **{kind: f"{100 * point['by_kind'].get(kind, 0) / spent:.0f}%" for kind in _KINDS},
            }
        )
    return (
        f"{store.machine_line(result['machine'])} Peak (matrix product): {peak:.0f} GFLOP/s.\n\n"
        f"![growth](results/{FIGURE.name})\n\n{store.markdown(rows)}"
    )


_KINDS = (profile.PRODUCTS, profile.FUSED, profile.PICKING, profile.ELEMENTWISE)


def _in_a_process(point: Point) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.peers.growth", "--point", json.dumps(asdict(point))]
    done = subprocess.run(command, cwd=data.REPOSITORY, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measures, or writes the table."""
    parser = argparse.ArgumentParser(description="Growth of one CROWN pass.")
    parser.add_argument("--table", action="store_true", help="only write figure and table from the stored results")
    parser.add_argument("--point", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.point:
        print(json.dumps(measure(Point(**json.loads(arguments.point)))))
        return
    if not arguments.table:
        machine.limit_threads()
        points = []
        for point in POINTS:
            print(point, flush=True)
            points.append(_in_a_process(point))
        peak = machine.product_peak() / 1e9
        STORE.write("growth", {"machine": machine.describe(), "peak_gflops": peak, "points": points})
    result = STORE.read("growth")
    figure(result["points"])
    STORE.write_table("growth", table(result))


if __name__ == "__main__":
    main()
