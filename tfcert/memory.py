"""Memory that a process keeps for its next allocation."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
"""Numbers of options in glibc's ``malloc.h``."""


def keep_freed_memory() -> bool:
    """Lets the process keep memory that it frees, for its next allocation: faster bounds where TensorFlow returns it.

    A pass of bounds allocates and frees large arrays. Where TensorFlow runs without its oneDNN kernels (the default on
    processors without VNNI instructions, or ``TF_ENABLE_ONEDNN_OPTS=0``), each of them is taken from the system anew,
    page by page, which is up to a third of the processor's time. With oneDNN TensorFlow keeps large arrays itself, and
    little changes. The command line calls this for itself; a program of yours calls it once, best before it imports
    TensorFlow, since it holds for allocations from then on.

    The price: the process stays as large as it ever was, and takes memory from the system 256 MiB at a time.

    Returns:
        True if it holds now; False without glibc (macOS, Windows, musl), where nothing changes.
    """
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 256 << 20))
    return all([library.mallopt(option, value) == 1 for option, value in settings])
