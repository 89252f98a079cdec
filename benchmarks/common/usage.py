"""What a process spends on a call: time, page faults, memory (Linux); the peer's worker imports this file too."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


def used(run: Callable[[], Any]) -> dict[str, float]:
    """What one call takes, of all threads of this process.

    Returns:
        ``seconds``, ``processor_seconds``, those of them that were spent in the kernel (``kernel_seconds``), and
        ``page_faults``: pages that memory was given for.
    """
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    run()
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
    kernel = after.ru_stime - before.ru_stime
    return {
        "seconds": seconds,
        "processor_seconds": after.ru_utime - before.ru_utime + kernel,
        "kernel_seconds": kernel,
        "page_faults": after.ru_minflt - before.ru_minflt,
    }


def peak_mib(run: Callable[[], T]) -> tuple[T, float]:
    """What ``run`` returns, and the peak of the process's resident memory meanwhile in MiB, its libraries included."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from what is held now
    result = run()
    (line,) = (row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith("VmHWM:"))
    return result, int(line.split()[1]) / 1024
