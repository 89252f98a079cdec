"""How the multiplications of one CROWN pass grow with depth, width, classes, and the sizes of images and filters.

python -m benchmarks.peers.counted                counts what is not counted yet (minutes), then writes the table
python -m benchmarks.peers.counted --minutes 5    begins nothing more after that; the next run goes on from there
python -m benchmarks.peers.counted --table        writes the README's table from the stored results

Of the points of ``growth.py``, from shapes and the number of neurons that need a bound (``flops.py``): no load of the
machine disturbs it. CNN-Cert's ``r^2 m^6 k^4 n^3`` is about images of r x r, m layers, and n filters of k x k.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from benchmarks.common import machine, store
from benchmarks.common.clock import Clock, add_minutes
from benchmarks.peers import growth

STORE = store.Store(__file__)
POINTS = [point for point in growth.POINTS if point.sweep != "batch"]
"""A batch has the multiplications of so many images."""


def count(point: growth.Point) -> dict[str, Any]:
    """A point's neurons and multiplications."""
    _, network, images = growth.subject(point)
    gflop = growth.gflop(point, network, images)
    return {**asdict(point), "neurons": network.neurons(), "gflop_useful": gflop}


def table(points: list[dict[str, Any]]) -> str:
    """The exponents as Markdown, over all sizes and between neighbours."""
    rows = []
    for sweep, varied in growth.SWEEPS.items():
        some = [point for point in points if point["sweep"] == sweep]
        if len(some) < 2:
            continue
        sizes, values = [float(point[varied]) for point in some], [point["gflop_useful"] for point in some]
        steps = [growth.exponent(sizes[i : i + 2], values[i : i + 2]) for i in range(len(sizes) - 1)]
        rows.append(
            {
                "multiplications against": sweep,
                "sizes": ", ".join(f"{size:.0f}" for size in sizes),
                "GFLOP a pass": ", ".join(f"{value:.2f}" for value in values),
                "exponent": f"{growth.exponent(sizes, values):.2f} ({', '.join(f'{step:.1f}' for step in steps)})",
            }
        )
    return store.markdown(rows)


def main() -> None:
    """Counts, or writes the table."""
    parser = argparse.ArgumentParser(description="Multiplications of one CROWN pass.")
    parser.add_argument("--table", action="store_true", help="only write the README's table from the stored results")
    add_minutes(parser)
    arguments = parser.parse_args()
    clock = Clock(arguments.minutes)
    points = STORE.read("counted", {"points": []})["points"]
    if not arguments.table:
        machine.limit_threads()
    for point in [] if arguments.table else POINTS:
        if clock.over or any(growth.same(point, found) for found in points):
            continue
        print(point, flush=True)
        points = [*points, count(point)]
        points.sort(key=lambda found: next(i for i, one in enumerate(POINTS) if growth.same(one, found)))
        STORE.write("counted", {"points": points})
    STORE.write_table("counted", table(STORE.read("counted")["points"]))


if __name__ == "__main__":
    main()
