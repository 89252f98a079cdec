"""The tables and the cactus plot of what is stored of the competition's questions.

``results/vnncomp.json`` holds for each tool its machine and a line for each question; a new run replaces the lines of
the questions that it asked. ``python -m benchmarks.vnncomp.tables`` writes the README's tables anew.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.common import store
from benchmarks.common.store import Store

STORE = Store(__file__)
NAME, FIGURE = "vnncomp", Path("cactus.svg")
TOOL = "tfcert"
SOLVED = ("sat", "unsat")

Line = dict[str, Any]


def keep(lines: Sequence[Line], machine: dict[str, Any], tool: str = TOOL) -> None:
    """Stores the lines of a run in place of those of the same questions, and writes the tables."""
    result = STORE.read(NAME, {})
    known = {_key(line): line for line in result.get(tool, {}).get("lines", [])}
    known |= {_key(line): line for line in lines}
    result[tool] = {"machine": machine, "lines": [known[key] for key in sorted(known)]}
    STORE.write(NAME, result)
    write(result)


def _key(line: Line) -> tuple[str, str, str]:
    return line["family"], line["onnx"], line["vnnlib"]


def write(result: dict[str, Any]) -> None:
    """The README's tables and the figure of a result."""
    parts = [f"![solved](results/{FIGURE.name})"]
    for tool, found in result.items():
        said = store.machine_line(found["machine"])
        parts.append(f"### {tool}\n\n{said}\n\n{store.markdown(list(rows(found['lines'])))}")
    STORE.write_table("solved", "\n\n".join(parts))
    STORE.path(FIGURE.name).parent.mkdir(parents=True, exist_ok=True)
    figure(result)


def rows(lines: Sequence[Line]) -> Iterable[dict[str, str]]:
    """A row for each family, and one for all."""
    families = list(dict.fromkeys(line["family"] for line in lines))
    for family in families:
        yield {"family": family, **_counts([line for line in lines if line["family"] == family])}
    if len(families) > 1:
        yield {"family": "all", **_counts(lines)}


def _counts(lines: Sequence[Line]) -> dict[str, str]:
    """What was solved, what is wrong, and how long it took: unsolved questions take their whole time."""
    solved = [line for line in lines if line["result"] in SOLVED]
    wrong = [line for line in solved if line["known"] not in ("", line["result"])]
    seconds = [line["run_time"] if line["result"] in SOLVED else math.inf for line in lines]
    pieces = [line["pieces"] for line in solved]
    return {
        "questions": str(len(lines)),
        "solved": str(len(solved)),
        "sat": str(sum(line["result"] == "sat" for line in lines)),
        "unsat": str(sum(line["result"] == "unsat" for line in lines)),
        "wrong": str(len(wrong)),
        "seconds, median": f"{median(seconds):.3g}",
        "slowest solved": f"{max((line['run_time'] for line in solved), default=math.nan):.3g}",
        "pieces, median": f"{median(pieces):.0f}" if pieces else "",
        "most pieces": f"{max(pieces, default=0)}",
        "load": f"{max((line['load'] for line in lines), default=0):.1f}",
    }


def figure(result: dict[str, Any]) -> None:
    """How many questions of each family a tool solves within so many seconds each."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = drawing.subplots()
    for tool, found in result.items():
        for family in dict.fromkeys(line["family"] for line in found["lines"]):
            solved = [
                line["run_time"] for line in found["lines"] if line["family"] == family and line["result"] in SOLVED
            ]
            if solved:
                axes.step(range(1, len(solved) + 1), sorted(solved), where="post", label=f"{family}, {tool}")
    axes.set_yscale("log")
    axes.set_xlabel("questions solved")
    axes.set_ylabel("seconds for each, at most")
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(fontsize="small")
    with rc_context({"svg.hashsalt": NAME}):  # the same file from the same numbers
        drawing.savefig(STORE.path(FIGURE.name), metadata={"Date": None})


if __name__ == "__main__":
    write(STORE.read(NAME))
