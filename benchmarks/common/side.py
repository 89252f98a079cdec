"""One side of a comparison: a process that does one case's work with the ``tfcert`` it finds, a turn at a time.

``compare.py`` starts it with ``PYTHONPATH`` naming the version. A request is a line on standard input, ``run`` or
``files``; the answer is a line of JSON: seconds, processor seconds (children included) and the result of one turn, or
the files that tfcert's modules were imported from.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

Work = Callable[[], float]
"""One turn; what it returns is compared between the versions."""


def load(file: Path) -> ModuleType:
    """A file of cases: a module whose ``CASES`` are, by name, functions that prepare a case and return its work."""
    spec = importlib.util.spec_from_file_location("work", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def names(file: Path) -> list[str]:
    """The names of a file's cases."""
    return list(load(file).CASES)


def timed(work: Work) -> dict[str, float]:
    """Does the work once: seconds, processor seconds, and the result."""
    start, spent = time.perf_counter(), _processor_seconds()
    result = work()
    return {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": _processor_seconds() - spent,
        "result": float(result),
    }


def _processor_seconds() -> float:
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def imported() -> list[str]:
    """The real files of every module of tfcert that was imported."""
    modules = [module for name, module in sys.modules.items() if name.partition(".")[0] == "tfcert"]
    return sorted(str(Path(file).resolve()) for module in modules if (file := getattr(module, "__file__", None)))


def main() -> None:
    """Answers requests until standard input ends; what the work prints goes to standard error."""
    file, case = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    sys.path.append(str(Path(__file__).resolve().parents[2]))  # for benchmarks; last, behind the version of tfcert
    work = load(Path(file)).CASES[case]()
    for line in sys.stdin:
        answer: dict[str, Any] = timed(work) if line.strip() == "run" else {"files": imported()}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
