"""Runs a paper's lines from nothing, and prints what the paper prints beside what comes out.

python -m benchmarks.papers.run cnncert                          every line (days)
python -m benchmarks.papers.run cnncert --table 3 --minutes 60   those of table 3, begins nothing after an hour
python -m benchmarks.papers.run cnncert --table 3 --small        in small form: whether it runs, not what comes out
python -m benchmarks.papers.run cnncert --table 3 --show         only prints what is there
python -m benchmarks.papers.run abscert --into benchmarks        goes on with the stored results of the repository

What a line needs is trained first, by the commands that its row on the page names; each of them keeps every result as
soon as it has it, so a run can be stopped (Ctrl-C) and goes on in the next. Results, networks and the page of them are
in ``out/reproduced/``, away from the stored results. Lines that a test answers are left to ``make test``.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.common import data
from benchmarks.common.clock import Clock, add_minutes
from benchmarks.papers import NAMES, page
from benchmarks.papers.__main__ import PAGE
from benchmarks.papers.line import Line, Paper, commands, paper
from benchmarks.papers.records import NotStored, path

_ONCE = {
    "benchmarks.training.steps": "training/train_steps",
    "benchmarks.cells.granularity": "cells/tune_granularity",
}
"""What measures all at once, and its record: it is not run again where that is there."""
_SMALL = {
    "benchmarks.radius.models": "--epochs 1",
    "benchmarks.radius.run": "--patience 0",
    "benchmarks.training.run": "--epochs 1 --attacked 10",
    "benchmarks.complete.run": "--limit 3 --time-limit 20",
    "benchmarks.cells.run": "--epochs 1 --count 100",
    "benchmarks.cells.landscape": "--seeds 0",
    "benchmarks.cells.granularity": "--epochs 1 --start 0.4 --step 0.2",
}
"""What is added to a command in small form."""
_NOISE = re.compile(r"[IWE]\d{4} |WARNING: All log messages before absl")
"""What TensorFlow logs while it is imported."""
_CONSOLE = Console()


def chains(lines: Sequence[Line]) -> list[tuple[str, ...]]:
    """The commands of lines, those of their open parts after them, each chain once; tests are left out."""
    some = [line.commands for line in lines]
    some += [commands(part.command) for line in lines for part in line.left if part.seconds is not None]
    kept = [chain for chain in some if chain and not any(command.startswith("pytest") for command in chain)]
    return list(dict.fromkeys(kept))


class Runner:
    """Runs commands one after the other, each once, with the minutes that are left.

    Args:
        small: whether commands are run in small form.
    """

    def __init__(self, clock: Clock, *, small: bool = False):
        self.clock, self.small = clock, small
        self.done: set[str] = set()
        self.failed: list[str] = []
        self._said: set[str] = set()

    def run(self, chain: Sequence[str]) -> None:
        """One chain of commands; what follows one that fails is not begun."""
        for command in chain:
            if command in self.done:
                continue
            if self.clock.over:
                return
            self.done.add(command)
            if not self._run(command):
                self.failed.append(command)
                return

    def _run(self, command: str) -> bool:
        module, *words = shlex.split(command)
        if module in _ONCE:
            if path(_ONCE[module]).exists():
                return True
        else:
            words += ["--minutes", f"{min(self.clock.left, 1e6):.2f}"]
        if self.small:
            words += _SMALL.get(module, "").split()
        _CONSOLE.rule(f"{module} {shlex.join(words)}", align="left")
        environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
        # A session of its own: Ctrl-C is ours to pass on, and reaches the processes that it has started as well.
        child = subprocess.Popen(
            [sys.executable, "-m", module, *words], cwd=data.REPOSITORY, env=environment, stderr=subprocess.PIPE,
            text=True, start_new_session=True,
        )  # fmt: skip
        try:
            said = child.communicate()[1]
        except BaseException:
            os.killpg(child.pid, signal.SIGTERM)
            child.communicate()
            raise
        if child.returncode:
            self._say(said)
        return child.returncode == 0

    def _say(self, said: str) -> None:
        """What a command that failed said, unless an earlier one said the same."""
        kept = "\n".join(line for line in said.splitlines() if line.strip() and not _NOISE.match(line))
        if kept not in self._said:
            print(kept, file=sys.stderr, flush=True)
        self._said.add(kept)


def show(lines: Sequence[Line], title: str) -> None:
    """What is printed beside what is measured, line by line."""
    table = Table(title=title, show_lines=True)
    for column in ("where", "claim", "printed", "here"):
        table.add_column(column)
    for line in lines:
        text = line.answered()[0] or "not measured yet"
        table.add_row(*(Text(cell) for cell in (line.where, line.claim, line.printed, text)))
    _CONSOLE.print(table)


def show_markdown(text: str, title: str) -> None:
    """Markdown tables, as they are in the READMEs."""
    for number, part in enumerate(text.split("\n\n")):
        rows = [
            [cell.strip() for cell in line.strip("|").split(" | ")]
            for line in part.splitlines()
            if line.startswith("| ")
        ]
        if not rows:
            _CONSOLE.print(part, markup=False)
            continue
        table = Table(*rows[0], title="" if number else title)
        for row in rows[1:]:
            table.add_row(*(Text(cell) for cell in (row + [""] * (len(rows[0]) - len(row)))[: len(rows[0])]))
        _CONSOLE.print(table)


def chosen(some: Paper, table: str | None) -> list[Line]:
    """The lines of a table, or all.

    Raises:
        SystemExit: no line is about that table.
    """
    lines = [line for line in some.lines if table is None or line.of_table(table)]
    if not lines:
        known = sorted({number for line in some.lines for number in line.tables})
        raise SystemExit(f"no line of {some.title} is about table {table}; there are lines about {', '.join(known)}")
    return lines


def write(into: Path) -> Path:
    """Writes the page of the results in a folder; returns where."""
    at = PAGE if into == data.REPOSITORY / "benchmarks" else into / "reproduction.md"
    at.parent.mkdir(parents=True, exist_ok=True)
    at.write_text(page.page(at.parent), encoding="utf-8")
    return at


def main() -> None:
    """Runs, prints, writes."""
    parser = argparse.ArgumentParser(description="Runs a paper's lines, and prints its figures beside ours.")
    parser.add_argument("paper", choices=[name.replace("_", "-") for name in NAMES] + ["cnncert"], metavar="PAPER",
                        help=", ".join(name.replace("_", "-") for name in NAMES))  # fmt: skip
    parser.add_argument("--table", help="only lines about this table of the paper: 3, or IV")
    parser.add_argument("--small", action="store_true", help="few epochs and images: whether it runs")
    parser.add_argument("--show", action="store_true", help="run nothing")
    parser.add_argument("--into", type=Path, default=Path("out/reproduced"), help="folder of the results")
    add_minutes(parser)
    arguments = parser.parse_args()
    clock, into = Clock(arguments.minutes), arguments.into.resolve()
    os.environ[data.RESULTS] = str(into)
    if os.environ.get(data.VARIABLE):  # commands run in the repository's root
        os.environ[data.VARIABLE] = str(data.root().resolve())
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    some = paper(arguments.paper)
    lines = chosen(some, arguments.table)
    runner, stopped = Runner(clock, small=arguments.small), False
    try:
        for chain in [] if arguments.show else chains(lines):
            runner.run(chain)
    except KeyboardInterrupt:
        stopped = True
    title = f"{some.title}, table {arguments.table}" if arguments.table else some.title
    show(lines, title)
    if arguments.table in some.tables:
        try:
            show_markdown(some.tables[arguments.table](), title)
        except NotStored:
            _CONSOLE.print("nothing of the table's cells is measured yet")
    _CONSOLE.print(f"results are in {into}, and the page of them is {write(into)}")
    if stopped or clock.over:
        _CONSOLE.print("stopped before the end: the same command goes on from here")
    if runner.failed:
        raise SystemExit("these failed, each for the reason that it gave: " + "; ".join(runner.failed))
    if stopped:
        raise SystemExit(130)


if __name__ == "__main__":
    main()
