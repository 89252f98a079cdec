"""The most memory that a process holds while it runs something (Linux); the peer's worker imports this file too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def peak_mib(run: Callable[[], T]) -> tuple[T, float]:
    """What ``run`` returns, and the peak of the process's resident memory meanwhile in MiB, its libraries included."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from what is held now
    result = run()
    (line,) = (row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith("VmHWM:"))
    return result, int(line.split()[1]) / 1024
