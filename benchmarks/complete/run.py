"""Agrify's experiments: least perturbations of 100 images within 15/255, guided and plain, and other verifiers.

python -m benchmarks.complete.run                      every row that is not finished, then the tables (many hours)
python -m benchmarks.complete.run --only "FNN1 min"    rows whose name has one of these words
python -m benchmarks.complete.run --limit 20           the first 20 images only; --images 69 71: these
python -m benchmarks.complete.run --time-limit 60      seconds an image (default: 3600, as in the paper)
python -m benchmarks.complete.run --minutes 30         begins no question after half an hour; the next run goes on
python -m benchmarks.complete.run --again              asks anew what has an answer
python -m benchmarks.complete.run --list               the rows' names; --table: writes tables and figure

Answers are stored one by one. One that ended without a proof is asked again only with a longer time limit. Rows of one
network take turns image by image, so that guided and plain are measured together. No witness counts that the script
does not find to be one itself (``witness.py``). The first answers of a run trace and compile: each row asks its first
question once before, and that does not count.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.common import data, machine, store
from benchmarks.complete import tables
from benchmarks.complete.networks import NETWORKS, Digits, Fnn, accuracy, digest, images, ready
from benchmarks.complete.peer import PEERS, asked
from benchmarks.complete.tasks import SKIPPED, How, decided, least
from tfcert.datasets import public

STORE = store.Store(__file__)
_BOUNDS = ("symbolic", "crown", "progressive", "interval")
_SEARCHES = {"split": "split", "milp": "guided", "plain": "plain"}
"""What the rows' names call the searches."""
_SMALL = ("FNN1", "FNN2")
"""The networks that the peers are asked about."""
_WARM_UP = 2.0
"""Seconds of the questions that do not count."""
_TOGETHER = 20
"""Images of one specification: attacks and CROWN take them together, and they are stored together."""


@dataclass(frozen=True)
class Row:
    """One network and one way to ask: the task is ``verify``, ``minimum`` or ``peers``.

    ``search`` is how: by branch and bound (``split``), by integer programs (``milp``) or one of them (``plain``).
    """

    fnn: Fnn
    task: str
    solver: str = ""
    search: str = "split"
    bounds: str = "crown"

    @property
    def key(self) -> str:
        """A name for results and tables."""
        if self.task == "minimum":
            search = _SEARCHES[self.search]
            return f"{self.fnn.name} minimum {search} {self.bounds} {self.solver}"
        if self.task == "verify":
            return f"{self.fnn.name} verify {self.search} {self.solver}"
        return f"{self.fnn.name} {' '.join(PEERS)}"


def table_rows(solver: str | None) -> list[Row]:
    """Every row, in the order of the tables; ``solver`` instead of the networks' own."""
    rows = []
    for fnn in NETWORKS:
        with_solver = solver or fnn.solver
        rows += [Row(fnn, "verify", with_solver, search) for search in ("split", "milp")]
        rows.append(Row(fnn, "minimum", with_solver))
        rows += [Row(fnn, "minimum", with_solver, search, bounds) for search in ("milp", "plain") for bounds in _BOUNDS]
        if fnn.name in _SMALL:
            rows.append(Row(fnn, "peers", with_solver))
    return rows


@dataclass(frozen=True)
class Setting:
    """How long and how much: the images' numbers, seconds an image, the time (``time.monotonic()``) after
    which nothing begins, and whether images that have an answer are asked again."""

    numbers: tuple[int, ...]
    seconds: float
    end: float
    again: bool = False

    @property
    def over(self) -> bool:
        return time.monotonic() > self.end


class Runner:
    """Asks the rows of one network after the other and stores each answer."""

    def __init__(self, setting: Setting):
        self.setting = setting
        self.results = read()
        self.results["runs"].append(machine.describe() | {"commit": _commit()})
        self.run = len(self.results["runs"]) - 1

    def ask(self, fnn: Fnn, rows: list[Row]) -> None:
        """All rows of one network."""
        found = images(fnn.data, "test")
        if found is None:
            print(f"{fnn.name}: {public.missing(fnn.data)}")
            return
        try:
            model, trained = ready(fnn)
        except data.MissingDataError as error:
            print(f"{fnn.name}: {error}")
            return
        known = self.results["networks"].setdefault(fnn.name, {})
        self._same_weights(fnn, known, digest(model))
        known["accuracy"] = accuracy(model, found)
        known |= trained or {}
        first = found.take(slice(max(self.setting.numbers) + 1))
        right = model.predict(first.x, verbose=0).argmax(axis=1) == first.y
        self._verify(model, first, right, [row for row in rows if row.task == "verify"])
        turns = [row for row in rows if row.task != "verify"]
        self._warm_up(model, first, right, turns)
        for i in self.setting.numbers:
            for row in turns:
                if self.setting.over:
                    return
                self._turn(model, first.take([i]), bool(right[i]), (row, i))

    def _same_weights(self, fnn: Fnn, known: dict[str, Any], weights: str) -> None:
        """Drops what is stored of a network that was trained again since: answers of two networks are no row."""
        if known.get("weights", weights) != weights:
            print(f"{fnn.name}: weights are none that were asked about before, so its rows begin anew", flush=True)
            for part in ("rows", "peers"):
                kept = self.results[part].items()
                self.results[part] = {key: row for key, row in kept if key.split()[0] != fnn.name}
        known["weights"] = weights

    def _verify(self, model: Any, digits: Digits, right: np.ndarray, rows: list[Row]) -> None:
        """The rows that take several images at once."""
        for row in rows:
            left = np.array([i for i in self.setting.numbers if self._wanted("rows", row, i)], int)
            for i in left[~right[left]]:
                self._store("rows", row, int(i), {"outcome": SKIPPED})
            left = left[right[left]]
            how = _how(row, self.setting.seconds)
            for begin in range(0, len(left), _TOGETHER):
                some = left[begin : begin + _TOGETHER]
                if self.setting.over:
                    return
                for i, answer in zip(some, decided(model, digits.take(some), how), strict=True):
                    self._store("rows", row, int(i), answer)

    def _warm_up(self, model: Any, digits: Digits, right: np.ndarray, rows: list[Row]) -> None:
        i = int(np.flatnonzero(right)[0])
        for row in rows:
            wanted = any(self._wanted("rows", row, n) for n in self.setting.numbers)
            if row.task == "minimum" and wanted and not self.setting.over:
                least(model, digits.take([i]), _how(row, _WARM_UP))

    def _turn(self, model: Any, digits: Digits, right: bool, asked_about: tuple[Row, int]) -> None:
        """One image for one row."""
        row, i = asked_about
        part = "peers" if row.task == "peers" else "rows"
        if not self._wanted(part, row, i):
            return
        if row.task == "minimum":
            answer = least(model, digits, _how(row, self.setting.seconds)) if right else {"outcome": SKIPPED}
        elif right:
            answer = {peer: asked(peer, model, digits, self.setting.seconds) for peer in PEERS}
            start = time.perf_counter()
            (ours,) = decided(model, digits, How(row.solver, self.setting.seconds))
            ours["seconds"] = round(time.perf_counter() - start, 3)
            answer["tfcert"] = ours
        else:
            answer = {side: {"outcome": SKIPPED} for side in (*PEERS, "tfcert")}
        self._store(part, row, i, answer)

    def _wanted(self, part: str, row: Row, i: int) -> bool:
        """Whether an image has no answer, or one that more time might improve."""
        stored = self.results[part].get(_name(row), {}).get(str(i))
        if stored is None or (self.setting.again and stored["run"] != self.run):
            return True
        if part == "peers" and not PEERS.keys() <= stored.keys():
            return True
        done = all(tables.finished(stored[side]) for side in PEERS) if part == "peers" else tables.finished(stored)
        return not done and stored["limit"] < self.setting.seconds

    def _store(self, part: str, row: Row, i: int, answer: dict[str, Any]) -> None:
        stamped = answer | {"limit": self.setting.seconds, "run": self.run}
        self.results[part].setdefault(_name(row), {})[str(i)] = stamped
        write(self.results)
        said = answer if part == "peers" else {row.key: answer}
        words = ", ".join(f"{name} {a['outcome']} in {a.get('seconds', 0):.1f} s" for name, a in said.items())
        distance = f" at {answer['lower']:.7f} to {answer['upper']:.7f}" if "upper" in answer else ""
        print(f"{row.fnn.name} image {i}: {words}{distance}", flush=True)


def _name(row: Row) -> str:
    return row.fnn.name if row.task == "peers" else row.key


def _how(row: Row, seconds: float) -> How:
    return How(row.solver, seconds, row.search, row.bounds)


def _commit() -> str:
    """The commit that is measured; with ``+`` where the package differs from it."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(data.REPOSITORY), *words], capture_output=True, text=True
        ).stdout.strip()

    return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--short", "--", "tfcert") else "")


def read() -> dict[str, Any]:
    """The stored results, empty where there are none."""
    empty: dict[str, Any] = {"runs": [], "networks": {}, "rows": {}, "peers": {}}
    return STORE.read("agrify", empty)


def write(results: dict[str, Any]) -> None:
    """Stores the results, one answer a line, and never half of them."""
    parts = [f'"{part}": {json.dumps(results[part])}' for part in ("runs", "networks")]
    for part in ("rows", "peers"):
        rows = []
        for key, answers in results[part].items():
            lines = ",\n   ".join(f'"{i}": {json.dumps(answers[i])}' for i in sorted(answers, key=int))
            rows.append(f"{json.dumps(key)}: {{\n   {lines}\n  }}")
        parts.append(f'"{part}": {{\n  ' + ",\n  ".join(rows) + "\n }")
    STORE.replace("agrify.json", "{\n " + ",\n ".join(parts) + "\n}\n")


def report(results: dict[str, Any]) -> None:
    """Writes the README's tables and the figure, and says loudly where two answers cannot both be right."""
    figure = STORE.path(tables.FIGURE)
    drawn = f"![distances](results/{figure.name})\n\n" if tables.figure(results, figure) else ""
    line = f"{store.machine_line(results['runs'][-1])} {tables.accuracies(results)}\n\n"
    for name, text in (
        ("agrify", line + tables.results_table(results)),
        ("agrify-speedup", tables.speedups(results)),
        ("agrify-peers", tables.peers_table(results)),
        ("agrify-figure", drawn),
    ):
        STORE.write_table(name, text)
        print(text)
    for problem in tables.problems(results):
        print(f"!!! CANNOT BE RIGHT !!! {problem}")


def main() -> None:
    """Asks, or writes the tables."""
    parser = argparse.ArgumentParser(description="Agrify's experiments.")
    parser.add_argument("--only", nargs="+", metavar="WORD", default=[""], help="rows whose name has one of the words")
    parser.add_argument("--limit", type=int, default=100, help="the first so many images (default: 100)")
    parser.add_argument("--images", nargs="+", type=int, metavar="N", help="these images instead")
    parser.add_argument("--time-limit", type=float, default=3600, help="seconds an image (default: 3600)")
    parser.add_argument("--minutes", type=float, default=np.inf, help="begin no question after this time")
    parser.add_argument("--again", action="store_true", help="ask again about images that have an answer")
    parser.add_argument("--solver", choices=("cbc", "highs", "gurobi"), help="instead of each network's own")
    parser.add_argument("--list", action="store_true", help="only print the rows' names")
    parser.add_argument("--table", action="store_true", help="only write tables and figure from the stored results")
    arguments = parser.parse_args()
    rows = [row for row in table_rows(arguments.solver) if any(word in row.key for word in arguments.only)]
    if arguments.list:
        print("\n".join(row.key for row in rows))
        return
    if not arguments.table:
        machine.limit_threads()
        numbers, end = tuple(arguments.images or range(arguments.limit)), time.monotonic() + 60 * arguments.minutes
        setting = Setting(numbers, arguments.time_limit, end, arguments.again)
        runner = Runner(setting)
        for fnn in NETWORKS:
            if (some := [row for row in rows if row.fnn is fnn]) and not setting.over:
                runner.ask(fnn, some)
    if not (results := read())["runs"]:
        parser.error("there are no results yet")
    report(results)


if __name__ == "__main__":
    main()
