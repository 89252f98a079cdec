"""The solver's process: ``python -m tfcert.complete.solver.worker [memory in MiB]``. Loads no TensorFlow.

Reads requests from standard input and answers on standard output, one at a time, until the input ends. A message is
two lengths (8 bytes each, little-endian), a JSON header and an npz file. CBC writes to standard output whatever it is
told, so answers go out on a copy of it and the original leads to standard error.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import resource
import struct
import sys
import threading
import time
from typing import IO, Any

import numpy as np

from tfcert.complete.encoding.program import Program, pack, unpack
from tfcert.complete.solver.backends import SolverBackend
from tfcert.entries import SolverInfo

LENGTHS = struct.Struct("<QQ")
PARENT_CHECK = 1.0
"""Seconds between looks at whether the parent still lives."""


def read_message(stream: IO[bytes]) -> tuple[dict[str, Any], bytes] | None:
    """One message; None at the end of the stream.

    Raises:
        ValueError: it is broken off or no message.
    """
    lengths = stream.read(LENGTHS.size)
    if not lengths:
        return None
    if len(lengths) < LENGTHS.size:
        raise ValueError("a message broke off")
    header, body = (stream.read(n) for n in LENGTHS.unpack(lengths))
    found = json.loads(header)
    if not isinstance(found, dict):
        raise ValueError("a message without a header")
    return found, body


def write_message(stream: IO[bytes], header: dict[str, Any], arrays: bytes) -> None:
    """Sends one message."""
    text = json.dumps(header).encode()
    stream.write(LENGTHS.pack(len(text), len(arrays)) + text + arrays)
    stream.flush()


def answer(header: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
    """Solves what a request asks: its program once, or once for each of its ``_objectives``."""
    began, arrays = time.monotonic(), unpack(body)
    until = began + float(header["seconds"])
    start, objectives = arrays.pop("_start", None), arrays.pop("_objectives", None)
    backend: SolverBackend = SolverInfo(header["settings"]["solver"], header["backend"]).load()
    loaded = backend.load(Program(**arrays), header["settings"])
    if start is not None:
        loaded.start(start)
    answers = []
    for row in [None] if objectives is None else objectives:
        if row is not None:
            loaded.aim(row, 0.0)
        answers.append(loaded.solve(bool(header["relax"]), until))
    reply = [{k: found[k] for k in ("status", "bound", "objective")} for found in answers]
    data = {f"{k}{i}": a[k] for i, a in enumerate(answers) for k in ("v", "prices") if a[k] is not None}
    data["tangents"] = np.array(loaded.tangents, np.float64).reshape(-1, 3)
    return {"answers": reply, "seconds": time.monotonic() - began}, pack(data)


def _leave_with_parent() -> None:
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK)
    os._exit(1)


def main() -> None:
    """Serves requests until standard input ends."""
    if len(sys.argv) > 1:
        most = int(sys.argv[1]) * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    # A model that is collected while another one calls CBC waits for ever for the lock of that call (python-mip's
    # finaliser and cffi): what is left of models is collected between answers alone.
    with contextlib.suppress(ImportError, OSError, MemoryError):  # said to whoever asks for it
        import mip.cbc  # noqa: F401
    gc.disable()
    gc.freeze()
    while (message := read_message(sys.stdin.buffer)) is not None:
        try:
            header, body = answer(*message)
        except Exception as error:  # said to the parent, which makes no verdict of it
            header, body = {"error": f"{type(error).__name__}: {error}"}, b""
        write_message(replies, header, body)
        gc.collect()


if __name__ == "__main__":
    main()
