"""The same work with two versions of tfcert, in turn: is a change faster, or slower?

python -m benchmarks.compare REV                      every case: the commit REV against the working tree
python -m benchmarks.compare main crown first         cases whose name has one of these words; --list shows them
python -m benchmarks.compare REV --candidate REV2     two commits
python -m benchmarks.compare REV --rounds 20 --pairs 3 --json ratios.json

For each case two processes are started, one a version, which take turns: in every round each does the work once, and
the one that began the last round comes second in the next. A row gives medians, the median of the paired ratios
(candidate over base: below 1 is faster) and in brackets its bootstrap interval of 95%, of seconds and of processor
seconds; on a busy machine believe the latter. The work that comes first in a process, tracing and compilation included,
is told apart. ``--pairs`` starts so many pairs of processes, whose rounds count together. What the work returns is
compared, too: "same" says that both versions computed the same numbers, to a relative 1e-5.

REV is checked out into a temporary folder, and both versions run on this interpreter with the same libraries and number
of threads. Each process says at its end which files its tfcert came from; one that is not of its version is an error.
The cases are in ``common/work.py`` and use the public API alone, so that they run on commits with other modules.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import data, store
from benchmarks.common.side import names
from benchmarks.common.versions import ComparisonError, Side, checked_out, commit, importable

SIDES = ("base", "candidate")
WORK = Path(__file__).parent / "common" / "work.py"
_RESAMPLES = 2000
_SAME = 1e-5


@dataclass(frozen=True)
class Setting:
    """How to compare: turns of each pair of processes, pairs a case, threads a process, and the file of the cases."""

    rounds: int = 10
    pairs: int = 1
    threads: int = 2
    work: Path = WORK


@dataclass
class Measured:
    """What one side did: seconds and processor seconds a turn, those of each process's first work, and its results."""

    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    first_seconds: list[float] = field(default_factory=list)
    first_cpu_seconds: list[float] = field(default_factory=list)
    results: list[float] = field(default_factory=list)

    def add(self, answer: dict[str, float], first: bool) -> None:
        """Notes one answer of a process."""
        prefix = "first_" if first else ""
        getattr(self, f"{prefix}seconds").append(answer["seconds"])
        getattr(self, f"{prefix}cpu_seconds").append(answer["cpu_seconds"])
        self.results.append(answer["result"])


def compare(trees: dict[str, Path], case: str, setting: Setting) -> dict[str, Measured]:
    """Runs one case with both versions.

    Args:
        trees: the files of ``base`` and of ``candidate``.
        case: its name.
        setting: how often.
    """
    measured = {side: Measured() for side in SIDES}
    for pair in range(setting.pairs):
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            running = {}
            for side in SIDES:
                site = importable(trees[side], Path(folder) / side)
                running[side] = Side(trees[side], site, (setting.work, case), setting.threads)
                stack.callback(running[side].kill)
            for turn in range(setting.rounds + 1):
                for side in SIDES if (turn + pair) % 2 else SIDES[::-1]:
                    measured[side].add(running[side].turn(), first=turn == 0)
            for side in SIDES:
                running[side].close()
    return measured


def interval(ratios: np.ndarray) -> tuple[float, float, float]:
    """The median of paired ratios and the 95% interval of a bootstrap of it (2,000 resamples, seeded)."""
    drawn = np.random.default_rng(0).choice(ratios, (_RESAMPLES, len(ratios)))
    low, high = np.quantile(np.median(drawn, axis=1), (0.025, 0.975))
    return float(np.median(ratios)), float(low), float(high)


def row(case: str, measured: dict[str, Measured]) -> dict[str, str]:
    """One line of the table."""
    base, candidate = (measured[side] for side in SIDES)

    def ratio(key: str) -> str:
        middle, low, high = interval(np.divide(getattr(candidate, key), getattr(base, key)))
        return f"{middle:.3f} ({low:.3f} to {high:.3f})"

    def both(key: str) -> str:
        return " / ".join(f"{np.median(getattr(side, key)):.4g}" for side in (base, candidate))

    return {
        "case": case,
        "s, base / candidate": both("seconds"),
        "ratio": ratio("seconds"),
        "processor s": both("cpu_seconds"),
        "ratio of processor s": ratio("cpu_seconds"),
        "first, s": both("first_seconds"),
        "first, processor s": both("first_cpu_seconds"),
        "turns": str(len(base.seconds)),
        "results": _agreement(base.results, candidate.results),
    }


def _agreement(base: list[float], candidate: list[float]) -> str:
    left, right = np.array(base), np.array(candidate)
    apart = float(np.max(np.abs(left - right) / np.maximum(1e-30, np.abs(left))))
    return "same" if apart <= _SAME else f"differ by {apart:.1g}"


def main(arguments: list[str] | None = None, repository: Path = data.REPOSITORY) -> int:
    """Compares, and prints the table; returns the exit code: 0, or 4 for a mistake on the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__.partition("\n\n")[0])
    parser.add_argument("revision", nargs="?", metavar="REV", help="the commit to compare with: the base")
    parser.add_argument("words", nargs="*", metavar="CASE", help="cases whose name has one of these (default: all)")
    parser.add_argument("--candidate", default="", metavar="REV", help="another commit (default: the working tree)")
    parser.add_argument("--rounds", type=int, default=10, help="turns of each process after its first (default: 10)")
    parser.add_argument("--pairs", type=int, default=1, help="pairs of processes a case (default: 1)")
    parser.add_argument("--threads", type=int, default=2, help="threads of each process (default: 2)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where every measurement goes")
    parser.add_argument("--work", type=Path, default=WORK, metavar="FILE", help="a Python file with CASES of its own")
    parser.add_argument("--list", action="store_true", help="only print the names of the cases")
    options = parser.parse_args(arguments)
    known = names(options.work)
    if options.list:
        print("\n".join(known))
        return 0
    if options.revision is None:
        parser.error("say which commit to compare with")
    cases = [case for case in known if not options.words or any(_means(word, case, known) for word in options.words)]
    if not cases:
        parser.error(f"no case has {' or '.join(options.words)} in its name; --list shows them")
    if min(options.rounds, options.pairs, options.threads) < 1:
        parser.error("--rounds, --pairs and --threads are whole numbers from 1 on")
    setting = Setting(options.rounds, options.pairs, options.threads, options.work)
    try:
        _run(repository, {"base": options.revision, "candidate": options.candidate}, cases, setting, options.json)
    except ComparisonError as error:
        print(error, file=sys.stderr)
        return 4
    return 0


def _means(word: str, case: str, known: list[str]) -> bool:
    """Whether a word of the command line is a case's name, or a part of it and no other case's name."""
    return word == case if word in known else word in case


def _run(repository: Path, revisions: dict[str, str], cases: list[str], setting: Setting, file: Path | None) -> None:
    with ExitStack() as stack:
        commits = {side: commit(repository, revision) for side, revision in revisions.items()}
        trees = {
            side: stack.enter_context(checked_out(repository, revision)) if revision else repository
            for side, revision in revisions.items()
        }
        result: dict[str, Any] = {"commits": commits, "threads": setting.threads, "load": os.getloadavg(), "cases": {}}
        rows = []
        for case in cases:
            measured = compare(trees, case, setting)
            rows.append(row(case, measured))
            result["cases"][case] = {side: vars(values) for side, values in measured.items()}
            print(f"{case}: {rows[-1]['ratio']}, processor seconds {rows[-1]['ratio of processor s']}", flush=True)
            if file is not None:
                file.write_text(json.dumps(result, indent=1) + "\n")
    print(f"\nbase {commits['base']}, candidate {commits['candidate']}, load average {os.getloadavg()[0]:.1f}\n")
    print(store.markdown(rows))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what is checked out is removed, as after Ctrl-C
    sys.exit(main())
