"""Solvers that fail or lie: each is a script that a ``SolverProcess`` runs in place of its own worker."""

import sys
import textwrap
import time
from pathlib import Path

from tfcert.complete.solver.process import START, SolverProcess, SolverSettings

HEAD = """
import json, os, sys, time
from pathlib import Path
import numpy as np
from tfcert.complete.encoding.program import Program, pack, unpack
from tfcert.complete.solver.worker import answer, read_message, write_message

replies = os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)
Path(__file__).with_suffix(".up").touch()

def ask():
    message = read_message(sys.stdin.buffer)
    if message is None:
        sys.exit(0)
    return message

def honest(header, body):
    reply, data = answer(header, body)
    return reply, unpack(data)

def send(reply, arrays):
    write_message(replies, reply, pack(arrays))
"""


def stub(folder: Path, code: str, settings: SolverSettings | None = None) -> SolverProcess:
    """A solver's process that runs ``code``, with ``ask``, ``honest`` and ``send`` to read, solve and answer."""
    path = folder / "stub.py"
    path.write_text(HEAD + textwrap.dedent(code), encoding="utf-8")
    return SolverProcess(settings, command=[sys.executable, str(path)])


def started(process: SolverProcess, folder: Path) -> None:
    """Starts a stub and waits until it reads: its start is not what is timed."""
    process.start()
    until = time.monotonic() + START
    while not (folder / "stub.up").exists() and time.monotonic() < until:
        time.sleep(0.02)


def liar(folder: Path, lie: str) -> SolverProcess:
    """A solver that solves honestly and then spoils what it found.

    Args:
        lie: Python that changes ``found`` (status, bound, objective), ``arrays`` (``v0``, ``prices0``, ``tangents``)
            of a ``program``; ``relax`` says whether the linear relaxation was asked for.
    """
    code = "while True:\n    header, body = ask()\n    relax = header['relax']\n"
    code += "    reply, arrays = honest(header, body)\n"
    code += "    inner = unpack(body)\n    inner.pop('_start', None), inner.pop('_objectives', None)\n"
    code += "    program, found = Program(**inner), reply['answers'][0]\n"
    code += textwrap.indent(textwrap.dedent(lie), "    ") + "\n    send(reply, arrays)\n"
    return stub(folder, code)
