"""How time and memory of one CROWN pass grow with batch, depth, width and classes, ours and auto_LiRPA's.

python -m benchmarks.peers.growth            measures (about ten minutes), writes results, figure and tables
python -m benchmarks.peers.growth --resume   only the points that are not stored
python -m benchmarks.peers.growth --table    writes figure and tables from the stored results

Each point is a process of its own a side, so that one's memory is not another's. A pass: all intermediate bounds and a
margin for every other class of an image, over L-infinity balls. Memory is the process's peak during its first passes,
less what it held before them. Both sides take turns; ours is traced by then.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any

import keras
import numpy as np

import tfcert
from benchmarks.common import architectures, data, machine, networks, store, timing
from benchmarks.common.clock import Clock, add_minutes
from benchmarks.common.unrounded import UNROUNDED
from benchmarks.common.usage import peak_mib, used
from benchmarks.peers import profile
from benchmarks.peers.flops import crown_pass
from benchmarks.peers.measure import peer_of
from benchmarks.peers.tables import PEER, US
from tfcert.sets.region import region_of

TRAINED = "mnist_cnn_4layer_5_3_relu"
STORE = store.Store(__file__)
FIGURE = STORE.path("growth.svg")
SWEEPS = {
    "batch": "batch",
    "depth": "depth",
    "width": "filters",
    "classes": "classes",
    "image": "size",
    "kernel": "kernel",
}
"""By name the number that a sweep varies."""
_FIRST, _ROUNDS, _PEER_GIB = 9, 3, 12.0
_COUNTED_IMAGES = 2
"""FLOPs an image are the mean of this many images."""


@dataclass(frozen=True)
class Point:
    """One measurement; ``depth`` counts convolutions; the trained network where the batch is what varies.

    Attributes:
        beside: whether the peer is measured as well.
        size, kernel: pixels a side of images (cut from MNIST's middle, or repeated beyond it) and of filters.
    """

    sweep: str
    batch: int = 10
    depth: int = 3
    filters: int = 5
    classes: int = 10
    memory_mb: int = 1024
    eps: float = 0.03
    beside: bool = True
    size: int = 28
    kernel: int = 3


POINTS = [
    *(Point("batch", batch=batch) for batch in (1, 4, 16, 64)),
    *(Point("batch", batch=batch, memory_mb=128, beside=False) for batch in (16, 64)),
    *(Point("depth", depth=depth) for depth in (2, 4, 6, 8)),
    *(Point("width", filters=filters) for filters in (5, 10, 20)),
    *(Point("classes", classes=classes) for classes in (10, 40, 160)),
    *(Point("image", size=size) for size in (14, 20, 28, 40)),
    *(Point("kernel", kernel=kernel) for kernel in (2, 3, 5, 7)),
]


def measure(point: Point) -> dict[str, Any]:
    """Measures one point in this process, and the peer's side in another."""
    machine.limit_threads()
    model, network, images = subject(point)
    options = replace(UNROUNDED, memory_mb=point.memory_mb)

    def run(count: int = point.batch) -> None:
        ball = tfcert.LpBall(images.x[:count], point.eps, "linf")
        tfcert.margins(network, ball, images.y[:count], options=options)

    run(1)  # loads what every pass needs, so that the peak is the passes'
    held = peak_mib(lambda: None)[1]
    _, peak = peak_mib(lambda: [run() for _ in range(_FIRST)])
    memory = {US: round(peak - held)}
    sides = {US: lambda: used(run)}
    x, labels = images.x[: point.batch], images.y[: point.batch]
    if point.beside:
        with peer_of(model, x, _PEER_GIB) as peer:
            question = {"norm": "linf", "eps": point.eps, "method": "crown", "options": {}}
            first = peer.ask("prepare", rows=_rows(labels, point.classes).tolist(), **question)
            memory[PEER] = round(first["peak_mib"] - first["held_mib"])
            passes = timing.alternate({PEER: lambda: peer.ask("run"), **sides}, _ROUNDS)
    else:
        passes = timing.alternate(sides, _ROUNDS)
    return {
        **asdict(point),
        "neurons": network.neurons(),
        "passes": passes,
        "memory_mib": memory,
        "gflop_useful": gflop(point, network, images),
        "by_kind": {kind: round(s, 4) for kind, s in profile.seconds_by_kind(run).items()},
    }


def subject(point: Point) -> tuple[keras.Model, tfcert.Network, networks.Images]:
    """The model of a point, its network, and its images."""
    keras.utils.set_random_seed(0)
    build, shape = architectures.pure_cnn, (point.depth, point.filters, point.classes)
    trained = point.sweep == "batch"
    model = networks.load(TRAINED) if trained else build(*shape, size=point.size, kernel=point.kernel)
    return model, tfcert.from_keras(model), _sized(networks.test_images(TRAINED), point.size)


def gflop(point: Point, network: tfcert.Network, images: networks.Images) -> float:
    """The multiplications and additions of a point's pass, counted from shapes and unstable neurons, in GFLOP."""
    region = region_of(tfcert.LpBall(images.x[:_COUNTED_IMAGES], point.eps, "linf"))
    useful: int = crown_pass(network, region, point.classes - 1).useful
    return useful / 1e9 / _COUNTED_IMAGES * point.batch


def _sized(images: networks.Images, size: int) -> networks.Images:
    """Images of another size: the middle of MNIST's, or these with their edges reflected."""
    have = images.x.shape[1]
    if size <= have:
        begin = (have - size) // 2
        return networks.Images(images.x[:, begin : begin + size, begin : begin + size], images.y)
    before, after = (size - have) // 2, -(-(size - have) // 2)
    return networks.Images(np.pad(images.x, ((0, 0), (before, after), (before, after), (0, 0)), "reflect"), images.y)


def _rows(labels: np.ndarray, classes: int) -> np.ndarray:
    """``f_y - f_j`` for every other class j: ``[images, classes - 1, classes]``."""
    eye = np.eye(classes, dtype=np.float32)
    return np.stack([eye[label] - np.delete(eye, label, axis=0) for label in labels])


def exponent(sizes: list[float], values: list[float]) -> float:
    """The slope of the least squares line through log value over log size."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def _sweep(points: list[dict[str, Any]], sweep: str, side: str) -> tuple[list[int], list[float], list[float]]:
    """Of the points of a sweep with the usual bound of memory: sizes, seconds a pass, and MiB."""
    some = [p for p in points if p["sweep"] == sweep and p["memory_mb"] == 1024]
    seconds = [median(p["passes"][side]["all"]) for p in some]
    return [p[SWEEPS[sweep]] for p in some], seconds, [max(1, p["memory_mib"][side]) for p in some]


def figure(points: list[dict[str, Any]]) -> None:
    """Time of a pass and memory against what each sweep varies."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "growth"  # the same file from the same numbers
    import matplotlib.pyplot as plt

    labels = {"batch": "images in a batch", "depth": "convolutions", "width": "filters", "classes": "classes",
              "image": "pixels a side", "kernel": "pixels of a filter, a side"}  # fmt: skip
    drawn = [sweep for sweep in SWEEPS if len(_sweep(points, sweep, US)[0]) > 1]
    drawing, axes = plt.subplots(2, len(drawn), figsize=(2.75 * len(drawn), 4.8), layout="constrained")
    for column, sweep in enumerate(drawn):
        for side in (PEER, US):
            sizes, seconds, memory = _sweep(points, sweep, side)
            slope = exponent(list(map(float, sizes)), seconds)
            axes[0, column].loglog(sizes, [1000 * s for s in seconds], "o-", label=f"{side}: {slope:.1f}")
            axes[1, column].loglog(sizes, memory, "o-", label=side)
        axes[1, column].set_xlabel(labels[sweep])
        axes[0, column].legend(title="exponent", fontsize="small")
        for axis in axes[:, column]:
            axis.set_xticks(sizes, [str(size) for size in sizes], minor=False)
            axis.minorticks_off()
            axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("ms a pass")
    axes[1, 0].set_ylabel("peak memory, MiB")
    drawing.savefig(FIGURE, metadata={"Date": None})
    plt.close(drawing)


def table(result: dict[str, Any]) -> str:
    """The result as Markdown: exponents, then every point."""
    peak = result["peak_gflops"]
    return (
        f"{store.machine_line(result['machine'])} Peak (matrix product): {peak:.0f} GFLOP/s.\n\n"
        f"![growth](results/{FIGURE.name})\n\n{store.markdown(_exponents(result['points']))}\n\n"
        f"{store.markdown([_row(point, peak) for point in result['points']])}"
    )


def _exponents(points: list[dict[str, Any]]) -> list[dict[str, str]]:
    rows = []
    for sweep in SWEEPS:
        if len(_sweep(points, sweep, US)[0]) < 2:
            continue
        found: dict[str, str] = {"against": sweep}
        for side in (PEER, US):
            sizes, seconds, memory = _sweep(points, sweep, side)
            x = list(map(float, sizes))
            steps = [exponent(x[i : i + 2], seconds[i : i + 2]) for i in range(len(x) - 1)]
            found["sizes"] = ", ".join(map(str, sizes))
            found[f"time, {side}"] = f"{exponent(x, seconds):.2f} ({', '.join(f'{s:.1f}' for s in steps)})"
            found[f"memory, {side}"] = f"{exponent(x, memory):.2f}"
        rows.append(found)
    return rows


def _row(point: dict[str, Any], peak: float) -> dict[str, str]:
    seconds = {side: median(taken["all"]) for side, taken in point["passes"].items()}
    rate, spent = point["gflop_useful"] / seconds[US], sum(point["by_kind"].values())
    peer = PEER in seconds
    return {
        "sweep": point["sweep"],
        "batch": str(point["batch"]),
        "convolutions x filters": f"{point['depth']} x {point['filters']}",
        "image, filter": f"{point.get('size', 28)}, {point.get('kernel', 3)}",
        "classes": str(point["classes"]),
        "neurons": str(point["neurons"]),
        "memory_mb": str(point["memory_mb"]),
        f"{PEER}, ms": f"{1000 * seconds[PEER]:.1f}" if peer else "",
        f"{US}, ms": f"{1000 * seconds[US]:.1f}",
        "times faster": f"{seconds[PEER] / seconds[US]:.1f}" if peer else "",
        "peak memory, MiB": " / ".join(str(point["memory_mib"][side]) for side in (PEER, US) if side in seconds),
        "of peak": f"{100 * rate / peak:.1f}%",
        **{kind: f"{100 * point['by_kind'].get(kind, 0) / spent:.0f}%" for kind in _KINDS},
    }


_KINDS = (profile.PRODUCTS, profile.FUSED, profile.PICKING, profile.ELEMENTWISE)


def _in_a_process(point: Point) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.peers.growth", "--point", json.dumps(asdict(point))]
    done = subprocess.run(command, cwd=data.REPOSITORY, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def same(point: Point, found: dict[str, Any]) -> bool:
    """Whether a stored measurement is of a point; the first ones do not say what they had no choice of."""
    return asdict(point).items() <= (asdict(Point("")) | found).items()


def _measure_all(resume: bool, clock: Clock) -> None:
    machine.limit_threads()
    stored = STORE.read("growth", {"points": []})["points"] if resume else []
    points = [found for found in stored if any(same(p, found) for p in POINTS)]
    peak = machine.product_peak() / 1e9
    for point in POINTS:
        if clock.over or any(same(point, found) for found in points):
            continue
        print(point, flush=True)
        points.append(_in_a_process(point))
        points.sort(key=lambda found: next(i for i, p in enumerate(POINTS) if same(p, found)))
        STORE.write("growth", {"machine": machine.describe(), "peak_gflops": peak, "points": points})


def main() -> None:
    """Measures, or writes the tables."""
    parser = argparse.ArgumentParser(description="Growth of one CROWN pass.")
    parser.add_argument("--resume", action="store_true", help="only the points that are not stored")
    parser.add_argument("--table", action="store_true", help="only write figure and tables from the stored results")
    parser.add_argument("--point", help=argparse.SUPPRESS)
    add_minutes(parser)
    arguments = parser.parse_args()
    if arguments.point:
        print(json.dumps(measure(Point(**json.loads(arguments.point)))))
        return
    if not arguments.table:
        _measure_all(arguments.resume, Clock(arguments.minutes))
    result = STORE.read("growth")
    figure(result["points"])
    STORE.write_table("growth", table(result))


if __name__ == "__main__":
    main()
