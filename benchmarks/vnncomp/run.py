"""Answers the questions of a folder as the verification competition does, and compares with what its tools said.

``python -m benchmarks.vnncomp.run --family acasxu --most 20 --out out/vnncomp`` writes ``results.csv`` in the
competition's columns, a counterexample file for each ``sat``, and prints what was solved; with ``--store`` the lines
are kept in ``results/vnncomp.json``, and the README's tables follow.
"""

from __future__ import annotations

import argparse
import csv
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common import data
from benchmarks.vnncomp.check import complaint
from benchmarks.vnncomp.resident import Answered, Resident

COLUMNS = (
    "family", "onnx", "vnnlib", "prepare_time", "result", "run_time", "known", "pieces", "passes", "load", "how",
)  # fmt: skip


@dataclass(frozen=True)
class Question:
    """A line of ``questions.csv``: files, the competition's seconds, and its answer where all tools agree."""

    family: str
    onnx: str
    vnnlib: str
    seconds: float
    known: str


def questions(folder: Path, families: Sequence[str] = (), most: int | None = None) -> Iterator[Question]:
    """The questions of a folder, those of some families alone; ``most`` of each."""
    seen: Counter[str] = Counter()
    with (folder / "questions.csv").open(newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            family = line["family"]
            if (families and family not in families) or (most is not None and seen[family] >= most):
                continue
            seen[family] += 1
            sat, unsat = int(line["tools_that_said_sat"]), int(line["tools_that_said_unsat"])
            known = "sat" if sat and not unsat else "unsat" if unsat and not sat else ""
            yield Question(family, line["onnx"], line["vnnlib"], float(line["limit_s"]), known)


def run(
    folder: Path,
    asked: Sequence[Question],
    out: Path,
    resident: Resident,
    most_seconds: float,
    check: Callable[[Path, Path, str], str] = complaint,
) -> Path:
    """Answers the questions in order; each line of the result is written as soon as it is known.

    A counterexample that ``check`` complains of is an error.
    """
    out.mkdir(parents=True, exist_ok=True)
    path = out / "results.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for number, question in enumerate(asked):
            seconds = min(question.seconds, most_seconds)
            found = resident.ask(str(folder / question.onnx), str(folder / question.vnnlib), seconds)
            wrong = check(folder / question.onnx, folder / question.vnnlib, found.text) if found.result == "sat" else ""
            if wrong:
                found = Answered("error", "error", f"a counterexample that refutes nothing: {wrong}", found.seconds)
            writer.writerow(_row(question, found))
            file.flush()
            if found.result == "sat":
                (out / f"{number}_{Path(question.vnnlib).name}.counterexample").write_text(found.text + "\n")
    return path


def _row(question: Question, found: Answered) -> tuple[object, ...]:
    load = round(os.getloadavg()[0], 1)
    names = (question.family, question.onnx, question.vnnlib)
    work = (found.pieces, found.passes)
    return (*names, 0, found.result, round(found.seconds, 3), question.known, *work, load, found.how)


def stored(path: Path) -> list[dict[str, object]]:
    """The lines of a ``results.csv``, as they are stored."""
    numbers = {"run_time": float, "load": float, "pieces": int, "passes": int}
    with path.open(newline="", encoding="utf-8") as file:
        return [
            {name: numbers.get(name, str)(value) for name, value in line.items() if name not in ("prepare_time", "how")}
            for line in csv.DictReader(file)
        ]


def summary(path: Path) -> str:
    """What was solved of each family, and what contradicts the known answers."""
    with path.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    said = []
    for family in dict.fromkeys(line["family"] for line in lines):
        mine = [line for line in lines if line["family"] == family]
        counts = Counter(line["result"] for line in mine)
        solved = counts["sat"] + counts["unsat"]
        each = ", ".join(f"{counts[kind]} {kind}" for kind in sorted(counts))
        said.append(f"{family}: {solved} of {len(mine)} solved ({each})")
    wrong = [line for line in lines if line["result"] in ("sat", "unsat") and line["known"] not in ("", line["result"])]
    said += [f"AGAINST THE KNOWN ANSWER: {w['onnx']} {w['vnnlib']}: {w['result']}" for w in wrong]
    return "\n".join([*said, f"against known answers: {len(wrong)}"])


def main() -> None:
    """Reads the arguments, answers, and prints the summary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="with questions.csv (default: vnncomp in the folder of the data)")
    parser.add_argument("--family", action="append", default=[], help="ask these alone")
    parser.add_argument("--most", type=int, help="so many questions of each family")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="no more than these a question")
    parser.add_argument("--out", type=Path, default=Path("out/vnncomp"))
    parser.add_argument("--store", action="store_true", help="keep the lines in results/ and write the tables")
    options = parser.parse_args()
    folder = options.folder or data.root() / "vnncomp"
    if not (folder / "questions.csv").is_file():
        raise SystemExit(f"there is no questions.csv in {folder}")
    resident = Resident()
    try:
        asked = list(questions(folder, options.family, options.most))
        path = run(folder, asked, options.out, resident, options.seconds)
    finally:
        resident.stop()
    print(summary(path))
    if options.store:
        from benchmarks.common import machine
        from benchmarks.vnncomp import tables

        tables.keep(stored(path), machine.describe())


if __name__ == "__main__":
    main()
